"""A run's folder: held by one process, its checkpoint found, an earlier run replaced.

results/own/images/<nets>_on_<data>/<numbers>/
    0.png ... 9.png          reconstructions of the first ten validation images
    test_0.png ...           the originals (of a real data set: not for git)
    originals_and_reconstructions.png  (likewise)
    reconstructions.png, samples.png, loss.png
    history.csv, metrics.json, README.md
    vae.npz, disc.npz, checkpoint*.npz  (not for git)
    unfinished/              the same of a run that has not come to its end

Only a run that has come to its end takes the place of an earlier one.
"""

import contextlib
import os

from ..engine import threads
from . import checkpoints, paths
from .errors import CheckpointError, RunBusy, RunError
from .files import Busy, atomic_write, file_lock, not_written, read_json
from .records import code_of, differing, run_name

OWN_RESULTS = "results/own"  # not in git
UNFINISHED = "unfinished"
NEAR = 3  # settings; a run that differs in more is another experiment


def folder_of(settings, results_dir):
    """Where the results of a run with these settings belong."""
    return paths.results_root(results_dir or OWN_RESULTS) / "images" / run_name(settings)


@contextlib.contextmanager
def folder_lock(folder):
    """Have a run's folder, made if it is missing, to oneself.

    RunBusy if another run has it; RunError if it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(folder / ".lock"))
        except Busy as error:
            raise RunBusy(
                f"{folder} is being written by another run ({error}): let it end or stop it, "
                "or choose another results_dir"
            ) from None
        except OSError as error:
            raise _cannot_be_written(folder, error) from None
        yield


def check_folder(folder, settings, resume):
    """Make sure that the folder is ours and can be written, before any work.

    RunError if it holds another configuration's results or what is no record, or cannot be written.
    """
    work = folder / UNFINISHED
    try:
        if os.path.lexists(work / "metrics.json") and read_json(work / "metrics.json").get(
            "finished"
        ):
            publish(folder)  # which a kill had cut short
        work.mkdir(exist_ok=True)
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{work} cannot be brought to its end ({error}): move it away") from None
    if os.path.lexists(folder / "metrics.json"):
        _check_earlier(folder, settings)
    kept = checkpoints.epochs_kept(work, settings)
    if kept > 0 and not resume:
        print(
            f"note: an unfinished run of these parameters is here ({kept} of {settings['epochs']} "
            "epochs).\nThis one begins at the beginning and will replace it; resume True would go "
            "on.",
            flush=True,
        )
    _check_writable(work)


def _check_writable(folder):
    try:
        for unfinished in folder.glob(".*.part"):  # of a run that was killed while writing
            unfinished.unlink()
        with atomic_write(folder / ".writable"):
            pass
        (folder / ".writable").unlink()
    except OSError as error:
        raise _cannot_be_written(folder, error) from None


def _cannot_be_written(folder, error):
    return RunError(
        f"the results folder {folder} cannot be written ({error.strerror or error}): "
        "choose another with results_dir"
    )


def _check_earlier(folder, settings):
    """Make sure that the results in a folder are of the same configuration."""
    try:
        earlier = read_json(folder / "metrics.json")
        others = differing(dict(earlier["config"]), settings)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder / 'metrics.json'} is not the record of a run ({error}): move the folder "
            "away, or choose another results_dir"
        ) from None
    if others:
        raise RunError(
            f"{folder} holds the results of another configuration (in its metrics.json "
            f"{'; '.join(others)}): move it away, or choose another results_dir"
        )
    print(
        f"This configuration has been run before, on {earlier.get('finished_at', '?')}.\n"
        "Its results stay until this run has come to its end.",
        flush=True,
    )


def publish(folder):
    """Put what a finished run has left in place of an earlier one.

    Its record goes last: a kill in between leaves it where it was, and the next start ends what was
    begun.
    """
    work = folder / UNFINISHED
    for path in sorted(work.iterdir(), key=lambda path: path.name == "metrics.json"):
        try:
            os.replace(path, folder / path.name)
        except OSError as error:
            raise not_written(folder / path.name, error) from None
    work.rmdir()


def find_checkpoint(folder, settings, like):
    """The furthest checkpoint of these settings, here or in a run's of fewer or more epochs.

    It is (arrays, record), or None; `like` has arrays of the names, shapes and kinds that are
    wanted.  CheckpointError if the run's own checkpoints are damaged, or of another configuration.
    """
    pattern = run_name({**settings, "epochs": "*"}).split("/")[1]
    others = sorted(path for path in folder.parent.glob(pattern) if path != folder)
    places = [place for path in (folder, *others) for place in (path / UNFINISHED, path)]
    own = folder / UNFINISHED, folder
    kept = {place: checkpoints.epochs_kept(place, settings) for place in places}
    usable = [place for place in places if place in own or 0 <= kept[place] <= settings["epochs"]]
    for place in sorted(usable, key=lambda place: -kept[place]):
        try:
            found = checkpoints.load_checkpoint(place, settings, like)
        except CheckpointError as error:
            if place in own:
                raise
            print(f"{error}. Looking further.", flush=True)  # nothing of this run's is lost
            continue
        if found:
            return found
    return None


def resume(step, settings, history, folder, group):
    """Bring step and history to the last whole checkpoint; gives what that was made with, or None.

    `history` comes empty and gets a record per finished epoch.  Rank 0 reads the checkpoint for
    all.  CheckpointError as of :func:`find_checkpoint`.
    """
    arrays, record = checkpoints.get_state(step)[0], None
    if group.rank == 0:
        found = find_checkpoint(folder, settings, arrays)
        arrays, record = found or (arrays, None)
    record = group.allgather(record)[0]
    if record is not None:
        checkpoints.set_state(step, group.broadcast(arrays), record["steps"])
        history.extend(record["history"])
    made_with = record and checkpoints.made_with(record)
    if group.rank == 0 and made_with:
        say_resumed(made_with, len(history), settings["epochs"], group.size)
        say_changed(made_with.get("code", {}), code_of(step.trainers).get("code", {}))
    elif group.rank == 0:
        print("resume: no checkpoint of these parameters yet, so this run begins at the beginning.")
        print(nearest(folder, settings), end="", flush=True)
    return made_with


def nearest(folder, settings):
    """A line on the run beside this one that fewest settings keep from being gone on with.

    '' if there is none with `NEAR` or fewer.
    """
    found = [
        (len(others), path.name, others or ["more epochs there"])
        for path in folder.parent.iterdir()
        for place in (path, path / UNFINISHED)
        for _, others in checkpoints.differences(place, settings)
        if len(others) <= NEAR
    ]
    if not found:
        return ""
    _, name, others = min(found)
    return f"The nearest run here, {name}, differs: {'; '.join(others)}.\n"


def say_resumed(made_with, num_epochs, epochs, size):
    """Say where a training goes on, and what may make it end in other last digits.

    `made_with` is the checkpoint's, of :func:`d2lvae.storage.checkpoints.made_with`.
    `num_epochs` of `epochs` are finished; `size` is the number of processes.
    """
    print(f"resume: going on after {num_epochs} of {epochs} epochs.")
    there, here = made_with["processor_threads"], threads.settings()
    if there != here:
        print(
            f"note: it was begun with {there}, this process has {here}; sums are rounded "
            "differently, so the last digits will be, too."
        )
    if made_with["workers"] != size:
        print(
            f"note: it was begun by {made_with['workers']} worker(s), now there are {size}; sums "
            "are rounded differently."
        )


def say_changed(there, here):
    """Say which nets' classes have other code than when training was begun; checksums by name."""
    for name, checksum in there.items():
        if here.get(name) not in (None, checksum):
            print(
                f"note: the code of the {name}'s class is not what its training was begun with. "
                "Give the class another name, or resume False to begin anew."
            )


def kept(history, epochs):
    """What a training that breaks off leaves to go on from, in words."""
    return f"{len(history)} of {epochs} epochs are kept" if history else "no epoch was finished"


def say_stopped(num_epochs):
    """Say what is left of a training that Ctrl-C has ended."""
    print(
        f"stopped by hand in epoch {num_epochs}; what was learned is kept, and resume True "
        f"goes on after the {num_epochs} finished epoch(s).",
        flush=True,
    )
