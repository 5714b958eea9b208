"""Files that are wholly written or not there, and that are never waited for without end.

Nothing is pickled, so reading a file cannot run code.
"""

import contextlib
import errno
import fcntl
import glob
import io
import json
import os
import pathlib
import socket
import stat
import time
import zipfile

import filelock
import numpy as np

from .errors import CheckpointError

_ADVICE = {
    errno.ENOSPC: "free some room on the disk",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EROFS: "choose a writable folder",
}
LONGEST_WRITE = 3600  # seconds: who has not written to a file for so long was killed
# What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Busy(RuntimeError):
    """What another process has to itself; the message says which one."""


@contextlib.contextmanager
def atomic_write(path):
    """A binary file that takes the place of `path` once the block has ended without an error.

    After a kill or a power cut `path` is what it was before or what it was to become. The bytes are
    on the disk before the name is, and the name is when the block has ended.
    An OSError names `path` and what to do; what stood at `path` before is unchanged.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _sweep(path)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise not_written(path, error) from None
        raise


def not_written(path, error):
    """The system's error on writing `path`, as one that says what to do."""
    advice = _ADVICE.get(error.errno, "see to the disk")
    return OSError(
        error.errno,
        f"{path} could not be written ({error.strerror or error}): "
        f"{advice} and start again; an earlier version is unchanged",
    )


def _sweep(path):
    """Remove what processes that were killed while they wrote `path` have left."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > LONGEST_WRITE:
                part.unlink()


def _sync_folder(folder):
    """Bring a folder's names to the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_lock(path):
    """Hold the lock file at `path` during the block; `Busy` if another process or thread holds it.

    The system gives the lock back when the process ends, however it ends.  The file stays, empty;
    who holds it is written beside it, in a file with `.holder` at the end.  On a network drive it
    holds between machines if the drive's server has locks (NFS has).  On a file system that has
    none, that is said and the block goes on.  OSError if it cannot be made.
    """
    path, who = pathlib.Path(path), "another process"
    mode = path.parent.stat().st_mode & 0o666  # who may write in the folder may lock it
    lock, holder = filelock.FileLock(path, mode=mode), path.with_name(f"{path.name}.holder")
    try:
        lock.acquire(blocking=False)
    except (filelock.Timeout, NotImplementedError):
        if _is_locked(path):
            with contextlib.suppress(OSError):
                who = holder.read_text(errors="replace")
            raise Busy(who) from None
        print(
            f"note: {path.parent} is on a file system without locks, so nothing keeps another "
            "process out of it",
            flush=True,
        )
        yield
        return
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _is_locked(path):
    """Whether somebody has the lock; False where there are none (filelock tells only of ENOSYS)."""
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return True  # its holder has just given it back


def regular_file(path):
    """The path again, if a file is there; else OSError.  A pipe would be waited for without end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    return path


def read_json(path):
    """What a JSON file holds.

    A ValueError names one that is missing, cannot be read, is cut short, or nested too deeply.
    """
    try:
        return json.loads(pathlib.Path(regular_file(path)).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None


def write_arrays(path, arrays, record):
    """Write named arrays and a record (anything JSON can hold) to one .npz file, atomically."""
    text = np.frombuffer(json.dumps(record).encode(), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, record=text, **arrays)


def read_arrays(path):
    """The arrays and the record of a file by :func:`write_arrays`, every checksum compared.

    CheckpointError if the file is missing, cut short, altered, or of another kind.
    """
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            if sum(one.file_size for one in archive.infolist()) > os.path.getsize(path):
                raise ValueError("its arrays are packed, and might be of any size")
            arrays = {}
            for name in archive.namelist():
                content = io.BytesIO(archive.read(name))  # whole, so that its checksum is compared
                arrays[name[: -len(".npy")]] = np.lib.format.read_array(content)
        if "record" not in arrays:
            raise ValueError("no record")
        record = json.loads(arrays.pop("record").tobytes().decode())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not a file of this project's weights: {error}") from None
    except Exception as error:  # zipfile's, zlib's and numpy's are of many kinds
        raise CheckpointError(f"{path} is damaged or cut short: {error}") from None
    return arrays, record
