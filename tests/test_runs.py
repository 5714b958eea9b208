"""A run's folder: named by its configuration, complete, reproducible, never in another's way."""

import csv
import errno
import json
import os
import pathlib
import re
import subprocess

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae import runs
from d2lvae.config import ParameterError
from d2lvae.data import ImageSet
from d2lvae.engine import threads
from d2lvae.evaluation import metrics as measures
from d2lvae.storage import checkpoints, files, paths
from d2lvae.storage.agreement import OF_DISCRIMINATORS
from d2lvae.storage.errors import RunError
from d2lvae.storage.files import CheckpointError
from d2lvae.storage.nets import get_weights, load_net, set_weights
from d2lvae.storage.records import run_name
from helpers import fit, run_folder, settings_of
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEED = dict(
    epochs=50,
    batch_size=64,
    lr=1e-3,
    pixel_loss="bce",
    pixel_weight=1.0,
    kl_weight=1.0,
    seed=0,
    num_train=0,
    data="MNIST",
    vae=d2lvae.DenseVAE().config,
)
WITH_DISC = dict(SEED, disc=d2lvae.DenseLogReg().config, disc_weight=1.0)

FACES = dict(SEED, data="anime", epochs=200, vae=d2lvae.DenseVAE(512, 5, 1024, (3, 64, 64)).config)
JUDGED = dict(
    FACES,
    vae=d2lvae.ConvVAE(256, 16).config,
    disc=d2lvae.ConvDisc(16).config,
    disc_weight=10.0,
    num_solo_epochs=0,
)
RESNET = dict(JUDGED, disc=dict(net="ResNetDisc", name="resnet18_v1", image_shape=[3, 64, 64]))


ON = {"learned_loss": "both", "feature_weight": 2.0, "disc_lr": 2e-4, "num_solo_epochs": 2}


@pytest.mark.parametrize(
    "settings, name",
    [
        (FACES, "DenseVAE_on_anime/512_5_1024_200"),
        (
            dict(FACES, disc=d2lvae.DenseLogReg(1, 1024, (3, 64, 64)).config, disc_weight=10.0),
            "DenseVAE_DenseLogReg_on_anime/512_5_1024_1_1024_200_10",
        ),
        (dict(FACES, vae=d2lvae.ConvVAE(512, 32).config), "ConvVAE_on_anime/512_32_200"),
        (JUDGED, "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_200_10"),
        (RESNET, "ConvVAE_ResNet_on_anime/256_16_200_10"),
        (
            dict(RESNET, data="drawn_faces", disc_weight=2.5, num_solo_epochs=5),
            "ConvVAE_ResNet_on_drawn_faces/256_16_200_2.5_num_solo_epochs_5",
        ),
        (SEED, "DenseVAE_on_MNIST/5_3_400_bce_50"),
        (dict(SEED, pixel_loss="l2"), "DenseVAE_on_MNIST/5_3_400_l2_50"),
        (WITH_DISC, "DenseVAE_DenseLogReg_on_MNIST/5_3_400_1_200_50"),
        (dict(SEED, data="drawn_digits", epochs=10), "DenseVAE_on_drawn_digits/5_3_400_bce_10"),
        (dict(SEED, lr=5e-4, seed=2), "DenseVAE_on_MNIST/5_3_400_bce_50_lr_0.0005_seed_2"),
        (
            dict(WITH_DISC, pixel_loss="l2", disc_weight=10.0),
            "DenseVAE_DenseLogReg_on_MNIST/5_3_400_1_200_50_pixel_loss_l2_disc_weight_10.0",
        ),
    ],
)
def test_the_seeds_folder_names(settings, name):
    assert run_name(settings) == name


def test_a_text_of_ones_own_net_stays_within_its_folder():
    vae = {**d2lvae.DenseVAE().config, "kind": "../../x/y"}
    assert run_name(dict(SEED, vae=vae)).count("/") == 1 and ".." not in run_name(
        dict(SEED, vae=vae)
    )


def test_lists_of_sizes_are_told_in_a_folders_name():
    names = [
        run_name(dict(SEED, vae={"net": "Mine", "a": a, "b": b, "image_shape": [1, 28, 28]}))
        for a, b in (([16], [8, 4]), ([16, 8], [4]), ([16], [8]))
    ]
    assert names[0].split("/")[1].startswith("16_8-4_bce") and len(set(names)) == 3


def test_no_two_configurations_share_a_folder():
    changes = [
        {},
        dict(epochs=51),
        dict(batch_size=32),
        dict(lr=0.1),
        dict(pixel_weight=2.0),
        dict(kl_weight=2.0),
        dict(seed=1),
        dict(num_train=10),
        dict(data="drawn_digits"),
        dict(pixel_loss="l2"),
        dict(vae=d2lvae.DenseVAE(num_latents=6).config),
        dict(vae=d2lvae.DenseVAE(num_layers=4).config),
        dict(vae=d2lvae.DenseVAE(num_hiddens=6).config),
    ]
    names = (
        [run_name(dict(SEED, **change)) for change in changes]
        + [run_name(dict(WITH_DISC, **change)) for change in changes]
        + [
            run_name(dict(WITH_DISC, disc_weight=3.0)),
            run_name(dict(WITH_DISC, disc=d2lvae.DenseLogReg(2).config)),
        ]
    )
    small = d2lvae.ConvVAE(256, 16, (3, 32, 32)).config
    names += [run_name(dict(FACES, **change)) for change in changes if "data" not in change]
    names += [
        run_name(dict(JUDGED, **change)) for change in changes if not {"data", "vae"} & set(change)
    ]
    names += [
        run_name(settings)
        for settings in (
            RESNET,
            dict(RESNET, disc=dict(RESNET["disc"], name="resnet18_v2")),
            dict(JUDGED, num_solo_epochs=3),
            dict(JUDGED, disc_weight=1.0),
            dict(JUDGED, vae=small),
            dict(JUDGED, disc=d2lvae.ConvDisc(8).config),
            dict(JUDGED, vae=d2lvae.ConvVAE(256, 16, upsampling="resize").config),
            *(dict(JUDGED, **{name: value}) for name, value in ON.items()),
            dict(JUDGED, learned_loss="features"),
            dict(JUDGED, vae=d2lvae.ConvVAE(256, 8).config),
            dict(FACES, vae=small),
            dict(FACES, vae=d2lvae.ConvVAE(256, 16).config),
        )
    ]
    assert len(set(names)) == len(names)


@pytest.mark.pictures
def test_a_run_leaves_everything(config, tiny, small_vae, small_disc, capsys):
    vae = small_vae()
    run = fit(vae, tiny, {**config, "disc_weight": 2.0}, small_disc())
    names = {path.name for path in run.folder.iterdir()} - {".lock"}  # empty, for the next run
    assert names == {
        *(f"{i}.png" for i in range(10)),
        *(f"test_{i}.png" for i in range(10)),
        "loss.png",
        "reconstructions.png",
        "samples.png",
        "originals_and_reconstructions.png",
        "history.csv",
        "metrics.json",
        "README.md",
        "vae.npz",
        "disc.npz",
        "checkpoint.npz",
        "checkpoint_previous.npz",
    }
    assert run.folder == (
        pathlib.Path(config["results_dir"])
        / "images"
        / "DenseVAE_DenseLogReg_on_drawn_digits"
        / "3_1_16_1_8_2_num_train_200_disc_weight_2.0"
    )
    assert f"results: {run.folder}" in capsys.readouterr().out
    for i in range(10):
        np.testing.assert_array_equal(
            np.asarray(Image.open(run.folder / f"test_{i}.png")), tiny.validation[i, 0]
        )
        np.testing.assert_array_equal(
            np.asarray(Image.open(run.folder / f"{i}.png")), run.reconstructions[i, 0]
        )
    with Image.open(run.folder / "samples.png") as samples:  # two rows of seven, thrice as large
        assert samples.size == (160 + 7 * (3 * 28 + 6), 34 + 2 * (3 * 28 + 6))
    with open(run.folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [record["loss"] for record in run.history]
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics == run.metrics
    assert metrics["finished"] and metrics["epochs_done"] == 2
    assert metrics["final"]["loss"] == run.history[-1]["loss"]
    assert metrics["config"]["data_sha256"] == tiny.sha256() and metrics["data"]["is_real"] is False
    assert (
        metrics["versions"]["mxnet"] == "1.9.1"
        and metrics["processor_threads"] == threads.settings()
    )
    assert metrics["images_per_second"] > 0 and metrics["seconds"] >= 0
    loaded = d2lvae.load_net(run.folder / "vae.npz")
    assert all(
        (array == get_weights(vae)[name]).all() for name, array in get_weights(loaded).items()
    )
    assert "2 of 2 epochs" in (run.folder / "README.md").read_text()


def conv_vae():
    return d2lvae.ConvVAE(8, 4, (3, 32, 32))


def conv_disc():
    return d2lvae.ConvDisc(4, (3, 32, 32))


def test_a_run_on_faces_with_solo_epochs(config, tiny_faces, capsys):
    run = fit(
        conv_vae(),
        tiny_faces,
        {**config, "num_train": 0, "epochs": 3, "disc_weight": 10.0, "num_solo_epochs": 1},
        conv_disc(),
    )
    assert run.folder.name == "8_4_4_3_10_num_solo_epochs_1_image_size_32"
    assert run.folder.parent.name == "ConvVAE_ConvDisc_LeakyReLU_on_drawn_faces"
    assert "disc_loss" not in run.history[0] and run.history[1]["disc_loss"] > 0
    assert run.history[0]["loss"] == pytest.approx(
        run.history[0]["pixel_loss"] + run.history[0]["kl"]
    )
    with open(run.folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["disc_loss"] == "" and float(rows[2]["disc_loss"]) == run.history[2]["disc_loss"]
    for i in range(10):
        file = np.asarray(Image.open(run.folder / f"test_{i}.png"))
        np.testing.assert_array_equal(file, tiny_faces.validation[i].transpose(1, 2, 0))


def test_solo_epochs_are_those_of_a_vae_alone(config, tiny_faces):
    config.update(num_train=0, epochs=3)
    alone = fit(conv_vae(), tiny_faces, config)
    judged = fit(
        conv_vae(), tiny_faces, {**config, "disc_weight": 10.0, "num_solo_epochs": 2}, conv_disc()
    )
    assert [r["loss"] for r in judged.history[:2]] == [r["loss"] for r in alone.history[:2]]
    with pytest.raises(
        ParameterError,
        match=r"num_solo_epochs must be below epochs \(3\).*found 3. For example: -p num_solo_epochs 1",
    ):
        fit(
            conv_vae(),
            tiny_faces,
            {**config, "disc_weight": 10.0, "num_solo_epochs": 3},
            conv_disc(),
        )


def test_resume_after_solo_epochs_equals_never_stopping(config, tiny_faces, tmp_path):
    """Two nets with different numbers of steps behind them, and BatchNorm in both."""
    config.update(num_train=0, epochs=4, disc_weight=10.0, num_solo_epochs=1)
    whole = fit(
        conv_vae(), tiny_faces, {**config, "results_dir": str(tmp_path / "whole")}, conv_disc()
    )
    config["results_dir"] = str(tmp_path / "stopped")
    settings = settings_of(conv_vae(), tiny_faces, config, conv_disc())
    saved = {}

    def stop_after(epochs, arrays, record):
        saved.update({record_epochs: True for record_epochs in [len(record["history"])]})
        if len(saved) > epochs:
            raise RuntimeError("the power went out")

    folder = tmp_path / "stopped" / "images" / run_name(settings)
    original = checkpoints.save_checkpoint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            checkpoints, "save_checkpoint", lambda *a: (stop_after(2, *a[1:]), original(*a))
        )
        with pytest.raises(RuntimeError, match="power"):
            fit(conv_vae(), tiny_faces, config, conv_disc())
    assert (folder / "unfinished" / "checkpoint.npz").exists()
    resumed = fit(conv_vae(), tiny_faces, {**config, "resume": True}, conv_disc())
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]
    for name in ("vae.npz", "disc.npz"):
        ours, theirs = (files.read_arrays(run.folder / name)[0] for run in (resumed, whole))
        assert all((ours[key] == theirs[key]).all() for key in theirs), name


def test_a_setting_that_is_off_is_the_same_as_none(config, tiny_faces):
    """A record that names a setting at its default is of the same configuration as one that does not."""
    config.update(num_train=0, disc_weight=10.0)
    run = fit(conv_vae(), tiny_faces, config, conv_disc())
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert "num_solo_epochs" not in metrics["config"]
    metrics["config"].update(disc_lr=0.0, num_solo_epochs=0)
    (run.folder / "metrics.json").write_text(json.dumps(metrics))
    again = fit(
        conv_vae(), tiny_faces, {**config, "disc_lr": 0.0, "num_solo_epochs": 0}, conv_disc()
    )
    assert again.folder == run.folder and again.history[-1]["loss"] == run.history[-1]["loss"]
    arrays, record = files.read_arrays(run.folder / "checkpoint.npz")
    record["config"].update(num_solo_epochs=0, precision="float32")
    files.write_arrays(run.folder / "checkpoint.npz", arrays, record)
    assert (
        fit(conv_vae(), tiny_faces, {**config, "resume": True}, conv_disc()).history
        == again.history
    )
    resting = fit(conv_vae(), tiny_faces, {**config, "disc_lr": 0.5}, conv_disc())
    assert "_disc_lr_0.5" in resting.folder.name


def test_every_setting_that_can_be_on_is_recorded_and_resumed(
    config, tiny_faces, tmp_path, monkeypatch
):
    """All at once: stopped and resumed equals never stopping."""
    assert set(ON) == set(OF_DISCRIMINATORS)
    nets = [lambda: d2lvae.ConvVAE(8, 4, (3, 32, 32), upsampling="resize"), conv_disc]
    config.update(num_train=0, epochs=4, disc_weight=10.0, **ON)
    whole = fit(
        nets[0](), tiny_faces, {**config, "results_dir": str(tmp_path / "whole")}, nets[1]()
    )
    assert (
        {name: whole.metrics["config"][name] for name in ON} == ON
        and "feature_loss" in whole.history[-1]
        and "feature_loss" not in whole.history[0]
    )
    last = whole.history[3]
    assert last["loss"] == pytest.approx(
        last["pixel_loss"] + last["kl"] + 10 * last["adversarial_loss"] + 2 * last["feature_loss"]
    )
    original, calls = checkpoints.save_checkpoint, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("the power went out")
        original(*arguments)

    config["results_dir"] = str(tmp_path / "stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save_checkpoint", stop)
        with pytest.raises(RuntimeError, match="power"):
            fit(nets[0](), tiny_faces, config, nets[1]())
    resumed = fit(nets[0](), tiny_faces, {**config, "resume": True}, nets[1]())
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]
    for name in ("vae.npz", "disc.npz"):
        ours, theirs = (files.read_arrays(run.folder / name)[0] for run in (resumed, whole))
        assert all((ours[key] == theirs[key]).all() for key in theirs), name
    assert whole.folder == run_folder(
        nets[0](), tiny_faces, {**config, "results_dir": str(tmp_path / "whole")}, nets[1]()
    )


def test_what_cannot_have_an_effect_is_refused(config, tiny_faces):
    config.update(num_train=0)
    with pytest.raises(ParameterError, match="learned_loss 'adversarial' compares no features"):
        fit(
            conv_vae(),
            tiny_faces,
            {**config, "disc_weight": 1.0, "feature_weight": 2.0},
            conv_disc(),
        )
    with pytest.raises(
        RunError,
        match="learned_loss is features, but this experiment has no discriminator: give adversarial",
    ):
        fit(conv_vae(), tiny_faces, {**config, "learned_loss": "features"})
    without_verdict = fit(
        conv_vae(),
        tiny_faces,
        {**config, "disc_weight": 5.0, "learned_loss": "features"},
        conv_disc(),
    )
    assert (
        without_verdict.metrics["config"]["disc_weight"] == 0.0
        and "adversarial_loss" not in without_verdict.history[0]
    )
    assert np.isfinite(without_verdict.history[-1]["feature_loss"])


def test_a_run_is_measured_on_its_validation_images(config, tiny, small_vae):
    run = fit(small_vae(), tiny, config)
    d2lvae.evaluate(run, tiny)
    originals = tiny.validation[:50]
    reconstructions = runs.reconstruct(load_net(run.folder / "vae.npz"), originals)
    quality = json.loads((run.folder / "metrics.json").read_text())["quality"]
    assert (
        quality["psnr"] == pytest.approx(measures.psnr(originals, reconstructions).mean())
        and quality["num_images"] == len(originals) == 50
    )
    assert {*measures.PER_IMAGE, "kid", "kid_features"} <= set(quality) and quality["kid"] > 0.1
    assert f"| gmsd | {quality['gmsd']:.4f} |" in (run.folder / "README.md").read_text()


def test_a_set_smaller_than_one_batch(config, tiny_faces):
    few = ImageSet("anime", tiny_faces.train[:16], tiny_faces.validation[:4], "from 20 files", True)
    run = fit(conv_vae(), few, {**config, "data": "anime", "num_train": 0})
    assert run.reconstructions.shape == (4, 3, 32, 32) and np.isfinite(run.history[-1]["loss"])
    assert "originals" not in (run.folder / "README.md").read_text()


def test_a_checkpoint_of_another_image_size_is_refused(config, tiny_faces, tmp_path):
    run = fit(conv_vae(), tiny_faces, {**config, "num_train": 0})
    larger = ImageSet(
        "drawn_faces",
        *(p.repeat(2, axis=2).repeat(2, axis=3) for p in (tiny_faces.train, tiny_faces.validation)),
        "enlarged",
        False,
    )
    config.update(num_train=0, resume=True)
    vae = d2lvae.ConvVAE(8, 4, (3, 64, 64))
    folder = (
        pathlib.Path(config["results_dir"])
        / "images"
        / run_name(settings_of(vae, larger, config, None))
    )
    folder.mkdir(parents=True)
    (run.folder / "checkpoint.npz").rename(folder / "checkpoint.npz")
    with pytest.raises(
        CheckpointError, match=r"another configuration .* vae image_shape \[3, 32, 32\] there"
    ):
        fit(vae, larger, config)
    with pytest.raises(CheckpointError, match="weights of another net: .* should have shape"):
        set_weights(vae, files.read_arrays(run.folder / "vae.npz")[0])


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "ten"])
def test_impossible_weights(config, tiny_faces, weight):
    with pytest.raises(ParameterError, match="disc_weight must be a number of at least 0"):
        fit(conv_vae(), tiny_faces, {**config, "disc_weight": weight}, conv_disc())


def test_reconstructions_are_decoded_from_the_mean(config, tiny, small_vae):
    vae = small_vae()
    run = fit(vae, tiny, config)
    images = mx.nd.array(tiny.validation[:10]).astype("float32") / 255
    expected = vae.decode(vae.encode(images)[0]).sigmoid().asnumpy() * 255
    assert np.abs(run.reconstructions - expected).max() <= 0.51


def test_the_same_configuration_again_says_so_and_gives_the_same(config, tiny, small_vae, capsys):
    vae = small_vae()
    first = fit(vae, tiny, config)
    assert "run before" not in capsys.readouterr().out
    again = fit(
        vae, tiny, config
    )  # the same, trained net: begins with the seed's weights all the same
    assert "run before" in capsys.readouterr().out
    assert [r["loss"] for r in again.history] == [r["loss"] for r in first.history]


def test_another_configurations_results_are_never_overwritten(config, tiny, small_vae):
    run = fit(small_vae(), tiny, config)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    other = ImageSet(
        "drawn_digits", tiny.train[::-1], tiny.validation, "in another order", False, num_first=200
    )
    with pytest.raises(RunError, match="another configuration .*data_sha256"):
        fit(small_vae(), other, config)
    (run.folder / "metrics.json").write_text("{")
    with pytest.raises(RunError, match="metrics.json cannot be read"):
        fit(small_vae(), tiny, config)
    (run.folder / "metrics.json").write_bytes(before["metrics.json"])
    assert before == {
        path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()
    }


def test_resume_goes_on_to_the_same_end(
    config, tiny, small_vae, small_disc, tmp_path, monkeypatch, capsys
):
    """Stopped by an error in the third of four epochs, then taken up by new nets."""
    config.update(epochs=4, disc_weight=1.0)
    whole = fit(small_vae(), tiny, {**config, "results_dir": str(tmp_path / "whole")}, small_disc())
    saves = []

    def save_twice(*arguments):
        if len(saves) == 2:
            raise RuntimeError("the power went out")
        saves.append(checkpoints_save(*arguments))

    checkpoints_save = checkpoints.save_checkpoint
    monkeypatch.setattr(checkpoints, "save_checkpoint", save_twice)
    with pytest.raises(RuntimeError, match="power"):
        fit(small_vae(), tiny, config, small_disc())
    monkeypatch.undo()
    capsys.readouterr()
    resumed = fit(small_vae(), tiny, {**config, "resume": True}, small_disc())
    assert "going on after 2 of 4 epochs" in capsys.readouterr().out
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]
    assert (resumed.reconstructions == whole.reconstructions).all()
    for net in ("vae.npz", "disc.npz"):
        ours, theirs = (get_weights(d2lvae.load_net(run.folder / net)) for run in (resumed, whole))
        assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_resume_of_a_finished_run_and_of_none(config, tiny, small_vae, capsys, monkeypatch):
    first = fit(small_vae(), tiny, {**config, "resume": True})
    assert "no checkpoint of these parameters" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(threads, "settings", lambda: {"OMP_NUM_THREADS": "7"})
        again = fit(small_vae(), tiny, {**config, "resume": True})
    assert again.history == first.history and (again.reconstructions == first.reconstructions).all()
    assert (
        again.metrics["processor_threads"]
        == first.metrics["processor_threads"]
        == threads.settings()
    ), "those of the training"


def test_resume_refuses_another_configurations_checkpoint(config, tiny, small_vae):
    run = fit(small_vae(), tiny, config)
    arrays, record = files.read_arrays(run.folder / "checkpoint.npz")
    record["config"]["lr"] = 0.5
    files.write_arrays(run.folder / "checkpoint.npz", arrays, record)
    with pytest.raises(CheckpointError, match="lr 0.5 there, 0.001 here"):
        fit(small_vae(), tiny, {**config, "resume": True})


def test_other_threads_are_mentioned(config, tiny, small_vae, monkeypatch, capsys):
    fit(small_vae(), tiny, config)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    fit(small_vae(), tiny, {**config, "resume": True})
    assert "rounded differently" in capsys.readouterr().out


def test_a_results_folder_that_cannot_be_written(config, tiny, small_vae, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written .* results_dir"):
        fit(small_vae(), tiny, {**config, "results_dir": str(tmp_path / "file")})


def test_a_read_only_results_folder(config, tiny, small_vae, monkeypatch):
    """As a superuser may write anywhere, the refusal comes from a replaced os.replace."""

    def refuse(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(RunError, match="Read-only file system.* results_dir"):
        fit(small_vae(), tiny, config)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(config, tiny, small_vae, monkeypatch):
    config.update(epochs=3)
    whole = fit(small_vae(), tiny, config)
    for path in whole.folder.iterdir():
        path.unlink()
    calls, fsync = [], os.fsync

    def full_at_the_third(descriptor):
        calls.append(fsync(descriptor))
        if len(calls) == 7:  # file and folder: of the trial, of two checkpoints; and this one
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_at_the_third)
    with pytest.raises(OSError, match="checkpoint.npz could not be written.*free some room"):
        fit(small_vae(), tiny, config)
    monkeypatch.undo()
    resumed = fit(small_vae(), tiny, {**config, "resume": True})
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]


def test_a_weight_without_a_discriminator_is_refused(config, tiny, small_vae):
    with pytest.raises(RunError, match="no discriminator"):
        fit(small_vae(), tiny, {**config, "disc_weight": 2.0})


def test_parameters_are_checked_without_a_notebook_too(config, tiny, small_vae):
    with pytest.raises(ParameterError, match="pixel_loss must be 'bce' or 'l2'; found 'l1'"):
        fit(small_vae(), tiny, {**config, "pixel_loss": "l1"})


def test_a_misspelt_parameter_is_named(config, tiny, small_vae):
    with pytest.raises(
        ParameterError,
        match="'disc_wieght' is not a parameter of any notebook; did you mean 'disc_weight'",
    ):
        fit(small_vae(), tiny, {**config, "disc_wieght": 1.0})


def test_stopped_before_the_first_epoch_there_are_images_all_the_same(
    config, tiny, small_vae, monkeypatch, capsys
):
    monkeypatch.setattr(runs.training, "train", lambda *arguments: False)
    run = fit(small_vae(), tiny, config)
    assert (run.folder / "0.png").exists() and not run.metrics["finished"]
    linked = re.findall(r"\]\(([\w.]+)\)", (run.folder / "README.md").read_text())
    assert "metrics.json" in linked and all((run.folder / name).exists() for name in linked)
    assert "stopped by hand" in capsys.readouterr().out


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the git clone")
def test_git_ignores_images_of_real_data_and_weights_but_no_model_output():
    folder = "results/images/DenseVAE_DenseLogReg_on_MNIST/5_3_400_1_200_50"
    drawn = "results/images/DenseVAE_on_drawn_digits/5_3_400_bce_50"
    ignored = [
        f"{folder}/test_0.png",
        f"{folder}/originals_and_reconstructions.png",
        f"{folder}/checkpoint.npz",
        f"{folder}/vae.npz",
        "data/mnist/train-images-idx3-ubyte.gz",
        f"{drawn}/checkpoint_previous.npz",
    ]
    kept = [
        f"{folder}/0.png",
        f"{folder}/metrics.json",
        f"{folder}/history.csv",
        f"{drawn}/test_0.png",
        f"{drawn}/originals_and_reconstructions.png",
        "data/README.md",
    ]
    result = subprocess.run(
        ["git", "check-ignore", "--no-index", *ignored, *kept],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert result.stdout.split() == ignored


def test_the_folders_are_the_projects_wherever_one_stands(monkeypatch, tmp_path):
    monkeypatch.delenv("D2LVAE_DATA", raising=False)
    for folder in (ROOT, ROOT / "notebooks"):
        monkeypatch.chdir(folder)
        assert paths.data_root() == ROOT / "data" and paths.results_root() == ROOT / "results"
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path))
    assert paths.data_root() == tmp_path
    monkeypatch.setenv("PLACE", str(tmp_path))
    assert (
        paths.results_root("mine") == ROOT / "mine"
        and paths.results_root("$PLACE/x") == tmp_path / "x"
    )
    assert paths.results_root("~/x") == pathlib.Path.home() / "x"
    assert paths.display_path(ROOT / "results" / "x") == "results/x" and paths.display_path(
        tmp_path
    ) == str(tmp_path)


def test_a_folder_that_cannot_be_published_into_is_named_with_what_to_do(
    config, tiny, small_vae, monkeypatch
):
    """The results are written, but nothing can be put in place any more: resume ends what was begun."""
    replace = os.replace

    def refuse(source, target):
        if "unfinished" in str(source) and "unfinished" not in str(target):
            raise PermissionError(13, "Permission denied", str(source))
        return replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(
        OSError, match="could not be written .Permission denied.: make the folder writable"
    ):
        fit(small_vae(), tiny, config)
    monkeypatch.undo()
    assert fit(small_vae(), tiny, {**config, "resume": True}).metrics["finished"]
