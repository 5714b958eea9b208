"""Execute the committed notebooks in place, on drawn digits or faces and with their own defaults.

    python tools/execute_notebooks.py notebooks/*.ipynb

The runs that their outputs name are made anew: what was in those folders of results/own is gone.
What papermill adds (its parameters cell, times, paths) is taken out again.  What JupyterLab would
add when it opens the notebook is put in.  A notebook with an error, a warning or a path of this
machine in its outputs is not written.
"""

import pathlib
import re
import shutil
import sys
import tempfile

import nbformat
import papermill
from d2lvae.storage import paths
from jupyter_client.kernelspec import get_kernel_spec

EPHEMERAL = {"papermill", "execution", "widgets"}
WIDGET = "application/vnd.jupyter.widget-view+json"  # lives as long as its kernel


def execute(path):
    """Execute one notebook and put the outcome in its place."""
    for run in re.findall(
        r"results: results/(?:own/)?(images/[\w./-]+)", path.read_text(encoding="utf-8")
    ):  # or it says: run before
        shutil.rmtree(paths.results_root("results/own") / run, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        executed = pathlib.Path(folder) / path.name
        drawn = {"data": "drawn"} if "data" in papermill.inspect_notebook(str(path)) else {}
        papermill.execute_notebook(
            path, executed, parameters=drawn, progress_bar=False, cwd=path.parent
        )
        notebook = nbformat.read(
            executed, as_version=4
        )  # papermill has put in the kernel's own language_info
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count = count
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = count
    for part in [notebook, *notebook.cells]:
        for name in EPHEMERAL & set(part.metadata):
            del part.metadata[name]
        if part.metadata.get("tags") == []:
            del part.metadata["tags"]
    spec = get_kernel_spec(notebook.metadata.kernelspec.name)
    notebook.metadata.kernelspec.update(
        display_name=spec.display_name, language=spec.language
    )  # or JupyterLab would
    check(notebook, path)
    nbformat.write(notebook, path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def check(notebook, path):
    """Refuse what a reader should not see."""
    text = nbformat.writes(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                sys.exit(f"{path}: an error or a warning in the output: {output}")
    for place in {str(paths.project_root()), str(pathlib.Path.home()), sys.prefix}:
        if place in text:
            sys.exit(f"{path}: the output names {place}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for argument in sys.argv[1:]:
        execute(pathlib.Path(argument))
