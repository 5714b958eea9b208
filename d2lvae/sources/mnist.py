"""MNIST: its four IDX files, read and checked, and downloaded where they are missing."""

import contextlib
import gzip
import hashlib
import os
import pathlib
import struct
import threading
import time
import zlib

import numpy as np
import pooch
import requests

from ..storage import paths
from ..storage.files import regular_file
from .checks import DataError, Offline, sha256

FILES = {  # name without .gz: SHA-256 of the published .gz
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
IMAGES = "e0e68338ff1a7e4a594778e6b2d2e5e5869b86cf2f6a4339ef05fecc1ec50329"  # checks.sha256 of both
LABELS = {  # SHA-256 of the published label files, unpacked
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/mnist/",
)
OTHER_FILES = "IDX files that are NOT the published ones"
ANSWER_SECONDS = 3  # in which a mirror must answer
MAX_DOWNLOAD = 20_000_000  # bytes; the largest published file has 9.9 million
DOWNLOAD_SECONDS = 600  # that a file may take, however slowly it drips
MAX_IDX = 100_000_000  # bytes, unpacked; the largest published file has 47 million


def read_mnist(folder):
    """Fields of an ImageSet: MNIST from its four files, plain or gzipped, in `folder`.

    Images are uint8, (60,000 and 10,000, 1, 28, 28).  Missing files are downloaded first.
    DataError if a file is damaged, or missing and not to be downloaded (`Offline`: no mirror
    answers).  Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    folder = pathlib.Path(folder)
    missing = [name for name in FILES if find(folder, name) is None]
    if missing:
        download(folder, missing)
    files = {name: find(folder, name) for name in FILES}
    train, train_labels = _read_part(files, "train")
    validation, validation_labels = _read_part(files, "t10k")
    published = sha256(train, validation) == IMAGES
    known = {name for name in FILES if published and "images" in name}
    others = [path.name for name, path in files.items() if not _is_published(name, path, known)]
    if others:
        paths.say(
            f"note: these files in {paths.display_path(folder)} have another SHA-256 than the "
            f"published ones: {', '.join(others)}"
        )
    return dict(
        name="MNIST",
        train=train,
        validation=validation,
        origin="from " + ("its IDX files" if published else OTHER_FILES),
        train_labels=train_labels,
        validation_labels=validation_labels,
    )


def _damaged(path, problem):
    return DataError(f"{path}: {problem}. Delete the file to have it downloaded again")


def _read_part(files, part):
    """Images (N, 1, 28, 28) and labels (N,) of 'train' or 't10k'."""
    image_path, label_path = files[f"{part}-images-idx3-ubyte"], files[f"{part}-labels-idx1-ubyte"]
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        found = f"an array of shape {images.shape}"
        raise _damaged(image_path, f"expected images of 28 x 28; found {found}")
    if labels.ndim != 1 or labels.max() > 9:
        found = f"an array of shape {labels.shape} with numbers up to {labels.max()}"
        raise _damaged(label_path, f"expected a list of labels from 0 to 9; found {found}")
    if len(images) != len(labels):
        raise DataError(
            f"{image_path} holds {len(images)} images, but {label_path.name} {len(labels)} "
            "labels: they do not belong together. Delete both to have them downloaded again"
        )
    return images[:, None], labels


def _is_published(name, path, known):
    hashes = (FILES[name], LABELS.get(name))
    return name in known or hashlib.sha256(path.read_bytes()).hexdigest() in hashes


def _spellings(name):
    """Kaggle spells a file with a dot before `idx`."""
    return [word + end for word in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]


def find(folder, name):
    """The path of an MNIST file, plain or gzipped (or of what stands in its place), or None.

    Kaggle has each file in a folder named like it.
    """
    folder, names = pathlib.Path(folder), _spellings(name)
    found = next((folder / name for name in names if os.path.lexists(folder / name)), None)
    if found and found.is_dir():
        return next((found / name for name in names if os.path.lexists(found / name)), found)
    return found


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
        Damaged gzip, a wrong magic number, too few or too many bytes, or more than `MAX_IDX`.
    """
    path = pathlib.Path(path)
    try:
        with open(regular_file(path), "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rb") as file:
            content = file.read(MAX_IDX + 1)  # takes no more memory than there is to be read
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, f"its gzip data is truncated or corrupt ({error})") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        found = content[:4].hex(" ") or "nothing"
        expected = "an IDX file of bytes (magic number 00 00 08 01 to 04)"
        raise _damaged(path, f"expected {expected}; found {found}")
    if len(content) > MAX_IDX:
        largest = "twice as many as MNIST's largest file"
        raise _damaged(path, f"has more than {MAX_IDX:,} bytes when unpacked, {largest}")
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start]) if len(content) >= start else (0,)
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected or 0 in shape:
        header = f"its header announces {' x '.join(map(str, shape))} bytes"
        raise _damaged(path, f"{header}, {expected} with the header; found {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def download(folder, names=tuple(FILES)):
    """Download MNIST's files (keys of `FILES`) with pooch, each complete and checked.

    `Offline` if no mirror answered within `ANSWER_SECONDS` each; DataError if some did, but none
    gave a file with the published SHA-256.
    """
    folder = pathlib.Path(folder)
    mirrors = [mirror for mirror in MIRRORS if _answers(f"{mirror}{names[0]}.gz")]
    if not mirrors:
        raise Offline(
            f"MNIST is not complete in {folder} (missing: {', '.join(names)}), and none "
            f"of its {len(MIRRORS)} mirrors could be reached.{_astray(folder, names)} "
            "Put the four files there, plain or as .gz, or set D2LVAE_DATA to the folder "
            "above them, or connect to the network"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made for MNIST's files: {error.strerror}") from None
    pooch.get_logger().setLevel("WARNING")
    for name in names:
        print(f"downloading {name}.gz ...", flush=True)
        _download(folder, f"{name}.gz", FILES[name], mirrors)


def _download(folder, name, known_hash, mirrors):
    """Put one file into `folder` from the first mirror that gives the right bytes."""
    failures = []
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + name, known_hash, name, folder, downloader=_get)
            return
        except (OSError, ValueError) as error:  # requests' are of the first kind
            failures.append(f"{mirror}: {error}")
    raise DataError(
        f"{folder / name} could not be downloaded:\n  "
        + "\n  ".join(failures)
        + "\nPut the file there by hand, or try again later"
    )


def _answers(address):
    """Whether there is such a file, known within `ANSWER_SECONDS`.

    No time limit of requests covers the look-up of a name, so a thread of its own is waited for.
    """
    found = []

    def ask():
        with contextlib.suppress(Exception):  # whatever it is, it is no answer
            answer = requests.head(address, timeout=ANSWER_SECONDS, allow_redirects=False)
            found.append(answer.status_code == 200)

    thread = threading.Thread(target=ask, daemon=True)  # one that hangs must not hold up the exit
    thread.start()
    thread.join(ANSWER_SECONDS)
    return any(found)


def _get(address, path, _):
    """What pooch downloads with: over https alone, from no other host, bounded in size and time."""
    if not address.startswith("https://"):
        raise ValueError(f"{address} is not an https address")
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    options = dict(
        headers={"Accept-Encoding": "identity"},  # the file's own bytes
        stream=True,
        timeout=(ANSWER_SECONDS, 30),
        allow_redirects=False,
    )
    os.remove(path)  # pooch's temporary file is for its owner only, and data folders are shared
    with requests.get(address, **options) as answer, open(path, "xb") as file:
        answer.raise_for_status()
        if answer.status_code != 200:
            where = answer.headers.get("Location", "nowhere")
            raise ValueError(f"found status {answer.status_code} (to {where}), expected the file")
        for part in answer.iter_content(1 << 16):
            file.write(part)
            if file.tell() > MAX_DOWNLOAD or time.monotonic() > deadline:
                raise ValueError(
                    f"{file.tell():,} bytes are too many, or {DOWNLOAD_SECONDS} s have gone by"
                )
