"""Every kind of file that the package reads, made once as it should be, and read again as often as tests/stress/mutations.py asks.

python tests/stress/readers.py FOLDER        (then one kind a line on standard input)
"""

import contextlib
import functools
import gzip
import hashlib
import io
import json
import os
import pathlib
import resource
import shutil
import struct
import sys

import numpy as np

TARGETS = {  # the files of each kind that are spoilt, below FOLDER/KIND
    "packed IDX images": ["mnist/train-images-idx3-ubyte.gz"],
    "plain IDX images": ["mnist/t10k-images-idx3-ubyte"],
    "packed IDX labels": ["mnist/t10k-labels-idx1-ubyte.gz"],
    "plain IDX labels": ["mnist/train-labels-idx1-ubyte"],
    "PNG face": ["anime/007.png"],
    "JPEG face": ["anime/007.jpg"],
    "VAE": ["vae.npz"],
    "discriminator": ["disc.npz"],
    "checkpoint": ["checkpoint.npz"],
    "both checkpoints": ["checkpoint.npz", "checkpoint_previous.npz"],
    "cache of faces": [".anime_64.cache"],
    "cache of drawn faces": [".drawn_faces_32_12_seed_0.cache"],
    "classifier": [".classifier_drawn_digits.npz"],
    "record of a run": ["metrics.json"],
    "summary of a study": ["MNIST.json"],
}
KINDS = tuple(TARGETS)
CACHES = ("cache of faces", "cache of drawn faces", "classifier")
NUM_FACES = 25
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PUBLISHED = {}  # by kind: what the IDX files are compared with, as the package does with MNIST's


def digest(*parts):
    """One text for arrays and whatever JSON can hold."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(
                repr((part.dtype.str, part.shape)).encode() + np.ascontiguousarray(part).tobytes()
            )
        else:
            found.update(json.dumps(part, sort_keys=True).encode())
    return found.hexdigest()


def of_arrays(arrays, *others):
    return digest(*(part for name in sorted(arrays) for part in (name, arrays[name])), *others)


# making: each gets an empty folder


def make_idx(folder):
    (folder / "mnist").mkdir()
    rng = np.random.default_rng(0)
    for part, number in (("train", 30), ("t10k", 20)):
        for name, array in (
            (f"{part}-images-idx3-ubyte", rng.integers(0, 256, (number, 28, 28))),
            (f"{part}-labels-idx1-ubyte", rng.integers(0, 10, number)),
        ):
            content = (
                bytes([0, 0, 8, array.ndim])
                + struct.pack(f">{array.ndim}I", *array.shape)
                + array.astype(np.uint8).tobytes()
            )
            plain = any(
                name in target and not target.endswith(".gz") for target in TARGETS[folder.name]
            )
            (folder / "mnist" / (name if plain else f"{name}.gz")).write_bytes(
                content if plain else gzip.compress(content, mtime=0)
            )


def make_faces(folder):
    from PIL import Image

    (folder / "anime").mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (NUM_FACES, 8, 8, 3), dtype=np.uint8)
    for i, row in enumerate(rows):
        suffix = ".jpg" if folder.name == "JPEG face" and i == 7 else ".png"
        Image.fromarray(row).resize((80, 64)).save(
            folder / "anime" / f"{i:03}{suffix}", **({"quality": 90} if suffix == ".jpg" else {})
        )


def make_nets(folder):
    import d2lvae
    import victim
    from d2lvae.storage import nets

    for name, net in zip(("vae", "disc"), victim.nets()):
        d2lvae.initialize(net, 0)
        nets.save_net(folder / f"{name}.npz", net)


@functools.lru_cache(None)
def a_step():
    """A training step and its settings."""
    import d2lvae
    import victim
    from d2lvae.storage.records import settings_of
    from d2lvae.training import make_step

    vae, disc = victim.nets()
    d2lvae.initialize(vae, 0), d2lvae.initialize(disc, 1)
    settings = settings_of(vae, victim.faces(), victim.config("", 3), disc)
    return make_step(vae, disc, settings), settings


def make_checkpoints(folder):
    from d2lvae import training
    from d2lvae.engine import threads
    from d2lvae.sources import synthetic_faces
    from d2lvae.storage import checkpoints

    step, settings = a_step.__wrapped__()  # a new one
    faces, history = synthetic_faces.draw_faces(64, image_size=32)[0], []
    training.train(
        step,
        faces,
        {**settings, "epochs": 2},
        history,
        lambda: checkpoints.save_checkpoint(
            folder,
            checkpoints.get_state(step)[0],
            {
                "config": settings,
                "steps": checkpoints.get_state(step)[1],
                "history": list(history),
                "threads": threads.settings(),
            },
        ),
    )


def a_record():
    """The record of one of the runs that are in the repository."""
    return min(ROOT.glob("results/images/*_on_drawn_digits/*/metrics.json"))


def make_record(folder):
    shutil.copy(a_record(), folder)


def make_summary(folder):
    shutil.copy(ROOT / "results" / "study" / "MNIST.json", folder)


# reading: each gives a digest of the content, and perhaps of the content that is there without the spoilt file


def read_idx(folder):
    from d2lvae import data as datasets
    from d2lvae.sources import mnist

    mnist.FILES, mnist.IMAGES = PUBLISHED[folder.name]
    images = datasets.load_mnist(folder / "mnist")
    return digest(images.train, images.validation, images.train_labels, images.validation_labels)


def read_faces(folder):
    from d2lvae import data as datasets

    with contextlib.suppress(FileNotFoundError):
        (folder / ".anime_64.cache").unlink()
    images = datasets.real_faces(folder / "anime")
    images = np.concatenate([images.train, images.validation])
    return digest(len(images), sorted(digest(image) for image in images))


def read_net(folder):
    from d2lvae.storage import nets

    net = nets.load_net(folder / TARGETS[folder.name][0])
    return of_arrays(nets.get_weights(net), net.config)


def read_checkpoint(folder):
    from d2lvae.storage import checkpoints

    step, settings = a_step()
    arrays, record = checkpoints.load_checkpoint(
        folder, settings, like=checkpoints.get_state(step)[0]
    )
    checkpoints.set_state(step, arrays, record["steps"])
    del record["config"]["epochs"]  # a longer or shorter run may go on from it, to the same bits
    return of_arrays(arrays, record)


def read_faces_cache(folder):
    from d2lvae import data as datasets

    return digest(datasets.real_faces(folder / "anime").train)


def read_drawn_cache(folder):
    from d2lvae import data as datasets

    return digest(datasets.drawn_faces(4, image_size=32).train)


@functools.lru_cache(None)
def digits():
    from d2lvae import data as datasets

    return datasets.drawn_digits(50)


def read_classifier(folder):
    from d2lvae.evaluation import classifier
    from d2lvae.storage import nets

    net = classifier.classifier_for(digits())
    return of_arrays(nets.get_weights(net), net.about)


def read_record(folder):
    """Only its configuration is looked at, before the run begins that will replace it."""
    from d2lvae.storage import folders

    folders._check_earlier(folder, json.loads(a_record().read_text())["config"])
    return "claimed"


def read_summary(folder):
    from d2lvae.evaluation import study

    return digest(study.load_summary("MNIST", folder))


def nothing(folder):
    """The reader makes it."""


ACTIONS = {
    "packed IDX images": (make_idx, read_idx),
    "plain IDX images": (make_idx, read_idx),
    "packed IDX labels": (make_idx, read_idx),
    "plain IDX labels": (make_idx, read_idx),
    "PNG face": (make_faces, read_faces),
    "JPEG face": (make_faces, read_faces),
    "VAE": (make_nets, read_net),
    "discriminator": (make_nets, read_net),
    "checkpoint": (make_checkpoints, read_checkpoint),
    "both checkpoints": (make_checkpoints, read_checkpoint),
    "cache of faces": (make_faces, read_faces_cache),
    "cache of drawn faces": (nothing, read_drawn_cache),
    "classifier": (nothing, read_classifier),
    "record of a run": (make_record, read_record),
    "summary of a study": (make_summary, read_summary),
}


def read(kind, folder):
    """What the reader gives and says: digest or None, error or None, lines."""
    said = io.StringIO()
    os.environ["D2LVAE_DATA"] = str(folder / kind)
    with contextlib.redirect_stdout(said):
        try:
            return ACTIONS[kind][1](folder / kind), None, said.getvalue()
        except Exception as error:  # to be told from a refusal below
            return None, error, said.getvalue()


def judge(kind, folder, right, fallback):
    """What came of reading a kind, as in tests/stress/mutations.py."""
    from d2lvae.data import DataError
    from d2lvae.storage.errors import RunError
    from d2lvae.storage.files import CheckpointError

    found, error, said = read(kind, folder)
    names = [pathlib.Path(target).name for target in TARGETS[kind]]
    words = f"{type(error).__name__}: {error}" if error else said
    named = any(name in words for name in names) if error else names[0] in words
    if error:
        ours = isinstance(error, (CheckpointError, DataError, RunError)) or (
            kind == "summary of a study" and type(error) is ValueError
        )
        outcome = "refused" if ours and named else "not refused by name"
    elif found == right and not (kind in CACHES and named):
        outcome = "harmless"
    elif found in (right, fallback) and named:
        outcome = "set aside"
    elif "IDX" in kind and named:
        outcome = "told"
    elif kind == "JPEG face" and not named:
        outcome = "an image"
    else:
        outcome = "silently accepted"
    return {
        "outcome": outcome,
        "words": words[-600:],
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def prepare(folder):
    """Make everything, with the package turned to small sizes; digests of what is right, and of what is left without the spoilt file."""
    from d2lvae.evaluation import classifier
    from d2lvae.sources import mnist, synthetic

    mnist.MIRRORS = ("https://127.0.0.1:9/",)
    synthetic.NUM_FACES, synthetic.NUM_VALIDATION_FACES = 8, 4
    classifier._learn_digits, classifier._training_set = (
        lambda net, images: None,
        lambda images: images,
    )
    right, fallback = {}, {}
    for kind, (make, _) in ACTIONS.items():
        if not (folder / kind).exists():
            (folder / kind).mkdir(parents=True)
            with contextlib.redirect_stdout(io.StringIO()):
                make(folder / kind)
                if "IDX" not in kind:
                    read(kind, folder)  # makes the caches
        if "IDX" in kind:
            PUBLISHED[kind] = published(folder / kind)
        right[kind], error, said = read(kind, folder)
        if error:
            raise error
        fallback[kind] = without(kind, folder)
    return right, fallback


def published(folder):
    """Checksums as if these four were the published MNIST files: of the packed files, and of all images."""
    from d2lvae import data as datasets
    from d2lvae.sources import mnist

    packed = {
        path.name.replace(".gz", ""): path.read_bytes()
        if path.suffix == ".gz"
        else gzip.compress(path.read_bytes())
        for path in (folder / "mnist").iterdir()
    }
    mnist.FILES = {
        name: hashlib.sha256(content).hexdigest() for name, content in sorted(packed.items())
    }
    return mnist.FILES, datasets.load_mnist(folder / "mnist").sha256()


def without(kind, folder):
    """The content that is there without the spoilt file; None where there is none."""
    if kind not in ("PNG face", "JPEG face", "checkpoint", "both checkpoints"):
        return None
    path = folder / kind / TARGETS[kind][0]
    aside = folder / "aside"
    path.rename(aside)
    found = read(kind, folder)[0]
    aside.rename(path)
    return found


def main():
    folder = pathlib.Path(sys.argv[1])
    with contextlib.redirect_stdout(io.StringIO()):
        right, fallback = prepare(folder)
    print(json.dumps({"outcome": "ready"}), flush=True)
    for line in sys.stdin:
        kind = line.strip()
        print(json.dumps(judge(kind, folder, right[kind], fallback[kind])), flush=True)


if __name__ == "__main__":
    main()
