"""The synthetic sets, compared with those of the recorded results; faces are cached."""

import platform

import numpy as np
import PIL

from ..storage import paths
from ..storage.cache import read_cache, sha256, source_of, write_cache
from . import synthetic_digits, synthetic_faces

NUM_DIGITS, NUM_FACES = 20_000, 4_096  # for training; and for validation:
NUM_VALIDATION_DIGITS, NUM_VALIDATION_FACES = 1_000, 1_024
RECORDED_WITH = {"Pillow": "10.4.0", "numpy": "1.23.5"}  # as in constraints.txt; with them,
RECORDED = {  # by shape: SHA-256 of the validation images of seed 0
    (1_000, 1, 28, 28): "7e76d53a789dc2d59a36cbf0c878da82ed3f03fa09cd12d4d4370ebb0d2df014",
    (1_024, 3, 32, 32): "95c84ff4ae25b6cf8da91104138121126aae9af14afaf95932c321c0a0ad8d3e",
    (1_024, 3, 64, 64): "8e5a14a2353b232577a47e237b8be4cebd67515b3c227b988f939b6f5706a2a6",
    (1_024, 3, 128, 128): "70852aa0ff1560af38639b183cc487e3fc59dd068fbbd6569435e0ad56beadc5",
}


def digits(num_train, seed):
    """Fields of an ImageSet: 1,000 synthetic digits for validation, `num_train` for training."""
    images, labels = synthetic_digits.draw_digits(NUM_VALIDATION_DIGITS + num_train, seed)
    return _fields(
        "digits",
        images,
        labels,
        NUM_VALIDATION_DIGITS,
        seed,
        lambda: synthetic_digits.draw_digits(NUM_VALIDATION_DIGITS, seed=0)[0],
        num_first=num_train if num_train != NUM_DIGITS else 0,
    )


def faces(num_train, seed, image_size):
    """Fields of an ImageSet: 1,024 synthetic faces for validation, at least 4,096 for training.

    The labels are the factors (N, K), float32, that the faces were drawn from.  The images are
    kept in the data folder, so that they are drawn once.
    """
    total = NUM_VALIDATION_FACES + max(num_train, NUM_FACES)
    key = {
        "drawn_by": source_of(synthetic_faces.__file__),
        "num_images": total,
        "seed": seed,
        "image_size": image_size,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
    }
    path = paths.data_root() / f".drawn_faces_{image_size}_{total}_seed_{seed}.cache"
    kept = read_cache(path, key)
    if kept is None:
        print(f"drawing {total:,} faces ...", flush=True)
        kept = {"images": synthetic_faces.draw_faces(total, seed, image_size)[0]}
        write_cache(path, kept, key)
    return _fields(
        "faces",
        kept["images"],
        synthetic_faces.face_factors(total, seed),
        NUM_VALIDATION_FACES,
        seed,
        lambda: synthetic_faces.draw_faces(NUM_VALIDATION_FACES, 0, image_size)[0],
        num_first=num_train if num_train > NUM_FACES else 0,
        label_names=tuple(synthetic_faces.FACTORS),
    )


def _fields(what, images, labels, num_validation, seed, draw_seed_0, **others):
    """The first images are for validation, so that it is the same however many are for training."""
    return dict(
        name=f"drawn_{what}",
        train=images[num_validation:],
        validation=images[:num_validation],
        origin=_origin(what, images[:num_validation], seed, draw_seed_0),
        is_real=False,
        train_labels=labels[num_validation:],
        validation_labels=labels[:num_validation],
        seed=seed,
        **others,
    )


def _origin(what, validation, seed, draw_seed_0):
    """Where synthetic images come from; if they are other ones than recorded, it is said.

    Only the validation images of seed 0 are recorded.  For another seed those are drawn and
    compared, but only under other versions.
    """
    found = {"Pillow": PIL.__version__, "numpy": np.__version__}
    expected = RECORDED.get(validation.shape)
    if seed and found != RECORDED_WITH and expected:
        validation = draw_seed_0()
    is_compared = expected and (not seed or found != RECORDED_WITH)
    if not is_compared or sha256(np.ascontiguousarray(validation)) == expected:
        return f"drawn by rule from seed {seed}"
    here = f"Pillow {found['Pillow']} and numpy {found['numpy']} on {platform.machine()}"
    paths.say(
        f"note: these drawn {what} differ from those of the recorded results: found {here}; "
        f"expected Pillow {RECORDED_WITH['Pillow']} and numpy {RECORDED_WITH['numpy']} on x86_64. "
        "The numbers will differ as well, unless those versions are installed (constraints.txt, "
        "make setup)"
    )
    return f"drawn by rule from seed {seed} with {here}, NOT as in the recorded results"
