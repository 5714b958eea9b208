"""What git ignores: weights and originals of real data, wherever a run leaves them."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
REAL, DRAWN = "images/ConvVAE_on_anime/512_32_50", "images/ConvVAE_on_drawn_faces/512_32_50"
IGNORED = [
    f"{place}/{REAL}/{name}"
    for place in ("results", "results/mine", "mine", "notebooks/results/own")
    for name in (
        "test_0.png",
        "originals_and_reconstructions.png",
        "vae.npz",
        "checkpoint_previous.npz",
    )
]
IGNORED += [
    f"results/{DRAWN}/vae.npz",
    f"results/{DRAWN}/unfinished/0.png",
    "results/own/0.png",
    "data/anime/1.jpg",
    "encoder.onnx",
]
KEPT = [
    f"results/{REAL}/0.png",
    f"results/{REAL}/metrics.json",
    f"results/{DRAWN}/test_0.png",
    f"results/{DRAWN}/originals_and_reconstructions.png",
    "data/README.md",
    "docs/explorer.png",
]


@pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="a copy without git's folder, as 'Download ZIP' gives"
)
def test_weights_and_originals_are_ignored_everywhere_and_models_images_are_not():
    result = subprocess.run(
        ["git", "check-ignore", "--no-index", *IGNORED, *KEPT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert result.stdout.split() == IGNORED
