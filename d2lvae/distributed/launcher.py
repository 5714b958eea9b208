"""Start a distributed training on this machine: scheduler, servers and workers, each a process.

    python -m d2lvae.distributed --workers 2 -- papermill notebooks/X.ipynb out.ipynb -p kvstore dist_sync -p epochs 200

Each worker runs the command; the second one's output notebook is out_worker_1.ipynb, and so on.  Where there are several GPUs each
worker has one, else they share the processor's cores.  When one process dies all end, with its exit code.  With DMLC_ROLE set to 'scheduler' or
'server', `python -m d2lvae.distributed` is that one process, as docs/distributed.md uses it on several machines.
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

from ..engine import threads

__all__ = ["main", "environments", "command_of"]

PATIENCE = 10.0  # seconds that the others have to end by themselves


def free_port():
    """A port on loopback that is free, and the next one, too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
                return port
            except (OSError, OverflowError):
                continue


def environments(num_workers, num_servers, port, gpus=(), cores=1, threads=""):
    """What each process finds in its environment.

    Parameters
    ----------
    num_workers, num_servers, port : int
    gpus : sequence of str
        Names for CUDA_VISIBLE_DEVICES, dealt out to the workers in turns.
    cores : int
        To be shared out to the workers.
    threads : str
        What each worker's OMP_NUM_THREADS is to be instead.

    Returns
    -------
    dict of dict of str
        By process: 'scheduler', 'server 0', ..., 'worker 0', ...
    """
    common = {
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NODE_HOST": "127.0.0.1",
        "DMLC_NUM_WORKER": str(num_workers),
        "DMLC_NUM_SERVER": str(num_servers),
    }
    found = {"scheduler": {**common, "DMLC_ROLE": "scheduler"}}
    for i in range(num_servers):
        found[f"server {i}"] = {**common, "DMLC_ROLE": "server"}
    for i in range(num_workers):
        found[f"worker {i}"] = own = {**common, "DMLC_ROLE": "worker", "DMLC_WORKER_ID": str(i)}
        if gpus:
            own["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
        if threads or not gpus:
            own["OMP_NUM_THREADS"] = threads or str(max(1, cores // num_workers))
    return found


def command_of(command, rank):
    """A worker's command: the same for all, but that papermill's output notebooks get names of their own."""
    notebooks = [i for i, word in enumerate(command) if word.endswith(".ipynb")]
    if rank == 0 or len(notebooks) < 2:
        return command
    path = pathlib.Path(command[notebooks[1]])
    return [
        *command[: notebooks[1]],
        str(path.with_name(f"{path.stem}_worker_{rank}.ipynb")),
        *command[notebooks[1] + 1 :],
    ]


def visible_gpus():
    """Names of the GPUs that MXNet can see here."""
    import mxnet as mx

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(mx.context.num_gpus())]


def _start(name, command, environment):
    """A process whose lines are shown behind its name."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )  # Ctrl-C is for us

    def show():
        for line in process.stdout:
            print(f"{name}| {line}", end="", flush=True)

    process.shown = threading.Thread(target=show, daemon=True)
    process.shown.start()
    return process


def _wait(processes):
    """Wait for the workers, or until anybody has failed; the exit code."""
    workers = [process for name, process in processes.items() if name.startswith("worker")]
    while any(process.poll() is None for process in workers):
        if any(process.poll() for process in processes.values()):
            break
        time.sleep(0.1)
    failed = next((process for process in processes.values() if process.poll()), None)
    _end(processes.values(), PATIENCE)
    for process in processes.values():
        process.shown.join(5)
    code = (
        failed.returncode
        if failed
        else next((process.returncode for process in workers if process.returncode), 0)
    )
    return 128 - code if code < 0 else code


def _end(processes, patience):
    """Let processes end by themselves; then ask them to, then make them."""
    for wish in (lambda process: None, subprocess.Popen.terminate, subprocess.Popen.kill):
        for process in processes:
            if process.poll() is None:
                wish(process)
        until = time.monotonic() + patience
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            time.sleep(0.1)


def main(arguments=None):
    """The exit code of the workers' commands: the first one's that failed, or 0."""
    parser = argparse.ArgumentParser(
        prog="python -m d2lvae.distributed",
        usage="%(prog)s [--workers N] [--servers N] -- COMMAND",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("--workers", type=int, help="how many; by default one for each GPU, or two")
    parser.add_argument(
        "--servers",
        type=int,
        default=1,
        help="how many processes add up the gradients (default: 1)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    given = parser.parse_args(arguments)
    command, gpus = given.command[given.command[:1] == ["--"] :], visible_gpus()
    workers = len(gpus) or 2 if given.workers is None else given.workers
    if not command or workers < 1 or given.servers < 1:
        parser.error("give a command behind --, and at least one worker and one server")
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    processes, before = (
        {},
        {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
    )
    try:
        for name, environment in environments(
            workers, given.servers, free_port(), gpus, cores, threads.GIVEN
        ).items():
            role, _, number = name.partition(" ")
            own = (
                command_of(command, int(number))
                if role == "worker"
                else [sys.executable, "-m", "d2lvae.distributed"]
            )
            processes[name] = _start(name, own, environment)
        signal.signal(
            signal.SIGINT, lambda number, frame: processes["worker 0"].send_signal(number)
        )  # who tells the others
        signal.signal(
            signal.SIGTERM,
            lambda number, frame: [process.terminate() for process in processes.values()],
        )
        return _wait(processes)
    except OSError as error:
        print(f"{command[0]}: {error.strerror or error}", file=sys.stderr)
        return 127
    finally:
        _end(processes.values(), 0)
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
