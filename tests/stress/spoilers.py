"""Ways to spoil a file: by its bytes and by what stands in its place; those with a right form and a wrong meaning are in liars.py.

Each way is a function of the content (bytes) and a generator of random numbers.
"""

import gzip
import io
import os
import pickle
import shutil
import struct
import zipfile
import zlib

from liars import CACHE, NET, NPZ, RECORD, SUMMARY, TRAINING, infinite, not_a_number
from readers import TARGETS

# bytes, of any kind of file


def _at(content, rng):
    return int(rng.integers(len(content)))


def one_bit(content, rng):
    place = _at(content, rng)
    return (
        content[:place]
        + bytes([content[place] ^ (1 << int(rng.integers(8)))])
        + content[place + 1 :]
    )


def some_bytes(content, rng):
    changed = bytearray(content)
    for place in rng.integers(len(content), size=8):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def early_byte(content, rng):
    """In the header, where most formats keep what the rest means."""
    place = int(rng.integers(min(200, len(content))))
    return content[:place] + bytes([int(rng.integers(256))]) + content[place + 1 :]


def late_byte(content, rng):
    """In the last part, where zip files and caches keep it."""
    place = len(content) - 1 - int(rng.integers(min(400, len(content))))
    return content[:place] + bytes([int(rng.integers(256))]) + content[place + 1 :]


def cut_short(content, rng):
    return content[: _at(content, rng)]


def cut_at_the_end(content, rng):
    return content[: -int(rng.integers(1, 9))]


def cut_in_front(content, rng):
    return content[1 + _at(content, rng) :]


def inserted(content, rng):
    place = _at(content, rng)
    return content[:place] + rng.bytes(int(rng.integers(1, 100))) + content[place:]


def appended(content, rng):
    return content + rng.bytes(int(rng.integers(1, 1000)))


def zeroed(content, rng):
    place, length = _at(content, rng), min(int(rng.integers(16, 4096)), len(content))
    return (content[:place] + bytes(length) + content[place + length :])[: len(content)]


def doubled(content, rng):
    place = _at(content, rng)
    return content[:place] + content[max(0, place - 64) :]


def noise(content, rng):
    return rng.bytes(len(content))


def empty(content, rng):
    return b""


def a_page(content, rng):
    return b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def a_pickle(content, rng):
    return pickle.dumps({"weights": [1.0, 2.0]})


def a_zip(content, rng):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "nothing of use")
    return file.getvalue()


def zeros(content, rng):
    return bytes(len(content))


BYTES = [
    one_bit,
    some_bytes,
    early_byte,
    late_byte,
    cut_short,
    cut_at_the_end,
    cut_in_front,
    inserted,
    appended,
    zeroed,
    doubled,
    noise,
    empty,
    a_page,
    a_pickle,
    a_zip,
    zeros,
]


# something else in its place


def a_directory(path):
    path.mkdir()


def a_loop(path):
    path.symlink_to(path.name)


def a_link_to_nothing(path):
    path.symlink_to("nothing")


def a_pipe(path):
    os.mkfifo(path)


def a_device(path):
    path.symlink_to("/dev/zero")


PLACES = [a_directory, a_loop, a_link_to_nothing, a_pipe, a_device]


# IDX files


def _repacked(content, change):
    packed = content[:2] == b"\x1f\x8b"
    changed = change(gzip.decompress(content) if packed else content)
    return gzip.compress(changed, mtime=0) if packed else changed


def two_billion_images(content, rng):
    return _repacked(content, lambda idx: idx[:4] + struct.pack(">I", 2**31) + idx[8:])


def more_dimensions(content, rng):
    return _repacked(content, lambda idx: idx[:3] + b"\xff" + idx[4:])


def of_floats(content, rng):
    return _repacked(content, lambda idx: idx[:2] + b"\x0d" + idx[3:])


def one_less(content, rng):
    """A right file of one image or label less."""
    return _repacked(
        content,
        lambda idx: idx[:4]
        + struct.pack(">I", struct.unpack(">I", idx[4:8])[0] - 1)
        + idx[8 : -(784 if idx[3] == 3 else 1)],
    )


def another_shape(content, rng):
    return _repacked(
        content, lambda idx: b"\0\0\x08\1" + struct.pack(">I", len(idx) - 16) + idx[16:]
    )


def a_gzip_bomb(content, rng):
    return gzip.compress(bytes(400_000_000), 1)


def other_numbers(content, rng):
    """Everything right but the images or labels: only a checksum of the whole could tell."""
    return _repacked(content, lambda idx: idx[:-5] + bytes([idx[-5] ^ 1]) + idx[-4:])


IDX = [
    two_billion_images,
    more_dimensions,
    of_floats,
    one_less,
    another_shape,
    a_gzip_bomb,
    other_numbers,
]


# images


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def a_image_bomb(content, rng):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + _chunk(b"IEND", b"")
    )


def a_program(content, rng):
    """PostScript, which Pillow would hand to Ghostscript."""
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(made) print\n%%EOF\n"
    )


def a_tiff(content, rng):
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 9, 9)).save(file, "TIFF")
    return file.getvalue()


def half_a_image(content, rng):
    return content[: len(content) // 2]


IMAGES = [a_image_bomb, a_program, a_tiff, half_a_image]


# A JSON file has no checksum: a digit that is another digit cannot be told, so its bytes are spoilt only where that does not give another record.
JSON_BYTES = [cut_short, cut_in_front, noise, empty, a_page, a_pickle, a_zip, zeros]


def ways(kind):
    """The ways that fit a kind, by name."""
    own = {
        "VAE": NPZ + NET,
        "discriminator": NPZ + NET,
        "checkpoint": NPZ + TRAINING,
        "both checkpoints": NPZ + TRAINING,
        "classifier": [not_a_number, infinite, *CACHE],
        "record of a run": RECORD,
        "summary of a study": SUMMARY,
    }
    fitting = own.get(kind) or (IDX if "IDX" in kind else CACHE if "cache" in kind else IMAGES)
    own_bytes = JSON_BYTES if kind in ("record of a run", "summary of a study") else BYTES
    return {way.__name__.replace("_", " "): way for way in own_bytes + PLACES + fitting}


def spoil(kind, way, folder, rng):
    """Spoil the files of a kind; gives what :func:`restore` needs."""
    function, kept = ways(kind)[way], []
    for target in TARGETS[kind]:
        path = folder / kind / target
        kept.append((path, path.read_bytes()))
        if function in PLACES:
            path.unlink()
            function(path)
        else:
            path.write_bytes(function(kept[-1][1], rng))
    return kept


def restore(kept):
    """Put everything back as it was."""
    for path, content in kept:
        for there in (path, path.with_name(f"{path.name}.damaged")):
            if there.is_dir() and not there.is_symlink():
                shutil.rmtree(there)
            elif os.path.lexists(there):
                there.unlink()
        path.write_bytes(content)
