"""Finished runs, their directions, the small runs, and the sliders of JupyterLab.

The page is in test_page.py.
"""

import dataclasses
import io
import json
import os
import shutil

import d2lvae
import helpers
import numpy as np
import pytest
from d2lvae import data as datasets
from d2lvae import runs
from d2lvae.demo import explorer, latents, saved_runs, small_runs
from d2lvae.storage import files
from d2lvae.storage.files import CheckpointError
from PIL import Image

SMALL = {**small_runs.DIGITS, "num_train": 256, "epochs": 1, "pixel_loss": "bce"}
TWO = [(*recipe[:2], SMALL, recipe[3]) for recipe in small_runs.RECIPES[:2]]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A VAE and one with a discriminator on digits, a VAE and one with another number of latents on small faces."""
    folder = tmp_path_factory.mktemp("results")
    small_runs.train_small(str(folder), TWO)
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


def a_run(folder, vae, images, seed=0, keep=False):
    """A finished run's files as they are read here, without a training; with weights to `keep`."""
    folder.mkdir(parents=True)
    d2lvae.save_net(folder / "vae.npz", vae if keep else begun(vae))
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


def shown(page):
    return np.asarray(Image.open(io.BytesIO(page.image.value)))


def make_newest(folder):
    """Make a run the one that is shown by itself."""
    later = max(path.stat().st_mtime for path in folder.parents[2].glob("**/vae.npz")) + 10
    os.utime(folder / "vae.npz", (later, later))


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


def test_decode_and_encode_are_the_nets(results):
    [folder] = results.glob("**/DenseVAE_DenseLogReg_on_drawn_digits/*")
    trained = saved_runs.load_run(folder)
    originals = trained.images.validation[:70]
    np.testing.assert_array_equal(
        latents.decode(trained.vae, latents.encode(trained.vae, originals)),
        runs.reconstruct(trained.vae, originals),
    )
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


def test_a_collapsed_newest_run_is_shown_with_a_note(results, tmp_path):
    """All of its many latents are the same for all images: no principal direction is left."""
    shutil.copytree(results, tmp_path / "copy")
    digits = datasets.drawn_digits(32, 0)
    path = tmp_path / "copy" / "images" / "DenseVAE_on_drawn_digits" / "20"
    folder = a_run(path, d2lvae.DenseVAE(20, 1, 8), digits)
    rewrite(folder / "vae.npz", lambda array: array * (array.shape != (8, 784)))
    make_newest(folder)
    run = explorer.newest_run(tmp_path / "copy")
    assert run.folder == folder and "has collapsed" in run.notes[0]
    page = explorer.Explorer(run)
    before = shown(page)
    names = [slider.description for slider in page.sliders]
    assert len(names) == 8 and all(name.startswith("latent ") for name in names)
    page.sliders[0].value = 3
    assert (shown(page) != before).any()


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


def test_images_handed_in_are_shown_and_compared_with_the_record(own_results, mine):
    [folder] = own_results.glob("own/images/*/12")
    run = saved_runs.load_run(folder, mine)
    assert run.images is mine and run.notes == []
    others = dataclasses.replace(mine, train=255 - mine.train)
    [note] = saved_runs.load_run(folder, others).notes
    assert "not the images that this net was trained on" in note
    whole = dataclasses.replace(mine, train=np.concatenate([mine.train, mine.train]))
    assert saved_runs.load_run(folder, whole).notes == [], "the first 40 are those of the record"
    small = dataclasses.replace(
        mine, train=mine.train[..., :8, :8], validation=mine.validation[..., :8, :8]
    )
    with pytest.raises(datasets.DataError, match="mine are 3 x 8 x 8 .* 3 x 16 x 16"):
        saved_runs.load_run(folder, small)


def test_a_set_of_the_users_own_is_shown_without_its_images(own_results):
    run = explorer.newest_run(own_results)
    assert run.images is None and "'mine'" in run.notes[0] and not run.means[0].any()
    page = explorer.Explorer(run)
    assert all(slider.value == 0 for slider in page.sliders)
    centre = latents.decode(run.vae, np.zeros((1, run.vae.num_latents)))[0]
    np.testing.assert_array_equal(shown(page), centre.transpose(1, 2, 0))


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
    assert "not the images that this net was trained on" in saved_runs.load_run(folder).notes[0]
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


def test_where_another_page_is_training_it_waits_and_trains_only_what_is_missing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(small_runs, "WAIT", 0)
    tried, trained, fit = [], [], runs.fit

    def fit_or_busy(vae, images, config, disc):
        tried.append(disc)
        if len(tried) == 2:
            raise small_runs.RunBusy("is being written by another run")
        trained.append(disc)
        return fit(vae, images, config, disc)

    monkeypatch.setattr(runs, "fit", fit_or_busy)
    folders = small_runs.train_small(tmp_path, TWO)
    assert [disc is None for disc in tried] == [True, False, False]
    assert capsys.readouterr().out.count("another process is training it") == 1
    assert saved_runs.finished_runs(tmp_path) == folders[::-1] and len(trained) == 2
    assert small_runs.train_small(tmp_path, TWO) == folders and len(trained) == 2


def test_a_run_that_is_replaced_at_this_moment_is_no_error(results, monkeypatch):
    there = saved_runs.finished_runs(results)
    gone = there[0]

    def is_finished(folder):
        if folder == gone:
            raise FileNotFoundError(folder)
        return True

    monkeypatch.setattr(saved_runs, "is_finished", is_finished)
    assert saved_runs.finished_runs(results) == there[1:]


def test_ctrl_c_in_one_of_the_small_runs_ends_them_all(tmp_path, monkeypatch):
    asked, stopped = [], runs.Run(tmp_path, None, [], {"finished": False}, None)
    monkeypatch.setattr(runs, "fit", lambda *nets: asked.append(nets) or stopped)
    with pytest.raises(KeyboardInterrupt, match="the next call goes on"):
        small_runs.train_small(tmp_path, TWO)
    assert len(asked) == 1


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


def test_sliders_walk_and_samples_move_the_image(results):
    [folder] = results.glob("**/DenseVAE_on_drawn_digits/*")
    run = saved_runs.load_run(folder)
    page = explorer.Explorer(run)
    first, second = runs.reconstruct(run.vae, run.images.validation[:2])[:, 0]
    np.testing.assert_array_equal(shown(page), first)
    slider, code = page.sliders[1], run.means[0].copy()
    before, slider.value = slider.value, slider.value - 1.25
    code[1] += slider.value - before
    np.testing.assert_array_equal(shown(page), latents.decode(run.vae, code[None])[0, 0])
    page.way.value = 100
    np.testing.assert_array_equal(shown(page), second)
    np.testing.assert_allclose(page.code, run.means[1])
    page.sample.click()
    assert np.abs(page.code - run.means[1]).max() > 1e-3
    np.testing.assert_allclose(
        [each.value for each in page.sliders], page.code.clip(-3, 3), atol=0.03
    )


def test_the_newest_run_that_can_be_shown(results, tmp_path, monkeypatch, capsys):
    shutil.copytree(results, tmp_path / "copy")
    newest, next_one = saved_runs.finished_runs(tmp_path / "copy")[:2]
    (newest / "vae.npz").write_bytes(b"no net")
    assert explorer.newest_run(tmp_path / "copy").folder == next_one
    assert f"cannot be shown: {newest}" in capsys.readouterr().out
    monkeypatch.setattr(small_runs, "RECIPES", TWO)
    run = explorer.newest_run(tmp_path / "none")
    assert run.folder.parent.name == "DenseVAE_on_drawn_digits" and run.discriminator is None
