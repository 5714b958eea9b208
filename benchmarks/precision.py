"""Does bfloat16 change what is learned? The same short training in both precisions, on drawn faces.

python benchmarks/precision.py [--epochs 1]      (two minutes on two idle cores)
"""

import argparse
import json

from d2lvae import training
from d2lvae.sources import synthetic_faces
from d2lvae.training import make_step
from experiments import EXPERIMENTS, config, has_convolutions
from gluon_steps import initialized
from train_step import RESULTS, machine


def final_loss(name, images, epochs, precision):
    """The mean loss over the last epoch."""
    settings = config(name, precision=precision, epochs=epochs)
    step, history = make_step(*initialized(name), settings), []
    training.train(step, images, settings, history, lambda: None)
    return history[-1]["loss"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1)
    epochs = parser.parse_args().epochs
    images = synthetic_faces.draw_faces(4096)[0]
    results = {"machine": machine(), "epochs": epochs, "loss": {}}
    for name in filter(has_convolutions, EXPERIMENTS):
        losses = {
            precision: final_loss(name, images, epochs, precision)
            for precision in ("float32", "bfloat16")
        }
        results["loss"][name] = losses
        print(
            f"{name:24} {losses['float32']:9.2f} {losses['bfloat16']:9.2f} {losses['bfloat16'] / losses['float32'] - 1:+.3%}",
            flush=True,
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "precision.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
