"""Is it sharper?  The same VAE under different losses, from the same weights and on the same
images, several times each.

    make study      (python -m d2lvae.evaluation.study; what is done already is not done again)
    python -m d2lvae.evaluation.study --samples drawn anime     (the recipes of `FOR_SAMPLES` alone)

A study is a list of conditions; each is trained once for every seed by :func:`d2lvae.fit` into
`results/study/runs`, and the reconstructions of the same validation images are measured one by one
(:mod:`d2lvae.evaluation.metrics`).  What stays in the repository is the summary,
`results/study/DATA.json`: means, and differences from the plain VAE with bootstrap intervals.
"""

import argparse
import json
import os

import numpy as np
from mxnet import autograd

from .. import __version__, data, discriminators, runs, vae
from ..config import Config
from ..engine.progress import wrapped
from ..storage import codes, paths, png
from ..storage.files import read_json
from ..storage.nets import load_net
from ..storage.results import is_finished, write_text
from . import classifier, metrics, quality
from .figures import crops, show_intervals, show_rows

PLAIN = "plain VAE"
# What differs between the conditions; `disc` is the discriminator's kind, None for a VAE alone.
ON_DIGITS = {
    PLAIN: {},
    "+ dense discriminator": {"disc": "DenseLogReg", "disc_weight": 1.0},
    "+ its features": {"disc": "DenseLogReg", "learned_loss": "features"},
    "+ both": {"disc": "DenseLogReg", "disc_weight": 1.0, "learned_loss": "both"},
}
ON_FACES = {
    PLAIN: {},
    "+ dense discriminator": {"disc": "DenseLogReg", "disc_weight": 10.0},
    "+ convolutional discriminator": {"disc": "ConvDisc", "disc_weight": 10.0},
    "+ its features": {"disc": "ConvDisc", "learned_loss": "features"},
    "+ both": {"disc": "ConvDisc", "disc_weight": 10.0, "learned_loss": "both"},
    "resizing decoder": {"upsampling": "resize"},
    "+ features, resizing decoder": {
        "disc": "ConvDisc",
        "learned_loss": "features",
        "upsampling": "resize",
    },
    "pixels twice": {"pixel_weight": 2.0},
    "+ ResNet-18": {"disc": "ResNetDisc", "disc_weight": 10.0},
}
SHOWN = (
    "originals",
    PLAIN,
    "+ convolutional discriminator",
    "+ features, resizing decoder",
)  # of faces, as whole images
CONDITIONS = {
    "MNIST": ON_DIGITS,
    "drawn_digits": ON_DIGITS,
    "anime": ON_FACES,
    "drawn_faces": ON_FACES,
}
FOR_SAMPLES = (PLAIN, "+ features, resizing decoder")
EPOCHS, NUM_FACES = 10, 4_096  # of each training; of digits it has all
BLURRED = "originals, blurred"
CONTROLS = {
    BLURRED: lambda originals, plain: metrics.blurred(originals),
    "plain VAE, unsharp mask": lambda originals, plain: metrics.unsharp_masked(plain),
}


def nets_for(condition, image_shape):
    """The VAE and perhaps the discriminator of a condition, in sizes from the original's README."""
    if image_shape[0] == 1:
        net = vae.DenseVAE(5, 3, 400, image_shape)
        width = 200
    else:
        net = vae.ConvVAE(256, 16, image_shape, condition.get("upsampling", "transposed"))
        width = 1024
    kinds = {
        "DenseLogReg": lambda: discriminators.DenseLogReg(1, width, image_shape),
        "ConvDisc": lambda: discriminators.ConvDisc(16, image_shape),
        "ResNetDisc": lambda: discriminators.ResNetDisc("resnet18_v1", image_shape),
    }
    return net, kinds[condition["disc"]]() if "disc" in condition else None


def config_for(condition, seed, epochs, results_dir):
    """The parameters of one run; ParameterError if a name in the condition is no parameter's."""
    own = {name: value for name, value in condition.items() if name not in ("disc", "upsampling")}
    return Config.from_dict(
        {"epochs": epochs, "seed": seed, "resume": True, "results_dir": str(results_dir), **own}
    )


def train_all(images, conditions, seeds, epochs, results_dir):
    """Train what has not been trained yet; the runs' folders by condition and seed."""
    results_dir = results_dir / f"{images.name}_{len(images.train)}"
    folders, checksum = {}, images.sha256()
    for name, condition in conditions.items():
        for seed in seeds:
            net, disc = nets_for(condition, images.image_shape)
            config = config_for(condition, seed, epochs, results_dir)
            folder = runs.run_folder(net, images, config, disc)
            if not is_finished(folder, checksum):
                print(f"{images.title}, seed {seed}: {name}", flush=True)
                if not runs.fit(net, images, config, disc).metrics["finished"]:
                    raise KeyboardInterrupt(
                        f"{folder} is not finished; the next call goes on from here"
                    )
            folders[name, seed] = folder
    return folders


def measure_all(images, folders):
    """Every measure of every condition and control, image by image.

    `folders` are from :func:`train_all`.  By condition, then measure: (S, N) for S seeds and N
    images; kernel distances (S,), those of samples only of conditions: 'kid_prior', 'kid_codes',
    and 'kid_prior_batch' of the former if the decoder's BatchNorm takes each minibatch's
    statistics, as it does in training.
    """
    originals = images.validation[: quality.NUM_MEASURED]
    judge = classifier.classifier_for(images)

    def measures(reconstructed, samples=None):
        sets = {"kid": reconstructed, **(samples or {})}
        distances = quality.kernel_distances(judge, originals, sets)
        return {**metrics.per_image(originals, reconstructed), **distances}

    seeds, found = sorted({seed for _, seed in folders}), {}
    for name in dict.fromkeys(name for name, _ in folders):
        nets = [load_net(folders[name, seed] / "vae.npz") for seed in seeds]
        reconstructed = [runs.reconstruct(net, originals) for net in nets]
        found[name] = list(map(measures, reconstructed, map(_samples, nets)))
        if name == PLAIN:
            for control, make in CONTROLS.items():
                found[control] = [measures(make(originals, each)) for each in reconstructed]
    return {
        name: {key: np.stack([one[key] for one in each]) for key in each[0]}
        for name, each in found.items()
    }


def _samples(net):
    """Samples of either kind; those from the prior also with the statistics of each minibatch."""
    found, size = quality.samples_of(net), (quality.NUM_MEASURED, net.num_latents)
    with autograd.train_mode():
        noise = np.random.default_rng(0).standard_normal(size, np.float32)
        found["kid_prior_batch"] = codes.decode(net, noise)
    return found


def summarize(measures):
    """Means and paired differences from the plain VAE, each with a 95 % interval.

    `measures` are from :func:`measure_all`; intervals are bootstrapped over seeds and images.
    By condition, then measure: 'mean', 'by_seed', and for all but the plain VAE 'difference',
    'low', 'high'.  Of the kernel distance, one number a seed, the interval is over the seeds
    alone.  Of the blurred originals, which no VAE made, there is no difference, and the
    interval is the mean's.
    """
    summary = {}
    for name, found in measures.items():
        summary[name] = {}
        for key, values in found.items():
            row = {
                "mean": float(values.mean()),
                "by_seed": [float(one) for one in values.reshape(len(values), -1).mean(axis=1)],
            }
            if name == BLURRED:
                row["low"], row["high"] = metrics.bootstrap_interval(values)
            elif name != PLAIN:
                differences = values - measures[PLAIN][key]
                row["difference"] = float(differences.mean())
                row["low"], row["high"] = metrics.bootstrap_interval(differences)
            summary[name][key] = row
    return summary


def reconstructions(images, folders, num_images=4):
    """The same validation images under each condition, for the first seed.

    They are uint8 (num_images, C, H, W).  Of a drawn set, whose images may be shown, also the
    originals.
    """
    originals, seed = images.validation[:num_images], min(seed for _, seed in folders)
    found = {} if images.is_real else {"originals": originals}
    for name in dict.fromkeys(name for name, _ in folders):
        found[name] = runs.reconstruct(load_net(folders[name, seed] / "vae.npz"), originals)
    return found


def samples(images, folders, num_images=5):
    """Samples of both kinds under each condition, for the first seed.

    They are uint8 (num_images, C, H, W).
    """
    seed, found = min(seed for _, seed in folders), {}
    for name in dict.fromkeys(name for name, _ in folders):
        net = load_net(folders[name, seed] / "vae.npz")
        for place, drawn in codes.samples(net, num_images).items():
            found[f"{name},\n{place}"] = drawn
    return found


def study(images, conditions, seeds, epochs, folder, name=None):
    """Train, measure, and write the summary and the crops.

    Parameters
    ----------
    images : ImageSet
    conditions : dict
        Such as `CONDITIONS[images.name]`.
    seeds : sequence of int
        A training of each condition with each.
    epochs : int
    folder : path
        The runs go into `folder/runs`, the summary to `folder/DATA.json`, its figure to
        `folder/DATA.png`, images and their crops to `folder/DATA_images.png` and
        `folder/DATA_crops.png`, samples to `folder/DATA_samples.png`.
    name : str, optional
        What to call these files, by default the data set's name.

    Returns
    -------
    dict
        As in the .json file.
    """
    name = name or images.name
    folders = train_all(images, conditions, seeds, epochs, folder / "runs")
    record = {
        "d2lvae": __version__,
        "data": images.name,
        "num_train": len(images.train),
        "epochs": epochs,
        "seeds": list(seeds),
        "num_images": min(quality.NUM_MEASURED, len(images.validation)),
        "conditions": conditions,
        "kid_features": classifier.classifier_for(images).about,
        "losses": {
            condition: json.loads((path / "metrics.json").read_text())["final"]
            for (condition, seed), path in folders.items()
            if seed == seeds[0]
        },
        "measures": summarize(measure_all(images, folders)),
    }
    title = f"{images.title}, {epochs} epochs, seeds {', '.join(map(str, seeds))}"
    png.save(show_intervals(record["measures"], title), folder / f"{name}.png")
    shown = f"{images.title}: samples, {epochs} epochs"
    png.save(show_rows(samples(images, folders), shown, 1), folder / f"{name}_samples.png")
    rows, scale = reconstructions(images, folders, 6), 4 if images.image_shape[1] > 28 else 8
    png.save(
        show_rows(crops(images, rows), f"{images.title}: the same spots, {scale} x", scale),
        crops_file(name, folder),
    )
    shown = {
        condition: reconstructed[:4]
        for condition, reconstructed in rows.items()
        if condition in SHOWN or images.image_shape[1] == 28
    }
    png.save(show_rows(shown, f"{images.title}: the same images", 2), folder / f"{name}_images.png")
    write_text(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
    return record


def conclusions(record):
    """What follows from a summary, a sentence a condition.

    A change counts if its interval does not hold 0 and all seeds agree on its direction.
    """
    sentences = []
    for name, found in record["measures"].items():
        if "difference" not in found["psnr"] or name in CONTROLS:
            continue
        changes = [
            _change(found[key], record["measures"][PLAIN][key], *words)
            for key, words in WORDS.items()
        ]
        shown = ", ".join(change for change in changes if change) or "no difference shown"
        sentence = f"{name}: {shown}; PSNR {found['psnr']['difference']:+.2f} dB."
        sentences.append("\n".join(wrapped(sentence, 4)))
    return sentences


WORDS = {  # for more, for less, and digits
    "edge_gradient_ratio": ("sharper on edges", "softer on edges", 3),
    "off_edge_gradient_ratio": ("more gradient off edges", "less gradient off edges", 3),
    "gmsd": (
        "gradients further from the original's (GMSD)",
        "gradients nearer to the original's (GMSD)",
        4,
    ),
    "kid": ("larger kernel distance", "smaller kernel distance", 3),
}


def _change(row, plain, more, less, digits):
    """What is to be said of a difference; nothing if it may be chance."""
    signs = {np.sign(one - other) for one, other in zip(row["by_seed"], plain["by_seed"])}
    if row["low"] <= 0 <= row["high"] or len(signs) > 1:
        return ""
    means = f"{plain['mean']:.{digits}f} to {row['mean']:.{digits}f}"
    return f"{more if row['difference'] > 0 else less} ({means})"


def load_summary(name, folder=None):
    """The summary of a data set's study as :func:`study` wrote it, by default the committed one;
    None if there is none.

    Raises
    ------
    ValueError
        The file cannot be read, or is not such a summary.
    """
    path = (folder or _committed()) / f"{name}.json"
    if not os.path.lexists(path):
        return None
    record = read_json(path)
    try:
        rows = [row for found in record["measures"].values() for row in found.values()]
        numbers = [
            number
            for row in rows
            for value in row.values()
            for number in (value if isinstance(value, list) else [value])
        ]
        right = (
            all({"mean", "by_seed"} <= row.keys() for row in rows)
            and all(type(number) is float and np.isfinite(number) for number in numbers)
            and PLAIN in record["measures"]
            and {"data", "num_train", "epochs", "seeds", "num_images", "losses", "kid_features"}
            <= record.keys()
        )
    except (KeyError, TypeError, AttributeError):
        right = False
    if not right:
        raise ValueError(
            f"{path} is not the summary of a study, or not all of its numbers are finite: "
            "restore it (git checkout) or run `make study`"
        )
    return record


def crops_file(name, folder=None):
    """Where :func:`study` wrote the crops."""
    return (folder or _committed()) / f"{name}_crops.png"


def _committed():
    return paths.results_root() / "study"


def main():
    """Run the studies of all sets there are: MNIST, drawn faces, real faces."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "sets",
        nargs="*",
        help="mnist, drawn (faces), anime, digits (drawn); default: the first three that are there",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="trainings of each condition (at least 1)"
    )
    parser.add_argument(
        "--samples",
        action="store_true",
        help=f"of faces, only {', '.join(FOR_SAMPLES)}; written as SET_sampling",
    )
    arguments = parser.parse_args()
    load = {
        "mnist": lambda: data.load_digits("mnist"),
        "digits": lambda: data.load_digits("drawn"),
        "drawn": lambda: data.load_faces("drawn"),
        "anime": lambda: data.load_faces("anime"),
    }
    unknown = [name for name in arguments.sets if name not in load]
    if unknown or arguments.seeds < 1:
        parser.error(
            f"unknown set {unknown[0]!r}; choose from {', '.join(load)}"
            if unknown
            else f"--seeds must be at least 1; found {arguments.seeds}"
        )
    for name in arguments.sets or ("mnist", "drawn", "anime"):
        try:
            images = load[name]()
        except data.DataError as error:
            if arguments.sets:
                raise
            print(f"left out: {error}")
            continue
        conditions, file = CONDITIONS[images.name], images.name
        if arguments.samples and conditions is ON_FACES:
            conditions = {name: conditions[name] for name in FOR_SAMPLES}
            file = f"{images.name}_sampling"
        images = images.first(NUM_FACES if images.name in data.FACES else 0)
        study(images, conditions, range(arguments.seeds), EPOCHS, _committed(), file)


if __name__ == "__main__":
    main()
