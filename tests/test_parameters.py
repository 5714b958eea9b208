"""A parameter that is misspelt, of the wrong type or out of range stops before any work."""
import pytest

from d2lvae.parameters import RULES, ParameterError, check_parameters

DEFAULTS = dict(data="auto", num_train=0, epochs=10, batch_size=64, lr=0.001, num_latents=5,
                pixel_loss="bce", disc_weight=1.0, seed=0, resume=False, results_dir="")


def namespace(**changes):
    return {"__annotations__": {name: RULES[name].kind for name in DEFAULTS}, "__name__": "__main__",
            "In": ["..."], "get_ipython": print, **DEFAULTS, **changes}


def test_defaults_pass_and_whole_numbers_serve_as_floats():
    assert check_parameters(namespace()) == DEFAULTS
    config = check_parameters(namespace(lr=1, disc_weight=10))
    assert (config["lr"], config["disc_weight"]) == (1.0, 10.0) and type(config["lr"]) is float


@pytest.mark.parametrize("name, value, message", [
    ("epoch", 50, "'epoch' is not a parameter of this notebook; did you mean 'epochs'?"),
    ("learning_speed", 1, "'learning_speed' is not a parameter"),
    ("num_hiddens", 10, "'num_hiddens' is not a parameter of this notebook"),
    ("epochs", "ten", "epochs must be a whole number of at least 1; found 'ten' (text)"),
    ("epochs", 0, "epochs must be a whole number of at least 1; found 0"),
    ("epochs", 2.5, "epochs must be a whole number of at least 1; found 2.5"),
    ("epochs", True, "epochs must be a whole number of at least 1; found True"),
    ("epochs", None, "epochs must be"),
    ("resume", "false", "resume must be True or False; found 'false' (text). For example: -p resume True"),
    ("resume", 1, "resume must be True or False; found 1"),
    ("lr", -1, "lr must be a number above 0; found -1.0"),
    ("lr", float("nan"), "lr must be"),
    ("lr", float("inf"), "lr must be"),
    ("disc_weight", -1.0, "disc_weight must be a number of at least 0; found -1.0"),
    ("data", "MNIST", "data must be 'auto' or 'mnist' or 'drawn'; found 'MNIST'"),
    ("pixel_loss", "mse", "pixel_loss must be 'bce' or 'l2'"),
    ("batch_size", 0, "batch_size must be a whole number of at least 1"),
    ("seed", -1, "seed must be a whole number of at least 0"),
    ("results_dir", 5, "results_dir must be a folder's path"),
])
def test_bad_parameters_are_named(name, value, message):
    with pytest.raises(ParameterError) as caught:
        check_parameters(namespace(**{name: value}))
    assert message in str(caught.value)


def test_what_else_stands_in_a_notebook_does_not_count():
    check_parameters(namespace(vae=object(), images=[1, 2], _private=5, _=3, mx=pytest))


def test_without_the_first_cell_there_is_a_hint():
    with pytest.raises(ParameterError, match="run the first cell"):
        check_parameters({"__annotations__": {}})
