"""The stress tools themselves, with small numbers; `make stress` takes 6 minutes."""

import json
import pathlib
import subprocess
import sys

import d2lvae
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(tool, tmp_path, *arguments):
    command = [
        sys.executable,
        str(ROOT / "tests" / "stress" / f"{tool}.py"),
        "--results",
        str(tmp_path),
        *arguments,
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    return result, json.loads((tmp_path / f"{tool}.json").read_text())


@pytest.mark.slow
def test_spoilt_files(tmp_path):
    result, figures = run("mutations", tmp_path, "--mutations", "45", "--seed", "7")
    assert result.returncode == 0, result.stderr
    assert (
        figures["inputs"] == sum(figures["outcomes"].values()) == 45
        and figures["failures"] == 0
        and len(figures["by_kind"]) == 15
    )
    assert figures["outcomes"]["refused"] + figures["outcomes"]["set aside"] > 30


@pytest.mark.slow
def test_a_kill(tmp_path):
    result, figures = run("kills", tmp_path, "--kills", "1", "--epochs", "4", "--lanes", "1")
    assert result.returncode == 0, result.stderr
    assert (
        figures["kills"] == sum(figures["by_phase"].values()) == 1
        and figures["not_bit_identical_or_lost"] == 0
    )


def test_figures_that_failed_give_an_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "stress"))
    import report

    assert report.finish("x", {"kills": 3}, [], tmp_path) == 0
    assert report.finish("x", {"kills": 3}, ["not the same"], tmp_path) == 1
    assert (
        json.loads((tmp_path / "x.json").read_text())
        == {"d2lvae": d2lvae.__version__, "kills": 3, "failures": 1}
        and "FAILED not the same" in capsys.readouterr().err
    )
    assert report.Limit(-1).is_over() and not report.Limit(1).is_over()
