"""What is settled before MXNet computes."""
import platform
import sys

import mxnet as mx
import numpy as np
import pytest

from d2lvae import runtime


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="set on Linux with x86-64 only")
def test_mxnet_flushes_denormals_and_numpy_keeps_them():
    tiny = np.full(10_000, 2e-38, np.float32)
    assert (mx.nd.array(tiny) * 1e-3).asnumpy().max() == 0
    assert (tiny * np.float32(1e-3)).min() > 0
    assert (mx.nd.array(tiny) * 10).asnumpy().min() > 0


def test_threads_are_set_unless_the_user_did(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MXNET_CPU_WORKER_NTHREADS", raising=False)
    runtime.set_threads()
    assert runtime.threads()["OMP_NUM_THREADS"] == "3" and int(runtime.threads()["MXNET_CPU_WORKER_NTHREADS"]) >= 1
