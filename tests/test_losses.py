"""Each loss against values worked out by hand."""

import math

import mxnet as mx
import numpy as np
import pytest
from d2lvae import losses
from mxnet import autograd

LOG2 = math.log(2)


def as_images(*rows):
    return mx.nd.array(np.array(rows, np.float32).reshape(len(rows), 1, 2, 2))


def test_bce_by_hand():
    logits = as_images([0, 0, 0, 0], [math.log(3), -math.log(3), math.log(3), -math.log(3)])
    images = as_images([0, 1, 0.5, 1], [1, 0, 0, 1])
    # sigmoid(log 3) = 3/4: a right answer costs log(4/3), a wrong one log 4; sums, not means
    expected = [4 * LOG2, 2 * math.log(4 / 3) + 2 * math.log(4)]
    np.testing.assert_allclose(losses.bce(logits, images).asnumpy(), expected, rtol=1e-6)


def test_bce_goes_on_where_a_sigmoid_saturates():
    logits, images = as_images([200, -200, 30, -30]), as_images([0, 1, 1, 0])
    np.testing.assert_allclose(losses.bce(logits, images).asnumpy(), [400], rtol=1e-6)


def test_bce_over_many_logits():
    logits = np.linspace(-60, 60, 4001).astype(np.float32).reshape(4001, 1, 1, 1)
    for intensity in (0, 0.3, 1):
        found = losses.bce(mx.nd.array(logits), mx.nd.full(logits.shape, intensity)).asnumpy()
        exact = (
            np.logaddexp(0, logits.astype(float)).ravel() - intensity * logits.astype(float).ravel()
        )
        np.testing.assert_allclose(found, exact, atol=1e-5, rtol=1e-5)


def test_bce_gradient_is_sigmoid_minus_image():
    logits, images = as_images([0, math.log(3), 50, -50]), as_images([1, 0, 0, 1])
    logits.attach_grad()
    with autograd.record():
        loss = losses.bce(logits, images)
    loss.backward()
    np.testing.assert_allclose(logits.grad.asnumpy().ravel(), [-0.5, 0.75, 1, -1], atol=1e-5)


def test_l2_is_the_sum_of_squares_without_a_half():
    logits = as_images([0, 0, 0, 0], [math.log(3)] * 4)
    images = as_images([0, 1, 0.5, 1], [1, 1, 0, 0.75])
    expected = [3 * 0.25, 2 * 0.0625 + 0.5625]
    np.testing.assert_allclose(losses.l2(logits, images).asnumpy(), expected, rtol=1e-6)


def test_kl_by_hand():
    mean = mx.nd.array([[0, 0], [1, -2], [0, 0]])
    log_var = mx.nd.array([[0, 0], [0, 0], [math.log(4), -math.log(4)]])
    expected = [0, 0.5 * (1 + 4), 0.5 * (4 + 0.25 - 2)]
    np.testing.assert_allclose(
        losses.kl_divergence(mean, log_var).asnumpy(), expected, rtol=1e-6, atol=1e-7
    )


def test_kl_agrees_with_the_integral():
    mean, log_var = 0.7, -0.9
    z, step = np.linspace(-12, 12, 200_001, retstep=True)
    log_q = -0.5 * ((z - mean) ** 2 / math.exp(log_var) + log_var + math.log(2 * math.pi))
    log_p = -0.5 * (z**2 + math.log(2 * math.pi))
    integral = (np.exp(log_q) * (log_q - log_p)).sum() * step
    found = losses.kl_divergence(mx.nd.array([[mean]]), mx.nd.array([[log_var]])).asscalar()
    assert found == pytest.approx(integral, rel=1e-5)


def test_adversarial_by_hand():
    logits = mx.nd.array([0, math.log(3), -math.log(3), 100, -100])
    real = [LOG2, math.log(4 / 3), math.log(4), 0, 100]
    fake = [LOG2, math.log(4), math.log(4 / 3), 100, 0]
    np.testing.assert_allclose(
        losses.adversarial(logits, True).asnumpy(), real, rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(
        losses.adversarial(logits, False).asnumpy(), fake, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", sorted(losses.PIXEL_LOSSES))
def test_pixel_losses_give_one_number_an_image(name):
    logits, images = (
        mx.nd.random.normal(shape=(5, 3, 4, 6)),
        mx.nd.random.uniform(shape=(5, 3, 4, 6)),
    )
    whole = losses.PIXEL_LOSSES[name](logits, images)
    assert whole.shape == (5,)
    halves = sum(
        losses.PIXEL_LOSSES[name](logits[:, :, i : i + 2], images[:, :, i : i + 2]) for i in (0, 2)
    )
    np.testing.assert_allclose(whole.asnumpy(), halves.asnumpy(), rtol=1e-5)
