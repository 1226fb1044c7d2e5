"""Paths: is a residual net's gradient the sum over its 2^L paths, and how long are those that matter?

    g = path_sum(f, x)                     # every path walked alone; the same as backpropagation
    length_distribution(54, gain=0.25)     # Veit et al.'s effective paths, from one binomial

Source: Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, sections 3 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import minires as mr
from minires import functional as F
from minires.lab import nets
from minires.lab.experiment import Experiment, Results, Table, Tick, Verdict
from minires.lab.spread import spread
from minires.lab.unraveled import (
    Walk,
    central_range,
    counted,
    gradient_by_length,
    length_distribution,
    log_slope,
    mass_by_length,
    mean_length,
    path_lengths,
    path_norms,
    path_sum,
    path_terms,
)

__all__ = [
    "EXPERIMENT",
    "above_stem",
    "central_range",
    "counted",
    "gradient_by_length",
    "length_distribution",
    "log_slope",
    "mass_by_length",
    "mean_length",
    "path_lengths",
    "path_norms",
    "path_sum",
    "path_terms",
]

EXACT = {"smoke": 8, "full": 12}  # blocks of the net all of whose paths are walked
BLOCKS = 27  # of the net whose paths are sampled
EPOCHS = {"smoke": 5, "full": nets.EPOCHS}
DRAWS = {"smoke": 4, "full": 20}  # paths of each length
IMAGES = {"exact": 8, "sampled": 32}
VEIT = 54  # blocks of the ResNet-110 of the paper
GAIN = 0.25  # of one of its branches, for its effective paths
EFFECTIVE = {1.0: (19, 35), GAIN: (5, 17)}  # what its paths take, and those that bring gradient


# --- measuring


def above_stem(net: nets.Net, images: nets.Images) -> tuple[Callable[[Any], Any], np.ndarray]:
    """(f, x): the loss as a function of x, what the stem makes of the images. Evaluation mode, float64 from here on."""
    net.to(np.float64).eval()
    with mr.no_grad():
        x: np.ndarray = net.stem(images.pixels.astype(np.float64)).data  # (N, width)
    return lambda x: F.cross_entropy(net.head(net.norm(net.body(x))), images.labels), x


def measure(scale: str, seed: int, tick: Tick) -> dict[str, Any]:
    """All paths of a small net, random and grouped paths of a deep one before and after training, and counted ones."""
    train, _ = nets.digits()
    found: dict[str, Any] = {"seed": seed}
    small = nets.build("pre", EXACT[scale], seed)
    nets.train(small, seed, epochs=EPOCHS[scale])
    found["exact"] = _exact(*above_stem(small, _first(train, IMAGES["exact"])))
    tick(f"all {2 ** EXACT[scale]:,} paths of {EXACT[scale]} blocks")
    for when in ("start", "trained"):
        net = nets.build("pre", BLOCKS, seed)
        if when == "trained":
            nets.train(net, seed, epochs=EPOCHS[scale])
        else:
            _settle(net, train)
        found[when] = _by_length(*above_stem(net, _first(train, IMAGES["sampled"])), DRAWS[scale], seed)
        tick(f"paths by length, {'before' if when == 'start' else 'after'} training")
    found["counted"] = counted(VEIT).tolist()
    return found


def _exact(f: Callable[[Any], Any], x: np.ndarray) -> dict[str, Any]:
    terms, whole = path_terms(f, x), Walk(f, x, None).back()
    difference = np.abs(terms.sum(axis=0) - whole).max() / np.abs(whole).max()
    norms, lengths = np.sqrt((terms**2).sum(axis=(1, 2))), path_lengths(int(math.log2(len(terms))))
    return {
        "blocks": int(lengths.max()),
        "paths": len(terms),
        "difference": float(difference),
        "norms": [float(norms[lengths == k].mean()) for k in range(lengths.max() + 1)],
    }


def _by_length(f: Callable[[Any], Any], x: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    """Norms of single paths, and the exact shares: what paths of one length bring, projected on the gradient."""
    norms = path_norms(f, x, draws, seed)
    parts = gradient_by_length(f, x)
    whole = parts.sum(axis=0)
    slope, straight = log_slope(norms)
    shares = (parts * whole).sum(axis=(1, 2)) / (whole * whole).sum()
    return {"norms": norms.tolist(), "slope": slope, "r2": straight, "shares": shares.tolist()}


def _settle(net: nets.Net, images: nets.Images) -> None:
    """Gives batch norm's running statistics what the untrained net sees, without learning."""
    net.train()
    with mr.no_grad():
        for start in range(0, 20 * nets.BATCH, nets.BATCH):
            net(images.pixels[start : start + nets.BATCH])


def _first(images: nets.Images, count: int) -> nets.Images:
    return nets.Images(images.pixels[:count], images.labels[:count])


# --- judging


def mass(results: Results, when: str) -> np.ndarray:
    """C(L, k) times a path's norm, as shares: (seeds, L + 1)."""
    return np.array([mass_by_length(np.array(result[when]["norms"])) for result in results])


def shares(results: Results, when: str) -> np.ndarray:
    """The exact shares of the gradient by length: (seeds, L + 1). A row adds up to 1."""
    return np.array([result[when]["shares"] for result in results])


def judge(results: Results) -> list[Verdict]:
    """What is exact, what the lengths are, and what they are not."""
    return [_judge_sum(results), *_judge_lengths(results), *_judge_slogans(results)]


def _judge_sum(results: Results) -> Verdict:
    difference = max(result["exact"]["difference"] for result in results)
    first = results[0]["exact"]
    return Verdict(
        "The gradient is the sum over the 2^L paths through skips and branches.",
        "Veit et al. 2016, Residual Networks Behave Like Ensembles, section 3; expanded from He et al. 2016, eq. 5",
        f"{first['paths']:,} paths of {first['blocks']} blocks, one by one: their sum differs from backpropagation by "
        f"at most {difference:.1e} of its largest entry. It is exact for the gradient at a point, not for the function",
        difference < 1e-12,
    )


def _judge_lengths(results: Results) -> list[Verdict]:
    tape = np.array([result["counted"] for result in results])
    within, effective = tape[:, 19:36].sum(axis=1).min(), tape[:, 5:18].sum(axis=1).mean()
    slopes, straight = ([result["trained"][key] for result in results] for key in ("slope", "r2"))
    means = [mean_length(row) for row in mass(results, "trained")]
    low, high = central_range(mass(results, "trained").mean(axis=0))
    tilted = central_range(length_distribution(VEIT, GAIN))
    return [
        Verdict(
            "Path lengths are binomial: of 54 blocks more than 95 % of the paths take 19 to 35.",
            "Veit et al. 2016, section 5, figure 6 (a)",
            f"counted on the tape of 54 blocks: {100 * within:.1f} %",
            bool(within > 0.95 and np.allclose(tape, length_distribution(VEIT), rtol=0, atol=1e-12)),
        ),
        Verdict(
            "The gradient that one path brings falls exponentially with its length.",
            "Veit et al. 2016, section 5, figure 6 (b)",
            f"each further branch of 27 multiplies it by {spread(np.exp(slopes), '.2f')}; on a log scale a straight "
            f"line explains {spread(straight, '.1f', 100)} % of the variance",
            bool(max(slopes) < -0.3 and min(straight) > 0.9),
        ),
        Verdict(
            "Gradient comes through paths that are short, beside most paths.",
            "Veit et al. 2016, section 5, figure 6 (c): 5 to 17 of 54 blocks",
            f"number of paths times norm, by length: mean {spread(means)} of 27 blocks, 95 % between {low} and {high}; "
            f"over all paths the mean is {BLOCKS / 2}",
            bool(max(means) < 0.7 * BLOCKS / 2),
        ),
        Verdict(
            "The effective paths, of 5 to 17 of 54 blocks, are .45 % of all.",
            "Veit et al. 2016, section 5",
            f"{100 * effective:.2f} %; and one binomial gives their lengths: if each branch multiplies by {GAIN}, "
            f"{_inside(GAIN):.0f} % of the gradient comes through {tilted[0]} to {tilted[1]} blocks",
            bool(abs(effective - 0.0045) < 1e-4 and tilted == (5, 17)),
        ),
    ]


def _judge_slogans(results: Results) -> list[Verdict]:
    gain = float(np.mean([math.exp(result["trained"]["slope"]) for result in results]))
    lengths = {blocks: mean_length(length_distribution(blocks, gain)) for blocks in (27, 108)}
    counted_, exact = (np.array([mean_length(row) for row in of(results, "trained")]) for of in (mass, shares))
    return [
        Verdict(
            "The useful paths are of the order of the square root of L long.",
            "popular articles, but not in Veit et al. 2016; the root is the lengths' deviation, not their mean",
            f"with branches that multiply by {gain:.2f} the mean is {lengths[27]:.1f} of 27 blocks and "
            f"{lengths[108]:.1f} of 108: four times, not twice",
            lengths[108] < 3 * lengths[27],
            expected=False,
        ),
        Verdict(
            "What the paths of one length bring is their number times the norm of one.",
            "Veit et al. 2016, section 5, if their measure is read as the parts of a sum",
            f"gradients are vectors, and paths cancel in part: added up exactly, the mean length is {spread(exact)} of "
            f"27 blocks, where number times norm says {spread(counted_)}",
            bool(np.all(np.abs(exact / counted_ - 1) < 0.2)),
            expected=False,
        ),
    ]


def _inside(gain: float) -> float:
    """Per cent of 54 blocks' paths, weighed by the gain, whose lengths lie where Veit et al. have them."""
    low, high = EFFECTIVE[gain]
    return float(100 * length_distribution(VEIT, gain)[low : high + 1].sum())


# --- showing


def tables(results: Results) -> list[Table]:
    """By length: how many paths, the norm of one, and the shares of the gradient; means over the seeds."""
    rows: list[list[str | float]] = []
    norms = np.mean([result["trained"]["norms"] for result in results], axis=0)
    by_count, exact = mass(results, "trained").mean(axis=0), shares(results, "trained").mean(axis=0)
    for k in range(BLOCKS + 1):
        share = length_distribution(BLOCKS)[k]
        rows.append([str(k), 100 * share, float(norms[k]), 100 * float(by_count[k]), 100 * float(exact[k])])
    header = ("branches", "of all paths, %", "norm of one path", "number times norm, %", "exact share, %")
    summary: list[list[str | float]] = []
    for when, words in (("start", "before training"), ("trained", "after training")):
        gains = [math.exp(result[when]["slope"]) for result in results]
        means = (np.mean([mean_length(row) for row in of(results, when)]) for of in (mass, shares))
        summary.append([words, float(np.mean(gains)), *map(float, means)])
    return [
        Table(
            "Mean path length of 27 blocks, 13.5 over all paths",
            ("net", "one more branch multiplies by", "number times norm", "exact"),
            summary,
        ),
        Table("The trained net's gradient by path length", header, rows),
    ]


def draw(results: Results, figure: Any) -> None:
    """The norm of one path; the gradient by length; the two binomials of 54 blocks."""
    from minires.train import figures

    figure.set_size_inches(12, 4.6)
    left, middle, right = figure.subplots(1, 3)
    length = np.arange(BLOCKS + 1)
    styles = {"start": ("#777777", "o", "--", "before training"), "trained": ("#0072b2", "^", "-", "after training")}
    for when, (color, marker, line, words) in styles.items():
        norms = np.mean([result[when]["norms"] for result in results], axis=0)
        each = np.mean([math.exp(result[when]["slope"]) for result in results])
        label = f"{words}: times {each:.2f} a branch"
        left.plot(length, norms, color=color, marker=marker, ms=4, ls=line, lw=1.2, label=label)
    left.set(yscale="log", xlabel="branches on the path, of 27", ylabel="norm of what one path brings")
    left.set_title("One path", fontsize=11)
    middle.plot(length, 100 * length_distribution(BLOCKS), color="#777777", ls=":", lw=1.6, label="all paths, counted")
    for of, (color, marker, words) in {
        mass: ("#0072b2", "^", "number times norm"),
        shares: ("#d55e00", "D", "exact share of the gradient"),
    }.items():
        rows = of(results, "trained")
        label = f"{words}: mean {np.mean([mean_length(row) for row in rows]):.1f}"
        middle.plot(length, 100 * rows.mean(axis=0), color=color, marker=marker, ms=4, lw=1.3, label=label)
    middle.set(xlabel="branches on the path, of 27", ylabel="share, %")
    middle.set_title("All paths of one length, after training", fontsize=11)
    for gain, color, hatch, words in ((1.0, "#aaaaaa", "", "all paths"), (GAIN, "#0072b2", "///", f"gain {GAIN}")):
        heights = 100 * length_distribution(VEIT, gain)
        low, high = EFFECTIVE[gain]
        label = f"{words}: {_inside(gain):.0f} % in {low} to {high}"
        right.bar(np.arange(VEIT + 1), heights, 0.9, color=color, hatch=hatch, edgecolor="white", lw=0, label=label)
    right.set(xlabel="branches on the path, of 54", ylabel="share, %")
    right.set_title("One binomial: 54 blocks, as in ResNet-110", fontsize=11)
    for axes, top in ((left, None), (middle, 1.35), (right, 1.3)):
        figures.plain(axes)
        axes.legend(frameon=False, fontsize=9, loc="upper right" if top else "lower left")
        if top:
            axes.set_ylim(top=top * axes.get_ylim()[1])
    figure.suptitle(EXPERIMENT.title.replace("2^L", r"$\mathbf{2^L}$"), fontweight="bold")


def alt(results: Results) -> str:
    """The figure's numbers in a few sentences."""
    gains = [np.mean([math.exp(result[when]["slope"]) for result in results]) for when in ("start", "trained")]
    means = [np.mean([mean_length(row) for row in of(results, "trained")]) for of in (mass, shares)]
    return (
        "Left: the norm of the gradient that one path brings, by how many of 27 branches it takes, on a log scale: "
        f"nearly straight lines, a factor {gains[0]:.2f} a branch before training and {gains[1]:.2f} after. Middle: "
        f"shares by path length. Over all paths the mean length is {BLOCKS / 2}; number of paths times norm has its "
        f"mean at {means[0]:.1f}, the exact share of the gradient at {means[1]:.1f}. Right: two binomial "
        f"distributions for 54 blocks. Of all paths {_inside(1.0):.0f} % take 19 to 35 branches; weighed by a gain "
        f"of {GAIN} a branch, {_inside(GAIN):.0f} % take 5 to 17."
    )


EXPERIMENT = Experiment(
    name="paths",
    title="Which of the 2^L paths carry the gradient",
    question="Is a residual net's gradient a sum over 2^L paths, and how long are the paths that matter?",
    about=(
        "A block's gradient passes its skip or its branch, so that the gradient of L blocks is a sum over 2^L "
        "paths. In a trained pre-activation net of 8 blocks (12 at full scale) each path is walked alone, by "
        "cutting every other edge with mr.lesion, and the sum is held against backpropagation. In one of 27 blocks "
        "random paths of each length tell the norm of one path, as Veit et al. measure it; and one pass for each "
        "length, with a Fourier transform, gives exactly what all paths of that length bring together. Its share "
        "is its projection on the gradient: the shares add up to 1. Evaluation mode, so that images do not meet in "
        "batch norm. What it does not show: that the net is an ensemble. The sum is exact for the gradient at a "
        "point, not for the function."
    ),
    measure=measure,
    judge=judge,
    tables=tables,
    draw=draw,
    alt=alt,
    ticks=lambda scale: 3,
    seeds={"smoke": 1, "full": 5},
    seconds={"smoke": 5, "full": 150},
)
