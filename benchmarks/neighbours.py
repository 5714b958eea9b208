"""What a busy neighbour costs, by how MXNet's engine and OpenMP's threads wait.

    python benchmarks/neighbours.py        (two minutes on an otherwise idle machine)

Two experiments, first alone and then beside one endless loop, with what this project sets (see
`d2lvae/engine/threads.py`) and with other settings.  `threads waited` is the share of the time that
threads were ready to run and had no core: `Neighbours` goes by it.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from d2lvae.engine.threads import seconds_waited
from experiments import BATCH
from train_step import MXNETS_ENGINE, RESULTS, Worker, draw_images, images_of, machine

SETTINGS = {
    "as the project sets them": {},
    "threads spin for long": {"GOMP_SPINCOUNT": "300000"},
    "MXNet's usual engine": MXNETS_ENGINE,
    "one thread": {"OMP_NUM_THREADS": "1"},
}
NAMES = "mnist_densevae_bce", "anime_convvae_convdisc"
ROUNDS, SECONDS = 7, 1.0


def measure(workers):
    """Images/s and the share of the time that threads waited, of each worker; medians of turns."""
    for worker in workers.values():
        worker.run(8)
    steps = {key: max(4, int(SECONDS * 8 / worker.run(8))) for key, worker in workers.items()}
    found = {key: [] for key in workers}
    for _ in range(ROUNDS):
        for key, worker in workers.items():
            before = seconds_waited(pid=worker.process.pid)
            seconds = worker.run(steps[key])
            waited = seconds_waited(pid=worker.process.pid) - before
            found[key].append((BATCH * steps[key] / seconds, waited / seconds))
    return {key: [statistics.median(each) for each in zip(*turns)] for key, turns in found.items()}


def main():
    results = {"machine": machine(), "found": {}}
    with tempfile.TemporaryDirectory() as folder:
        draw_images(pathlib.Path(folder))
        for name in NAMES:
            images = images_of(name, pathlib.Path(folder))
            workers = {
                key: Worker("ours", name, images, BATCH, **variables)
                for key, variables in SETTINGS.items()
            }
            alone = measure(workers)
            neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            try:
                beside = measure(workers)
            finally:
                neighbour.kill()
                neighbour.wait()
            for worker in workers.values():
                worker.close()
            results["found"][name] = {
                key: {"alone": alone[key], "beside": beside[key]} for key in workers
            }
            for key, found in results["found"][name].items():
                words = [
                    f"{where} {speed:8,.0f} images/s, threads waited {share:4.0%}"
                    for where, (speed, share) in found.items()
                ]
                print(f"{name:24} {key:26}", *words, flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "neighbours.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
