"""Images per second of a whole training step with its data: this project beside plain Gluon.

    python benchmarks/train_step.py [--rounds 5]      (or: make bench)

Every measurement is a process of its own (the thread settings are fixed at import); they take
turns, so that a machine whose speed drifts slows all.  Run it with nothing else going on.  Digits
drawn by rule are learned for 1,500 steps before the clock starts, because a step gets slower as
numbers get small.

- ours: this project as `d2lvae.fit` runs it, shuffling, gathering and scaling included;
- denormals: the same, but MXNet's threads started before d2lvae could make them flush denormals;
- plain: plain Gluon as one would write it first: float32 batches ready in memory, hybridized
  nets, Gluon's Trainer, and in the adversarial step one VAE forward for each of the two nets.
"""
import argparse
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = {"mnist_densevae": False, "mnist_densevae_logreg": True}  # name: with a discriminator
WAYS = ("ours", "denormals", "plain")
BATCH, WARM_UP, BATCHES = 64, 1500, 500


def pictures():
    """Digits by rule, enough to learn from."""
    from d2lvae import drawing
    return drawing.draw_digits(5_000)[0]


def ours(adversarial):
    """This project, as `d2lvae.fit` runs it: shuffling, gathering and scaling included."""
    import d2lvae
    from d2lvae import training
    nets = [d2lvae.DenseVAE(), d2lvae.DenseLogReg() if adversarial else None]
    for net in filter(None, nets):
        training.initialize(net, 0)
    learner = training.Learner(*nets, dict(lr=1e-3, pixel_loss="bce", pixel_weight=1.0, kl_weight=1.0, disc_weight=1.0))
    images = pictures()
    for epoch in itertools.count():
        for batch in training.minibatches(images[:len(images) // BATCH * BATCH], BATCH, 0, epoch):
            yield learner.step(batch)


def denormals(adversarial):
    """Ours with engine threads that keep denormals."""
    sys.path.insert(0, str(ROOT / "d2lvae"))
    __import__("runtime").set_threads()  # the package's own, without the package, which would start MXNet's threads
    sys.path.pop(0)
    import mxnet as mx
    mx.nd.zeros(1).wait_to_read()
    return ours(adversarial)


def plain(adversarial):
    """Plain Gluon on batches that are ready in memory."""
    import mxnet as mx
    from mxnet import autograd
    mx.nd.zeros(1).wait_to_read()

    import d2lvae
    from d2lvae import losses
    vae, disc = d2lvae.DenseVAE(), d2lvae.DenseLogReg()
    trainers = []
    for net in (vae, disc):
        net.initialize(mx.init.Xavier())
        net.hybridize(static_alloc=True, static_shape=True)
        trainers.append(mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-3}))
    images = mx.nd.array(pictures()).astype("float32") / 255
    batches = [images[i:i + BATCH].copy() for i in range(0, len(images) - BATCH, BATCH)]
    for x in itertools.cycle(batches):
        if adversarial:
            fake = vae(x)[0].sigmoid()
            with autograd.record():
                disc_loss = losses.adversarial(disc(x), True) + losses.adversarial(disc(fake), False)
            disc_loss.backward()
            trainers[1].step(BATCH)
        with autograd.record():
            logits, mean, log_var = vae(x)
            loss = losses.bce(logits, x) + losses.kl_divergence(mean, log_var)
            if adversarial:
                loss = loss + losses.adversarial(disc(logits.sigmoid()), True)
        loss.backward()
        trainers[0].step(BATCH)
        yield loss


def measure(steps):
    """Images per second over BATCHES steps after WARM_UP of them."""
    import mxnet as mx
    for i in range(WARM_UP + BATCHES):
        if i == WARM_UP:
            mx.nd.waitall()
            start = time.perf_counter()
        out = next(steps)
        if i % 16 == 15:
            out.wait_to_read()
    mx.nd.waitall()
    return BATCHES * BATCH / (time.perf_counter() - start)


def in_a_process(which, name):
    """One measurement; plain Gluon with the thread setting that suits it best here, one."""
    environment = dict(os.environ)
    if which == "plain":
        environment.update(OMP_NUM_THREADS="1", MXNET_CPU_WORKER_NTHREADS="1")
    out = subprocess.run([sys.executable, __file__, "--measure", which, name], env=environment, check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return float(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "STEP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        which, name = arguments.measure
        print(measure(globals()[which](STEPS[name])))
        return
    rates = {name: {which: [] for which in WAYS} for name in STEPS}
    for round_ in range(arguments.rounds):
        for name in STEPS:
            for which in WAYS:
                rates[name][which].append(in_a_process(which, name))
        print(f"round {round_ + 1} of {arguments.rounds} done", flush=True)
    print(f"\nimages/s, median of {arguments.rounds} (lowest to highest); {os.cpu_count()} cores, {platform.machine()}")
    for name, by_way in rates.items():
        for which, found in by_way.items():
            ratio = statistics.median(mine / other for mine, other in zip(by_way["ours"], found))
            print(f"{name:22} {which:10} {statistics.median(found):7,.0f} ({min(found):,.0f} to {max(found):,.0f})"
                  f"   ours is {ratio:.2f} times as fast")
    path = ROOT / "results" / "benchmarks" / "train_step.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cores": os.cpu_count(), "machine": platform.machine(), "images_per_second": rates},
                               indent=2) + "\n")


if __name__ == "__main__":
    main()
