"""A disk that is full, a folder that turns read-only, a clock that jumps back, two at once: is anything lost, and what is said?

    python tests/stress/disks.py [--minutes 6]

Real ones: a tmpfs of 8 MB, mounted where nobody else sees it (as root, or where the system lets users have mounts of their own); a folder
whose owner may no longer write to it.  The clock is only the victim's own, as a machine's cannot be set back for a test.
What cannot be done here is said and counted as skipped, with the reason.
"""

import argparse
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile

import report
from d2lvae.storage.files import read_arrays
from watched import ENVIRONMENT, Watched, checkpoint_of, differing, folder_of, outcome

SIZE = 8_000_000  # bytes of the disk
SCENARIOS = {}
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_LINUX_IMMUTABLE = 24, 1, 9


class Skipped(Exception):
    """A scenario that this system does not allow; the message says why."""


def scenario(function):
    SCENARIOS[function.__name__.replace("_", " ")] = function
    return function


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def mounted(folder):
    """A small disk at `folder`."""
    folder.mkdir()
    result = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
    )
    if result.returncode:
        raise Skipped(f"no small disk can be mounted: {result.stderr.strip()}")
    return folder


def fill(folder):
    """Fill the disk that a folder is on to its last byte."""
    path = folder / "everything else"
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return path


def check_left(folder, kept, said, file, words):
    """What must be so after a run that could not write: named file, what happened, what to do; the last whole checkpoint, no half file."""
    expect(file in said and words in said, f"{file} or {words!r} is not in what it said:\n{said}")
    hidden = {path.name for path in folder.rglob(".*")} - {".lock"}  # which may stay, given back
    expect(not hidden, f"left behind: {hidden}")
    arrays, record = read_arrays(checkpoint_of(folder))
    expect(
        len(record["history"]) == kept,
        f"{kept} epochs were kept, its checkpoint has {len(record['history'])}",
    )


def check_same_end(results_dir, reference):
    """Resumed, it comes to the end that it would have come to."""
    code, said = Watched(results_dir).end()
    expect(code == 0, said)
    expect(
        not differing(outcome(results_dir), reference),
        f"not the same: {differing(outcome(results_dir), reference)[:5]}",
    )


@scenario
def disk_full_in_a_checkpoint(folder, reference):
    disk = mounted(folder / "disk")
    victim = Watched(disk / "results", "--pause", 0.3)
    victim.wait_for(lambda v: v.kept == 2)
    files = [
        open(path, "rb") for path in folder_of(disk / "results").rglob("checkpoint*.npz")
    ]  # so that they keep their room when they are replaced
    filler = fill(disk)
    code, said = victim.end()
    for file in files:
        file.close()
    expect(code == 1, f"ended with {code}:\n{said}")
    check_left(
        folder_of(disk / "results"),
        victim.kept,
        said,
        "checkpoint.npz could not be written",
        "No space left on device): free some room on the disk",
    )
    expect("with resume True the run goes on after the last epoch that was kept" in said, said)
    filler.unlink()
    check_same_end(disk / "results", reference)


@scenario
def disk_full_while_results_are_recorded(folder, reference):
    disk = mounted(folder / "disk")
    victim = Watched(disk / "results", "--pause", 0.3)
    victim.wait_for(lambda v: v.kept == 6)  # the last; the results are drawn after the pause
    filler = fill(disk)
    code, said = victim.end()
    expect(code == 1, f"ended with {code}:\n{said}")
    check_left(
        folder_of(disk / "results"),
        6,
        said,
        "could not be written",
        "No space left on device): free some room on the disk",
    )
    filler.unlink()
    check_same_end(disk / "results", reference)


@scenario
def a_finished_run_begun_anew_on_a_full_disk(folder, reference):
    disk = mounted(folder / "disk")
    expect(Watched(disk / "results").end()[0] == 0, "the first run failed")
    before = outcome(disk / "results")
    fill(disk)
    code, said = Watched(disk / "results").end()
    expect(code == 1 and ("cannot be written" in said or "could not be written" in said), said)
    expect(not differing(outcome(disk / "results"), before), "finished results were lost")


def without_powers():
    """A superuser may write anywhere; without these two of its powers it may not."""
    libc = ctypes.CDLL(None)
    for power in (CAP_DAC_OVERRIDE, CAP_LINUX_IMMUTABLE):
        libc.prctl(PR_CAPBSET_DROP, power, 0, 0, 0)


@scenario
def a_folder_that_turns_read_only(folder, reference):
    victim = Watched(folder / "results", "--pause", 0.3, preexec_fn=without_powers)
    victim.wait_for(lambda v: v.kept == 2)
    run = folder_of(folder / "results")
    run.chmod(0o555)
    try:
        code, said = victim.end()
    finally:
        run.chmod(0o755)
    expect(code == 1, f"ended with {code}:\n{said}")
    (run / ".lock.holder").unlink()  # it could not be taken away
    check_left(
        run,
        victim.kept,
        said,
        "could not be written (Permission denied)",
        "make the folder writable",
    )
    check_same_end(folder / "results", reference)


@scenario
def a_results_folder_that_is_read_only_from_the_start(folder, reference):
    disk = mounted(folder / "disk")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, said = Watched(disk / "results").end()
    expect(code == 1 and "Read-only file system): choose another with results_dir" in said, said)


@scenario
def a_clock_that_jumps_back(folder, reference):
    code, said = Watched(folder / "results", "--clock-back").end()
    expect(code == 0, said)
    expect(not differing(outcome(folder / "results"), reference), "not the same")
    _, record = read_arrays(folder_of(folder / "results") / "checkpoint.npz")
    expect(
        all(
            0 < epoch["seconds"] < 60 and epoch["images_per_second"] > 0
            for epoch in record["history"]
        ),
        f"times: {record['history']}",
    )
    expect(
        "-"
        not in "".join(
            line.rsplit(",", 1)[1] for line in said.splitlines() if line.startswith("epoch")
        ),
        said,
    )


@scenario
def two_runs_into_one_folder(folder, reference):
    pair = [Watched(folder / "results", "--pause", 0.3) for _ in range(2)]
    ends = sorted((victim.end() for victim in pair), key=lambda end: end[0])
    expect(
        [code for code, _ in ends] == [0, 1],
        f"ended with {[code for code, _ in ends]}:\n{ends[0][1]}\n{ends[1][1]}",
    )
    winner = next(victim for victim in pair if victim.process.returncode == 0)
    said = ends[1][1]
    for words in (
        "is being written by another run",
        f"process {winner.process.pid} on",
        str(folder_of(folder / "results")),
    ):
        expect(words in said, f"{words!r} is not in what it said:\n{said}")
    expect(not differing(outcome(folder / "results"), reference), "not the same")


TWO_CACHES = """
import sys, d2lvae
from d2lvae.evaluation import classifier
faces, digits = d2lvae.load_faces('drawn', 10, image_size=32), d2lvae.load_digits('drawn', 10)
features = classifier.features(classifier.classifier_for(digits), digits.validation[:5])
print('@', faces.sha256(), features.tobytes().hex())
"""


@scenario
def two_that_make_the_same_caches(folder, reference):
    environment = {**ENVIRONMENT, "D2LVAE_DATA": str(folder), "PYTHONPATH": str(report.ROOT)}
    command = [sys.executable, "-c", TWO_CACHES]
    pair = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in pair]
    expect(all(process.returncode == 0 for process in pair), "\n".join(said))
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment).stdout
    answers = {
        next(line for line in text.splitlines() if line.startswith("@")) for text in (*said, again)
    }
    expect(
        len(answers) == 1 and "drawing" not in again and "training the classifier" not in again,
        again,
    )
    expect(
        sorted(path.name for path in folder.iterdir())
        == [".classifier_drawn_digits.npz", ".drawn_faces_32_5120_seed_0.cache"],
        "left behind",
    )


def run(minutes, folder):
    """All of it; the figures and what failed."""
    limit, found, failures = report.Limit(minutes), {}, []
    code, said = Watched(folder / "undisturbed").end(300)
    if code:
        return {}, [f"the undisturbed run ended with {code}:\n{said}"]
    reference = outcome(folder / "undisturbed")
    for name, function in SCENARIOS.items():
        place = folder / name.replace(" ", "_")
        place.mkdir()
        try:
            if limit.is_over():
                raise AssertionError(f"not begun within {minutes} minutes")
            function(place, reference)
            found[name] = "as it should be"
        except Skipped as reason:
            found[name] = f"skipped: {reason}"
        except AssertionError as error:
            found[name] = "failed"
            failures.append(f"{name}: {error}")
        print(f"{name}: {found[name]}", flush=True)
    return {"scenarios": found, "seconds": limit.seconds()}, failures


def with_own_mounts():
    """Start anew where mounts are this process's own; they are gone when it ends."""
    if os.environ.get("D2LVAE_OWN_MOUNTS"):
        return
    words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        allowed = (
            subprocess.run(
                [*words, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ).returncode
            == 0
        )
    except FileNotFoundError:
        allowed = False
    if allowed:
        os.environ["D2LVAE_OWN_MOUNTS"] = "yes"
        os.execvp(words[0], [*words, sys.executable, *sys.argv])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--minutes", type=float, default=6, help="it fails if it has not come to its end by then"
    )
    parser.add_argument("--results", type=pathlib.Path, default=report.RESULTS)
    arguments = parser.parse_args()
    with_own_mounts()
    with tempfile.TemporaryDirectory() as folder:
        figures, failures = run(arguments.minutes, pathlib.Path(folder))
        subprocess.run(
            ["umount", "--lazy", *map(str, pathlib.Path(folder).glob("*/disk"))],
            stderr=subprocess.DEVNULL,
        )
    return report.finish("disks", figures, failures, arguments.results)


if __name__ == "__main__":
    sys.exit(main())
