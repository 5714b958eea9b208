"""A run, from its parameters to its folder: trained, resumed and recorded.

What is in the folder stands in :mod:`d2lvae.storage.folders`.
"""

import contextlib
import dataclasses
import pathlib

import numpy as np

from . import __version__, figures, training
from .data import ImageSet
from .discriminators import Discriminator
from .engine import threads
from .engine.process_group import process_group
from .engine.progress import reporting
from .storage import agreement, checkpoints, codes, folders, png, records, results, weights
from .storage.nets import get_weights, save_net, set_weights
from .vae import VAE

NUM_IMAGES, NUM_SAMPLES = 10, 7  # more samples of each kind may make a file of over 200 kB


@dataclasses.dataclass(eq=False)
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

    @property
    def finished(self):
        """False if Ctrl-C has ended it; a loop over several runs ends with it."""
        return self.metrics["finished"]


def fit(vae, images, config, discriminator=None):
    """Train, and leave a folder of results; Ctrl-C ends it early and keeps what was learned.

    Nets without weights get Xavier weights drawn from the random seed; so do those that still have
    the weights of :func:`d2lvae.initialize` or of an earlier `fit`.  Any other weights, of an
    initialiser of one's own or loaded from a file, are kept and recorded.  With `kvstore`
    'dist_sync' this process is one of several that call `fit` alike and train together; rank 0
    alone writes, and all have the same outcome.

    Parameters
    ----------
    vae : VAE
    images : ImageSet
    config : Config
        `batch_size` is all workers' together.
    discriminator : Discriminator, optional
        Trained along; by default its adversarial loss, times `disc_weight`, joins the VAE's loss.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        The results folder cannot be written or belongs to another configuration, weights cannot be
        begun with, nets or losses do not fit the images, or a parameter is for a discriminator that
        is not there.
    ParameterError
        Parameters that contradict each other, the images or the nets, or that have changed in the
        notebook; a TypeError for what is of none of the package's classes, and for weights that
        :class:`d2lvae.engine.adam.Adam` does not take.
    CheckpointError
        With `resume`: the checkpoints are damaged or of another configuration.
    FloatingPointError
        The loss stopped being a number.
    DistributedError
        With `kvstore` 'dist_sync': a DMLC_* variable is missing or wrong.
    """
    given = (vae, VAE), (discriminator, Discriminator), (images, ImageSet)
    agreement.check_kinds(given, config)
    settings, history = records.settings_of(vae, images, config, discriminator), []
    nets = {name: net for name, net in (("vae", vae), ("disc", discriminator)) if net is not None}
    own = weights.own_weights(nets, config.resume)
    if own:
        settings["own_weights"] = own
    folder = folders.folder_of(settings, config.results_dir)

    kept = lambda: folders.kept(history, settings["epochs"])
    group = process_group(config, kept)
    with weights.remembered(nets, own):
        compared = {**settings, "resume": config.resume, "version": __version__}
        agreement.check_same_config(group, compared)
        with folders.folder_lock(folder) if group.rank == 0 else contextlib.nullcontext():
            weights.begin(nets, settings["seed"], own, quiet=config.resume or group.rank > 0)
            pixel_loss = config.pixel_loss if callable(config.pixel_loss) else None
            step = training.make_step(vae, discriminator, settings, pixel_loss, group.add_up)
            return _train(step, images, settings, history, folder, config.resume, group)


def run_folder(vae, images, config, discriminator=None):
    """Where :func:`fit` with the same arguments leaves its results."""
    settings = records.settings_of(vae, images, config, discriminator)
    return folders.folder_of(settings, config.results_dir)


def reconstruct(vae, images):
    """uint8 images (N, C, H, W) -> what the VAE makes of them, decoded from the mean, uint8."""
    return codes.decode(vae, codes.encode(vae, images))


def _train(step, images, settings, history, folder, resume, group):
    """What :func:`fit` does once all processes agree and the folder is nobody else's."""
    made_with = {"processor_threads": threads.settings(), "workers": group.size}
    made_with.update(records.code_of(step.trainers))
    if group.rank == 0:
        folders.check_folder(folder, settings, resume)
    if resume:
        begun_with = folders.resume(step, settings, history, folder, group)
        if len(history) == settings["epochs"]:  # nothing is left to do here
            made_with = {**begun_with, **results.measures(folder, history)}

    def keep():
        if group.rank == 0:
            arrays, steps = checkpoints.get_state(step)
            record = {"config": settings, "steps": steps, "history": history, **made_with}
            checkpoints.save_checkpoint(folder / folders.UNFINISHED, arrays, record)

    def draw(curve, title):
        first, title = images.validation[:NUM_IMAGES], f"{images.title}: {title}"
        drawn = figures.show_reconstructions(first, reconstruct(step.vae, first), images.title, 10)
        return png.one_png([figures.show_history(curve, title, settings["epochs"]), drawn])

    means = lambda found, number: training.mean_losses(found, number / group.size, step.weights)
    about = settings["epochs"], len(images.train), means, draw, group.rank
    with reporting(history, *about) as report:
        finished = training.train(step, images.train, settings, history, keep, report, group)
    if group.size > 1:  # BatchNorm's statistics are each worker's own
        for trainer in step.trainers.values():
            set_weights(trainer.net, group.broadcast(get_weights(trainer.net)))
    return _end(step, images, settings, history, finished, folder, made_with, group)


def _end(step, images, settings, history, finished, folder, made_with, group):
    """Write what the run leaves, in rank 0; the others are told."""
    work = folder / folders.UNFINISHED
    originals = images.validation[:NUM_IMAGES]
    reconstructed = reconstruct(step.vae, originals)
    run = Run(folder if finished else work, step.vae, history, {}, reconstructed)
    codes.fit_codes(step.vae, images.train)
    if group.rank == 0:
        if not finished:
            folders.say_stopped(len(history))
        for name, trainer in step.trainers.items():
            save_net(work / f"{name}.npz", trainer.net)
        made_with = {"device": str(step.vae.ctx), **made_with}
        about = work, images, settings, history, finished, made_with
        if not finished:  # who pressed Ctrl-C may not wait for the figures
            results.write(*about)
        _draw(work, results.title_of(settings, len(history)), originals, run, settings["seed"])
        run.metrics = results.write(*about)  # the record goes last
        if finished:
            folders.publish(folder)
    run.history, run.metrics = results.tell(group, run.folder, run.history, run.metrics)
    return run


def _draw(folder, title, originals, run, seed):
    """Write a run's images, figures and curves into its folder."""
    for i, (original, reconstruction) in enumerate(zip(originals, run.reconstructions)):
        png.save_image(folder / f"test_{i}.png", original)
        png.save_image(folder / f"{i}.png", reconstruction)
    both = figures.show_reconstructions(originals, run.reconstructions, title)
    drawn = {"loss": figures.show_history(run.history, title)} if run.history else {}
    drawn["reconstructions"] = figures.show_images(run.reconstructions, f"{title}: reconstructions")
    drawn["originals_and_reconstructions"] = both
    samples = codes.samples(run.vae, NUM_SAMPLES, seed)
    drawn["samples"] = figures.show_rows(samples, f"{title}: samples")
    for name, figure in drawn.items():
        png.save(figure, folder / f"{name}.png")
