"""Who carries the gradient: each block's gradient split into the skip's share and the branch's, and the +1 cut.

For y = x + F(x) the tape's ledger lists who sent x which gradient: `ResidualAdd` sends gy, the +1, and the branch's
first op sends J_Fᵀ gy. Their sum is the gradient. `mr.lesion()` then drops the first of the two.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import minires as mr
from minires import functional as F
from minires.engine import Tensor
from minires.lab import nets
from minires.lab.experiment import Experiment, Results, Table, Tick, Verdict
from minires.lab.spread import spread
from minires.ops.residual import ResidualAdd
from minires.train.figures import BLUE, GREY, ORANGE, plain

SCALE = {"smoke": {"blocks": 27, "epochs": 5}, "full": {"blocks": 54, "epochs": 15}}
IMAGES = 256  # that a gradient is measured on
TINY = 1e-3  # what the branches' last weights are multiplied by, to see what arbitrarily small weights do
STAGES = ("before", "after")  # training


# --- measuring


def batch() -> nets.Images:
    """The first training images, in float64, so that a ledger adds up to sixteen digits."""
    pixels, labels = nets.digits().train
    return nets.Images(pixels[:IMAGES].astype(np.float64), labels[:IMAGES])


def stream(net: nets.Net, pixels: np.ndarray) -> tuple[list[Any], Tensor]:
    """x_0, ..., x_L, what stands between the blocks, and the scores; each x keeps its gradient."""
    points: list[Any] = [net.stem(pixels).retain_grad()]
    for block in net.blocks():
        points.append(block(points[-1]).retain_grad())
    return points, net.head(net.norm(points[-1]))


def split(net: nets.Net, images: nets.Images) -> dict[str, Any]:
    """The gradient at each block's input, taken apart by the ledger. Lists have one number a block.

    skip, branch, total       norms of the skip's entry, of the rest, and of the gradient
    cosine                    between the two parts
    skip_share, branch_share  the parts' projections on the gradient, over its norm: they add up to 1
    ratio                     norm of the gradient over norm of gy, the gradient at the block's output
    smaller                   fraction of images whose own row of the gradient is shorter than that of gy
    untouched                 whether the skip's entry is gy, bit for bit, in every block
    rounding                  the largest difference between gradient and sum of entries, over the largest entry

    For pre-activation nets, where nothing follows the sum.
    """
    points, scores = stream(net, images.pixels)
    with mr.ledger() as book:
        F.cross_entropy(scores, images.labels).backward()
    found: dict[str, Any] = {key: [] for key in _measures(*np.ones((4, 1, 1)))}
    untouched, rounding = True, 0.0
    for x, y in itertools.pairwise(points):
        entries = book.into(x)
        skip = sum(entry.gradient for entry in entries if entry.op == ResidualAdd.__name__)
        branch = sum(entry.gradient for entry in entries if entry.op != ResidualAdd.__name__)
        untouched &= np.array_equal(skip, y.grad)
        rounding = max(rounding, float(np.max(np.abs(skip + branch - x.grad)) / np.max(np.abs(x.grad))))
        for key, value in _measures(skip, branch, x.grad, y.grad).items():
            found[key].append(value)
    net.zero_grad()
    return {**found, "untouched": bool(untouched), "rounding": rounding}


def _measures(skip: np.ndarray, branch: np.ndarray, gx: np.ndarray, gy: np.ndarray) -> dict[str, float]:
    s, b, total = (float(np.linalg.norm(g)) for g in (skip, branch, gx))
    shorter = np.linalg.norm(gx, axis=1) < np.linalg.norm(gy, axis=1)
    return {
        "skip": s,
        "branch": b,
        "total": total,
        "cosine": float(np.vdot(skip, branch)) / (s * b),
        "skip_share": float(np.vdot(skip, gx)) / total**2,
        "branch_share": float(np.vdot(branch, gx)) / total**2,
        "ratio": total / float(np.linalg.norm(gy)),
        "smaller": float(np.mean(shorter)),
    }


def reach(net: nets.Net, images: nets.Images, skip_grad: float = 1.0) -> list[float]:
    """The gradient's norm at x_0, ..., x_L when every skip multiplies it by `skip_grad`: 1 is right, 0 cuts the +1."""
    points, scores = stream(net, images.pixels)
    with mr.lesion(skip_grad=skip_grad):
        F.cross_entropy(scores, images.labels).backward()
    net.zero_grad()
    return [float(np.linalg.norm(x.grad)) for x in points]


def shrink_(net: nets.Net, factor: float) -> nets.Net:
    """Multiplies the last weights of every branch, so that F and J_F become as small as one likes."""
    with mr.no_grad():
        for block in net.blocks():
            weight = block.branch[-1].weight
            weight.copy_(weight.data * factor)
    return net


def measure(scale: str, seed: int, tick: Tick) -> dict[str, Any]:
    """One net: its gradients before and after training, with and without the +1, and three ways of training it."""
    blocks, epochs = SCALE[scale]["blocks"], SCALE[scale]["epochs"]
    images = batch()
    untrained = nets.build("pre", blocks, seed, np.float64)
    found: dict[str, Any] = {"before": split(untrained, images)}
    found["reach"] = {"whole": reach(untrained, images), "cut": reach(untrained, images, 0.0)}
    tiny = shrink_(untrained, TINY)
    found["tiny"] = {name: _first_over_last(reach(tiny, images, s)) for name, s in (("whole", 1.0), ("cut", 0.0))}
    tick("gradients before training")
    learned = nets.build("pre", blocks, seed)
    found["loss"] = {"whole": _loss_by_epoch(learned, seed, epochs, tick, "whole gradient")}
    found["after"] = split(learned.to(np.float64), images)
    with mr.lesion():
        found["loss"]["cut"] = _loss_by_epoch(nets.build("pre", blocks, seed), seed, epochs, tick, "+1 cut")
    found["loss"]["plain"] = _loss_by_epoch(nets.build("plain", blocks, seed), seed, epochs, tick, "plain net")
    return found


def _loss_by_epoch(net: nets.Net, seed: int, epochs: int, tick: Tick, label: str) -> list[float]:
    losses = nets.train(net, seed, epochs=epochs, tick=tick, label=label)
    return [float(part.mean()) for part in np.split(np.array(losses), epochs)]


def _first_over_last(norms: list[float]) -> float:
    return norms[0] / norms[-1]


# --- judging


def judge(results: Results) -> list[Verdict]:
    """Five sentences: four of He et al. 2016, and a popular one that is false."""
    splits = [r[stage] for r in results for stage in STAGES]
    return [_untouched(splits), _small_weights(results), _not_canceled(splits), _at_least(results), _needed(results)]


def _untouched(splits: list[dict[str, Any]]) -> Verdict:
    rounding = max(s["rounding"] for s in splits)
    count = sum(len(s["skip"]) for s in splits)
    exact = all(s["untouched"] for s in splits)
    return Verdict(
        "The gradient at a block's input is the one at its output, untouched, plus what the branch adds.",
        "He et al. 2016, Identity Mappings in Deep Residual Networks, eq. 5",
        f"The skip's entry in the ledger {'equals' if exact else 'does not equal'} gy bit for bit in {count} blocks "
        f"(before and after training); the entries add up to the gradient "
        f"{f'within {rounding:.0e}' if rounding else 'to the last bit'}.",
        exact and rounding < 1e-12,
    )


def _small_weights(results: Results) -> Verdict:
    whole, cut = ([r["tiny"][key] for r in results] for key in ("whole", "cut"))
    return Verdict(
        "The gradient of a layer does not vanish even when the weights are arbitrarily small.",
        "He et al. 2016, section 2, below eq. 5",
        f"With every branch's last weights times {TINY:g}, the first block gets {min(whole):.3f} to {max(whole):.3f} "
        f"times the last one's gradient; with the +1 cut {max(cut):.0e} times.",
        min(whole) > 0.9 and max(whole) < 1.1 and max(cut) < 1e-20,
    )


def _not_canceled(splits: list[dict[str, Any]]) -> Verdict:
    ratios = [ratio for s in splits for ratio in s["ratio"]]
    cosines = [cosine for s in splits for cosine in s["cosine"]]
    return Verdict(
        "Over a mini-batch the branch is unlikely to cancel the skip's gradient.",
        "He et al. 2016, section 2, below eq. 5",
        f"The cosine of the two parts lies between {min(cosines):.2f} and {max(cosines):.2f}. So |gx| over |gy|, for "
        f"{IMAGES} images together, is {min(ratios):.2f} to {max(ratios):.2f}.",
        min(ratios) > 0.8,
    )


def _at_least(results: Results) -> Verdict:
    before, after = (np.array([r[stage]["smaller"] for r in results]) for stage in STAGES)
    return Verdict(
        "The gradient that reaches a layer is at least as large as the gradient from above.",
        "a popular article; the paper does not say so",
        f"For a single image it is smaller in {before.mean():.0%} of all cases before training and in "
        f"{after.mean():.0%} after it. The +1 is one summand, and the other may point against it.",
        not (before.any() or after.any()),
        expected=False,
    )


def _needed(results: Results) -> Verdict:
    whole, cut, bare = (np.array([r["loss"][key][-1] for r in results]) for key in ("whole", "cut", "plain"))
    epochs = len(results[0]["loss"]["whole"])
    return Verdict(
        "Without the identity a net this deep does not find a good solution.",
        "He et al. 2016, table 1 (their plain net; here also the same net with only the gradient's +1 cut)",
        f"Training loss in epoch {epochs}: {spread(whole, '.2f')} with the whole gradient, {spread(cut, '.2f')} with "
        f"the +1 cut in backward alone, {spread(bare, '.2f')} without skips.",
        bool(np.all(cut > 2 * whole) and np.all(bare > 2 * whole)),
    )


# --- showing


def mean(results: Results, *path: str) -> np.ndarray:
    """The mean over the seeds of what lies at results[seed][path[0]][path[1]]..."""
    found: Any = results
    for key in path:
        found = [r[key] for r in found]
    return np.mean(found, axis=0)


def tables(results: Results) -> list[Table]:
    """The gradient's parts for every block, how far the gradient reaches, and the losses."""
    header = ("block", "|skip|", "|branch|", "|sum|", "cosine", "skip's share", "branch's share", "|gx| / |gy|")
    keys = ("skip", "branch", "total", "cosine", "skip_share", "branch_share", "ratio")
    losses = [mean(results, "loss", key) for key in ("whole", "cut", "plain")]
    whole, cut = (mean(results, "reach", key) for key in ("whole", "cut"))
    return [
        Table(
            "Training loss by epoch, mean over the seeds",
            ("epoch", "whole gradient", "+1 cut", "plain net"),
            [(str(k + 1), *map(float, row)) for k, row in enumerate(zip(*losses, strict=True))],
        ),
        *(
            Table(
                f"Each block's gradient {stage} training, mean over the seeds",
                header,
                [
                    (str(k + 1), *map(float, row))
                    for k, row in enumerate(zip(*(mean(results, stage, key) for key in keys), strict=True))
                ],
            )
            for stage in STAGES
        ),
        Table(
            "Norm of the gradient before training, mean over the seeds",
            ("at the input of block", "whole", "+1 cut"),
            [
                (str(k + 1) if k + 1 < len(whole) else "behind the last", float(a), float(b))
                for k, (a, b) in enumerate(zip(whole, cut, strict=True))
            ],
        ),
    ]


def draw(results: Results, figure: Any) -> None:
    """Shares before and after training above; below, how far the gradient reaches, and what is learned with it."""
    figure.set_size_inches(10, 7.8)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)
    (before, after), (far, learned) = figure.subplots(2, 2)
    block = np.arange(1, len(results[0]["before"]["skip"]) + 1)
    for axes, stage in ((before, "before"), (after, "after")):
        for key, color, marker, label in (
            ("skip_share", BLUE, "o", "through the skip (the +1)"),
            ("branch_share", ORANGE, "s", "through the branch F"),
        ):
            axes.plot(block, mean(results, stage, key), color=color, marker=marker, ms=4.5, lw=1.4, label=label)
        axes.set(
            title=f"Shares of the gradient, {stage} training",
            xlabel="block, from the input",
            ylabel="projection on the gradient",
            ylim=(-0.05, 1.05),
        )
        axes.legend(frameon=False, loc="center right")
        plain(axes)
    position = np.arange(1, len(block) + 2)
    for key, color, marker, label in (("whole", GREY, "o", "whole"), ("cut", ORANGE, "v", "with the +1 cut")):
        far.plot(position, mean(results, "reach", key), color=color, marker=marker, ms=4.5, lw=1.4, label=label)
    far.set(title="How far it reaches, before training", xlabel="at the input of block", yscale="log")
    far.set_ylabel("norm of the gradient")
    far.legend(frameon=False, loc="lower right")
    plain(far)
    epoch = np.arange(1, len(results[0]["loss"]["whole"]) + 1)
    for key, color, marker, label in (
        ("whole", GREY, "o", "whole gradient"),
        ("cut", ORANGE, "v", "+1 cut in backward"),
        ("plain", "black", "x", "plain net: no skip at all"),
    ):
        learned.plot(epoch, mean(results, "loss", key), color=color, marker=marker, ms=5, lw=1.4, label=label)
    learned.set(title="What is learned with it", xlabel="epoch", ylabel="training loss")
    learned.set_ylim(0, 1.35 * learned.dataLim.y1)  # room for the legend
    learned.xaxis.get_major_locator().set_params(integer=True)
    learned.legend(frameon=False, loc="upper right")
    plain(learned)
    figure.suptitle(f"Who carries the gradient in a residual net of {len(block)} blocks?", fontweight="bold")


def alt(results: Results) -> str:
    """The figure in words."""
    before, after = (mean(results, stage, "skip_share") for stage in STAGES)
    whole, cut = (mean(results, "reach", key) for key in ("whole", "cut"))
    ends = [mean(results, "loss", key)[-1] for key in ("whole", "cut", "plain")]
    return (
        f"Four panels. Shares of the gradient at the input of each of {len(before)} blocks: through the skip "
        f"{before[0]:.2f} at the first block and {before[-1]:.2f} at the last before training, {after[0]:.2f} and "
        f"{after[-1]:.2f} after it; the rest comes through the branch. Norm of the gradient before training: "
        f"{whole[-1]:.2g} behind the last block and {whole[0]:.2g} at the first with the +1, {cut[0]:.0e} at the first "
        f"when it is cut. Training loss in the last epoch: {ends[0]:.2f} with the whole gradient, {ends[1]:.2f} with "
        f"the +1 cut, {ends[2]:.2f} in the plain net."
    )


EXPERIMENT = Experiment(
    name="skip",
    title="Who carries the gradient?",
    question="How much of each block's gradient comes through the skip, and what happens when the +1 is cut?",
    about=(
        "A pre-activation residual net of two-layer blocks, 32 features wide and with batch norm, on the shipped 8 x 8 "
        "digits. For every block x + F(x) the tape's ledger tells the gradient that came through the skip from what "
        "came through the branch. A share is a part's projection on the gradient, over the gradient's norm, so that "
        "the two shares add up to 1; norms do not add up. Gradients are those of one batch of 256 images in float64, "
        "with batch statistics.\n\n"
        "Then mr.lesion() drops the +1 in backward. The forward pass keeps its skips, so the gradient is wrong on "
        "purpose, and the same training shows what the +1 was worth. It does not show that a plain net fails for lack "
        "of gradient: a plain net is another function, with gradients of its own; see the experiments gradients and "
        "degradation. Where the shape changes, or where a rectifier follows the sum, the skip's entry is not gy; this "
        "net has no such block."
    ),
    measure=measure,
    judge=judge,
    tables=tables,
    draw=draw,
    alt=alt,
    ticks=lambda scale: 1 + 3 * SCALE[scale]["epochs"],
    seeds={"smoke": 2, "full": 5},
    seconds={"smoke": 10, "full": 200},
)
