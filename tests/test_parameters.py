"""A parameter that is misspelt, of the wrong type or out of range stops before any work."""

import dataclasses

import numpy as np
import pytest
from d2lvae.config import DEFAULTS as ALL_DEFAULTS
from d2lvae.config import RULES, Config, ParameterError
from IPython.core.inputtransformer2 import TransformerManager

DEFAULTS = dict(
    data="auto",
    num_train=0,
    epochs=10,
    batch_size=64,
    lr=0.001,
    num_latents=5,
    pixel_loss="bce",
    disc_weight=0.0,
    seed=0,
    resume=False,
    results_dir="",
)
CALL = "config = d2lvae.Config.from_notebook(globals())"


def cell(typed=True, **changes):
    """The source of a parameters cell."""
    return "\n".join(
        f"{name}{f': {RULES[name].kind.__name__}' if typed and name in RULES else ''} = {value!r}"
        for name, value in {**DEFAULTS, **changes}.items()
    )


def as_kept(source):
    """A cell's source as IPython keeps it in `In`: magics are calls."""
    return TransformerManager().transform_cell(source)


def namespace(first=None, *later, **changes):
    """A notebook's globals after its parameters cell, perhaps papermill's, and perhaps other cells."""
    injected = (
        ["# Parameters\n" + "\n".join(f"{n} = {v!r}" for n, v in changes.items())]
        if changes
        else []
    )
    found = {
        "__name__": "__main__",
        "get_ipython": print,
        "In": [as_kept(source) for source in ("", first or cell(), *injected, *later)],
        **DEFAULTS,
        **changes,
    }
    for source in (first or "", *later):
        exec("\n".join(line for line in source.splitlines() if line[:1] not in "%!"), found)
    return found


def check(found):
    """What the notebook gave of the parameters."""
    config = Config.from_notebook(found)
    return {name: getattr(config, name) for name in config.given}


def test_defaults_pass_and_whole_numbers_serve_as_floats():
    assert check(namespace()) == DEFAULTS
    config = Config.from_notebook(namespace(lr=1, disc_weight=0))
    assert (config.lr, config.disc_weight) == (1.0, 0.0) and type(config.lr) is float


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("epoch", 50, "'epoch' is not a parameter of this notebook; did you mean 'epochs'?"),
        ("learning_speed", 1, "'learning_speed' is not a parameter"),
        ("num_units", 10, "'num_units' is not a parameter of this notebook"),
        ("epochs", "ten", "epochs must be a whole number of at least 1; found 'ten' (text)"),
        ("epochs", 0, "epochs must be a whole number of at least 1; found 0"),
        ("epochs", 2.5, "epochs must be a whole number of at least 1; found 2.5"),
        ("epochs", True, "epochs must be a whole number of at least 1; found True (a bool)"),
        ("epochs", None, "epochs must be"),
        (
            "resume",
            "false",
            "resume must be True or False; found 'false' (text). For example: -p resume True",
        ),
        ("resume", 1, "resume must be True or False; found 1"),
        ("lr", -1, "lr must be a number above 0; found -1.0"),
        ("lr", float("nan"), "lr must be"),
        ("lr", float("inf"), "lr must be"),
        ("lr", np.float64("nan"), "lr must be"),
        ("disc_weight", -1.0, "disc_weight must be a number of at least 0; found -1.0"),
        ("data", "MNIST", "data must be 'auto', 'mnist', 'anime' or 'drawn'; found 'MNIST'"),
        ("pixel_loss", "mse", "pixel_loss must be 'bce' or 'l2'"),
        ("batch_size", 0, "batch_size must be a whole number of at least 1"),
        ("seed", -1, "seed must be a whole number of at least 0"),
        ("results_dir", 5, "results_dir must be a folder's path"),
    ],
)
def test_bad_parameters_are_named(name, value, message):
    with pytest.raises(ParameterError) as caught:
        check(namespace(**{name: value}))
    assert message in str(caught.value)


@pytest.mark.parametrize("name, value", [("data", "mnist"), ("pixel_loss", "l2")])
def test_what_a_notebook_has_of_its_own_is_no_parameter_of_it(name, value):
    """As in own_experiment, which has images and a loss; `kvstore` it need not list."""
    with pytest.raises(ParameterError, match=f"'{name}' is not a parameter of this notebook"):
        check(namespace("epochs: int = 5", **{name: value}))
    assert check(namespace("epochs: int = 5", kvstore="local"))["kvstore"] == "local"


def test_numpys_numbers_are_numbers():
    config = Config.from_dict(
        {
            "lr": np.float64(0.01),
            "epochs": np.int64(3),
            "resume": np.bool_(True),
            "kl_weight": np.float32(2),
        }
    )
    assert (config.lr, config.epochs, config.resume, config.kl_weight) == (0.01, 3, True, 2.0)
    assert [type(value) for value in (config.lr, config.epochs, config.resume)] == [
        float,
        int,
        bool,
    ]


def test_what_later_cells_set_does_not_count_when_the_cell_is_run_again():
    again = namespace(
        None,
        CALL.replace("d2lvae.", "")
        .replace("Config", "print")
        .replace(".from_notebook(globals())", "()"),
    )
    again["In"] = [
        "",
        cell(),
        CALL,
        "name = 'x'\nerror = 1.5",
        "seed = 3\nname = 'x'",
        as_kept("%magic no python"),
        as_kept("%%bash\nepochs=7\nseed=3"),
    ]
    assert check(again) == DEFAULTS


def test_a_name_misspelt_in_the_cell_itself_and_then_mended():
    wrong = namespace("epoch: int = 5\n" + cell())
    with pytest.raises(ParameterError, match="'epoch' is not a parameter .* did you mean 'epochs'"):
        check(wrong)
    assert check({**wrong, "In": [*wrong["In"], cell()]}) == DEFAULTS


@pytest.mark.parametrize(
    "first, later, expected",
    [
        (cell(typed=False), [], {}),
        (cell().replace("epochs: int = 10", "epochs = 20"), [], {"epochs": 20}),
        (cell(), ["lr: float = 0.01"], {"lr": 0.01}),
        (cell(), ["lr = 0.01\nepochs = 3"], {"lr": 0.01, "epochs": 3}),
        ('"""What to turn."""\n' + cell(), [], {}),
        ("%%time\n" + cell(), [], {}),
        ("%matplotlib inline\n" + cell() + "\n!ls", [], {}),
        (cell() + "\nprint(epochs)", [], {}),
        ("import os\n" + cell() + "\nplace = os.getcwd()", [], {}),
        (cell().replace("epochs: int = 10", "epochs: int = int(2e1)"), [], {"epochs": 20}),
        (cell(), ["epochs = int(3e0)\nlr = 0.5 * lr"], {"epochs": 3, "lr": 0.0005}),
        (cell(), ["def f():\n    epochs = 3\n    seed = 5", "seed = int(2)"], {"seed": 2}),
        (cell(), [cell(epochs=2)], {"epochs": 2}),
    ],
)
def test_edits_that_students_make(first, later, expected):
    assert check(namespace(first, *later)) == {**DEFAULTS, **expected}


@pytest.mark.parametrize("more", ["%%time\n{}", "%%capture\n{}", "{}\nprint(1)", "!ls\n{}"])
def test_nothing_else_in_the_cell_hides_a_misspelt_name(more):
    with pytest.raises(ParameterError, match="'epoch' is not a parameter"):
        check(namespace(more.format(cell(epoch=5))))


def test_papermills_own_names_are_no_parameters():
    assert check(
        namespace(PAPERMILL_INPUT_PATH="a.ipynb", PAPERMILL_OUTPUT_PATH="b.ipynb", epochs=3)
    ) == {**DEFAULTS, "epochs": 3}


@pytest.mark.parametrize(
    "name, value",
    [
        *(("kvstore", "dist_sync"), ("local_steps", 16), ("kl_weight", 4.0)),
        *(("disc_lr", 0.001), ("num_solo_epochs", 2)),
    ],
)
def test_papermill_may_set_what_fit_takes_from_the_config_though_no_cell_lists_it(name, value):
    assert name not in DEFAULTS
    assert check(namespace(**{name: value})) == {**DEFAULTS, name: value}


@pytest.mark.parametrize(
    "name, value", [("num_layers", 2), ("image_size", 32), ("disc_net", "resnet18_v1")]
)
def test_a_size_that_no_cell_hands_to_a_net_is_refused(name, value):
    with pytest.raises(ParameterError, match=f"'{name}' is not a parameter of this notebook"):
        check(namespace(**{name: value}))


@pytest.mark.parametrize("first", ["results_dir: str = ''", "epochs: int = 10\nnum_seeds: int = 3"])
def test_a_notebook_that_trains_no_run_of_its_own_has_only_what_it_lists(first):
    with pytest.raises(ParameterError, match="'lr' is not a parameter of this notebook"):
        Config.from_notebook(namespace(first, lr=0.1))


def test_a_misspelt_name_is_told_from_what_no_cell_lists_too():
    with pytest.raises(ParameterError, match="'kvstor' is not .* did you mean 'kvstore'"):
        check(namespace(kvstor="local"))


def test_without_a_record_of_cells_the_names_count():
    assert check(DEFAULTS) == DEFAULTS


def test_without_the_first_cell_there_is_a_hint():
    with pytest.raises(ParameterError, match="run the first cell"):
        check({"In": ["", CALL]})


def test_a_parameter_that_has_changed_since_is_named():
    notebook = namespace()
    config = Config.from_notebook(notebook)
    config.check_notebook()
    dataclasses.replace(config, epochs=3).check_notebook()  # changed on purpose
    notebook.update(epochs=3, data=np.zeros(5))
    with pytest.raises(
        ParameterError,
        match=r"data is array.* now and was 'auto'; epochs is 3 now and was 10.*from_notebook",
    ):
        config.check_notebook()


def test_every_parameter_has_a_rule_that_its_default_keeps():
    assert set(RULES) == set(ALL_DEFAULTS) - {"notebook", "given"}
    assert Config() == Config.from_dict(
        {name: value for name, value in ALL_DEFAULTS.items() if name in RULES and value is not None}
    )


def test_a_loss_of_ones_own_needs_a_name():
    def cauchy(logits, images):
        return logits

    assert Config(pixel_loss=cauchy).pixel_loss is cauchy
    for bad in (lambda logits, images: logits, type("f", (), {"__call__": print})()):
        with pytest.raises(ParameterError, match="pixel_loss"):
            Config(pixel_loss=bad)
