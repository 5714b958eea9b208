"""One training step, with or without a discriminator, and the loop around it."""

import contextlib
import signal
import threading
import time
import zlib

import mxnet as mx
import numpy as np
from d2l import mxnet as d2l
from mxnet import autograd
from mxnet.gluon import nn

from . import losses
from .distributed.process_group import ALONE, Share
from .engine import layers, threads
from .engine.adam import Adam
from .engine.hybridize import SCRATCH, Graph
from .engine.progress import reporting
from .storage.nets import get_weights, set_weights

__all__ = ["Learner", "initialize", "train", "evaluate"]

VERDICT, FEATURES = "adversarial_loss", "feature_loss"
LEARNED = {
    "adversarial": (VERDICT,),
    "features": (FEATURES,),
    "both": (VERDICT, FEATURES),
}  # what a VAE pays to its discriminator


def spawn_seeds(seed, *path):
    """Two independent 31-bit seeds for one purpose: the same for the same numbers."""
    first, second = np.random.SeedSequence([seed, *path]).generate_state(2)
    return int(first >> 1), int(second >> 1)


def initialize(net, seed, ctx=None):
    """Give a net Xavier weights that depend only on the net and the random seed, and compile it.

    Parameters
    ----------
    net : HybridBlock
        A VAE or a discriminator; `fit` draws its weights from the seed, the discriminator's from
        seed + 1.
    seed : int
    ctx : mxnet.Context, optional
        A GPU if there is one, else the CPU.
    """
    complete(net)
    mx.random.seed(spawn_seeds(seed)[0])
    net.initialize(mx.init.Xavier(), ctx=ctx or d2l.try_gpu(), force_reinit=True)
    prepare(net)
    net.left_by_fit = weights_checksum(net)


def prepare(net):
    """Make an initialised net ready for training, whatever its weights: shapes, constraints, compilation."""
    complete(net)
    for layer in layers.projected_layers(net):
        layer.project()
    net.hybridize(static_alloc=True, static_shape=True)


def complete(net):
    """Settle the shapes that a net's layers leave open, as `nn.Dense(400)` does."""
    parameters = net.collect_params().values()
    if any(not p.shape or 0 in p.shape for p in parameters):
        net.infer_shape(mx.nd.zeros((1, *net.image_shape)))
    if any(p._deferred_init for p in parameters):
        net(mx.nd.zeros((1, *net.image_shape)))  # gives them their weights


def has_weights(net):
    """Whether a net has been initialised, by whomever."""
    return all(p._data is not None or p._deferred_init for p in net.collect_params().values())


def weights_checksum(net):
    """A number that tells a net's weights from others; BatchNorm's running statistics, which any training step moves, do not count."""
    complete(net)
    mx.nd.waitall()  # a pass that still runs may lay out a convolution's weights anew while they are read
    checksum = 0
    for parameter in net.collect_params().values():
        if parameter.grad_req != "null":
            checksum = zlib.crc32(np.ascontiguousarray(parameter.data().asnumpy()), checksum)
    return checksum


def on_device(images, ctx):
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
        `lr`, `pixel_loss`, `pixel_weight`, `kl_weight`, perhaps `precision`, and with a discriminator `disc_weight` and
        perhaps `learned_loss`, `feature_weight` and `disc_lr`.
    team : Team
        The workers that train together; each computes with its share of every minibatch, and all add up their gradients.
    pixel_loss : callable, optional
        Images' logits and images (N, C, H, W) -> (N,); by default the one that `config` names.

    Notes
    -----
    The step's three computations (the VAE's own loss, the discriminator's, its verdict on the VAE) are methods that
    take and give Symbols; each is compiled at its first use, see :class:`d2lvae.engine.hybridize.Graph`.

    What the VAE learns from the discriminator is said by `learned_loss`:

    'adversarial'
        The verdict on its reconstructions: the seed's recipe, and the default.
    'features'
        The distance between a image and its reconstruction in the discriminator's features (times `feature_weight`).
        The discriminator learns from images decoded from the prior as well.
    'both'
        Larsen et al., arXiv 1512.09300: both; the verdict is passed on reconstructions and on images from the prior, and
        teaches the decoder alone.
    """

    def __init__(self, vae, discriminator, config, team=ALONE, pixel_loss=None):
        self.vae, self.discriminator, self.config, self.team = vae, discriminator, config, team
        self.ctx = next(iter(vae.collect_params().values())).list_ctx()[0]
        self.vae_optimizer = Adam(vae, config["lr"])
        self.optimizers = {"vae": self.vae_optimizer}
        if discriminator is not None:
            self.disc_optimizer = Adam(discriminator, config.get("disc_lr") or config["lr"])
            self.optimizers["disc"] = self.disc_optimizer
            self.has_statistics = any(
                p.grad_req == "null" for p in discriminator.collect_params().values()
            )
        learned = _learned(config) if discriminator is not None else ()
        self.is_judged, self.is_compared = VERDICT in learned, FEATURES in learned
        self.precision = config.get("precision", "float32")
        self.pixel_loss = pixel_loss or losses.PIXEL_LOSSES[config["pixel_loss"]]
        self.graphs, self.share = {}, None

    def _graph(self, function, num_inputs, batch_size, share=None, **nets):
        """The compiled `function` for this batch size (an epoch's last batch may be smaller than the others)."""
        share = None if share is None or share.stop - share.start == share.whole else share
        key = function.__name__, batch_size, share
        if key not in self.graphs:
            usual = self.team.share(self.config.get("batch_size", batch_size * self.team.size))
            static = batch_size == usual.stop - usual.start
            self.graphs[key] = Graph(
                function,
                num_inputs,
                batch_size,
                share,
                precision=self.precision,
                static=static,
                **nets,
            )
        return self.graphs[key]

    def objective(self, images, share=None):
        """What a VAE pays for uint8 images without a discriminator.

        Parameters
        ----------
        images : NDArray, uint8, shape (N, C, H, W)
        share : Share, optional
            Which images of a minibatch they are; all of it by default.

        Returns
        -------
        list of NDArray
            The weighted loss (N,), the sums over the batch of pixel loss and KL (2,), and, with a discriminator, images
            (N, C, H, W) in [0, 1]: the given ones, their reconstructions, and others that it judges (see `_decoded`).
        """
        return self._graph(self._objective, 1, len(images), share, learning=[self.vae])(images)

    def _objective(self, images):
        config = self.config
        images = images.astype("float32") / 255
        mean, log_var = self.vae.encode(images)
        logits, *others = self._decoded(self.vae.reparameterize(mean, log_var))
        pixel = self.pixel_loss(logits, images)
        kl = losses.kl_divergence(mean, log_var)
        loss = pixel * config["pixel_weight"] + kl * config["kl_weight"]
        sums = mx.sym.concat(pixel.sum(), kl.sum(), dim=0)
        pictures = (
            []
            if self.discriminator is None
            else [mx.sym.BlockGrad(images), *map(losses.sigmoid, [logits, *others])]
        )
        return [loss, mx.sym.BlockGrad(sums), *pictures]

    def _decoded(self, latents):
        """The reconstructions' logits and those of other images that the discriminator judges.

        With 'features', images from the prior; with 'both', also the reconstructions once more, without a way back to the
        encoder.  (BatchNorm takes each kind by itself: through its means the verdict on one would find a way to the others; and its
        running statistics are those of the reconstructions alone, which is what they will be used for.)
        """
        if not self.is_compared:
            return [self.vae.decode(latents)]
        kinds = [latents, layers.noise_like(latents, self.vae.num_latents)]
        if self.is_judged:
            kinds.insert(1, mx.sym.BlockGrad(latents))
        logits = self._in_one_batch(self.vae.decoder, kinds, normed_apart=True)
        return [part.reshape((-1, *self.vae.image_shape)) for part in logits]

    def _in_one_batch(self, net, batches, normed_apart=False):
        """What a net makes of several batches of one size, as a list.

        With `normed_apart` each of the BatchNorms in a sequence of layers takes every batch by itself, and only the first one counts
        in its running statistics.  (The other layers take all at once, because MXNet 1.9 cannot add up a transposed convolution's
        gradients.)
        """
        size, number = layers.batch_size(), len(batches)
        images = mx.sym.concat(*batches, dim=0)
        with layers.compiled_for(size and size * number):
            for layer in net if normed_apart else [net]:
                if normed_apart and isinstance(layer, nn.BatchNorm):
                    first, *others = images.split(number, axis=0)
                    images = mx.sym.concat(
                        layer(first), *(_normed(layer, other) for other in others), dim=0
                    )
                else:
                    images = layer(images)
        return list(images.split(number, axis=0))

    def _judgement(self, real, *fakes):
        """What the discriminator pays, (N,), and its sum (1,); of two kinds of fakes each counts half.

        Separate batches where it has running statistics: BatchNorm must not mix real and fake ones.
        """
        if self.has_statistics:
            logits = [self.discriminator(images) for images in (real, *fakes)]
        else:
            logits = self._in_one_batch(self.discriminator, [real, *fakes])
        loss = _mean_of([losses.adversarial(fake, False) for fake in logits[1:]])
        loss = loss + losses.adversarial(
            logits[0], True
        )  # last, so that the statistics see the real ones first
        return [loss, mx.sym.BlockGrad(loss.sum())]

    def _verdict(self, sums, disc_sum, *pictures):
        """What the VAE pays to the discriminator, weighted (N,); and all sums of a step, see `_means`.

        The images: two kinds to be compared, if features are, then those to be judged, if there is a verdict.
        """
        compared, judged = (pictures[:2], pictures[2:]) if self.is_compared else ([], pictures)
        parts, weights = [], []
        if judged:
            parts.append(
                _mean_of(
                    [losses.adversarial(self.discriminator(images), True) for images in judged]
                )
            )
            weights.append(self.config["disc_weight"])
        if compared:
            # in one batch: what BatchNorm makes of a image depends on the others in it, so it has to be the same for both
            features = self._in_one_batch(self.discriminator.features, compared)
            parts.append(losses.feature_distance(*features))
            weights.append(self.config.get("feature_weight", 1.0))
        loss = mx.sym.add_n(*(part * weight for part, weight in zip(parts, weights)))
        return [
            loss,
            mx.sym.BlockGrad(mx.sym.concat(sums, *(part.sum() for part in parts), disc_sum, dim=0)),
        ]

    def step(self, images, solo=False):
        """Learn from one minibatch.

        Parameters
        ----------
        images : numpy.ndarray, uint8, shape (N, C, H, W)
            All of it, on every worker.
        solo : bool
            Leave the discriminator out, if there is one: it neither judges nor learns.

        Returns
        -------
        NDArray, shape (2,), (4,) or (5,)
            Sums over the batch, or this worker's share of it: pixel loss, KL, and with a discriminator the adversarial loss, the
            distance of features (those of them that the VAE learns from) and the discriminator's own loss.
        """
        self.share = share = self.team.share(len(images))
        images = on_device(images[share.start : share.stop], self.ctx)
        with autograd.record():
            loss, sums, *pictures = self.objective(images, share)
        if self.discriminator is None or solo:
            loss.backward()
        else:
            real, reconstructed, *others = pictures
            fakes = others if self.is_compared and self.is_judged else [reconstructed, *others]
            disc_sum = self.teach_discriminator(real, *fakes)
            compared = [real, reconstructed] if self.is_compared else []
            judged = fakes if self.is_judged else []
            with autograd.record():
                verdict, sums = self.verdict(sums, disc_sum, *compared, *judged)
            autograd.backward([loss, verdict])
        self._learn(self.vae_optimizer, share)
        self.share = None
        return sums if share.counts else sums * 0

    def _learn(self, optimizer, share):
        """An optimiser's step with the gradients of all workers' shares."""
        if not share.counts:
            for gradient in optimizer.gradients:
                gradient[:] = 0
        self.team.allreduce(optimizer.gradients)
        optimizer.step(share.whole)

    def teach_discriminator(self, real, *fakes):
        """One step of the discriminator towards telling real images from fakes; its summed loss.

        The loss is the sum of its two answers, as in the original's record: 2 log 2 = 1.386 for one
        that cannot tell.
        """
        share = self.share or Share(len(real), 0, len(real))
        graph = self._graph(
            self._judgement, 1 + len(fakes), len(real), learning=[self.discriminator]
        )
        with autograd.record():
            loss, total = graph(real.detach(), *(fake.detach() for fake in fakes))
        loss.backward()
        self._learn(self.disc_optimizer, share)
        return total

    def verdict(self, *inputs):
        """The discriminator's part of the VAE's loss, (N,), and the sums of the whole step; see `_verdict`.

        With a gradient to the images alone: none is computed for the discriminator's weights, and
        its running statistics stay as they are.
        """
        return self._graph(self._verdict, len(inputs), len(inputs[2]), frozen=[self.discriminator])(
            *inputs
        )

    def state(self):
        """Weights and optimisers' moments by 'vae/...', 'vae_adam/...', and the steps each net has taken."""
        arrays = {}
        for name, optimizer in self.optimizers.items():
            arrays.update(
                {f"{name}/{key}": value for key, value in get_weights(optimizer.net).items()}
            )
            arrays.update({f"{name}_adam/{key}": value for key, value in optimizer.state().items()})
        return arrays, {name: optimizer.steps for name, optimizer in self.optimizers.items()}

    def set_state(self, arrays, steps):
        """Go on from another learner's :meth:`state`."""

        def part(prefix):
            return {
                key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)
            }

        for name, optimizer in self.optimizers.items():
            set_weights(optimizer.net, part(f"{name}/"))
            optimizer.set_state(part(f"{name}_adam/"), steps[name])


def _normed(layer, images):
    """What a BatchNorm makes of a Symbol in training, with running statistics of its own that are thrown away."""
    mean, var = layer.running_mean.name, layer.running_var.name
    return mx.sym.BatchNorm(
        images,
        layer.gamma.var(),
        layer.beta.var(),
        mx.sym.var(mean + SCRATCH),
        mx.sym.var(var + SCRATCH),
        **layer._kwargs,
    )


def _learned(config):
    """The names of the losses that a VAE with a discriminator pays to it."""
    return LEARNED[config.get("learned_loss", "adversarial")]


def _mean_of(parts):
    """The mean of one or two Symbols."""
    return parts[0] if len(parts) == 1 else (parts[0] + parts[1]) * 0.5


def minibatches(images, batch_size, seed, epoch):
    """All images once in an order that depends on (seed, epoch) alone; the last batch may be smaller."""
    shuffle, noise = spawn_seeds(seed, epoch)
    mx.random.seed(noise)
    order = np.random.default_rng(shuffle).permutation(len(images))
    for start in range(0, len(order), batch_size):
        yield images[order[start : start + batch_size]]


def _means(sums, num_images, config, team=ALONE):
    """A history record's losses from the batches' summed ones, of all workers."""
    totals = team.total(mx.nd.stack(*sums).asnumpy().astype(np.float64).sum(axis=0)) / num_images
    names = ("pixel_loss", "kl", *_learned(config), "disc_loss")
    means = {name: float(total) for name, total in zip(names, totals)}
    loss = (
        config["pixel_weight"] * means["pixel_loss"]
        + config["kl_weight"] * means["kl"]
        + config.get("disc_weight", 0) * means.get("adversarial_loss", 0)
        + config.get("feature_weight", 1.0) * means.get("feature_loss", 0)
    )
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


def train(learner, images, config, history, on_epoch, progress=None, draw=None):
    """Train from the epoch after those in `history` up to `config['epochs']`.

    Losses stay on the device and are read once an epoch (by a bar or a page, once in a while).  Ctrl-C ends the loop after the minibatch.

    Parameters
    ----------
    learner : Learner
        Brought to the state at the end of `history`.
    images : numpy.ndarray, uint8, shape (N, C, H, W)
        The training images.
    config : dict
        `epochs`, `batch_size`, `seed`, the losses' weights, and perhaps `num_solo_epochs`.
    history : list of dict
        A record an epoch; extended in place.
    on_epoch : callable
        Called after each finished epoch.
    progress : callable, optional
        Called after each minibatch with its number of images.
    draw : callable, optional
        What a notebook's page shows meanwhile; see :func:`d2lvae.engine.progress.reporting`.

    Returns
    -------
    bool
        False if Ctrl-C, at any of the workers, ended it early.

    Raises
    ------
    FloatingPointError
        A loss that is not a finite number; the epoch is not recorded.
    DistributedError
        Another worker or a server has died.
    """
    epochs, team = config["epochs"], learner.team

    def recent_means(sums, num_images):
        return _means(sums, num_images / team.size, config)

    neighbours = threads.Neighbours()
    with _interruptible() as team.wish, reporting(
        history, epochs, len(images), recent_means, draw, team.rank
    ) as report:
        for epoch in range(len(history), epochs):
            started = time.monotonic()  # not d2l.Timer: the clock on the wall may be set back
            sums, solo = [], epoch < config.get("num_solo_epochs", 0)
            for batch in minibatches(images, config["batch_size"], config["seed"], epoch):
                sums.append(learner.step(batch, solo))
                if len(sums) > 16:
                    sums[-16].wait_to_read()  # on a GPU, lets the queue grow no further
                report.batch(len(batch), sums[-1])
                if progress is not None:
                    progress(len(batch))
                if team.is_stopping():
                    mx.nd.waitall()
                    return False
            means = _means(sums, len(images), config, team)
            seconds = time.monotonic() - started
            if not np.isfinite(list(means.values())).all():
                raise FloatingPointError(
                    f"the loss became {means['loss']} in epoch {epoch} ({means}): lower lr "
                    f"(now {config['lr']}) and start again; earlier checkpoints are unharmed"
                )
            history.append(
                {
                    "epoch": epoch,
                    **means,
                    "seconds": round(seconds, 3),
                    "images_per_second": round(len(images) / seconds, 1),
                }
            )
            on_epoch()
            report.epoch()
            advice = neighbours.advice()
            if advice and team.rank == 0:
                print(advice, flush=True)
    mx.nd.waitall()  # the nets' BatchNorm statistics, too, of which MXNet's engine does not know
    return True


def evaluate(learner, images, config):
    """The VAE's own losses on images it was not trained on, with sampled latents.

    Parameters
    ----------
    learner : Learner
    images : numpy.ndarray, uint8, shape (N, C, H, W)
    config : dict
        `seed`; `batch_size`, any: the training's saves compiling another graph.

    Returns
    -------
    dict
        'pixel_loss' and 'kl', nats an image.
    """
    mx.nd.waitall()
    mx.random.seed(spawn_seeds(config["seed"], 0)[1])
    batch_size = config["batch_size"]
    sums = [
        learner.objective(on_device(images[i : i + batch_size], learner.ctx))[1]
        for i in range(0, len(images), batch_size)
    ]
    totals = mx.nd.stack(*sums).asnumpy().astype(np.float64).sum(axis=0) / len(images)
    return {"pixel_loss": float(totals[0]), "kl": float(totals[1])}
