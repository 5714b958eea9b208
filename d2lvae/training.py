"""Minibatches, and the loop around a training step."""

import contextlib
import signal
import threading
import time

import mxnet as mx
import numpy as np

from .engine.progress import Report
from .engine.threads import Neighbours
from .steps import VAEStep
from .storage.nets import get_weights, set_weights
from .storage.weights import spawn_seeds

__all__ = [
    "SINGLE",
    "ProcessGroup",
    "get_state",
    "learn",
    "mean_losses",
    "minibatches",
    "on_device",
    "set_state",
    "train",
    "unit_images",
]


class ProcessGroup:
    """The processes that train together, as one of them sees it; of this class there is one alone.

    :mod:`d2lvae.distributed` has the one for several.

    Attributes
    ----------
    rank, size : int
        Which of how many; rank 0 alone writes files.
    counts : bool
        Whether the last shard's images are its own; else it only stands in.
    stop_requested : threading.Event or None
        Set while training, as soon as Ctrl-C is pressed.
    """

    rank, size, counts, stop_requested = 0, 1, True, None

    def shard(self, num_images):
        """This process's part of a minibatch, as a slice."""
        return slice(0, num_images)

    def allreduce(self, arrays):
        """Replace each NDArray of a list by its sum over the processes."""

    def allgather(self, value):
        """What each process has, a list by rank; anything that JSON can hold."""
        return [value]

    def broadcast(self, arrays):
        """Rank 0's numpy arrays, by name."""
        return arrays

    def is_stopping(self):
        """Whether Ctrl-C has been pressed in any of the processes; the same answer in all."""
        return self.stop_requested is not None and self.stop_requested.is_set()


SINGLE = ProcessGroup()


def on_device(array, ctx):
    """A numpy array as an NDArray, without the wait for the engine that `mx.nd.array` has."""
    return mx.nd.from_numpy(np.array(array, order="C"), zero_copy=True).as_in_context(ctx)


def unit_images(images, ctx):
    """uint8 images (N, C, H, W), a numpy array -> float32 ones in [0, 1], an NDArray."""
    return on_device(images, ctx).astype("float32") / 255


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
        Losses by name, summed over this process's images, as NDArrays (1,).
    """
    shard = group.shard(len(images))
    ctx, noise = step.vae.ctx, []
    if group.size > 1:  # together the processes draw what one would draw
        shape = len(images), step.vae.num_latents
        count = 1 if alone else step.num_noises
        noise = [mx.nd.random.normal(shape=shape, ctx=ctx)[shard] for _ in range(count)]
    update = VAEStep.update if alone else type(step).update
    found = update(step, unit_images(images[shard], ctx), len(images), *noise)
    return found if group.counts else {name: loss * 0 for name, loss in found.items()}


def train(step, images, settings, history, on_epoch, report=None, group=SINGLE, on_batch=None):
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
    on_batch : callable, optional
        Called after each minibatch with its number of images.

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
    with _interruptible() as group.stop_requested:
        for epoch in range(len(history), settings["epochs"]):
            started, found = time.monotonic(), []  # not d2l.Timer: clocks on the wall are set back
            alone = epoch < settings.get("num_solo_epochs", 0)
            for batch in minibatches(images, settings["batch_size"], settings["seed"], epoch):
                found.append(learn(step, batch, group, alone))
                if len(found) > 16:
                    found[-16]["kl"].wait_to_read()  # a GPU's queue grows no further
                report.batch(len(batch), found[-1])
                if on_batch is not None:
                    on_batch(len(batch))
                if group.is_stopping():
                    mx.nd.waitall()
                    return False
            means = mean_losses(found, len(images), step.weights, group)
            _check_finite(means, epoch, settings["lr"])
            seconds = time.monotonic() - started
            speed = {
                "seconds": round(seconds, 3),
                "images_per_second": round(len(images) / seconds, 1),
            }
            history.append({"epoch": epoch, **means, **speed})
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
        Summed losses by name, as :func:`learn` gives them.
    num_images : int
        In these minibatches, of all processes.
    weights : dict
        Of the losses that make up 'loss', by name.

    Returns
    -------
    dict
        'loss', what the VAE minimises, then its parts and the discriminator's loss.
    """
    names = list(found[0])
    sums = [
        float(mx.nd.concat(*(one[name] for one in found), dim=0).asnumpy().sum(dtype=np.float64))
        for name in names
    ]
    totals = np.sum(group.allgather(sums), axis=0) / num_images
    means = dict(zip(names, map(float, totals)))
    return {"loss": sum(weights[name] * means[name] for name in names if name in weights), **means}


def _check_finite(means, epoch, lr):
    if not np.isfinite(list(means.values())).all():
        raise FloatingPointError(
            f"the loss became {means['loss']} in epoch {epoch} ({means}): lower lr (now {lr}) and "
            "start again; earlier checkpoints are unharmed"
        )


@contextlib.contextmanager
def _interruptible():
    """Turn Ctrl-C into a request (an Event) to stop after the minibatch; a second one stops at once."""
    requested = threading.Event()

    def handler(number, frame):
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    if threading.current_thread() is not threading.main_thread():
        yield requested  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield requested
    finally:
        signal.signal(signal.SIGINT, before)


def get_state(step):
    """What a training can go on from.

    Returns
    -------
    arrays : dict of numpy.ndarray
        Weights and moments, by 'vae/...', 'vae_adam/...', 'disc/...', 'disc_adam/...'.
    steps : dict of int
        The steps that each net has taken.
    """
    arrays = {}
    for name, trainer in step.trainers.items():
        arrays.update({f"{name}/{key}": array for key, array in get_weights(trainer.net).items()})
        arrays.update({f"{name}_adam/{key}": array for key, array in trainer.state().items()})
    return arrays, {name: trainer.steps for name, trainer in step.trainers.items()}


def set_state(step, arrays, steps):
    """Go on from what :func:`get_state` gave."""

    def part(prefix):
        return {
            key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)
        }

    for name, trainer in step.trainers.items():
        set_weights(trainer.net, part(f"{name}/"))
        trainer.set_state(part(f"{name}_adam/"), steps[name])
