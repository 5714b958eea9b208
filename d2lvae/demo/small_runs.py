"""Two small runs, which the explorer trains where there is no finished run to show."""

import time

from .. import data, runs
from ..config import Config
from ..discriminators import DenseLogReg
from ..storage import paths
from ..storage.files import CheckpointError
from ..storage.records import RunBusy
from ..vae import DenseVAE
from .saved_runs import finished_runs, load_run

__all__ = ["train_small"]

SMALL = {"num_train": 8_192, "epochs": 6, "pixel_loss": "bce", "seed": 0}
WAIT = 2.0  # seconds, until it is tried again whether another process has ended its training


def train_small(results_dir, progress, on_busy):
    """Train a small VAE on synthetic digits, and the same with a discriminator.

    Parameters
    ----------
    results_dir : path
        The runs go into `explorer` there; one that is there and can be shown is left as it is.
    progress : callable
        Called with a number of images whenever so many more have been learned from.
    on_busy : callable
        Called while another process is training one of them: it is waited for.
    """
    folder = str(paths.results_root(results_dir) / "explorer")
    images = data.drawn_digits(SMALL["num_train"], SMALL["seed"])
    for disc, weight in ((None, 0.0), (DenseLogReg(1, 200, images.image_shape), 1.0)):
        config = Config.from_dict({**SMALL, "disc_weight": weight, "results_dir": folder})
        vae = DenseVAE(5, 3, 400, images.image_shape)
        while not _is_there(runs.run_folder(vae, images, config, disc), images):
            try:
                runs.fit(vae, images, config, disc, progress)
                break
            except RunBusy:
                on_busy()
                time.sleep(WAIT)
        else:
            progress(SMALL["epochs"] * len(images.train))


def _is_there(folder, images):
    """Whether a run is finished and can be loaded."""
    try:
        return folder in finished_runs(folder.parents[2]) and bool(load_run(folder, images))
    except (CheckpointError, data.DataError):
        return False
