"""What a run depends on, and the name of the folder that its results are in."""
from .datasets import FACES
from .parameters import ParameterError, checked

__all__ = ["RunError", "OFF", "FLOAT32", "OPTIONAL", "USUAL", "run_name", "settings_of"]

# The original project's settings: folder names tell only what differs from them.
USUAL = {"lr": 1e-3, "batch_size": 64, "pixel_weight": 1.0, "kl_weight": 1.0, "seed": 0, "num_train": 0}
OFF = {"learned_loss": "adversarial", "feature_weight": 1.0, "disc_lr": 0.0, "num_solo_epochs": 0, "pixel_weight_decay": 1.0,
       "min_disc_loss": 0.0, "max_disc_loss": 0.0}  # of a run with a discriminator; in its settings only if they are on
FLOAT32 = {"precision": "float32"}  # likewise, of any run
OPTIONAL = {**OFF, **FLOAT32}  # what a record means that does not name them
USUAL_DISC_WEIGHT = 1.0  # on digits; on faces the weight is always told
USUAL_IMAGE_SIZE = 64  # of faces
USUAL_RESNET = "resnet18_v1"
# What the original's folder names tell of each net.
NAMES = {"ConvDisc": "ConvDisc_LeakyReLU", "ResNetDisc": "ResNet"}
NUMBERS = {"DenseVAE": ("num_latents", "num_layers", "num_hiddens"), "ConvVAE": ("num_latents", "base_channels"),
           "DenseLogReg": ("num_layers", "num_hiddens"), "ConvDisc": ("base_channels",), "ResNetDisc": ()}


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
    numbers = [net[name] for net in nets for name in NUMBERS[net["net"]]]
    if len(nets) == 1 and not faces:
        numbers.append(settings["pixel_loss"])
    numbers.append(settings["epochs"])
    if len(nets) == 2 and faces:
        numbers.append(f"{settings['disc_weight']:g}")
    numbers += [f"{name}_{value}" for name, value in _unusual(settings, nets, faces)]
    names = [NAMES.get(net["net"], net["net"]) for net in nets]
    return f"{'_'.join(names)}_on_{settings['data']}/{'_'.join(map(str, numbers))}"


def _unusual(settings, nets, faces):
    """The settings that the original's folder name does not tell and that differ from the original's."""
    usual, found = {**USUAL, **OPTIONAL}, {**OPTIONAL, **settings}
    if faces:
        usual.update(pixel_loss="bce", image_size=USUAL_IMAGE_SIZE)
        found["image_size"] = nets[0]["image_shape"][1]
    if len(nets) == 2 and not faces:
        usual.update(pixel_loss="bce", disc_weight=USUAL_DISC_WEIGHT)
    usual["upsampling"], found["upsampling"] = "transposed", nets[0].get("upsampling", "transposed")
    usual["disc_norm"], found["disc_norm"] = "batch", nets[-1].get("norm", "batch")
    if nets[-1]["net"] == "ResNetDisc":
        usual["disc_net"], found["disc_net"] = USUAL_RESNET, nets[-1]["name"]
    return [(name, found[name]) for name, value in usual.items() if found[name] != value]


def settings_of(vae, images, config, discriminator=None):
    """All that a run's numbers depend on, but for the machine: what must agree when it is resumed.

    Parameters
    ----------
    vae : VAE
    images : ImageSet
    config : dict
        A notebook's parameters.
    discriminator : HybridBlock, optional

    Returns
    -------
    dict
        What the seed's recipe does not have is in it only if it is on.

    Raises
    ------
    RunError
        A parameter is missing, or belongs to a discriminator that is not there.
    ParameterError
        Parameters that contradict each other.
    """
    names = ["epochs", "batch_size", "lr", "pixel_loss", "pixel_weight", "kl_weight", "seed", "num_train"]
    missing = [name for name in [*names, "resume", "results_dir"] if name not in config]
    if missing:
        raise RunError(f"the parameters lack {', '.join(missing)}: every notebook's first cell sets them")
    settings = {name: checked(name, config[name]) for name in names}
    settings.update(data=images.name, data_sha256=images.sha256(), vae=vae.config)
    settings.update({name: checked(name, config[name]) for name, usual in FLOAT32.items() if config.get(name, usual) != usual})
    if "precision" in settings and not any("Conv" in net.config["net"] or "ResNet" in net.config["net"] for net in (vae, discriminator) if net):
        raise ParameterError("precision 'bfloat16' is for convolutions, and these nets have none. For example: -p precision float32")
    if discriminator is not None:
        settings.update(disc=discriminator.config, disc_weight=checked("disc_weight", config["disc_weight"]))
        settings.update({name: checked(name, config[name]) for name, usual in OFF.items() if config.get(name, usual) != usual})
        if settings.get("learned_loss") == "features":
            settings["disc_weight"] = 0.0  # its verdict does not count
        elif "learned_loss" not in settings and "feature_weight" in settings:
            raise ParameterError(f"feature_weight is {settings['feature_weight']}, but learned_loss 'adversarial' compares no features. "
                                 "For example: -p learned_loss both")
        if settings.get("num_solo_epochs", 0) >= settings["epochs"]:
            raise ParameterError(f"num_solo_epochs must be below epochs ({settings['epochs']}), or the discriminator never learns; "
                                 f"found {settings['num_solo_epochs']}. For example: -p num_solo_epochs {settings['epochs'] // 2}")
    for name, usual in {"disc_weight": 0.0, **OFF}.items():
        if discriminator is None and config.get(name, usual) != usual:
            raise RunError(f"{name} is {config[name]}, but this experiment has no discriminator: give {usual}, or take a "
                           "notebook that has one")
    return settings
