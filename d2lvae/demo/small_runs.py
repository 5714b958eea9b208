"""Small runs on synthetic images, trained where there is no finished run to show."""

import functools
import time

from .. import data, runs
from ..config import Config
from ..discriminators import ConvDisc, DenseLogReg
from ..storage import paths
from ..storage.errors import CheckpointError, RunBusy
from ..storage.results import is_finished
from ..vae import ConvVAE, DenseVAE
from .saved_runs import drawn_digits, load_run

WAIT = 2.0  # seconds, until it is tried again whether another process has ended its training
DIGITS = {"num_train": 8_192, "epochs": 10, "disc_weight": 1.0}
FACES = {"num_train": 4_096, "epochs": 8, "disc_weight": 10.0}

_digits = lambda num_train: drawn_digits(num_train, 0)
_faces = functools.lru_cache(maxsize=1)(data.drawn_faces)


def _dense(shape, upsampling):
    return DenseVAE(5, 3, 200, shape), DenseLogReg(1, 200, shape)


def _conv(shape, upsampling):
    return ConvVAE(64, 8, shape, upsampling), ConvDisc(8, shape)


# Each: load(num_train), make_nets(image_shape, upsampling), parameters, the learned loss
RECIPES = [
    (_digits, _dense, DIGITS, None),
    (_digits, _dense, DIGITS, "adversarial"),
    (_faces, _conv, FACES, None),
    (_faces, _conv, FACES, "adversarial"),
    (_faces, _conv, FACES, "features"),
]


def train_small(results_dir, recipes, epochs=0):
    """Train small nets: on digits plain and with a discriminator, on faces with its features too.

    The runs go into `explorer` in `results_dir`; gives their folders, in the recipes' order.  One
    that is there and can be shown is left as it is; one that was stopped goes on; one that another
    process trains is waited for.  `recipes` are some of `RECIPES`.  More `epochs` give better
    images; 0: as many as the recipes say, two minutes on two cores.
    """
    folder = str(paths.results_root(results_dir) / "explorer")
    return [_train(folder, recipe, epochs) for recipe in recipes]


def _train(results_dir, recipe, epochs):
    """Train one of them if it is not there; its folder."""
    load_images, make_nets, parameters, learned_loss = recipe
    values = {**parameters, "results_dir": results_dir, "resume": True, "pixel_loss": "bce"}
    values["epochs"] = epochs or values["epochs"]
    images = load_images(values["num_train"])
    vae, disc = make_nets(
        images.image_shape, "resize" if learned_loss == "features" else "transposed"
    )
    if learned_loss is None:
        disc, values["disc_weight"] = None, 0.0
    else:
        values["learned_loss"] = learned_loss
    config = Config.from_dict(values)
    run_folder = runs.run_folder(vae, images, config, disc)
    while not _is_there(run_folder, images):
        try:
            if not runs.fit(vae, images, config, disc).metrics["finished"]:
                raise KeyboardInterrupt(f"{run_folder} is not finished; the next call goes on")
            return run_folder
        except RunBusy:
            paths.say("another process is training it: waiting")
            time.sleep(WAIT)
    return run_folder


def _is_there(folder, images):
    """Whether a run is finished and can be loaded."""
    try:
        return is_finished(folder) and bool(load_run(folder, images))
    except (CheckpointError, data.DataError):
        return False
