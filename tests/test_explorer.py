"""The latent explorer: its directions, and what each control of the page does.

What needs a browser is in test_browser.py.
"""

import dataclasses
import io
import json
import os
import pathlib
import shutil

import d2lvae
import helpers
import ipywidgets
import mxnet as mx
import nbformat
import numpy as np
import papermill
import pytest
from d2lvae import data as datasets
from d2lvae import runs
from d2lvae.demo import drawing_pad, explorer, latents, saved_runs, small_runs
from d2lvae.storage import files
from d2lvae.storage.files import CheckpointError
from d2lvae.storage.nets import get_weights
from PIL import Image

SMALL = {**small_runs.SMALL, "num_train": 256, "epochs": 1}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A VAE and one with a discriminator on digits, a VAE and one with another number of latents on small faces."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_runs, "SMALL", SMALL)
        done = []
        small_runs.train_small(str(folder), done.append, pytest.fail)
        assert sum(done) == 2 * 256
        faces = datasets.drawn_faces(64, 0, 32)
        for num_latents in (16, 12):
            config = {**SMALL, "disc_weight": 0.0, "results_dir": str(folder), "num_train": 64}
            helpers.fit(d2lvae.ConvVAE(num_latents, 4, (3, 32, 32)), faces, config)
    return folder


def begun(net):
    d2lvae.initialize(net, 0)
    return net


def rewrite(path, change=lambda array: array, net=None):
    """Change every array of a net's file, or the name of its class."""
    arrays, record = files.read_arrays(path)
    if net is not None:
        record["config"]["net"] = net
    files.write_arrays(path, {name: change(array) for name, array in arrays.items()}, record)


def a_run(folder, vae, images, seed=0):
    """A finished run's files as the explorer reads them, without a training."""
    folder.mkdir(parents=True)
    d2lvae.save_net(folder / "vae.npz", begun(vae))
    config = {"data": images.name, "data_sha256": images.sha256(), "seed": seed, "vae": vae.config}
    record = {"finished": True, "config": config, "data": {"num_train": len(images.train)}}
    (folder / "metrics.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def mine():
    """A set of the user's own, in colour: 40 images for training, 20 for validation."""
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 16, 16), np.uint8)
    return datasets.ImageSet("mine", images[20:], images[:20], "a user's own", True)


@pytest.fixture
def own_results(mine, tmp_path):
    """Two nets, of 12 and of 5 latents, trained on the user's own set."""
    for num_latents in (5, 12):
        vae = d2lvae.DenseVAE(num_latents, 1, 16, mine.image_shape)
        a_run(tmp_path / "own" / "images" / "DenseVAE_on_mine" / str(num_latents), vae, mine)
    return tmp_path


def make_newest(folder):
    """Make a run the one that the explorer begins with."""
    later = max(path.stat().st_mtime for path in folder.parents[2].glob("**/vae.npz")) + 10
    os.utime(folder / "vae.npz", (later, later))


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
    names = [folder.parent.name for folder in saved_runs.finished_runs(str(results))]
    assert names == ["ConvVAE_on_drawn_faces"] * 2 + [
        "DenseVAE_DenseLogReg_on_drawn_digits",
        "DenseVAE_on_drawn_digits",
    ], "the newest first"
    [whole] = results.glob("**/DenseVAE_on_drawn_digits/*")
    for name, record in (("stopped", '{"finished": false}'), ("broken", "{"), ("other", "[]")):
        folder = tmp_path / "images" / "nets" / name
        shutil.copytree(whole, folder)
        (folder / "metrics.json").write_text(record)
    assert saved_runs.finished_runs(str(tmp_path)) == []


def test_few_latents_are_their_own_directions(results):
    [folder] = results.glob("**/DenseVAE_on_drawn_digits/*")
    trained = saved_runs.load_run(folder)
    found = trained.directions
    assert (
        found.names == ("latent 1", "latent 2", "latent 3", "latent 4", "latent 5")
        and trained.discriminator is None
    )
    assert trained.notes == [], "its record's checksum is that of the images drawn anew"
    np.testing.assert_array_equal(found.coordinates(trained.means), trained.means)
    np.testing.assert_allclose(
        found.traverse(trained.means[0], np.array([0, 0, 1.5, 0, 0])) - trained.means[0],
        [0, 0, 1.5, 0, 0],
    )


def test_principal_directions_of_known_codes():
    """Codes that vary in three directions of twenty, by 5, 3 and 1: found in that order, each one unit a standard deviation, and named by what made them."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((20, 20)))[0][:3]
    causes = np.stack([rng.integers(0, 4, 500), rng.random(500), rng.standard_normal(500)], axis=1)
    standard = np.stack(
        [causes[:, 0] - 1.5, np.cos(2 * np.pi * causes[:, 1]), rng.standard_normal(500)], axis=1
    )
    standard /= standard.std(axis=0)
    means = 7 + (standard * [5, 3, 1]) @ axes
    black, names = np.zeros((500, 1, 8, 8), np.uint8), ("hair_style", "eye_hue", "chin")
    images = datasets.ImageSet("drawn_faces", black, black, "", False, causes, causes, names)
    found = latents.find_directions(d2lvae.DenseVAE(20, 1, 4, (1, 8, 8)), means, images)
    assert [name.split(" (")[0] for name in found.names] == [
        "direction 1: hair style",
        "direction 2: eye hue",
        "direction 3",
    ]
    np.testing.assert_allclose(found.scales, [5, 3, 1], rtol=0.1)
    np.testing.assert_allclose(np.abs((found.axes * axes).sum(axis=1)), 1, atol=0.02)
    coordinates = found.coordinates(means)
    np.testing.assert_allclose(coordinates.std(axis=0), 1)
    np.testing.assert_allclose(
        found.coordinates(found.traverse(means[0], np.array([0, 2.0, 0]))) - coordinates[0],
        [0, 2, 0],
        atol=1e-9,
    )


def test_decode_encode_and_probability_are_the_nets(results):
    [folder] = results.glob("**/DenseVAE_DenseLogReg_on_drawn_digits/*")
    trained = saved_runs.load_run(folder)
    originals = trained.images.validation[:70]
    np.testing.assert_array_equal(
        latents.decode(trained.vae, latents.encode(trained.vae, originals)),
        runs.reconstruct(trained.vae, originals),
    )
    real, fake = (
        latents.probability_real(trained.discriminator, *images)
        for images in (
            (originals[0], originals[-15:]),
            (trained.reconstructions[0], trained.reconstructions),
        )
    )
    assert 0 < fake < real < 1
    rows = latents.traversals(trained.vae, trained.directions, trained.means[0], 5, 2.0)
    assert list(rows) == [f"latent {i}" for i in range(1, 6)] and rows["latent 2"].shape == (
        5,
        1,
        28,
        28,
    )
    there = trained.means[0].copy()
    there[1] = -2.0
    np.testing.assert_array_equal(rows["latent 2"][0], latents.decode(trained.vae, there[None])[0])


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda folder: (folder / "metrics.json").write_text("{}"),
            "metrics.json is no record of a run",
        ),
        (lambda folder: (folder / "vae.npz").unlink(), "vae.npz does not exist"),
        (lambda folder: (folder / "metrics.json").unlink(), "metrics.json is no record of a run"),
        (
            lambda folder: (folder / "vae.npz").write_bytes((folder / "disc.npz").read_bytes()),
            "holds a DenseLogReg, not a VAE",
        ),
        (
            lambda folder: (folder / "disc.npz").write_bytes((folder / "vae.npz").read_bytes()),
            "disc.npz holds no discriminator .* but a DenseVAE",
        ),
        (
            lambda folder: d2lvae.save_net(
                folder / "disc.npz", begun(d2lvae.DenseLogReg(1, 8, (1, 14, 14)))
            ),
            "disc.npz holds no discriminator of images of 1 x 28 x 28",
        ),
        (
            lambda folder: rewrite(folder / "vae.npz", lambda array: array * np.nan),
            "vae.npz: not all numbers in .* are finite",
        ),
        (
            lambda folder: rewrite(folder / "vae.npz", lambda array: array * 1e15),
            "vae.npz: not all that it computes is finite",
        ),
        (
            lambda folder: rewrite(folder / "disc.npz", lambda array: array * np.nan),
            "disc.npz: not all numbers in .* are finite",
        ),
        (lambda folder: rewrite(folder / "vae.npz", net="MyVAE"), "unknown net 'MyVAE'"),
    ],
)
def test_runs_that_cannot_be_loaded(results, tmp_path, damage, message):
    [whole] = results.glob("**/DenseVAE_DenseLogReg_on_drawn_digits/*")
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        saved_runs.load_run(folder)


def test_the_page_shows_an_image_and_its_reconstructions(page):
    original = page.first.images.validation[0]
    np.testing.assert_array_equal(shown(page, "original"), original[0])
    np.testing.assert_array_equal(
        shown(page, "first"), runs.reconstruct(page.first.vae, original[None])[0, 0]
    )
    np.testing.assert_array_equal(
        shown(page, "second"), runs.reconstruct(page.second.vae, original[None])[0, 0]
    )
    assert (
        "DenseVAE_on" in str(page.other.value)
        and "beside it: VAE<" in page.panels["second"].caption.value
    )
    assert all("taken for real" in panel.caption.value for panel in page.panels.values())
    page.start.value = 3
    np.testing.assert_array_equal(shown(page, "original"), page.first.images.validation[3, 0])


def test_a_slider_moves_its_latent_in_both_nets(page):
    page.start.value = 2
    codes = [
        latents.encode(net.vae, net.images.validation[2:3])[0] for net in (page.first, page.second)
    ]
    slider = page.sliders.children[1]
    before, slider.value = slider.value, slider.value - 1.25
    for name, net, code in zip(("first", "second"), (page.first, page.second), codes):
        code[1] += slider.value - before
        np.testing.assert_array_equal(shown(page, name), latents.decode(net.vae, code[None])[0, 0])
    page.given.value = explorer.SAME
    np.testing.assert_array_equal(
        shown(page, "second"), latents.decode(page.second.vae, codes[0][None])[0, 0]
    )


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
    np.testing.assert_array_equal(
        shown(page, "first"), runs.reconstruct(page.first.vae, drawn[None, None])[0, 0]
    )
    page.pad.children[1].children[1].click()
    np.testing.assert_array_equal(
        shown(page, "original"), page.first.images.validation[page.start.value, 0]
    )
    for leave in (lambda: setattr(page.way, "value", 30), page._sample, page._begin):
        draw(page)
        leave()
        assert page.pad.strokes == []
    page.way.value = 30
    chosen(page, "LogReg")
    assert (
        page.way.value == 0
        and page.end.value == 5
        and ">the original<" in page.panels["original"].caption.value
    )


def test_probabilities_are_those_of_the_images_shown_and_an_unchanged_original_keeps_its_own(
    page, monkeypatch
):
    found, compute = [], latents.probability_real
    monkeypatch.setattr(
        latents, "probability_real", lambda *args: found.append(compute(*args)) or found[-1]
    )

    def shown_and_found():
        captions = [panel.caption.value for panel in page.panels.values()]
        shown = [caption.split("<b>")[1].split("</b>")[0] for caption in captions]
        values = found.copy()
        found.clear()
        return shown, values

    def percent(*values):
        return [f"{value:.1%}" for value in values]

    page.start.value = 4
    texts, (original, *others) = shown_and_found()
    assert texts == percent(original, *others) and len(others) == 2
    page.sliders.children[0].value += 2
    texts, moved = shown_and_found()
    assert texts == percent(original, *moved) and len(moved) == 2 and moved != others
    page.start.value = 6
    texts, values = shown_and_found()
    assert texts == percent(*values) and len(values) == 3 and values[0] != original


def test_a_walk_ends_at_the_other_image_and_a_sample_belongs_to_none(page):
    page.end.value = 5
    net, (start, end) = page.first, page.first.means[[0, 5]]
    for way, codes in ((100, end), (30, 0.7 * start + 0.3 * end)):
        page.way.value = way
        np.testing.assert_array_equal(
            shown(page, "first"), latents.decode(net.vae, codes[None])[0, 0]
        )
    assert "the nearer end" in page.panels["original"].caption.value
    page._sample()
    assert (
        page.panels["original"].layout.display == "none"
        and page.panels["first"].layout.display == ""
    )
    page._begin()
    assert page.panels["original"].layout.display == "" and page.way.value == 0


def test_a_probability_is_computed_as_in_training(tiny_faces):
    """BatchNorm takes the minibatch's statistics; the running ones are neither used nor moved."""
    disc = d2lvae.ConvDisc(4, (3, 32, 32))
    d2lvae.initialize(disc, 0)
    before = get_weights(disc)
    images = tiny_faces.validation[:16]
    with mx.autograd.record(train_mode=True):
        expected = disc(mx.nd.array(images).astype("float32") / 255).sigmoid().asnumpy()[0]
    found = [
        latents.probability_real(disc, images[0], company)
        for company in (images[1:], images[1:] * 0)
    ]
    assert found[0] == pytest.approx(expected, rel=1e-5) and found[1] != pytest.approx(
        expected, rel=1e-3
    )
    after = get_weights(disc)
    assert all((before[name] == after[name]).all() for name in before)


def test_faces_have_no_pad_and_nets_of_other_sizes_get_the_image_only(page):
    assert page.pad.layout.display == ""
    chosen(page, "16_4")
    assert (
        page.pad.layout.display == "none"
        and len(page.sliders.children) == 8
        and shown(page, "first").shape == (32, 32, 3)
    )
    assert "taken for real" not in page.panels["first"].caption.value, "there is no discriminator"
    page.other.value = next(folder for name, folder in page.other.options if "12_4" in name)
    assert shown(page, "second").shape == (32, 32, 3) and not page.message.value
    page.given.value = explorer.SAME
    assert (
        "different numbers of latents" in page.message.value
        and page.panels["second"].layout.display == "none"
    )


def test_a_run_that_cannot_be_shown_says_why(results, tmp_path):
    shutil.copytree(results, tmp_path / "copy")
    page = explorer.Explorer(str(tmp_path / "copy"))
    before = page.net.value
    [folder] = (tmp_path / "copy").glob("**/DenseVAE_on_drawn_digits/*")
    (folder / "vae.npz").write_bytes(b"no net")
    chosen(page, "DenseVAE on")
    assert "cannot be shown" in page.message.value and "vae.npz" in page.message.value
    assert page.net.value == before == page.first.folder, "the one that is shown"
    assert "vae.npz" in page.problems.value and list(page.reasons) == [folder]
    chosen(page, "LogReg")
    assert not page.message.value and page.other.value is None and page.first.folder != before
    page.other.value = folder
    assert "beside" in page.message.value and "vae.npz" in page.message.value


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "vae.npz").write_bytes(b"no net"),
        lambda folder: rewrite(folder / "vae.npz", lambda array: array * np.nan),
        lambda folder: rewrite(folder / "vae.npz", net="MyVAE"),
        lambda folder: (folder / "metrics.json").write_text('{"finished": true}'),
    ],
)
def test_a_bad_newest_run_leaves_the_others_usable(results, tmp_path, damage):
    shutil.copytree(results, tmp_path / "copy")
    newest, next_one = saved_runs.finished_runs(tmp_path / "copy")[:2]
    damage(newest)
    page = explorer.Explorer(str(tmp_path / "copy"))
    assert page.first.folder == page.net.value == next_one and list(page.reasons) == [newest]
    assert (
        "1 run that cannot be shown" in page.problems.value and newest.name in page.problems.value
    )
    assert newest in dict(page.net.options).values()
    chosen(page, "LogReg")
    assert shown(page, "first").shape == (28, 28)


def test_an_error_of_a_users_own_net_is_the_reason_of_that_run_only(results, monkeypatch, capsys):
    newest, load = saved_runs.finished_runs(results)[0], saved_runs.load_net

    def load_net(path):
        if path.parent == newest:
            raise ZeroDivisionError("in <MyVAE>")
        return load(path)

    monkeypatch.setattr(saved_runs, "load_net", load_net)
    page = explorer.Explorer(str(results))
    assert page.reasons == {newest: "ZeroDivisionError: in <MyVAE>"} and page.first is not None
    assert "in &lt;MyVAE&gt;" in page.problems.value and "Traceback" in capsys.readouterr().err


def test_a_collapsed_newest_run_is_shown_with_a_note(results, tmp_path):
    """All of its many latents are the same for all images: no principal direction is left."""
    shutil.copytree(results, tmp_path / "copy")
    digits = datasets.drawn_digits(32, 0)
    path = tmp_path / "copy" / "images" / "DenseVAE_on_drawn_digits" / "20"
    folder = a_run(path, d2lvae.DenseVAE(20, 1, 8), digits)
    rewrite(folder / "vae.npz", lambda array: array * (array.shape != (8, 784)))
    make_newest(folder)
    page = explorer.Explorer(str(tmp_path / "copy"))
    assert page.first.folder == folder and "has collapsed" in page.notes.value
    before = shown(page, "first")
    names = [slider.description for slider in page.sliders.children]
    assert len(names) == 8 and all(name.startswith("latent ") for name in names)
    page.sliders.children[0].value = 3
    assert (shown(page, "first") != before).any()
    chosen(page, "LogReg").other.value = folder
    assert "Beside it:" in page.notes.value and "has collapsed" in page.notes.value
    page.other.value = None
    assert not page.notes.value and len(page.sliders.children) == 5


def test_one_validation_image_is_no_collapse(tmp_path, mine):
    one = dataclasses.replace(mine, validation=mine.validation[:1])
    trained = saved_runs.load_run(
        a_run(tmp_path / "run", d2lvae.DenseVAE(12, 1, 16, (3, 16, 16)), one), one
    )
    assert trained.notes == [] and len(trained.directions.names) == 8


def test_single_latents_are_those_that_change_the_image_most(tmp_path, mine):
    vae = d2lvae.DenseVAE(12, 0, 16, mine.image_shape)
    folder = a_run(tmp_path / "run", vae, mine)
    dead = [0, 4, 5, 9]

    def silence(array):
        if array.shape[1:] == (12,):  # of the decoder's first layer
            array[:, dead] = 0
        return array

    rewrite(folder / "vae.npz", silence)
    found = saved_runs.load_run(folder).directions
    assert found.names == tuple(f"latent {i + 1}" for i in range(12) if i not in dead)


def test_a_set_of_the_users_own_is_shown_without_its_images(own_results):
    page = explorer.Explorer(str(own_results))
    trained = chosen(page, "12").first
    assert trained.images is None and not page.reasons and not trained.means[0].any()
    assert "'mine'" in page.notes.value and "Explorer(images=...)" in page.notes.value
    assert page.panels["original"].layout.display == "none" and len(page.sliders.children) == 8
    assert all(slider.value == 0 for slider in page.sliders.children)
    centre = latents.decode(trained.vae, np.zeros((1, 12)))[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(shown(page, "first"), centre)
    page.start.value, page.end.value, page.way.value = 3, 4, 25
    half_way = latents.interpolate(*trained.means[3:5], 0.25)[None]
    np.testing.assert_array_equal(
        shown(page, "first"), latents.decode(trained.vae, half_way)[0].transpose(1, 2, 0)
    )
    page._sample()
    page._begin()
    page.other.value = next(folder for name, folder in page.other.options if ": 5 " in name)
    assert (
        "different numbers of latents" in page.message.value
        and page.panels["second"].layout.display == "none"
    )


def test_images_handed_in_are_shown_and_compared_with_the_record(own_results, mine):
    page = chosen(explorer.Explorer(str(own_results), mine), "12")
    assert page.first.images is mine and not page.notes.value
    np.testing.assert_array_equal(shown(page, "original"), mine.validation[0].transpose(1, 2, 0))
    page.other.value = next(folder for name, folder in page.other.options if ": 5 " in name)
    assert shown(page, "second").shape == (16, 16, 3)
    others = dataclasses.replace(mine, train=255 - mine.train)
    page = chosen(explorer.Explorer(str(own_results), others), "12")
    assert "not the images that this net was trained on" in page.notes.value
    whole = dataclasses.replace(mine, train=np.concatenate([mine.train, mine.train]))
    folder = page.net.value
    assert saved_runs.load_run(folder, whole).notes == [], "the first 40 are those of the record"
    small = dataclasses.replace(
        mine, train=mine.train[..., :8, :8], validation=mine.validation[..., :8, :8]
    )
    with pytest.raises(datasets.DataError, match="mine are 3 x 8 x 8 .* 3 x 16 x 16"):
        saved_runs.load_run(folder, small)
    page = explorer.Explorer(str(own_results.parent / own_results.name / "own"), mine)
    assert all("(in" not in name for name, _ in page.net.options)


def test_images_added_to_the_faces_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path))
    (tmp_path / "anime").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (26, 32, 32, 3), np.uint8)

    def add(numbers):
        for i in numbers:
            Image.fromarray(noise[i]).save(tmp_path / "anime" / f"{i}.png")

    add(range(25))
    faces = datasets.real_faces(tmp_path / "anime", 0, 32).first(10)
    folder = a_run(
        tmp_path / "images" / "ConvVAE_on_anime" / "1", d2lvae.ConvVAE(4, 2, (3, 32, 32)), faces
    )
    trained = saved_runs.load_run(folder)
    assert trained.notes == [] and len(trained.images.train) == 20, "with num_train 10"
    add([25])
    assert (
        "not the images that this net was trained on"
        in explorer.Explorer(str(tmp_path)).notes.value
    )
    shutil.rmtree(tmp_path / "anime")
    trained = saved_runs.load_run(folder)
    assert trained.images is None and "no images" in trained.notes[0]


def test_images_of_another_size_than_the_nets_are_left_out(tmp_path, mine):
    """A set of the user's own that is named like a known one."""
    digits = dataclasses.replace(mine, name="drawn_digits")
    trained = saved_runs.load_run(
        a_run(tmp_path / "run", d2lvae.DenseVAE(5, 1, 16, (3, 16, 16)), digits)
    )
    assert trained.images is None and "1 x 28 x 28 here" in trained.notes[0]


def test_nets_of_images_of_other_sizes_do_not_stand_side_by_side(own_results, mine):
    small = dataclasses.replace(
        mine, train=mine.train[..., :8, :8], validation=mine.validation[..., :8, :8]
    )
    path = own_results / "own" / "images" / "DenseVAE_on_mine" / "small"
    folder = a_run(path, d2lvae.DenseVAE(5, 1, 16, (3, 8, 8)), small)
    page = chosen(explorer.Explorer(str(own_results)), "12")
    assert [name for name, _ in page.other.options] == [
        "no other net",
        "DenseVAE on mine: 5 (in own)",
    ]
    record = json.loads((folder / "metrics.json").read_text())
    record["config"]["vae"]["image_shape"] = [3, 16, 16]  # against what the net is
    (folder / "metrics.json").write_text(json.dumps(record))
    page = chosen(explorer.Explorer(str(own_results)), "12")
    page.other.value = folder
    assert "images of another size" in page.message.value and page.second is None


def test_images_of_four_channels_are_a_reason(own_results):
    images = np.zeros((9, 4, 16, 16), np.uint8)
    four = datasets.ImageSet("four", images, images, "", False)
    path = own_results / "own" / "images" / "DenseVAE_on_four" / "5"
    folder = a_run(path, d2lvae.DenseVAE(5, 1, 16, four.image_shape), four)
    make_newest(folder)
    page = explorer.Explorer(str(own_results), four)
    assert "4 channels" in page.reasons[folder] and "mine" in page.first.folder.parent.name


def test_runs_of_one_name_in_two_places_are_both_listed(own_results):
    [folder] = own_results.glob("own/images/*/12")
    shutil.copytree(folder, own_results / "images" / "DenseVAE_on_mine" / "12")
    page = explorer.Explorer(str(own_results))
    assert [name for name, _ in page.net.options] == [
        "DenseVAE on mine: 12",
        "DenseVAE on mine: 12 (in own)",
        "DenseVAE on mine: 5 (in own)",
    ]


def test_a_studys_runs_are_left_out_wherever_the_project_is(own_results, tmp_path):
    [folder] = own_results.glob("own/images/*/12")
    project = tmp_path / "study" / "results"
    for place in ("own", "study/runs/x"):
        shutil.copytree(folder, project / place / "images" / "DenseVAE_on_mine" / "12")
    assert saved_runs.finished_runs(project) == [
        project / "own" / "images" / "DenseVAE_on_mine" / "12"
    ]


def test_by_default_the_whole_results_of_the_project_are_searched(own_results, monkeypatch):
    (own_results / "results").mkdir()
    shutil.move(own_results / "own", own_results / "results" / "own")
    (own_results / "environment.yml").touch()
    (own_results / "notebooks").mkdir()
    monkeypatch.chdir(own_results / "notebooks")
    assert {folder.name for folder in saved_runs.finished_runs("")} == {"12", "5"}


def test_where_no_run_can_be_shown_small_ones_are_trained(results, tmp_path, monkeypatch):
    monkeypatch.setattr(small_runs, "SMALL", SMALL)
    shutil.copytree(results / "explorer", tmp_path / "explorer")
    for net in tmp_path.glob("**/vae.npz"):
        net.write_bytes(b"no net")
    with monkeypatch.context() as patch:
        patch.setattr(small_runs, "train_small", lambda *_: None)
        page = explorer.Explorer(str(tmp_path))
    assert page.first is None and len(page.reasons) == 2
    assert "2 runs that cannot be shown" in page.problems.value and page.problems in page.children
    page = explorer.Explorer(str(tmp_path))
    assert page.first is not None and page.second is not None and not page.problems.value


@pytest.mark.slow
def test_opened_as_a_page_of_all_cells_without_a_run_it_ends_without_an_error(
    tmp_path, monkeypatch
):
    """As JupyterLab's button for a preview does it: the page trains in the background."""
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    notebook = pathlib.Path(__file__).parent.parent / "notebooks" / "latent_explorer.ipynb"
    papermill.execute_notebook(
        notebook,
        tmp_path / "out.ipynb",
        {"results_dir": str(tmp_path / "results")},
        progress_bar=False,
    )
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [
        output
        for output in outputs
        if output.output_type in ("error", "display_data")
        and "image/png" in output.get("data", {"image/png": 0})
    ]


def test_without_a_run_it_trains_and_shows_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(small_runs, "SMALL", {**SMALL, "num_train": 128})
    bars, make = [], ipywidgets.IntProgress
    monkeypatch.setattr(
        explorer.widgets, "IntProgress", lambda **options: bars.append(make(**options)) or bars[0]
    )
    page = explorer.Explorer(str(tmp_path))
    assert (
        bars[0].value == bars[0].max == 2 * 128
        and bars[0] not in page.children
        and len(page.net.options) == 2
        and len(list(tmp_path.glob("explorer/images/*/*/vae.npz"))) == 2
    )


def test_where_another_page_is_training_it_waits_and_trains_only_what_is_missing(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(small_runs, "SMALL", {**SMALL, "num_train": 128})
    monkeypatch.setattr(small_runs, "WAIT", 0)
    tried, trained, fit = [], [], runs.fit

    def fit_or_busy(vae, images, config, disc, progress):
        tried.append(disc)
        if len(tried) == 2:
            raise small_runs.RunBusy("is being written by another run")
        trained.append(disc)
        return fit(vae, images, config, disc, progress)

    monkeypatch.setattr(runs, "fit", fit_or_busy)
    page = explorer.Explorer(str(tmp_path))
    assert (
        [disc is None for disc in tried] == [True, False, False]
        and len(trained) == 2
        and len(page.net.options) == 2
    )


def test_the_lock_of_another_run_is_a_busy_run(tmp_path, results):
    from d2lvae.storage.files import file_lock

    images = datasets.drawn_digits(32, 0)
    config = {**SMALL, "num_train": 32, "disc_weight": 0.0, "results_dir": str(tmp_path)}
    vae = d2lvae.DenseVAE(5, 1, 8, images.image_shape)
    folder = helpers.run_folder(vae, images, config)
    folder.mkdir(parents=True)
    with file_lock(folder / ".lock"), pytest.raises(
        small_runs.RunBusy, match="is being written by another run"
    ):
        helpers.fit(vae, images, config)


def test_behind_a_server_it_trains_in_the_background(tmp_path, monkeypatch):
    called = []
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    monkeypatch.setattr(
        explorer.threading,
        "Thread",
        lambda target, daemon: called.append(target) or dataclasses.make_dataclass("T", [])(),
    )
    with pytest.raises(AttributeError, match="start"):
        explorer.Explorer(str(tmp_path))
    assert called


def test_strokes_become_a_digit_like_mnists():
    assert not drawing_pad.as_digit([]).any()
    one = drawing_pad.as_digit([[(300, 10), (300, 900)]])
    assert one.shape == (1, 28, 28) and one.dtype == np.uint8
    rows, columns = np.nonzero(one[0])
    assert (
        rows.max() - rows.min() + 1 == 20 and 1 <= columns.max() - columns.min() + 1 <= 4
    ), "20 high, and a line is thin"
    square = drawing_pad.as_digit([[(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)]])[0]
    assert (
        all(20 <= extent.max() - extent.min() + 1 <= 21 for extent in np.nonzero(square))
        and not square[8:20, 8:20].any()
    ), "a frame that is empty within"
    centre = [
        np.average(
            np.arange(28),
            weights=drawing_pad.as_digit([[(0, 0), (50, 0), (10, 99)]])[0].sum(axis=axis),
        )
        for axis in (0, 1)
    ]
    np.testing.assert_allclose(centre, 13.5, atol=0.6)
    assert drawing_pad.as_digit([[(5, 5)]]).any(), "a dot"


def test_a_digit_with_most_of_its_ink_on_one_side_does_not_leave_the_image():
    """A seven whose bar was gone over several times: its centre of mass cannot come to the middle."""
    bars = [[(20, y), (190, y)] for y in (20, 26, 32, 40)]
    for strokes, edge in (
        (bars + [[(120, 40), (70, 200)]], -1),
        ([[(x, -y) for x, y in stroke] for stroke in bars + [[(120, 40), (70, 200)]]], 0),
    ):
        digit = drawing_pad.as_digit(strokes)[0]
        rows = np.flatnonzero(digit.any(axis=1))
        assert 20 <= len(rows) <= 21 and (np.diff(rows) == 1).all(), "in one piece"
        assert (
            rows[edge] == (27 if edge else 0)
            and abs(np.average(np.arange(28), weights=digit.sum(axis=1)) - 13.5) > 0.5
        )


def test_the_pad_reports_each_stroke_and_forgets_when_cleared():
    images, cleared = [], []
    pad = drawing_pad.DrawingPad(200, images.append, lambda: cleared.append(1))
    pad._move(5, 5)
    pad._down(20, 20)
    pad._move(100, 20)
    pad._up(100, 20)
    pad._up(100, 20)
    assert len(images) == 1 and pad.strokes == [[(20, 20), (100, 20)]]
    pad.clear()
    assert pad.strokes == [] and cleared == []
    pad._down(20, 20)
    pad.children[1].children[1].click()
    assert pad.strokes == [] and cleared == [1]
