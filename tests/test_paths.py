"""Notebooks in odd places and through other programs: papermill, nbconvert, our own tool for executing them."""

import pathlib
import runpy
import shutil
import subprocess
import sys

import nbformat
import pytest
from d2lvae.storage import paths
from helpers import IN_JUPYTER, to_the_training

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY = {"data": "drawn", "num_train": 256, "epochs": 1, "num_hiddens": 20, "seed": 3}


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A copy of a notebook, to its training, alone in a folder whose name has a colon, brackets and a blank.

    What Jupyter leaves in the environment makes no page of papermill or nbconvert.
    """
    for name, value in IN_JUPYTER.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "a: b [c]"
    folder.mkdir()
    notebook = to_the_training("mnist_densevae_bce")
    notebook.cells[-1].source += """
assert (run.folder / 'metrics.json').is_file()
from d2lvae.engine import progress
assert not progress.is_interactive()
"""
    nbformat.write(notebook, folder / "my notebook [1] 10:30.ipynb")
    return folder / "my notebook [1] 10:30.ipynb"


def run(*command, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_notebook_alone_in_an_odd_folder_runs_goes_on_and_becomes_slides(alone):
    """Its results are where it was told, and the second program goes on from what the first has left."""
    results = alone.parent / "res: [1] x"
    out = alone.parent / "out: x y.ipynb"  # nbconvert takes brackets in a name for a pattern
    parameters = [
        word
        for name, value in {**TINY, "results_dir": results}.items()
        for word in ("-p", name, value)
    ]
    said = run(
        "papermill",
        "--no-progress-bar",
        "--log-output",
        alone.name,
        out.name,
        *parameters,
        cwd=alone.parent,
    )
    assert "epoch   0: loss" in said
    [record] = results.glob("images/*/*/metrics.json")

    notebook = nbformat.read(out, as_version=4)
    injected = next(
        cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])
    )
    injected.source += "\nepochs = 2\nresume = True"
    nbformat.write(notebook, out)
    run("nbconvert", "--execute", "--to", "notebook", "--inplace", out.name, cwd=alone.parent)
    outputs = [
        output
        for cell in nbformat.read(out, as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "epoch   1: loss" in said and "epoch   0: loss" not in said
    assert len(list(results.glob("images/*/*/metrics.json"))) == 2

    run("nbconvert", "--to", "slides", out.name, cwd=alone.parent)
    [slides] = alone.parent.glob("*.slides.html")
    assert "data:image/png" in slides.read_text()


def test_an_executed_notebook_is_what_jupyterlab_would_write(tmp_path, monkeypatch):
    """Opened, it is unchanged; executed again, only what is new differs."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "environment.yml", tmp_path)
    path = tmp_path / "notebooks" / "tiny.ipynb"
    cells = [
        nbformat.v4.new_code_cell(
            "data: str = 'auto'  # a data set", id="tiny-00", metadata={"tags": ["parameters"]}
        ),
        nbformat.v4.new_markdown_cell("Text.", id="tiny-01"),
        nbformat.v4.new_code_cell("print(data)", id="tiny-02"),
    ]
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), path)
    texts = []
    tool = str(ROOT / "tools" / "execute_notebooks.py")
    monkeypatch.setattr(sys, "argv", [tool, "notebooks/tiny.ipynb"])
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        runpy.run_path(tool, run_name="__main__")
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["tiny-00", "tiny-01", "tiny-02"]
    assert [output.text for output in notebook.cells[2].outputs] == ["drawn\n"]
    assert notebook.metadata.kernelspec == {**kernelspec, "display_name": "Python 3 (ipykernel)"}
    language = notebook.metadata.language_info
    assert (
        language.version == ".".join(map(str, sys.version_info[:3]))
        and language.pygments_lexer == "ipython3"
    )
    assert set(language) == {
        "codemirror_mode",
        "file_extension",
        "mimetype",
        "name",
        "nbconvert_exporter",
        "pygments_lexer",
        "version",
    }
    assert notebook.nbformat_minor == 5 and set(notebook.metadata) == {
        "kernelspec",
        "language_info",
    }


def test_paths_are_shown_whole_from_outside_the_project(tmp_path, monkeypatch):
    inside = paths.ROOT / "results" / "own"
    monkeypatch.chdir(paths.ROOT / "notebooks")
    assert paths.display_path(inside) == "results/own"
    monkeypatch.chdir(tmp_path)
    assert paths.display_path(inside) == str(inside)
