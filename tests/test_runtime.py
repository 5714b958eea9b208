"""What is settled before MXNet computes."""

import importlib.util
import os
import subprocess
import sys

import pytest
from d2lvae.engine import threads
from d2lvae.storage import paths
from helpers import IN_JUPYTER
from jupyter_client.manager import start_new_kernel


def test_threads_are_set_unless_the_user_did(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MXNET_CPU_WORKER_NTHREADS", raising=False)
    threads.settle()
    assert (
        threads.settings()["OMP_NUM_THREADS"] == "3"
        and threads.settings()["MXNET_CPU_WORKER_NTHREADS"] == "1"
    )


def unset(monkeypatch, *names):
    """Away, also if `settle` sets them; put back in the end."""
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("given", ["", "ThreadedEngine"])
def test_mxnet_computes_in_the_thread_that_calls_it_or_as_the_user_says_and_says_nothing(given):
    environ = {key: value for key, value in os.environ.items() if key != "MXNET_ENGINE_TYPE"}
    environ.update({"MXNET_ENGINE_TYPE": given} if given else {})
    script = "import os, d2lvae; print(os.environ.get('MXNET_ENGINE_TYPE'))"
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (given or "NaiveEngine", "")


SAME_ON_TWO_CORES = """
import d2lvae, numba, numpy as np
from d2lvae.engine import adam
numbers = [np.float32(x) for x in (1 / 7, 1e-3, 0.9, 0.999, 1e-8)]
arrays = [np.random.default_rng(i).random(100_003, np.float32) for i in range(4)]
others = [array.copy() for array in arrays]
adam._adam(*arrays, *numbers)
print(numba.get_num_threads(), numba.threading_layer(), adam._adam.targetoptions["parallel"])
numba.set_num_threads(1)
adam._adam(*others, *numbers)
print(all(map(np.array_equal, arrays, others)))
"""


def test_adam_on_two_cores_has_the_same_numbers_as_on_one():
    environ = {key: value for key, value in os.environ.items() if key != "MXNET_ENGINE_TYPE"}
    said = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", SAME_ON_TWO_CORES],
        env={**environ, "OMP_NUM_THREADS": "2"},
        text=True,
    )
    assert said.split() == ["2", "omp", "True", "True"]


@pytest.mark.parametrize("engine, taken", [("NaiveEngine", "3"), ("ThreadedEngine", "1")])
def test_adam_has_mxnets_threads_if_it_is_in_their_thread(monkeypatch, engine, taken):
    """numba would set OpenMP's number to its own, which a child inherits; beside an engine's thread it would have more."""
    monkeypatch.delitem(sys.modules, "numba")
    monkeypatch.setenv("MXNET_ENGINE_TYPE", engine)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    threads.settle()
    assert os.environ["NUMBA_NUM_THREADS"] == taken


@pytest.mark.parametrize("wheel, engine", [("mxnet_cu112", None), ("mxnet", "NaiveEngine")])
def test_mxnet_for_gpus_keeps_its_engine_and_so_does_one_of_several_workers(
    tmp_path, monkeypatch, wheel, engine
):
    """They would wait for each operation; and workers inherit their launcher's environment."""
    (tmp_path / "mxnet").mkdir()
    (tmp_path / f"{wheel}-1.9.1.dist-info").mkdir()
    (tmp_path / "mxnet" / "__init__.py").touch()
    spec = importlib.util.spec_from_file_location("mxnet", tmp_path / "mxnet" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    unset(monkeypatch, "MXNET_ENGINE_TYPE", "DMLC_ROLE", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    threads.settle()
    assert os.environ.get("MXNET_ENGINE_TYPE") == engine
    assert os.environ.get("GOMP_SPINCOUNT") == (engine and "1000")
    monkeypatch.setenv("DMLC_ROLE", "worker")
    threads.settle()
    assert "MXNET_ENGINE_TYPE" not in os.environ


@pytest.mark.parametrize(
    "name, value",
    [
        ("OMP_WAIT_POLICY", "passive"),
        ("MXNET_ENGINE_TYPE", "ThreadedEngine"),
        ("GOMP_SPINCOUNT", "5"),
    ],
)
def test_how_threads_wait_is_the_users_to_say(monkeypatch, name, value):
    """GOMP_SPINCOUNT would overrule OMP_WAIT_POLICY."""
    unset(monkeypatch, "MXNET_ENGINE_TYPE", "DMLC_ROLE", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    monkeypatch.setenv(name, value)
    threads.settle()
    assert os.environ[name] == value
    assert os.environ.get("GOMP_SPINCOUNT") == (value if name == "GOMP_SPINCOUNT" else None)


def test_stderr_may_be_closed():
    script = f"{sys.executable} -W ignore -c 'import d2lvae; print(1)' 2>&-"
    assert subprocess.run(script, shell=True, stdout=subprocess.PIPE).stdout == b"1\n"


def test_what_else_is_said_while_the_engine_starts_is_passed_on(capfd):
    with threads.engine_unannounced():
        os.write(2, b"MXNet start using engine: any\nbad news\n")
    assert capfd.readouterr().err == "bad news\n"


@pytest.mark.parametrize(
    "given, taken",
    [("4,2", "4"), (" 3 ", "3"), ("02", "2"), ("1024", "1024"), ("", None), ("  ", None)],
)
def test_legal_thread_numbers_are_honoured_and_an_empty_one_is_none(monkeypatch, given, taken):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    threads.settle()
    assert threads.settings()["OMP_NUM_THREADS"] == (taken or "2")


@pytest.mark.parametrize(
    "given", ["all", "2.0", "0x2", "0", "-1", "99999", "4,", "4;2", "two", "1e1"]
)
def test_other_thread_numbers_are_named_before_mxnet_reads_them(given):
    """In a process of its own, as MXNet would abort it."""
    result = subprocess.run(
        [sys.executable, "-c", "import d2lvae"],
        env={**os.environ, "OMP_NUM_THREADS": given},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (
        result.returncode == 1
        and f"whole number from 1 to 1024, or a list such as 4,2; found '{given}'" in result.stderr
    )


def system(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    "files, cores",
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n1:name=systemd:/\n",
                "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/gone\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_a_containers_quota_counts(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))
    assert threads.usable_cores(system(tmp_path, files)) == cores


def test_what_threads_waited_is_read(tmp_path):
    system(
        tmp_path,
        {
            "proc/self/task/1/schedstat": "5000 1500000000 7\n",
            "proc/self/task/2/schedstat": "5000 500000000 7\n",
        },
    )
    assert (
        threads.seconds_waited(tmp_path) == 2.0 and threads.seconds_waited(tmp_path / "none") == 0
    )


def test_a_busy_neighbour_is_noticed_once_and_only_where_it_helps(monkeypatch):
    looks = iter([(0, 0), (1, 1), (11, 1.1), (21, 7), (31, 17)])
    now = [None]
    neighbours = lambda: threads.Neighbours(
        lambda: now.__setitem__(0, next(looks)) or now[0][0], lambda: now[0][1]
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = neighbours()
    assert [bool(found.advice()) for _ in range(4)] == [
        False,
        False,
        True,
        False,
    ], "too short, idle, busy, said already"
    looks = iter([(0, 0), (10, 10)])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not neighbours().advice()


def test_another_clones_package_is_refused_in_a_clone(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    paths.check_clone()  # no clone: a notebook copied alone
    (tmp_path / "environment.yml").write_text("")
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(paths.ROOT)!r}); import d2lvae",
    ]
    said = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert said.returncode == 1 and f"this is the clone {tmp_path}" in said.stderr
    assert "make setup" in said.stderr
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))  # named on purpose
    paths.check_clone()


def test_a_page_watches_its_kernel_and_no_other_program(monkeypatch):
    """Programs that a cell starts inherit JPY_SESSION_NAME; their kernels are sent code by no page."""
    for name, value in IN_JUPYTER.items():
        monkeypatch.setenv(name, value)
    content = {
        "code": "from d2lvae.engine import progress; print(progress.is_interactive())",
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    manager, client = start_new_kernel()  # inherits this process's environment

    def watched(metadata):
        """What the code says that comes with these metadata."""
        client.shell_channel.send(client.session.msg("execute_request", content, metadata=metadata))
        while True:
            message = client.get_iopub_msg(timeout=60)
            if message["msg_type"] in ("stream", "error"):
                return message["content"].get("text")

    try:
        assert watched({"cellId": "bce-18"}) == "True\n"
        assert watched({}) == "False\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
