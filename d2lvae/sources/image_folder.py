"""Any folder of images as one uint8 array, decoded once and kept in a memory-mapped cache.

files of any size and mode -> centred square -> image_size x image_size -> (N, 3, H, W)
"""

import concurrent.futures
import hashlib
import io
import json
import os
import pathlib
import stat
import struct
import warnings
import zlib

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps
from tqdm.auto import tqdm

from ..engine import progress
from ..storage import paths
from ..storage.files import atomic_write, regular_file
from . import image_bytes

__all__ = ["find_images", "decode", "load_images", "read_cache", "write_cache"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
KINDS = ("BMP", "JPEG", "PNG", "WEBP")  # Pillow knows others, some of which call programs (EPS)
MAX_PIXELS = 64_000_000  # a larger image is a decompression bomb or a mistake
MAX_BYTES = 500_000_000  # of a file; 64 million pixels of 16 bits need no more, unpacked
WIDE_MODES = (
    "I;16",
    "I;16B",
    "I;16L",
    "I;16N",
    "I",
)  # 16 bits a pixel, which `convert` would cut off at 255
TURNS = {  # Exif's orientation: what brings it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def find_images(folder):
    """The image files below a folder, by name, in the order of their names.

    Links are followed, but no directory is entered twice, so that a loop of links ends.

    Parameters
    ----------
    folder : path

    Returns
    -------
    files : list of (str, int, int)
        Name below the folder with forward slashes, size in bytes, time of change in ns: the system's own (ctime), which no
        program can set, so that a copy with an old date is not taken for what was there before.
    left_out : list of (str, str)
        Name and reason: directories and files that could not be looked at, and images of other
        kinds or with other suffixes.  Other files without an image's suffix are not mentioned.
    """
    folder, files, left_out, seen = pathlib.Path(folder), [], [], set()

    def name(path):
        return pathlib.Path(path).relative_to(folder).as_posix()

    def refuse(error):
        left_out.append(
            (name(error.filename) + "/", f"folder that cannot be read ({error.strerror})")
        )

    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        about = os.stat(place)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        left_out += [
            (name(os.path.join(place, f)) + "/", "folder named like an image")
            for f in folders
            if f.lower().endswith(SUFFIXES)
        ]
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and not f.lower().endswith(SUFFIXES)
        )
        for file in names:
            if file.startswith("."):
                continue
            path, is_image = os.path.join(place, file), file.lower().endswith(SUFFIXES)
            try:
                about = os.stat(path)
                if not stat.S_ISREG(about.st_mode):
                    reason = "not a file, but a pipe or a device" if is_image else ""
                else:
                    reason = "" if is_image else image_bytes.misnamed(path)
            except OSError as error:
                reason = f"cannot be read ({error.strerror})"
            if reason:
                left_out.append((name(path), reason))
            elif is_image:
                files.append((name(path), about.st_size, about.st_ctime_ns))
    return sorted(files), sorted(left_out)


def _why_not(path, error):
    """Why a file with an image's suffix gave no image, in words that many files can share."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"of more than {MAX_PIXELS:,} pixels or {MAX_BYTES:,} bytes"
    if isinstance(error, MemoryError):
        return "too large for the memory that is free"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be read ({error.strerror})"
    try:
        kind = image_bytes.kind_of(path)
        if not os.path.getsize(path):
            return "empty"
    except OSError as gone:
        return f"cannot be read ({gone.strerror})"
    if kind in image_bytes.READ:
        return f"{kind}, damaged or cut short"
    return kind or "of no known kind"


def decode(path, image_size):
    """One image file as (3, image_size, image_size) uint8: transposed from rows of pixels, not reshaped.

    A PNG's checksums are compared; a JPEG has none, so one whose bits were altered is an image as long as all of it can be decoded.
    Turned upright as its camera says, what is transparent on white, grey as three equal channels,
    16 bits scaled to 8; the centred square of it, resized with Lanczos' filter.
    Metadata never costs an image: where Pillow stumbles over it, the file is read without it.

    Raises
    ------
    Exception
        Of many kinds, as Pillow raises them for files that it cannot read; PIL.Image.DecompressionBombError
        for an image of more than `MAX_PIXELS` or a file of more than `MAX_BYTES`.
    """
    if os.path.getsize(regular_file(path)) > MAX_BYTES:
        raise Image.DecompressionBombError(f"more than {MAX_BYTES:,} bytes are too many")
    content = pathlib.Path(path).read_bytes()
    try:
        return _decode(content, image_size)
    except Exception:
        bare = image_bytes.without_metadata(content)
        if bare == content:
            raise
        return _decode(bare, image_size)


def _decode(content, image_size):
    with Image.open(io.BytesIO(content), formats=KINDS) as image:
        if image.format == "PNG":
            image.verify()
    with Image.open(io.BytesIO(content), formats=KINDS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(
                f"{image.width} x {image.height} pixels are too many"
            )
        image.draft(
            "RGB", (2 * image_size, 2 * image_size)
        )  # a large JPEG decodes smaller, and faster
        image.load()
        turn = TURNS.get(_orientation(image))
        if image.format == "BMP" and image.mode == "RGBA" and image.getextrema()[3] == (0, 0):
            image = image.convert("RGB")  # many programs leave the fourth byte unused
        if image.mode in WIDE_MODES:
            image = Image.fromarray(
                (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
            )
        if turn is not None:
            image = image.transpose(turn)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
        if image.size != (image_size, image_size):
            image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.LANCZOS)
        return np.asarray(image).transpose(2, 0, 1)


def _orientation(image):
    """How the camera was held, 1 to 8; 1 (upright) where that is missing or damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's are of many kinds
        return 1


def load_images(folder, files, image_size, cache):
    """Decode files, or take them from the cache if it was made of just these.

    Parameters
    ----------
    folder : path
        Where the files' names begin.
    files : list of (str, int, int)
        From :func:`find_images`.
    image_size : int
        Height and width that the images are brought to.
    cache : path
        Where to keep the decoded array; replaced when the files or the size have changed.

    Returns
    -------
    images : numpy.ndarray, uint8, shape (N, 3, image_size, image_size)
        In the order of the files' names; memory-mapped, read-only.
    failed : list of [str, str]
        Name and reason: files that could not be decoded, or that show one colour only.
    """
    decoder = b"".join(
        pathlib.Path(source).read_bytes() for source in (__file__, image_bytes.__file__)
    )
    key = {
        "files": hashlib.sha256(json.dumps(files).encode()).hexdigest(),
        "image_size": image_size,
        "decoded_by": hashlib.sha256(decoder).hexdigest(),
        "pillow": PIL.__version__,
    }
    found = read_cache(cache, key)
    if found is None:
        found = write_cache(
            cache,
            *_decode_all(pathlib.Path(folder), [name for name, _, _ in files], image_size),
            key,
        )
    return found


def _decode_all(folder, names, image_size):
    """Decode on all cores (Pillow does most of its work without Python's lock), with a bar."""
    images, failed = np.empty((len(names), 3, image_size, image_size), np.uint8), {}

    def work(i):
        try:
            images[i] = decode(folder / names[i], image_size)
        except Exception as error:  # whatever a broken file makes Pillow raise
            failed[i] = _why_not(folder / names[i], error)
        else:
            if (images[i] == images[i, :, :1, :1]).all():
                failed[i] = "of one colour, or wholly transparent"

    bar = len(names) > 500 and progress.is_interactive()
    if len(names) > 500 and not bar:
        print(f"decoding {len(names):,} images ...", flush=True)
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for _ in tqdm(
            pool.map(work, range(len(names)), chunksize=64),
            total=len(names),
            unit=" images",
            desc="decoding",
            disable=not bar,
        ):
            pass
    return np.delete(images, list(failed), axis=0), [[names[i], failed[i]] for i in sorted(failed)]


# A cache is one file: an .npy array, then a JSON record, then the record's length in eight bytes.


def write_cache(path, images, notes, key):
    """Keep an array on disk with what it was made from; returns what :func:`read_cache` would.

    A place that cannot be written only costs the time of making the array anew the next time, and is said.
    """
    record = json.dumps({"key": key, "notes": notes, "crc32": _checksum(images, notes)}).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.lib.format.write_array(file, images, allow_pickle=False)
            file.write(record + struct.pack("<Q", len(record)))
    except OSError as error:
        paths.say(f"not kept for the next time: {error}")
        return images, notes
    return read_cache(path, key) or (images, notes)


def read_cache(path, key):
    """The memory-mapped array and the notes kept at `path` if they were made from `key` and are undamaged, else None.

    If something is there that cannot be used, it is said.
    """
    if not os.path.lexists(path):
        return None
    try:
        with open(regular_file(path), "rb") as file:
            file.seek(-8, os.SEEK_END)
            (length,) = struct.unpack("<Q", file.read())
            file.seek(-8 - length, os.SEEK_END)
            record = json.loads(file.read(length))
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        if record["crc32"] != _checksum(images, record["notes"]):
            raise ValueError("wrong checksum")
        if record["key"] == key:
            return images, record["notes"]
        reason = "was made from other images or by another version"
    except Exception as error:  # numpy's and json's are of many kinds
        reason = f"is damaged or of another kind ({error})"
    paths.say(f"{paths.display_path(path)} {reason}; it is made anew")
    return None


def _checksum(images, notes):
    """Of everything in a cache but its key, which is compared."""
    about = json.dumps([images.shape, images.dtype.str, notes]).encode()
    return zlib.crc32(about, zlib.crc32(np.ascontiguousarray(images)))
