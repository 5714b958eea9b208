"""Spoilt inputs of every kind that is read from disk: refused, set aside or harmless, but never taken without a word.

    python tests/stress/mutations.py [--mutations 2000] [--seed 0] [--minutes 8]

Each kind of input (readers.py) is spoilt in every way that fits it (spoilers.py), in turns, with places and amounts drawn from the seed.
A worker process reads what was spoilt; a worker that dies is a crash, one that gives no answer within 30 s a hang.  What may come:

    refused       the package's own error, which names the file
    set aside     a line that names the file; the content is what it is without it, or made anew
    harmless      the same content as before, to the last bit
    told          other content, and a line that names the file as not the published one (an unzipped IDX file has no checksum)
    an image     a JPEG that is decoded whole, to other pixels (it has no checksum either)

Anything else is a failure.
"""

import argparse
import collections
import json
import pathlib
import select
import subprocess
import sys
import tempfile

import numpy as np
import report
import spoilers
from readers import KINDS
from watched import ENVIRONMENT

FINE = ("refused", "set aside", "harmless", "told", "an image")
SECONDS, MEGABYTES = 30, 1500  # for one input; of memory, for all


class Worker:
    """A process that reads what it is told to and says what came of it."""

    def __init__(self, folder):
        command = [
            sys.executable,
            str(report.ROOT / "tests" / "stress" / "readers.py"),
            str(folder),
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=ENVIRONMENT,
        )
        self.answer(120)  # ready

    def ask(self, kind):
        self.process.stdin.write(f"{kind}\n")
        self.process.stdin.flush()
        return self.answer(SECONDS)

    def answer(self, seconds):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return {"outcome": "hang", "words": f"no answer within {seconds} s"}
        line = self.process.stdout.readline()
        return (
            json.loads(line)
            if line
            else {"outcome": "crash", "words": f"the reader died ({self.process.wait()})"}
        )

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def run(wanted, seed, minutes, folder):
    """All of it; the figures and what failed."""
    limit, rng = report.Limit(minutes), np.random.default_rng(seed)
    worker = Worker(folder)
    ways = {kind: list(spoilers.ways(kind)) for kind in KINDS}
    done, failures, counts, most = 0, [], collections.defaultdict(collections.Counter), 0
    for kind in KINDS:
        answer = worker.ask(kind)
        if answer["outcome"] != "harmless":
            return {}, [f"{kind} as it should be: {answer}"]
    while done < wanted and not limit.is_over():
        kind = KINDS[done % len(KINDS)]
        way = ways[kind][done // len(KINDS) % len(ways[kind])]
        kept = spoilers.spoil(kind, way, folder, rng)
        answer = worker.ask(kind)
        spoilers.restore(kept)
        done += 1
        counts[kind][answer["outcome"]] += 1
        most = max(most, answer.get("megabytes", 0))
        if answer["outcome"] not in FINE:
            failures.append(
                f"{kind}, {way} (number {done}): {answer['outcome']}: {answer['words']}"
            )
            if answer["outcome"] in ("hang", "crash"):
                worker.close()
                worker = Worker(folder)
    worker.close()
    if done < wanted:
        failures.append(f"only {done} inputs in {minutes} minutes")
    if most > MEGABYTES:
        failures.append(f"the reader took {most} MB of memory")
    outcomes = sum(counts.values(), collections.Counter())
    return {
        "inputs": done,
        "outcomes": dict(sorted(outcomes.items())),
        "by_kind": {kind: dict(sorted(found.items())) for kind, found in counts.items()},
        "ways": {kind: len(found) for kind, found in ways.items()},
        "seed": seed,
        "peak_megabytes_below": MEGABYTES,
        "seconds": limit.seconds(),
    }, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=8, help="it fails if it has not come to its end by then"
    )
    parser.add_argument("--results", type=pathlib.Path, default=report.RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, failures = run(
            arguments.mutations, arguments.seed, arguments.minutes, pathlib.Path(folder)
        )
    return report.finish("mutations", figures, failures, arguments.results)


if __name__ == "__main__":
    sys.exit(main())
