"""What MXNet computes slowly by itself, in its faster ways; and images as a net takes them."""

import ctypes
import functools

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.base import _LIB, check_call


def namespace(values):
    """The operators for NDArrays or for Symbols, whichever the values are."""
    return mx.nd if isinstance(values, mx.nd.NDArray) else mx.sym


def on_cpu(array):
    """Whether an NDArray is in the processor's own memory, where numpy and numba reach it."""
    return array.context.device_type == "cpu"


def sum_per_image(values):
    """(N, ...) -> (N,), as a product with ones: many times faster than MXNet's own sum."""
    F = namespace(values)
    values = values.reshape((0, -1))
    ones = F.ones_like(values.slice_axis(axis=0, begin=0, end=1))
    return F.FullyConnected(values, ones, no_bias=True, num_hidden=1).reshape((-1,))


def sigmoid(logits):
    """1 / (1 + exp(-x)), many times faster than MXNet's operator of that name."""
    return namespace(logits).Activation(logits, act_type="sigmoid")


def softplus(logits):
    """log(1 + exp(x)) in one pass, without overflow; its gradient is sigmoid(x) everywhere."""
    return namespace(logits).Activation(logits, act_type="softrelu")


def filled(like, value):
    """An NDArray of the shape of another one, on its device, with one number everywhere."""
    return _filled(like.shape, value, like.context)


@functools.lru_cache(maxsize=64)
def _filled(shape, value, ctx):
    return mx.nd.full(shape, value, ctx=ctx)


def unit_images(images, ctx):
    """uint8 images (N, C, H, W), a numpy array -> float32 ones in [0, 1], an NDArray.

    numpy divides: two operations in the engine would delay each step.  ValueError for others.
    """
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8, 0 to 255; found {images.dtype}")
    unit = mx.nd.empty(images.shape, mx.cpu())
    np.divide(images, np.float32(255), out=flat_view(unit).reshape(images.shape))
    return unit.as_in_context(ctx)


def flat_view(array, size=None):
    """The memory of a float32 NDArray on the CPU, wherever it is now, as a flat numpy array.

    Its numbers are in their usual order there, also if MXNet had changed it.  Nobody keeps the
    memory alive but the NDArray, and the engine must have finished with it.
    """
    pointer = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    return _memory(pointer.value, array.size if size is None else size)


@functools.lru_cache(maxsize=4096)
def _memory(address, size):
    return np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))


def check_unit_range(images):
    """The same images, if they are what a net takes; of Symbols nothing can be told.

    While a loss is recorded the values are not looked at, which would wait for the device.
    """
    found = "" if isinstance(images, mx.sym.Symbol) else _found(images)
    if found:
        raise ValueError(
            f"images must be float32 with intensities in [0, 1], an NDArray; found {found}. "
            "From uint8: mx.nd.array(images).astype('float32') / 255"
        )
    return images


def _found(images):
    """What an array is that is no float32 NDArray in [0, 1]; '' for one that is."""
    if not isinstance(images, mx.nd.NDArray):
        return f"{type(images).__module__}.{type(images).__name__}"
    kind = np.dtype(images.dtype).name
    if kind != "float32":
        return kind
    if not images.size or autograd.is_recording():
        return ""
    low, high = images.min().asscalar(), images.max().asscalar()
    return "" if -1e-3 <= low and high <= 1.001 else f"{kind} from {low:g} to {high:g}"
