"""Real processes, really killed: what a person or a power cut does to a run."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from d2lvae.storage.files import read_arrays

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "mnist_densevae_bce.ipynb"
TRAINING = textwrap.dedent("""
    import sys
    import d2lvae
    from d2lvae.evaluation import quality
    quality.NUM_MEASURED = 50
    config = dict(data="drawn", num_train=640, epochs=5, batch_size=64, lr=1e-3, pixel_loss="bce", pixel_weight=1.0,
                  kl_weight=1.0, disc_weight=1.0, seed=0, resume="resume" in sys.argv, results_dir=sys.argv[1])
    images = d2lvae.load_digits("drawn", config["num_train"])
    if "slow" in sys.argv:  # leaves time to be killed in mid-epoch
        import time
        from d2lvae import training
        learn = training.learn
        training.learn = lambda *given: (time.sleep(0.05), learn(*given))[1]
    run = d2lvae.fit(d2lvae.DenseVAE(5, 2, 50), images, d2lvae.Config.from_dict(config), d2lvae.DenseLogReg(1, 20))
    d2lvae.evaluate(run, images)
""")


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def read_until(process, words):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} never came: {lines}")


def outcome(folder):
    """The run's history without its times, and its final weights."""
    [metrics] = pathlib.Path(folder).glob("images/*/*/metrics.json")
    arrays, record = read_arrays(metrics.parent / "checkpoint.npz")
    history = [
        {
            name: value
            for name, value in epoch.items()
            if name not in ("seconds", "images_per_second")
        }
        for epoch in record["history"]
    ]
    return history, arrays, json.loads(metrics.read_text())


@pytest.mark.slow
def test_killed_in_mid_epoch_and_resumed_equals_never_killed(tmp_path, monkeypatch):
    killed = start(tmp_path / "killed", "slow")
    read_until(killed, "epoch   1:")
    time.sleep(0.25)  # an epoch takes 0.5 s now
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not list((tmp_path / "killed").glob("images/*/*/metrics.json"))
    resumed = start(tmp_path / "killed", "resume")
    monkeypatch.setattr(sys, "argv", ["undisturbed", str(tmp_path / "whole")])
    exec(TRAINING, {})  # in this process, meanwhile
    said = resumed.communicate()[0]
    assert resumed.returncode == 0
    assert "going on after 2 of 5 epochs" in said
    history, arrays, metrics = outcome(tmp_path / "killed")
    expected_history, expected_arrays, expected_metrics = outcome(tmp_path / "whole")
    assert history == expected_history and len(history) == 5
    assert arrays.keys() == expected_arrays.keys()
    for name, array in expected_arrays.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    assert (
        metrics["final"] == expected_metrics["final"]
        and metrics["validation"] == expected_metrics["validation"]
    )


def papermill(output, *parameters, cwd):
    pairs = [word for name, value in parameters for word in ("-p", name, str(value))]
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        "--log-output",
        str(NOTEBOOK),
        str(output),
        *pairs,
    ]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_papermill_interrupted_keeps_the_checkpoint_and_draws_the_images(tmp_path):
    process = papermill(
        tmp_path / "out.ipynb",
        ("data", "drawn"),
        ("num_train", 640),
        ("epochs", 100_000),
        ("num_hiddens", 50),
        ("results_dir", tmp_path / "results"),
        cwd=tmp_path,
    )
    read_until(process, "epoch   2:")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    [folder] = (tmp_path / "results").glob("images/*/*")
    folder /= "unfinished"
    for _ in range(600):  # papermill does not wait for the kernel's last words
        if (folder / "loss.png").exists():
            break
        time.sleep(0.1)
    assert len(list(folder.glob("[0-9].png"))) == 10 and (folder / "loss.png").exists()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert not metrics["finished"] and metrics["epochs_done"] >= 3
    _, record = read_arrays(folder / "checkpoint.npz")
    assert len(record["history"]) == metrics["epochs_done"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, value, message",
    [
        ("epoch", "50", "'epoch' is not a parameter of this notebook; did you mean 'epochs'?"),
        ("data", "mnist", "MNIST is not complete in"),
    ],
)
def test_papermill_stops_before_any_work_and_says_why(tmp_path, name, value, message, monkeypatch):
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no network: a proxy that refuses
    monkeypatch.setenv("no_proxy", "")
    process = papermill(
        tmp_path / "out.ipynb", (name, value), ("results_dir", tmp_path / "results"), cwd=tmp_path
    )
    said = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert message in said
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_notebook_runs_from_an_installed_wheel_in_another_folder(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "d2lvae", source / "d2lvae", ignore=shutil.ignore_patterns("__pycache__")
    )
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True
    )
    [wheel] = tmp_path.glob("d2lvae-*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "el se where"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "D2LVAE_DATA": str(tmp_path / "none")}
    shutil.copy(ROOT / "notebooks" / "mnist_densevae_l2.ipynb", elsewhere / "a.ipynb")
    given = {"data": "drawn", "num_train": 256, "epochs": 1, "num_hiddens": 20}
    pairs = [word for name, value in given.items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-output"]
    said = subprocess.run(
        [*command, "a.ipynb", "out.ipynb", *pairs],
        cwd=elsewhere,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert said.returncode == 0, said.stdout
    assert len(list((elsewhere / "results" / "own" / "images").glob("*/*/metrics.json"))) == 1
    where = subprocess.run(
        [sys.executable, "-c", "import importlib.util as i; print(i.find_spec('d2lvae').origin)"],
        cwd=elsewhere,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert where.startswith(str(site)), "the wheel was not what ran"
