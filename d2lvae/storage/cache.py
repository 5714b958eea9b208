"""What takes long to make, kept on disk: one .npz file of arrays, with the key it was made from."""

import hashlib
import json
import os
import pathlib

from . import paths
from .errors import CheckpointError
from .files import read_arrays, write_arrays


def sha256(*parts):
    """The checksum of some bytes, one after the other, as text."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


def source_of(*paths):
    """The checksum of modules' files: what they make is made anew where they have changed."""
    return sha256(*(pathlib.Path(path).read_bytes() for path in paths))


def write_cache(path, arrays, key):
    """Keep arrays on disk.  A place that cannot be written costs only time, and is said.

    `arrays` go by names other than 'record' and hold no objects.  `key` is anything JSON can hold:
    all that they depend on.  The file's folder is made if it is missing.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, arrays, _record(arrays, key))
    except OSError as error:
        paths.say(f"not kept for the next time: {error}")


def read_cache(path, key):
    """The arrays by name that :func:`write_cache` kept, made from `key`; None if none can be used.

    A file that is damaged, of another kind or of another key is named, and why it is not used.
    """
    if not os.path.lexists(path):
        return None
    try:
        arrays, record = read_arrays(path)
        if record == json.loads(json.dumps(_record(arrays, key))):
            return arrays
        reason = "was made from other data or by another version"
    except CheckpointError as error:
        reason = f"is damaged or of another kind ({error})"
    paths.say(f"{paths.display_path(path)} {reason}; it is made anew")
    return None


def _record(arrays, key):
    """What is kept beside the arrays: the key, and each array's type and shape."""
    kinds = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    return {"key": key, "arrays": kinds}
