"""Start a distributed training on this machine: scheduler, servers and workers, each a process.

    python -m d2lvae.distributed --workers 2 -- papermill notebooks/X.ipynb out.ipynb -p kvstore ...

Each worker runs the command; the second one's output notebook is out_worker_1.ipynb, and so on.
Where there are several GPUs each worker has one, else they share the processor's cores.  When one
process dies it is named and all end, with its exit code.  If DMLC_ROLE is set, this is that one.
"""

import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

from mxnet import context

from ..engine import threads

GRACE, PATIENCE = 2.0, 10.0  # seconds to end by oneself after a failure; when asked to
SO = "so all end. Start again with -p resume True to go on from the last checkpoint"


def free_port():
    """A port on loopback that is free."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def environments(num_workers, num_servers, port, gpus=(), cores=1, threads=""):
    """What each process finds in its environment, by 'scheduler', 'server 0', 'worker 0', ...

    The workers share `cores` (OMP_NUM_THREADS) unless `threads` are given, and take turns at
    `gpus`, a sequence of names for CUDA_VISIBLE_DEVICES.
    """
    common = {"DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_NODE_HOST": "127.0.0.1"}
    numbers = {"PS_ROOT_PORT": port, "NUM_SERVER": num_servers, "NUM_WORKER": num_workers}
    common.update({f"DMLC_{name}": str(number) for name, number in numbers.items()})
    servers = [f"server {i}" for i in range(num_servers)]
    found = {name: {**common, "DMLC_ROLE": name.split()[0]} for name in ["scheduler", *servers]}
    for i in range(num_workers):
        found[f"worker {i}"] = own = {**common, "DMLC_ROLE": "worker", "DMLC_WORKER_ID": str(i)}
        if gpus:
            own["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
        if threads or not gpus:
            own["OMP_NUM_THREADS"] = threads or str(max(1, cores // num_workers))
    return found


def gpu_names():
    """What CUDA_VISIBLE_DEVICES calls the GPUs that MXNet finds; none where it finds none."""
    found, visible = context.num_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:found] if visible else [str(i) for i in range(found)]


def command_of(command, rank):
    """A worker's command; of papermill's, the output notebook gets a name of its own."""
    notebooks = [i for i, word in enumerate(command) if word.endswith(".ipynb")]
    if rank > 0 and len(notebooks) > 1:
        path = pathlib.Path(command[notebooks[1]])
        command = list(command)
        command[notebooks[1]] = str(path.with_name(f"{path.stem}_worker_{rank}.ipynb"))
    return command


def _start(name, command, environment):
    """A process whose lines are shown behind its name; Ctrl-C is not for it but for us."""

    def show():
        for line in process.stdout:
            print(f"{name}| {line}", end="", flush=True)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "errors": "replace"}
    own = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(command, env=own, start_new_session=True, **pipes)
    process.shown = threading.Thread(target=show, daemon=True)
    process.shown.start()
    return process


def _wait(processes):
    """Wait for the workers, or until anybody has failed, who is named; the exit code."""
    workers, failed, over = [name for name in processes if "worker" in name], None, False
    while not (failed or over):
        time.sleep(0.1)
        over = all(processes[name].poll() is not None for name in workers)
        failed = next((name for name, process in processes.items() if process.poll()), None)
    if not failed:
        return 0
    process, code = processes[failed], processes[failed].returncode
    how = f"has been killed by signal {-code}" if code < 0 else f"has failed with code {code}"
    print(f"launcher| the {failed} (process {process.pid}) {how}, {SO}", flush=True)
    return 128 - code if code < 0 else code


def _end(processes, grace):
    """Let processes end by themselves; then ask them to, then make them."""
    for seconds, wish in ((grace, "poll"), (PATIENCE, "terminate"), (PATIENCE, "kill")):
        until = time.monotonic() + seconds
        for process in processes:
            getattr(process, wish)()  # nothing happens to who has ended
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            time.sleep(0.1)
    for process in processes:
        process.shown.join(5)


def main(arguments=None):
    """The exit code: of the process that failed first, or 0."""
    parser = argparse.ArgumentParser("python -m d2lvae.distributed")
    parser.add_argument("--workers", type=int, help="how many; by default one for each GPU, or two")
    parser.add_argument("--servers", type=int, default=1, help="that add up gradients (default: 1)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --", metavar="COMMAND")
    given, gpus = parser.parse_args(arguments), gpu_names()
    command = given.command[given.command[:1] == ["--"] :]
    workers = len(gpus) or 2 if given.workers is None else given.workers
    if not command or workers < 1 or given.servers < 1:
        parser.error("give a command behind --, and at least one worker and one server")
    shares = gpus, threads.usable_cores(), threads.GIVEN
    processes, code, serve = {}, 0, [sys.executable, "-m", "d2lvae.distributed"]

    def on_signal(number, frame):
        for name, process in processes.items():  # of Ctrl-C the first worker tells the others
            if number != signal.SIGINT or name == "worker 0":
                process.send_signal(number)

    signals = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, on_signal) for number in signals}
    try:
        for name, own in environments(workers, given.servers, free_port(), *shares).items():
            rank = name.partition("worker ")[2]
            processes[name] = _start(name, command_of(command, int(rank)) if rank else serve, own)
        code = _wait(processes)
    except OSError as error:
        code = print(f"{command[0]}: {error.strerror or error}", file=sys.stderr) or 127
    finally:
        _end(processes.values(), GRACE if code else 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    return code
