"""The process group of several workers, each with its shard of every minibatch.

All that they exchange is one sum: :meth:`Workers.allreduce`.  It goes over MXNet's parameter
server: without an optimiser a server keeps, of what all workers push, the sum, which they pull.
"""

import atexit
import contextlib
import ctypes
import json
import os
import queue
import sys
import threading

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from ..config import ParameterError
from ..engine.process_group import ProcessGroup
from .cluster import DistributedError, cluster, settle
from .rollcall import Member

__all__ = ["Workers", "joined", "workers"]


_joined = None  # the process group of this process: MXNet connects once


class Workers(ProcessGroup):
    """Several workers and MXNet's parameter server.

    MXNet's calls run in a thread of their own, since they may wait for ever for a worker or a server that has died; the caller
    meanwhile listens to the roll call.
    """

    def __init__(self, member, group):
        self.member, self.size, self.wanted, self.bytes_moved = member, group.workers, 0.0, 0
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
        ids = self.allgather(os.environ.get("DMLC_WORKER_ID"))
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
        """Replace each NDArray of a list, on every worker, by its sum over the workers."""
        wish = mx.nd.array([self.stop_requested is not None and self.stop_requested.is_set()])
        if not self.counts:
            for array in arrays:
                array[:] = 0
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
        """Whether anybody wanted to stop at the last sum; the same answer for all."""
        return self.wanted > 0

    def shard(self, num_images):
        """This worker's images of a minibatch, as a slice; the first workers' may be one larger.

        With fewer images than workers some only stand in, with an image that does not count.
        """
        size, more = divmod(num_images, self.size)
        start = self.rank * size + min(self.rank, more)
        stop = start + size + (self.rank < more)
        self.counts = stop > start
        return slice(start, stop) if self.counts else slice(0, 1)

    def allgather(self, value):
        """What each worker has, a list by rank; anything that JSON can hold."""
        self.counts = True
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

    def broadcast(self, arrays):
        """Rank 0's arrays, by name; the others give arrays of the same names and shapes."""
        found = {}
        for name, array in arrays.items():  # one by one: equal shapes use one room on the server
            found[name] = mx.nd.array(array if self.rank == 0 else np.zeros_like(array))
            self.allreduce([found[name]])
        return {name: array.asnumpy() for name, array in found.items()}

    def _leave(self):
        """At the end of the process: say good-bye; where MXNet would wait for the dead, end at once."""
        if self.member.trouble or self.is_waiting:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):  # nobody may be there to read it
                    stream.flush()
            os._exit(1)
        self.store = None  # MXNet's threads end
        self.member.leave()


def workers():
    """The process group of this process; the same one from the first call on.

    Raises
    ------
    DistributedError
        A DMLC_* variable is missing or wrong.
    """
    global _joined
    if _joined is None:
        group = cluster()
        settle(group)
        _joined = Workers(Member(group), group)
    return _joined


@contextlib.contextmanager
def joined(kept=lambda: ""):
    """The process group, connected, in a block that all its workers go through together.

    If it fails here, the others are told.

    Parameters
    ----------
    kept : callable
        What is left to go on from, in words.

    Raises
    ------
    DistributedError
        Somebody has not come, or has died.
    """
    group = workers()
    try:
        group.connect()
        yield group
    except DistributedError as error:
        raise DistributedError(
            f"{error}. Start all processes anew, with -p resume True to go on from the last "
            f"checkpoint ({kept()})"
        ) from None
    except BaseException as error:
        group.member.leave(f"{type(error).__name__}: {error}")
        raise
    finally:
        group.stop_requested = None
