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
    "show_file",
    "save",
    "one_png",
]

DPI = 100  # dots an inch
TITLE = 34  # dots above the images
PANELS = [["loss", "pixel_loss"], ["kl"], ["adversarial_loss", "disc_loss"], ["feature_loss"]]
LINES = {  # label and colour
    "loss": ("all", "#000000"),
    "pixel_loss": ("pixel loss", "#0072B2"),
    "kl": ("KL", "#D55E00"),
    "adversarial_loss": ("adversarial loss", "#009E73"),
    "feature_loss": ("distance of features", "#E69F00"),
    "disc_loss": ("discriminator's loss", "#CC79A7"),
}


def to_uint8(images):
    """Images in [0, 1] (NDArray or array) or already uint8 -> numpy uint8, 0 to 255."""
    images = images if isinstance(images, np.ndarray) else images.asnumpy()
    if images.dtype == np.uint8:
        return images
    return np.clip(np.round(images * 255.0), 0, 255).astype(np.uint8)


def to_pil(image):
    """(C, H, W) -> PIL's image, transposed, not reshaped; of 2, 4 or more channels their mean."""
    image = to_uint8(image)
    if len(image) == 3:
        return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return Image.fromarray(image.mean(axis=0).round().astype(np.uint8))


def save_image(path, image):
    """One image (C, H, W), in [0, 1] or uint8, pixel for pixel to a PNG file."""
    with atomic_write(path) as file:
        to_pil(image).save(file, "PNG")


def blank(width, height, title=""):
    """A figure of so many dots under a title, for :func:`place`."""
    figure = d2l.plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.suptitle(title, fontsize=11, y=1 - 9 / height, va="top")
    return figure


def place(figure, image, left, bottom, width, height):
    """Show PIL's image in a figure, so many dots wide and high and from its lower left."""
    full = figure.get_size_inches() * DPI
    ax = figure.add_axes((left / full[0], bottom / full[1], width / full[0], height / full[1]))
    ax.imshow(np.asarray(image.convert("RGB")), interpolation="nearest")
    ax.axis("off")


def show_images(images, title, num_cols=10, scale=1):
    """Images in rows under a title, each pixel as a whole number of dots.

    Parameters
    ----------
    images : array, uint8 or in [0, 1], shape (N, C, H, W), or a list of N
    title : str
        Over all of them; names the data set.
    num_cols, scale : int
        Images in a row; `scale` enlarges: at 1 an image is some 80 to 130 dots wide.

    Returns
    -------
    matplotlib.figure.Figure
    """
    num_cols = max(2, min(num_cols, len(images)))  # room for the title
    num_rows = -(-len(images) // num_cols)
    height, width = (scale * -(-80 // images[0].shape[2]) * n for n in images[0].shape[1:])
    across, down = width + 6, height + 6
    figure = blank(num_cols * across, num_rows * down + TITLE, title)
    for i, image in enumerate(images):
        left, bottom = i % num_cols * across + 3, (num_rows - 1 - i // num_cols) * down + 3
        place(figure, to_pil(image), left, bottom, width, height)
    return figure


def show_reconstructions(originals, reconstructions, title):
    """Originals over their reconstructions, a column each; see :func:`show_images`."""
    both = np.concatenate([to_uint8(originals), to_uint8(reconstructions)])
    title = f"{title}: originals (above) and their reconstructions"
    return show_images(both, title, num_cols=len(originals))


def show_history(history, title, num_epochs=None):
    """The losses over the epochs, in panels with a scale each; empty axes if there are none yet.

    Parameters
    ----------
    history : list of dict, one an epoch
    title : str
        Names the data set.
    num_epochs : int, optional
        How many epochs the axes have room for; by default only as many as there are.

    Returns
    -------
    matplotlib.figure.Figure
    """
    there = set().union(*history or [LINES])
    panels = [[name for name in panel if name in there] for panel in PANELS if there & {*panel}]
    figure, axes = d2l.plt.subplots(1, len(panels), figsize=(4 * len(panels), 3))
    for ax, panel in zip(axes, panels):
        for name in panel:
            points = [(record["epoch"], record[name]) for record in history if name in record]
            x, y = zip(*points or [(np.nan, np.nan)])
            label, colour = LINES[name]
            ax.plot(x, y, "o-", label=label, color=colour, linewidth=2, markersize=3)
        room = {"xlim": (0, num_epochs)} if num_epochs else {}
        ax.set(xlabel="epoch", ylabel="nats an image", **room)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend()
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    return figure


def show_file(path):
    """An image file, dot for dot."""
    with Image.open(path) as image:
        figure = blank(*image.size)
        place(figure, image, 0, 0, *image.size)
    return figure


def _rendered(figure):
    """A figure, which is closed, as PIL's image without the needless fourth channel."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    d2l.plt.close(figure)
    return Image.open(drawn).convert("RGB")


def save(figure, path):
    """Write a figure to a PNG file and close it, so that a notebook does not show it as well."""
    image = _rendered(figure)
    with atomic_write(path) as file:
        image.save(file, "PNG", optimize=True)


def one_png(drawn):
    """Figures below one another, as a PNG's bytes; they are closed, as by :func:`save`."""
    images, top, file = [_rendered(figure) for figure in drawn], 0, io.BytesIO()
    size = max(image.width for image in images), sum(image.height for image in images)
    page = Image.new("RGB", size, "white")
    for image in images:
        page.paste(image, (0, top))
        top += image.height
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
