"""VAEs and discriminators: shapes, gradients, and the one interface."""

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae.storage.errors import CheckpointError
from d2lvae.storage.files import write_arrays
from d2lvae.storage.nets import get_weights
from mxnet import autograd
from mxnet.gluon import nn


def made(net, seed=0):
    d2lvae.initialize(net, seed)
    return net


@pytest.fixture
def images():
    mx.random.seed(1)
    return mx.nd.random.uniform(shape=(6, 1, 28, 28))


def test_samples_are_drawn_where_the_net_is():
    vae = d2lvae.DenseVAE(3, 1, 8, (1, 4, 4))
    d2lvae.initialize(vae, 0, ctx=mx.cpu(1))  # as a GPU would be: another device than the default
    assert vae.sample(2).context == mx.cpu(1)


def test_dense_vae_has_the_seeds_sizes(images):
    vae = made(d2lvae.DenseVAE())
    mean, log_var = vae.encode(images)
    assert mean.shape == log_var.shape == (6, 5)
    z = vae.reparameterize(mean, log_var)
    assert z.shape == (6, 5)
    assert vae.decode(z).shape == (6, 1, 28, 28)
    sizes = [array.size for name, array in get_weights(vae).items()]
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


def test_decoder_gives_logits_and_images_are_their_sigmoid(images):
    vae = made(d2lvae.DenseVAE())
    mean, _ = vae.encode(images)
    logits = vae.decode(mean)
    assert logits.min().asscalar() < 0
    np.testing.assert_allclose(
        vae.reconstruct(images).asnumpy(), 1 / (1 + np.exp(-logits.asnumpy())), rtol=1e-5
    )


def test_reconstruct_has_no_noise_and_forward_has(images):
    vae = made(d2lvae.DenseVAE())
    assert (vae.reconstruct(images) == vae.reconstruct(images)).min().asscalar() == 1
    assert np.abs((vae(images)[0] - vae(images)[0]).asnumpy()).max() > 0


def test_reparameterize_draws_from_the_gaussian_asked_for():
    mx.random.seed(3)
    vae = d2lvae.DenseVAE()
    mean = mx.nd.ones((200_000, 1)) * 2
    z = vae.reparameterize(mean, mx.nd.ones_like(mean) * np.log(9)).asnumpy()
    assert z.mean() == pytest.approx(2, abs=0.03)
    assert z.std() == pytest.approx(3, abs=0.03)


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


def conv_vae(shape=(3, 32, 32)):
    return d2lvae.ConvVAE(6, 4, shape)


@pytest.mark.parametrize("size, halvings", [(32, 3), (64, 4), (128, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_down_to_4_by_4_and_back(size, halvings, channels):
    vae, disc = (
        made(conv_vae((channels, size, size))),
        made(d2lvae.ConvDisc(4, (channels, size, size))),
    )
    images = mx.nd.random.uniform(shape=(2, channels, size, size))
    shapes, hidden = [], images
    for layer in vae.encoder:
        hidden = layer(hidden)
        shapes.append(hidden.shape)
    sides = [size // 2**i for i in range(1, halvings + 1)]
    assert (
        shapes[::3][:halvings] == [(2, 4 * 2**i, side, side) for i, side in enumerate(sides)]
        and sides[-1] == 4
    )
    assert shapes[-1] == (2, 12) and disc(images).shape == (2,)
    logits, mean, log_var = vae(images)
    assert logits.shape == images.shape and mean.shape == log_var.shape == (2, 6)
    assert vae.reconstruct(images).shape == images.shape and vae.sample(3).shape == (
        3,
        channels,
        size,
        size,
    )


def test_conv_vae_has_the_seeds_sizes():
    vae = d2lvae.ConvVAE()
    number = sum(np.prod(p.shape) for p in vae.collect_params().values() if p.grad_req != "null")
    kernels = 16 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256)
    norms = 2 * (32 + 64 + 128 + 256)
    assert number == 2 * (kernels + norms) + (4096 * 1024 + 1024) + 512 * 256 * 16 + 3
    assert number == pytest.approx(7.7e6, rel=0.05)


@pytest.mark.parametrize("net", [d2lvae.ConvVAE, d2lvae.ConvDisc])
@pytest.mark.parametrize(
    "shape", [(3, 50, 50), (3, 64, 32), (3, 256, 256), (3, 16, 16), (1, 28, 28)]
)
def test_convolutional_nets_refuse_other_sizes(net, shape):
    with pytest.raises(
        ValueError,
        match=f"32 x 32, 64 x 64 or 128 x 128 .image_size.; found {shape[1]} x {shape[2]}",
    ):
        net(image_shape=shape)


def test_a_conv_vaes_latents_have_neither_relu_nor_batchnorm_on_them():
    mx.random.seed(2)
    images = mx.nd.random.uniform(shape=(64, 3, 32, 32))
    vae = made(conv_vae())
    mean, log_var = vae.encode(images)
    for latents in (mean, log_var):
        assert latents.min().asscalar() < 0 < latents.max().asscalar()
    with autograd.record():
        mean, _ = vae.encode(images)
    assert (
        np.abs(mean.mean(axis=0).asnumpy()).max() > 1e-2
    ), "centred over the batch, as BatchNorm would"


def test_an_object_moved_by_the_stride_moves_in_the_first_layers_output():
    """Which it would not in an image whose rows were reshaped instead of transposed."""
    vae = made(conv_vae())
    images = np.zeros((2, 3, 32, 32), np.float32)
    images[0, :, 8:12, 8:12], images[1, :, 10:14, 12:16] = 1, 1
    first, moved = vae.encoder[0](mx.nd.array(images)).asnumpy()
    assert np.abs(first).max() > 0
    np.testing.assert_allclose(moved[:, 1:, 2:], first[:, :-1, :-2], atol=1e-6)


def test_conv_disc_leaks_with_a_slope_of_a_fifth():
    disc = d2lvae.ConvDisc(4)
    leaks = [layer for layer in disc.body if isinstance(layer, mx.gluon.nn.LeakyReLU)]
    assert len(leaks) == 4
    assert (leaks[0](mx.nd.array([-1, 1])).asnumpy() == np.array([-0.2, 1], np.float32)).all()
    assert [type(layer).__name__ for layer in disc.body][:3] == [
        "Conv2D",
        "LeakyReLU",
        "Conv2D",
    ], "no BatchNorm on the first"


@pytest.mark.parametrize("name", ["resnet18_v1", "cifar_resnet20_v1"])
def test_resnets_have_one_output_and_no_weights_from_the_net(name):
    disc = d2lvae.ResNetDisc(name)
    images = mx.nd.random.uniform(shape=(3, 3, 64, 64))
    first, other = (made(disc, seed)(images).asnumpy() for seed in (0, 1))
    assert first.shape == (3,) and (first != other).all()
    millions = (
        sum(np.prod(p.shape) for p in disc.collect_params().values() if p.grad_req != "null") / 1e6
    )
    assert millions == pytest.approx(
        {"resnet18_v1": 11.17, "cifar_resnet20_v1": 0.27}[name], rel=0.02
    )


def test_an_unknown_resnet_is_answered_with_close_ones():
    with pytest.raises(ValueError) as caught:
        d2lvae.ResNetDisc("resnet_18")
    assert "found 'resnet_18'" in str(caught.value) and "'resnet18_v1'" in str(caught.value)


def test_every_resnet_that_is_offered_exists():
    from d2lvae.engine.model_zoo import RESNETS
    from gluoncv import model_zoo

    assert set(RESNETS) <= set(model_zoo.get_model_list())


@pytest.mark.parametrize(
    "net",
    [
        d2lvae.DenseVAE,
        d2lvae.DenseLogReg,
        lambda: d2lvae.ConvVAE(6, 4, (1, 32, 32)),
        lambda: d2lvae.ConvDisc(4, (1, 32, 32)),
    ],
)
def test_every_parameter_gets_a_gradient(net, images):
    net = made(net())
    images = mx.nd.random.uniform(shape=(6, *net.image_shape))
    with autograd.record():
        out = net(images)
        total = sum(o.sum() for o in out) if isinstance(out, (list, tuple)) else out.sum()
    total.backward()
    for name, parameter in net.collect_params().items():
        if parameter.grad_req != "null":  # BatchNorm's running statistics have none
            assert np.abs(parameter.grad().asnumpy()).max() > 0, name


def test_initialization_depends_on_the_seed_alone():
    first, same, other = (get_weights(made(d2lvae.DenseVAE(), seed)) for seed in (4, 4, 5))
    assert first.keys() == same.keys()
    assert all((first[name] == same[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


@pytest.mark.parametrize(
    "net",
    [
        lambda: d2lvae.DenseVAE(3, 2, 16, (3, 6, 4)),
        lambda: d2lvae.DenseLogReg(2, 8, (3, 6, 4)),
        conv_vae,
        lambda: d2lvae.ConvDisc(4, (3, 32, 32)),
        lambda: d2lvae.ResNetDisc("cifar_resnet20_v1", (3, 32, 32)),
    ],
)
def test_saved_and_loaded_without_knowing_the_class(net, tmp_path):
    net = made(net())
    d2lvae.save_net(tmp_path / "net.npz", net)
    loaded = d2lvae.load_net(tmp_path / "net.npz")
    assert type(loaded) is type(net) and loaded.config == net.config
    images = mx.nd.random.uniform(shape=(2, *net.image_shape))
    before = net.reconstruct(images) if hasattr(net, "reconstruct") else net(images)
    after = loaded.reconstruct(images) if hasattr(net, "reconstruct") else loaded(images)
    np.testing.assert_array_equal(before.asnumpy(), after.asnumpy())


@pytest.mark.parametrize(
    "make, hint",
    [
        (
            lambda: d2lvae.DenseVAE(5, 3, 400, num_hidden=4),
            "'num_hidden'; did you mean 'num_hiddens'",
        ),
        (lambda: d2lvae.ConvDisc(base_chanels=4), "'base_chanels'; did you mean 'base_channels'"),
        (lambda: d2lvae.ConvVAE(8, 4, (3, 32, 32), odd=1), "ConvVAE has no argument 'odd'"),
    ],
)
def test_a_misspelt_argument_of_a_net_is_refused(make, hint):
    with pytest.raises(TypeError, match=hint):
        make()


def test_a_subclass_passes_its_parents_arguments_on():
    class Wider(d2lvae.DenseLogReg):
        def __init__(self, *args, factor=2, **kwargs):
            super().__init__(*args, **kwargs)
            self.config["factor"] = factor

    assert Wider(1, num_hiddens=20, factor=3).config["num_hiddens"] == 20
    with pytest.raises(TypeError, match="Wider has no argument 'num_hidens'"):
        Wider(1, num_hidens=20)


def test_a_net_may_be_made_with_lists(tmp_path):
    class Towers(d2lvae.Discriminator):
        def __init__(self, widths, image_shape=(1, 4, 4)):
            super().__init__(image_shape, widths=widths)
            with self.name_scope():
                self.body = nn.HybridSequential()
                self.body.add(*(nn.Dense(width) for width in widths), nn.Dense(1))

    net = made(Towers((8, np.int64(4))))
    assert net.config["widths"] == [8, 4]  # as a record on disk gives it back
    d2lvae.save_net(tmp_path / "net.npz", net)
    assert d2lvae.load_net(tmp_path / "net.npz").config == net.config
    for widths in ([nn.Dense(3)], {"first": 3}, np.arange(3)):
        with pytest.raises(TypeError, match="widths must be a number, a text, or a list of them"):
            Towers(widths)


def test_a_record_that_names_no_net_is_no_net(tmp_path):
    write_arrays(tmp_path / "net.npz", {}, {"config": {"net": ["DenseVAE"]}})
    with pytest.raises(CheckpointError, match="holds no single net"):
        d2lvae.load_net(tmp_path / "net.npz")
