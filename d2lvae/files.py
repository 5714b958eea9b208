"""Files that are either wholly written or not there: nothing half-done survives a crash."""
import contextlib
import errno
import os
import pathlib

__all__ = ["replacing"]

_ADVICE = {errno.ENOSPC: "free some room on the disk", errno.EDQUOT: "free some of your quota",
           errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
           errno.EACCES: "make the folder writable", errno.EROFS: "choose a writable folder"}


@contextlib.contextmanager
def replacing(path):
    """A binary file that takes the place of `path` once the block has ended without an error.

    Raises
    ------
    OSError
        Naming `path` and what to do; what stood at `path` before is unchanged.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            advice = _ADVICE.get(error.errno, "see to the disk")
            raise OSError(error.errno, f"{path} could not be written ({error.strerror or error}): "
                          f"{advice} and start again; an earlier version is unchanged") from None
        raise
