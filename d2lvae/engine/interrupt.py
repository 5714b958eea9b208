"""Ctrl-C as a request that is granted between two minibatches."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def interruptible():
    """In this block Ctrl-C sets an Event, which the block is given; a second one stops at once."""
    requested = threading.Event()

    def handler(number, frame):
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    if threading.current_thread() is not threading.main_thread():
        yield requested  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield requested
    finally:
        signal.signal(signal.SIGINT, before)
