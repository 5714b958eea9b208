"""What a run depends on, taken from what is used, and the name of the folder of its results."""

import inspect
import re
import zlib

from ..config import DEFAULTS, FACES
from .agreement import OF_DISCRIMINATORS, STRINGS, check_agreement
from .nets import describe

NOT_OWN = "builtins", "d2lvae", "mxnet"  # modules whose classes are nobody's own
TRAINING = ("epochs", "batch_size", "lr", "pixel_loss", "pixel_weight", "kl_weight", "seed")
# Recorded if on.
OPTIONAL = {name: DEFAULTS[name] for name in (*OF_DISCRIMINATORS, "precision", "local_steps")}
# In a folder's name only if they are not the original's, which are the defaults.
TOLD = ("lr", "batch_size", "pixel_weight", "kl_weight", "seed", "num_train")
USUAL = {name: DEFAULTS[name] for name in TOLD}
NAMES = {"ConvDisc": "ConvDisc_LeakyReLU", "ResNetDisc": "ResNet"}  # what nets are called in it


def run_name(settings):
    """The original's folder name for these settings, e.g. 'DenseVAE_on_MNIST/5_3_400_bce_50'.

    What differs from the original is appended by name, so that configurations share no folder.
    Sets of one's own with one name and another size of images do; `fit` then refuses the second.
    """
    nets = [settings[part] for part in ("vae", "disc") if part in settings]
    names = [NAMES.get(net["net"], net["net"]) for net in nets]
    faces, alone = settings["data"] in FACES, len(nets) == 1
    sizes = [v for net in nets for name, v in net.items() if name != "image_shape"]
    parts = [_word(value) for value in sizes if type(value) in (int, float, bool, list)]
    if alone and not faces:
        parts.append(settings["pixel_loss"])
    parts.append(settings["epochs"])
    if faces and not alone:
        parts.append(f"{settings['disc_weight']:g}")
    parts += [f"{name}_{value}" for name, value in _unusual(settings, nets, faces)]
    return f"{'_'.join(names)}_on_{settings['data']}/{'_'.join(map(str, parts))}"


def _unusual(settings, nets, faces):
    """What differs from the original's settings and is not told otherwise, as (name, value)."""
    names = [*USUAL, *OPTIONAL]
    found = {**OPTIONAL, **settings, "image_size": nets[0]["image_shape"][1]}
    if faces:
        names += ["pixel_loss", "image_size"]
    elif len(nets) == 2:
        names += ["pixel_loss", "disc_weight"]
    numbers = [(name, found[name]) for name in names if found[name] != DEFAULTS[name]]
    texts = [
        ("disc_net" if name == "name" else name, _word(value))
        for net in nets
        for name, value in net.items()
        if type(value) is str and name != "net" and value != STRINGS.get(name)
    ]
    weights = settings.get("own_weights", {})
    checksums = [(f"{part}_weights", checksum) for part, checksum in weights.items()]
    source = settings.get("pixel_loss_source")
    return numbers + texts + checksums + ([("source", source)] if source else [])


def _word(value):
    """A number, a text, or a list of them as a part of a folder's name."""
    text = "-".join(map(str, value)) if type(value) is list else str(value)
    return re.sub(r"[^\w.+-]|\.\.", "-", text)


def settings_of(vae, images, config, discriminator=None):
    """What a run's numbers depend on, but for the machine: taken from what is used.

    What the original's recipe does not have is in it only if it is on.  Errors are those of
    :func:`d2lvae.storage.agreement.check_agreement`.
    """
    check_agreement(vae, images, config, discriminator)
    settings = {name: getattr(config, name) for name in TRAINING}
    settings["pixel_loss"] = getattr(config.pixel_loss, "__name__", config.pixel_loss)
    source = source_checksum(config.pixel_loss)
    settings.update({"pixel_loss_source": source} if source else {})
    settings.update(num_train=int(images.num_first), data=images.name, data_sha256=images.sha256())
    settings["vae"] = describe(vae)
    if discriminator is not None:
        weight = 0.0 if config.learned_loss == "features" else config.disc_weight
        settings.update(disc=describe(discriminator), disc_weight=weight)
    on = {name: v for name, v in vars(config).items() if OPTIONAL.get(name, v) != v}
    return {**settings, **on}


def source_checksum(function):
    """A checksum of a function's own lines; None of none, and where they are in no file or cell.

    Numbers and texts that the lines take from elsewhere count as well.  Two losses of one name have
    folders of their own with it, and no training goes on with another.
    """
    try:
        text = inspect.getsource(function)
        elsewhere = inspect.getclosurevars(function)
    except (OSError, TypeError, ValueError):
        return None
    values = {**elsewhere.globals, **elsewhere.nonlocals, **(function.__kwdefaults__ or {})}
    values.update({str(i): value for i, value in enumerate(function.__defaults__ or ())})
    simple = {n: v for n, v in values.items() if isinstance(v, (bool, int, float, str))}
    text += repr(sorted(simple.items())) if simple else ""
    return f"{zlib.crc32(text.encode()):08x}"


def code_of(trainers):
    """{'code': checksums of the methods of one's own classes, by the nets' names}; {} of none."""
    code = {}
    for name, trainer in trainers.items():
        kinds = type(trainer.net).__mro__
        own = [kind for kind in kinds if kind.__module__.split(".")[0] not in NOT_OWN]
        methods = [each for kind in own for each in vars(kind).values() if inspect.isfunction(each)]
        checksums = [source_checksum(method) for method in methods]
        if any(checksums):
            code[name] = f"{zlib.crc32(repr(checksums).encode()):08x}"
    return {"code": code} if code else {}


def differing(there, here):
    """The settings of one configuration that are not another's, in words; `epochs` is none."""
    there, here = (_flat({**OPTIONAL, **each}) for each in (there, here))
    return [
        f"{name} {_short(there.get(name))} there, {_short(here.get(name))} here"
        for name in sorted({*there, *here} - {"epochs"})
        if there.get(name) != here.get(name)
    ]


def _short(value):
    """A value as it is told of: of a checksum the beginning."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else repr(value)


def _flat(config):
    """A configuration with each net's sizes beside the other settings, as 'vae num_latents'."""
    flat = {}
    for name, value in config.items():
        nested = value if isinstance(value, dict) else {}
        flat.update({f"{name} {key}": each for key, each in nested.items()} or {name: value})
    return flat
