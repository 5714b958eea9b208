"""A small training with every kind of state, which says what it is doing so that others can disturb it.

    python tests/stress/victim.py RESULTS_DIR [--epochs 6] [--pause 0.2] [--clock-back]

A convolutional VAE and discriminator on drawn faces of 32 x 32: weights, BatchNorm's running statistics and
two Adams.  It always resumes.  Lines that begin with `@` tell: ready, resumed N, train, checkpoint, kept N, record, done.
"""

import argparse
import sys
import time

import d2lvae
from d2lvae import data as datasets
from d2lvae import runs, training
from d2lvae.evaluation import classifier
from d2lvae.sources import synthetic_faces
from d2lvae.storage import checkpoints, folders

NUM_TRAIN, NUM_VALIDATION = 192, 20
classifier.NUM_FACES = 256  # that its measures are the same matters here, not how good they are


def config(results_dir, epochs):
    """The parameters of its run."""
    return d2lvae.Config(
        epochs=epochs, batch_size=32, disc_weight=10.0, resume=True, results_dir=str(results_dir)
    )


def nets():
    """New ones."""
    return d2lvae.ConvVAE(8, 4, (3, 32, 32)), d2lvae.ConvDisc(4, (3, 32, 32))


def faces():
    """Its images, always the same."""
    images, _ = synthetic_faces.draw_faces(NUM_TRAIN + NUM_VALIDATION, image_size=32)
    return datasets.ImageSet(
        "drawn_faces",
        images[NUM_VALIDATION:],
        images[:NUM_VALIDATION],
        "drawn by rule from seed 0",
        False,
    )


def say(words):
    print(f"@ {words}", flush=True)


def announce(module, name, before, after=None):
    """Make a function of the package say words before it begins, and what `after` makes of its arguments when it has ended."""
    function = getattr(module, name)

    def announced(*arguments, **options):
        say(before)
        result = function(*arguments, **options)
        if after:
            say(after(*arguments))
        return result

    setattr(module, name, announced)


def set_clock_back():
    """Every look at the clock on the wall finds it an hour earlier."""
    looks, now = [], time.time()
    time.time = lambda: looks.append(1) or now - 3600 * len(looks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results_dir")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0, help="seconds after each checkpoint")
    parser.add_argument("--clock-back", action="store_true")
    arguments = parser.parse_args()
    if arguments.clock_back:
        set_clock_back()
    announce(training, "train", "train")
    announce(
        checkpoints,
        "save_checkpoint",
        "checkpoint",
        lambda folder, arrays, record: f"kept {len(record['history'])}",
    )
    announce(
        folders,
        "resume",
        "resume",
        lambda step, settings, history, *others: f"resumed {len(history)}",
    )
    announce(runs, "_end", "record")
    if arguments.pause:
        save = checkpoints.save_checkpoint
        checkpoints.save_checkpoint = lambda *state: (save(*state), time.sleep(arguments.pause))
    images, (vae, disc) = faces(), nets()
    say("ready")
    run = d2lvae.fit(vae, images, config(arguments.results_dir, arguments.epochs), disc)
    d2lvae.evaluate(run, images)
    say("done")


if __name__ == "__main__":
    sys.exit(main())
