"""What the stress tools share: where their figures go, what they print, and their limit in time."""

import json
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "results" / "stress"
sys.path.insert(0, str(ROOT))


def write(name, figures, results=RESULTS):
    """Write a tool's figures to results/stress/NAME.json and print them."""
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2), flush=True)


def finish(name, figures, failures, results=RESULTS):
    """Write the figures, name what failed, and give the exit code: 0 only if nothing did."""
    import d2lvae  # settles the threads: not before a tool has chosen them

    found = {"d2lvae": d2lvae.__version__, **figures, "failures": len(failures)}
    write(name, found, results)
    for failure in failures[:20]:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


class Limit:
    """So many minutes from now, whatever the clock on the wall does."""

    def __init__(self, minutes):
        self.minutes, self.start = minutes, time.monotonic()

    def seconds(self):
        return round(time.monotonic() - self.start, 1)

    def is_over(self):
        return self.seconds() > 60 * self.minutes
