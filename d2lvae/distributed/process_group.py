"""The process group of several workers, each with its shard of every minibatch.

All that they exchange are sums (:meth:`Workers.allreduce`), which MXNet's parameter server adds up.
"""

import atexit
import contextlib
import json
import multiprocessing.pool
import os
import sys
import time

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from ..engine.process_group import ProcessGroup
from ..storage.errors import ParameterError
from .cluster import cluster, settle

_joined = None  # the process group of this process: MXNet connects once
ADVICE = (
    "somebody has not started, has died, hangs, runs another notebook, or cannot be reached (other "
    "DMLC_* variables, a firewall). Look at the others' output for who was the first to end. Start "
    "all processes anew, with -p resume True to go on from the last checkpoint"
)


class Workers(ProcessGroup):
    """Several workers and MXNet's parameter server.

    MXNet's calls run in a thread of their own: they may wait for ever for a worker or a server that
    has died.  Whoever waits longer than the time limit says so, and its process ends with code 1
    (an exception would come to some ``finally`` that waits for MXNet, too).
    """

    def __init__(self, group):
        self.cluster, self.size, self.limit, self.exchanges = group, group.workers, group.timeout, 0
        self.store, self.keys, self.wanted, self.name = None, set(), 0.0, "this worker"
        self.thread, self.kept = multiprocessing.pool.ThreadPool(1), str
        atexit.register(self._leave)

    def connect(self, kept=str, local_steps=1):
        """Meet the others, who may come later, for a training."""
        group, self.limit = self.cluster, self.cluster.meeting
        self.kept, self.local_steps, self.steps, self.stop_requested = kept, local_steps, 0, None
        if self.store is None:
            who = f"{group.servers} server(s) and {self.size} workers in all"
            where = f"to meet the scheduler at {group.host}:{group.port}, {who}"
            self._in_time(self._create, where)
        # a worker's rank is DMLC_WORKER_ID where it is set, else as MXNet counts
        ids = self.allgather(os.environ.get("DMLC_WORKER_ID"))
        if any(ids) and sorted(map(str, ids)) != sorted(map(str, range(self.size))):
            must = f"must be 0 to {self.size - 1}, each on one worker, or be set nowhere"
            raise ParameterError(f"DMLC_WORKER_ID {must}; found {ids}")
        self.rank, self.limit = int(ids[self.rank] or self.rank), group.timeout
        self.name = f"worker {self.rank} of {self.size}"

    def _create(self):
        self.store = mx.kv.create("dist_sync")
        # who has died would not come to a barrier at the end
        check_call(_LIB.MXKVStoreSetBarrierBeforeExit(self.store.handle, 0))
        self.rank = self.store.rank

    def _leave(self):
        self.store = None  # MXNet's threads end
        self.thread.terminate()

    def _in_time(self, job, purpose):
        """Have a job done within the time limit, or end this process."""
        start = time.monotonic()
        try:
            return self.thread.apply_async(job).get(self.limit)
        except (multiprocessing.TimeoutError, KeyboardInterrupt):
            waited = f"{time.monotonic() - start:.0f} s (D2LVAE_TIMEOUT is {self.cluster.timeout})"
        with contextlib.suppress(OSError, ValueError):  # nobody may be there to read it
            sys.stdout.flush()
            error = f"DistributedError: {self.name} has waited {waited} {purpose}: {ADVICE}"
            print(f"{error} ({self.kept()})", file=sys.stderr, flush=True)
            time.sleep(1)  # in a notebook it goes a longer way
        os._exit(1)

    def allreduce(self, arrays, what):
        """Replace each NDArray of a list, on every worker, by its sum over the workers.

        One key for each array, so that sums come back while others leave.  `what` they are is told
        if it takes longer than the time limit.
        """
        wish = mx.nd.array([self.stop_requested is not None and self.stop_requested.is_set()])
        arrays = [*arrays, wish]
        keys = [f"{i} {array.dtype.__name__} {array.shape}" for i, array in enumerate(arrays)]

        def job():
            for key, array in zip(keys, arrays):
                if key not in self.keys:
                    self.store.init(key, array.zeros_like())
                    self.keys.add(key)
            for i in reversed(range(len(keys))):  # the last layer's gradients are there first
                self.store.push(keys[i], arrays[i], priority=-i)
                self.store.pull(keys[i], out=arrays[i], priority=-i)
            for array in arrays:
                array.wait_to_read()

        self.exchanges += 1
        self._in_time(job, f"in exchange {self.exchanges}, of {what}")
        self.wanted = wish.asscalar()

    def add_up(self, gradients):
        """Replace gradients by their sums, but for local steps; of who only stands in by 0."""
        if not self.counts:
            for gradient in gradients:
                gradient[:] = 0
        if self.local_steps == 1:
            self.allreduce(gradients, "gradients")

    def average(self, trainers, epoch_is_over=False):
        """Replace the weights by their means after so many local steps, and after an epoch.

        Then the moments, too, so that all are alike, and go on from a checkpoint as if never ended.
        """
        self.steps += not epoch_is_over
        if self.local_steps == 1 or not (epoch_is_over or self.steps == self.local_steps):
            return
        self.steps = 0
        for trainer in trainers.values():
            moments = sum(trainer.moments, ()) if epoch_is_over else ()
            self.allreduce(arrays := [*trainer.weights, *moments], "weights")
            for array in arrays:
                array /= self.size

    def is_stopping(self):
        """Whether anybody wanted to stop at the last sum; the same answer for all."""
        return self.wanted > 0

    def shard(self, num_images):
        """This worker's images of a minibatch, as a slice, and the number that a step is for.

        The first workers' may be one larger.  With fewer images than workers some only stand in,
        with an image that does not count.
        """
        part = np.array_split(np.arange(num_images), self.size)[self.rank]
        self.counts = len(part) > 0
        shard = slice(part[0], part[-1] + 1) if self.counts else slice(0, 1)
        return shard, num_images if self.local_steps == 1 else max(1, len(part))

    def allgather(self, value):
        """What each worker has, a list by rank; anything that JSON can hold."""

        def rows(numbers):  # of all workers; they are whole and below 2 ** 24
            table = mx.nd.zeros((self.size, len(numbers)))
            table[self.rank] = numbers
            self.allreduce([table], "what each worker has to tell")
            return table.asnumpy().astype(int)

        text = json.dumps(value).encode()
        longest = rows([len(text)]).max()
        padded = text.ljust(-(-longest // 1024) * 1024)  # few sizes, as the servers keep each
        return [json.loads(bytes(row.tolist())) for row in rows(list(padded))]

    def broadcast(self, arrays):
        """Rank 0's arrays, by name; the others give arrays of the same names and shapes."""
        found = {}
        for name, array in arrays.items():  # one by one: equal shapes use one room on the server
            found[name] = mx.nd.array(array if self.rank == 0 else np.zeros_like(array))
            self.allreduce([found[name]], "worker 0's weights")
        return {name: array.asnumpy() for name, array in found.items()}


def joined(kept=str, local_steps=1):
    """The process group, connected, for a training that all its workers go through together.

    Parameters and errors are those of :func:`d2lvae.engine.process_group.process_group`.
    """
    global _joined
    if _joined is None:
        settle(group := cluster())
        _joined = Workers(group)
    _joined.connect(kept, local_steps)
    return _joined
