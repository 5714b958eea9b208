"""What must be settled before `import mxnet`: processor threads, and where the project's folders are.

Nothing here imports mxnet, so that importing this module first is enough.
"""
import contextlib
import ctypes
import os
import pathlib
import platform
import sys

__all__ = ["set_threads", "threads", "watched", "denormals_as_zero", "project_root", "data_root", "results_root", "shown"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MXNET_CPU_WORKER_NTHREADS")


def set_threads():
    """Choose MXNet's threads: one operator at a time, each on all cores (on half of them where there are many).

    Convolutions and large dense layers gain more from that than from two operators at a time on one
    core each; the small nets for digits hardly care.  A variable that the user has set stays as it is.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(min(cores, max(2, cores // 2), 8)))
    os.environ.setdefault("MXNET_CPU_WORKER_NTHREADS", "1")


def threads():
    """The thread settings of this process, to be recorded with a run: the sums' rounding depends on them."""
    return {name: os.environ.get(name, "") for name in _THREAD_VARIABLES}


def watched():
    """Whether a person looks on (JupyterLab, Notebook, VS Code, a terminal), so that a progress bar makes sense."""
    return any(name in os.environ for name in ("JPY_SESSION_NAME", "VSCODE_PID")) or sys.stdout.isatty()


@contextlib.contextmanager
def denormals_as_zero():
    """Threads that are started in this block compute with 0 in place of numbers below 1e-38.

    Where a gradient has become exactly 0 (a ReLU that never fires again), Adam's mean of gradients
    decays into such numbers and stays there, and the processor handles them many times slower:
    after some epochs that costs about a sixth of the speed on MNIST (`make bench` measures it).  A
    new thread inherits the mode from the one that starts it, so MXNet's are started here; the caller's own mode is
    restored.  Elsewhere than on Linux with x86-64 processors nothing is done; and MXNet starts its
    threads anew, without the mode, when the process forks (before Python 3.10, at every subprocess).
    """
    if sys.platform != "linux" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libm = ctypes.CDLL("libm.so.6")
    before = (ctypes.c_uint32 * 8)()  # glibc's fenv_t; the last word is MXCSR
    libm.fegetenv(before)
    flushing = (ctypes.c_uint32 * 8)(*before)
    flushing[7] |= 0x8040  # flush to zero | denormals are zero
    libm.fesetenv(flushing)
    try:
        yield
    finally:
        libm.fesetenv(before)


def _is_project(folder):
    return (folder / "environment.yml").is_file() and (folder / "notebooks").is_dir()


def project_root():
    """The clone that the caller stands in, else the clone the package is installed from, else the working folder.

    Notebooks start in `notebooks/`, papermill wherever it was called: both find the same folder.
    """
    here = pathlib.Path.cwd()
    for folder in (here, *here.parents, pathlib.Path(__file__).resolve().parent.parent):
        if _is_project(folder):
            return folder
    return here


def data_root():
    """Where data sets are: `$D2LVAE_DATA`, else `data/` of the project."""
    given = os.environ.get("D2LVAE_DATA")
    return pathlib.Path(given).expanduser() if given else project_root() / "data"


def results_root(results_dir=""):
    """Where runs leave their results: `results_dir` if it is not empty, else `results/` of the project."""
    return pathlib.Path(results_dir).expanduser() if results_dir else project_root() / "results"


def shown(path):
    """A path as people read it: from the project's folder on where it is inside, else whole."""
    path = pathlib.Path(path).resolve()
    root = project_root().resolve()
    return path.relative_to(root).as_posix() if root in path.parents else str(path)
