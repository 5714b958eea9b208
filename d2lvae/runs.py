"""A run from its parameters to its folder: trained, resumed, drawn and recorded.

    results/own/images/<nets>_on_<data>/<numbers>/
        0.png ... 9.png          reconstructions of the ten validation images
        test_0.png ...           the originals (of a real data set: not for git)
        originals_and_reconstructions.png  (likewise)
        reconstructions.png, samples.png, loss.png
        history.csv, metrics.json, README.md
        vae.npz, disc.npz, checkpoint*.npz  (not for git)
        unfinished/              the same of a run that has not come to its end

A run is in `unfinished` until it has come to its end; only then it takes the place of an earlier one.
"""

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import platform
import time

import mxnet as mx
import numpy as np
import pandas

from . import __version__, figures, training
from .config import Config, ParameterError
from .discriminators import Discriminator
from .distributed import process_group
from .distributed.cluster import DistributedError
from .engine import threads
from .evaluation import classifier, metrics
from .evaluation.figures import MEASURES
from .storage import checkpoints, paths
from .storage.checkpoints import CheckpointError
from .storage.files import Busy, atomic_write, file_lock, read_json
from .storage.records import OPTIONAL, RunBusy, RunError, run_name, settings_of
from .vae import VAE

__all__ = ["Run", "RunError", "fit", "quality", "reconstruct", "run_folder", "run_name"]

NUM_IMAGES = 10
NUM_MEASURED = 1_000  # validation images, at most, whose reconstructions are measured
OWN_RESULTS = "results/own"  # not in git
UNFINISHED = "unfinished"


@dataclasses.dataclass
class Run:
    """What a training left.

    Attributes
    ----------
    folder : pathlib.Path
        Where its files are.
    history : list of dict
        Losses (nats an image), seconds and images/s of every epoch.
    metrics : dict
        As in metrics.json.
    reconstructions : numpy.ndarray, uint8, shape (10, C, H, W)
        Of the first ten validation images, decoded from the mean.
    """

    folder: pathlib.Path
    history: list
    metrics: dict
    reconstructions: np.ndarray

    def table(self):
        """Everything that was measured, a row each: losses in nats per image, then quality.

        What could not be measured on these images is not in it.

        Returns
        -------
        pandas.DataFrame
            With the columns 'value' and 'meaning'.
        """
        rows = {
            name.replace("_", " "): (value, "last epoch of training")
            for name, value in self.metrics["final"].items()
        }
        rows.update(
            {
                f"validation {name.replace('_', ' ')}": (value, "validation images")
                for name, value in self.metrics["validation"].items()
            }
        )
        quality = self.metrics["quality"]
        rows.update(
            {
                label: (quality[name], direction)
                for name, (label, direction) in MEASURES.items()
                if name in quality
            }
        )
        return pandas.DataFrame.from_dict(rows, orient="index", columns=["value", "meaning"]).round(
            3
        )


def run_folder(vae, images, config, discriminator=None):
    """Where :func:`fit` with the same arguments leaves its results."""
    return _folder(settings_of(vae, images, config, discriminator), config)


def _folder(settings, config):
    return paths.results_root(config.results_dir or OWN_RESULTS) / "images" / run_name(settings)


def fit(vae, images, config, discriminator=None, progress=None):
    """Train, and leave a folder of results; Ctrl-C ends it early and keeps what was learned.

    Nets without weights get Xavier weights drawn from the random seed; so do those that still have the
    weights of :func:`d2lvae.initialize` or of an earlier `fit`.  Any other weights, of an initialiser of
    one's own or loaded from a file, are kept and recorded.  With `kvstore` 'dist_sync' this process is
    one of several that call `fit` alike and train together; rank 0 alone writes, and all have the same outcome.

    Parameters
    ----------
    vae : VAE
    images : ImageSet
    config : Config
        `batch_size` is all workers' together.
    discriminator : Discriminator, optional
        Trained along; by default its adversarial loss, times `disc_weight`, joins the VAE's loss (`learned_loss`).
    progress : callable, optional
        Called after each minibatch with its number of images.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        The results folder cannot be written or belongs to another configuration, or weights cannot be begun with.
    ParameterError
        Parameters that contradict each other, the images or the nets, or that have changed in the notebook.
    CheckpointError
        With `resume`: the checkpoints are damaged or of another configuration.
    FloatingPointError
        The loss stopped being a number.
    DistributedError
        With `kvstore` 'dist_sync': a worker, a server or the scheduler is missing or has died.
    """
    _check_kinds(vae, discriminator, config)
    settings, history = settings_of(vae, images, config, discriminator), []
    nets = {name: net for name, net in (("vae", vae), ("disc", discriminator)) if net is not None}
    own_weights = {name: _own_weights(name, net, config.resume) for name, net in nets.items()}
    own_weights = {name: checksum for name, checksum in own_weights.items() if checksum}
    if own_weights:
        settings["own_weights"] = own_weights
    folder = _folder(settings, config)
    with process_group.joined(config.kvstore) as workers:
        try:
            _check_same_config(workers, settings, config.resume)
            with _folder_lock(folder) if workers.rank == 0 else contextlib.nullcontext():
                for place, (name, net) in enumerate(nets.items()):
                    _begin(
                        net,
                        settings["seed"] + place,
                        name in own_weights,
                        config.resume or workers.rank > 0,
                    )
                pixel_loss = config.pixel_loss if callable(config.pixel_loss) else None
                learner = training.Learner(vae, discriminator, settings, workers, pixel_loss)
                return _train(learner, images, settings, history, folder, config.resume, progress)
        except DistributedError as error:
            kept = (
                f"{len(history)} of {settings['epochs']} epochs are kept"
                if history
                else "no epoch was finished"
            )
            raise DistributedError(
                f"{error}. Start all processes anew, with -p resume True to go on from the last checkpoint ({kept})"
            ) from None
        finally:
            for name, net in nets.items():
                if training.has_weights(net):
                    net.left_by_fit, net.began_from = (
                        training.weights_checksum(net),
                        own_weights.get(name),
                    )


def _check_kinds(vae, discriminator, config):
    """Refuse nets and parameters that are not what `fit` takes, before any work."""
    for net, kind in ((vae, VAE), (discriminator, Discriminator)):
        if net is not None and not isinstance(net, kind):
            raise TypeError(
                f"{type(net).__name__} is no d2lvae.{kind.__name__}: derive its class from it"
            )
    if not isinstance(config, Config):
        raise TypeError(
            f"config must be a d2lvae.Config; found {type(config).__name__}. Config.from_dict makes one from a dict"
        )
    if (
        discriminator is not None
        and config.learned_loss != "adversarial"
        and not hasattr(discriminator, "features")
    ):
        raise ParameterError(
            f"learned_loss {config.learned_loss!r} compares features, and {type(discriminator).__name__} has no "
            "method `features`. For example: -p learned_loss adversarial"
        )


def _own_weights(name, net, resume):
    """A checksum of weights that somebody else has given a net; None if it has none, or those of `initialize` or `fit`.

    Raises
    ------
    RunError
        A training that began from weights of somebody's own has changed them, so that it cannot begin from them again.
    """
    if not training.has_weights(net):
        return None
    checksum = training.weights_checksum(net)
    if checksum != getattr(net, "left_by_fit", None):
        training.prepare(net)
        return f"{training.weights_checksum(net):08x}"
    began_from = getattr(net, "began_from", None)
    if began_from and began_from != f"{checksum:08x}" and not resume:
        raise RunError(
            f"the {name} began from weights of its own, which training has changed. Make it and give it its weights again, "
            "or go on with resume True"
        )
    return began_from


def _begin(net, seed, has_own_weights, quiet):
    """Give a net the weights that a run begins with, and say which if they are not what one would think."""
    words = None
    if has_own_weights:
        words = "begins from the weights that it has been given, not from the seed's"
    else:
        if training.has_weights(net) and hasattr(net, "began_from"):
            words = f"was trained before; it begins anew from seed {seed} (resume True would go on)"
        training.initialize(net, seed)
    if words and not quiet:
        print(f"{type(net).__name__} {words}.", flush=True)


@contextlib.contextmanager
def _folder_lock(folder):
    """Have a run's folder, made if it is missing, to oneself."""
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


def _cannot_be_written(folder, error):
    return RunError(
        f"the results folder {folder} cannot be written ({error.strerror or error}): choose another with results_dir"
    )


def _train(learner, images, settings, history, folder, resume, progress):
    """What :func:`fit` does once all workers agree and the folder is nobody else's."""
    workers, work = learner.team, folder / UNFINISHED
    if workers.rank == 0:
        _check_folder(folder, settings, resume)
    made_with = {"processor_threads": threads.settings(), "workers": workers.size}
    if resume:
        begun_with = _resume(
            learner, folder, settings, history, -(-len(images.train) // settings["batch_size"])
        )
        made_with = (
            begun_with if len(history) == settings["epochs"] else made_with
        )  # of the training: here none is left to do

    def keep():
        if workers.rank == 0:
            arrays, steps = learner.state()
            record = {
                "config": settings,
                "steps": steps,
                "history": history,
                "threads": threads.settings(),
                "workers": workers.size,
            }
            checkpoints.save_checkpoint(work, arrays, record)

    def draw(curve, title):
        first = images.validation[:NUM_IMAGES]
        return [
            figures.show_history(curve, f"{images.title}: {title}", num_epochs=settings["epochs"]),
            figures.show_reconstructions(first, reconstruct(learner.vae, first), images.title),
        ]

    finished = training.train(
        learner, images.train, settings, history, keep, progress, None if progress else draw
    )
    if not finished and workers.rank == 0:
        print(
            f"stopped by hand in epoch {len(history)}; what was learned is kept, and resume True "
            f"goes on after the {len(history)} finished epoch(s).",
            flush=True,
        )
    for optimizer in (
        learner.optimizers.values() if workers.size > 1 else ()
    ):  # BatchNorm's statistics are each worker's own
        checkpoints.set_weights(
            optimizer.net, workers.arrays_of_first(checkpoints.get_weights(optimizer.net))
        )
    run = (
        _record(learner, images, settings, history, finished, work, made_with)
        if workers.rank == 0
        else None
    )
    if run is not None and finished:
        _publish(folder)
        run.folder = folder
    return _share(run, learner, images, work)


def _publish(folder):
    """Put what a finished run has left in place of an earlier one.

    Its record goes last: a kill in between leaves it where it was, and the next start ends what was begun.
    """
    work = folder / UNFINISHED
    for path in sorted(work.iterdir(), key=lambda path: path.name == "metrics.json"):
        os.replace(path, folder / path.name)
    work.rmdir()


def _share(run, learner, images, folder):
    """Rank 0's run, on every worker; says where the results are."""
    workers = learner.team
    first = workers.gather(
        run and [paths.display_path(run.folder), platform.node(), run.history, run.metrics]
    )[0]
    if run is None:
        place, host, history, found = first
        run = Run(
            folder.parent if found["finished"] else folder,
            history,
            found,
            reconstruct(learner.vae, images.validation[:NUM_IMAGES]),
        )
        print(
            f"worker {workers.rank} of {workers.size}: worker 0 has written the results, {place} on {host}",
            flush=True,
        )
    else:
        print(f"results: {first[0]}", flush=True)
    return run


def _check_same_config(workers, settings, resume):
    """Make sure that all workers are about to train the same, before any work.

    Raises
    ------
    RunError
        Naming the worker and the settings that differ from worker 0's.
    ParameterError
        Fewer images in a minibatch than workers.
    """
    if settings["batch_size"] < workers.size:
        raise ParameterError(
            f"batch_size must be at least the number of workers, {workers.size}, who share each minibatch; found "
            f"{settings['batch_size']}. For example: -p batch_size {64 * -(-workers.size // 64)}"
        )
    mine = {**settings, "resume": resume, "version": __version__}
    first, *others = workers.gather([platform.node(), mine])
    for rank, (host, found) in enumerate(others, 1):
        differing = [
            f"{name} {found.get(name)!r} there, {first[1].get(name)!r} on worker 0"
            for name in sorted({*found, *first[1]})
            if found.get(name) != first[1].get(name)
        ]
        if differing:
            raise RunError(
                f"worker {rank} on {host} is about to train something else than worker 0 on {first[0]} ({'; '.join(differing)}): "
                "give all the same parameters and the same data (data_sha256 is a checksum of the images)"
            )


def _check_folder(folder, settings, resume):
    """Make sure that the folder is ours and can be written, before any work."""
    work = folder / UNFINISHED
    try:
        if os.path.lexists(work / "metrics.json") and read_json(work / "metrics.json").get(
            "finished"
        ):
            _publish(folder)  # which a kill had cut short
        work.mkdir(exist_ok=True)
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{work} cannot be brought to its end ({error}): move it away") from None
    if os.path.lexists(folder / "metrics.json"):
        _check_earlier(folder, settings)
    kept = checkpoints.epochs_kept(work, settings, OPTIONAL)
    if kept > 0 and not resume:
        print(
            f"note: an unfinished run of these parameters is here ({kept} of {settings['epochs']} epochs).\n"
            "This one begins at the beginning and will replace it; resume True would go on.",
            flush=True,
        )
    try:
        for unfinished in work.glob(".*.part"):  # of a run that was killed while writing
            unfinished.unlink()
        with atomic_write(work / ".writable"):
            pass
        (work / ".writable").unlink()
    except OSError as error:
        raise _cannot_be_written(folder, error) from None


def _check_earlier(folder, settings):
    """Make sure that the results in a folder are of the same configuration."""
    try:
        earlier = read_json(folder / "metrics.json")
        config = dict(earlier["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder / 'metrics.json'} is not the record of a run ({error}): move the folder "
            "away, or choose another results_dir"
        ) from None
    differing = [
        name
        for name in sorted({*settings, *config})
        if settings.get(name, OPTIONAL.get(name)) != config.get(name, OPTIONAL.get(name))
    ]
    if differing:
        raise RunError(
            f"{folder} holds the results of another configuration (different in its metrics.json: "
            f"{', '.join(differing)}): move it away, or choose another results_dir"
        )
    print(
        f"This configuration has been run before, on {earlier.get('finished_at', '?')}.\n"
        "Its results stay until this run has come to its end.",
        flush=True,
    )


def _find_checkpoint(learner, folder, settings, epoch_steps):
    """The furthest checkpoint of these parameters, in this folder or in that of a run of fewer or more epochs."""
    pattern = run_name({**settings, "epochs": "*"}).split("/")[1]
    others = sorted(path for path in folder.parent.glob(pattern) if path != folder)
    places = [place for path in (folder, *others) for place in (path / UNFINISHED, path)]
    kept = {place: checkpoints.epochs_kept(place, settings, OPTIONAL) for place in places}
    usable = [
        place
        for place in places
        if place in (folder / UNFINISHED, folder) or 0 <= kept[place] <= settings["epochs"]
    ]
    like = learner.state()[0]
    for place in sorted(usable, key=lambda place: -kept[place]):
        try:
            found = checkpoints.load_checkpoint(
                place, settings, OPTIONAL, like=like, epoch_steps=epoch_steps
            )
        except CheckpointError as error:
            if place in (folder / UNFINISHED, folder):
                raise
            print(
                f"{error}. Looking further.", flush=True
            )  # another run's: nothing of this one's is lost
            continue
        if found:
            return found
    return None


def _resume(learner, folder, settings, history, epoch_steps):
    """Bring the learner and the history to where the last whole checkpoint was; gives what it was made with."""
    workers = learner.team
    found = _find_checkpoint(learner, folder, settings, epoch_steps) if workers.rank == 0 else None
    arrays, record = found or (None, None)
    record = workers.gather(record)[0]
    if record is None:
        if workers.rank == 0:
            print(
                "resume: no checkpoint of these parameters yet, so this run begins at the beginning."
            )
        return None
    if workers.rank == 0:
        learner.set_state(arrays, record["steps"])
    if workers.size > 1:
        arrays = workers.arrays_of_first(learner.state()[0])
        if workers.rank > 0:
            learner.set_state(arrays, record["steps"])
    history.extend(record["history"])
    begun_with = {"processor_threads": record["threads"], "workers": record.get("workers", 1)}
    if workers.rank > 0:
        return begun_with
    print(f"resume: going on after {len(history)} of {settings['epochs']} epochs.")
    if record["threads"] != threads.settings():
        print(
            f"note: it was begun with {record['threads']}, this process has {threads.settings()}; "
            "sums are rounded differently, so the last digits will be, too."
        )
    if begun_with["workers"] != workers.size:
        print(
            f"note: it was begun by {begun_with['workers']} worker(s), now there are {workers.size}; sums are rounded differently."
        )
    return begun_with


def _record(learner, images, settings, history, finished, folder, made_with):
    """Write everything a run leaves, and show none of it."""
    reconstructions = _draw(learner.vae, learner.ctx, images, settings, history, folder)
    if history:
        _write_text(folder / "history.csv", _csv(history))
    for name, optimizer in learner.optimizers.items():
        checkpoints.save_net(folder / f"{name}.npz", optimizer.net)
    metrics = _metrics(learner, images, settings, history, finished, made_with)
    _write_text(folder / "README.md", _readme(images, settings, metrics))
    _write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    return Run(folder, history, metrics, reconstructions)


def _draw(vae, ctx, images, settings, history, folder):
    """Write the images and the curves; gives the reconstructions as in :class:`Run`."""
    originals = images.validation[:NUM_IMAGES]
    pictures = mx.nd.array(originals, ctx=ctx).astype("float32") / 255
    reconstructions = figures.to_uint8(vae.reconstruct(pictures))
    for i, (original, reconstruction) in enumerate(zip(originals, reconstructions)):
        figures.save_image(folder / f"test_{i}.png", original)
        figures.save_image(folder / f"{i}.png", reconstruction)
    learned = {"features": " + features", "both": " + features + verdict"}.get(
        settings.get("learned_loss"), ""
    )
    title = f"{folder.parent.name.replace('_', ' ')}, {settings['pixel_loss'].upper()}{learned}, {len(history)} epochs"
    figures.save(
        figures.show_images(reconstructions, f"{title}: reconstructions"),
        folder / "reconstructions.png",
    )
    figures.save(
        figures.show_reconstructions(originals, reconstructions, title),
        folder / "originals_and_reconstructions.png",
    )
    mx.random.seed(settings["seed"])
    figures.save(
        figures.show_images(vae.sample(NUM_IMAGES, ctx), f"{title}: samples from the prior"),
        folder / "samples.png",
    )
    if history:
        figures.save(figures.show_history(history, title), folder / "loss.png")
    return reconstructions


def _metrics(learner, images, settings, history, finished, made_with):
    seconds = [record["seconds"] for record in history]
    final = {
        name: value
        for name, value in (history[-1] if history else {}).items()
        if name not in ("epoch", "seconds", "images_per_second")
    }
    speed = (
        {
            "seconds": round(sum(seconds), 1),
            "seconds_an_epoch": round(float(np.median(seconds)), 2),
            "images_per_second": round(len(images.train) / float(np.median(seconds)), 1),
        }
        if seconds
        else {}
    )
    return {
        "finished": finished,
        "epochs_done": len(history),
        "finished_at": time.strftime("%Y-%m-%d"),
        "final": final,
        "validation": training.evaluate(learner, images.validation, settings),
        "quality": quality(learner.vae, images),
        **speed,
        "data": {
            "name": images.name,
            "origin": images.origin,
            "is_real": images.is_real,
            "num_train": len(images.train),
            "num_validation": len(images.validation),
            **({} if images.seed is None else {"seed": images.seed}),
        },
        "config": settings,
        "device": str(learner.ctx),
        **made_with,
        "versions": {
            "python": platform.python_version(),
            "mxnet": mx.__version__,
            "numpy": np.__version__,
            "d2lvae": __version__,
        },
    }


def reconstruct(vae, images):
    """uint8 images (N, C, H, W) -> what the VAE makes of them, decoded from the mean, uint8, on the device it is on."""
    device = next(iter(vae.collect_params().values())).list_ctx()[0]
    parts = [
        vae.reconstruct(training.on_device(images[i : i + 64], device).astype("float32") / 255)
        for i in range(0, len(images), 64)
    ]
    return np.concatenate([figures.to_uint8(part) for part in parts])


def quality(vae, images):
    """How near the reconstructions of the validation images are to their originals, and how sharp.

    Parameters
    ----------
    vae : VAE
    images : ImageSet
        The first 1,000 validation images are measured.

    Returns
    -------
    dict
        The means of all measures in :data:`d2lvae.evaluation.metrics.PER_IMAGE`; 'kid', the kernel distance of the reconstructions from the
        originals (by the features of the classifier that 'kid_features' names; comparable with no one else's); 'num_images'.
        What these images cannot be measured by is not in it, but in 'not_measured', with the reason.
    """
    originals = images.validation[:NUM_MEASURED]
    reconstructions = reconstruct(vae, originals)
    found, missing = {"num_images": len(originals)}, {}
    for name, measure in metrics.PER_IMAGE.items():
        try:
            found[name] = float(measure(originals, reconstructions).mean())
        except ValueError as error:  # too small an image, or of too many channels
            missing[name] = str(error)
    try:
        judge = classifier.classifier_for(images)
        features = [classifier.features(judge, each) for each in (originals, reconstructions)]
        found.update(kid=metrics.kernel_distance(*features), kid_features=judge.about["trained_on"])
    except ValueError as error:  # a set of one's own, or a single image
        missing["kid"] = str(error)
    return {**found, **({"not_measured": missing} if missing else {})}


def _csv(history):
    text = io.StringIO()
    names = dict.fromkeys(
        name for record in history[::-1] for name in record
    )  # solo epochs have fewer
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def _readme(images, settings, metrics):
    state = "finished" if metrics["finished"] else "stopped by hand"
    rows, measures = (
        "\n".join(
            f"| {name.replace('_', ' ')} | {value:.4f} |"
            for name, value in metrics[part].items()
            if isinstance(value, float)
        )
        for part in ("final", "quality")
    )
    originals = (
        ""
        if images.is_real
        else "\n![originals above, reconstructions below](originals_and_reconstructions.png)\n"
    )
    return f"""# {run_name(settings)}

Trained on {images}.

{metrics['epochs_done']} of {settings['epochs']} epochs ({state} on {metrics['finished_at']}), \
{metrics.get('seconds', 0):,.0f} s of training, {metrics.get('images_per_second', 0):,.0f} images/s.

| mean over the last epoch, nats an image | |
|---|---|
{rows}

| mean over {metrics['quality']['num_images']:,} reconstructed validation images (see `d2lvae/evaluation/metrics.py`) | |
|---|---|
{measures}

![reconstructions](reconstructions.png)
{originals}
![samples from the prior](samples.png)

![losses](loss.png)

All numbers: [history.csv](history.csv), [metrics.json](metrics.json). Left by `d2lvae.fit`.
"""


def _write_text(path, text):
    with atomic_write(path) as file:
        file.write(text.encode())
