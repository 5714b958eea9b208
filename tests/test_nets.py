"""VAEs and discriminators: shapes, gradients, and the one interface."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

import d2lvae
from d2lvae import training
from d2lvae.checkpoints import net_arrays


def made(net, seed=0):
    training.initialize(net, seed)
    return net


@pytest.fixture
def images():
    mx.random.seed(1)
    return mx.nd.random.uniform(shape=(6, 1, 28, 28))


def test_dense_vae_has_the_seeds_sizes(images):
    vae = made(d2lvae.DenseVAE())
    mean, log_var = vae.encode(images)
    assert mean.shape == log_var.shape == (6, 5)
    z = vae.reparameterize(mean, log_var)
    assert z.shape == (6, 5)
    assert vae.decode(z).shape == (6, 1, 28, 28)
    sizes = [array.size for name, array in net_arrays(vae).items()]
    encoder = 784 * 400 + 400 + 2 * (400 * 400 + 400) + 400 * 10 + 10
    decoder = 5 * 400 + 400 + 2 * (400 * 400 + 400) + 400 * 784 + 784
    assert sum(sizes) == encoder + decoder


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 12)])
def test_any_image_shape(shape):
    vae = made(d2lvae.DenseVAE(4, 2, 16, shape))
    disc = made(d2lvae.DenseLogReg(1, 8, shape))
    images = mx.nd.random.uniform(shape=(3,) + shape)
    assert vae.reconstruct(images).shape == images.shape
    assert disc(images).shape == (3,)


def test_latents_have_no_activation_on_them(images):
    mean, log_var = made(d2lvae.DenseVAE()).encode(images)
    assert mean.min().asscalar() < 0 < mean.max().asscalar()
    assert log_var.min().asscalar() < 0 < log_var.max().asscalar()


def test_decoder_gives_logits_and_pictures_are_their_sigmoid(images):
    vae = made(d2lvae.DenseVAE())
    mean, _ = vae.encode(images)
    logits = vae.decode(mean)
    assert logits.min().asscalar() < 0
    np.testing.assert_allclose(vae.reconstruct(images).asnumpy(), 1 / (1 + np.exp(-logits.asnumpy())), rtol=1e-5)


def test_reconstruct_has_no_noise_and_forward_has(images):
    vae = made(d2lvae.DenseVAE())
    assert (vae.reconstruct(images) == vae.reconstruct(images)).min().asscalar() == 1
    assert np.abs((vae(images)[0] - vae(images)[0]).asnumpy()).max() > 0


def test_reparameterize_draws_from_the_gaussian_asked_for():
    mx.random.seed(3)
    vae = d2lvae.DenseVAE()
    mean = mx.nd.ones((200_000, 1)) * 2
    z = vae.reparameterize(mean, mx.nd.ones_like(mean) * np.log(9)).asnumpy()
    assert z.mean() == pytest.approx(2, abs=.03)
    assert z.std() == pytest.approx(3, abs=.03)


def test_reparameterize_has_gradients_to_mean_and_log_var():
    mean, log_var = mx.nd.zeros((1000, 1)), mx.nd.zeros((1000, 1))
    mean.attach_grad(), log_var.attach_grad()
    with autograd.record():
        z = d2lvae.DenseVAE().reparameterize(mean, log_var)
    z.backward()
    np.testing.assert_allclose(mean.grad.asnumpy(), 1)
    np.testing.assert_allclose(log_var.grad.asnumpy(), z.asnumpy() / 2, rtol=1e-5)


def test_interpolation_begins_and_ends_at_the_reconstructions(images):
    vae = made(d2lvae.DenseVAE())
    walk = vae.interpolate(images[:1], images[1:2], 5)
    assert walk.shape == (5, 1, 28, 28)
    ends = vae.reconstruct(images[:2]).asnumpy()
    np.testing.assert_allclose(walk[0].asnumpy(), ends[0], rtol=1e-4)
    np.testing.assert_allclose(walk[4].asnumpy(), ends[1], rtol=1e-4)


def test_samples_come_from_the_prior_and_follow_the_seed():
    vae = made(d2lvae.DenseVAE())
    mx.random.seed(5)
    first = vae.sample(7).asnumpy()
    assert first.shape == (7, 1, 28, 28) and 0 <= first.min() < first.max() <= 1
    mx.random.seed(5)
    z = mx.nd.random.normal(shape=(7, 5))
    np.testing.assert_array_equal(first, vae.decode(z).sigmoid().asnumpy())


@pytest.mark.parametrize("net", [d2lvae.DenseVAE, d2lvae.DenseLogReg])
def test_every_parameter_gets_a_gradient(net, images):
    net = made(net())
    with autograd.record():
        out = net(images)
        total = sum(o.sum() for o in out) if isinstance(out, (list, tuple)) else out.sum()
    total.backward()
    for name, parameter in net.collect_params().items():
        assert np.abs(parameter.grad().asnumpy()).max() > 0, name


def test_initialization_depends_on_the_seed_alone():
    first, same, other = (net_arrays(made(d2lvae.DenseVAE(), seed)) for seed in (4, 4, 5))
    assert first.keys() == same.keys()
    assert all((first[name] == same[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


@pytest.mark.parametrize("net", [d2lvae.DenseVAE(3, 2, 16, (3, 6, 4)), d2lvae.DenseLogReg(2, 8, (3, 6, 4))])
def test_saved_and_loaded_without_knowing_the_class(net, tmp_path):
    made(net)
    d2lvae.save_net(tmp_path / "net.npz", net)
    loaded = d2lvae.load_net(tmp_path / "net.npz")
    assert type(loaded) is type(net) and loaded.config == net.config
    images = mx.nd.random.uniform(shape=(2, 3, 6, 4))
    before = net.reconstruct(images) if hasattr(net, "reconstruct") else net(images)
    after = loaded.reconstruct(images) if hasattr(net, "reconstruct") else loaded(images)
    np.testing.assert_array_equal(before.asnumpy(), after.asnumpy())
