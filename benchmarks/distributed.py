"""What training with several workers brings: measured with two machines, computed for more.

    make dist-demo          (or, as root: python benchmarks/distributed.py)
    python benchmarks/distributed.py --parts '1 Gbit/s'     # one part anew; each takes minutes

Two "machines" are network namespaces with one processor core each.  The cable between them carries
1 or 10 Gbit/s each way (tc's token bucket).  Each has a worker and, but for one way, a server; the
first has the scheduler, too.  The minibatch is 64 images in all.  The ways:

- one server: gradients are summed on the first machine only;
- a server each: with `--servers` as many as workers, all gradients pushed and then all pulled;
- layer by layer: the same as this project does it, each gradient pushed and pulled by itself, the
  last layer's first;
- 2 bits: MXNet's gradient compression of what is pushed, with one server;
- 16 local steps: weights are averaged every 16 steps (`local_steps`).

Without root or `ip` both machines are this one, and no network is measured.
What more machines would give is a model, no measurement: see `predicted`.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from experiments import BATCH, config, gluon_nets
from train_step import ENVIRONMENT, RESULTS, ROOT, draw_images, images_of, machine

NETS = ("mnist_densevae_bce", "anime_densevae_bce")
MACHINES, BATCHES = (1, 2, 8, 64), (64, 512)
SHARES = sorted({batch // machines for batch in BATCHES for machines in MACHINES})
NETWORKS = {"1 Gbit/s": 1e9, "10 Gbit/s": 1e10}
WAYS = {  # servers, local steps
    "one server": (1, 1),
    "a server each": (2, 1),
    "layer by layer": (2, 1),
    "2 bits": (1, 1),  # with two servers it fails
    "16 local steps": (2, 16),
}
THRESHOLD = 0.5  # of the 2 bits: MXNet's own
LATENCY = 1e-4  # assumed: seconds from machine to machine
LEARNING = {"data": "drawn", "num_train": 6400, "epochs": 10}  # of the part 'losses'
TICKS = os.sysconf("SC_CLK_TCK")


class AllAtOnce:
    """A key-value store that pushes all arrays of an exchange, and then pulls all."""

    def __init__(self, store):
        self.store, self.waiting = store, {}

    def __getattr__(self, name):
        return getattr(self.store, name)

    def push(self, key, array, priority):
        self.waiting[key] = array

    def pull(self, key, out, priority):
        if priority == 0:  # the last one
            keys, arrays = list(self.waiting), list(self.waiting.values())
            self.store.push(keys, arrays)
            self.store.pull(keys, out=arrays)
            self.waiting = {}


def join(way):
    """The process group of a way, which may change how it uses MXNet's store."""
    from d2lvae.distributed import process_group

    workers = process_group.joined(local_steps=WAYS[way][1])
    if way != "layer by layer":
        workers.store = AllAtOnce(workers.store)
    if way == "2 bits":  # of whatever is pushed: so no other numbers can be exchanged any more
        workers.store.set_gradient_compression({"type": "2bit", "threshold": THRESHOLD})
        workers.store._barrier()  # the server has heard of it before anybody pushes
        workers.allgather = lambda value: wait_for_all(workers) or [value] * 2
        os.environ.pop("DMLC_WORKER_ID")  # which has been asked for
    return workers


def wait_for_all(workers):
    import mxnet as mx

    workers.allreduce([mx.nd.zeros(1)], "nothing")


def carried_bytes():
    """What the cable has carried, both ways; None without one."""
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        if line.split(":")[0].strip() == "cable":
            numbers = line.split(":")[1].split()
            return int(numbers[0]) + int(numbers[8])
    return None


def work(name, path, way, batch_size, rounds, seconds):
    """Train as one of the workers, or alone; the first one prints what a step takes."""
    import mxnet as mx
    from d2lvae import training
    from d2lvae.engine.process_group import SINGLE
    from gluon_steps import initialized

    images = np.load(path)
    group = SINGLE if way == "alone" else join(way)
    step = training.make_step(*initialized(name), config(name), allreduce=group.add_up)
    period = 1 if way == "alone" else WAYS[way][1]

    def run(steps):
        group.allgather(0)  # all begin together
        start = time.perf_counter()
        for i in range(steps):
            place = i % (len(images) // batch_size) * batch_size
            training.learn(step, images[place : place + batch_size], group)
        mx.nd.waitall()
        taken = time.perf_counter() - start
        return max(group.allgather(taken)) / steps

    run(max(2, period))
    steps = max(1, round(seconds / run(max(2, period)) / period)) * period
    if way == "2 bits":  # its workers cannot agree on another number
        steps = 20
    found = {"steps": rounds * steps}
    if group.rank == 0:
        print(f"BEGIN {time.time()}", flush=True)
    before = time.process_time(), carried_bytes()
    found["seconds"] = [run(steps) for _ in range(rounds)]
    found["worker_seconds"] = (time.process_time() - before[0]) / found["steps"]
    if before[1] is not None:
        found["cable_bytes"] = (carried_bytes() - before[1]) / found["steps"]
    if group.rank == 0:
        print(f"FOUND {json.dumps(found)}", flush=True)


class Cable:
    """Two network namespaces with a shaped cable between, while in the block."""

    def __init__(self, bits_a_second):
        self.rate = f"{bits_a_second / 1e6:.0f}mbit"
        self.names = [f"d2lvae{os.getpid()}{letter}" for letter in "ab"]

    def __enter__(self):
        first, second = self.names
        for name in self.names:
            ip("netns", "add", name)
        ends = f"link add cable netns {first} type veth peer name cable netns {second}"
        ip(*ends.split())
        for i, name in enumerate(self.names, 1):
            ip("-n", name, *f"addr add 10.77.0.{i}/24 dev cable".split())
            ip("-n", name, *"link set cable up".split())
            ip("-n", name, *"link set lo up".split())
            bucket = f"tc qdisc add dev cable root tbf rate {self.rate} burst 1mb latency 50ms"
            ip("netns", "exec", name, *bucket.split())
        return [["ip", "netns", "exec", name] for name in self.names]

    def __exit__(self, *error):
        for name in self.names:
            ip("netns", "delete", name)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def run_alone(name, path, batch_size, given):
    """One worker without anybody, on one core."""
    arguments = name, path, "alone", batch_size, given.rounds, given.seconds
    command = ["taskset", "-c", "0", sys.executable, "-W", "ignore", __file__, "--work", *arguments]
    said = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment(), check=True
    )
    return json.loads(said.stdout.split("FOUND ")[1])


def environment(**more):
    return {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def processor_seconds(process):
    """What a process has used so far."""
    numbers = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / TICKS


def run_two(name, path, way, places, given):
    """Two workers, each on a machine of its own."""
    common = {"DMLC_PS_ROOT_URI": "10.77.0.1", "DMLC_PS_ROOT_PORT": "9091"}
    common.update(DMLC_NUM_WORKER="2", DMLC_NUM_SERVER=str(WAYS[way][0]), D2LVAE_TIMEOUT="60")
    serve = [sys.executable, "-W", "ignore", "-m", "d2lvae.distributed"]
    arguments = name, path, way, BATCH, given.rounds, given.seconds
    worker = [sys.executable, "-W", "ignore", __file__, "--work", *map(str, arguments)]

    errors = tempfile.TemporaryFile("w+")

    def start(role, place, command, **more):
        return subprocess.Popen(
            [*places[place], "taskset", "-c", str(place % os.cpu_count()), *command],
            env=environment(**common, DMLC_ROLE=role, **more),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    others = [start("scheduler", 0, serve)]
    servers = [start("server", i, serve) for i in range(WAYS[way][0])]
    first, second = [start("worker", i, worker, DMLC_WORKER_ID=str(i)) for i in range(2)]
    found = None
    try:
        for line in first.stdout:
            if line.startswith("BEGIN"):
                before = [processor_seconds(server) for server in servers]
            if line.startswith("FOUND"):
                used = [processor_seconds(server) for server in servers]
                found = json.loads(line.split("FOUND ")[1])
    finally:
        for process in (*others, *servers, first, second):
            process.kill()
            process.wait()
    if found is None:
        errors.seek(0)
        raise RuntimeError(f"{name}, {way}: a worker has failed\n{errors.read()[-3000:]}")
    found["server_seconds"] = (sum(used) - sum(before)) / found["steps"]
    return found


def gradient_bytes(name):
    """What each worker pushes in a step, and pulls."""
    sys.path.insert(0, str(ROOT))
    parameters = gluon_nets(name)[0].collect_params().values()
    return 4 * sum(int(np.prod(p.shape)) for p in parameters if p.grad_req != "null")


def median(found):
    return statistics.median(found["seconds"])


def costs(alone, measured, gradients):
    """Processor time of a byte that a worker sends or receives, and of one that a server does.

    Measured with a server each.  Two workers' steps count: together they handle 4 times the
    gradients' bytes, as do the servers.
    """
    worker = max(0.0, measured["worker_seconds"] - alone["worker_seconds"]) / (2 * gradients)
    return {"worker": worker, "server": measured["server_seconds"] / (4 * gradients)}


def predicted(compute, gradients, machines, servers, bits_a_second, cost, steps=1):
    """Seconds a step on several machines of one core each, on paper.

    Nothing overlaps.  A machine computes the gradients of its share, and pushes and pulls them; the
    one with most work for its server is waited for, and so is the fullest link.

    Parameters
    ----------
    compute : float
        Seconds of a step with a machine's share, as measured.
    gradients : float
        Bytes that a worker pushes, and pulls.
    machines, servers : int
        Each machine has a worker, the first ones a server, too.
    bits_a_second : float
        Of each machine's link, in each direction; `LATENCY` comes to that.
    cost : dict
        Processor seconds of a byte for a 'worker' and a 'server', see `costs`.
    steps : int
        Local steps between two exchanges.
    """
    if machines == 1:
        return compute
    through_a_server = gradients * (machines - 1) / servers  # its own machine's cost no cable
    through_a_worker = gradients * (1 - 1 / servers) if servers == machines else gradients
    wire = 8 * max(through_a_server, through_a_worker) / bits_a_second + LATENCY
    work = gradients * cost["worker"] + gradients * machines / servers * cost["server"]
    return compute + 2 * (wire + work) / steps


def on_paper(seconds_of_share, gradients, bits_a_second, cost):
    """Images a second for all batch sizes, numbers of machines, servers and local steps."""
    return [
        {
            "batch_size": batch,
            "machines": machines,
            "servers": servers,
            "local_steps": steps,
            "images_per_second": batch
            / predicted(
                seconds_of_share[batch // machines],
                gradients,
                machines,
                servers,
                bits_a_second,
                cost,
                steps,
            ),
        }
        for batch in BATCHES
        for machines in MACHINES
        for servers in sorted({1, machines})
        for steps in (1, 16)
    ]


def measure_shares(results, folder, given):
    for name in NETS:
        net = results["nets"].setdefault(name, {"gradient_bytes": gradient_bytes(name)})
        net["alone"] = {
            str(share): run_alone(name, images_of(name, folder), share, given) for share in SHARES
        }


def measure_network(results, network, folder, given):
    with Cable(NETWORKS[network]) as places:
        for name in NETS:
            net = results["nets"].setdefault(name, {"gradient_bytes": gradient_bytes(name)})
            path = images_of(name, folder)
            net[network] = {way: run_two(name, path, way, places, given) for way in WAYS}
            print(f"{name}, {network}: measured", flush=True)


def learn(way):
    """Train the digits' net as one of two workers, and print the last epoch's loss."""
    import d2lvae

    if way != "alone":
        join(way)
    own = {"kvstore": "local" if way == "alone" else "dist_sync"}
    if way != "alone":
        own["local_steps"] = WAYS[way][1]
    with tempfile.TemporaryDirectory() as folder:
        settings = {**LEARNING, **own, "disc_weight": 0.0, "results_dir": folder}
        images = d2lvae.load_digits("drawn", LEARNING["num_train"])
        vae = d2lvae.DenseVAE(5, 3, 400)
        run = d2lvae.fit(vae, images, d2lvae.Config.from_dict(settings))
    print(f"LOSS {run.history[-1]['loss']}", flush=True)


def measure_losses(results):
    """The loss after ten epochs, by one worker and by two in some ways."""
    results["losses"] = {}
    for way in ("alone", "a server each", "2 bits", "16 local steps"):
        command = [sys.executable, "-W", "ignore", __file__, "--learn", way]
        if way != "alone":
            launcher = [sys.executable, "-m", "d2lvae.distributed", "--workers", "2", "--"]
            command = [*launcher, *command]
        said = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
        ).stdout
        losses = [float(line.split("LOSS ")[1]) for line in said.splitlines() if "LOSS " in line]
        if not losses:
            raise RuntimeError(f"{way}: a worker has failed:\n{said[-3000:]}")
        results["losses"][way] = losses[0]


def conclude(results):
    """Add what follows from what was measured."""
    for net in results["nets"].values():
        networks = [name for name in NETWORKS if name in net]
        if "alone" not in net or not networks:
            continue
        seconds = {int(share): median(found) for share, found in net["alone"].items()}
        half, gradients = net["alone"][str(BATCH // 2)], net["gradient_bytes"]
        net["cost"] = costs(half, net[networks[-1]]["a server each"], gradients)
        net["on_paper"], net["model_over_measured"] = {}, {}
        for network in networks:
            rest = NETWORKS[network], net["cost"]
            net["on_paper"][network] = on_paper(seconds, gradients, *rest)
            net["model_over_measured"][network] = {
                way: predicted(seconds[BATCH // 2], gradients, 2, servers, *rest, steps)
                / median(net[network][way])
                for way, (servers, steps) in WAYS.items()
                if way not in ("layer by layer", "2 bits")  # which it does not know
            }


def report(results):
    """Lines of text: images a second."""
    lines = []
    for name, net in results["nets"].items():
        lines.append(f"\n{name}: {net['gradient_bytes'] / 4e6:.1f} M weights, images/s")
        if "alone" in net:
            lines.append(
                f"  {'1 worker alone':28}{BATCH / median(net['alone'][str(BATCH)]):10,.0f}"
            )
        for network in (network for network in NETWORKS if network in net):
            for way, found in net[network].items():
                ratio = net.get("model_over_measured", {}).get(network, {}).get(way)
                model = f"   (the model's seconds are {ratio:.2f} of these)" if ratio else ""
                label = f"2 workers, {network}, {way}"
                lines.append(f"  {label:42}{BATCH / median(found):10,.0f}{model}")
        for network, rows in net.get("on_paper", {}).items():
            lines.append(f"  on paper, {network}: batch size, machines, servers, local steps")
            lines += [
                f"  {row['batch_size']:12}{row['machines']:6}{row['servers']:6}"
                f"{row['local_steps']:6}{row['images_per_second']:12,.0f}"
                for row in rows
            ]
    losses = results.get("losses", {})
    return [*lines, *(f"loss after ten epochs, {way}: {loss:.2f}" for way, loss in losses.items())]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one round")
    parts = ["alone", *NETWORKS, "losses"]
    parser.add_argument("--parts", nargs="*", default=parts, choices=parts, help="all by default")
    parser.add_argument("--work", nargs=6, help=argparse.SUPPRESS)
    parser.add_argument("--learn", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        name, path, way, batch_size, rounds, seconds = given.work
        return work(name, path, way, int(batch_size), int(rounds), float(seconds))
    if given.learn:
        return learn(given.learn)
    if not (os.geteuid() == 0 and shutil.which("ip") and shutil.which("tc")):
        print("networks are left out: they need root, ip and tc (Debian: iproute2)")
        given.parts = [part for part in given.parts if part not in NETWORKS]
    path = RESULTS / "distributed.json"
    results = json.loads(path.read_text()) if set(given.parts) != set(parts) else {"nets": {}}
    results.update(machine=machine(), batch_size=BATCH, networks=NETWORKS, latency=LATENCY)
    results.update(threshold=THRESHOLD, learning=LEARNING)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if set(given.parts) != {"losses"}:
            draw_images(folder)
        for part in given.parts:
            if part == "alone":
                measure_shares(results, folder, given)
            elif part == "losses":
                measure_losses(results)
            else:
                measure_network(results, part, folder, given)
            conclude(results)
            path.write_text(json.dumps(results, indent=1) + "\n")  # each part takes minutes
    print(*report(results), f"\non {results['machine']}", sep="\n")
    print("written: results/benchmarks/distributed.json")


if __name__ == "__main__":
    main()
