"""What the machine and the caller are like, and where the project's folders are.

Nothing here imports mxnet.
"""

import contextlib
import ctypes
import os
import pathlib
import platform
import sys

__all__ = [
    "has_bfloat16",
    "is_interactive",
    "in_notebook",
    "denormals_as_zero",
    "project_root",
    "data_root",
    "results_root",
    "display_path",
    "printable",
    "say",
]

_FloatingPointMode = ctypes.c_uint32 * 8  # glibc's fenv_t on x86-64; the last word is MXCSR
_LIBM = (
    ctypes.CDLL("libm.so.6")
    if sys.platform == "linux"
    and platform.machine() == "x86_64"
    and platform.libc_ver()[0] == "glibc"
    else None
)


def has_bfloat16():
    """Whether the processor has instructions for bfloat16 that MXNet's oneDNN uses; False where it cannot be told."""
    try:
        return "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux
        return False


def is_interactive():
    """Whether a person sees this process's output as it comes: at a terminal or in a notebook's page."""
    return sys.stdout.isatty() or in_notebook()


def in_notebook():
    """Whether a page (JupyterLab, Notebook 7, VS Code) has sent the code that is running.

    A page names the cell that it sends.  papermill, nbconvert and nbval do not, nor does a process that a cell starts.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return "cellId" in getattr(shell, "parent_header", {}).get("metadata", {})


@contextlib.contextmanager
def denormals_as_zero():
    """This thread, in this block, and threads that are started in it, compute with 0 in place of numbers below 1e-38.

    Where a gradient has become exactly 0 (a ReLU that never fires again), Adam's mean of gradients
    decays into such numbers and stays there, and processors may handle them many times slower: the
    longer a training, the more of them (benchmarks/levers.py measures a short one, and finds nothing).
    A new thread inherits the mode from the one that starts it, so MXNet's are started here; the
    caller's own mode is restored.  Elsewhere than on Linux with x86-64 processors nothing is done; and MXNet starts its
    threads anew, without the mode, when the process forks (before Python 3.10, at every subprocess).
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


def _is_project(folder):
    return (folder / "environment.yml").is_file() and (folder / "notebooks").is_dir()


def project_root():
    """The clone that the caller stands in, else the clone the package is installed from, else the working folder.

    Notebooks start in `notebooks/`, papermill wherever it was called: both find the same folder.
    """
    here = pathlib.Path.cwd()
    for folder in (here, *here.parents, pathlib.Path(__file__).resolve().parent.parent.parent):
        if _is_project(folder):
            return folder
    return here


def check_clone():
    """Make sure that the package is that of the clone one stands in, if one stands in one.

    A copied clone's environment still points to the clone that it was copied from.  Who names the
    package's clone in PYTHONPATH means it.

    Raises
    ------
    ImportError
        Naming both clones and what to do.
    """
    here, package = project_root(), pathlib.Path(__file__).resolve().parent.parent.parent
    meant = str(package) in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if _is_project(here) and _is_project(package) and not here.samefile(package) and not meant:
        raise ImportError(
            f"this is the clone {here}, but the package d2lvae is that of {package}. Run `make setup` here and use "
            f"this clone's .venv, or go to the other clone"
        )


def data_root():
    """Where data sets are: `$D2LVAE_DATA`, else `data/` of the project."""
    given = os.environ.get("D2LVAE_DATA")
    return pathlib.Path(given).expanduser() if given else project_root() / "data"


def results_root(results_dir=""):
    """A folder of results: `results_dir`, and if it is relative, below the project's folder; '' is the project's `results/`.

    `~` and variables such as `$HOME` stand for what they do in a shell.
    """
    return project_root() / pathlib.Path(os.path.expandvars(results_dir or "results")).expanduser()


def display_path(path):
    """A path as people read it: from the project's folder on where it is inside, else whole."""
    path, root = (pathlib.Path(os.path.realpath(place)) for place in (path, project_root()))
    return path.relative_to(root).as_posix() if root in path.parents else str(path)


def printable(text):
    """A text in one line: line ends, escape sequences and bytes that are no text become visible escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text):
    """Print one line, whatever is in it: what the output's encoding lacks is printed as an escape."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), flush=True)
