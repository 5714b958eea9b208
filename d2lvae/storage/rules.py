"""What a parameter may be: its rule, beside its default, and what is said of a wrong value."""

import dataclasses
import difflib
import math
import pathlib
import typing

import numpy as np

from .errors import ParameterError

KINDS = {str: "text", bool: "a bool", int: "a whole number", float: "a number"}


class Rule(typing.NamedTuple):
    """What a parameter may be; `expected` and `example` are words for messages."""

    kind: type
    expected: str
    accepts: typing.Callable
    choices: typing.Sequence
    example: str

    def check(self, name, value):
        """The parameter's value as Python's own; a ParameterError says what would be right."""
        value = self.plain(value)
        if not self.allows(value):
            raise ParameterError(self.refusal(name, value))
        return value

    def plain(self, value):
        """A value as Python's own; a whole number serves as a float, a path as its text."""
        value = value.item() if isinstance(value, np.generic) else value
        value = str(value) if isinstance(value, pathlib.PurePath) else value
        is_whole = self.kind is float and type(value) is int and abs(value) < 10**300
        return float(value) if is_whole else value

    def allows(self, value):
        """Whether a value is of the right type, finite and in range."""
        if type(value) is not self.kind or (self.kind is float and not math.isfinite(value)):
            return False
        return self.accepts(value)

    def refusal(self, name, value):
        """The sentence on a value that is not allowed: what was found, and what would be right."""
        close = close_choices(value, self.choices) if type(value) is str else []
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        kind = KINDS.get(type(value), type(value).__name__)
        return (
            f"{name} must be {self.expected}; found {value!r} ({kind}){hint} "
            f"For example: -p {name} {close[0] if close else self.example}"
        )


def parameter(kind, default, expected, accepts=lambda value: True, choices=(), example=None):
    """A dataclass's field with its rule. If there is no better example, it is the default."""
    rule = Rule(kind, expected, accepts, choices, str(default) if example is None else example)
    return dataclasses.field(default=default, metadata={"rule": rule})


def whole(default, least, example=None):
    """A whole number of at least `least`."""
    expected = f"a whole number of at least {least}"
    return parameter(int, default, expected, lambda value: value >= least, example=example)


def weight(default):
    """A number of at least 0."""
    return parameter(float, default, "a number of at least 0", lambda value: value >= 0)


def rate(default, example=None):
    """A learning rate. It is 0 only where that is the default, and stands for another's."""
    expected = "a number above 0" if default else "a number of at least 0"

    def accepts(value):
        return value > 1e-30 or value == default == 0  # float32 holds no smaller

    return parameter(float, default, expected, accepts, example=example)


def one_of(*choices, has_default=True, expected=None):
    """One of some texts. The first is the default, or else only the example."""
    expected = expected or f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
    default = choices[0] if has_default else None
    return parameter(str, default, expected, choices.__contains__, choices, choices[0])


def own_loss(pixel_loss, choices):
    """A loss of one's own, whose name stands in records and folder names.

    ParameterError if it has no name, or that of one of the `choices`.
    """
    name = getattr(pixel_loss, "__name__", repr(pixel_loss))
    if not name.isidentifier() or name in choices:
        raise ParameterError(
            f"pixel_loss as a function needs a name of its own; found {name!r}. "
            "Write def my_loss(logits, images): ..."
        )
    return pixel_loss


def close_choices(value, choices):
    """Up to three choices that look most like a text, whatever its capitals and punctuation."""
    plain = {choice.replace("_", ""): choice for choice in choices}
    wanted = "".join(letter for letter in value.lower() if letter.isalnum())
    return [plain[name] for name in difflib.get_close_matches(wanted, sorted(plain), 3, cutoff=0.5)]


def check_names(names, where, listed, accepted):
    """Raise ParameterError where none is listed, or for a name that is no parameter.

    It says which one may be meant, and which there are.
    """
    if not listed:
        raise ParameterError(
            "no parameters found: run the first cell, which sets them, before this one"
        )
    for name in names:
        if name not in accepted:
            close = difflib.get_close_matches(name, sorted(accepted), 1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ParameterError(
                f"{name!r} is not a parameter of {where}{hint} "
                f"Its parameters: {', '.join(listed)}"
            )
