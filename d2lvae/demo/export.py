"""A finished run's VAE as ONNX: an encoder and a decoder for other programs, compared with MXNet's own numbers.

    python -m d2lvae.demo.export FOLDER        (a run's folder, with its vae.npz; or that file)

`encoder.onnx` takes `images` (N, C, H, W) in [0, 1] and gives `mean` and `log_var` (N, L); `decoder.onnx` takes `latents` (N, L)
and gives `images` (N, C, H, W) in [0, 1].  N may be any number.  Needs the extra `onnx`:

    pip install -c constraints.txt -e '.[onnx]'
"""

import argparse
import pathlib
import sys
import tempfile

import mxnet as mx
import numpy as np

from ..storage import paths
from ..storage.files import CheckpointError, atomic_write
from ..storage.nets import load_net
from ..vae import VAE

__all__ = ["ExportError", "to_onnx", "largest_difference"]

OPSET = 13  # the newest one that MXNet 1.9 writes
TOLERANCE = 1e-5  # of a number below 1; of others, a share
INPUTS = {"encoder": "images", "decoder": "latents"}
OUTPUTS = {"encoder": ("mean", "log_var"), "decoder": ("images",)}


class ExportError(RuntimeError):
    """A net that did not become ONNX; the message says why."""


def _halves(vae):
    """Symbols of the two halves and the shape of an input, by name."""
    latents = mx.sym.var("latents")
    return {
        "encoder": (mx.sym.Group(list(vae.encode(mx.sym.var("images")))), vae.image_shape),
        "decoder": (vae.decode(latents).sigmoid(), (vae.num_latents,)),
    }


def to_onnx(vae, folder):
    """Write `encoder.onnx` and `decoder.onnx`, and compare what they compute with what the net does.

    Parameters
    ----------
    vae : VAE
        Trained; its BatchNorms are exported with their running statistics.
    folder : path
        An existing one.

    Returns
    -------
    dict of pathlib.Path
        By 'encoder' and 'decoder'.

    Raises
    ------
    ExportError
        The packages of the extra `onnx` are missing, or the numbers differ by more than `TOLERANCE`; then nothing is written.
    """
    onnx, _ = _extra()
    parameters = {p.name: p.data().as_in_context(mx.cpu()) for p in vae.collect_params().values()}
    models = {
        name: _model(onnx, name, symbol, shape, parameters)
        for name, (symbol, shape) in _halves(vae).items()
    }
    difference = largest_difference(
        vae, {name: model.SerializeToString() for name, model in models.items()}
    )
    if not difference <= TOLERANCE:
        raise ExportError(
            f"what ONNX computes differs from MXNet's by {difference:.2g}, more than {TOLERANCE:g}: nothing was written"
        )
    files = {name: pathlib.Path(folder) / f"{name}.onnx" for name in models}
    for name, path in files.items():
        with atomic_write(path) as file:
            file.write(models[name].SerializeToString())
    return files


def _model(onnx, name, symbol, shape, parameters):
    """One half as an ONNX model, its outputs and open dimension named."""
    used = {
        key: parameters[key]
        for key in symbol.list_arguments() + symbol.list_auxiliary_states()
        if key in parameters
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/{name}.onnx"
        mx.onnx.export_model(
            symbol,
            used,
            [(1, *shape)],
            [np.float32],
            path,
            dynamic=True,
            dynamic_input_shapes=[("N", *shape)],
        )
        model = onnx.ModelProto.FromString(pathlib.Path(path).read_bytes())
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [
        each for each in graph.input if each.name not in weights
    ]  # MXNet's exporter names weights as inputs, too
    read = {read for node in graph.node for read in node.input}
    initializers = [each for each in graph.initializer if each.name in read]
    names = dict(zip([each.name for each in graph.output], OUTPUTS[name]))
    for node in graph.node:
        node.output[:] = [names.get(each, each) for each in node.output]
    for each in graph.output:
        each.name = names[each.name]
        each.type.tensor_type.shape.dim[0].dim_param = "N"
    for field, values in ((graph.input, inputs), (graph.initializer, initializers)):
        del field[:]
        field.extend(values)
    model.opset_import[0].version, model.ir_version = OPSET, 8
    onnx.checker.check_model(model)
    return model


def largest_difference(vae, models, num_images=16, seed=0):
    """How far ONNX Runtime's numbers are from MXNet's, at most, on random inputs.

    Parameters
    ----------
    vae : VAE
    models : dict
        By 'encoder' and 'decoder': a path, or a model's bytes.
    num_images : int
        Inputs: uniform noise for the encoder, draws from the prior for the decoder.
    seed : int

    Returns
    -------
    float
        The largest of \\|onnx - mxnet\\| / max(1, \\|mxnet\\|).

    Raises
    ------
    ExportError
        onnxruntime is missing.
    """
    (_, onnxruntime), rng = _extra(), np.random.default_rng(seed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    images = rng.random((num_images, *vae.image_shape), np.float32)
    latents = rng.standard_normal((num_images, vae.num_latents), np.float32)
    device = next(iter(vae.collect_params().values())).list_ctx()[0]
    expected = {
        "encoder": vae.encode(mx.nd.array(images, ctx=device)),
        "decoder": [vae.decode(mx.nd.array(latents, ctx=device)).sigmoid()],
    }
    largest = 0.0
    for name, value in (("encoder", images), ("decoder", latents)):
        model = models[name] if isinstance(models[name], bytes) else str(models[name])
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for ours, theirs in zip(expected[name], session.run(OUTPUTS[name], {INPUTS[name]: value})):
            ours = ours.asnumpy()
            largest = max(
                largest, float((np.abs(theirs - ours) / np.maximum(1, np.abs(ours))).max())
            )
    return largest


def _extra():
    """The packages of the extra `onnx`."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            f"onnx and onnxruntime are needed ({error}): .venv/bin/pip install -c constraints.txt -e '.[onnx]'"
        ) from None
    return onnx, onnxruntime


def main():
    """Export the VAE in a run's folder, into that folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "folder", type=pathlib.Path, help="a run's folder, with its vae.npz; or that file"
    )
    given = parser.parse_args().folder
    path = given if given.suffix == ".npz" and not given.is_dir() else given / "vae.npz"
    try:
        vae = load_net(path)
        if not isinstance(vae, VAE):
            raise ExportError(
                f"{path} holds a {type(vae).__name__}, not a VAE: give a run's "
                "folder, with its vae.npz"
            )
        files = to_onnx(vae, path.parent)
    except (ExportError, CheckpointError, OSError) as error:
        sys.exit(f"not exported: {error}")
    written = ", ".join(paths.display_path(path) for path in files.values())
    print(
        f"{written}: the largest difference from MXNet's numbers is {largest_difference(vae, files):.1g}"
    )


if __name__ == "__main__":
    main()
