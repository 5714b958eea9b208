"""Nets on disk: one .npz file each, of the weights and of what the net was made with."""

import inspect
import zlib

import mxnet as mx
import numpy as np
from d2l import mxnet as d2l

from ..engine.operators import check_unit_range
from . import codes
from .errors import CheckpointError, RunError
from .files import read_arrays, write_arrays
from .rules import close_choices

MARKS = "layers", "frozen"  # in a record, of a net that is not as its class makes it
# The least number of what is counted.
LEAST = dict(C=1, H=1, W=1, num_latents=1, num_layers=0, num_hiddens=1, base_channels=1)


class Net(mx.gluon.HybridBlock):
    """What VAEs and discriminators share: a record of what they were made with.

    Parameters
    ----------
    image_shape : tuple of int
        (C, H, W) of the images.
    prefix, params
        As for every Gluon block.
    **sizes
        What else the net is made with, by name: numbers, texts, or lists of them.

    Attributes
    ----------
    image_shape : tuple of int
    config : dict
        What :func:`from_config` needs to make the same net again: the class's name and `sizes`.
    codes : Codes or None
        Of a trained VAE, where the codes lie (:mod:`d2lvae.storage.codes`).

    Raises
    ------
    TypeError
        Another name among `sizes` than the class takes, or a value of another kind.
    ValueError
        Less than one latent, channel or hidden unit, or a number that is not whole.
    """

    codes = None

    def __init__(self, image_shape, prefix=None, params=None, **sizes):
        super().__init__(prefix=prefix, params=params)
        self._check_names(sizes)
        self.image_shape = tuple(map(int, image_shape))
        sizes = {name: _recorded(name, value) for name, value in sizes.items()}
        if len(self.image_shape) != 3:
            raise ValueError(f"image_shape must be (C, H, W); found {image_shape}")
        _check_counts({**sizes, **dict(zip("CHW", self.image_shape))})
        self.config = {"net": type(self).__name__, **sizes, "image_shape": list(self.image_shape)}

    def _check_names(self, sizes):
        """Refuse what no class that the net's class is made from takes by name."""
        kinds = type(self).__mro__
        known = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters}
        for name in sizes:
            if name not in known:
                close = " or ".join(map(repr, close_choices(name, sorted(known))))
                hint = f"; did you mean {close}?" if close else ""
                raise TypeError(f"{type(self).__name__} has no argument {name!r}{hint}")

    @property
    def ctx(self):
        """The device that the weights are on."""
        return next(iter(self.collect_params().values())).list_ctx()[0]

    def __call__(self, images):
        return super().__call__(check_unit_range(images))


def _check_counts(sizes):
    """ValueError for what counts latents, layers or channels and is no whole number above 0."""
    for name, least in LEAST.items():
        value = sizes.get(name, least)
        if not isinstance(value, list) and (type(value) is not int or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}; found {value!r}")


def _recorded(name, value):
    """A size as a record on disk gives it back: Python's own numbers, and lists for tuples."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (list, tuple)):
        return [_recorded(name, each) for each in value]
    if not isinstance(value, (bool, int, float, str, type(None))):
        raise TypeError(
            f"{name} must be a number, a text, or a list of them, or the net could not be made "
            f"again from its record; found {type(value).__name__}"
        )
    return value


def net_classes():
    """All defined VAEs and discriminators by name, one's own as well; the latest of one name."""
    found, bases = {}, Net.__subclasses__()  # VAE and Discriminator, which are no nets yet
    while bases:
        derived = bases.pop(0).__subclasses__()
        found.update({net.__name__: net for net in derived})
        bases += derived
    return found


def from_config(config, ctx=None):
    """A net from its `config` attribute, with weights that are still to be set.

    `ctx` is as for :func:`load_net`.  CheckpointError for a kind of net that is not defined, layers
    changed by hand, or arguments that do not fit.
    """
    kind, classes = config["net"], net_classes()
    if kind not in classes:
        raise CheckpointError(
            f"unknown net {kind!r}; known are {', '.join(classes)}. If it is a class of your own, "
            "define or import it first"
        )
    if "layers" in config:
        raise CheckpointError(
            f"this {kind}'s layers had been changed by hand before it was saved. Make it again in "
            "the same way, then load_net(path, net=...) gives it these weights"
        )
    arguments = arguments_of(config)
    try:
        net = classes[kind](**arguments)
        net.infer_shape(mx.nd.zeros((1, *net.image_shape)))  # also where widths are given
    except Exception as error:  # of many kinds: a class of one's own may have changed
        raise CheckpointError(f"{kind} cannot be built from {arguments}: {error}") from None
    net.initialize(mx.init.Zero(), ctx=ctx or d2l.try_gpu())
    net.hybridize(static_alloc=True)
    return net


def save_net(path, net):
    """Save one net: its weights, what is needed to build it again, and a VAE's `codes`.

    Parameters
    ----------
    path : path
        Ends in .npz.
    net : HybridBlock
        A VAE or a Discriminator, of the package or of one's own.

    Raises
    ------
    TypeError
        Its class does not take the arguments that are recorded.
    RunError
        Layers that were made outside of its `name_scope`.
    """
    write_arrays(path, {**get_weights(net), **codes.to_arrays(net)}, {"config": describe(net)})


def load_net(path, ctx=None, net=None):
    """Load a net saved by :func:`save_net`, of whatever class; one's own must be defined before.

    Parameters
    ----------
    path : path
        The .npz file.
    ctx : mxnet.Context, optional
        Where to put it; by default a GPU if there is one, else the CPU.
    net : HybridBlock, optional
        An initialised net that is given the weights, in place of a new one; needed where layers had
        been changed by hand.

    Returns
    -------
    HybridBlock

    Raises
    ------
    CheckpointError
        The file is missing, damaged, not one of a net, or of a class that is not defined.
    """
    arrays, record = read_arrays(path)
    config = record.get("config") if isinstance(record, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("net"), str):
        raise CheckpointError(
            f"{path} holds no single net (a checkpoint holds a whole training; the nets are "
            "beside it, vae.npz and perhaps disc.npz)"
        )
    try:
        found = codes.pop_arrays(arrays, config.get("num_latents"))
        net = from_config(config, ctx) if net is None else net
        set_weights(net, arrays)
        net.codes = found
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return net


def get_weights(net):
    """A net's parameters and running statistics as numpy arrays, by their names within the net."""
    mx.nd.waitall()  # MXNet's engine does not know when BatchNorm's running statistics are ready
    return {name: parameter.data().asnumpy() for name, parameter in _parameters(net).items()}


def set_weights(net, arrays):
    """Give a net the parameters that :func:`get_weights` took from one like it.

    CheckpointError if names, shapes or kinds differ, or there is what is no number among them.
    """
    parameters = _parameters(net)
    check_arrays(
        arrays, {name: (tuple(p.shape), np.dtype(p.dtype)) for name, p in parameters.items()}
    )
    for name, parameter in parameters.items():
        parameter.set_data(mx.nd.array(arrays[name], dtype=arrays[name].dtype))
    net.codes = None  # they are of other weights


def check_arrays(arrays, expected):
    """CheckpointError for arrays not as `expected`, (shape, dtype) by name, or not finite."""
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            raise CheckpointError(
                f"weights of another net: {name} should have shape {_shown(expected.get(name))}, "
                f"found {_shown(found.get(name))}"
            )
        if not np.isfinite(arrays[name]).all():
            raise CheckpointError(f"not all numbers in {name} are finite")


def _shown(kind):
    return "{} of {}".format(*kind) if kind else "none"


def describe(net):
    """A net's `config`, and marks if it is not as its class makes it.

    Layers that were changed by hand (as they print) and frozen weights (by name) have a checksum
    each: such a net has a folder of its own.  TypeError if its class does not take the arguments
    that are recorded; RunError for layers that were made outside of its `name_scope`.
    """
    for name in net.collect_params():
        if not name.startswith(net.prefix):
            raise RunError(
                f"{name} of this {type(net).__name__} was made outside of its name_scope(), so its "
                "name is no name of its own: make all layers within `with self.name_scope():`"
            )
    arguments = arguments_of(net.config)
    try:
        again = type(net)(**arguments)
    except TypeError as error:
        raise TypeError(
            f"{type(net).__name__} cannot be made again from {arguments} ({error}): its __init__ "
            "must take the arguments that it hands to super().__init__ under the same names, and "
            "hand on all that it takes"
        ) from None
    marks = {}
    for mark, look in (("layers", layers_of), ("frozen", frozen_of)):
        if (found := look(net)) != look(again):
            marks[mark] = f"{zlib.crc32(found.encode()):08x}"
    return {**net.config, **marks}


def arguments_of(config):
    """What a net's class is called with to make it again."""
    return {name: value for name, value in config.items() if name not in ("net", *MARKS)}


def layers_of(net):
    """A net's layers as text: kinds, sizes and activations, also where widths were left open."""
    infer_shapes(net)
    shapes = {name: parameter.shape for name, parameter in _parameters(net).items()}
    return f"{net!r} {shapes}"


def frozen_of(net):
    """The names of a net's weights that no training moves, as text."""
    return " ".join(name for name, p in _parameters(net).items() if p.grad_req == "null")


def infer_shapes(net):
    """Settle the shapes that a net's layers leave open, as `nn.Dense(400)` does.

    RunError for a layer that no image goes through, so that its shape cannot be known.
    """
    if any(0 in (p.shape or (0,)) for p in net.collect_params().values()):
        try:
            net.infer_shape(mx.nd.zeros((1, *net.image_shape)))
        except KeyError as error:
            raise RunError(
                f"{error.args[0]} is of a layer that this {type(net).__name__} does not use: leave "
                "the layer out, or give it in_units or in_channels"
            ) from None


def _parameters(net):
    """A net's parameters by their names within it."""
    return {name[len(net.prefix) :]: p for name, p in net.collect_params().items()}
