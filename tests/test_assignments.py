"""Assignments: every exercise, no solution in what students get, checks that tell right from wrong."""

import copy
import importlib.util
import pathlib
import re
import runpy
import sys

import nbformat
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TO_RUN = "mnist_densevae_logreg"  # by the slow tests


def tool(name):
    """A module of tools/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


assignments, slides = tool("assignments"), tool("slides")
SOURCES = assignments.sources()
each = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def of(cell):
    return cell.metadata.get("nbgrader", {})


def stripped(path):
    return assignments.without_solutions(read(path))


def solution_lines(cell):
    """What a student should find out, line by line."""
    parts = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", cell.source, re.S)
    text = "".join(parts) if cell.cell_type == "code" else cell.source
    return {line.strip() for line in text.splitlines() if len(line.strip()) > 15}


def test_every_notebook_with_exercises_has_one():
    having = [p for p in (ROOT / "notebooks").glob("*.ipynb") if "## Exercises" in p.read_text()]
    assert {path.name for path in SOURCES} == {path.name for path in having} and len(SOURCES) == 11


@each
def test_it_has_each_exercise_in_the_notebooks_words(path):
    words = assignments.exercises(read(ROOT / "notebooks" / path.name))
    found = [cell for cell in read(path).cells if "exercise" in cell.metadata]
    assert [cell.metadata["exercise"] for cell in found] == list(range(1, len(words) + 1))
    for number, (cell, text) in enumerate(zip(found, words), 1):
        text = assignments.relink(text, ROOT / "notebooks", path.parent)
        assert cell.source == f"## Exercise {number}\n\n{text}", (
            "the notebook's exercises have changed: run python tools/assignments.py texts, "
            "and see whether the solution still answers them"
        )


@each
def test_it_keeps_nbgraders_conventions(path):
    notebook = read(path)
    nbformat.validate(notebook)
    identifiers = [of(cell)["grade_id"] for cell in notebook.cells]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook.cells:
        assert {"grade", "solution", "locked", "task", "grade_id"} <= {*of(cell)}
        assert of(cell)["schema_version"] == 3
        assert of(cell)["grade"] == ("points" in of(cell))
        if cell.cell_type == "code":
            assert of(cell)["solution"] == ("### BEGIN SOLUTION" in cell.source)
            assert not cell.outputs
            assert not of(cell)["grade"] or "assert " in cell.source  # a check that checks


@each
def test_papermill_can_set_its_parameters(path):
    for notebook in (read(path), stripped(path)):
        [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        assert notebook.cells.index(cell) == 1 and of(cell)["locked"]
        setup = notebook.cells[2].source
        names = re.findall(r"^(\w+): \w+ = ", cell.source, re.M)
        assert {"num_train", "results_dir"} <= {*names} and all(name in setup for name in names)


@each
def test_students_get_no_solution(path):
    source, student = read(path), stripped(path)
    text = "\n".join(cell.source for cell in student.cells)
    asked = 0
    for before, after in zip(source.cells, student.cells):
        if not of(before)["solution"]:
            assert after.source == before.source  # words and checks stay
            continue
        asked += 1
        lines = solution_lines(before)
        assert lines and not lines & {line.strip() for line in after.source.splitlines()}
        assert assignments.ANSWER in after.source or "raise NotImplementedError()" in after.source
        if after.cell_type == "code":
            compile(re.sub(r"^%.*$", "", after.source, flags=re.M), str(path), "exec")
    assert asked and "SOLUTION" not in text and "HIDDEN" not in text


def test_the_whole_folder_as_make_writes_it(tmp_path, capsys):
    assignments.student(tmp_path / "a" / "b")
    written = sorted((tmp_path / "a" / "b").glob("*.ipynb"))
    assert [path.name for path in written] == [path.name for path in SOURCES]
    assert "BEGIN SOLUTION" not in "".join(path.read_text() for path in written)
    assert capsys.readouterr().out.count("points") == len(SOURCES)


def test_hidden_tests_go_and_what_is_left_open_is_an_error():
    cell = nbformat.v4.new_code_cell(
        "a = 1\n    ### BEGIN SOLUTION\n    b = 2\n    ### END SOLUTION\n"
        "### BEGIN HIDDEN TESTS\nassert b\n### END HIDDEN TESTS\nc = 3"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    stub = "a = 1\n    # YOUR CODE HERE\n    raise NotImplementedError()\nc = 3"
    assert assignments.without_solutions(copy.deepcopy(notebook)).cells[0].source == stub
    cell.source = cell.source.replace("### END SOLUTION", "### END")
    with pytest.raises(ValueError, match="BEGIN SOLUTION.*without its counterpart"):
        assignments.without_solutions(notebook)


def test_links_lead_where_they_led():
    text = "[a](b.ipynb#c), [d](../docs/e.md), [f](https://g), [h](#i)"
    moved = assignments.relink(text, ROOT / "notebooks", ROOT / "results" / "x")
    parts = "[a](../../notebooks/b.ipynb#c)", "[d](../../docs/e.md)"
    assert moved == ", ".join([*parts, "[f](https://g), [h](#i)"])


def execute(notebook):
    """Its code cells, in this process."""
    names = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(re.sub(r"^%.*$", "", cell.source, flags=re.M), names)


@pytest.mark.slow
def test_a_solution_passes_its_checks_and_no_solution_fails_them(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = read(assignments.SOURCES / f"{TO_RUN}.ipynb")
    names = {f"exercise-3-{part}" for part in ("code", "check")}
    names |= {f"{TO_RUN}-{part}" for part in ("parameters", "setup")}
    small.cells = [c for c in small.cells if of(c)["grade_id"] in names]
    small.cells[0].source = f"num_train, epochs, results_dir = 200, 1, {str(tmp_path / 'r')!r}"
    path = tmp_path / "source.ipynb"
    nbformat.write(small, path)
    assignments.solutions(tmp_path / "solved", [path])
    assignments.without_solutions(small)
    with pytest.raises(NotImplementedError):
        execute(small)
    answer = small.cells[2]
    answer.source = answer.source.replace("raise NotImplementedError()", "pass")
    with pytest.raises(AssertionError):
        execute(small)


def test_slides_begin_at_headings_and_leave_out_parameters_and_logs(tmp_path):
    path = slides.slides(ROOT / "notebooks" / "mnist_densevae_logreg.ipynb", tmp_path)
    html = path.read_text()
    heads = [cell for cell in read(ROOT / "notebooks" / "mnist_densevae_logreg.ipynb").cells]
    heads = [cell for cell in heads if cell.source.startswith("#") and cell.cell_type == "markdown"]
    assert html.count("<section") >= 2 * len(heads) > 10  # each has a column of its own
    assert "def" in html and "Further settings" not in html and "images/s" not in html
    assert slides.NO_TEXT not in html and 'alt="drawn digits: training losses"' in html


def test_the_tools_say_how_they_are_called(monkeypatch):
    for name in ("assignments", "slides"):
        path = str(ROOT / "tools" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path])
        with pytest.raises(SystemExit, match=f"python tools/{name}.py"):
            runpy.run_path(path, run_name="__main__")
