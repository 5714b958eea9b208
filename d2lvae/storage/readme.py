"""The page that a run's folder shows: a README.md from what metrics.json records."""

from .records import run_name

HEADINGS = {
    "final": "mean over the last epoch, nats an image",
    "validation": "mean over held-out images, nats an image",
}


def run_readme(data, metrics):
    """The README.md of a run, before or after it was evaluated; `data` is the images in words.

    `metrics` are as in metrics.json; what is not in it yet ('validation', 'quality') is left out.
    """
    settings, state = metrics["config"], "finished" if metrics["finished"] else "stopped by hand"
    tables = [_table(HEADINGS[part], metrics[part]) for part in HEADINGS if part in metrics]
    if "quality" in metrics:
        number = metrics["quality"]["num_images"]
        heading = f"mean over {number:,} reconstructed validation images"
        tables.append(_table(f"{heading} (see `d2lvae/evaluation/metrics.py`)", metrics["quality"]))
    images = ["![reconstructions](reconstructions.png)"]
    if not metrics["data"]["is_real"]:
        both = "originals_and_reconstructions.png"
        images.append(f"![originals above, reconstructions below]({both})")
    images.append("![samples from the prior (above) and from the codes (below)](samples.png)")
    history = []
    if metrics["epochs_done"]:
        images.append("![losses](loss.png)")
        history.append("[history.csv](history.csv)")
    done = (
        f"{metrics['epochs_done']} of {settings['epochs']} epochs ({state} on "
        f"{metrics['finished_at']}), {metrics.get('seconds', 0):,.0f} s of training, "
        f"{metrics.get('images_per_second', 0):,.0f} images/s."
    )
    records = ", ".join([*history, "[metrics.json](metrics.json)"])
    end = f"All numbers: {records}. Left by `d2lvae.fit`.\n"
    return "\n\n".join(
        [f"# {run_name(settings)}", f"Trained on {data}.", done, *tables, *images, end]
    )


def _table(heading, values):
    """The numbers among the values as a Markdown table."""
    rows = [
        f"| {name.replace('kid', 'kernel_distance').replace('_', ' ')} | {value:.4f} |"
        for name, value in values.items()
        if isinstance(value, float)
    ]
    return "\n".join([f"| {heading} | |", "|---|---|", *rows])
