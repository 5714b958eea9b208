"""Numbers below 1e-38, which processors may be slow on, computed as 0.

Nothing here imports mxnet.
"""

import contextlib
import ctypes
import platform
import sys

__all__ = ["denormals_as_zero"]

_FloatingPointMode = ctypes.c_uint32 * 8  # glibc's fenv_t on x86-64; the last word is MXCSR
_LIBM = (
    ctypes.CDLL("libm.so.6")
    if sys.platform == "linux"
    and platform.machine() == "x86_64"
    and platform.libc_ver()[0] == "glibc"
    else None
)


@contextlib.contextmanager
def denormals_as_zero():
    """In this block, this thread and those started in it compute with 0 for numbers below 1e-38.

    Where a gradient has become exactly 0 (a ReLU that never fires again), Adam's mean of gradients
    decays into such numbers and stays there, and processors may handle them many times slower.
    The longer a training, the more of them: benchmarks/levers.py measures a short one, and finds
    nothing.
    A new thread inherits the mode from the one that starts it, so MXNet's are started here; the
    caller's own mode is restored.  Elsewhere than on Linux with x86-64 processors nothing is done.
    MXNet starts its threads anew, without the mode, when the process forks (before Python 3.10, at
    every subprocess).
    """
    if _LIBM is None:
        yield
        return
    before = _FloatingPointMode()
    _LIBM.fegetenv(before)
    flushing = _FloatingPointMode(*before)
    flushing[7] |= 0x8040  # flush to zero | denormals are zero
    _LIBM.fesetenv(flushing)
    try:
        yield
    finally:
        _LIBM.fesetenv(before)
