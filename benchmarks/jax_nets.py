"""The nets of `experiments.py` in JAX: functions of a flat list of weights, in Gluon's order.

Images are (N, H, W, C) for convolutions and (N, C*H*W) for dense nets.
"""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from experiments import EXPERIMENTS
from jax import lax

# `shape`: as Gluon has it. `start`: the number that it begins with, None for Glorot's.
# `arrange`: gives the layout of this file.
Weight = collections.namedtuple("Weight", "shape start arrange")
# `apply(weights, x, seen)` appends BatchNorm's (mean, variance) to `seen`.
Layer = collections.namedtuple("Layer", "weights apply")
TINY = 4  # positions up to which XLA's convolution is many times slower than a product


def weight(*shape, start=None, arrange=np.asarray):
    return Weight(shape, start, arrange)


def function(f):
    return Layer([], lambda weights, x, seen: f(x))


relu = function(jax.nn.relu)


def chain(*layers):
    def apply(weights, x, seen):
        weights = iter(weights)
        for layer in layers:
            x = layer.apply(list(itertools.islice(weights, len(layer.weights))), x, seen)
        return x

    return Layer([one for layer in layers for one in layer.weights], apply)


def dense(width, out):
    def apply(weights, x, seen):
        return x @ weights[0] + weights[1]

    return Layer([weight(out, width, arrange=np.transpose), weight(out, start=0.0)], apply)


def flattened(channels, out):
    """A dense layer on images of 4 x 4."""

    def arrange(array):
        return array.reshape(out, channels, 16).transpose(2, 1, 0).reshape(-1, out)

    layer = dense(16 * channels, out)
    weights = [weight(out, 16 * channels, arrange=arrange), layer.weights[1]]
    return Layer(
        weights, lambda weights, x, seen: layer.apply(weights, x.reshape(len(x), -1), seen)
    )


def mlp(width, hidden_widths, out):
    layers = []
    for hidden in hidden_widths:
        layers += [dense(width, hidden), relu]
        width = hidden
    return chain(*layers, dense(width, out))


def batch_norm(channels):
    def apply(weights, x, seen):
        mean, square = x.mean((0, 1, 2)), jnp.square(x).mean((0, 1, 2))
        variance = jnp.maximum(square - jnp.square(mean), 0)
        seen.append((mean, variance))
        scale = weights[0] * lax.rsqrt(variance + 1e-5)
        return x * scale + (weights[1] - mean * scale)

    return Layer([weight(channels, start=1.0), weight(channels, start=0.0)], apply)


def patches(x, size, stride, padding):
    """(N, H, W, C) -> (N, h, w, size * size * C): what each position of a convolution sees."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    last = [side - size + 1 for side in x.shape[1:3]]
    places = itertools.product(range(size), repeat=2)
    views = [x[:, i : i + last[0] : stride, j : j + last[1] : stride] for i, j in places]
    return jnp.concatenate(views, axis=-1)


def convolve(x, kernel, stride, padding):
    """XLA's convolution, or a product where that is slow; the kernel is (h, w, in, out)."""
    size = kernel.shape[0]
    side = (x.shape[1] + 2 * padding - size) // stride + 1
    if size > 1 and side * side <= TINY:
        return patches(x, size, stride, padding) @ kernel.reshape(-1, kernel.shape[-1])
    pads, layout = ((padding, padding),) * 2, ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, pads, dimension_numbers=layout)


@jax.custom_vjp
def double(x, kernel):
    """A transposed convolution, 4 x 4 with stride 2: the gradient of one that halves.

    JAX's own `conv_transpose` is the same, but its gradient for the kernel is 20 times slower.
    """
    count, height, width, _ = x.shape
    large = jax.ShapeDtypeStruct((count, 2 * height, 2 * width, kernel.shape[2]), x.dtype)
    return jax.linear_transpose(lambda y: convolve(y, kernel, 2, 1), large)(x)[0]


def _double_backward(kept, gradient):
    x, kernel = kept
    halved, pull = jax.vjp(lambda kernel: convolve(gradient, kernel, 2, 1), kernel)
    return halved, pull(x)[0]


double.defvjp(lambda x, kernel: (double(x, kernel), (x, kernel)), _double_backward)


def _with_bias(apply, kernel, out, bias):
    if not bias:
        return Layer([kernel], lambda weights, x, seen: apply(x, *weights))
    weights = [kernel, weight(out, start=0.0)]
    return Layer(weights, lambda weights, x, seen: apply(x, weights[0]) + weights[1])


def conv(narrow, wide, size, stride, padding, bias=False):
    kernel = weight(wide, narrow, size, size, arrange=lambda array: array.transpose(2, 3, 1, 0))
    apply = functools.partial(convolve, stride=stride, padding=padding)
    return _with_bias(apply, kernel, wide, bias)


def doubling(wide, narrow, bias=False):
    kernel = weight(wide, narrow, 4, 4, arrange=lambda array: array.transpose(2, 3, 1, 0))
    return _with_bias(double, kernel, narrow, bias)


def unflattened(num_latents, channels):
    """Latents (N, L) to images of 4 x 4, what a transposed convolution does there."""

    def arrange(array):
        return array.transpose(0, 2, 3, 1).reshape(num_latents, -1)

    def apply(weights, x, seen):
        return (x @ weights[0]).reshape(-1, 4, 4, channels)

    return Layer([weight(num_latents, channels, 4, 4, arrange=arrange)], apply)


def dense_vae(shape, num_latents, num_layers, num_hiddens):
    hidden, pixels = [num_hiddens] * num_layers, int(np.prod(shape))
    return mlp(pixels, hidden, 2 * num_latents), mlp(num_latents, hidden, pixels)


def conv_vae(shape, num_latents, base_channels):
    widths = [base_channels * 2**i for i in range(4)]
    channels = [shape[0], *widths]
    encoder, decoder = [], [unflattened(num_latents, widths[-1])]
    for narrow, wide in zip(channels, widths):
        encoder += [conv(narrow, wide, 4, 2, 1), batch_norm(wide), relu]
    for wide, narrow in zip(widths[::-1], channels[-2::-1]):
        decoder += [batch_norm(wide), relu, doubling(wide, narrow, bias=narrow == shape[0])]
    return chain(*encoder, flattened(widths[-1], 2 * num_latents)), chain(*decoder)


def logreg(shape, num_layers, num_hiddens):
    return mlp(int(np.prod(shape)), [num_hiddens] * num_layers, 1)


def conv_disc(shape, base_channels):
    layers, narrow = [], shape[0]
    for wide in (base_channels * 2**i for i in range(4)):
        first = narrow == shape[0]
        layers += [conv(narrow, wide, 4, 2, 1, bias=first)] + [batch_norm(wide)] * (not first)
        layers.append(function(lambda x: jax.nn.leaky_relu(x, 0.2)))
        narrow = wide
    return chain(*layers, flattened(narrow, 1))


def residual(narrow, wide, stride):
    body = chain(
        conv(narrow, wide, 3, stride, 1), batch_norm(wide), relu, conv(wide, wide, 3, 1, 1),
        batch_norm(wide),
    )  # fmt: skip
    shortcut = [] if narrow == wide else [conv(narrow, wide, 1, stride, 0), batch_norm(wide)]
    shortcut, count = chain(*shortcut), len(body.weights)

    def apply(weights, x, seen):
        out = body.apply(weights[:count], x, seen)
        return jax.nn.relu(out + shortcut.apply(weights[count:], x, seen))

    return Layer(body.weights + shortcut.weights, apply)


def max_pool(x):
    """3 x 3 with stride 2, of what is nowhere negative; XLA's own has a slow gradient."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = functools.reduce(jnp.maximum, (x[:, i : i + x.shape[1] - 2 : 2] for i in range(3)))
    return functools.reduce(jnp.maximum, (x[:, :, i : i + x.shape[2] - 2 : 2] for i in range(3)))


def resnet18(shape):
    layers, narrow = [conv(shape[0], 64, 7, 2, 3), batch_norm(64), relu, function(max_pool)], 64
    for wide in (64, 128, 256, 512):
        layers += [residual(narrow, wide, 1 if wide == narrow else 2), residual(wide, wide, 1)]
        narrow = wide
    return chain(*layers, function(lambda x: x.mean((1, 2))), dense(512, 1))


NETS = {
    "vae": {"dense": dense_vae, "conv": conv_vae},
    "disc": {"logreg": logreg, "conv": conv_disc, "resnet": resnet18},
}


def build(name, part):
    """A VAE's (encoder, decoder), or a discriminator; None if the experiment has none."""
    experiment = EXPERIMENTS[name]
    if part not in experiment:
        return None
    arguments = dict(experiment[part])
    return NETS[part][arguments.pop("kind")](experiment["shape"], **arguments)
