"""Convolutions in bfloat16: half the bits, so twice the numbers in each instruction."""

import json
import pathlib

import mxnet as mx

from ..storage.errors import ParameterError

FEWEST_CHANNELS = 16  # with fewer coming in, oneDNN 2.4 is slower in bfloat16 than in float32
FOLLOWERS = "BatchNorm", "Activation", "LeakyReLU"  # compute in what they get,
NOT_IN_BFLOAT16 = "prelu", "selu", "rrelu", "softsign"  # but not these: MXNet 1.9 cannot


def check_precision(precision):
    """Raise ParameterError where bfloat16 is asked for and the processor does not compute in it."""
    if precision == "bfloat16" and not has_bfloat16():
        raise ParameterError(
            "precision 'bfloat16' needs a processor that computes in it (on Linux, with "
            "avx512_bf16 among the flags in /proc/cpuinfo: Intel's since Cooper Lake, AMD's since "
            "Zen 4); this one does not. For example: -p precision float32"
        )


def has_bfloat16():
    """Whether the processor has bfloat16 instructions that oneDNN uses; False if unknown."""
    try:
        return "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux
        return False


def _pools_in_bfloat16(attributes):
    whole, kind = attributes.get("global_pool"), attributes.get("pool_type", "max")
    return whole != "True" and kind in ("max", "avg")


def in_bfloat16(symbol, shapes):
    """The same computation with its convolutions, and what follows them, in bfloat16.

    Convolutions round their images, weights and biases to 8 bits of mantissa and add up in float32;
    BatchNorm (its statistics stay float32), activations, pooling and sums behind them stay in
    bfloat16. Everything else is as it was: dense layers, transposed convolutions (which crash in
    MXNet 1.9's bfloat16), losses, and all weights and gradients as the optimiser sees them.
    MXNet's own `amp.init` would do much the same, but to the whole process, and crashes on these
    nets.  Its `amp.convert_symbol` leaves BatchNorm and activations in float32, gains less, and the
    process ends in a segmentation fault.

    `symbol` is all in float32; `shapes` are its parameters', by name.
    """
    graph = json.loads(symbol.tojson())
    nodes, moved, low, casts = [], [], set(), {}

    def add(node):
        nodes.append(node)
        return len(nodes) - 1

    def cast(source, dtype):
        """The output `source`, [node, index, version], in a type."""
        if (source[0] in low) == (dtype == "bfloat16"):
            return source
        key = source[0], source[1], dtype
        if key not in casts:
            name = f"{nodes[source[0]]['name']}_{source[1]}_{dtype}"
            casts[key] = add(
                {"op": "amp_cast", "name": name, "attrs": {"dtype": dtype}, "inputs": [source]}
            )
            if dtype == "bfloat16":
                low.add(casts[key])
        return [casts[key], 0, 0]

    for node in graph["nodes"]:
        sources, kind = [[moved[i], *rest] for i, *rest in node["inputs"]], node["op"]
        lows = [source[0] in low for source in sources]
        goes_low = kind == "elemwise_add" and any(lows)
        if kind == "Convolution":
            shape = shapes.get(nodes[sources[1][0]]["name"])  # None of weights that are computed
            goes_low = shape is not None and shape[1] >= FEWEST_CHANNELS
        pools = kind == "Pooling" and _pools_in_bfloat16(node["attrs"])
        follows = kind in FOLLOWERS and node.get("attrs", {}).get("act_type") not in NOT_IN_BFLOAT16
        stays_low = (follows or pools) and lows[0]
        if not stays_low:
            sources = [cast(each, "bfloat16" if goes_low else "float32") for each in sources]
        moved.append(add({**node, "inputs": sources}))
        if goes_low or stays_low:
            low.add(moved[-1])
    heads = [cast([moved[i], *rest], "float32") for i, *rest in graph["heads"]]
    return mx.sym.load_json(
        json.dumps(
            {
                **graph,
                "nodes": nodes,
                "heads": heads,
                "node_row_ptr": list(range(len(nodes) + 1)),
                "arg_nodes": [i for i, node in enumerate(nodes) if node["op"] == "null"],
            }
        )
    )
