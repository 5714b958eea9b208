"""Distributed training with every net, every kind of death and separate networks: minutes, so only `make dist-test` runs it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from d2lvae.storage.files import read_arrays
from test_distributed import ROOT, Group, config_of, losses, script

pytestmark = [pytest.mark.dist, pytest.mark.slow]
FACES = textwrap.dedent("""
    import json, sys
    import d2lvae
    from d2lvae.sources.synthetic_faces import draw_faces
    NETS = {
        "dense": lambda: (d2lvae.DenseVAE(8, 2, 32, (3, 32, 32)), None),
        "dense + dense": lambda: (d2lvae.DenseVAE(8, 2, 32, (3, 32, 32)), d2lvae.DenseLogReg(1, 32, (3, 32, 32))),
        "conv": lambda: (d2lvae.ConvVAE(8, 4, (3, 32, 32)), None),
        "conv, resize + conv": lambda: (d2lvae.ConvVAE(8, 4, (3, 32, 32), "resize"), d2lvae.ConvDisc(4, (3, 32, 32))),
        "conv + conv": lambda: (d2lvae.ConvVAE(8, 4, (3, 32, 32)), d2lvae.ConvDisc(4, (3, 32, 32))),
        "conv + ResNet": lambda: (d2lvae.ConvVAE(8, 4, (3, 32, 32)), d2lvae.ResNetDisc("cifar_resnet20_v1", (3, 32, 32))),
    }

    def faces():
        images, factors = draw_faces(84, image_size=32)
        return d2lvae.ImageSet("drawn_faces", images[20:], images[:20], "drawn by rule from seed 0", False)

    def train(name, config):
        vae, disc = NETS[name]()
        own = {"disc_weight": 0.0 if disc is None else 1.0, "results_dir": f"{config['results_dir']}/{name}"}
        run = d2lvae.fit(vae, faces(), d2lvae.Config.from_dict({**config, **own}), disc)
        print("SEEN", name, int(run.reconstructions.sum()), run.history[-1]["loss"], flush=True)
        return run

    if __name__ == "__main__":
        for config in json.loads(sys.argv[1]):
            train(config.pop("net"), config)
""")


def faces_config(results_dir, **more):
    return config_of("vae", results_dir, num_train=0, batch_size=24, epochs=2, **more)


def ended(group, seconds=60):
    """Exit codes, and how many seconds until all had ended."""
    start = time.monotonic()
    return group.codes(seconds), time.monotonic() - start


@pytest.mark.parametrize("workers, servers", [(2, 1), (3, 2)])
def test_every_net(tmp_path, workers, servers):
    namespace = {"__name__": "here"}
    exec(FACES, namespace)
    names = list(namespace["NETS"])
    configs = [
        {**faces_config(tmp_path / "several", kvstore="dist_sync"), "net": name} for name in names
    ]
    group = Group(
        tmp_path / "group",
        workers,
        [sys.executable, "-W", "ignore", "-c", FACES, json.dumps(configs)],
        servers,
    )
    assert group.codes(300) == dict.fromkeys(group.processes, 0), group.said("worker 0")
    seen = [
        re.findall("^SEEN (.*)$", group.said(f"worker {rank}"), re.M) for rank in range(workers)
    ]
    assert all(each == seen[0] for each in seen) and len(seen[0]) == len(names)
    for name in names:
        single = namespace["train"](name, faces_config(tmp_path / "one"))
        [path] = (tmp_path / "several" / name).glob("images/*/*/checkpoint.npz")
        history = read_arrays(path)[1]["history"]
        if "conv" in name:  # BatchNorm's statistics are of each worker's own images
            found, expected = (
                [record["loss"] for record in each] for each in (history, single.history)
            )
            print(
                f"{name}, {workers} workers: the loss differs by {abs(np.divide(found, expected) - 1).max():.1e}"
            )
            np.testing.assert_allclose(found, expected, rtol=0.02, err_msg=name)
        else:
            np.testing.assert_allclose(
                losses(history), losses(single.history), rtol=1e-4, err_msg=name
            )


def test_resumed_equals_uninterrupted_with_batchnorm(tmp_path):
    def run(folder, **more):
        config = {
            **faces_config(tmp_path / folder, kvstore="dist_sync"),
            "net": "conv + conv",
            **more,
        }
        command = [sys.executable, "-W", "ignore", "-c", FACES, json.dumps([config])]
        return Group(tmp_path / "group", 2, command), tmp_path / folder

    whole, expected = run("whole", epochs=4)
    assert set(whole.codes(120).values()) == {0}
    killed, found = run("killed", epochs=4)
    killed.wait_for("worker 0", "epoch   1:")
    killed.processes["worker 0"].kill()
    killed.codes()
    resumed, found = run("killed", epochs=4, resume=True)
    assert set(resumed.codes(120).values()) == {0}
    [here], [there] = (
        folder.glob("conv + conv/images/*/*/checkpoint.npz") for folder in (found, expected)
    )
    (arrays, record), (expected_arrays, expected_record) = read_arrays(here), read_arrays(there)
    assert (
        losses(record["history"]) == losses(expected_record["history"])
        and len(record["history"]) == 4
    )
    for name, array in expected_arrays.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


TOO_LONG = (
    r"DistributedError: worker {} of 2 has waited 10 s .* in exchange \d+, of (gradients|what)"
)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("name", ["worker 0", "worker 1", "server 0", "scheduler"])
def test_whoever_dies_or_falls_silent_all_others_end_within_a_minute(tmp_path, name, number):
    group = Group(
        tmp_path,
        2,
        script([config_of("vae", tmp_path, kvstore="dist_sync", epochs=10_000, pause=0.05)]),
    )
    try:
        group.wait_for("worker 0", "epoch   0:")
        group.processes[name].send_signal(number)
        others = {key: process for key, process in group.processes.items() if key != name}
        start = time.monotonic()
        expected = {key: int(key.startswith("worker")) for key in others}
        assert {key: process.wait(60) for key, process in others.items()} == expected
        print(f"{name}, {number.name}: all others had ended after {time.monotonic() - start:.1f} s")
    finally:
        group.end()
    for key in others:
        message = (
            TOO_LONG.format(key[-1]) if "worker" in key else "has ended, or was silent for 10 s"
        )
        assert re.search(message, group.said(key)), f"{key}: {group.said(key)}"


def test_the_launcher_is_killed_and_all_end(tmp_path):
    command = script([config_of("vae", tmp_path, kvstore="dist_sync", epochs=10_000, pause=0.05)])
    launcher = subprocess.Popen(
        [sys.executable, "-m", "d2lvae.distributed", "--workers", "2", "--", *command],
        cwd=ROOT,
        env={**os.environ, "D2LVAE_TIMEOUT": "10"},
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in launcher.stdout:
        if "epoch   0:" in line:
            break
    with open(f"/proc/{launcher.pid}/task/{launcher.pid}/children") as file:
        children = file.read().split()
    assert len(children) == 4
    launcher.kill()
    launcher.communicate()
    until = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{child}") for child in children):
        assert time.monotonic() < until, "somebody has not ended"
        time.sleep(0.2)


def test_ctrl_c_at_any_worker_stops_all_after_the_same_minibatch(tmp_path):
    group = Group(
        tmp_path,
        2,
        script([config_of("vae", tmp_path, kvstore="dist_sync", epochs=10_000, pause=0.05)]),
    )
    group.wait_for("worker 0", "epoch   1:")
    group.processes["worker 1"].send_signal(signal.SIGINT)
    assert group.codes() == dict.fromkeys(group.processes, 0), group.said("worker 1")
    assert "stopped by hand" in group.said("worker 0")
    [path] = tmp_path.glob("images/*/*/unfinished/metrics.json")
    assert not json.loads(path.read_text())["finished"]


def test_a_worker_with_other_parameters_stops_all(tmp_path):
    command = script([config_of("vae", tmp_path, kvstore="dist_sync")])
    command[4] = (
        "import os, sys; sys.argv[1] = sys.argv[1].replace('0.001', '0.00' + str(1 + int(os.environ['DMLC_WORKER_ID'])))\n"
        + command[4]
    )
    group = Group(tmp_path, 2, command)
    codes, _ = ended(group)
    assert codes["worker 0"] == codes["worker 1"] == 1
    assert "(lr 0.002 there, 0.001 on worker 0)" in group.said("worker 0") + group.said("worker 1")
    assert not (tmp_path / "images").exists()


def test_papermill_with_the_launcher_and_a_killed_kernel(tmp_path):
    def start(epochs):
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "d2lvae.distributed",
                "--",
                sys.executable,
                "-m",
                "papermill",
                "--no-progress-bar",
                "--log-output",
                "notebooks/mnist_densevae_bce.ipynb",
                str(tmp_path / "out.ipynb"),
                "-p",
                "data",
                "drawn",
                "-p",
                "num_train",
                "640",
                "-p",
                "epochs",
                str(epochs),
                "-p",
                "num_hiddens",
                "20",
                "-p",
                "kvstore",
                "dist_sync",
                "-p",
                "results_dir",
                str(tmp_path / "results"),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    whole = start(2)
    said = whole.communicate(timeout=180)[0]
    assert whole.returncode == 0, said
    assert (tmp_path / "out.ipynb").exists() and (tmp_path / "out_worker_1.ipynb").exists()
    assert len(list((tmp_path / "results").glob("images/*/*/metrics.json"))) == 1
    killed = start(100_000)
    for line in killed.stdout:
        if "epoch   2:" in line:
            break
    kernels = [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if is_kernel_of_worker_1(pid, killed.pid)
    ]
    assert len(kernels) == 1
    os.kill(int(kernels[0]), signal.SIGKILL)
    start_of_end = time.monotonic()
    said = killed.communicate(timeout=60)[0]
    print(f"a killed kernel: all had ended after {time.monotonic() - start_of_end:.1f} s")
    assert killed.returncode != 0 and re.search(
        r"launcher[|] the worker 1 \(process \d+\) has failed with code 138, so all end", said
    )  # papermill's code for a dead kernel


def is_kernel_of_worker_1(pid, launcher):
    """Whether a process is the second worker's Jupyter kernel, started (by papermill) by this launcher."""

    def status(pid, name):
        with open(f"/proc/{pid}/status") as file:
            return next(line.split()[1] for line in file if line.startswith(name))

    try:
        with open(f"/proc/{pid}/cmdline") as command, open(f"/proc/{pid}/environ") as environment:
            return (
                "ipykernel" in command.read()
                and "DMLC_WORKER_ID=1" in environment.read().split("\0")
                and status(status(pid, "PPid"), "PPid") == str(launcher)
            )
    except (OSError, StopIteration):
        return False


@pytest.fixture
def hosts():
    """Two network namespaces as two machines, with a cable between: each one's way to run a command, and how to cut the cable."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and ip (Debian: apt-get install iproute2)")
    names = [f"d2lvae{os.getpid()}{letter}" for letter in "ab"]

    def ip(*words):
        subprocess.run(["ip", *words], check=True, stderr=subprocess.PIPE)

    try:
        for name in names:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
    try:
        ip(
            "link",
            "add",
            "cable",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            names[1],
        )
        for i, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield (
            [["ip", "netns", "exec", name] for name in names],
            lambda: ip("-n", names[1], "link", "set", "cable", "down"),
        )
    finally:
        for name in names:
            ip("netns", "delete", name)


class Hosts(Group):
    """Scheduler, server and worker 0 on one host, worker 1 on the other."""

    def __init__(self, folder, hosts, command):
        self.hosts = hosts
        super().__init__(folder, 2, command)

    def start(self, name, words, environment):
        environment = {**environment, "DMLC_PS_ROOT_URI": "10.77.0.1"}
        del environment["DMLC_NODE_HOST"]  # to be found out
        super().start(name, [*self.hosts[name == "worker 1"], *words], environment)


def test_two_hosts(tmp_path, hosts):
    group = Hosts(
        tmp_path / "group",
        hosts[0],
        script([config_of("vae", tmp_path / "two", kvstore="dist_sync")]),
    )
    assert group.codes(120) == dict.fromkeys(group.processes, 0), group.said("worker 1")
    single = script([config_of("vae", tmp_path / "one")])
    subprocess.run(single, check=True, cwd=ROOT)
    here, there = (
        read_arrays(next((tmp_path / name).glob("images/*/*/checkpoint.npz")))[1]["history"]
        for name in ("two", "one")
    )
    np.testing.assert_allclose(losses(here), losses(there), rtol=1e-4)


def test_a_cable_is_cut_between_two_hosts(tmp_path, hosts):
    group = Hosts(
        tmp_path,
        hosts[0],
        script([config_of("vae", tmp_path, kvstore="dist_sync", epochs=10_000, pause=0.05)]),
    )
    group.wait_for("worker 0", "epoch   0:")
    hosts[1]()
    codes, seconds = ended(group)
    print(f"a cut cable: all had ended after {seconds:.1f} s")
    assert codes == {name: int(name.startswith("worker")) for name in codes}
    for rank in range(2):
        assert re.search(TOO_LONG.format(rank), group.said(f"worker {rank}"))
