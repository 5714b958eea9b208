"""Data by name, never by accident: what is damaged is refused, what is drawn says so."""

import dataclasses
import gzip
import hashlib
import io
import os
import pathlib
import re
import shutil
import socket
import time
import urllib.parse

import numpy as np
import PIL
import pytest
import requests
from conftest import idx
from d2lvae import data as datasets
from d2lvae.config import ParameterError
from d2lvae.data import DataError, ImageSet, Offline, load_digits, load_faces, load_mnist
from d2lvae.sources import mnist, synthetic, synthetic_digits, synthetic_faces
from d2lvae.storage import paths

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def _offline(no_network):
    """No test of this file may reach out."""


def test_sources_do_not_know_the_sets_that_are_made_of_them():
    for path in pathlib.Path(mnist.__file__).parent.glob("*.py"):
        assert not re.search(r"import data|from \.+data", path.read_text()), path.name


def use(monkeypatch, folder):
    monkeypatch.setenv("D2LVAE_DATA", str(folder.parent))


def check_tiny(images, arrays):
    np.testing.assert_array_equal(images.train[:, 0], arrays[TRAIN_IMAGES])
    np.testing.assert_array_equal(images.train_labels, arrays[TRAIN_LABELS])
    np.testing.assert_array_equal(images.validation[:, 0], arrays["t10k-images-idx3-ubyte"])
    assert images.name == "MNIST" and images.is_real and images.image_shape == (1, 28, 28)


def test_gzipped_files(mnist_folder, monkeypatch, capsys):
    folder, arrays = mnist_folder
    use(monkeypatch, folder)
    check_tiny(load_digits("mnist"), arrays)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "data: MNIST: 30 training and 20 validation images" in said
        and "NOT the published ones" in said
    )


def test_plain_files_and_a_mixture(mnist_folder, monkeypatch):
    folder, arrays = mnist_folder
    use(monkeypatch, folder)
    for name in (TRAIN_IMAGES, TRAIN_LABELS):
        (folder / name).write_bytes(idx(arrays[name]))
        (folder / f"{name}.gz").unlink()
    check_tiny(load_digits("auto"), arrays)


def test_only_the_first_training_images(mnist_folder, monkeypatch):
    folder, arrays = mnist_folder
    use(monkeypatch, folder)
    images = load_digits("mnist", num_train=7)
    assert len(images.train) == len(images.train_labels) == 7 and len(images.validation) == 20


def as_kaggle_has_them(folder, layout):
    """The tiny files, unpacked, in one of the ways of Kaggle's MNIST."""
    for path in sorted(folder.iterdir()):
        content, name = gzip.decompress(path.read_bytes()), path.stem
        path.unlink()
        if "dots" in layout:
            (folder / name.replace("-idx", ".idx")).write_bytes(content)
        if "folders" in layout:
            (folder / name).mkdir()
            (folder / name / name).write_bytes(content)
        if layout == "dots within folders":
            (folder / name).mkdir(exist_ok=True)
            (folder / name.replace("-idx", ".idx")).rename(
                folder / name / name.replace("-idx", ".idx")
            )


@pytest.mark.parametrize("layout", ["folders", "dots", "dots and folders", "dots within folders"])
def test_kaggles_layout(mnist_folder, monkeypatch, layout):
    folder, arrays = mnist_folder
    use(monkeypatch, folder)
    as_kaggle_has_them(folder, layout)
    check_tiny(load_digits("mnist"), arrays)


def test_a_folder_without_the_file_named_like_it(mnist_folder, monkeypatch):
    folder, _ = mnist_folder
    use(monkeypatch, folder)
    as_kaggle_has_them(folder, "folders")
    (folder / TRAIN_IMAGES / TRAIN_IMAGES).unlink()
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES} cannot be read") as caught:
        load_digits("auto")
    assert not isinstance(caught.value, Offline)


def test_files_in_another_folder_below_are_pointed_at(mnist_folder, monkeypatch):
    folder, _ = mnist_folder
    use(monkeypatch, folder)
    as_kaggle_has_them(folder, "dots")
    (folder / "archive").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / "archive" / path.name)
    with pytest.raises(Offline, match=r"archive/t10k-images.idx3-ubyte: move it and the others up"):
        load_digits("mnist")


DAMAGES = {
    "truncated gzip": (
        TRAIN_IMAGES,
        lambda array: gzip.compress(idx(array))[:-100],
        "truncated or corrupt",
    ),
    "corrupt gzip": (
        TRAIN_IMAGES,
        lambda array: gzip.compress(idx(array))[:500]
        + b"\0" * 50
        + gzip.compress(idx(array))[550:],
        "truncated or corrupt",
    ),
    "not even gzip": (TRAIN_IMAGES, lambda array: b"<html>404</html>", "magic number"),
    "wrong magic number": (
        TRAIN_IMAGES,
        lambda array: gzip.compress(b"\0\0\x0d\3" + idx(array)[4:]),
        "magic number",
    ),
    "empty": (TRAIN_IMAGES, lambda array: b"", "magic number.*found nothing"),
    "header cut short": (TRAIN_IMAGES, lambda array: idx(array)[:9], "announces"),
    "too few bytes": (
        TRAIN_IMAGES,
        lambda array: gzip.compress(idx(array)[:-1]),
        "announces 30 x 28 x 28",
    ),
    "too many bytes": (
        TRAIN_IMAGES,
        lambda array: gzip.compress(idx(array) + b"\0"),
        "announces 30 x 28 x 28",
    ),
    "a giant announced": (
        TRAIN_IMAGES,
        lambda array: b"\0\0\x08\3" + b"\xff" * 12 + b"\0" * 9,
        "announces",
    ),
    "labels for images": (TRAIN_IMAGES, lambda array: idx(array[:, 0, 0]), "28 x 28"),
    "other counts": (TRAIN_LABELS, lambda array: idx(array[:-1]), "30 images.*29 labels"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("data", ["mnist", "auto"])
def test_damaged_files_are_refused_by_name_and_never_replaced_silently(
    mnist_folder, monkeypatch, damage, data
):
    folder, arrays = mnist_folder
    use(monkeypatch, folder)
    name, spoil, message = DAMAGES[damage]
    (folder / f"{name}.gz").write_bytes(spoil(arrays[name]))
    with pytest.raises(DataError, match=message) as caught:
        load_digits(data)
    assert name in str(caught.value) and not isinstance(caught.value, Offline)
    assert "Delete" in str(caught.value)


@pytest.mark.parametrize("prepare", ["empty", "missing", "incomplete"])
def test_missing_files_without_a_network(mnist_folder, monkeypatch, capsys, prepare):
    folder, _ = mnist_folder
    use(monkeypatch, folder)
    if prepare == "incomplete":
        (folder / f"{TRAIN_LABELS}.gz").unlink()
    else:
        shutil.rmtree(folder)
        if prepare == "empty":
            folder.mkdir()
    start = time.monotonic()
    with pytest.raises(Offline, match="not complete in .*D2LVAE_DATA"):
        load_digits("mnist")
    images = load_digits("auto", num_train=20)
    assert time.monotonic() - start < 10
    assert images.name == "drawn_digits" and not images.is_real
    said = capsys.readouterr().out
    assert TRAIN_LABELS in said and "drawn digits, not MNIST" in said


def test_a_network_that_never_answers_is_given_up_in_time(tmp_path, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        address = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(mnist, "MIRRORS", (address, address))
        monkeypatch.setattr(mnist, "ANSWER_SECONDS", 1)
        start = time.monotonic()
        with pytest.raises(Offline):
            load_mnist(tmp_path)
        assert time.monotonic() - start < 3.5
    assert len(mnist.MIRRORS) * mnist.ANSWER_SECONDS <= 10


def test_a_name_that_is_looked_up_for_ever_is_given_up_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: time.sleep(5))
    monkeypatch.setattr(mnist, "MIRRORS", ("https://mirror.invalid/",))
    monkeypatch.setattr(mnist, "ANSWER_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(Offline):
        load_mnist(tmp_path)
    assert time.monotonic() - start < 2.5


@pytest.fixture
def mirror(mnist_folder, tmp_path, monkeypatch):
    """Two mirrors with the tiny files, played by folders; an empty folder to fill."""
    folder, arrays = mnist_folder
    shutil.copytree(folder, tmp_path / "good"), shutil.copytree(folder, tmp_path / "bad")
    hashes = {
        name: hashlib.sha256((folder / f"{name}.gz").read_bytes()).hexdigest() for name in arrays
    }
    monkeypatch.setattr(mnist, "FILES", hashes)
    monkeypatch.setattr(mnist, "MIRRORS", ("https://bad/", "https://good/"))

    def send(self, request, **options):
        address, answer = urllib.parse.urlsplit(request.url), requests.Response()
        path = tmp_path / address.hostname / address.path[1:]
        content = path.read_bytes() if path.exists() else b""
        answer.status_code, answer.url = (200 if path.exists() else 404), request.url
        answer.raw = io.BytesIO(content if request.method == "GET" else b"")
        return answer

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    shutil.rmtree(folder)
    use(monkeypatch, folder)
    return tmp_path / "good", tmp_path / "bad", folder, arrays


def test_missing_files_are_downloaded_and_only_those(mirror, capsys):
    good, bad, folder, arrays = mirror
    check_tiny(load_digits("auto"), arrays)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in arrays)
    assert capsys.readouterr().out.count("downloading") == 4
    (folder / f"{TRAIN_LABELS}.gz").unlink()
    check_tiny(load_digits("mnist"), arrays)
    assert capsys.readouterr().out.count("downloading") == 1
    check_tiny(load_digits("mnist"), arrays)
    assert "downloading" not in capsys.readouterr().out


def test_files_are_as_readable_as_any_that_one_makes(mirror):
    good, bad, folder, arrays = mirror
    load_digits("auto")
    (folder / "made here").touch()
    assert len({os.stat(path).st_mode for path in folder.iterdir()}) == 1


@pytest.mark.parametrize("content", [None, gzip.compress(b"spoiled", mtime=0)])
def test_after_a_wrong_checksum_or_a_missing_file_the_next_mirror_is_asked(mirror, content):
    good, bad, folder, arrays = mirror
    path = bad / f"{TRAIN_LABELS}.gz"
    path.write_bytes(content) if content else path.unlink()
    check_tiny(load_digits("auto"), arrays)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in arrays)


def test_a_mirror_that_is_gone_is_passed_over(mirror):
    good, bad, folder, arrays = mirror
    shutil.rmtree(bad)
    check_tiny(load_digits("auto"), arrays)


def test_wrong_checksums_everywhere_are_an_error_and_never_used(mirror):
    good, bad, folder, arrays = mirror
    for place in (good, bad):  # well-formed, but not the published file
        wrong = gzip.compress(idx(arrays[TRAIN_IMAGES][::-1].copy()))
        (place / f"{TRAIN_IMAGES}.gz").write_bytes(wrong)
    for _ in range(2):
        with pytest.raises(DataError, match="(?s)could not be downloaded.*by hand") as caught:
            load_digits("auto")
        words = str(caught.value)
        assert not isinstance(caught.value, Offline) and f"{folder / TRAIN_IMAGES}.gz" in words
        for place in ("https://bad/", "https://good/"):
            assert re.search(f"{place}: SHA256 .*{TRAIN_IMAGES}.gz.* expected .* but got ", words)
    assert not list(folder.iterdir())


def test_a_download_that_cannot_be_written(mirror):
    good, bad, folder, arrays = mirror
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be made"):
        load_digits("auto")


def test_drawn_by_name(capsys):
    images = load_digits("drawn", num_train=50, seed=3)
    assert (len(images.train), len(images.validation)) == (50, 1000)
    assert "drawn digits: 50 training" in capsys.readouterr().out
    other = load_digits("drawn", num_train=60, seed=3)
    np.testing.assert_array_equal(other.validation, images.validation)
    np.testing.assert_array_equal(other.train[:50], images.train)


@pytest.mark.parametrize(
    "arguments, message",
    [(("MNIST",), "data must be 'auto'"), (("drawn", -5), "num_train must be")],
)
def test_a_wrong_name_or_number_is_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        load_digits(*arguments)


def test_the_hash_tells_data_apart(tiny):
    assert tiny.sha256() == tiny.first(0).sha256() == datasets.drawn_digits(200).sha256()
    assert (
        len({tiny.sha256(), tiny.first(100).sha256(), datasets.drawn_digits(200, seed=1).sha256()})
        == 3
    )


@pytest.mark.parametrize(
    "array, remedy",
    [
        (np.zeros((0, 1, 4, 4), np.uint8), ""),
        (np.zeros((2, 1, 4, 4)), r"\* 255"),
        (np.zeros((2, 1, 4, 4), np.int64), r"astype\('uint8'\)"),
        (np.zeros((2, 4, 4), np.uint8), r"images\[:, None\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"transpose\(0, 3, 1, 2\)"),
        (np.zeros((2, 4, 4, 1), np.uint8), r"transpose\(0, 3, 1, 2\)"),
        ([[[[0]]]], r"numpy.asarray"),
    ],
)
def test_an_image_set_holds_uint8_images(array, remedy):
    right = np.zeros((2, 1, 4, 4), np.uint8)
    for part, arrays in (("train", (array, right)), ("validation", (right, array))):
        with pytest.raises(
            DataError, match=f"x: the {part} images must be a uint8 array.*{remedy}"
        ):
            ImageSet("x", *arrays, "made here", False)


def test_sets_are_compared_and_hashed_as_objects(tiny):
    other = dataclasses.replace(tiny)
    assert tiny == tiny and tiny != other and len({tiny, other}) == 2


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 4, 4)])
def test_images_of_ones_own_in_one_line(shape, capsys):
    train, validation = np.ones((6, *shape), np.uint8), np.zeros((2, *shape), np.uint8)
    images = ImageSet("fashion", train, validation)
    assert images.image_shape == shape and images.is_real and images.train_labels is None
    assert str(images).startswith(
        "fashion: 6 training and 2 validation images"
    ) and images.origin in str(images)
    assert len(images.first(3).train) == 3 and images.first(3).sha256() != images.sha256()
    labels = ImageSet(
        "fashion", train, validation, train_labels=np.arange(6), validation_labels=np.arange(2)
    )
    assert labels.first(3).train_labels.tolist() == [0, 1, 2] and labels.sha256() == images.sha256()


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../up",
        "a/b",
        "/tmp",
        "a\\b",
        "a\n",
        "a\0",
        "a\x1b[31m",
        ".hidden",
        "a ",
        "-p",
        "*",
        "a[b]",
        "~",
        "$HOME",
        "a:b",
        "x" * 65,
        7,
        None,
    ],
)
def test_a_name_that_would_not_do_in_a_folders_name(name):
    array = np.zeros((2, 1, 4, 4), np.uint8)
    with pytest.raises(DataError, match="name of a data set.*found") as caught:
        ImageSet(name, array, array)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["x", "MNIST", "drawn_faces", "_", "my faces", "v1.2-a+b", "Blüten", "花"]
)
def test_a_name_that_does(name):
    array = np.zeros((2, 1, 4, 4), np.uint8)
    assert ImageSet(name, array, array).title == name.replace("_", " ")


def test_training_and_validation_belong_together():
    array, other = np.zeros((2, 1, 4, 4), np.uint8), np.zeros((2, 1, 8, 8), np.uint8)
    with pytest.raises(DataError, match=r"of one shape; found \(1, 4, 4\) and \(1, 8, 8\)"):
        ImageSet("x", array, other)
    for part in ("train", "validation"):
        with pytest.raises(DataError, match=f"one label for each of the 2 {part} images; found 3"):
            ImageSet("x", array, array, **{f"{part}_labels": np.arange(3)})


# what is drawn, beside what was drawn when the results were recorded


def test_with_the_pinned_versions_nothing_is_noted(capsys):
    assert synthetic.RECORDED_WITH == {"Pillow": PIL.__version__, "numpy": np.__version__}
    for seed in (0, 1):
        assert datasets.drawn_digits(20, seed).origin == f"drawn by rule from seed {seed}"
    faces = synthetic_faces.draw_faces(1_024, image_size=32)[0]
    assert synthetic._origin("faces", faces, 0, None) == "drawn by rule from seed 0"
    assert not capsys.readouterr().out


def test_the_recorded_versions_are_the_pinned_ones():
    pins = (
        (pathlib.Path(__file__).resolve().parent.parent / "constraints.txt")
        .read_text()
        .splitlines()
    )
    for name, version in synthetic.RECORDED_WITH.items():
        assert f"{name.lower()}=={version}" in pins


@pytest.mark.parametrize("seed", [0, 1])
def test_other_drawings_by_another_pillow_are_noted_once(monkeypatch, capsys, seed):
    draw = synthetic_digits.draw_digits

    def otherwise(*arguments, **options):
        images, labels = draw(*arguments, **options)
        images[7, 0, 5, 5] += 1
        return images, labels

    monkeypatch.setattr(PIL, "__version__", "99.0")
    monkeypatch.setattr(synthetic_digits, "draw_digits", otherwise)
    origin = datasets.drawn_digits(20, seed).origin
    assert f"seed {seed} with Pillow 99.0" in origin and "NOT" in origin
    [note] = capsys.readouterr().out.splitlines()
    assert re.match(
        f"note: .*found Pillow 99.0 and numpy {np.__version__}.*expected Pillow 10.4.0 and numpy 1.23.5",
        note,
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_another_pillow_that_draws_the_same_is_as_good(monkeypatch, capsys, seed):
    monkeypatch.setattr(PIL, "__version__", "99.0")
    assert "NOT" not in datasets.drawn_digits(20, seed).origin and not capsys.readouterr().out


def test_sizes_without_a_record_are_not_compared(monkeypatch, capsys):
    monkeypatch.setattr(PIL, "__version__", "99.0")
    faces = np.zeros((4, 3, 16, 16), np.uint8)
    assert (
        synthetic._origin("faces", faces, 0, None) == "drawn by rule from seed 0"
        and not capsys.readouterr().out
    )


def cost_of_a_perfect_reconstruction(images):
    """BCE, in nats an image, of images under themselves: grey pixels cost even when they are right."""
    grey = images[(images > 0) & (images < 255)] / 255
    return -(grey * np.log(grey) + (1 - grey) * np.log(1 - grey)).sum() / len(images)


def test_the_drawn_digits_least_bce_is_what_the_notebooks_say(tiny):
    assert cost_of_a_perfect_reconstruction(tiny.validation) == pytest.approx(35.0, abs=0.1)


def test_the_published_files(tmp_path, capsys):
    folder = paths.data_root() / "mnist"
    if any(mnist.find(folder, name) is None for name in mnist.FILES):
        pytest.skip(
            "the real MNIST files are not here (set D2LVAE_DATA to the folder above mnist/)"
        )
    images = load_mnist(folder)
    assert images.train.shape == (60_000, 1, 28, 28) and images.validation.shape == (
        10_000,
        1,
        28,
        28,
    )
    assert list(images.validation_labels[:10]) == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert images.train.mean() == pytest.approx(33.318, abs=1e-3) and "NOT" not in images.origin
    assert cost_of_a_perfect_reconstruction(images.validation) == pytest.approx(45.5, abs=0.1)
    for name, sha256 in mnist.FILES.items():
        path = mnist.find(folder, name)
        if path.suffix == ".gz":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
            (tmp_path / name).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copy(path, tmp_path)
    assert load_mnist(tmp_path).origin == images.origin and "note" not in capsys.readouterr().out


@pytest.mark.parametrize("load", [load_digits, load_faces])
def test_a_seed_that_is_none_is_named(load):
    with pytest.raises(ParameterError, match="seed"):
        load("drawn", 10, seed=-1)
