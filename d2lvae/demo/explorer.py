"""Sliders for a VAE's latents, a walk and samples in JupyterLab: notebooks/latent_explorer.ipynb.

`make explore` opens a page that shows more, without Jupyter: :mod:`d2lvae.demo.page`.
"""

import ipywidgets as widgets
import mxnet as mx
import numpy as np

from .. import data
from ..storage import paths
from ..storage.codes import draw
from ..storage.errors import CheckpointError
from ..storage.png import to_pil
from . import latents, small_runs
from .saved_runs import finished_runs, load_run

REACH = 3.0  # units to both sides, where a slider ends
SIDE = 320  # of the image, in the browser's pixels


def newest_run(results_dir=""):
    """The newest finished run that can be shown; where there is none, a small one is trained.

    Parameters
    ----------
    results_dir : path
        Searched with all folders below; '' is the project's `results/`.

    Returns
    -------
    LoadedRun
    """
    for folder in finished_runs(results_dir):
        try:
            return load_run(folder)
        except (CheckpointError, data.DataError) as error:
            paths.say(f"cannot be shown: {paths.display_path(folder)}: {error}")
    [folder] = small_runs.train_small(results_dir, small_runs.RECIPES[:1])
    return load_run(folder)


class Explorer(widgets.VBox):
    """An image and what moves it: a slider for each direction, a walk, and samples.

    Parameters
    ----------
    run : LoadedRun

        Samples come from where its codes lie, or if that is not known from the prior.

    Attributes
    ----------
    code : numpy.ndarray, shape (L,)
        What is decoded.
    """

    def __init__(self, run):
        self.run, self.is_setting, last = run, False, len(run.means) - 1
        self.image = widgets.Image(format="png", width=SIDE, height=SIDE)
        self.sliders = [_slider(name) for name in run.directions.names]
        self.start = widgets.BoundedIntText(value=0, max=last, description="from image")
        self.end = widgets.BoundedIntText(value=min(1, last), max=last, description="to image")
        self.way = widgets.IntSlider(max=100, description="way, %")
        where = "prior" if run.vae.codes is None else "codes"
        self.sample = widgets.Button(description=f"sample the {where}")
        for slider in self.sliders:
            slider.observe(self._turn, "value")
        for part in (self.start, self.end, self.way):
            part.observe(self._walk, "value")
        self.sample.on_click(self._sample)
        controls = [*self.sliders, self.start, self.end, self.way, self.sample]
        super().__init__([widgets.HBox([self.image, widgets.VBox(controls)])])
        self._walk()

    def show(self, code):
        """Decode a code (L,), show the image, and put the sliders there."""
        self.code, self.is_setting = code, True
        for slider, value in zip(self.sliders, self.run.directions.coordinates(code)):
            slider.value = float(np.clip(value, -REACH, REACH))
        self.is_setting = False
        self.image.value = to_pil(latents.decode(self.run.vae, code[None])[0])._repr_png_()

    def _turn(self, change):
        if not self.is_setting:
            steps = [
                change.new - change.old if each is change.owner else 0 for each in self.sliders
            ]
            self.show(self.run.directions.traverse(self.code, np.array(steps)))

    def _walk(self, change=None):
        start, end = self.run.means[[self.start.value, self.end.value]]
        self.show(latents.interpolate(start, end, self.way.value / 100))

    def _sample(self, button):
        vae = self.run.vae
        noise = np.random.default_rng().standard_normal((1, vae.num_latents))
        self.show(noise[0] if vae.codes is None else draw(vae, mx.nd.array(noise)).asnumpy()[0])


def _slider(name):
    style, layout = {"description_width": "220px"}, {"width": "520px"}
    return widgets.FloatSlider(
        min=-REACH, max=REACH, step=0.05, description=name, style=style, layout=layout
    )
