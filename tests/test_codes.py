"""Where codes lie: the aggregated posterior's moments, kept with the net, and samples from there."""

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae.storage import codes
from d2lvae.storage.errors import CheckpointError
from d2lvae.storage.files import read_arrays, write_arrays
from helpers import fit


@pytest.fixture
def vae(small_vae):
    net = small_vae()
    d2lvae.initialize(net, 0)
    return net


def test_the_moments_are_those_of_drawn_codes(vae, tiny):
    found = d2lvae.fit_codes(vae, tiny.train)
    assert found is vae.codes and found.covariance.shape == (3, 3)
    X = mx.nd.array(tiny.train).astype("float32") / 255
    mean, log_var = vae.encode(X)
    drawn = np.concatenate([vae.reparameterize(mean, log_var).asnumpy() for _ in range(500)])
    np.testing.assert_allclose(found.mean, mean.asnumpy().mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.covariance, np.cov(drawn.T), atol=0.03)
    assert np.linalg.eigvalsh(found.covariance - np.cov(mean.asnumpy().T)).min() > 0.1  # the noise


def test_draws_have_the_mean_and_the_covariance(vae):
    half = np.array([[2, 0, 0], [1, 1, 0], [0, 3, 0.0]], np.float32)  # rank 2: also a flat Gaussian
    vae.codes = codes.Codes(np.array([1, 2, 3], np.float32), half @ half.T)
    mx.random.seed(3)
    found = codes.draw(vae, mx.nd.random.normal(shape=(100_000, 3))).asnumpy()
    np.testing.assert_allclose(found.mean(axis=0), [1, 2, 3], atol=0.05)
    np.testing.assert_allclose(np.cov(found.T), half @ half.T, atol=0.15)


def test_sample_draws_from_either(vae, tiny):
    d2lvae.fit_codes(vae, tiny.train)
    mx.random.seed(5)
    noise = mx.nd.random.normal(shape=(7, 3))
    for from_codes, latents in ((False, noise), (True, codes.draw(vae, noise))):
        mx.random.seed(5)
        found = vae.sample(7, from_codes=from_codes).asnumpy()
        np.testing.assert_array_equal(found, vae.decode(latents).sigmoid().asnumpy())
    prior, own = codes.samples(vae, 70, seed=2).values()
    assert prior.shape == own.shape == (70, 1, 28, 28) and prior.dtype == np.uint8
    assert (prior != own).any()
    noise = np.random.default_rng(2).standard_normal((70, 3), np.float32)[64:]
    last = vae.decode(codes.draw(vae, mx.nd.array(noise))).sigmoid().asnumpy() * 255
    np.testing.assert_allclose(own[64:], last, atol=0.51)


def test_fit_leaves_them_in_the_file(config, tiny, small_vae):
    run = fit(small_vae(), tiny, config)
    loaded, again = d2lvae.load_net(run.folder / "vae.npz"), run.vae.codes
    for one, other in zip(loaded.codes, again):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.mean, d2lvae.fit_codes(loaded, tiny.train).mean)
    assert (run.folder / "samples.png").exists()


def test_a_net_of_0_1_0_has_none_and_says_so(config, tiny, small_vae):
    run = fit(small_vae(), tiny, config)
    path = run.folder / "vae.npz"
    arrays, record = read_arrays(path)
    old = {name: array for name, array in arrays.items() if name not in codes.NAMES}
    assert len(old) == len(arrays) - 2
    write_arrays(path, old, record)
    net = d2lvae.load_net(path)
    assert net.codes is None and net.sample(2).shape == (2, 1, 28, 28)
    assert list(codes.samples(net, 2)) == ["from the prior"]
    with pytest.raises(ValueError, match=r"0\.1\.0 has saved it\. d2lvae\.fit_codes\(vae, images"):
        net.sample(2, from_codes=True)


@pytest.mark.parametrize(
    "spoilt, message",
    [
        (None, r"codes_covariance should have shape \(3, 3\) of float32, found nothing"),
        (np.ones((2, 2), np.float32), r"vae\.npz: codes_covariance should have shape .* \(2, 2\)"),
        (np.full((3, 3), np.nan, np.float32), "not all numbers in codes_covariance are finite"),
    ],
)
def test_what_cannot_be_codes_is_refused(config, tiny, small_vae, spoilt, message):
    path = fit(small_vae(), tiny, config).folder / "vae.npz"
    arrays, record = read_arrays(path)
    arrays["codes_covariance"] = spoilt
    write_arrays(path, {k: v for k, v in arrays.items() if v is not None}, record)
    with pytest.raises(CheckpointError, match=message):
        d2lvae.load_net(path)


def test_codes_go_with_the_weights(vae, tiny):
    d2lvae.fit_codes(vae, tiny.train)
    d2lvae.initialize(vae, 1)
    assert vae.codes is None
