"""The fast step computes what the simple one does: products, sums, Adam, compiled graphs, precision."""

import subprocess
import sys
import textwrap

import d2lvae
import helpers
import mxnet as mx
import numpy as np
import pytest
from d2lvae import training
from d2lvae.config import validate
from d2lvae.engine import bfloat16, layers
from d2lvae.engine.adam import Adam
from d2lvae.engine.bfloat16 import in_bfloat16
from d2lvae.engine.hybridize import hybridize
from d2lvae.engine.operators import unit_images
from d2lvae.sources import synthetic_digits, synthetic_faces
from d2lvae.steps import AdversarialStep, VAEStep
from d2lvae.storage import agreement, records
from d2lvae.storage.nets import get_weights
from d2lvae.training import make_step
from mxnet import autograd
from mxnet.gluon import nn
from simple_step import SimpleLearner
from test_training import numbers

SMALL = (3, 32, 32)
needs_bfloat16 = pytest.mark.skipif(
    not bfloat16.has_bfloat16(), reason="this processor does not compute in bfloat16"
)
EIGHT = {  # those of digits in full size, those of faces smaller
    "mnist_densevae_bce": ("bce", lambda: (d2lvae.DenseVAE(), None)),
    "mnist_densevae_l2": ("l2", lambda: (d2lvae.DenseVAE(), None)),
    "mnist_densevae_logreg": ("bce", lambda: (d2lvae.DenseVAE(), d2lvae.DenseLogReg())),
    "anime_densevae_bce": ("bce", lambda: (d2lvae.DenseVAE(32, 2, 1024, SMALL), None)),
    "anime_densevae_logreg": (
        "bce",
        lambda: (d2lvae.DenseVAE(32, 2, 1024, SMALL), d2lvae.DenseLogReg(1, 512, SMALL)),
    ),
    "anime_convvae_bce": ("bce", lambda: (d2lvae.ConvVAE(32, 8, SMALL), None)),
    "anime_convvae_convdisc": (
        "bce",
        lambda: (d2lvae.ConvVAE(32, 8, SMALL), d2lvae.ConvDisc(8, SMALL)),
    ),
    "anime_convvae_resnet": (
        "bce",
        lambda: (d2lvae.ConvVAE(32, 8, SMALL), d2lvae.ResNetDisc("cifar_resnet20_v1", SMALL)),
    ),
}


@pytest.fixture(scope="module")
def example_images():
    return {
        "mnist": synthetic_digits.draw_digits(32 * 50)[0],
        "anime": synthetic_faces.draw_faces(32 * 20, image_size=32)[0],
    }


def learners(name, **changes):
    """The fast and the simple one, of the same experiment from the same weights."""
    pixel_loss, make = EIGHT[name]
    config = dict(
        lr=1e-3,
        pixel_loss=pixel_loss,
        pixel_weight=1.0,
        kl_weight=1.0,
        disc_weight=1.0 if name[0] == "m" else 10.0,
        **changes,
    )
    for kind in (make_step, SimpleLearner):
        vae, disc = make()
        d2lvae.initialize(vae, 0)
        if disc is not None:
            d2lvae.initialize(disc, 1)
        yield kind(vae, disc, config)


def follow(simple, fast):
    """Give the simple learner the fast one's weights and moments."""
    for net, trainer, (_key, optimizer) in zip(
        (simple.vae, simple.disc), simple.trainers, fast.trainers.items()
    ):
        for ours, theirs in zip(
            optimizer.net.collect_params().values(), net.collect_params().values()
        ):
            theirs.set_data(ours.data())
        states = trainer._updaters[0].states if trainer._optimizer.num_update else {}
        places = {parameter.name: i for i, parameter in enumerate(trainer._params)}
        for name, moments in zip(optimizer.parameters, optimizer.moments):
            for theirs, ours in zip(states.get(places[net.prefix + name], ()), moments):
                theirs[:] = ours


@pytest.mark.parametrize("name", EIGHT)
def test_steps_lose_what_the_simple_step_loses(name, example_images):
    """The VAE's loss to 1e-4, from the same state every second step: left alone, even runs of the simple step that round differently part."""
    fast, simple = learners(name)
    images, batch_size = example_images[name.split("_")[0]], 8 if "resnet" in name else 32
    weights = np.array(
        [1, 1, simple.config["disc_weight"], 0][: 4 if simple.disc is not None else 2]
    )
    num_steps = 50 if name[0] == "m" else 10 if "resnet" in name else 20
    for step in range(num_steps):
        if step % 2 == 0:
            mx.nd.waitall()
            follow(simple, fast)
        batch = images[step * batch_size % len(images) :][:batch_size]
        mx.random.seed(step)
        ours = numbers(training.learn(fast, batch))
        theirs = np.array(simple.step(batch, step))
        assert ours @ weights == pytest.approx(theirs @ weights, rel=1e-4), step
        np.testing.assert_allclose(
            ours, theirs, rtol=2e-2, atol=2e-3 * batch_size, err_msg=str(step)
        )


@pytest.mark.parametrize(
    "name", ["mnist_densevae_bce", "mnist_densevae_l2", "mnist_densevae_logreg"]
)
def test_fifty_steps_in_one_go_on_digits(name, example_images):
    fast, simple = learners(name)
    for step in range(50):
        batch = example_images["mnist"][step * 32 :][:32]
        mx.random.seed(step)
        ours, theirs = numbers(training.learn(fast, batch)), simple.step(batch, step)
        assert sum(ours[:3]) == pytest.approx(sum(theirs[:3]), rel=1e-4)


def takes_the_wide_way(layer, x):
    return "transpose" in layer(mx.sym.var("x", shape=x.shape)).tojson()


@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_wide_layer_is_gluons_dense_layer(activation):
    ours, theirs = (kind(1024, activation, in_units=1100) for kind in (layers.Dense, nn.Dense))
    for net in (ours, theirs):
        mx.random.seed(0)
        net.initialize(mx.init.Normal(0.1), force_reinit=True)
    theirs.bias.set_data(mx.nd.arange(1024) / 1024)
    ours.bias.set_data(mx.nd.arange(1024) / 1024)
    ours.hybridize(), theirs.hybridize()
    x = mx.nd.random.normal(shape=(5, 11, 10, 10))
    graph = hybridize(ours, [ours])
    assert takes_the_wide_way(ours, x), "the wide way was not taken"
    outs, gradients = [], []
    for net, function in ((ours, lambda x: graph(x)), (theirs, theirs)):
        x.attach_grad()
        with autograd.record():
            out = function(x)
        out.backward(mx.nd.cos(out))
        outs.append(out.asnumpy())
        gradients.append(
            [x.grad.asnumpy()] + [p.grad().asnumpy() for p in net.collect_params().values()]
        )
    np.testing.assert_allclose(outs[0], outs[1], rtol=1e-4, atol=1e-4)
    for mine, other in zip(*gradients):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        ours(x[:3]).asnumpy(), theirs(x[:3]).asnumpy(), rtol=1e-4, atol=1e-4
    )  # any batch, outside a graph


def test_a_small_layer_stays_as_it_is():
    layer = layers.Dense(8, in_units=8)
    layer.initialize()
    assert not takes_the_wide_way(layer, mx.nd.ones((5, 8)))


def test_a_wide_layer_without_a_bias_is_gluons():
    layer = layers.Dense(1024, use_bias=False, in_units=1100)
    layer.initialize()
    x = mx.nd.random.normal(shape=(5, 1100))
    expected = mx.nd.dot(x, layer.weight.data().T).asnumpy()
    np.testing.assert_allclose(hybridize(layer, [layer])(x).asnumpy(), expected, atol=1e-4)


def test_a_function_may_leave_an_input_out():
    """As a `reparameterize` of one's own without noise does, which several workers hand in."""
    layer = layers.Dense(2, in_units=3)
    layer.initialize()
    graph = hybridize(lambda x, noise, y: layer(x) + y, [layer])
    x, y = mx.nd.random.normal(shape=(4, 3)), mx.nd.arange(8).reshape((4, 2))
    for factor in (1, 2):
        found = graph(factor * x, mx.nd.ones((4, 5)), y)
        expected = layer(factor * x) + y
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-5)


def one_weight(values):
    net = nn.Dense(len(values), use_bias=False, in_units=1, prefix="net_")
    net.initialize()
    net.weight.set_data(mx.nd.array(values).reshape((-1, 1)))
    return net


def test_adam_by_hand():
    """Two updates of Algorithm 1 in the paper, in Python's own double precision."""
    net = one_weight([1.0, -2.0, 3.0])
    optimizer = Adam(net, 0.1)
    w, m, v = np.array([1.0, -2.0, 3.0]), np.zeros(3), np.zeros(3)
    for t, g in ((1, np.array([4.0, -8.0, 0.0])), (2, np.array([-4.0, 8e-3, 0.0]))):
        net.weight.grad()[:] = mx.nd.array(g).reshape((-1, 1))
        optimizer.step(4)
        m, v = 0.9 * m + 0.1 * (g / 4), 0.999 * v + 0.001 * (g / 4) ** 2
        w = w - 0.1 * (m / (1 - 0.9**t)) / (
            np.sqrt(v / (1 - 0.999**t)) + 1e-8 / np.sqrt(1 - 0.999**t)
        )
        np.testing.assert_allclose(net.weight.data().asnumpy().ravel(), w, rtol=1e-5)


def test_adam_sets_tiny_moments_to_nothing_and_learns_what_it_would_have_learned():
    """Else they would become denormal numbers, which take a processor many times as long."""
    gradients = np.zeros((3000, 5))
    gradients[0, :2] = 1.0, 1e-14  # and never again
    gradients[:, 2] = np.random.default_rng(0).normal(size=3000)
    gradients[:, 3:] = 1e-12, 1e-14  # the variances of the last are set to 0
    net = one_weight([1.0, 1.0, 1.0, 0.0, 0.0])
    optimizer = Adam(net, 1e-3)
    w, m, v = np.array([1.0, 1.0, 1.0, 0.0, 0.0]), np.zeros(5), np.zeros(5)
    for t, g in enumerate(gradients, 1):
        net.weight.grad()[:] = mx.nd.array(g).reshape((-1, 1))
        optimizer.step(1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        correction = np.sqrt(1 - 0.999**t)
        w = w - 1e-3 * correction / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(net.weight.data().asnumpy().ravel(), w, rtol=2e-5)
    state = optimizer.state()
    assert [bool(x) for x in state["mean/weight"]] == [False, False, True, True, True]
    assert [bool(x) for x in state["var/weight"]] == [True, False, True, True, False]


def test_adam_hides_no_nan():
    net = one_weight([1.0, 1.0])
    optimizer = Adam(net, 1e-3)
    net.weight.grad()[:] = mx.nd.array([[np.nan], [0.0]])
    optimizer.step(1)
    assert np.isnan(net.weight.data().asnumpy()[0]) and net.weight.data().asnumpy()[1] == 1
    assert np.isnan([optimizer.state()[f"{kind}/weight"][0] for kind in ("mean", "var")]).all()


@pytest.mark.parametrize("size", [1, 1001, 100_003])
def test_adam_on_the_cpu_is_mxnets_adam(size):
    nets = [one_weight(np.linspace(-1, 1, size)) for _ in range(2)]
    ours, theirs = [Adam(net, 1e-2) for net in nets]
    rng = np.random.default_rng(0)
    for _step in range(20):
        gradient = mx.nd.array(rng.normal(size=(size, 1)) * 10.0 ** rng.integers(-12, 3))
        for net in nets:
            net.weight.grad()[:] = gradient
        ours.step(7)
        theirs.steps += 1
        theirs._step_elsewhere(7)
    np.testing.assert_allclose(*[net.weight.data().asnumpy() for net in nets], rtol=1e-5, atol=3e-6)
    for name, moment in ours.state().items():
        other = theirs.state()[name]
        np.testing.assert_allclose(moment, other, rtol=1e-5, atol=1e-6 * np.abs(other).max())


def test_weights_that_inference_laid_out_anew_are_updated_where_they_are():
    """MXNet stores a convolution's weights in blocks once it has been used outside training; Adam must not write past that."""

    def trained(look_between):
        vae = d2lvae.ConvVAE(16, 16, SMALL)
        d2lvae.initialize(vae, 0)
        step = VAEStep(vae, lr=1e-2)
        images = synthetic_faces.draw_faces(16, image_size=32)[0]
        for number in range(4):
            if look_between:
                for _ in range(3):
                    vae.reconstruct(mx.nd.array(images).astype("float32") / 255)  # not waited for
            mx.random.seed(number)
            training.learn(step, images)
        return get_weights(vae)

    looked, blind = trained(True), trained(False)
    for name in blind:
        assert (
            np.abs(looked[name] - blind[name]).max() <= 1e-4 * np.abs(blind[name]).max() + 1e-6
        ), name


def test_unit_images_of_any_layout_and_the_images_stay_the_callers():
    channels_last = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    images = channels_last.transpose(0, 3, 1, 2)
    found = unit_images(images, mx.cpu())
    np.testing.assert_array_equal(found.asnumpy(), images.astype(np.float32) / np.float32(255))
    images[0, 0, 0, 0] = 255  # still to be written to, and nobody else's
    assert found[0, 0, 0, 0].asscalar() == 0


def test_adam_finds_weights_that_were_looked_at_after_their_gradients():
    """A loop of one's own may reconstruct between backward and the update."""

    def trained(look_between):
        vae = d2lvae.ConvVAE(16, 16, SMALL)
        d2lvae.initialize(vae, 0)
        optimizer = Adam(vae, 1e-2)
        images = synthetic_faces.draw_faces(16, image_size=32)[0]
        X = mx.nd.array(images).astype("float32") / 255
        for number in range(3):
            mx.random.seed(number)
            with autograd.record():
                loss = (vae(X)[0] ** 2).sum()
            loss.backward()
            if look_between:
                vae.reconstruct(X)
            optimizer.step(16)
        return get_weights(vae)

    looked, blind = trained(True), trained(False)
    for name in blind:
        np.testing.assert_allclose(looked[name], blind[name], rtol=1e-3, atol=1e-5)


def test_pytorch_beside_mxnet_does_not_keep_gluoncv_away(tmp_path):
    """gluoncv raises at import where it finds PyTorch 2, which is none of our business."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("__version__ = '2.13.0+cpu'\n")
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import torch
        import d2lvae
        net = d2lvae.ResNetDisc("cifar_resnet20_v1", (3, 32, 32))
        assert sys.modules["torch"] is torch
        print(type(net.body).__name__)
    """)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["CIFARResNetV1"]


def test_bfloat16_is_refused_where_the_processor_has_none(monkeypatch):
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: False)
    with pytest.raises(
        d2lvae.ParameterError, match="precision 'bfloat16' needs a processor.*-p precision float32"
    ):
        validate("precision", "bfloat16")
    assert validate("precision", "float32") == "float32"


def test_bfloat16_lowers_wide_convolutions_and_what_follows_them():
    net = d2lvae.ConvDisc(16, SMALL)
    d2lvae.initialize(net, 0)
    symbol = net(mx.sym.var("data"))
    shapes = {p.name: p.shape for p in net.collect_params().values()}
    lowered = in_bfloat16(mx.sym.Group([symbol]), shapes)
    assert (
        lowered.list_inputs() == symbol.list_inputs()
        and lowered.list_auxiliary_states() == symbol.list_auxiliary_states()
    )
    types = dict(
        zip(
            lowered.get_internals().list_outputs(),
            lowered.get_internals().infer_type(data="float32")[1],
        )
    )
    types = {
        name: np.dtype(kind).name for name, kind in types.items() if name.endswith("_fwd_output")
    }
    assert {name.split("_", 1)[1]: kind for name, kind in types.items()} == {
        "conv0_fwd_output": "float32",
        "conv1_fwd_output": "void16",
        "batchnorm0_fwd_output": "void16",
        "conv2_fwd_output": "void16",
        "batchnorm1_fwd_output": "void16",
        "leakyrelu0_fwd_output": "float32",
        "leakyrelu1_fwd_output": "void16",
        "leakyrelu2_fwd_output": "void16",
        "dense0_fwd_output": "float32",
    }


@needs_bfloat16
@pytest.mark.parametrize(
    "activation", [nn.PReLU, nn.SELU, nn.ELU, nn.GELU, nn.Swish, lambda: nn.Activation("softsign")]
)
def test_every_activation_behind_a_convolution_in_bfloat16(activation):
    net, X = nn.HybridSequential(), mx.nd.random.uniform(-1, 1, (2, 16, 5, 5))
    net.add(nn.Conv2D(4, 3, in_channels=16), activation())
    net.initialize()
    data, parameters = mx.sym.var("data", dtype="float32"), net.collect_params()
    lowered = in_bfloat16(net(data), {name: p.shape for name, p in parameters.items()})
    with autograd.record():
        found = mx.gluon.SymbolBlock(lowered, [data], params=parameters)(X)
    found.backward()
    assert np.abs(net[0].weight.grad().asnumpy()).min() > 0
    difference = np.abs(found.asnumpy() - net(X).asnumpy()).max()
    assert 0 < difference < 0.02


@needs_bfloat16
@pytest.mark.parametrize(
    "name, learned_loss",
    [
        ("anime_convvae_bce", "adversarial"),
        ("anime_convvae_convdisc", "adversarial"),
        ("anime_convvae_convdisc", "both"),
        ("anime_convvae_resnet", "adversarial"),
    ],
)
def test_bfloat16_loses_nearly_the_same(name, learned_loss, example_images):
    ends = []
    for precision in ("float32", "bfloat16"):
        fast = next(learners(name, precision=precision, learned_loss=learned_loss))
        for number in range(20):
            mx.random.seed(number)
            found = numbers(training.learn(fast, example_images["anime"][number * 16 :][:16]))
        ends.append(sum(found[:2]))
        assert all(p.data().dtype == np.float32 for p in fast.vae.collect_params().values())
    assert ends[0] != ends[1] and ends[1] == pytest.approx(ends[0], rel=5e-3)


@pytest.mark.parametrize("disc", [False, True])
def test_wide_layers_take_the_last_smaller_batch_and_inference(disc, monkeypatch, tiny, config):
    """All layers made wide: 200 images are three batches of 64 and one of 8; evaluation, solo epochs and a resting discriminator as well."""

    def losses():
        vae = d2lvae.DenseVAE(3, 1, 16)
        net = d2lvae.DenseLogReg(1, 8) if disc else None
        d2lvae.initialize(vae, 0)
        if net is not None:
            d2lvae.initialize(net, 1)
        settings = {**config, "disc_weight": 2.0, "num_solo_epochs": 1}
        step, history = make_step(vae, net, settings), []
        training.train(step, tiny.train, settings, history, lambda: None)
        return [history[0]["loss"], history[1]["loss"]]

    monkeypatch.setattr(layers, "WIDE", float("inf"))
    plain = losses()
    monkeypatch.setattr(layers, "WIDE", 0)
    np.testing.assert_allclose(losses(), plain, rtol=1e-4)


def test_running_statistics_see_the_real_batch_first():
    disc = d2lvae.ConvDisc(8, SMALL)
    d2lvae.initialize(disc, 1)
    vae = d2lvae.ConvVAE(4, 8, SMALL)
    d2lvae.initialize(vae, 0)
    step = AdversarialStep(vae, disc)
    real, fake = (
        mx.nd.random.uniform(0.5, 1, (8, *SMALL)),
        mx.nd.random.uniform(0, 0.3, (8, *SMALL)),
    )
    hand = d2lvae.ConvDisc(8, SMALL)
    d2lvae.initialize(hand, 1)
    for images in (real, fake):
        with autograd.record():
            out = hand(images)
        out.backward()
        mx.nd.waitall()
    step._learn_to_tell(8, real, fake)
    expected = get_weights(hand)
    for name, found in get_weights(disc).items():
        if "running" in name:
            np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_net_initialised_anew_needs_a_new_step(tiny, small_vae):
    vae = small_vae()
    d2lvae.initialize(vae, 0)
    step = VAEStep(vae)
    training.learn(step, tiny.train[:8])
    d2lvae.initialize(vae, 1)
    with pytest.raises(RuntimeError, match="initialised anew.*new training step"):
        training.learn(step, tiny.train[:8])


def test_precision_is_told_in_the_folders_name_and_refused_without_convolutions(
    tiny, config, small_vae, monkeypatch
):
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: True)
    nets = {
        "data": "drawn_faces",
        "epochs": 5,
        "vae": {"net": "ConvVAE", "num_latents": 4, "base_channels": 8, "image_shape": [3, 64, 64]},
        "pixel_loss": "bce",
        **records.USUAL,
    }
    assert records.run_name(nets) == "ConvVAE_on_drawn_faces/4_8_5"
    assert (
        records.run_name({**nets, "precision": "bfloat16"})
        == "ConvVAE_on_drawn_faces/4_8_5_precision_bfloat16"
    )
    assert "precision" not in helpers.settings_of(
        small_vae(), tiny, {**config, "precision": "float32"}, None
    )
    with pytest.raises(d2lvae.ParameterError, match="convolutions, and these nets have none"):
        helpers.fit(small_vae(), tiny, {**config, "precision": "bfloat16"})
    vae = small_vae()
    vae.upwards = nn.Conv2DTranspose(4, 4, in_channels=4)  # a convolution, but none in bfloat16
    with pytest.raises(d2lvae.ParameterError, match="convolutions, and these nets have none"):
        agreement.check_nets(vae, None, d2lvae.Config(precision="bfloat16"))
    with pytest.raises(ValueError, match="'float32' or 'bfloat16', found 'half'"):
        hybridize(lambda x: x, [], precision="half")
