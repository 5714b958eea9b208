"""What is recorded is what was used; what is finished stays; what is one's own is kept."""

import json
import re

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae import data as datasets
from d2lvae import runs, training
from d2lvae.config import Config, ParameterError
from d2lvae.storage import files, folders
from d2lvae.storage.errors import RunError
from d2lvae.storage.files import CheckpointError
from d2lvae.storage.nets import get_weights
from helpers import fit
from mxnet.gluon import nn


def a_notebook(results_dir):
    """A notebook's globals after its parameters cell, and the Config made from them."""
    found = dict(
        data="drawn", num_train=200, epochs=2, seed=0, num_latents=3, results_dir=str(results_dir)
    )
    found["In"] = ["", "\n".join(f"{name} = {value!r}" for name, value in found.items())]
    return found, Config.from_notebook(found)


def same_weights(net, arrays):
    return all((array == arrays[name]).all() for name, array in get_weights(net).items())


@pytest.mark.parametrize(
    "name, value",
    [("num_train", 100), ("seed", 1), ("data", "mnist"), ("num_latents", 7), ("epochs", 9)],
)
def test_a_parameter_changed_without_its_cell_is_refused_before_any_work(
    tiny, small_vae, tmp_path, name, value
):
    notebook, config = a_notebook(tmp_path)
    notebook[name] = value
    with pytest.raises(ParameterError, match=f"{name} is {value!r} now"):
        d2lvae.fit(small_vae(), tiny, config)
    notebook["In"].append(notebook["In"][1].replace(f"{name} = ", f"{name} = {value!r} #"))
    if name != "epochs":  # config made anew, but neither images nor nets
        with pytest.raises(ParameterError, match=f"{name} is {value!r}, but"):
            d2lvae.fit(small_vae(), tiny, Config.from_notebook(notebook))


def test_images_of_another_size_than_the_parameter_are_refused(tiny_faces):
    config = Config(image_size=64, given={"image_size": 64})
    with pytest.raises(ParameterError, match="image_size is 64, but these images"):
        d2lvae.fit(d2lvae.ConvVAE(8, 4, (3, 32, 32)), tiny_faces, config)


def test_the_record_names_the_images_that_were_used(config, small_vae):
    images = datasets.drawn_digits(200, seed=3).first(150)
    run = fit(small_vae(), images, {**config, "num_train": 0, "seed": 1})
    assert (
        run.metrics["config"]["num_train"] == 150 == run.metrics["data"]["num_train"]
        and run.metrics["data"]["seed"] == 3
    )
    assert run.folder.name.endswith("num_train_150_seed_1") or run.folder.name.endswith(
        "seed_1_num_train_150"
    )


@pytest.mark.parametrize("learn", ["interrupted", "failed", "killed while publishing"])
def test_a_finished_run_stays_until_a_new_one_is_finished(
    config, tiny, small_vae, monkeypatch, learn
):
    run = fit(small_vae(), tiny, config)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}

    def failing(*arguments):
        raise RuntimeError("the power went out")

    with monkeypatch.context() as patch:
        if learn == "interrupted":
            patch.setattr(training, "train", lambda *arguments: False)
            stopped = fit(small_vae(), tiny, config)
            assert stopped.folder == run.folder / "unfinished" and not stopped.metrics["finished"]
        else:
            patch.setattr(
                *((training, "train") if learn == "failed" else (folders, "publish")), failing
            )
            with pytest.raises(RuntimeError, match="power"):
                fit(small_vae(), tiny, config)
    assert {
        path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()
    } == before
    again = fit(small_vae(), tiny, config)
    assert again.folder == run.folder and not (run.folder / "unfinished").exists()
    assert [r["loss"] for r in again.history] == [r["loss"] for r in run.history]


def test_what_a_kill_cut_short_while_it_was_put_in_place_is_brought_to_its_end(
    config, tiny, small_vae, capsys
):
    run = fit(small_vae(), tiny, config)
    work = run.folder / "unfinished"
    work.mkdir()
    for name in ("vae.npz", "metrics.json"):
        (run.folder / name).rename(work / name)
    fit(small_vae(), tiny, {**config, "resume": True})
    assert "going on after 2 of 2 epochs" in capsys.readouterr().out
    assert (
        json.loads((run.folder / "metrics.json").read_text())["finished"]
        and (run.folder / "vae.npz").exists()
        and not work.exists()
    )


@pytest.mark.parametrize("first, more", [(1, 3), (2, 4)])
def test_going_on_to_more_epochs_equals_one_long_run(
    config, tiny, small_vae, small_disc, tmp_path, first, more
):
    config.update(disc_weight=1.0)
    whole = fit(
        small_vae(),
        tiny,
        {**config, "epochs": more, "results_dir": str(tmp_path / "whole")},
        small_disc(),
    )
    short = fit(small_vae(), tiny, {**config, "epochs": first}, small_disc())
    longer = fit(small_vae(), tiny, {**config, "epochs": more, "resume": True}, small_disc())
    assert [r["loss"] for r in longer.history] == [r["loss"] for r in whole.history]
    for name in ("vae.npz", "disc.npz", "checkpoint.npz"):
        ours, theirs = (files.read_arrays(run.folder / name)[0] for run in (longer, whole))
        assert all((ours[key] == theirs[key]).all() for key in theirs), name
    assert (
        short.folder.exists()
        and short.folder != longer.folder
        and short.folder.name.startswith(f"3_1_16_1_8_{first}_")
    )


def test_a_longer_runs_checkpoint_is_not_for_a_shorter_one(config, tiny, small_vae, capsys):
    fit(small_vae(), tiny, {**config, "epochs": 3})
    capsys.readouterr()
    assert len(fit(small_vae(), tiny, {**config, "epochs": 2, "resume": True}).history) == 2
    said = capsys.readouterr().out
    assert "no checkpoint of these parameters" in said
    assert re.search("nearest run here, .*_bce_3_.*, differs: more epochs there", said)


def test_resume_that_finds_none_names_the_nearest_run(config, tiny, small_vae, capsys):
    """Of two runs that have been, it is the one with one other parameter."""
    fit(small_vae(), tiny, {**config, "lr": 0.002, "kl_weight": 0.5})
    fit(small_vae(), tiny, {**config, "lr": 0.003})
    capsys.readouterr()
    fit(small_vae(), tiny, {**config, "resume": True})
    said = capsys.readouterr().out
    assert re.search(r"nearest run here, .*lr_0.003.*, differs: lr 0.003 there, 0.001 here\.", said)
    wider = d2lvae.DenseVAE(num_latents=4, num_layers=1, num_hiddens=16)
    fit(wider, tiny, {**config, "lr": 0.003, "resume": True})
    assert "differs: vae num_latents 3 there, 4 here.\n" in capsys.readouterr().out
    many = {"lr": 0.004, "kl_weight": 0.25, "pixel_weight": 2.0, "batch_size": 8}
    fit(small_vae(), tiny, {**config, **many, "resume": True})
    assert "nearest" not in capsys.readouterr().out


def test_weights_of_ones_own_are_kept_and_recorded(config, tiny, small_vae, capsys):
    vae = small_vae()
    mx.random.seed(5)
    vae.initialize(mx.init.Normal(0.05))
    vae(mx.nd.zeros((1, 1, 28, 28)))
    begun = get_weights(vae)
    seen = {}

    make = training.make_step

    def make_step(net, *others):
        seen.update(get_weights(net))
        return make(net, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_step", make_step)
        run = fit(vae, tiny, config)
    assert "begins from the weights that it has been given" in capsys.readouterr().out
    assert all((seen[name] == begun[name]).all() for name in begun)
    checksum = run.metrics["config"]["own_weights"]["vae"]
    assert run.folder.name.endswith(f"vae_weights_{checksum}")
    with pytest.raises(RunError, match="began from weights of its own, which training has changed"):
        fit(vae, tiny, config)
    assert len(fit(vae, tiny, {**config, "epochs": 3, "resume": True}).history) == 3
    d2lvae.initialize(vae, 0)
    assert "own_weights" not in fit(vae, tiny, config).metrics["config"]
    loaded = d2lvae.load_net(run.folder / "vae.npz")
    other = fit(loaded, tiny, config)
    assert (
        other.metrics["config"]["own_weights"]["vae"] != checksum
        and other.history[0]["loss"] < run.history[0]["loss"]
    )


def test_a_look_at_an_initialized_net_makes_it_nobodys_own(config, tiny_faces):
    vae = d2lvae.ConvVAE(8, 4, (3, 32, 32), upsampling="resize")
    d2lvae.initialize(vae, 0)
    with mx.autograd.record():
        vae(mx.nd.array(tiny_faces.train[:8]).astype("float32") / 255)[0].sum().backward()
    assert (
        "own_weights"
        not in fit(vae, tiny_faces, {**config, "num_train": 0, "epochs": 1}).metrics["config"]
    )


def test_a_fit_that_never_began_leaves_own_weights_to_the_next(
    config, tiny, small_vae, monkeypatch
):
    vae = small_vae()
    vae.initialize(mx.init.Normal(0.05))
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(vae, tiny, config)
    assert fit(vae, tiny, config).metrics["config"]["own_weights"]


def test_weights_from_initialize_are_the_seeds(config, tiny, small_vae, capsys):
    vae = small_vae()
    d2lvae.initialize(vae, 0)
    assert "own_weights" not in fit(vae, tiny, config).metrics["config"]
    assert "begins" not in capsys.readouterr().out
    fit(vae, tiny, {**config, "lr": 0.002})
    assert "was trained before; it begins anew from seed 0" in capsys.readouterr().out


def test_weights_of_another_seed_are_not_replaced_without_a_word(config, tiny, small_vae, capsys):
    vae = small_vae()
    d2lvae.initialize(vae, 7)
    fit(vae, tiny, config)
    assert "DenseVAE was initialized from seed 7; it begins from seed 0." in capsys.readouterr().out


def test_weights_in_some_layers_only_are_not_thrown_away(config, tiny, small_vae):
    vae = small_vae()
    vae.decoder.initialize(mx.init.Normal(0.05))
    with pytest.raises(RunError, match="some layers of this DenseVAE have weights"):
        fit(vae, tiny, config)
    vae.encoder.initialize(mx.init.Normal(0.05))
    assert fit(vae, tiny, config).metrics["config"]["own_weights"]


class SmallVAE(d2lvae.VAE):
    """A student's own, whose layers leave their widths open."""

    def __init__(self, num_latents=2, width=12, image_shape=(1, 28, 28)):
        super().__init__(num_latents, image_shape, width=width)
        with self.name_scope():
            self.encoder, self.decoder = nn.HybridSequential(), nn.HybridSequential()
            self.encoder.add(nn.Dense(width, activation="tanh"), nn.Dense(2 * num_latents))
            self.decoder.add(
                nn.Dense(width, activation="tanh"), nn.Dense(int(np.prod(image_shape)))
            )


class SmallDisc(d2lvae.Discriminator):
    def __init__(self, image_shape=(1, 28, 28)):
        super().__init__(image_shape)
        with self.name_scope():
            self.body = nn.HybridSequential()
            self.body.add(nn.Dense(8, activation="relu"), nn.Dense(1))

    def hybrid_forward(self, F, images):
        return self.body(images).reshape((-1,))


def absolute(logits, images):
    return (logits.sigmoid() - images).abs().sum(axis=(1, 2, 3))


def test_own_nets_own_loss_and_own_images_work_as_the_packages_do(config, tiny, tmp_path):
    images = d2lvae.ImageSet("mine", tiny.train, tiny.validation, "my own", False)
    parameters = {**config, "num_train": 0, "disc_weight": 1.0, "pixel_loss": absolute}
    whole = fit(
        SmallVAE(),
        images,
        {**parameters, "epochs": 3, "results_dir": str(tmp_path / "whole")},
        SmallDisc(),
    )
    run = fit(SmallVAE(), images, parameters, SmallDisc())
    assert run.folder.parent.name == "SmallVAE_SmallDisc_on_mine"
    assert run.folder.name.startswith("2_12_2_pixel_loss_absolute_source_")
    longer = fit(SmallVAE(), images, {**parameters, "epochs": 3, "resume": True}, SmallDisc())
    assert [r["loss"] for r in longer.history] == [r["loss"] for r in whole.history]
    vae, disc = (d2lvae.load_net(longer.folder / name) for name in ("vae.npz", "disc.npz"))
    assert type(vae) is SmallVAE and type(disc) is SmallDisc
    assert (runs.reconstruct(vae, images.validation[:10]) == longer.reconstructions).all()
    table = d2lvae.evaluate(longer, images, pixel_loss=absolute)
    assert "kernel distance" not in table.index and "SSIM" in table.index
    assert "'mine'" in longer.metrics["quality"]["not_measured"]["kid"]


def test_a_discriminator_without_features_is_not_asked_for_them(config, tiny, small_vae):
    with pytest.raises(ParameterError, match="SmallDisc has no method `features`"):
        fit(small_vae(), tiny, {**config, "learned_loss": "features"}, SmallDisc())


def test_layers_changed_by_hand_get_a_folder_of_their_own(config, tiny, small_vae):
    usual = fit(small_vae(), tiny, config)
    changed = small_vae()
    with changed.name_scope():
        changed.decoder = nn.HybridSequential()
        changed.decoder.add(nn.Dense(20, activation="tanh"), nn.Dense(784))
    run = fit(changed, tiny, config)
    assert run.folder != usual.folder and "layers_" in run.folder.name
    with pytest.raises(
        CheckpointError, match="vae.npz: this DenseVAE's layers had been changed by hand"
    ):
        d2lvae.load_net(run.folder / "vae.npz")
    mine = small_vae()
    with mine.name_scope():
        mine.decoder = nn.HybridSequential()
        mine.decoder.add(nn.Dense(20, activation="tanh"), nn.Dense(784))
    d2lvae.initialize(mine, 9)
    assert d2lvae.load_net(run.folder / "vae.npz", net=mine) is mine and same_weights(
        mine, get_weights(changed)
    )


class Silent(d2lvae.VAE):
    """A student's, that does not hand on what it takes."""

    def __init__(self, width):
        super().__init__(2, (1, 28, 28))
        with self.name_scope():
            self.encoder, self.decoder = nn.Dense(4), nn.Dense(784)


def test_a_class_that_does_not_hand_on_its_arguments_is_told_so(config, tiny):
    with pytest.raises(
        TypeError, match="Silent cannot be made again from .*num_latents.*super.*hand on all"
    ):
        fit(Silent(5), tiny, config)


def test_a_damaged_checkpoint_elsewhere_does_not_keep_a_run_from_its_own(
    config, tiny, small_vae, capsys
):
    """Of a shorter run the record can be read, but not the weights: the next best is taken."""
    fit(small_vae(), tiny, {**config, "epochs": 1})
    longer = fit(small_vae(), tiny, {**config, "epochs": 2})
    for name in ("checkpoint.npz", "checkpoint_previous.npz"):
        content = (longer.folder / name).read_bytes()
        middle = content.rindex(b"NUMPY") + 150  # in the last array; the record is the first
        (longer.folder / name).write_bytes(
            content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        )
    capsys.readouterr()
    run = fit(small_vae(), tiny, {**config, "epochs": 3, "resume": True})
    said = capsys.readouterr().out
    assert (
        len(run.history) == 3
        and "going on after 1 of 3 epochs" in said
        and str(longer.folder) in said
    )


def test_a_class_that_is_not_defined_is_named(tmp_path, small_vae):
    net = small_vae()
    d2lvae.initialize(net, 0)
    files.write_arrays(
        tmp_path / "vae.npz", get_weights(net), {"config": {**net.config, "net": "Lost"}}
    )
    with pytest.raises(CheckpointError, match="unknown net 'Lost'.*define or import it"):
        d2lvae.load_net(tmp_path / "vae.npz")


@pytest.mark.parametrize(
    "shape, number",
    [((1, 28, 28), 1), ((1, 8, 8), 30), ((3, 4, 4), 30), ((2, 28, 28), 30), ((4, 16, 16), 30)],
)
@pytest.mark.pictures
@pytest.mark.parametrize("name", ["mine", "MNIST"])
def test_what_cannot_be_measured_costs_no_training(config, shape, number, name):
    rng = np.random.default_rng(0)
    train, validation = (rng.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (40, number))
    images = d2lvae.ImageSet(name, train, validation, "made up", False)
    run = fit(
        d2lvae.DenseVAE(2, 1, 8, shape),
        images,
        {**config, "num_train": 0, "epochs": 1, "data": "auto"},
    )
    table = d2lvae.evaluate(run, images)
    quality = run.metrics["quality"]
    assert run.metrics["finished"] and (run.folder / "0.png").exists() and len(table)
    assert "kid" in quality["not_measured"] and not {"kid"} & set(quality)
    assert ("ssim" in quality) == (shape[0] in (1, 3) and shape[1] >= 11)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda x: (x * 255).astype("uint8"), "found uint8"),
        (lambda x: x * 255, "float32 from 0 to 255"),
        (lambda x: x.astype("float64"), "found float64"),
        (lambda x: x.asnumpy(), "found numpy.ndarray"),
    ],
)
def test_images_that_are_not_in_the_unit_range_are_refused(small_vae, small_disc, wrong, words):
    vae = small_vae()
    d2lvae.initialize(vae, 0)
    images = wrong(mx.nd.array(np.linspace(0, 1, 784).reshape(1, 1, 28, 28)))
    disc = small_disc()
    d2lvae.initialize(disc, 0)
    for call in (vae, vae.encode, vae.reconstruct, disc):
        with pytest.raises(ValueError, match=words):
            call(images)


def test_numpys_numbers_are_numbers_in_nets_and_images_too(config, tiny, small_vae, small_disc):
    three, one, eight = map(np.int64, (3, 1, 8))
    images = d2lvae.ImageSet(
        "mine", tiny.train, tiny.validation, np.str_("x"), np.bool_(False), seed=np.int64(0)
    ).first(np.int64(150))
    run = fit(
        d2lvae.DenseVAE(three, one, np.int64(16)),
        images,
        {**config, "num_train": 150, "disc_weight": 1.0},
        d2lvae.DenseLogReg(one, eight),
    )
    assert run.folder.name == "3_1_16_1_8_2_num_train_150"
    assert json.loads((run.folder / "metrics.json").read_text())["config"]["num_train"] == 150
    assert d2lvae.load_net(run.folder / "vae.npz").config == small_vae().config
    assert d2lvae.load_net(run.folder / "disc.npz").config == small_disc().config


def test_what_fit_does_not_take_is_refused(config, tiny, small_vae):
    with pytest.raises(TypeError, match="config must be a d2lvae.Config; found dict"):
        d2lvae.fit(small_vae(), tiny, config)
    with pytest.raises(TypeError, match="Dense is no d2lvae.VAE"):
        fit(nn.Dense(3), tiny, config)
