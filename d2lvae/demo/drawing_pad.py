"""A square to draw a digit on with the mouse, and the drawing as an image like MNIST's."""

import ipywidgets as widgets
import numpy as np
from ipycanvas import Canvas, hold_canvas
from PIL import Image, ImageDraw

__all__ = ["DrawingPad", "as_digit"]

FINE = 8  # drawn this many times larger, then averaged, for smooth edges
PEN = 2  # pixels of 28


def as_digit(strokes):
    """Strokes as an image like MNIST's.

    The digit is 20 high or wide. Its centre of mass is in the middle of 28 x 28, or as near to it
    as the image has room.

    Parameters
    ----------
    strokes : list of list of (x, y)
        Points, y downwards, in any unit.

    Returns
    -------
    numpy.ndarray, uint8, shape (1, 28, 28)
        Black if there is no stroke.

    References
    ----------
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    if not strokes:
        return np.zeros((1, 28, 28), np.uint8)
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (20 - PEN) / max((high - low).max(), 1)
    fine, radius = Image.new("L", (28 * FINE, 28 * FINE)), PEN * FINE / 2
    pen = ImageDraw.Draw(fine)
    for stroke in strokes:
        placed = ((np.array(stroke) - (low + high) / 2) * scale + 14) * FINE
        pen.line([tuple(point) for point in placed], fill=255, width=PEN * FINE)
        for x, y in placed:  # round ends and corners
            pen.ellipse((x - radius, y - radius, x + radius - 1, y + radius - 1), fill=255)
    image = np.asarray(fine.resize((28, 28), Image.Resampling.BOX))
    shifts = [_shift_to_the_middle(image.sum(axis=axis)) for axis in (1, 0)]
    return np.roll(image, shifts, axis=(0, 1))[None]


def _shift_to_the_middle(ink):
    """How many rows to move an image, with so much ink in each, so that none leaves the image."""
    used = np.flatnonzero(ink)
    shift = round(13.5 - np.average(np.arange(len(ink)), weights=ink))
    return int(np.clip(shift, -used[0], len(ink) - 1 - used[-1]))


class DrawingPad(widgets.VBox):
    """The square and a button that clears it.

    Parameters
    ----------
    side : int
        In the browser's pixels.
    on_image : callable
        Called with the image, uint8 (1, 28, 28), after each stroke.
    on_clear : callable
        Called when the button was pressed.
    """

    def __init__(self, side, on_image, on_clear):
        layout = {"width": f"{side}px", "height": f"{side}px"}
        self.canvas = Canvas(width=side, height=side, layout=layout)
        clear = widgets.Button(description="clear the drawing", layout={"width": "200px"})
        title = widgets.HTML("<h3>Draw a digit with the mouse</h3>")
        super().__init__([title, widgets.HBox([self.canvas, clear])])
        self.side, self.on_image, self.is_down, self.strokes = side, on_image, False, []
        clear.on_click(lambda button: (self.clear(), on_clear()))
        self.canvas.on_client_ready(self.clear)  # what is drawn before the browser shows it is lost
        self.canvas.on_mouse_down(self._down)
        self.canvas.on_mouse_move(self._move)
        self.canvas.on_mouse_up(self._up)
        self.canvas.on_mouse_out(self._up)

    def clear(self):
        """Forget the strokes."""
        self.strokes = []
        with hold_canvas():
            self.canvas.fill_style, self.canvas.stroke_style = "black", "white"
            self.canvas.line_width, self.canvas.line_cap = self.side * PEN / 20, "round"
            self.canvas.fill_rect(0, 0, self.side, self.side)

    def _down(self, x, y):
        self.is_down = True
        self.strokes.append([(x, y)])
        self.canvas.stroke_line(x, y, x, y)

    def _move(self, x, y):
        if self.is_down:
            self.canvas.stroke_line(*self.strokes[-1][-1], x, y)
            self.strokes[-1].append((x, y))

    def _up(self, x, y):
        if self.is_down:
            self.is_down = False
            self.on_image(as_digit(self.strokes))
