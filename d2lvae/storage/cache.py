"""What takes long to make, kept on disk: one .npz file of arrays, with the key it was made from."""

import json
import os
import pathlib
import zipfile

import numpy as np

from . import paths
from .files import atomic_write, regular_file

__all__ = ["read_cache", "write_cache"]


def write_cache(path, arrays, key):
    """Keep arrays on disk.  A place that cannot be written costs only time, and is said.

    `arrays` go by names other than 'record' and hold no objects.  `key` is anything JSON can hold:
    all that they depend on.  The file's folder is made if it is missing.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            record = json.dumps(_record(arrays, key)).encode()
            np.savez(file, record=np.frombuffer(record, np.uint8), **arrays)
    except OSError as error:
        paths.say(f"not kept for the next time: {error}")


def read_cache(path, key):
    """The arrays by name that :func:`write_cache` kept, made from `key`; None if none can be used.

    A file that is damaged, of another kind or of another key is named, and why it is not used.
    """
    if not os.path.lexists(path):
        return None
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            if sum(one.file_size for one in archive.infolist()) > os.path.getsize(path):
                raise ValueError("its arrays are packed, and might be of any size")
            damaged = archive.testzip()  # compares the checksum of every array
        if damaged:
            raise ValueError(f"{damaged} has the wrong checksum")
        with np.load(path, allow_pickle=False) as file:
            record = json.loads(file["record"].tobytes().decode())
            arrays = {name: file[name] for name in file.files if name != "record"}
        if record == json.loads(json.dumps(_record(arrays, key))):
            return arrays
        reason = "was made from other data or by another version"
    except Exception as error:  # zipfile's, numpy's and json's are of many kinds
        reason = f"is damaged or of another kind ({error})"
    paths.say(f"{paths.display_path(path)} {reason}; it is made anew")
    return None


def _record(arrays, key):
    """What is kept beside the arrays: the key, and each array's type and shape."""
    kinds = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    return {"key": key, "arrays": kinds}
