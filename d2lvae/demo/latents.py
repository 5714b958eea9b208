"""What a trained VAE's latents mean: finished runs, the directions in which their codes vary most, what those change in an image."""

import dataclasses
import functools
import pathlib

import mxnet as mx
import numpy as np
from mxnet import autograd

from .. import data, figures
from ..storage import paths
from ..storage.files import CheckpointError, read_json
from ..storage.nets import load_net
from ..vae import VAE

__all__ = [
    "Directions",
    "LoadedRun",
    "finished_runs",
    "subject",
    "load_run",
    "directions",
    "encode",
    "decode",
    "verdict",
    "traverse",
    "traversals",
    "walk",
]

MAX_DIRECTIONS = 8  # of many latents; as many fit beside an image
NUM_ENCODED = 1_000  # validation images that the directions are found on
NUM_COMPANY = 15  # images that another one is judged among
NUM_DRAWN = 100  # from the prior, where a run's images are not here
MIN_SHARE = 0.15  # of a direction's variance that a factor must tell to give it its name
MIN_SCALE = 0.01  # of the means along a direction; below it the direction says nothing

_drawn_digits = functools.lru_cache(maxsize=2)(data.drawn_digits)  # 20,000 take seconds


@dataclasses.dataclass
class LoadedRun:
    """A finished run: its nets, and the set that it was trained on.

    Attributes
    ----------
    folder : pathlib.Path
    vae : VAE
    discriminator : HybridBlock or None
    images : ImageSet or None
        None if they are not here.
    means : numpy.ndarray, shape (N, L)
        What the encoder makes of the first validation images.
        Without images: the prior's centre, then draws from the prior.
    company : numpy.ndarray, uint8, shape (N, C, H, W)
        What the VAE makes of the last validation images, 15 at most; for `verdict`.
        Without images: decoded draws from the prior.
    notes : tuple of str
        What one should know who sees this run, for example that the images are not the ones it
        was trained on.
    """

    folder: pathlib.Path
    vae: VAE
    discriminator: object
    images: data.ImageSet
    means: np.ndarray
    company: np.ndarray
    notes: tuple = ()


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


def traverse(found, latents, steps):
    """Latents (L,), moved by so many units along each of the directions."""
    number = min(len(steps), len(found.scales))
    return latents + (steps[:number] * found.scales[:number]) @ found.axes[:number]


def finished_runs(results_dir=""):
    """Folders of runs that came to their end and whose nets are there (they are not in git), the newest first.

    Parameters
    ----------
    results_dir : path
        Searched with all folders below; '' is the project's `results/`.
        Runs in a folder `study` below it are left out: a study has dozens.

    Returns
    -------
    list of pathlib.Path
    """
    found, root = [], paths.results_root(results_dir)
    for net in root.glob("**/images/*/*/vae.npz"):
        if "study" in net.relative_to(root).parts[:-4]:
            continue
        try:
            if read_json(net.parent / "metrics.json")["finished"] is True:
                found.append((net.stat().st_mtime, net.parent))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half-written, or somebody else's: not finished
    return [folder for _, folder in sorted(found, reverse=True)]


def subject(folder):
    """The images that a run's record names: the set's name and (C, H, W), None where it is silent."""
    try:
        config = read_json(pathlib.Path(folder) / "metrics.json")["config"]
        return config.get("data"), config["vae"].get("image_shape")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None


def load_run(folder, images=None):
    """A run from its folder, with the set that it was trained on.

    Parameters
    ----------
    folder : path
    images : ImageSet, optional
        The set that it was trained on, where that is one of the user's own.
        By default it is loaded by the name in the run's record.

    Returns
    -------
    Trained
        Without images if they cannot be loaded; its `notes` say why.
        They also say if the images are not those that the run was trained on.

    Raises
    ------
    CheckpointError
        Its nets or its record are missing or damaged, or what the nets compute is not finite.
    DataError
        The images given do not fit its nets.
    """
    folder = pathlib.Path(folder)
    record, (vae, disc) = _record(folder), _nets(folder)
    if images is not None:
        _check_shape(images, vae)
        notes = _differences(images, record)
    else:
        images, notes = _images_or_why_not(folder, record, vae)
    if images is None:
        draws = np.random.default_rng(0).standard_normal((NUM_DRAWN, vae.num_latents))
        means, last = np.vstack([np.zeros_like(draws[:1]), draws]), draws[-NUM_COMPANY:]
    else:
        means = encode(vae, images.validation[:NUM_ENCODED])
        last = encode(vae, images.validation[-NUM_COMPANY:])
    trained = LoadedRun(folder, vae, disc, images, means, decode(vae, last), tuple(notes))
    _check_finite(trained)
    if images is not None:
        trained.notes += _collapse(means)
    return trained


def _record(folder):
    """What a run's metrics.json says of its images: set, seed, training images, checksum."""
    try:
        record = read_json(folder / "metrics.json")
        config = record["config"]
        return {
            "data": config["data"],
            "seed": record["data"].get("seed", config["seed"]),
            "data_sha256": config["data_sha256"],
            "num_train": record["data"]["num_train"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / 'metrics.json'} is no record of a run ({error!r}): " "train it again"
        ) from None


def _nets(folder):
    """A run's VAE and its discriminator, None if it has none."""
    vae = load_net(folder / "vae.npz")
    if not isinstance(vae, VAE):
        raise CheckpointError(
            f"{folder / 'vae.npz'} holds a {type(vae).__name__}, not a VAE: " "train it again"
        )
    if not (folder / "disc.npz").exists():
        return vae, None
    disc = load_net(folder / "disc.npz")
    shape = tuple(getattr(disc, "image_shape", vae.image_shape))
    if isinstance(disc, VAE) or shape != vae.image_shape:
        raise CheckpointError(
            f"{folder / 'disc.npz'} holds no discriminator of images of "
            f"{_sizes(vae.image_shape)}, but a {type(disc).__name__}: "
            "train it again"
        )
    return vae, disc


def _sizes(shape):
    return " x ".join(map(str, shape))


def _images_or_why_not(folder, record, vae):
    """The set that a record names and notes on it; without the set if it cannot be loaded."""
    try:
        images = _images(folder, record, vae.image_shape[1])
        _check_shape(images, vae)
    except data.DataError as error:
        return None, [
            f"{error}. Without its images there are only samples from the prior, and "
            "sliders that begin at its centre, 0."
        ]
    return images, _differences(images, record)


def _images(folder, record, image_size):
    """The set that a record names."""
    name, seed, num_train = record["data"], record["seed"], record["num_train"]
    load = {
        "MNIST": lambda: data.load_mnist(paths.data_root() / "mnist"),
        "drawn_digits": lambda: _drawn_digits(num_train, seed),
        "drawn_faces": lambda: data.drawn_faces(num_train, seed, image_size),
        "anime": lambda: data.real_faces(paths.data_root() / "anime", seed, image_size),
    }
    if name not in load:
        raise data.DataError(
            f"{paths.display_path(folder / 'metrics.json')} names the data set {name!r}; known are "
            f"{', '.join(load)}. Give its images: Explorer(images=...), load_run(folder, images)"
        )
    return load[name]()


def _check_shape(images, vae):
    if images.image_shape != vae.image_shape:
        raise data.DataError(
            f"the images of {images.title} are {_sizes(images.image_shape)} here, but the net was "
            f"trained on images of {_sizes(vae.image_shape)}: give those that it was trained on"
        )


def _differences(images, record):
    """A note if the images are not those of a run's record."""
    used = images.first(record["num_train"])
    if used.sha256() == record["data_sha256"]:
        return []
    return [
        f"These are not the images that this net was trained on: their checksum is not the "
        f"data_sha256 in its metrics.json ({record['num_train']:,} training images there, "
        f"{len(images.train):,} here). The net may have been trained on some of the images "
        "that are shown as validation images."
    ]


def _collapse(means):
    """A note if an encoder says the same of all images."""
    if len(means) == 1 or len(_principal(means).scales):
        return ()
    return (
        "This net has collapsed: its encoder gives all validation images the same latents, so "
        "all reconstructions are alike.",
    )


def _check_finite(trained):
    """Refuse nets whose weights are finite but whose outputs are not."""
    logits = _logits(trained.vae, trained.means[:1]).asnumpy()
    outputs = {"vae.npz": np.append(trained.means, logits)}
    if trained.discriminator is not None:
        outputs["disc.npz"] = verdict(trained.discriminator, trained.company[0], trained.company)
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{trained.folder / name}: not all that it computes is finite: "
                "train it again, with a smaller lr"
            )


def encode(vae, images):
    """uint8 images (N, C, H, W) -> their means (N, L), float64."""
    parts = [
        vae.encode(_on_device(vae, images[i : i + 64]))[0].asnumpy()
        for i in range(0, len(images), 64)
    ]
    return np.concatenate(parts).astype(np.float64)


def decode(vae, latents):
    """Latents (N, L) -> uint8 images (N, C, H, W)."""
    parts = [
        figures.to_uint8(_logits(vae, latents[i : i + 64]).sigmoid())
        for i in range(0, len(latents), 64)
    ]
    return np.concatenate(parts)


def _logits(vae, latents):
    return vae.decode(mx.nd.array(latents, ctx=_device(vae)))


def _device(net):
    return next(iter(net.collect_params().values())).list_ctx()[0]


def verdict(discriminator, image, company):
    """How sure a discriminator is that an image is real, from 0 to 1.

    It judges it as in its training, among others of its kind: where it has BatchNorm, what it makes of an image depends on those beside it.

    Parameters
    ----------
    discriminator : HybridBlock
    image : numpy.ndarray, uint8, shape (C, H, W)
    company : numpy.ndarray, uint8, shape (N, C, H, W)
        Originals for an original, reconstructions for a reconstruction.

    Returns
    -------
    float
    """
    with autograd.train_mode():
        logits = discriminator(_on_device(discriminator, np.concatenate([image[None], company])))
    return float(logits.sigmoid().asnumpy().reshape(-1)[0])


def _on_device(net, images):
    return mx.nd.array(images, ctx=_device(net)).astype("float32") / 255


def walk(start, end, share):
    """The latents at a share (0 to 1) of the straight way between two, (L,) each."""
    return start * (1 - share) + end * share


def directions(trained):
    """The latents themselves where there are few; of many the leading principal directions of the validation images' means.

    Principal directions are named after the factor that tells most of what varies along them, if any tells at least
    `MIN_SHARE` of it: of a drawn face it is known what it was drawn from.
    Where the means have no directions (a collapsed net, no images) they are single latents, those
    that change the decoded image most.

    Parameters
    ----------
    trained : Trained

    Returns
    -------
    Directions
        With one unit a standard deviation: the prior's for latents, the means' own for principal directions.
    """
    if trained.vae.num_latents > MAX_DIRECTIONS and trained.images is not None:
        found = _principal(trained.means)
        if len(found.scales):
            names = _names(found.coordinates(trained.means), trained.images)
            return dataclasses.replace(found, names=names)
    return _single_latents(trained.vae)


def _principal(means):
    """The principal directions of means (N, L), of `MAX_DIRECTIONS` at most; nameless."""
    origin = means.mean(axis=0)
    _, lengths, axes = np.linalg.svd(means - origin, full_matrices=False)
    scales = lengths / np.sqrt(len(means))
    number = min(MAX_DIRECTIONS, int((scales > MIN_SCALE).sum()))
    return Directions(origin, axes[:number], scales[:number], ())


def _single_latents(vae):
    """All latents; of more than `MAX_DIRECTIONS` those that change the image at the centre most."""
    units = np.eye(vae.num_latents)
    if len(units) > MAX_DIRECTIONS:
        centre = decode(vae, np.zeros_like(units[:1])).astype(float)
        changes = np.abs(decode(vae, 2 * units) - centre).reshape(len(units), -1).sum(axis=1)
        chosen = np.sort(np.argsort(-changes, kind="stable")[:MAX_DIRECTIONS])
    else:
        chosen = np.arange(len(units))
    names = tuple(f"latent {i + 1}" for i in chosen)
    return Directions(np.zeros(len(units)), units[chosen], np.ones(len(chosen)), names)


def _names(coordinates, images):
    """A name for each column of coordinates (N, K), after the factor of the images that tells most of its variance."""
    factors, names = images.validation_labels, []
    has_factors = images.label_names and factors is not None and factors.ndim == 2
    for i, values in enumerate(coordinates.T):
        name = f"direction {i + 1}"
        if has_factors:
            shares = {
                factor: _explained_variance(column, values)
                for factor, column in zip(images.label_names, factors[: len(values)].T)
            }
            factor = max(shares, key=shares.get)
            if shares[factor] >= MIN_SHARE:
                name += f": {factor.replace('_', ' ')} ({shares[factor]:.0%})"
        names.append(name)
    return tuple(names)


def _explained_variance(factor, values):
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
    """What turning each direction changes in an image.

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
        rows[name] = decode(vae, np.stack([traverse(found, latents, change) for change in changes]))
    return rows
