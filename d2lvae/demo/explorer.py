"""A page on which a class turns a VAE's latents: sliders, walks, the prior, two nets side by side, a digit drawn by hand.

    make explore        (or notebooks/latent_explorer.ipynb in JupyterLab)

An image goes to the browser in its own size, a few kB, and is enlarged there: so a slider's answer is quick.
"""

import html
import io
import os
import threading
import time
import traceback

import ipywidgets as widgets
import numpy as np
from PIL import Image

from .. import data, runs
from ..config import Config
from ..discriminators import DenseLogReg
from ..storage import paths
from ..storage.files import CheckpointError
from ..storage.records import RunBusy
from ..vae import DenseVAE
from . import latents
from .drawing_pad import DrawingPad, as_digit

__all__ = ["Explorer", "train_small"]

SIDE = 224  # of an image on the page, in the browser's pixels: three and the sliders fit on a projector 1,280 wide
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
.d2lvae button:focus, .d2lvae select:focus, .d2lvae input:focus, .d2lvae .noUi-handle:focus {outline: 3px solid #0072B2}
</style>"""
SMALL = {
    "num_train": 8_192,
    "epochs": 6,
    "batch_size": 64,
    "lr": 1e-3,
    "pixel_loss": "bce",
    "pixel_weight": 1.0,
    "kl_weight": 1.0,
    "seed": 0,
    "resume": False,
}
WAIT = 2.0  # seconds, until it is tried again whether another page has ended its training
OWN, SAME = "the same image, its own latents", "the same latents"  # what the second net is given


def png(image):
    """A uint8 image (C, H, W) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(file, "png", compress_level=1)
    return file.getvalue()


def train_small(images, results_dir, progress):
    """Train what the page shows where no run is finished: a small VAE on drawn digits, and the same with a discriminator.

    Parameters
    ----------
    images : ImageSet
    results_dir : path
        The runs go into `explorer` there; one that is there and can be shown is left as it is.
    progress : callable
        Called with a number of images whenever so many more have been learned from.

    Raises
    ------
    RunBusy
        Another process is training one of them.
    """
    for disc, weight in ((None, 0.0), (DenseLogReg(1, 200, images.image_shape), 1.0)):
        config = Config.from_dict(
            {
                **SMALL,
                "disc_weight": weight,
                "results_dir": str(paths.results_root(results_dir) / "explorer"),
            }
        )
        vae = DenseVAE(5, 3, 400, images.image_shape)
        if _is_there(runs.run_folder(vae, images, config, disc), images):
            progress(SMALL["epochs"] * len(images.train))
        else:
            runs.fit(vae, images, config, disc, progress)


def _is_there(folder, images):
    """Whether a run is finished and can be loaded."""
    if folder not in latents.finished_runs(folder.parents[2]):
        return False
    try:
        latents.load_run(folder, images)
    except (CheckpointError, data.DataError):
        return False
    return True


class Explorer(widgets.VBox):
    """The page.

    Parameters
    ----------
    results_dir : str
        Finished runs are looked for there and in all folders below; '' is the project's `results/`.  If there is none, small ones are
        trained first: in the background where Voila serves the notebook, because a page is shown only once its cells have run.
    images : ImageSet, optional
        A set of the user's own, for the runs that were trained on a set of its name.
        Without it those runs show only what needs no images.

    Attributes
    ----------
    first : (Trained, Directions) or None
        The run that is shown.  None while small ones are trained, or if no run can be shown.
    reasons : dict of str
        Why runs cannot be shown, by their folders: of those that it has tried to load.
    """

    def __init__(self, results_dir="", images=None):
        super().__init__([widgets.HTML(STYLE)])
        self.add_class("d2lvae")
        self.root, self.images = paths.results_root(results_dir), images
        self.loaded, self.reasons, self.judged, self.is_setting = {}, {}, {}, False
        self.problems, self.message, self.notes = (widgets.HTML() for _ in range(3))
        for part in (self.problems, self.message, self.notes):
            part.add_class("notes")
        if self._find_first():
            self._build()
        elif os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
            threading.Thread(target=self._train, daemon=True).start()
        else:
            self._train()

    def _show(self, *parts):
        self.children = (self.children[0], *parts)

    def _train(self):
        bar = widgets.IntProgress(
            max=2 * SMALL["epochs"] * SMALL["num_train"],
            description="training",
            layout={"width": "600px"},
        )
        why = "None of the runs here can be shown" if self.reasons else "No finished run here yet"
        note = widgets.HTML(
            _paragraph(
                f"{why}: training a small VAE on drawn digits, then the same with a discriminator."
            )
        )
        self._show(self.problems, note, bar)

        def progress(num_images):
            bar.value += num_images

        try:
            images = data.drawn_digits(SMALL["num_train"], SMALL["seed"])
            while not self._has_trained(images, progress):
                note.value = _paragraph(
                    "Another page is training the small VAEs; this one goes on "
                    "when they are there."
                )
                time.sleep(WAIT)
                bar.value = 0
        except Exception as error:
            note.value = _paragraph(error, "The training failed:")  # else seen by nobody
            raise
        if self._find_first():
            self._build()
        else:
            note.value = _paragraph("No run here can be shown.")

    def _has_trained(self, images, progress):
        """Train, and tell whether that is done; False if another page is at it."""
        try:
            train_small(images, self.root, progress)
        except RunBusy:
            return False
        return True

    def _build(self):
        """Everything on the page, and what each part does."""
        runs_here = latents.finished_runs(self.root)
        names = sorted((self._name(folder), folder) for folder in runs_here)
        wide = {"layout": {"width": "960px"}, "style": {"description_width": "110px"}}
        shown = self.first[0].folder
        self.net = widgets.Dropdown(options=names, value=shown, description="net", **wide)
        self.other = widgets.Dropdown(
            options=[("no other net", None)], description="beside it", **wide
        )
        self.given = widgets.Dropdown(options=[OWN, SAME], description="which gets", **wide)
        self.start, self.end = (
            widgets.BoundedIntText(value=number, description=text, layout={"width": "200px"})
            for number, text in enumerate(("image", "walk to"))
        )
        self.way = widgets.IntSlider(
            description="way, %",
            max=100,
            layout={"width": "300px"},
            style={"description_width": "70px"},
        )
        play = widgets.Play(max=100, step=2, interval=100)
        widgets.jslink((play, "value"), (self.way, "value"))
        sample, back = (
            widgets.Button(description=text, layout={"width": "200px"})
            for text in ("sample the prior", "back to the image")
        )
        self.sliders = widgets.VBox()
        self.panels = {name: _Panel(name) for name in ("original", "first", "second")}
        self.pad = DrawingPad(SIDE, self._begin_at, self._begin)
        for field, action in (
            (self.net, self._choose),
            (self.other, self._choose_other),
            (self.given, self._answer),
            (self.start, self._begin),
            (self.end, self._walk),
            (self.way, self._walk),
        ):
            field.observe(lambda change, action=action: self.is_setting or action(), "value")
        sample.on_click(lambda button: self._sample())
        back.on_click(lambda button: self._begin())
        turn = widgets.VBox(
            [
                widgets.HBox([self.start, self.end]),
                widgets.HBox([play, self.way]),
                widgets.HBox([sample, back]),
                widgets.HTML("<h3>Turn the latents</h3>"),
                self.sliders,
            ]
        )
        images = widgets.VBox(
            [widgets.HBox(list(self.panels.values()), layout={"align_items": "flex-end"}), self.pad]
        )
        for part in (turn, images):
            part.layout.flex = "0 0 auto"  # where there is no room for both, the images come below
        self._show(
            self.net,
            self.other,
            self.given,
            self.message,
            self.notes,
            widgets.HBox([turn, images], layout={"flex_flow": "row wrap"}),
            self.problems,
        )
        self._choose()

    def _find_first(self):
        """Load the newest run that can be shown, and tell whether there is one."""
        found = map(self._load, latents.finished_runs(self.root))
        self.first = next((run for run in found if run is not None), None)
        return self.first is not None

    def _load(self, folder):
        """A run and its directions; None if it cannot be shown, and then `reasons` tells why."""
        if folder not in self.loaded:
            try:
                self.loaded[folder] = self._loaded_anew(folder)
                self.reasons.pop(folder, None)
            except (CheckpointError, data.DataError) as error:
                self.reasons[folder] = str(error)
            except Exception as error:  # of any kind: a run may have nets of the user's own
                traceback.print_exc()
                self.reasons[folder] = f"{type(error).__name__}: {error}".splitlines()[0]
            self._tell_problems()
        return self.loaded.get(folder)

    def _loaded_anew(self, folder):
        name, _ = latents.subject(folder)
        is_own = self.images is not None and self.images.name == name
        trained = latents.load_run(folder, self.images if is_own else None)
        channels = trained.vae.image_shape[0]
        if channels not in (1, 3):
            raise data.DataError(
                f"its images have {channels} channels; only those of 1 (grey) "
                "or 3 (colour) can be shown"
            )
        return trained, latents.directions(trained)

    def _name(self, folder):
        """A run as it is listed: its nets, its numbers, and where below the results it is."""
        place = "/".join(folder.relative_to(self.root).parts[:-3])
        name = f"{folder.parent.name.replace('_', ' ')}: {folder.name}"
        return f"{name} (in {place})" if place else name

    def _tell_problems(self):
        """List the runs that cannot be shown, folded: any number leaves room for the rest."""
        lines = "".join(
            _paragraph(reason, f"{self._name(folder)}:") for folder, reason in self.reasons.items()
        )
        number = len(self.reasons)
        self.problems.value = lines and (
            f"<details><summary>{number} {'run' if number == 1 else 'runs'} that cannot be shown, "
            f"and why</summary>{lines}</details>"
        )

    def _choose(self):
        """Another net: its sliders, its images, and the nets that can stand beside it."""
        self.message.value = _paragraph("loading ...")
        found = self._load(self.net.value)
        if found is None:
            wanted, shown = self.net.value, self.first[0].folder
            heading = f"{self._name(wanted)} cannot be shown:"
            self.message.value = _paragraph(self.reasons[wanted], heading)
            self._set(self.net, shown)
            return
        self.first = found
        trained, directions = self.first
        self.is_setting = True
        words = min(260, 11 * max(map(len, directions.names)))  # pixels
        self.sliders.children = [
            widgets.FloatSlider(
                min=-3,
                max=3,
                step=0.05,
                description=name,
                layout={"width": "490px"},
                style={"description_width": f"{words}px"},
            )
            for name in directions.names
        ]
        for slider in self.sliders.children:
            slider.observe(lambda change: self.is_setting or self._answer(), "value")
        self.start.max = self.end.max = len(self._choices()) - 1
        self.start.description = "image" if trained.images else "draw"
        has_pad = trained.vae.image_shape == (1, 28, 28)
        self.pad.layout.display = "" if has_pad else "none"
        subject = latents.subject(self.net.value)
        others = [
            (name, folder)
            for name, folder in self.net.options
            if folder != self.net.value and latents.subject(folder) == subject
        ]
        self.other.options = [("no other net", None), *others]
        unlike = [
            folder
            for _, folder in others
            if (folder / "disc.npz").exists() == (trained.discriminator is None)
        ]
        self.other.value = next(filter(self._load, unlike), None)
        self.way.value = 0
        self.is_setting = False
        if has_pad and self.pad.strokes:  # a drawing stays where it can be seen
            self._start_from_image(as_digit(self.pad.strokes))
        else:
            self._start_from_numbers([self.start.value])
        self._choose_other()

    def _choose_other(self):
        self.second, self.message.value = None, ""
        if self.other.value is not None:
            self.second = self._load(self.other.value)
            why = self.reasons.get(self.other.value)
            if self.second and self.second[0].vae.image_shape != self.first[0].vae.image_shape:
                self.second, why = None, "it takes images of another size."
            if self.second is None:
                self.message.value = _paragraph(why, "That run cannot stand beside:")
        self._tell_notes()
        self._restart()

    def _tell_notes(self):
        notes = [_paragraph(note) for note in self.first[0].notes]
        for note in self.second[0].notes if self.second else ():
            if note not in self.first[0].notes:
                notes.append(_paragraph(note, "Beside it:"))
        self.notes.value = "".join(notes)

    # where the latents begin: `code_of` gives them for a net, `image` is what they are the code of, if of one

    def _choices(self):
        """What `start` and `end` are numbers in: validation images, without images latents."""
        trained = self.first[0]
        return trained.means if trained.images is None else trained.images.validation

    def _start_from_image(self, image):
        self.image = image
        self.code_of = lambda trained: latents.encode(trained.vae, image[None])[0]

    def _start_from_numbers(self, numbers, share=0):
        """Start from one of the choices, or from a share of the way between two."""
        ends = self._choices()[numbers]
        if self.first[0].images is None:
            self.image = None
            self.code_of = lambda trained: latents.walk(ends[0], ends[-1], share)
        else:
            self.image = ends[round(share)]
            self.code_of = lambda trained: latents.walk(
                *latents.encode(trained.vae, ends)[[0, -1]], share
            )

    def _begin_at(self, image):
        self._leave_the_way()
        self._start_from_image(image)
        self._restart()

    def _leave_the_way(self):
        self._set(self.way, 0)

    def _set(self, field, value):
        """Give a field a value without the action of somebody who chooses it."""
        self.is_setting, field.value = True, value
        self.is_setting = False

    def _forget_the_drawing(self):
        if self.pad.strokes:
            self.pad.clear()

    def _begin(self):
        self._forget_the_drawing()
        self._leave_the_way()
        self._start_from_numbers([self.start.value])
        self._restart()

    def _walk(self):
        self._forget_the_drawing()
        self._start_from_numbers([self.start.value, self.end.value], self.way.value / 100)
        self._restart()

    def _sample(self):
        self._forget_the_drawing()
        self._leave_the_way()
        codes = np.random.default_rng().standard_normal(self.first[0].vae.num_latents)
        self.image, self.code_of = None, lambda trained: codes
        self._restart()

    def _restart(self):
        """Put the sliders where the code is."""
        trained, directions = self.first
        self.is_setting = True
        for slider, value in zip(
            self.sliders.children, directions.coordinates(self.code_of(trained))
        ):
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
        codes = latents.traverse(self.first[1], self.code_of(self.first[0]), turned)
        shown = {
            "original": self.image,
            "first": latents.decode(self.first[0].vae, codes[None])[0],
            "second": None if self.second is None else self._beside(codes, turned),
        }
        shown = {name: image for name, image in shown.items() if image is not None}
        judge = self.first[0].discriminator or (self.second and self.second[0].discriminator)
        images = self.first[0].images
        company = {
            "original": images and images.validation[-latents.NUM_COMPANY :],
            "first": self.first[0].company,
            "second": self.second and self.second[0].company,
        }
        titles = {
            "original": "the nearer end" if 0 < self.way.value < 100 else "the original",
            "first": _title(self.first[0]),
            "second": self.second and f"beside it: {_title(self.second[0])}",
        }
        for name, panel in self.panels.items():
            panel.layout.display = "" if name in shown else "none"
        for name, image in shown.items():
            self.panels[name].show(
                image, titles[name], self._verdict(judge, name, image, company[name])
            )

    def _verdict(self, judge, name, image, company):
        """A discriminator's verdict on a panel's image, passed anew only if one of them changed.

        None without a discriminator, or without others of its kind to judge it among.
        """
        if judge is None or company is None:
            return None
        judged = self.judged.get(name)
        if judged is None or judged[0] is not judge or judged[1] is not image:
            self.judged[name] = judge, image, latents.verdict(judge, image, company)
        return self.judged[name][2]

    def _beside(self, codes, turned):
        """What the second net makes of the same latents, or of the same image, along its own directions turned as far."""
        trained, directions = self.second
        if self.given.value == OWN and self.image is not None:
            codes = latents.traverse(directions, self.code_of(trained), turned)
        if len(codes) == trained.vae.num_latents:
            self.message.value = ""
            return latents.decode(trained.vae, codes[None])[0]
        self.message.value = _paragraph(
            "The two nets have different numbers of latents, so there is nothing that both can be "
            f"given here but {OWN}."
            if self.image is not None
            else "The two nets have different numbers of latents, so both cannot get the same ones."
        )
        return None


class _Panel(widgets.VBox):
    """An image under its title and the discriminator's verdict on it."""

    def __init__(self, name):
        self.caption, self.image = (
            widgets.HTML(),
            widgets.Image(format="png", width=SIDE, height=SIDE),
        )
        self.image.add_class(name)
        super().__init__(
            [self.caption, self.image], layout={"margin": "0 0 0 8px", "width": f"{SIDE + 8}px"}
        )

    def show(self, image, title, sure):
        self.image.value = png(image)
        verdict = "" if sure is None else f"<p>taken for real: <b>{sure:.1%}</b></p>"
        self.caption.value = f"<h3>{title}</h3>{verdict}"


def _paragraph(text, heading=""):
    """Plain text as HTML."""
    heading = f"<b>{html.escape(heading, quote=False)}</b> " if heading else ""
    return f"<p>{heading}{html.escape(str(text), quote=False)}</p>"


def _title(trained):
    return "VAE" if trained.discriminator is None else "VAE + discriminator"
