"""Adam, in one pass over the memory."""

import math

import mxnet as mx
import numba
import numpy as np

from .layers import projected_layers
from .operators import flat_view, on_cpu

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
NOTHING = np.float32(1e-30)  # of smaller moments even the root is far below EPSILON


@numba.njit(parallel=True, fastmath={"contract", "arcp"}, error_model="numpy")
def _adam(weight, gradient, mean, var, scale, lr, beta1, beta2, epsilon):
    """One update in place; every argument float32, so that the loop becomes vector instructions.

    All of fastmath would be no faster and less exact: three digits of `var` would cancel.

    A unit that is dead, because its ReLU is 0 for every image, has no gradient: its moments fade.
    Below 1e-38 float32 has only denormal numbers, with which processors are many times slower, and
    0.9 of the smallest is rounded up to itself.  So they are set to 0 before that.
    """
    zero, one = np.float32(0), np.float32(1)
    for i in numba.prange(weight.size):
        g = gradient[i] * scale
        m = beta1 * mean[i] + (one - beta1) * g
        v = beta2 * var[i] + (one - beta2) * g * g
        mean[i] = zero if abs(m) < NOTHING else m  # a NaN stays one
        var[i] = zero if v < NOTHING else v
        weight[i] -= lr * mean[i] / (np.sqrt(var[i]) + epsilon)


def _check(parameter, gradient):
    """TypeError for a parameter with what this Adam does not know."""
    for what, found, known in (
        ("dtype", np.dtype(gradient.dtype).name, "float32"),
        ("stype", gradient.stype, "default"),
        ("grad_req", parameter.grad_req, "write"),
        ("lr_mult", parameter.lr_mult, 1.0),
    ):
        if found != known:
            raise TypeError(
                f"{parameter.name} has {what} {found!r}; Adam is for {known!r} alone: leave it so"
            )


class Adam:
    """Adam over a net's parameters, with its state in sight so that it can be saved and restored.

    On the CPU each parameter is updated in one pass over its weights, gradients and moments, by all
    threads if MXNet computes in the thread that calls it (see `threads`), else by one.  MXNet's own
    Adam, used on GPUs, takes several passes.

    Parameters
    ----------
    net : HybridBlock
        Initialised.
    lr : float
        Learning rate.
    allreduce : callable, optional
        Replaces a list of gradients by their sums over several workers.

    Raises
    ------
    TypeError
        Parameters that are not float32, have sparse gradients, a `grad_req` 'add' or a rate of
        their own; or all are frozen.
    RuntimeError
        From `step`, if the net has been initialised anew meanwhile, so that its weights are others.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980.
    """

    def __init__(self, net, lr, allreduce=None):
        self.net, self.lr, self.allreduce = net, lr, allreduce
        self.parameters = {
            name[len(net.prefix) :]: p
            for name, p in net.collect_params().items()
            if p.grad_req != "null"
        }
        if not self.parameters:
            raise TypeError(f"all weights of {net.name} are frozen: nothing is left to learn")
        self.weights = [p.data() for p in self.parameters.values()]
        self.gradients = [p.grad() for p in self.parameters.values()]
        for parameter, gradient in zip(self.parameters.values(), self.gradients):
            _check(parameter, gradient)
        self.projected_layers = projected_layers(net)
        self.ctx = self.weights[0].context
        self.on_cpu = on_cpu(self.weights[0])
        self.set_state({}, 0)

    def step(self, batch_size):
        """Update with the gradients of a loss summed over `batch_size` images."""
        if next(iter(self.parameters.values())).data() is not self.weights[0]:
            raise RuntimeError(
                f"{self.net.name} has been initialised anew since this optimiser was made: "
                "make a new training step as well"
            )
        if self.allreduce is not None:
            self.allreduce(self.gradients)
        self.steps += 1
        update = self._step_on_cpu if self.on_cpu else self._step_elsewhere
        update(batch_size)
        for layer in self.projected_layers:
            layer.project()

    def _step_on_cpu(self, batch_size):
        mx.nd.waitall()  # nobody else may read or lay out the weights meanwhile
        lr = self.lr * math.sqrt(1 - BETA2**self.steps) / (1 - BETA1**self.steps)
        numbers = [np.float32(x) for x in (1 / batch_size, lr, BETA1, BETA2, EPSILON)]
        for weight, gradient, moments in zip(self.weights, self.gradients, self.moment_views):
            size = moments[0].size
            _adam(flat_view(weight, size), flat_view(gradient, size), *moments, *numbers)

    def _step_elsewhere(self, batch_size):
        self.rule.rescale_grad = 1 / batch_size
        self.rule.set_learning_rate(self.lr)
        for i, arrays in enumerate(zip(self.weights, self.gradients, self.moments)):
            self.rule.update(i, *arrays)

    def state(self):
        """The moments as numpy arrays, by 'mean/NAME' and 'var/NAME'."""
        return {
            f"{kind}/{name}": moment.asnumpy()
            for name, moments in zip(self.parameters, self.moments)
            for kind, moment in zip(("mean", "var"), moments)
        }

    def set_state(self, state, steps):
        """Go on from another's `state()` after its `steps`; an empty state is a new beginning."""
        self.steps = steps
        self.rule = mx.optimizer.Adam(self.lr, BETA1, BETA2, EPSILON, begin_num_update=steps)
        self.moments = [self.rule.create_state(i, weight) for i, weight in enumerate(self.weights)]
        for name, value in state.items():
            kind, parameter = name.split("/", 1)
            moments = self.moments[list(self.parameters).index(parameter)]
            moments[("mean", "var").index(kind)][:] = mx.nd.array(value)
        mx.nd.waitall()
        if self.on_cpu:
            self.moment_views = [[flat_view(each) for each in pair] for pair in self.moments]
