"""Nothing that is loaded can run code, and downloads come from the named mirrors alone."""

import ast
import gzip
import hashlib
import importlib.util
import io
import os
import pathlib
import pickle
import struct

import d2lvae
import helpers
import numpy as np
import pytest
import requests
from conftest import idx
from d2lvae import config as parameters
from d2lvae import data as datasets
from d2lvae.evaluation import classifier, study
from d2lvae.sources import image_folder, mnist
from d2lvae.storage import checkpoints, errors, files
from d2lvae.storage.files import CheckpointError
from PIL import Image

PACKAGE = pathlib.Path(d2lvae.__file__).parent
SOURCES = [
    *PACKAGE.rglob("*.py"),
    *(PACKAGE.parent / "tools").glob("*.py"),
    *(PACKAGE.parent / "tests" / "stress").glob("*.py"),
]
# What can run what it reads: modules, functions, and loaders of anybody's but numpy's (told not to unpickle) and json's.
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
    "runpy",
}
CALLS = {
    "eval",
    "exec",
    "__import__",
    "system",
    "popen",
    "import_module",
    "load_parameters",
    "load_params",
    "imports",
    "urlopen",
    "urlretrieve",
}
WRITES_ONE_TO_BE_REFUSED = ["spoilers.py imports pickle"]


def findings(source, name="a.py"):
    """What of a source could run what it reads, a line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            found += [
                f"{name} imports {module}" for module in modules if module.split(".")[0] in MODULES
            ]
        if isinstance(node, ast.Call):
            called = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            owner = (
                getattr(node.func.value, "id", "?") if isinstance(node.func, ast.Attribute) else ""
            )
            options = {
                keyword.arg: getattr(keyword.value, "value", "?") for keyword in node.keywords
            }
            harmless = owner == "json" or owner == "np" and options.get("allow_pickle") is False
            if (
                called in CALLS
                or called in ("load", "loads")
                and node.args
                and not harmless
                or options.get("shell")
                or options.get("allow_pickle")
            ):
                found.append(f"{name} calls {owner}.{called}")
    return found


def test_no_source_can_run_what_it_reads():
    found = [line for path in SOURCES for line in findings(path.read_text(), path.name)]
    assert found == WRITES_ONE_TO_BE_REFUSED and len(SOURCES) > 25


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import numpy as np\nnp.load('a')",
        "np.load('a', allow_pickle=True)",
        "eval('1')",
        "mx.nd.load('a')",
        "torch.load('a')",
        "yaml.load('a')",
        "import yaml",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "net.load_parameters('a')",
        "urllib.request.urlopen('http://a')",
        "pickle.loads(b'')",
    ],
)
def test_the_audit_finds_what_it_looks_for(source):
    assert findings(source)


# a bomb in every path that is read


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(params=["pickle", "npy", "npz"])
def bomb(request, tmp_path):
    """Bytes that make a folder when they are unpickled; and the folder."""
    mark, file = tmp_path / "exploded", io.BytesIO()
    objects = np.array([Bomb(mark)], object)
    {
        "pickle": lambda: file.write(pickle.dumps(Bomb(mark))),
        "npy": lambda: np.save(file, objects),
        "npz": lambda: np.savez(file, record=objects, w=objects),
    }[request.param]()
    return file.getvalue(), mark


def test_the_bombs_are_live(bomb):
    content, mark = bomb
    if content[:2] == b"\x80\x04":
        pickle.loads(content)
    else:
        loaded = np.load(io.BytesIO(content), allow_pickle=True)
        loaded["w"] if hasattr(loaded, "files") else None
    assert mark.exists()


def test_a_bomb_in_any_path_runs_nothing(
    bomb, tmp_path, monkeypatch, config, tiny, small_vae, capsys
):
    content, mark = bomb
    monkeypatch.setenv("D2LVAE_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir(), (tmp_path / "anime").mkdir()
    for name in mnist.FILES:
        (tmp_path / "mnist" / name).write_bytes(content)
    with pytest.raises(datasets.DataError):
        datasets.load_mnist(tmp_path / "mnist")
    for i in range(25):
        Image.linear_gradient("L").save(tmp_path / "anime" / f"{i}.png")
    (tmp_path / "anime" / "bomb.png").write_bytes(content)
    (tmp_path / ".anime_32.cache").write_bytes(content)
    assert len(datasets.real_faces(tmp_path / "anime", image_size=32).train) == 20
    key = classifier._key(tiny)
    (tmp_path / "c.npz").write_bytes(content)
    net = classifier.Classifier((1, 28, 28), 10)
    d2lvae.initialize(net, 0)
    assert not classifier._load(net, tmp_path / "c.npz", key)
    folder = helpers.run_folder(small_vae(), tiny, config)
    folder.mkdir(parents=True)
    for name in ("checkpoint.npz", "checkpoint_previous.npz", "vae.npz"):
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        d2lvae.load_net(folder / "vae.npz")
    with pytest.raises(CheckpointError, match="checkpoint.npz.*checkpoint_previous.npz"):
        helpers.fit(small_vae(), tiny, {**config, "resume": True})
    (folder / "metrics.json").write_bytes(content)
    with pytest.raises(errors.RunError, match="metrics.json"):
        helpers.fit(small_vae(), tiny, config)
    (tmp_path / "MNIST.json").write_bytes(content)
    with pytest.raises(ValueError, match="MNIST.json"):
        study.load_summary("MNIST", tmp_path)
    assert not mark.exists()


def test_a_image_that_is_a_program_is_left_to_nobody(tmp_path):
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n"
    )
    with pytest.raises(Exception, match="cannot identify image file"):
        image_folder.decode(tmp_path / "a.png", 32)


def test_a_png_with_a_wrong_checksum_is_no_image(tmp_path):
    red = Image.new("RGB", (64, 64), (200, 0, 0))
    red.save(tmp_path / "a.png")
    image_folder.decode(tmp_path / "a.png", 32)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[content.index(b"IEND") - 5] ^= (
        1  # of the chunk before: Pillow, left to itself, does not compare it
    )
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Exception, match="checksum|broken"):
        image_folder.decode(tmp_path / "a.png", 32)


# downloads


@pytest.fixture
def asked(monkeypatch):
    """Addresses that were asked for; what is answered is `asked.answer`, (status, headers, body)."""

    class Asked(list):
        answer = (200, {}, b"content")

    asked = Asked()

    def send(self, request, **options):
        asked.append(request.url)
        response = requests.Response()
        response.status_code, headers, content = asked.answer
        response.headers.update(headers)
        response.raw, response.url, response.request = io.BytesIO(content), request.url, request
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return asked


@pytest.fixture
def part(tmp_path):
    """The file that pooch has made for a download."""
    (tmp_path / "part").touch()
    return tmp_path / "part"


@pytest.mark.parametrize(
    "address", ["http://a.org/x", "file:///etc/passwd", "ftp://a.org/x", "data:,x"]
)
def test_nothing_but_https_is_opened(asked, part, address):
    with pytest.raises(ValueError, match="is not an https address"):
        mnist._get(address, part, None)
    assert not asked and all(mirror.startswith("https://") for mirror in mnist.MIRRORS)


@pytest.mark.parametrize(
    "there",
    [
        "http://a.org/x",
        "https://b.org/x",
        "file:///etc/passwd",
        "https://a.org:8443/x",
        "https://a.org@b.org/x",
    ],
)
def test_a_mirror_that_sends_us_elsewhere_is_not_followed(asked, part, there):
    asked.answer = (302, {"Location": there}, b"")
    with pytest.raises(ValueError, match=f"found status 302 .to {there}"):
        mnist._get("https://a.org/x", part, None)
    assert not mnist._answers("https://a.org/x")
    assert asked == ["https://a.org/x"] * 2


def test_a_download_is_bounded_in_size_and_time(asked, part, monkeypatch):
    asked.answer = (200, {}, bytes(10_000_000))
    monkeypatch.setattr(mnist, "MAX_DOWNLOAD", 200_000)
    with pytest.raises(ValueError, match="bytes are too many"):
        mnist._get("https://a.org/x", part, None)
    assert part.stat().st_size < 300_000
    monkeypatch.setattr(mnist, "DOWNLOAD_SECONDS", -1)
    asked.answer = (200, {}, bytes(1_000))
    with pytest.raises(ValueError, match="s have gone by"):
        mnist._get("https://a.org/x", part, None)


# what checksums cannot tell


def test_idx_bombs_take_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "MAX_IDX", 1_000)
    (tmp_path / "bomb.gz").write_bytes(
        gzip.compress(b"\0\0\x08\3" + struct.pack(">III", 2**31, 28, 28) + bytes(100_000))
    )
    with pytest.raises(
        datasets.DataError, match="bomb.gz: has more than 1,000 bytes when unpacked"
    ):
        mnist.read_idx(tmp_path / "bomb.gz")


@pytest.mark.parametrize(
    "labels, words",
    [
        (np.full(30, 10, np.uint8), "numbers up to 10"),
        (np.zeros((30, 1), np.uint8), r"shape \(30, 1\)"),
    ],
)
def test_labels_are_from_0_to_9(mnist_folder, labels, words):
    folder, _ = mnist_folder
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(
        datasets.DataError,
        match=f"train-labels-idx1-ubyte.gz: expected a list of labels from 0 to 9.*{words}",
    ):
        datasets.load_mnist(folder)


def test_files_that_are_not_the_published_ones_are_named(mnist_folder, monkeypatch, capsys):
    folder, arrays = mnist_folder
    datasets.load_mnist(folder)
    said = capsys.readouterr().out
    assert "note: these files in" in said and all(f"{name}.gz" in said for name in arrays)
    checksums = {
        name: hashlib.sha256((folder / f"{name}.gz").read_bytes()).hexdigest() for name in arrays
    }
    monkeypatch.setattr(mnist, "FILES", checksums)
    datasets.load_mnist(folder)
    assert "note" not in capsys.readouterr().out
    (folder / "t10k-labels-idx1-ubyte").write_bytes(
        gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    )
    datasets.load_mnist(folder)
    assert capsys.readouterr().out.endswith(": t10k-labels-idx1-ubyte\n")


TRAINED = {
    "vae/w": np.ones((2, 3), np.float32),
    "vae_adam/mean/w": np.ones((2, 3), np.float32),
    "vae_adam/var/w": np.ones((2, 3), np.float32),
}
RECORD = {"config": {"epochs": 2}, "steps": {"vae": 5}, "history": [], "threads": {}}


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"vae/w": np.full((2, 3), np.nan, np.float32)}, "not all numbers in vae/w are finite"),
        ({"vae_adam/mean/w": np.ones((3, 2), np.float32)}, "vae_adam/mean/w should have shape"),
        ({"vae/w": np.ones((2, 3))}, "of float32, found .* of float64"),
        ({"more": np.ones(1, np.float32)}, "more should have shape none"),
    ],
)
def test_a_checkpoint_of_other_arrays_or_no_numbers_is_refused_though_its_checksum_is_right(
    tmp_path, arrays, words
):
    def load():
        return checkpoints.load_checkpoint(tmp_path, {"epochs": 2}, like=TRAINED)

    files.write_arrays(tmp_path / "checkpoint.npz", TRAINED, RECORD)
    assert load()[1] == RECORD
    files.write_arrays(tmp_path / "checkpoint.npz", {**TRAINED, **arrays}, RECORD)
    with pytest.raises(CheckpointError, match=f"checkpoint.npz: .*{words}"):
        load()
    files.write_arrays(tmp_path / "checkpoint_previous.npz", TRAINED, RECORD)
    assert load()[1] == RECORD and (tmp_path / "checkpoint.npz.damaged").exists()


@pytest.mark.parametrize("record", [None, [], {}, {"config": None}, {"config": [1]}])
def test_a_file_of_another_kind_is_no_checkpoint_and_no_net(tmp_path, record):
    files.write_arrays(tmp_path / "checkpoint.npz", TRAINED, record)
    with pytest.raises(CheckpointError, match="checkpoint.npz: it is no checkpoint"):
        checkpoints.load_checkpoint(tmp_path, {"epochs": 2}, like=TRAINED)
    with pytest.raises(CheckpointError, match="checkpoint.npz holds no single net"):
        d2lvae.load_net(tmp_path / "checkpoint.npz")


@pytest.mark.parametrize("name", sorted(parameters.RULES))
@pytest.mark.parametrize(
    "value", [None, [], {}, b"1", "\0", -1, float("nan"), float("inf"), -(10**400), 1e400, (1,)]
)
def test_parameters_of_any_kind_are_refused_by_name(name, value):
    if name == "results_dir" and isinstance(value, str):
        pytest.skip("any text is a folder's name")
    with pytest.raises(parameters.ParameterError, match=f"^{name} must be"):
        parameters.validate(name, value)


# the audit of the pinned packages


def audit():
    spec = importlib.util.spec_from_file_location("audit", PACKAGE.parent / "tools" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_audit_takes_the_pins_of_each_python():
    text = "# made by hand\na==1.0\nb==2.0 ; python_version >= '3.8' and python_version <= '3.8'\nb==3.0 ; python_version >= '3.9'\n\n"
    assert audit().pins(text, "3.8") == ["a==1.0", "b==2.0"] and audit().pins(text, "3.11") == [
        "a==1.0",
        "b==3.0",
    ]


def test_what_the_audit_could_not_look_up_is_no_pass():
    report = {
        "dependencies": [
            {
                "name": "a",
                "version": "1.0",
                "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": []}],
            },
            {"name": "b", "skip_reason": "not found"},
        ]
    }
    assert audit().vulnerabilities(report) == (["a 1.0: PYSEC-1 (CVE-1), fixed in none"], ["b"])
