"""What the VAE learns from a discriminator: its judgement (adversarial loss), its features, or both, each by the plainest of references."""

import d2lvae
import helpers
import mxnet as mx
import numpy as np
import pytest
from d2lvae import figures, losses, training
from d2lvae.engine import layers
from d2lvae.engine.hybridize import apart
from d2lvae.storage.nets import get_weights
from mxnet import autograd
from mxnet.gluon import nn
from test_training import NormedDisc, assert_learned_the_same, new_step, numbers

SMALL = (3, 32, 32)
DISCRIMINATORS = {
    "DenseLogReg": lambda: d2lvae.DenseLogReg(2, 8, SMALL),
    "ConvDisc": lambda: d2lvae.ConvDisc(4, SMALL),
    "ResNetDisc": lambda: d2lvae.ResNetDisc("cifar_resnet20_v1", SMALL),
}


class NormedDiscWithFeatures(NormedDisc):
    def features(self, images):
        for layer in list(self.body)[:3]:
            images = layer(images)
        return images


def faces_config(config, **changes):
    return {**config, "disc_weight": 2.0, **changes}


@pytest.mark.parametrize("learned_loss", ["features", "both"])
@pytest.mark.parametrize("normed", [False, True])
def test_a_step_equals_the_plain_one(config, tiny, small_vae, small_disc, learned_loss, normed):
    """The reference: every image decoded and judged by itself, the encoder's gradient taken without the adversarial loss."""
    make_disc = NormedDiscWithFeatures if normed else small_disc
    ours = new_step(
        config,
        small_vae(),
        make_disc(),
        disc_weight=7.0,
        learned_loss=learned_loss,
        feature_weight=3.0,
        disc_lr=2e-3,
    )
    vae, disc = small_vae(), make_disc()
    d2lvae.initialize(vae, 0), d2lvae.initialize(disc, 1)
    starts = get_weights(vae), get_weights(disc)
    vae_trainer = mx.gluon.Trainer(
        vae.collect_params(), "adam", {"learning_rate": config["lr"]}, kvstore=None
    )
    disc_trainer = mx.gluon.Trainer(
        disc.collect_params(), "adam", {"learning_rate": 2e-3}, kvstore=None
    )
    batch = tiny.train[:16]
    x = mx.nd.array(batch).astype("float32") / 255
    for step in range(3):
        mx.random.seed(step)
        found = numbers(training.learn(ours, batch))

        def decoded():
            mx.random.seed(step)
            mean, log_var = vae.encode(x)
            latents = vae.reparameterize(mean, log_var)
            prior = mx.nd.random.normal_like(latents)
            return (
                vae.decode(latents),
                vae.decode(latents.detach()),
                vae.decode(prior),
                mean,
                log_var,
            )

        _, fake, prior, _, _ = decoded()
        with autograd.record():
            disc_loss = (
                losses.adversarial(disc(x), True)
                + losses.adversarial(disc(fake.sigmoid()), False) / 2
                + losses.adversarial(disc(prior.sigmoid()), False) / 2
            )
        disc_loss.backward()
        disc_trainer.step(16)
        with autograd.record():
            logits, blocked, prior, mean, log_var = decoded()
            real, reconstructed = disc.features(mx.nd.concat(x, logits.sigmoid(), dim=0)).split(
                2, axis=0
            )
            distance = 0.5 * ((real - reconstructed) ** 2).reshape((16, -1)).sum(axis=1)
            adversarial = (
                losses.adversarial(disc(blocked.sigmoid()), True)
                + losses.adversarial(disc(prior.sigmoid()), True)
            ) / 2
            loss = losses.bce(logits, x) + losses.kl_divergence(mean, log_var) + 3.0 * distance
            if learned_loss == "both":
                loss = loss + 7.0 * adversarial
        loss.backward()
        vae_trainer.step(16)
        expected = {"features": [distance], "both": [adversarial, distance]}[learned_loss] + [
            disc_loss
        ]
        np.testing.assert_allclose(
            found[2:], [part.sum().asscalar() for part in expected], rtol=1e-4
        )
    assert_learned_the_same(ours.vae, vae, starts[0])
    assert_learned_the_same(ours.disc, disc, starts[1])


def gradients_of_parts(config, images, disc, learned_loss):
    """What a step's adversarial loss alone gives to the encoder and to the decoder, in absolute values summed."""
    ours = new_step(
        faces_config(config, learned_loss=learned_loss), d2lvae.ConvVAE(8, 4, SMALL), disc
    )
    ours.weights.update(pixel_loss=0.0, kl=0.0)
    training.learn(ours, images)
    return [
        sum(
            np.abs(p.grad().asnumpy()).sum()
            for p in part.collect_params().values()
            if p.grad_req != "null"
        )
        for part in (ours.vae.encoder, ours.vae.decoder)
    ]


@pytest.mark.parametrize("disc", DISCRIMINATORS)
def test_who_learns_from_what(config, tiny_faces, disc):
    make, images = DISCRIMINATORS[disc], tiny_faces.train[:8]
    for learned_loss in ("adversarial", "features", "both"):
        encoder, decoder = gradients_of_parts(config, images, make(), learned_loss)
        assert encoder > 0 and decoder > 0, learned_loss
    encoder, decoder = gradients_of_parts({**config, "feature_weight": 0.0}, images, make(), "both")
    assert encoder == 0 and decoder > 0, "the adversarial loss must teach the decoder alone"


@pytest.mark.parametrize("disc", DISCRIMINATORS)
def test_the_vaes_part_leaves_the_discriminator_alone(config, tiny_faces, disc):
    ours = new_step(
        faces_config(config, learned_loss="both"),
        d2lvae.ConvVAE(8, 4, SMALL),
        DISCRIMINATORS[disc](),
    )
    ours._learn_to_tell = lambda batch_size, real, *fakes: mx.nd.zeros(1)
    before = get_weights(ours.disc)
    training.learn(ours, tiny_faces.train[:8])
    after = get_weights(ours.disc)
    assert all(
        (before[name] == after[name]).all() for name in before
    ), "weights or statistics moved"


def test_equal_images_have_distance_0_and_others_the_one_by_hand():
    a, b = mx.nd.array([[[1, 2]], [[0, 0]]]), mx.nd.array([[[1, 4]], [[3, -1]]])
    assert losses.feature_distance(a, a).asnumpy().tolist() == [0, 0]
    np.testing.assert_allclose(losses.feature_distance(a, b).asnumpy(), [2, 5])


@pytest.mark.parametrize(
    "disc, shape",
    [("DenseLogReg", (2, 8)), ("ConvDisc", (2, 8, 8, 8)), ("ResNetDisc", (2, 16, 32, 32))],
)
def test_features_lie_on_the_way_to_the_logit(disc, shape, tiny_faces):
    net = DISCRIMINATORS[disc]()
    d2lvae.initialize(net, 0)
    images = mx.nd.array(tiny_faces.train[:2]).astype("float32") / 255
    assert net.features(images).shape == shape
    if disc != "ResNetDisc":
        features = net.features(images)
        for layer in list(net.body)[{"DenseLogReg": -1, "ConvDisc": 5}[disc] :]:
            features = layer(features)
        np.testing.assert_allclose(
            features.reshape((-1,)).asnumpy(), net(images).asnumpy(), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(
    "name, shape",
    [
        ("resnet18_v1", (1, 64, 16, 16)),
        ("resnet18_v2", (1, 64, 16, 16)),
        ("resnet18_v1b", (1, 64, 16, 16)),
    ],
)
def test_every_family_of_resnets_has_features(name, shape):
    net = d2lvae.ResNetDisc(name)
    d2lvae.initialize(net, 0)
    assert net.features(mx.nd.ones((1, 3, 64, 64))).shape == shape


def test_the_images_that_are_judged(config, tiny_faces):
    """Copies of the reconstructions are just as these, the prior's images are others."""
    ours = new_step(
        faces_config(config, learned_loss="both"),
        d2lvae.ConvVAE(8, 4, SMALL),
        d2lvae.ConvDisc(4, SMALL),
    )
    with autograd.train_mode():
        _, _, reconstructed, blocked, prior = ours.vae_losses(
            training.unit_images(tiny_faces.train[:8], mx.cpu())
        )
    assert reconstructed.shape == blocked.shape == prior.shape == (8, *SMALL)
    np.testing.assert_allclose(reconstructed.asnumpy(), blocked.asnumpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(reconstructed.asnumpy() - prior.asnumpy()).max() > 1e-3


@pytest.mark.parametrize("learned_loss", ["features", "both"])
def test_the_decoders_running_statistics_are_the_reconstructions_alone(
    config, tiny_faces, learned_loss
):
    after = {}
    for kind in ("adversarial", learned_loss):
        ours = new_step(
            faces_config(config, learned_loss=kind),
            d2lvae.ConvVAE(8, 4, SMALL),
            d2lvae.ConvDisc(4, SMALL),
        )
        mx.random.seed(5)
        training.learn(ours, tiny_faces.train[:8])
        after[kind] = get_weights(ours.vae)
    names = [name for name in after["adversarial"] if "running" in name]
    assert len(names) == 2 * (3 + 3)
    for name in names:
        np.testing.assert_allclose(
            after[learned_loss][name],
            after["adversarial"][name],
            rtol=1e-4,
            atol=1e-6,
            err_msg=name,
        )


def test_batches_are_kept_apart_in_sequences_within_a_sequence():
    block, inner = nn.HybridSequential(), nn.HybridSequential()
    inner.add(nn.Dense(3, in_units=3), nn.BatchNorm(in_channels=3))
    block.add(inner, nn.Activation("tanh"))
    block.initialize()
    low, high = mx.nd.random.normal(shape=(2, 8, 3)) + mx.nd.array([[[-5]], [[5]]])
    with autograd.record():
        together = apart(block, low, high)
    autograd.backward(together)
    running = inner[1].running_mean.data().asnumpy()
    with autograd.train_mode():
        alone = [block(low), block(high)]
    for found, expected in zip(together, alone):
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), atol=1e-5)
    np.testing.assert_allclose(running, 0.1 * inner[0](low).mean(axis=0).asnumpy(), rtol=1e-4)


def test_a_decoder_of_any_kind_learns_from_both_losses(config, tiny, small_disc):
    class Decoder(nn.HybridBlock):
        def __init__(self):
            super().__init__(prefix="decoder_")
            with self.name_scope():
                self.dense = nn.Dense(28 * 28, in_units=2)

        def hybrid_forward(self, F, latents):
            return self.dense(latents)

    class OwnDecoderVAE(d2lvae.VAE):
        def __init__(self, num_latents=2, image_shape=(1, 28, 28)):
            super().__init__(num_latents, image_shape)
            with self.name_scope():
                self.encoder, self.decoder = nn.Dense(2 * num_latents), Decoder()

    run = helpers.fit(OwnDecoderVAE(), tiny, {**config, "learned_loss": "both"}, small_disc())
    assert len(run.history) == 2 and np.isfinite(run.history[1]["loss"])


def as_resize_convolution(layer, x):
    """Doubled pixels, then the 3 x 3 convolution that a ResizeConv's sixteen weights follow from."""
    kernels = np.zeros((9, 4, 4), np.float32)
    for i in range(9):
        kernels[i, i // 3 : i // 3 + 2, i % 3 : i % 3 + 2] = 1
    weight = layer.weight.data().asnumpy()
    nine = weight.reshape(-1, 16) @ np.linalg.pinv(kernels.reshape(9, 16))
    nine = nine.reshape(*weight.shape[:2], 3, 3).transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    doubled = mx.nd.UpSampling(x, scale=2, sample_type="nearest")
    return mx.nd.Convolution(
        doubled,
        mx.nd.array(nine.copy()),
        layer.bias.data(),
        kernel=(3, 3),
        pad=(1, 1),
        num_filter=weight.shape[1],
    )


def test_a_resize_convolution_is_one_before_and_after_training(tiny_faces, config):
    layer = layers.ResizeConv(5, 7)
    d2lvae.initialize(layer, 0)
    x = mx.nd.random.normal(shape=(2, 7, 6, 6))
    np.testing.assert_allclose(
        layer(x).asnumpy(), as_resize_convolution(layer, x).asnumpy(), atol=1e-5
    )
    ours = new_step(config, d2lvae.ConvVAE(8, 4, SMALL, upsampling="resize"))
    start = get_weights(ours.vae)
    for _ in range(3):
        training.learn(ours, tiny_faces.train[:8])
    layer = ours.vae.decoder[-1]
    x = mx.nd.random.normal(shape=(2, 4, 16, 16))
    np.testing.assert_allclose(
        layer(x).asnumpy(), as_resize_convolution(layer, x).asnumpy(), atol=1e-5
    )
    assert all(
        (start[name] != array).any()
        for name, array in get_weights(ours.vae).items()
        if "weight" in name
    )


def test_a_resize_convolution_draws_no_checkerboard_on_a_flat_image():
    flat = mx.nd.ones((1, 7, 6, 6))
    for layer, even in (
        (layers.ResizeConv(5, 7), True),
        (mx.gluon.nn.Conv2DTranspose(5, 4, 2, 1, in_channels=7), False),
    ):
        d2lvae.initialize(layer, 0)
        inner = layer(flat).asnumpy()[:, :, 2:-2, 2:-2]
        assert (inner.std(axis=(2, 3)).max() < 1e-6) == even


def test_saved_and_loaded_a_resize_decoder_stays_one(tmp_path):
    net = d2lvae.ConvVAE(8, 4, SMALL, upsampling="resize")
    d2lvae.initialize(net, 0)
    d2lvae.save_net(tmp_path / "vae.npz", net)
    again = d2lvae.load_net(tmp_path / "vae.npz")
    assert again.config == net.config and again.config["upsampling"] == "resize"
    latents = mx.nd.ones((1, 8))
    np.testing.assert_allclose(
        net.decode(latents).asnumpy(), again.decode(latents).asnumpy(), rtol=1e-5, atol=1e-6
    )


def test_the_images_titles_say_what_was_learned_from(config, tiny_faces, tmp_path, monkeypatch):
    titles, show = [], figures.show_images
    monkeypatch.setattr(
        figures,
        "show_images",
        lambda images, title, **options: titles.append(title) or show(images, title, **options),
    )
    for learned_loss, words in (
        ("adversarial", "BCE, 1 epoch"),
        ("features", "BCE + features, 1 epoch"),
        ("both", "BCE + features + adversarial loss, 1 epoch"),
    ):
        titles.clear()
        helpers.fit(
            d2lvae.ConvVAE(8, 4, SMALL),
            tiny_faces,
            {
                **faces_config(config),
                "epochs": 1,
                "learned_loss": learned_loss,
                "results_dir": str(tmp_path),
            },
            DISCRIMINATORS["DenseLogReg"](),
        )
        assert titles and all(words in title for title in titles)


def test_another_word_for_upsampling_is_refused():
    with pytest.raises(
        ValueError, match="upsampling must be 'transposed' or 'resize'; found 'nearest'"
    ):
        d2lvae.ConvVAE(8, 4, SMALL, upsampling="nearest")
