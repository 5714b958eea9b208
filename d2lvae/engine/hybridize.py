"""Functions of nets, compiled: what Gluon's `hybridize` does for a net, done for a function."""

import contextlib

import mxnet as mx
from mxnet.gluon import nn

from ..storage.errors import RunError
from .bfloat16 import in_bfloat16
from .layers import all_layers
from .operators import namespace, on_cpu


def hybridize(function, nets, frozen=False, precision="float32"):
    """The same function, called as before, but computed as one graph.

    It is traced with Symbols at the first call with inputs of new shapes; later calls only run the
    graph.

    Parameters
    ----------
    function : callable
        Takes images or latents, all NDArrays or all Symbols; gives one of them, or a tuple.
    nets : sequence of HybridBlock
        The initialised nets that it calls.
    frozen : bool
        The nets only pass gradients on: none is computed for their weights, and the running
        statistics of their BatchNorm stay.
    precision : str
        'float32', or 'bfloat16' for the convolutions.

    Returns
    -------
    callable
        NDArrays -> a list of NDArrays, or the one there is.

    Raises
    ------
    ValueError
        Another word for the precision.
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision must be 'float32' or 'bfloat16', found {precision!r}")
    graphs = {}

    def compiled(*inputs):
        kinds = tuple((x.shape, x.dtype) for x in inputs)
        if kinds not in graphs:
            graphs[kinds] = _trace(function, nets, inputs, frozen, precision)
        return graphs[kinds](*inputs)

    return compiled


def eager(function, nets, **options):
    """What stands in for :func:`hybridize` to see each operation run: the function as it is."""
    return function


def _trace(function, nets, inputs, frozen, precision):
    """A graph of one function for inputs of these shapes."""
    parameters = [parameter for net in nets for parameter in net.collect_params().values()]
    arrays = {
        p.name: p.data().detach() if frozen and p.grad_req != "null" else p.data()
        for p in parameters
    }
    symbols = [  # on the CPU, layers want to know the number of rows
        mx.sym.var(f"input{i}", shape=x.shape if on_cpu(x) else None, dtype=x.dtype)
        for i, x in enumerate(inputs)
    ]
    with _statistics_fixed(nets) if frozen else contextlib.nullcontext():
        outputs = function(*symbols)
    symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, tuple) else outputs
    if precision == "bfloat16":
        symbol = in_bfloat16(symbol, {name: array.shape for name, array in arrays.items()})
    names, given = symbol.list_inputs(), [x.name for x in symbols]
    for name in names:
        if name not in arrays and name not in given:
            raise RunError(
                f"{name} is a weight of none of the nets that learn here: make its layer an "
                "attribute of the VAE or the discriminator, not one in a list or in a loss"
            )
    used = [i for i, name in enumerate(given) if name in names]  # a function may leave one out
    places = [names.index(given[i]) for i in used]
    compiled = mx.nd.CachedOp(
        symbol,
        [
            ("static_alloc", True),
            ("static_shape", True),
            ("data_indices", places),
            ("param_indices", [i for i in range(len(names)) if i not in places]),
        ],
    )
    arguments = [arrays.get(name) for name in names]

    def run(*values):
        for place, i in zip(places, used):
            arguments[place] = values[i]
        return compiled(*arguments)

    return run


@contextlib.contextmanager
def _statistics_fixed(nets):
    """BatchNorm that is traced in this block normalises by the batch and keeps its statistics.

    Its momentum is 1 meanwhile, so that the running statistics stay.
    """
    layers = [layer for net in nets for layer in all_layers(net) if isinstance(layer, nn.BatchNorm)]
    momenta = [layer._kwargs["momentum"] for layer in layers]
    for layer in layers:
        layer._kwargs["momentum"] = 1
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta):
            layer._kwargs["momentum"] = momentum


def apart(net, *batches):
    """What a net makes of several batches (N, ...) of one size; a list of as many.

    BatchNorm takes each batch by itself, and only the first moves its running statistics.  It is
    found in a HybridSequential and in those within it; any other block takes all batches at once.
    So do the other layers: MXNet 1.9 cannot add up a transposed convolution's gradients.
    """
    joined = namespace(batches[0]).concat(*batches, dim=0)
    return list(_apart(net, joined, len(batches)).split(len(batches), axis=0))


def _apart(layer, x, num_batches):
    """What one layer, or a sequence of them, makes of batches that are joined to one."""
    if type(layer) is nn.HybridSequential:
        for each in layer:
            x = _apart(each, x, num_batches)
        return x
    if not isinstance(layer, nn.BatchNorm):
        return layer(x)
    first, *others = x.split(num_batches, axis=0)
    first = layer(first)
    with _statistics_fixed([layer]):
        others = [layer(other) for other in others]
    return namespace(x).concat(first, *others, dim=0)
