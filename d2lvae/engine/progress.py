"""What a person sees of a training: lines in a log, a bar on a terminal, images on a page.

A log gets a line per epoch, and a page is a notebook's.
"""

import contextlib
import sys
import textwrap
import time

import IPython.display
import mxnet as mx
import numpy as np
from tqdm.auto import tqdm

WIDTH = 95  # columns of output that fit on a page of 1,280 pixels
LABELS = {
    "loss": "loss",
    "pixel_loss": "pixel",
    "kl": "KL",
    "adversarial_loss": "adv",
    "feature_loss": "feat",
    "disc_loss": "disc",
}


def wrapped(text, indent):
    """A text in lines that fit on a page, all but the first indented; paths stay whole."""
    own = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, **own)


def is_interactive():
    """Whether a person sees this process's output as it comes: at a terminal or on a page."""
    return sys.stdout.isatty() or in_notebook()


def in_notebook():
    """Whether a page (JupyterLab, Notebook 7, VS Code) has sent the code that is running.

    A page names the cell that it sends.  papermill, nbconvert and nbval do not, nor does a process
    that a cell starts.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return "cellId" in getattr(shell, "parent_header", {}).get("metadata", {})


@contextlib.contextmanager
def reporting(history, epochs, num_images, means, draw=None, rank=0):
    """The report that suits who is looking on: a :class:`Report`, closed when the block ends.

    `history`, a record per epoch, is extended by the training.  There will be `epochs` of
    `num_images` each.  `means` turns losses of some minibatches and their number of images into a
    dict of mean losses, and waits for the device.  `draw` turns records as in `history`, with
    fractions of epochs, and a title into a PNG's bytes.  Only the worker of rank 0 reports.
    """
    kind = Lines
    if is_interactive():
        kind = Page if draw and in_notebook() else Bar
    report = Report() if rank > 0 else kind(history, epochs, num_images, means, draw)
    try:
        yield report
    finally:
        report.close()


class Report:
    """Says nothing; the other kinds say something at some of these events."""

    def batch(self, num_images, losses):
        """A minibatch is done, or waits in the device's queue; `losses` are its own."""

    def epoch(self):
        """An epoch is done; `history` has its record."""

    def say(self, text):
        """A note for whoever looks on; '' is none."""

    def close(self):
        """The training is over, whatever the reason."""


class _Shown(Report):
    """What all reports that say something share."""

    def __init__(self, history, epochs, num_images, means, draw):
        self.history, self.epochs, self.num_images = history, epochs, num_images
        self.means, self.draw = means, draw
        self.recent, self.num_recent = [], 0  # what has not been shown yet

    def say(self, text):
        if text:
            print(text, flush=True)

    def _remember(self, num_images, losses):
        self.recent.append(losses)
        self.num_recent += num_images

    def _recent_means(self):
        means = self.means(self.recent, self.num_recent)
        self.recent, self.num_recent = [], 0
        return means


class Lines(_Shown):
    """One line per epoch, written at once."""

    def epoch(self):
        print(epoch_line(self.history, self.epochs), flush=True)


class Bar(_Shown):
    """A progress bar; at the end, the last epoch's line."""

    def __init__(self, *args):
        super().__init__(*args)
        self.bar = tqdm(
            total=self.epochs * self.num_images,
            unit=" images",
            unit_scale=True,
            initial=len(self.history) * self.num_images,
        )

    def batch(self, num_images, losses):
        self._remember(num_images, losses)
        if len(self.recent) == 64:
            self.bar.set_postfix(
                epoch=len(self.history), refresh=False, loss=f"{self._recent_means()['loss']:.2f}"
            )
        self.bar.update(num_images)

    def epoch(self):
        last = self.history[-1]
        self.bar.set_postfix(epoch=last["epoch"], loss=f"{last['loss']:.2f}", refresh=False)

    def close(self):
        self.bar.close()
        if self.history:
            print(epoch_line(self.history, self.epochs))


class Page(_Shown):
    """Curves of the losses and reconstructions, in one output that ends as the last epoch's line.

    They are drawn at most once a second, and in at most a tenth of the time.  Only a drawing waits
    for the device.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.output, self.curve = None, list(self.history)
        self.num_seen = len(self.history) * self.num_images
        self.started = None

    def batch(self, num_images, losses):
        self.num_seen += num_images
        self._remember(num_images, losses)
        if self.started is None:  # the first step takes longer: what it computes is compiled
            self.started, self.num_before = time.monotonic(), self.num_seen
            self.due = self.started + 1
        elif time.monotonic() >= self.due:
            self._draw()

    def _draw(self):
        began = time.monotonic()
        self.curve.append({"epoch": self.num_seen / self.num_images, **self._recent_means()})
        mx.nd.waitall()
        drawn = self.draw(self.curve, self._title())
        self._display(IPython.display.Image(drawn, format="png"))
        now = time.monotonic()
        self.due = now + max(1, 9 * (now - began))

    def _title(self):
        speed = (self.num_seen - self.num_before) / (time.monotonic() - self.started)
        left = _time((self.epochs * self.num_images - self.num_seen) / speed)
        epoch = (self.num_seen - 1) // self.num_images
        return f"epoch {epoch} (the last is {self.epochs - 1}), {speed:,.0f} images/s, {left} left"

    def _display(self, content, **options):
        if self.output is None:
            self.output = IPython.display.display(content, display_id=True, **options)
        else:
            self.output.update(content, **options)

    def close(self):
        line = epoch_line(self.history, self.epochs) if self.history else ""
        if self.output or line:
            self._display({"text/plain": line}, raw=True)


def epoch_line(history, epochs):
    """One line on the latest epoch: mean losses, speed and, before the last, the time left.

    A line that would be wider than a page leaves the speed out.
    """
    last = history[-1]
    losses = [
        f"{label} {_four_digits(last[name])}" for name, label in LABELS.items() if name in last
    ]
    seconds = (epochs - 1 - last["epoch"]) * np.median(
        [record["seconds"] for record in history[-5:]]
    )
    left = [f"{_time(seconds)} left"] if last["epoch"] < epochs - 1 else []
    speed = f"{last['images_per_second']:,.0f} images/s"
    line = f"epoch {last['epoch']:3d}: " + ", ".join([*losses, speed, *left])
    return line if len(line) <= WIDTH else line.replace(f", {speed}", "")


def _four_digits(number):
    decimals = max(0, 4 - len(str(int(abs(number)))))
    return f"{number:.{decimals}f}"


def _time(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"
