"""Variational autoencoders whose pixel-by-pixel loss is joined by a learned one, in MXNet/Gluon."""
__version__ = "0.1.0"  # before the imports: runs.py records it

from . import runtime

runtime.set_threads()  # before anything imports mxnet
import mxnet

with runtime.denormals_as_zero():
    mxnet.nd.zeros(1).wait_to_read()  # starts the engine's threads

from .checkpoints import load_net, save_net
from .datasets import ImageSet, load_digits
from .discriminators import DenseLogReg
from .parameters import check_parameters
from .runs import fit
from .vae import VAE, DenseVAE

__all__ = ["DenseLogReg", "DenseVAE", "ImageSet", "VAE", "check_parameters", "fit", "load_digits",
           "load_net", "save_net"]
