"""A small net that tells what images show; its features are what the kernel distance of :mod:`d2lvae.evaluation.metrics` compares.

Trained here, on the same kind of images, because the usual one (Inception, trained on photographs) would have to be downloaded.

    images (N, C, H, W) in [0, 1] -> four convolutions -> 64 features -> digits, or the factors of drawn faces

Faces from files have no labels.  **Their features are those of the net trained on drawn faces of the same size**, which
has never seen a real one: it knows hair, eyes, mouths and colours as they are drawn by rule, so a distance
between real faces and their reconstructions tells about these and may miss the rest.
"""

import hashlib
import os
import pathlib

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn

from .. import data
from ..engine.adam import Adam
from ..engine.layers import Dense
from ..sources import synthetic_digits, synthetic_faces
from ..storage import paths
from ..storage.files import CheckpointError, read_arrays, write_arrays
from ..storage.nets import get_weights, set_weights
from ..training import initialize, minibatches, on_device

__all__ = ["Classifier", "classifier_for", "features", "accuracy"]

NUM_FEATURES = 64
WIDTHS = (16, 32, 64, 64)  # channels after each convolution
NUM_MNIST, NUM_DIGITS, NUM_FACES = 20_000, 5_000, 4_096  # images to train on, at most
EPOCHS = {"MNIST": 3, "drawn_digits": 3, "drawn_faces": 8}
SEED, LEARNING_RATE, BATCH_SIZE, WARM_UP = 0, 2e-3, 32, 100


class Classifier(mx.gluon.HybridBlock):
    """Four convolutions (3 x 3, stride 2, ReLU), a dense layer of 64 ReLU units (the features), and the outputs.

    Parameters
    ----------
    image_shape : tuple of int
        (C, H, W) of the images.
    num_outputs : int
        Digits, or numbers that describe a face.

    Attributes
    ----------
    features : HybridSequential
        The net up to its features: images (N, C, H, W) in [0, 1] -> (N, 64).
    about : dict
        From :func:`classifier_for`: 'trained_on' (one line), 'num_images', and 'accuracy' or 'r2' on images of the same
        kind that it was not trained on.
    """

    def __init__(self, image_shape, num_outputs, **kwargs):
        super().__init__(**kwargs)
        self.image_shape, self.num_outputs, self.about = tuple(image_shape), num_outputs, {}
        channels, height, width = self.image_shape
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(nn.HybridLambda(lambda F, images: images * 4 - 2))
            for wide in WIDTHS:
                self.features.add(nn.Conv2D(wide, 3, 2, 1, activation="relu", in_channels=channels))
                channels, height, width = wide, (height + 1) // 2, (width + 1) // 2
            self.features.add(Dense(NUM_FEATURES, channels * height * width, activation="relu"))
            self.output = Dense(num_outputs, NUM_FEATURES)

    def hybrid_forward(self, F, images):
        """Images (N, C, H, W) in [0, 1] -> logits, or a face's numbers, (N, num_outputs)."""
        return self.output(self.features(images))


def _face_numbers(factors):
    """Factors (N, K) as numbers that a net can learn (N, L), and the factor that each of the L belongs to.

    A choice becomes one column for each different one, 1 where it was chosen; a hue, which is cyclic, cosine and sine.
    """
    columns, owners = [], []
    for k, (name, values) in enumerate(synthetic_faces.FACTORS.items()):
        column = factors[:, k]
        if name.endswith("_hue"):
            numbers = [np.cos(2 * np.pi * column), np.sin(2 * np.pi * column)]
        elif len(values) == 2 and isinstance(values[0], float):
            numbers = [column]
        else:  # 'none' stands twice among the accessories
            numbers = [
                np.isin(column, [i for i, other in enumerate(values) if other == value])
                for value in dict.fromkeys(values)
            ]
        columns += numbers
        owners += [k] * len(numbers)
    return np.stack(columns, axis=1).astype(np.float32), np.array(owners)


def _standards(numbers, owners):
    """Mean and scale (L,) of each number: after them every factor has mean 0 and, its numbers' variances added, variance 1."""
    variances = np.bincount(owners, numbers.var(axis=0))
    return numbers.mean(axis=0), np.sqrt(variances)[owners].astype(np.float32)


def _training_set(images):
    """The set that the classifier of `images` learns from: for a drawn set and a size it is always the same one."""
    if images.name == "MNIST":
        return images.first(NUM_MNIST)
    if images.name == "drawn_digits":
        return data.drawn_digits(NUM_DIGITS, seed=0)
    return data.drawn_faces(NUM_FACES, seed=0, image_size=images.image_shape[1])


def classifier_for(images):
    """The classifier for images of this kind: from the data folder's cache, else trained now (seconds) and kept there.

    MNIST's learns from its first 20,000 training images (or as many as there are), that of drawn digits from 5,000 of its own,
    that of faces, **real ones too**, from 4,096 drawn ones of the same size.  Training or loading sets MXNet's
    random seed anew, so call it after a training, not in the middle of one.

    Parameters
    ----------
    images : ImageSet

    Returns
    -------
    Classifier
        On a GPU if there is one; its `about` says how good it is.

    Raises
    ------
    ValueError
        A set of a name that is none of the project's.
    """
    key, is_digits = _key(images), images.name not in data.FACES
    size = (
        f"_{key['num_images']}"
        if images.name == "MNIST"
        else ""
        if is_digits
        else f"_{images.image_shape[1]}"
    )
    path = paths.data_root() / f".classifier_{key['name']}{size}.npz"
    net = Classifier(
        images.image_shape,
        10 if is_digits else _face_numbers(synthetic_faces.face_factors(1, 0))[0].shape[1],
    )
    initialize(net, SEED)
    if not _load(net, path, key):
        train = _training_set(images)
        print(
            f"training the classifier whose features the kernel distance uses, on {len(train.train):,} {_kind(train)} ...",
            flush=True,
        )
        (_learn_digits if is_digits else _learn_faces)(net, train)
        _scale_features(net, train.train[:1_000])
        net.about = {
            "trained_on": f"{len(train.train):,} {_kind(train)}",
            "num_images": len(train.train),
            "accuracy" if is_digits else "r2": accuracy(net, train),
        }
        _keep(net, path, key)
    return net


def _key(images):
    """What the weights depend on: the images (or the rule that drawn ones are made by) and this file."""
    if images.name == "MNIST":
        if images.train_labels is None or images.image_shape != (1, 28, 28):
            raise ValueError(
                f"the classifier for MNIST learns from its labelled images of 1 x 28 x 28; this set has "
                f"{images.image_shape} and {'no labels' if images.train_labels is None else 'labels'}"
            )
        train = images.first(NUM_MNIST)
        name, number, source = "MNIST", len(train.train), _sha256(train.train, train.train_labels)
    elif images.name == "drawn_digits":
        name, number, source = (
            "drawn_digits",
            NUM_DIGITS,
            _sha256_of_file(synthetic_digits.__file__),
        )
    elif images.name in data.FACES:
        name, number, source = "drawn_faces", NUM_FACES, _sha256_of_file(synthetic_faces.__file__)
    else:
        raise ValueError(
            f"there is no classifier for {images.name!r}; there is one for MNIST, drawn_digits, {', '.join(data.FACES)}"
        )
    return {
        "name": name,
        "images": source,
        "num_images": number,
        "made_by": _sha256_of_file(__file__),
    }


def _sha256_of_file(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _kind(images):
    name = images.title if images.name != "MNIST" else "digits of MNIST"
    return f"{name} of {' x '.join(map(str, images.image_shape[1:]))}"


def _sha256(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _load(net, path, key):
    """Whether the weights kept at `path` were made from `key` and are undamaged; if so, `net` has them now."""
    if not os.path.lexists(path):
        return False
    try:
        arrays, record = read_arrays(path)
        if not isinstance(record, dict) or record.get("key") != key:
            raise CheckpointError(
                f"{paths.display_path(path)} was made from other images or by another version of this project"
            )
        try:
            set_weights(net, arrays)
        except CheckpointError as error:
            raise CheckpointError(f"{paths.display_path(path)}: {error}") from None
        net.about = _about(path, record)
        return True
    except CheckpointError as error:
        print(f"{error}; it is made anew")
        return False


def _about(path, record):
    """What a record says of its net's quality."""
    about = record.get("about")
    if (
        not isinstance(about, dict)
        or not {"trained_on", "num_images"} <= about.keys()
        or not {"accuracy", "r2"} & about.keys()
    ):
        raise CheckpointError(f"{paths.display_path(path)} does not say how good its net is")
    return about


def _keep(net, path, key):
    """A place that cannot be written only costs the time of training anew the next time, and is said."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, get_weights(net), {"key": key, "about": net.about})
    except OSError as error:
        print(f"not kept for the next time: {error}")


def _learn(net, images, answers, loss, epochs):
    """Adam on `loss(outputs, answers)`, one number an image; its rate grows for 100 steps (or units die) and falls to 0."""
    ctx, optimizer = _device(net), Adam(net, LEARNING_RATE)
    num_steps = epochs * -(-len(images) // BATCH_SIZE)
    for epoch in range(epochs):
        for chosen in minibatches(np.arange(len(images)), BATCH_SIZE, SEED, epoch):
            batch, wanted = (on_device(array[chosen], ctx) for array in (images, answers))
            with autograd.record():
                cost = loss(net(batch.astype("float32") / 255), wanted)
            cost.backward()
            optimizer.lr = (
                LEARNING_RATE
                * min(1, (optimizer.steps + 1) / WARM_UP)
                * (1 - optimizer.steps / num_steps)
            )
            optimizer.step(len(chosen))
    mx.nd.waitall()


def _learn_digits(net, images):
    _learn(
        net,
        images.train,
        images.train_labels.astype(np.float32),
        mx.gluon.loss.SoftmaxCrossEntropyLoss(),
        EPOCHS[images.name],
    )


def _learn_faces(net, images):
    """Standardised numbers while it learns; then mean and scale go into the last layer, so that its outputs are the numbers."""
    numbers, owners = _face_numbers(images.train_labels)
    mean, scale = _standards(numbers, owners)
    _learn(
        net,
        images.train,
        (numbers - mean) / scale,
        lambda out, wanted: (out - wanted).square().sum(axis=1),
        EPOCHS[images.name],
    )
    _multiply(net.output.weight, scale[:, None])
    net.output.bias.set_data(mx.nd.array(net.output.bias.data().asnumpy() * scale + mean))


def _multiply(parameter, factor):
    parameter.set_data(mx.nd.array(parameter.data().asnumpy() * factor))


def _scale_features(net, images):
    """Features with mean square 1, and outputs as before: the kernel (x.y / D + 1)^3 is made for numbers of that size."""
    size = np.sqrt(np.square(features(net, images), dtype=np.float64).mean()) or 1.0
    for parameter in (net.features[-1].weight, net.features[-1].bias):
        _multiply(parameter, 1 / size)
    _multiply(net.output.weight, size)


def _device(net):
    return next(iter(net.collect_params().values())).list_ctx()[0]


def _in_batches(net, block, images, batch_size=256):
    """A block of `net` on any number of uint8 images, as one numpy array."""
    ctx = _device(net)
    if images.dtype != np.uint8 or images.shape[1:] != net.image_shape:
        raise ValueError(
            f"images must be a uint8 array (N, {', '.join(map(str, net.image_shape))}); found {images.dtype} {images.shape}"
        )
    parts = [
        block(on_device(images[i : i + batch_size], ctx).astype("float32") / 255).asnumpy()
        for i in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts)


def features(classifier, images):
    """What the kernel distance compares.

    Parameters
    ----------
    classifier : Classifier
        From :func:`classifier_for`.
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        At least one; of any origin, of the classifier's shape.

    Returns
    -------
    numpy.ndarray, float32, shape (N, 64)
        At least 0; over the first 1,000 training images their mean square is 1.

    Raises
    ------
    ValueError
        Another shape or kind of array.
    """
    return _in_batches(classifier, classifier.features, images)


def accuracy(classifier, images):
    r"""How well the classifier does on the validation images of a set.

    Parameters
    ----------
    classifier : Classifier
    images : ImageSet
        With labels.

    Returns
    -------
    float
        For digits the share that it gets right.  For drawn faces :math:`R^2 = 1 - \sum \mathrm{error}^2 / \sum \mathrm{deviation}^2`, a mean
        over the factors; a choice counts by its indicators, a hue by its cosine and sine.  (Not all can be seen:
        the accessory's hue, say, only where there is an accessory.)

    Raises
    ------
    ValueError
        A set without labels, such as faces from files, or images of another shape.
    """
    labels = images.validation_labels
    if labels is None:
        raise ValueError(
            f"{images.title} has no labels to compare with (a classifier's own figures are in its `about`)"
        )
    outputs = _in_batches(classifier, classifier, images.validation)
    if labels.ndim == 1:
        return float((outputs.argmax(axis=1) == labels).mean())
    numbers, owners = _face_numbers(labels)
    error, deviation = (
        np.bincount(owners, array.sum(axis=0))
        for array in ((outputs - numbers) ** 2, (numbers - numbers.mean(axis=0)) ** 2)
    )
    return float((1 - error / deviation).mean())
