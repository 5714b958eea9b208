"""The page on experiments of one's own does what it says."""

import ast
import json
import pathlib
import re

import numpy as np
import other_device
import pytest
from d2lvae.sources.checks import DataError
from d2lvae.storage import paths
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "own_experiment.ipynb"
PAGE = ROOT / "docs" / "own_experiments.md"


@pytest.mark.pictures
def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    other_device.use(monkeypatch.setattr)
    names, runs = {}, []
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(code, str(PAGE), "exec"), names)
        runs.append(names.get("run"))
    by_seed, own = runs[-2:]
    longer = next(run for run in runs if run and len(run.history) == 4)
    assert by_seed.metrics["config"]["seed"] == 2 and by_seed.finished
    assert sorted(names["table"].index) == [0, 1, 2] and names["table"]["SSIM"].notna().all()
    assert len(longer.history) == 4 and longer.history[3]["loss"] < longer.history[0]["loss"]
    assert longer.folder.parent == tmp_path / "results/own/images/TanhVAE_TanhDisc_on_squares"
    assert longer.folder.name.startswith("3_64_32_4_pixel_loss_absolute_source_")
    assert {path.name for path in longer.folder.glob("*.onnx")} == {"encoder.onnx", "decoder.onnx"}
    assert "going on after 2 of 4 epochs" in capsys.readouterr().out
    assert type(names["vae"]).__name__ == "TanhVAE" and own.metrics["config"][
        "own_weights"
    ].keys() == {"vae"}


def functions(code):
    """The functions that a text of code defines, as trees by name."""
    lines = [line for line in code.splitlines() if not line.startswith("%")]
    nodes = ast.parse("\n".join(lines)).body
    return {node.name: ast.dump(node) for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.fixture
def readers():
    """The page's functions that read images."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"d2lvae": __import__("d2lvae")}
    for code in blocks:
        if "def from_" in code:
            exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_notebook_reads_images_as_the_page_does():
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    in_notebook, on_page = {}, {}
    for cell in cells:
        in_notebook.update(functions("".join(cell["source"])))
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        on_page.update(functions(code))
    for name in ("from_folder", "from_idx"):
        assert in_notebook[name] == on_page[name]


def test_a_folder_of_any_images(readers, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (25, 40, 50, 3)).astype(np.uint8)
    for number, image in enumerate(noise):
        Image.fromarray(image).save(folder / f"{number}.png")
    images = readers["from_folder"](folder, "my photos", image_size=32)
    assert images.name == "my photos" and images.is_real
    assert images.train.shape == (20, 3, 32, 32) and images.validation.shape == (5, 3, 32, 32)


def test_files_in_mnists_format_by_name(readers, mnist_folder):
    folder, arrays = mnist_folder
    images = readers["from_idx"](str(folder), "fashion")
    assert images.name == "fashion"
    assert (images.train[:, 0] == arrays["train-images-idx3-ubyte"]).all()
    assert (images.validation[:, 0] == arrays["t10k-images-idx3-ubyte"]).all()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"no images")
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        readers["from_idx"](folder, "fashion")
