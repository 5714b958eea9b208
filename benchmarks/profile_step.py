"""Where the milliseconds of a training step go: python benchmarks/profile_step.py EXPERIMENT [STEPS]

MXNet's engine runs what it can of a compiled graph as one operation, so its rows are lists of operators; the
one-pass Adam runs outside it. `MKLDNN_VERBOSE=1` in the environment prints every oneDNN primitive besides.
"""

import pathlib
import sys
import tempfile
import time

import gluon_steps
import mxnet as mx
import numpy as np
from d2lvae.engine import adam
from experiments import BATCH, EXPERIMENTS


def main(name, steps=20):
    steps, in_adam = int(steps), [0.0]
    plain = adam.Adam.step

    def timed(self, batch_size):
        mx.nd.waitall()
        start = time.perf_counter()
        plain(self, batch_size)
        in_adam[0] += time.perf_counter() - start

    adam.Adam.step = timed
    images = np.random.default_rng(0).integers(
        0, 256, (1024, *EXPERIMENTS[name]["shape"]), np.uint8
    )
    training = gluon_steps.ours(name, images, BATCH)
    for _ in range(10):
        next(training)
    with tempfile.TemporaryDirectory() as folder:
        mx.profiler.set_config(
            profile_symbolic=True,
            profile_imperative=True,
            aggregate_stats=True,
            filename=str(pathlib.Path(folder) / "profile.json"),
        )
        mx.profiler.set_state("run")
        in_adam[0], start = 0.0, time.perf_counter()
        for _ in range(steps):
            next(training)
        seconds = time.perf_counter() - start
        mx.profiler.set_state("stop")
        rows = [line.split() for line in mx.profiler.dumps(format="table").splitlines()]
    found = sorted(
        (
            (float(row[2]) / steps, row[0])
            for row in rows
            if len(row) >= 6 and row[1].isdigit() and not row[0].startswith("MX")
        ),
        reverse=True,
    )  # those are waits
    print(
        f"{name}: {seconds / steps * 1e3:.2f} ms a step of {BATCH}, {in_adam[0] / steps * 1e3:.2f} of them in Adam, "
        f"{sum(milliseconds for milliseconds, _ in found):.2f} in MXNet's engine:"
    )
    for milliseconds, operators in found[:20]:
        print(f"{milliseconds:9.3f} ms  {operators[:110]}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in EXPERIMENTS:
        sys.exit(__doc__ + "\nEXPERIMENT is one of " + ", ".join(EXPERIMENTS))
    main(*sys.argv[1:])
