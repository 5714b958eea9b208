"""Figures that compare: differences with their intervals, and images row by row."""

import textwrap

import numpy as np
from d2l import mxnet as d2l
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ..figures import show_images
from ..storage import paths
from ..storage.files import read_json
from ..storage.inline import WIDTH, Figure
from ..storage.png import show_rows  # noqa: F401

MEASURES = {  # label and direction
    "psnr": ("PSNR, dB", "higher is nearer"),
    "ssim": ("SSIM", "higher is nearer"),
    "gmsd": ("GMSD", "lower is nearer"),
    "kid": ("kernel distance", "lower is nearer"),
    "kid_prior": ("kernel distance of prior's samples", "lower is nearer"),
    "kid_codes": ("kernel distance of codes' samples", "lower is nearer"),
    "edge_gradient_ratio": ("gradient on edges", "original: 1"),
    "off_edge_gradient_ratio": ("gradient off edges", "original: 1"),
    "laplacian_variance_ratio": ("Laplacian variance", "original: 1"),
    "high_frequency_ratio": ("high-frequency power", "original: 1"),
}
DISTANCES = "psnr", "ssim", "gmsd", "kid"
RATIOS = tuple(name for name in MEASURES if name.endswith("_ratio"))


def show_intervals(measures, title, names=tuple(MEASURES)):
    """Differences from the plain VAE as dots with their 95 % intervals.

    Parameters
    ----------
    measures : dict
        By condition, then measure: 'difference', 'low', 'high' (missing in what is compared with).
    title : str
        Names the data set.
    names : sequence of str
        Of the measures to show, such as :data:`DISTANCES` or :data:`RATIOS`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each measure, in two columns, with a row for each condition.
    """
    found = {name: found for name, found in measures.items() if "difference" in found["psnr"]}
    rows = np.arange(len(found))
    names = [name for name in names if any(name in one for one in found.values())]
    num_rows = -(-len(names) // 2)
    size = WIDTH / 100, 0.5 + num_rows * (0.8 + 0.2 * len(rows))
    page = {"dpi": 100, "FigureClass": Figure, "layout": "tight", "squeeze": False}
    figure, axes = d2l.plt.subplots(num_rows, 2, figsize=size, sharey=True, **page)
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    for ax, key in zip(axes.flat, names):
        label, direction = MEASURES[key]
        ax.axvline(0, color="black", linewidth=1)
        for row, one in zip(rows, found.values()):
            if key not in one:  # of no samples, or not measured in its time
                continue
            interval = [one[key]["low"], one[key]["high"]]
            ax.plot(interval, [row, row], color="#0072B2", linewidth=3, solid_capstyle="butt")
            ax.plot(one[key]["difference"], row, "o", color="#D55E00", markersize=6)
        ax.set_yticks(rows, list(found))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        note = "" if key in RATIOS else f" ({direction})"
        ax.set_xlabel(textwrap.fill(f"difference in {label}{note}", 36))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.grid(alpha=0.3)
    figure.suptitle(f"{title}: difference from the plain VAE, mean and 95 % interval", fontsize=11)
    return figure


def crops(images, rows):
    """The same spot of the images in each row: a face's eye, the part of a digit with most edges.

    `rows` are the first validation images or their reconstructions, uint8 (N, C, H, W), by name; so
    are the crops, which are squares.
    """
    number, side = len(next(iter(rows.values()))), images.image_shape[1]
    if side == 28:
        side, corners = 12, [_busiest(image, 12) for image in images.validation[:number]]
    else:
        side, corners = side * 3 // 8, [(side * 11 // 32, side // 8)] * number
    return {
        name: np.stack(
            [image[:, y : y + side, x : x + side] for image, (y, x) in zip(row, corners)]
        )
        for name, row in rows.items()
    }


def _busiest(image, side):
    """The corner (row, column) of the square of this side with most edges in an image (1, H, W)."""
    edges = np.hypot(*np.gradient(image[0].astype(float)))
    sums = np.lib.stride_tricks.sliding_window_view(edges, (side, side)).sum(axis=(2, 3))
    return np.unravel_index(sums.argmax(), sums.shape)


def show_longest(pattern):
    """The reconstructions that the longest committed run has left in `results/images`.

    Parameters
    ----------
    pattern : str
        Of the run's folder there, such as ``"ConvVAE_on_anime/512_32_*"``.

    Returns
    -------
    matplotlib.figure.Figure or None
        None, which is said, where no such run is: a notebook may have been copied elsewhere.
    """
    place, found = paths.project_root() / "results" / "images", []
    for path in place.glob(f"{pattern}/metrics.json"):
        record = read_json(path)
        order = record["epochs_done"], -record["config"]["seed"]  # of two as long, the first seed
        found.append((order, path.parent, record["config"].get("learned_loss")))
    if not found:
        return paths.say(f"no committed run is here: {place / pattern}")
    (epochs, _), folder, loss = max(found)
    images = [_read(path) for path in sorted(folder.glob("[0-9].png"))]
    title = folder.parent.name.replace("_", " ") + (f" ({loss})" if loss else "")
    return show_images(images, f"{title}, {epochs} epochs: reconstructions")


def _read(path):
    """An image file as uint8 (C, H, W)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
