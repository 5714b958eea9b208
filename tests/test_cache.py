"""A cache is used if it is whole and of the same key; else it is made anew, and that is said."""

import io
import os

import numpy as np
import pytest
from d2lvae.storage.cache import read_cache, write_cache

KEY = {"of": [1, 2], "seed": 0}
ARRAYS = {"images": np.arange(12, dtype=np.uint8).reshape(3, 4), "w": np.float32([0.5])}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "a.cache"


def npz(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def test_what_was_kept_comes_back(path, capsys):
    assert read_cache(path, KEY) is None
    write_cache(path, ARRAYS, {"of": (1, 2), "seed": 0})
    found = read_cache(path, KEY)
    assert found.keys() == ARRAYS.keys() and not capsys.readouterr().out
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_another_key_is_not_trusted(path, capsys):
    write_cache(path, ARRAYS, KEY)
    assert read_cache(path, {**KEY, "seed": 1}) is None
    assert "a.cache was made from other data" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {name: array[:1] for name, array in arrays.items()},
        lambda arrays: {name: array.astype(np.float64) for name, array in arrays.items()},
        lambda arrays: {f"of_{name}": array for name, array in arrays.items()},
        lambda arrays: {},
    ],
)
def test_arrays_of_another_kind_beside_the_right_key_are_not_trusted(path, capsys, change):
    write_cache(path, ARRAYS, KEY)
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files}
    record = kept.pop("record")
    with open(path, "wb") as file:
        np.savez(file, record=record, **change(kept))
    assert read_cache(path, KEY) is None
    assert "a.cache was made from other data" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"|u1", b"|i1"),
        lambda content: content.replace(b"(3, 4)", b"(4, 3)"),
        lambda content: content.replace(b"(3, 4)", b"(1, 4)"),
        lambda content: content.replace(bytes(range(12)), bytes(range(1, 13))),
        lambda content: content.replace(b'"seed": 0', b'"seed": 9'),
        lambda content: content.replace(b"'descr'", b"(descr'"),
        lambda content: content[:-30],
        lambda content: b"",
        lambda content: b"something else altogether" * 10,
        lambda content: npz(record=np.array([{}], object)),
        lambda content: npz(np.savez_compressed, images=np.zeros(1_000_000)),
    ],
)
def test_damage_is_said_and_never_used(path, capsys, change):
    write_cache(path, ARRAYS, KEY)
    content = path.read_bytes()
    path.write_bytes(change(content))
    assert path.read_bytes() != content
    assert read_cache(path, KEY) is None
    said = capsys.readouterr().out
    assert "a.cache is damaged or of another kind" in said and "made anew" in said


def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "a.cache")
    assert read_cache(tmp_path / "a.cache", KEY) is None and "no file" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_costs_only_time(tmp_path, capsys):
    (tmp_path / "file").write_text("where a folder should be")
    write_cache(tmp_path / "file" / "a.cache", ARRAYS, KEY)
    assert "not kept for the next time" in capsys.readouterr().out
