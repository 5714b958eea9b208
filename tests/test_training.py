"""The step teaches each net what it should and nothing else; the loop keeps its promises."""

import os
import signal
import threading

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae import losses, training
from d2lvae.engine import progress
from d2lvae.engine.progress import reporting
from d2lvae.storage import checkpoints
from d2lvae.storage.nets import get_weights
from d2lvae.training import learn, make_step
from mxnet import autograd
from mxnet.gluon import nn


class NormedDisc(mx.gluon.HybridBlock):
    """A discriminator with running statistics, which a careless step would move."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            self.body.add(
                nn.Conv2D(4, 3, 2, in_channels=1, use_bias=False),
                nn.BatchNorm(in_channels=4),
                nn.LeakyReLU(0.2),
                nn.GlobalAvgPool2D(),
                nn.Dense(1, in_units=4),
            )

    def hybrid_forward(self, F, images):
        return self.body(images).reshape((-1,))


def new_step(config, vae, disc=None, **changes):
    d2lvae.initialize(vae, 0)
    if disc is not None:
        d2lvae.initialize(disc, 1)
        changes.setdefault("disc_weight", 2.0)
    return make_step(vae, disc, {**config, **changes})


def numbers(found):
    """A step's losses, summed over the images, as floats, in their order."""
    return [loss.sum().asscalar() for loss in found.values()]


def same(before, after):
    return {name: (before[name] == after[name]).all() for name in before}


def gradients(net):
    return {
        name: p.grad().asnumpy() for name, p in net.collect_params().items() if p.grad_req != "null"
    }


@pytest.mark.parametrize("pixel_loss", ["bce", "l2"])
def test_solo_step_is_adam_on_the_mean_of_pixels_and_kl(config, tiny, small_vae, pixel_loss):
    ours = new_step(config, small_vae(), pixel_loss=pixel_loss, pixel_weight=0.5, kl_weight=3.0)
    batch = tiny.train[:16]
    plain = small_vae()
    d2lvae.initialize(plain, 0)
    trainer = mx.gluon.Trainer(
        plain.collect_params(), "adam", {"learning_rate": config["lr"]}, kvstore=None
    )
    for step in range(3):
        mx.random.seed(step)
        found = learn(ours, batch)
        mx.random.seed(step)
        x = mx.nd.array(batch).astype("float32") / 255
        with autograd.record():
            logits, mean, log_var = plain(x)
            pixel, kl = (
                losses.PIXEL_LOSSES[pixel_loss](logits, x),
                losses.kl_divergence(mean, log_var),
            )
            loss = 0.5 * pixel + 3.0 * kl
        loss.backward()
        trainer.step(16)
        np.testing.assert_allclose(
            numbers(found), [pixel.sum().asscalar(), kl.sum().asscalar()], rtol=1e-5
        )
    for name, array in get_weights(plain).items():
        np.testing.assert_allclose(get_weights(ours.vae)[name], array, rtol=1e-4, atol=1e-6)


def assert_learned_the_same(ours, theirs, start):
    """Adam turns the rounding of a gradient near 0 into a whole step, so changes are compared by their norm."""
    ours, theirs = get_weights(ours), get_weights(theirs)
    for name in theirs:
        if "running" not in name:  # the plain step moves these once too often: see below
            change = np.linalg.norm(theirs[name] - start[name])
            assert 0 < change and np.linalg.norm(ours[name] - theirs[name]) < 2e-3 * change, name


@pytest.mark.parametrize("normed", [False, True])
def test_adversarial_step_equals_the_plain_one(config, tiny, small_vae, small_disc, normed):
    """The reference: two whole recorded passes, nothing detached by hand but the fakes."""
    make_disc = NormedDisc if normed else small_disc
    ours = new_step(config, small_vae(), make_disc(), disc_weight=7.0)
    vae, disc = small_vae(), make_disc()
    d2lvae.initialize(vae, 0), d2lvae.initialize(disc, 1)
    starts = get_weights(vae), get_weights(disc)
    options = {"learning_rate": config["lr"]}
    vae_trainer = mx.gluon.Trainer(vae.collect_params(), "adam", options, kvstore=None)
    disc_trainer = mx.gluon.Trainer(disc.collect_params(), "adam", options, kvstore=None)
    batch = tiny.train[:16]
    x = mx.nd.array(batch).astype("float32") / 255
    for step in range(3):
        mx.random.seed(step)
        found = numbers(learn(ours, batch))
        mx.random.seed(step)
        fake = vae(x)[0].sigmoid()
        with autograd.record():
            disc_loss = losses.adversarial(disc(x), True) + losses.adversarial(disc(fake), False)
        disc_loss.backward()
        disc_trainer.step(16)
        mx.random.seed(step)
        with autograd.record():
            logits, mean, log_var = vae(x)
            adversarial = losses.adversarial(disc(logits.sigmoid()), True)
            loss = losses.bce(logits, x) + losses.kl_divergence(mean, log_var) + 7.0 * adversarial
        loss.backward()
        vae_trainer.step(16)
        np.testing.assert_allclose(
            found[2:], [adversarial.sum().asscalar(), disc_loss.sum().asscalar()], rtol=1e-4
        )
    assert_learned_the_same(ours.vae, vae, starts[0])
    assert_learned_the_same(ours.disc, disc, starts[1])


@pytest.mark.parametrize("normed", [False, True])
def test_the_vaes_part_leaves_the_discriminator_alone(config, tiny, small_vae, small_disc, normed):
    ours = new_step(config, small_vae(), NormedDisc() if normed else small_disc())
    x = mx.nd.array(tiny.train[:16]).astype("float32") / 255
    x.attach_grad()
    for gradient in (p.grad() for p in ours.disc.collect_params().values() if p.grad_req != "null"):
        gradient[:] = 123
    before = get_weights(ours.disc)
    with autograd.record():
        loss = ours.adversarial_loss(x)
    loss.backward()
    assert np.abs(x.grad.asnumpy()).max() > 0
    assert all(same(before, get_weights(ours.disc)).values()), "weights or statistics moved"
    assert all((g == 123).all() for g in gradients(ours.disc).values()), "gradients were computed"


def test_the_discriminators_statistics_move_in_its_own_part_only(config, tiny, small_vae):
    ours = new_step(config, small_vae(), NormedDisc())
    before = get_weights(ours.disc)
    learn(ours, tiny.train[:16])
    moved = [name for name, equal in same(before, get_weights(ours.disc)).items() if not equal]
    assert any("running_mean" in name for name in moved)
    # what two batches, one real and one reconstructed, leave of the initial 0
    x = mx.nd.array(tiny.train[:16]).astype("float32") / 255
    other = new_step(config, small_vae(), NormedDisc())
    mx.random.seed(0)
    fake = other.vae(x)[0].sigmoid()
    ours = new_step(config, small_vae(), NormedDisc())
    mx.random.seed(0)
    learn(ours, tiny.train[:16])
    other._learn_to_tell(16, x, fake)
    for name, array in get_weights(other.disc).items():
        if "running" in name:
            np.testing.assert_allclose(get_weights(ours.disc)[name], array, rtol=1e-4, err_msg=name)


def test_the_discriminators_statistics_are_the_same_every_time(config, tiny, small_vae):
    """MXNet writes them behind its engine's back: read too early, they differ from run to run."""
    found = set()
    for _ in range(25):
        ours = new_step(config, small_vae(), NormedDisc())
        for step in range(3):
            mx.random.seed(step)
            learn(ours, tiny.train[:16])
        found.add(
            tuple(
                np.concatenate(
                    [a.ravel() for n, a in get_weights(ours.disc).items() if "running" in n]
                )
            )
        )
    assert len(found) == 1


def test_the_discriminators_part_leaves_the_vae_alone(config, tiny, small_vae, small_disc):
    ours = new_step(config, small_vae(), small_disc())
    for gradient in (p.grad() for p in ours.vae.collect_params().values()):
        gradient[:] = 123
    before = get_weights(ours.vae)
    x = training.unit_images(tiny.train[:16], mx.cpu())
    with autograd.record():
        _, _, fake = ours.vae_losses(x)
    ours._learn_to_tell(16, x, fake)
    assert all(same(before, get_weights(ours.vae)).values())
    assert all((g == 123).all() for g in gradients(ours.vae).values())


def test_a_weight_of_zero_is_no_discriminator(config, tiny, small_vae, small_disc):
    alone = new_step(config, small_vae())
    watched = new_step(config, small_vae(), small_disc(), disc_weight=0.0)
    for step in range(3):
        for one in (alone, watched):
            mx.random.seed(step)
            learn(one, tiny.train[:16])
    assert all(same(get_weights(alone.vae), get_weights(watched.vae)).values())


def run(config, tiny, vae, disc=None, **changes):
    config = {**config, **changes}
    ours, history = new_step(config, vae, disc), []

    def means(found, num_images):
        return training.mean_losses(found, num_images, ours.weights)

    with reporting(history, config["epochs"], len(tiny.train), means) as report:
        finished = training.train(ours, tiny.train, config, history, lambda: None, report)
    return ours, history, finished


def test_history_holds_means_an_image_and_the_last_batch_counts(
    config, tiny, small_vae, small_disc, capsys
):
    _, history, finished = run(
        config, tiny, small_vae(), small_disc(), disc_weight=2.0
    )  # 200 = 3 * 64 + 8
    assert finished and [record["epoch"] for record in history] == [0, 1]
    first = history[0]
    assert 400 < first["pixel_loss"] < 600  # about 784 log 2 before anything is learned
    assert first["loss"] == pytest.approx(
        first["pixel_loss"] + first["kl"] + 2 * first["adversarial_loss"]
    )
    assert 0.5 < first["adversarial_loss"] < 3 and 0.5 < first["disc_loss"] < 3
    assert first["images_per_second"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 2
        and "epoch   1: loss" in lines[1]
        and "images/s" in lines[1]
        and "left" in lines[0]
    )


def test_every_image_once_an_epoch_in_a_new_order():
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    orders = [
        np.concatenate(list(training.minibatches(images, 8, seed, epoch))).ravel()
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert (orders[0] == orders[3]).all()
    assert (orders[0] != orders[1]).any() and (orders[0] != orders[2]).any()


def test_same_seed_same_numbers_other_seed_others(config, tiny, small_vae, small_disc):
    losses_of = lambda seed: [
        record["loss"] for record in run(config, tiny, small_vae(), small_disc(), seed=seed)[1]
    ]
    assert losses_of(0) == losses_of(0) != losses_of(1)


def test_learning_lowers_the_loss(config, tiny, small_vae):
    _, history, _ = run(config, tiny, small_vae(), epochs=12)
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]


def test_going_on_from_a_state_equals_never_stopping(config, tiny, small_vae, small_disc):
    whole, history, _ = run(config, tiny, small_vae(), small_disc(), epochs=4)
    half, first, _ = run(config, tiny, small_vae(), small_disc(), epochs=2)
    arrays, steps = checkpoints.get_state(half)
    assert steps == {"vae": 8, "disc": 8}
    again = new_step(config, small_vae(), small_disc())
    learn(again, tiny.train[:8])  # whatever it held before must not matter
    checkpoints.set_state(again, arrays, steps)
    training.train(again, tiny.train, {**config, "epochs": 4}, first, lambda: None)
    assert [record["loss"] for record in first] == [record["loss"] for record in history]
    for ours, theirs in ((again.vae, whole.vae), (again.disc, whole.disc)):
        assert all(same(get_weights(ours), get_weights(theirs)).values())


def test_a_loss_that_is_no_number_stops_with_a_message(config, tiny, small_vae):
    with pytest.raises(FloatingPointError, match="lower lr"):
        run(config, tiny, small_vae(), lr=1e6, epochs=30)


def test_ctrl_c_ends_the_loop_after_the_minibatch(config, tiny, small_vae):
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    _, history, finished = run(config, tiny, small_vae(), epochs=100_000)
    assert not finished and 0 < len(history) < 100_000
    assert signal.getsignal(signal.SIGINT) is before


def test_with_someone_watching_there_is_a_bar_with_loss_and_speed(
    config, tiny, small_vae, monkeypatch, capfd
):
    monkeypatch.setattr(progress, "is_interactive", lambda: True)
    run(config, tiny, small_vae(), epochs=40)
    shown = capfd.readouterr()
    assert "images/s" in shown.err and "loss" in shown.err and "epoch" in shown.err
    [line] = shown.out.splitlines()
    assert line.startswith("epoch  39: loss")


def test_mean_losses_count_every_image_once():
    """By hand: losses 1, 2, 3 and 10 of four images in two minibatches, KLs 0, 0, 0 and 4."""
    found = [
        {"pixel_loss": mx.nd.array([1, 2, 3]), "kl": mx.nd.zeros(3)},
        {"pixel_loss": mx.nd.array([10]), "kl": mx.nd.array([4])},
    ]
    means = training.mean_losses(found, 4, {"pixel_loss": 2.0, "kl": 3.0})
    assert means == {"loss": 2 * 4.0 + 3 * 1.0, "pixel_loss": 4.0, "kl": 1.0}
