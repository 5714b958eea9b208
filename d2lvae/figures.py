"""Images and curves for a notebook or a file; Okabe and Ito's colours, which all can tell apart."""

import numpy as np
from d2l import mxnet as d2l
from matplotlib.ticker import MaxNLocator

from .storage.inline import WIDTH, Figure
from .storage.png import (  # noqa: F401
    TITLE,
    blank,
    paste,
    show_file,
    show_page,
    show_rows,
    to_uint8,
)

PANELS = [["loss", "pixel_loss"], ["kl"], ["adversarial_loss", "disc_loss"], ["feature_loss"]]
LINES = {  # label and colour
    "loss": ("all", "#000000"),
    "pixel_loss": ("pixel loss", "#0072B2"),
    "kl": ("KL", "#D55E00"),
    "adversarial_loss": ("adversarial loss", "#009E73"),
    "feature_loss": ("distance of features", "#E69F00"),
    "disc_loss": ("discriminator's loss", "#CC79A7"),
}


def show_images(images, title, num_cols=5, scale=None):
    """Images in rows under a title, each pixel as a whole number of dots.

    Parameters
    ----------
    images : array, uint8 or in [0, 1], shape (N, C, H, W), or a list of N
    title : str
        Over all of them; names the data set.
    num_cols, scale : int
        Images in a row, and dots per pixel: by default as many as fit on a notebook's page.

    Returns
    -------
    matplotlib.figure.Figure
    """
    num_cols = max(1, min(num_cols, len(images)))
    num_rows, num_wide = -(-len(images) // num_cols), max(2, num_cols)  # room for the title
    scale = scale or max(1, min(128, WIDTH // num_wide - 6) // images[0].shape[2])
    height, width = (scale * side for side in images[0].shape[1:])
    across, down = width + 6, height + 6
    page = blank(num_wide * across, num_rows * down + TITLE)
    for i, image in enumerate(images):
        left, top = i % num_cols * across + 3, TITLE + i // num_cols * down + 3
        paste(page, image, left, top, scale)
    return show_page(page, title)


def show_reconstructions(originals, reconstructions, title, num_cols=5):
    """Rows of originals, each over that of their reconstructions; see :func:`show_images`."""
    num_cols = len(originals) if len(originals) % num_cols else num_cols
    pair, title = (to_uint8(originals), to_uint8(reconstructions)), f"{title}: originals (above)"
    rows = [half[i : i + num_cols] for i in range(0, len(originals), num_cols) for half in pair]
    return show_images(np.concatenate(rows), f"{title} and reconstructions", num_cols=num_cols)


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
    shape = (2, 2) if len(panels) > 3 else (1, len(panels))
    page = {"dpi": 100, "FigureClass": Figure, "layout": "tight", "squeeze": False}
    figure, axes = d2l.plt.subplots(*shape, figsize=(WIDTH / 100, 2.8 * shape[0]), **page)
    for ax, panel in zip(axes.flat, panels):
        for name in panel:
            points = [(record["epoch"], record[name]) for record in history if name in record]
            x, y = zip(*points or [(np.nan, np.nan)])
            label, colour = LINES[name]
            ax.plot(x, y, "o-", label=label, color=colour, linewidth=2, markersize=3)
        room = (0, num_epochs) if num_epochs else None
        ax.set(xlabel="epoch", ylabel="nats per image", xlim=room)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.grid(alpha=0.3)
        ax.legend()
    figure.suptitle(title, fontsize=11)
    return figure
