"""Minibatches, and the loop around a training step."""

import functools
import time

import mxnet as mx
import numpy as np

from . import losses
from .engine.hybridize import hybridize
from .engine.interrupt import interruptible
from .engine.operators import unit_images
from .engine.process_group import SINGLE
from .engine.progress import Report
from .engine.threads import Neighbours
from .steps import AdversarialStep, BothStep, FeatureStep, VAEStep
from .storage.weights import spawn_seeds

RECIPES = {"adversarial": AdversarialStep, "features": FeatureStep, "both": BothStep}


def make_step(vae, disc, settings, pixel_loss=None, allreduce=None):
    """The training step that a run's settings ask for, compiled.

    Parameters
    ----------
    vae, disc : VAE, Discriminator or None
        Initialised.
    settings : dict
        Arguments of the recipe by name, `learned_loss` and perhaps `precision`.
    pixel_loss, allreduce : callable, optional
        The former in place of the one that the settings name.
    """
    names = ["lr", "pixel_weight", "kl_weight"]
    names += [] if disc is None else ["disc_weight", "disc_lr", "feature_weight"]
    options = {name: settings[name] for name in names if name in settings}
    options["pixel_loss"] = pixel_loss or losses.PIXEL_LOSSES[settings["pixel_loss"]]
    compiled = functools.partial(hybridize, precision=settings.get("precision", "float32"))
    options.update(hybridize=compiled, allreduce=allreduce)
    if disc is None:
        return VAEStep(vae, **options)
    return RECIPES[settings.get("learned_loss", "adversarial")](vae, disc, **options)


def minibatches(images, batch_size, seed, epoch):
    """All images once in an order that (seed, epoch) decides; the last batch may be smaller."""
    shuffle, noise = spawn_seeds(seed, epoch)
    mx.random.seed(noise)
    order = np.random.default_rng(shuffle).permutation(len(images))
    for start in range(0, len(order), batch_size):
        yield images[order[start : start + batch_size]]


def learn(step, images, group=SINGLE, alone=False):
    """Take one step with this process's part of a minibatch.

    Parameters
    ----------
    step : VAEStep
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        The whole minibatch, in every process.
    group : ProcessGroup
    alone : bool
        Leave the discriminator out: it neither judges nor learns.

    Returns
    -------
    dict
        Losses by name, nats per image, of this process's images, as NDArrays (N,).
    """
    shard, number = group.shard(len(images))
    ctx, noise = step.trainers["vae"].ctx, []  # `vae.ctx` would list all parameters
    if group.size > 1:  # together the processes draw what one would draw
        shape = len(images), step.vae.num_latents
        count = 1 if alone else step.num_noises
        noise = [mx.nd.random.normal(shape=shape, ctx=ctx)[shard] for _ in range(count)]
    update = VAEStep.update if alone else type(step).update
    found = update(step, unit_images(images[shard], ctx), number, *noise)
    group.average(step.trainers)
    return found if group.counts else {name: loss * 0 for name, loss in found.items()}


def train(step, images, settings, history, on_epoch, report=None, group=SINGLE):
    """Train from the epoch after those in `history` up to `settings['epochs']`.

    Losses stay on the device and are read once an epoch.  Ctrl-C ends the loop after the minibatch.

    Parameters
    ----------
    step : VAEStep
        Brought to the state at the end of `history`.
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        The training images.
    settings : dict
        `epochs`, `batch_size`, `seed`, `lr`, and perhaps `num_solo_epochs`.
    history : list of dict
        A record per epoch, losses in nats per image; extended in place.
    on_epoch : callable
        Called after each finished epoch.
    report : Report, optional
        What a person sees of it, see :mod:`d2lvae.engine.progress`; by default nothing.
    group : ProcessGroup
        The processes that train together.

    Returns
    -------
    bool
        False if Ctrl-C, in any of the processes, ended it early.

    Raises
    ------
    FloatingPointError
        A loss that is not a finite number; the epoch is not recorded.
    """
    neighbours, report = Neighbours(), report or Report()
    with interruptible() as group.stop_requested:
        for epoch in range(len(history), settings["epochs"]):
            started, found = time.monotonic(), []  # not d2l.Timer: clocks on the wall are set back
            alone = epoch < settings.get("num_solo_epochs", 0)
            for batch in minibatches(images, settings["batch_size"], settings["seed"], epoch):
                found.append(learn(step, batch, group, alone))
                if len(found) > 16:
                    found[-16]["kl"].wait_to_read()  # a GPU's queue grows no further
                report.batch(len(batch), found[-1])
                if group.is_stopping():
                    mx.nd.waitall()
                    return False
            group.average(step.trainers, epoch_is_over=True)
            means = mean_losses(found, len(images), step.weights, group)
            _check_finite(means, epoch, settings["lr"])
            seconds = time.monotonic() - started
            speed = round(len(images) / seconds, 1)
            timed = {"seconds": round(seconds, 3), "images_per_second": speed}
            history.append({"epoch": epoch, **means, **timed})
            on_epoch()
            report.epoch()
            report.say(neighbours.advice())
    mx.nd.waitall()  # BatchNorm's statistics, too, of which MXNet's engine does not know
    return True


def mean_losses(found, num_images, weights, group=SINGLE):
    """The mean losses of some minibatches, in nats per image.

    Parameters
    ----------
    found : list of dict
        Losses by name, as :func:`learn` gives them.
    num_images : int
        In these minibatches, of all processes.
    weights : dict
        Of the losses that make up 'loss', by name.

    Returns
    -------
    dict
        'loss', what the VAE minimises, then its parts and the discriminator's loss.
    """
    arrays = [mx.nd.concat(*(one[name] for one in found), dim=0) for name in found[0]]
    sums = [float(array.asnumpy().sum(dtype=np.float64)) for array in arrays]
    totals = np.sum(group.allgather(sums), axis=0) / num_images
    means = dict(zip(found[0], map(float, totals)))
    return {"loss": sum(weights[name] * means[name] for name in means if name in weights), **means}


def _check_finite(means, epoch, lr):
    if not np.isfinite(list(means.values())).all():
        raise FloatingPointError(
            f"the loss became {means['loss']} in epoch {epoch} ({means}): lower lr (now {lr}), or "
            "mend a loss of your own, and start again; earlier checkpoints are unharmed"
        )
