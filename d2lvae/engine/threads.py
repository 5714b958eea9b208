"""Processor threads: how many this process may use, and whether it gets them.

They are settled before `import mxnet`.
"""

import contextlib
import importlib.util
import os
import pathlib
import re
import sys
import time

VARIABLES = ("OMP_NUM_THREADS", "MXNET_CPU_WORKER_NTHREADS")
ONE_THREAD = "NaiveEngine"  # as MXNet calls it
MOST = 1024  # threads that anybody may ask for
GIVEN = os.environ.get("OMP_NUM_THREADS", "").strip()  # as the user has set it, before `settle`


class ThreadsError(ValueError):
    """OMP_NUM_THREADS is not a number of threads; the message says what it may be."""


def settle():
    """Choose MXNet's threads: one operator at a time, each on all cores.

    Where there are many cores it is half of them, at most 8.  Convolutions and large dense layers
    gain more from that than from two operators at a time on one core each; the small nets for
    digits hardly care.  OMP_NUM_THREADS stays as it is if the user has set it; of a list for nested
    regions (`4,2`) the first number counts.  One worker is needed in any case: MXNet 1.9 writes
    BatchNorm's running statistics without telling its other workers.
    ThreadsError if OMP_NUM_THREADS is not a whole number from 1 to 1024, or a list of them.
    """
    cores = usable_cores()
    given = os.environ.get("OMP_NUM_THREADS", "").strip()
    numbers = (
        [part.strip() for part in given.split(",")]
        if given
        else [str(min(cores, max(2, cores // 2), 8))]
    )
    if not all(re.fullmatch("[0-9]{1,4}", part) and 1 <= int(part) <= MOST for part in numbers):
        raise ThreadsError(
            f"OMP_NUM_THREADS must be a whole number from 1 to {MOST}, or a list such as 4,2; "
            f"found {given!r}. For example: OMP_NUM_THREADS={min(cores, 2)}, or unset it"
        )
    os.environ["OMP_NUM_THREADS"] = str(int(numbers[0]))
    os.environ["MXNET_CPU_WORKER_NTHREADS"] = "1"
    _choose_engine()
    if "numba" not in sys.modules:  # the optimiser shares MXNet's threads, if it is in their thread
        alone = os.environ.get("MXNET_ENGINE_TYPE") == ONE_THREAD
        os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] if alone else "1"


def _choose_engine():
    """MXNet computes in the thread that calls it, without GPUs and other workers to wait for.

    MXNet's usual engine has a thread of its own: with Python's and OpenMP's that is one more than
    two cores have, and they wait for each other.  OpenMP's threads then spin only briefly before
    they sleep, as they do by themselves where there are more threads than cores.  Two that spin for
    long can stay on one core beside a busy program on the other; asleep, they are woken where there
    is room.  benchmarks/neighbours.py measures both.

    What the user has set stays.  A program whose threads call MXNet at the same time, or an MXNet
    for GPUs that is not called mxnet-cu..., needs MXNET_ENGINE_TYPE=ThreadedEnginePerDevice.
    """
    if "DMLC_ROLE" in os.environ:  # whose launcher may have chosen for itself
        if os.environ.get("MXNET_ENGINE_TYPE") == ONE_THREAD:
            del os.environ["MXNET_ENGINE_TYPE"]
    elif not _for_gpus() and os.environ.setdefault("MXNET_ENGINE_TYPE", ONE_THREAD) == ONE_THREAD:
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _for_gpus():
    """Whether the MXNet that is installed was built for GPUs, such as mxnet-cu112."""
    found = importlib.util.find_spec("mxnet")
    return bool(found) and any(pathlib.Path(found.origin).parents[1].glob("mxnet_cu*.dist-info"))


@contextlib.contextmanager
def engine_unannounced():
    """In this block MXNet's engine starts, but does not write its name to stderr."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed: nobody reads it
        yield
        return
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        with open(reading, "rb") as written:
            for line in written:
                if b"MXNet start using engine" not in line:
                    os.write(2, line)


def settings():
    """This process's thread settings, recorded with a run: the sums' rounding depends on them."""
    return {name: os.environ.get(name, "") for name in VARIABLES}


def usable_cores(root="/"):
    """Cores that this process may use, at least one.

    The fewest of its affinity and of a container's quotas of processor time, in whole cores.
    `root` is where the system's files are; for tests.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min([cores, *(int(quota) for quota in _quotas(pathlib.Path(root)))]))


def _quotas(root):
    """Every quota of processor time, in cores, that is set for this process or above it.

    Control groups, version 1 or 2, set it.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("" if not controllers else "cpu")
        group = top / place.lstrip("/")
        for folder in [group, *group.parents]:
            if controllers:
                quota, period = (
                    _text(folder / "cpu.cfs_quota_us"),
                    _text(folder / "cpu.cfs_period_us"),
                )
            else:
                quota, _, period = _text(folder / "cpu.max").partition(" ")
            if quota.strip().isdigit() and period.strip().isdigit() and int(period):
                yield int(quota) / int(period)
            if folder == top:
                break


def _text(path):
    """What a file of the system holds; nothing where there is none, as outside Linux."""
    try:
        return path.read_text()
    except OSError:
        return ""


def seconds_waited(root="/", pid="self"):
    """Seconds that a process's threads were ready to run and were kept waiting, since it began.

    By default this process's.  It is 0 where Linux does not tell.
    """
    waited = [
        _text(task / "schedstat").split()
        for task in (pathlib.Path(root) / f"proc/{pid}/task").glob("*")
    ]
    return sum(int(numbers[1]) for numbers in waited if len(numbers) == 3) / 1e9


class Neighbours:
    """Notices, epoch by epoch, that other programs take the processor from this one.

    Threads of OpenMP spin while they wait for each other: beside a busy neighbour two threads may
    be several times slower than one.
    """

    # Of an epoch; of its time (benchmarks/neighbours.py measures it).
    LEAST_SECONDS, MUCH = 2.0, 0.5

    def __init__(self, clock=time.monotonic, waited=seconds_waited):
        self.clock, self.waited, self.said = clock, waited, False
        self.began = clock(), waited()

    def advice(self):
        """What to do, once, if threads were kept waiting since the last call; else ''."""
        (then, before), self.began = self.began, (self.clock(), self.waited())
        seconds, share = (
            self.began[0] - then,
            (self.began[1] - before) / max(self.began[0] - then, 1e-9),
        )
        threads = settings()["OMP_NUM_THREADS"]
        if self.said or threads in ("", "1") or seconds < self.LEAST_SECONDS or share < self.MUCH:
            return ""
        self.said = True
        return (
            f"note: other programs are busy, and kept this one's {threads} threads waiting "
            f"{share:.0%} of the time. One thread may be faster: OMP_NUM_THREADS=1."
        )
