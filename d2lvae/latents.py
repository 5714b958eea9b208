"""What a trained VAE's latents mean: finished runs, the directions in which their codes vary most, what those change in a picture."""
import dataclasses
import pathlib

import mxnet as mx
import numpy as np
from mxnet import autograd

from . import datasets, figures, runtime
from .checkpoints import CheckpointError, load_net
from .files import read_json
from .vae import VAE

__all__ = ["Directions", "Trained", "finished_runs", "load_run", "directions", "encode", "decode", "verdict", "turned", "traversals", "walk"]

MAX_DIRECTIONS = 8  # of many latents; as many fit beside a picture
NUM_ENCODED = 1_000  # validation pictures that the directions are found on
NUM_COMPANY = 15  # pictures that another one is judged among
MIN_SHARE = 0.15  # of a direction's variance that a factor must tell to give it its name


@dataclasses.dataclass
class Trained:
    """A finished run: its nets, and the set that it was trained on.

    Attributes
    ----------
    folder : pathlib.Path
    vae : VAE
    discriminator : HybridBlock or None
    images : ImageSet
    means : numpy.ndarray, shape (N, L)
        What the encoder makes of the first validation pictures.
    company : numpy.ndarray, uint8, shape (15, C, H, W)
        What the VAE makes of the last validation pictures; for `verdict`.
    """
    folder: pathlib.Path
    vae: VAE
    discriminator: object
    images: datasets.ImageSet
    means: np.ndarray
    company: np.ndarray


@dataclasses.dataclass(frozen=True)
class Directions:
    """K directions in the space of L latents, and a scale on each.

    Attributes
    ----------
    origin : numpy.ndarray, shape (L,)
        Where all coordinates are 0.
    axes : numpy.ndarray, shape (K, L)
        Orthogonal, of length 1.
    scales : numpy.ndarray, shape (K,)
        What one unit is.
    names : tuple of str
    """
    origin: np.ndarray
    axes: np.ndarray
    scales: np.ndarray
    names: tuple

    def coordinates(self, latents):
        """Latents (..., L) -> coordinates (..., K)."""
        return (latents - self.origin) @ self.axes.T / self.scales


def turned(found, latents, steps):
    """Latents (L,), moved by so many units along each of the directions."""
    number = min(len(steps), len(found.scales))
    return latents + (steps[:number] * found.scales[:number]) @ found.axes[:number]


def finished_runs(results_dir=""):
    """Folders of runs that came to their end and whose nets are there (they are not in git), the newest first.

    Parameters
    ----------
    results_dir : path
        Searched with all folders below; '' is the project's `results/`.

    Returns
    -------
    list of pathlib.Path
    """
    found = []
    for net in runtime.results_root(results_dir).glob("**/images/*/*/vae.npz"):
        try:
            if read_json(net.parent / "metrics.json")["finished"] is True and "study" not in net.parts:
                found.append((net.stat().st_mtime, net.parent))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half-written, or somebody else's: not finished
    return [folder for _, folder in sorted(found, reverse=True)]


def load_run(folder):
    """A run from its folder, with the set that it was trained on.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Trained

    Raises
    ------
    CheckpointError
        Its nets or its record are missing or damaged.
    DataError
        Its data set is not here.
    """
    folder = pathlib.Path(folder)
    try:
        config = read_json(folder / "metrics.json")["config"]
        name, seed = config["data"], config["seed"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'metrics.json'} is no record of a run ({error!r}): train it again") from None
    vae = load_net(folder / "vae.npz")
    if not isinstance(vae, VAE):
        raise CheckpointError(f"{folder / 'vae.npz'} holds a {type(vae).__name__}, not a VAE: train it again")
    disc = load_net(folder / "disc.npz") if (folder / "disc.npz").exists() else None
    load = {"MNIST": lambda: datasets.load_mnist(runtime.data_root() / "mnist"), "drawn_digits": lambda: datasets.drawn_digits(1, seed),
            "drawn_faces": lambda: datasets.drawn_faces(0, seed, vae.image_shape[1]),
            "anime": lambda: datasets.real_faces(runtime.data_root() / "anime", seed, vae.image_shape[1])}
    if name not in load:
        raise CheckpointError(f"{folder / 'metrics.json'} names the data set {name!r}; known are {', '.join(load)}")
    images = load[name]()
    means, last = (encode(vae, pictures) for pictures in (images.validation[:NUM_ENCODED], images.validation[-NUM_COMPANY:]))
    return Trained(folder, vae, disc, images, means, decode(vae, last))


def encode(vae, pictures):
    """uint8 pictures (N, C, H, W) -> their means (N, L), float64."""
    parts = [vae.encode(_on_device(vae, pictures[i:i + 64]))[0].asnumpy() for i in range(0, len(pictures), 64)]
    return np.concatenate(parts).astype(np.float64)


def decode(vae, latents):
    """Latents (N, L) -> uint8 pictures (N, C, H, W)."""
    context = next(iter(vae.collect_params().values())).list_ctx()[0]
    return figures.to_uint8(vae.decode(mx.nd.array(latents, ctx=context)).sigmoid())


def verdict(discriminator, picture, company):
    """How sure a discriminator is that a picture is real, from 0 to 1.

    It judges it as in its training, among others of its kind: where it has BatchNorm, what it makes of a picture depends on those beside it.

    Parameters
    ----------
    discriminator : HybridBlock
    picture : numpy.ndarray, uint8, shape (C, H, W)
    company : numpy.ndarray, uint8, shape (N, C, H, W)
        Originals for an original, reconstructions for a reconstruction.

    Returns
    -------
    float
    """
    with autograd.train_mode():
        logits = discriminator(_on_device(discriminator, np.concatenate([picture[None], company])))
    return float(logits.sigmoid().asnumpy().reshape(-1)[0])


def _on_device(net, pictures):
    context = next(iter(net.collect_params().values())).list_ctx()[0]
    return mx.nd.array(pictures, ctx=context).astype("float32") / 255


def walk(start, end, share):
    """The latents at a share (0 to 1) of the straight way between two, (L,) each."""
    return start * (1 - share) + end * share


def directions(trained):
    """The latents themselves where there are few; of many the leading principal directions of the validation pictures' means.

    Principal directions are named after the factor that tells most of what varies along them, if any tells at least
    `MIN_SHARE` of it: of a drawn face it is known what it was drawn from.

    Parameters
    ----------
    trained : Trained

    Returns
    -------
    Directions
        With one unit a standard deviation: the prior's for latents, the means' own for principal directions.
    """
    num_latents = trained.vae.num_latents
    if num_latents <= MAX_DIRECTIONS:
        names = tuple(f"latent {i + 1}" for i in range(num_latents))
        return Directions(np.zeros(num_latents), np.eye(num_latents), np.ones(num_latents), names)
    origin = trained.means.mean(axis=0)
    _, lengths, axes = np.linalg.svd(trained.means - origin, full_matrices=False)
    number = min(MAX_DIRECTIONS, int((lengths > 1e-6).sum()))
    scales = lengths[:number] / np.sqrt(len(trained.means))
    found = Directions(origin, axes[:number], scales, ())
    return dataclasses.replace(found, names=_names(found.coordinates(trained.means), trained.images))


def _names(coordinates, images):
    """A name for each column of coordinates (N, K), after the factor of the images that tells most of its variance."""
    factors, names = images.validation_labels, []
    for i, values in enumerate(coordinates.T):
        name = f"direction {i + 1}"
        if images.label_names:
            shares = {factor: _share_told(column, values) for factor, column in zip(images.label_names, factors[:len(values)].T)}
            factor = max(shares, key=shares.get)
            if shares[factor] >= MIN_SHARE:
                name += f": {factor.replace('_', ' ')} ({shares[factor]:.0%})"
        names.append(name)
    return tuple(names)


def _share_told(factor, values):
    """The share of the variance of `values` (N,) that goes with a factor (N,): by its choices' means, or along a line and around the hues."""
    choices, group = np.unique(factor, return_inverse=True)
    if len(choices) <= 20:
        sizes = np.bincount(group)
        told = (np.bincount(group, values) / sizes)[group]
    else:
        turn = 2 * np.pi * factor
        design = np.stack([np.ones_like(values), factor, np.cos(turn), np.sin(turn)], axis=1)
        told = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(1 - ((values - told) ** 2).mean() / max(values.var(), 1e-30))


def traversals(vae, found, latents, num_steps=9, reach=2.5):
    """What turning each direction changes in a picture.

    Parameters
    ----------
    vae : VAE
    found : Directions
    latents : numpy.ndarray, shape (L,)
        Where all begin.
    num_steps : int
    reach : float
        How many units to both sides of coordinate 0.

    Returns
    -------
    dict of numpy.ndarray, uint8, shape (num_steps, C, H, W)
        By the directions' names.
    """
    here, steps, rows = found.coordinates(latents), np.linspace(-reach, reach, num_steps), {}
    for k, name in enumerate(found.names):
        changes = np.zeros((num_steps, len(here)))
        changes[:, k] = steps - here[k]
        rows[name] = decode(vae, np.stack([turned(found, latents, change) for change in changes]))
    return rows
