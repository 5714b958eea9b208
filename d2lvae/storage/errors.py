"""What can go wrong, in words that say what to do next.  Nothing here imports mxnet."""


class ParameterError(ValueError):
    """A parameter that is misspelt, of the wrong type or out of range; it says what is right."""


class RunError(RuntimeError):
    """A run that cannot begin or be recorded; the message says why and what to do."""


class RunBusy(RunError):
    """Another process is at work in the run's folder."""


class CheckpointError(ValueError):
    """A file of weights that cannot be used; the message names it and what to do."""


class DistributedError(RuntimeError):
    """A training of several processes that cannot go on; it says who is missing and what to do."""
