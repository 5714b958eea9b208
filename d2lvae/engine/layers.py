"""A dense layer that knows how MXNet's products are fast on a processor, and a convolution that doubles a image's size."""

import contextlib

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

__all__ = ["Dense", "ResizeConv", "projected_layers", "compiled_for", "batch_size", "noise_like"]

WIDE = 2**20  # weights from which on the flipped product pays
_batch_size = None  # of the graph that is being compiled; None: unknown
_share = None  # of a minibatch, that it is compiled for; None: all of it


@contextlib.contextmanager
def compiled_for(batch_size):
    """Nets called with Symbols in this block may assume this batch size."""
    global _batch_size
    before, _batch_size = _batch_size, batch_size
    try:
        yield
    finally:
        _batch_size = before


def batch_size():
    """The one that the graph being compiled is for, or None."""
    return _batch_size


@contextlib.contextmanager
def sharing(share):
    """Nets called with Symbols in this block see only these images of a minibatch (a :class:`d2lvae.distributed.process_group.Share`)."""
    global _share
    before, _share = _share, share
    try:
        yield
    finally:
        _share = before


def noise_like(latents, num_latents):
    """Standard normal noise for latents (N, L): its rows of the whole minibatch's, where only a share is seen.

    So several workers with one seed draw together just what one would draw alone.
    """
    F = mx.nd if isinstance(latents, mx.nd.NDArray) else mx.sym
    if _share is None:
        return F.random.normal_like(latents)
    return F.random.normal(shape=(_share.whole, num_latents)).slice_axis(
        axis=0, begin=_share.start, end=_share.stop
    )


class Dense(nn.Dense):
    """Gluon's dense layer, with another way to the same numbers where it is wide and the batch size known.

    The oneDNN of MXNet 1.9 computes (N, in) x (in, units) slowly for minibatches, largely on one core, but faster
    when weights and images change places: (units, in) x (in, N), to be
    transposed.  Then N takes the place of the layer's width, which must be known in advance.

    Parameters
    ----------
    units : int
        Numbers out.
    in_units : int
        Numbers in.
    activation : str, optional
        'relu' for one.
    """

    def __init__(self, units, in_units, activation=None, prefix=None, params=None):
        super().__init__(
            units, activation=activation, in_units=in_units, prefix=prefix, params=params
        )

    def hybrid_forward(self, F, x, weight, bias):
        """(N, ...) with `in_units` numbers an image -> (N, units)."""
        if _batch_size is None or self._units * self._in_units < WIDE:
            return super().hybrid_forward(F, x, weight, bias)
        product = F.FullyConnected(weight, x.reshape((0, -1)), no_bias=True, num_hidden=_batch_size)
        out = F.broadcast_add(F.transpose(product), bias)
        return out if self.act is None else self.act(out)


def projected_layers(net):
    """All layers within a net that have a `project` method, which is to be called whenever their weights have changed."""
    found = [net] if hasattr(net, "constrain") else []
    return found + [layer for child in net._children.values() for layer in projected_layers(child)]


class ResizeConv(nn.Conv2DTranspose):
    """A image of twice the size: each pixel becomes four equal ones, then comes a 3 x 3 convolution.

    A strided transposed convolution may weight the four outputs of an input differently, and so draws a checkerboard at
    little cost; this one treats all alike.  The two steps together are one transposed convolution, 4 x 4 with stride 2, whose
    sixteen weights follow from nine; as that it is computed, at the same cost, and after each step of training `project`
    moves its weights to the nearest such ones.

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
