"""Whole after a kill or a power cut, one process to a folder, and no reader that waits for ever."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import helpers
import numpy as np
import pytest
from d2lvae import training
from d2lvae.storage import files, png
from d2lvae.storage.errors import RunError
from PIL import Image


def test_bytes_are_on_the_disk_before_their_name_is_and_the_name_before_the_block_ends(
    tmp_path, monkeypatch
):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda descriptor: calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        or fsync(descriptor),
    )
    monkeypatch.setattr(
        os, "replace", lambda one, other: calls.append("renamed") or replace(one, other)
    )
    with files.atomic_write(tmp_path / "a") as file:
        file.write(b"content")
    assert (
        calls == [str(tmp_path / f".a.{os.getpid()}.part"), "renamed", str(tmp_path)]
        and (tmp_path / "a").read_bytes() == b"content"
    )


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    """A living one may be on another machine, so the time tells them apart, not the process."""
    left, others, living = (tmp_path / f".{name}.part" for name in ("a.12", "b.12", "a.999999999"))
    for path in (left, others, living):
        path.write_bytes(b"half")
    for path in (left, others):
        os.utime(path, times=(0, 0))
    with files.atomic_write(tmp_path / "a") as file:
        file.write(b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", others, living])


def test_an_image_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    png.save_image(tmp_path / "0.png", grey_image(3))
    before = (tmp_path / "0.png").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="0.png could not be written .*free some room"):
        png.save_image(tmp_path / "0.png", grey_image(4))
    assert (tmp_path / "0.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    assert Image.open(tmp_path / "0.png").getpixel((0, 0)) == 3


def grey_image(grey):
    return np.full((1, 4, 4), grey, np.uint8)


HOLDER = textwrap.dedent("""
    import sys, time
    from d2lvae.storage import files, png
    with files.file_lock(sys.argv[1]):
        print("held", flush=True)
        time.sleep(60)
""")


def test_a_lock_names_its_holder_and_is_free_when_the_holder_is_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "lock"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(files.Busy, match=f"process {holder.pid} on "):
        with files.file_lock(tmp_path / "lock"):
            pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert (tmp_path / "lock").exists()
    with files.file_lock(tmp_path / "lock"):
        with pytest.raises(files.Busy, match=f"process {os.getpid()} on "):
            with files.file_lock(tmp_path / "lock"):
                pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert (tmp_path / "lock").read_bytes() == b""


@pytest.mark.parametrize("folder_mode, file_mode", [(0o2775, 0o664), (0o755, 0o644)])
def test_who_may_write_in_a_folder_may_lock_it(tmp_path, folder_mode, file_mode):
    tmp_path.chmod(folder_mode)
    with files.file_lock(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == file_mode


@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL"])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys, code):
    def none(*arguments):
        raise OSError(getattr(errno, code), "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", none)
    with files.file_lock(tmp_path / "lock"):
        assert "file system without locks" in capsys.readouterr().out


def test_a_second_run_into_the_same_folder_is_refused_at_once(config, tiny, small_vae):
    folder = helpers.run_folder(small_vae(), tiny, config)
    folder.mkdir(parents=True)
    with files.file_lock(folder / ".lock"):
        with pytest.raises(
            RunError,
            match=f"{folder} is being written by another run .process {os.getpid()} on .*results_dir",
        ):
            helpers.fit(small_vae(), tiny, config)
    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert helpers.fit(small_vae(), tiny, config).folder == folder


def test_no_time_is_negative_when_the_clock_is_set_back(
    config, tiny, small_vae, monkeypatch, capsys
):
    looks = []
    monkeypatch.setattr(time, "time", lambda: looks.append(1) or 1e9 - 3600 * len(looks))
    run = helpers.fit(small_vae(), tiny, config)
    assert (
        all(epoch["seconds"] >= 0 and epoch["images_per_second"] > 0 for epoch in run.history)
        and run.metrics["seconds"] >= 0
    )
    assert "-" not in "".join(
        line.rsplit(",", 1)[1]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("epoch")
    )


@pytest.mark.parametrize("kind", ["missing", "pipe", "directory", "loop", "cut", "deep"])
def test_json_that_cannot_be_read_is_named(tmp_path, kind):
    path = tmp_path / "a.json"
    {
        "missing": lambda: None,
        "pipe": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "loop": lambda: path.symlink_to(path),
        "cut": lambda: path.write_text('{"a": '),
        "deep": lambda: path.write_text("[" * 100_000),
    }[kind]()
    with pytest.raises(ValueError, match="a.json cannot be read"):
        files.read_json(path)


def test_a_loss_of_the_discriminator_alone_that_is_no_number_ends_the_run(
    config, tiny, small_vae, small_disc, monkeypatch
):
    monkeypatch.setattr(
        training,
        "mean_losses",
        lambda *a: {"loss": 1.0, "pixel_loss": 1.0, "kl": 0.0, "disc_loss": float("nan")},
    )
    with pytest.raises(FloatingPointError, match="'disc_loss': nan"):
        helpers.fit(small_vae(), tiny, {**config, "disc_weight": 1.0}, small_disc())
