"""Several workers train together what one would train alone: shares and noise, the time limit, and real processes."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types

import d2lvae
import helpers
import mxnet as mx
import numpy as np
import pytest
from d2lvae import training
from d2lvae.config import ParameterError
from d2lvae.distributed import cluster, launcher, process_group
from d2lvae.engine.operators import unit_images
from d2lvae.engine.process_group import SINGLE, ProcessGroup
from d2lvae.storage import agreement, weights
from d2lvae.storage.checkpoints import get_state, set_state
from d2lvae.storage.files import read_arrays
from d2lvae.training import make_step

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAININGS = {  # name: (discriminator, what differs from the common parameters)
    "vae": (False, {}),
    "last minibatch of one image": (False, {"num_train": 193}),
    "both": (True, {"learned_loss": "both"}),
}
SCRIPT = textwrap.dedent("""
    import json, sys, time
    import d2lvae
    from d2lvae import runs, training
    runs._draw = lambda *given: None  # figures have tests of their own
    learn = training.learn
    for config in json.loads(sys.argv[1]):
        pause = config.pop("pause", 0)  # leaves time to be killed in mid-epoch
        training.learn = lambda *given: (time.sleep(pause), learn(*given))[1]
        disc = d2lvae.DenseLogReg(1, 8) if config["disc_weight"] else None
        run = d2lvae.fit(d2lvae.DenseVAE(3, 1, 16), d2lvae.load_digits("drawn", config["num_train"]), d2lvae.Config.from_dict(config), disc)
        print("SEEN", int(run.reconstructions.sum()), run.metrics["workers"], len(run.history))
""")


def config_of(name, results_dir, **more):
    disc, differing = TRAININGS[name]
    return {
        **dict(
            data="drawn",
            num_train=200,
            epochs=3,
            batch_size=64,
            lr=1e-3,
            pixel_loss="bce",
            pixel_weight=1.0,
            kl_weight=1.0,
            disc_weight=float(disc),
            seed=0,
            resume=False,
            results_dir=str(results_dir),
        ),
        **differing,
        **more,
    }


def alone(name, results_dir, **more):
    config = config_of(name, results_dir, **more)
    disc = d2lvae.DenseLogReg(1, 8) if TRAININGS[name][0] else None
    return helpers.fit(
        d2lvae.DenseVAE(3, 1, 16), d2lvae.load_digits("drawn", config["num_train"]), config, disc
    )


def by_local_steps(name, epochs, local_steps):
    """The losses of two workers that average after local steps, as one process would write it."""
    settings = config_of(name, "", epochs=epochs)
    images, steps = d2lvae.load_digits("drawn", settings["num_train"]).train, []
    for _ in range(2):
        nets = d2lvae.DenseVAE(3, 1, 16), d2lvae.DenseLogReg(1, 8) if TRAININGS[name][0] else None
        weights.begin({n: net for n, net in zip(("vae", "disc"), nets) if net}, 0, {}, quiet=True)
        steps.append(make_step(*nets, settings))
    history = []
    for epoch in range(epochs):
        found = [[], []]
        for i, batch in enumerate(training.minibatches(images, 64, 0, epoch), 1):
            noise = [mx.nd.random.normal(shape=(len(batch), 3)) for _ in range(steps[0].num_noises)]
            for part, step, losses in zip(np.array_split(np.arange(len(batch)), 2), steps, found):
                own = [each[part[0] : part[-1] + 1] for each in noise]
                losses.append(step.update(unit_images(batch[part], mx.cpu()), len(part), *own))
            if i % local_steps == 0:
                give_all_the_mean([get_state(step)[0] for step in steps], steps, moments=False)
        give_all_the_mean([get_state(step)[0] for step in steps], steps, moments=True)
        means = [training.mean_losses(each, len(images), steps[0].weights) for each in found]
        history.append([sum(each[name] for each in means) for name in means[0]])
    return history


def give_all_the_mean(states, steps, moments):
    for state, step in zip(states, steps):
        mean = {
            name: np.mean([each[name] for each in states], axis=0)
            if moments or "adam" not in name
            else array
            for name, array in state.items()
        }
        set_state(step, mean, get_state(step)[1])


def losses(history):
    return [
        [
            value
            for name, value in record.items()
            if name not in ("epoch", "seconds", "images_per_second")
        ]
        for record in history
    ]


class Group:
    """Scheduler, server and workers as processes; their output in files."""

    def __init__(self, folder, workers, command, servers=1, **environment):
        folder.mkdir(exist_ok=True)
        self.environments = launcher.environments(workers, servers, launcher.free_port())
        self.processes, self.folder = {}, folder
        for name, own in self.environments.items():
            words = (
                command
                if name.startswith("worker")
                else [sys.executable, "-m", "d2lvae.distributed"]
            )
            self.start(
                name,
                words,
                {
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    **own,
                    "OMP_NUM_THREADS": "1",
                    "D2LVAE_TIMEOUT": "10",
                    **environment,
                },
            )

    def start(self, name, words, environment):
        with open(self.folder / name, "w") as file:
            self.processes[name] = subprocess.Popen(
                words, env=environment, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
            )

    def said(self, name):
        return (self.folder / name).read_text()

    def wait_for(self, name, words, times=1, seconds=60):
        until = time.monotonic() + seconds
        while self.said(name).count(words) < times:
            assert time.monotonic() < until, f"{words!r} never came: {self.said(name)}"
            time.sleep(0.05)

    def codes(self, seconds=60):
        """The exit codes of all, who have to end within some time."""
        until = time.monotonic() + seconds
        try:
            return {
                name: process.wait(max(0.1, until - time.monotonic()))
                for name, process in self.processes.items()
            }
        finally:
            self.end()

    def end(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def script(trainings):
    return [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(trainings)]


@pytest.mark.parametrize("size, num_images", [(2, 64), (3, 64), (2, 7), (4, 3), (64, 32)])
def test_shards_are_those_of_array_split(size, num_images):
    for rank, part in enumerate(np.array_split(np.arange(num_images), size)):
        for local_steps, expected in ((1, num_images), (4, len(part) or 1)):
            worker = types.SimpleNamespace(rank=rank, size=size, local_steps=local_steps)
            shard, number = process_group.Workers.shard(worker, num_images)
            assert worker.counts == bool(len(part)) and number == expected
            assert list(np.arange(num_images)[shard]) == (list(part) or [0])


def test_one_process_shares_with_nobody():
    assert SINGLE.shard(64) == (slice(0, 64), 64) and SINGLE.counts
    assert SINGLE.allgather({"a": 1}) == [{"a": 1}]


@pytest.mark.parametrize("recipe", ["adversarial", "both"])
def test_workers_draw_together_what_one_would_draw(config, tiny, recipe):
    """The noise that a worker is given is its rows of what the graph draws for the whole minibatch."""
    settings = {**config, "disc_weight": 1.0, "learned_loss": recipe}
    found = {}
    for size in (1, 2):
        vae, disc = d2lvae.DenseVAE(3, 1, 16), d2lvae.DenseLogReg(1, 8)
        d2lvae.initialize(vae, 0), d2lvae.initialize(disc, 1)
        step = make_step(vae, disc, settings)
        mx.random.seed(3)
        group = ProcessGroup()
        group.size = size  # and yet all images are this one's
        losses = training.learn(step, tiny.train[:64], group)
        found[size] = [loss.sum().asscalar() for loss in losses.values()]
    np.testing.assert_allclose(found[2], found[1], rtol=1e-5)


def test_what_the_launcher_sets():
    found = launcher.environments(3, 2, 5000, gpus=["4", "7"], cores=8)
    assert list(found) == ["scheduler", "server 0", "server 1", "worker 0", "worker 1", "worker 2"]
    assert [own["DMLC_ROLE"] for own in found.values()] == [
        "scheduler",
        "server",
        "server",
        "worker",
        "worker",
        "worker",
    ]
    assert [found[f"worker {i}"]["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["4", "7", "4"]
    assert [
        own["OMP_NUM_THREADS"]
        for name, own in launcher.environments(3, 1, 5000, cores=8).items()
        if "worker" in name
    ] == ["2"] * 3
    assert (
        launcher.environments(3, 1, 5000, cores=8, threads="5")["worker 2"]["OMP_NUM_THREADS"]
        == "5"
    )
    for own in found.values():
        group = cluster.cluster(own)
        assert group[1:] == ("127.0.0.1", 5000, 3, 2, 60, 300, 15)


@pytest.mark.parametrize(
    "visible, number, names",
    [(None, 2, ["0", "1"]), ("4,7", 2, ["4", "7"]), ("4,7", 1, ["4"]), ("-1", 0, []), ("", 0, [])],
)
def test_a_gpu_that_is_hidden_or_not_there_is_none(monkeypatch, visible, number, names):
    monkeypatch.setattr(launcher.context, "num_gpus", lambda: number)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launcher.gpu_names() == names


def test_each_workers_notebook_has_a_name_of_its_own():
    command = ["papermill", "notebooks/a.ipynb", "results/out.ipynb", "-p", "epochs", "2"]
    assert launcher.command_of(command, 0) == command
    assert launcher.command_of(command, 2) == [
        *command[:2],
        "results/out_worker_2.ipynb",
        *command[3:],
    ]
    assert launcher.command_of(["python", "train.py"], 1) == ["python", "train.py"]


GOOD = launcher.environments(2, 1, 5000)["worker 1"]


@pytest.mark.parametrize(
    "name, value, message",
    [
        (
            "DMLC_ROLE",
            None,
            "needs DMLC_ROLE, 'worker' for a notebook, in the environment; found None",
        ),
        ("DMLC_PS_ROOT_URI", None, "needs DMLC_PS_ROOT_URI, the scheduler's address"),
        (
            "DMLC_PS_ROOT_URI",
            "no.such.host.invalid",
            "DMLC_PS_ROOT_URI is 'no.such.host.invalid', which has no address",
        ),
        (
            "DMLC_PS_ROOT_PORT",
            "ninety",
            "needs DMLC_PS_ROOT_PORT, a port from 1 to 65535, in the environment; found 'ninety'",
        ),
        ("DMLC_PS_ROOT_PORT", "²", "needs DMLC_PS_ROOT_PORT, a port"),
        ("DMLC_NUM_WORKER", "0", "needs DMLC_NUM_WORKER, a whole number of at least 1"),
        (
            "DMLC_NUM_SERVER",
            None,
            "needs DMLC_NUM_SERVER, a whole number of at least 1, in the environment; found None",
        ),
        (
            "D2LVAE_TIMEOUT",
            "soon",
            "needs D2LVAE_TIMEOUT, a whole number of seconds, 60 if it is not set, in the environment; found 'soon'",
        ),
    ],
)
def test_a_wrong_environment_is_named(name, value, message):
    environment = (
        {**GOOD, name: value} if value else {key: text for key, text in GOOD.items() if key != name}
    )
    with pytest.raises(cluster.DistributedError, match=message.replace("(", r"\(")):
        cluster.cluster(environment)


def test_a_role_without_dist_sync_and_dist_sync_without_a_role(
    monkeypatch, config, small_vae, tiny
):
    monkeypatch.setenv("DMLC_ROLE", "worker")
    with pytest.raises(
        ParameterError,
        match="kvstore is 'local', but DMLC_ROLE is 'worker'.*-p kvstore dist_sync, or unset DMLC_ROLE",
    ):
        helpers.fit(small_vae(), tiny, config)
    monkeypatch.delenv("DMLC_ROLE")
    with pytest.raises(cluster.DistributedError, match="needs DMLC_ROLE"):
        helpers.fit(small_vae(), tiny, {**config, "kvstore": "dist_sync"})
    with pytest.raises(
        ParameterError, match="kvstore must be 'local' or 'dist_sync'; found 'dist-sync'"
    ):
        helpers.fit(small_vae(), tiny, {**config, "kvstore": "dist-sync"})
    with pytest.raises(ParameterError, match="local_steps is 4, but kvstore is 'local'.*dist_sync"):
        helpers.fit(small_vae(), tiny, {**config, "local_steps": 4})


class Pretended(ProcessGroup):
    """A worker of two, whose other one says what the test wants."""

    size = 2

    def __init__(self, other):
        self.other = other

    def allgather(self, value):
        return [value, self.other(value)]


def test_workers_about_to_train_different_things_are_refused(config):
    settings = {"batch_size": 64, "lr": 1e-3}
    other = Pretended(lambda mine: ["elsewhere", {**mine[1], "lr": 2e-3}])
    with pytest.raises(
        agreement.RunError,
        match=r"worker 1 on elsewhere is about to train something else .*\(lr 0.002 there, 0.001 on worker 0\)",
    ):
        agreement.check_same_config(other, settings)
    agreement.check_same_config(Pretended(lambda mine: ["elsewhere", dict(mine[1])]), settings)
    with pytest.raises(
        ParameterError, match="batch_size must be at least the number of workers, 2, .* found 1"
    ):
        agreement.check_same_config(other, {"batch_size": 1})


def test_who_waits_too_long_says_for_what_and_ends(monkeypatch, capfd):
    """Nobody is there: first to meet, then, as if the others had died meanwhile, in an exchange."""
    group = cluster.cluster({**GOOD, "D2LVAE_TIMEOUT": "1"})._replace(meeting=2)
    worker, end = process_group.Workers(group), threading.Event()

    def exit(code):
        end.set()
        raise SystemExit(code)

    monkeypatch.setattr(process_group.os, "_exit", exit)
    monkeypatch.setattr(worker, "_create", lambda: end.wait(30))
    with pytest.raises(SystemExit, match="1"):
        worker.connect(lambda: "3 of 4 epochs are kept")
    assert re.match(
        r"DistributedError: this worker has waited 2 s \(D2LVAE_TIMEOUT is 1\) to meet the scheduler at 127.0.0.1:5000, "
        r"1 server\(s\) and 2 workers in all: somebody has not started, has died, .*the first to end. Start all processes anew, with "
        r"-p resume True to go on from the last checkpoint \(3 of 4 epochs are kept\)$",
        capfd.readouterr().err,
    )
    end.clear()
    worker.limit, worker.name = 1, "worker 1 of 2"
    worker.store = types.SimpleNamespace(init=lambda *given: end.wait(60))
    with pytest.raises(SystemExit, match="1"):
        worker.allreduce([mx.nd.zeros(3)], "gradients")
    assert re.match(
        r"DistributedError: worker 1 of 2 has waited 1 s .* in exchange 1, of gradients: somebody has not started, has died",
        capfd.readouterr().err,
    )


@pytest.mark.parametrize("role, died", [("server", 60), ("scheduler", 60), ("server", None)])
def test_whoever_serves_ends_after_the_others_but_not_before_their_first_heartbeat(
    monkeypatch, capfd, role, died
):
    """MXNet's library, pretended: all meet after 33 s, first heartbeats come three seconds later."""
    now = [0.0]

    def dead(handle, whom, number, seconds):
        met = died is not None and now[0] > 33
        number._obj.value = met and (seconds < 0 or now[0] < 36 or now[0] > died + seconds)
        return 0

    def exit(code):
        raise SystemExit(code)

    clock = types.SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s)
    )
    library = types.SimpleNamespace(MXKVStoreGetNumDeadNode=dead)
    base = types.SimpleNamespace(_LIB=library, check_call=lambda code: code)
    monkeypatch.setattr(cluster, "time", clock)
    monkeypatch.setattr(cluster.os, "_exit", exit)
    group = cluster.cluster({**GOOD, "DMLC_ROLE": role})
    with pytest.raises(SystemExit, match="1" if died is None else "0"):
        cluster._watch(group, types.SimpleNamespace(handle=None), base)
    if died is None:
        assert 300 <= now[0] < 303
        expected = "server: not 2 worker(s) and 1 server(s) within 300 s"
    else:
        assert died + 15 < now[0] < died + 18
        whom = {"server": "the scheduler", "scheduler": "a worker or server"}[role]
        expected = f"{role}: {whom} has ended, or was silent for 15 s"
    assert capfd.readouterr().err == f"{expected}: so this ends, too\n"


def test_the_launcher_names_who_died_and_ends_all_at_once(capfd):
    """A pretended training of which worker 1 kills itself."""
    command = ["sh", "-c", '[ "$DMLC_WORKER_ID" = 0 ] && exec sleep 300; kill -9 $$']
    start = time.monotonic()
    assert launcher.main(["--workers", "2", "--", *command]) == 128 + signal.SIGKILL
    assert time.monotonic() - start < 30
    assert re.search(
        r"^launcher[|] the worker 1 \(process \d+\) has been killed by signal 9, so all end. Start again with -p resume True",
        capfd.readouterr().out,
        re.M,
    )


@pytest.mark.slow
def test_a_servers_role_in_a_notebooks_environment_is_refused_at_once():
    said = subprocess.run(
        [sys.executable, "-c", "import d2lvae"],
        env={**os.environ, **GOOD, "DMLC_ROLE": "server"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    assert (
        said.returncode == 1
        and "DMLC_ROLE is 'server' in the environment of this process" in said.stderr
    )


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Two workers that have finished four trainings, and were at a fifth one when the second worker was killed."""
    folder = tmp_path_factory.mktemp("group")
    configs = [config_of(name, folder / "results", kvstore="dist_sync") for name in TRAININGS]
    configs.append({**configs[-1], "local_steps": 3})
    found = Group(
        folder,
        2,
        script(
            [
                *configs,
                config_of("vae", folder / "results", kvstore="dist_sync", epochs=4, pause=0.1),
            ]
        ),
    )
    try:
        found.wait_for("worker 0", "epoch   1:", times=len(TRAININGS) + 2)
        found.processes["worker 1"].kill()
        found.exit_codes = found.codes(90)
    finally:
        found.end()
    found.results = folder / "results"
    return found


@pytest.mark.slow
def test_two_workers_train_what_one_does(group, tmp_path):
    seen = [re.findall("^SEEN (.*)$", group.said(f"worker {rank}"), re.M) for rank in range(2)]
    assert seen[0] == seen[1] and len(seen[0]) == len(TRAININGS) + 1, "images of all workers"
    assert "epoch" not in group.said("worker 1")
    assert (
        group.said("worker 1").count("worker 1 of 2: worker 0 has written the results")
        == len(TRAININGS) + 1
    )
    for name in TRAININGS:
        single = alone(name, tmp_path)
        folder = group.results / single.folder.relative_to(tmp_path)
        arrays, record = read_arrays(folder / "checkpoint.npz")
        metrics = json.loads((folder / "metrics.json").read_text())
        np.testing.assert_allclose(
            losses(record["history"]), losses(single.history), rtol=1e-4, err_msg=name
        )
        assert record["workers"] == metrics["workers"] == 2 and single.metrics["workers"] == 1
        assert metrics["config"] == single.metrics["config"]
        expected = read_arrays(single.folder / "checkpoint.npz")[0]
        for key in (key for key in expected if "adam" not in key):
            np.testing.assert_allclose(
                arrays[key], expected[key], rtol=1e-2, atol=1e-4, err_msg=f"{name}: {key}"
            )


@pytest.mark.slow
def test_a_worker_dies_and_all_end_and_a_restart_comes_to_the_same_end(group, tmp_path, capfd):
    """The restart by the launcher; its second worker sees nothing of the first one's files."""
    assert group.exit_codes == {
        "scheduler": 0,
        "server 0": 0,
        "worker 0": 1,
        "worker 1": -signal.SIGKILL,
    }
    assert re.search(
        r"DistributedError: worker 0 of 2 has waited 10 s \(D2LVAE_TIMEOUT is 10\) in exchange \d+, of gradients: .* has died.*"
        r"-p resume True .* of 4 epochs are kept\)",
        group.said("worker 0"),
    )
    assert "a worker or server has ended" in group.said("scheduler")
    assert "the scheduler has ended" in group.said("server 0")
    config = config_of("vae", group.results, kvstore="dist_sync", epochs=4, resume=True)
    elsewhere = f"import os, sys\nif os.environ['DMLC_WORKER_ID'] == '1': sys.argv[1] = sys.argv[1].replace({str(group.results)!r}, {str(tmp_path)!r})\n"
    local = config_of("both", group.results, kvstore="dist_sync", epochs=5, resume=True)
    command = script([config, {**local, "local_steps": 3}])
    command[4] = elsewhere + command[4]
    assert launcher.main(["--workers", "2", "--", *command]) == 0
    said = capfd.readouterr().out
    assert (
        re.search("^worker 0[|] resume: going on after [23] of 4 epochs", said, re.M)
        and "worker 1| resume" not in said
    )
    [path] = group.results.glob("images/*/3_1_16_bce_4_*/checkpoint.npz")
    np.testing.assert_allclose(
        losses(read_arrays(path)[1]["history"]),
        losses(alone("vae", tmp_path, epochs=4).history),
        rtol=1e-4,
    )
    [path] = group.results.glob("images/*/*_5_*local_steps_3*/checkpoint.npz")
    averaged = read_arrays(path)[1]
    assert averaged["config"]["local_steps"] == 3
    np.testing.assert_allclose(
        losses(averaged["history"]), by_local_steps("both", 5, 3), rtol=1e-4, err_msg="local steps"
    )
    drawn_again = alone("vae", group.results, epochs=4, resume=True)
    assert (
        drawn_again.metrics["workers"] == 2
        and "begun by 2 worker(s), now there are 1" in capfd.readouterr().out
    )
