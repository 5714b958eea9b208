"""Functions of nets, compiled: the training step's three computations are one call each."""

import mxnet as mx

from . import layers
from .bfloat16 import in_bfloat16

__all__ = ["Graph", "SCRATCH"]

SCRATCH = "_scratch"  # behind a parameter's name: a copy of it, which the graph may move


class Graph:
    """A function of nets and images, traced once for one batch size and then called with NDArrays.

    What Gluon's `hybridize` does for a net, for any function of nets; and some nets can be frozen:
    their weights get no gradient (so none is computed), their BatchNorm's running statistics do not move.

    Parameters
    ----------
    function : callable
        Takes Symbols, gives a list of Symbols.
    num_inputs : int
        How many it takes.
    batch_size : int
        Of the nets' inputs.
    share : Share, optional
        Which images of a minibatch they are; all of it by default.
    learning, frozen : sequence of HybridBlock
        The initialised nets that it calls.
    precision : str
        'float32' or 'bfloat16'.
    static : bool
        Keep the memory of its intermediate results from call to call.
    """

    def __init__(
        self,
        function,
        num_inputs,
        batch_size,
        share=None,
        learning=(),
        frozen=(),
        precision="float32",
        static=True,
    ):
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be 'float32' or 'bfloat16', found {precision!r}")
        inputs = [mx.sym.var(f"input{i}") for i in range(num_inputs)]
        arrays = {p.name: p.data() for net in learning for p in net.collect_params().values()}
        for parameter in (p for net in frozen for p in net.collect_params().values()):
            array = parameter.data()
            arrays[parameter.name] = (
                array.copy() if parameter.grad_req == "null" else array.detach()
            )
        on_cpu = all(array.context.device_type == "cpu" for array in arrays.values())
        with layers.compiled_for(batch_size if on_cpu else None), layers.sharing(share):
            symbol = mx.sym.Group(function(*inputs))
        for name in symbol.list_inputs():
            if name.endswith(SCRATCH):
                arrays[name] = arrays[name[: -len(SCRATCH)]].copy()
        if precision == "bfloat16":
            symbol = in_bfloat16(symbol, {name: array.shape for name, array in arrays.items()})
        self.symbol = symbol
        names = symbol.list_inputs()
        self.places = [names.index(symbol.name) for symbol in inputs]
        self.arguments = [arrays.get(name) for name in names]
        self.compiled = mx.nd.CachedOp(
            symbol,
            [
                ("static_alloc", static),
                ("static_shape", static),
                ("data_indices", self.places),
                ("param_indices", [i for i in range(len(names)) if i not in self.places]),
            ],
        )

    def __call__(self, *inputs):
        """The outputs: a list of NDArrays, or the one there is."""
        arguments = list(self.arguments)
        for place, value in zip(self.places, inputs):
            arguments[place] = value
        return self.compiled(*arguments)
