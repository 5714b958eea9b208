"""Where the project's folders are, and how their names are shown.

Nothing here imports mxnet.
"""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent  # of the clone of this package


def _is_project(folder):
    return (folder / "environment.yml").is_file() and (folder / "notebooks").is_dir()


def project_root():
    """The clone that the caller stands in, else that of the package, else the working folder.

    Notebooks start in `notebooks/`, papermill wherever it was called: both find the same folder.
    """
    here = pathlib.Path.cwd()
    for folder in (here, *here.parents, ROOT):
        if _is_project(folder):
            return folder
    return here


def check_clone():
    """Make sure that the package is that of the clone one stands in, if one stands in one.

    A copied clone's environment still points to the clone that it was copied from.  Who names the
    package's clone in PYTHONPATH means it.  An ImportError names both clones and what to do.
    """
    here = project_root()
    meant = str(ROOT) in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if _is_project(here) and _is_project(ROOT) and not here.samefile(ROOT) and not meant:
        raise ImportError(
            f"this is the clone {here}, but the package d2lvae is that of {ROOT}. Run `make setup` "
            "here and use this clone's .venv, or go to the other clone"
        )


def data_root():
    """Where data sets are: `$D2LVAE_DATA`, else `data/` of the project."""
    given = os.environ.get("D2LVAE_DATA")
    return pathlib.Path(given).expanduser() if given else project_root() / "data"


def results_root(results_dir=""):
    """A folder of results: `results_dir`, below the project's folder if it is relative.

    '' is the project's `results/`; `~` and `$HOME` stand for what they do in a shell.
    """
    return project_root() / pathlib.Path(os.path.expandvars(results_dir or "results")).expanduser()


def display_path(path):
    """A path as people read it: from the project's folder on where both it and they are inside."""
    places = path, project_root(), pathlib.Path.cwd()
    path, root, here = (pathlib.Path(os.path.realpath(place)) for place in places)
    both_inside = root in path.parents and root in (here, *here.parents)
    return path.relative_to(root).as_posix() if both_inside else str(path)


def printable(text):
    """A text in one line: line ends, escape sequences and bytes that are no text become visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text):
    """Print one line, whatever is in it: what the output's encoding lacks becomes an escape."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), flush=True)
