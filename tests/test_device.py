"""Another device than the processor's first: what a GPU's user would do, as far as it shows without one."""

import d2lvae
import helpers
import mxnet as mx
import numpy as np
import other_device
import pytest
from d2lvae import steps, training
from d2lvae.engine import adam, hybridize
from d2lvae.engine.process_group import ProcessGroup
from d2lvae.evaluation import classifier
from d2lvae.sources import synthetic
from d2lvae.storage.errors import RunError
from other_device import DEVICE

RECIPES = {
    "alone": (None, {}),
    "adversarial": (d2lvae.ConvDisc, {"num_solo_epochs": 1}),
    "features": (d2lvae.ConvDisc, {"learned_loss": "features", "upsampling": "resize"}),
    "both": (d2lvae.DenseLogReg, {"learned_loss": "both"}),
}


@pytest.fixture
def like_a_gpu(monkeypatch, tmp_path):
    other_device.use(monkeypatch.setattr)
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path))  # a classifier of few faces is not kept
    for module, name in ((classifier, "NUM_FACES"), (synthetic, "NUM_FACES")):
        monkeypatch.setattr(module, name, 64)
    monkeypatch.setattr(synthetic, "NUM_VALIDATION_FACES", 50)
    for module in (adam, hybridize):
        monkeypatch.setattr(module, "on_cpu", lambda array: array.context != DEVICE)


def test_the_stand_in_refuses_what_a_gpu_would(monkeypatch):
    here, there = mx.nd.ones(3), mx.nd.ones(3, ctx=DEVICE)
    assert (here + there).sum().asscalar() == 6
    other_device.use(monkeypatch.setattr)
    for mixed in (lambda: here + there, lambda: mx.nd.dot(there, here)):
        with pytest.raises(mx.MXNetError, match=r"on cpu\(0\) and cpu\(1\)"):
            mixed()
    there[:] = here  # a copy


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_stays_on_its_device(recipe, like_a_gpu, tiny_faces, tmp_path):
    Disc, settings = RECIPES[recipe]
    upsampling = settings.get("upsampling", "transposed")

    def fit(epochs, folder, resume=False):
        vae = d2lvae.ConvVAE(8, 4, tiny_faces.image_shape, upsampling)
        disc = Disc and Disc(image_shape=tiny_faces.image_shape)
        weight = {"disc_weight": 10.0} if disc else {}
        common = dict(epochs=epochs, resume=resume, results_dir=str(tmp_path / folder))
        config = d2lvae.Config(**common, **settings, **weight)
        return d2lvae.fit(vae, tiny_faces, config, disc)

    whole, begun, resumed = fit(3, "whole"), fit(2, "parts"), fit(3, "parts", resume=True)
    assert begun.metrics["device"] == str(DEVICE)
    pixel_losses = [record["pixel_loss"] for record in whole.history]
    assert pixel_losses[-1] < pixel_losses[0]
    assert [record["pixel_loss"] for record in resumed.history] == pixel_losses
    assert {p.list_ctx()[0] for p in resumed.vae.collect_params().values()} == {DEVICE}
    d2lvae.evaluate(resumed, tiny_faces)
    X = mx.nd.array(tiny_faces.validation[:2], ctx=DEVICE) / 255
    again = d2lvae.load_net(resumed.folder / "vae.npz")
    pictures = [again.reconstruct(X), again.interpolate(X[:1], X[1:])]
    pictures += [again.sample(2, from_codes=each) for each in (False, True)]
    assert {each.context for each in pictures} == {DEVICE}
    np.testing.assert_array_equal(pictures[0].asnumpy(), resumed.vae.reconstruct(X).asnumpy())


class Half(ProcessGroup):
    """The first of two workers, whose sums with the other are left out."""

    size = 2

    def shard(self, num_images):
        return slice(0, num_images // 2), num_images


def test_a_workers_step_is_on_its_device(like_a_gpu, tiny_faces):
    vae, disc = d2lvae.ConvVAE(8, 4, (3, 32, 32)), d2lvae.ConvDisc(4, (3, 32, 32))
    for seed, net in enumerate((vae, disc)):
        d2lvae.initialize(net, seed)
    found = training.learn(steps.BothStep(vae, disc), tiny_faces.train[:8], Half())
    assert {(loss.shape, loss.context) for loss in found.values()} == {((4,), DEVICE)}


def test_nets_stay_where_they_are_and_the_other_joins(like_a_gpu, tiny, config, tmp_path):
    """`initialize` of Gluon's puts a net on the CPU if it is not told otherwise."""
    vae, discs = d2lvae.DenseVAE(3, 1, 8), [d2lvae.DenseLogReg(1, 8) for _ in range(2)]
    config.update(disc_weight=1.0, epochs=1)
    vae.initialize(mx.init.Xavier())
    run = helpers.fit(vae, tiny, config, discs[0])
    assert vae.ctx == discs[0].ctx == mx.cpu() and run.metrics["device"] == "cpu(0)"
    d2lvae.initialize(vae, 0, DEVICE)
    config["seed"] = 1
    found = r"the vae on cpu\(1\) and the disc on cpu\(0\)"
    with pytest.raises(RunError, match=f"must be on one device; found {found}"):
        helpers.fit(vae, tiny, config, discs[0])
    run = helpers.fit(vae, tiny, config, discs[1])
    assert vae.ctx == discs[1].ctx == DEVICE and run.metrics["device"] == str(DEVICE)
