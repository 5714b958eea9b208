"""The latent explorer: directions that are what they say, and a page whose controls do what they say (the browser's part: test_browser.py)."""
import dataclasses
import io
import shutil

import ipywidgets
import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import d2lvae
from d2lvae import datasets, drawing_pad, explorer, latents, runs, training
from d2lvae.checkpoints import CheckpointError, net_arrays
import helpers

SMALL = {**explorer.SMALL, "num_train": 256, "epochs": 1}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A VAE and one with a discriminator on digits, a VAE and one with another number of latents on small faces."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "NUM_MEASURED", 20)
        patch.setattr(explorer, "SMALL", SMALL)
        done = []
        explorer.train_small(datasets.drawn_digits(SMALL["num_train"], SMALL["seed"]), str(folder), done.append)
        assert sum(done) == 2 * 256
        faces = datasets.drawn_faces(64, 0, 32)
        for num_latents in (16, 12):
            config = {**SMALL, "disc_weight": 0.0, "results_dir": str(folder), "num_train": 64}
            helpers.fit(d2lvae.ConvVAE(num_latents, 4, (3, 32, 32)), faces, config)
    return folder


def chosen(page, text):
    """Choose the run whose name holds a text."""
    page.net.value = next(folder for name, folder in page.net.options if text in name)
    return page


@pytest.fixture
def page(results):
    return chosen(explorer.Explorer(str(results)), "LogReg")


def shown(page, name):
    return np.asarray(Image.open(io.BytesIO(page.panels[name].image.value)))


def test_finished_runs_and_nothing_else(results, tmp_path):
    names = [folder.parent.name for folder in latents.finished_runs(str(results))]
    assert names == ["ConvVAE_on_drawn_faces"] * 2 + ["DenseVAE_DenseLogReg_on_drawn_digits", "DenseVAE_on_drawn_digits"], "the newest first"
    [whole] = results.glob("**/DenseVAE_on_drawn_digits/*")
    for name, record in (("stopped", '{"finished": false}'), ("broken", "{"), ("other", "[]")):
        folder = tmp_path / "images" / "nets" / name
        shutil.copytree(whole, folder)
        (folder / "metrics.json").write_text(record)
    assert latents.finished_runs(str(tmp_path)) == []


def test_few_latents_are_their_own_directions(results):
    [folder] = results.glob("**/DenseVAE_on_drawn_digits/*")
    trained = latents.load_run(folder)
    found = latents.directions(trained)
    assert found.names == ("latent 1", "latent 2", "latent 3", "latent 4", "latent 5") and trained.discriminator is None
    np.testing.assert_array_equal(found.coordinates(trained.means), trained.means)
    np.testing.assert_allclose(latents.turned(found, trained.means[0], np.array([0, 0, 1.5, 0, 0])) - trained.means[0], [0, 0, 1.5, 0, 0])


def test_principal_directions_of_known_codes():
    """Codes that vary in three directions of twenty, by 5, 3 and 1: found in that order, each one unit a standard deviation, and named by what made them."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((20, 20)))[0][:3]
    causes = np.stack([rng.integers(0, 4, 500), rng.random(500), rng.standard_normal(500)], axis=1)
    standard = np.stack([causes[:, 0] - 1.5, np.cos(2 * np.pi * causes[:, 1]), rng.standard_normal(500)], axis=1)
    standard /= standard.std(axis=0)
    means = 7 + (standard * [5, 3, 1]) @ axes
    pictures = np.zeros((500, 1, 8, 8), np.uint8)
    images = datasets.ImageSet("drawn_faces", pictures, pictures, "", False, causes, causes, ("hair_style", "eye_hue", "chin"))
    trained = latents.Trained(None, d2lvae.DenseVAE(20, 1, 4, (1, 8, 8)), None, images, means, None)
    found = latents.directions(trained)
    assert [name.split(" (")[0] for name in found.names] == ["direction 1: hair style", "direction 2: eye hue", "direction 3"]
    np.testing.assert_allclose(found.scales, [5, 3, 1], rtol=.1)
    np.testing.assert_allclose(np.abs((found.axes * axes).sum(axis=1)), 1, atol=.02)
    coordinates = found.coordinates(means)
    np.testing.assert_allclose(coordinates.std(axis=0), 1)
    np.testing.assert_allclose(found.coordinates(latents.turned(found, means[0], np.array([0, 2.0, 0]))) - coordinates[0], [0, 2, 0], atol=1e-9)


def test_decode_encode_and_verdict_are_the_nets(results):
    [folder] = results.glob("**/DenseVAE_DenseLogReg_on_drawn_digits/*")
    trained = latents.load_run(folder)
    originals = trained.images.validation[:70]
    np.testing.assert_array_equal(latents.decode(trained.vae, latents.encode(trained.vae, originals)), runs.reconstruct(trained.vae, originals))
    real, fake = (latents.verdict(trained.discriminator, *pictures) for pictures in ((originals[0], originals[-15:]), (trained.company[0], trained.company)))
    assert 0 < fake < real < 1
    rows = latents.traversals(trained.vae, latents.directions(trained), trained.means[0], 5, 2.0)
    assert list(rows) == [f"latent {i}" for i in range(1, 6)] and rows["latent 2"].shape == (5, 1, 28, 28)
    there = trained.means[0].copy()
    there[1] = -2.0
    np.testing.assert_array_equal(rows["latent 2"][0], latents.decode(trained.vae, there[None])[0])


@pytest.mark.parametrize("damage, message", [
    (lambda folder: (folder / "metrics.json").write_text("{}"), "metrics.json is no record of a run"),
    (lambda folder: (folder / "vae.npz").unlink(), "vae.npz does not exist"),
    (lambda folder: (folder / "vae.npz").write_bytes((folder / "disc.npz").read_bytes()), "holds a DenseLogReg, not a VAE"),
    (lambda folder: (folder / "metrics.json").write_text('{"config": {"data": "cats", "seed": 0}}'), "names the data set 'cats'; known are MNIST")])
def test_runs_that_cannot_be_loaded(results, tmp_path, damage, message):
    [whole] = results.glob("**/DenseVAE_DenseLogReg_on_drawn_digits/*")
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        latents.load_run(folder)


def test_the_page_shows_a_picture_and_its_reconstructions(page):
    original = page.first[0].images.validation[0]
    np.testing.assert_array_equal(shown(page, "original"), original[0])
    np.testing.assert_array_equal(shown(page, "first"), runs.reconstruct(page.first[0].vae, original[None])[0, 0])
    np.testing.assert_array_equal(shown(page, "second"), runs.reconstruct(page.second[0].vae, original[None])[0, 0])
    assert "DenseVAE_on" in str(page.other.value) and "beside it: VAE<" in page.panels["second"].caption.value
    assert all("taken for real" in panel.caption.value for panel in page.panels.values())
    page.start.value = 3
    np.testing.assert_array_equal(shown(page, "original"), page.first[0].images.validation[3, 0])


def test_a_slider_turns_its_latent_in_both_nets(page):
    page.start.value = 2
    codes = [latents.encode(net.vae, net.images.validation[2:3])[0] for net in (page.first[0], page.second[0])]
    slider = page.sliders.children[1]
    before, slider.value = slider.value, slider.value - 1.25
    for name, net, code in zip(("first", "second"), (page.first[0], page.second[0]), codes):
        code[1] += slider.value - before
        np.testing.assert_array_equal(shown(page, name), latents.decode(net.vae, code[None])[0, 0])
    page.given.value = explorer.SAME
    np.testing.assert_array_equal(shown(page, "second"), latents.decode(page.second[0].vae, codes[0][None])[0, 0])


def draw(page):
    """A seven, on the page's pad."""
    page.pad._down(40, 40)
    for x, y in ((160, 40), (100, 190)):
        page.pad._move(x, y)
    page.pad._up(100, 190)
    return drawing_pad.as_digit(page.pad.strokes)


def test_a_drawing_leaves_the_way_stays_with_the_next_net_and_goes_when_cleared(page):
    page.end.value = 5
    page.way.value = 80
    drawn = draw(page)[0]
    assert page.way.value == 0 and ">the original<" in page.panels["original"].caption.value
    np.testing.assert_array_equal(shown(page, "original"), drawn)
    chosen(page, "bce")
    np.testing.assert_array_equal(shown(page, "original"), drawn)
    np.testing.assert_array_equal(shown(page, "first"), runs.reconstruct(page.first[0].vae, drawn[None, None])[0, 0])
    page.pad.children[1].children[1].click()
    np.testing.assert_array_equal(shown(page, "original"), page.first[0].images.validation[page.start.value, 0])
    for leave in (lambda: setattr(page.way, "value", 30), page._sample, page._begin):
        draw(page)
        leave()
        assert page.pad.strokes == []
    page.way.value = 30
    chosen(page, "LogReg")
    assert page.way.value == 0 and page.end.value == 5 and ">the original<" in page.panels["original"].caption.value


def test_verdicts_belong_to_what_is_shown_and_an_unchanged_original_is_not_judged_again(page, monkeypatch):
    passed, verdict = [], latents.verdict
    monkeypatch.setattr(latents, "verdict", lambda *arguments: passed.append(verdict(*arguments)) or passed[-1])

    def said():
        return [panel.caption.value.split("<b>")[1].split("</b>")[0] for panel in page.panels.values()]

    page.start.value = 4
    assert said() == [f"{sure:.1%}" for sure in passed] and len(passed) == 3
    original, others = passed[0], passed[1:]
    passed.clear()
    page.sliders.children[0].value += 2
    assert len(passed) == 2 and said() == [f"{sure:.1%}" for sure in (original, *passed)] and passed != others
    passed.clear()
    page.start.value = 6
    assert len(passed) == 3 and said() == [f"{sure:.1%}" for sure in passed] and passed[0] != original


def test_a_walk_ends_at_the_other_picture_and_a_sample_belongs_to_none(page):
    page.end.value = 5
    net, (start, end) = page.first[0], page.first[0].means[[0, 5]]
    for way, codes in ((100, end), (30, 0.7 * start + 0.3 * end)):
        page.way.value = way
        np.testing.assert_array_equal(shown(page, "first"), latents.decode(net.vae, codes[None])[0, 0])
    assert "the nearer end" in page.panels["original"].caption.value
    page._sample()
    assert page.panels["original"].layout.display == "none" and page.panels["first"].layout.display == ""
    page._begin()
    assert page.panels["original"].layout.display == "" and page.way.value == 0


def test_a_verdict_is_passed_as_in_training(tiny_faces):
    """With BatchNorm a picture is judged by the statistics of those beside it; the running ones are neither used nor moved."""
    disc = d2lvae.ConvDisc(4, (3, 32, 32))
    training.initialize(disc, 0)
    before = net_arrays(disc)
    pictures = tiny_faces.validation[:16]
    with mx.autograd.record(train_mode=True):
        expected = disc(mx.nd.array(pictures).astype("float32") / 255).sigmoid().asnumpy()[0]
    found = [latents.verdict(disc, pictures[0], company) for company in (pictures[1:], pictures[1:] * 0)]
    assert found[0] == pytest.approx(expected, rel=1e-5) and found[1] != pytest.approx(expected, rel=1e-3)
    after = net_arrays(disc)
    assert all((before[name] == after[name]).all() for name in before)


def test_faces_have_no_pad_and_nets_of_other_sizes_get_the_picture_only(page):
    assert page.pad.layout.display == ""
    chosen(page, "16_4")
    assert page.pad.layout.display == "none" and len(page.sliders.children) == 8 and shown(page, "first").shape == (32, 32, 3)
    assert "taken for real" not in page.panels["first"].caption.value, "there is no discriminator"
    page.other.value = next(folder for name, folder in page.other.options if "12_4" in name)
    assert shown(page, "second").shape == (32, 32, 3) and not page.message.value
    page.given.value = explorer.SAME
    assert "different numbers of latents" in page.message.value and page.panels["second"].layout.display == "none"


def test_a_run_that_cannot_be_shown_says_why(results, tmp_path):
    shutil.copytree(results, tmp_path / "copy")
    page = explorer.Explorer(str(tmp_path / "copy"))
    [folder] = (tmp_path / "copy").glob("**/DenseVAE_on_drawn_digits/*")
    (folder / "vae.npz").write_bytes(b"no net")
    chosen(page, "DenseVAE on")
    assert "cannot be shown" in page.message.value and "vae.npz" in page.message.value
    chosen(page, "LogReg")
    assert not page.message.value or "beside" in page.message.value


def test_without_a_run_it_trains_and_shows_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "SMALL", {**SMALL, "num_train": 128})
    monkeypatch.setattr(runs, "NUM_MEASURED", 20)
    bars, make = [], ipywidgets.IntProgress
    monkeypatch.setattr(explorer.widgets, "IntProgress", lambda **options: bars.append(make(**options)) or bars[0])
    page = explorer.Explorer(str(tmp_path))
    assert bars[0].value == bars[0].max == 2 * 128 and bars[0] not in page.children and len(page.net.options) == 2 and len(list(tmp_path.glob("explorer/images/*/*/vae.npz"))) == 2


def test_where_another_page_is_training_it_waits_and_trains_only_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "SMALL", {**SMALL, "num_train": 128})
    monkeypatch.setattr(runs, "NUM_MEASURED", 20)
    monkeypatch.setattr(explorer, "WAIT", 0)
    tried, trained, fit = [], [], runs.fit

    def fit_or_busy(vae, images, config, disc, progress):
        tried.append(disc)
        if len(tried) == 2:
            raise explorer.RunBusy("is being written by another run")
        trained.append(disc)
        return fit(vae, images, config, disc, progress)

    monkeypatch.setattr(runs, "fit", fit_or_busy)
    page = explorer.Explorer(str(tmp_path))
    assert [disc is None for disc in tried] == [True, False, False] and len(trained) == 2 and len(page.net.options) == 2


def test_the_lock_of_another_run_is_a_busy_run(tmp_path, results):
    from d2lvae.files import alone
    images = datasets.drawn_digits(32, 0)
    config = {**SMALL, "num_train": 32, "disc_weight": 0.0, "results_dir": str(tmp_path)}
    vae = d2lvae.DenseVAE(5, 1, 8, images.image_shape)
    folder = helpers.run_folder(vae, images, config)
    folder.mkdir(parents=True)
    with alone(folder / ".lock"), pytest.raises(explorer.RunBusy, match="is being written by another run"):
        helpers.fit(vae, images, config)


def test_behind_a_server_it_trains_in_the_background(tmp_path, monkeypatch):
    called = []
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    monkeypatch.setattr(explorer.threading, "Thread", lambda target, daemon: called.append(target) or dataclasses.make_dataclass("T", [])())
    with pytest.raises(AttributeError, match="start"):
        explorer.Explorer(str(tmp_path))
    assert called


def test_strokes_become_a_digit_like_mnists():
    assert not drawing_pad.as_digit([]).any()
    one = drawing_pad.as_digit([[(300, 10), (300, 900)]])
    assert one.shape == (1, 28, 28) and one.dtype == np.uint8
    rows, columns = np.nonzero(one[0])
    assert rows.max() - rows.min() + 1 == 20 and 1 <= columns.max() - columns.min() + 1 <= 4, "20 high, and a line is thin"
    square = drawing_pad.as_digit([[(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)]])[0]
    assert all(20 <= extent.max() - extent.min() + 1 <= 21 for extent in np.nonzero(square)) and not square[8:20, 8:20].any(), "a frame that is empty within"
    centre = [np.average(np.arange(28), weights=drawing_pad.as_digit([[(0, 0), (50, 0), (10, 99)]])[0].sum(axis=axis)) for axis in (0, 1)]
    np.testing.assert_allclose(centre, 13.5, atol=.6)
    assert drawing_pad.as_digit([[(5, 5)]]).any(), "a dot"


def test_a_digit_with_most_of_its_ink_on_one_side_does_not_leave_the_picture():
    """A seven whose bar was gone over several times: its centre of mass cannot come to the middle."""
    bars = [[(20, y), (190, y)] for y in (20, 26, 32, 40)]
    for strokes, edge in ((bars + [[(120, 40), (70, 200)]], -1), ([[(x, -y) for x, y in stroke] for stroke in bars + [[(120, 40), (70, 200)]]], 0)):
        digit = drawing_pad.as_digit(strokes)[0]
        rows = np.flatnonzero(digit.any(axis=1))
        assert 20 <= len(rows) <= 21 and (np.diff(rows) == 1).all(), "in one piece"
        assert rows[edge] == (27 if edge else 0) and abs(np.average(np.arange(28), weights=digit.sum(axis=1)) - 13.5) > 0.5


def test_the_pad_reports_each_stroke_and_forgets_when_cleared():
    pictures, cleared = [], []
    pad = drawing_pad.DrawingPad(200, pictures.append, lambda: cleared.append(1))
    pad._move(5, 5)
    pad._down(20, 20)
    pad._move(100, 20)
    pad._up(100, 20)
    pad._up(100, 20)
    assert len(pictures) == 1 and pad.strokes == [[(20, 20), (100, 20)]]
    pad.clear()
    assert pad.strokes == [] and cleared == []
    pad._down(20, 20)
    pad.children[1].children[1].click()
    assert pad.strokes == [] and cleared == [1]
