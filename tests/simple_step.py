"""The training step as one would first write it in Gluon: what the fast one is compared with.

Eager but for the hybridized nets, MXNet's own operators and its own Adam, losses by their formulas, one forward
pass of the VAE for each of the two nets (with the same noise).
"""

import mxnet as mx
from mxnet import autograd


def pixel_loss(kind, logits, images):
    if kind == "bce":
        terms = mx.nd.relu(logits) - images * logits + (1 + (-logits.abs()).exp()).log()
    else:
        terms = (logits.sigmoid() - images).square()
    return terms.sum(axis=(1, 2, 3))


def softplus(logits):
    return mx.nd.relu(logits) + (1 + (-logits.abs()).exp()).log()


class SimpleLearner:
    """Takes what :func:`d2lvae.training.make_step` takes; `step` gives the same sums as a list of floats."""

    def __init__(self, vae, disc, config):
        self.vae, self.disc, self.config = vae, disc, config
        self.trainers = [
            mx.gluon.Trainer(
                net.collect_params(), "adam", {"learning_rate": config["lr"]}, kvstore=None
            )
            for net in (vae, disc)
            if net is not None
        ]

    def step(self, images, seed):
        x = mx.nd.array(images).astype("float32") / 255
        config, num_images, sums = self.config, len(images), []
        if self.disc is not None:
            mx.random.seed(seed)
            with autograd.train_mode():  # BatchNorm by the batch, as below; forward alone moves no statistics
                fake = self.vae(x)[0].sigmoid()
            with autograd.record():
                disc_loss = softplus(-self.disc(x)) + 0
            disc_loss.backward()
            real_gradients = [p.grad().copy() for p in self._disc_parameters()]
            sums.append(disc_loss.sum().asscalar())
            with autograd.record():
                disc_loss = softplus(self.disc(fake))
            disc_loss.backward()
            sums[-1] += disc_loss.sum().asscalar()
            for parameter, gradient in zip(self._disc_parameters(), real_gradients):
                parameter.grad()[:] += gradient
            self.trainers[1].step(num_images)
        mx.random.seed(seed)
        with autograd.record():
            logits, mean, log_var = self.vae(x)
            pixel = pixel_loss(config["pixel_loss"], logits, x)
            kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(axis=1)
            loss = config["pixel_weight"] * pixel + config["kl_weight"] * kl
            if self.disc is not None:
                adversarial = softplus(-self.disc(logits.sigmoid()))
                sums.insert(0, adversarial.sum())
                loss = loss + config["disc_weight"] * adversarial
        loss.backward()
        self.trainers[0].step(num_images)
        return [
            float(x.asscalar()) if isinstance(x, mx.nd.NDArray) else float(x)
            for x in (pixel.sum(), kl.sum(), *sums)
        ]

    def _disc_parameters(self):
        return [p for p in self.disc.collect_params().values() if p.grad_req != "null"]
