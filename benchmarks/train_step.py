"""Images per second of whole training steps, data included: this project beside its peers.

    make bench          (or: python benchmarks/train_step.py)
    python benchmarks/train_step.py --only mnist_densevae_bce --ways ours jax --rounds 3

All eight experiments at the original's sizes, batch size 64.  Each way of computing a step is a
process of its own, as a user would start it (for this project, no environment variable set).  They
wait side by side and take turns, so that a machine whose speed drifts slows all.  Run it with
nothing else going on: it takes some 20 minutes on two idle cores.

- ours: this project, as `d2lvae.fit` runs it; bfloat16: with that precision, where the processor
  has it;
- pytorch ...: the same nets and step, as its best users would write them (torch_steps.py), eager
  or compiled, contiguous or channels_last, with a memory allocator set to keep what is freed;
- jax: likewise (jax_steps.py), in an environment of its own (peers.py);
- original: as recorded in 2019 (gluon_steps.py), for the adversarial experiments, with the threads
  that MXNet takes by itself.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

import numpy as np
import peers
from experiments import BATCH, DIGITS, EXPERIMENTS, has_convolutions
from speed_table import draw_chart, experiment_lines, table

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = pathlib.Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "benchmarks"
SECONDS = 1.0  # of one measurement, about
ENVIRONMENT = dict(os.environ)  # as the user has it: importing this project adds to os.environ
KEEP_FREED_MEMORY = {  # glibc would unmap what every step allocates anew
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
MXNETS_ENGINE = {"MXNET_ENGINE_TYPE": "ThreadedEnginePerDevice"}  # its own choice


class Worker:
    """A process that runs steps when told to."""

    def __init__(self, way, *arguments, **environment):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*peers.python_of(way), "-W", "ignore", HERE / "worker.py", way, *map(str, arguments)],
            text=True,
            env={**ENVIRONMENT, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.start = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = f"{self.process.args}\n{self.errors.read()[-3000:]}"
            raise RuntimeError(f"a benchmark process ended early: {said}")
        return json.loads(line)

    def run(self, steps):
        """Seconds that so many steps take."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        self.last = self.answer()
        return self.last["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def ways_of(name):
    """The ways to compute this experiment's step that can be tried here."""
    sys.path.insert(0, str(ROOT))
    from d2lvae.engine import bfloat16

    ways = ["ours"]
    if has_convolutions(name) and bfloat16.has_bfloat16():
        ways.append("bfloat16")
    if "disc" in EXPERIMENTS[name]:
        ways.append("original")
    if peers.has_jax():
        ways.append("jax")
    if peers.has_torch():
        ways += ["pytorch eager", "pytorch compiled"]
        if has_convolutions(name):
            ways += ["pytorch eager channels_last", "pytorch compiled channels_last"]
    return ways


def draw_images(folder):
    """Images by rule, 4,096 digits and faces, as files for the workers."""
    from d2lvae.sources import synthetic_digits, synthetic_faces

    np.save(folder / "digits.npy", synthetic_digits.draw_digits(4096)[0])
    np.save(folder / "faces.npy", synthetic_faces.draw_faces(4096)[0])


def images_of(name, folder):
    return folder / ("digits.npy" if EXPERIMENTS[name]["shape"] == DIGITS else "faces.npy")


def in_turns(workers, rounds):
    """Seconds a step of each worker, `rounds` times in turns after a warm-up; the workers end."""
    steps = {}
    for key, worker in workers.items():
        worker.run(8)
        steps[key] = max(4, math.ceil(SECONDS * 4 / worker.run(4)))
        worker.run(steps[key])
    seconds = {key: [] for key in workers}
    for _ in range(rounds):
        for key, worker in workers.items():
            seconds[key].append(worker.run(steps[key]) / steps[key])
    for worker in workers.values():
        worker.close()
    return seconds


def environment_of(way):
    """What a way's user would set: nothing for this project."""
    if way == "original":  # what MXNet takes by itself
        return {
            "OMP_NUM_THREADS": str(max(1, os.cpu_count() // 2)),
            "MXNET_CPU_WORKER_NTHREADS": "1",
            **MXNETS_ENGINE,
        }
    if peers.is_peer(way):
        return KEEP_FREED_MEMORY
    return {}


def measure(name, folder, rounds, wanted):
    """Images a second of every way, or of those wanted."""
    workers = {
        way: Worker(way, name, images_of(name, folder), BATCH, **environment_of(way))
        for way in ways_of(name)
        if not wanted or way in wanted or way.split()[0] in wanted
    }
    return {
        way: [BATCH / each for each in seconds]
        for way, seconds in in_turns(workers, rounds).items()
    }


def machine():
    """What it was measured on."""
    model = "unknown processor"
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
            model,
        )
    source = (ROOT / "d2lvae" / "__init__.py").read_text()
    versions = {"d2lvae": re.search(r'__version__ = "(.+?)"', source)[1], **peers.versions()}
    for package in ("mxnet", "numba"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **versions,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="EXPERIMENT"
    )
    parser.add_argument(
        "--ways", nargs="+", default=[], metavar="WAY", help="such as ours jax, or 'pytorch eager'"
    )
    arguments = parser.parse_args()
    print(*peers.absent(), sep="\n", flush=True)
    results = {
        "machine": machine(),
        "batch_size": BATCH,
        "rounds": arguments.rounds,
        "images_per_second": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        draw_images(folder)
        for name in arguments.only:
            found = measure(name, folder, arguments.rounds, arguments.ways)
            results["images_per_second"][name] = found
            print(*experiment_lines(name, found), sep="\n", flush=True)
    print("", *table(results), f"on {results['machine']}", *peers.absent(), sep="\n")
    whole = arguments.only == list(EXPERIMENTS) and not arguments.ways
    write(results, "train_step" if whole else "train_step_part")


def write(results, stem):
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    draw_chart(results, RESULTS / f"{stem}.png")
    print(f"written: results/benchmarks/{stem}.json, {stem}.png")


if __name__ == "__main__":
    main()
