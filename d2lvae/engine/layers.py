"""Layers: dense ones, fast on a processor, and a convolution that doubles an image's size."""

import functools

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

WIDE = 2**20  # weights from which on the flipped product pays


class Dense(nn.Dense):
    """Gluon's dense layer, with a faster way to the same numbers where it is wide.

    The oneDNN of MXNet 1.9 computes (N, in) x (in, units) slowly for minibatches, largely on one
    core, but (units, in) x (in, N) fast, whose result is then transposed.  For that N must be known
    while a graph is traced, as :func:`d2lvae.engine.hybridize.hybridize` lets it be on the CPU;
    elsewhere, and without a bias, this is Gluon's layer.  Its arguments are Gluon's.
    """

    def hybrid_forward(self, F, x, weight, bias=None):
        """(N, ...) with `in_units` numbers per image -> (N, units)."""
        rows = _known_rows(x) if self._units * self._in_units >= WIDE else 0
        if not rows or bias is None:
            return super().hybrid_forward(F, x, weight, bias)
        product = F.FullyConnected(weight, x.reshape((0, -1)), no_bias=True, num_hidden=rows)
        out = F.broadcast_add(F.transpose(product), bias)
        return out if self.act is None else self.act(out)


def dense_layers(num_layers, num_hiddens, in_units, out_units):
    """`num_layers` dense layers of `num_hiddens` with ReLU, and one of `out_units` without.

    They take (N, ...) with `in_units` numbers per image.
    """
    layers = nn.HybridSequential(prefix="")
    for _ in range(num_layers):
        layers.add(Dense(num_hiddens, activation="relu", in_units=in_units))
        in_units = num_hiddens
    layers.add(Dense(out_units, in_units=in_units))
    return layers


def num_halvings(image_shape):
    """How often strided convolutions halve an image of (C, H, W) until 4 x 4 are left.

    ValueError unless it is a square with a side of 32, 64 or 128.
    """
    channels, height, width = image_shape
    if height != width or height not in (32, 64, 128):
        raise ValueError(
            f"convolutional nets take images of 32 x 32, 64 x 64 or 128 x 128 (image_size); "
            f"found {height} x {width}"
        )
    return height.bit_length() - 3


def _known_rows(x):
    """The length of a Symbol's first axis; 0 if it is not known, and for an NDArray."""
    if isinstance(x, mx.nd.NDArray):
        return 0
    [shape] = x.infer_shape_partial()[1]
    return max(shape[0], 0) if shape else 0


class ResizeConv(nn.Conv2DTranspose):
    """An image of twice the size: each pixel becomes four equal ones, then a 3 x 3 convolution.

    A strided transposed convolution may weight the four outputs of an input differently, and so
    draws a checkerboard at little cost; this one treats all alike.  The two steps together are one
    transposed convolution, 4 x 4 with stride 2, whose sixteen weights follow from nine.  As that it
    is computed, at the same cost, and after each step of training :meth:`project` moves its weights
    to the nearest such ones.

    Parameters
    ----------
    channels, in_channels : int
        Out and in.
    use_bias : bool
        Add a number to each channel.

    References
    ----------
    Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016.
    """

    def __init__(self, channels, in_channels, use_bias=True, **kwargs):
        super().__init__(channels, 4, 2, 1, use_bias=use_bias, in_channels=in_channels, **kwargs)

    def project(self):
        """Project the weights on those of a resize-convolution."""
        weight = self.weight.data()
        projection = mx.nd.array(RESIZE_PROJECTION, ctx=weight.context)
        weight[:] = mx.nd.dot(weight.reshape((-1, 16)), projection).reshape(weight.shape)


def _resize_projection():
    """16 x 16: of 4 x 4 kernels on those that are a 3 x 3 kernel applied to doubled pixels."""
    kernels = np.zeros((3, 3, 4, 4), np.float32)
    for row in range(3):
        for column in range(3):
            kernels[row, column, row : row + 2, column : column + 2] = 1
    kernels = kernels.reshape(9, 16)
    return np.linalg.pinv(kernels) @ kernels


RESIZE_PROJECTION = _resize_projection()
TRANSPOSED = functools.partial(nn.Conv2DTranspose, kernel_size=4, strides=2, padding=1)
UPSAMPLING = {"transposed": TRANSPOSED, "resize": ResizeConv}  # each doubles an image's size


def all_layers(net):
    """A net and all layers within it."""
    found = []
    net.apply(found.append)
    return found


def projected_layers(net):
    """All layers within a net with a method `project`, to be called when their weights changed."""
    return [layer for layer in all_layers(net) if hasattr(layer, "project")]
