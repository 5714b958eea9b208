"""What the environment says about the processes that train together: MXNet's DMLC_* variables.

Nothing here imports mxnet, which never returns where DMLC_ROLE is 'server' or 'scheduler'.
"""

import os
import socket
import typing

from ..storage.errors import DistributedError

__all__ = ["Cluster", "cluster", "settle"]

RULES = {  # by variable: what it is, and its smallest and largest value if that is a number
    "DMLC_ROLE": ("'worker' for a notebook", None),
    "DMLC_PS_ROOT_URI": ("the scheduler's address", None),
    "DMLC_PS_ROOT_PORT": ("a port from 1 to 65535", 65_535),
    "DMLC_NUM_WORKER": ("a whole number of at least 1", 10**6),
    "DMLC_NUM_SERVER": ("a whole number of at least 1", 10**6),
    "D2LVAE_TIMEOUT": ("a whole number of seconds, 60 if it is not set", 10**6),
}


class Cluster(typing.NamedTuple):
    """What the environment says about the processes that train together."""

    role: str  # 'worker', 'server' or 'scheduler'
    host: str  # the scheduler's address
    port: int  # where the scheduler listens
    workers: int  # how many there are
    servers: int
    timeout: int  # seconds that an exchange may take
    meeting: int  # five times as many, for the others to come to a training
    silence: int  # seconds without a heartbeat after which a process has ended


def cluster(environment=os.environ):
    """Read the variables above from a mapping of str.

    Returns
    -------
    Cluster

    Raises
    ------
    DistributedError
        Naming the variable that is missing or wrong.
    """
    values = []
    for name, (what, most) in RULES.items():
        text = environment.get(name) or ("60" if name == "D2LVAE_TIMEOUT" else "")
        is_number = text.isdigit() and 1 <= int(text) <= (most or 0)
        is_role = name != "DMLC_ROLE" or text in ("worker", "server", "scheduler")
        if not (is_number if most else text and is_role):
            raise DistributedError(
                f"kvstore 'dist_sync' needs {name}, {what}, in the environment; found "
                f"{environment.get(name)!r}. docs/distributed.md shows how; on one machine "
                "`python -m d2lvae.distributed --workers 2 -- COMMAND` sets all of them"
            )
        values.append(int(text) if most else text)
    role, name, *numbers = values
    try:
        host = socket.gethostbyname(name)
    except OSError as error:
        raise DistributedError(
            f"DMLC_PS_ROOT_URI is {name!r}, which has no address ({error}): "
            "give the scheduler's address"
        ) from None
    return Cluster(role, host, *numbers, 5 * numbers[-1], min(15, numbers[-1]))


def settle(group):
    """Set what MXNet reads.

    The scheduler's address as a number, this machine's as it is seen from there, heartbeats every
    second, and no PORT of somebody else's, where MXNet would listen.
    """
    os.environ.update(DMLC_PS_ROOT_URI=group.host, PS_HEARTBEAT_INTERVAL="1")
    os.environ.pop("PORT", None)
    if "DMLC_NODE_HOST" not in os.environ and "DMLC_INTERFACE" not in os.environ:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((group.host, group.port))  # sends nothing
            os.environ["DMLC_NODE_HOST"] = probe.getsockname()[0]
