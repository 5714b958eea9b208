"""The three recipes: as the notebook shows them, as written, and as compiled, they are one computation."""

import json
import pathlib

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae import losses, steps, training
from d2lvae.engine.hybridize import eager, hybridize
from d2lvae.sources import synthetic_digits, synthetic_faces
from d2lvae.storage.nets import get_weights
from mxnet import autograd

NOTEBOOK = pathlib.Path(__file__).resolve().parent.parent / "notebooks/mnist_densevae_logreg.ipynb"
SMALL = (3, 32, 32)
NETS = {
    "dense": lambda: (d2lvae.DenseVAE(5, 3, 400), d2lvae.DenseLogReg(1, 200)),
    "convolutions": lambda: (d2lvae.ConvVAE(8, 4, SMALL), d2lvae.ConvDisc(4, SMALL)),
}


@pytest.fixture(scope="module")
def batches():
    """Fifty of each kind, uint8."""
    digits = synthetic_digits.draw_digits(32 * 50)[0].reshape(50, 32, 1, 28, 28)
    faces = synthetic_faces.draw_faces(16 * 50, image_size=32)[0].reshape(50, 16, *SMALL)
    return {"dense": digits, "convolutions": faces}


def nets(kind, compiled=True):
    found = NETS[kind]()
    for seed, net in enumerate(found):
        d2lvae.initialize(net, seed)
        net.hybridize(compiled, static_alloc=True)  # Gluon's own, which eager steps use
    return found


def history(step, batches):
    found = []
    for seed, batch in enumerate(batches):
        mx.random.seed(seed)
        found.append(training.learn(step, batch))
    names = list(found[0])
    return names, np.array([[one[name].sum().asscalar() for name in names] for one in found])


RECIPES = {
    "alone": lambda vae, disc, how: steps.VAEStep(vae, hybridize=how),
    "adversarial": lambda vae, disc, how: steps.AdversarialStep(vae, disc, 10.0, hybridize=how),
    "features": lambda vae, disc, how: steps.FeatureStep(vae, disc, hybridize=how),
    "both": lambda vae, disc, how: steps.BothStep(vae, disc, disc_weight=10.0, hybridize=how),
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", NETS)
def test_compiled_a_step_is_what_it_is_as_written(recipe, kind, batches):
    found = {}
    for how in (eager, hybridize):
        vae, disc = nets(kind, compiled=False)
        found[how] = history(RECIPES[recipe](vae, disc, how), batches[kind])
    names, numbers = found[hybridize]
    assert names == found[eager][0] and numbers.min() > 0
    np.testing.assert_allclose(numbers, found[eager][1], rtol=1e-4)


def cell_with(words):
    """The source of the notebook's cell that these words are in."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    [source] = ["".join(cell["source"]) for cell in cells if words in "".join(cell["source"])]
    return source


@pytest.mark.parametrize("how", [eager, hybridize])
def test_the_notebooks_cell_is_the_adversarial_step(how, batches):
    cell = {"autograd": autograd, "losses": losses, "mx": mx, "disc_weight": 10.0}
    exec(cell_with("def update("), cell)
    vae, disc = nets("dense")
    _, numbers = history(steps.AdversarialStep(vae, disc, 10.0, hybridize=how), batches["dense"])
    vae, disc = nets("dense")
    trainer, trainer_D = (
        mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-3})
        for net in (vae, disc)
    )
    for seed, batch in enumerate(batches["dense"]):
        mx.random.seed(seed)
        X = training.unit_images(batch, mx.cpu())
        loss, loss_D = cell["update"](X, vae, disc, trainer, trainer_D)
        pixel, kl, adversarial, disc_loss = numbers[seed] / len(batch)
        assert loss.mean().asscalar() == pytest.approx(pixel + kl + 10 * adversarial, rel=1e-4)
        assert loss_D.mean().asscalar() == pytest.approx(disc_loss, rel=1e-4)


def moments(trainer):
    return np.concatenate([array.ravel() for array in trainer.state().values()])


@pytest.mark.parametrize("recipe", ["adversarial", "features", "both"])
def test_the_vaes_step_moves_nothing_of_the_discriminator(recipe, batches):
    """Its weights and its BatchNorm's statistics are what its own part of the step has made of them."""
    vae, disc = nets("convolutions")
    step, seen = RECIPES[recipe](vae, disc, hybridize), []
    own = step._learn_to_tell

    def watched(*images):
        loss = own(*images)
        mx.nd.waitall()
        seen.append(get_weights(disc))
        return loss

    step._learn_to_tell = watched
    for batch in batches["convolutions"][:3]:
        training.learn(step, batch)
        after = get_weights(disc)
        assert all((after[name] == array).all() for name, array in seen[-1].items())


@pytest.mark.parametrize("recipe", ["adversarial", "features", "both"])
def test_the_discriminators_part_moves_nothing_of_the_vae(recipe, batches):
    vae, disc = nets("convolutions")
    step = RECIPES[recipe](vae, disc, hybridize)
    own = step._learn_to_tell

    def watched(*images):
        before = get_weights(vae)
        gradients = {p.name: p.grad().asnumpy() for p in step.trainers["vae"].parameters.values()}
        loss = own(*images)
        mx.nd.waitall()
        after = get_weights(vae)
        assert all((after[name] == array).all() for name, array in before.items())
        for parameter in step.trainers["vae"].parameters.values():
            assert (parameter.grad().asnumpy() == gradients[parameter.name]).all()
        return loss

    step._learn_to_tell = watched
    for batch in batches["convolutions"][:2]:
        training.learn(step, batch)


@pytest.mark.parametrize("recipe", ["adversarial", "features", "both"])
def test_only_images_and_reconstructions_move_the_vaes_statistics(recipe, batches):
    """Samples from the prior do not: BatchNorm's statistics are those of a VAE that learns alone."""
    X = training.unit_images(batches["convolutions"][0], mx.cpu())
    noises, ends = mx.nd.random.normal(shape=(2, len(X), 8)), []
    for name in ("alone", recipe):
        vae, disc = nets("convolutions")
        step = RECIPES[name](vae, disc, hybridize)
        step.update(X, len(X), *list(noises)[: step.num_noises])
        mx.nd.waitall()
        ends.append({key: x for key, x in get_weights(vae).items() if "running" in key})
    assert len(ends[0]) > 4
    for key, statistics in ends[0].items():
        np.testing.assert_allclose(ends[1][key], statistics, rtol=1e-4, atol=1e-6, err_msg=key)


def test_a_discriminator_that_is_right_pays_little_and_one_that_is_wrong_much(batches):
    """Labels in the right places: a net that says 5 to real images and -5 to the others."""
    _, disc = nets("dense")
    step = steps.AdversarialStep(nets("dense")[0], disc, hybridize=eager)
    step.disc = lambda images: mx.nd.broadcast_sub(
        10 * images.mean(axis=(1, 2, 3)), mx.nd.array([5])
    )
    ones, zeros = mx.nd.ones((4, 1, 28, 28)), mx.nd.zeros((4, 1, 28, 28))
    right = np.log1p(np.exp(-5))
    assert step.disc_loss(ones, zeros).sum().asscalar() == pytest.approx(4 * 2 * right, rel=1e-4)
    assert step.disc_loss(zeros, ones).sum().asscalar() == pytest.approx(
        4 * 2 * (5 + right), rel=1e-4
    )
    assert step.adversarial_loss(ones).sum().asscalar() == pytest.approx(4 * right, rel=1e-4)
    assert step.adversarial_loss(zeros).sum().asscalar() == pytest.approx(4 * (5 + right), rel=1e-4)


def test_a_losss_weight_is_no_part_of_a_graph(batches):
    """Weights may change between two steps, and nothing is compiled anew."""
    ends = []
    for weights in ({"kl": 0.0}, {"kl": 1.0}):
        vae, _ = nets("dense")
        step = steps.VAEStep(vae)
        training.learn(step, batches["dense"][0])
        step.weights.update(weights)
        step.trainers["vae"].lr = 0.1
        training.learn(step, batches["dense"][1])
        ends.append(get_weights(vae))
    assert any((ends[0][name] != ends[1][name]).any() for name in ends[0])


def test_a_misspelt_argument_of_a_step_is_refused(small_vae):
    with pytest.raises(TypeError, match="kl_wieght"):
        steps.VAEStep(small_vae(), kl_wieght=5.0)
