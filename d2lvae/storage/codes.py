"""Where a VAE's codes lie: a Gaussian fitted to the encoded training images, kept with the net.

The prior N(0, 1) says where codes should lie.  The KL divergence alone sees to it, image by image,
so all together (the aggregated posterior) they fill only a part of the prior, and unevenly.  A
sample from the prior may come from where the decoder never was; one from this Gaussian hardly does.

References
----------
Ghosh et al., "From Variational to Deterministic Autoencoders", arXiv 1903.12436, section 4; Dai and
Wipf, "Diagnosing and Enhancing VAE Models", arXiv 1903.05789.
"""

import typing

import mxnet as mx
import numpy as np

from ..engine.operators import unit_images
from . import paths
from .errors import CheckpointError
from .png import to_uint8

NAMES = "codes_mean", "codes_covariance"  # of the arrays in vae.npz
BATCH_SIZE = 64


class Codes(typing.NamedTuple):
    """A Gaussian: its mean, float32 (L,), and its covariance, float32 (L, L)."""

    mean: np.ndarray
    covariance: np.ndarray


def fit_codes(vae, images):
    """Find out where the codes of images lie; `vae.codes` has it from then on.

    It is the aggregated posterior's mean and covariance: the codes are the encoder's means with its
    noise.  `fit` does so at the end of each training.

    Parameters
    ----------
    vae : VAE
        Trained.
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        The training images.

    Returns
    -------
    Codes
        None, after a note, if some of the codes are no finite numbers.
    """
    parts = []
    for part in split(images):
        mean, log_var = vae.encode(unit_images(part, vae.ctx))
        parts.append((mean.asnumpy(), log_var.exp().asnumpy()))
    means, variances = (np.concatenate(part).astype(np.float64) for part in zip(*parts))
    covariance = np.atleast_2d(np.cov(means.T, bias=True)) + np.diag(variances.mean(axis=0))
    vae.codes = Codes(means.mean(axis=0).astype(np.float32), covariance.astype(np.float32))
    if not all(np.isfinite(each).all() for each in vae.codes):
        vae.codes = None
        paths.say("note: codes of this VAE are no finite numbers, so none can be drawn from them")
    return vae.codes


def factor(codes):
    """The matrix (L, L) that turns standard normal noise into codes: times its transpose it is the
    covariance."""
    values, vectors = np.linalg.eigh(codes.covariance.astype(np.float64))
    return vectors * np.sqrt(values.clip(0))


def draw(vae, noise):
    """Standard normal noise, NDArray (N, L) -> latents (N, L) from where the codes lie.

    ValueError if it is not known where they lie.
    """
    if vae.codes is None:
        raise ValueError(
            "where this VAE's codes lie is not known: `fit` has not trained it, or d2lvae 0.1.0 "
            "has saved it. d2lvae.fit_codes(vae, images.train) finds it out"
        )
    given = vae.codes.mean[None], factor(vae.codes).T
    mean, turned = (mx.nd.array(each, ctx=noise.context) for each in given)
    return mx.nd.broadcast_add(mean, mx.nd.dot(noise, turned))


def samples(vae, num_images, seed=0):
    """Samples of both kinds, uint8 (num_images, C, H, W), from the same noise, which is numpy's.

    By 'from the prior' and, if it is known where they lie, 'from the codes'.
    """
    noise = np.random.default_rng(seed).standard_normal((num_images, vae.num_latents), np.float32)
    latents = {"from the prior": mx.nd.array(noise, ctx=vae.ctx)}
    if vae.codes is not None:
        latents["from the codes"] = draw(vae, latents["from the prior"])
    return {place: decode(vae, found) for place, found in latents.items()}


def encode(vae, images):
    """uint8 images (N, C, H, W) -> the means of their latents (N, L)."""
    parts = [vae.encode(unit_images(part, vae.ctx))[0].asnumpy() for part in split(images)]
    return np.concatenate(parts)


def decode(vae, latents):
    """Latents (N, L), an array or an NDArray -> images (N, C, H, W), uint8."""
    latents = mx.nd.array(latents, ctx=vae.ctx)
    return np.concatenate([to_uint8(vae.decode(part).sigmoid()) for part in split(latents)])


def split(rows):
    """Rows in minibatches."""
    return [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]


def to_arrays(net):
    """What `vae.npz` holds of them, by name; nothing if it is not known or of another net."""
    codes = getattr(net, "codes", None)
    return {} if codes is None else dict(zip(NAMES, codes))


def pop_arrays(arrays, num_latents):
    """Take the codes out of a file's arrays; None if there are none, as of d2lvae 0.1.0.

    CheckpointError if one of the two is missing, of another shape or kind, or not finite.
    """
    found = [arrays.pop(name, None) for name in NAMES]
    if all(each is None for each in found):
        return None
    for name, each, shape in zip(NAMES, found, [(num_latents,), (num_latents, num_latents)]):
        if each is None or each.shape != shape or each.dtype != np.float32:
            kind = "nothing" if each is None else f"{each.shape} of {each.dtype}"
            raise CheckpointError(f"{name} should have shape {shape} of float32, found {kind}")
        if not np.isfinite(each).all():
            raise CheckpointError(f"not all numbers in {name} are finite")
    return Codes(*found)
