"""A page on which a class turns a VAE's latents: sliders, walks, the prior, two nets side by side, a digit drawn by hand.

    make explore        (or notebooks/latent_explorer.ipynb in JupyterLab)

A picture goes to the browser in its own size, a few kB, and is enlarged there: so a slider's answer is quick.
"""
import io
import os
import threading
import time

import ipywidgets as widgets
import numpy as np
from PIL import Image

from . import datasets, latents, runs, runtime
from .checkpoints import CheckpointError
from .discriminators import DenseLogReg
from .drawing_pad import DrawingPad, as_digit
from .settings import RunBusy
from .vae import DenseVAE

__all__ = ["Explorer", "train_small"]

SIDE = 224  # of a picture on the page, in the browser's pixels: three and the sliders fit on a projector 1,280 wide
STYLE = """<style>
.d2lvae, .d2lvae .widget-label, .d2lvae button, .d2lvae select, .d2lvae input {font-size: 17px}
.d2lvae input[type="number"] {font-size: 17px !important}
.d2lvae .widget-readout {font-size: 16px; min-width: 52px}
.d2lvae .jupyter-button {font-size: 16px}
.d2lvae h3 {margin: 4px 0; font-size: 16px; line-height: 1.2}
.d2lvae p {margin: 2px 0; line-height: 1.3; font-size: 17px}
.d2lvae img {image-rendering: pixelated; border: 1px solid #555; box-sizing: border-box}
.d2lvae button:focus, .d2lvae select:focus, .d2lvae input:focus, .d2lvae .noUi-handle:focus {outline: 3px solid #0072B2}
</style>"""
SMALL = {"num_train": 8_192, "epochs": 6, "batch_size": 64, "lr": 1e-3, "pixel_loss": "bce", "pixel_weight": 1.0, "kl_weight": 1.0, "seed": 0,
         "resume": False}
WAIT = 2.0  # seconds, until it is tried again whether another page has ended its training
OWN, SAME = "the same picture, its own latents", "the same latents"  # what the second net is given


def png(picture):
    """A uint8 picture (C, H, W) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0).squeeze()).save(file, "png", compress_level=1)
    return file.getvalue()


def train_small(images, results_dir, progress):
    """Train what the page shows where no run is finished: a small VAE on drawn digits, and the same with a discriminator.

    Parameters
    ----------
    images : ImageSet
    results_dir : str
        The runs go into `explorer` there; one that is finished there already is left as it is.
    progress : callable
        Called with a number of pictures whenever so many more have been learned from.

    Raises
    ------
    RunBusy
        Another process is training one of them.
    """
    for disc, weight in ((None, 0.0), (DenseLogReg(1, 200, images.image_shape), 1.0)):
        config = {**SMALL, "disc_weight": weight, "results_dir": str(runtime.results_root(results_dir) / "explorer")}
        vae = DenseVAE(5, 3, 400, images.image_shape)
        if runs.run_folder(vae, images, config, disc) in latents.finished_runs(results_dir):
            progress(SMALL["epochs"] * len(images.train))
        else:
            runs.fit(vae, images, config, disc, progress)


class Explorer(widgets.VBox):
    """The page.

    Parameters
    ----------
    results_dir : str
        Finished runs are looked for there and in all folders below; '' is the project's `results/`.  If there is none, small ones are
        trained first: in the background where Voila serves the notebook, because a page is shown only once its cells have run.
    """

    def __init__(self, results_dir=""):
        super().__init__([widgets.HTML(STYLE)])
        self.add_class("d2lvae")
        self.results_dir, self.loaded, self.judged, self.is_setting = results_dir, {}, {}, False
        if latents.finished_runs(results_dir):
            self._build()
        elif os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
            threading.Thread(target=self._train, daemon=True).start()
        else:
            self._train()

    def _show(self, *parts):
        self.children = (self.children[0], *parts)

    def _train(self):
        bar = widgets.IntProgress(max=2 * SMALL["epochs"] * SMALL["num_train"], description="training", layout={"width": "600px"})
        note = widgets.HTML("<p>No finished run here yet: training a small VAE on drawn digits, then the same with a discriminator.</p>")
        self._show(note, bar)

        def progress(num_images):
            bar.value += num_images

        try:
            images = datasets.drawn_digits(SMALL["num_train"], SMALL["seed"])
            while not self._has_trained(images, progress):
                note.value = "<p>Another page is training the small VAEs; this one goes on when they are there.</p>"
                time.sleep(WAIT)
                bar.value = 0
        except Exception as error:
            note.value = f"<p><b>The training failed:</b> {error}</p>"  # in the background nobody would see it otherwise
            raise
        self._build()

    def _has_trained(self, images, progress):
        """Train, and tell whether that is done; False if another page is at it."""
        try:
            train_small(images, self.results_dir, progress)
        except RunBusy:
            return False
        return True

    def _build(self):
        """Everything on the page, and what each part does."""
        folders = latents.finished_runs(self.results_dir)
        names = {_name(folder): folder for folder in folders[::-1]}  # of equal names the newest
        wide = {"layout": {"width": "820px"}, "style": {"description_width": "110px"}}
        self.net = widgets.Dropdown(options=sorted(names.items()), value=folders[0], description="net", **wide)
        self.other = widgets.Dropdown(options=[("no other net", None)], description="beside it", **wide)
        self.given = widgets.Dropdown(options=[OWN, SAME], description="which gets", **wide)
        self.start, self.end = (widgets.BoundedIntText(value=number, description=text, layout={"width": "200px"})
                                for number, text in enumerate(("picture", "walk to")))
        self.way = widgets.IntSlider(description="way, %", max=100, layout={"width": "300px"}, style={"description_width": "70px"})
        play = widgets.Play(max=100, step=2, interval=100)
        widgets.jslink((play, "value"), (self.way, "value"))
        sample, back = (widgets.Button(description=text, layout={"width": "200px"}) for text in ("sample the prior", "back to the picture"))
        self.sliders, self.message = widgets.VBox(), widgets.HTML()
        self.panels = {name: _Panel(name) for name in ("original", "first", "second")}
        self.pad = DrawingPad(SIDE, self._begin_at, self._begin)
        for field, action in ((self.net, self._choose), (self.other, self._choose_other), (self.given, self._answer), (self.start, self._begin),
                              (self.end, self._walk), (self.way, self._walk)):
            field.observe(lambda change, action=action: self.is_setting or action(), "value")
        sample.on_click(lambda button: self._sample())
        back.on_click(lambda button: self._begin())
        turn = widgets.VBox([widgets.HBox([self.start, self.end]), widgets.HBox([play, self.way]), widgets.HBox([sample, back]),
                             widgets.HTML("<h3>Turn the latents</h3>"), self.sliders])
        pictures = widgets.VBox([widgets.HBox(list(self.panels.values()), layout={"align_items": "flex-end"}), self.pad])
        for part in (turn, pictures):
            part.layout.flex = "0 0 auto"  # where there is no room for both, the pictures come below
        self._show(self.net, self.other, self.given, self.message, widgets.HBox([turn, pictures], layout={"flex_flow": "row wrap"}))
        self._choose()

    def _load(self, folder):
        if folder not in self.loaded:
            trained = latents.load_run(folder)
            self.loaded[folder] = trained, latents.directions(trained)
        return self.loaded[folder]

    def _choose(self):
        """Another net: its sliders, its pictures, and the nets that can stand beside it."""
        self.message.value = "<p>loading ...</p>"
        try:
            self.first = self._load(self.net.value)
        except (CheckpointError, datasets.DataError) as error:
            self.message.value = f"<p><b>This run cannot be shown:</b> {error}</p>"
            return
        trained, directions = self.first
        self.is_setting = True
        words = min(260, 11 * max(map(len, directions.names)))  # pixels
        self.sliders.children = [widgets.FloatSlider(min=-3, max=3, step=0.05, description=name, layout={"width": "490px"},
                                                     style={"description_width": f"{words}px"}) for name in directions.names]
        for slider in self.sliders.children:
            slider.observe(lambda change: self.is_setting or self._answer(), "value")
        self.start.max = self.end.max = len(trained.images.validation) - 1
        has_pad = trained.vae.image_shape == (1, 28, 28)
        self.pad.layout.display = "" if has_pad else "none"
        others = [(name, folder) for name, folder in self.net.options if folder != self.net.value
                  and folder.parent.name.split("_on_")[-1] == self.net.value.parent.name.split("_on_")[-1]]
        self.other.options = [("no other net", None), *others]
        unlike = [folder for _, folder in others if (folder / "disc.npz").exists() == (trained.discriminator is None)]
        self.other.value = unlike[0] if unlike else None
        self.way.value = 0
        self.is_setting = False
        is_drawn = has_pad and self.pad.strokes  # a drawing stays where it can be seen
        self.code_of = self._code_of_picture(as_digit(self.pad.strokes) if is_drawn else trained.images.validation[self.start.value])
        self._choose_other()

    def _choose_other(self):
        self.second, self.message.value = None, ""
        if self.other.value is not None:
            try:
                self.second = self._load(self.other.value)
            except (CheckpointError, datasets.DataError) as error:
                self.message.value = f"<p><b>That run cannot stand beside:</b> {error}</p>"
        self._restart()

    # where the latents begin: `code_of` gives them for a net, `picture` is what they are the code of, if of one

    def _code_of_picture(self, picture):
        self.picture = picture
        return lambda trained: latents.encode(trained.vae, picture[None])[0]

    def _begin_at(self, picture):
        self._leave_the_way()
        self.code_of = self._code_of_picture(picture)
        self._restart()

    def _leave_the_way(self):
        self.is_setting, self.way.value = True, 0
        self.is_setting = False

    def _forget_the_drawing(self):
        if self.pad.strokes:
            self.pad.clear()

    def _begin(self):
        self._forget_the_drawing()
        self._begin_at(self.first[0].images.validation[self.start.value])

    def _walk(self):
        self._forget_the_drawing()
        ends, share = self.first[0].images.validation[[self.start.value, self.end.value]], self.way.value / 100
        self.picture = ends[round(share)]
        self.code_of = lambda trained: latents.walk(*latents.encode(trained.vae, ends), share)
        self._restart()

    def _sample(self):
        self._forget_the_drawing()
        self._leave_the_way()
        codes = np.random.default_rng().standard_normal(self.first[0].vae.num_latents)
        self.picture, self.code_of = None, lambda trained: codes
        self._restart()

    def _restart(self):
        """Put the sliders where the code is."""
        trained, directions = self.first
        self.is_setting = True
        for slider, value in zip(self.sliders.children, directions.coordinates(self.code_of(trained))):
            slider.value = float(np.clip(value, slider.min, slider.max))
        self.is_setting = False
        self.begun_at = self._coordinates()
        self._answer()

    def _coordinates(self):
        return np.array([slider.value for slider in self.sliders.children])

    # the answer

    def _answer(self):
        """Decode, judge and show: all that a slider's answer takes."""
        turned = self._coordinates() - self.begun_at
        codes = latents.turned(self.first[1], self.code_of(self.first[0]), turned)
        shown = {"original": self.picture, "first": latents.decode(self.first[0].vae, codes[None])[0],
                 "second": None if self.second is None else self._beside(codes, turned)}
        shown = {name: picture for name, picture in shown.items() if picture is not None}
        judge = self.first[0].discriminator or (self.second and self.second[0].discriminator)
        company = {"original": self.first[0].images.validation[-latents.NUM_COMPANY:], "first": self.first[0].company,
                   "second": self.second and self.second[0].company}
        titles = {"original": "the nearer end" if 0 < self.way.value < 100 else "the original", "first": _title(self.first[0]),
                  "second": self.second and f"beside it: {_title(self.second[0])}"}
        for name, panel in self.panels.items():
            panel.layout.display = "" if name in shown else "none"
        for name, picture in shown.items():
            self.panels[name].show(picture, titles[name], self._verdict(judge, name, picture, company[name]))

    def _verdict(self, judge, name, picture, company):
        """A discriminator's verdict on a panel's picture, passed anew only if one of them has changed; None without a discriminator."""
        if judge is None:
            return None
        judged = self.judged.get(name)
        if judged is None or judged[0] is not judge or judged[1] is not picture:
            self.judged[name] = judge, picture, latents.verdict(judge, picture, company)
        return self.judged[name][2]

    def _beside(self, codes, turned):
        """What the second net makes of the same latents, or of the same picture, along its own directions turned as far."""
        trained, directions = self.second
        if self.given.value == OWN and self.picture is not None:
            codes = latents.turned(directions, self.code_of(trained), turned)
        if len(codes) == trained.vae.num_latents:
            self.message.value = ""
            return latents.decode(trained.vae, codes[None])[0]
        self.message.value = f"<p>The two nets have different numbers of latents, so there is nothing that both can be given here but {OWN}.</p>"
        return None


class _Panel(widgets.VBox):
    """A picture under its title and the discriminator's verdict on it."""

    def __init__(self, name):
        self.caption, self.image = widgets.HTML(), widgets.Image(format="png", width=SIDE, height=SIDE)
        self.image.add_class(name)
        super().__init__([self.caption, self.image], layout={"margin": "0 0 0 8px", "width": f"{SIDE + 8}px"})

    def show(self, picture, title, sure):
        self.image.value = png(picture)
        verdict = "" if sure is None else f"<p>taken for real: <b>{sure:.1%}</b></p>"
        self.caption.value = f"<h3>{title}</h3>{verdict}"


def _name(folder):
    return f"{folder.parent.name.replace('_', ' ')}: {folder.name}"


def _title(trained):
    return "VAE" if trained.discriminator is None else "VAE + discriminator"
