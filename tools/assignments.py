"""The notebooks' exercises as assignments, by nbgrader's conventions, without nbgrader.

    python tools/assignments.py texts      # copy the exercises' words from the notebooks
    python tools/assignments.py student    # results/assignments/student: solutions taken out
    python tools/assignments.py solutions  # results/assignments/solutions: executed

The sources are in notebooks/assignments.  A cell's metadata `nbgrader` says what it is; what stands
between BEGIN SOLUTION and END SOLUTION, or HIDDEN TESTS, is for teachers only.
"""

import os
import pathlib
import re
import sys

import nbformat
import papermill

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks" / "assignments"
OUT = ROOT / "results" / "assignments"
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$", re.M | re.S)
HIDDEN = re.compile(r"^ *### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS\n?", re.M | re.S)
STUB = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"
ANSWER = "YOUR ANSWER HERE"


def sources():
    """The assignments' paths, in the order of their names."""
    return sorted(SOURCES.glob("*.ipynb"))


def exercises(notebook):
    """The exercises of a notebook as texts, in their order.

    Parameters
    ----------
    notebook : nbformat.NotebookNode

    Returns
    -------
    list of str
        Without their numbers.
    """
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    [text] = [text for text in texts if "## Exercises" in text]
    parts = re.split(r"^\d+\. ", text.split("## Exercises")[1], flags=re.M)[1:]
    return [re.sub(r"\n   (?=\S)", "\n", part.strip()) for part in parts]


def relink(text, old, new):
    """Let a text's relative links, which hold in the folder `old`, hold in the folder `new`."""
    shorter = lambda match: f"]({os.path.relpath(old / match[1], new)}{match[2] or ''})"
    return re.sub(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", shorter, text)


def moved(notebook, folder):
    """A source for another folder: its links lead to where they led."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relink(cell.source, SOURCES, folder)
    return notebook


def without_solutions(notebook):
    """Take solutions, hidden tests and outputs out of a notebook; returns it."""
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = SOLUTION.sub(STUB, HIDDEN.sub("", cell.source)).rstrip("\n")
        elif about.get("solution"):
            cell.source = ANSWER
        for marker in ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS"):
            if marker in cell.source:
                raise ValueError(
                    f"cell {about.get('grade_id')} has {marker!r} without its counterpart; "
                    "expected '### BEGIN ...' and '### END ...' on lines of their own. Mend"
                    " the source"
                )
    return notebook


def texts():
    """Copy each exercise's words from its notebook into the assignment's source."""
    for path in sources():
        source = nbformat.read(path, as_version=4)
        words = exercises(nbformat.read(ROOT / "notebooks" / path.name, as_version=4))
        for cell in source.cells:
            if "exercise" in cell.metadata:
                number = cell.metadata["exercise"]
                text = relink(words[number - 1], SOURCES.parent, SOURCES)
                cell.source = f"## Exercise {number}\n\n{text}"
        nbformat.write(source, path)


def student(folder=OUT / "student"):
    """Write what students get."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sources():
        notebook = without_solutions(moved(nbformat.read(path, as_version=4), folder))
        nbformat.write(notebook, folder / path.name)
        print(f"{folder / path.name}: {count_points(notebook)} points")


def count_points(notebook):
    """The sum of the points of all graded cells."""
    return sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in notebook.cells)


def solutions(folder=OUT / "solutions", paths=None):
    """Execute the sources, whose checks must all hold."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths or sources():
        notebook = moved(nbformat.read(path, as_version=4), folder)
        nbformat.write(notebook, folder / path.name)
        options = {"progress_bar": False, "cwd": ROOT, "kernel_name": "python3"}
        papermill.execute_notebook(folder / path.name, folder / path.name, **options)
        print(f"{folder / path.name}: all checks hold", flush=True)


if __name__ == "__main__":
    commands = {"texts": texts, "student": student, "solutions": solutions}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    chosen = [SOURCES / f"{name}.ipynb" for name in sys.argv[2:]]
    commands[sys.argv[1]](**({"paths": chosen} if chosen else {}))
