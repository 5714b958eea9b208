"""Finished runs on disk: found, and loaded with the images that they were trained on."""

import contextlib
import dataclasses
import functools
import pathlib

import numpy as np

from .. import data
from ..storage import paths
from ..storage.errors import CheckpointError
from ..storage.files import read_json
from ..storage.nets import load_net
from ..storage.results import is_finished
from ..vae import VAE
from . import latents

NUM_ENCODED = 1_000  # validation images that the directions are found on
NUM_SAMPLES = 100  # from the prior, where a run's images are not here

drawn_digits = functools.lru_cache(maxsize=2)(data.drawn_digits)  # 20,000 take seconds


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedRun:
    """A finished run: its nets, and the images that it was trained on.

    Attributes
    ----------
    folder : pathlib.Path
    vae : VAE
    discriminator : HybridBlock or None
    images : ImageSet or None
        None if they are not here.
    means : numpy.ndarray, shape (N, L)
        The encoder's means of the first validation images, 1,000 at most.
        Without images: the prior's centre, then samples from the prior.
    directions : latents.Directions
    notes : list of str
        What a reader should know, for example that these are not the images of the training.
    """

    folder: pathlib.Path
    vae: VAE
    discriminator: object
    images: data.ImageSet
    means: np.ndarray
    directions: latents.Directions
    notes: list


def finished_runs(results_dir=""):
    """Folders of finished runs whose nets are there (git does not have them), the newest first.

    Parameters
    ----------
    results_dir : path
        Searched with all folders below; '' is the project's `results/`.
        Runs in folders `study` and `assignments` below it are left out: those have dozens.

    Returns
    -------
    list of pathlib.Path
    """
    found, root = [], paths.results_root(results_dir)
    for net in root.glob("**/images/*/*/vae.npz"):
        if {"study", "assignments"} & {*net.relative_to(root).parts[:-4]}:
            continue
        with contextlib.suppress(OSError):  # it may be replaced at this moment
            if is_finished(net.parent):
                found.append((net.stat().st_mtime, net.parent))
    return [folder for _, folder in sorted(found, reverse=True)]


def load_run(folder, images=None):
    """A run from its folder, with the images that it was trained on.

    Parameters
    ----------
    folder : path
    images : ImageSet, optional
        The images that it was trained on, where they are the user's own.
        By default they are loaded by the name in the run's record.

    Returns
    -------
    LoadedRun
        Without images if they cannot be loaded; its `notes` say why.
        They also say if the images are not those that the run was trained on.

    Raises
    ------
    CheckpointError
        Its nets or its record are missing or damaged, or what the encoder computes is not finite.
    DataError
        The images given do not fit its nets.
    """
    folder = pathlib.Path(folder)
    record, (vae, disc), why_not = record_of(folder), _nets(folder), None
    if images is not None:
        _check_shape(images, vae)
    else:
        try:
            images = _recorded_images(folder, record, vae.image_shape[1])
            _check_shape(images, vae)
        except data.DataError as error:
            images, why_not = None, error
    means = _codes(vae, images)
    if not np.isfinite(means).all():
        raise CheckpointError(
            f"{folder / 'vae.npz'}: not all that it computes is finite: train it again, with a "
            "smaller lr"
        )
    directions = latents.find_directions(vae, means, images)
    notes = _notes(images, record, means, why_not)
    return LoadedRun(folder, vae, disc, images, means, directions, notes)


def _codes(vae, images):
    """The codes of the first validation images; without images samples from the prior."""
    if images is not None:
        return latents.encode(vae, images.validation[:NUM_ENCODED]).astype(np.float64)
    samples = np.random.default_rng(0).standard_normal((NUM_SAMPLES, vae.num_latents))
    return np.vstack([np.zeros(vae.num_latents), samples])


def record_of(folder):
    """What a run's metrics.json says of its images and its loss; CheckpointError if it is none."""
    try:
        record = read_json(folder / "metrics.json")
        config = record["config"]
        return {
            "data": config["data"],
            "seed": record["data"].get("seed", config["seed"]),
            "data_sha256": config["data_sha256"],
            "num_train": record["data"]["num_train"],
            "image_shape": config["vae"]["image_shape"],
            "learned_loss": config.get("learned_loss", "adversarial"),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / 'metrics.json'} is no record of a run ({error!r}): train it again"
        ) from None


def _nets(folder):
    """A run's VAE and its discriminator, None if it has none."""
    vae, disc = load_net(folder / "vae.npz"), None
    if not isinstance(vae, VAE):
        raise CheckpointError(
            f"{folder / 'vae.npz'} holds a {type(vae).__name__}, not a VAE: train it again"
        )
    if (folder / "disc.npz").exists():
        disc = load_net(folder / "disc.npz")
        if isinstance(disc, VAE) or disc.image_shape != vae.image_shape:
            raise CheckpointError(
                f"{folder / 'disc.npz'} holds no discriminator of images of "
                f"{_sizes(vae.image_shape)}, but a {type(disc).__name__}: train it again"
            )
    return vae, disc


def _sizes(shape):
    return " x ".join(map(str, shape))


def _recorded_images(folder, record, image_size):
    """The set that a record names."""
    name, seed, num_train = record["data"], record["seed"], record["num_train"]
    load = {
        "MNIST": lambda: data.load_mnist(paths.data_root() / "mnist"),
        "drawn_digits": lambda: drawn_digits(num_train, seed),
        "drawn_faces": lambda: data.drawn_faces(num_train, seed, image_size),
        "anime": lambda: data.real_faces(paths.data_root() / "anime", seed, image_size),
    }
    if name not in load:
        raise data.DataError(
            f"{paths.display_path(folder / 'metrics.json')} names the data set {name!r}; known are "
            f"{', '.join(load)}. Give its images: load_run(folder, images)"
        )
    return load[name]()


def _check_shape(images, vae):
    if images.image_shape != vae.image_shape:
        raise data.DataError(
            f"the images of {images.title} are {_sizes(images.image_shape)} here, but the net was "
            f"trained on images of {_sizes(vae.image_shape)}: give those that it was trained on"
        )


def _notes(images, record, means, why_not):
    """What a reader should know of a run's images and codes."""
    if images is None:
        return [
            f"{why_not}. Without its images there are only samples from the prior, and sliders "
            "that begin at its centre, 0."
        ]
    notes, num_train = [], record["num_train"]
    if images.first(num_train).sha256() != record["data_sha256"]:
        notes.append(
            "These are not the images that this net was trained on: their checksum is not the "
            f"data_sha256 in its metrics.json ({num_train:,} training images there, "
            f"{len(images.train):,} here). The net may have been trained on some of the images "
            "that are shown as validation images."
        )
    if len(means) > 1 and not len(latents.principal_directions(means).scales):
        notes.append(
            "This net has collapsed: its encoder gives all validation images the same latents, "
            "so all reconstructions are alike."
        )
    return notes
