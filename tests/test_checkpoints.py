"""Files of weights: whole or refused, never executed, never half-written."""

import errno
import io
import json
import os
import pickle
import subprocess
import sys
import textwrap

import d2lvae
import numpy as np
import pytest
from d2lvae.storage import checkpoints, files, nets
from d2lvae.storage.files import CheckpointError

CONFIG = {"epochs": 3, "lr": 0.1}


def save(folder, epoch, **changes):
    arrays = {"vae/w": np.full((4, 3), epoch, np.float32)}
    checkpoints.save_checkpoint(folder, arrays, {"config": {**CONFIG, **changes}, "epoch": epoch})


def epoch_of(folder):
    arrays, record = checkpoints.load_checkpoint(folder, CONFIG)
    assert (arrays["vae/w"] == record["epoch"]).all() and arrays["vae/w"].dtype == np.float32
    return record["epoch"]


def test_the_latest_checkpoint_is_loaded_and_the_one_before_kept(tmp_path):
    assert checkpoints.load_checkpoint(tmp_path, CONFIG) is None
    for epoch in range(3):
        save(tmp_path, epoch)
        assert epoch_of(tmp_path) == epoch
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.npz", "checkpoint_previous.npz"]
    (tmp_path / "checkpoint.npz").unlink()
    assert epoch_of(tmp_path) == 1


def test_only_this_configurations_epochs_count(tmp_path):
    assert checkpoints.epochs_kept(tmp_path, CONFIG) == -1
    for number, lr in enumerate((0.1, 0.1, 0.2)):  # the last is of another configuration
        record = {"config": {**CONFIG, "lr": lr}, "history": [{}] * (number + 1)}
        checkpoints.save_checkpoint(tmp_path, {"vae/w": np.zeros(3, np.float32)}, record)
    assert checkpoints.epochs_kept(tmp_path, CONFIG) == 2
    assert checkpoints.epochs_kept(tmp_path, {**CONFIG, "lr": 0.3}) == -1


def cut_short(content):
    return content[: len(content) // 2]


def one_bit_flipped(content):
    middle = content.index(b"NUMPY") + 150
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def emptied(content):
    return b""


def a_giant_announced(content):
    return content.replace(b"(4, 3), }" + b" " * 20, b"(40000000000, 30000000000), }", 1)


def not_a_checkpoint(content):
    return b"this is no checkpoint at all" * 10


def packed(content):
    """Small on the disk, of any size in memory."""
    file = io.BytesIO()
    np.savez_compressed(file, record=np.frombuffer(b"{}", np.uint8), w=np.zeros(1_000_000))
    return file.getvalue()


def test_packed_arrays_are_refused_before_they_fill_the_memory(tmp_path):
    path = tmp_path / "net.npz"
    path.write_bytes(packed(b""))
    with pytest.raises(CheckpointError, match="packed, and might be of any size"):
        files.read_arrays(path)


DAMAGE = [cut_short, one_bit_flipped, a_giant_announced, emptied, not_a_checkpoint, packed]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path, damage, capsys):
    save(tmp_path, 0), save(tmp_path, 1)
    latest = tmp_path / "checkpoint.npz"
    latest.write_bytes(damage(latest.read_bytes()))
    assert epoch_of(tmp_path) == 0
    assert str(latest) in capsys.readouterr().out
    assert (tmp_path / "checkpoint.npz.damaged").exists() and not latest.exists()
    save(tmp_path, 1)
    assert epoch_of(tmp_path) == 1


@pytest.mark.parametrize("damage", DAMAGE)
def test_no_whole_checkpoint_is_an_error_that_names_the_files(tmp_path, damage):
    save(tmp_path, 0), save(tmp_path, 1)
    for path in tmp_path.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=r"checkpoint\.npz.*checkpoint_previous\.npz.*resume to False"
    ):
        checkpoints.load_checkpoint(tmp_path, CONFIG)


@pytest.mark.parametrize(
    "differing, words",
    [
        ({"lr": 0.2}, "lr 0.2 there, 0.1 here"),
        ({"pixel_loss": "l2"}, "pixel_loss 'l2' there, None here"),
        ({"data_sha256": "0123456789abcdef" * 4}, "data_sha256 01234567 there, None here"),
    ],
)
def test_another_configurations_checkpoint_is_refused(tmp_path, differing, words):
    save(tmp_path, 0, **differing)
    with pytest.raises(CheckpointError, match=f"\\({words}\\)"):
        checkpoints.load_checkpoint(tmp_path, CONFIG)


@pytest.mark.parametrize("damage", [damage for damage in DAMAGE if damage is not a_giant_announced])
def test_a_damaged_net_is_refused(tmp_path, damage, small_vae):
    net, path = small_vae(), tmp_path / "net.npz"
    d2lvae.initialize(net, 0)
    d2lvae.save_net(path, net)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match="net.npz"):
        d2lvae.load_net(path)


def test_a_missing_net_and_a_file_that_is_no_net(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        d2lvae.load_net(tmp_path / "none.npz")
    save(tmp_path, 0)
    with pytest.raises(CheckpointError, match="no single net"):
        d2lvae.load_net(tmp_path / "checkpoint.npz")


def test_weights_of_another_size_are_refused(small_vae, small_disc):
    one, other = small_vae(), d2lvae.DenseVAE(num_latents=3, num_layers=1, num_hiddens=17)
    d2lvae.initialize(one, 0), d2lvae.initialize(other, 0)
    with pytest.raises(CheckpointError, match=r"\(16"):
        nets.set_weights(one, nets.get_weights(other))


def test_loading_cannot_execute_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    np.savez(
        tmp_path / "net.npz", record=np.frombuffer(b"{}", np.uint8), w=np.array([Bomb()], object)
    )
    with pytest.raises(CheckpointError):
        d2lvae.load_net(tmp_path / "net.npz")
    (tmp_path / "net.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        d2lvae.load_net(tmp_path / "net.npz")
    assert not (tmp_path / "exploded").exists()


def test_a_write_that_fails_leaves_the_earlier_version_and_nothing_else(tmp_path, monkeypatch):
    save(tmp_path, 0)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(
        OSError, match=r"checkpoint\.npz could not be written.*free some room"
    ) as caught:
        save(tmp_path, 1)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert epoch_of(tmp_path) == 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(
    sys.platform != "linux", reason="uses RLIMIT_FSIZE and SIGXFSZ as Linux has them"
)
def test_a_file_that_really_cannot_grow_leaves_the_earlier_version(tmp_path):
    """The system itself refuses the write, in the middle of the file."""
    script = textwrap.dedent(f"""
        import resource, signal
        import numpy as np
        from d2lvae.storage import checkpoints
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        config = {json.dumps(CONFIG)}
        def save(size, epoch):
            checkpoints.save_checkpoint({str(tmp_path)!r}, {{"vae/w": np.full((size, 3), epoch, np.float32)}},
                                        {{"config": config, "epoch": epoch}})
        save(4, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        save(100_000, 1)
    """)
    result = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert "checkpoint.npz could not be written" in result.stderr
    assert epoch_of(tmp_path) == 0
    assert os.listdir(tmp_path) == ["checkpoint_previous.npz"]  # the whole one, and no part
