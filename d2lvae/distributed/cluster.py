"""What the environment says about the processes that train together: the DMLC_* variables of MXNet's parameter server.

Nothing here imports mxnet, which never returns where DMLC_ROLE is 'server' or 'scheduler'.
"""

import os
import socket
import typing

from ..storage.errors import DistributedError

__all__ = ["DistributedError", "Cluster", "cluster", "settle"]

SERVING = ("scheduler", "server")
HOW = "docs/distributed.md shows how; on one machine `python -m d2lvae.distributed --workers 2 -- COMMAND` sets all of them"


class Cluster(typing.NamedTuple):
    """What the environment says about the processes that train together."""

    role: str  # 'worker', 'server' or 'scheduler'
    host: str  # the scheduler's address
    port: int  # where MXNet's scheduler listens
    roll_call_port: int
    workers: int  # how many there are
    servers: int
    join_seconds: float  # how long the next one may be waited for


def cluster(environment=os.environ):
    """Read DMLC_ROLE, DMLC_PS_ROOT_URI, DMLC_PS_ROOT_PORT, DMLC_NUM_WORKER and DMLC_NUM_SERVER.

    D2LVAE_ROLL_CALL_PORT is DMLC_PS_ROOT_PORT + 1 if it is not set, D2LVAE_JOIN_SECONDS 300.

    Parameters
    ----------
    environment : mapping of str

    Returns
    -------
    Cluster

    Raises
    ------
    DistributedError
        Naming the variable that is missing or wrong.
    """

    def number(name, default=None):
        text = environment.get(name) or default
        try:
            value = int(text)
        except (TypeError, ValueError):
            value = 0
        if value < 1 or (name.endswith("PORT") and value > 65_534):
            what = (
                "a port from 1 to 65534"
                if name.endswith("PORT")
                else "a whole number of at least 1"
            )
            raise DistributedError(
                f"kvstore 'dist_sync' needs {name}, {what}, in the environment; found {text!r}. {HOW}"
            )
        return value

    role, host = environment.get("DMLC_ROLE"), environment.get("DMLC_PS_ROOT_URI")
    if role not in ("worker", *SERVING):
        raise DistributedError(
            f"kvstore 'dist_sync' needs DMLC_ROLE, 'worker' for a notebook, in the environment; found {role!r}. {HOW}"
        )
    if not host:
        raise DistributedError(
            f"kvstore 'dist_sync' needs DMLC_PS_ROOT_URI, the scheduler's address, in the environment; found {host!r}. {HOW}"
        )
    try:
        host = socket.gethostbyname(host)
    except OSError as error:
        raise DistributedError(
            f"DMLC_PS_ROOT_URI is {host!r}, which has no address ({error}): give the scheduler's address"
        ) from None
    port = number("DMLC_PS_ROOT_PORT")
    return Cluster(
        role,
        host,
        port,
        number("D2LVAE_ROLL_CALL_PORT", port + 1),
        number("DMLC_NUM_WORKER"),
        number("DMLC_NUM_SERVER"),
        number("D2LVAE_JOIN_SECONDS", 300),
    )


def settle(group):
    """Set what MXNet reads: the scheduler's address as a number, this machine's as it is seen from there, and no PORT of somebody else's."""
    os.environ["DMLC_PS_ROOT_URI"] = group.host
    os.environ.pop("PORT", None)  # MXNet would listen there
    if "DMLC_NODE_HOST" not in os.environ and "DMLC_INTERFACE" not in os.environ:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((group.host, group.port))  # sends nothing
            os.environ["DMLC_NODE_HOST"] = probe.getsockname()[0]
