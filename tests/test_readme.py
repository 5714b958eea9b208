"""Every number in the README's tables is the one that the runs recorded."""
import csv
import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
RUNS = {"mnist_densevae_bce": "DenseVAE_on_MNIST/5_3_400_bce_50", "mnist_densevae_l2": "DenseVAE_on_MNIST/5_3_400_l2_50",
        "mnist_densevae_logreg": "DenseVAE_DenseLogReg_on_MNIST/5_3_400_1_200_50"}
TO_REACH = {"mnist_densevae_bce": 108.2, "mnist_densevae_l2": 28.7, "mnist_densevae_logreg": 118.6}


@pytest.mark.parametrize("notebook", RUNS)
def test_experiments_table(notebook):
    folder = ROOT / "results" / "images" / RUNS[notebook]
    with open(folder / "history.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert len(losses) == 50 and metrics["finished"] and metrics["data"]["name"] == "MNIST"
    assert losses[40] <= TO_REACH[notebook] and losses[49] == metrics["final"]["loss"]
    [row] = re.findall(rf"^\| .*\({re.escape(f'notebooks/{notebook}.ipynb')}\) \|(.*)\|$", README, re.M)
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[0] == f"{losses[40]:.2f}" and cells[2] == f"{losses[49]:.2f}"
    assert cells[4] == f"{metrics['seconds_an_epoch']:.1f}" and cells[5] == f"{metrics['images_per_second']:,.0f}"


def test_the_price_in_pixels_on_the_test_set():
    costs = [json.loads((ROOT / "results" / "images" / RUNS[name] / "metrics.json").read_text())["validation"]["pixel_loss"]
             for name in ("mnist_densevae_logreg", "mnist_densevae_bce")]
    assert "{:.1f} nats of pixel loss against {:.1f} without it".format(*costs) in README


def test_speed_table():
    rates = json.loads((ROOT / "results" / "benchmarks" / "train_step.json").read_text())["images_per_second"]
    median = lambda values: sorted(values)[len(values) // 2]
    rows = re.findall(r"^\| (?:dense VAE on MNIST's size|\+ logistic.*?) \|(.*)\|$", README, re.M)
    assert len(rows) == len(rates) == 2
    for by_way, row in zip(rates.values(), rows):
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[:3] == [f"{median(by_way[way]):,.0f}" for way in ("ours", "denormals", "plain")]
        assert cells[3] == f"{median([a / b for a, b in zip(by_way['ours'], by_way['plain'])]):.2f}"


def test_pages_and_pictures_that_are_linked_exist():
    pages = [ROOT / "README.md", ROOT / "data" / "README.md", *(ROOT / "results").glob("images/*/*/README.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page}: {link}"


def test_committed_results_are_small():
    files = [path for path in (ROOT / "results").rglob("*") if path.suffix in (".png", ".csv", ".json", ".md")]
    assert sum(path.stat().st_size for path in files) < 15e6
    assert all(path.stat().st_size < 200e3 for path in files)
