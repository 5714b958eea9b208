"""Files that are either wholly written or not there, folders that one process has to itself, and readers that do not wait for ever."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
import stat

__all__ = ["Busy", "file_lock", "read_json", "regular_file", "atomic_write"]

_ADVICE = {
    errno.ENOSPC: "free some room on the disk",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EROFS: "choose a writable folder",
}
_NO_LOCKS = (
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EINVAL,
)  # file systems that have none


class Busy(RuntimeError):
    """What another process has to itself; the message says which one."""


@contextlib.contextmanager
def atomic_write(path):
    """A binary file that takes the place of `path` once the block has ended without an error.

    After a kill or a power cut `path` is what it was before or what it was to become: the bytes are on the
    disk before the name is, and the name is when the block has ended.

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
    """Remove what processes that were killed while they wrote `path` have left: it would take up room for ever."""
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
    """Hold the lock file at `path` during the block.  The system gives the lock back when the process ends, however it ends.

    On a network drive it holds between machines if the drive's server has locks (NFS has); where there are none, that is said.

    Raises
    ------
    Busy
        Another process holds it (or another thread of this one).
    OSError
        The file cannot be made.
    """
    file = _locked(pathlib.Path(path))
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(
                path
            )  # before the lock is given back: a file that is found is somebody's, or a dead one's
        file.close()


def _locked(path):
    while True:
        file = open(path, "a+", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
            file.close()  # its owner removed it between our two calls
        except OSError as error:
            if error.errno in _NO_LOCKS:
                print(
                    f"note: {path.parent} is on a file system without locks, so nothing keeps another process out of it",
                    flush=True,
                )
                return file
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise Busy(holder) from None
            raise


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
