"""What is settled before MXNet computes."""
import platform
import subprocess
import sys
import textwrap

import pytest

from d2lvae import runtime


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="set on Linux with x86-64 only")
def test_mxnet_flushes_denormals_and_numpy_keeps_them():
    """In a process of its own: before Python 3.10 a subprocess restarts MXNet's threads, without the mode."""
    script = textwrap.dedent("""
        import d2lvae
        import mxnet as mx
        import numpy as np
        tiny = np.full(10_000, 2e-38, np.float32)
        print((mx.nd.array(tiny) * 1e-3).asnumpy().max() == 0, (tiny * np.float32(1e-3)).min() > 0,
              (mx.nd.array(tiny) * 10).asnumpy().min() > 0)
    """)
    result = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert result.stdout.split() == ["True"] * 3


def test_threads_are_set_unless_the_user_did(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MXNET_CPU_WORKER_NTHREADS", raising=False)
    runtime.set_threads()
    assert runtime.threads()["OMP_NUM_THREADS"] == "3" and runtime.threads()["MXNET_CPU_WORKER_NTHREADS"] == "1"
