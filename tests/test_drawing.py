"""Drawn digits are images of the digits they say they are."""

import numpy as np
from d2lvae.sources.synthetic_digits import draw_digits


def test_same_seed_same_images():
    first, labels = draw_digits(40, seed=1)
    again, same_labels = draw_digits(40, seed=1)
    other, _ = draw_digits(40, seed=2)
    assert (first == again).all() and (labels == same_labels).all() and (first != other).any()
    assert first.shape == (40, 1, 28, 28) and first.dtype == labels.dtype == np.uint8


def test_white_strokes_on_black_inside_the_frame():
    images, labels = draw_digits(1000, seed=0)
    assert set(labels) == set(range(10))
    assert (images.max(axis=(1, 2, 3)) > 200).all() and (
        np.median(images, axis=(1, 2, 3)) == 0
    ).all()
    border = np.concatenate([images[:, 0, [0, -1]].ravel(), images[:, 0, :, [0, -1]].ravel()])
    assert (border > 0).mean() < 0.02, "digits run out of the frame"
    assert len({image.tobytes() for image in images}) == 1000, "two of a thousand are the same"


def test_labels_can_be_read_off_the_images():
    """A nearest-class-mean classifier, the simplest there is, gets most of them right."""
    images, labels = draw_digits(3000, seed=0)
    flat = images.reshape(len(images), -1).astype(float)
    train, test = slice(0, 2000), slice(2000, None)
    means = np.stack([flat[train][labels[train] == digit].mean(axis=0) for digit in range(10)])
    distances = ((flat[test][:, None] - means) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == labels[test]).mean() > 0.75
