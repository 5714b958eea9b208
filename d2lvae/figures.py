"""Images and curves for a notebook or a file.

Colours are from Okabe and Ito's set, which colour-blind readers can tell apart.
"""

import numpy as np
from d2l import mxnet as d2l
from matplotlib.ticker import MaxNLocator

from .storage.png import TITLE, blank, place, show_file, show_rows, to_pil, to_uint8

__all__ = ["show_file", "show_history", "show_images", "show_reconstructions", "show_rows"]

PANELS = [["loss", "pixel_loss"], ["kl"], ["adversarial_loss", "disc_loss"], ["feature_loss"]]
LINES = {  # label and colour
    "loss": ("all", "#000000"),
    "pixel_loss": ("pixel loss", "#0072B2"),
    "kl": ("KL", "#D55E00"),
    "adversarial_loss": ("adversarial loss", "#009E73"),
    "feature_loss": ("distance of features", "#E69F00"),
    "disc_loss": ("discriminator's loss", "#CC79A7"),
}


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
