"""Whether nets, images, parameters and workers agree with one another, before any work."""

import platform

from mxnet.gluon import nn

from ..config import DEFAULTS, FACES, Config
from ..engine.layers import all_layers
from ..engine.trial import check_shapes
from .errors import ParameterError, RunError

OF_DISCRIMINATORS = ("learned_loss", "feature_weight", "disc_lr", "num_solo_epochs")
# Parameters of a notebook, and what the nets' own records call them.
SIZES = ("num_layers", "num_hiddens", "base_channels")
OF_VAE = {name: name for name in ("num_latents", *SIZES, "upsampling")}
OF_DISC = {**{f"disc_{name}": name for name in SIZES}, "disc_net": "name"}
# What a net's texts are where its record does not say.
STRINGS = {"upsampling": "transposed", "name": "resnet18_v1"}
# Which images the parameter `data` may mean. Images of other names are one's own.
SETS = {"mnist": ("MNIST",), "anime": ("anime",), "drawn": ("drawn_digits", "drawn_faces")}


def check_kinds(given, config):
    """Make sure that nets, images and parameters are of the kinds that `fit` takes.

    `given` are pairs of the VAE, the discriminator or None, and the images, each with the class
    that it must be of.  TypeError for another kind, or a VAE with a `hybrid_forward` of its own,
    which no training would use; ParameterError if features are to be compared, and the
    discriminator has none.
    """
    for one, kind in given:
        if one is not None and not isinstance(one, kind):
            how = "make one of the arrays" if kind.__name__ == "ImageSet" else "derive its class"
            raise TypeError(f"{type(one).__name__} is no d2lvae.{kind.__name__}: {how} from it")
    vae, kind = given[0]
    if type(vae).hybrid_forward is not kind.hybrid_forward:
        raise TypeError(
            f"{type(vae).__name__}.hybrid_forward would not be used: training calls `encode`, "
            "`reparameterize` and `decode`. Override these instead"
        )
    if not isinstance(config, Config):
        raise TypeError(
            f"config must be a d2lvae.Config; found {type(config).__name__}. "
            "Config.from_dict makes one from a dict"
        )
    discriminator = given[1][0]
    compares = discriminator is not None and config.learned_loss != "adversarial"
    if compares and not hasattr(discriminator, "features"):
        raise ParameterError(
            f"learned_loss {config.learned_loss!r} compares features, and "
            f"{type(discriminator).__name__} has no method `features`. "
            "For example: -p learned_loss adversarial"
        )


def check_agreement(vae, images, config, discriminator=None):
    """Make sure that parameters, images, nets and losses fit one another.

    RunError if a parameter belongs to a discriminator that is not there, or the nets or losses do
    not fit the images; ParameterError for parameters that contradict each other, the images or the
    nets, or that have changed in the notebook.
    """
    config.check_notebook()
    check_images(images, config)
    check_nets(vae, discriminator, config)
    own_loss = config.pixel_loss if callable(config.pixel_loss) else None
    compares = config.learned_loss != "adversarial" and discriminator is not None
    check_shapes(vae, discriminator, own_loss, compares, images.image_shape)


def check_images(images, config):
    """Make sure that the images are those that the parameters ask for.

    A ParameterError names the parameter, and what the images are.
    """
    mend = "run the cell that loads the images again, or give the parameter that fits them"
    limit, number, given = config.num_train, len(images.train), config.given
    if not given:  # a Config by hand: what is not the default was meant
        meant = {name: getattr(config, name) for name in ("data", "image_size")}
        given = {name: value for name, value in meant.items() if value != DEFAULTS[name]}
    is_whole = images.num_first == 0 and limit >= number  # the first of so many are all
    if limit != images.num_first and not is_whole and (limit or "num_train" in given):
        kind = "the first ones" if images.num_first else "all of a set"
        raise ParameterError(
            f"num_train is {limit}, but these images are {number:,} for training ({kind}): {mend}"
        )
    own = not any(images.name in names for names in SETS.values())
    found = {"data": images.name, "seed": images.seed, "image_size": images.image_shape[1]}
    allowed = {"data": SETS.get(config.data, (images.name,)), "seed": (None, given.get("seed"))}
    if images.name in FACES:
        allowed["image_size"] = (given.get("image_size"),)
    for name, values in allowed.items():
        if name in given and found[name] not in values and not own:
            raise ParameterError(
                f"{name} is {given[name]!r}, but these images are {images} "
                f"({name} {found[name]!r}): {mend}"
            )


def check_nets(vae, discriminator, config):
    """Make sure that the nets are those that the parameters ask for.

    A ParameterError names the parameter, and what the net has.  RunError for a discriminator's
    parameter without one.
    """
    for net, names in ((vae, OF_VAE), (discriminator, OF_DISC)):
        for name, own in names.items() if net is not None else ():
            wanted, found = getattr(config, name), net.config.get(own, STRINGS.get(own))
            if None not in (wanted, found) and wanted != found:
                raise ParameterError(
                    f"{name} is {wanted!r}, but this {type(net).__name__} has {found!r}: run the "
                    "cell that makes the net again, or give the parameter that fits it"
                )
    for name in ("disc_weight", *OF_DISCRIMINATORS):
        value, default = getattr(config, name), DEFAULTS[name]
        if discriminator is None and value not in (default, 0.0):
            raise RunError(
                f"{name} is {value}, but this experiment has no discriminator: give {default}, or "
                "take a notebook that has one"
            )
    layers = [layer for net in (vae, discriminator) if net is not None for layer in all_layers(net)]
    if config.precision != "float32" and not any(isinstance(each, nn.Conv2D) for each in layers):
        raise ParameterError(
            "precision 'bfloat16' is for convolutions, and these nets have none. For example: "
            "-p precision float32"
        )


def check_same_config(group, settings):
    """Make sure that all processes are about to train the same, before any work.

    A RunError names the worker and the settings that differ from worker 0's.  ParameterError for
    fewer images in a minibatch than workers.
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
