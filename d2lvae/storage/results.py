"""What a run leaves in words and numbers: history.csv, metrics.json, README.md."""

import csv
import io
import json
import platform
import time

import mxnet as mx
import numpy as np

from .. import __version__
from . import paths
from .files import atomic_write, read_json
from .readme import run_readme
from .records import run_name

LEARNED = {"features": " + features", "both": " + features + adversarial loss"}


def title_of(settings, num_epochs):
    """A run's title, for its figures."""
    nets = run_name(settings).split("/")[0].replace("_", " ")
    learned = LEARNED.get(settings.get("learned_loss"), "")
    epochs = f"{num_epochs} epoch{'' if num_epochs == 1 else 's'}"
    return f"{nets}, {settings['pixel_loss'].upper()}{learned}, {epochs}"


def final(history):
    """The losses of the last epoch, by name."""
    others = "epoch", "seconds", "images_per_second"
    return {n: value for n, value in (history or [{}])[-1].items() if n not in others}


def metrics_of(images, settings, history, finished, made_with):
    """What metrics.json says of a run that has just been trained."""
    seconds = [epoch["seconds"] for epoch in history]
    speed = {}
    if seconds:
        median = float(np.median(seconds))
        speed = {
            "seconds": round(sum(seconds), 1),
            "seconds_an_epoch": round(median, 2),
            "images_per_second": round(len(images.train) / median, 1),
        }
    return {
        "finished": finished,
        "epochs_done": len(history),
        "finished_at": time.strftime("%Y-%m-%d"),
        "final": final(history),
        **speed,
        "data": {
            "name": images.name,
            "origin": str(images.origin),
            "is_real": bool(images.is_real),
            "num_train": len(images.train),
            "num_validation": len(images.validation),
            **({} if images.seed is None else {"seed": int(images.seed)}),
        },
        "config": settings,
        **made_with,
        "versions": {
            "python": platform.python_version(),
            "mxnet": mx.__version__,
            "numpy": np.__version__,
            "d2lvae": __version__,
        },
    }


def write(folder, images, settings, history, finished, made_with):
    """Write history.csv, README.md and, last, metrics.json into a run's folder; gives the last."""
    metrics = metrics_of(images, settings, history, finished, made_with)
    if history:
        write_text(folder / "history.csv", _csv(history))
    write_text(folder / "README.md", run_readme(str(images), metrics))
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    return metrics


def is_finished(folder, data_sha256=None):
    """Whether a folder has a finished run, if a checksum is given on the images with it."""
    try:
        record = read_json(folder / "metrics.json")
        there = record["config"]["data_sha256"]
        return record["finished"] is True and data_sha256 in (None, there)
    except (ValueError, KeyError, TypeError):
        return False  # half-written, or somebody else's


def measures(folder, history):
    """What a folder's finished record of the same losses holds besides, so that it is not lost."""
    record = read_json(folder / "metrics.json") if is_finished(folder) else {}
    names = (
        ("finished_at", "validation", "quality") if record.get("final") == final(history) else ()
    )
    return {name: record[name] for name in names if name in record}


def tell(group, folder, history, metrics):
    """Say where rank 0 has left its results; gives all processes its history and metrics."""
    told = [paths.display_path(folder), platform.node(), history, metrics]
    shown, host, history, metrics = group.allgather(told)[0]
    if group.rank == 0:
        print(f"results: {shown}", flush=True)
    else:
        who = f"worker {group.rank} of {group.size}"
        print(f"{who}: worker 0 has written the results, {shown} on {host}", flush=True)
    return history, metrics


def write_text(path, text):
    """Write a text file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def _csv(history):
    text = io.StringIO()
    names = dict.fromkeys(
        name for epoch in history[::-1] for name in epoch
    )  # solo epochs have fewer
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
