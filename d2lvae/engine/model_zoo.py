"""gluoncv's ResNets, imported when wanted, because that takes seconds."""

import sys

from ..storage.rules import close_choices

RESNETS = [f"resnet{d}_{v}" for v in ("v1", "v1b", "v2") for d in (18, 34, 50, 101, 152)]
RESNETS += [f"cifar_resnet{d}_{v}" for v in ("v1", "v2") for d in (20, 56, 110)]


def resnet(name, num_outputs):
    """A ResNet with new weights and so many outputs; ValueError for a name not in `RESNETS`."""
    if name not in RESNETS:
        close = " or ".join(map(repr, close_choices(str(name), RESNETS) or ["resnet18_v1"]))
        raise ValueError(
            f"name must be that of one of gluoncv's ResNets, such as {close}; found {name!r}"
        )
    return _without_torch().get_model(name, classes=num_outputs, pretrained=False)


def _without_torch():
    """gluoncv's models.  Beside PyTorch 2 it refuses to be imported: so that is hidden."""
    hidden = {name: module for name, module in sys.modules.items() if name == "torch"}
    sys.modules["torch"] = None
    try:
        from gluoncv import model_zoo
    finally:
        del sys.modules["torch"]
        sys.modules.update(hidden)
    return model_zoo
