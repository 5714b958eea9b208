"""Who this process is, by MXNet's DMLC_* variables; and being the scheduler or a server.

MXNet's library does what those do.  By itself it would wait for ever for the dead, though its
heartbeats (ps-lite's) tell of them.  Here mxnet is imported late: where DMLC_ROLE is 'server' or
'scheduler', its import never returns.
"""

import ctypes
import os
import socket
import sys
import threading
import time
from collections import namedtuple

from ..storage.errors import DistributedError

RULES = {  # by variable: what it is, and what it may be
    "DMLC_ROLE": ("'worker' for a notebook", ("worker", "server", "scheduler")),
    "DMLC_PS_ROOT_URI": ("the scheduler's address", None),
    "DMLC_PS_ROOT_PORT": ("a port from 1 to 65535", range(1, 65_536)),
    "DMLC_NUM_WORKER": ("a whole number of at least 1", range(1, 10**6)),
    "DMLC_NUM_SERVER": ("a whole number of at least 1", range(1, 10**6)),
    "D2LVAE_TIMEOUT": ("a whole number of seconds, 60 if it is not set", range(1, 10**6)),
}
WATCHED = {"scheduler": 2 + 4, "server": 1}  # workers and servers; the scheduler, as MXNet numbers
# Their values, and in seconds: how long all may take to meet, and one may send no heartbeat.
Cluster = namedtuple("Cluster", "role host port workers servers timeout meeting silence")


def cluster(environment=os.environ):
    """Read the variables above, in a mapping of str, as a Cluster.

    Raises DistributedError, which names the variable that is missing or wrong.
    """
    values = []
    for name, (what, allowed) in RULES.items():
        text = environment.get(name) or ("60" if name == "D2LVAE_TIMEOUT" else "")
        values.append(int(text) if isinstance(allowed, range) and text.isdecimal() else text)
        if not (values[-1] in allowed if allowed else text):
            raise DistributedError(
                f"kvstore 'dist_sync' needs {name}, {what}, in the environment; found "
                f"{environment.get(name)!r}. docs/distributed.md shows how; on one machine "
                "`python -m d2lvae.distributed --workers 2 -- COMMAND` sets all of them"
            )
    role, name, *numbers = values
    try:
        host = socket.gethostbyname(name)
    except OSError as error:
        message = f"DMLC_PS_ROOT_URI is {name!r}, which has no address ({error})"
        raise DistributedError(f"{message}: give the scheduler's address") from None
    return Cluster(role, host, *numbers, 5 * numbers[-1], min(15, numbers[-1]))


def settle(group):
    """Set what MXNet reads: both addresses as numbers, and heartbeats every second.

    This machine's address is the one seen from the scheduler's.  A PORT of somebody else's is
    taken away: MXNet would listen there.
    """
    os.environ.update(DMLC_PS_ROOT_URI=group.host, PS_HEARTBEAT_INTERVAL="1")
    os.environ.pop("PORT", None)
    if "DMLC_NODE_HOST" not in os.environ and "DMLC_INTERFACE" not in os.environ:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((group.host, group.port))  # sends nothing
            os.environ["DMLC_NODE_HOST"] = probe.getsockname()[0]


def serve():
    """Be the scheduler or a server, as DMLC_ROLE says, until the training is over: never returns.

    Raises DistributedError if this is a notebook or another program.
    """
    role = os.environ["DMLC_ROLE"]
    if role not in WATCHED or sys.argv[0] != "-m":  # as python -m has it while it looks for us
        raise DistributedError(
            f"DMLC_ROLE is {role!r} in the environment of this process. A notebook or script that "
            "trains with others has 'worker', any other none; the scheduler and the servers are "
            "started with python -m d2lvae.distributed"
        )
    try:
        settle(group := cluster())
    except DistributedError as error:
        sys.exit(f"{role}: {error}")
    del os.environ["DMLC_ROLE"]  # or mxnet would serve at its import, and run any pickled command
    from mxnet import base, kvstore

    os.environ["DMLC_ROLE"] = role
    store = kvstore.create("dist_sync")
    threading.Thread(target=_watch, args=(group, store, base), daemon=True).start()
    controller = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    ignore = controller(lambda *command: None)
    sys.exit(base.check_call(base._LIB.MXKVStoreRunServer(store.handle, ignore, None)))


def _watch(group, store, base):
    """End this process when somebody whom it needs has fallen silent, or has never come."""

    def silent(seconds):  # how many have sent no heartbeat for so long; nobody until all have met
        number = ctypes.c_int()
        arguments = store.handle, WATCHED[group.role], ctypes.byref(number), seconds
        base.check_call(base._LIB.MXKVStoreGetNumDeadNode(*arguments))
        return number.value

    until, have_met = time.monotonic() + group.meeting, False
    while not have_met and time.monotonic() < until:
        time.sleep(2)  # the library must have begun before it may be asked
        have_met = silent(-1) > 0  # for less than no time everybody has been
    said = f"not {group.workers} worker(s) and {group.servers} server(s) within {group.meeting} s"
    if have_met:
        whom = "a worker or server" if group.role == "scheduler" else "the scheduler"
        said = f"{whom} has ended, or was silent for {group.silence} s"
        time.sleep(group.silence)  # the first heartbeats are on their way
        while not silent(group.silence):
            time.sleep(2)
    try:
        print(f"{group.role}: {said}: so this ends, too", file=sys.stderr, flush=True)
    finally:  # the main thread is somewhere in MXNet
        os._exit(0 if have_met else 1)
