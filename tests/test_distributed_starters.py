"""The scripts of docs/distributed.md as they stand there, with mpirun, Slurm and ssh: minutes, so only `make dist-test` runs them."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from d2lvae.distributed import launcher
from d2lvae.storage.files import read_arrays
from test_distributed import ROOT

pytestmark = [pytest.mark.dist, pytest.mark.slow]
PARAMETERS = {"data": "drawn", "num_train": 640, "num_hiddens": 20, "epochs": 40}
UNDISTURBED = """
import json, sys
import d2lvae
own = json.loads(sys.argv[1])
config = dict(pixel_loss="bce", pixel_weight=1.0, kl_weight=1.0, disc_weight=0.0, batch_size=64, lr=0.001, seed=0, resume=False)
vae = d2lvae.DenseVAE(5, 3, own.pop("num_hiddens"))
d2lvae.fit(vae, d2lvae.load_digits("drawn", own["num_train"]), d2lvae.Config.from_dict({**config, **own}))
"""


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder like the project's, with the scripts of docs/distributed.md; other processes need no PYTHONPATH there."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("d2lvae", "notebooks"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    for block in re.findall("^```sh\n(#!/bin/sh\n# (\\w+[.]sh).*?)^```$", docs(), re.M | re.S):
        (folder / block[1]).write_text(block[0])
    for name, value in {"OMP_NUM_THREADS": "1", "D2LVAE_TIMEOUT": "20"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PORT", str(launcher.free_port()))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder


def docs():
    return (ROOT / "docs/distributed.md").read_text()


def with_this_port():
    """The processes of this training, by their number: command line and environment."""
    found, wanted = {}, f"DMLC_PS_ROOT_PORT={os.environ['PORT']}"
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_text(errors="replace").split("\0")
            if wanted in words:
                found[int(folder.name)] = (folder / "cmdline").read_text(), words
        except OSError:
            pass
    return found


def wait_for(condition, seconds, what):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what()
        time.sleep(0.2)


def killed_and_resumed(folder, command, said, workers, exact):
    """Train with a script, kill worker 1's kernel, see all end, resume, and compare with a training by the launcher."""
    given = [str(word) for item in PARAMETERS.items() for word in ("-p", *item)]
    command = [*command, *given, "-p", "results_dir", str(folder / "killed")]

    def start(*more):
        with open(folder / "output", "w") as file:
            return subprocess.Popen(
                [*command, *more], cwd=folder, stdout=file, stderr=subprocess.STDOUT
            )

    def text():
        return "".join(path.read_text() for path in {folder / "output", said} if path.exists())

    script = start()
    try:
        wait_for(lambda: "epoch   2:" in text(), 240, text)
        roles = [
            word for _, words in with_this_port().values() for word in words if "DMLC_ROLE=" in word
        ]
        assert {"DMLC_ROLE=scheduler", "DMLC_ROLE=server"} < set(roles)
        [kernel] = [
            number
            for number, (line, words) in with_this_port().items()
            if "ipykernel" in line and "DMLC_WORKER_ID=1" in words
        ]
        os.kill(kernel, signal.SIGKILL)
        start_of_end = time.monotonic()
        wait_for(lambda: not with_this_port(), 120, lambda: f"{with_this_port()}\n{text()}")
        script.wait(60)
        print(f"all had ended {time.monotonic() - start_of_end:.0f} s after the kill")
        assert not list(folder.glob("killed/images/*/*/metrics.json")), "it had come to its end"
        script = start("-p", "resume", "True")
        assert script.wait(400) == 0, text()
        wait_for(lambda: not with_this_port(), 60, lambda: str(with_this_port()))
    finally:
        if script.poll() is None:
            script.kill()
        for number in with_this_port():
            os.kill(number, signal.SIGKILL)
    assert re.search(r"resume: going on after \d+ of 40 epochs", text())
    own = {**PARAMETERS, "kvstore": "dist_sync", "results_dir": str(folder / "undisturbed")}
    subprocess.run(
        [sys.executable, "-m", "d2lvae.distributed", "--workers", str(workers), "--"]
        + [sys.executable, "-W", "ignore", "-c", UNDISTURBED, json.dumps(own)],
        cwd=folder,
        check=True,
    )
    [found], [expected] = (
        folder.glob(f"{name}/images/*/*/checkpoint.npz") for name in ("killed", "undisturbed")
    )
    assert found.parent.name == expected.parent.name
    (found, record), (expected, other) = read_arrays(found), read_arrays(expected)
    assert record["config"] == other["config"] and len(record["history"]) == 40
    assert record["workers"] == other["workers"] == workers
    for name, array in expected.items():
        if exact:  # the sum of two does not depend on who comes first
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        elif "adam" not in name:
            np.testing.assert_allclose(found[name], array, rtol=1e-2, atol=1e-3, err_msg=name)


def test_mpirun(clone, monkeypatch):
    needs("mpirun")
    for name in ("ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM", "MCA_rmaps_base_oversubscribe"):
        monkeypatch.setenv(f"OMPI_{name}", "1")
    killed_and_resumed(clone, ["sh", "mpi_train.sh"], clone / "output", 4, exact=False)


def free_ports(number):
    return [launcher.free_port() for _ in range(number)]


@pytest.fixture
def sshd(tmp_path, monkeypatch):
    """An sshd on the loopback address, and an `ssh` first in PATH that finds it."""
    needs("ssh", "ssh-keygen", "/usr/sbin/sshd")
    folder, [port] = tmp_path / "ssh", free_ports(1)
    folder.mkdir(mode=0o700)
    for name in ("host", "own"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name])
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/own.pub\nAcceptEnv OMP_NUM_THREADS\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    (folder / "config").write_text(
        f"Host *\nPort {port}\nIdentityFile {folder}/own\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
        "StrictHostKeyChecking accept-new\nLogLevel ERROR\nSendEnv OMP_NUM_THREADS\n"
    )
    shim = folder / "bin" / "ssh"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", folder / "sshd_config"])
    try:
        wait_for(lambda: answers(port), 10, lambda: "sshd does not answer")
        yield
    finally:
        daemon.terminate()
        daemon.wait()


def answers(port):
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def test_ssh(clone, sshd, monkeypatch):
    monkeypatch.setenv("HOSTS", "127.0.0.1 127.0.0.1")
    killed_and_resumed(clone, ["sh", "ssh_train.sh"], clone / "output", 2, exact=True)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """slurmctld, and slurmd of one node, this machine."""
    needs("munged", "slurmctld", "slurmd", "sbatch")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root")
    folder, ports = tmp_path / "slurm", free_ports(2)
    (folder / "state").mkdir(parents=True)
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o400)
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(
        f"ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmctldPort={ports[0]}\nSlurmdPort={ports[1]}\n"
        f"AuthType=auth/munge\nAuthInfo=socket={folder}/socket\nStateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\n"
        f"SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd.pid\nMpiDefault=none\nProctrackType=proctrack/linuxproc\n"
        "TaskPlugin=task/none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSlurmdParameters=config_overrides\n"
        f"NodeName={host} NodeAddr=127.0.0.1 CPUs=16\nPartitionName=all Nodes=ALL Default=YES\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    files = [
        f"--{name}={folder}/{name}" for name in ("socket", "pid-file", "log-file", "seed-file")
    ]
    commands = (
        ["munged", "-F", "--force", f"--key-file={folder}/key", *files],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    )
    daemons = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.log", "w") as file:
                daemons.append(subprocess.Popen(command, stdout=file, stderr=file))
            time.sleep(2)
        logs = lambda: "".join(path.read_text() for path in folder.glob("*.log"))
        wait_for(lambda: "idle" in sinfo(), 30, logs)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def sinfo():
    return subprocess.run(["sinfo"], stdout=subprocess.PIPE, text=True).stdout


def test_slurm(clone, slurm):
    command = ["sbatch", "--wait", "-o", "slurm.out", "slurm_train.sh"]
    killed_and_resumed(clone, command, clone / "slurm.out", 2, exact=True)
