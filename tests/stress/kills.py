"""SIGKILL at random moments of trainings, each resumed: is the end the same, bit for bit, as that of one left alone?

    python tests/stress/kills.py [--kills 100] [--epochs 20] [--seed 0] [--lanes 2] [--minutes 25]

Of four kills two come at any moment from the start of `fit` to its last epoch's end, one while a checkpoint is being written, one while
results are being recorded.  A training (of 20 epochs) is resumed until it comes to its end (while results are recorded it is killed once); then
the next one begins.  After each kill it is looked whether the next start finds every epoch that was kept.
"""

import argparse
import collections
import concurrent.futures
import pathlib
import shutil
import sys
import tempfile
import threading

import numpy as np
import report
import victim
from d2lvae.evaluation import classifier
from watched import Watched, differing, folder_of, outcome

PHASES = {
    "ready": "before the first step",
    "resume": "before the first step",
    "resumed": "before the first step",
    "train": "training",
    "kept": "training",
    "checkpoint": "writing a checkpoint",
    "record": "recording results",
}
AIMS = ("ready", "ready", "checkpoint", "record")  # the announcement after which a kill comes


class Kills:
    """What all lanes count together."""

    def __init__(self, wanted, epochs, limit):
        self.wanted, self.epochs = wanted, epochs
        self.limit, self.lock = limit, threading.Lock()
        self.phases, self.failures = collections.Counter(), []
        self.done = self.trainings = self.half_written = 0

    def take(self):
        """Whether one more kill is to be tried."""
        with self.lock:
            return self.done < self.wanted and not self.limit.is_over()

    def count(self, watched, folder):
        with self.lock:
            self.done += 1
            self.phases[PHASES.get(watched.phase, watched.phase)] += 1
            self.half_written += bool(folder) and any(folder.rglob(".*.part"))

    def fail(self, words):
        with self.lock:
            self.failures.append(words)


def kill_once(watched, aim, rng, durations):
    """Wait for a random moment and kill; False if the victim came to its end before."""
    number = rng.integers(1, 4) if aim == "checkpoint" else 1  # of the checkpoints to come
    watched.wait_for(lambda one: one.times[aim] >= number)
    if watched.ends_within(rng.uniform(0, durations[aim])) or watched.phase == "done":
        return False
    watched.process.kill()
    return True


def one_training(results_dir, kills, rng, reference, durations):
    """Kill and resume a training until it has ended, or there have been enough kills; then compare."""
    kept, places = 0, []  # epochs; where it was when it was killed
    while True:
        ended_once = (
            kept == kills.epochs and "record" in places
        )  # only the results are left, and they were disturbed already
        aim = AIMS[rng.integers(len(AIMS))] if kills.take() and not ended_once else None
        watched = Watched(results_dir, "--epochs", kills.epochs)
        killed = aim and kill_once(watched, aim, rng, durations)
        code, said = watched.end()
        if watched.resumed is not None and watched.resumed < kept:
            kills.fail(f"{kept} epochs had been kept, {watched.resumed} were found:\n{said}")
        kept = max(kept, watched.kept or 0)
        places.append(watched.phase)
        if not killed:
            break
        kills.count(watched, folder_of(results_dir))
    kills.trainings += 1
    if code:
        kills.fail(f"a resumed run ended with {code}:\n{said}")
    elif differing(outcome(results_dir), reference):
        kills.fail(f"not the same: {', '.join(differing(outcome(results_dir), reference)[:5])}")


def lane(number, seed, kills, reference, durations, folder):
    rng = np.random.default_rng([seed, number])
    training = 0
    while kills.take() and not kills.failures:
        results_dir = folder / f"{number}_{training}"
        one_training(results_dir, kills, rng, reference, durations)
        shutil.rmtree(results_dir, ignore_errors=True)
        training += 1


def run(wanted, epochs, seed, lanes, minutes, folder):
    """All of it; the figures and what failed."""
    limit = report.Limit(minutes)
    kills = Kills(wanted, epochs, limit)
    classifier.classifier_for(
        victim.faces()
    )  # its cache, if there is none: later runs are to take as long as the first
    undisturbed = Watched(folder / "undisturbed", "--epochs", epochs)
    code, said = undisturbed.end(300)
    if code:
        return {}, [f"the undisturbed run ended with {code}:\n{said}"]
    begun = undisturbed.begun
    durations = {
        start: begun[end] - begun[start]
        for start, end in (("ready", "record"), ("checkpoint", "kept"), ("record", "done"))
    }
    reference = outcome(folder / "undisturbed")
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        for future in [
            pool.submit(lane, number, seed, kills, reference, durations, folder)
            for number in range(lanes)
        ]:
            future.result()
    if kills.done < wanted and not kills.failures:
        kills.fail(f"only {kills.done} kills in {minutes} minutes")
    return {
        "kills": kills.done,
        "by_phase": dict(sorted(kills.phases.items())),
        "half_written_files_found": kills.half_written,
        "trainings": kills.trainings,
        "not_bit_identical_or_lost": len(kills.failures),
        "seed": seed,
        "seconds": limit.seconds(),
    }, kills.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=20, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lanes", type=int, default=2, help="trainings at once")
    parser.add_argument(
        "--minutes", type=float, default=25, help="it fails if it has not come to its end by then"
    )
    parser.add_argument("--results", type=pathlib.Path, default=report.RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, failures = run(
            arguments.kills,
            arguments.epochs,
            arguments.seed,
            arguments.lanes,
            arguments.minutes,
            pathlib.Path(folder),
        )
    return report.finish("kills", figures, failures, arguments.results)


if __name__ == "__main__":
    sys.exit(main())
