"""Training steps in MXNet: this project's, and one as the original of 2019 wrote it."""

import itertools

import d2lvae
import mxnet as mx
import numpy as np
from d2lvae import losses, training
from d2lvae.engine import adam, layers
from d2lvae.training import make_step
from experiments import config, disc_weight, gluon_nets
from mxnet import autograd


def initialized(name):
    nets = gluon_nets(name)
    for seed, net in enumerate(nets):
        if net is not None:
            d2lvae.initialize(net, seed)
    return nets


def ours(name, images, batch_size, precision="float32"):
    """As `d2lvae.fit` runs it: shuffling, gathering and scaling included."""
    step = make_step(*initialized(name), config(name, precision=precision))
    whole = images[: len(images) // batch_size * batch_size]
    for epoch in itertools.count():
        for batch in training.minibatches(whole, batch_size, 0, epoch):
            yield training.learn(step, batch)


def take_away(lever):
    """Make the step do one thing as MXNet would by itself (see levers.py and late_steps.py)."""
    if lever == "one-pass Adam":
        adam.Adam._step_on_cpu = adam.Adam._step_elsewhere
    elif lever == "moments that end":
        adam.NOTHING = np.float32(0)
    elif lever == "flipped products":
        layers.WIDE = float("inf")
    elif lever == "sums as products":
        losses.sum_per_image = lambda values: values.sum(axis=0, exclude=True)
    elif lever == "fast sigmoid":
        losses.sigmoid = lambda logits: logits.sigmoid()
    elif lever != "one thread for all":  # which the environment decides
        raise ValueError(lever)


def original(name, images, batch_size):
    """As recorded in 2019, for an adversarial experiment: three forward passes of the VAE, a blocking read of the loss at every batch.

    With MXNet's own operators, optimiser and number of threads (its driver sees to that). In its favour: hybridized nets without the original's
    mistakes, float32 minibatches ready in memory.
    """
    take_away("sums as products")
    take_away("fast sigmoid")
    vae, disc = initialized(name)
    trainers = [
        mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-3})
        for net in (vae, disc)
    ]
    pixel_loss = losses.PIXEL_LOSSES[config(name)["pixel_loss"]]
    images = mx.nd.array(images[:2048]).astype("float32") / 255
    batches = [
        images[i : i + batch_size].copy()
        for i in range(0, len(images) - batch_size + 1, batch_size)
    ]
    for x in itertools.cycle(batches):
        fake = vae(x)[0].sigmoid()
        with autograd.record():
            disc_loss = losses.adversarial(disc(x), True) + losses.adversarial(disc(fake), False)
        disc_loss.backward()
        trainers[1].step(batch_size)
        adversarial = losses.adversarial(disc(vae(x)[0].sigmoid()), True)
        with autograd.record():
            logits, mean, log_var = vae(x)
            loss = pixel_loss(logits, x) + losses.kl_divergence(mean, log_var)
            loss = loss + disc_weight(name) * losses.adversarial(disc(logits.sigmoid()), True)
        loss.backward()
        trainers[0].step(batch_size)
        loss.sum().asscalar(), disc_loss.sum().asscalar(), adversarial.sum().asscalar()
        yield loss


def wait():
    mx.nd.waitall()
