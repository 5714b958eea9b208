"""Nets and losses of one's own that are unusual: taken as they are meant, or refused in words that help."""

import d2lvae
import helpers
import mxnet as mx
import numpy as np
import pytest
from d2lvae.engine.adam import Adam
from d2lvae.engine.bfloat16 import in_bfloat16
from d2lvae.storage.errors import CheckpointError, RunError
from d2lvae.storage.files import read_arrays, write_arrays
from mxnet.gluon import nn


class Plain(d2lvae.VAE):
    """As few layers as will do; `scoped` puts them into the net's name scope."""

    def __init__(self, num_latents=3, image_shape=(1, 28, 28), scoped=True):
        super().__init__(num_latents, image_shape, scoped=scoped)
        if scoped:
            with self.name_scope():
                self.make()
        else:
            self.make()

    def make(self):
        self.encoder, self.decoder = nn.HybridSequential(), nn.HybridSequential()
        self.encoder.add(nn.Dense(8, activation="tanh"), nn.Dense(2 * self.num_latents))
        self.decoder.add(nn.Dense(8, activation="tanh"), nn.Dense(784))


class Unused(Plain):
    def make(self):
        super().make()
        self.extra = nn.Dense(7)


class Listed(Plain):
    def make(self):
        super().make()
        self.last = [nn.Dense(784, in_units=8)]
        self.last[0].initialize()
        self.decoder = nn.HybridSequential()
        self.decoder.add(nn.Dense(8, activation="tanh"))

    def decode(self, latents):
        return self.last[0](self.decoder(latents)).reshape((-1, *self.image_shape))


def weights_of(block):
    return list(block.collect_params().values())


def freeze(block):
    block.collect_params().setattr("grad_req", "null")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Plain(scoped=False), r"made outside of its name_scope\(\)"),
        (Unused, "of a layer that this Unused does not use: leave"),
        (Listed, "a weight of none of the nets that learn here"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is an unregistered container:UserWarning")
def test_what_could_not_be_trained_is_refused(make, words, tiny, config):
    with pytest.raises(RunError, match=words):
        helpers.fit(make(), tiny, config)


def test_frozen_weights_are_kept_and_recorded(tiny, config):
    runs = [helpers.fit(Plain(), tiny, config)]
    for seed in (8, 9):  # as if trained before
        vae, given = Plain(), Plain()
        freeze(vae.encoder)
        for each, number in ((vae, 0), (given, seed)):
            d2lvae.initialize(each, number)
        for mine, theirs in zip(weights_of(vae.encoder), weights_of(given.encoder)):
            mine.set_data(theirs.data())
        before = [weight.data().asnumpy() for weight in weights_of(vae)]
        runs.append(helpers.fit(vae, tiny, config))
        moved = [
            not np.array_equal(weight.data().asnumpy(), old)
            for weight, old in zip(weights_of(vae), before)
        ]
        assert moved == 4 * [False] + 4 * [True]  # the encoder's, the decoder's
    assert len({run.folder for run in runs}) == 3
    frozen = Plain()  # with the seed's weights
    freeze(frozen.encoder)
    assert helpers.run_folder(frozen, tiny, config) != runs[0].folder
    assert d2lvae.load_net(runs[-1].folder / "vae.npz").config == runs[0].vae.config


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("grad_req", "null", "are frozen: nothing is left to learn"),
        ("grad_req", "add", "has grad_req 'add'; Adam is for 'write' alone"),
        ("lr_mult", 0.5, "has lr_mult 0.5; Adam is for 1.0 alone"),
        ("_grad_stype", "row_sparse", "has stype 'row_sparse'; Adam is for 'default' alone"),
    ],
)
def test_adam_refuses_what_it_does_not_know(name, value, words):
    net = nn.Dense(2, in_units=3)
    for parameter in net.collect_params().values():
        setattr(parameter, name, value)
    net.initialize()
    with pytest.raises(TypeError, match=words):
        Adam(net, 0.1)


def test_a_loss_with_another_number_has_another_folder(tiny, config):
    def scaled(beta):
        def error(logits, images):
            return beta * (logits.sigmoid() - images).square().reshape((0, -1)).sum(axis=1)

        return error

    def with_default(logits, images, beta=1.0):
        return beta * (logits.sigmoid() - images).square().reshape((0, -1)).sum(axis=1)

    folder = lambda loss: helpers.run_folder(Plain(), tiny, {**config, "pixel_loss": loss})
    assert folder(scaled(1.0)) == folder(scaled(1.0)) != folder(scaled(4.0))
    before = folder(with_default)
    with_default.__defaults__ = (2.0,)
    assert folder(with_default) != before


def test_bfloat16_leaves_weights_that_are_computed_and_other_pooling_as_they_are():
    x, weight = mx.sym.var("x", shape=(2, 32, 8, 8)), mx.sym.var("weight", shape=(32, 32, 3, 3))
    options = dict(no_bias=True, num_filter=32, kernel=(3, 3), pad=(1, 1))
    computed = mx.sym.Convolution(x, weight * 2, **options)
    plain = mx.sym.Convolution(x, weight, **options)
    pooled = mx.sym.Pooling(plain, kernel=(2, 2), stride=(2, 2), pool_type="sum")
    shapes = {"weight": (32, 32, 3, 3)}
    computed, pooled = (in_bfloat16(each, shapes) for each in (computed, pooled))
    computed, pooled = (each.tojson(remove_amp_cast=False) for each in (computed, pooled))
    assert "bfloat16" not in computed
    assert pooled.count('"bfloat16"') == 2 and pooled.index('"float32"') < pooled.index("Pooling")


def test_resuming_says_that_a_class_has_changed(tiny, config, capsys):
    def made(activation):
        class Changing(Plain):
            def make(self):
                super().make()
                self.decoder = nn.HybridSequential()
                self.decoder.add(nn.Dense(8, activation=activation), nn.Dense(784))

        return Changing()

    first = helpers.fit(made("tanh"), tiny, config)
    for activation, changed in (("tanh", False), ("sigmoid", True)):
        capsys.readouterr()
        again = helpers.fit(made(activation), tiny, {**config, "resume": True})
        said = capsys.readouterr().out
        assert again.folder == first.folder and "going on after 2 of 2" in said
        assert (
            "code of the vae's class is not what its training was begun with" in said
        ) == changed
    assert (
        "code" in first.metrics
        and "code" not in helpers.fit(d2lvae.DenseVAE(3, 1, 8), tiny, config).metrics
    )


def test_a_record_of_images_that_the_layers_do_not_take_is_refused(tmp_path):
    class Fixed(Plain):
        def make(self):
            self.encoder, self.decoder = nn.HybridSequential(), nn.HybridSequential()
            self.encoder.add(nn.Dense(6, in_units=784))
            self.decoder.add(nn.Dense(784, in_units=3))

    vae, path = Fixed(), tmp_path / "vae.npz"
    d2lvae.initialize(vae, 0)
    d2lvae.save_net(path, vae)
    arrays, record = read_arrays(path)
    record["config"]["image_shape"] = [1, 14, 14]
    write_arrays(path, arrays, record)
    with pytest.raises(CheckpointError, match="Fixed cannot be built from"):
        d2lvae.load_net(path)
