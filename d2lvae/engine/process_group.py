"""The processes that train one net together; here, the group of one."""

import contextlib
import os

from ..storage.errors import ParameterError

__all__ = ["SINGLE", "ProcessGroup", "process_group"]


class ProcessGroup:
    """The processes that train together, as one of them sees it; of this class there is one alone.

    Attributes
    ----------
    rank, size : int
        Which of how many; rank 0 alone writes files.
    counts : bool
        Whether the last shard's images are its own; else it only stands in.
    stop_requested : threading.Event or None
        Set while training, as soon as Ctrl-C is pressed.
    """

    rank, size, counts, stop_requested = 0, 1, True, None

    def shard(self, num_images):
        """This process's part of a minibatch, as a slice."""
        return slice(0, num_images)

    def allreduce(self, arrays):
        """Replace each NDArray of a list by its sum over the processes."""

    def allgather(self, value):
        """What each process has, a list by rank; anything that JSON can hold."""
        return [value]

    def broadcast(self, arrays):
        """Rank 0's numpy arrays, by name."""
        return arrays

    def is_stopping(self):
        """Whether Ctrl-C has been pressed in any of the processes; the same answer in all."""
        return self.stop_requested is not None and self.stop_requested.is_set()


SINGLE = ProcessGroup()


def process_group(kvstore, kept):
    """The group that `kvstore` asks for, in a block.

    Parameters
    ----------
    kvstore : str
        'local', or 'dist_sync' for several processes (:mod:`d2lvae.distributed`).
    kept : callable
        Says what is left to go on from, if one of several processes dies.

    Raises
    ------
    ParameterError
        'local', and DMLC_ROLE is set as for one of several.
    DistributedError
        With 'dist_sync': a DMLC_* variable is missing or wrong.
    """
    if kvstore == "dist_sync":
        from ..distributed.process_group import joined  # which one process alone never needs

        return joined(kept)
    if os.environ.get("DMLC_ROLE"):
        raise ParameterError(
            f"kvstore is 'local', but DMLC_ROLE is {os.environ['DMLC_ROLE']!r} in the environment, "
            "as for one of several workers: give -p kvstore dist_sync, or unset DMLC_ROLE"
        )
    return contextlib.nullcontext(SINGLE)
