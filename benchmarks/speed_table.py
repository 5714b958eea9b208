"""What `train_step.py` measured, as lines of text and as a chart.

A ratio is always this project's speed over another's: above 1, this project is faster.
"""

import statistics

import numpy as np
from experiments import BATCH
from peers import PEERS, is_peer


def ratio(rates, way, other):
    """The median of the rounds' ratios, as a machine's speed drifts from round to round."""
    return statistics.median(one / two for one, two in zip(rates[way], rates[other]))


def best_of(rates, ways):
    """The way of these that is fastest, by its median; None without any."""
    return max((way for way in ways if way in rates), default=None,
               key=lambda way: statistics.median(rates[way]))  # fmt: skip


def summary(rates):
    """Medians; this project's ratio to each other way; and which of the peers' is best."""
    medians = {way: statistics.median(found) for way, found in rates.items()}
    ratios = {way: ratio(rates, "ours", way) for way in rates} if "ours" in rates else {}
    return medians, ratios, best_of(rates, filter(is_peer, rates))


def experiment_lines(name, rates):
    """One experiment's speeds, a line for each way."""
    medians, ratios, best = summary(rates)
    lines = [name]
    for way, rate in medians.items():
        to = f"{ratios[way]:8.2f}" if ratios and way not in ("ours", "bfloat16") else ""
        lines.append(f"    {way:30}{rate:10,.0f}{to}{'  best peer' if way == best else ''}")
    return lines


def table(results):
    """Lines of text: images a second and this project's ratios to the others."""
    lines = [
        f"{'experiment':24}{'ours':>8}{'best peer':>11} {'(which)':30}{'ratio':>6}"
        f"{'original':>10}{'ratio':>6}{'bfloat16':>10}{'ratio':>6}"
    ]
    ratios = []
    for name, rates in results["images_per_second"].items():
        if "ours" not in rates:
            continue
        medians, to, best = summary(rates)
        cells = f"{medians['ours']:8,.0f}"
        cells += f"{medians[best]:11,.0f} {best:30}{to[best]:6.2f}" if best else " " * 48
        for way, one, two in (("original", "ours", "original"), ("bfloat16", "bfloat16", best)):
            cells += f"{medians[way]:10,.0f}" if way in rates else f"{'-':>10}"
            cells += f"{ratio(rates, one, two):6.2f}" if way in rates and two else f"{'-':>6}"
        lines.append(f"{name:24}{cells}")
        ratios += [to[best]] if best else []
    if ratios:
        mean = statistics.geometric_mean(ratios)
        lines.append(f"\nto the best peer: least {min(ratios):.2f}, geometric mean {mean:.2f}")
    ran = {way.split()[0] for rates in results["images_per_second"].values() for way in rates}
    peers = [f"{PEERS[peer]}" for peer in PEERS if peer in ran]
    lines.append(f"a ratio above 1: this project is faster; peers that ran: {peers or 'none'}")
    return lines


COLOURS = {
    "this project": "#0072b2",
    "PyTorch, best of its ways": "#e69f00",
    "JAX": "#009e73",
    "the original's way (2019)": "#999999",
}


def bars(rates):
    """(images/s, ratio to the best peer or, without one, to this project) by kind."""
    medians, _, best = summary(rates)
    base = best or "ours"
    torch = best_of(rates, (way for way in rates if way.startswith("pytorch")))
    ways = zip(COLOURS, ("ours", torch, "jax", "original"))
    return {kind: (medians[way], ratio(rates, way, base)) for kind, way in ways if way in rates}


def draw_chart(results, path):
    """A bar for each way, relative to the best peer, or to this project where there is none."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name, rates in results["images_per_second"].items() if "ours" in rates][::-1]
    fig, axes = plt.subplots(figsize=(9, 9))
    for row, name in enumerate(names):
        found = bars(results["images_per_second"][name])
        for place, (kind, colour) in enumerate(COLOURS.items()):
            if kind in found:
                speed, to_best = found[kind]
                y, known = row + 0.27 - 0.18 * place, axes.get_legend_handles_labels()[1]
                label = None if kind in known else kind
                axes.barh(y, to_best, 0.17, color=colour, edgecolor="black", linewidth=0.5,
                          label=label)  # fmt: skip
                axes.text(to_best + 0.02, y, f"{speed:,.0f}", va="center", fontsize=9)
    labels = [name.replace("_", " ", 1).replace("_", "\n") for name in names]
    axes.set_yticks(np.arange(len(names)), labels)
    axes.axvline(1, color="black", linewidth=1)
    axes.margins(x=0.1)
    axes.set_xlabel("speed of a training step, 1 = the best peer (numbers: images/s)")
    axes.set_title(
        f"Training steps at batch size {BATCH} on {results['machine']['cores']} cores "
        "(drawn digits and faces)"
    )
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1]))
    kinds = [kind for kind in COLOURS if kind in handles]
    place = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.07), "ncol": 3}
    axes.legend([handles[kind] for kind in kinds], kinds, **place)
    fig.tight_layout()
    fig.savefig(path, dpi=100)
    plt.close(fig)
