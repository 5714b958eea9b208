"""A process that trains one experiment one way, when told to, and prints lines of JSON.

    python benchmarks/worker.py WAY EXPERIMENT IMAGES.npy [BATCH_SIZE]

WAY: ours, bfloat16, original, nothing (imports only), without LEVER (see gluon_steps.py), jax, or
pytorch eager|compiled, perhaps with channels_last.  A peer's way needs the peer and NumPy only.

First what it took to get to the first step; then, for every number on a line of its input, the
seconds that so many steps took.  Several of these can wait side by side (idle threads sleep) and
be measured in turns.
"""

import json
import os
import pathlib
import sys
import time

import numpy as np


def since_process_start():
    """Seconds since this process began, interpreter and all."""
    fields = pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    return float(pathlib.Path("/proc/uptime").read_text().split()[0]) - int(
        fields[19]
    ) / os.sysconf("SC_CLK_TCK")


def peak_megabytes():
    """The most memory that this process has held at once."""
    [line] = [
        line
        for line in pathlib.Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) * 1024 / 1e6


def make_steps(way, name, images, batch_size):
    if way == "jax":
        import jax_steps

        return jax_steps.steps(name, images, batch_size)
    if way.startswith("pytorch"):
        import torch_steps

        return torch_steps.steps(
            name, images, batch_size, "compiled" in way, "channels_last" in way
        ), lambda: None
    import gluon_steps

    if way.startswith("without "):
        gluon_steps.take_away(way[len("without ") :])
    if way == "nothing":
        return iter([None]), gluon_steps.wait
    if way == "original":
        return gluon_steps.original(name, images, batch_size), gluon_steps.wait
    return gluon_steps.ours(
        name, images, batch_size, "bfloat16" if way == "bfloat16" else "float32"
    ), gluon_steps.wait


def say(**values):
    print(json.dumps(values), flush=True)


def main(way, name, path, batch_size=64):
    images = np.load(path)
    steps, wait = make_steps(way, name, images, int(batch_size))
    next(steps), wait()
    say(seconds_to_first_step=since_process_start(), peak_megabytes=peak_megabytes())
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            next(steps)
        wait()
        say(seconds=time.perf_counter() - start, peak_megabytes=peak_megabytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
