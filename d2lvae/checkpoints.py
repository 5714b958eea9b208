"""Nets and whole trainings on disk: one .npz file each, numbers and JSON only.

Nothing is pickled, so loading a file cannot run code.  A file is written under another name and
then put in place, so it is whole or not there; the last but one checkpoint stays beside the last.
"""
import json
import os
import pathlib
import zipfile
import zlib

import mxnet as mx
import numpy as np

from .discriminators import ConvDisc, DenseLogReg, ResNetDisc
from .files import replacing
from .vae import ConvVAE, DenseVAE

__all__ = ["CheckpointError", "build", "save_net", "load_net", "net_arrays", "set_net_arrays",
           "save_checkpoint", "load_checkpoint"]

NETS = {net.__name__: net for net in (DenseVAE, ConvVAE, DenseLogReg, ConvDisc, ResNetDisc)}
LATEST, PREVIOUS = "checkpoint.npz", "checkpoint_previous.npz"


class CheckpointError(ValueError):
    """A file of weights that cannot be used; the message names it and what to do."""


def write_arrays(path, arrays, record):
    """Write named arrays and a record (anything JSON can hold) to one .npz file, whole or not at all."""
    text = np.frombuffer(json.dumps(record).encode(), np.uint8)
    with replacing(path) as file:
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
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # compares the checksum of every array
        if damaged:
            raise CheckpointError(f"{path} is damaged: {damaged} has the wrong checksum")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        record = json.loads(arrays.pop("record").tobytes().decode())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged or cut short: {error}") from None
    except (KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a file of this project's weights: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    return arrays, record


def net_arrays(net):
    """A net's parameters and running statistics as numpy arrays, by their names within the net."""
    mx.nd.waitall()  # MXNet's engine does not know when BatchNorm's running statistics are ready
    return {name[len(net.prefix):]: parameter.data().asnumpy()
            for name, parameter in net.collect_params().items()}


def set_net_arrays(net, arrays):
    """Give a net the parameters that :func:`net_arrays` took from one like it.

    Raises
    ------
    CheckpointError
        Names or shapes differ.
    """
    parameters = {name[len(net.prefix):]: p for name, p in net.collect_params().items()}
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    found = {name: array.shape for name, array in arrays.items()}
    if shapes != found:
        name = sorted(set(shapes.items()) ^ set(found.items()))[0][0]
        raise CheckpointError(f"weights of another net: {name} should have shape "
                              f"{shapes.get(name, 'none')}, found {found.get(name, 'none')}")
    for name, parameter in parameters.items():
        parameter.set_data(mx.nd.array(arrays[name], dtype=arrays[name].dtype))


def build(config, ctx=None):
    """A net from its `config` attribute, with weights that are still to be set.

    Raises
    ------
    CheckpointError
        An unknown kind of net, or arguments that it does not take.
    """
    arguments = dict(config)
    kind = arguments.pop("net", None)
    if kind not in NETS:
        raise CheckpointError(f"unknown net {kind!r}; known are {', '.join(NETS)}")
    try:
        net = NETS[kind](**arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{kind} cannot be built from {arguments}: {error}") from None
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
        With a `config`, as all nets of this package.
    """
    write_arrays(path, net_arrays(net), {"config": net.config})


def load_net(path, ctx=None):
    """Load a net saved by :func:`save_net`, of whatever class.

    Parameters
    ----------
    path : path
        The .npz file.
    ctx : mxnet.Context, optional
        Where to put it; the CPU by default.

    Returns
    -------
    HybridBlock

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or not one of a net.
    """
    arrays, record = read_arrays(path)
    if not isinstance(record, dict) or "net" not in (record.get("config") or ()):
        raise CheckpointError(f"{path} holds no single net (a checkpoint holds a whole training; the nets are "
                              "beside it, vae.npz and perhaps disc.npz)")
    try:
        net = build(record["config"], ctx)
        set_net_arrays(net, arrays)
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
        `config`, `epochs_done`, `history`, `threads`, ...
    """
    folder = pathlib.Path(folder)
    latest, previous = folder / LATEST, folder / PREVIOUS
    if latest.exists():
        _keep(latest, previous)
    write_arrays(latest, arrays, record)


def _keep(latest, previous):
    """Give the latest checkpoint its second name as well; at every moment one of the two is whole."""
    spare = previous.with_name(f".{previous.name}.part")
    if spare.exists():
        spare.unlink()
    try:
        os.link(latest, spare)
    except OSError:  # a file system without hard links
        spare.write_bytes(latest.read_bytes())
    os.replace(spare, previous)


def load_checkpoint(folder, config, usual=None):
    """The newest whole checkpoint of this configuration.

    Parameters
    ----------
    folder : path
        A run's folder.
    config : dict
        The configuration that wants to go on.
    usual : dict, optional
        What a setting is that one of the two does not name.

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
    paths = [path for path in paths if path.exists()]
    damage = []
    for path in paths:
        try:
            arrays, record = read_arrays(path)
            found = record["config"]
        except (CheckpointError, KeyError, TypeError) as error:
            damage.append(str(error))
            continue
        there, here = {**(usual or {}), **found}, {**(usual or {}), **config}
        differing = [f"{name} {there.get(name)!r} there, {here.get(name)!r} here"
                     for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
        if differing:
            raise CheckpointError(f"{path} is of another configuration ({'; '.join(differing)}). "
                                  "Give the same parameters, or resume False to begin anew")
        if damage:  # out of the way, or the next checkpoint would push out this whole one
            aside = paths[0].with_name(f"{LATEST}.damaged")
            os.replace(paths[0], aside)
            print(f"{damage[0]}; set aside as {aside.name}. Going on from the one before it.")
        return arrays, record
    if damage:
        raise CheckpointError("no checkpoint can be used: " + "; ".join(damage) +
                              ". Set resume to False to begin anew")
    return None
