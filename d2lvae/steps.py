"""One step of training, in four recipes: a VAE alone, adversarial, by features, and by both.

Each is what one would write in a notebook's cell, and `notebooks/mnist_densevae_logreg.ipynb` does.
The losses are functions of their own, which :func:`d2lvae.engine.hybridize.hybridize` compiles.
"""

import mxnet as mx
from mxnet import autograd

from . import losses
from .engine.adam import Adam
from .engine.hybridize import apart, hybridize
from .engine.operators import filled, namespace
from .vae import VAE


class VAEStep:
    """A VAE learns alone: the pixel loss plus the KL divergence.

    Parameters
    ----------
    vae : VAE, initialised
    pixel_loss : callable, logits and images (N, C, H, W) -> (N,), nats per image
    pixel_weight, kl_weight : float
        What the two losses are multiplied by.
    lr : float
        Adam's learning rate.
    hybridize : callable, optional
        Compiles the losses; :func:`d2lvae.engine.hybridize.eager` leaves them as they are.
    allreduce : callable, optional
        Replaces gradients by their sums over several workers.

    Attributes
    ----------
    weights : dict
        What each loss that the VAE learns from is multiplied by, by name.
    trainers : dict
        Adam for each net, by name: 'vae', and with a discriminator 'disc'.

    References
    ----------
    Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114.
    """

    num_noises = 1  # that `update` takes

    def __init__(
        self,
        vae,
        pixel_loss=losses.bce,
        pixel_weight=1.0,
        kl_weight=1.0,
        lr=1e-3,
        hybridize=hybridize,
        allreduce=None,
    ):
        self.vae, self.pixel_loss, self.lr = vae, pixel_loss, lr
        self.hybridize, self.allreduce = hybridize, allreduce
        self.weights = {"pixel_loss": pixel_weight, "kl": kl_weight}
        self.trainers = {"vae": Adam(vae, lr, self.allreduce)}
        self.solo_losses = self.hybridize(self.solo_losses, [vae])

    def solo_losses(self, images, *noise):
        """Pixel loss and KL, (N,) each, and logits (N, C, H, W)."""
        mean, log_var = self.vae.encode(images)
        logits = self.vae.decode(self.vae.reparameterize(mean, log_var, *noise))
        return self.pixel_loss(logits, images), losses.kl_divergence(mean, log_var), logits

    def update(self, images, batch_size, *noise):
        """Learn from one minibatch.

        Parameters
        ----------
        images : NDArray, float32, shape (N, C, H, W), in [0, 1]
        batch_size : int
            N; or, of several workers that share a minibatch, the number of images of all.
        *noise : NDArray, shape (N, L)
            Standard normal numbers in place of newly drawn ones.

        Returns
        -------
        dict
            The losses by name, nats per image, as NDArrays (N,).
        """
        with autograd.record():
            pixel, kl, _ = self.solo_losses(images, *noise)  # also of a recipe that begins alone
        return self._learn(batch_size, pixel_loss=pixel, kl=kl)

    def _learn(self, batch_size, **found):
        """One step of the VAE down the weighted sum of its losses."""
        weights = [filled(loss, self.weights[name]) for name, loss in found.items()]
        autograd.backward(list(found.values()), weights)  # a weight is the loss's own gradient
        self.trainers["vae"].step(batch_size)
        return found


class AdversarialStep(VAEStep):
    """A discriminator learns to tell images from reconstructions, and the VAE to deceive it.

    The original's recipe: d2l's `update_D` and `update_G`, with one forward pass of the VAE.

    Parameters
    ----------
    vae, disc : VAE, Discriminator
        Both initialised, on one device.
    disc_weight : float
        What the adversarial loss is multiplied by.
    disc_lr : float, optional
        The discriminator's learning rate; `lr` by default.
    **options
        As of :class:`VAEStep`.

    References
    ----------
    Goodfellow et al., "Generative Adversarial Nets", arXiv 1406.2661.
    """

    def __init__(self, vae, disc, disc_weight=1.0, disc_lr=None, **options):
        super().__init__(vae, **options)
        self.disc = disc
        self.weights["adversarial_loss"] = disc_weight
        self.trainers["disc"] = Adam(disc, disc_lr or self.lr, self.allreduce)
        self.vae_losses = self.hybridize(self.vae_losses, [vae])
        self.disc_loss = self.hybridize(self.disc_loss, [disc])
        self.adversarial_loss = self.hybridize(self.adversarial_loss, [disc], frozen=True)

    def vae_losses(self, images, *noise):
        """Pixel loss and KL, (N,) each, and reconstructions (N, C, H, W) in [0, 1]."""
        pixel, kl, logits = super().solo_losses(images, *noise)
        return pixel, kl, losses.sigmoid(logits)

    def disc_loss(self, real, *fakes):
        """What the discriminator learns from, (N,): 2 log 2 if it cannot tell.

        Several kinds of fakes count as one.
        """
        real, *fakes = [self.disc(images) for images in (real, *fakes)]
        loss = _mean([losses.adversarial(fake, False) for fake in fakes])
        return loss + losses.adversarial(real, True)  # last, and BatchNorm sees real images first

    def adversarial_loss(self, *fakes):
        """What the VAE pays where its images are not taken for real ones, (N,)."""
        return _mean([losses.adversarial(self.disc(fake), True) for fake in fakes])

    def update(self, images, batch_size, *noise):
        """Learn from one minibatch; see :meth:`VAEStep.update`."""
        with autograd.record():
            pixel, kl, fake = self.vae_losses(images, *noise)
        disc_loss = self._learn_to_tell(batch_size, images, fake)
        with autograd.record():  # the updated discriminator looks at the same reconstructions
            adversarial = self.adversarial_loss(fake)
        found = self._learn(batch_size, pixel_loss=pixel, kl=kl, adversarial_loss=adversarial)
        return {**found, "disc_loss": disc_loss}

    def _learn_to_tell(self, batch_size, *images):
        """One step of the discriminator, of which nothing flows into the VAE; its loss."""
        with autograd.record():
            loss = self.disc_loss(*(each.detach() for each in images))
        loss.backward()
        self.trainers["disc"].step(batch_size)
        return loss


class FeatureStep(AdversarialStep):
    """The VAE learns to agree with an image in the discriminator's features, not only in pixels.

    The discriminator learns from images decoded from the prior as well; its logits teach nobody.

    Parameters
    ----------
    feature_weight : float
        What the distance of features is multiplied by.
    vae, disc, **options
        As of :class:`AdversarialStep`; the discriminator has a method `features`.

    References
    ----------
    Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", arXiv 1512.09300.
    """

    num_noises = 2  # of the latents, and the prior's

    def __init__(self, vae, disc, feature_weight=1.0, **options):
        super().__init__(vae, disc, **options)
        self.weights["feature_loss"] = feature_weight
        self.feature_loss = self.hybridize(self.feature_loss, [disc], frozen=True)
        self.sample = self.hybridize(self.sample, [vae], frozen=True)

    def feature_loss(self, real, fake):
        """The distance of images in the discriminator's features, (N,)."""
        # In one batch, so that BatchNorm treats both alike.
        both = namespace(real).concat(real, fake, dim=0)
        return losses.feature_distance(*self.disc.features(both).split(2, axis=0))

    def sample(self, latents):
        """Latents (N, L) -> images (N, C, H, W) in [0, 1]."""
        return losses.sigmoid(self.vae.decode(latents))

    def update(self, images, batch_size, *noise):
        """Learn from one minibatch; see :meth:`VAEStep.update`.  A second noise is the prior's."""
        with autograd.record():
            pixel, kl, fake = self.vae_losses(images, *noise[:1])
        shape = len(images), self.vae.num_latents
        prior = noise[1:] or [mx.nd.random.normal(shape=shape, ctx=images.context)]
        with autograd.train_mode():
            sample = self.sample(*prior)
        disc_loss = self._learn_to_tell(batch_size, images, fake, sample)
        with autograd.record():
            feature = self.feature_loss(images, fake)
        found = self._learn(batch_size, pixel_loss=pixel, kl=kl, feature_loss=feature)
        return {**found, "disc_loss": disc_loss}


class BothStep(FeatureStep):
    """Features and adversarial loss; the latter, also on samples, teaches the decoder alone.

    After algorithm 1 of Larsen et al., arXiv 1512.09300, but the pixel loss is kept, and the
    adversarial loss does not saturate.
    """

    def vae_losses(self, images, noise=None, prior=None):
        """Pixel loss, KL, reconstructions, the same cut off from the encoder, and samples."""
        F = namespace(images)
        mean, log_var = self.vae.encode(images)
        latents = self.vae.reparameterize(mean, log_var, noise)
        prior = F.random.normal_like(mean) if prior is None else prior
        parts, shape = (latents, F.BlockGrad(latents), prior), (-1, *self.vae.image_shape)
        if type(self.vae).decode is VAE.decode:
            decoded = [each.reshape(shape) for each in apart(self.vae.decoder, *parts)]
        else:  # one's own, which takes all at once
            decoded = self.vae.decode(F.concat(*parts, dim=0)).split(3, axis=0)
        pixel, kl = self.pixel_loss(decoded[0], images), losses.kl_divergence(mean, log_var)
        return (pixel, kl, *map(losses.sigmoid, decoded))

    def update(self, images, batch_size, *noise):
        """Learn from one minibatch; see :meth:`FeatureStep.update`."""
        with autograd.record():
            pixel, kl, fake, again, sample = self.vae_losses(images, *noise)
        disc_loss = self._learn_to_tell(batch_size, images, again, sample)
        with autograd.record():
            feature = self.feature_loss(images, fake)
            adversarial = self.adversarial_loss(again, sample)
        learned = dict(adversarial_loss=adversarial, feature_loss=feature)
        found = self._learn(batch_size, pixel_loss=pixel, kl=kl, **learned)
        return {**found, "disc_loss": disc_loss}


def _mean(parts):
    """The mean of one or two losses."""
    return parts[0] if len(parts) == 1 else (parts[0] + parts[1]) * 0.5
