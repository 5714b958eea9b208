"""Discriminators: images in, one logit per image out; above 0 means "real".

Each also shows what one of its hidden layers makes of images (`features`), where the learned
similarity metric of Larsen et al. (arXiv 1512.09300) compares them.
"""

import mxnet as mx
from mxnet.gluon import nn

from .engine.layers import Dense, dense_layers, num_halvings
from .engine.model_zoo import resnet
from .storage.nets import Net


class Discriminator(Net):
    """What all discriminators share.

    One of one's own calls ``super().__init__(image_shape, **sizes)``; `sizes` are all other
    arguments that it was made with, by name.  It sets `body`, or has a `hybrid_forward` of its own
    from images (N, C, H, W) in [0, 1] to logits (N,).  For `learned_loss` 'features' or 'both' it
    has a method `features` as well.  Its class must be defined before :func:`d2lvae.load_net` can
    load it.

    Parameters
    ----------
    image_shape : tuple of int, (C, H, W)
    **sizes
        What else a subclass is made with; `config` records it (:class:`d2lvae.storage.nets.Net`).

    Attributes
    ----------
    body : HybridBlock
        (N, C, H, W) images to one number each.
    """

    def hybrid_forward(self, F, images):
        """Images (N, C, H, W) in [0, 1] -> logits (N,)."""
        return self.body(images).reshape((-1,))


class DenseLogReg(Discriminator):
    """Logistic regression on dense hidden layers: the original's "dense logistic regressor".

    Parameters
    ----------
    num_layers : int
        Hidden layers with ReLU; 1 in the original's experiments.
    num_hiddens : int
        Their width; 200 on MNIST, 1024 on faces.
    image_shape : tuple of int, (C, H, W)
    """

    def __init__(self, num_layers=1, num_hiddens=200, image_shape=(1, 28, 28), **kwargs):
        super().__init__(image_shape, num_layers=num_layers, num_hiddens=num_hiddens, **kwargs)
        channels, height, width = self.image_shape
        with self.name_scope():
            self.body = dense_layers(num_layers, num_hiddens, channels * height * width, 1)

    def features(self, images):
        """Images (N, C, H, W) in [0, 1] -> the last hidden layer, (N, num_hiddens).

        Without hidden layers these are the images themselves.
        """
        return self.body[:-1](images)


class ConvDisc(Discriminator):
    """Strided convolutions with LeakyReLU, as in DCGAN: the original's convolutional discriminator.

    Each convolution (4 x 4, stride 2) halves the image and doubles the channels, from
    `base_channels` on.  It has LeakyReLU of slope 0.2, and all but the first have BatchNorm.  The
    4 x 4 that are left go to one logit.

    Parameters
    ----------
    base_channels : int
        Channels after the first convolution; 16 by the original's README.
    image_shape : tuple of int, (C, H, W) with H = W = 32, 64 or 128

    Raises
    ------
    ValueError
        Images of another size.

    References
    ----------
    Radford, Metz and Chintala, arXiv 1511.06434.
    """

    def __init__(self, base_channels=16, image_shape=(3, 64, 64), **kwargs):
        super().__init__(image_shape, base_channels=base_channels, **kwargs)
        widths = [base_channels * 2**i for i in range(num_halvings(image_shape))]
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            for narrow, wide in zip([self.image_shape[0], *widths], widths):
                first = wide == base_channels
                self.body.add(nn.Conv2D(wide, 4, 2, 1, use_bias=first, in_channels=narrow))
                if not first:
                    self.body.add(nn.BatchNorm(in_channels=wide))
                self.body.add(nn.LeakyReLU(0.2))
            self.body.add(Dense(1, in_units=16 * widths[-1]))

    def features(self, images):
        """Images (N, C, H, W) in [0, 1] -> (N, 2 base_channels, H/4, W/4), by two convolutions."""
        return self.body[:5](images)


class ResNetDisc(Discriminator):
    """A ResNet of gluoncv's with one output and new weights: the original's "ResNet".

    Parameters
    ----------
    name : str
        One of :data:`d2lvae.engine.model_zoo.RESNETS`, such as 'resnet18_v1' (11.2 million weights)
        or 'cifar_resnet20_v1' (0.3 million).
    image_shape : tuple of int, (C, H, W), at least 32 x 32

    Raises
    ------
    ValueError
        A name that gluoncv does not have.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385.
    """

    def __init__(self, name="resnet18_v1", image_shape=(3, 64, 64), **kwargs):
        super().__init__(image_shape, name=name, **kwargs)
        with self.name_scope():
            self.body = resnet(name, num_outputs=1)
        self.infer_shape(mx.nd.zeros((1, *self.image_shape)))  # its layers' input widths

    def features(self, images):
        """Images (N, C, H, W) in [0, 1] -> its first stage; of ResNet-18 (N, 64, H/4, W/4)."""
        layers = list(getattr(self.body, "features", self.body)._children.values())
        for layer in layers:
            images = layer(images)
            if isinstance(layer, nn.HybridSequential):
                return images
