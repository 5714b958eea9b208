"""Every notebook: clean as committed, and really trained by nbval on tiny data."""

import ast
import csv
import json
import os
import pathlib
import re
import subprocess
import sys

import d2lvae
import mxnet as mx
import nbformat
import numpy as np
import other_device
import papermill
import pytest
from d2lvae import config as parameters
from d2lvae import losses, steps
from d2lvae.evaluation import study
from d2lvae.sources import synthetic_digits
from d2lvae.storage import agreement, records
from d2lvae.training import minibatches
from helpers import IN_JUPYTER

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY = {
    "mnist": {"data": "drawn", "num_train": 400, "epochs": 3},
    "anime": {"data": "drawn", "num_train": 80, "epochs": 2},
    "study": {"data": "drawn", "num_train": 128, "epochs": 2, "num_seeds": 1},
    "latent": {},
    "own": {"epochs": 1},
}
INJECTED = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import other_device
other_device.use()
from d2lvae.engine import progress
from d2lvae.evaluation import classifier, quality
from d2lvae.sources import synthetic
assert not progress.is_interactive()
quality.NUM_MEASURED, classifier.NUM_DIGITS, classifier.NUM_FACES = 50, 500, 256
synthetic.NUM_FACES, synthetic.NUM_VALIDATION_FACES, synthetic.NUM_VALIDATION_DIGITS = 256, 100, 200
del sys, other_device, progress, classifier, quality, synthetic  # a notebook that forgets its own import fails
"""
NAMES = {"anime": "drawn faces", "own": "shapes"}  # of the images, others than drawn digits
COMMON = {
    *("data", "num_train", "epochs", "lr", "num_latents", "pixel_loss"),
    *("seed", "resume", "results_dir"),
}
DENSE, CONV, FACES = {"num_layers", "num_hiddens"}, {"base_channels", "upsampling"}, {"image_size"}
ALONE = {"batch_size", "pixel_weight", "kl_weight", "kvstore"}
DISC = {"disc_weight"}
PARAMETERS = {  # what each has besides
    "mnist_densevae_bce": DENSE | ALONE,
    "mnist_densevae_l2": DENSE | ALONE,
    "mnist_densevae_logreg": DENSE | DISC | {"disc_num_layers", "disc_num_hiddens", "learned_loss"},
    "anime_densevae_bce": FACES | DENSE | ALONE,
    "anime_convvae_bce": FACES | CONV | ALONE | {"precision"},
    "anime_densevae_logreg": FACES | DENSE | DISC | {"disc_num_layers", "disc_num_hiddens"},
    "anime_convvae_convdisc": FACES | CONV | DISC | {"disc_base_channels", "learned_loss"},
    "anime_convvae_resnet": FACES | CONV | DISC | {"disc_net", "disc_lr", "precision"},
    "anime_convvae_learned": FACES | CONV | DISC | {"disc_base_channels", "feature_weight"},
}
OTHERS = {
    "study_sharpness": {"data", "num_train", "epochs", "num_seeds", "seed", "results_dir"},
    "latent_explorer": {"results_dir"},
    "own_experiment": {"epochs", "num_latents", "kl_weight", "batch_size", "lr", "seed"}
    | {"results_dir"},
}
EIGHT = [stem for stem in PARAMETERS if stem != "anime_convvae_learned"]


def family(path):
    return path.stem.split("_")[0]


def test_there_is_one_for_each_experiment():
    assert {path.stem for path in NOTEBOOKS} == {*PARAMETERS, *OTHERS}


@pytest.mark.parametrize(
    "stem, defaults",
    [
        ("anime_densevae_bce", (512, 5, 1024)),
        ("anime_densevae_logreg", (512, 5, 1024, 1, 1024, 10.0)),
        ("anime_convvae_bce", (512, 32)),
        ("anime_convvae_convdisc", (256, 16, 16, 10.0)),
        ("anime_convvae_resnet", (256, 16, "resnet18_v1", 10.0)),
    ],
)
def test_defaults_on_faces_are_the_seeds(stem, defaults):
    found = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{stem}.ipynb"))
    names = [
        "num_latents",
        "num_layers",
        "num_hiddens",
        "base_channels",
        "disc_num_layers",
        "disc_num_hiddens",
        "disc_base_channels",
        "disc_net",
    ]
    names += ["disc_weight"] * (len(defaults) > 3 or "resnet18_v1" in defaults)
    values = [ast.literal_eval(found[name]["default"]) for name in names if name in found]
    assert values == list(defaults)


@pytest.mark.parametrize("stem", EIGHT)
def test_what_the_seed_did_not_have_is_off_in_its_eight(stem):
    found = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{stem}.ipynb"))
    off = {**records.OPTIONAL, "upsampling": "transposed"}
    values = {name: ast.literal_eval(found[name]["default"]) for name in off if name in found}
    assert values == {name: off[name] for name in values}  # of others the default holds
    assert records.OPTIONAL == {
        **{"learned_loss": "adversarial", "feature_weight": 1.0, "disc_lr": 0.0},
        **{"num_solo_epochs": 0, "precision": "float32", "local_steps": 1},
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_as_committed_it_is_executed_clean_and_portable(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3" and "papermill" not in notebook.metadata
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(
        range(1, len(code) + 1)
    ), "not executed from top to bottom"
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    assert all(output.metadata["image/png"]["alt"] for output in drawn)
    assert max(output.metadata["image/png"]["width"] for output in drawn) <= 1340
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds <= {"text/plain", "text/html", "image/png"}
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= (
        2 if family(path) == "latent" else 4
    )
    text = json.dumps([[cell.source, cell.get("outputs")] for cell in notebook.cells])
    assert not re.search(r"/(home|root|tmp|Users|work)/", text), "a path of one machine"
    assert NAMES.get(family(path), "drawn digits") in text
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_parameters_are_known_typed_and_explained(path):
    inferred = papermill.inspect_notebook(str(path))
    assert set(inferred) <= set(parameters.RULES)
    assert path.stem in OTHERS or COMMON | PARAMETERS[path.stem] <= set(inferred)
    assert set(inferred) == OTHERS.get(path.stem, set(inferred))
    for name, parameter in inferred.items():
        assert parameter["help"], f"{name} has no explanation"
        assert parameter["inferred_type_name"] == parameters.RULES[name].kind.__name__
    first = next(
        cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
    )
    assert first.metadata.tags == ["parameters"]
    lines = first.source.splitlines()
    assert len(lines) <= 18 and max(map(len, lines)) <= 88
    assert path.stem in OTHERS or "# Further settings" in lines
    has_disc = any(name in inferred for name in agreement.OF_DISC)
    assert has_disc or not {"disc_weight", *agreement.OF_DISCRIMINATORS} & set(inferred)


def cell_with(stem, words):
    """The source of the notebook's cell that these words are in."""
    cells = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells
    [source] = [cell.source for cell in cells if words in cell.source]
    return source


@pytest.mark.parametrize("weights, loss", [((1.0, 1.0), "bce"), ((0.5, 2.0), "l2")])
def test_the_first_notebooks_net_and_loop_are_the_packages(weights, loss, tmp_path):
    """The net in its cell, trained by the loop in its cell, has the losses of fit's first epoch."""
    images = d2lvae.ImageSet("digits", *np.split(synthetic_digits.draw_digits(400)[0], [300]))
    sizes = dict(num_latents=3, num_layers=2, num_hiddens=50)
    common = dict(batch_size=64, lr=0.001, seed=5, pixel_weight=weights[0], kl_weight=weights[1])
    common["pixel_loss"] = loss
    cells = {"d2lvae": d2lvae, "images": images, "device": mx.cpu(), "mx": mx, "losses": losses}
    cells.update(autograd=mx.autograd, gluon=mx.gluon, nn=mx.gluon.nn, minibatches=minibatches)
    cells.update(sizes, **common, X=mx.nd.array(images.train[:64]) / 255)
    for words in ("class DenseVAE", "my_vae = DenseVAE(", "trainer = gluon.Trainer("):
        exec(cell_with("mnist_densevae_bce", words), cells)
    config = d2lvae.Config(epochs=1, results_dir=str(tmp_path), **common)
    vae = d2lvae.DenseVAE(**sizes, image_shape=images.image_shape)
    run = d2lvae.fit(vae, images, config)
    assert cells["loss"] == pytest.approx(run.history[0]["loss"], rel=1e-4)
    X = mx.nd.array(images.validation) / 255
    np.testing.assert_allclose(  # after five steps each
        cells["my_vae"].encoder(X).asnumpy(), vae.encoder(X).asnumpy(), atol=2e-3
    )


REVISED = [*PARAMETERS, "study_sharpness"]


def test_the_distance_in_its_cell_is_the_one_that_is_trained():
    cell = cell_with("anime_convvae_learned", "def distance(")
    vae, disc = d2lvae.ConvVAE(4, 4, (3, 32, 32)), d2lvae.ConvDisc(4, (3, 32, 32))
    d2lvae.initialize(vae, 0), d2lvae.initialize(disc, 1)
    shown = {"discriminator": disc, "losses": losses, "mx": mx}
    exec(cell.split("\n\n")[0], shown)
    X = mx.nd.random.uniform(shape=(8, 3, 32, 32))
    with mx.autograd.record():
        expected = steps.FeatureStep(vae, disc).feature_loss(X, X[::-1]).mean().asscalar()
    assert shown["distance"](X, X[::-1]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("stem", REVISED)
def test_a_class_can_read_it_on_a_projector(stem):
    """No line of code is wider than a cell; each cell has its place on slides."""
    for cell in nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells:
        assert "slide_type" in cell.metadata.get("slideshow", {}), cell.source
        if cell.cell_type == "code":
            assert max(map(len, cell.source.splitlines())) <= 88, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_it_says_is_in_a_file_is_there(path):
    """`ResizeConv` in [layers.py](../d2lvae/engine/layers.py)."""
    for cell in nbformat.read(path, as_version=4).cells:
        for name, file in re.findall(
            r"`([\w.]+)`[^`\n]{0,20} in \[[^]]*\]\(([^)]+\.py)\)", cell.source
        ):
            text = (path.parent / file).read_text()
            for part in name.split("."):
                assert re.search(rf"\b{part}\b", text), f"{path.name}: there is no {name} in {file}"


def test_the_units_that_never_fire_are_as_it_says():
    cells = nbformat.read(ROOT / "notebooks" / "anime_densevae_bce.ipynb", as_version=4).cells
    [said] = [cell.source for cell in cells if "With a smaller step" in cell.source]
    counted = [cell.outputs for cell in cells if "num_firing(fresh" in cell.source]
    counts = "".join(output.text for outputs in counted for output in outputs)
    before, one_step, after = (
        [int(number) for number in numbers.split(", ")]
        for numbers in re.findall(r"\[(.*?)\]", counts)
    )
    pixels = int(re.search(r"pixels: (\d+)", counts)[1])
    highest, sums = zip(*re.findall(r"highest ([\d.]+), sum (\d+)", counts))
    assert min(before) > 0.8 * 1024 and max(one_step) < 1024 / 2
    assert after[0] < min(after[1:]) < 0.3 * 1024, "the narrowest part"
    assert f"0.001 x {pixels}, or {pixels / 1000:.1f}" in said
    assert float(highest[0]) < pixels / 1000 and f"the highest had {highest[0]}" in said
    assert round(int(sums[1]) / int(sums[0])) == 6 and "six times as large" in said


@pytest.mark.slow
def test_nbval_trains_every_notebook_on_tiny_data(tmp_path):
    """Cells tagged nbval-check-output must print what is committed; all others must run, their assertions hold.

    They compute on another device than the first, as with a GPU.
    nbval is taken for no page, whatever Jupyter has left in the environment.
    """
    halves = [tmp_path / "0", tmp_path / "1"]  # one core each
    for i, path in enumerate(NOTEBOOKS):
        prepared = halves[i % 2] / path.name
        prepared.parent.mkdir(exist_ok=True)
        papermill.execute_notebook(
            path,
            prepared,
            prepare_only=True,
            progress_bar=False,
            parameters={**TINY[family(path)], "results_dir": str(halves[i % 2] / "results")},
        )
        notebook = nbformat.read(prepared, as_version=4)
        for cell in notebook.cells:  # parameters go in before nbval compares
            if cell.cell_type == "code" and "injected-parameters" in cell.metadata.get("tags", []):
                cell.metadata.tags.append("nbval-ignore-output")
                cell.source += INJECTED
        nbformat.write(notebook, prepared)
    runs_of_halves = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "--nbval-lax",
                "--nbval-cell-timeout=600",  # against hanging: a slow machine may take minutes
                "--rootdir",
                str(half),
                "-q",
                str(half),
            ],
            cwd=half,
            env={**os.environ, **IN_JUPYTER, "OMP_NUM_THREADS": "1", "D2LVAE_DATA": str(half)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for half in halves
    ]
    outputs = [process.communicate()[0] for process in runs_of_halves]
    for process, output in zip(runs_of_halves, outputs):
        assert process.returncode == 0, output[-5000:]
    histories = list(tmp_path.glob("*/results/**/history.csv"))
    others = {
        "the plain VAE beside the learned loss",
        "the original's recipe beside it",
        *study.CONDITIONS["drawn_digits"],
        "one of one's own",
        "the same, continued",
    }
    assert len(histories) == len(PARAMETERS) + len(others)
    for path in histories:
        with open(path) as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        begun = path.match("ShapesVAE_on_shapes/5_16_with_edges_1_*/history.csv")  # for one epoch
        assert begun or losses[-1] < losses[0], path
        metrics = json.loads(path.with_name("metrics.json").read_text())
        assert metrics["device"] == str(other_device.DEVICE)
