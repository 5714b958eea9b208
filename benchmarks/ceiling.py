"""What the processor must do in a step, and how fast it can do such things."""

import concurrent.futures
import json
import statistics
import time

import mxnet as mx
import numpy as np
from experiments import BATCH, EXPERIMENTS, gluon_nets


def products(net, shape):
    """Floating-point operations (a multiplication and an addition for each product) of a forward pass on one image, layer by layer."""
    symbol = net(mx.sym.var("data"))
    internals = symbol.get_internals()
    shapes = dict(zip(internals.list_outputs(), internals.infer_shape(data=(1, *shape))[1]))
    nodes = json.loads(symbol.tojson())["nodes"]

    def shape_of(node):
        return shapes[node["name"] if node["op"] == "null" else node["name"] + "_output"]

    found = []
    for node in nodes:
        if node["op"] in ("FullyConnected", "Convolution", "Deconvolution"):
            data, weight = (nodes[i] for i, *_ in node["inputs"][:2])
            positions = shape_of(data if node["op"] == "Deconvolution" else node)[2:]
            found.append(
                2
                * int(np.prod(shape_of(weight)))
                * int(np.prod(positions if node["op"] != "FullyConnected" else ()))
            )
    return found


def arithmetic(name):
    """Floating-point operations of a training step for one image.

    A layer costs as much backward for its weights and again for its input, which the first layer spares; the discriminator sees two
    images to learn from, and one more to judge, without a gradient for its weights.
    """
    vae, disc = gluon_nets(name)
    shape = EXPERIMENTS[name]["shape"]
    encoder, decoder = products(vae.encoder, shape), products(vae.decoder, (vae.num_latents,))
    total = 3 * sum(encoder + decoder) - encoder[0]
    if disc is not None:
        layers = products(disc, shape)
        total += 2 * (3 * sum(layers) - layers[0]) + 2 * sum(layers)
    return total


def traffic(name):
    """Bytes that a step must move for the weights alone: Adam reads four numbers and writes three for each, and the passes read or write each some more."""
    vae, disc = gluon_nets(name)
    vae_size, disc_size = (
        sum(int(np.prod(p.shape)) for p in net.collect_params().values()) if net is not None else 0
        for net in (vae, disc)
    )
    return 4 * ((7 + 3) * vae_size + (7 + 3 + 2) * disc_size)


def median_seconds(function, rounds=7):
    function()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def rates():
    """(floating-point operations a second of a 2048 x 2048 product, bytes a second read and written by a copy or an addition in place), the best found."""
    size = 2048
    a, b = (mx.nd.random.normal(shape=(size, size)) for _ in range(2))
    x, y = a.asnumpy(), b.asnumpy()

    def gluon_product():
        mx.nd.FullyConnected(a, b, no_bias=True, num_hidden=size).wait_to_read()

    product = min(median_seconds(gluon_product), median_seconds(lambda: x @ y))
    source, target = np.ones(2**26, np.float32), np.zeros(2**26, np.float32)
    halves = [slice(0, 2**25), slice(2**25, 2**26)]

    def copy(part=slice(None)):
        np.copyto(target[part], source[part])

    def add(part=slice(None)):
        np.add(target[part], source[part], out=target[part])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        moved = [
            passes * source.nbytes / median_seconds(way)
            for passes, function in ((2, copy), (3, add))
            for way in (function, lambda function=function: list(pool.map(function, halves)))
        ]
    return 2 * size**3 / product, max(moved)


def ceilings(names):
    """For each experiment: GFLOP and MB a step, and the images/s that they allow at most."""
    flops, bandwidth = rates()
    found = {}
    for name in names:
        work, moved = arithmetic(name) * BATCH, traffic(name)
        found[name] = {
            "gflop_a_step": work / 1e9,
            "megabytes_a_step": moved / 1e6,
            "images_per_second": BATCH / (work / flops + moved / bandwidth),
        }
    return {"gflop_per_second": flops / 1e9, "gigabytes_per_second": bandwidth / 1e9}, found
