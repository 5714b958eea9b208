"""Write constraints.txt: the version of every package that comes along, for Python 3.8 to 3.11.

    pip install uv && python tools/lock.py

Run it only to raise versions; then `make test` on each Python.  A package whose newest usable
version differs between Pythons gets one line for each, with a marker.
"""

import collections
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHONS = ["3.8", "3.9", "3.10", "3.11"]
COMMAND = [
    sys.executable,
    "-m",
    "uv",
    "pip",
    "compile",
    "pyproject.toml",
    "--extra",
    "test",
    "--quiet",
    "--no-header",
    "--no-annotate",
    "--no-emit-index-url",
]
HEADER = "# Made by tools/lock.py from pyproject.toml; the same set-up works in a year.\n"


def main():
    pinned = collections.defaultdict(dict)
    for python in PYTHONS:
        text = subprocess.run(
            COMMAND + ["--python-version", python],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        for line in text.splitlines():
            if "==" in line:  # a line without a version is an option of the index's, none of ours
                name, version = line.split(";")[0].strip().split("==")
                pinned[name][python] = version
    lines = []
    for name, versions in sorted(pinned.items()):
        for version in dict.fromkeys(versions.values()):
            pythons = [python for python in PYTHONS if versions.get(python) == version]
            marker = f" ; python_version >= '{pythons[0]}' and python_version <= '{pythons[-1]}'"
            lines.append(f"{name}=={version}" + (marker if pythons != PYTHONS else ""))
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n")
    print(f"constraints.txt: {len(pinned)} packages for Python {', '.join(PYTHONS)}")


if __name__ == "__main__":
    main()
