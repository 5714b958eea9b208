"""The images that an experiment learns from, by name, each set with where it came from.

`auto` takes MNIST, from its files or a mirror, or a folder of faces; else synthetic images.  Which
one it was is printed, and stands in every figure and record.
"""

import dataclasses

import numpy as np

from .config import FACES, validate  # noqa: F401
from .sources import checks, image_folder, mnist, synthetic
from .sources.checks import DataError, NoImages, Offline, choose  # noqa: F401
from .storage import paths


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no one answer to ==
class ImageSet:
    """Images for training and for validation: ``ImageSet("fashion", train, validation)``.

    What will not do, a DataError (a ValueError) names, and how to mend it.

    Attributes
    ----------
    name : str
        Part of results folders' names: at most 64 letters, digits, blanks and ``_ - + .``
    train, validation : numpy.ndarray, uint8, shape (N, C, H, W)
        0 to 255; C is 1 for grey images and 3 for coloured ones.
    origin, is_real : str, bool
        Which files, or drawn by which rule; synthetic images' originals may be published.
    train_labels, validation_labels : numpy.ndarray, shape (N,) or (N, K), optional
        Digits (uint8), or K factors (float32), called `label_names`, of synthetic faces.
    num_first, seed : int, optional
        The training images are only the first so many of a larger set, 0: all of it.
        The random seed that the set was drawn with, or divided into training and validation.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    origin: str = "given as arrays"
    is_real: bool = True
    train_labels: np.ndarray = None
    validation_labels: np.ndarray = None
    label_names: tuple = ()
    num_first: int = 0
    seed: int = None

    def __post_init__(self):
        checks.check_set(self)

    @property
    def title(self):
        """The name as figures show it."""
        return self.name.replace("_", " ")

    @property
    def image_shape(self):
        """(C, H, W)"""
        return self.train.shape[1:]

    def sha256(self):
        """Hash of all images: two runs with the same one saw the same data."""
        return checks.sha256(self.train, self.validation)

    def first(self, num_train):
        """The same set with only the first `num_train` training images (0 = all of them)."""
        if not num_train or num_train >= len(self.train):
            return self
        train = self.train[:num_train]
        labels = None if self.train_labels is None else self.train_labels[:num_train]
        return dataclasses.replace(self, train=train, train_labels=labels, num_first=int(num_train))

    def __str__(self):
        numbers = f"{len(self.train):,} training and {len(self.validation):,} validation images"
        shape = " x ".join(map(str, self.image_shape))
        return f"{self.title}: {numbers} of {shape}, {self.origin}"


def load_digits(data="auto", num_train=0, seed=0):
    """The digits that an experiment trains on, said aloud.

    Parameters
    ----------
    data : {'auto', 'mnist', 'drawn'}
        'mnist': the files in `$D2LVAE_DATA/mnist`, downloaded if they are missing.
        'drawn': synthetic digits.  'auto': MNIST if it can be had, else synthetic digits.
    num_train, seed : int
        Only the first so many training images, 0 = all; the seed of synthetic digits.

    Raises
    ------
    DataError, ParameterError
        Damaged files, with 'mnist' also missing ones; an unknown name or a negative number.
    """
    data, num_train = validate("data", data), validate("num_train", num_train)
    seed = validate("seed", seed)
    real = lambda: load_mnist(paths.data_root() / "mnist").first(num_train)
    drawn = lambda: drawn_digits(num_train or synthetic.NUM_DIGITS, seed)
    return choose(data, "digits", real, drawn)


def load_faces(data="auto", num_train=0, seed=0, image_size=64):
    """The faces that an experiment trains on, said aloud.

    Parameters
    ----------
    data : {'auto', 'anime', 'drawn'}
        'anime': the images in `$D2LVAE_DATA/anime`.  'drawn': synthetic faces.
        'auto': the images if there are any, else synthetic faces.
    num_train, image_size : int
        Only the first so many training images, 0 = all; height and width: 32, 64 or 128.
    seed : int
        Of the division into training and validation images, and of synthetic faces.

    Raises
    ------
    DataError, ParameterError
        Fewer than 20 images that can be read, with 'anime' also none; a wrong name or number.
    """
    data, num_train = validate("data", data), validate("num_train", num_train)
    seed, image_size = validate("seed", seed), validate("image_size", image_size)
    real = lambda: real_faces(paths.data_root() / "anime", seed, image_size).first(num_train)
    drawn = lambda: drawn_faces(num_train or synthetic.NUM_FACES, seed, image_size)
    return choose(data, "faces", real, drawn)


def load_mnist(folder):
    """MNIST from its four files in `folder`; see sources/mnist.py."""
    return ImageSet(**mnist.read_mnist(folder))


def real_faces(folder, seed=0, image_size=64):
    """Any folder of images, 80 % of them for training; see sources/image_folder.py."""
    return ImageSet(**image_folder.read_folder(folder, seed, image_size))


def drawn_digits(num_train=synthetic.NUM_DIGITS, seed=0):
    """Synthetic digits and 1,000 more for validation; see sources/synthetic_digits.py."""
    return ImageSet(**synthetic.digits(num_train, seed))


def drawn_faces(num_train=synthetic.NUM_FACES, seed=0, image_size=64):
    """Synthetic faces and 1,024 more for validation; see sources/synthetic_faces.py."""
    return ImageSet(**synthetic.faces(num_train, seed, image_size)).first(num_train)
