"""A dense layer that knows how MXNet's products are fast on a processor."""
import contextlib

from mxnet.gluon import nn

__all__ = ["Dense", "compiled_for", "batch_size"]

WIDE = 2 ** 20  # weights from which on the flipped product pays
_batch_size = None  # of the graph that is being compiled; None: unknown


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


class Dense(nn.Dense):
    """Gluon's dense layer, with another way to the same numbers where it is wide and the batch size known.

    The oneDNN of MXNet 1.9 computes (N, in) x (in, units) slowly for minibatches, largely on one core, but faster
    when weights and pictures change places: (units, in) x (in, N), to be
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
        super().__init__(units, activation=activation, in_units=in_units, prefix=prefix, params=params)

    def hybrid_forward(self, F, x, weight, bias):
        """(N, ...) with `in_units` numbers an image -> (N, units)."""
        if _batch_size is None or self._units * self._in_units < WIDE:
            return super().hybrid_forward(F, x, weight, bias)
        product = F.FullyConnected(weight, x.reshape((0, -1)), no_bias=True, num_hidden=_batch_size)
        out = F.broadcast_add(F.transpose(product), bias)
        return out if self.act is None else self.act(out)
