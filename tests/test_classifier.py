"""The classifier behind the kernel distance: learns, is kept, is made anew when it must be."""

import dataclasses
import json

import numpy as np
import pytest
from d2lvae import data as datasets
from d2lvae.evaluation import classifier, metrics
from d2lvae.evaluation.classifier import accuracy, classifier_for, features
from d2lvae.sources import synthetic_faces
from d2lvae.storage.cache import write_cache
from d2lvae.storage.nets import get_weights


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data root, few drawn images of 32 x 32 and short trainings."""
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(classifier, "EPOCHS", {"MNIST": 1, "drawn_digits": 1, "drawn_faces": 1})
    return tmp_path / "data"


@pytest.fixture
def few(data, monkeypatch, tiny, tiny_faces):
    monkeypatch.setattr(datasets, "drawn_digits", lambda num_train, seed: tiny)
    monkeypatch.setattr(datasets, "drawn_faces", lambda num_train, seed, image_size: tiny_faces)


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*args):
        raise AssertionError("trained again")

    return lambda: monkeypatch.setattr(classifier, "_learn", refuse)


def test_digits_are_learnt(tmp_path, monkeypatch, tiny, capfd):
    """The tiny set's classifier is that of all drawn digits; its features tell blurred digits from real ones."""
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path))
    net = classifier_for(tiny)
    assert (
        "training the classifier for the kernel distance, on 5,000 drawn digits of 28 x 28"
        in capfd.readouterr().out
    )
    assert accuracy(net, tiny) > 0.95 and net.about["accuracy"] == pytest.approx(
        accuracy(net, datasets.drawn_digits(1))
    )
    found = features(net, tiny.validation)
    assert found.shape == (1_000, 64) and found.dtype == np.float32 and found.min() >= 0
    assert np.square(found).mean() == pytest.approx(1, rel=0.1)
    distances = [
        metrics.kernel_distance(found[:500], features(net, images))
        for images in (
            tiny.validation[500:],
            metrics.blurred(tiny.validation[500:]),
            metrics.blurred(tiny.validation[500:], 2),
        )
    ]
    assert abs(distances[0]) < 0.05 and 2 * abs(distances[0]) < distances[1] < distances[2]


def test_scaled_features_leave_the_outputs_as_they_are(tiny):
    net = classifier.Classifier(tiny.image_shape, 10)
    classifier.initialize(net, 0)
    before, images = classifier._in_batches(net, net, tiny.validation), tiny.validation
    assert abs(np.square(features(net, images)).mean() - 1) > 0.1
    classifier._scale_features(net, images)
    assert np.square(features(net, images)).mean() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(
        classifier._in_batches(net, net, images), before, rtol=1e-3, atol=1e-4
    )


def test_faces_are_learnt(data, monkeypatch):
    faces, factors = synthetic_faces.draw_faces(450, image_size=32)
    images = datasets.ImageSet(
        "drawn_faces",
        faces[50:],
        faces[:50],
        "drawn",
        False,
        factors[50:],
        factors[:50],
        tuple(synthetic_faces.FACTORS),
    )
    monkeypatch.setattr(datasets, "drawn_faces", lambda num_train, seed, image_size: images)
    monkeypatch.setattr(classifier, "EPOCHS", {"drawn_faces": 40})
    net = classifier_for(images)
    seen = dataclasses.replace(
        images, validation=images.train, validation_labels=images.train_labels
    )
    assert accuracy(net, seen) > 0.25
    outputs = classifier._in_batches(net, net, images.validation)
    tilt = list(classifier._face_numbers(images.validation_labels)[1]).index(
        list(synthetic_faces.FACTORS).index("tilt")
    )
    assert (
        np.corrcoef(
            outputs[:, tilt],
            images.validation_labels[:, list(synthetic_faces.FACTORS).index("tilt")],
        )[0, 1]
        > 0.7
    )
    assert abs(outputs[:, tilt]).max() < 0.6  # in radians: mean and scale are in the weights


def test_faces_as_numbers():
    factors = synthetic_faces.face_factors(500)
    numbers, owners = classifier._face_numbers(factors)
    names = list(synthetic_faces.FACTORS)
    assert numbers.shape == (500, len(owners)) and np.unique(owners).tolist() == list(range(34))
    columns = {name: numbers[:, owners == k] for k, name in enumerate(names)}
    np.testing.assert_array_equal(columns["tilt"][:, 0], factors[:, names.index("tilt")])
    np.testing.assert_array_equal(columns["mouth"].argmax(axis=1), factors[:, names.index("mouth")])
    assert (
        columns["accessory"].shape[1] == 7 and (columns["accessory"].sum(axis=1) == 1).all()
    )  # 'none' is twice among 8
    np.testing.assert_allclose((columns["eye_hue"] ** 2).sum(axis=1), 1, rtol=1e-6)
    mean, scale = classifier._standards(numbers, owners)
    standard = (numbers - mean) / scale
    np.testing.assert_allclose(np.bincount(owners, standard.var(axis=0)), 1, rtol=1e-4)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-5)


def test_r2_by_hand(tiny_faces, monkeypatch):
    """Right answers have 1, the mean has 0."""
    net = classifier.Classifier(tiny_faces.image_shape, 1)
    numbers, _ = classifier._face_numbers(tiny_faces.validation_labels)
    for outputs, expected in (
        (numbers, 1),
        (0 * numbers + numbers.mean(axis=0), 0),
        ((numbers + numbers.mean(axis=0)) / 2, 0.75),
    ):
        monkeypatch.setattr(classifier, "_in_batches", lambda *args, outputs=outputs: outputs)
        assert accuracy(net, tiny_faces) == pytest.approx(expected, abs=1e-5)


def test_the_second_time_it_is_loaded(few, data, tiny, tiny_faces, no_training, capfd):
    assert not data.exists()
    first = [classifier_for(images) for images in (tiny, tiny_faces)]
    assert sorted(path.name for path in data.iterdir()) == [
        ".classifier_drawn_digits.npz",
        ".classifier_drawn_faces_32.npz",
    ]
    capfd.readouterr()
    no_training()
    for net, images in zip(first, (tiny, tiny_faces)):
        again = classifier_for(images)
        np.testing.assert_array_equal(
            features(net, images.validation), features(again, images.validation)
        )
        assert again.about == net.about and set(again.about) == {
            "trained_on",
            "num_images",
            "accuracy" if images is tiny else "r2",
        }
    assert capfd.readouterr().out == ""


def test_training_gives_the_same_weights_again(few, data, tiny):
    first = get_weights(classifier_for(tiny))
    (data / ".classifier_drawn_digits.npz").unlink()
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    for name, array in get_weights(classifier_for(tiny)).items():
        np.testing.assert_array_equal(array, first[name])
    np.testing.assert_array_equal(
        np.random.get_state()[1], state
    )  # numpy's own random numbers are left alone


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:1000])


def kept(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(arrays.pop("record").tobytes())["key"]


def other_net(path):
    arrays, key = kept(path)
    cut = {name: array[:1] for name, array in arrays.items() if name != classifier.ABOUT}
    write_cache(path, {**arrays, **cut}, key)


def nothing_about(path):
    arrays, key = kept(path)
    del arrays[classifier.ABOUT]
    write_cache(path, arrays, key)


def other_images(path):
    arrays, key = kept(path)
    write_cache(path, arrays, {**key, "images": "0" * 64})


def other_source(path):
    arrays, key = kept(path)
    write_cache(path, arrays, {**key, "made_by": "0" * 64})


@pytest.mark.parametrize(
    "change", [damage, cut_short, other_net, nothing_about, other_images, other_source]
)
def test_a_cache_that_cannot_be_used_is_made_anew(few, data, tiny, change, no_training, capfd):
    net, path = classifier_for(tiny), data / ".classifier_drawn_digits.npz"
    change(path)
    capfd.readouterr()
    again = classifier_for(tiny)
    said = capfd.readouterr().out.splitlines()
    assert (
        len(said) == 2
        and ".classifier_drawn_digits.npz" in said[0]
        and "made anew" in said[0]
        and said[1].startswith("training the classifier")
    )
    np.testing.assert_array_equal(features(net, tiny.validation), features(again, tiny.validation))
    no_training()
    classifier_for(tiny)


def test_a_cache_that_cannot_be_written(few, tmp_path, monkeypatch, tiny, capfd):
    (tmp_path / "file").touch()
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path / "file"))
    assert features(classifier_for(tiny), tiny.validation).shape == (1_000, 64)
    assert "not kept for the next time" in capfd.readouterr().out


def test_real_faces_take_the_net_of_drawn_ones(few, data, tiny_faces, no_training):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32)).astype(np.uint8)
    anime = datasets.ImageSet("anime", images[:20], images[20:], "from files", True)
    net = classifier_for(tiny_faces)
    no_training()
    again = classifier_for(anime)
    np.testing.assert_array_equal(features(net, images), features(again, images))
    assert again.about["trained_on"] == "64 drawn faces of 32 x 32"
    with pytest.raises(ValueError, match="anime has no labels"):
        accuracy(again, anime)


def test_drawn_faces_of_the_right_size_and_number_are_asked_for(data, monkeypatch, tiny_faces):
    asked = []
    monkeypatch.setattr(
        datasets,
        "drawn_faces",
        lambda num_train, seed, image_size: asked.append((num_train, seed, image_size))
        or tiny_faces,
    )
    classifier_for(
        dataclasses.replace(tiny_faces, name="anime", train_labels=None, validation_labels=None)
    )
    assert asked == [(4_096, 0, 32)]


def test_mnist_learns_from_its_own_first_images(few, data, tiny, monkeypatch, capfd):
    mnist = dataclasses.replace(tiny, name="MNIST")
    monkeypatch.setattr(classifier, "NUM_MNIST", 150)
    assert classifier_for(mnist).about["num_images"] == 150
    assert "on 150 digits of MNIST of 28 x 28" in capfd.readouterr().out
    assert (
        classifier_for(mnist.first(160)).about["num_images"] == 150 and capfd.readouterr().out == ""
    )
    assert classifier_for(mnist.first(100)).about["num_images"] == 100
    assert (
        (data / ".classifier_MNIST_150.npz").exists()
        and (data / ".classifier_MNIST_100.npz").exists()
        and not (data / ".classifier_drawn_digits.npz").exists()
    )


def test_unknown_sets_and_images(few, tiny, tiny_faces):
    with pytest.raises(ValueError, match="no classifier for 'flowers'"):
        classifier_for(dataclasses.replace(tiny, name="flowers"))
    net = classifier_for(tiny)
    for images in (tiny_faces.train, tiny.train / 255):
        with pytest.raises(ValueError, match=r"images must be a uint8 array \(N, 1, 28, 28\)"):
            features(net, images)
