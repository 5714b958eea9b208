"""What a run depends on, taken from what is used; and the name of the folder that its results are in."""

import platform

from ..config import DEFAULTS, ParameterError
from ..data import FACES
from .nets import describe

__all__ = [
    "RunBusy",
    "RunError",
    "OPTIONAL",
    "check_images",
    "check_nets",
    "check_same_config",
    "run_name",
    "settings_of",
]

TRAINING = ("epochs", "batch_size", "lr", "pixel_loss", "pixel_weight", "kl_weight", "seed")
# In the settings only if they are on: what a record means that does not name them.
OF_DISCRIMINATORS = ("learned_loss", "feature_weight", "disc_lr", "num_solo_epochs")
OPTIONAL = {name: DEFAULTS[name] for name in (*OF_DISCRIMINATORS, "precision")}
# Folder names tell only what differs from the original project's settings.
USUAL = {
    "lr": 1e-3,
    "batch_size": 64,
    "pixel_weight": 1.0,
    "kl_weight": 1.0,
    "seed": 0,
    "num_train": 0,
}
USUAL_DISC_WEIGHT = 1.0  # on digits; on faces the weight is always told
USUAL_IMAGE_SIZE = 64  # of faces
# What the original's folder names tell of each net; of a net of one's own they tell all numbers.
NAMES = {"ConvDisc": "ConvDisc_LeakyReLU", "ResNetDisc": "ResNet"}
STRINGS = {"upsampling": "transposed", "name": "resnet18_v1"}  # told where they differ from these
LABELS = {"name": "disc_net"}
# Parameters of a notebook, and what the nets' own records call them.
OF_VAE = {
    name: name
    for name in ("num_latents", "num_layers", "num_hiddens", "base_channels", "upsampling")
}
OF_DISC = {
    "disc_num_layers": "num_layers",
    "disc_num_hiddens": "num_hiddens",
    "disc_base_channels": "base_channels",
    "disc_net": "name",
}
SETS = {"mnist": ("MNIST",), "anime": ("anime",), "drawn": ("drawn_digits", "drawn_faces")}


class RunError(RuntimeError):
    """A run that cannot begin or be recorded; the message says why and what to do."""


class RunBusy(RunError):
    """Another process is at work in the run's folder."""


def run_name(settings):
    """The original project's folder name for these settings, e.g. 'DenseVAE_on_MNIST/5_3_400_bce_50'.

    Whatever differs from the original's settings is appended by name, so that two configurations never
    share a folder.
    """
    nets = [settings[part] for part in ("vae", "disc") if part in settings]
    faces = settings["data"] in FACES
    numbers = [value for net in nets for value in _numbers(net)]
    if len(nets) == 1 and not faces:
        numbers.append(settings["pixel_loss"])
    numbers.append(settings["epochs"])
    if len(nets) == 2 and faces:
        numbers.append(f"{settings['disc_weight']:g}")
    numbers += [f"{name}_{value}" for name, value in _unusual(settings, nets, faces)]
    names = [NAMES.get(net["net"], net["net"]) for net in nets]
    return f"{'_'.join(names)}_on_{settings['data']}/{'_'.join(map(str, numbers))}"


def _numbers(net):
    return [value for name, value in net.items() if type(value) in (int, float, bool)]


def _unusual(settings, nets, faces):
    """The settings that the original's folder name does not tell and that differ from the original's."""
    usual, found = {**USUAL, **OPTIONAL}, {**OPTIONAL, **settings}
    if faces:
        usual.update(pixel_loss="bce", image_size=USUAL_IMAGE_SIZE)
        found["image_size"] = nets[0]["image_shape"][1]
    if len(nets) == 2 and not faces:
        usual.update(pixel_loss="bce", disc_weight=USUAL_DISC_WEIGHT)
    strings = [
        (LABELS.get(name, name), value)
        for net in nets
        for name, value in net.items()
        if type(value) is str and name != "net" and value != STRINGS.get(name)
    ]
    weights = [
        (f"{part}_weights", checksum) for part, checksum in settings.get("own_weights", {}).items()
    ]
    return (
        [(name, found[name]) for name, value in usual.items() if found[name] != value]
        + strings
        + weights
    )


def settings_of(vae, images, config, discriminator=None):
    """All that a run's numbers depend on, but for the machine: what must agree when it is resumed.

    Taken from what is used, the nets and the images; the parameters must not contradict them.

    Parameters
    ----------
    vae : VAE
    images : ImageSet
    config : Config
    discriminator : HybridBlock, optional

    Returns
    -------
    dict
        What the original's recipe does not have is in it only if it is on.

    Raises
    ------
    RunError
        A parameter belongs to a discriminator that is not there.
    ParameterError
        Parameters that contradict each other, the images or the nets.
    """
    if config.notebook is not None:
        config.check_notebook()
    check_images(images, config)
    check_nets(vae, discriminator, config)
    settings = {name: getattr(config, name) for name in TRAINING}
    if callable(config.pixel_loss):
        settings["pixel_loss"] = config.pixel_loss.__name__
    settings.update(
        num_train=images.num_first, data=images.name, data_sha256=images.sha256(), vae=describe(vae)
    )
    if discriminator is not None:
        settings.update(disc=describe(discriminator), disc_weight=config.disc_weight)
        settings.update(
            {
                name: getattr(config, name)
                for name in OF_DISCRIMINATORS
                if getattr(config, name) != DEFAULTS[name]
            }
        )
        if config.learned_loss == "features":
            settings["disc_weight"] = 0.0  # the adversarial loss does not count
    if config.precision != DEFAULTS["precision"]:
        settings["precision"] = config.precision
    return settings


def check_images(images, config):
    """Make sure that the images are those that the parameters ask for.

    Raises
    ------
    ParameterError
        Naming the parameter, and what the images are.
    """
    mend = "run the cell that loads the images again, or give the parameter that fits them"
    limit, number = config.num_train, len(images.train)
    if (
        limit != images.num_first
        and not (images.num_first == 0 and limit >= number)
        and (limit or "num_train" in config.given)
    ):
        raise ParameterError(
            f"num_train is {limit}, but these images are {number:,} for training "
            f"({'the first ones' if images.num_first else 'all of a set'}): {mend}"
        )
    known = {
        "data": images.name in SETS.get(config.data, (images.name,)),
        "seed": images.seed in (None, config.given.get("seed")),
        "image_size": images.name not in FACES
        or config.given.get("image_size") == images.image_shape[1],
    }
    found = {"data": images.name, "seed": images.seed, "image_size": images.image_shape[1]}
    for name, agrees in known.items():
        if (
            name in config.given
            and not agrees
            and any(images.name in names for names in SETS.values())
        ):
            raise ParameterError(
                f"{name} is {config.given[name]!r}, but these images are {images} ({name} {found[name]!r}): {mend}"
            )


def check_nets(vae, discriminator, config):
    """Make sure that the nets are those that the parameters ask for.

    Raises
    ------
    ParameterError
        Naming the parameter, and what the net has.
    RunError
        A parameter of a discriminator without one.
    """
    for net, names in ((vae, OF_VAE), (discriminator, OF_DISC)):
        for name, own in names.items() if net is not None else ():
            wanted, found = getattr(config, name), net.config.get(own, STRINGS.get(own))
            if None not in (wanted, found) and wanted != found:
                raise ParameterError(
                    f"{name} is {wanted!r}, but this {type(net).__name__} has {found!r}: run the cell that "
                    "makes the net again, or give the parameter that fits it"
                )
    for name in ("disc_weight", *OF_DISCRIMINATORS):
        value = getattr(config, name)
        if discriminator is None and value not in (DEFAULTS[name], 0.0):
            raise RunError(
                f"{name} is {value}, but this experiment has no discriminator: give {DEFAULTS[name]}, or take a "
                "notebook that has one"
            )
    if config.precision != "float32" and not any(map(_has_convolutions, (vae, discriminator))):
        raise ParameterError(
            "precision 'bfloat16' is for convolutions, and these nets have none. For example: -p precision float32"
        )


def _has_convolutions(net):
    return net is not None and "Conv2D" in repr(net)


def check_same_config(group, settings):
    """Make sure that all processes are about to train the same, before any work.

    Raises
    ------
    RunError
        Naming the worker and the settings that differ from worker 0's.
    ParameterError
        Fewer images in a minibatch than workers.
    """
    if settings["batch_size"] < group.size:
        raise ParameterError(
            f"batch_size must be at least the number of workers, {group.size}, who share each "
            f"minibatch; found {settings['batch_size']}. "
            f"For example: -p batch_size {64 * -(-group.size // 64)}"
        )
    (first_host, first), *others = group.allgather([platform.node(), settings])
    for rank, (host, found) in enumerate(others, 1):
        differing = [
            f"{name} {found.get(name)!r} there, {first.get(name)!r} on worker 0"
            for name in sorted({*found, *first})
            if found.get(name) != first.get(name)
        ]
        if differing:
            raise RunError(
                f"worker {rank} on {host} is about to train something else than worker 0 on "
                f"{first_host} ({'; '.join(differing)}): give all the same parameters and the same "
                "data (data_sha256 is a checksum of the images)"
            )
