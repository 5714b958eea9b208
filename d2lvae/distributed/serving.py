"""Being the scheduler or a server, which MXNet's library does; it is ended when a worker has.

By itself it would wait for ever for the dead, though its heartbeats (of ps-lite) tell of them.
"""

import ctypes
import os
import sys
import threading
import time

from .cluster import DistributedError, cluster, settle

__all__ = ["serve"]

WATCHED = {"scheduler": 2 + 4, "server": 1}  # workers and servers; the scheduler, as MXNet numbers


def serve():
    """Be the scheduler or a server, as DMLC_ROLE says, until the training is over: never returns.

    Raises
    ------
    DistributedError
        This is a notebook or another program.
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
    base.check_call(base._LIB.MXKVStoreRunServer(store.handle, ignore, None))


def _watch(group, store, base):
    """End this process when somebody whom it needs has fallen silent, or has never come."""

    def silent(seconds):
        """How many have sent no heartbeat for so long; nobody until all have met."""
        number = ctypes.c_int()
        arguments = store.handle, WATCHED[group.role], ctypes.byref(number), seconds
        base.check_call(base._LIB.MXKVStoreGetNumDeadNode(*arguments))
        return number.value

    until, have_met, message = time.monotonic() + group.meeting, False, ""
    while not message:
        time.sleep(2)  # the library must have begun before it may be asked
        have_met = have_met or silent(-1) > 0  # for less than no time everybody has been
        if have_met and silent(group.silence):
            whom = "a worker or server" if group.role == "scheduler" else "the scheduler"
            message = f"{whom} has ended, or was silent for {group.silence} s: so this ends, too"
        elif not have_met and time.monotonic() > until:
            wanted = f"{group.workers} worker(s) and {group.servers} server(s)"
            message = f"of {wanted} not all have come within {group.meeting} s"
    try:
        print(f"{group.role}: {message}", file=sys.stderr, flush=True)
    finally:  # the main thread is somewhere in MXNet
        os._exit(0 if have_met else 1)
