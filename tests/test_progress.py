"""What is said of a training, and to whom."""

import io

import IPython.display
import numpy as np
import pytest
from d2l import mxnet as d2l
from d2lvae.engine import progress
from d2lvae.storage.nets import get_weights
from helpers import fit
from PIL import Image

RECORD = {
    "epoch": 7,
    "loss": 7154.21,
    "pixel_loss": 7101.35,
    "kl": 53.127,
    "adversarial_loss": 0.6931,
    "disc_loss": 1.3863,
    "seconds": 100.0,
    "images_per_second": 1094.4,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"feature_loss": 12.345},
        {"loss": 61538.4, "feature_loss": 1234.5},
        {"loss": -5432.1, "kl": 1234.5, "images_per_second": 23456.7},
    ],
)
def test_no_line_is_wider_than_a_page(changes):
    line = progress.epoch_line([{**RECORD, "epoch": 199, **changes}], 500)
    assert (
        len(line) <= 95
        and "adv 0.693" in line
        and "disc 1.386" in line
        and line.endswith(", 500 min left")
    )


def test_a_line_has_four_digits_the_speed_and_the_time_left():
    assert progress.epoch_line([RECORD], 9) == (
        "epoch   7: loss 7154, pixel 7101, KL 53.13, adv 0.693, disc 1.386, 1,094 images/s, 2 min left"
    )
    assert progress.epoch_line([{**RECORD, "seconds": 30}], 9).endswith(", 30 s left")


def test_after_the_last_epoch_no_time_is_left():
    line = progress.epoch_line([RECORD], 8)
    assert line.endswith("1,094 images/s") and "left" not in line


class Outputs:
    """A page's outputs, each with all that it has shown."""

    def __init__(self):
        self.shown = []

    def display(self, content, display_id, raw=False):
        assert display_id is True
        self.shown.append([content])
        return self

    def update(self, content, raw=False):
        self.shown[-1].append(content)


@pytest.fixture
def page(monkeypatch):
    """A notebook's page that looks on, and a clock on which a second passes at every look."""
    d2l.plt.close("all")  # what other tests have left open
    outputs, times = Outputs(), iter(range(1_000_000))
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", outputs.display)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    return outputs


@pytest.mark.pictures
def test_a_page_sees_one_output_that_ends_as_a_line(
    config, tiny, small_vae, small_disc, page, capsys
):
    run = fit(small_vae(), tiny, {**config, "epochs": 8, "disc_weight": 1.0}, small_disc())
    [shown] = page.shown
    *images, last = shown
    assert len(images) > 1 and last == {"text/plain": progress.epoch_line(run.history, 8)}
    width, height = Image.open(io.BytesIO(images[-1].data)).size
    assert width > 800 and 300 < height < 620  # with the notebook's cell, it fits on 1,280 x 720
    assert "epoch " not in capsys.readouterr().out and d2l.plt.get_fignums() == []


@pytest.mark.pictures
def test_what_a_page_sees_does_not_change_what_is_learned(
    config, tiny, small_vae, request, tmp_path
):
    def weights(results_dir):
        vae = small_vae()
        fit(vae, tiny, {**config, "epochs": 8, "results_dir": str(tmp_path / results_dir)})
        return get_weights(vae)

    unseen, page = weights("unseen"), request.getfixturevalue("page")
    seen = weights("seen")
    assert len(page.shown[0]) > 2
    for name, array in unseen.items():
        np.testing.assert_array_equal(array, seen[name])


def test_a_page_is_drawn_once_a_second_at_most_and_a_tenth_of_the_time(page, monkeypatch):
    now = [0.0]
    drawn = []

    def draw(curve, title):
        drawn.append(now[0])
        now[0] += 0.5  # a drawing takes half a second
        return [d2l.plt.figure()]

    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.reporting(
        [], 1, 10_000, lambda sums, number: {"loss": sum(sums) / number}, draw
    ) as report:
        while now[0] < 20:
            now[0] += 0.01
            report.batch(1, 1.0)
    assert 3 <= len(drawn) <= 5 and min(np.diff(drawn)) >= 5 - 0.02
    assert drawn[0] == pytest.approx(1, abs=0.02)


def test_an_interrupted_training_leaves_no_image_on_the_page(page):
    with pytest.raises(KeyboardInterrupt), progress.reporting(
        [], 1, 100, lambda sums, number: {"loss": 1.0}, lambda *_: [d2l.plt.figure()]
    ) as report:
        for _ in range(5):
            report.batch(1, 1.0)
        raise KeyboardInterrupt
    assert len(page.shown) == 1 and page.shown[0][-1] == {"text/plain": ""}


def test_other_workers_say_nothing(capfd):
    with progress.reporting([RECORD], 8, 100, dict, rank=1) as report:
        report.batch(1, 1.0)
        report.epoch()
    assert capfd.readouterr() == ("", "")


def test_lines_fit_on_a_page_and_paths_stay_whole():
    path = "/data/" + "long-name/" * 12
    lines = progress.wrapped(f"data: {'digits, ' * 20}from {path} by hand", 6)
    assert lines[0].startswith("data: ") and all(line.startswith(" " * 6) for line in lines[1:])
    assert [line.strip() for line in lines if len(line) > 95] == [path]
    assert " ".join(" ".join(lines).split()) == f"data: {'digits, ' * 20}from {path} by hand"
