"""The parts of the explorer's page that know nothing of each other."""

import html
import io

import ipywidgets as widgets
import numpy as np
from PIL import Image

from . import latents

__all__ = ["Panel", "Sliders", "button", "dropdown", "paragraph", "png"]

SIDE = 224  # of an image, in the browser's pixels: three and the sliders fit in 1,280
STYLE = """<style>
.d2lvae, .d2lvae .widget-label, .d2lvae button, .d2lvae select, .d2lvae input {font-size: 17px}
.d2lvae input[type="number"] {font-size: 17px !important}
.d2lvae .widget-readout {font-size: 16px; min-width: 52px}
.d2lvae .jupyter-button {font-size: 16px}
.d2lvae h3 {margin: 4px 0; font-size: 16px; line-height: 1.2}
.d2lvae p, .d2lvae details {margin: 2px 0; line-height: 1.3; font-size: 17px}
.d2lvae .notes {max-width: 1240px}
.d2lvae img {image-rendering: pixelated; object-fit: contain; border: 1px solid #555;
    box-sizing: border-box}
.d2lvae button:focus, .d2lvae select:focus, .d2lvae input:focus,
.d2lvae .noUi-handle:focus {outline: 3px solid #0072B2}
</style>"""


def png(image):
    """A uint8 image (C, H, W) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(file, "png", compress_level=1)
    return file.getvalue()


def paragraph(text, heading=""):
    """Plain text as HTML."""
    heading = f"<b>{html.escape(heading, quote=False)}</b> " if heading else ""
    return f"<p>{heading}{html.escape(str(text), quote=False)}</p>"


def button(text, action):
    """A button that calls an action without arguments."""
    made = widgets.Button(description=text, layout={"width": "200px"})
    made.on_click(lambda _: action())
    return made


def dropdown(description, options, **more):
    """A field as wide as the page to choose one of some options."""
    wide = {"layout": {"width": "960px"}, "style": {"description_width": "110px"}}
    return widgets.Dropdown(options=options, description=description, **wide, **more)


class Panel(widgets.VBox):
    """An image, above it its title and how probably a discriminator takes it for real.

    It is sent in its own size, a few kB, and enlarged by the browser, so a slider answers quickly.
    """

    def __init__(self, name):
        self.caption = widgets.HTML()
        self.image = widgets.Image(format="png", width=SIDE, height=SIDE)
        self.image.add_class(name)
        self.judged = None  # discriminator, image, probability
        layout = {"margin": "0 0 0 8px", "width": f"{SIDE + 8}px"}
        super().__init__([self.caption, self.image], layout=layout)

    def show(self, image, title="", discriminator=None, others=None):
        """Show an image, uint8 (C, H, W); nothing if it is None.

        There is a probability only with a discriminator and with other images of its kind for the
        minibatch, `others`, uint8 (N, C, H, W).
        """
        self.layout.display = "none" if image is None else ""
        if image is None:
            return
        self.image.value, self.caption.value = png(image), f"<h3>{title}</h3>"
        if discriminator is not None and others is not None:
            probability = self._probability_real(discriminator, image, others)
            self.caption.value += f"<p>taken for real: <b>{probability:.1%}</b></p>"

    def _probability_real(self, discriminator, image, others):
        """The discriminator's probability, computed anew only for another one or another image."""
        known = self.judged
        if known is None or known[0] is not discriminator or known[1] is not image:
            probability = latents.probability_real(discriminator, image, others)
            self.judged = discriminator, image, probability
        return self.judged[2]


class Sliders(widgets.VBox):
    """A slider from -3 to 3 for each direction.

    Parameters
    ----------
    on_move : callable
        Called with the change whenever a slider's value is another one.
    """

    def __init__(self, on_move):
        super().__init__()
        self.on_move = on_move

    def set_names(self, names):
        """Have a slider for each name."""
        style = {"description_width": f"{min(260, 11 * max(map(len, names)))}px"}
        options = {"min": -3, "max": 3, "step": 0.05, "layout": {"width": "490px"}, "style": style}
        self.children = [widgets.FloatSlider(description=name, **options) for name in names]
        for slider in self.children:
            slider.observe(self.on_move, "value")

    def coordinates(self):
        """Where the sliders are, (K,)."""
        return np.array([slider.value for slider in self.children])

    def set_coordinates(self, values):
        """Put the sliders at values (K,), or as near as they go."""
        for slider, value in zip(self.children, values):
            slider.value = float(np.clip(value, slider.min, slider.max))
