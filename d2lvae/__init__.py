"""Variational autoencoders whose pixel-by-pixel loss is joined by a learned one, in MXNet/Gluon."""

__version__ = "0.2.0"  # before the imports: runs.py records it

import os

from .engine import threads
from .storage import paths

paths.check_clone()
threads.settle()  # before anything imports mxnet
if os.environ.get("DMLC_ROLE", "worker") not in ("", "worker"):
    from .distributed.cluster import serve

    serve()  # or mxnet would, at its import, without a word
import mxnet

with threads.engine_unannounced():
    mxnet.nd.zeros(1).wait_to_read()  # starts the engine

from .storage.codes import fit_codes
from .storage.nets import load_net, save_net
from .config import Config, ParameterError
from .data import DataError, ImageSet, load_digits, load_faces
from .discriminators import ConvDisc, DenseLogReg, Discriminator, ResNetDisc
from .storage.errors import CheckpointError, DistributedError, RunError
from .evaluation.quality import check_learning, evaluate
from .runs import fit
from .storage.weights import initialize
from .vae import VAE, ConvVAE, DenseVAE

__all__ = ["Config", "ConvDisc", "ConvVAE", "DenseLogReg", "DenseVAE", "Discriminator", "ImageSet"]
__all__ += ["CheckpointError", "DataError", "DistributedError", "ParameterError", "RunError"]
__all__ += ["ResNetDisc", "VAE", "check_learning", "evaluate", "fit", "fit_codes"]
__all__ += ["initialize", "load_digits", "load_faces", "load_net", "save_net"]
