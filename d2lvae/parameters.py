"""A notebook's parameters: known by name, checked before any work."""
import ast
import dataclasses
import difflib
import math
import typing

from . import runtime

__all__ = ["ParameterError", "check_parameters", "checked"]


class ParameterError(ValueError):
    """A parameter that is misspelt, of the wrong type or out of range; the message says what is right."""


@dataclasses.dataclass(frozen=True)
class _Rule:
    kind: type
    expected: str  # in words, for the message
    example: str
    accepts: typing.Callable = lambda value: True
    choices: tuple = ()


def _whole(least, example):
    return _Rule(int, f"a whole number of at least {least}", example, lambda value: value >= least)


def _weight():
    return _Rule(float, "a number of at least 0", "1.0", lambda value: value >= 0)


def _one_of(*choices):
    expected = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
    return _Rule(str, expected, choices[0], choices.__contains__, choices)


RESNETS = tuple(f"resnet{depth}_{version}" for version in ("v1", "v1b", "v2") for depth in (18, 34, 50, 101, 152)) + tuple(
    f"cifar_resnet{depth}_{version}" for version in ("v1", "v2") for depth in (20, 56, 110))


RULES = {
    "data": _one_of("auto", "mnist", "anime", "drawn"),
    "image_size": _Rule(int, "32, 64 or 128", "64", (32, 64, 128).__contains__),
    "num_train": _whole(0, "0"),
    "epochs": _whole(1, "10"),
    "batch_size": _whole(1, "64"),
    "lr": _Rule(float, "a number above 0", "0.001", lambda value: value > 1e-30),  # float32 holds no smaller
    "num_latents": _whole(1, "5"),
    "num_layers": _whole(1, "3"),
    "num_hiddens": _whole(1, "400"),
    "base_channels": _whole(1, "32"),
    "disc_num_layers": _whole(0, "1"),
    "disc_num_hiddens": _whole(1, "200"),
    "disc_base_channels": _whole(1, "16"),
    "disc_norm": _one_of("batch", "spectral"),
    "disc_net": _Rule(str, "the name of one of gluoncv's ResNets, such as resnet18_v1 or cifar_resnet20_v1", "resnet18_v1",
                      RESNETS.__contains__, RESNETS),
    "upsampling": _one_of("transposed", "resize"),
    "learned_loss": _one_of("adversarial", "features", "both"),
    "feature_weight": _weight(),
    "disc_lr": _Rule(float, "a number of at least 0", "0.0002", lambda value: value == 0 or value > 1e-30),
    "num_solo_epochs": _whole(0, "5"),
    "min_disc_loss": _Rule(float, "a number of at least 0", "0.1", lambda value: value >= 0),
    "max_disc_loss": _Rule(float, "a number of at least 0", "1.5", lambda value: value >= 0),
    "pixel_weight_decay": _Rule(float, "a number above 0 and at most 1", "0.95", lambda value: 0 < value <= 1),
    "pixel_loss": _one_of("bce", "l2"),
    "precision": _one_of("float32", "bfloat16"),
    "pixel_weight": _weight(),
    "kl_weight": _weight(),
    "disc_weight": _weight(),
    "num_seeds": _whole(1, "3"),
    "seed": _whole(0, "0"),
    "kvstore": _one_of("local", "dist_sync"),
    "resume": _Rule(bool, "True or False", "True"),
    "results_dir": _Rule(str, "a folder's path, or '' for the project's results/", "my_results"),
}


def check_parameters(namespace):
    """Check the parameters in a notebook's first cell, as they are after papermill's `-p`.

    Parameters
    ----------
    namespace : dict
        The notebook's `globals()`.  Its parameters are the names annotated in the parameters cell
        (`epochs: int = 10`).  Any other name set there, or in the cell that papermill puts behind it,
        is misspelt: papermill sets those too, with no more than a warning.

    Returns
    -------
    dict
        The parameters' values, whole numbers turned into floats where a float is wanted.

    Raises
    ------
    ParameterError
        Naming the parameter, what was found and what is expected.
    """
    names = _parameter_names(namespace)
    declared = [name for name in names if name in RULES]
    if not declared:
        raise ParameterError("no parameters found: run the first cell, which sets them, before this one")
    for name in names:
        if name not in RULES or name not in namespace.get("__annotations__", {}):
            raise ParameterError(_unknown(name, [n for n in declared if n in namespace["__annotations__"]]))
    config = {name: checked(name, namespace[name]) for name in declared}
    if config.get("disc_weight") and not any(n.startswith("disc_") and n != "disc_weight" for n in declared):
        raise ParameterError(f"disc_weight must be 0.0 in this notebook, which has no discriminator; found "
                             f"{config['disc_weight']}. Take a notebook that has one")
    return config


def _parameter_names(namespace):
    """All names set by the parameters cell that ran last and by papermill's cell behind it, in order."""
    names = dict.fromkeys(namespace.get("__annotations__", {}))
    for source in namespace.get("In", ()):  # IPython's record of the cells that have run
        try:
            statements = ast.parse(source).body
        except SyntaxError:
            continue
        annotated = [node.target.id for node in statements
                     if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
        assigned = [target.id for node in statements if isinstance(node, ast.Assign)
                    for target in node.targets if isinstance(target, ast.Name)]
        if set(annotated) & set(RULES):
            names = dict.fromkeys(annotated + assigned)
        elif source.startswith("# Parameters\n"):
            names.update(dict.fromkeys(assigned))
    return list(names)


def _unknown(name, declared):
    close = difflib.get_close_matches(name, declared, 1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return (f"{name!r} is not a parameter of this notebook{hint} "
            f"Its parameters: {', '.join(declared)}")


def checked(name, value):
    """The value of the parameter `name`, or a ParameterError that says what is right."""
    rule = RULES[name]
    if rule.kind is float and type(value) is int and abs(value) < 10 ** 300:
        value = float(value)
    right_type = type(value) is rule.kind and (rule.kind is not float or math.isfinite(value))
    if not right_type or not rule.accepts(value):
        kind = {str: "text", bool: "a bool", int: "a whole number", float: "a number"}.get(type(value), type(value).__name__)
        close = _close(value, rule.choices) if type(value) is str else []
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        raise ParameterError(f"{name} must be {rule.expected}; found {value!r} ({kind}){hint} "
                             f"For example: -p {name} {close[0] if close else rule.example}")
    if name == "precision" and value == "bfloat16" and not runtime.has_bfloat16():
        raise ParameterError(f"{name} 'bfloat16' needs a processor that computes in it (on Linux, with avx512_bf16 among the flags in "
                             "/proc/cpuinfo: Intel's since Cooper Lake, AMD's since Zen 4); this one does not. For example: -p precision float32")
    return value


def _close(value, choices):
    """Up to three choices that look most like a text, whatever its capitals and punctuation."""
    plain = {choice.replace("_", ""): choice for choice in choices}
    wanted = "".join(letter for letter in value.lower() if letter.isalnum())
    return [plain[name] for name in difflib.get_close_matches(wanted, sorted(plain), 3, cutoff=0.5)]
