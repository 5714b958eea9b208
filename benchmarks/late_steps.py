"""Are the last steps of a training as fast as the first?

    python benchmarks/late_steps.py [--steps 1500] [--rounds 5]      (10 minutes on two idle cores)

Units that are dead have no gradients, and their moments in Adam fade towards 0 (see adam.py).  The
dense VAE on faces, whose units die soon, is timed at its start and after 1,500 steps.  It is also
timed after 1,500 steps with moments that are never set to 0.  The three take turns, so that a machine
whose speed drifts slows all.
"""

import argparse
import json
import pathlib
import statistics
import tempfile

from experiments import BATCH
from train_step import RESULTS, Worker, draw_images, images_of, in_turns, machine

NAME = "anime_densevae_bce"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ways = {
        "at the start": ("ours", 0),
        "later": ("ours", arguments.steps),
        "later, moments never 0": ("without moments that end", arguments.steps),
    }
    with tempfile.TemporaryDirectory() as folder:
        draw_images(pathlib.Path(folder))
        workers = {}
        for name, (way, steps) in ways.items():
            workers[name] = Worker(way, NAME, images_of(NAME, pathlib.Path(folder)))
            workers[name].run(steps)
        seconds = in_turns(workers, arguments.rounds)
    found = {name: BATCH / statistics.median(each) for name, each in seconds.items()}
    for name, speed in found.items():
        print(f"{NAME}, {name}: {speed:,.0f} images/s")
    results = {"machine": machine(), "steps": arguments.steps, "images_per_second": found}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "late_steps.json").write_text(json.dumps(results, indent=1) + "\n")
    print("written: results/benchmarks/late_steps.json")


if __name__ == "__main__":
    main()
