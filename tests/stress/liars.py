"""Ways to spoil what the package has written so that only its meaning is wrong: right checksums, right lengths, and a lie.

Each way is a function of the content (bytes) and a generator of random numbers, as in spoilers.py.
"""

import io
import json
import zipfile

import numpy as np

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


def with_fractions(array):
    """A copy that can hold NaN, of whole numbers, too."""
    return array.astype(np.result_type(array, np.float32))


@of_arrays
def not_a_number(arrays, name):
    arrays[name] = with_fractions(arrays[name])
    arrays[name].flat[0] = np.nan


@of_arrays
def infinite(arrays, name):
    arrays[name] = with_fractions(arrays[name])
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


def a_giant_announced(content, rng):
    """An array's header that claims terabytes, with the right checksum."""
    return _with_member(
        content, lambda npy: npy.replace(b"'shape': (", b"'shape': (9999999, 99999, ", 1)
    )


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


OF_SHAPE_AND_KIND = [
    of_doubles,
    longer,
    flat,
    left_out,
    one_too_many,
    with_objects,
    compressed,
    a_giant_announced,
    a_liars_header,
    no_array,
]
NPZ = [not_a_number, infinite, of_whole_numbers, *OF_SHAPE_AND_KIND]


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


def _values(path, values):
    """A way for each value that stands at a path of keys of the record."""
    return [of_record(f"{' '.join(path)} is {value!r:.40}", _set(path, value)) for value in values]


RECORDS = [
    of_record(f"the record is {value!r:.9}", lambda record, value=value: value)
    for value in (None, 3, "text", [], {}, NESTED)
]
NET = [
    *RECORDS,
    *_values(["config", "net"], ["Nothing", None]),
    *_values(["config", "image_shape"], ["wide", []]),
    *_values(["config", "base_channels"], [-4, "four", 4.5]),
    *_values(["config", "odd"], [1]),
    *_values(["config"], [None, 5, "net", [["net", "ConvVAE"]]]),
]
TRAINING = [
    *RECORDS,
    *_values(["config"], [None, 5, "epochs", []]),
    *_values(["config", "lr"], [0.5]),
    *_values(["config", "epochs"], [4]),
]


# caches: arrays, and a record of what they were made from


def another_file(content, rng):
    """The arrays of a cache under names of their own."""
    arrays, record = _unpacked(content)
    return _packed({f"of_{name}": array for name, array in arrays.items()}, record)


CACHE = [
    *RECORDS,
    *_values(["key"], [None, {}, 5]),
    *_values(["arrays"], [None, {}, []]),
    *OF_SHAPE_AND_KIND,
    another_file,
]


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


def _json_values(path, values):
    return [of_json(f"{path[-1]} is {value!r}", _set(path, value)) for value in values]


PSNR = ["measures", "plain VAE", "psnr"]
ANY_JSON = [
    *(
        of_json(f"is {value!r}", lambda record, value=value: value)
        for value in (None, 3, "text", [], {})
    ),
    nested_deeply,
    not_utf8,
]
RECORD = [
    *ANY_JSON,
    *_json_values(["config"], [None, 3, "text", [], {}, [1, 2]]),
    *_json_values(["config", "lr"], [0.5, float("nan")]),
]
SUMMARY = [
    *ANY_JSON,
    *(
        way
        for path in ([*PSNR, "mean"], [*PSNR, "by_seed"], PSNR, PSNR[:2], PSNR[:1])
        for way in _json_values(path, [None, "text", float("nan"), float("inf"), 3])
    ),
    of_json("no seeds", lambda record: record.pop("seeds") and record),
]
