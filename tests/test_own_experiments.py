"""The page on experiments of one's own does what it says."""

import pathlib
import re

from d2lvae.storage import paths

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "own_experiments.md"


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    names, runs = {}, []
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(code, str(PAGE), "exec"), names)
        runs.append(names.get("run"))
    longer, own = (run for run in runs[-2:])
    assert len(longer.history) == 4 and longer.history[3]["loss"] < longer.history[0]["loss"]
    assert (
        longer.folder
        == tmp_path / "results/own/images/TanhVAE_TanhDisc_on_squares/3_64_32_4_pixel_loss_absolute"
    )
    assert {path.name for path in longer.folder.glob("*.onnx")} == {"encoder.onnx", "decoder.onnx"}
    assert "going on after 2 of 4 epochs" in capsys.readouterr().out
    assert type(names["vae"]).__name__ == "TanhVAE" and own.metrics["config"][
        "own_weights"
    ].keys() == {"vae"}
