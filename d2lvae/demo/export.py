"""A finished run's VAE as ONNX: an encoder and a decoder for other programs.

    python -m d2lvae.demo.export FOLDER        (a run's folder, with its vae.npz; or that file)

`encoder.onnx` takes `images` (N, C, H, W) in [0, 1] and gives `mean` and `log_var` (N, L).
`decoder.onnx` takes `latents` (N, L) and gives `images` (N, C, H, W) in [0, 1].
N may be any number. Needs the extra `onnx`:

    pip install -c constraints.txt -e '.[onnx]'
"""

import argparse
import pathlib
import sys
import tempfile

import mxnet as mx
import numpy as np

from ..storage import paths
from ..storage.errors import CheckpointError
from ..storage.files import atomic_write
from ..storage.nets import load_net
from ..vae import VAE

OPSET, IR_VERSION = 13, 8  # the newest operators that MXNet 1.9 writes, and ONNX of that time
TOLERANCE = 1e-5  # of a number below 1; relative to larger ones


class ExportError(RuntimeError):
    """A net that did not become ONNX; the message says why."""


def to_onnx(vae, folder):
    """Write `encoder.onnx` and `decoder.onnx`, if they compute what the VAE does.

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
        The net is no VAE, the packages of the extra `onnx` are missing, or the numbers differ by
        more than `TOLERANCE`; then nothing is written.
    """
    if not isinstance(vae, VAE):
        raise ExportError(f"a {type(vae).__name__} is no VAE: give the net of a run's vae.npz")
    _import_extra()
    outputs = dict(zip(("mean", "log_var"), vae.encode(mx.sym.var("images"))))
    images = {"images": vae.decode(mx.sym.var("latents")).sigmoid()}
    models = {
        "encoder": _model(vae, outputs, vae.image_shape),
        "decoder": _model(vae, images, (vae.num_latents,)),
    }
    difference = largest_difference(vae, models)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"what ONNX computes differs from MXNet's by {difference:.2g}, more than "
            f"{TOLERANCE:g}: nothing was written"
        )
    files = {name: pathlib.Path(folder) / f"{name}.onnx" for name in models}
    for name, path in files.items():
        with atomic_write(path) as file:
            file.write(models[name])
    return files


def _model(vae, outputs, shape):
    """The bytes of an ONNX model, from Symbols by the names of its outputs and an input's shape."""
    onnx, _ = _import_extra()
    graph = mx.sym.Group([mx.sym.identity(each, name=name) for name, each in outputs.items()])
    parameters = {p.name: p.data().as_in_context(mx.cpu()) for p in vae.collect_params().values()}
    used = {name: parameters[name] for name in graph.list_inputs() if name in parameters}
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/model.onnx"
        options = {"dynamic": True, "dynamic_input_shapes": [("N", *shape)]}
        check, onnx.checker.check_graph = onnx.checker.check_graph, lambda *given: None
        try:  # MXNet's exporter would check against the newest rules; ours are checked below
            mx.onnx.export_model(graph, used, [(1, *shape)], [np.float32], path, **options)
        except Exception as error:  # of any kind, such as AttributeError for an unknown layer
            raise ExportError(f"MXNet cannot export a layer of this net: {error}") from error
        finally:
            onnx.checker.check_graph = check
        model = onnx.ModelProto.FromString(pathlib.Path(path).read_bytes())
    del model.graph.input[1:]  # MXNet's exporter lists weights as inputs, too
    read = {name for node in model.graph.node for name in node.input}
    for weight in [each for each in model.graph.initializer if each.name not in read]:
        model.graph.initializer.remove(weight)
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "N"
    model.opset_import[0].version, model.ir_version = OPSET, IR_VERSION
    onnx.checker.check_model(model)
    return model.SerializeToString()


def largest_difference(vae, models, num_images=16):
    """The largest difference of ONNX Runtime's numbers from MXNet's on random inputs.

    The largest of \\|onnx - mxnet\\| / max(1, \\|mxnet\\|).  `models` are paths or models' bytes,
    by 'encoder', which gets uniform noise, and 'decoder', which gets samples from the prior.
    ExportError if onnxruntime is missing.
    """
    rng = np.random.default_rng(0)
    images = rng.random((num_images, *vae.image_shape), np.float32)
    latents = rng.standard_normal((num_images, vae.num_latents), np.float32)
    mean, log_var = vae.encode(mx.nd.array(images, ctx=vae.ctx))
    decoded = vae.decode(mx.nd.array(latents, ctx=vae.ctx)).sigmoid()
    encoder = _run(models["encoder"], ["mean", "log_var"], {"images": images})
    decoder = _run(models["decoder"], ["images"], {"latents": latents})
    pairs = zip((mean, log_var, decoded), (*encoder, *decoder))
    return max(_difference(theirs, ours.asnumpy()) for ours, theirs in pairs)


def _difference(found, expected):
    """The largest difference, infinite if a number is not finite."""
    difference = float((abs(found - expected) / np.maximum(1, abs(expected))).max())
    return difference if np.isfinite(difference) else np.inf


def _run(model, outputs, inputs):
    _, onnxruntime = _import_extra()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(outputs, inputs)


def _import_extra():
    """The packages of the extra `onnx`."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            f"onnx and onnxruntime are needed ({error}): .venv/bin/pip install -c constraints.txt "
            "-e '.[onnx]'"
        ) from None
    return onnx, onnxruntime


def main():
    """Export the VAE in a run's folder, into that folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="a run's folder, or its vae.npz")
    given = parser.parse_args().folder
    path = given if given.suffix == ".npz" and not given.is_dir() else given / "vae.npz"
    try:
        vae = load_net(path)
        files = to_onnx(vae, path.parent)
    except (ExportError, CheckpointError, OSError) as error:
        sys.exit(f"{path} was not exported: {error}")
    written = ", ".join(map(paths.display_path, files.values()))
    difference = largest_difference(vae, files)
    print(f"{written}: the largest difference from MXNet's numbers is {difference:.1g}")


if __name__ == "__main__":
    main()
