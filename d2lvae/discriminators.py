"""Discriminators: pictures in, one logit an image out; above 0 means "real"."""
import mxnet as mx
from mxnet.gluon import nn

__all__ = ["DenseLogReg"]


class DenseLogReg(mx.gluon.HybridBlock):
    """Logistic regression on dense hidden layers: the original project's "dense logistic regressor".

    Parameters
    ----------
    num_layers : int
        Hidden layers with ReLU; 1 in the original's experiments.
    num_hiddens : int
        Their width; 200 on MNIST, 1024 on faces.
    image_shape : tuple of int
        (C, H, W) of the pictures.

    Attributes
    ----------
    config : dict
        What :func:`d2lvae.checkpoints.build` needs to make the same net again.
    """

    def __init__(self, num_layers=1, num_hiddens=200, image_shape=(1, 28, 28), **kwargs):
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        self.config = {"net": "DenseLogReg", "num_layers": num_layers, "num_hiddens": num_hiddens,
                       "image_shape": list(self.image_shape)}
        channels, height, width = self.image_shape
        in_units = channels * height * width
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            for _ in range(num_layers):
                self.body.add(nn.Dense(num_hiddens, activation="relu", in_units=in_units))
                in_units = num_hiddens
            self.body.add(nn.Dense(1, in_units=in_units))

    def hybrid_forward(self, F, images):
        """Pictures (N, C, H, W) in [0, 1] -> logits (N,)."""
        return self.body(images).reshape((-1,))
