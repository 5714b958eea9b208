"""The processes that train one net together; here, the group of one."""

import os

from ..storage.errors import ParameterError


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
        """This process's part of a minibatch, as a slice; and of how many images gradients are."""
        return slice(0, num_images), num_images

    def add_up(self, gradients):
        """Replace each NDArray of a list by its sum over the processes."""

    def average(self, trainers, epoch_is_over=False):
        """With local steps: replace what each process has learned by itself by the mean.

        Called after each step, and after each epoch for the optimisers' moments, too.  `trainers`
        is a dict of :class:`d2lvae.engine.adam.Adam`.
        """

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


def process_group(config, kept):
    """The group that a run's parameters ask for.

    `config.kvstore` is 'local', or 'dist_sync' for several processes (:mod:`d2lvae.distributed`),
    of which each takes `local_steps` between two sums.  `kept()` says what is left to go on from,
    if one of them dies.  ParameterError for 'local' where DMLC_ROLE is set as for one of several,
    or there are local steps; DistributedError for 'dist_sync' where a DMLC_* variable is missing or
    wrong.
    """
    if config.kvstore == "dist_sync":
        from ..distributed.process_group import joined  # which one process alone never needs

        return joined(kept, config.local_steps)
    if config.local_steps > 1:
        raise ParameterError(
            f"local_steps is {config.local_steps}, but kvstore is 'local', and there is nobody to "
            "average with: give -p kvstore dist_sync, or leave local_steps out"
        )
    if os.environ.get("DMLC_ROLE"):
        raise ParameterError(
            f"kvstore is 'local', but DMLC_ROLE is {os.environ['DMLC_ROLE']!r} in the environment, "
            "as for one of several workers: give -p kvstore dist_sync, or unset DMLC_ROLE"
        )
    return SINGLE
