"""What a run costs besides its steps: the start, the memory, and how both grow with the data and the batch.

    make bench          (or: python benchmarks/scaling.py [--rounds 3])

Starts and memory are of fresh processes (medians of several, but for the growth tables), speeds medians of measurements in turns.  The start is what a user waits: from the start of the interpreter to
the end of the first training step, with the import of the project and of MXNet, the images read from a file, the nets built and compiled.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

import numpy as np
from experiments import BATCH, EXPERIMENTS
from train_step import RESULTS, ROOT, Worker, draw_images, images_of, in_turns, machine

GROWTH = ("mnist_densevae_bce", "anime_convvae_bce")  # one dense, one convolutional
DATA, BATCHES = (1, 4, 16), (16, 32, 64, 128, 256)


def start_and_memory(name, images, rounds):
    """Seconds to the first step; peak memory after some steps, in megabytes."""
    starts, peaks = [], []
    for _ in range(rounds):
        worker = Worker("ours", name, images)
        starts.append(worker.start["seconds_to_first_step"])
        worker.run(12)
        peaks.append(worker.last["peak_megabytes"])
        worker.close()
    return {
        "seconds_to_first_step": statistics.median(starts),
        "peak_megabytes": statistics.median(peaks),
    }


def parameters_and_activations(name):
    """Megabytes: weights with gradients and moments (16 bytes each), and every intermediate result of a step, once forward and once backward."""
    import mxnet as mx

    sys.path.insert(0, str(ROOT))
    from experiments import gluon_nets

    vae, disc = gluon_nets(name)
    shape = EXPERIMENTS[name]["shape"]

    def activations(net, shape):
        internals = net(mx.sym.var("data")).get_internals()
        shapes = dict(zip(internals.list_outputs(), internals.infer_shape(data=(BATCH, *shape))[1]))
        return sum(int(np.prod(size)) for name, size in shapes.items() if name.endswith("_output"))

    weights = sum(
        int(np.prod(p.shape))
        for net in (vae, disc)
        if net is not None
        for p in net.collect_params().values()
    )
    numbers = activations(vae.encoder, shape) + activations(vae.decoder, (vae.num_latents,))
    numbers += 3 * activations(disc, shape) if disc is not None else 0
    return weights * 16 / 1e6, numbers * 2 * 4 / 1e6


def growth(name, files, batch_sizes, rounds):
    """Images a second, seconds to the first step and peak memory for every file of images and batch size."""
    workers = {
        (path, size): Worker("ours", name, path, size) for path in files for size in batch_sizes
    }
    seconds = in_turns(workers, rounds)
    return [
        {
            "images": len(np.load(path, mmap_mode="r")),
            "batch_size": size,
            "images_per_second": size / statistics.median(seconds[path, size]),
            "seconds_to_first_step": worker.start["seconds_to_first_step"],
            "peak_megabytes": worker.last["peak_megabytes"],
        }
        for (path, size), worker in workers.items()
    ]


def thread_settings(name, images, rounds):
    """Images a second with the threads that the project chooses, and with other numbers of them."""
    others = [2**i for i in range(os.cpu_count().bit_length())]
    workers = {"chosen": Worker("ours", name, images)}
    workers.update(
        {str(count): Worker("ours", name, images, OMP_NUM_THREADS=str(count)) for count in others}
    )
    return {
        key: BATCH / statistics.median(found) for key, found in in_turns(workers, rounds).items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    results = {
        "machine": machine(),
        "batch_size": BATCH,
        "start": {},
        "threads": {},
        "data": {},
        "batch": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        draw_images(folder)
        idle = Worker("nothing", "mnist_densevae_bce", folder / "digits.npy")
        bare = idle.start["peak_megabytes"]
        idle.close()
        results["bare_megabytes"] = bare
        print(f"MXNet and the project imported, nothing computed: {bare:.0f} MB\n")
        print(
            f"{'experiment':24}{'start, s':>9}{'peak, MB':>9}{'without imports':>17}{'1.5 x parameters + data + activations':>40}"
        )
        for name in EXPERIMENTS:
            images = images_of(name, folder)
            found = start_and_memory(name, images, rounds)
            weights, activations = parameters_and_activations(name)
            data = images.stat().st_size / 1e6
            found.update(
                parameters_megabytes=weights,
                activations_megabytes=activations,
                data_megabytes=data,
                allowed_megabytes=1.5 * weights + data + activations,
            )
            results["start"][name] = found
            print(
                f"{name:24}{found['seconds_to_first_step']:9.1f}{found['peak_megabytes']:9,.0f}{found['peak_megabytes'] - bare:17,.0f}"
                f"{found['allowed_megabytes']:40,.0f}",
                flush=True,
            )
        print(f"\n{'images/s with OMP_NUM_THREADS':32}(chosen by the project, then others)")
        for name in EXPERIMENTS:
            found = results["threads"][name] = thread_settings(
                name, images_of(name, folder), rounds
            )
            print(
                f"{name:24}",
                *(f"{key}: {rate:,.0f}" for key, rate in found.items()),
                sep="  ",
                flush=True,
            )
        for name in GROWTH:
            images = np.load(images_of(name, folder))
            files = []
            for times in DATA:
                files.append(folder / f"{name}_{times}.npy")
                np.save(files[-1], np.concatenate([images] * times))
            results["data"][name] = growth(name, files, [BATCH], rounds)
            results["batch"][name] = growth(name, files[:1], BATCHES, rounds)
            for kind in ("data", "batch"):
                print(
                    f"\n{name}\n{'images':>9}{'batch size':>11}{'images/s':>10}{'start, s':>9}{'peak, MB':>9}"
                )
                for row in results[kind][name]:
                    print(
                        f"{row['images']:9,}{row['batch_size']:11}{row['images_per_second']:10,.0f}{row['seconds_to_first_step']:9.1f}{row['peak_megabytes']:9,.0f}",
                        flush=True,
                    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"\non {results['machine']}; written: results/benchmarks/scaling.json")


if __name__ == "__main__":
    main()
