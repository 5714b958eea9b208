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
import os
import pathlib
import platform

import mxnet as mx
import numpy as np

from . import __version__, figures, training
from .config import Config, ParameterError
from .discriminators import Discriminator
from .engine import threads
from .engine.progress import reporting
from .steps import make_step
from .storage import checkpoints, folders, paths, results, weights
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
        With `kvstore` 'dist_sync': a worker, a server or the scheduler is missing or has died.
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

    with _process_group(config.kvstore, kept) as group:
        try:
            check_same_config(group, {**settings, "resume": config.resume, "version": __version__})
            with folders.folder_lock(folder) if group.rank == 0 else contextlib.nullcontext():
                for place, (name, net) in enumerate(nets.items()):
                    quiet = config.resume or group.rank > 0
                    weights.begin(net, settings["seed"] + place, name in own, quiet)
                pixel_loss = config.pixel_loss if callable(config.pixel_loss) else None
                allreduce = group.allreduce if group.size > 1 else None
                step = make_step(vae, discriminator, settings, pixel_loss, allreduce)
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


def _process_group(kvstore, kept):
    """The processes that train together, in a block; `kept` says what is left if one of several dies."""
    if kvstore == "dist_sync":
        from .distributed.process_group import joined  # which one process alone never needs

        return joined(kept)
    if os.environ.get("DMLC_ROLE"):
        raise ParameterError(
            f"kvstore is 'local', but DMLC_ROLE is {os.environ['DMLC_ROLE']!r} in the environment, "
            "as for one of several workers: give -p kvstore dist_sync, or unset DMLC_ROLE"
        )
    return contextlib.nullcontext(training.SINGLE)


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
    work, is_first = folder / folders.UNFINISHED, group.rank == 0
    made_with = {"processor_threads": threads.settings(), "workers": group.size}
    if is_first:
        folders.check_folder(folder, settings, resume)
    if resume:
        begun_with = _resume(step, images, settings, history, folder, group)
        if len(history) == settings["epochs"]:  # nothing is left to do here
            made_with = begun_with

    def keep():
        if is_first:
            arrays, steps = training.get_state(step)
            record = {
                "config": settings,
                "steps": steps,
                "history": history,
                "threads": threads.settings(),
                "workers": group.size,
            }
            checkpoints.save_checkpoint(work, arrays, record)

    def draw(curve, title):
        first = images.validation[:NUM_IMAGES]
        title = f"{images.title}: {title}"
        return figures.one_png(
            [
                figures.show_history(curve, title, num_epochs=settings["epochs"]),
                figures.show_reconstructions(first, reconstruct(step.vae, first), images.title),
            ]
        )

    def means(found, num_images):
        return training.mean_losses(found, num_images / group.size, step.weights)

    with reporting(
        history,
        settings["epochs"],
        len(images.train),
        means,
        None if progress else draw,
        group.rank,
    ) as report:
        finished = training.train(
            step, images.train, settings, history, keep, report, group, progress
        )
    if not finished and is_first:
        print(
            f"stopped by hand in epoch {len(history)}; what was learned is kept, and resume True "
            f"goes on after the {len(history)} finished epoch(s).",
            flush=True,
        )
    if group.size > 1:  # BatchNorm's statistics are each worker's own
        for trainer in step.trainers.values():
            first = group.broadcast(get_weights(trainer.net))
            set_weights(trainer.net, first)
    return _end(step, images, settings, history, finished, folder, made_with, group)


def _resume(step, images, settings, history, folder, group):
    """Bring step and history to the last whole checkpoint; gives what that was made with."""
    found, is_first = None, group.rank == 0
    if is_first:
        like = training.get_state(step)[0]
        found = folders.find_checkpoint(folder, settings, like)
    arrays, record = found or (None, None)
    record = group.allgather(record)[0]
    if record is None:
        if is_first:
            print(
                "resume: no checkpoint of these parameters yet, so this run begins at the "
                "beginning."
            )
        return None
    arrays = group.broadcast(arrays if is_first else training.get_state(step)[0])
    training.set_state(step, arrays, record["steps"])
    history.extend(record["history"])
    if is_first:
        print(f"resume: going on after {len(history)} of {settings['epochs']} epochs.")
        if record["threads"] != threads.settings():
            print(
                f"note: it was begun with {record['threads']}, this process has "
                f"{threads.settings()}; sums are rounded differently, so the last digits will "
                "be, too."
            )
        if record.get("workers", 1) != group.size:
            print(
                f"note: it was begun by {record.get('workers', 1)} worker(s), now there are "
                f"{group.size}; sums are rounded differently."
            )
    return {"processor_threads": record["threads"], "workers": record.get("workers", 1)}


def _end(step, images, settings, history, finished, folder, made_with, group):
    """Write what the run leaves, in rank 0; the others are told."""
    work, place = folder / folders.UNFINISHED, folder if finished else folder / folders.UNFINISHED
    run = None
    if group.rank == 0:
        run = _record(step, images, settings, history, finished, work, made_with)
        if finished:
            folders.publish(folder)
            run.folder = folder
    shown, host, history, metrics = group.allgather(
        run and [paths.display_path(place), platform.node(), run.history, run.metrics]
    )[0]
    if run is None:
        reconstructions = reconstruct(step.vae, images.validation[:NUM_IMAGES])
        run = Run(place, step.vae, history, metrics, reconstructions)
        print(
            f"worker {group.rank} of {group.size}: worker 0 has written the results, {shown} on "
            f"{host}",
            flush=True,
        )
    else:
        print(f"results: {shown}", flush=True)
    return run


def _record(step, images, settings, history, finished, folder, made_with):
    """Write everything a run leaves, and show none of it."""
    originals = images.validation[:NUM_IMAGES]
    reconstructions = reconstruct(step.vae, originals)
    samples = _sample(step.vae, settings["seed"])
    title = results.title_of(settings, len(history))
    figures.save_results(folder, title, originals, reconstructions, samples, history)
    for name, trainer in step.trainers.items():
        save_net(folder / f"{name}.npz", trainer.net)
    metrics = results.metrics_of(
        images, settings, history, finished, __version__, {"device": str(step.vae.ctx), **made_with}
    )
    results.write(folder, images, history, metrics)
    return Run(folder, step.vae, history, metrics, reconstructions)


def _sample(vae, seed):
    """Ten images decoded from the prior, the same for the same seed."""
    latents = np.random.default_rng(seed).standard_normal((NUM_IMAGES, vae.num_latents), np.float32)
    return vae.decode(mx.nd.array(latents, ctx=vae.ctx)).sigmoid()


def reconstruct(vae, images):
    """uint8 images (N, C, H, W) -> what the VAE makes of them, decoded from the mean, uint8."""
    parts = [
        vae.reconstruct(training.unit_images(images[i : i + 64], vae.ctx))
        for i in range(0, len(images), 64)
    ]
    return np.concatenate([figures.to_uint8(part) for part in parts])
