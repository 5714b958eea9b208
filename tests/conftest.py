"""Tiny data and short runs for all tests."""

import gzip
import os
import signal
import struct

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

if "PYTEST_XDIST_WORKER" in os.environ:  # two test processes at once: a core each
    os.environ["OMP_NUM_THREADS"] = "1"
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started behind a shell's &: processes would pass it on, and Ctrl-C would do nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)
import d2lvae
import other_device
from d2lvae import data as datasets
from d2lvae.evaluation import quality
from d2lvae.sources import mnist, synthetic_faces
from d2lvae.storage import png


def pytest_collection_modifyitems(items):
    """Files with a slow test go first, so that what is left for the end, and shared out, is short."""
    first = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(autouse=True)
def quick_ends(monkeypatch, request):
    """Runs within the tests' own process measure 50 reconstructions, not 1,000.

    Their figures are made, but written as small white images unless a test is marked `pictures`.
    Fixtures of a module come before this one: their runs measure and draw in full.
    """
    monkeypatch.setattr(quality, "NUM_MEASURED", 50)
    if not request.node.get_closest_marker("pictures"):
        monkeypatch.setattr(png, "_rendered", _blank)


def _blank(figure):
    pyplot.close(figure)
    return Image.new("RGB", (40, 30), "white")


@pytest.fixture(scope="module")
def another_device():
    """In this file's tests d2l.try_gpu gives another device than the first, which stays apart."""
    with pytest.MonkeyPatch.context() as patch:
        other_device.use(patch.setattr)
        yield


@pytest.fixture(scope="session")
def tiny():
    """200 drawn digits for training and 1,000 for validation."""
    return datasets.drawn_digits(200)


@pytest.fixture(scope="session")
def tiny_faces():
    """Drawn faces of 32 x 32: 64 for training, 20 for validation."""
    faces, factors = synthetic_faces.draw_faces(84, image_size=32)
    return datasets.ImageSet(
        "drawn_faces",
        faces[20:],
        faces[:20],
        "drawn by rule from seed 0",
        False,
        factors[20:],
        factors[:20],
        tuple(synthetic_faces.FACTORS),
    )


@pytest.fixture
def config(tmp_path):
    """Parameters of a run that takes a fraction of a second."""
    return dict(
        data="drawn",
        num_train=200,
        epochs=2,
        batch_size=64,
        lr=1e-3,
        pixel_loss="bce",
        pixel_weight=1.0,
        kl_weight=1.0,
        disc_weight=0.0,
        seed=0,
        resume=False,
        results_dir=str(tmp_path / "results"),
    )


@pytest.fixture
def small_vae():
    return lambda: d2lvae.DenseVAE(num_latents=3, num_layers=1, num_hiddens=16)


@pytest.fixture
def small_disc():
    return lambda: d2lvae.DenseLogReg(num_layers=1, num_hiddens=8)


def idx(array):
    """The bytes of an IDX file."""
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


@pytest.fixture
def mnist_folder(tmp_path):
    """A data root's mnist/ with four tiny, well-formed files, gzipped; and what is in them."""
    folder = tmp_path / "data root" / "mnist"  # a blank in the path, as people have them
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, number in (("train", 30), ("t10k", 20)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (number, 28, 28)).astype(
            np.uint8
        )
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, number).astype(np.uint8)
    for name, array in arrays.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return folder, arrays


@pytest.fixture
def no_network(monkeypatch):
    """Mirrors that refuse at once."""
    monkeypatch.setattr(mnist, "MIRRORS", ("https://127.0.0.1:9/", "https://127.0.0.1:10/"))
