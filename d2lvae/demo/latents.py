"""What the latents of a trained VAE mean: encode, decode, and the directions that codes vary in."""

import dataclasses

import numpy as np

from ..storage.codes import decode, encode  # noqa: F401

MAX_DIRECTIONS = 8  # of many latents; as many sliders fit beside an image
MIN_EXPLAINED = 0.15  # explained variance from which on a factor names a direction
MIN_SCALE = 0.01  # standard deviation of the codes; below it a direction says nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    """K directions in the space of L latents, and a scale on each.

    Attributes
    ----------
    origin : numpy.ndarray, shape (L,)
        Where all coordinates are 0.
    axes : numpy.ndarray, shape (K, L)
        Orthogonal, of length 1.
    scales : numpy.ndarray, shape (K,)
        The length of one unit.
    names : tuple of str
    """

    origin: np.ndarray
    axes: np.ndarray
    scales: np.ndarray
    names: tuple = ()

    def coordinates(self, latents):
        """Latents (..., L) -> coordinates (..., K)."""
        return (latents - self.origin) @ self.axes.T / self.scales

    def traverse(self, latents, steps):
        """Latents (L,), moved by `steps` (K,) units."""
        return latents + (steps * self.scales) @ self.axes


def interpolate(start, end, fraction):
    """The latents (L,) at a fraction (0 to 1) of the straight line from `start` to `end`."""
    return start * (1 - fraction) + end * fraction


def find_directions(vae, means, images=None):
    """All latents if they are few; of many the principal directions of the codes.

    A principal direction is named after the factor that explains most of the variance along it,
    if that is at least `MIN_EXPLAINED`; only synthetic faces have factors.
    Where the codes have no directions (a collapsed net, no images) they are single latents, those
    that change the decoded image most.

    `means` (N, L) are the encoder's, of the first N validation images of `images`.  There are at
    most `MAX_DIRECTIONS`.  One unit is a standard deviation: the prior's for latents, the means'
    own for principal directions.
    """
    if vae.num_latents > MAX_DIRECTIONS and images is not None:
        principal = principal_directions(means)
        if len(principal.scales):
            names = _names(principal.coordinates(means), images)
            return dataclasses.replace(principal, names=names)
    return _single_latents(vae)


def principal_directions(means):
    """The principal directions of means (N, L), those with no variance left out; without names."""
    origin = means.mean(axis=0)
    _, lengths, axes = np.linalg.svd(means - origin, full_matrices=False)
    scales = lengths / np.sqrt(len(means))
    number = min(MAX_DIRECTIONS, int((scales > MIN_SCALE).sum()))
    return Directions(origin, axes[:number], scales[:number])


def _single_latents(vae):
    """All latents; of more than `MAX_DIRECTIONS` those that change the image at the centre most."""
    units = np.eye(vae.num_latents)
    chosen = np.arange(len(units))
    if len(units) > MAX_DIRECTIONS:
        centre = decode(vae, np.zeros_like(units[:1])).astype(float)
        changes = np.abs(decode(vae, 2 * units) - centre).reshape(len(units), -1).sum(axis=1)
        chosen = np.sort(np.argsort(-changes, kind="stable")[:MAX_DIRECTIONS])
    names = tuple(f"latent {i + 1}" for i in chosen)
    return Directions(np.zeros(len(units)), units[chosen], np.ones(len(chosen)), names)


def _names(coordinates, images):
    """A name for each of the K columns of coordinates (N, K)."""
    factors = {}
    if images.validation_labels is not None:
        columns = np.transpose(images.validation_labels[: len(coordinates)])
        factors = dict(zip(images.label_names, columns))
    return tuple(
        f"direction {i}{_main_factor(factors, values)}" for i, values in enumerate(coordinates.T, 1)
    )


def _main_factor(factors, values):
    """The factor that explains most of the variance of `values` (N,), as part of a name."""
    explained = {name: _explained_variance(column, values) for name, column in factors.items()}
    name = max(explained, key=explained.get, default=None)
    if name is None or explained[name] < MIN_EXPLAINED:
        return ""
    return f": {name.replace('_', ' ')} ({explained[name]:.0%})"


def _explained_variance(factor, values):
    """The fraction of the variance of `values` (N,) that a factor (N,) explains.

    A factor of at most 20 choices explains by a mean for each; another one by a regression on
    itself and, as it may be a hue, on its sine and cosine.
    """
    choices, group = np.unique(factor, return_inverse=True)
    if len(choices) <= 20:
        fitted = (np.bincount(group, values) / np.bincount(group))[group]
    else:
        angle = 2 * np.pi * factor
        design = np.stack([np.ones_like(values), factor, np.cos(angle), np.sin(angle)], axis=1)
        fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(1 - ((values - fitted) ** 2).mean() / max(values.var(), 1e-30))


def traversals(vae, directions, latents, num_steps=9, reach=2.5):
    """What each direction changes in an image.

    Parameters
    ----------
    vae : VAE
    directions : Directions
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
    here, rows = directions.coordinates(latents), {}
    for k, name in enumerate(directions.names):
        steps = np.zeros((num_steps, len(here)))
        steps[:, k] = np.linspace(-reach, reach, num_steps) - here[k]
        rows[name] = decode(vae, np.stack([directions.traverse(latents, step) for step in steps]))
    return rows
