"""A page of sliders for a VAE's latents: `make explore`, or notebooks/latent_explorer.ipynb.

A slider's movement becomes an image in :meth:`Explorer.decode_and_show`.
"""

import contextlib
import os
import threading
import traceback

import ipywidgets as widgets
import numpy as np

from .. import data
from ..storage import paths
from ..storage.files import CheckpointError
from . import latents, small_runs
from .drawing_pad import DrawingPad, as_digit
from .parts import SIDE, STYLE, Panel, Sliders, button, dropdown, paragraph
from .saved_runs import NUM_OTHERS, finished_runs, load_run, trained_on

__all__ = ["Explorer"]

NO_OTHER = ("no other net", None)
OWN, SAME = "the same image, its own latents", "the same latents"  # what the second net is given


class Explorer(widgets.VBox):
    """The page: sliders, walks, the prior, two nets side by side, a digit drawn by hand.

    Parameters
    ----------
    results_dir : str
        Finished runs are looked for there and in all folders below; '' is the project's `results/`.
        If there is none, small ones are trained first.  Where Voila serves the notebook that
        happens in the background, because it shows a page only once the cells have run.
    images : ImageSet, optional
        A set of the user's own, for the runs that were trained on a set of its name.
        Without it those runs show only what needs no images.

    Attributes
    ----------
    first, second : LoadedRun or None
        The run that is shown, and the one beside it.
        `first` is None while small ones are trained, or if no run can be shown.
    reasons : dict of str
        Why runs cannot be shown, by their folders: of those that it has tried to load.
    """

    def __init__(self, results_dir="", images=None):
        super().__init__([widgets.HTML(STYLE)])
        self.add_class("d2lvae")
        self.library = _Library(paths.results_root(results_dir), images)
        self.reasons, self.problems = self.library.reasons, self.library.problems
        self.message, self.notes, self.is_setting = widgets.HTML(), widgets.HTML(), False
        for part in (self.problems, self.message, self.notes):
            part.add_class("notes")
        self.first, self.second = self.library.newest(), None
        if self.first:
            self._build()
        elif os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
            threading.Thread(target=self._train, daemon=True).start()
        else:
            self._train()

    def decode_and_show(self):
        """A slider was moved: move the latents as far, decode them, show the images."""
        first, second = self.first, self.second
        steps = self.sliders.coordinates() - self.begun_at
        moved = first.directions.traverse(self.code_of(first), steps)
        decoded = latents.decode(first.vae, moved[None])[0]
        discriminator = first.discriminator or (second and second.discriminator)
        originals = first.images and first.images.validation[-NUM_OTHERS:]
        title = "the nearer end" if 0 < self.way.value < 100 else "the original"
        self.panels["original"].show(self.image, title, discriminator, originals)
        self.panels["first"].show(decoded, _title(first), discriminator, first.reconstructions)
        if second:
            decoded, title = self._decode_second(moved, steps), f"beside it: {_title(second)}"
            self.panels["second"].show(decoded, title, discriminator, second.reconstructions)
        else:
            self.panels["second"].show(None)

    def _decode_second(self, moved, steps):
        """The second net's image of the same latents, or of the same image moved by its own."""
        run, has_image = self.second, self.image is not None
        if self.given.value == OWN and has_image:
            moved = run.directions.traverse(self.code_of(run), steps)
        if len(moved) == run.vae.num_latents:
            self.message.value = ""
            return latents.decode(run.vae, moved[None])[0]
        text = "The two nets have different numbers of latents, so they cannot get the same ones."
        text += f' Choose "{OWN}".' if has_image else ""
        self.message.value = paragraph(text)
        return None

    # where the sliders begin

    def _restart(self, image, code_of, way=0):
        """Put the sliders where the latents are.

        `code_of(run)` gives the latents (L,) for a net, `image` is what they encode, if anything.
        """
        self.image, self.code_of = image, code_of
        with self._quietly():
            self.way.value = way
            self.sliders.set_coordinates(self.first.directions.coordinates(code_of(self.first)))
        self.begun_at = self.sliders.coordinates()
        self.decode_and_show()

    def _restart_at(self, image):
        self._restart(image, lambda run: latents.encode(run.vae, image[None])[0])

    def _restart_between(self, numbers, way=0):
        """At one validation image, or some way (in %) from one to another; or so in `means`."""
        run, fraction = self.first, way / 100
        ends, image, codes_of = run.means[numbers], None, lambda run: ends
        if run.images:
            ends = run.images.validation[numbers]
            image, codes_of = ends[round(fraction)], lambda run: latents.encode(run.vae, ends)
        code_of = lambda run: latents.interpolate(*codes_of(run)[[0, -1]], fraction)
        self._restart(image, code_of, way)

    def _begin(self):
        self._clear_drawing()
        self._restart_between([self.start.value])

    def _walk(self):
        self._clear_drawing()
        self._restart_between([self.start.value, self.end.value], self.way.value)

    def _sample(self):
        self._clear_drawing()
        sample = np.random.default_rng().standard_normal(self.first.vae.num_latents)
        self._restart(None, lambda run: sample)

    def _clear_drawing(self):
        if self.pad.strokes:
            self.pad.clear()

    # which nets are shown

    def _choose(self):
        """Another net: its sliders, its images, and the nets that can stand beside it."""
        self.message.value = paragraph("loading ...")
        run = self.library.loaded_run(self.net.value)
        if run is None:
            heading = f"{self.library.name(self.net.value)} cannot be shown:"
            self.message.value = paragraph(self.reasons[self.net.value], heading)
            with self._quietly():
                self.net.value = self.first.folder
            return
        self.first = run
        has_pad = run.vae.image_shape == (1, 28, 28)
        choices = run.images.validation if run.images else run.means
        with self._quietly():
            self.sliders.set_names(run.directions.names)
            self.start.max = self.end.max = len(choices) - 1
            self.start.description = "image" if run.images else "sample"
            self.pad.layout.display = "" if has_pad else "none"
            self._offer_others()
        self._load_other()
        if has_pad and self.pad.strokes:  # a drawing stays where it can be seen
            self._restart_at(as_digit(self.pad.strokes))
        else:
            self._restart_between([self.start.value])

    def _offer_others(self):
        """Runs on the same images; one of the other kind, with or without discriminator, first."""
        shown, has_disc = self.first.folder, self.first.discriminator is not None
        others = [
            (name, folder)
            for name, folder in self.net.options
            if folder != shown and trained_on(folder) == trained_on(shown)
        ]
        self.other.options = [NO_OTHER, *others]
        unlike = (folder for _, folder in others if (folder / "disc.npz").exists() != has_disc)
        self.other.value = next(filter(self.library.loaded_run, unlike), None)

    def _choose_other(self):
        self._load_other()
        self._restart(self.image, self.code_of, self.way.value)

    def _load_other(self):
        self.second, self.message.value, notes = None, "", self.first.notes
        if self.other.value is not None:
            self.second = self.library.loaded_run(self.other.value)
            why = self.reasons.get(self.other.value)
            if self.second and self.second.vae.image_shape != self.first.vae.image_shape:
                self.second, why = None, "it takes images of another size."
            if self.second is None:
                self.message.value = paragraph(why, "That run cannot stand beside:")
        others = [note for note in (self.second.notes if self.second else ()) if note not in notes]
        paragraphs = [*map(paragraph, notes), *(paragraph(note, "Beside it:") for note in others)]
        self.notes.value = "".join(paragraphs)

    # the page itself

    def _train(self):
        """Train small runs meanwhile, with a bar."""
        why = "None of the runs here can be shown" if self.reasons else "No finished run here yet"
        text = f"{why}: training a small VAE on synthetic digits, then one with a discriminator."
        note, layout = widgets.HTML(paragraph(text)), {"width": "600px"}
        most = 2 * small_runs.SMALL["epochs"] * small_runs.SMALL["num_train"]
        bar = widgets.IntProgress(max=most, description="training", layout=layout)
        self._show(self.problems, note, bar)

        def progress(num_images):
            bar.value += num_images

        def on_busy():
            text = "Another page is training the small VAEs; this one goes on when they are there."
            note.value = paragraph(text)

        try:
            small_runs.train_small(self.library.root, progress, on_busy)
        except Exception as error:
            note.value = paragraph(error, "The training failed:")  # else seen by nobody
            raise
        self.first = self.library.newest()
        if self.first:
            self._build()
        else:
            note.value = paragraph("No run here can be shown.")

    def _build(self):
        """Make all controls, and say what each does."""
        names = sorted((self.library.name(each), each) for each in finished_runs(self.library.root))
        self.net = dropdown("net", names, value=self.first.folder)
        self.other = dropdown("beside it", [NO_OTHER])
        self.given = dropdown("which gets", [OWN, SAME])
        narrow = {"layout": {"width": "200px"}}
        self.start = widgets.BoundedIntText(value=0, description="image", **narrow)
        self.end = widgets.BoundedIntText(value=1, description="walk to", **narrow)
        self.way = widgets.IntSlider(max=100, description="way, %", layout={"width": "300px"})
        self.way.style.description_width = "70px"
        self.sliders = Sliders(self._unless_setting(self.decode_and_show))
        self.panels = {name: Panel(name) for name in ("original", "first", "second")}
        self.pad = DrawingPad(SIDE, self._restart_at, self._begin)
        for field, action in (
            (self.net, self._choose),
            (self.other, self._choose_other),
            (self.given, self.decode_and_show),
            (self.start, self._begin),
            (self.end, self._walk),
            (self.way, self._walk),
        ):
            field.observe(self._unless_setting(action), "value")
        self._lay_out()
        self._choose()

    def _lay_out(self):
        play = widgets.Play(max=100, step=2, interval=100)
        widgets.jslink((play, "value"), (self.way, "value"))
        buttons = button("sample the prior", self._sample), button("back to the image", self._begin)
        rows = [[self.start, self.end], [play, self.way], buttons]
        title = widgets.HTML("<h3>Turn the latents</h3>")
        controls = widgets.VBox([*map(widgets.HBox, rows), title, self.sliders])
        panels = widgets.HBox(list(self.panels.values()), layout={"align_items": "flex-end"})
        images = widgets.VBox([panels, self.pad])
        for part in (controls, images):
            part.layout.flex = "0 0 auto"  # where there is no room for both, the images come below
        body = widgets.HBox([controls, images], layout={"flex_flow": "row wrap"})
        nets = self.net, self.other, self.given
        self._show(*nets, self.message, self.notes, body, self.problems)

    def _show(self, *parts):
        self.children = (self.children[0], *parts)

    @contextlib.contextmanager
    def _quietly(self):
        """What the page sets itself is not answered as if somebody had chosen it."""
        self.is_setting = True
        try:
            yield
        finally:
            self.is_setting = False

    def _unless_setting(self, action):
        return lambda change: self.is_setting or action()


class _Library:
    """Finished runs below a folder, each loaded once; `reasons` why others cannot be shown."""

    def __init__(self, root, images):
        self.root, self.images = root, images
        self.loaded, self.reasons, self.problems = {}, {}, widgets.HTML()

    def newest(self):
        """The newest run that can be shown, None if none can."""
        return next(filter(None, map(self.loaded_run, finished_runs(self.root))), None)

    def loaded_run(self, folder):
        """A run; None if it cannot be shown, and then `reasons` tells why."""
        if folder not in self.loaded:
            try:
                self.loaded[folder] = self._load(folder)
                self.reasons.pop(folder, None)
            except (CheckpointError, data.DataError) as error:
                self.reasons[folder] = str(error)
            except Exception as error:  # of any kind: a run may have nets of the user's own
                traceback.print_exc()
                self.reasons[folder] = f"{type(error).__name__}: {error}".splitlines()[0]
            self._list_problems()
        return self.loaded.get(folder)

    def _load(self, folder):
        is_own = self.images is not None and self.images.name == trained_on(folder)[0]
        run = load_run(folder, self.images if is_own else None)
        channels = run.vae.image_shape[0]
        if channels not in (1, 3):
            raise data.DataError(
                f"its images have {channels} channels; only those of 1 (grey) or 3 (colour) can be "
                "shown"
            )
        return run

    def _list_problems(self):
        """List the runs that cannot be shown, folded: any number leaves room for the rest."""
        lines = [paragraph(why, f"{self.name(each)}:") for each, why in self.reasons.items()]
        number = "1 run" if len(lines) == 1 else f"{len(lines)} runs"
        title = f"<summary>{number} that cannot be shown, and why</summary>"
        self.problems.value = f"<details>{title}{''.join(lines)}</details>" if lines else ""

    def name(self, folder):
        """A run as it is listed: its nets, its numbers, and where below the results it is."""
        place = "/".join(folder.relative_to(self.root).parts[:-3])
        name = f"{folder.parent.name.replace('_', ' ')}: {folder.name}"
        return f"{name} (in {place})" if place else name


def _title(run):
    return "VAE" if run.discriminator is None else "VAE + discriminator"
