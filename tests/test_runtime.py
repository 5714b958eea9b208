"""What is settled before MXNet computes."""
import platform
import subprocess
import sys
import textwrap

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

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


def watched_in_a_kernel(metadata):
    """What `runtime.watched()` says in a kernel whose code comes with these metadata."""
    manager, client = start_new_kernel()  # inherits this process's environment
    try:
        content = {"code": "from d2lvae import runtime; print(runtime.watched())", "silent": False, "store_history": True,
                   "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
        client.shell_channel.send(client.session.msg("execute_request", content, metadata=metadata))
        while True:
            message = client.get_iopub_msg(timeout=60)
            if message["msg_type"] in ("stream", "error"):
                return message["content"].get("text")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_page_watches_its_kernel_and_no_other_program(monkeypatch):
    """Programs that a cell starts inherit JPY_SESSION_NAME; their kernels are sent code by no page."""
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/some.ipynb")
    monkeypatch.setenv("VSCODE_PID", "1")
    assert watched_in_a_kernel({"cellId": "bce-18"}) == "True\n"
    assert watched_in_a_kernel({}) == "False\n"


def test_papermill_nbval_and_nbconvert_watch_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/some.ipynb")
    monkeypatch.setenv("VSCODE_PID", "1")
    cell = nbformat.v4.new_code_cell("from d2lvae import runtime; assert not runtime.watched()")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    commands = [["papermill", "--no-progress-bar", "-k", "python3", "a.ipynb", "out.ipynb"],
                ["nbconvert", "--execute", "--to", "notebook", "--stdout", "a.ipynb"],
                ["pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "a.ipynb"]]
    for command in commands:
        done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{command}:\n{done.stdout}"
