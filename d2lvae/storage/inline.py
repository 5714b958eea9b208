"""Figures on a notebook's page: as wide as they say, at twice the density, with their text."""

import base64
import io

import IPython.display
from matplotlib import figure
from PIL import Image

WIDTH = 840  # dots that fit beside JupyterLab's list of files on a projector of 1280 x 720


class Figure(figure.Figure):
    """Matplotlib's figure, shown unscaled: a dot of it is a square of 2 x 2 in its PNG.

    Matplotlib's inline backend cuts the margins, so that figures differ in size and images in
    rows lie between the screen's dots.  The alternative text is the figure's title or else
    its label, in the output's metadata; nbconvert's classic template and tools/slides.py read it,
    JupyterLab 4.5 does not.
    """

    def _ipython_display_(self):
        width, height = (round(side * self.dpi) for side in self.get_size_inches())
        drawn, shown = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=2 * self.dpi)
        image = Image.open(drawn).convert("RGB")
        if not any(ax.images for ax in self.axes):  # curves need no more colours than these
            image = image.quantize(256, dither=Image.Dither.NONE)
        image.save(shown, "PNG")
        title = (self._suptitle and self._suptitle.get_text()) or self.get_label()
        about = {"width": width, "height": height, **({"alt": title} if title else {})}
        IPython.display.display(
            {"image/png": base64.b64encode(shown.getvalue()).decode(), "text/plain": repr(self)},
            metadata={"image/png": about},
            raw=True,
        )
