"""Images per second of whole training steps, data included: this project beside PyTorch, the original's code and what the processor can do.

    make bench          (or: python benchmarks/train_step.py [--rounds 5] [--only EXPERIMENT ...])

All eight experiments at the seed's sizes, batch size 64.  Each way of computing a step is a process of its own, as a user would start it (for
this project, no environment variable set); they wait side by side and take turns, so that a machine whose speed drifts slows all.  Run it
with nothing else going on: it takes some 15 minutes on two cores.  PyTorch (`pip install -e '.[bench]'`) is left out where it is not installed.

- ours: this project, as `d2lvae.fit` runs it; bfloat16: with that precision, where the processor has it;
- pytorch ...: the same nets and step, as its best users would write them (torch_steps.py), eager or compiled, contiguous or channels_last, with
  a memory allocator set to keep what is freed;
- original: as recorded in 2019 (gluon_steps.py), for the adversarial experiments, with the threads that MXNet takes by itself;
- ceiling: the step's arithmetic at the rate of a large matrix product, plus the weights' memory traffic at the rate of a copy
  or an addition (ceiling.py); activations are not counted.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from experiments import BATCH, DIGITS, EXPERIMENTS, has_convolutions

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = pathlib.Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "benchmarks"
SECONDS = 1.0  # of one measurement, about
ENVIRONMENT = dict(
    os.environ
)  # as the user has it: this project adds to os.environ when it is imported


class Worker:
    """A process that runs steps when told to."""

    def __init__(self, *arguments, **environment):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", HERE / "worker.py", *map(str, arguments)],
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
            raise RuntimeError(
                f"a benchmark process ended early: {self.process.args}\n{self.errors.read()[-3000:]}"
            )
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
    if importlib.util.find_spec("torch"):
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
        }
    if way.startswith(
        "pytorch"
    ):  # glibc keeps freed memory: gradients are freed and allocated in every step, which it would do by unmapping
        return {
            "MALLOC_MMAP_THRESHOLD_": str(2**32),
            "MALLOC_TRIM_THRESHOLD_": str(2**33),
            "MALLOC_TOP_PAD_": str(2**28),
        }
    return {}


def measure(name, folder, rounds):
    """Images a second of every way."""
    workers = {
        way: Worker(way, name, images_of(name, folder), BATCH, **environment_of(way))
        for way in ways_of(name)
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
    versions = {}
    for package in ("mxnet", "numba", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **versions,
    }


def summary(rates):
    """Medians; this project's ratio to each other way, the median of the rounds'; and which of PyTorch's is best."""
    medians = {way: statistics.median(found) for way, found in rates.items()}
    ratios = {
        way: statistics.median(ours / other for ours, other in zip(rates["ours"], found))
        for way, found in rates.items()
    }
    peers = {way: rate for way, rate in medians.items() if way.startswith("pytorch")}
    return medians, ratios, max(peers, key=peers.get) if peers else None


def table(results):
    """Lines of text: images a second and this project's ratios to the others."""
    lines = [
        f"{'experiment':24}{'ours':>8}{'best PyTorch':>14} {'(which)':28}{'ratio':>6}{'original':>10}{'ratio':>6}{'bfloat16':>10}"
        f"{'ratio':>6}{'ceiling':>9}{'share':>7}"
    ]
    ratios = []
    for name, rates in results["images_per_second"].items():
        medians, to, best = summary(rates)

        def pair(way, ratio):
            return (
                f"{medians[way]:10,.0f}{ratio(to[way]):6.2f}"
                if way in medians
                else " " * 9 + "-" + " " * 5 + "-"
            )

        peer = (
            f"{medians[best]:14,.0f} {best[len('pytorch '):]:28}{to[best]:6.2f}"
            if best
            else " " * 49
        )
        if best:
            ratios.append(to[best])
        top = results["ceiling"][name]["images_per_second"]
        lines.append(
            f"{name:24}{medians['ours']:8,.0f}{peer}{pair('original', float)}{pair('bfloat16', lambda ratio: 1 / ratio)}"
            f"{top:9,.0f}{medians['ours'] / top:7.0%}"
        )
    if ratios:
        lines.append(
            f"\nto the best PyTorch: lowest {min(ratios):.2f}, geometric mean {statistics.geometric_mean(ratios):.2f}"
        )
    return lines


def draw_chart(results, path):
    """A bar for each way, relative to the best PyTorch, or to this project where there is none."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kinds = {
        "ceiling (arithmetic + weights' traffic)": "#dddddd",
        "this project": "#0072b2",
        "PyTorch, best of its ways": "#e69f00",
        "the original's way (2019)": "#999999",
    }
    names = list(results["images_per_second"])[::-1]
    fig, axes = plt.subplots(figsize=(9, 8))
    for row, name in enumerate(names):
        rates = results["images_per_second"][name]
        medians, _, best = summary(rates)
        base = rates[best or "ours"]
        found = {
            kind: (
                medians[way],
                np.median(np.divide(rates[way], base)),
            )  # in the same rounds, as in the table
            for kind, way in zip(list(kinds)[1:], ("ours", best, "original"))
            if way in rates
        }
        most = results["ceiling"][name]["images_per_second"]
        found[list(kinds)[0]] = most, most / np.median(base)
        for place, (kind, colour) in enumerate(kinds.items()):
            if kind in found:
                speed, ratio = found[kind]
                y, known = row + 0.3 - 0.2 * place, axes.get_legend_handles_labels()[1]
                axes.barh(
                    y,
                    ratio,
                    0.19,
                    color=colour,
                    edgecolor="black",
                    linewidth=0.5,
                    label=None if kind in known else kind,
                )
                axes.text(ratio + 0.02, y, f"{speed:,.0f}", va="center", fontsize=8)
    axes.set_yticks(
        range(len(names)), [name.replace("_", " ", 1).replace("_", "\n") for name in names]
    )
    axes.axvline(1, color="black", linewidth=1)
    axes.margins(x=0.1)
    axes.set_xlabel("speed of a training step, 1 = best PyTorch (numbers: images/s)")
    axes.set_title(
        f"Training steps at batch size {BATCH} on {results['machine']['cores']} cores (drawn digits and faces)"
    )
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1]))
    axes.legend(
        [handles[kind] for kind in kinds if kind in handles],
        [kind for kind in kinds if kind in handles],
        loc="lower right",
    )
    fig.tight_layout()
    fig.savefig(path, dpi=100)
    plt.close(fig)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="EXPERIMENT"
    )
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import ceiling

    rates, ceilings = ceiling.ceilings(arguments.only)
    results = {
        "machine": {**machine(), **rates},
        "batch_size": BATCH,
        "rounds": arguments.rounds,
        "images_per_second": {},
        "ceiling": ceilings,
    }
    with tempfile.TemporaryDirectory() as folder:
        draw_images(pathlib.Path(folder))
        for name in arguments.only:
            results["images_per_second"][name] = measure(
                name, pathlib.Path(folder), arguments.rounds
            )
            medians, *_ = summary(results["images_per_second"][name])
            print(name, {way: round(rate) for way, rate in medians.items()}, flush=True)
    print("", *table(results), f"on {results['machine']}", sep="\n")
    RESULTS.mkdir(parents=True, exist_ok=True)
    stem = "train_step" if arguments.only == list(EXPERIMENTS) else "train_step_part"
    (RESULTS / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    draw_chart(results, RESULTS / f"{stem}.png")
    print(f"written: results/benchmarks/{stem}.json, {stem}.png")


if __name__ == "__main__":
    main()
