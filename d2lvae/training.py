"""One training step, with or without a discriminator, and the loop around it."""
import contextlib
import signal
import threading

import mxnet as mx
import numpy as np
from d2l import mxnet as d2l
from mxnet import autograd
from tqdm.auto import tqdm

from . import losses, runtime
from .checkpoints import net_arrays, set_net_arrays

__all__ = ["Learner", "initialize", "train", "evaluate"]


def streams(seed, *path):
    """Two independent 31-bit seeds for one purpose: the same for the same numbers."""
    first, second = np.random.SeedSequence([seed, *path]).generate_state(2)
    return int(first >> 1), int(second >> 1)


def initialize(net, seed, ctx=None):
    """Xavier weights that depend only on the net and the seed, and a compiled graph."""
    mx.random.seed(streams(seed)[0])
    net.initialize(mx.init.Xavier(), ctx=ctx or d2l.try_gpu(), force_reinit=True)
    net.hybridize(static_alloc=True, static_shape=True)


class _Objective(mx.gluon.HybridBlock):
    """uint8 pictures -> what a VAE pays for them without a discriminator, as one graph.

    Gives the weighted loss (N,), the sums over the batch of the pixel loss and the KL (2,), and,
    if asked, the pictures in [0, 1] and their reconstructions, both (N, C, H, W).
    """

    def __init__(self, vae, with_pictures, pixel_loss, pixel_weight, kl_weight, **kwargs):
        super().__init__(**kwargs)
        self.vae, self.with_pictures = vae, with_pictures
        self.pixel_loss = losses.PIXEL_LOSSES[pixel_loss]
        self.pixel_weight, self.kl_weight = pixel_weight, kl_weight

    def hybrid_forward(self, F, images):
        images = images.astype("float32") / 255
        logits, mean, log_var = self.vae(images)
        pixel = self.pixel_loss(logits, images)
        kl = losses.kl_divergence(mean, log_var)
        loss = pixel * self.pixel_weight + kl * self.kl_weight
        sums = F.concat(pixel.sum(), kl.sum(), dim=0)
        return (loss, sums, images, logits.sigmoid()) if self.with_pictures else (loss, sums)


class Optimizer:
    """Adam over a net's parameters, with its state in sight so that it can be saved and restored.

    Parameters
    ----------
    net : HybridBlock
        Initialised.
    lr : float
        Learning rate.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980.
    """

    def __init__(self, net, lr):
        self.net, self.lr = net, lr
        self.parameters = {name[len(net.prefix):]: p for name, p in net.collect_params().items()
                           if p.grad_req != "null"}
        self.set_state({}, 0)

    def step(self, batch_size):
        """Update with the gradients of a loss summed over `batch_size` images."""
        self.rule.rescale_grad = 1 / batch_size
        self.steps += 1
        for i, (parameter, moments) in enumerate(zip(self.parameters.values(), self.moments)):
            self.rule.update(i, parameter.data(), parameter.grad(), moments)

    def state(self):
        """The moments as numpy arrays, by 'mean/NAME' and 'var/NAME'."""
        return {f"{kind}/{name}": moment.asnumpy()
                for name, moments in zip(self.parameters, self.moments)
                for kind, moment in zip(("mean", "var"), moments)}

    def set_state(self, state, steps):
        """Go on from another's `state()` after its `steps`; an empty state is a new beginning."""
        self.steps = steps
        self.rule = mx.optimizer.Adam(learning_rate=self.lr, begin_num_update=steps)
        self.moments = [self.rule.create_state(i, parameter.data())
                        for i, parameter in enumerate(self.parameters.values())]
        for name, value in state.items():
            kind, parameter = name.split("/", 1)
            moments = self.moments[list(self.parameters).index(parameter)]
            moments[("mean", "var").index(kind)][:] = mx.nd.array(value)


def _on_device(images, ctx):
    """A numpy minibatch as an NDArray, without the wait for the engine that `mx.nd.array` has."""
    return mx.nd.from_numpy(np.array(images, order="C"), zero_copy=True).as_in_context(ctx)


class Learner:
    """A VAE, perhaps a discriminator, and the step that teaches them.

    Parameters
    ----------
    vae : VAE
        Initialised.
    discriminator : HybridBlock or None
        Initialised, on the same device; None for a VAE alone.
    config : dict
        `lr`, `pixel_loss`, `pixel_weight`, `kl_weight`, and with a discriminator `disc_weight` and perhaps
        `min_disc_loss`.
    """

    def __init__(self, vae, discriminator, config):
        self.vae, self.discriminator = vae, discriminator
        self.ctx = next(iter(vae.collect_params().values())).list_ctx()[0]
        self.objective = _Objective(vae, discriminator is not None, config["pixel_loss"],
                                    config["pixel_weight"], config["kl_weight"])
        self.objective.hybridize(static_alloc=True, static_shape=True)
        self.vae_optimizer = Optimizer(vae, config["lr"])
        self.optimizers = {"vae": self.vae_optimizer}
        if discriminator is not None:
            self.disc_weight = config["disc_weight"]
            self.min_disc_loss = config.get("min_disc_loss", 0.0)
            self.statistics = [p.data() for p in discriminator.collect_params().values()
                               if p.grad_req == "null"]  # BatchNorm's running means and variances
            self.disc_optimizer = Optimizer(discriminator, config["lr"])
            for parameter in self.disc_optimizer.parameters.values():
                parameter.grad_req = "add"  # over the real and the reconstructed batch
                parameter.zero_grad()
            self.optimizers["disc"] = self.disc_optimizer

    def step(self, images, solo=False):
        """Learn from one minibatch.

        Parameters
        ----------
        images : numpy.ndarray, uint8, shape (N, C, H, W)
        solo : bool
            Leave the discriminator out, if there is one: it neither judges nor learns.

        Returns
        -------
        NDArray, shape (2,) or (4,)
            Sums over the batch: pixel loss, KL, and with a discriminator the adversarial loss and
            the discriminator's own.  Still being computed: reading it waits.
        """
        images = _on_device(images, self.ctx)
        with autograd.record():
            loss, sums, *pictures = self.objective(images)
        if self.discriminator is None or solo:
            loss.backward()
        else:
            real, reconstructed = pictures
            disc_sum = self._teach_discriminator(real.detach(), reconstructed.detach())
            gradient, adversarial_sum = self._verdict(reconstructed.detach())
            autograd.backward([loss, reconstructed],
                              [mx.nd.ones_like(loss), self.disc_weight * gradient])
            sums = mx.nd.concat(sums, adversarial_sum, disc_sum, dim=0)
        self.vae_optimizer.step(len(images))
        return sums

    def _teach_discriminator(self, real, reconstructed):
        """One step of the discriminator towards telling the two apart; its summed loss.

        The loss is the sum of its two answers, as in the original's record: 2 log 2 = 1.386 for one
        that cannot tell.  Below `min_disc_loss` an image it has learnt enough and rests: it judges, but its
        weights stay (a usual way of keeping the two nets in balance, not part of the seed's recipe).
        """
        total = 0
        for images, is_real in ((real, True), (reconstructed, False)):
            with autograd.record():
                loss = losses.adversarial(self.discriminator(images), is_real)
            loss.backward()  # the gradients add up
            self._settle()
            total = total + loss.sum()
        if not self.min_disc_loss or total.asscalar() >= self.min_disc_loss * len(real):
            self.disc_optimizer.step(len(real))
        for parameter in self.disc_optimizer.parameters.values():
            parameter.zero_grad()
        return total

    def _verdict(self, reconstructed):
        """The adversarial loss's gradient with respect to the reconstructions, and its sum.

        Asked for that gradient alone, so that none is computed for the discriminator's weights;
        its running statistics stay as they are.
        """
        before = [array.copy() for array in self.statistics]
        reconstructed.attach_grad()
        with autograd.record():
            loss = losses.adversarial(self.discriminator(reconstructed), True)
        gradient = autograd.grad(loss, reconstructed)[0]
        self._settle()
        for array, value in zip(self.statistics, before):
            value.copyto(array)
        return gradient, loss.sum()

    def _settle(self):
        """Wait until the discriminator's running statistics are what they should be, if it has any.

        MXNet 1.9 writes them in the backward pass without telling its engine, so whoever reads or
        writes them next may come too early.
        """
        if self.statistics:
            mx.nd.waitall()

    def state(self):
        """Weights and optimisers' moments by 'vae/...', 'vae_adam/...', and the steps each net has taken."""
        arrays = {}
        for name, optimizer in self.optimizers.items():
            arrays.update({f"{name}/{key}": value for key, value in net_arrays(optimizer.net).items()})
            arrays.update({f"{name}_adam/{key}": value for key, value in optimizer.state().items()})
        return arrays, {name: optimizer.steps for name, optimizer in self.optimizers.items()}

    def set_state(self, arrays, steps):
        """Go on from another learner's :meth:`state`."""
        def part(prefix):
            return {key[len(prefix):]: value for key, value in arrays.items() if key.startswith(prefix)}

        for name, optimizer in self.optimizers.items():
            set_net_arrays(optimizer.net, part(f"{name}/"))
            optimizer.set_state(part(f"{name}_adam/"), steps[name])


def minibatches(images, batch_size, seed, epoch):
    """All pictures once in an order that depends on (seed, epoch) alone; the last batch may be smaller."""
    shuffle, noise = streams(seed, epoch)
    mx.random.seed(noise)
    order = np.random.default_rng(shuffle).permutation(len(images))
    for start in range(0, len(order), batch_size):
        yield images[order[start:start + batch_size]]


def _means(sums, num_images, config):
    """A history record's losses from the batches' summed ones."""
    totals = mx.nd.stack(*sums).asnumpy().astype(np.float64).sum(axis=0) / num_images
    names = ("pixel_loss", "kl", "adversarial_loss", "disc_loss")
    means = {name: float(total) for name, total in zip(names, totals)}
    loss = (config["pixel_weight"] * means["pixel_loss"] + config["kl_weight"] * means["kl"] +
            config.get("disc_weight", 0) * means.get("adversarial_loss", 0))
    return {"loss": loss, **means}


@contextlib.contextmanager
def _interruptible():
    """Turn Ctrl-C into a wish (`wish.is_set()`) that is granted after the minibatch; a second one stops at once."""
    wish = threading.Event()

    def handler(number, frame):
        if wish.is_set():
            raise KeyboardInterrupt
        wish.set()

    if threading.current_thread() is not threading.main_thread():
        yield wish  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, before)


def train(learner, images, config, history, on_epoch):
    """Train from the epoch after those in `history` up to `config['epochs']`.

    Losses stay on the device and are read once an epoch (by the bar, once in a while, those that
    are already computed).  Ctrl-C ends the loop after the minibatch.

    Parameters
    ----------
    learner : Learner
        Brought to the state at the end of `history`.
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        The training pictures.
    config : dict
        `epochs`, `batch_size`, `seed`, the losses' weights, and perhaps `num_solo_epochs`.
    history : list of dict
        A record an epoch; extended in place.
    on_epoch : callable
        Called after each finished epoch.

    Returns
    -------
    bool
        False if Ctrl-C ended it early.

    Raises
    ------
    FloatingPointError
        A loss that is not a finite number; the epoch is not recorded.
    """
    epochs, timer = config["epochs"], d2l.Timer()
    quiet = not runtime.watched()
    bar = tqdm(total=epochs * len(images), initial=len(history) * len(images), unit=" images",
               unit_scale=True, disable=quiet)
    with _interruptible() as wish, contextlib.closing(bar):
        for epoch in range(len(history), epochs):
            timer.start()
            sums, solo = [], epoch < config.get("num_solo_epochs", 0)
            for batch in minibatches(images, config["batch_size"], config["seed"], epoch):
                sums.append(learner.step(batch, solo))
                if len(sums) > 16:
                    sums[-16].wait_to_read()  # lets the queue grow no further
                    if len(sums) % 64 == 0 and not quiet:
                        done = sums[:-16]
                        shown = _means(done, len(done) * config["batch_size"], config)
                        bar.set_postfix(epoch=epoch, loss=f"{shown['loss']:.2f}", refresh=False)
                bar.update(len(batch))
                if wish.is_set():
                    mx.nd.waitall()
                    return False
            means = _means(sums, len(images), config)
            seconds = timer.stop()
            if not np.isfinite(means["loss"]):
                raise FloatingPointError(
                    f"the loss became {means['loss']} in epoch {epoch} ({means}): lower lr "
                    f"(now {config['lr']}) and start again; earlier checkpoints are unharmed")
            history.append({"epoch": epoch, **means, "seconds": round(seconds, 3),
                            "images_per_second": round(len(images) / seconds, 1)})
            on_epoch()
            bar.set_postfix(epoch=epoch, loss=f"{means['loss']:.2f}", refresh=False)
            if quiet:
                print(epoch_line(history, epochs), flush=True)
    mx.nd.waitall()  # the VAE's own BatchNorm statistics, too: see Learner._settle
    if history and not quiet:
        print(epoch_line(history, epochs))
    return True


def epoch_line(history, epochs):
    """One line on the latest epoch: losses, speed, time left."""
    last = history[-1]
    parts = [f"{label} {last[name]:.{digits}f}" for label, name, digits in (
        ("loss", "loss", 2), ("pixel", "pixel_loss", 2), ("KL", "kl", 2),
        ("adversarial", "adversarial_loss", 3), ("discriminator", "disc_loss", 3)) if name in last]
    left = round((epochs - 1 - last["epoch"]) * np.median([h["seconds"] for h in history[-5:]]))
    return (f"epoch {last['epoch']:3d}: {', '.join(parts)}, {last['images_per_second']:,.0f} images/s, "
            f"{left // 60:.0f} min {left % 60:02.0f} s left")


def evaluate(learner, images, config, batch_size=256):
    """The VAE's own losses on pictures it was not trained on, with sampled latents.

    Parameters
    ----------
    learner : Learner
    images : numpy.ndarray, uint8, shape (N, C, H, W)
    config : dict
        `seed` and the losses' weights.

    Returns
    -------
    dict
        'pixel_loss' and 'kl', nats an image.
    """
    mx.random.seed(streams(config["seed"], 0)[1])
    sums = [learner.objective(_on_device(images[i:i + batch_size], learner.ctx))[1]
            for i in range(0, len(images), batch_size)]
    totals = mx.nd.stack(*sums).asnumpy().astype(np.float64).sum(axis=0) / len(images)
    return {"pixel_loss": float(totals[0]), "kl": float(totals[1])}
