"""What does not fit is named before any work: nets, losses, images, and parameters by hand."""

import dataclasses
import json
import pathlib

import d2lvae
import numpy as np
import pytest
from d2lvae import losses
from d2lvae.storage.records import run_name
from helpers import fit, run_folder, settings_of
from mxnet.gluon import nn


class OwnVAE(d2lvae.VAE):
    """An encoder and a decoder that give as many numbers as one likes."""

    def __init__(self, num_codes=4, num_pixels=784, num_latents=2, image_shape=(1, 28, 28)):
        sizes = dict(num_codes=num_codes, num_pixels=num_pixels)
        super().__init__(num_latents, image_shape, **sizes)
        with self.name_scope():
            self.encoder, self.decoder = nn.Dense(num_codes), nn.Dense(num_pixels)


class OwnDisc(d2lvae.Discriminator):
    """As many logits for each image as one likes."""

    def __init__(self, num_logits=1, image_shape=(1, 28, 28)):
        super().__init__(image_shape, num_logits=num_logits)
        with self.name_scope():
            self.body = nn.Dense(num_logits)

    def features(self, images):
        return self.body(images).reshape((-1,)).slice_axis(axis=0, begin=0, end=1)


def batch_mean(logits, images):
    return losses.bce(logits, images).mean()


def each_pixel(logits, images):
    return (logits.sigmoid() - images).abs()


def by_numpy(logits, images):
    return logits.asnumpy() - images


def no_return(logits, images):
    losses.bce(logits, images)


def with_shape(logits, images):
    return losses.bce(logits, images) / images.shape[0]


def each_channel(logits, images):
    return (logits.sigmoid() - images).square().mean(axis=(0, 2, 3))


class Pooled(d2lvae.VAE):
    """An encoder that pools and does not flatten."""

    def __init__(self, num_latents=2, image_shape=(1, 28, 28)):
        super().__init__(num_latents, image_shape)
        with self.name_scope():
            self.encoder, self.decoder = nn.HybridSequential(), nn.Dense(784)
            self.encoder.add(nn.Conv2D(4, 3), nn.GlobalAvgPool2D())


class Flat(OwnVAE):
    def decode(self, latents):
        return self.decoder(latents)


class NoNoise(OwnVAE):
    def reparameterize(self, mean, log_var):
        return mean


@pytest.mark.parametrize(
    "vae, disc, changes, message",
    [
        (
            lambda: OwnVAE(2),
            None,
            {},
            "OwnVAE's encoder, means: expected the shape 5 x 2 .*found 5 x 1",
        ),
        (lambda: OwnVAE(3), None, {}, "OwnVAE's encoder.*cannot be computed"),
        (lambda: OwnVAE(4, 700), None, {}, "OwnVAE's decoder.*expected the shape 5 x 1 x 28 x 28"),
        (
            lambda: OwnVAE(image_shape=(1, 8, 8), num_pixels=64),
            None,
            {},
            "this OwnVAE takes images of 1 x 8 x 8, but these are of 1 x 28 x 28: make it with",
        ),
        (OwnVAE, lambda: OwnDisc(3), {}, "OwnDisc's logits: expected the shape 5 .*found 15"),
        (OwnVAE, OwnDisc, {"learned_loss": "features"}, "features: .*5 x ... .*found 1"),
        (OwnVAE, None, {"pixel_loss": batch_mean}, "batch_mean: expected .*5 x ... .*found 1"),
        (OwnVAE, None, {"pixel_loss": no_return}, "no_return: .*NoneType instead of one array"),
        (OwnVAE, None, {"pixel_loss": with_shape}, "with_shape: .*cannot be compiled .*'shape'"),
        (Flat, None, {}, "Flat's decoder: .* 5 x 1 x 28 x 28 .*found 5 x 784"),
        (NoNoise, None, {}, "NoNoise's reparameterize: .*cannot be compiled"),
        (OwnVAE, None, {"pixel_loss": by_numpy}, "by_numpy: .*found what cannot be compiled"),
    ],
)
def test_what_does_not_fit_is_named_before_any_work(config, tiny, vae, disc, changes, message):
    disc = disc and disc()
    with pytest.raises(d2lvae.RunError, match=message):
        fit(vae(), tiny, {**config, **changes}, disc)
    assert not pathlib.Path(config["results_dir"]).exists()


def test_an_encoder_may_end_in_pooled_maps(config, tiny):
    assert fit(Pooled(), tiny, config).finished


def test_a_loss_of_each_channel_is_none_of_each_image(config, tiny_faces):
    config = {**config, "num_train": 0, "pixel_loss": each_channel}
    vae = d2lvae.DenseVAE(2, 1, 8, tiny_faces.image_shape)
    with pytest.raises(d2lvae.RunError, match="each_channel: expected .*5 x ... .*found 3"):
        fit(vae, tiny_faces, config)


@pytest.mark.parametrize("recipe", ["adversarial", "both"])
def test_a_decode_of_ones_own_is_what_every_recipe_trains(config, tiny, recipe):
    class Grey(OwnVAE):
        def decode(self, latents):
            return super().decode(latents) * 0

    changes = {"disc_weight": 1.0, "learned_loss": recipe, "epochs": 1}
    run = fit(Grey(), tiny, {**config, **changes}, d2lvae.DenseLogReg(1, 8))
    assert run.history[0]["pixel_loss"] == pytest.approx(784 * np.log(2), rel=1e-4)


def test_the_vae_begins_alone_in_every_recipe(config, tiny):
    """Both draw the same noise in epochs without the discriminator, and the same as a VAE alone."""
    config = {**config, "epochs": 3}
    expected = fit(OwnVAE(), tiny, config).history[:2]
    for recipe in ("adversarial", "both"):
        changes = {"num_solo_epochs": 2, "disc_weight": 1.0, "learned_loss": recipe}
        run = fit(OwnVAE(), tiny, {**config, **changes}, d2lvae.DenseLogReg(1, 8))
        for one, other in zip(run.history, expected):
            assert (one["pixel_loss"], one["kl"]) == (other["pixel_loss"], other["kl"])


def test_a_finished_run_that_is_called_again_keeps_its_measures(config, tiny, small_vae):
    run = fit(small_vae(), tiny, config)
    d2lvae.evaluate(run, tiny)
    again = fit(small_vae(), tiny, {**config, "resume": True})
    for name in ("validation", "quality", "finished_at"):
        assert again.metrics[name] == run.metrics[name]
    path = run.folder / "metrics.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "final": {**record["final"], "loss": 1.0}}))
    others = fit(small_vae(), tiny, {**config, "resume": True})  # of another training, by its loss
    assert others.metrics["final"] == run.metrics["final"] and "quality" not in others.metrics
    longer = fit(small_vae(), tiny, {**config, "resume": True, "epochs": 3})
    assert "quality" not in longer.metrics and longer.folder != run.folder
    anew = fit(small_vae(), tiny, config)  # trained anew, so to be measured anew
    assert "quality" not in anew.metrics


def test_images_that_the_classifier_does_not_know_are_not_measured_by_it(config, tiny, capsys):
    coloured = dataclasses.replace(
        tiny, train=tiny.train.repeat(3, 1), validation=tiny.validation.repeat(3, 1)
    )
    run = fit(d2lvae.DenseVAE(2, 1, 8, coloured.image_shape), coloured, config)
    d2lvae.evaluate(run, coloured)
    quality = run.metrics["quality"]
    assert "psnr" in quality and "kid" not in quality
    assert quality["not_measured"]["kid"].endswith(
        "takes images of (1, 28, 28); these are of (3, 28, 28)"
    )
    assert "training the classifier" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "dtype, advice", [(bool, r"\* 255"), (np.uint16, "// 257"), (np.int64, "from 0 to 255")]
)
def test_advice_on_other_numbers_spoils_no_image(dtype, advice):
    with pytest.raises(d2lvae.DataError, match=advice):
        d2lvae.ImageSet("own", np.ones((4, 1, 8, 8), dtype), np.ones((4, 1, 8, 8), np.uint8))


def test_where_uint8_images_are_expected_no_others_are_taken(tiny, small_vae):
    vae = small_vae()
    d2lvae.initialize(vae, 0)
    with pytest.raises(ValueError, match="must be uint8, 0 to 255; found float64"):
        d2lvae.fit_codes(vae, tiny.train / 255)


def test_codes_that_are_no_numbers_are_none(tiny, small_vae, capsys):
    vae = small_vae()
    d2lvae.initialize(vae, 0)
    last = vae.encoder[-1].bias
    last.set_data(last.data() + 1e4)  # the log-variance's exponential is infinite
    assert d2lvae.fit_codes(vae, tiny.train) is None and vae.codes is None
    assert "no finite numbers" in capsys.readouterr().out


def test_a_loss_of_each_pixel_is_summed(config, tiny):
    run = fit(OwnVAE(), tiny, {**config, "pixel_loss": each_pixel, "epochs": 1})
    assert 100 < run.history[0]["pixel_loss"] < 784


def test_losses_of_one_name_have_folders_of_their_own(config, tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    folders = []
    for module, power in (("first_loss", "abs"), ("second_loss", "square")):
        code = f"def mine(logits, images):\n    return (logits.sigmoid() - images).{power}()\n"
        (tmp_path / f"{module}.py").write_text(code)
        loss = __import__(module).mine
        folders.append(run_folder(OwnVAE(), tiny, {**config, "pixel_loss": loss}))
    assert folders[0] != folders[1] and "_mine_2_num_train_200_source_" in folders[0].name
    again = __import__("first_loss").mine
    assert run_folder(OwnVAE(), tiny, {**config, "pixel_loss": again}) == folders[0]
    settings = settings_of(OwnVAE(), tiny, config)
    assert "pixel_loss_source" not in settings and "source" not in run_name(settings)


def test_a_run_is_not_measured_with_a_loss_that_has_changed(config, tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    code = "def mine(logits, images):\n    return (logits.sigmoid() - images).{}()\n"
    (tmp_path / "one_loss.py").write_text(code.format("abs"))
    (tmp_path / "other_loss.py").write_text(code.format("square"))
    one, other = (__import__(name).mine for name in ("one_loss", "other_loss"))
    run = fit(OwnVAE(), tiny, {**config, "epochs": 1, "pixel_loss": one})
    with pytest.raises(d2lvae.RunError, match="the lines of mine have changed"):
        d2lvae.evaluate(run, tiny, other)
    assert "quality" not in run.metrics and "SSIM" in d2lvae.evaluate(run, tiny, one).index


def test_a_forward_of_ones_own_is_refused_since_training_calls_the_parts(config, tiny):
    class Black(OwnVAE):
        def hybrid_forward(self, F, images):
            logits, mean, log_var = super().hybrid_forward(F, images)
            return logits * 0, mean, log_var

    with pytest.raises(TypeError, match="Black.hybrid_forward would not be used"):
        fit(Black(), tiny, config)


def test_arrays_are_no_image_set(config, tiny, small_vae):
    with pytest.raises(TypeError, match="ndarray is no d2lvae.ImageSet"):
        fit(small_vae(), tiny.train, config)


def test_parameters_by_hand_are_compared_with_the_images(config, tiny, tiny_faces, small_vae):
    with pytest.raises(d2lvae.ParameterError, match="data is 'mnist', but these images are drawn"):
        fit(small_vae(), tiny, {**config, "data": "mnist"})
    vae = d2lvae.DenseVAE(2, 1, 8, tiny_faces.image_shape)
    with pytest.raises(d2lvae.ParameterError, match="image_size is 128, but"):
        fit(vae, tiny_faces, {**config, "num_train": 0, "image_size": 128})


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: d2lvae.ConvVAE(num_latents=0), "num_latents .* at least 1; found 0"),
        (lambda: d2lvae.DenseVAE(-3), "num_latents .* found -3"),
        (lambda: d2lvae.DenseVAE("8"), "num_latents .* found '8'"),
        (lambda: d2lvae.DenseVAE(num_layers=1.5), "num_layers .* at least 0; found 1.5"),
        (lambda: d2lvae.ConvDisc(0), "base_channels .* found 0"),
        (lambda: d2lvae.DenseLogReg(num_hiddens=0), "num_hiddens .* found 0"),
        (lambda: d2lvae.DenseVAE(image_shape=(28, 28)), r"image_shape must be \(C, H, W\)"),
        (lambda: d2lvae.DenseVAE(image_shape=(1, 28, 0)), "W must be .* found 0"),
    ],
)
def test_a_net_of_no_size_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_size_of_ones_own_may_be_called_like_an_axis():
    class Own(d2lvae.Discriminator):
        def __init__(self, C=0.5, image_shape=(1, 4, 4)):
            super().__init__(image_shape, C=C)

    assert Own().config["C"] == 0.5


def test_a_path_is_a_results_folder(tmp_path):
    assert d2lvae.Config(results_dir=tmp_path).results_dir == str(tmp_path)


def test_a_loop_over_runs_can_see_that_one_was_stopped(config, tiny, small_vae, monkeypatch):
    assert fit(small_vae(), tiny, config).finished
    monkeypatch.setattr(d2lvae.runs.training, "train", lambda *arguments: False)
    assert not fit(small_vae(), tiny, {**config, "seed": 1}).finished


def test_interpolation_is_from_one_image_to_one(small_vae):
    vae = small_vae()
    d2lvae.initialize(vae, 0)
    two = np.zeros((2, 1, 28, 28), np.float32)
    with pytest.raises(ValueError, match="give one image at each end; found 2 and 2"):
        vae.interpolate(two, two)
