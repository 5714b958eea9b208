"""The parameters of an experiment: one frozen dataclass, checked before any work.

The names are those of the notebooks' parameters cells and of papermill's `-p`.
"""

import dataclasses
from typing import Callable, Optional, Union

from .engine.bfloat16 import check_precision
from .engine.model_zoo import RESNETS
from .storage import notebook as cells
from .storage.errors import ParameterError
from .storage.rules import check_names, one_of, own_loss, parameter, rate, weight, whole

FACES = ("anime", "drawn_faces")  # sets of images; all others are no faces
A_RESNET = "the name of one of gluoncv's ResNets, such as resnet18_v1 or cifar_resnet20_v1"


@dataclasses.dataclass(frozen=True)
class Config:
    """All parameters of an experiment: their types, their defaults and what they may be.

    A notebook gives its nets their sizes itself, so these have no defaults here.

    Raises
    ------
    ParameterError
        Naming the parameter, what was found and what is expected.
    """

    data: str = one_of("auto", "mnist", "anime", "drawn")
    image_size: int = parameter(int, 64, "32, 64 or 128", (32, 64, 128).__contains__)
    num_train: int = whole(0, least=0)  # 0: all
    epochs: int = whole(10, least=1)
    batch_size: int = whole(64, least=1)
    lr: float = rate(0.001)
    num_latents: Optional[int] = whole(None, least=1, example="5")
    num_layers: Optional[int] = whole(None, least=1, example="3")
    num_hiddens: Optional[int] = whole(None, least=1, example="400")
    base_channels: Optional[int] = whole(None, least=1, example="32")
    upsampling: Optional[str] = one_of("transposed", "resize", has_default=False)
    disc_num_layers: Optional[int] = whole(None, least=0, example="1")
    disc_num_hiddens: Optional[int] = whole(None, least=1, example="200")
    disc_base_channels: Optional[int] = whole(None, least=1, example="16")
    disc_net: Optional[str] = one_of(*RESNETS, has_default=False, expected=A_RESNET)
    pixel_loss: Union[str, Callable] = one_of("bce", "l2")  # or f(logits, images) -> (N,)
    pixel_weight: float = weight(1.0)
    kl_weight: float = weight(1.0)
    disc_weight: float = weight(1.0)
    learned_loss: str = one_of("adversarial", "features", "both")
    feature_weight: float = weight(1.0)
    disc_lr: float = rate(0.0, example="0.0002")  # 0: lr
    num_solo_epochs: int = whole(0, least=0, example="5")
    precision: str = one_of("float32", "bfloat16")
    num_seeds: int = whole(3, least=1)
    seed: int = whole(0, least=0)
    kvstore: str = one_of("local", "dist_sync")
    local_steps: int = whole(1, least=1, example="16")  # of a worker between two sums
    resume: bool = parameter(bool, False, "True or False", example="True")
    results_dir: str = parameter(
        str, "", "a folder's path, or '' for results/own", example="my_results"
    )
    notebook: Optional[dict] = dataclasses.field(default=None, repr=False, compare=False)
    given: dict = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        for name in RULES:
            if getattr(self, name) is not None or DEFAULTS[name] is not None:
                object.__setattr__(self, name, validate(name, getattr(self, name)))
        if self.num_solo_epochs >= self.epochs:
            raise ParameterError(
                f"num_solo_epochs must be below epochs ({self.epochs}), or the discriminator "
                f"never learns; found {self.num_solo_epochs}. For example: "
                f"-p num_solo_epochs {self.epochs // 2}"
            )
        if self.learned_loss == "adversarial" and self.feature_weight != DEFAULTS["feature_weight"]:
            raise ParameterError(
                f"feature_weight is {self.feature_weight}, but learned_loss 'adversarial' compares "
                "no features. For example: -p learned_loss both"
            )

    @classmethod
    def from_dict(cls, values):
        """A configuration from parameters by name, as Python's or numpy's numbers.

        Raises what :class:`Config` raises, and for a name that is no parameter's.
        """
        check_names(values, "any notebook", RULES, RULES)
        return cls(**values)

    @classmethod
    def from_notebook(cls, namespace):
        """The parameters in a notebook's first cell, as they are after papermill's `-p`.

        Parameters
        ----------
        namespace : dict
            The notebook's `globals()`. What its parameters cell sets, with or without a type, are
            its parameters. Papermill may set others that `fit` takes from the config (`OF_FIT`).

        Returns
        -------
        Config
            It knows its notebook, so that `fit` can tell what has changed since.

        Raises what :class:`Config` raises, and for names that are no parameters of this notebook.
        """
        listed, injected = cells.parameter_names(namespace, RULES)
        declared = [name for name in listed if name in RULES]
        calls_fit = "epochs" in declared and "num_seeds" not in declared  # not in the study's
        accepted = {*declared, *(OF_FIT if calls_fit else ())}
        check_names((*listed, *injected), "this notebook", declared, accepted)
        given = {name: namespace[name] for name in (*declared, *injected)}
        return cls(notebook=namespace, given=given, **given)

    def check_notebook(self):
        """Make sure that the notebook's parameters are still those that this was made from.

        Raises
        ------
        ParameterError
            Naming each that has changed, then and now.
        """
        changed = cells.changes(self.notebook or {}, self.given)
        if changed:
            raise ParameterError(
                f"parameters have changed since config was made: {'; '.join(changed)}. Run the "
                "cells below the parameters again, from the one with Config.from_notebook on"
            )


FIELDS = dataclasses.fields(Config)
DEFAULTS = {field.name: field.default for field in FIELDS}
RULES = {field.name: field.metadata["rule"] for field in FIELDS if field.metadata}
# What `fit` takes from the config, so a notebook need not list it; its images and its pixel loss
# are its own if it does not list them.
OF_FIT = {name for name in RULES if DEFAULTS[name] is not None}
OF_FIT -= {"data", "image_size", "num_seeds", "pixel_loss"}


def validate(name, value):
    """The value of the parameter `name`, as a plain Python value.

    Raises
    ------
    ParameterError
        It is of the wrong type or out of range; the message says what is right.
    """
    if name == "pixel_loss" and callable(value):
        return own_loss(value, RULES[name].choices)
    value = RULES[name].check(name, value)
    if name == "precision":
        check_precision(value)
    return value
