"""The parameters of an experiment: one frozen dataclass, checked before any work.

The names are those of the notebooks' parameters cells and of papermill's `-p`.
"""

import ast
import dataclasses
import difflib
import math
import typing

import numpy as np

from .engine import bfloat16

__all__ = ["Config", "ParameterError", "validate"]

RESNETS = tuple(
    f"resnet{depth}_{version}"
    for version in ("v1", "v1b", "v2")
    for depth in (18, 34, 50, 101, 152)
) + tuple(f"cifar_resnet{depth}_{version}" for version in ("v1", "v2") for depth in (20, 56, 110))


class ParameterError(ValueError):
    """A parameter that is misspelt, of the wrong type or out of range; the message says what is right."""


class _Rule(typing.NamedTuple):
    kind: type
    expected: str  # in words, for the message
    example: str
    accepts: typing.Callable = lambda value: True
    choices: tuple = ()


def _whole(least, example):
    return _Rule(int, f"a whole number of at least {least}", example, lambda value: value >= least)


def _number(expected, example, accepts):
    return _Rule(float, f"a number {expected}", example, accepts)


def _weight():
    return _number("of at least 0", "1.0", lambda value: value >= 0)


def _one_of(*choices):
    expected = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
    return _Rule(str, expected, choices[0], choices.__contains__, choices)


RULES = {
    "data": _one_of("auto", "mnist", "anime", "drawn"),
    "image_size": _Rule(int, "32, 64 or 128", "64", (32, 64, 128).__contains__),
    "num_train": _whole(0, "0"),
    "epochs": _whole(1, "10"),
    "batch_size": _whole(1, "64"),
    "lr": _number("above 0", "0.001", lambda value: value > 1e-30),  # float32 holds no smaller
    "num_latents": _whole(1, "5"),
    "num_layers": _whole(1, "3"),
    "num_hiddens": _whole(1, "400"),
    "base_channels": _whole(1, "32"),
    "upsampling": _one_of("transposed", "resize"),
    "disc_num_layers": _whole(0, "1"),
    "disc_num_hiddens": _whole(1, "200"),
    "disc_base_channels": _whole(1, "16"),
    "disc_net": _Rule(
        str,
        "the name of one of gluoncv's ResNets, such as resnet18_v1 or cifar_resnet20_v1",
        "resnet18_v1",
        RESNETS.__contains__,
        RESNETS,
    ),
    "pixel_loss": _one_of("bce", "l2"),
    "pixel_weight": _weight(),
    "kl_weight": _weight(),
    "disc_weight": _weight(),
    "learned_loss": _one_of("adversarial", "features", "both"),
    "feature_weight": _weight(),
    "disc_lr": _number("of at least 0", "0.0002", lambda value: value == 0 or value > 1e-30),
    "num_solo_epochs": _whole(0, "5"),
    "precision": _one_of("float32", "bfloat16"),
    "num_seeds": _whole(1, "3"),
    "seed": _whole(0, "0"),
    "kvstore": _one_of("local", "dist_sync"),
    "resume": _Rule(bool, "True or False", "True"),
    "results_dir": _Rule(str, "a folder's path, or '' for results/own", "my_results"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """All parameters of an experiment.

    The sizes of the nets are None where a notebook has no such parameter; `fit` takes them from the
    nets, and compares them with the parameters that there are.

    Raises
    ------
    ParameterError
        Naming the parameter, what was found and what is expected.
    """

    data: str = "auto"
    image_size: int = 64
    num_train: int = 0
    epochs: int = 10
    batch_size: int = 64
    lr: float = 1e-3
    num_latents: typing.Optional[int] = None
    num_layers: typing.Optional[int] = None
    num_hiddens: typing.Optional[int] = None
    base_channels: typing.Optional[int] = None
    upsampling: typing.Optional[str] = None
    disc_num_layers: typing.Optional[int] = None
    disc_num_hiddens: typing.Optional[int] = None
    disc_base_channels: typing.Optional[int] = None
    disc_net: typing.Optional[str] = None
    pixel_loss: typing.Union[str, typing.Callable] = "bce"  # or f(logits, images) -> (N,)
    pixel_weight: float = 1.0
    kl_weight: float = 1.0
    disc_weight: float = 1.0
    learned_loss: str = "adversarial"
    feature_weight: float = 1.0
    disc_lr: float = 0.0
    num_solo_epochs: int = 0
    precision: str = "float32"
    num_seeds: int = 3
    seed: int = 0
    kvstore: str = "local"
    resume: bool = False
    results_dir: str = ""
    notebook: typing.Optional[dict] = dataclasses.field(default=None, repr=False, compare=False)
    given: dict = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        for name in RULES:
            value = getattr(self, name)
            if value is not None or DEFAULTS[name] is not None:
                object.__setattr__(self, name, validate(name, value))
        if self.num_solo_epochs >= self.epochs:
            raise ParameterError(
                f"num_solo_epochs must be below epochs ({self.epochs}), or the discriminator never "
                f"learns; found {self.num_solo_epochs}. For example: "
                f"-p num_solo_epochs {self.epochs // 2}"
            )
        if self.learned_loss == "adversarial" and self.feature_weight != DEFAULTS["feature_weight"]:
            raise ParameterError(
                f"feature_weight is {self.feature_weight}, but learned_loss 'adversarial' compares "
                "no features. For example: -p learned_loss both"
            )

    @classmethod
    def from_dict(cls, values):
        """A configuration from parameters by name; the others have their defaults.

        Parameters
        ----------
        values : dict
            Numbers may be numpy's.

        Raises
        ------
        ParameterError
            A name that is no parameter's, or a value that is not right.
        """
        for name in values:
            if name not in RULES:
                raise ParameterError(_unknown(name, list(RULES), "any notebook"))
        return cls(**values)

    @classmethod
    def from_notebook(cls, namespace):
        """The parameters in a notebook's first cell, as they are after papermill's `-p`.

        Parameters
        ----------
        namespace : dict
            The notebook's `globals()`. Its parameters are the names set in the parameters cell, with
            or without a type (`epochs: int = 10`). A name there, or in the cell that papermill
            injects, that is no parameter is misspelt: papermill itself would only warn.

        Returns
        -------
        Config
            It knows the notebook that it was made from, so that `fit` can tell what has changed since.

        Raises
        ------
        ParameterError
            Naming the parameter, what was found and what is expected.
        """
        names = _parameter_names(namespace)
        declared = [name for name in names if name in RULES]
        if not declared:
            raise ParameterError(
                "no parameters found: run the first cell, which sets them, before this one"
            )
        for name in names:
            if name not in RULES:
                raise ParameterError(_unknown(name, declared, "this notebook"))
        given = {name: namespace[name] for name in declared}
        return cls(notebook=namespace, given=given, **given)

    def check_notebook(self):
        """Make sure that the notebook's parameters are still those that this was made from.

        Raises
        ------
        ParameterError
            Naming each that has changed, then and now.
        """
        now = {name: repr(self.notebook.get(name, value)) for name, value in self.given.items()}
        changed = [
            f"{name} is {now[name][:80]} now and was {value!r}"
            for name, value in self.given.items()
            if now[name] != repr(value)
        ]
        if changed:
            raise ParameterError(
                f"parameters have changed since config was made: {'; '.join(changed)}. Run the cells "
                "below the parameters again, from the one with Config.from_notebook on"
            )


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}


def validate(name, value):
    """The value of the parameter `name`, as a plain Python value.

    Raises
    ------
    ParameterError
        It is of the wrong type or out of range; the message says what is right.
    """
    rule = RULES[name]
    if isinstance(value, np.generic):
        value = value.item()
    if name == "pixel_loss" and callable(value):
        return _named(value)
    if rule.kind is float and type(value) is int and abs(value) < 10**300:
        value = float(value)
    right_type = type(value) is rule.kind and (rule.kind is not float or math.isfinite(value))
    if not right_type or not rule.accepts(value):
        close = close_choices(value, rule.choices) if type(value) is str else []
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        raise ParameterError(
            f"{name} must be {rule.expected}; found {value!r} ({_kind(value)}){hint} "
            f"For example: -p {name} {close[0] if close else rule.example}"
        )
    if name == "precision" and value == "bfloat16" and not bfloat16.has_bfloat16():
        raise ParameterError(
            f"{name} 'bfloat16' needs a processor that computes in it (on Linux, with avx512_bf16 "
            "among the flags in /proc/cpuinfo: Intel's since Cooper Lake, AMD's since Zen 4); this "
            "one does not. For example: -p precision float32"
        )
    return value


def _named(pixel_loss):
    """A loss of one's own, whose name stands in records and folder names."""
    name = getattr(pixel_loss, "__name__", repr(pixel_loss))
    if not name.isidentifier() or name in RULES["pixel_loss"].choices:
        raise ParameterError(
            f"pixel_loss as a function needs a name of its own; found {name!r}. Write def my_loss(logits, images): ..."
        )
    return pixel_loss


def _kind(value):
    names = {str: "text", bool: "a bool", int: "a whole number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def close_choices(value, choices):
    """Up to three choices that look most like a text, whatever its capitals and punctuation."""
    plain = {choice.replace("_", ""): choice for choice in choices}
    wanted = "".join(letter for letter in value.lower() if letter.isalnum())
    return [plain[name] for name in difflib.get_close_matches(wanted, sorted(plain), 3, cutoff=0.5)]


def _unknown(name, declared, where):
    close = difflib.get_close_matches(name, declared, 1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{name!r} is not a parameter of {where}{hint} Its parameters: {', '.join(declared)}"


def _parameter_names(namespace):
    """All names that the parameters cell and those behind it set as parameters, in order.

    The parameters cell is the last of the cells with the most parameters; cells before it are older
    versions. Of papermill's cell, and of the parameters cell itself, names that are no parameter
    count as well: they are misspelt.
    """
    cells = [
        (source.startswith("# Parameters\n"), names)
        for source in namespace.get("In", ())
        for names in [_assigned(source)]
        if names
    ]
    sizes = [0 if injected else sum(name in RULES for name in names) for injected, names in cells]
    if not any(sizes):  # no record of cells, as in a script
        return [name for name in RULES if name in namespace]
    main = max(place for place, size in enumerate(sizes) if size > max(sizes) / 2)
    found = dict.fromkeys(cells[main][1])
    for injected, names in cells[main + 1 :]:
        found.update(dict.fromkeys(name for name in names if injected or name in RULES))
    return [name for name in found if name in namespace and not name.startswith("PAPERMILL_")]


def _assigned(source):
    """The names that a cell sets, if it does nothing but set names to constants; else none."""
    lines = ("" if line.startswith(("%", "!")) else line for line in source.splitlines())
    try:
        statements = ast.parse("\n".join(lines)).body
    except SyntaxError:
        return []
    names = []
    for node in statements:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not _is_constant(node.value):
            return []
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def _is_constant(node):
    """Whether an expression names nothing and calls nothing: `-1`, `2 * 32`, `[1, 2]`, `'text'`."""
    return node is not None and not any(
        isinstance(part, (ast.Name, ast.Call, ast.Attribute)) for part in ast.walk(node)
    )
