"""Images and figures as PNG files, pixel for pixel."""

import io
import textwrap

import numpy as np
from d2l import mxnet as d2l
from PIL import Image

from .files import atomic_write
from .inline import Figure

DPI = 100  # dots an inch
TITLE = 34  # dots above images in rows
NAMES = 160  # dots before them, for the rows' names


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


def blank(width, height):
    """A white page of so many dots, for :func:`paste` and :func:`show_page`."""
    return Image.new("RGB", (width, height), "white")


def paste(page, image, left, top, scale):
    """Put one image (C, H, W) on a page, each of its pixels as a square of so many dots."""
    image = to_pil(image).convert("RGB")
    size = image.width * scale, image.height * scale
    page.paste(image.resize(size, Image.Resampling.NEAREST), (left, top))


def show_page(page, title=""):
    """A page as a figure of its size, dot for dot, with a title that fits at its upper edge."""
    size = np.nextafter(np.divide(page.size, DPI), np.inf)  # or rounding may take a dot away
    figure = d2l.plt.figure(figsize=size, dpi=DPI, FigureClass=Figure)
    inset = 5e-5 / np.array(page.size)  # or rounding may add a dot to the image
    ax = figure.add_axes((*inset, *(1 - 2 * inset)))  # one for all: each takes a long time
    ax.imshow(np.asarray(page), interpolation="nearest", aspect="auto")
    ax.axis("off")
    text = figure.suptitle(title, fontsize=11, y=1 - 9 / page.height, va="top")
    text.set_fontsize(11 * min(1, (page.width - 12) / max(1, text.get_window_extent().width)))
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
        image.save(file, "PNG", compress_level=7)  # 9 takes 6 times as long for 0.8 % less


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


def show_file(path):
    """An image file as a figure, dot for dot."""
    with Image.open(path) as image:
        figure = show_page(image.convert("RGB"))
    figure.set_label(f"{path.parent.parent.name} {path.parent.name}: {path.stem}")
    return figure


def show_rows(rows, title, scale=None):
    """Images in rows with a name before each, to be compared column by column.

    Parameters
    ----------
    rows : dict
        Name: images (N, C, H, W), in [0, 1] or uint8; as many in each row.
    title : str
        Names the data set.
    scale : int, optional
        How many dots wide each pixel is; by default an image is some 80 to 130 dots wide.

    Returns
    -------
    matplotlib.figure.Figure
    """
    first = next(iter(rows.values()))
    scale = scale or -(-80 // first[0].shape[2])
    height, width = (scale * side for side in first[0].shape[1:])
    page = blank(NAMES + len(first) * (width + 6), TITLE + len(rows) * (height + 6))
    tops = [TITLE + row * (height + 6) for row in range(len(rows))]
    for top, images in zip(tops, rows.values()):
        for column, image in enumerate(images):
            paste(page, image, NAMES + column * (width + 6), top, scale)
    figure = show_page(page, title)
    for top, name in zip(tops, rows):
        x, y = 6 / page.width, 1 - (top + height / 2) / page.height
        figure.text(x, y, textwrap.fill(name, 22), va="center", fontsize=9)
    return figure
