"""The peers that this project is measured beside, and the Python that each one runs in.

    python benchmarks/peers.py        (make bench does; a minute, once)

makes `.venv-jax`: JAX wants a newer NumPy than MXNet does, and Python 3.11 or later.  Where it
cannot be made, that is said, and the benchmarks go on without JAX.
"""

import contextlib
import importlib.metadata
import importlib.util
import pathlib
import shutil
import subprocess
import sys

VENV = pathlib.Path(__file__).resolve().parent.parent / ".venv-jax"
PINNED = ("jax==0.10.2", "jaxlib==0.10.2", "numpy==2.4.6", "scipy==1.17.1")
OLDEST = (3, 11)
PEERS = {"pytorch": "PyTorch", "jax": "JAX"}


def is_peer(way):
    return way.split()[0] in PEERS


def python_of(way):
    """The interpreter of a way's worker, with its options."""
    if way == "jax":
        return [str(VENV / "bin" / "python"), "-E", "-s"]  # without the caller's packages
    return [sys.executable]


def has_jax():
    return (VENV / ".ready").exists()


def has_torch():
    return importlib.util.find_spec("torch") is not None


def versions():
    """Of the peers that can be run here."""
    found = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["torch"] = importlib.metadata.version("torch")
    if has_jax():
        found["jax"] = (VENV / ".ready").read_text().strip()
    return found


def absent():
    """Lines that say which peers cannot be run, and what to do."""
    lines = []
    if not has_torch():
        lines.append("without PyTorch: it is not installed (.venv/bin/pip install -e '.[bench]')")
    if not has_jax():
        lines.append("without JAX: there is no .venv-jax (python benchmarks/peers.py makes it)")
    return lines


def new_python():
    """A Python that JAX has wheels for; None if there is none."""
    if sys.version_info >= OLDEST:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(OLDEST[1], 15)]
    return next(filter(None, map(shutil.which, names)), None)


def make_jax():
    """Make `.venv-jax`, unless it is there; the message if that failed."""
    python, target = new_python(), str(VENV / "bin" / "python")
    if has_jax() and subprocess.run([target, "-c", "import jax"]).returncode == 0:
        return None
    if python is None:
        return "it wants Python 3.11 or later, and there is none on the PATH"
    print(f"making {VENV.name}, for {PINNED[0]} as a peer: 300 MB, once", flush=True)
    commands = (
        [python, "-m", "venv", "--clear", str(VENV)],
        [target, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINNED],
        [target, "-E", "-s", "-c", "import jax; jax.numpy.zeros(1)"],
    )
    for command in commands:
        if subprocess.run(command).returncode:
            return f"this failed, see the messages above: {' '.join(command)}"
    (VENV / ".ready").write_text(PINNED[0].split("==")[1] + "\n")
    return None


if __name__ == "__main__":
    failure = make_jax()
    if failure:
        print(f"the benchmarks go on without JAX: {failure}", file=sys.stderr)
