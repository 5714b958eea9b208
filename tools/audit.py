"""List the known vulnerabilities of the pinned packages, for each Python: pip-audit over
constraints.txt.

    make audit          (or: pip install pip-audit && python tools/audit.py)

It asks the package index, or with --osv the database of osv.dev.  A package that the service could
not look up is an error, not a pass.  What has been found, and what of it can be reached from here,
is in docs/security.md.
"""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHONS = ["3.8", "3.9", "3.10", "3.11"]
HOW_TO_GET_IT = (
    "pip-audit is not here. Install it beside the project, not into it "
    "(it needs newer packages): pipx install pip-audit, or\n"
    "    python3 -m venv audit && audit/bin/pip install pip-audit packaging && "
    "audit/bin/python tools/audit.py"
)


def pins(text, python):
    """The lines of constraints.txt that hold for a Python, without their markers."""
    requirements = [
        Requirement(line) for line in text.splitlines() if line.strip() and not line.startswith("#")
    ]
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    return [
        f"{one.name}{one.specifier}"
        for one in requirements
        if one.marker is None or one.marker.evaluate(here)
    ]


def vulnerabilities(report):
    """Lines on the vulnerabilities in pip-audit's report, and names that could not be looked up."""
    found = [
        f"{package['name']} {package['version']}: {one['id']} ({', '.join(one['aliases'])}), "
        f"fixed in {', '.join(one['fix_versions']) or 'none'}"
        for package in report["dependencies"]
        for one in package.get("vulns", ())
    ]
    return found, [
        package["name"] for package in report["dependencies"] if "skip_reason" in package
    ]


def main():
    if importlib.util.find_spec("pip_audit") is None:
        sys.exit(HOW_TO_GET_IT)
    service, left_out = "osv" if "--osv" in sys.argv else "pypi", False
    for python in PYTHONS:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(pins((ROOT / "constraints.txt").read_text(), python)))
            file.flush()
            command = [
                sys.executable,
                "-m",
                "pip_audit",
                "--no-deps",
                "--disable-pip",
                "--format",
                "json",
                "--vulnerability-service",
                service,
                "-r",
                file.name,
            ]
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if not result.stdout:
            sys.exit(
                f"pip-audit gave no report for Python {python}; its message is above "
                "(is there a network?)"
            )
        found, missing = vulnerabilities(json.loads(result.stdout))
        print(f"Python {python}: {len(found)} known", *found, sep="\n  ")
        if missing:
            left_out = True
            print(f"  NOT looked up, {len(missing)}: {', '.join(missing)}")
    if left_out:
        sys.exit(
            "not all packages could be looked up: this is no all-clear. Try again, or with --osv"
        )


if __name__ == "__main__":
    main()
