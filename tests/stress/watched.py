"""A victim as another process, watched: what it does now, what it has kept; and whether two of them came to the same end."""

import collections
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from d2lvae.storage.files import read_arrays
from report import ROOT

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


class Watched:
    """A running victim.

    Attributes
    ----------
    phase : str
        Its last announcement's first word.
    begun : dict
        When each phase was announced last, by the monotonic clock.
    times : collections.Counter
        How often.
    kept, resumed : int
        Epochs in its last finished checkpoint, and those that it found; None before it said so.
    lines : list of str
        All it printed, errors as well.
    """

    def __init__(self, results_dir, *options, **others):
        self.phase, self.begun, self.kept, self.resumed, self.lines = "start", {}, None, None, []
        self.changed, self.times = threading.Condition(), collections.Counter()
        command = [
            sys.executable,
            str(ROOT / "tests" / "stress" / "victim.py"),
            str(results_dir),
            *map(str, options),
        ]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
            **others,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                if line.startswith("@ "):
                    self.phase, *number = line[2:].split()
                    self.begun[self.phase] = time.monotonic()
                    self.times[self.phase] += 1
                    if number:
                        setattr(self, self.phase, int(number[0]))
                self.changed.notify_all()

    def wait_for(self, condition, seconds=120):
        """Whether `condition(self)` came true before the victim's end."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not condition(self) and self.reader.is_alive() and time.monotonic() < deadline:
                self.changed.wait(0.2)
            return condition(self)

    def ends_within(self, seconds):
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def end(self, seconds=120):
        """Its exit code and all it said; it is killed if it does not end by itself."""
        if not self.ends_within(seconds):
            self.process.kill()
            self.lines.append(f"did not end within {seconds} s")
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        return self.process.returncode, "\n".join(self.lines)


def folder_of(results_dir):
    """The one run's folder below it, or None."""
    return next(iter(pathlib.Path(results_dir).glob("images/*/*")), None)


def checkpoint_of(folder):
    """Its latest checkpoint, of a run that goes on or of one that has come to its end.

    The previous one is the latest where the next could not be written.
    """
    names = "checkpoint.npz", "checkpoint_previous.npz"
    places = [place / name for place in (folder / "unfinished", folder) for name in names]
    return next(path for path in places if path.exists())


def outcome(results_dir):
    """All that must be the same at the end: arrays' bytes, losses, measures, drawn reconstructions; nothing that tells the time."""
    folder = folder_of(results_dir)
    found = {}
    for name in ("vae.npz", "disc.npz", "checkpoint.npz"):
        arrays, record = read_arrays(folder / name)
        found.update(
            {
                f"{name}: {key}": (array.dtype.str, array.shape, array.tobytes())
                for key, array in arrays.items()
            }
        )
        for epoch in record.get("history", ()):
            del epoch["seconds"], epoch["images_per_second"]
        found[name] = record
    metrics = json.loads((folder / "metrics.json").read_text())
    found.update(
        {
            name: metrics[name]
            for name in ("finished", "epochs_done", "final", "validation", "quality", "config")
        }
    )
    found.update({path.name: path.read_bytes() for path in folder.glob("[0-9].png")})
    # No half file, none set aside, nobody's lock.
    found["files"] = sorted(path.name for path in folder.iterdir())
    return found


def differing(one, other):
    """The names of what is not the same in two outcomes."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
