"""The weights that a net begins with, and a checksum that tells them from others."""

import contextlib
import zlib

import mxnet as mx
import numpy as np
from d2l import mxnet as d2l

from ..engine.layers import projected_layers
from .errors import RunError
from .nets import infer_shapes


def spawn_seeds(seed, *path):
    """Two independent 31-bit seeds for one purpose: the same for the same numbers."""
    first, second = np.random.SeedSequence([seed, *path]).generate_state(2)
    return int(first >> 1), int(second >> 1)


def initialize(net, seed, ctx=None):
    """Give a net Xavier weights that depend only on the net and the random seed, and compile it.

    Parameters
    ----------
    net : HybridBlock
        A VAE or a discriminator; `fit` draws its weights from the seed, the discriminator's from
        seed + 1.
    seed : int
    ctx : mxnet.Context, optional
        A GPU if there is one, else the CPU.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks".
    """
    complete(net)
    mx.random.seed(spawn_seeds(seed)[0])
    net.initialize(mx.init.Xavier(), ctx=ctx or d2l.try_gpu(), force_reinit=True)
    prepare(net)
    net.left_by_fit, net.drawn_from, net.codes = checksum(net), seed, None
    vars(net).pop("began_from", None)


def prepare(net):
    """Make an initialised net ready for training: shapes, projections, compilation."""
    complete(net)
    for layer in projected_layers(net):
        layer.project()
    net.hybridize(static_alloc=True, static_shape=True)


def complete(net):
    """Settle the shapes that a net's layers leave open, as `nn.Dense(400)` does."""
    infer_shapes(net)
    waiting = [p for p in net.collect_params().values() if p._deferred_init]
    if waiting:  # a pass gives them their weights
        net(mx.nd.zeros((1, *net.image_shape), ctx=waiting[0].list_ctx()[0]))


def has_weights(net):
    """Whether a net has been initialised, by whomever.

    RunError if only some of its layers have been.
    """
    parameters = net.collect_params().values()
    missing = [p.name for p in parameters if p._data is None and not p._deferred_init]
    if missing and len(missing) < len(parameters):
        raise RunError(
            f"some layers of this {type(net).__name__} have weights and others have none (for "
            f"example {missing[0]}): initialize those as well, or all with "
            "d2lvae.initialize(net, seed)"
        )
    return not missing


def checksum(net):
    """A number that tells a net's weights from others.

    BatchNorm's running statistics, which any training step moves, do not count.
    """
    complete(net)
    mx.nd.waitall()  # a pass that still runs may lay out a convolution's weights anew
    number = 0
    for name, parameter in net.collect_params().items():
        if not name.endswith(("running_mean", "running_var")):
            number = zlib.crc32(np.ascontiguousarray(parameter.data().asnumpy()), number)
    return number


def own_weights(nets, resume):
    """Checksums of weights that somebody else than `fit` gave to nets; names and nets in a dict.

    RunError if a training has changed weights that it began from and that were somebody's own, so
    that it cannot begin from them again; or if only some layers have weights.
    """
    found = {name: _own_weights(name, net, resume) for name, net in nets.items()}
    return {name: number for name, number in found.items() if number}


def _own_weights(name, net, resume):
    """One net's checksum; None if it has no weights, or fit's own."""
    if not has_weights(net):
        return None
    number = checksum(net)
    if number != getattr(net, "left_by_fit", None):
        prepare(net)
        return f"{checksum(net):08x}"
    began_from = getattr(net, "began_from", None)
    if began_from and began_from != f"{number:08x}" and not resume:
        raise RunError(
            f"the {name} began from weights of its own, which training has changed. Make it and "
            "give it its weights again, or go on with resume True"
        )
    return began_from


@contextlib.contextmanager
def remembered(nets, own):
    """In the end each net knows that its weights are fit's, and which of somebody's they were."""
    try:
        yield
    finally:
        for name, net in nets.items():
            if has_weights(net):
                net.left_by_fit, net.began_from = checksum(net), own.get(name)


def begin(nets, seed, own, quiet):
    """Give nets the weights that a run begins with; say which, if not what one would think.

    The second one's are drawn from seed + 1.  Nets in `own`, of :func:`own_weights`, keep theirs.
    A net that has weights stays on its device, and the other one joins it there; RunError if each
    has a device of its own.
    """
    devices = {name: net.ctx for name, net in nets.items() if has_weights(net)}
    if len({*devices.values()}) > 1:
        found = " and ".join(f"the {name} on {device}" for name, device in devices.items())
        raise RunError(
            f"the nets must be on one device; found {found}: initialize them with one ctx"
        )
    ctx = next(iter(devices.values()), None)
    for place, (name, net) in enumerate(nets.items()):
        _begin(net, seed + place, ctx, name in own, quiet)


def _begin(net, seed, ctx, has_own_weights, quiet):
    words = None
    if has_own_weights:
        words = "begins from the weights that it has been given, not from the seed's"
    else:
        if has_weights(net) and hasattr(net, "began_from"):
            words = f"was trained before; it begins anew from seed {seed} (resume True would go on)"
        elif has_weights(net) and net.drawn_from != seed:
            words = f"was initialized from seed {net.drawn_from}; it begins from seed {seed}"
        initialize(net, seed, ctx)
    if words and not quiet:
        print(f"{type(net).__name__} {words}.", flush=True)
