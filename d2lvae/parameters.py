"""A notebook's parameters: known by name, checked before any work."""
import dataclasses
import difflib
import math
import typing

__all__ = ["ParameterError", "check_parameters"]


class ParameterError(ValueError):
    """A parameter that is misspelt, of the wrong type or out of range; the message says what is right."""


@dataclasses.dataclass(frozen=True)
class _Rule:
    kind: type
    expected: str  # in words, for the message
    example: str
    accepts: typing.Callable = lambda value: True


def _whole(least, example):
    return _Rule(int, f"a whole number of at least {least}", example, lambda value: value >= least)


def _weight():
    return _Rule(float, "a number of at least 0", "1.0", lambda value: value >= 0)


def _one_of(*choices):
    return _Rule(str, " or ".join(map(repr, choices)), choices[0], choices.__contains__)


RULES = {
    "data": _one_of("auto", "mnist", "drawn"),
    "num_train": _whole(0, "0"),
    "epochs": _whole(1, "10"),
    "batch_size": _whole(1, "64"),
    "lr": _Rule(float, "a number above 0", "0.001", lambda value: value > 0),
    "num_latents": _whole(1, "5"),
    "num_layers": _whole(1, "3"),
    "num_hiddens": _whole(1, "400"),
    "disc_num_layers": _whole(0, "1"),
    "disc_num_hiddens": _whole(1, "200"),
    "pixel_loss": _one_of("bce", "l2"),
    "pixel_weight": _weight(),
    "kl_weight": _weight(),
    "disc_weight": _weight(),
    "seed": _whole(0, "0"),
    "resume": _Rule(bool, "True or False", "True"),
    "results_dir": _Rule(str, "a folder's path, or '' for the project's results/", "my_results"),
}


def check_parameters(namespace):
    """Check the parameters in a notebook's first cell, as they are after papermill's `-p`.

    Parameters
    ----------
    namespace : dict
        The notebook's `globals()`.  Its parameters are the names annotated there
        (`epochs: int = 10`).  Any other plain text or number counts as a misspelt parameter:
        papermill defines those too, with no more than a warning.

    Returns
    -------
    dict
        The parameters' values, whole numbers turned into floats where a float is wanted.

    Raises
    ------
    ParameterError
        Naming the parameter, what was found and what is expected.
    """
    declared = [name for name in namespace.get("__annotations__", {}) if name in RULES]
    if not declared:
        raise ParameterError("no parameters found: run the first cell, which sets them, before this one")
    for name, value in namespace.items():
        if not name.startswith("_") and name not in declared and (
                name in namespace.get("__annotations__", {})
                or isinstance(value, (bool, int, float, str, type(None)))):
            raise ParameterError(_unknown(name, declared))
    return {name: _checked(name, namespace[name]) for name in declared}


def _unknown(name, declared):
    close = difflib.get_close_matches(name, declared, 1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return (f"{name!r} is not a parameter of this notebook{hint} "
            f"Its parameters: {', '.join(declared)}")


def _checked(name, value):
    rule = RULES[name]
    if rule.kind is float and type(value) is int:
        value = float(value)
    right_type = type(value) is rule.kind and (rule.kind is not float or math.isfinite(value))
    if not right_type or not rule.accepts(value):
        kind = {str: "text", bool: "True or False", int: "whole number", float: "number"}.get(type(value), type(value).__name__)
        raise ParameterError(f"{name} must be {rule.expected}; found {value!r} ({kind}). "
                             f"For example: -p {name} {rule.example}")
    return value
