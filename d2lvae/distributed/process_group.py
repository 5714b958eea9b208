"""The workers that train one model together, each on its share of every minibatch.

All that they exchange is one sum: :meth:`Team.allreduce`.  It goes over MXNet's parameter server: without an optimiser a server keeps,
of what all workers push, the sum, which they then pull.
"""

import atexit
import contextlib
import ctypes
import json
import os
import queue
import sys
import threading
import typing

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from ..config import ParameterError
from .cluster import DistributedError, cluster, settle
from .rollcall import Member

__all__ = ["Share", "Team", "ALONE", "joined", "workers"]


class Share(typing.NamedTuple):
    """Which images of a minibatch are one worker's."""

    whole: int  # images of the minibatch
    start: int
    stop: int
    counts: bool = True  # False: there are fewer images than workers, and this one only stands in


class Team:
    """The workers of a training, as one of them sees it; this class is of one alone.

    Attributes
    ----------
    rank, size : int
        Which of how many; rank 0 alone writes.
    wish : threading.Event or None
        Set when this worker's user wants to stop.
    bytes_moved : int
        What this worker has pushed and pulled.
    """

    rank, size, wish, bytes_moved = 0, 1, None, 0

    def connect(self):
        """Meet the others."""

    def allreduce(self, arrays):
        """Replace each of a list of NDArrays, on every worker, by the sum over the workers."""

    def is_stopping(self):
        """Whether anybody wanted to stop at the last sum; the same answer for all."""
        return self.wish is not None and self.wish.is_set()

    def share(self, num_images):
        """This worker's part of a minibatch: contiguous, the first ones a image larger where it does not divide."""
        size, more = divmod(num_images, self.size)
        start = self.rank * size + min(self.rank, more)
        stop = start + size + (self.rank < more)
        return Share(num_images, start, stop) if stop > start else Share(num_images, 0, 1, False)

    def total(self, numbers):
        """The sum over the workers of an array of numbers, in float64 (MXNet's servers round those to float32)."""
        return np.sum(self.gather(np.asarray(numbers, np.float64).tolist()), axis=0)

    def gather(self, value):
        """What each worker has, a list by rank; anything that JSON can hold."""
        if self.size == 1:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        [lengths] = self._rows([len(text)]).T
        width = -(-lengths.max() // 1024) * 1024  # few different ones, as the servers keep each
        rows = self._rows(np.pad(text, (0, width - len(text))))
        return [
            json.loads(row[:length].astype(np.uint8).tobytes())
            for row, length in zip(rows, lengths)
        ]

    def _rows(self, numbers):
        """All workers' numbers, whole ones below 2 ** 24, as rows of a table."""
        table = np.zeros((self.size, len(numbers)), np.float32)
        table[self.rank] = numbers
        table = mx.nd.array(table)
        self.allreduce([table])
        return table.asnumpy().astype(int)

    def arrays_of_first(self, arrays):
        """Rank 0's arrays, by name; the others give arrays of the same names and shapes."""
        if self.size == 1:
            return arrays
        found = {}
        for (
            name,
            array,
        ) in arrays.items():  # one by one: equal shapes use the same room on the server
            found[name] = mx.nd.array(array if self.rank == 0 else np.zeros_like(array))
            self.allreduce([found[name]])
        return {name: array.asnumpy() for name, array in found.items()}


ALONE = Team()
_joined = None  # the team of this process: MXNet connects once


class Workers(Team):
    """Several workers and MXNet's parameter server.

    MXNet's calls run in a thread of their own, since they may wait for ever for a worker or a server that has died; the caller
    meanwhile listens to the roll call.
    """

    def __init__(self, member, group):
        self.member, self.size, self.wanted = member, group.workers, 0.0
        self.jobs, self.is_waiting, self.store, self.keys = queue.Queue(), False, None, set()
        threading.Thread(target=self._work, daemon=True).start()
        atexit.register(self._leave)

    def connect(self):
        """Meet the others, who may come later."""
        if self.store is None:
            self._in_time(self._create)
            self.rank = self._rank()

    def _create(self):
        self.store = mx.kv.create("dist_sync")
        check_call(
            _LIB.MXKVStoreSetBarrierBeforeExit(self.store.handle, ctypes.c_int(0))
        )  # who has died would not come to it
        self.rank = self.store.rank

    def _rank(self):
        """This worker's rank: DMLC_WORKER_ID where it is set, else as MXNet counts."""
        ids = self.gather(os.environ.get("DMLC_WORKER_ID"))
        if not any(ids):
            return self.rank
        if sorted(map(str, ids)) != sorted(map(str, range(self.size))):
            raise ParameterError(
                f"DMLC_WORKER_ID must be 0 to {self.size - 1}, each on one worker, or be set nowhere; found {ids}"
            )
        return int(ids[self.rank])

    def _work(self):
        while True:
            job, outcome, done = self.jobs.get()
            try:
                job()
            except Exception as error:  # to be raised where it is waited for
                outcome.append(error)
            done.set()

    def _in_time(self, job):
        """Have a job done, or raise DistributedError when the roll call says that it will never be."""
        self.member.check()
        outcome, done = [], threading.Event()
        self.is_waiting = True
        self.jobs.put((job, outcome, done))
        while not done.wait(0.5):
            self.member.check()
        self.is_waiting = False
        if outcome:
            raise outcome[0]

    def allreduce(self, arrays):
        """Replace each of a list of NDArrays, on every worker, by the sum over the workers."""
        wish = mx.nd.array([self.wish is not None and self.wish.is_set()])
        arrays = [*arrays, wish]
        keys = [
            f"{place}_{array.dtype.__name__}_{'x'.join(map(str, array.shape))}"
            for place, array in enumerate(arrays)
        ]

        def job():
            new = [(key, array) for key, array in zip(keys, arrays) if key not in self.keys]
            if new:
                self.store.init([key for key, _ in new], [array.zeros_like() for _, array in new])
                self.keys.update(key for key, _ in new)
            self.store.push(keys, arrays)
            self.store.pull(keys, out=arrays)
            for array in arrays:
                array.wait_to_read()

        self._in_time(job)
        self.bytes_moved += 2 * sum(array.size * np.dtype(array.dtype).itemsize for array in arrays)
        self.wanted = wish.asscalar()

    def is_stopping(self):
        return self.wanted > 0

    def _leave(self):
        """At the end of the process: say good-bye; where MXNet would wait for the dead, end at once."""
        if self.member.trouble or self.is_waiting:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):  # nobody may be there to read it
                    stream.flush()
            os._exit(1)
        self.store = None  # MXNet's threads end
        self.member.leave()


def workers(kvstore):
    """The team that `kvstore` asks for; the same one from the first call on.

    Raises
    ------
    ParameterError
        `kvstore` and DMLC_ROLE contradict each other.
    DistributedError
        A DMLC_* variable is missing or wrong.
    """
    global _joined
    if kvstore == "local":
        if os.environ.get("DMLC_ROLE"):
            raise ParameterError(
                f"kvstore is 'local', but DMLC_ROLE is {os.environ['DMLC_ROLE']!r} in the environment, as for one of several "
                "workers: give -p kvstore dist_sync, or unset DMLC_ROLE"
            )
        return ALONE
    if _joined is None:
        group = cluster()
        settle(group)
        _joined = Workers(Member(group), group)
    return _joined


@contextlib.contextmanager
def joined(kvstore):
    """The team, connected, in a block that all its workers go through together: if it fails here, the others are told.

    Raises
    ------
    DistributedError
        Somebody has not come, or has died.
    """
    team = workers(kvstore)
    try:
        team.connect()
        yield team
    except DistributedError:
        raise
    except BaseException as error:
        if team is not ALONE:
            team.member.leave(f"{type(error).__name__}: {error}")
        raise
    finally:
        team.wish = None
