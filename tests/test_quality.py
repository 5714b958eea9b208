"""`evaluate`: what is measured, where it is written, and what is left alone."""

import json
import os
import signal

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae import data, losses, training
from d2lvae.evaluation import classifier, metrics, quality
from d2lvae.storage.errors import RunError
from d2lvae.training import learn
from helpers import fit


@pytest.fixture(autouse=True)
def few(monkeypatch, tmp_path):
    """50 images are measured, and classifiers learn for a moment."""
    monkeypatch.setattr(quality, "NUM_MEASURED", 50)
    monkeypatch.setattr(classifier, "EPOCHS", {"drawn_digits": 1, "drawn_faces": 1})
    monkeypatch.setattr(classifier, "NUM_DIGITS", 100)
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path / "data"))


@pytest.fixture
def unmeasured(config, tiny, small_vae, monkeypatch):
    """A run as `fit` leaves it once measuring is no longer its work."""

    def train(epochs=1, images=tiny, stop=False, **parameters):
        with monkeypatch.context() as patch:
            if stop:
                patch.setattr(training, "learn", _ctrl_c)
            run = fit(small_vae(), images, {**config, "epochs": epochs, **parameters})
        assert not {"validation", "quality"} & set(run.metrics)
        return run

    return train


def _ctrl_c(*arguments):
    """A step, and Ctrl-C in it."""
    os.kill(os.getpid(), signal.SIGINT)
    return learn(*arguments)


@pytest.mark.parametrize("stop", [False, True])
def test_a_run_is_measured_and_its_folder_tells(unmeasured, tiny, stop):
    run = unmeasured(epochs=3, stop=stop)
    assert run.metrics["finished"] == (not stop)
    page = (run.folder / "README.md").read_text()
    assert "held-out" not in page and "gmsd" not in page and "test_0" not in page
    assert ("| loss | " in page) == (not stop)
    before = dict(run.metrics)
    table = d2lvae.evaluate(run, tiny)
    written = json.loads((run.folder / "metrics.json").read_text())
    assert written == json.loads(json.dumps(run.metrics))
    assert {name: written[name] for name in before} == json.loads(json.dumps(before))
    assert set(written) - set(before) == {"validation", "quality"}
    found = written["quality"]
    assert {*metrics.PER_IMAGE, "kid", "kid_features"} <= set(found) and found["num_images"] == 50
    features = [
        classifier.features(classifier.classifier_for(tiny), each)
        for each in (tiny.validation[:50], *quality.samples_of(run.vae).values())
    ]
    for name, drawn in zip(("kid_prior", "kid_codes"), features[1:]):
        assert found[name] == pytest.approx(metrics.kernel_distance(features[0], drawn))
    originals = tiny.validation[:50]
    expected = metrics.psnr(originals, quality.reconstruct(run.vae, originals)).mean()
    assert found["psnr"] == pytest.approx(expected)
    page = (run.folder / "README.md").read_text()
    assert f"| gmsd | {found['gmsd']:.4f} |" in page
    assert (
        f"| kernel distance codes | {found['kid_codes']:.4f} |" in page and "from the codes" in page
    )
    assert f"| pixel loss | {written['validation']['pixel_loss']:.4f} |" in page
    assert f"({'stopped by hand' if stop else 'finished'} on" in page
    assert not list(run.folder.glob(".*.part"))
    assert max(map(len, repr(table).splitlines())) <= 80 and "\\" not in repr(table)  # a terminal's
    assert list(table.columns) == ["value", "meaning"] and table["value"]["PSNR, dB"] == round(
        found["psnr"], 3
    )
    assert table["value"]["validation kl"] == round(written["validation"]["kl"], 3)
    assert ("loss" in table.index) == (not stop)


def test_losses_are_those_of_the_definition_and_depend_on_the_seed(tiny, small_vae):
    vae = small_vae()
    d2lvae.initialize(vae, 0)
    images = tiny.validation[:100]
    found = quality.validation_losses(vae, images, losses.bce, 3)
    assert found == quality.validation_losses(vae, images, "bce", 3)
    other = quality.validation_losses(vae, images, "bce", 4)
    assert found["kl"] == other["kl"] and found["pixel_loss"] != other["pixel_loss"]
    batch = mx.nd.array(images).astype("float32") / 255
    mean, log_var = vae.encode(batch)
    assert found["kl"] == pytest.approx(losses.kl_divergence(mean, log_var).mean().asscalar(), 1e-4)
    drawn = [losses.bce(vae(batch)[0], batch).mean().asscalar() for _ in range(20)]
    assert abs(found["pixel_loss"] - np.mean(drawn)) < 6 * np.std(drawn) + 1e-3


def test_losses_are_those_that_evaluate_recorded(config, tiny, small_vae):
    """But for the noise, and for the order of sums."""
    net = small_vae()
    run = fit(net, tiny, {**config, "pixel_loss": "l2"})
    d2lvae.evaluate(run, tiny)
    found = quality.validation_losses(net, tiny.validation, losses.l2, 0)
    recorded = run.metrics["validation"]
    assert found["kl"] == pytest.approx(recorded["kl"], rel=1e-4)
    assert found["pixel_loss"] == pytest.approx(recorded["pixel_loss"], rel=5e-3)


def test_random_numbers_of_others_are_left_alone(tiny, small_vae):
    vae = small_vae()
    d2lvae.initialize(vae, 0)
    quality.quality(vae, tiny)  # the classifier is kept now
    for seed in (mx.random.seed, np.random.seed):
        seed(7)
    expected = mx.nd.random.normal(shape=3).asnumpy(), np.random.normal(size=3)
    for seed in (mx.random.seed, np.random.seed):
        seed(7)
    quality.validation_losses(vae, tiny.validation[:70], losses.bce, 0)
    quality.quality(vae, tiny)
    for found, wanted in zip(
        (mx.nd.random.normal(shape=3).asnumpy(), np.random.normal(size=3)), expected
    ):
        np.testing.assert_array_equal(found, wanted)


def absolute(logits, images):
    return (logits.sigmoid() - images).abs().sum(axis=(1, 2, 3))


def test_a_loss_and_a_set_of_ones_own(unmeasured, tiny):
    images = d2lvae.ImageSet("mine", tiny.train, tiny.validation, "my own", False)
    run = unmeasured(images=images, pixel_loss=absolute, num_train=0)
    with pytest.raises(RunError, match="trained with, absolute; found None: evaluate"):
        d2lvae.evaluate(run, images)
    table = d2lvae.evaluate(run, images, absolute)
    assert "kernel distance" not in table.index and "SSIM" in table.index
    assert "'mine'" in run.metrics["quality"]["not_measured"]["kid"]


def test_another_runs_folder_is_left_alone(unmeasured, tiny):
    run = unmeasured()
    path = run.folder / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "epochs_done": 9}))
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"metrics.json is another run's by now \(9 epochs there, 1"):
        d2lvae.evaluate(run, tiny)
    assert path.read_bytes() == before and "quality" not in run.metrics


def test_a_stopped_run_that_was_ended_since_is_named(unmeasured, tiny):
    stopped = unmeasured(epochs=3, stop=True)
    unmeasured(epochs=3, resume=True)
    with pytest.raises(RunError, match="stopped after 0 epochs, and has been trained to its end"):
        d2lvae.evaluate(stopped, tiny)


def record_of(run):
    return (run.folder / "metrics.json").read_bytes(), json.dumps(run.metrics)


@pytest.mark.parametrize("call", [d2lvae.evaluate, d2lvae.check_learning])
def test_other_images_than_the_runs_are_refused(unmeasured, tiny, call):
    run = unmeasured()
    before = record_of(run)
    for other in (data.drawn_digits(200, seed=5), tiny.first(150)):
        with pytest.raises(RunError, match="these images are .* but the run was trained on"):
            call(run, other)
    assert record_of(run) == before


def test_another_loss_than_the_runs_is_refused(unmeasured, tiny):
    run = unmeasured()
    before = record_of(run)
    with pytest.raises(RunError, match="trained with, bce; found absolute"):
        d2lvae.evaluate(run, tiny, absolute)
    with pytest.raises(RunError, match="the function that .* bce; found bce"):
        d2lvae.evaluate(run, tiny, "bce")
    assert record_of(run) == before


def test_a_net_that_was_trained_on_since_is_not_measured_in_the_first_runs_name(
    config, tiny, small_vae
):
    vae = small_vae()
    first = fit(vae, tiny, config)
    second = fit(vae, tiny, {**config, "lr": 0.01})
    with pytest.raises(RunError, match="the net of this run has been trained on"):
        d2lvae.evaluate(first, tiny)
    d2lvae.evaluate(second, tiny)
    first.vae = d2lvae.load_net(first.folder / "vae.npz")  # as the message says
    d2lvae.evaluate(first, tiny)
    assert first.metrics["validation"] != second.metrics["validation"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_measure_that_is_no_number_is_left_out_by_name():
    vae = d2lvae.DenseVAE(2, 1, 4, (1, 1, 1))
    d2lvae.initialize(vae, 0)
    pixels = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    found = quality.quality(vae, d2lvae.ImageSet("dots", pixels, pixels))
    assert all(np.isfinite(found[name]) for name in found if name != "not_measured")
    assert "no finite number" in found["not_measured"]["off_edge_gradient_ratio"]


def test_a_folder_on_another_machine_costs_only_the_files(unmeasured, tiny, tmp_path, capsys):
    run = unmeasured()
    run.folder = tmp_path / "not here"
    assert "SSIM" in d2lvae.evaluate(run, tiny).index
    assert "not here is not on this machine" in capsys.readouterr().out
    assert not run.folder.exists()


@pytest.mark.parametrize("recipe", ["alone", "adversarial", "features", "both"])
def test_a_good_run_is_not_faulted_whatever_its_loss_does(config, tiny, small_vae, recipe):
    """Where features grow the whole loss rises by nature; the pixels are what should fall."""
    parameters = {**config, "epochs": 80, "lr": 3e-3}
    disc = None if recipe == "alone" else d2lvae.DenseLogReg(1, 8)
    if disc is not None:
        parameters.update(learned_loss=recipe, disc_weight=1.0)
    run = fit(small_vae(), tiny, parameters, disc)
    run.history[-1]["loss"] = run.history[0]["loss"] * 10
    assert "NOTE" not in d2lvae.check_learning(run, tiny)


def test_what_a_run_has_not_learned_is_said(config, tiny, small_vae):
    run = fit(small_vae(), tiny, {**config, "lr": 1e-9})
    run.history[-1]["pixel_loss"] = run.history[0]["pixel_loss"] + 1
    first, second = d2lvae.check_learning(run, tiny).splitlines()
    assert "NOTE: it has not fallen" in first and "NOTE: no nearer" in second


def test_one_epoch_is_not_faulted_for_not_falling(config, tiny, small_vae):
    run = fit(small_vae(), tiny, {**config, "epochs": 1})
    assert "NOTE" not in d2lvae.check_learning(run, tiny).splitlines()[0]
