"""Variational autoencoders with one interface, as Gluon HybridBlocks.

Every VAE is an encoder and a decoder, two blocks of its own making; all that is done with them
(reparameterize, reconstruct, sample, interpolate) is written once, in :class:`VAE`.
"""

import mxnet as mx
from mxnet.gluon import nn

from .engine.layers import UPSAMPLING, Dense, dense_layers, num_halvings
from .engine.operators import check_unit_range, namespace
from .storage import codes
from .storage.nets import Net


class VAE(Net):
    """What all variational autoencoders share; a subclass sets `encoder` and `decoder`.

    One of one's own calls ``super().__init__(num_latents, image_shape, **sizes)``, where `sizes`
    are all other arguments that it was made with, by name (numbers, texts, or lists of them), and
    sets the two within ``self.name_scope()``.  Then it is trained, resumed, loaded and exported as
    the package's own are.  Its class must be defined before :func:`d2lvae.load_net` can load it.

    Parameters
    ----------
    num_latents : int
        The number L of latents.
    image_shape : tuple of int, (C, H, W)
    **sizes
        What else a subclass is made with; `config` records it (:class:`d2lvae.storage.nets.Net`).

    Attributes
    ----------
    encoder : HybridBlock
        (N, C, H, W) images to (N, 2L): means, then log-variances, with no activation on them.
    decoder : HybridBlock
        (N, L) latents to logits with C*H*W numbers an image, in any shape.

    References
    ----------
    Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114.
    """

    def __init__(self, num_latents, image_shape, **sizes):
        super().__init__(image_shape, num_latents=num_latents, **sizes)
        self.num_latents = num_latents

    def encode(self, images):
        """Images (N, C, H, W) in [0, 1] -> mean and log-variance of their latents, (N, L) each.

        Raises
        ------
        ValueError
            Intensities that are not floats in [0, 1], such as uint8 or 0 to 255.
        """
        codes = self.encoder(check_unit_range(images)).reshape((0, -1))
        return codes.split(num_outputs=2, axis=1)

    def reparameterize(self, mean, log_var, noise=None):
        """Draw latents (N, L) from N(mean, exp(log_var)), with a gradient to both.

        The noise (N, L), standard normal, is drawn anew if none is given.
        """
        if noise is None:
            noise = namespace(mean).random.normal_like(mean)
        return mean + (log_var * 0.5).exp() * noise

    def decode(self, latents):
        """Latents (N, L) -> logits (N, C, H, W); their sigmoid is the image."""
        return self.decoder(latents).reshape((-1,) + self.image_shape)

    def hybrid_forward(self, F, images):
        """Images (N, C, H, W) -> logits (N, C, H, W), mean (N, L), log-variance (N, L)."""
        mean, log_var = self.encode(images)
        return self.decode(self.reparameterize(mean, log_var)), mean, log_var

    def reconstruct(self, images):
        """Images (N, C, H, W) -> the images decoded from their means, in [0, 1]; no noise."""
        mean, _ = self.encode(images)
        return self.decode(mean).sigmoid()

    def sample(self, num_images, *, from_codes=False):
        """Decode draws from the prior N(0, 1): (num_images, C, H, W) in [0, 1].

        Or from where the codes of training images lie, a Gaussian (:mod:`d2lvae.storage.codes`).
        MXNet's random numbers begin alike in every process: `mx.random.seed` gives others.
        """
        latents = mx.nd.random.normal(shape=(num_images, self.num_latents), ctx=self.ctx)
        return self.decode(codes.draw(self, latents) if from_codes else latents).sigmoid()

    def interpolate(self, start, end, num_steps=10):
        """Two images (1, C, H, W) -> (num_steps, C, H, W) in [0, 1], from one to the other.

        Decoded from points on the straight line between the two means, both ends included.
        ValueError for more images than one at an end.
        """
        if len(start) != 1 or len(end) != 1:
            raise ValueError(f"give one image at each end; found {len(start)} and {len(end)}")
        (start, _), (end, _) = self.encode(start), self.encode(end)
        share = mx.nd.linspace(0, 1, num_steps, ctx=start.context).reshape((-1, 1))
        return self.decode(start * (1 - share) + end * share).sigmoid()


class DenseVAE(VAE):
    """Dense layers all the way, with ReLU between them: the original's "Dense VAE".

    Parameters
    ----------
    num_latents : int
        L; 5 on MNIST, 512 on faces.
    num_layers : int
        Hidden layers in the encoder, and again in the decoder; 3 on MNIST, 5 on faces.
    num_hiddens : int
        Their width; 400 on MNIST, 1024 on faces.
    image_shape : tuple of int, (C, H, W)
    """

    def __init__(
        self, num_latents=5, num_layers=3, num_hiddens=400, image_shape=(1, 28, 28), **kwargs
    ):
        super().__init__(
            num_latents, image_shape, num_layers=num_layers, num_hiddens=num_hiddens, **kwargs
        )
        channels, height, width = self.image_shape
        num_pixels = channels * height * width
        with self.name_scope():
            self.encoder = dense_layers(num_layers, num_hiddens, num_pixels, 2 * num_latents)
            self.decoder = dense_layers(num_layers, num_hiddens, num_latents, num_pixels)


class ConvVAE(VAE):
    """Convolutions all the way, as in DCGAN: strided ones and back transposed ones.

    Each of the encoder's convolutions (4 x 4, stride 2) halves the image and doubles the channels,
    from `base_channels` on, with BatchNorm and ReLU.  From the 4 x 4 that are left a dense layer
    gives 2L numbers, with neither on them.  The decoder goes the same way back.  At the size of
    64 x 64, 512 latents and 32 base channels that makes 7.7 million weights.

    Parameters
    ----------
    num_latents : int
        L; 512 or, against a discriminator, 256 by the original's README.
    base_channels : int
        Channels of the largest hidden layers; 32 or 16.
    image_shape : tuple of int, (C, H, W) with H = W = 32, 64 or 128
    upsampling : str
        'transposed', as in the original, or 'resize': the decoder doubles by
        :class:`d2lvae.engine.layers.ResizeConv`, which draws no checkerboard by itself.

    Raises
    ------
    ValueError
        Images of another size, or another word for `upsampling`.

    References
    ----------
    Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", arXiv 1511.06434.
    """

    def __init__(
        self,
        num_latents=512,
        base_channels=32,
        image_shape=(3, 64, 64),
        upsampling="transposed",
        **kwargs,
    ):
        if upsampling not in ("transposed", "resize"):
            raise ValueError(f"upsampling must be 'transposed' or 'resize'; found {upsampling!r}")
        if upsampling != "transposed":  # recorded where it is not the original's
            kwargs = {"upsampling": upsampling, **kwargs}
        super().__init__(num_latents, image_shape, base_channels=base_channels, **kwargs)
        widths = [base_channels * 2**i for i in range(num_halvings(image_shape))]
        channels = [self.image_shape[0], *widths]
        with self.name_scope():
            self.encoder = nn.HybridSequential(prefix="")
            for narrow, wide in zip(channels, widths):
                self.encoder.add(nn.Conv2D(wide, 4, 2, 1, use_bias=False, in_channels=narrow))
                self.encoder.add(nn.BatchNorm(in_channels=wide), nn.Activation("relu"))
            self.encoder.add(Dense(2 * num_latents, in_units=16 * widths[-1]))
            self.decoder = nn.HybridSequential(prefix="")
            self.decoder.add(
                nn.HybridLambda(lambda F, z: z.reshape((0, 0, 1, 1))),
                nn.Conv2DTranspose(widths[-1], 4, 1, 0, use_bias=False, in_channels=num_latents),
            )
            for wide, narrow in zip(widths[::-1], channels[-2::-1]):
                double = UPSAMPLING[upsampling]
                self.decoder.add(nn.BatchNorm(in_channels=wide), nn.Activation("relu"))
                self.decoder.add(double(narrow, in_channels=wide, use_bias=narrow == channels[0]))
