"""Images and curves for a notebook or a file.

Colours are from Okabe and Ito's set, which colour-blind readers can tell apart.
"""

import io

import numpy as np
from d2l import mxnet as d2l
from matplotlib.ticker import MaxNLocator
from PIL import Image

from .storage.files import atomic_write

__all__ = [
    "to_uint8",
    "save_image",
    "show_images",
    "show_reconstructions",
    "show_history",
    "show_intervals",
    "show_rows",
    "show_file",
    "save",
    "one_png",
]

COLOURS = {
    "loss": "#000000",
    "pixel_loss": "#0072B2",
    "kl": "#D55E00",
    "adversarial_loss": "#009E73",
    "feature_loss": "#E69F00",
    "disc_loss": "#CC79A7",
}
DOTS_AN_INCH = 100
LABELS = {
    "loss": "all",
    "pixel_loss": "pixel loss",
    "kl": "KL",
    "adversarial_loss": "adversarial loss",
    "feature_loss": "distance of features",
    "disc_loss": "discriminator's loss",
}


def to_uint8(images):
    """Images in [0, 1] (NDArray or array) or already uint8 -> numpy uint8, 0 to 255."""
    images = images if isinstance(images, np.ndarray) else images.asnumpy()
    if images.dtype == np.uint8:
        return images
    return np.clip(np.round(images * 255.0), 0, 255).astype(np.uint8)


def _height_width_rgb(image):
    """(C, H, W) -> (H, W, 3): transposed, not reshaped; grey becomes three equal channels."""
    image = _grey_or_colour(image).transpose(1, 2, 0)
    return image.repeat(3, axis=2) if image.shape[2] == 1 else image


def _grey_or_colour(image):
    """uint8 (1, H, W) or (3, H, W); of any other number of channels their mean."""
    image = to_uint8(image)
    return (
        image
        if len(image) in (1, 3)
        else image.mean(axis=0, keepdims=True).round().astype(np.uint8)
    )


def save_image(path, image):
    """One image (C, H, W), in [0, 1] or uint8, pixel for pixel to a PNG file."""
    image = _grey_or_colour(image)
    mode = "L" if image.shape[0] == 1 else "RGB"
    array = image[0] if mode == "L" else image.transpose(1, 2, 0)
    with atomic_write(path) as file:
        Image.fromarray(np.ascontiguousarray(array), mode).save(file, "PNG")


def show_images(pictures, title, num_cols=10, titles=None, scale=1):
    """Images in rows of `num_cols` under a title that names the data set, each pixel as a whole number of dots.

    Parameters
    ----------
    images : array, shape (N, C, H, W), or a list of N
        uint8, or in [0, 1].
    title : str
        Over all of them.
    num_cols : int
        In a row.
    titles : list of str, optional
        One over each image.
    scale : int
        Enlarges further; at 1 an image is some 80 to 130 dots wide.

    Returns
    -------
    matplotlib.figure.Figure
    """
    num_cols = max(2, min(num_cols, len(pictures)))  # d2l cannot show a single axis
    num_rows = -(-len(pictures) // num_cols)
    axes = d2l.show_images(
        [_height_width_rgb(picture) for picture in pictures], num_rows, num_cols, titles=titles
    )
    figure = axes[0].figure
    _, rows, columns = pictures[0].shape
    height, width = (scale * -(-80 // columns) * side for side in (rows, columns))
    top, gap = 34, 22 if titles else 6  # dots
    full = num_cols * (width + 6), num_rows * (height + gap) + top
    figure.set_dpi(DOTS_AN_INCH)
    figure.set_size_inches(full[0] / DOTS_AN_INCH, full[1] / DOTS_AN_INCH)
    for i, ax in enumerate(axes):
        left, bottom = (
            i % num_cols * (width + 6) + 3,
            (num_rows - 1 - i // num_cols) * (height + gap) + 3,
        )
        ax.set_position((left / full[0], bottom / full[1], width / full[0], height / full[1]))
        ax.axis("off")
        for image in ax.images:
            image.set_interpolation("nearest")
    figure.suptitle(title, fontsize=11, y=1 - 10 / full[1], va="top")
    return figure


def show_reconstructions(originals, reconstructions, title):
    """Originals over their reconstructions, a column each; see :func:`show_images`."""
    both = np.concatenate([to_uint8(originals), to_uint8(reconstructions)])
    return show_images(
        both, f"{title}: originals (above) and their reconstructions", num_cols=len(originals)
    )


def show_history(history, title, recorded=(), num_epochs=None):
    """The losses over the epochs, in panels with a scale each; empty axes if there are none yet.

    Parameters
    ----------
    history : list of dict
        An epoch each.
    title : str
        Names the data set.
    recorded : sequence of (int, float)
        Epochs and losses of another run to compare with, drawn as crosses.
    num_epochs : int, optional
        How many epochs the axes have room for; by default only as many as there are.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = [["loss", "pixel_loss"], ["kl"], ["adversarial_loss", "disc_loss"], ["feature_loss"]]
    panels = [
        panel
        for panel in panels
        if not history or any(name in record for name in panel for record in history)
    ]
    figure, axes = d2l.plt.subplots(1, len(panels), figsize=(4 * len(panels), 3))
    for ax, panel in zip(axes, panels):
        for name in panel:
            points = [(record["epoch"], record[name]) for record in history if name in record]
            if history and not points:
                continue
            ax.plot(
                *zip(*points or [(np.nan, np.nan)]),
                label=LABELS[name],
                color=COLOURS[name],
                linewidth=2,
                marker="o",
                markersize=3,
            )
        if recorded and "loss" in panel:
            ax.plot(
                *zip(*recorded),
                "x",
                color="#E69F00",
                markersize=8,
                markeredgewidth=2,
                label="all, in the 2019 record",
            )
        ax.set_xlabel("epoch")
        ax.set_ylabel("nats an image")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if num_epochs is not None:
            ax.set_xlim(0, num_epochs)
        ax.grid(alpha=0.3)
        ax.legend()
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    return figure


MEASURES = {
    "psnr": ("PSNR, dB", "higher is nearer"),
    "ssim": ("SSIM", "higher is nearer"),
    "gmsd": ("GMSD", "lower is nearer"),
    "kid": ("kernel distance", "lower is nearer"),
    "edge_gradient_ratio": ("gradient on edges", "original: 1"),
    "off_edge_gradient_ratio": ("gradient off edges", "original: 1"),
    "laplacian_variance_ratio": ("Laplacian variance", "original: 1"),
    "high_frequency_ratio": ("high-frequency power", "original: 1"),
}


def show_intervals(measures, title):
    """Differences from the plain VAE as dots with their 95 % intervals, a panel a measure, a row a condition.

    Parameters
    ----------
    measures : dict
        By condition, then measure: 'difference', 'low', 'high' (missing in what is compared with).
    title : str
        Names the data set.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = [name for name, found in measures.items() if "difference" in found["psnr"]]
    figure, axes = d2l.plt.subplots(2, 4, figsize=(13, 1.6 + 0.6 * len(names)), sharey=True)
    for ax, (key, (label, direction)) in zip(axes.flat, MEASURES.items()):
        ax.axvline(0, color="black", linewidth=1)
        for row, name in enumerate(names):
            found = measures[name][key]
            ax.plot(
                [found["low"], found["high"]],
                [row, row],
                color="#0072B2",
                linewidth=3,
                solid_capstyle="butt",
            )
            ax.plot(found["difference"], row, "o", color="#D55E00", markersize=6)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlabel(f"{label} ({direction})")
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.grid(alpha=0.3)
    figure.suptitle(f"{title}: difference from the plain VAE, mean and 95 % interval", fontsize=11)
    figure.tight_layout()
    return figure


def show_rows(rows, title, scale=1):
    """Images in rows with a name before each, to be compared column by column.

    Parameters
    ----------
    rows : dict
        Name: images (N, C, H, W), in [0, 1] or uint8; as many in each row.
    title : str
        Names the data set.
    scale : int
        How many dots wide each pixel is.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names, first = 200, next(iter(rows.values()))  # dots for the names
    columns, side = len(first), scale * first[0].shape[1] + 6
    width, height = names + columns * side, 34 + len(rows) * side
    figure = d2l.plt.figure(figsize=(width / DOTS_AN_INCH, height / DOTS_AN_INCH), dpi=DOTS_AN_INCH)
    for row, (name, images) in enumerate(rows.items()):
        bottom = height - 34 - (row + 1) * side
        figure.text(6 / width, (bottom + side / 2) / height, name, va="center", fontsize=9)
        for column, image in enumerate(images):
            ax = figure.add_axes(
                (
                    (names + column * side) / width,
                    bottom / height,
                    (side - 6) / width,
                    (side - 6) / height,
                )
            )
            ax.imshow(_height_width_rgb(image), interpolation="nearest")
            ax.axis("off")
    figure.suptitle(title, fontsize=11, y=1 - 8 / height, va="top")
    return figure


def show_file(path):
    """An image file, dot for dot."""
    image = np.asarray(Image.open(path).convert("RGB"))
    figure = d2l.plt.figure(
        figsize=(image.shape[1] / DOTS_AN_INCH, image.shape[0] / DOTS_AN_INCH), dpi=DOTS_AN_INCH
    )
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(image, interpolation="nearest")
    ax.axis("off")
    return figure


def _rendered(figure):
    """A figure as an image without the needless fourth channel; the figure is closed."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DOTS_AN_INCH)
    d2l.plt.close(figure)
    return Image.open(drawn).convert("RGB")


def save(figure, path):
    """Write a figure to a PNG file and close it, so that a notebook does not show it as well."""
    image = _rendered(figure)
    with atomic_write(path) as file:
        image.save(file, "PNG", optimize=True)


def one_png(drawn):
    """Figures below one another, as a PNG's bytes; they are closed, so that a notebook does not show them as well."""
    images = [_rendered(figure) for figure in drawn]
    page = Image.new(
        "RGB",
        (max(image.width for image in images), sum(image.height for image in images)),
        "white",
    )
    top = 0
    for image in images:
        page.paste(image, (0, top))
        top += image.height
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def save_results(folder, title, originals, reconstructions, samples, history):
    """Write a run's images, figures and curves into its folder.

    Parameters
    ----------
    folder : pathlib.Path
    title : str
        Begins the figures' titles.
    originals, reconstructions : numpy.ndarray, uint8, shape (N, C, H, W)
    samples : NDArray, shape (N, C, H, W)
        In [0, 1].
    history : list of dict
        A record per epoch.
    """
    for i, (original, reconstruction) in enumerate(zip(originals, reconstructions)):
        save_image(folder / f"test_{i}.png", original)
        save_image(folder / f"{i}.png", reconstruction)
    drawn = {
        "reconstructions": show_images(reconstructions, f"{title}: reconstructions"),
        "originals_and_reconstructions": show_reconstructions(originals, reconstructions, title),
        "samples": show_images(samples, f"{title}: samples from the prior"),
    }
    if history:
        drawn["loss"] = show_history(history, title)
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")
