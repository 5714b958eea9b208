"""A parameter that is misspelt, of the wrong type or out of range stops before any work."""
import pytest

from d2lvae.parameters import RULES, ParameterError, check_parameters

DEFAULTS = dict(data="auto", num_train=0, epochs=10, batch_size=64, lr=0.001, num_latents=5,
                pixel_loss="bce", disc_weight=0.0, seed=0, resume=False, results_dir="")


def namespace(cell=None, **changes):
    """A notebook's globals after its parameters cell and, perhaps, papermill's."""
    cell = cell or "\n".join(f"{name}: {RULES[name].kind.__name__} = {value!r}" for name, value in DEFAULTS.items())
    injected = "# Parameters\n" + "\n".join(f"{n} = {v!r}" for n, v in changes.items()) if changes else ""
    return {"__annotations__": {name: RULES[name].kind for name in DEFAULTS}, "__name__": "__main__",
            "In": ["", cell, injected], "get_ipython": print, **DEFAULTS, **changes}


def test_defaults_pass_and_whole_numbers_serve_as_floats():
    assert check_parameters(namespace()) == DEFAULTS
    config = check_parameters(namespace(lr=1, disc_weight=0))
    assert (config["lr"], config["disc_weight"]) == (1.0, 0.0) and type(config["lr"]) is float


@pytest.mark.parametrize("name, value, message", [
    ("epoch", 50, "'epoch' is not a parameter of this notebook; did you mean 'epochs'?"),
    ("learning_speed", 1, "'learning_speed' is not a parameter"),
    ("num_hiddens", 10, "'num_hiddens' is not a parameter of this notebook"),
    ("epochs", "ten", "epochs must be a whole number of at least 1; found 'ten' (text)"),
    ("epochs", 0, "epochs must be a whole number of at least 1; found 0"),
    ("epochs", 2.5, "epochs must be a whole number of at least 1; found 2.5"),
    ("epochs", True, "epochs must be a whole number of at least 1; found True (a bool)"),
    ("epochs", None, "epochs must be"),
    ("resume", "false", "resume must be True or False; found 'false' (text). For example: -p resume True"),
    ("resume", 1, "resume must be True or False; found 1"),
    ("lr", -1, "lr must be a number above 0; found -1.0"),
    ("lr", float("nan"), "lr must be"),
    ("lr", float("inf"), "lr must be"),
    ("disc_weight", -1.0, "disc_weight must be a number of at least 0; found -1.0"),
    ("data", "MNIST", "data must be 'auto', 'mnist', 'anime' or 'drawn'; found 'MNIST'"),
    ("pixel_loss", "mse", "pixel_loss must be 'bce' or 'l2'"),
    ("batch_size", 0, "batch_size must be a whole number of at least 1"),
    ("seed", -1, "seed must be a whole number of at least 0"),
    ("results_dir", 5, "results_dir must be a folder's path"),
])
def test_bad_parameters_are_named(name, value, message):
    with pytest.raises(ParameterError) as caught:
        check_parameters(namespace(**{name: value}))
    assert message in str(caught.value)


def test_what_later_cells_set_does_not_count_when_the_cell_is_run_again():
    again = namespace(vae=object(), name="x", error=1.5)
    again["In"] = ["", again["In"][1], "check_parameters(globals())", "name = 'x'\nerror = 1.5", "%magic no python"]
    assert check_parameters(again) == DEFAULTS


def test_a_name_misspelt_in_the_cell_itself_and_then_mended():
    """The annotation of the first try stays in the kernel; it must not count for ever."""
    wrong = namespace(cell="epoch: int = 5\n" + namespace()["In"][1])
    wrong["__annotations__"]["epoch"] = int
    with pytest.raises(ParameterError, match="'epoch' is not a parameter .* did you mean 'epochs'"):
        check_parameters({**wrong, "epoch": 5})
    mended = {**wrong, "epoch": 5, "In": [*wrong["In"], namespace()["In"][1]]}
    assert check_parameters(mended) == DEFAULTS


def test_a_weight_where_there_is_no_discriminator():
    with pytest.raises(ParameterError, match="disc_weight must be 0.0 in this notebook"):
        check_parameters(namespace(disc_weight=2.0))


def test_without_the_first_cell_there_is_a_hint():
    with pytest.raises(ParameterError, match="run the first cell"):
        check_parameters({"__annotations__": {}})
