"""Whole trainings on disk: weights, optimiser states and history in one .npz file.

The last but one checkpoint stays beside the last: a damaged one costs an epoch, not the training.
"""

import contextlib
import json
import os
import pathlib

import numpy as np

from .errors import CheckpointError
from .files import read_arrays, regular_file, write_arrays
from .nets import check_arrays, get_weights, set_weights
from .records import differing

LATEST, PREVIOUS = "checkpoint.npz", "checkpoint_previous.npz"


def save_checkpoint(folder, arrays, record):
    """Write a training's state as the folder's latest checkpoint and keep the one before it.

    `arrays` are weights and optimiser states; `record` has `config`, `steps`, `history`,
    `processor_threads`, `workers`.  After an OSError, which names the file and what to do, the last
    whole checkpoint is still there.
    """
    folder = pathlib.Path(folder)
    latest, previous = folder / LATEST, folder / PREVIOUS
    try:
        if latest.exists():
            os.replace(latest, previous)  # at every moment one of the two is whole
        write_arrays(latest, arrays, record)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}; with resume True the run goes on after the last epoch "
            "that was kept",
        ) from None


def epochs_kept(folder, config):
    """How many epochs a folder's checkpoint holds of a configuration, however far it was to go.

    -1 if none can be read.
    """
    return max((number for number, other in differences(folder, config) if not other), default=-1)


def differences(folder, config):
    """The epochs that a folder's checkpoints hold, and the settings that are not `config`'s.

    A pair of each checkpoint that can be read; `epochs` does not count as a setting.
    """
    found = []
    for name in (LATEST, PREVIOUS):
        with contextlib.suppress(Exception):  # a damaged file is looked at when it is to be used
            path = regular_file(pathlib.Path(folder) / name)
            with np.load(path, allow_pickle=False) as file:
                record = json.loads(file["record"].tobytes().decode())
            found.append((len(record["history"]), differing(record["config"], config)))
    return found


def load_checkpoint(folder, config, like=None):
    """The newest whole checkpoint of this configuration; None if there is no checkpoint at all.

    It is (arrays, record).  `like` has arrays of the names, shapes and kinds that are wanted; those
    found must be finite, too.  CheckpointError if none is whole, or the newest whole one is of
    another configuration.
    """
    latest, previous = (pathlib.Path(folder) / name for name in (LATEST, PREVIOUS))
    damage = []
    for path in filter(os.path.lexists, (latest, previous)):
        try:
            arrays, record, others = _read(path, config, like)
        except CheckpointError as error:
            damage.append(str(error))
            continue
        if others:
            raise CheckpointError(
                f"{path} is of another configuration ({'; '.join(others)}). "
                "Give the same parameters, or resume False to begin anew"
            )
        if damage:  # out of the way, or the next checkpoint would push out this whole one
            aside = latest.with_name(f"{LATEST}.damaged")
            os.replace(latest, aside)
            print(f"{damage[0]}; set aside as {aside.name}. Going on from the one before it.")
        return arrays, record
    if damage:
        raise CheckpointError(
            f"no checkpoint can be used: {'; '.join(damage)}. Set resume to False to begin anew"
        )
    return None


def _read(path, config, like):
    """A checkpoint's arrays and record, and in what its configuration differs."""
    arrays, record = read_arrays(path)
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise CheckpointError(f"{path}: it is no checkpoint, as it names no configuration")
    found = differing(record["config"], config)
    if like is not None and not found:
        try:
            check_arrays(arrays, {name: (one.shape, one.dtype) for name, one in like.items()})
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
    return arrays, record, found


def made_with(record):
    """The threads, workers and one's own classes' code of the training that left a checkpoint."""
    found = record.get("processor_threads", record.get("threads"))  # its name in version 0.1.0
    made = {"processor_threads": found, "workers": record.get("workers", 1)}
    return {**made, **({"code": record["code"]} if "code" in record else {})}


def get_state(step):
    """What a training can go on from: arrays by name, and the steps that each net has taken.

    Weights and moments are named 'vae/...', 'vae_adam/...', 'disc/...', 'disc_adam/...'.
    """
    arrays = {}
    for name, trainer in step.trainers.items():
        arrays.update({f"{name}/{key}": array for key, array in get_weights(trainer.net).items()})
        arrays.update({f"{name}_adam/{key}": array for key, array in trainer.state().items()})
    return arrays, {name: trainer.steps for name, trainer in step.trainers.items()}


def set_state(step, arrays, steps):
    """Go on from what :func:`get_state` gave."""

    def part(prefix):
        start = len(prefix)
        return {key[start:]: array for key, array in arrays.items() if key.startswith(prefix)}

    for name, trainer in step.trainers.items():
        set_weights(trainer.net, part(f"{name}/"))
        trainer.set_state(part(f"{name}_adam/"), steps[name])
