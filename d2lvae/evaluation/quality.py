"""How good a run's VAE is on images that it was not trained on: `d2lvae.evaluate`.

table = d2lvae.evaluate(run, images)      (its folder's metrics.json and README.md have it, too)
"""

import json

import mxnet as mx
import numpy as np
import pandas

from .. import losses
from ..engine.operators import unit_images
from ..runs import reconstruct
from ..storage import codes, paths
from ..storage.errors import RunError
from ..storage.files import read_arrays, read_json
from ..storage.nets import get_weights
from ..storage.readme import run_readme
from ..storage.records import source_checksum
from ..storage.results import write_text
from ..storage.weights import spawn_seeds
from . import classifier, metrics
from .figures import MEASURES

NUM_MEASURED = 1_000  # validation images, at most, whose reconstructions are measured
MEANINGS = {"final": "nats per image, last epoch", "validation": "nats per image, held-out images"}


def evaluate(run, images, pixel_loss=None):
    """Measure a trained VAE on held-out images, and add what was found to the run's folder.

    Parameters
    ----------
    run : d2lvae.runs.Run
        Finished or interrupted.  Its `metrics` and its folder's metrics.json get 'validation' (see
        :func:`validation_losses`) and 'quality' (see :func:`quality`); README.md is written anew.
    images : ImageSet
        Those that it was trained on; their validation images are measured.
    pixel_loss : callable, optional
        The pixel loss of one's own that it was trained with.

    Returns
    -------
    pandas.DataFrame
        See :func:`table`.

    Raises
    ------
    RunError
        The folder holds another run by now, or the net has been trained on since; the images or the
        pixel loss are not those of the training.
    CheckpointError
        The folder's vae.npz is missing or damaged.
    ValueError
        The folder's metrics.json cannot be read.
    OSError
        The folder cannot be written; what was in it is unchanged.
    """
    settings = run.metrics["config"]
    name = settings["pixel_loss"]
    pixel_loss = pixel_loss or losses.PIXEL_LOSSES.get(name)
    if getattr(pixel_loss, "__name__", None) != name:
        raise RunError(
            f"pixel_loss must be the function that this run was trained with, {name}; "
            f"found {getattr(pixel_loss, '__name__', pixel_loss)}: "
            f"evaluate(run, images, pixel_loss={name})"
        )
    found = source_checksum(pixel_loss)
    if found != settings.get("pixel_loss_source", found):  # the package's own have none
        raise RunError(f"the lines of {name} have changed since this run was trained with it")
    _check_images(run, images)
    _check_not_continued(run)
    is_here = run.folder.is_dir()  # not where another machine's worker has written it
    if is_here:
        _check_same_run(run)
        _check_weights(run)
    run.metrics.update(
        validation=validation_losses(run.vae, images.validation, pixel_loss, settings["seed"]),
        quality=quality(run.vae, images),
    )
    if is_here:
        write_text(run.folder / "README.md", run_readme(str(images), run.metrics))
        write_text(run.folder / "metrics.json", json.dumps(run.metrics, indent=2) + "\n")
    else:
        paths.say(f"note: {run.folder} is not on this machine, so only the table has the measures")
    return table(run.metrics)


def _check_images(run, images):
    """Make sure that these are a run's images, or its record would tell of others'."""
    if images.sha256() != run.metrics["config"]["data_sha256"]:
        about = run.metrics["data"]
        raise RunError(
            f"these images are {images}, but the run was trained on {about['name']}, "
            f"{about['num_train']:,} training images, {about['origin']}: give those, or train again"
        )


def _check_weights(run):
    """Make sure that a run's net still has the weights that the run has left in its folder."""
    kept, _ = read_arrays(run.folder / "vae.npz")
    found = get_weights(run.vae)
    if any(not np.array_equal(kept.get(name), array) for name, array in found.items()):
        raise RunError(
            f"the net of this run has been trained on, or was given other weights, since "
            f"{run.folder / 'vae.npz'} was written: run.vae = d2lvae.load_net(run.folder / "
            "'vae.npz') gives back the run's"
        )


def _check_not_continued(run):
    """Make sure that a stopped run has not come to its end since: its folder has been moved."""
    is_stopped, place = not run.metrics["finished"], run.folder.parent
    if is_stopped and not run.folder.is_dir() and (place / "metrics.json").is_file():
        raise RunError(
            f"this run was stopped after {run.metrics['epochs_done']} epochs, and has been trained "
            f"to its end since, into {place}: evaluate the run that `fit` returned last"
        )


def _check_same_run(run):
    found, expected = (
        {name: record.get(name) for name in ("config", "epochs_done", "finished")}
        for record in (read_json(run.folder / "metrics.json"), json.loads(json.dumps(run.metrics)))
    )
    if found != expected:
        raise RunError(
            f"{run.folder / 'metrics.json'} is another run's by now ({found['epochs_done']} epochs "
            f"there, {expected['epochs_done']} here): evaluate the run that `fit` returned last"
        )


def validation_losses(vae, images, pixel_loss, seed):
    """The VAE's own losses on images that it was not trained on, with sampled latents.

    Gives 'pixel_loss' and 'kl', in nats an image; `images` are uint8 (N, C, H, W).  `pixel_loss`
    takes logits and images (N, C, H, W) and gives (N,), or is a name in `losses.PIXEL_LOSSES`.
    The noise is numpy's, from the run's seed: no other random numbers are disturbed.
    """
    pixel_loss = losses.PIXEL_LOSSES.get(pixel_loss, pixel_loss)
    rng, sums = np.random.default_rng(spawn_seeds(seed, 0)[1]), []
    for part in codes.split(images):
        batch = unit_images(part, vae.ctx)
        mean, log_var = vae.encode(batch)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        latents = vae.reparameterize(mean, log_var, mx.nd.array(noise, ctx=vae.ctx))
        pixel, kl = pixel_loss(vae.decode(latents), batch), losses.kl_divergence(mean, log_var)
        sums.append([each.asnumpy().astype(np.float64).sum() for each in (pixel, kl)])
    pixel, kl = np.sum(sums, axis=0) / len(images)
    return {"pixel_loss": float(pixel), "kl": float(kl)}


def quality(vae, images):
    """How near the reconstructions of validation images are to their originals, and how sharp.

    The first 1,000 validation images are measured.  The dict has the means of all measures in
    :data:`d2lvae.evaluation.metrics.PER_IMAGE`, and 'num_images'.
    'kid' is the kernel distance of the reconstructions from the originals, by the features of the
    classifier that 'kid_features' names (comparable with no one else's); 'kid_prior' and
    'kid_codes', that of as many samples of either kind (:func:`d2lvae.storage.codes.samples`).
    What these images cannot be measured by is only in 'not_measured', with the reason.
    """
    originals = images.validation[:NUM_MEASURED]
    reconstructions = reconstruct(vae, originals)
    found, missing = {"num_images": len(originals)}, {}
    for name, measure in metrics.PER_IMAGE.items():
        try:
            found[name] = float(measure(originals, reconstructions).mean())
            if not np.isfinite(found[name]):
                raise ValueError(f"{found.pop(name)} is no finite number")
        except ValueError as error:  # too small an image, or of too many channels
            missing[name] = str(error)
    try:
        net = classifier.classifier_for(images)
        distances = kernel_distances(net, originals, {"kid": reconstructions, **samples_of(vae)})
        found.update(distances, kid_features=net.about["trained_on"])
    except ValueError as error:  # a set of one's own, or a single image
        missing["kid"] = str(error)
    return {**found, **({"not_measured": missing} if missing else {})}


def samples_of(vae):
    """As many samples of either kind as are measured, uint8 (N, C, H, W).

    By 'kid_prior' and, where it is known where the codes lie, 'kid_codes'.
    """
    names = {"from the prior": "kid_prior", "from the codes": "kid_codes"}
    return {names[place]: drawn for place, drawn in codes.samples(vae, NUM_MEASURED).items()}


def kernel_distances(net, originals, sets):
    """The kernel distance of each set, uint8 (M, C, H, W), from the originals, by name.

    `net` is the classifier whose features are compared.
    """
    features = classifier.features(net, originals)
    return {
        name: metrics.kernel_distance(features, classifier.features(net, images))
        for name, images in sets.items()
    }


def table(metrics):
    """Everything that was measured, a row each: losses in nats per image, then quality.

    `metrics` are as in metrics.json; what is not in it has no row.  The data frame has the columns
    'value' and 'meaning', the names as its index.
    """
    rows = {}
    for part, prefix in (("final", ""), ("validation", "validation ")):
        for name, value in metrics.get(part, {}).items():
            rows[f"{prefix}{name.replace('_', ' ')}"] = value, MEANINGS[part]
    for name, (label, direction) in MEASURES.items():
        if name in metrics.get("quality", {}):
            rows[label] = metrics["quality"][name], direction
    return pandas.DataFrame.from_dict(rows, orient="index", columns=["value", "meaning"]).round(3)


def check_learning(run, images):
    """What a student should look at first: has the VAE learned, and do its latents say anything?

    The pixel loss should have fallen; the whole loss need not, since a learned loss grows with what
    the discriminator learns.  And a reconstruction should be nearer to its original than the
    average training image is, or it owes nothing to its latents.

    Parameters
    ----------
    run : d2lvae.runs.Run
    images : ImageSet
        Those that it was trained on.

    Returns
    -------
    str
        Two lines of numbers; where one is not as it should be, the likeliest reason.
    """
    _check_images(run, images)
    originals, average = (images.validation[:10] / 255, images.train.mean(axis=0) / 255)
    error, blind = (
        ((each - originals) ** 2).sum(axis=(1, 2, 3)).mean()
        for each in (run.reconstructions / 255, average)
    )
    first, last = (run.history[i]["pixel_loss"] if run.history else np.nan for i in (0, -1))
    has_fallen = last < first or len(run.history) == 1
    fallen = "" if has_fallen else "  NOTE: it has not fallen. Too few epochs, or lr too high?"
    nearer = (
        "" if error < 0.95 * blind else "  NOTE: no nearer. Too few epochs, or kl_weight too high?"
    )
    return (
        f"pixel loss: {first:.1f} nats per image in the first epoch, "
        f"{last:.1f} in the last{fallen}\n"
        f"squared error per image: {error:.1f}; of the average image: {blind:.1f}{nearer}"
    )
