"""The same nets, losses and step in JAX, as its best users would write them.

The whole step is one jitted function whose state is donated: one forward pass of the VAE, the
discriminator's update, then the VAE's by the updated discriminator, Adam, BatchNorm's statistics.
Minibatches are gathered by NumPy as uint8, while the step before is still computed.  Nothing here
needs this project or MXNet: JAX wants a newer NumPy, and so has an environment of its own.

    .venv-jax/bin/python benchmarks/jax_steps.py EXPERIMENT ARRAYS.npz

prints the losses of some steps, a line of JSON each, from the images, noise and weights in a file.
"""

import functools
import itertools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from experiments import EXPERIMENTS, disc_weight, has_convolutions
from jax.nn import sigmoid, softplus
from jax_nets import build, chain

LR, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
tree_map = jax.tree_util.tree_map


def first_weights(net, rng):
    """Glorot's, in Gluon's layout."""

    def draw(shape):
        around = int(np.prod(shape[2:])) * (shape[0] + shape[1])
        return rng.uniform(-1, 1, shape).astype(np.float32) * (6 / around) ** 0.5

    return [
        draw(each.shape) if each.start is None else np.full(each.shape, each.start, np.float32)
        for each in net.weights
    ]


def begin(net, arrays):
    """What changes in training: weights, moments, the number of steps, running statistics."""
    weights = [
        jnp.array(np.ascontiguousarray(each.arrange(array)))
        for each, array in zip(net.weights, arrays)
    ]
    moments = [[jnp.zeros_like(each) for each in weights] for _ in range(2)]
    gammas = [each for each in net.weights if each.start == 1]
    running = [(jnp.zeros(each.shape), jnp.ones(each.shape)) for each in gammas]
    return {"weights": weights, "moments": moments, "steps": jnp.zeros(()), "running": running}


def learn(state, gradients, scale, *seen):
    """Adam on the gradients of a sum, to be multiplied by `scale`; and statistics that move."""
    steps, running = state["steps"] + 1, state["running"]
    lr = LR * jnp.sqrt(1 - BETA2**steps) / (1 - BETA1**steps)
    gradients = [gradient * scale for gradient in gradients]
    mean, var = state["moments"]
    mean = [BETA1 * m + (1 - BETA1) * g for m, g in zip(mean, gradients)]
    var = [BETA2 * v + (1 - BETA2) * g * g for v, g in zip(var, gradients)]
    changes = [lr * m / (jnp.sqrt(v) + EPSILON) for m, v in zip(mean, var)]
    for statistics in seen:
        running = tree_map(lambda old, new: 0.9 * old + 0.1 * new, running, statistics)
    weights = [weight - change for weight, change in zip(state["weights"], changes)]
    return {"weights": weights, "moments": [mean, var], "steps": steps, "running": running}


def vae_part(name, encoder, decoder):
    """The VAE's losses as a function of its weights, images and noise."""
    count, has_disc = len(encoder.weights), "disc" in EXPERIMENTS[name]
    bce = EXPERIMENTS[name].get("pixel_loss", "bce") == "bce"

    def losses(weights, x, noise):
        seen = []
        mean, log_var = jnp.split(encoder.apply(weights[:count], x, seen), 2, axis=1)
        latents = mean + jnp.exp(0.5 * log_var) * noise
        logits = decoder.apply(weights[count:], latents, seen)
        pixel = softplus(logits) - x * logits if bce else jnp.square(sigmoid(logits) - x)
        kl = 0.5 * (jnp.square(mean) + jnp.exp(log_var) - log_var - 1).sum()
        return (pixel.sum(), kl, *([sigmoid(logits)] if has_disc else [])), seen

    return losses


def disc_part(name, disc):
    """The discriminator's loss by its weights, and what the VAE pays by its reconstructions."""
    one_batch = EXPERIMENTS[name]["disc"]["kind"] == "logreg"  # it has no BatchNorm

    def judge(weights, x, x_hat):
        seen = [], []
        if one_batch:
            real, fake = jnp.split(disc.apply(weights, jnp.concatenate([x, x_hat]), []), 2)
        else:
            real, fake = (disc.apply(weights, *each) for each in zip((x, x_hat), seen))
        return softplus(-real).sum() + softplus(fake).sum(), seen

    def adversarial(x_hat, weights):
        return softplus(-disc.apply(weights, x_hat, [])).sum()

    return judge, adversarial


def make_step(name):
    """(first state of given or new weights, the jitted step)."""
    encoder, decoder = build(name, "vae")
    nets = {"vae": chain(encoder, decoder), "disc": build(name, "disc")}
    nets = {part: net for part, net in nets.items() if net is not None}
    vae_losses = vae_part(name, encoder, decoder)
    if "disc" in nets:
        judge, adversarial = disc_part(name, nets["disc"])

    def start(weights=None):
        rng = np.random.default_rng(0)
        weights = weights or {part: first_weights(net, rng) for part, net in nets.items()}
        state = {part: begin(net, weights[part]) for part, net in nets.items()}
        return {**state, "key": jax.random.key(0, impl="unsafe_rbg")}

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, images, noise=None):
        x, scale = images.astype(jnp.float32) / 255, 1 / len(images)
        key, now = jax.random.split(state["key"])
        if noise is None:
            noise = jax.random.normal(now, (len(images), EXPERIMENTS[name]["vae"]["num_latents"]))
        forward = functools.partial(vae_losses, x=x, noise=noise)
        (pixel, kl, *fake), pull, seen = jax.vjp(forward, state["vae"]["weights"], has_aux=True)
        found, new, flow = {"pixel_loss": pixel, "kl": kl}, {"key": key}, []
        if fake:
            learned = jax.value_and_grad(judge, has_aux=True)
            (loss, looks), gradients = learned(state["disc"]["weights"], x, *fake)
            new["disc"] = learn(state["disc"], gradients, scale, *filter(None, looks))
            paid, back = jax.value_and_grad(adversarial)(*fake, new["disc"]["weights"])
            found.update(adversarial_loss=paid, disc_loss=loss)
            flow = [disc_weight(name) * back]
        [gradients] = pull((jnp.ones(()), jnp.ones(()), *flow))
        new["vae"] = learn(state["vae"], gradients, scale, seen)
        return new, found

    return start, step


def lay_out(name, images):
    """(N, C, H, W) -> as the nets take them."""
    if has_convolutions(name):
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return images.reshape(len(images), -1)


def steps(name, images, batch_size):
    """(a generator that yields the losses after every training step, a function that waits)."""
    start, step = make_step(name)
    images, state = lay_out(name, images), [start()]

    def train():
        for epoch in itertools.count():
            order = np.random.default_rng(epoch).permutation(len(images))
            for first in range(0, len(order) - batch_size + 1, batch_size):
                batch = images[order[first : first + batch_size]]
                state[0], found = step(state[0], batch)
                yield found

    return train(), lambda: jax.block_until_ready(state[0])


def main(name, path):
    arrays, weights = np.load(path), {}
    for part in ("vae", "disc"):
        named = [f"{part}{i}" for i in range(len(arrays))]
        weights[part] = [arrays[each] for each in named if each in arrays]
    start, step = make_step(name)
    state = start(weights)
    for images, noise in zip(arrays["images"], arrays["noise"]):
        state, found = step(state, lay_out(name, images), noise)
        print(json.dumps({key: float(value) for key, value in found.items()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
