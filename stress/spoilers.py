"""Ways to spoil a file: by its bytes, by what stands in its place, and with everything right but the meaning.

Each way is a function of the content (bytes) and a generator of random numbers.
"""
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib

import numpy as np

from readers import TARGETS


# bytes, of any kind of file

def _at(content, rng):
    return int(rng.integers(len(content)))


def one_bit(content, rng):
    place = _at(content, rng)
    return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1:]


def some_bytes(content, rng):
    changed = bytearray(content)
    for place in rng.integers(len(content), size=8):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def early_byte(content, rng):
    """In the header, where most formats keep what the rest means."""
    place = int(rng.integers(min(200, len(content))))
    return content[:place] + bytes([int(rng.integers(256))]) + content[place + 1:]


def late_byte(content, rng):
    """In the last part, where zip files and caches keep it."""
    place = len(content) - 1 - int(rng.integers(min(400, len(content))))
    return content[:place] + bytes([int(rng.integers(256))]) + content[place + 1:]


def cut_short(content, rng):
    return content[:_at(content, rng)]


def cut_at_the_end(content, rng):
    return content[:-int(rng.integers(1, 9))]


def cut_in_front(content, rng):
    return content[1 + _at(content, rng):]


def inserted(content, rng):
    place = _at(content, rng)
    return content[:place] + rng.bytes(int(rng.integers(1, 100))) + content[place:]


def appended(content, rng):
    return content + rng.bytes(int(rng.integers(1, 1000)))


def zeroed(content, rng):
    place, length = _at(content, rng), min(int(rng.integers(16, 4096)), len(content))
    return (content[:place] + bytes(length) + content[place + length:])[:len(content)]


def doubled(content, rng):
    place = _at(content, rng)
    return content[:place] + content[max(0, place - 64):]


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


BYTES = [one_bit, some_bytes, early_byte, late_byte, cut_short, cut_at_the_end, cut_in_front, inserted, appended, zeroed, doubled, noise, empty, a_page,
         a_pickle, a_zip, zeros]


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


def two_billion_pictures(content, rng):
    return _repacked(content, lambda idx: idx[:4] + struct.pack(">I", 2 ** 31) + idx[8:])


def more_dimensions(content, rng):
    return _repacked(content, lambda idx: idx[:3] + b"\xff" + idx[4:])


def of_floats(content, rng):
    return _repacked(content, lambda idx: idx[:2] + b"\x0d" + idx[3:])


def one_less(content, rng):
    """A right file of one picture or label less."""
    return _repacked(content, lambda idx: idx[:4] + struct.pack(">I", struct.unpack(">I", idx[4:8])[0] - 1) + idx[8:-(784 if idx[3] == 3 else 1)])


def another_shape(content, rng):
    return _repacked(content, lambda idx: b"\0\0\x08\1" + struct.pack(">I", len(idx) - 16) + idx[16:])


def a_gzip_bomb(content, rng):
    return gzip.compress(bytes(400_000_000), 1)


def other_numbers(content, rng):
    """Everything right but the pictures or labels: only a checksum of the whole could tell."""
    return _repacked(content, lambda idx: idx[:-5] + bytes([idx[-5] ^ 1]) + idx[-4:])


IDX = [two_billion_pictures, more_dimensions, of_floats, one_less, another_shape, a_gzip_bomb, other_numbers]


# pictures

def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def a_picture_bomb(content, rng):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(100_000))) + _chunk(b"IEND", b"")


def a_program(content, rng):
    """PostScript, which Pillow would hand to Ghostscript."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(made) print\n%%EOF\n"


def a_tiff(content, rng):
    from PIL import Image
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 9, 9)).save(file, "TIFF")
    return file.getvalue()


def half_a_picture(content, rng):
    return content[:len(content) // 2]


PICTURES = [a_picture_bomb, a_program, a_tiff, half_a_picture]


# .npz files with right checksums

def _unpacked(content):
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(arrays.pop("record").tobytes())


def _packed(arrays, record, save=np.savez):
    file = io.BytesIO()
    save(file, record=np.frombuffer(json.dumps(record).encode(), np.uint8), **arrays)
    return file.getvalue()


def of_arrays(change):
    """A way that changes the arrays of an .npz file, at a random one of them."""
    def way(content, rng):
        arrays, record = _unpacked(content)
        name = sorted(arrays)[int(rng.integers(len(arrays)))]
        change(arrays, name)
        return _packed(arrays, record)
    way.__name__ = change.__name__
    return way


@of_arrays
def not_a_number(arrays, name):
    arrays[name].flat[0] = np.nan


@of_arrays
def infinite(arrays, name):
    arrays[name].flat[-1] = np.inf


@of_arrays
def of_doubles(arrays, name):
    arrays[name] = arrays[name].astype(np.float64)


@of_arrays
def of_whole_numbers(arrays, name):
    arrays[name] = arrays[name].astype(np.int32)


@of_arrays
def longer(arrays, name):
    arrays[name] = np.concatenate([arrays[name], arrays[name]])


@of_arrays
def flat(arrays, name):
    arrays[name] = arrays[name].reshape(1, -1)


@of_arrays
def left_out(arrays, name):
    del arrays[name]


@of_arrays
def one_too_many(arrays, name):
    arrays[name + "_too"] = arrays[name]


@of_arrays
def with_objects(arrays, name):
    arrays[name] = np.array([{"an": "object"}], object)


def compressed(content, rng):
    return _packed(*_unpacked(content), save=np.savez_compressed)


def a_zip_bomb(content, rng):
    arrays, record = _unpacked(content)
    return _packed({**arrays, "bomb": np.zeros(50_000_000, np.float32)}, record, np.savez_compressed)


def a_giant_announced(content, rng):
    """An array's header that claims terabytes, with the right checksum."""
    return _with_member(content, lambda npy: npy.replace(b"'shape': (", b"'shape': (9999999, 99999, ", 1))


def a_liars_header(content, rng):
    """An array's header that is no header."""
    return _with_member(content, lambda npy: npy.replace(b"'descr': '", b"'descr': 'O", 1))


def no_array(content, rng):
    return _with_member(content, lambda npy: b"no array at all")


def _with_member(content, change):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for i, name in enumerate(old.namelist()):
            new.writestr(name, change(old.read(name)) if i == 1 else old.read(name))
    return file.getvalue()


NPZ = [not_a_number, infinite, of_doubles, of_whole_numbers, longer, flat, left_out, one_too_many, with_objects, compressed, a_zip_bomb, a_giant_announced,
       a_liars_header, no_array]


def of_record(name, change):
    """A way that changes the record of an .npz file."""
    def way(content, rng):
        arrays, record = _unpacked(content)
        return _packed(arrays, change(record))
    way.__name__ = name
    return way


def _set(path, value):
    """A change of the value at a path of keys, by a value or by a function of the old one."""
    def change(record):
        inner = record
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value(inner[path[-1]]) if callable(value) else value
        return record
    return change


NESTED = []
for _ in range(500):
    NESTED = [NESTED]
RECORDS = [of_record(f"the record is {value!r:.9}", lambda record, value=value: value) for value in (None, 3, "text", [], {}, NESTED)]
NET = RECORDS + [of_record(f"{name} is {value!r:.20}", _set(["config", name], value)) for name, value in (
    ("net", "Nothing"), ("net", ["DenseVAE"]), ("net", None), ("image_shape", [3, 2 ** 20, 2 ** 20]), ("image_shape", "wide"), ("image_shape", []),
    ("image_shape", [3, -32, -32]), ("base_channels", 10 ** 12), ("base_channels", -4), ("base_channels", "four"), ("base_channels", 4.5), ("odd", 1))] + [
    of_record(f"the configuration is {value!r}", _set(["config"], value)) for value in (None, 5, "net", [["net", "ConvVAE"]])]
TRAINING = RECORDS + [of_record(f"steps are {value!r:.30}", _set(["steps"], value)) for value in (
    {"vae": -2, "disc": 2}, {"vae": 10 ** 30, "disc": 2}, {"vae": 2}, {"vae": 1.5, "disc": 1}, {"vae": True, "disc": True}, [4, 4], None, {"vae": 3, "disc": 3},
    {"vae": 0, "disc": 0}, {"vae": 2, "disc": 400})] + [
    of_record(name, _set(["history"], change)) for name, change in (
        ("history of too many epochs", lambda history: [{**history[0], "epoch": i} for i in range(9)]), ("history is a text", "0 epochs"),
        ("history is a dict", {"0": 1}), ("history of numbers", [1, 2]), ("history out of order", lambda history: history[::-1] if len(history) > 1 else [{**history[0], "epoch": 1}]),
        ("history with NaN", lambda history: [{**epoch, "loss": float("nan")} for epoch in history]),
        ("history with infinity", lambda history: [{**epoch, "kl": float("inf")} for epoch in history]),
        ("history with texts", lambda history: [{**epoch, "loss": "low"} for epoch in history]),
        ("history without losses", lambda history: [{"epoch": i} for i in range(len(history))]))] + [
    of_record(f"threads are {value!r}", _set(["threads"], value)) for value in (None, 3, [])] + [
    of_record(f"the configuration is {value!r}", _set(["config"], value)) for value in (None, 5, "epochs", [])] + [
    of_record("another learning rate", _set(["config", "lr"], 0.5)), of_record("an epoch more", _set(["config", "epochs"], 4))]


def squares_below_0(content, rng):
    arrays, record = _unpacked(content)
    name = next(name for name in sorted(arrays) if "_adam/var/" in name)
    arrays[name] = arrays[name] - 1
    return _packed(arrays, record)


QUALITY = RECORDS + [of_record(f"{name} is {value!r}", _set([name], value)) for name, value in (("about", None), ("about", {}), ("about", 3), ("key", None), ("key", {}))]


# caches: an .npy array, a record, its length

def of_cache(name, change_header=None, change_record=None):
    def way(content, rng):
        (length,) = struct.unpack("<Q", content[-8:])
        array, record = content[:-8 - length], json.loads(content[-8 - length:-8])
        if change_header:
            array = change_header(array)
        record = json.dumps(change_record(record) if change_record else record).encode()
        return array + record + struct.pack("<Q", len(record))
    way.__name__ = name
    return way


def a_record_longer_than_the_file(content, rng):
    return content[:-8] + struct.pack("<Q", 2 ** 63)


CACHE = [of_cache("signed numbers", lambda npy: npy.replace(b"|u1", b"|i1", 1)), of_cache("of columns", lambda npy: npy.replace(b"False", b"True ", 1)),
         of_cache("another order of axes", lambda npy: npy.replace(b", 3, ", b", 1, 3, ", 1)), of_cache("objects", lambda npy: npy.replace(b"|u1", b"|O8", 1)),
         of_cache("a notes list of its own", None, _set(["notes"], ["a.png"])), of_cache("no key", None, _set(["key"], None)),
         of_cache("a wrong checksum", None, _set(["crc32"], 1)), of_cache("a record that is a list", None, lambda record: [record]),
         of_cache("a record nested deeply", None, lambda record: NESTED), a_record_longer_than_the_file]


# JSON files

def of_json(name, change):
    def way(content, rng):
        return json.dumps(change(json.loads(content))).encode()
    way.__name__ = name
    return way


def nested_deeply(content, rng):
    return b"[" * 100_000


def not_utf8(content, rng):
    return b"\xff\xfe" + content


ANY_JSON = [of_json(f"is {value!r}", lambda record, value=value: value) for value in (None, 3, "text", [], {})] + [nested_deeply, not_utf8]
RECORD = ANY_JSON + [of_json(f"config is {value!r}", _set(["config"], value)) for value in (None, 3, "text", [], {}, [1, 2])] + [
    of_json("another learning rate", _set(["config", "lr"], 0.5)), of_json("another learning rate, NaN", _set(["config", "lr"], float("nan")))]
_PSNR = ["measures", "plain VAE", "psnr"]
SUMMARY = ANY_JSON + [of_json(f"{path[-1]} is {value!r}", _set(path, value)) for path in ([*_PSNR, "mean"], [*_PSNR, "by_seed"], _PSNR, _PSNR[:2], _PSNR[:1])
                      for value in (None, "text", float("nan"), float("inf"), 3)] + [of_json("no seeds", lambda record: record.pop("seeds") and record)]
# A JSON file has no checksum: a digit that is another digit cannot be told, so its bytes are spoilt only where that does not give another record.
JSON_BYTES = [cut_short, cut_in_front, noise, empty, a_page, a_pickle, a_zip, zeros]


def ways(kind):
    """The ways that fit a kind, by name."""
    own = {"VAE": NPZ + NET, "discriminator": NPZ + NET, "checkpoint": NPZ + TRAINING + [squares_below_0], "both checkpoints": NPZ + TRAINING + [squares_below_0],
           "classifier": NPZ + QUALITY, "record of a run": RECORD, "summary of a study": SUMMARY}
    fitting = own.get(kind) or (IDX if "IDX" in kind else CACHE if "cache" in kind else PICTURES)
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
