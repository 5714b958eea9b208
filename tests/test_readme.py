"""Every number on a page is the recorded one, every link leads somewhere, and the README is short."""

import ast
import csv
import importlib
import importlib.util
import json
import pathlib
import re
import subprocess

import d2lvae
import numpy as np
import pytest
from d2lvae import figures, losses, steps
from d2lvae.evaluation import metrics as measures
from d2lvae.evaluation import study
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
RESULTS, STUDY_PAGE, SPEED, EXPLORER, ROBUSTNESS = (
    (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("results", "study", "speed", "explorer", "robustness")
)
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[dn]*/README.md")]
PAGES = sorted(PAGES)  # data's and notebooks' as well
RUN_PAGES = sorted(ROOT.glob("results/images/*/*/README.md"))
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
ASSIGNMENTS = sorted(ROOT.glob("notebooks/assignments/*.ipynb"))
RUNS = {
    "mnist_densevae_bce": "DenseVAE_on_MNIST/5_3_400_bce_50",
    "mnist_densevae_l2": "DenseVAE_on_MNIST/5_3_400_l2_50",
    "mnist_densevae_logreg": "DenseVAE_DenseLogReg_on_MNIST/5_3_400_1_200_50",
}
TO_REACH = {"mnist_densevae_bce": 108.2, "mnist_densevae_l2": 28.7, "mnist_densevae_logreg": 118.6}


@pytest.mark.parametrize("notebook", RUNS)
def test_experiments_table(notebook):
    folder = ROOT / "results" / "images" / RUNS[notebook]
    with open(folder / "history.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert len(losses) == 50 and metrics["finished"] and metrics["data"]["name"] == "MNIST"
    assert losses[40] <= TO_REACH[notebook] and losses[49] == metrics["final"]["loss"]
    [row] = re.findall(
        rf"^\| .*\({re.escape(f'../notebooks/{notebook}.ipynb')}\) \|(.*)\|$", RESULTS, re.M
    )
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[0] == f"{losses[40]:.2f}" and cells[2] == f"{losses[49]:.2f}"


FACES = {
    "anime_densevae_bce": ("DenseVAE", "512_5_1024_{}"),
    "anime_densevae_logreg": ("DenseVAE_DenseLogReg", "512_5_1024_1_1024_{}_10"),
    "anime_convvae_bce": ("ConvVAE", "512_32_{}"),
    "anime_convvae_convdisc": ("ConvVAE_ConvDisc_LeakyReLU", "256_16_16_{}_10"),
    "anime_convvae_resnet": ("ConvVAE_ResNet", "256_16_{}_10"),
}
EPOCHS = {
    "anime": {
        "anime_densevae_bce": 200,
        "anime_densevae_logreg": 50,
        "anime_convvae_bce": 200,
        "anime_convvae_convdisc": 200,
        "anime_convvae_resnet": 20,
    },
    "drawn_faces": {
        "anime_densevae_bce": 50,
        "anime_densevae_logreg": 20,
        "anime_convvae_bce": 30,
        "anime_convvae_convdisc": 30,
        "anime_convvae_resnet": 5,
    },
}


def section(page, name):
    """The text below a heading, up to the next heading of its level or a higher one."""
    level, rest = re.split(rf"^(#+) {re.escape(name)}\n", page, flags=re.M)[1:]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, flags=re.M)[0]


def committed(folder):
    """Files of the repository, not those that somebody's own runs have left; of a copy without git's folder, all."""
    if not (ROOT / ".git").exists():
        return [
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file()
        ]
    return subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ).stdout.split()


def face_run(notebook, data):
    nets, numbers = FACES[notebook]
    return (
        ROOT / "results" / "images" / f"{nets}_on_{data}" / numbers.format(EPOCHS[data][notebook])
    )


SHOWN = [(notebook, data) for data, epochs in EPOCHS.items() for notebook in epochs]


@pytest.mark.parametrize("notebook, data", SHOWN)
def test_faces_tables(notebook, data):
    metrics = json.loads((face_run(notebook, data) / "metrics.json").read_text())
    epochs = EPOCHS[data][notebook]
    assert (
        metrics["finished"] and metrics["epochs_done"] == epochs and metrics["data"]["name"] == data
    )
    assert metrics["data"]["is_real"] is (data == "anime")
    part = section(RESULTS, "Real faces" if data == "anime" else "Synthetic faces")
    [row] = re.findall(
        rf"^\| .*\({re.escape(f'../notebooks/{notebook}.ipynb')}\) \|(.*)\|$", part, re.M
    )
    cells = [cell.strip() for cell in row.split("|")]
    validation = sum(metrics["validation"][name] for name in ("pixel_loss", "kl"))
    expected = [str(epochs), f"{metrics['final']['loss']:,.0f}", f"{validation:,.0f}"]
    assert cells[:3] == expected


@pytest.mark.parametrize("data", EPOCHS)
def test_convolutions_end_below_dense_layers_on_the_same_faces(data):
    ends = {}
    for notebook in ("anime_densevae_bce", "anime_convvae_bce"):
        with open(face_run(notebook, data) / "history.csv") as file:
            ends[notebook] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert ends["anime_convvae_bce"][19] < ends["anime_densevae_bce"][19]


def test_convolutions_against_dense_layers_in_words():
    records = []
    for name in ("anime_convvae_bce", "anime_densevae_bce"):
        with open(face_run(name, "anime") / "history.csv") as file:
            records.append(list(csv.DictReader(file)))
    part = section(RESULTS, "What the faces show")
    losses = [float(history[49]["loss"]) for history in records]
    assert "is at {:,.0f} against {:,.0f} nats".format(*losses) in part
    assert f"{float(records[1][-1]['kl']):.0f} nats about a real face" in part


def test_the_stability_table():
    """Every adversarial run on real faces is in it, none of them collapsed, and its figures are the recorded ones."""
    part = section(RESULTS, "Do the adversarial runs collapse?")
    rows = {
        tuple(cell.strip() for cell in row.split("|"))
        for row in re.findall(r"^\| ((?:dense|conv).* \| \d .*) \|$", part, re.M)
    }
    expected = set()
    for notebook, (nets, numbers) in FACES.items():
        label = re.findall(rf"^\| (.*?) \| \[{notebook}\]", RESULTS, re.M)[0]
        runs = (
            rf"results/images/{nets}_on_anime/{numbers.format('[0-9]+')}(_seed_[0-9]+)?/history.csv"
        )
        for path in (ROOT / name for name in committed("results") if re.fullmatch(runs, name)):
            with open(path) as file:
                history = list(csv.DictReader(file))
            if "disc_loss" not in history[0]:
                continue
            disc = [float(record["disc_loss"]) for record in history]
            assert np.isfinite(
                [float(value) for record in history for value in record.values()]
            ).all()
            assert "ResNet" in nets or np.median(disc[-3:]) > 0.05, f"{path}: stuck at 0"
            seed = json.loads((path.parent / "metrics.json").read_text())["config"]["seed"]
            expected.add(
                (
                    label,
                    str(seed),
                    str(len(disc)),
                    f"{min(disc):.3f}",
                    f"{max(disc[1:]):.3f}",
                    f"{disc[-1]:.3f}",
                    f"{float(history[-1]['kl']):.0f}",
                )
            )
    assert rows == expected and len(rows) >= 3
    with open(face_run("anime_convvae_resnet", "anime") / "history.csv") as file:
        real = [float(record["disc_loss"]) for record in csv.DictReader(file)]
        file.seek(0)
        losses = [float(record["loss"]) for record in csv.DictReader(file)]
    sure = sum(loss < 0.01 for loss in real)
    first = max(epoch for epoch, loss in enumerate(real) if loss >= 0.001) + 1
    assert first < len(real) - 3 and losses[first:] == sorted(losses[first:], reverse=True)
    assert f"From epoch {first} on it is below 0.001" in RESULTS
    assert f"from epoch {first} on it stayed below 0.001" in part
    assert f"here its loss is below 0.01 in {sure} of {len(real)} epochs" in RESULTS
    assert f"In {sure} of its {len(real)} epochs its loss was below 0.01" in part
    assert f"has been tried for {len(real)} epochs and one seed only" in part
    with open(face_run("anime_convvae_resnet", "drawn_faces") / "history.csv") as file:
        drawn = [float(record["disc_loss"]) for record in csv.DictReader(file)]
    assert sum(loss < 0.001 for loss in drawn) == 3
    assert "three epochs" in part and f"rose to {drawn[-1]:.2f}" in part


@pytest.mark.parametrize("notebook, data", SHOWN)
def test_no_seams_at_the_thirds_of_the_height(notebook, data):
    """The original's scrambled pixels left horizontal edges there."""
    images = np.stack(
        [
            np.asarray(Image.open(face_run(notebook, data) / f"{i}.png")).astype(int)
            for i in range(10)
        ]
    )
    steps = abs(np.diff(images, axis=1)).mean(axis=(0, 2, 3))  # from row to row
    for third in (21, 42):
        assert steps[third - 1 : third + 1].max() < 1.5 * np.median(steps[third - 8 : third + 8])


def test_no_original_of_a_real_set_is_committed():
    real = [path for path in committed("results") if re.search("_on_(anime|MNIST)/", path)]
    assert real and not [path for path in real if "original" in path or "test_" in path]


@pytest.mark.parametrize("target", ["faces", "anime"])
def test_the_makefile_runs_what_the_tables_show(target):
    [runs] = re.findall(rf"^{target}: RUNS := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    epochs = EPOCHS["drawn_faces" if target == "faces" else "anime"]
    assert dict(run.split(":") for run in runs.split()) == {
        name[len("anime_") :]: str(number) for name, number in epochs.items()
    }


RECORDED = (0, 1, 4, 9, 19, 40, 49, 99, 199)  # epochs of which the original wrote the loss
TRAINED = {
    "dense VAE": "DenseVAE_on_anime/512_5_1024_200",
    "dense VAE + logistic regression": ("DenseVAE_DenseLogReg_on_anime/512_5_1024_1_1024_50_10"),
    "ConvVAE, 512 latents": "ConvVAE_on_anime/512_32_200",
    "ConvVAE, 256 latents": "ConvVAE_on_anime/256_16_200",
    "ConvVAE + ConvDisc": "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_200_10",
    "ConvVAE + ResNet-18": "ConvVAE_ResNet_on_anime/256_16_20_10",
}


def test_the_losses_as_the_training_goes_on():
    found = {}
    for line in section(RESULTS, "As the training goes on").splitlines():
        if "| here |" in line:
            name, _, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            found[name] = cells
    expected = {}
    for name, folder in TRAINED.items():
        with open(ROOT / "results" / "images" / folder / "history.csv") as file:
            rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
        for key, label, digits in (("loss", "", 0), ("disc_loss", ", the discriminator's", 2)):
            if key in rows[0]:
                expected[name + label] = [
                    f"{float(rows[epoch][key]):,.{digits}f}" if epoch in rows else ""
                    for epoch in RECORDED
                ]
    assert found == expected
    gains = {}
    for name in ("ConvVAE, 256 latents", "ConvVAE, 512 latents", "dense VAE"):
        losses = [float(cell.replace(",", "")) for cell in expected[name]]
        gains[name] = f"{losses[6] - losses[8]:.0f}"
    assert f"gains {gains['ConvVAE, 256 latents']} nats in its last 150 epochs" in RESULTS
    assert f"512 gains {gains['ConvVAE, 512 latents']}, where the original's gained 57" in RESULTS
    assert f"dense VAE gains {gains['dense VAE']}; the original's gained 129" in RESULTS
    with open(face_run("anime_convvae_convdisc", "anime") / "history.csv") as file:
        rows = list(csv.DictReader(file))
    losses, disc = ([float(row[key]) for row in rows] for key in ("loss", "disc_loss"))
    assert "here it sinks for 60 epochs, and then stays" in RESULTS
    assert losses[20] > losses[40] + 50 and losses[40] > losses[60] + 10
    assert np.ptp(losses[60:]) < 25
    tens = np.median(np.reshape(disc, (20, 10)), axis=1)  # of each ten epochs
    assert tens.argmax() == 3 and f"rises for 40 epochs, to {tens[3]:.1f}," in RESULTS
    assert (
        f"Then it sinks slowly; in the last 30 epochs its median is {np.median(disc[-30:]):.2f}"
        in (RESULTS)
    )


def test_the_floor_is_what_the_notebook_computes():
    cells = json.loads((ROOT / "notebooks" / "anime_densevae_bce.ipynb").read_text())["cells"]
    [floor] = re.findall(r"a perfect reconstruction: (\d+) nats", json.dumps(cells))
    assert f"{int(floor):,} nats for 64 synthetic faces" in RESULTS


def test_the_price_in_pixels_on_the_test_set():
    costs = [
        json.loads((ROOT / "results" / "images" / RUNS[name] / "metrics.json").read_text())[
            "validation"
        ]["pixel_loss"]
        for name in ("mnist_densevae_logreg", "mnist_densevae_bce")
    ]
    words = "{:.1f} nats of pixel loss against {:.1f}".format(*costs)
    assert words in section(RESULTS, "MNIST")


BENCHMARKS = ROOT / "results" / "benchmarks"
EXPERIMENTS = [*RUNS, *FACES]


def speed_rows(heading):
    """The cells of the speed page's rows below a heading, by experiment."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section(SPEED, heading).splitlines()
        if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows if row[0] in EXPERIMENTS}


def speeds(record):
    """Images a second of each way's rounds, by experiment; and the machine."""
    found = json.loads((BENCHMARKS / f"{record}.json").read_text())
    return found["images_per_second"], found["machine"]


def median_ratio(rates, way, other):
    return np.median(np.divide(rates[way], rates[other]))


def best_torch(rates):
    return max((w for w in rates if w.startswith("pytorch")), key=lambda w: np.median(rates[w]))


def test_speed_table():
    found, _ = speeds("train_step")
    rows, ratios = speed_rows("A training step beside its peers"), []
    assert list(rows) == EXPERIMENTS == list(found)
    for name, cells in rows.items():
        medians = {way: np.median(rates) for way, rates in found[name].items()}
        torch = best_torch(found[name])
        ratios.append(median_ratio(found[name], "ours", max((torch, "jax"), key=medians.get)))
        expected = [f"{medians['ours']:,.0f}"]
        expected += [f"{medians[torch]:,.0f} ({torch[len('pytorch '):]})", f"{medians['jax']:,.0f}"]
        expected += [f"{ratios[-1]:.2f}"]
        if "original" in medians:
            to = median_ratio(found[name], "ours", "original")
            expected += [f"{medians['original']:,.0f}", f"{to:.2f}"]
        assert cells == expected + [""] * (6 - len(expected))
        assert medians["ours"] > medians[torch]
        assert (medians["ours"] > medians["jax"]) == (name in FACES)
    mean = np.exp(np.log(ratios).mean())
    assert f"the lowest ratio is {min(ratios):.2f}, their geometric mean {mean:.2f}" in SPEED


def test_the_times_at_full_length():
    found = [speeds(record)[0] for record in ("train_step", "train_step_without_avx512")]
    rows = speed_rows("What you get")
    assert list(rows) == EXPERIMENTS
    for name, (epochs, *cells) in rows.items():
        images, length = (60_000, 50) if name in RUNS else (18_375, 200)
        rates = [np.median(rates[name]["ours"]) for rates in found]
        minutes = [images * length / rate / 60 for rate in rates]
        times = [f"{each:.0f} min" if each < 120 else f"{each / 60:.1f} h" for each in minutes]
        assert epochs == str(length)
        assert cells == [f"{rates[0]:,.0f}", times[0], f"{rates[1]:,.0f}", times[1]]
    hours = [
        sum(18_375 * n / np.median(rates[name]["ours"]) for name, n in EPOCHS["anime"].items())
        for rates in found
    ]
    assert [round(each / 3600) for each in hours] == [5, 13]
    assert "results/own (five to thirteen hours for 23,000)" in (ROOT / "Makefile").read_text()


def test_the_speeds_without_avx512():
    found, machine = speeds("train_step_without_avx512")
    ratios = [
        median_ratio(
            rates, "ours", max((best_torch(rates), "jax"), key=lambda w: np.median(rates[w]))
        )
        for rates in found.values()
    ]
    mean = np.exp(np.log(ratios).mean())
    words = f"{min(ratios):.2f} to {max(ratios):.2f} of the best peer's speed, with a geometric mean of {mean:.2f}"
    assert words in SPEED


def test_the_bfloat16_table():
    found, rows = speeds("train_step")[0], speed_rows("bfloat16")
    for name, (float32, bfloat16, ratio) in rows.items():
        rates = found[name]
        assert float32 == f"{np.median(rates['ours']):,.0f}"
        assert bfloat16 == f"{np.median(rates['bfloat16']):,.0f}"
        assert ratio == f"{1 / median_ratio(rates, 'ours', 'bfloat16'):.2f}"
    assert list(rows) == EXPERIMENTS[-3:]


def test_the_table_of_neighbours():
    found = json.loads((BENCHMARKS / "neighbours.json").read_text())["found"]
    table = re.findall(
        r"^\| (\w+vae_\w+ \| [a-zM].*) \|$", section(SPEED, "Beside other programs"), re.M
    )
    assert [[cell.strip() for cell in row.split("|")] for row in table] == [
        [name, setting, f"{each['alone'][0]:,.0f}", f"{each['beside'][0]:,.0f}"]
        for name, settings in found.items()
        for setting, each in settings.items()
    ]


def test_levers_table():
    found = json.loads((BENCHMARKS / "levers.json").read_text())["speed_up"]
    rows = speed_rows("What each lever is worth")
    levers = [
        "one thread for all",
        "one-pass Adam",
        "flipped products",
        "sums as products",
        "fast sigmoid",
    ]
    assert rows == {
        name: [f"{found[name][lever]:.2f}" if lever in found[name] else "" for lever in levers]
        for name in EXPERIMENTS
    }
    assert f"| experiment | {' | '.join(levers)} |" in SPEED


def test_late_steps_table():
    found = json.loads((BENCHMARKS / "late_steps.json").read_text())
    rows = re.findall(
        r"^\| (at the start|later.*) \| ([\d,]+) \|$", section(SPEED, "Late steps"), re.M
    )
    speeds = found["images_per_second"]
    assert found["steps"] == 1500 and f"after {found['steps']:,} steps" in SPEED
    assert dict(rows) == {name: f"{speed:,.0f}" for name, speed in speeds.items()}
    ratio = speeds["later"] / speeds["later, moments never 0"]
    assert f"would take about {ratio:.1f} times as long" in (ROOT / "CHANGELOG.md").read_text()


def test_start_memory_and_growth_tables():
    results = json.loads((BENCHMARKS / "scaling.json").read_text())
    assert speed_rows("Start, memory, threads") == {
        name: [
            f"{start['seconds_to_first_step']:.1f}",
            f"{start['peak_megabytes']:,.0f}",
            *(f"{results['threads'][name][count]:,.0f}" for count in ("1", "2")),
        ]
        for name, start in results["start"].items()
    }
    assert f"alone hold {results['bare_megabytes']:.0f} MB" in SPEED
    for kind in ("data", "batch"):
        for rows in zip(
            *(results[kind][name] for name in ("mnist_densevae_bce", "anime_convvae_bce"))
        ):
            cells = [
                f"{row['images_per_second']:,.0f} | {row['seconds_to_first_step']:.1f} | {row['peak_megabytes']:,.0f}"
                for row in rows
            ]
            assert (
                f"| {rows[0]['images']:,} | {rows[0]['batch_size']} | {' | '.join(cells)} |"
                in SPEED
            )


def test_the_explorers_table():
    found = json.loads((BENCHMARKS / "explorer.json").read_text())["milliseconds"]
    rows = [
        [cell.strip() for cell in row.split("|")]
        for row in re.findall(r"^\| (.*VAE.*) \|$", EXPLORER, re.M)
    ]
    assert rows == [
        [name, f"{np.median(times):.1f}", f"{np.quantile(times, .9):.1f}"]
        for name, times in found.items()
    ]
    assert len(rows) == 5
    for name, times in found.items():
        assert len(times) == 50 and np.median(times) < (16 if "digits" in name else 50)


def test_the_tables_of_several_workers():
    found = json.loads((BENCHMARKS / "distributed.json").read_text())
    rate = lambda each: f"{found['batch_size'] / np.median(each['seconds']):,.0f}"
    expected = []
    for name, net in found["nets"].items():
        for network in found["networks"]:
            ways = [net["alone"]["64"], *net[network].values()]
            expected.append([name, network, *map(rate, ways)])
            moved = net[network]["a server each"]["cable_bytes"] / net["gradient_bytes"]
            assert 2 <= moved < 2.02  # there and back, half of it; and what TCP adds
    for name, net in found["nets"].items():
        for network, rows in net["on_paper"].items():
            paper = {
                tuple(row[key] for key in ("batch_size", "machines", "servers", "local_steps")): row
                for row in rows
            }
            for batch in (64, 512):
                places = [(1, 1, 1), (8, 1, 1), (8, 8, 1), (8, 8, 16), (64, 64, 1), (64, 64, 16)]
                rates = [paper[(batch, *place)]["images_per_second"] for place in places]
                expected.append([name, network, str(batch), *(f"{r:,.0f}" for r in rates)])
    table = re.findall(r"^\| (\w+vae_\w+ \|.*) \|$", section(SPEED, "Several workers"), re.M)
    assert [[cell.strip() for cell in row.split("|")] for row in table] == expected


def test_what_is_said_of_several_workers():
    found = json.loads((BENCHMARKS / "distributed.json").read_text())
    page = (ROOT / "docs/distributed.md").read_text()
    words = " ".join(section(page, "What pays").split())
    nets, losses = found["nets"].values(), found["losses"]
    ratios = [
        r for net in nets for way in net["model_over_measured"].values() for r in way.values()
    ]
    assert f"between {min(ratios):.2f} and {max(ratios):.2f} of what was measured" in words
    for net in nets:  # at 64 images, slower than one machine wherever nothing is local
        one = found["batch_size"] / np.median(net["alone"]["64"]["seconds"])
        ways = [way for network in found["networks"] for way in net[network].items()]
        rates = [64 / np.median(row["seconds"]) for way, row in ways if "local" not in way]
        paper = [row for rows in net["on_paper"].values() for row in rows]
        rates += [
            row["images_per_second"]
            for row in paper
            if (row["batch_size"], row["local_steps"]) == (64, 1) and row["machines"] > 1
        ]
        assert len(rates) == 20 and max(rates) < one
    assert f"{losses['alone']:.1f} by one worker" in words
    assert f"{losses['a server each']:.1f} by two" in words
    assert f"{losses['16 local steps']:.1f} with 16 local steps" in words
    assert f"{losses['2 bits']:.1f} with 2 bits" in words
    for net, label in zip(nets, ("digits", "faces")):
        rows = {
            network: {
                (row["batch_size"], row["machines"], row["servers"], row["local_steps"]): row[
                    "images_per_second"
                ]
                for row in rows
            }
            for network, rows in net["on_paper"].items()
        }
        for network, machines in (("1 Gbit/s", 8), ("10 Gbit/s", 64)):
            one = rows[network][512, 1, 1, 1]
            gains = [rows[network][512, machines, machines, steps] / one for steps in (1, 16)]
            said = f"{label}: {gains[0]:.2f} times one machine's rate, {gains[1]:.1f} with 16"
            assert said in words, said


def test_the_table_of_abuse():
    found = {
        path.stem: json.loads(path.read_text())
        for path in (ROOT / "results" / "stress").glob("*.json")
    }
    assert sorted(found) == ["disks", "kills", "mutations"] and not any(
        record["failures"] for record in found.values()
    )
    rows = [
        [cell.strip() for cell in row.split("|")]
        for row in re.findall(r"^\| (\[.*) \|$", ROBUSTNESS, re.M)
    ]
    kills, outcomes, scenarios = (
        found["kills"],
        found["mutations"]["outcomes"],
        found["disks"]["scenarios"],
    )
    assert (
        kills["kills"] >= 100
        and found["mutations"]["inputs"] >= 500
        and set(scenarios.values()) == {"as it should be"}
    )
    assert [row[1] for row in rows] == [
        f"{kills['kills']} in {kills['trainings']} trainings",
        f"{found['mutations']['inputs']:,}",
        str(len(scenarios)),
    ]
    for phase, times in kills["by_phase"].items():
        assert f"{phase} ({times})" in rows[0][0]
    for words, outcome in (
        ("refused by name", "refused"),
        ("set aside by name", "set aside"),
        ("harmless to the last bit", "harmless"),
        ("said to be none of the published", "told"),
        ("another image", "an image"),
    ):
        assert f"{words} ({outcomes[outcome]:,})" in rows[1][2]
    minutes = sum(record["seconds"] for record in found.values()) / 60
    assert f"({minutes:.0f} minutes on two busy cores" in ROBUSTNESS


def test_bfloat16_in_words():
    losses = json.loads((BENCHMARKS / "precision.json").read_text())["loss"]
    worst = max(abs(loss["bfloat16"] / loss["float32"] - 1) for loss in losses.values())
    assert len(losses) == 3 and f"within {worst:.2%} of float32's" in SPEED


def test_committed_results_are_small():
    files = [ROOT / path for path in committed("results")]
    assert sum(path.stat().st_size for path in files) < 15e6
    assert all(path.stat().st_size < 200 * 1024 for path in files)


STUDY = ROOT / "results" / "study"
CELLS = {
    "psnr": 2,
    "ssim": 3,
    "edge_gradient_ratio": 3,
    "off_edge_gradient_ratio": 3,
    "gmsd": 4,
    "kid": 3,
    "kid_prior": 3,
    "kid_codes": 3,
}  # digits behind the point


@pytest.mark.parametrize("name", ["MNIST", "anime", "drawn_faces"])
def test_the_studys_tables(name):
    record = json.loads((STUDY / f"{name}.json").read_text())
    [block] = re.findall(rf"<!-- study {name} -->\n(.*?)\n<!-- end -->", STUDY_PAGE, re.S)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]
    ]
    expected = []
    for condition, found in record["measures"].items():
        cells = [condition]
        for key, digits in CELLS.items():
            if key.startswith("kid_"):  # of samples: a table of their own
                continue
            row = found[key]
            cells.append(
                "{difference:+.{0}f} [{low:+.{0}f}, {high:+.{0}f}]".format(digits, **row)
                if "difference" in row
                else f"{row['mean']:.{digits}f}"
            )
        expected.append(cells)
    assert rows == expected
    assert record["seeds"] == [0, 1, 2] and record["num_images"] == 1000
    assert record["conditions"] == study.CONDITIONS[name]  # `make study` makes these rows


def test_the_table_of_samples():
    [block] = re.findall(r"<!-- samples -->\n(.*?)\n<!-- end -->", STUDY_PAGE, re.S)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    expected = []
    for name, faces in (("anime", "real"), ("drawn_faces", "synthetic")):
        record = json.loads((STUDY / f"{name}_sampling.json").read_text())
        assert record["seeds"] == [0, 1, 2] and record["num_images"] == 1000
        for condition in study.FOR_SAMPLES:
            found, cells = record["measures"][condition], []
            for key in ("kid", "kid_codes", "kid_prior", "kid_prior_batch"):
                more = (
                    ": {difference:+.3f} [{low:+.3f}, {high:+.3f}]".format(**found[key])
                    if condition != study.PLAIN
                    else ""
                )
                cells.append(f"{found[key]['mean']:.3f}{more}")
            expected.append([faces, condition, *cells])
        plain, ours = (record["measures"][condition] for condition in study.FOR_SAMPLES)
        for key in ("kid", "kid_codes"):  # better in both halves, in every training
            assert ours[key]["high"] < 0
            assert all(np.less(ours[key]["by_seed"], plain[key]["by_seed"]))
        assert ours["psnr"]["low"] > 0 and ours["edge_gradient_ratio"]["low"] > 0
        best = min(plain[key]["mean"] for key in ("kid_codes", "kid_prior", "kid_prior_batch"))
        assert ours["kid_codes"]["mean"] < best  # than the plain VAE's own best samples
        for one in (plain, ours):  # what the statistics of a batch bring samples from the prior
            share = 1 - one["kid_prior_batch"]["mean"] / one["kid_prior"]["mean"]
            assert 0.3 < share < 0.4 if name == "anime" else 0.5 < share < 0.65
    assert rows[2:] == expected


FEATURES = "0_learned_loss_features_upsampling_resize"
LONG = {  # by a short name: the row's label and the run's folder
    "alone": ("VAE, 256 latents, 16 channels", "ConvVAE_on_anime/256_16_50"),
    "adversarial": (
        "the same + convolutional discriminator",
        "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_50_10",
    ),
    "features": (
        "the same + the discriminator's features, resizing decoder",
        f"ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_50_{FEATURES}",
    ),
    "larger": ("VAE, 512 latents, 32 channels", "ConvVAE_on_anime/512_32_50"),
    "adversarial, short": (
        "256, 16 + convolutional discriminator",
        "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_20_10",
    ),
    "resnet, short": ("256, 16 + ResNet-18", "ConvVAE_ResNet_on_anime/256_16_20_10"),
    "alone, short": ("256, 16 alone", "ConvVAE_on_anime/256_16_20"),
    "features, short": (
        "256, 16 + the discriminator's features, resizing decoder",
        f"ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_20_{FEATURES}",
    ),
    "alone, seed 1": ("VAE, 256 latents, 16 channels, seed 1", "ConvVAE_on_anime/256_16_50_seed_1"),
    "adversarial, seed 1": (
        "the same + convolutional discriminator, seed 1",
        "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_50_10_seed_1",
    ),
    "features, seed 1": (
        "the same + the discriminator's features, resizing decoder, seed 1",
        f"ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_50_{FEATURES.replace('0', '0_seed_1', 1)}",
    ),
    "alone, seed 2": ("VAE, 256 latents, 16 channels, seed 2", "ConvVAE_on_anime/256_16_50_seed_2"),
    "adversarial, seed 2": (
        "the same + convolutional discriminator, seed 2",
        "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_50_10_seed_2",
    ),
    "features, seed 2": (
        "the same + the discriminator's features, resizing decoder, seed 2",
        f"ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_50_{FEATURES.replace('0', '0_seed_2', 1)}",
    ),
    "alone, long": ("256, 16 alone, longer", "ConvVAE_on_anime/256_16_200"),
    "larger, long": ("512, 32 alone, longer", "ConvVAE_on_anime/512_32_200"),
    "adversarial, long": (
        "256, 16 + convolutional discriminator, longer",
        "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_200_10",
    ),
}


def long_runs():
    """The records of the long runs, by their short names."""
    place = ROOT / "results" / "images"
    return {
        name: json.loads((place / folder / "metrics.json").read_text())
        for name, (_, folder) in LONG.items()
    }


def test_the_long_runs_table():
    [block] = re.findall(r"<!-- long -->\n(.*?)\n<!-- end -->", STUDY_PAGE, re.S)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]
    ]
    expected = []
    for name, record in long_runs().items():
        found = record["quality"]
        assert found["num_images"] == 1000 and record["data"]["num_train"] == 18_375
        cells = [
            f"{found[key]:.{digits}f}" if key in found else "not measured"
            for key, digits in CELLS.items()
        ]
        expected.append([LONG[name][0], str(record["epochs_done"]), *cells])
    assert rows == expected


def test_the_studys_words():
    """Figures in the prose are those of the summaries."""
    found = {
        name: json.loads((STUDY / f"{name}.json").read_text())["measures"]
        for name in ("MNIST", "anime", "drawn_faces")
    }

    def mean(name, condition, key="edge_gradient_ratio"):
        return f"{found[name][condition][key]['mean']:.3f}"

    folders = [ROOT / "results" / "images" / RUNS[f"mnist_densevae_{e}"] for e in ("bce", "logreg")]
    alone, learned = [json.loads((f / "metrics.json").read_text())["quality"] for f in folders]
    price = f"{alone['psnr'] - learned['psnr']:.1f} dB"
    assert f"after 10 epochs and {price} after 50" in README
    plain, mask = "plain VAE", "plain VAE, unsharp mask"
    for words in (
        f"it is {price} ({learned['psnr']:.2f} against {alone['psnr']:.2f})",
        f"a little lower ({learned['ssim']:.3f} against {alone['ssim']:.3f})",
        f"({learned['edge_gradient_ratio']:.3f} against {alone['edge_gradient_ratio']:.3f})",
        f"{mean('MNIST', '+ dense discriminator')} of the originals' gradient instead of {mean('MNIST', plain)}",
        f"({mean('MNIST', mask)}, for 0.6 dB",
        f"({mean('anime', '+ ResNet-18')} against {mean('anime', plain)})",
        f"{mean('anime', '+ both')} on real faces and {mean('drawn_faces', '+ both')} on synthetic ones",
        "costs {:.2f} dB of PSNR on real faces and {:.2f} dB on synthetic ones".format(
            *(
                found[name]["+ its features"]["psnr"]["mean"]
                - found[name]["+ both"]["psnr"]["mean"]
                for name in ("anime", "drawn_faces")
            )
        ),
        "({} against {}, and {} against {})".format(
            *(
                mean(name, row, "gmsd")
                for name in ("anime", "drawn_faces")
                for row in ("+ both", "+ its features")
            )
        ),
    ):
        assert words in STUDY_PAGE, words


def test_what_is_said_of_the_long_runs():
    runs = long_runs()
    found = {name: record["quality"] for name, record in runs.items()}
    alone, adversarial, features, larger = (
        found[name] for name in ("alone", "adversarial", "features", "larger")
    )
    long, plain_long = found["adversarial, long"], found["alone, long"]
    validation = {name: sum(record["validation"].values()) for name, record in runs.items()}
    for words in (
        f"the price is {alone['psnr'] - adversarial['psnr']:.1f} dB of PSNR",
        f"have {long['edge_gradient_ratio']:.3f} of the originals' gradient, the plain VAE's "
        f"{plain_long['edge_gradient_ratio']:.3f}",
        f"GMSD is better ({long['gmsd']:.4f} against {plain_long['gmsd']:.4f})",
        f"The price is {plain_long['psnr'] - long['psnr']:.1f} dB of PSNR, and SSIM is a little "
        f"lower ({long['ssim']:.3f} against {plain_long['ssim']:.3f})",
        f"rise by {validation['adversarial, long'] - validation['adversarial']:.0f} nats together",
        f"the VAE alone gains {plain_long['psnr'] - alone['psnr']:.1f} dB",
        "Off the edges their gradient is the originals', within 4 %",
    ):
        assert words in STUDY_PAGE, words
    further = [
        (found[f"alone, seed {seed}"], found[f"adversarial, seed {seed}"]) for seed in (1, 2)
    ]
    ssims = [f"{second['ssim']:.3f} against {other['ssim']:.3f}" for other, second in further]
    assert f"({', and '.join(ssims)})" in STUDY_PAGE
    prices = [f"{other['psnr'] - second['psnr']:.1f}" for other, second in further]
    assert f"PSNR is {' and '.join(prices)} dB lower" in STUDY_PAGE
    for other, second in further:
        assert second["ssim"] < other["ssim"] and second["gmsd"] < other["gmsd"]
        assert 1.4 < second["edge_gradient_ratio"] / other["edge_gradient_ratio"] < 1.6
    gains = [other["kid"] - second["kid"] for other, second in [(alone, adversarial), *further]]
    assert f"with each of three seeds, by {min(gains):.3f} to {max(gains):.3f}" in STUDY_PAGE
    assert min(gains) > 0
    shorter = "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_20_10{}/metrics.json"
    kids = [
        json.loads((ROOT / "results" / "images" / shorter.format(seed)).read_text())
        for seed in ("", "_seed_1", "_seed_2")
    ]
    kids = [record["quality"]["kid"] for record in kids]
    assert f"range from {min(kids):.3f} to {max(kids):.3f}" in STUDY_PAGE
    (other, second), (others, third) = further
    assert second["kid_codes"] > other["kid_codes"] and third["kid_codes"] < others["kid_codes"]
    assert 1 < long["off_edge_gradient_ratio"] < 1.04
    assert long["gmsd"] < plain_long["gmsd"] and long["kid"] < plain_long["kid"] / 2
    assert abs(long["psnr"] - adversarial["psnr"]) < 0.1
    larger_long = found["larger, long"]
    nearest = sorted(found, key=lambda name: found[name].get("kid_codes", 1))
    assert nearest[:2] == ["resnet, short", "larger, long"]
    assert (
        f"({larger_long['kid_codes']:.3f}; the convolutional discriminator's are at {long['kid_codes']:.3f})"
        in (STUDY_PAGE)
    )
    assert (
        f"with them edges have {larger_long['edge_gradient_ratio']:.3f}, "
        f"and GMSD is {larger_long['gmsd']:.4f}" in STUDY_PAGE
    )
    assert plain_long["edge_gradient_ratio"] < adversarial["edge_gradient_ratio"]
    assert 1.4 < adversarial["edge_gradient_ratio"] / alone["edge_gradient_ratio"] < 1.6
    assert adversarial["gmsd"] < min(alone["gmsd"], larger["gmsd"])
    assert adversarial["ssim"] > max(alone["ssim"], larger["ssim"])
    spread = {
        name: [
            np.ptp([found[name + seed][key] for seed in seeds]) for key in ("psnr", "ssim", "gmsd")
        ]
        for name, seeds in (
            ("alone", ("", ", seed 1", ", seed 2")),
            ("adversarial", ("", ", seed 1", ", seed 2")),
        )
    }
    for name, words in (
        ("alone", "three differ by {:.2f} dB of PSNR, {:.3f} of SSIM and {:.4f} of GMSD"),
        ("adversarial", "its three differ by {:.2f} dB, {:.3f} and {:.4f}"),
    ):
        assert words.format(*spread[name]) in STUDY_PAGE, words.format(*spread[name])
    shares, as_long = [], [name for name in found if runs[name]["epochs_done"] == 50]
    for seed in ("", ", seed 1", ", seed 2"):
        plain, tells, learned = (
            found.get(name + seed) for name in ("alone", "adversarial", "features")
        )
        for key in ("psnr", "ssim"):
            assert learned[key] > max(found[n][key] for n in as_long if "features" not in n)
        assert learned["gmsd"] < plain["gmsd"] and learned["kid"] < plain["kid"]
        gain, most = (
            one["edge_gradient_ratio"] - plain["edge_gradient_ratio"] for one in (learned, tells)
        )
        shares.append(gain / most)
    assert shares == pytest.approx([0.7, 0.4, 0.45], abs=0.03)  # as the page says
    for seed, end in (("seed 0", ""), ("seed 2", ", seed 2")):
        near, far = (found[name + end]["gmsd"] for name in ("features", "adversarial"))
        assert f"{seed} ({near:.4f} against {far:.4f})" in STUDY_PAGE and abs(near - far) < 0.002
    assert found["features, seed 1"]["gmsd"] < found["adversarial, seed 1"]["gmsd"] - 0.004
    for seed in (", seed 1", ", seed 2"):
        near, far = (found[name + seed]["kid_codes"] for name in ("features", "alone"))
        assert near < far and f"{near:.3f} against {far:.3f} with{seed[1:]}" in STUDY_PAGE
    for one in (alone, features):
        assert f"With seed 0 both are at {one['kid_codes']:.3f}" in STUDY_PAGE
    prior = {
        name: sorted(found[name + seed]["kid_prior"] for seed in ("", ", seed 1", ", seed 2"))
        for name in ("features", "alone")
    }
    low, high = (f"{prior['features'][i]:.2f}" for i in (0, -1))
    theirs = " to ".join(f"{prior['alone'][i]:.2f}" for i in (0, -1))
    assert f"between {low} and {high}, against {theirs} of the plain VAE" in STUDY_PAGE
    short, short_features = found["alone, short"], found["features, short"]
    for key in ("gmsd", "kid", "kid_codes"):  # nearer by every measure, samples from the codes, too
        assert short_features[key] < short[key]
    assert short_features["psnr"] > short["psnr"] and short_features["ssim"] > short["ssim"]
    resnet = found["resnet, short"]
    for words in (
        "Edges have {edge_gradient_ratio:.3f} against {0[edge_gradient_ratio]:.3f}",
        "GMSD is {gmsd:.4f} against {0[gmsd]:.4f}",
        "PSNR is level ({psnr:.2f} against {0[psnr]:.2f})",
        "The kernel distance is {kid:.3f} against {0[kid]:.3f}",
        "samples from the codes {kid_codes:.3f} against {0[kid_codes]:.3f}",
        "samples from the prior are further ({kid_prior:.3f} against {0[kid_prior]:.3f})",
    ):
        assert words.format(short, **resnet) in STUDY_PAGE, words
    for key, better in (("ssim", 1), ("off_edge_gradient_ratio", 1), ("gmsd", -1), ("psnr", 1)):
        assert better * resnet[key] > better * short[key]
    early = found["adversarial, short"]
    assert early["gmsd"] > alone["gmsd"] and early["ssim"] < alone["ssim"]
    assert early["edge_gradient_ratio"] > larger["edge_gradient_ratio"]


def test_what_is_said_of_the_stumbles():
    """A discriminator that is right about everything, and then for an epoch is not."""
    histories = []
    for name in ("features", "features, seed 1", "features, seed 2"):
        path = ROOT / "results" / "images" / LONG[name][1] / "history.csv"
        table = np.genfromtxt(path, delimiter=",", names=True)
        histories.append((table["feature_loss"], table["disc_loss"]))
    for _, loss in histories:
        assert np.median(loss) < 0.001 and 1 < (loss[1:] > 0.1).sum() < 7 and loss[1:].max() < 0.8
    (first, _), (second, loss), (third, of_third) = histories
    assert loss[1:].argmax() + 1 == 9 and second[10:].max() < 280
    assert f"from {second[8]:.0f} to {second[10]:.0f} nats" in STUDY_PAGE
    assert histories[0][1][1:].max() < 0.2  # which hardly stumbled
    assert f"it was {second[19]:.0f} nats there, and {first[19]:.0f} with seed 0" in STUDY_PAGE
    assert of_third[2:].argmax() + 2 == 40 and of_third[2:39].argmax() + 2 == 16
    assert f"fell from {third[15]:.0f} to {third[17]:.0f} nats" in STUDY_PAGE
    assert f"rose from {third[39]:.0f} to {third[41]:.0f}" in STUDY_PAGE


def test_the_studys_controls():
    """Blurred originals are softer by every measure of sharpness; an unsharp mask is sharper."""
    for name in ("MNIST", "anime", "drawn_faces"):
        measures = json.loads((STUDY / f"{name}.json").read_text())["measures"]
        for key in ("edge_gradient_ratio", "laplacian_variance_ratio", "high_frequency_ratio"):
            assert (
                measures["originals, blurred"][key]["high"] < 1
                and measures["plain VAE, unsharp mask"][key]["low"] > 0
            )


def test_the_readme_is_short():
    """It is the door: 150 lines, 1,200 words, three tables, and the two commands on its first screen."""
    lines = README.splitlines()
    assert len(lines) <= 150 and len(README.split()) <= 1200
    assert sum(bool(re.fullmatch(r"\|[-|]+\|", line)) for line in lines) <= 3
    assert {"make demo", "make test"} <= {line.split("  ")[0] for line in lines[:40]}


def test_the_readme_leads_to_every_page():
    linked = set(re.findall(r"\]\(([\w./]+)\)", README))
    assert {page.relative_to(ROOT).as_posix() for page in PAGES} - {"README.md"} <= linked


@pytest.mark.parametrize("page", ["notebooks/README.md", "docs/teaching.md"])
def test_the_lists_of_notebooks_are_whole_and_their_times_are_the_notebooks(page):
    rows = re.findall(
        r"^\|.*?\[(\w+)\]\([./\w]*\.ipynb\) \|.*\| (.+?) \|$", (ROOT / page).read_text(), re.M
    )
    times = {name: time for name, time in rows if "minute" in time}
    assert {*times} == {path.stem for path in NOTEBOOKS}
    for name, time in times.items():
        assert time in words_of(ROOT / "notebooks" / f"{name}.ipynb"), name


def test_the_structures_tables_are_whole():
    """Every file that a student reads and every folder behind them has its row."""
    page = (ROOT / "docs" / "structure.md").read_text()
    rows = set(re.findall(r"^\| \[.*?\]\(\.\./d2lvae/([\w.]+)\) \|", page, re.M))
    inside = [path for path in (ROOT / "d2lvae").iterdir() if path.name != "__pycache__"]
    assert rows == {path.name for path in inside if path.suffix == ".py" or path.is_dir()}


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {d2lvae.__version__}\n" in citation
    assert f"## {d2lvae.__version__} " in (ROOT / "CHANGELOG.md").read_text()


NINTH = "ConvVAE_ConvDisc_LeakyReLU_on_anime/256_16_16_50_0_learned_loss_features_upsampling_resize"


def test_the_readmes_table():
    """One row an experiment: after as many epochs as the original's, with the original's loss."""
    rows = dict(re.findall(r"^\| \[(\w+)\]\(notebooks/\1\.ipynb\) \|(.*)\|$", README, re.M))
    assert list(rows) == [*RUNS, *FACES, "anime_convvae_learned"]
    for name, row in rows.items():
        data, _, *cells = (cell.strip() for cell in row.split("|"))
        learned = ROOT / "results" / "images" / NINTH
        digits = ROOT / "results" / "images" / RUNS.get(name, "")
        folder = face_run(name, "anime") if name in FACES else digits if name in RUNS else learned
        metrics = json.loads((folder / "metrics.json").read_text())
        with open(folder / "history.csv") as file:
            losses = [float(record["loss"]) for record in csv.DictReader(file)]
        loss = f"{losses[40]:.2f}" if name in RUNS else f"{losses[-1]:,.0f}"
        original = ""
        if name != "anime_convvae_learned":
            where, place = ("MNIST", 3) if name in RUNS else ("Real faces", 5)
            link = f"[{name}](../notebooks/{name}.ipynb) |"
            [line] = [line for line in section(RESULTS, where).splitlines() if link in line]
            original = line.split(link)[1].split("|")[place - 2].strip()
        epochs = 41 if name in RUNS else len(losses)
        assert cells == [str(epochs), loss, original]
        assert metrics["finished"] and data == ("MNIST" if name in RUNS else "real faces")


def test_the_readmes_step_is_the_notebooks():
    """The same function; the notebook's has a docstring and returns the losses as well."""
    cells = json.loads((ROOT / "notebooks" / "mnist_densevae_logreg.ipynb").read_text())["cells"]
    [cell] = ["".join(c["source"]) for c in cells if "def update(" in "".join(c["source"])]
    [code] = re.findall(r"```python\n(def update.*?)```", README, re.S)
    [shown], [full] = ast.parse(code).body, ast.parse(cell).body
    assert [ast.dump(line) for line in shown.body] == [ast.dump(line) for line in full.body[1:-1]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_pages_commands_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    code = re.findall(r"```.*?```|`[^`]+`", page.read_text(), re.S)
    for block in code:
        assert set(re.findall(r"^`?make ([a-z-]+)", block, re.M)) <= targets, block
        for module in re.findall(r"python -m (d2lvae[\w.]*)", block):
            assert importlib.util.find_spec(module), module
        for path in re.findall(r"(?:tests|benchmarks|tools|notebooks)/\w+(?:/\w+)*\.\w+", block):
            assert (ROOT / path).exists(), path


def words_of(page):
    """A page's prose, or a notebook's: code blocks and formulas taken out."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.S)
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def anchors(page):
    """What GitHub makes of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", words_of(page), re.M)
    heads = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", head).lower() for head in heads]
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    "page",
    [*PAGES, *RUN_PAGES, *NOTEBOOKS, *ASSIGNMENTS],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", words_of(page))
    links += re.findall(r"(?:href|src)=\"([^\"]+)\"", words_of(page))
    assert links or page.parent != ROOT or page.name == "CHANGELOG.md"
    for link in links:
        if re.match(r"https://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and ROOT in (target, *target.parents), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: no heading for {link}"


OF_TODAY = [page for page in (*PAGES, *NOTEBOOKS) if page.name != "CHANGELOG.md"]


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_in_prose_exist(page):
    """`losses.bce`, `vae.encode`, `d2lvae.fit`: an attribute that is named is there."""
    few = np.zeros((1, 1, 28, 28), np.uint8)
    known = {
        "d2lvae": d2lvae,
        "vae": d2lvae.DenseVAE(2, 1, 4, (1, 28, 28)),
        "discriminator": d2lvae.ConvDisc,
        "images": d2lvae.ImageSet("few", few, few),
        **{name: getattr(d2lvae, name) for name in d2lvae.__all__},
        **{name: kind for name, kind in vars(steps).items() if name.endswith("Step")},
        **{"figures": figures, "losses": losses, "metrics": measures, "study": study},
    }
    for token in re.findall(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)", words_of(page)):
        first, *names = token.split(".")
        if names[-1] in ("md", "cff", "json", "csv", "npz", "py", "ipynb"):
            continue
        if page.suffix == ".ipynb":
            assert first in known or first.islower(), f"{page}: what is {token}?"
        if first == "d2lvae" and importlib.util.find_spec(token.rsplit(".", 1)[0]):
            importlib.import_module(token.rsplit(".", 1)[0])
        found = known.get(first)
        for name in names if first in known else ():
            assert hasattr(found, name), f"{page}: there is no {token}"
            found = getattr(found, name)


def test_every_record_says_which_version_wrote_it():
    """Older code wrote some of them, and may have had other formats."""
    paths = [path for path in (ROOT / "results").glob("*/**/*.json") if "own" not in path.parts]
    for path in paths:
        record = json.loads(path.read_text())
        places = [record, record.get("machine", {}), record.get("versions", {})]
        assert any("d2lvae" in place for place in places), path
