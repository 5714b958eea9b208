"""A small net that tells what images show; its features are what the kernel distance compares.

Trained here, on the same kind of images, because the usual one (Inception, trained on photographs)
would have to be downloaded.

    images (N, C, H, W) in [0, 1] -> four convolutions -> 64 features
                                  -> digits, or the factors of drawn faces

Faces from files have no labels.  **Their features are those of the net trained on drawn faces of
the same size**, which has never seen a real one: it knows hair, eyes, mouths and colours as they
are drawn.  So a distance between real faces and their reconstructions tells about these and may
miss the rest.
"""

import json

import mxnet as mx
import numpy as np
from d2l.mxnet import try_gpu
from mxnet import autograd
from mxnet.gluon import nn

from .. import data
from ..engine.adam import Adam
from ..engine.layers import Dense
from ..engine.operators import unit_images
from ..sources import synthetic_digits, synthetic_faces
from ..storage import paths
from ..storage.cache import read_cache, sha256, source_of, write_cache
from ..storage.errors import CheckpointError
from ..storage.nets import get_weights, set_weights
from ..storage.weights import initialize, prepare
from ..training import minibatches

NUM_FEATURES = 64
WIDTHS = (16, 32, 64, 64)  # channels after each convolution
NUM_MNIST, NUM_DIGITS, NUM_FACES = 20_000, 5_000, 4_096  # images to train on, at most
EPOCHS = {"MNIST": 3, "drawn_digits": 3, "drawn_faces": 8}
ABOUT = "about"  # among the cached arrays: how good the net is, as JSON
SEED, LEARNING_RATE, BATCH_SIZE, WARM_UP = 0, 2e-3, 32, 100


class Classifier(mx.gluon.HybridBlock):
    """Four convolutions (3 x 3, stride 2, ReLU), 64 dense ReLU units (the features), and outputs.

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
        From :func:`classifier_for`: 'trained_on' (one line), 'num_images', and 'accuracy' or 'r2'
        on images of the same kind that it was not trained on.
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
            size = channels * height * width
            self.features.add(Dense(NUM_FEATURES, activation="relu", in_units=size))
            self.output = Dense(num_outputs, in_units=NUM_FEATURES)

    def hybrid_forward(self, F, images):
        """Images (N, C, H, W) in [0, 1] -> logits, or a face's numbers, (N, num_outputs)."""
        return self.output(self.features(images))


def _face_numbers(factors):
    """Factors (N, K) as numbers that a net can learn (N, L), and the factor of each of the L.

    A choice becomes one column for each different one, 1 where it was chosen; a hue, which is
    cyclic, cosine and sine.
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
    """Mean and scale (L,) of each number.

    After them every factor has mean 0 and, its numbers' variances added, variance 1.
    """
    variances = np.bincount(owners, numbers.var(axis=0))
    return numbers.mean(axis=0), np.sqrt(variances)[owners].astype(np.float32)


def _training_set(images):
    """The set that the classifier of `images` learns from: one for each drawn kind and size."""
    if images.name == "MNIST":
        return images.first(NUM_MNIST)
    if images.name == "drawn_digits":
        return data.drawn_digits(NUM_DIGITS, seed=0)
    return data.drawn_faces(NUM_FACES, seed=0, image_size=images.image_shape[1])


def classifier_for(images):
    """The classifier for images of this kind: from the data folder's cache, else trained now.

    MNIST's learns from its first 20,000 training images (or as many as there are), that of drawn
    digits from 5,000 of its own, that of faces, **real ones too**, from 4,096 drawn ones of the
    same size.  Training takes seconds and sets MXNet's random seed anew, so call this after a
    training, not in the middle of one.

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
    size = f"_{key['num_images']}" if images.name == "MNIST" else ""
    size = size if is_digits else f"_{images.image_shape[1]}"
    path = paths.data_root() / f".classifier_{key['name']}{size}.npz"
    num_outputs = 10 if is_digits else len(_face_numbers(synthetic_faces.face_factors(1, 0))[1])
    net = Classifier(images.image_shape, num_outputs)
    if not _load(net, path, key):
        train = _training_set(images)
        kind = f"{len(train.train):,} {_kind(train)}"
        print(f"training the classifier for the kernel distance, on {kind} ...", flush=True)
        initialize(net, SEED)
        (_learn_digits if is_digits else _learn_faces)(net, train)
        _scale_features(net, train.train[:1_000])
        score = {"accuracy" if is_digits else "r2": accuracy(net, train)}
        net.about = {"trained_on": kind, "num_images": len(train.train), **score}
        about = np.frombuffer(json.dumps(net.about).encode(), np.uint8)
        write_cache(path, {**get_weights(net), ABOUT: about}, key)
    return net


def _key(images):
    """What the weights depend on: the images (or the rule that draws them) and this file."""
    side = images.image_shape[1]
    shape = (3, side, side) if images.name in data.FACES else (1, 28, 28)
    if images.name == "MNIST":
        labels = "no labels" if images.train_labels is None else "labels"
        if labels == "no labels" or images.image_shape != (1, 28, 28):
            raise ValueError(
                "the classifier for MNIST learns from its labelled images of 1 x 28 x 28; "
                f"this set has {images.image_shape} and {labels}"
            )
        train = images.first(NUM_MNIST)
        name, number = "MNIST", len(train.train)
        source = sha256(train.train.tobytes(), train.train_labels.tobytes())
    elif images.name in ("drawn_digits", *data.FACES) and images.image_shape != shape:
        raise ValueError(
            f"the classifier for {images.name} takes images of {shape}; "
            f"these are of {images.image_shape}"
        )
    elif images.name == "drawn_digits":
        name, number, source = images.name, NUM_DIGITS, source_of(synthetic_digits.__file__)
    elif images.name in data.FACES:
        name, number, source = "drawn_faces", NUM_FACES, source_of(synthetic_faces.__file__)
    else:
        raise ValueError(
            f"there is no classifier for {images.name!r}; there is one for MNIST, drawn_digits, "
            f"{', '.join(data.FACES)}"
        )
    return {"name": name, "images": source, "num_images": number, "made_by": source_of(__file__)}


def _kind(images):
    name = images.title if images.name != "MNIST" else "digits of MNIST"
    return f"{name} of {' x '.join(map(str, images.image_shape[1:]))}"


def _load(net, path, key):
    """Whether weights made from `key` are kept at `path` and fit; if so, `net` has them now."""
    arrays = read_cache(path, key)
    if arrays is None:
        return False
    net.initialize(mx.init.Zero(), ctx=try_gpu(), force_reinit=True)  # draws no random numbers
    try:
        net.about = json.loads(arrays.pop(ABOUT).tobytes().decode())
        set_weights(net, arrays)
    except (CheckpointError, KeyError, ValueError) as error:
        paths.say(f"{paths.display_path(path)} has other weights ({error}); it is made anew")
        return False
    prepare(net)
    return True


def _learn(net, images, answers, loss, epochs):
    """Adam on `loss(outputs, answers)`, one number an image.

    Its rate grows for 100 steps (or units die) and then falls to 0.
    """
    ctx, optimizer = _device(net), Adam(net, LEARNING_RATE)
    num_steps = epochs * -(-len(images) // BATCH_SIZE)
    for epoch in range(epochs):
        for chosen in minibatches(np.arange(len(images)), BATCH_SIZE, SEED, epoch):
            batch = unit_images(images[chosen], ctx)
            with autograd.record():
                cost = loss(net(batch), mx.nd.array(answers[chosen], ctx=ctx))
            cost.backward()
            warm = min(1, (optimizer.steps + 1) / WARM_UP)
            optimizer.lr = LEARNING_RATE * warm * (1 - optimizer.steps / num_steps)
            optimizer.step(len(chosen))
    mx.nd.waitall()


def _learn_digits(net, images):
    labels = images.train_labels.astype(np.float32)
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    _learn(net, images.train, labels, loss, EPOCHS[images.name])


def _learn_faces(net, images):
    """It learns standardised numbers; then mean and scale go into the last layer."""
    numbers, owners = _face_numbers(images.train_labels)
    mean, scale = _standards(numbers, owners)
    loss = lambda outputs, wanted: (outputs - wanted).square().sum(axis=1)
    _learn(net, images.train, (numbers - mean) / scale, loss, EPOCHS[images.name])
    _multiply(net.output.weight, scale[:, None])
    net.output.bias.set_data(mx.nd.array(net.output.bias.data().asnumpy() * scale + mean))


def _multiply(parameter, factor):
    parameter.set_data(mx.nd.array(parameter.data().asnumpy() * factor))


def _scale_features(net, images):
    """Features with mean square 1, for which the kernel is made; outputs as before."""
    size = np.sqrt(np.square(features(net, images), dtype=np.float64).mean()) or 1.0
    for parameter in (net.features[-1].weight, net.features[-1].bias):
        _multiply(parameter, 1 / size)
    _multiply(net.output.weight, size)


def _device(net):
    return next(iter(net.collect_params().values())).list_ctx()[0]


def _in_batches(net, block, images):
    """A block of `net` on any number of uint8 images, as one numpy array."""
    ctx = _device(net)
    if images.dtype != np.uint8 or images.shape[1:] != net.image_shape:
        raise ValueError(
            f"images must be a uint8 array (N, {', '.join(map(str, net.image_shape))}); "
            f"found {images.dtype} {images.shape}"
        )
    parts = [
        block(unit_images(images[i : i + 256], ctx)).asnumpy() for i in range(0, len(images), 256)
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
    r"""How well the classifier does on the validation images of a set with labels.

    For digits the share that it gets right.  For drawn faces the explained variance
    :math:`R^2 = 1 - \sum \mathrm{error}^2 / \sum \mathrm{deviation}^2`, a mean over the
    factors; a choice counts by its indicators, a hue by its cosine and sine.  (Not all can be
    seen: the accessory's hue, say, only where there is an accessory.)
    ValueError for a set without labels, such as faces from files, or images of another shape.
    """
    labels = images.validation_labels
    if labels is None:
        raise ValueError(
            f"{images.title} has no labels to compare with (a classifier's own figures are in its "
            "`about`)"
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
