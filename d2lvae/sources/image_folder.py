"""Any folder of images as one uint8 array, decoded once and then taken from a cache.

files of any size and mode -> centred square -> image_size x image_size -> (N, 3, H, W)
"""

import concurrent.futures
import contextlib
import io
import json
import os
import pathlib
import stat
import warnings

import numpy as np
import PIL
from PIL import Image, ImageFile, ImageOps
from tqdm.auto import tqdm

from ..engine import progress
from ..engine.threads import usable_cores
from ..storage import paths
from ..storage.cache import read_cache, sha256, source_of, write_cache
from ..storage.files import regular_file
from . import image_bytes
from .checks import DataError, NoImages

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
KINDS = tuple(map(str.upper, image_bytes.READ))  # Pillow's others may call programs (EPS)
MIN_IMAGES = 20
MAX_PIXELS = 64_000_000  # a larger image is a decompression bomb or a mistake
MAX_BYTES = 500_000_000  # of a file; 64 million pixels of 16 bits need no more, unpacked
WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # 16 bits, which `convert` would cut off
HOW_TO_GET_FACES = (
    "Put images of faces there, in any folders and of any size (for example soumikrakshit/"
    "anime-faces or splcher/animefacedataset from Kaggle, by hand or with tools/get_faces.py; see "
    "data/README.md), or set D2LVAE_DATA to the folder above `anime`, or take drawn faces with "
    "-p data drawn"
)


def read_folder(folder, seed=0, image_size=64):
    """Fields of an ImageSet: images (N, 3, image_size, image_size) of a folder and those below it.

    The files' names are put in order, then permuted by the seed; the first 80 % are for training.
    NoImages if no image files are there; DataError if fewer than `MIN_IMAGES` can be read.
    """
    folder = pathlib.Path(os.path.abspath(folder))  # "." has no name; a link keeps its own
    files, left_out = find_images(folder) if folder.exists() else ([], [])
    place = paths.display_path(folder)
    is_ours = folder == pathlib.Path(os.path.abspath(paths.data_root() / "anime"))
    advice = HOW_TO_GET_FACES if is_ours else "Give a folder that has images in it or below it"
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{place} is no folder. {advice}")
    if not files and not left_out:
        raise NoImages(f"no images ({', '.join(SUFFIXES)}) in {place}. {advice}")
    cache = folder.with_name(f".{folder.name}_{image_size}.cache")
    images, failed = load_images(folder, files, image_size, cache)
    _say_left_out(place, dict([*left_out, *failed]))
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"{place} has {len(images)} image(s) that can be read; at least {MIN_IMAGES} are "
            f"needed. {advice}"
        )
    order, num_train = np.random.default_rng(seed).permutation(len(images)), len(images) * 4 // 5
    return dict(
        name="anime",
        train=images[order[:num_train]],
        validation=images[order[num_train:]],
        origin=f"from {len(images):,} files",
        seed=seed,
    )


def _say_left_out(place, left_out):
    """Count what is left out of a folder: a line for each reason, with three names at most."""
    by_reason = {}
    for name, reason in sorted(left_out.items()):
        by_reason.setdefault(reason, []).append(name)
    if left_out:
        kinds = f"(only {', '.join(image_bytes.READ)} images are read)"
        paths.say(f"{len(left_out):,} file(s) or folder(s) in {place} are left out {kinds}:")
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = ", ..." if len(names) > 3 else ""
        paths.say(f"  {len(names):,} {reason}: {', '.join(names[:3])}{more}")


def find_images(folder):
    """The image files below a folder, in the order of their names, and what is left out: two lists.

    Links are followed, but no directory is entered twice, so that a loop of links ends.

    A file is its name below the folder with forward slashes, its size in bytes, and its time of
    change in ns: the system's own (ctime), which no program can set, so that another file with an
    old date shows.  Left out, by name and reason, are directories and files that could not be
    looked at, and images of other kinds or suffixes; other files without an image's suffix are not
    mentioned.
    """
    folder, files, left_out, seen = pathlib.Path(folder), [], [], set()

    def name(*parts):
        return pathlib.Path(*parts).relative_to(folder).as_posix()

    def refuse(error):
        reason = f"folder that cannot be read ({error.strerror})"
        left_out.append((name(error.filename) + "/", reason))

    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        about = os.stat(place)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        odd = [one for one in folders if one.lower().endswith(SUFFIXES)]
        left_out += [(name(place, one) + "/", "folder named like an image") for one in odd]
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in odd)
        for one in names:
            if one.startswith("."):
                continue
            about, reason = _look_at(os.path.join(place, one))
            if reason:
                left_out.append((name(place, one), reason))
            elif about:
                files.append((name(place, one), about.st_size, about.st_ctime_ns))
    return sorted(files), sorted(left_out)


def _look_at(path):
    """What the system knows of an image file, and why it is left out; (None, '') for others."""
    is_image = path.lower().endswith(SUFFIXES)
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            return None, "not a file, but a pipe or a device" if is_image else ""
        return (about, "") if is_image else (None, image_bytes.misnamed(path))
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"


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
    """One image file as (3, image_size, image_size), uint8.

    Turned upright as its camera says, what is transparent on white, grey as three equal channels,
    16 bits scaled to 8; the centred square of it, resized with Lanczos' filter.  Metadata never
    costs an image: where Pillow stumbles over it, the file is read without it.  A PNG's checksums
    are compared; a JPEG has none: an altered one is an image if it decodes.  Pillow raises
    exceptions of many kinds; a DecompressionBombError is for more than `MAX_PIXELS` or `MAX_BYTES`.
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
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing gluoncv has turned it on
    with Image.open(io.BytesIO(content), formats=KINDS) as image:
        if image.format == "PNG":
            image.verify()
    with Image.open(io.BytesIO(content), formats=KINDS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(
                f"{image.width} x {image.height} pixels are too many"
            )
        image.draft("RGB", (2 * image_size, 2 * image_size))  # large JPEGs decode smaller, faster
        image.load()
        if image.format == "BMP" and image.mode == "RGBA" and image.getextrema()[3] == (0, 0):
            image = image.convert("RGB")  # many programs leave the fourth byte unused
        with contextlib.suppress(Exception):  # of many kinds, where what Exif says is damaged
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode in WIDE_MODES:
            wide = np.asarray(image).astype(np.uint32) >> 8
            image = Image.fromarray(wide.clip(0, 255).astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
        if image.size != (image_size, image_size):
            image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.LANCZOS)
        return np.asarray(image).transpose(2, 0, 1)


def load_images(folder, files, image_size, cache):
    """Decode files, or take them from the cache if it was made of just these.

    `files` are from :func:`find_images`.  Gives images, uint8 (N, 3, image_size, image_size), in
    the files' order, and [name, reason] of those that could not be decoded or show one colour only.
    `cache` is replaced when the files or the size have changed.
    """
    key = {
        "files": sha256(json.dumps(files).encode()),
        "image_size": image_size,
        "decoded_by": source_of(__file__, image_bytes.__file__),
        "pillow": PIL.__version__,
    }
    kept = read_cache(cache, key)
    if kept is None:
        images, failed = _decode_all(pathlib.Path(folder), [name for name, *_ in files], image_size)
        kept = {"images": images, "failed": np.frombuffer(json.dumps(failed).encode(), np.uint8)}
        write_cache(cache, kept, key)
    return kept["images"], json.loads(kept["failed"].tobytes())


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
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        done = pool.map(work, range(len(names)))
        list(tqdm(done, "decoding", len(names), unit=" images", disable=not bar))
    images = np.delete(images, list(failed), axis=0) if failed else images
    return images, [[names[i], failed[i]] for i in sorted(failed)]
