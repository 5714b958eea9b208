"""Files that are wholly written or not there, and that are never waited for without end.

Nothing is pickled, so reading a file cannot run code.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
import stat

import filelock

__all__ = ["Busy", "atomic_write", "file_lock", "read_json", "regular_file"]

_ADVICE = {
    errno.ENOSPC: "free some room on the disk",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EROFS: "choose a writable folder",
}
# What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Busy(RuntimeError):
    """What another process has to itself; the message says which one."""


@contextlib.contextmanager
def atomic_write(path):
    """A binary file that takes the place of `path` once the block has ended without an error.

    After a kill or a power cut `path` is what it was before or what it was to become. The bytes are
    on the disk before the name is, and the name is when the block has ended.

    Raises
    ------
    OSError
        Naming `path` and what to do; what stood at `path` before is unchanged.
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
            advice = _ADVICE.get(error.errno, "see to the disk")
            raise OSError(
                error.errno,
                f"{path} could not be written ({error.strerror or error}): "
                f"{advice} and start again; an earlier version is unchanged",
            ) from None
        raise


def _sweep(path):
    """Remove what processes that were killed while they wrote `path` have left."""
    start = f".{path.name}."
    for name in os.listdir(path.parent):
        number = name[len(start) : -len(".part")]
        if (
            name.startswith(start)
            and name.endswith(".part")
            and number.isdigit()
            and not _is_alive(int(number))
        ):
            with contextlib.suppress(OSError):
                (path.parent / name).unlink()


def _is_alive(process):
    try:
        os.kill(process, 0)  # no signal, only the question
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's; no process's number
        return True
    return True


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
    """Hold the lock file at `path` during the block.

    The system gives the lock back when the process ends, however it ends.
    The file stays, empty; who holds it is written beside it, in a file with `.holder` at the end.
    On a network drive it holds between machines if the drive's server has locks (NFS has).
    On a file system that has none, that is said and the block goes on.

    Raises
    ------
    Busy
        Another process holds it (or another thread of this one).
    OSError
        The file cannot be made.
    """
    lock, holder = filelock.FileLock(path), pathlib.Path(f"{path}.holder")
    try:
        lock.acquire(blocking=False)
    except (filelock.Timeout, NotImplementedError):
        if _is_locked(path):
            raise Busy(_text(holder) or "another process") from None
        folder = pathlib.Path(path).parent
        print(
            f"note: {folder} is on a file system without locks, so nothing keeps another process "
            "out of it",
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


def _text(path):
    try:
        return path.read_text(errors="replace")
    except OSError:  # the lock's new holder has not written it yet
        return ""


def regular_file(path):
    """The path again, if a file is there.

    Raises
    ------
    OSError
        There is none, or something else: a pipe, for one, would be waited for without end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    return path


def read_json(path):
    """What a JSON file holds.

    Raises
    ------
    ValueError
        Naming the file: it is missing, cannot be read, is cut short, or nested too deeply.
    """
    try:
        return json.loads(pathlib.Path(regular_file(path)).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None
