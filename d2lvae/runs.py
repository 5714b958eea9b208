"""A run, from its parameters to its folder: trained, resumed and recorded.

results/own/images/<nets>_on_<data>/<numbers>/
    0.png ... 9.png          reconstructions of the first ten validation images
    test_0.png ...           the originals (of a real data set: not for git)
    originals_and_reconstructions.png  (likewise)
    reconstructions.png, samples.png, loss.png
    history.csv, metrics.json, README.md
    vae.npz, disc.npz, checkpoint*.npz  (not for git)
    unfinished/              the same of a run that has not come to its end
"""

import contextlib
import dataclasses
import pathlib
import platform

import mxnet as mx
import numpy as np

from . import __version__, figures, training
from .config import Config
from .discriminators import Discriminator
from .engine import threads
from .engine.process_group import process_group
from .engine.progress import reporting
from .storage import checkpoints, folders, paths, png, results, weights
from .storage.errors import ParameterError
from .storage.nets import get_weights, save_net, set_weights
from .storage.records import check_same_config, settings_of
from .vae import VAE

__all__ = ["Run", "fit", "reconstruct", "run_folder"]

NUM_IMAGES = 10


@dataclasses.dataclass
class Run:
    """What a training left.

    Attributes
    ----------
    folder : pathlib.Path
        Where its files are.
    vae : VAE
        Trained.
    history : list of dict
        Losses (nats per image), seconds and images/s of every epoch.
    metrics : dict
        As in metrics.json; :func:`d2lvae.evaluate` adds to it.
    reconstructions : numpy.ndarray, uint8, shape (10, C, H, W)
        Of the first ten validation images, decoded from the mean.
    """

    folder: pathlib.Path
    vae: VAE
    history: list
    metrics: dict
    reconstructions: np.ndarray


def fit(vae, images, config, discriminator=None, progress=None):
    """Train, and leave a folder of results; Ctrl-C ends it early and keeps what was learned.

    Nets without weights get Xavier weights drawn from the random seed; so do those that still have
    the weights of :func:`d2lvae.initialize` or of an earlier `fit`.  Any other weights, of an
    initialiser of one's own or loaded from a file, are kept and recorded.  With `kvstore`
    'dist_sync' this process is one of several that call `fit` alike and train together; rank 0 alone
    writes, and all have the same outcome.

    Parameters
    ----------
    vae : VAE
    images : ImageSet
    config : Config
        `batch_size` is all workers' together.
    discriminator : Discriminator, optional
        Trained along; by default its adversarial loss, times `disc_weight`, joins the VAE's loss.
    progress : callable, optional
        Called after each minibatch with its number of images.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        The results folder cannot be written or belongs to another configuration, or weights cannot
        be begun with.
    ParameterError
        Parameters that contradict each other, the images or the nets, or that have changed in the
        notebook.
    CheckpointError
        With `resume`: the checkpoints are damaged or of another configuration.
    FloatingPointError
        The loss stopped being a number.
    DistributedError
        With `kvstore` 'dist_sync': a DMLC_* variable is missing or wrong.
    """
    _check_kinds(vae, discriminator, config)
    settings, history = settings_of(vae, images, config, discriminator), []
    nets = {name: net for name, net in (("vae", vae), ("disc", discriminator)) if net is not None}
    own = {name: weights.own_weights(name, net, config.resume) for name, net in nets.items()}
    own = {name: checksum for name, checksum in own.items() if checksum}
    if own:
        settings["own_weights"] = own
    folder = folders.folder_of(settings, config.results_dir)

    def kept():
        number = f"{len(history)} of {settings['epochs']} epochs are kept"
        return number if history else "no epoch was finished"

    with process_group(config.kvstore, kept) as group:
        try:
            check_same_config(group, {**settings, "resume": config.resume, "version": __version__})
            with folders.folder_lock(folder) if group.rank == 0 else contextlib.nullcontext():
                for place, (name, net) in enumerate(nets.items()):
                    quiet = config.resume or group.rank > 0
                    weights.begin(net, settings["seed"] + place, name in own, quiet)
                pixel_loss = config.pixel_loss if callable(config.pixel_loss) else None
                allreduce = group.allreduce if group.size > 1 else None
                step = training.make_step(vae, discriminator, settings, pixel_loss, allreduce)
                return _train(
                    step, images, settings, history, folder, config.resume, group, progress
                )
        finally:
            for name, net in nets.items():
                if weights.has_weights(net):
                    net.left_by_fit, net.began_from = weights.checksum(net), own.get(name)


def run_folder(vae, images, config, discriminator=None):
    """Where :func:`fit` with the same arguments leaves its results."""
    return folders.folder_of(settings_of(vae, images, config, discriminator), config.results_dir)


def reconstruct(vae, images):
    """uint8 images (N, C, H, W) -> what the VAE makes of them, decoded from the mean, uint8."""
    batches = [images[i : i + 64] for i in range(0, len(images), 64)]
    parts = [vae.reconstruct(training.unit_images(batch, vae.ctx)) for batch in batches]
    return np.concatenate([png.to_uint8(part) for part in parts])


def _check_kinds(vae, discriminator, config):
    """Refuse nets and parameters that are not what `fit` takes, before any work."""
    for net, kind in ((vae, VAE), (discriminator, Discriminator)):
        if net is not None and not isinstance(net, kind):
            raise TypeError(
                f"{type(net).__name__} is no d2lvae.{kind.__name__}: derive its class from it"
            )
    if not isinstance(config, Config):
        raise TypeError(
            f"config must be a d2lvae.Config; found {type(config).__name__}. "
            "Config.from_dict makes one from a dict"
        )
    compares = discriminator is not None and config.learned_loss != "adversarial"
    if compares and not hasattr(discriminator, "features"):
        raise ParameterError(
            f"learned_loss {config.learned_loss!r} compares features, and "
            f"{type(discriminator).__name__} has no method `features`. "
            "For example: -p learned_loss adversarial"
        )


def _train(step, images, settings, history, folder, resume, group, progress):
    """What :func:`fit` does once all processes agree and the folder is nobody else's."""
    made_with = {"processor_threads": threads.settings(), "workers": group.size}
    if group.rank == 0:
        folders.check_folder(folder, settings, resume)
    if resume:
        begun_with = _resume(step, settings, history, folder, group)
        if len(history) == settings["epochs"]:  # nothing is left to do here
            made_with = begun_with

    def keep():
        if group.rank == 0:
            arrays, steps = checkpoints.get_state(step)
            record = {"config": settings, "steps": steps, "history": history, **made_with}
            checkpoints.save_checkpoint(folder / folders.UNFINISHED, arrays, record)

    def draw(curve, title):
        first, title = images.validation[:NUM_IMAGES], f"{images.title}: {title}"
        drawn = figures.show_reconstructions(first, reconstruct(step.vae, first), images.title)
        return png.one_png([figures.show_history(curve, title, settings["epochs"]), drawn])

    def means(found, num_images):
        return training.mean_losses(found, num_images / group.size, step.weights)

    about = settings["epochs"], len(images.train), means, None if progress else draw, group.rank
    with reporting(history, *about) as report:
        finished = training.train(
            step, images.train, settings, history, keep, report, group, progress
        )
    if group.size > 1:  # BatchNorm's statistics are each worker's own
        for trainer in step.trainers.values():
            set_weights(trainer.net, group.broadcast(get_weights(trainer.net)))
    return _end(step, images, settings, history, finished, folder, made_with, group)


def _resume(step, settings, history, folder, group):
    """Bring step and history to the last whole checkpoint; gives what that was made with."""
    arrays, record = checkpoints.get_state(step)[0], None
    if group.rank == 0:
        found = folders.find_checkpoint(folder, settings, arrays)
        arrays, record = found or (arrays, None)
    record = group.allgather(record)[0]
    if record is not None:
        checkpoints.set_state(step, group.broadcast(arrays), record["steps"])
        history.extend(record["history"])
    made_with = record and checkpoints.made_with(record)
    if group.rank == 0:
        folders.say_resumed(made_with, len(history), settings["epochs"], group.size)
    return made_with


def _end(step, images, settings, history, finished, folder, made_with, group):
    """Write what the run leaves, in rank 0; the others are told."""
    work = folder / folders.UNFINISHED
    run = Run(folder if finished else work, step.vae, history, None, None)
    originals = images.validation[:NUM_IMAGES]
    run.reconstructions = reconstruct(step.vae, originals)
    if group.rank == 0:
        if not finished:
            folders.say_stopped(len(history))
        _draw(work, results.title_of(settings, len(history)), originals, run, settings["seed"])
        for name, trainer in step.trainers.items():
            save_net(work / f"{name}.npz", trainer.net)
        made_with = {"device": str(step.vae.ctx), **made_with}
        run.metrics = results.metrics_of(
            images, settings, history, finished, __version__, made_with
        )
        results.write(work, images, history, run.metrics)
        if finished:
            folders.publish(folder)
    told = [paths.display_path(run.folder), platform.node(), run.history, run.metrics]
    shown, host, run.history, run.metrics = group.allgather(told)[0]
    if group.rank == 0:
        print(f"results: {shown}", flush=True)
    else:
        who = f"worker {group.rank} of {group.size}"
        print(f"{who}: worker 0 has written the results, {shown} on {host}", flush=True)
    return run


def _draw(folder, title, originals, run, seed):
    """Write a run's images, figures and curves into its folder."""
    for i, (original, reconstruction) in enumerate(zip(originals, run.reconstructions)):
        png.save_image(folder / f"test_{i}.png", original)
        png.save_image(folder / f"{i}.png", reconstruction)
    shape = NUM_IMAGES, run.vae.num_latents
    latents = np.random.default_rng(seed).standard_normal(shape, np.float32)
    samples = run.vae.decode(mx.nd.array(latents, ctx=run.vae.ctx)).sigmoid()
    both = figures.show_reconstructions(originals, run.reconstructions, title)
    drawn = {
        "reconstructions": figures.show_images(run.reconstructions, f"{title}: reconstructions"),
        "originals_and_reconstructions": both,
        "samples": figures.show_images(samples, f"{title}: samples from the prior"),
    }
    if run.history:
        drawn["loss"] = figures.show_history(run.history, title)
    for name, figure in drawn.items():
        png.save(figure, folder / f"{name}.png")
