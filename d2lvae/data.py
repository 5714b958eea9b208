"""Data sets as uint8 arrays, each with a record of where it came from.

A data set is taken by name.  `auto` means: MNIST if its files are there or can be downloaded,
else digits drawn by rule; for faces, images from a folder, else faces drawn by rule.  Which one it
was is printed, and stands in every figure and record.
"""

import dataclasses
import gzip
import hashlib
import http.client
import os
import pathlib
import platform
import queue
import re
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib

import numpy as np
import PIL

from .config import FACES, ParameterError, validate
from .sources import image_bytes, image_folder, synthetic_digits, synthetic_faces
from .storage import paths
from .storage.files import atomic_write, regular_file

__all__ = [
    "DataError",
    "ImageSet",
    "FACES",
    "load_digits",
    "load_faces",
    "real_faces",
    "drawn_faces",
    "load_mnist",
    "download_mnist",
    "drawn_digits",
]

MNIST_FILES = {  # name without .gz: SHA-256 of the published .gz
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MNIST_IMAGES = (
    "e0e68338ff1a7e4a594778e6b2d2e5e5869b86cf2f6a4339ef05fecc1ec50329"  # ImageSet.sha256() of them
)
MNIST_LABELS = {  # SHA-256 of the published label files, unpacked
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/mnist/",
)
MIN_FACES = 20
NUM_DRAWN_DIGITS = 20_000  # for training
NUM_DRAWN_FACES = 4_096  # for training; and for validation:
NUM_DRAWN_VALIDATION = 1_024
DRAWN_WITH = {"Pillow": "10.4.0", "numpy": "1.23.5"}  # as in constraints.txt; with them,
DRAWN = {  # by shape: SHA-256 of the validation images drawn from seed 0
    (1_000, 1, 28, 28): "7e76d53a789dc2d59a36cbf0c878da82ed3f03fa09cd12d4d4370ebb0d2df014",
    (1_024, 3, 32, 32): "95c84ff4ae25b6cf8da91104138121126aae9af14afaf95932c321c0a0ad8d3e",
    (1_024, 3, 64, 64): "8e5a14a2353b232577a47e237b8be4cebd67515b3c227b988f939b6f5706a2a6",
    (1_024, 3, 128, 128): "70852aa0ff1560af38639b183cc487e3fc59dd068fbbd6569435e0ad56beadc5",
}
HOW_TO_GET_FACES = (
    "Put images of faces there, in any folders and of any size (for example soumikrakshit/anime-faces or "
    "splcher/animefacedataset from Kaggle, by hand or with tools/get_faces.py; see data/README.md), or set "
    "D2LVAE_DATA to the folder above `anime`, or take drawn faces with -p data drawn"
)
OFFLINE_SECONDS = 8  # what finding out that no mirror answers may take
MAX_DOWNLOAD = 20_000_000  # bytes; the largest published file has 9.9 million
DOWNLOAD_SECONDS = 600  # that a file may take, however slowly it drips
MAX_IDX = 100_000_000  # bytes, unpacked; the largest published file has 47 million


class DataError(ValueError):
    """A data set that is missing or damaged; the message names the file and what to do."""


class NoImages(DataError):
    """A folder without a single image file."""


class Offline(DataError):
    """No mirror could be reached."""


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images for training and for validation, and where they came from.

    Images of one's own need a name and two arrays: ``ImageSet("fashion", train, validation)``.

    Attributes
    ----------
    name : str
        As in the results folders' names: 'MNIST', 'anime', 'drawn_digits', 'drawn_faces', or a
        name of one's own: at most 64 letters, digits, blanks and ``_ - + .``, with a letter,
        digit or ``_`` at both ends.
    train, validation : numpy.ndarray, uint8, shape (N, C, H, W)
        The images, 0 to 255.  C is 1 for grey images and 3 for coloured ones.
    origin : str
        One sentence: which files, or drawn by which rule.
    is_real : bool
        False for images drawn by rule: their originals may be published.
    train_labels, validation_labels : numpy.ndarray, shape (N,) or (N, K), optional
        What the images show: digits (uint8), or the K factors (float32) that faces were drawn from.
    label_names : tuple of str
        The K factors' names.
    num_first : int
        The training images are only the first so many of a larger set; 0: all of it.
    seed : int, optional
        The random seed that the set was drawn with, or divided into training and validation.

    Raises
    ------
    DataError
        A name that would not do in a folder's name, an array of another type or shape, or labels
        of another number than their images.
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
        if not (
            isinstance(self.name, str)
            and len(self.name) <= 64
            and re.fullmatch(r"\w([\w .+-]*\w)?", self.name)
        ):
            raise DataError(
                "the name of a data set becomes part of a folder's name: expected at most "
                "64 letters, digits, blanks and _ - + . with a letter, digit or _ at both "
                f"ends; found {self.name!r}. For example: 'fashion'"
            )
        for part in ("train", "validation"):
            images, labels = getattr(self, part), getattr(self, f"{part}_labels")
            if problem := _problem_of(images):
                raise DataError(
                    f"{self.name}: the {part} images must be a uint8 array "
                    f"(N, C, H, W) with N > 0; found {problem}"
                )
            if labels is not None and len(labels) != len(images):
                raise DataError(
                    f"{self.name}: expected one label for each of the {len(images):,} "
                    f"{part} images; found {len(labels):,} labels"
                )
        if self.train.shape[1:] != self.validation.shape[1:]:
            raise DataError(
                f"{self.name}: training and validation images must be of one shape; found "
                f"{self.train.shape[1:]} and {self.validation.shape[1:]}"
            )

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
        digest = hashlib.sha256()
        for array in (self.train, self.validation):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    def first(self, num_train):
        """The same set with only the first `num_train` training images (0 = all of them)."""
        if not num_train or num_train >= len(self.train):
            return self
        labels = None if self.train_labels is None else self.train_labels[:num_train]
        return dataclasses.replace(
            self, train=self.train[:num_train], train_labels=labels, num_first=num_train
        )

    def __str__(self):
        channels, height, width = self.image_shape
        return (
            f"{self.title}: {len(self.train):,} training and {len(self.validation):,} "
            f"validation images of {channels} x {height} x {width}, {self.origin}"
        )


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
    return None if images.dtype == np.uint8 else f"{found}. Give images.astype('uint8')"


def load_digits(data="auto", num_train=0, seed=0):
    """The digits that an experiment trains on, said aloud.

    Parameters
    ----------
    data : {'auto', 'mnist', 'drawn'}
        'mnist': the files in `$D2LVAE_DATA/mnist`, downloaded if they are missing, or an error.
        'drawn': digits drawn by rule.  'auto': MNIST if it can be had, else drawn digits.
    num_train : int
        Only the first so many training images; 0 = all.
    seed : int
        For drawn digits.

    Returns
    -------
    ImageSet

    Raises
    ------
    ParameterError
        An unknown name or a negative number.
    DataError
        Files that are damaged; with 'mnist' also files that are neither there nor to be downloaded.
    """
    data, num_train = validate("data", data), validate("num_train", num_train)
    if data == "anime":
        raise ParameterError(
            "data must be 'auto', 'mnist' or 'drawn' for digits; found 'anime'. For example: -p data drawn"
        )
    images = None
    if data != "drawn":
        try:
            images = load_mnist(paths.data_root() / "mnist").first(num_train)
        except Offline as error:
            if data != "auto":
                raise
            paths.say(f"{error}. So these are drawn digits, not MNIST.")
    if images is None:
        images = drawn_digits(num_train or NUM_DRAWN_DIGITS, seed)
    paths.say(f"data: {images}")
    return images


def drawn_digits(num_train=NUM_DRAWN_DIGITS, seed=0):
    """Digits drawn by rule (see :mod:`d2lvae.sources.synthetic_digits`): 1,000 for validation, `num_train` for training."""
    images, labels = synthetic_digits.draw_digits(1_000 + num_train, seed)
    origin = _drawn_origin(
        "digits", images[:1_000], seed, lambda: synthetic_digits.draw_digits(1_000, seed=0)[0]
    )
    return ImageSet(
        "drawn_digits",
        images[1_000:],
        images[:1_000],
        origin,
        False,
        labels[1_000:],
        labels[:1_000],
        seed=seed,
        num_first=num_train if num_train != NUM_DRAWN_DIGITS else 0,
    )


def _drawn_origin(what, validation, seed, drawn_from_seed_0):
    """Where drawn images come from.  If other versions draw them otherwise than recorded, it is said.

    Only the validation images of seed 0 are recorded.  For another seed those are drawn and
    compared, but only under other versions.
    """
    found = {"Pillow": PIL.__version__, "numpy": np.__version__}
    expected = DRAWN.get(validation.shape)
    if seed and found != DRAWN_WITH and expected:
        validation = drawn_from_seed_0()
    is_compared = expected and (not seed or found != DRAWN_WITH)
    if not is_compared or hashlib.sha256(np.ascontiguousarray(validation)).hexdigest() == expected:
        return f"drawn by rule from seed {seed}"
    here = f"Pillow {found['Pillow']} and numpy {found['numpy']} on {platform.machine()}"
    paths.say(
        f"note: these drawn {what} differ from those of the recorded results: found {here}; expected "
        f"Pillow {DRAWN_WITH['Pillow']} and numpy {DRAWN_WITH['numpy']} on x86_64. The numbers will "
        "differ as well, unless those versions are installed (constraints.txt, make setup)"
    )
    return f"drawn by rule from seed {seed} with {here}, NOT as in the recorded results"


def load_faces(data="auto", num_train=0, seed=0, image_size=64):
    """The faces that an experiment trains on, said aloud.

    Parameters
    ----------
    data : {'auto', 'anime', 'drawn'}
        'anime': the images in `$D2LVAE_DATA/anime`, or an error.  'drawn': faces drawn by rule.
        'auto': the images if there are any, else drawn faces.
    num_train : int
        Only the first so many training images; 0 = all.
    seed : int
        Of the order in which the files are divided into training and validation, and of drawn faces.
    image_size : int
        Height and width: 32, 64 or 128.

    Returns
    -------
    ImageSet

    Raises
    ------
    ParameterError
        An unknown name, a negative number, a size that is not a power of two from 32 to 128.
    DataError
        Fewer than 20 images that can be read; with 'anime' also none at all.
    """
    data, num_train = validate("data", data), validate("num_train", num_train)
    seed, image_size = validate("seed", seed), validate("image_size", image_size)
    if data == "mnist":
        raise ParameterError(
            "data must be 'auto', 'anime' or 'drawn' for faces; found 'mnist'. For example: -p data drawn"
        )
    images = None
    if data != "drawn":
        try:
            images = real_faces(paths.data_root() / "anime", seed, image_size).first(num_train)
        except NoImages as error:
            if data != "auto":
                raise
            paths.say(f"{error}. So these are drawn faces.")
    if images is None:
        images = drawn_faces(num_train or NUM_DRAWN_FACES, seed, image_size)
    paths.say(f"data: {images}")
    return images


def real_faces(folder, seed=0, image_size=64):
    """Any folder of images: in the order of their names, then a permutation from the seed; 80 % are for training.

    Parameters
    ----------
    folder : path
        JPEG, PNG, WebP or BMP files, also in folders below; see :mod:`d2lvae.sources.image_folder`.
    seed, image_size : int
        As in :func:`load_faces`.

    Raises
    ------
    NoImages
        No image files there.
    DataError
        Fewer than `MIN_FACES` of them can be read.
    """
    folder = pathlib.Path(folder)
    files, left_out = image_folder.find_images(folder) if folder.exists() else ([], [])
    if not files and not left_out:
        raise NoImages(
            f"no images ({', '.join(image_folder.SUFFIXES)}) in {paths.display_path(folder)}. {HOW_TO_GET_FACES}"
        )
    array, failed = image_folder.load_images(
        folder, files, image_size, folder.with_name(f".{folder.name}_{image_size}.cache")
    )
    _say_left_out(folder, dict([*left_out, *failed]))
    if len(array) < MIN_FACES:
        raise DataError(
            f"{paths.display_path(folder)} has {len(array)} image(s) that can be read; at least {MIN_FACES} are needed. "
            f"{HOW_TO_GET_FACES}"
        )
    order = np.random.default_rng(seed).permutation(len(array))
    num_train = len(array) * 4 // 5
    return ImageSet(
        "anime",
        array[order[:num_train]],
        array[order[num_train:]],
        f"from {len(array):,} files",
        True,
        seed=seed,
    )


def _say_left_out(folder, left_out):
    """Count what is left out of a folder: a line for each reason, with three names at most."""
    if not left_out:
        return
    by_reason = {}
    for name, reason in sorted(left_out.items()):
        by_reason.setdefault(reason, []).append(name)
    paths.say(
        f"{len(left_out):,} file(s) or folder(s) in {paths.display_path(folder)} are left out "
        f"(only {', '.join(image_bytes.READ)} images are read):"
    )
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        paths.say(
            f"  {len(names):,} {reason}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        )


def drawn_faces(num_train=NUM_DRAWN_FACES, seed=0, image_size=64):
    """Faces drawn by rule (see :mod:`d2lvae.sources.synthetic_faces`): 1,024 for validation, `num_train` for training.

    Their labels are the factors that they were drawn from, their label names those of `synthetic_faces.FACTORS`.
    The images are kept in the data folder, so that they are drawn once.
    """
    total = NUM_DRAWN_VALIDATION + max(num_train, NUM_DRAWN_FACES)
    key = {
        "drawn_by": hashlib.sha256(pathlib.Path(synthetic_faces.__file__).read_bytes()).hexdigest(),
        "num_images": total,
        "seed": seed,
        "image_size": image_size,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
    }
    cache = paths.data_root() / f".drawn_faces_{image_size}_{total}_seed_{seed}.cache"
    found = image_folder.read_cache(cache, key)
    if found is None:
        print(f"drawing {total:,} faces ...", flush=True)
        found = image_folder.write_cache(
            cache, synthetic_faces.draw_faces(total, seed, image_size)[0], [], key
        )
    array, factors = found[0], synthetic_faces.face_factors(total, seed)
    origin = _drawn_origin(
        "faces",
        array[:NUM_DRAWN_VALIDATION],
        seed,
        lambda: synthetic_faces.draw_faces(NUM_DRAWN_VALIDATION, 0, image_size)[0],
    )
    return ImageSet(
        "drawn_faces",
        array[NUM_DRAWN_VALIDATION:],
        array[:NUM_DRAWN_VALIDATION],
        origin,
        False,
        factors[NUM_DRAWN_VALIDATION:],
        factors[:NUM_DRAWN_VALIDATION],
        tuple(synthetic_faces.FACTORS),
        seed=seed,
        num_first=num_train if num_train > NUM_DRAWN_FACES else 0,
    ).first(num_train)


def load_mnist(folder):
    """MNIST from its four files, plain or gzipped; missing ones are downloaded into `folder` first.

    Raises
    ------
    DataError
        A file is damaged, or missing and not to be downloaded.

    References
    ----------
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    folder = pathlib.Path(folder)
    files = {name: _find(folder, name) for name in MNIST_FILES}
    missing = [name for name, path in files.items() if path is None]
    if missing:
        download_mnist(folder, missing)
        files = {name: _find(folder, name) for name in MNIST_FILES}
    arrays = {name: read_idx(path) for name, path in files.items()}
    parts = []
    for part in ("train", "t10k"):
        images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
        image_path, label_path = (
            files[f"{part}-images-idx3-ubyte"],
            files[f"{part}-labels-idx1-ubyte"],
        )
        if images.ndim != 3 or images.shape[1:] != (28, 28):
            raise DataError(
                f"{image_path}: expected images of 28 x 28; found an array of shape "
                f"{images.shape}. Delete it to have it downloaded again"
            )
        if labels.ndim != 1 or labels.max() > 9:
            raise DataError(
                f"{label_path}: expected a list of labels from 0 to 9; found an array of shape {labels.shape} "
                f"with numbers up to {labels.max()}. Delete it to have it downloaded again"
            )
        if len(images) != len(labels):
            raise DataError(
                f"{image_path} holds {len(images)} images, but "
                f"{label_path.name} {len(labels)} labels: they "
                f"do not belong together. Delete both to have them downloaded again"
            )
        parts += [images[:, None], labels]
    train, train_labels, validation, validation_labels = parts
    images = ImageSet(
        "MNIST", train, validation, "from its IDX files", True, train_labels, validation_labels
    )
    published = images.sha256() == MNIST_IMAGES
    if not published:
        images = dataclasses.replace(
            images, origin="from IDX files that are NOT the published ones"
        )
    unproved = [
        path.name
        for name, path in paths.items()
        if not (published and "images" in name) and not _is_published(name, path)
    ]
    if unproved:
        paths.say(
            f"note: these files in {paths.display_path(folder)} have another SHA-256 than the published "
            f"ones: {', '.join(unproved)}"
        )
    return images


def _is_published(name, path):
    return hashlib.sha256(path.read_bytes()).hexdigest() in (
        MNIST_FILES[name],
        MNIST_LABELS.get(name),
    )


def _find(folder, name):
    """The path of an MNIST file, plain or gzipped (or of what stands in its place), or None.

    Kaggle has each file in a folder named like it, or spells it with a dot before `idx`.
    """
    names = _spellings(name)
    found = next((folder / name for name in names if os.path.lexists(folder / name)), None)
    if found and found.is_dir():
        return next((found / name for name in names if os.path.lexists(found / name)), found)
    return found


def _spellings(name):
    return [
        spelt + suffix for spelt in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")
    ]


def _astray(folder, names):
    """Where a folder below holds one of these files, as a sentence; '' if none does."""
    spellings = {spelling for name in names for spelling in _spellings(name)}
    found = sorted(path for path in folder.rglob("*") if path.name in spellings and path.is_file())
    return f" A file of that name is at {found[0]}: move it and the others up." if found else ""


def read_idx(path):
    """An array of bytes from an IDX file, plain or gzipped.

    Raises
    ------
    DataError
        Truncated or corrupt gzip, a wrong magic number, too few or too many bytes, or more than `MAX_IDX`.
    """
    path = pathlib.Path(path)
    again = "Delete the file to have it downloaded again"
    try:
        with open(regular_file(path), "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rb") as file:
            content = file.read(MAX_IDX + 1)  # takes no more memory than there is to be read
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: its gzip data is truncated or corrupt ({error}). {again}"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise DataError(
            f"{path}: expected an IDX file of bytes (magic number 00 00 08 01 to 04); "
            f"found {content[:4].hex(' ') or 'nothing'}. {again}"
        )
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start]) if len(content) >= start else (0,)
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) > MAX_IDX:
        raise DataError(
            f"{path}: has more than {MAX_IDX:,} bytes when unpacked, twice as many as MNIST's largest file. {again}"
        )
    if len(content) != expected or 0 in shape:
        raise DataError(
            f"{path}: its header announces {' x '.join(map(str, shape))} bytes, "
            f"{expected} with the header; found {len(content)}. {again}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def download_mnist(folder, names=tuple(MNIST_FILES)):
    """Download MNIST's files, each complete and checked, or not at all.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    names : sequence of str
        Keys of `MNIST_FILES`.

    Raises
    ------
    Offline
        No mirror answered within `OFFLINE_SECONDS`.
    DataError
        Mirrors answered, but none of them gave a file with the published SHA-256.
    """
    folder = pathlib.Path(folder)
    mirrors = _answering_mirrors(f"{names[0]}.gz")
    if not mirrors:
        raise Offline(
            f"MNIST is not complete in {folder} (missing: {', '.join(names)}), and none "
            f"of its {len(MNIST_MIRRORS)} mirrors could be reached.{_astray(folder, names)} "
            "Put the four files there, plain or as .gz, or set D2LVAE_DATA to the folder "
            "above them, or connect to the network"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made for MNIST's files: {error.strerror}") from None
    for name in names:
        print(f"downloading {name}.gz ...", flush=True)
        _download(folder, f"{name}.gz", MNIST_FILES[name], mirrors)


def _answering_mirrors(filename):
    """The mirrors, the first to answer in front; none if there is no answer.  All are asked at once."""
    answers = queue.Queue()

    def ask(mirror):
        request = urllib.request.Request(mirror + filename, method="HEAD")
        try:
            with OPENER.open(request, timeout=OFFLINE_SECONDS):
                answers.put(mirror)
        except (OSError, http.client.HTTPException):  # URLError and timeouts are of the first kind
            answers.put(None)

    for (
        mirror
    ) in MNIST_MIRRORS:  # daemons: a look-up of a name that hangs must not hold up the exit
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    deadline = time.monotonic() + OFFLINE_SECONDS
    for _ in MNIST_MIRRORS:
        try:
            quickest = answers.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if quickest:
            return sorted(MNIST_MIRRORS, key=lambda mirror: mirror != quickest)
    return []


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a mirror that sends us on only within the mirror itself, and only over https."""

    def redirect_request(self, request, answer, code, message, headers, address):
        if urllib.parse.urlsplit(address)[:2] != urllib.parse.urlsplit(request.full_url)[:2]:
            raise urllib.error.URLError(f"it redirects to {address}, which is none of the mirrors")
        return super().redirect_request(request, answer, code, message, headers, address)


def https_only(*handlers):
    """What opens addresses over https (through a proxy, if one is set) and no others: no http, no files, no ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameHost(),
        *(handlers or [urllib.request.HTTPSHandler()]),
    ):
        opener.add_handler(handler)
    return opener


OPENER = https_only()


def _read(answer):
    """A download's bytes: no more than `MAX_DOWNLOAD`, for no longer than `DOWNLOAD_SECONDS`."""
    content, deadline = bytearray(), time.monotonic() + DOWNLOAD_SECONDS
    while len(content) < MAX_DOWNLOAD:
        part = answer.read1(1 << 16)
        if not part:
            break
        content += part
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(content):,} bytes in {DOWNLOAD_SECONDS} s are too slow")
    return bytes(content)


def _download(folder, filename, sha256, mirrors):
    """Put one file into `folder` from the first mirror that gives the right bytes."""
    failures = []
    for mirror in mirrors:
        try:
            with OPENER.open(mirror + filename, timeout=30) as answer:
                content = _read(answer)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{mirror}: {error}")
            continue
        found = hashlib.sha256(content).hexdigest()
        right = found == sha256
        aside = folder / f"{filename}.wrong-sha256"
        with atomic_write(folder / filename if right else aside) as file:
            file.write(content)
        if right:
            return
        failures.append(f"{mirror}: SHA-256 {found}, expected {sha256}; set aside as {aside.name}")
    raise DataError(
        f"{folder / filename} could not be downloaded:\n  "
        + "\n  ".join(failures)
        + "\nPut the file there by hand, or try again later"
    )
