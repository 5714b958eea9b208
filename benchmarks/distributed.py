"""What training with several workers brings: images a second with 1 and 2 of them, bytes moved a step, and on paper 8 and 64 machines.

    make dist-demo          (or: python benchmarks/distributed.py [--rounds 5] [--seconds 2])

Measured on this machine: two dense nets at the seed's sizes, minibatches of 64 in all, one thread a worker; one worker by itself, one and
two with a parameter server, which takes processor time, too.  The bytes of a step are counted from what is pushed and pulled, and what
the loopback interface has carried meanwhile stands beside.  What more machines would give is a model, no measurement: see `predicted`.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from experiments import BATCH, config
from train_step import ENVIRONMENT, RESULTS, ROOT, draw_images, images_of, machine

NETS = ("mnist_densevae_bce", "anime_densevae_bce")
MACHINES, BATCHES = (1, 2, 8, 64), (64, 512)
SHARES = sorted({batch // machines for batch in BATCHES for machines in MACHINES})
NETWORK = {
    "bits_a_second": 10e9,
    "latency_seconds": 1e-4,
}  # assumed: 10 Gbit/s each way, 0.1 ms from machine to machine


def loopback_bytes():
    """What the loopback interface has carried since the machine was started."""
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        if line.split(":")[0].strip() == "lo":
            return int(line.split(":")[1].split()[0])
    raise RuntimeError("/proc/net/dev names no loopback interface")


def work(name, path, kvstore, batch_size, rounds, seconds):
    """Train as one of the workers; the first one prints seconds and bytes a step."""
    import mxnet as mx
    from d2lvae import training
    from d2lvae.distributed import process_group  # before mxnet
    from d2lvae.engine.process_group import ProcessGroup
    from d2lvae.training import make_step
    from gluon_steps import initialized

    images = np.load(path)
    alone = contextlib.nullcontext(ProcessGroup())
    with alone if kvstore == "local" else process_group.joined() as workers:
        allreduce = workers.allreduce if workers.size > 1 else None
        step = make_step(*initialized(name), config(name), allreduce=allreduce)

        def run(steps):
            start = time.perf_counter()
            for i in range(steps):
                place = i % (len(images) // batch_size) * batch_size
                training.learn(step, images[place : place + batch_size], workers)
            mx.nd.waitall()
            return (
                sum(workers.allgather(time.perf_counter() - start)) / workers.size
            )  # all have done them when this is known

        run(2)
        steps = max(2, round(seconds * 4 / run(4)))
        moved, carried = getattr(workers, "bytes_moved", 0), loopback_bytes()
        found = {"seconds": [run(steps) / steps for _ in range(rounds)]}
        found["bytes"] = (
            (getattr(workers, "bytes_moved", 0) - moved) * workers.size / (rounds * steps)
        )
        found["loopback_bytes"] = (loopback_bytes() - carried) / (rounds * steps)
    if workers.rank == 0:
        print(f"FOUND {json.dumps(found)}", flush=True)


def measure(name, path, workers, batch_size, rounds, seconds):
    """One worker by itself (0), or so many with a parameter server."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        __file__,
        "--work",
        name,
        path,
        "dist_sync" if workers else "local",
        batch_size,
        rounds,
        seconds,
    ]
    if workers:
        command = [sys.executable, "-m", "d2lvae.distributed", "--workers", workers, "--", *command]
    said = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    lines = [line.split("FOUND ")[1] for line in said.stdout.splitlines() if "FOUND " in line]
    if said.returncode or len(lines) != 1:
        raise RuntimeError(f"a worker has failed:\n{said.stdout[-3000:]}")
    return json.loads(lines[0])


def gradient_bytes(name):
    """What each worker pushes in a step, and pulls."""
    sys.path.insert(0, str(ROOT))
    from experiments import gluon_nets

    return 4 * sum(
        int(np.prod(p.shape))
        for p in gluon_nets(name)[0].collect_params().values()
        if p.grad_req != "null"
    )


def predicted(compute_seconds, gradients, machines, servers, bits_a_second, latency_seconds):
    """Seconds a step on several machines, on paper.

    Each computes the gradients of its share, pushes them and pulls the sums, nothing of which overlaps, as is the case here.  A server's
    link carries its part of all workers' gradients, there and back; with one server on each machine the machines' own links are the limit.

    Parameters
    ----------
    compute_seconds : float
        Of a step with a machine's share, as measured.
    gradients : float
        Bytes that a worker pushes.
    machines, servers : int
        Each machine has a worker, the first ones a server, too.
    bits_a_second, latency_seconds : float
        Of each machine's link, in each direction; from machine to machine.
    """
    if machines == 1:
        return compute_seconds
    through_a_server = (
        gradients * (machines - 1) / servers
    )  # what stays on its machine costs nothing
    through_a_worker = gradients * (1 - 1 / servers) if servers == machines else gradients
    return compute_seconds + 2 * (
        8 * max(through_a_server, through_a_worker) / bits_a_second + latency_seconds
    )


def on_paper(seconds_of_share, gradients):
    """Images a second for all batch sizes and numbers of machines, with one server in all and with one on each machine."""
    return [
        {
            "batch_size": batch,
            "machines": machines,
            "servers": servers,
            "images_per_second": batch
            / predicted(
                seconds_of_share[batch // machines], gradients, machines, servers, **NETWORK
            ),
        }
        for batch in BATCHES
        for machines in MACHINES
        for servers in sorted({1, machines})
    ]


def report(results):
    """Lines of text."""
    lines = []
    for name, found in results["nets"].items():
        rates = {
            way: BATCH / statistics.median(each["seconds"])
            for way, each in found["measured"].items()
        }
        moved = found["measured"]["2 workers"]
        lines += [
            f"\n{name}: {found['gradient_bytes'] / 4e6:.1f} M weights",
            *(f"  {way:36}{rate:10,.0f} images/s" for way, rate in rates.items()),
            f"  {'moved in a step of 2 workers':36}{moved['bytes'] / 1e6:10,.2f} MB (loopback carried {moved['loopback_bytes'] / 1e6:,.2f} MB)",
            f"  on paper, {results['network']['bits_a_second'] / 1e9:g} Gbit/s, images/s:",
            f"  {'batch size':>12}{'machines':>10}{'1 server':>12}{'one on each':>13}",
        ]
        table = {
            (row["batch_size"], row["machines"], row["servers"]): row["images_per_second"]
            for row in found["on_paper"]
        }
        lines += [
            f"  {batch:12}{machines:10}{table[batch, machines, 1]:12,.0f}{table[batch, machines, machines]:13,.0f}"
            for batch in BATCHES
            for machines in MACHINES
        ]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round")
    parser.add_argument("--work", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        name, path, kvstore, *numbers = given.work
        return work(
            name, path, kvstore, *(kind(number) for kind, number in zip((int, int, float), numbers))
        )
    results = {
        "machine": machine(),
        "batch_size": BATCH,
        "threads_a_worker": 1,
        "network": NETWORK,
        "nets": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        draw_images(pathlib.Path(folder))
        for name in NETS:
            path, gradients = images_of(name, pathlib.Path(folder)), gradient_bytes(name)
            ways = {"1 worker by itself": 0, "1 worker and a parameter server": 1, "2 workers": 2}
            measured = {
                way: measure(name, path, workers, BATCH, given.rounds, given.seconds)
                for way, workers in ways.items()
            }
            alone = {
                share: measured["1 worker by itself"]
                if share == BATCH
                else measure(name, path, 0, share, given.rounds, given.seconds)
                for share in SHARES
            }
            shares = {share: statistics.median(found["seconds"]) for share, found in alone.items()}
            results["nets"][name] = {
                "gradient_bytes": gradients,
                "measured": measured,
                "seconds_of_share": shares,
                "on_paper": on_paper(shares, gradients),
            }
            print(f"{name}: measured", flush=True)
    print(*report(results), f"\non {results['machine']}", sep="\n")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "distributed.json").write_text(json.dumps(results, indent=1) + "\n")
    print("written: results/benchmarks/distributed.json")


if __name__ == "__main__":
    main()
