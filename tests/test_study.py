"""The study of sharpness: equal beginnings, nothing done twice, paired differences, and a summary that is the measurements'."""

import json
import shutil

import numpy as np
import pytest
from d2lvae import data as datasets
from d2lvae import runs
from d2lvae.config import ParameterError
from d2lvae.evaluation import figures, metrics, quality, study
from d2lvae.storage import png
from d2lvae.storage.nets import load_net
from d2lvae.storage.results import is_finished
from PIL import Image

SEEDS = (0, 1)
SAMPLES = {"kid_prior", "kid_codes", "kid_prior_batch"}
TWO = {study.PLAIN: {}, "+ dense discriminator": {"disc": "DenseLogReg", "disc_weight": 1.0}}


@pytest.fixture(scope="module")
def digits():
    images = datasets.drawn_digits(256)
    return datasets.ImageSet(
        images.name,
        images.train,
        images.validation[:50],
        images.origin,
        False,
        images.train_labels,
        images.validation_labels[:50],
    )


@pytest.fixture(scope="module")
def done(digits, tmp_path_factory, another_device):
    folder = tmp_path_factory.mktemp("study")
    return folder, study.study(digits, TWO, SEEDS, 1, folder)


def test_the_summary_is_what_was_written_and_complete(done, digits):
    folder, record = done
    assert (
        json.loads((folder / "drawn_digits.json").read_text())
        == json.loads(json.dumps(record))
        == study.load_summary("drawn_digits", folder)
    )
    assert (
        set(record["measures"]) == {*TWO, *study.CONTROLS}
        and record["seeds"] == [0, 1]
        and record["num_images"] == 50
    )
    for name, found in record["measures"].items():
        of_samples = set() if name in study.CONTROLS else SAMPLES
        assert set(found) == {*metrics.PER_IMAGE, "kid", *of_samples}
        for row in found.values():
            assert len(row["by_seed"]) == 2 and row["mean"] == pytest.approx(
                np.mean(row["by_seed"])
            )
            assert ("difference" in row) == (name not in (study.PLAIN, study.BLURRED))
            if "low" in row:
                assert row["low"] <= row.get("difference", row["mean"]) <= row["high"]
    blurred = record["measures"][study.BLURRED]
    assert all(
        blurred[key]["high"] < 1
        for key in ("edge_gradient_ratio", "laplacian_variance_ratio", "high_frequency_ratio")
    )
    assert study.load_summary("nothing", folder) is None


def test_differences_are_paired_and_the_same_by_hand(done, digits):
    folder, record = done
    psnr = {}
    for name, vae_only in ((study.PLAIN, True), ("+ dense discriminator", False)):
        [paths] = [
            sorted(folder.glob(pattern))
            for pattern in (
                ["runs/*/images/DenseVAE_on*/*/vae.npz"]
                if vae_only
                else ["runs/*/images/DenseVAE_DenseLogReg*/*/vae.npz"]
            )
        ]
        assert len(paths) == 2
        seed_of = {
            int(json.loads((path.parent / "metrics.json").read_text())["config"]["seed"]): path
            for path in paths
        }
        psnr[name] = np.stack(
            [
                metrics.psnr(
                    digits.validation, runs.reconstruct(load_net(seed_of[seed]), digits.validation)
                )
                for seed in SEEDS
            ]
        )
    found, differences = (
        record["measures"]["+ dense discriminator"]["psnr"],
        psnr["+ dense discriminator"] - psnr[study.PLAIN],
    )
    assert found["difference"] == pytest.approx(differences.mean())
    assert (found["low"], found["high"]) == pytest.approx(metrics.bootstrap_interval(differences))
    assert found["high"] - found["low"] < np.subtract(
        *metrics.bootstrap_interval(psnr["+ dense discriminator"])[::-1]
    )


def test_nothing_is_trained_twice(done, digits, monkeypatch, tmp_path):
    folder, record = done
    again = shutil.copytree(folder, tmp_path / "study")
    monkeypatch.setattr(runs, "fit", lambda *args: pytest.fail("trained again"))
    monkeypatch.setattr(quality, "NUM_MEASURED", 1000)  # as when it was made
    assert study.study(digits, TWO, SEEDS, 1, again)["measures"] == record["measures"]


def test_other_images_are_another_study(digits, tmp_path):
    one = {study.PLAIN: {}}
    few, more = (
        study.train_all(digits.first(number), one, [0], 1, tmp_path)[study.PLAIN, 0]
        for number in (64, 128)
    )
    assert (
        few != more
        and is_finished(few, digits.first(64).sha256())
        and not is_finished(few, digits.first(128).sha256())
    )


def test_only_what_all_seeds_agree_on_is_said():
    def record(*differences):
        rows = {key: {"mean": 1.0, "by_seed": [1.0] * 3} for key in ("psnr", *study.WORDS)}
        other = {
            key: {
                "mean": 2.0,
                "by_seed": [1 + d for d in differences],
                "difference": float(np.mean(differences)),
                "low": 0.1,
                "high": 3.0,
            }
            for key in rows
        }
        return {"measures": {study.PLAIN: rows, "other": other}}

    [agreed], [mixed] = (
        study.conclusions(record(*differences)) for differences in ((1, 2, 3), (-1, 2, 3))
    )
    assert (
        agreed.startswith("other: sharper on edges (1.000 to 2.000), more gradient off edges")
        and "PSNR +2.00 dB" in agreed
    )
    assert mixed == "other: no difference shown; PSNR +1.33 dB."


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["faces"], "unknown set 'faces'; choose from mnist"),
        (["digits", "--seeds", "0"], "--seeds must be at least 1"),
    ],
)
def test_what_cannot_be_studied_is_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["study", *arguments])
    with pytest.raises(SystemExit):
        study.main()
    assert message in capsys.readouterr().err


def test_conditions_of_one_seed_begin_alike(digits, tmp_path, monkeypatch):
    """The same first weights of the VAE and the same first minibatch, whatever the discriminator."""
    seen = []

    def spy(learner, images, config, history, *others):
        first = next(iter(study_minibatches(images, 64, config["seed"], 0)))
        seen.append(
            (config["seed"], learner.vae.encoder[0].weight.data().asnumpy().sum(), first.sum())
        )
        return real(learner, images, config, history, *others)

    from d2lvae import training

    study_minibatches, real = training.minibatches, training.train
    monkeypatch.setattr(training, "train", spy)
    study.train_all(digits.first(64), TWO, SEEDS, 1, tmp_path)
    by_seed = {seed: {entry[1:] for entry in seen if entry[0] == seed} for seed in SEEDS}
    assert (
        len(seen) == 4
        and all(len(found) == 1 for found in by_seed.values())
        and by_seed[0] != by_seed[1]
    )


def test_an_interrupted_study_goes_on_where_it_stopped(digits, tmp_path, monkeypatch):
    calls, real = [], runs.fit

    def fails_at_the_third(net, images, config, disc):
        calls.append(config.seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(net, images, config, disc)

    monkeypatch.setattr(runs, "fit", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        study.train_all(digits.first(64), TWO, SEEDS, 1, tmp_path)
    folders = study.train_all(digits.first(64), TWO, SEEDS, 1, tmp_path)
    assert (
        len(calls) == 5
        and len(folders) == 4
        and all(is_finished(path, digits.first(64).sha256()) for path in folders.values())
    )


def test_summaries_by_hand():
    values = {
        study.PLAIN: np.array([[1.0, 3.0], [2.0, 4.0]]),
        "other": np.array([[2.0, 4.0], [3.0, 5.0]]),
        "none": np.array([[0.0, 0.0], [0.0, 0.0]]),
    }
    measures = {name: {"psnr": array, "kid": array.mean(axis=1)} for name, array in values.items()}
    summary = study.summarize(measures)
    assert summary[study.PLAIN]["psnr"] == {"mean": 2.5, "by_seed": [2.0, 3.0]}
    assert summary["other"]["psnr"] == {
        "mean": 3.5,
        "by_seed": [3.0, 4.0],
        "difference": 1.0,
        "low": 1.0,
        "high": 1.0,
    }
    assert summary["none"]["kid"]["difference"] == -2.5


def test_every_condition_can_be_built_and_differs_from_the_others():
    for name, conditions in study.CONDITIONS.items():
        shape = (1, 28, 28) if "MNIST" in name or "digits" in name else (3, 64, 64)
        assert next(iter(conditions)) == study.PLAIN
        names = set()
        for condition in conditions.values():
            net, disc = study.nets_for(condition, shape)
            assert (disc is None) == ("disc" not in condition)
            data = datasets.ImageSet(
                "drawn_faces",
                np.zeros((1, *shape), np.uint8),
                np.zeros((1, *shape), np.uint8),
                "",
                False,
            )
            names.add(runs.run_folder(net, data, study.config_for(condition, 0, 20, ""), disc))
        assert len(names) == len(conditions)


def test_crops_are_the_same_spot_of_the_same_images(done, digits):
    folder, _ = done
    folders = study.train_all(digits, TWO, SEEDS, 1, folder / "runs")
    rows = study.reconstructions(digits, folders, 3)
    found = figures.crops(digits, rows)
    assert list(found) == ["originals", *TWO] and all(
        array.shape == (3, 1, 12, 12) for array in found.values()
    )
    top, left = figures._busiest(digits.validation[0], 12)
    np.testing.assert_array_equal(
        found["originals"][0], digits.validation[0][:, top : top + 12, left : left + 12]
    )
    for name, width in (("crops", 6 * 12 * 8), ("images", 4 * 28 * 2)):
        with Image.open(folder / f"drawn_digits_{name}.png") as sheet:
            assert width < sheet.size[0] - png.NAMES < width + 50


def test_the_busiest_spot():
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 15:20, 3:8] = 255
    top, left = figures._busiest(image, 12)
    assert top <= 14 and top + 12 >= 21 and left <= 2 and left + 12 >= 9


def test_the_figure_shows_every_difference(done):
    figure = figures.show_intervals(done[1]["measures"], "drawn digits")
    assert len(figure.axes) == 10 and [
        label.get_text() for label in figure.axes[0].get_yticklabels()
    ] == ["plain VAE, unsharp mask", "+ dense discriminator"]
    drawn = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    expected = done[1]["measures"]["+ dense discriminator"]["psnr"]["difference"]
    assert drawn[-1] == pytest.approx(expected) and all(ax.get_xlabel() for ax in figure.axes)
    figures.d2l.plt.close(figure)


def test_a_summary_without_samples_has_its_figure(done):
    """As those of 0.1.0 are."""
    old = {
        condition: {key: row for key, row in found.items() if key not in SAMPLES}
        for condition, found in done[1]["measures"].items()
    }
    figure = figures.show_intervals(old, "drawn digits")
    assert len(figure.axes) == 8
    figures.d2l.plt.close(figure)


def test_the_study_of_samples_has_its_own_file(monkeypatch, tiny_faces):
    asked = []
    monkeypatch.setattr("sys.argv", ["study", "--samples", "drawn", "--seeds", "2"])
    monkeypatch.setattr(study.data, "load_faces", lambda data: tiny_faces)
    monkeypatch.setattr(study, "study", lambda images, *others: asked.append(others))
    study.main()
    [(conditions, seeds, epochs, _, name)] = asked
    assert tuple(conditions) == study.FOR_SAMPLES and name == "drawn_faces_sampling"
    assert list(seeds) == [0, 1] and epochs == study.EPOCHS


def test_a_misspelt_key_in_a_condition_is_named():
    with pytest.raises(
        ParameterError,
        match="'disc_wieght' is not a parameter of any notebook; did you mean 'disc_weight'",
    ):
        study.config_for({"disc": "DenseLogReg", "disc_wieght": 1.0}, 0, 1, "")


def test_no_label_of_the_intervals_covers_another():
    """With all measures and the study's longest names, on the page's width."""
    row = {"mean": 0.0, "difference": 0.01, "low": -0.02, "high": 0.03}
    names = ["plain VAE, unsharp mask", "+ features, resizing decoder"]
    measures = {name: dict.fromkeys(figures.MEASURES, row) for name in names}
    figure = figures.show_intervals(measures, "anime")
    figure.canvas.draw()
    boxes = [ax.xaxis.label.get_window_extent() for ax in figure.axes]
    width, height = figure.get_size_inches() * figure.dpi
    assert len(boxes) == 10
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0
        assert not any(box.overlaps(other) for other in boxes[:i])
    figures.d2l.plt.close(figure)
