"""ONNX: the same numbers from another program, and nothing written if they are not the same."""

import re
import subprocess
import sys

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae import training
from d2lvae.demo import export
from d2lvae.steps import VAEStep

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

NETS = {
    "dense": lambda: d2lvae.DenseVAE(5, 2, 16),
    "conv": lambda: d2lvae.ConvVAE(8, 4, (3, 32, 32)),
    "resize": lambda: d2lvae.ConvVAE(8, 4, (3, 32, 32), upsampling="resize"),
}


def trained(name):
    """A few steps, so that BatchNorm's running statistics are no longer 0 and 1."""
    vae = NETS[name]()
    d2lvae.initialize(vae, 0)
    step = VAEStep(vae, lr=0.01)
    images = np.random.default_rng(0).integers(0, 256, (32, *vae.image_shape), np.uint8)
    for _ in range(5):
        training.learn(step, images)
    mx.nd.waitall()
    return vae


@pytest.mark.parametrize("name", NETS)
def test_onnx_runtime_computes_the_same(name, tmp_path):
    vae = trained(name)
    paths = export.to_onnx(vae, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "encoder.onnx"]
    images = np.random.default_rng(1).random((7, *vae.image_shape), np.float32)
    encoder, decoder = (
        onnxruntime.InferenceSession(str(paths[half]), providers=["CPUExecutionProvider"])
        for half in ("encoder", "decoder")
    )
    mean, log_var = encoder.run(["mean", "log_var"], {"images": images})
    expected = [array.asnumpy() for array in vae.encode(mx.nd.array(images))]
    np.testing.assert_allclose(mean, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_var, expected[1], rtol=1e-5, atol=1e-5)
    [decoded] = decoder.run(["images"], {"latents": mean})
    np.testing.assert_allclose(
        decoded, vae.reconstruct(mx.nd.array(images)).asnumpy(), rtol=1e-5, atol=1e-5
    )
    assert [(put.name, put.shape) for put in decoder.get_inputs() + decoder.get_outputs()] == [
        ("latents", ["N", vae.num_latents]),
        ("images", ["N", *vae.image_shape]),
    ]
    assert export.largest_difference(vae, paths) <= 1e-5


def test_other_weights_are_found_out(tmp_path):
    vae, other = trained("conv"), NETS["conv"]()
    d2lvae.initialize(other, 3)
    paths = export.to_onnx(vae, tmp_path)
    assert export.largest_difference(other, paths) > 1e-3


def test_numbers_that_differ_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(export.ExportError, match="differs from MXNet's by .*: nothing was written"):
        export.to_onnx(trained("conv"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        export.ExportError,
        match=r"onnx and onnxruntime are needed .*pip install -c constraints.txt -e '.\[onnx\]'",
    ):
        export.to_onnx(NETS["dense"](), tmp_path)


def test_a_discriminator_is_refused(tmp_path):
    with pytest.raises(export.ExportError, match="a DenseLogReg is no VAE"):
        export.to_onnx(d2lvae.DenseLogReg(1, 8), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_difference_that_is_no_number_is_not_written(tmp_path, monkeypatch):
    nothing = [np.array([np.nan], np.float32)] * 2
    monkeypatch.setattr(export, "_run", lambda *_: nothing)
    with pytest.raises(export.ExportError, match="differs from MXNet's by inf"):
        export.to_onnx(trained("dense"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_refuses_in_one_line(tmp_path):
    command = [sys.executable, "-m", "d2lvae.demo.export", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r".*not exported: .*nowhere.*\n", done.stderr)


class Own(d2lvae.VAE):
    """With a layer of one's choice."""

    def __init__(self, layer, num_latents=3, image_shape=(1, 8, 8)):
        super().__init__(num_latents, image_shape)
        with self.name_scope():
            self.encoder, self.decoder = mx.gluon.nn.HybridSequential(), mx.gluon.nn.Dense(64)
            self.encoder.add(mx.gluon.nn.Dense(8), layer, mx.gluon.nn.Dense(6))


def test_a_layer_of_ones_own_is_exported_or_the_error_says_so(tmp_path):
    images = mx.nd.zeros((2, 1, 8, 8))
    vae = Own(mx.gluon.nn.LayerNorm())
    d2lvae.initialize(vae, 0)
    vae(images)
    assert export.largest_difference(vae, export.to_onnx(vae, tmp_path)) < 1e-4
    vae = Own(mx.gluon.nn.HybridLambda(lambda F, x: F.erf(x)))
    d2lvae.initialize(vae, 0)
    vae(images)
    with pytest.raises(export.ExportError, match="cannot export a layer of this net: .*erf"):
        export.to_onnx(vae, tmp_path)


def test_the_command_takes_the_file_as_well_as_the_folder(tmp_path, monkeypatch, capsys):
    d2lvae.save_net(tmp_path / "vae.npz", trained("dense"))
    for given in (tmp_path / "vae.npz", tmp_path):
        monkeypatch.setattr(sys, "argv", ["export", str(given)])
        export.main()
        said = capsys.readouterr().out
        assert "encoder.onnx" in said and "decoder.onnx: the largest difference" in said
        assert sorted(path.name for path in tmp_path.glob("*.onnx")) == [
            "decoder.onnx",
            "encoder.onnx",
        ]
        for path in tmp_path.glob("*.onnx"):
            path.unlink()


@pytest.mark.parametrize(
    "given, message",
    [
        ("nowhere/vae.npz", r"vae\.npz was not exported: .*nowhere/vae\.npz does not exist$"),
        ("nowhere", r"vae\.npz was not exported: .*nowhere/vae\.npz does not exist$"),
        ("disc.npz", r"disc\.npz was not exported: a DenseLogReg is no VAE"),
    ],
)
def test_the_command_names_the_file_that_it_cannot_use(tmp_path, monkeypatch, given, message):
    disc = d2lvae.DenseLogReg(1, 8)
    d2lvae.initialize(disc, 0)
    d2lvae.save_net(tmp_path / "disc.npz", disc)
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / given)])
    with pytest.raises(SystemExit, match=message):
        export.main()
