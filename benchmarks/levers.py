"""What each of the step's levers is worth: whole training steps with one of them taken away.

    python benchmarks/levers.py [--rounds 5]      (10 minutes on two idle cores)

Every experiment is measured as it is and without each lever that it has, in turns.  Printed is the
speed as it is over the speed without the lever: 1.20 means that it makes the step 1.2 times as fast.
"""

import argparse
import json
import pathlib
import statistics
import tempfile

from experiments import DIGITS, EXPERIMENTS
from train_step import MXNETS_ENGINE, RESULTS, Worker, draw_images, images_of, in_turns, machine

LEVERS = (
    "one thread for all",
    "one-pass Adam",
    "flipped products",
    "sums as products",
    "fast sigmoid",
)


def levers_of(name):
    """Those that make a difference to this experiment's step."""
    experiment = EXPERIMENTS[name]
    no_sigmoid = "disc" not in experiment and experiment.get("pixel_loss", "bce") == "bce"
    absent = {"fast sigmoid": no_sigmoid, "flipped products": experiment["shape"] == DIGITS}
    return [lever for lever in LEVERS if not absent.get(lever)]


def environment_of(lever):
    """What is set so that this lever is not used; most are taken away in the worker."""
    return MXNETS_ENGINE if lever == "one thread for all" else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    results = {"machine": machine(), "speed_up": {}}
    with tempfile.TemporaryDirectory() as folder:
        draw_images(pathlib.Path(folder))
        for name in EXPERIMENTS:
            images = images_of(name, pathlib.Path(folder))
            ways = {"": "ours", **{lever: f"without {lever}" for lever in levers_of(name)}}
            workers = {
                lever: Worker(way, name, images, **environment_of(lever))
                for lever, way in ways.items()
            }
            seconds = in_turns(workers, rounds)
            found = results["speed_up"][name] = {
                lever: statistics.median(
                    without / ours for ours, without in zip(seconds[""], seconds[lever])
                )
                for lever in ways
                if lever
            }
            print(
                f"{name:24}",
                ", ".join(f"{lever} {ratio:.2f}" for lever, ratio in found.items()),
                flush=True,
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "levers.json").write_text(json.dumps(results, indent=1) + "\n")
    print("written: results/benchmarks/levers.json")


if __name__ == "__main__":
    main()
