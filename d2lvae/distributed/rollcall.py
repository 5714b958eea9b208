"""Who takes part in a distributed training, and who has died: a roll call over TCP beside MXNet's parameter server.

The scheduler's process listens; every worker and server connects, says who it is and sends a sign of life every second.  Whoever
breaks off without a good-bye, or is silent for 20 seconds, has died, and all others are told.  (MXNet's own processes would wait for the
dead for ever.)  A message is a line of JSON.  Nothing here imports mxnet, which never returns where DMLC_ROLE is 'server' or 'scheduler'.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time

from .cluster import SERVING, DistributedError, cluster, settle

__all__ = ["Member", "serve_if_asked"]

BEAT, SILENCE = 1.0, 20.0  # seconds


class _Line:
    """One end of a connection: messages there and back."""

    def __init__(self, connection):
        connection.settimeout(SILENCE)
        self.connection, self.reader, self.lock = (
            connection,
            connection.makefile("r", encoding="utf-8"),
            threading.Lock(),
        )

    def send(self, kind, value=None):
        """Send a message; False if nobody is there any more."""
        try:
            with self.lock:
                self.connection.sendall((json.dumps([kind, value]) + "\n").encode())
            return True
        except OSError:
            return False

    def receive(self):
        """The next message, a pair.

        Raises
        ------
        ConnectionError
            Saying why there will be none.
        """
        try:
            text = self.reader.readline(100_000)
            kind, value = json.loads(text) if text else (None, None)
        except socket.timeout:
            raise ConnectionError(f"has not been heard of for {SILENCE:.0f} s") from None
        except OSError as error:
            raise ConnectionError(f"has died ({error.strerror or error})") from None
        except (ValueError, TypeError):
            raise ConnectionError("does not speak the roll call's language") from None
        if kind is None:
            raise ConnectionError("has died")
        return kind, value


def _start(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()


class _Listener:
    """The scheduler's side: who is here, who has left; calls `on_end` with the reason, or None, when the training is over."""

    def __init__(self, group, on_end):
        self.on_end, self.group, self.members, self.left = (
            on_end,
            group,
            {},
            0,
        )  # members: who each connection is
        self.wanted = {"worker": group.workers, "server": group.servers}
        self.joined, self.last_joined, self.lock = (
            {"worker": 0, "server": 0},
            time.monotonic(),
            threading.RLock(),
        )
        try:
            self.server = socket.create_server((group.host, group.roll_call_port), backlog=128)
        except OSError as error:
            sys.exit(
                f"scheduler: cannot listen at {group.host}:{group.roll_call_port} ({error.strerror or error}). DMLC_PS_ROOT_URI must be an "
                "address of this machine, and the port free; D2LVAE_ROLL_CALL_PORT sets another one"
            )
        _start(self.accept)
        _start(self.beat)

    def accept(self):
        while True:
            _start(self.attend, _Line(self.server.accept()[0]))

    def beat(self):
        """Signs of life to all, until somebody who should be here has not come."""
        while True:
            time.sleep(BEAT)
            self.tell("beat")
            if (
                self.joined != self.wanted
                and time.monotonic() - self.last_joined > self.group.join_seconds
            ):
                self.end(
                    f"{self.attendance()} joined, and nobody else within {self.group.join_seconds} s (D2LVAE_JOIN_SECONDS): "
                    "start the missing ones, or set DMLC_NUM_WORKER and DMLC_NUM_SERVER to how many there are"
                )

    def attendance(self):
        return " and ".join(
            f"{self.joined[role]} of {number} {role}s" for role, number in self.wanted.items()
        )

    def attend(self, line):
        """Listen to one process until its end."""
        try:
            kind, who = line.receive()
            if kind != "hello":
                return  # a stranger
            name = f"{who['name']} on {who['host']} (process {who['pid']})"
            with self.lock:
                refusal = self.refusal(who)
                if not refusal:
                    self.members[line] = name
                    self.joined[who["role"]] += 1
                    self.last_joined = time.monotonic()
        except (ConnectionError, TypeError, KeyError):
            return
        if refusal:
            line.send("trouble", refusal)
            return
        with self.lock:  # so that the last one told is the newest
            self.tell("attendance", self.attendance())
        try:
            while kind != "bye":
                kind, value = line.receive()
                if kind == "failed":
                    self.end(f"the {name} has stopped: {value}")
        except ConnectionError as error:
            self.end(f"the {name} {error}")
        with self.lock:
            del self.members[line]
            self.left += who["role"] == "worker"
        self.tell("left", f"the {name} has ended its part")
        if self.left == self.group.workers:
            self.end(None)

    def refusal(self, who):
        """Why a process may not take part, or None."""
        role = who["role"]
        if who["wanted"] != self.wanted:
            return (
                f"the scheduler waits for {self.wanted['worker']} worker(s) and {self.wanted['server']} server(s), this process for "
                f"{who['wanted']['worker']} and {who['wanted']['server']}: set DMLC_NUM_WORKER and DMLC_NUM_SERVER alike everywhere"
            )
        if self.joined[role] == self.wanted[role]:
            return (
                f"the scheduler at {self.group.host}:{self.group.port} has its {self.wanted[role]} {role}(s) already: end the earlier "
                "training, or give this one another DMLC_PS_ROOT_PORT"
            )
        return None

    def tell(self, kind, value=None):
        for line in list(self.members):
            line.send(kind, value)

    def end(self, trouble):
        """Tell all why it is over; None: because it is done."""
        with self.lock:
            self.tell("trouble" if trouble else "done", trouble)
            self.on_end(trouble)


class Member:
    """A worker's or a server's side: connects at once, and knows what has been heard since.

    Parameters
    ----------
    group : Cluster
    on_end : callable, optional
        Called with the reason, or None, when the training is over; by default `check` tells.
    """

    def __init__(self, group, on_end=lambda trouble: None):
        self.group, self.on_end = group, on_end
        self.trouble, self.left, self.attendance, self.line = None, None, "", None
        _start(self.listen)

    def listen(self):
        try:
            self.line = self.connect()
            wanted = {"worker": self.group.workers, "server": self.group.servers}
            name = " ".join(filter(None, (self.group.role, os.environ.get("DMLC_WORKER_ID"))))
            self.line.send(
                "hello",
                {
                    "role": self.group.role,
                    "name": name,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "wanted": wanted,
                },
            )
            _start(self.beat)
            kind = None
            while kind not in ("trouble", "done"):
                kind, value = self.line.receive()
                if kind == "left":
                    self.left = self.left or (time.monotonic(), value)
                elif kind == "attendance":
                    self.attendance = value
            self.trouble = self.trouble or value
        except ConnectionError as error:
            self.trouble = f"the scheduler at {self.group.host}:{self.group.roll_call_port} {error}"
        self.on_end(self.trouble)

    def connect(self):
        """A connection to the scheduler, which may not have started yet."""
        until = time.monotonic() + self.group.join_seconds
        while True:
            try:
                return _Line(
                    socket.create_connection(
                        (self.group.host, self.group.roll_call_port), timeout=SILENCE
                    )
                )
            except OSError as error:
                if time.monotonic() > until:
                    raise ConnectionError(
                        f"does not answer within {self.group.join_seconds} s ({error.strerror or error}): start it, and "
                        "check DMLC_PS_ROOT_URI and DMLC_PS_ROOT_PORT, and that no firewall is between"
                    ) from None
                time.sleep(0.2)

    def beat(self):
        while self.line.send("beat"):
            time.sleep(BEAT)

    def check(self):
        """Raise DistributedError if the training cannot go on.

        Somebody who has ended its part in good order may have been a little faster than we are; only when it stays away is it missed.
        """
        if self.trouble:
            raise DistributedError(self.trouble)
        if self.left and time.monotonic() - self.left[0] > SILENCE:
            raise DistributedError(
                f"{self.left[1]}, while this one still needs it: did they all run the same notebook?"
            )

    def leave(self, trouble=None):
        """Say good-bye, or that this process cannot go on."""
        if self.line and not self.trouble:
            self.line.send("failed" if trouble else "bye", trouble)


def serve_if_asked():
    """Serve if this process is to be the scheduler or a server.

    Raises
    ------
    DistributedError
        DMLC_ROLE says so, but this is a notebook or another program.
    """
    role = os.environ.get("DMLC_ROLE") or "worker"
    if role == "worker":
        return
    if (
        role not in SERVING or sys.argv[0] != "-m"
    ):  # '-m': while python -m looks for the module in this package
        raise DistributedError(
            f"DMLC_ROLE is {role!r} in the environment of this process. A notebook or script that trains with others has "
            "'worker', any other none; the scheduler and the servers are started with python -m d2lvae.distributed"
        )
    try:
        serve()
    except DistributedError as error:
        sys.exit(f"{role}: {error}")


def serve():
    """Be the scheduler or a server until the training is over: never returns."""
    group = cluster()
    settle(group)

    def end(trouble):  # while the main thread is somewhere in MXNet
        with contextlib.suppress(OSError):  # nobody may be there to read it
            if trouble:
                print(f"{group.role}: {trouble}", file=sys.stderr, flush=True)
        time.sleep(1)  # for the messages to get out
        os._exit(1 if trouble else 0)

    if group.role == "scheduler":
        _Listener(group, end)
    else:
        Member(group, end)
    import mxnet  # which serves here, until this process is ended

    sys.exit(f"{group.role}: MXNet {mxnet.__version__} has not served")
