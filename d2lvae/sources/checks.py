"""What all sources share: the errors, the choice by name, and the checks of images as arrays."""

import hashlib
import re

import numpy as np

from ..config import ParameterError
from ..engine.progress import wrapped
from ..storage import paths


class DataError(ValueError):
    """A data set that is missing or damaged; the message names the file and what to do."""


class NoImages(DataError):
    """A folder without a single image file."""


class Offline(DataError):
    """No mirror could be reached."""


def choose(data, kind, real, drawn):
    """The images that `real()` gives, or `drawn()`, by name; which ones they are is said.

    `kind` is 'digits' or 'faces'.  With `data` 'auto', synthetic images stand in for missing ones.
    ParameterError for the other kind's name; DataError for images that are damaged, or missing if
    'auto' was not asked for.
    """
    own, other = ("mnist", "anime") if kind == "digits" else ("anime", "mnist")
    if data == other:
        raise ParameterError(
            f"data must be 'auto', {own!r} or 'drawn' for {kind}; found {other!r}. "
            "For example: -p data drawn"
        )
    images = None
    if data != "drawn":
        try:
            images = real()
        except (Offline, NoImages) as error:
            if data != "auto":
                raise
            instead = "drawn digits, not MNIST" if kind == "digits" else "drawn faces"
            paths.say(f"{error}. So these are {instead}.")
    images = images or drawn()
    for line in wrapped(f"data: {images}", 6):
        paths.say(line)
    return images


def sha256(*arrays):
    """Hash of the arrays' shapes and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def check_set(images):
    """Raise DataError for an ImageSet whose name, arrays or labels will not do."""
    name = images.name
    is_name = isinstance(name, str) and len(name) <= 64
    if not is_name or not re.fullmatch(r"\w([\w .+-]*\w)?", name):
        raise DataError(
            "the name of a data set becomes part of a folder's name: expected at most 64 letters, "
            "digits, blanks and _ - + . with a letter, digit or _ at both ends; "
            f"found {name!r}. For example: 'fashion'"
        )
    _check_part(name, "train", images.train, images.train_labels)
    _check_part(name, "validation", images.validation, images.validation_labels)
    shapes = images.train.shape[1:], images.validation.shape[1:]
    if shapes[0] != shapes[1]:
        expected = "training and validation images must be of one shape"
        raise DataError(f"{name}: {expected}; found {shapes[0]} and {shapes[1]}")


def _check_part(name, part, images, labels):
    problem = _problem_of(images)
    if problem:
        expected = f"the {part} images must be a uint8 array (N, C, H, W) with N > 0"
        raise DataError(f"{name}: {expected}; found {problem}")
    if labels is not None and len(labels) != len(images):
        expected = f"one label for each of the {len(images):,} {part} images"
        raise DataError(f"{name}: expected {expected}; found {len(labels):,} labels")


def _problem_of(images):
    """What is wrong with an array of images, and how to mend it; None if nothing is."""
    if not isinstance(images, np.ndarray):
        return f"{type(images).__name__}. Give numpy.asarray(images)"
    found = f"{images.dtype} {images.shape}"
    if images.ndim == 3:
        return f"{found}. For grey images (N, H, W), give images[:, None]"
    if images.ndim != 4 or not images.size:
        return found
    if images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        return f"{found}. For images (N, H, W, C), give images.transpose(0, 3, 1, 2)"
    if images.dtype.kind == "f":
        return f"{found}. For numbers from 0 to 1, give (images * 255).round().astype('uint8')"
    if images.dtype == bool:
        return f"{found}. Give images.astype('uint8') * 255"
    if images.dtype == np.uint16:
        return f"{found}. For numbers to 65,535, give (images // 257).astype('uint8')"
    return (
        None
        if images.dtype == np.uint8
        else (f"{found}. For numbers from 0 to 255, give images.astype('uint8')")
    )
