"""The explorer as one page, whose nets are computed in the browser that opens it.

    python -m d2lvae.demo.page [FILE] [--results FOLDER] [--epochs N] [--open]

The page has the newest finished run of each kind for each set of images.  Where there is none,
small ones are trained first.  What it looks like and does is in the folder `web`, as HTML, CSS and
JavaScript; this module puts them and the nets into one file that needs nothing else.
"""

import argparse
import base64
import colorsys
import functools
import json
import pathlib
import webbrowser

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn

from ..discriminators import ConvDisc, DenseLogReg
from ..runs import reconstruct
from ..sources.synthetic_faces import FACTORS
from ..storage import paths
from ..storage.codes import factor, fit_codes
from ..storage.errors import CheckpointError
from ..storage.files import atomic_write
from ..storage.nets import get_weights
from ..vae import ConvVAE, DenseVAE
from . import small_runs
from .saved_runs import finished_runs, load_run, record_of

COMPUTED = {DenseVAE, ConvVAE, DenseLogReg, ConvDisc}  # nets of whose layers net.js knows all
WEB = pathlib.Path(__file__).parent / "web"
MOST_BYTES = 8_000_000  # of a page: a phone loads it, a mail takes it
NUM_IMAGES = {1: 32, 3: 16}  # to begin with, by their channels
NUM_DOTS, NUM_ENCODED = 400, 2_000  # images on the map; and for the codes, where none are kept
NUM_SEEN = 128  # originals in a discriminator's minibatch, with as many reconstructions
KINDS = {  # in the order in which they stand on the page
    "plain": "plain VAE",
    "adversarial": "VAE + discriminator",
    "features": "VAE + its features",
    "both": "VAE + both",
}
COLOURS = "#4e79a7 #f28e2b #e15759 #76b7b2 #59a14f #edc948 #b07aa1 #ff9da7 #9c755f #8c8c8c".split()


class PageError(RuntimeError):
    """No page was written; the message says why."""


def packed(matrix):
    """A matrix (R, C) for `unpack` in net.js: numbers of 12 bits and a scale for each row.

    Two numbers are in three bytes.  8 bits would move pixels by up to 6 of 255 grey levels; these
    move none by more than 2, and are half the size of float32's.
    """
    matrix = np.asarray(matrix, np.float32)
    scales = np.maximum(np.abs(matrix).max(axis=1), 1e-30) / 2047
    whole = np.round(matrix / scales[:, None]).astype(np.int32).ravel() & 0xFFF
    first, second = np.append(whole, np.zeros(whole.size % 2, np.int32)).reshape(-1, 2).T
    three = np.stack([first, first >> 8 | second << 4, second >> 4], axis=1)
    return {"packed": _text((three & 0xFF).astype(np.uint8)), "scales": _floats(scales)}


def _floats(array):
    return _text(np.asarray(array, np.float32))


def _text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def layers_of(block, rows=None, images=None):
    """The layers of a net of `COMPUTED` as net.js takes them, a list of dicts.

    Of the last layer only the first `rows` outputs.  With `images`, an NDArray (N, C, H, W),
    BatchNorms are folded with this minibatch's statistics, not with the running ones.
    """
    found = []
    for layer in block:
        weights = {name: array.astype(np.float64) for name, array in get_weights(layer).items()}
        if isinstance(layer, nn.BatchNorm):
            if images is not None:
                numbers = images.asnumpy()
                weights["running_mean"] = numbers.mean(axis=(0, 2, 3))
                weights["running_var"] = numbers.var(axis=(0, 2, 3))
            _fold(found[-1], weights, layer._kwargs["eps"])
        elif isinstance(layer, (nn.Activation, nn.LeakyReLU)):
            found[-1]["slope"] = _slope(layer)
        elif not isinstance(layer, nn.HybridLambda):  # that one reshapes
            found.append(_linear(layer, weights))
        if images is not None:
            with autograd.train_mode():
                images = layer(images)
    if rows:
        found[-1].update({name: found[-1][name][:rows] for name in ("weight", "bias")})
    return [_written(layer) for layer in found]


def _slope(activation):
    """What an activation, ReLU or LeakyReLU, multiplies numbers below 0 with."""
    return getattr(activation, "_alpha", 0)


def _linear(layer, weights):
    kind = {nn.Conv2D: "conv", nn.Conv2DTranspose: "transposed"}
    kind = next((name for each, name in kind.items() if isinstance(layer, each)), "dense")
    weight, activation = weights["weight"], getattr(layer, "act", None)
    outputs = weight.shape[1 if kind == "transposed" else 0]
    made = {"kind": kind, "weight": weight, "bias": weights.get("bias", np.zeros(outputs))}
    if kind != "dense":
        shape = layer._kwargs
        made.update(kernel=shape["kernel"][0], stride=shape["stride"][0], pad=shape["pad"][0])
    return {**made, "slope": 1 if activation is None else _slope(activation)}


def _fold(layer, norm, epsilon):
    """Put a BatchNorm with fixed statistics into the convolution before it."""
    scale = norm["gamma"] / np.sqrt(norm["running_var"] + epsilon)
    axes = (1, -1, 1, 1) if layer["kind"] == "transposed" else (-1, 1, 1, 1)
    layer["weight"] = layer["weight"] * scale.reshape(axes)
    layer["bias"] = (layer["bias"] - norm["running_mean"]) * scale + norm["beta"]


def _written(layer):
    matrix = layer.pop("weight")
    matrix = matrix.reshape(len(matrix), -1)
    sizes = {"rows": len(matrix), "columns": matrix.shape[1]}
    return {**layer, **sizes, **packed(matrix), "bias": _floats(layer["bias"])}


def chosen_runs(folders):
    """Of each kind, for each set of images, the newest run that can be shown.

    By the set's name and image size, then by kind; `folders` come the newest first.
    """
    sets = {}
    for folder in folders:
        try:
            record = record_of(folder)
            runs = sets.setdefault((record["data"], str(record["image_shape"])), {})
            kind = record["learned_loss"] if (folder / "disc.npz").exists() else "plain"
            if kind in runs:
                continue
            run = load_run(folder)
            if type(run.vae) not in COMPUTED:
                raise PageError(f"the page cannot compute a {type(run.vae).__name__}")
            if run.images is None or run.vae.image_shape[0] not in NUM_IMAGES:
                raise PageError("; ".join(run.notes) or "its images are neither grey nor coloured")
        except (CheckpointError, PageError) as error:
            paths.say(f"left out: {paths.display_path(folder)}: {error}")
            continue
        runs[kind] = run
    return {key: runs for key, runs in sets.items() if runs}


def net_for_page(run, kind):
    """A run's VAE as page.js takes it: layers, directions, and where the images' codes are."""
    vae, directions = run.vae, run.directions
    codes = vae.codes or fit_codes(vae, run.images.train[:NUM_ENCODED])
    return {
        "title": KINDS[kind],
        "folder": f"{run.folder.parent.name}/{run.folder.name}",
        "numLatents": vae.num_latents,
        "encoder": layers_of(vae.encoder, vae.num_latents),
        "decoder": layers_of(vae.decoder),
        "names": list(directions.names),
        "origin": _floats(directions.origin),
        "axes": _floats(directions.axes),
        "scales": _floats(directions.scales),
        "mean": _floats(codes.mean),
        "spread": packed(factor(codes)),
        "dots": _floats(directions.coordinates(run.means[:NUM_DOTS])),
    }


def set_for_page(runs):
    """What the runs on one set have in common: images, their classes, a discriminator."""
    images = next(iter(runs.values())).images
    channels = images.image_shape[0]
    labels, names, colours = _classes(images)
    return {
        "title": images.title.replace("drawn", "synthetic"),
        "shape": list(images.image_shape),
        "images": _text(images.validation[: NUM_IMAGES[channels]]),
        "classes": labels,
        "classNames": names,
        "colours": colours,
        "discriminator": _discriminator(runs),
        "nets": [],
    }


def _classes(images):
    """A class for each dot on the map, and the classes' names and colours."""
    labels = images.validation_labels
    if labels is None:
        return [0] * min(NUM_DOTS, len(images.validation)), ["images"], COLOURS[:1]
    labels = labels[:NUM_DOTS]
    if images.label_names:  # a synthetic face: its hair's colour
        labels = labels[:, images.label_names.index("hair_colour")]
        hues = [colorsys.hsv_to_rgb(*hair) for hair in FACTORS["hair_colour"]]
        colours = ["#" + "".join(f"{round(255 * c):02x}" for c in hue) for hue in hues]
        return labels.astype(int).tolist(), [], colours
    return labels.astype(int).tolist(), list("0123456789"), COLOURS


def _discriminator(runs):
    """The layers of the first discriminator that the page can compute; it judges all images."""
    for kind in KINDS:
        if kind in runs and type(runs[kind].discriminator) in COMPUTED:
            return layers_of(runs[kind].discriminator.body, images=seen(runs[kind]))
    return None


def seen(run):
    """A minibatch for a discriminator, half originals and half their reconstructions.

    In training it sees them apart, each with their own statistics, and so its BatchNorms tell it
    which they are.  On the page it shall judge one image of either kind.
    """
    originals = run.images.validation[:NUM_SEEN]
    both = np.concatenate([originals, reconstruct(run.vae, originals)])
    return mx.nd.array(both, ctx=run.vae.ctx) / 255


def write_page(folders, path):
    """Write the page of some finished runs, `folders` newest first; gives those that are on it.

    The file's folder is made.  PageError if no run can be shown.
    """
    sets, shown, size = [], [], len(_page(""))
    chosen = chosen_runs(folders).values()
    for runs in sorted(chosen, key=lambda runs: next(iter(runs.values())).images.train[0].size):
        made = set_for_page(runs)
        size += len(json.dumps(made))
        for kind in filter(runs.get, KINDS):
            net, folder = net_for_page(runs[kind], kind), runs[kind].folder
            size += len(json.dumps(net))
            if size > MOST_BYTES:
                size -= len(json.dumps(net))
                paths.say(f"left out, as the page would be too big: {paths.display_path(folder)}")
                continue
            made["nets"].append(net)
            shown.append(folder)
        sets += [made] * bool(made["nets"])
    if not sets:
        raise PageError("no finished run here can be shown; for example: make demo, then make page")
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(_page(json.dumps(sets)).encode())
    return shown


def _page(data):
    """The page's HTML with style, scripts and data in it."""
    read = lambda name: (WEB / name).read_text(encoding="utf-8")
    page = read("page.html")
    style = f"<style>\n{read('page.css')}</style>"
    page = page.replace('<link rel="stylesheet" href="page.css">', style)
    for name in ("net.js", "gif.js", "page.js"):
        script = f"<script>\n{read(name)}</script>"
        page = page.replace(f'<script src="{name}"></script>', script)
    return page.replace('"DATA"', data.replace("</", "<\\/"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="by default results/own/explorer.html")
    parser.add_argument("--results", default="", help="where finished runs are; by default results")
    text = "train the small runs for so many epochs, and show them alone"
    parser.add_argument("--epochs", type=int, default=0, help=text)
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    given = parser.parse_args()
    path = pathlib.Path(given.file or paths.results_root() / "own" / "explorer.html")
    folders = [] if given.epochs else finished_runs(given.results)
    small = functools.partial(small_runs.train_small, given.results, small_runs.RECIPES)
    try:
        shown = write_page(folders or small(given.epochs), path)
    except PageError as error:
        raise SystemExit(str(error)) from None
    for folder in shown:
        print(f"on the page: {paths.display_path(folder)}")
    print(f"{paths.display_path(path)}: {path.stat().st_size / 1e6:.1f} MB; open it in any browser")
    if given.open:
        webbrowser.open(path.resolve().as_uri())


if __name__ == "__main__":
    main()
