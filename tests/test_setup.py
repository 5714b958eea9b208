"""The set-up: two files that agree, a lock that covers all, and one clear message for each thing missing."""

import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETUP = ROOT / "tools" / "setup.sh"
PYPROJECT = (ROOT / "pyproject.toml").read_text()
CONSTRAINTS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
]


def pyproject_list(name):
    """A list of strings from pyproject.toml, which Python 3.8 cannot parse by itself."""
    body = re.search(rf"^{re.escape(name)} = \[(.*?)\]", PYPROJECT, re.M | re.S).group(1)
    return re.findall(r'"([^"]+)"', body)


def environment_lines():
    return re.findall(r"^ +- (.+)$", (ROOT / "environment.yml").read_text(), re.M)


def test_environment_and_pip_set_agree():
    lines = environment_lines()
    pip = [line for line in lines[lines.index("pip:") + 1 :] if not line.startswith("--")]
    assert sorted(pip) == sorted(pyproject_list("dependencies") + pyproject_list("test"))
    assert "--constraint constraints.txt" in lines and "--editable ." in lines
    [python] = [line for line in lines if line.startswith("python")]
    requires = re.search(r'requires-python = "(.+)"', PYPROJECT).group(1)
    assert SpecifierSet(requires).contains(python[len("python=") :])  # repo2docker reads one "="
    [conda_pip] = [line for line in lines if line.startswith("pip=")]
    assert conda_pip.replace("=", "==") in (ROOT / "tools" / "setup.sh").read_text()


def test_conda_brings_the_system_libraries_that_set_up_looks_for():
    """All but libquadmath, which comes with conda's Python itself (libgcc)."""
    asked = re.findall(r"lacking (lib\w+)", (ROOT / "tools" / "setup.sh").read_text())
    by_conda = {"libgomp": "libgomp", "libGL": "libgl", "libgthread": "libglib"}
    assert {*asked} - {"libquadmath"} == {*by_conda}
    assert {*by_conda.values()} <= {*environment_lines()}


def test_the_container_has_what_set_up_looks_for():
    """The Dockerfile's packages are those that tools/setup.sh names for Debian, and .ci/run's."""
    words = set((ROOT / "Dockerfile").read_text().replace(")", " ").split())
    named = set(re.findall(r"(?:lacking [\w.-]+|quadmath) (lib[\w.-]+)\)", SETUP.read_text()))
    debian = named - {"libgomp", "libquadmath", "mesa-libGL", "glib2"}
    assert debian == {"libgomp1", "libquadmath0", "libgl1", "libglib2.0-0"}
    assert {*debian, "make", "git", "python3", "python3-venv"} <= words
    target = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["build"]
    assert f"FROM debian:bookworm-slim AS {target['target']}" in (ROOT / "Dockerfile").read_text()
    assert (ROOT / ".devcontainer" / target["dockerfile"]).samefile(ROOT / "Dockerfile")


def test_an_arm_machine_is_asked_for_no_libquadmath(tmp_path):
    """Debian has none for it, and MXNet's wheel for it needs none."""
    for machine, asked in (("x86_64", True), ("aarch64", False)):
        folder = tmp_path / machine
        folder.mkdir()
        uname = folder / "uname"
        uname.write_text(f"#!/bin/sh\n[ $1 = -s ] && echo Linux || echo {machine}\n")
        uname.chmod(0o755)
        python = fake_python(folder, **{"libquadmath.so.0": 1, "libgomp.so.1": 1})
        path = f"{folder}:{os.environ['PATH']}"
        result = setup(folder, PYTHON=str(python), PATH=path)
        assert result.returncode == 1 and "gomp" in result.stderr
        assert ("quadmath" in result.stderr) is asked


def test_the_packages_the_project_is_made_for_are_there():
    names = {Requirement(line).name for line in pyproject_list("dependencies")}
    assert names >= {
        "mxnet",
        "d2l",
        "gluoncv",
        "numpy",
        "matplotlib",
        "pillow",
        "jupyter",
        "nbval",
        "papermill",
    }


@pytest.mark.parametrize("python", ["3.8", "3.9", "3.10", "3.11"])
def test_constraints_pin_every_direct_requirement_once_as_given(python):
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = {}
    for constraint in CONSTRAINTS:
        if constraint.marker is None or constraint.marker.evaluate(here):
            assert constraint.name not in pins, f"{constraint.name} is pinned twice"
            pins[constraint.name] = str(constraint.specifier)
            assert pins[constraint.name].startswith("==")
    for line in pyproject_list("dependencies") + pyproject_list("test"):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(here):
            assert requirement.specifier.contains(pins[requirement.name][2:]), line


def test_what_is_installed_here_is_what_is_pinned():
    """Walks from the project through everything it pulls in."""
    pins = {c.name: c.specifier for c in CONSTRAINTS if c.marker is None or c.marker.evaluate()}
    seen, queue = set(), [Requirement("d2lvae[test]")]
    while queue:
        requirement = queue.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = requirement.extras or {""}
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        distribution = importlib.metadata.distribution(name)
        if name not in ("d2lvae", "setuptools", "appnope"):
            assert name in pins, f"{name} is not in constraints.txt"
            assert pins[name].contains(
                distribution.version
            ), f"{name} {distribution.version}, pinned {pins[name]}"
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            ):
                queue.append(needed)
    assert len(seen) > 80


def fake_python(tmp_path, **answers):
    """A Python that says what a test wants it to: answers maps a word in its arguments to an exit code."""
    cases = "\n".join(f'  *"{words}"*) exit {code} ;;' for words, code in answers.items())
    path = tmp_path / "python3.11"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in\n{cases}\n  *--version*) echo Python 3.11.9 ;;\n'
        f'  *"%d.%d"*) echo 3.11 ;;\nesac\n'
    )
    path.chmod(0o755)
    return path


def setup(tmp_path, **environment):
    return subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "setup.sh"), str(tmp_path / "venv")],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
    )


def test_no_suitable_python(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.13.1 || exit 1\n')
    old.chmod(0o755)
    for command in ("id", "uname", "sh"):
        os.symlink(f"/usr/bin/{command}", tmp_path / command)
    result = setup(tmp_path, PATH=str(tmp_path))
    assert result.returncode == 1
    assert "no Python 3.8 to 3.11 on the PATH (found: Python 3.13.1)" in result.stderr
    assert "conda create" in result.stderr


def test_an_unsuitable_python_by_name(tmp_path):
    result = setup(tmp_path, PYTHON=str(fake_python(tmp_path, **{"version_info": 1})))
    assert (
        result.returncode == 1
        and "is no Python 3.8 to 3.11 (it says: Python 3.11.9)" in result.stderr
    )


def test_no_venv_module(tmp_path):
    result = setup(tmp_path, PYTHON=str(fake_python(tmp_path, **{"import venv": 1})))
    assert result.returncode == 1 and "apt-get install python3.11-venv" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="system libraries are looked for on Linux only")
def test_missing_system_libraries_are_named_with_their_packages(tmp_path):
    answers = {"libquadmath.so.0": 1, "libGL.so.1": 1}
    result = setup(tmp_path, PYTHON=str(fake_python(tmp_path, **answers)))
    assert result.returncode == 1
    [line] = [line for line in result.stderr.splitlines() if " install" in line]
    assert "quadmath" in line and "GL" in line.replace("gl1", "GL") and "gomp" not in line


def test_an_old_pip_that_cannot_be_renewed(tmp_path):
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (venv / "bin" / "python").chmod(0o755)
    result = setup(tmp_path, PYTHON=str(fake_python(tmp_path)))
    assert result.returncode == 1 and "pip install --upgrade pip==" in result.stderr


def test_a_second_call_sets_nothing_up_again(tmp_path):
    ready = tmp_path / ".ready"
    command = ["make", "--dry-run", "setup", f"VENV={tmp_path}"]

    def sets_up():
        return (
            "setup.sh"
            in subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
        )

    assert sets_up()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    ready.write_text(f"{tmp_path.resolve()}\n")
    assert not sets_up()
    ready.write_text("/another/clone/.venv\n")
    assert sets_up(), "a copied or moved clone"
    ready.write_text(f"{tmp_path.resolve()}\n")
    (tmp_path / "bin" / "python").unlink()
    assert sets_up(), "the Python behind it is gone"


def test_the_callers_settings_for_pip_and_python_are_shut_out(tmp_path):
    """The Python that sets up says what it is given."""
    python = fake_python(tmp_path)
    python.write_text(python.read_text().replace("esac", '  *"-m venv"*) env >&2; exit 3 ;;\nesac'))
    bad = {
        "PIP_USER": "1",
        "PIP_TARGET": "/x",
        "PIP_PREFIX": "/x",
        "PYTHONPATH": "/x",
        "PYTHONHOME": "/x",
    }
    result = setup(tmp_path, PYTHON=str(python), PIP_INDEX_URL="https://index", **bad)
    seen = dict(line.split("=", 1) for line in result.stderr.splitlines() if "=" in line)
    assert (
        seen["PIP_USER"] == "0"
        and seen["PIP_INDEX_URL"] == "https://index"
        and not {*bad} - {"PIP_USER"} & {*seen}
    )


def test_make_shuts_out_other_packages_and_kernels(tmp_path):
    (tmp_path / "Makefile").write_text(f"include {ROOT}/Makefile\nshown:\n\t@env\n")
    result = subprocess.run(
        ["make", "-C", str(tmp_path), "shown"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "/x", "JUPYTER_PATH": "/x"},
    )
    seen = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    assert not {"PYTHONPATH", "JUPYTER_PATH"} & {*seen} and seen["JUPYTER_PREFER_ENV_PATH"] == "1"
