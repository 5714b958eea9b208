"""Nets and whole trainings on disk: one .npz file each, numbers and JSON only.

Nothing is pickled, so loading a file cannot run code.  A file is written under another name and
then put in place, so it is whole or not there; the last but one checkpoint stays beside the last.
What a checksum cannot tell (weights that are no numbers, a record of another kind) is looked at as well.
"""

import json
import math
import os
import pathlib
import zipfile

import mxnet as mx
import numpy as np

from ..discriminators import Discriminator
from ..vae import VAE
from .files import atomic_write, regular_file
from .records import arguments_of, describe

__all__ = [
    "CheckpointError",
    "build",
    "save_net",
    "load_net",
    "get_weights",
    "set_weights",
    "save_checkpoint",
    "load_checkpoint",
]

LATEST, PREVIOUS = "checkpoint.npz", "checkpoint_previous.npz"
NEEDED = {
    "epoch",
    "loss",
    "pixel_loss",
    "kl",
    "seconds",
    "images_per_second",
}  # in the record of an epoch


class CheckpointError(ValueError):
    """A file of weights that cannot be used; the message names it and what to do."""


def write_arrays(path, arrays, record):
    """Write named arrays and a record (anything JSON can hold) to one .npz file, whole or not at all."""
    text = np.frombuffer(json.dumps(record).encode(), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, record=text, **arrays)


def read_arrays(path):
    """The arrays and the record of a file by :func:`write_arrays`, every byte of it checked.

    Raises
    ------
    CheckpointError
        The file is missing, cut short, altered, or of another kind.
    """
    path = pathlib.Path(path)
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            members = _stored(path, archive)
            damaged = archive.testzip()  # compares the checksum of every array
        if damaged:
            raise CheckpointError(f"{path} is damaged: {damaged} has the wrong checksum")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if len(arrays) != len(members) or not all(
            isinstance(array, np.ndarray) for array in arrays.values()
        ):
            raise CheckpointError(
                f"{path} is not a file of this project's weights: not everything in it is an array of a name of its own"
            )
        record = json.loads(arrays.pop("record").tobytes().decode())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not a file of this project's weights: {error}") from None
    except Exception as error:  # zipfile's, zlib's and numpy's are of many kinds
        raise CheckpointError(f"{path} is damaged or cut short: {error}") from None
    return arrays, record


def _stored(path, archive):
    """What is in a .npz file, none of it packed."""
    members = archive.infolist()
    if sum(one.file_size for one in members) > path.stat().st_size:
        raise CheckpointError(
            f"{path} is not a file of this project's weights: its arrays are packed, and might be of any size"
        )
    return members


def get_weights(net):
    """A net's parameters and running statistics as numpy arrays, by their names within the net."""
    mx.nd.waitall()  # MXNet's engine does not know when BatchNorm's running statistics are ready
    return {
        name[len(net.prefix) :]: parameter.data().asnumpy()
        for name, parameter in net.collect_params().items()
    }


def set_weights(net, arrays):
    """Give a net the parameters that :func:`get_weights` took from one like it.

    Raises
    ------
    CheckpointError
        Names, shapes or kinds differ, or there is what is no number among them.
    """
    parameters = {name[len(net.prefix) :]: p for name, p in net.collect_params().items()}
    check_arrays(
        arrays, {name: (tuple(p.shape), np.dtype(p.dtype)) for name, p in parameters.items()}
    )
    for name, parameter in parameters.items():
        parameter.set_data(mx.nd.array(arrays[name], dtype=arrays[name].dtype))


def check_arrays(arrays, expected):
    """Refuse arrays that are not the `expected` ones, a (shape, dtype) by name, or not made of finite numbers.

    Raises
    ------
    CheckpointError
    """
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if found != expected:
        name = min(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise CheckpointError(
            f"weights of another net: {name} should have shape {_shown(expected, name)}, found {_shown(found, name)}"
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"not all numbers in {name} are finite")


def _shown(kinds, name):
    return "{} of {}".format(*kinds[name]) if name in kinds else "none"


def net_classes():
    """All VAEs and discriminators that are defined, the user's own as well, by name; the latest of one name."""
    found, bases = {}, [VAE, Discriminator]
    while bases:
        base = bases.pop(0)
        found[base.__name__] = base
        bases += base.__subclasses__()
    return {name: net for name, net in found.items() if net not in (VAE, Discriminator)}


def build(config, ctx=None, arrays=None):
    """A net from its `config` attribute, with weights that are still to be set.

    Parameters
    ----------
    config : dict
    ctx : mxnet.Context, optional
        Where to put it; the CPU by default.
    arrays : dict of numpy.ndarray, optional
        The weights that it is built for: sizes that they cannot have are refused before any memory is taken.

    Raises
    ------
    CheckpointError
        A kind of net that is not defined, one whose layers were changed by hand, or arguments that it does not take.
    """
    kind, classes = config.get("net"), net_classes()
    if not isinstance(kind, str) or kind not in classes:
        raise CheckpointError(
            f"unknown net {kind!r}; known are {', '.join(classes)}. If it is a class of your own, define or import "
            "it first"
        )
    if "layers" in config:
        raise CheckpointError(
            f"this {kind}'s layers had been changed by hand before it was saved. Make it again in the same way, then "
            "load_net(path, net=...) gives it these weights"
        )
    arguments = arguments_of(config)
    for name, value in arguments.items() if arrays else ():
        most = len(arrays) if name == "num_layers" else sum(array.size for array in arrays.values())
        if any(
            isinstance(number, (int, float)) and not 0 <= number <= most
            for number in (value if isinstance(value, list) else [value])
        ):
            raise CheckpointError(f"{name} is {value!r}, which these weights cannot have")
    try:
        net = classes[kind](**arguments)
        net.infer_shape(mx.nd.zeros((1, *net.image_shape)))
    except Exception as error:  # of many kinds: what a file says may be anything
        raise CheckpointError(f"{kind} cannot be built from {arguments}: {error}") from None
    if arrays:
        check_arrays(
            arrays,
            {
                name[len(net.prefix) :]: (tuple(p.shape), np.dtype(p.dtype))
                for name, p in net.collect_params().items()
            },
        )
    net.initialize(mx.init.Zero(), ctx=ctx or mx.cpu())
    net.hybridize(static_alloc=True)
    return net


def save_net(path, net):
    """Save one net: its weights and what is needed to build it again.

    Parameters
    ----------
    path : path
        Ends in .npz.
    net : HybridBlock
        A VAE or a Discriminator, of the package or of one's own.
    """
    write_arrays(path, get_weights(net), {"config": describe(net)})


def load_net(path, ctx=None, net=None):
    """Load a net saved by :func:`save_net`, of whatever class; one's own must be defined before.

    Parameters
    ----------
    path : path
        The .npz file.
    ctx : mxnet.Context, optional
        Where to put it; the CPU by default.
    net : HybridBlock, optional
        An initialised net that is given the weights, in place of a new one; needed where layers had been changed by hand.

    Returns
    -------
    HybridBlock

    Raises
    ------
    CheckpointError
        The file is missing, damaged, not one of a net, or of a class that is not defined.
    """
    arrays, record = read_arrays(path)
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("config"), dict)
        or "net" not in record["config"]
    ):
        raise CheckpointError(
            f"{path} holds no single net (a checkpoint holds a whole training; the nets are "
            "beside it, vae.npz and perhaps disc.npz)"
        )
    try:
        net = build(record["config"], ctx, arrays) if net is None else net
        set_weights(net, arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return net


def save_checkpoint(folder, arrays, record):
    """Write a training's state as the folder's latest checkpoint and keep the one before it.

    Parameters
    ----------
    folder : path
        A run's folder.
    arrays : dict of numpy.ndarray
        Weights and optimiser states.
    record : dict
        `config`, `steps`, `history`, `threads`.

    Raises
    ------
    OSError
        Naming the file and what to do; the last whole checkpoint is still there.
    """
    folder = pathlib.Path(folder)
    latest, previous = folder / LATEST, folder / PREVIOUS
    try:
        if latest.exists():
            _keep(latest, previous)
        write_arrays(latest, arrays, record)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}; with resume True the run goes on after the last epoch that was kept",
        ) from None


def _keep(latest, previous):
    """Give the latest checkpoint its second name as well; at every moment one of the two is whole."""
    spare = previous.with_name(f".{previous.name}.part")
    if spare.exists():
        spare.unlink()
    try:
        os.link(latest, spare)
    except OSError:  # a file system without hard links
        with atomic_write(previous) as file:
            file.write(latest.read_bytes())
    else:
        os.replace(spare, previous)


def _config_of(path, record):
    """The configuration in a checkpoint's record."""
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise CheckpointError(f"{path} is no checkpoint: it names no configuration")
    return record["config"]


def check_training(arrays, record, like, epoch_steps):
    """Refuse the state of a training that nothing could go on from, though its checksums are right.

    Parameters
    ----------
    arrays, record : dict
        What was read.
    like : dict of numpy.ndarray
        Arrays of the names, shapes and kinds that are wanted.
    epoch_steps : int
        How many steps the VAE takes in an epoch; the discriminator takes as many or fewer.

    Raises
    ------
    CheckpointError
        Saying which array or which part of the record it is.
    """
    check_arrays(arrays, {name: (array.shape, array.dtype) for name, array in like.items()})
    below = [
        name
        for name, array in arrays.items()
        if "_adam/var/" in name and array.size and array.min() < 0
    ]
    if below:
        raise CheckpointError(f"{below[0]} are means of squares, and some are below 0")
    history, steps, threads = (record.get(name) for name in ("history", "steps", "threads"))
    if not isinstance(history, list):
        raise CheckpointError("its history is not a list of epochs")
    for number, epoch in enumerate(history):
        if (
            not isinstance(epoch, dict)
            or epoch.get("epoch") != number
            or not all(map(_is_finite, epoch.values()))
            or not NEEDED <= epoch.keys()
        ):
            raise CheckpointError(
                f"epoch {number} of its history is not one with finite losses: {str(epoch)[:200]}"
            )
    nets = {name.split("/")[0] for name in like if not name.split("/")[0].endswith("_adam")}
    most = len(history) * epoch_steps
    if (
        not isinstance(steps, dict)
        or steps.keys() != nets
        or not all(type(number) is int and 0 <= number <= most for number in steps.values())
        or steps["vae"] != most
    ):
        raise CheckpointError(
            f"its steps are {str(steps)[:200]}; expected {most} of the VAE after {len(history)} epochs, and of no other net more"
        )
    if not isinstance(threads, dict):
        raise CheckpointError(f"its threads are not named: {str(threads)[:200]}")


def epochs_kept(folder, config, usual):
    """How many epochs a folder's checkpoint holds of a configuration, however far it was to go; -1 if there is none that can be read."""
    found = -1
    for name in (LATEST, PREVIOUS):
        try:
            path = regular_file(pathlib.Path(folder) / name)
            with zipfile.ZipFile(path) as archive:
                _stored(path, archive)
            with np.load(path, allow_pickle=False) as file:
                record = json.loads(file["record"].tobytes().decode())
            there, here = ({**usual, **one, "epochs": 0} for one in (record["config"], config))
            if there == here:
                found = max(found, len(record["history"]))
        except Exception:  # a damaged file is looked at when it is to be used
            continue
    return found


def _is_finite(number):
    return type(number) in (int, float) and math.isfinite(number)


def load_checkpoint(folder, config, usual=None, like=None, epoch_steps=0):
    """The newest whole checkpoint of this configuration.

    Parameters
    ----------
    folder : path
        A run's folder.
    config : dict
        The configuration that wants to go on.
    usual : dict, optional
        What a setting is that one of the two does not name.
    like : dict of numpy.ndarray, optional
        Arrays of the names, shapes and kinds that are wanted; the record must then be one of a training of `epoch_steps` steps an epoch, too.

    Returns
    -------
    (arrays, record) or None
        None if there is no checkpoint at all.

    Raises
    ------
    CheckpointError
        None of the checkpoints there is whole, or the newest whole one is of another configuration.
    """
    paths = [pathlib.Path(folder) / name for name in (LATEST, PREVIOUS)]
    paths = [path for path in paths if os.path.lexists(path)]
    damage = []
    for path in paths:
        try:
            arrays, record = read_arrays(path)
            found = _config_of(path, record)
        except CheckpointError as error:
            damage.append(str(error))
            continue
        there, here = {**(usual or {}), **found}, {**(usual or {}), **config}
        differing = [
            f"{name} {there.get(name)!r} there, {here.get(name)!r} here"
            for name in sorted({*there, *here} - {"epochs"})
            if there.get(name) != here.get(name)
        ]
        if differing:
            raise CheckpointError(
                f"{path} is of another configuration ({'; '.join(differing)}). "
                "Give the same parameters, or resume False to begin anew"
            )
        try:
            if like is not None:
                check_training(arrays, record, like, epoch_steps)
        except CheckpointError as error:
            damage.append(f"{path}: {error}")
            continue
        if damage:  # out of the way, or the next checkpoint would push out this whole one
            aside = paths[0].with_name(f"{LATEST}.damaged")
            os.replace(paths[0], aside)
            print(f"{damage[0]}; set aside as {aside.name}. Going on from the one before it.")
        return arrays, record
    if damage:
        raise CheckpointError(
            "no checkpoint can be used: "
            + "; ".join(damage)
            + ". Set resume to False to begin anew"
        )
    return None
