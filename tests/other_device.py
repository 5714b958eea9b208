"""A stand-in for a GPU, which no machine of ours has: a second device, apart from the first.

MXNet has as many CPU devices as one asks for, and its operators take arrays of two of them at once.
With a GPU they do not; so they do not here.
"""

import d2lvae  # noqa: F401, before mxnet: it sets MXNet's threads
import mxnet as mx
from d2l import mxnet as d2l
from mxnet.ndarray import register

DEVICE = mx.cpu(1)


def use(set_attribute=setattr):
    """From now on `d2l.try_gpu` gives DEVICE, and operators refuse arrays of two devices."""
    invoke = register._imperative_invoke

    def invoke_on_one_device(handle, arrays, *others):
        devices = {str(array.context) for array in arrays if array is not None}
        if len(devices) > 1:
            raise mx.MXNetError(f"arrays of one operator are on {' and '.join(sorted(devices))}")
        return invoke(handle, arrays, *others)

    set_attribute(register, "_imperative_invoke", invoke_on_one_device)
    set_attribute(d2l, "try_gpu", lambda: DEVICE)
