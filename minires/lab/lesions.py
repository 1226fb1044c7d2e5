"""Lesions: a trained net's blocks deleted, swapped or repeated, and how much it then gets wrong.

    with deleted(net, 3):                  # only its skip is left of the fourth block, counted from the input
        nets.error(net, *nets.digits().test)

Source: Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, section 4.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from minires import nn
from minires.lab import nets, published
from minires.lab.experiment import Experiment, Results, Table, Tick, Verdict
from minires.lab.spread import percent
from minires.lab.surgery import blocks_of, deleted, instead, repeated, shapes, swapped

__all__ = ["EXPERIMENT", "Patient", "deleted", "many_swapped", "random_lesions", "repeated", "swapped"]

SUBJECTS = {"plain": ("plain", 9), "post": ("post", 9), "pre": ("pre", 27)}  # name: (kind, blocks)
NAMES = {"plain": "plain, 9 blocks", "post": "residual, 9 blocks", "pre": "pre-activation, 27 blocks"}
EPOCHS = {"smoke": 8, "full": nets.EPOCHS}
DRAWS = {"smoke": 20, "full": 100}
DELETED = (1, 2, 4, 6, 9, 13, 18)  # how many blocks of 27
SWAPPED = (1, 2, 3, 4, 6, 8)  # how many pairs of blocks
IMAGES = {"smoke": 256, "full": 1000}


# --- one lesion after another


class Patient:
    """A model, and images on which each lesion is judged, all at once, by running statistics.

    What the stream holds between the blocks is kept, so that a lesion computes only the blocks from it on.

    Attributes
        healthy    the fraction of images that the model gets wrong as it is
        streams    what enters each block, and what leaves the last
    """

    def __init__(self, model: nn.Module, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.model, self.pixels, self.labels = model, pixels, labels
        self.blocks = blocks_of(model)
        self.streams: list[Any] = []
        with ExitStack() as stack:
            for block in self.blocks:
                stack.enter_context(instead(block, "forward", functools.partial(self._recorded, block.forward)))
            self.healthy = self._error()

    def error(self, lesion: Any, start: int) -> float:
        """The fraction of images that the model gets wrong inside `lesion`, which touches no block before `start`."""
        with ExitStack() as stack:
            stack.enter_context(lesion)
            for block in self.blocks[:start]:
                stack.enter_context(instead(block, "forward", lambda x: self.streams[start]))
            return self._error()

    def each(self, lesion: Callable[[nn.Module, int], Any], blocks: Sequence[int]) -> list[float]:
        """The error with the lesion at one block after the other."""
        return [self.error(lesion(self.model, k), k) for k in blocks]

    def same_shape(self) -> list[int]:
        """The blocks that leave the stream's shape as it is."""
        return [k for k, (x, y) in enumerate(zip(self.streams, self.streams[1:], strict=False)) if x.shape == y.shape]

    def neighbors(self) -> list[int]:
        """The blocks that can change places with the next one."""
        return [k for k in range(len(self.blocks) - 1) if shapes(self.blocks[k]) == shapes(self.blocks[k + 1])]

    def examine(self) -> dict[str, Any]:
        """The error of every single lesion: {"healthy", "deleted", "repeated", "swapped": {block: error}}."""
        same, pairs = self.same_shape(), self.neighbors()
        return {
            "healthy": self.healthy,
            "deleted": self.each(deleted, range(len(self.blocks))),
            "repeated": dict(zip(map(str, same), self.each(repeated, same), strict=True)),
            "swapped": dict(zip(map(str, pairs), self.each(lambda m, k: swapped(m, k, k + 1), pairs), strict=True)),
        }

    def _recorded(self, forward: Callable[[Any], Any], x: Any) -> Any:
        y = forward(x)
        self.streams = [*self.streams, *(() if self.streams else (x,)), y]
        return y

    def _error(self) -> float:
        with nn.evaluating(self.model):
            scores = self.model(self.pixels).numpy()
        return float(np.mean(scores.argmax(axis=1) != self.labels))


@contextmanager
def many_swapped(model: nn.Module, pairs: Iterable[Sequence[int]]) -> Iterator[None]:
    """Exchanges the blocks of every pair, one pair after the other, for the length of a `with` block."""
    with ExitStack() as stack:
        for i, j in pairs:
            stack.enter_context(swapped(model, int(i), int(j)))
        yield


def random_lesions(patient: Patient, draws: int, seed: int) -> dict[str, dict[str, list[float]]]:
    """Errors with k blocks deleted, or k pairs swapped, at random: {"deleted", "swapped": {k: an error a draw}}.

    The first block is spared: what it does is not what the others do, and the draws that hit it would drown the rest.
    """
    rng, last = np.random.default_rng(seed), len(patient.blocks) - 1
    found: dict[str, dict[str, list[float]]] = {"deleted": {}, "swapped": {}}
    for k in DELETED:
        chosen = [sorted(1 + rng.choice(last, k, replace=False)) for _ in range(draws)]
        found["deleted"][str(k)] = [patient.error(deleted(patient.model, c), c[0]) for c in chosen]
    for k in SWAPPED:
        pairs = [1 + rng.choice(last, (k, 2), replace=False) for _ in range(draws)]
        found["swapped"][str(k)] = [patient.error(many_swapped(patient.model, p.tolist()), int(p.min())) for p in pairs]
    return found


# --- measuring


def measure(scale: str, seed: int, tick: Tick) -> dict[str, Any]:
    """Every single lesion of three nets, many at once of the deepest, and those of the published net where it is."""
    found: dict[str, Any] = {"seed": seed, "nets": {}}
    for name, (kind, count) in SUBJECTS.items():
        net = nets.build(kind, count, seed)
        nets.train(net, seed, epochs=EPOCHS[scale])
        patient = Patient(net, *nets.digits().test)
        found["nets"][name] = patient.examine()
        tick(f"{NAMES[name]}: one lesion at a time")
    found["many"] = random_lesions(patient, DRAWS[scale], seed)
    tick("many lesions at once")
    found["published"], found["published_absent"] = _of_published(IMAGES[scale], seed)
    tick("the published ResNet-20" if found["published"] else "no published ResNet-20 here")
    return found


def _of_published(count: int, part: int) -> tuple[dict[str, Any] | None, str | None]:
    """(the errors of every single lesion of the published ResNet-20, None), or (None, what is missing)."""
    model, absent = published.resnet20()
    if model is None:
        return None, absent
    images, absent = published.cifar10(count, part)
    return (None, absent) if images is None else (Patient(model, *images).examine(), None)


# --- judging


def single(results: Results, name: str, what: str) -> list[np.ndarray]:
    """The errors of a net's single lesions, an array a seed."""
    return [np.array(list(_values(result["nets"][name][what]))) for result in results]


def _values(errors: Any) -> Sequence[float]:
    return list(errors.values()) if isinstance(errors, dict) else errors


def judge(results: Results) -> list[Verdict]:
    """The claims of Veit et al., on the small nets and, where it was measured, on the published one."""
    healthy = {name: np.array([result["nets"][name]["healthy"] for result in results]) for name in SUBJECTS}
    cut = {name: single(results, name, "deleted") for name in SUBJECTS}
    median = {name: np.array([np.median(errors) for errors in cut[name]]) for name in SUBJECTS}
    first = {name: np.array([errors[0] for errors in cut[name]]) for name in SUBJECTS}
    upper = {name: np.array([errors[-(len(errors) // 3) :].max() for errors in cut[name]]) for name in SUBJECTS}
    found = [
        Verdict(
            "Deleting any layer of a plain net brings it down to chance.",
            "Veit et al. 2016, Residual Networks Behave Like Ensembles, section 4.1, figure 3",
            f"{percent(healthy['plain'])} of the test images wrong before, {percent(median['plain'])} after deleting "
            "one block of 9, in the median over the blocks",
            bool(np.all(median["plain"] > 0.7)),
        ),
        Verdict(
            "Deleting a block of a residual net hardly changes what it gets wrong.",
            "Veit et al. 2016, section 4.1, figure 3",
            f"27 pre-activation blocks: {percent(healthy['pre'])} before, {percent(median['pre'])} after, in the "
            f"median over the blocks; 9 residual blocks: {percent(healthy['post'])} and {percent(median['post'])}",
            bool(np.all(median["pre"] < healthy["pre"] + 0.02) and np.all(median["post"] < healthy["post"] + 0.05)),
        ),
        Verdict(
            "Lower blocks make representations, higher ones only refine them.",
            "Jastrzebski et al. 2018, Residual Connections Encourage Iterative Inference, abstract",
            f"without its first block the residual net gets {percent(first['post'])} wrong, without any one of its "
            f"upper third at most {percent(upper['post'])}; the pre-activation net {percent(first['pre'])} and "
            f"{percent(upper['pre'])}",
            bool(np.all(first["post"] > 2 * upper["post"]) and np.all(first["pre"] > upper["pre"])),
        ),
    ]
    claims = {
        "deleted": (
            "The error rises smoothly with the number of blocks that are deleted.",
            "section 4.2, figure 5 (a)",
        ),
        "swapped": ("It rises smoothly with the number of blocks that change places.", "section 4.3, figure 5 (b)"),
    }
    for what, (claim, where) in claims.items():
        ks, errors = many(results, what)
        told = ", ".join(f"{100 * e:.1f} % with {k}" for k, e in zip(ks, errors.mean(axis=0), strict=True))
        steps = np.diff(errors.mean(axis=0))
        smooth = bool(np.all(steps > -0.02) and steps.max() < 0.5 and errors.mean(axis=0)[-1] > errors.mean(axis=0)[0])
        found.append(Verdict(claim, f"Veit et al. 2016, {where}", f"{told} (means of random draws)", smooth))
    return found + _judge_published(results)


def many(results: Results, what: str) -> tuple[list[int], np.ndarray]:
    """How many blocks were deleted, or pairs swapped, and the mean error over the draws: (seeds, counts)."""
    by_seed = [result["many"][what] for result in results]
    ks = list(map(int, by_seed[0]))
    return ks, np.array([[np.mean(errors[str(k)]) for k in ks] for errors in by_seed])


def _judge_published(results: Results) -> list[Verdict]:
    measured = _published(results)
    if not measured:
        return []
    cut = np.array([result["deleted"] for result in measured]).mean(axis=0)
    down, others = cut[[*published.DOWN]], np.delete(cut, published.DOWN)
    return [
        Verdict(
            "The blocks that matter most are those that reduce the resolution.",
            "Veit et al. 2016, section 4.1, figure 3 (right); weights of ResNet-20 as published",
            f"ResNet-20 on CIFAR-10: {percent([result['healthy'] for result in measured])} wrong as it is; "
            f"{100 * down.min():.1f} % or more without one of its two down-sampling blocks, "
            f"{100 * others.min():.1f} to {100 * others.max():.1f} % without another one: with 9 blocks each is missed",
            bool(down.min() > others.max() and cut.max() < 0.9),
        )
    ]


# --- showing


def tables(results: Results) -> list[Table]:
    """Single lesions, many at once, and the published net's: errors in per cent, means over the seeds."""
    header = ("net", "as it is", "block deleted, median", "worst", "repeated, median", "swapped with the next, median")
    rows: list[list[str | float]] = []
    for name in SUBJECTS:
        by_lesion = {what: single(results, name, what) for what in ("deleted", "repeated", "swapped")}
        healthy = np.mean([result["nets"][name]["healthy"] for result in results])
        median = {what: np.mean([np.median(e) for e in errors]) for what, errors in by_lesion.items()}
        worst = np.mean([errors.max() for errors in by_lesion["deleted"]])
        figures = (healthy, median["deleted"], worst, median["repeated"], median["swapped"])
        rows.append([NAMES[name], *(100 * float(error) for error in figures)])
    found = [Table("Test errors in per cent after one lesion, means over the seeds", header, rows)]
    for what, unit in (("deleted", "blocks deleted"), ("swapped", "pairs of blocks swapped")):
        ks, errors = many(results, what)
        counted: list[list[str | float]] = [
            [str(k), 100 * float(error)] for k, error in zip(ks, errors.mean(axis=0), strict=True)
        ]
        found.append(Table(f"27 pre-activation blocks, {unit} at random", (unit, "test error, %"), counted))
    measured = _published(results)
    if measured:
        lesions = ("deleted", "repeated", "swapped with the next")
        rows = [[str(k + 1), *(_cell(measured, what, k) for what in lesions)] for k in range(9)]
        found.append(Table(f"{_healthy(measured)}; errors in per cent", ("block", *lesions), rows))
    return found


def _published(results: Results) -> list[dict[str, Any]]:
    return [result["published"] for result in results if result["published"]]


def _healthy(measured: Sequence[dict[str, Any]]) -> str:
    error = 100 * float(np.mean([result["healthy"] for result in measured]))
    return f"The published ResNet-20 on CIFAR-10, {error:.1f} % wrong as it is"


def _cell(measured: Sequence[dict[str, Any]], what: str, block: int) -> str | float:
    key = what.split()[0]
    if key == "deleted":
        return 100 * float(np.mean([result[key][block] for result in measured]))
    found = [result[key][str(block)] for result in measured if str(block) in result[key]]
    return 100 * float(np.mean(found)) if found else "does not fit"


STYLE = {"plain": ("#000000", "s", "-"), "post": ("#3f94cf", "o", "--"), "pre": ("#0072b2", "^", "-")}


def draw(results: Results, figure: Any) -> None:
    """One block deleted after the other; many lesions at once; the published ResNet-20."""
    from minires.train import figures

    figure.set_size_inches(12, 4.6)
    left, middle, right = figure.subplots(1, 3)
    for name, (color, marker, line) in STYLE.items():
        errors = 100 * np.mean(single(results, name, "deleted"), axis=0)
        healthy = 100 * np.mean([result["nets"][name]["healthy"] for result in results])
        label = f"{NAMES[name]} ({healthy:.1f} % as it is)"
        left.plot(range(1, len(errors) + 1), errors, color=color, marker=marker, ms=5, ls=line, lw=1.4, label=label)
    left.set(xlabel="deleted block, from the input", ylabel="test error, %", ylim=(-3, 119), yticks=range(0, 101, 20))
    left.set_title("One block deleted", fontsize=11)
    for what, (color, marker, line) in {"deleted": ("#d55e00", "D", "-"), "swapped": ("#444444", "v", "--")}.items():
        ks, errors = many(results, what)
        label = "blocks deleted" if what == "deleted" else "pairs swapped"
        middle.plot(ks, 100 * errors.mean(axis=0), color=color, marker=marker, ms=5, ls=line, lw=1.4, label=label)
    middle.set(xlabel="how many of 27 blocks, or pairs, at random", ylabel="test error, %")
    middle.set(xticks=many(results, "deleted")[0], ylim=(0, None))
    middle.set_title("Many lesions, 27 pre-activation blocks", fontsize=11)
    _draw_published(results, right)
    for axes in (left, middle, right):
        figures.plain(axes)
    left.legend(frameon=False, fontsize=8.5, loc="upper right")
    middle.legend(frameon=False, fontsize=9, loc="upper left")
    figure.suptitle(EXPERIMENT.title, fontweight="bold")


def _draw_published(results: Results, axes: Any) -> None:
    axes.set_title("The published ResNet-20 on CIFAR-10", fontsize=11)
    measured = _published(results)
    if not measured:
        why = textwrap.fill(f"Not measured: {results[0]['published_absent']}", 34)
        axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, fontsize=9)
        axes.set(xticks=(), yticks=())
        return
    block = np.arange(1, 10)
    errors = [_cell(measured, "deleted", k) for k in range(9)]
    bars = axes.bar(block, errors, 0.7, color="#d55e00", label="block deleted")
    for k in published.DOWN:
        bars[k].set(hatch="///", edgecolor="white")
    axes.bar(0, 0, color="#d55e00", hatch="///", edgecolor="white", label="down-sampling block deleted")
    healthy = 100 * np.mean([result["healthy"] for result in measured])
    axes.axhline(healthy, color="#444444", ls="--", lw=1.2, label=f"as it is: {healthy:.1f} %")
    axes.bar_label(bars, [f"{error:.0f}" for error in errors], fontsize=8.5)
    axes.set(xticks=block, xlim=(0.4, 9.6), ylim=(0, 92), xlabel="block, from the input", ylabel="test error, %")
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")


def alt(results: Results) -> str:
    """The figure's numbers in a few sentences."""
    left = []
    for name in SUBJECTS:
        healthy = 100 * np.mean([result["nets"][name]["healthy"] for result in results])
        errors = 100 * np.mean(single(results, name, "deleted"), axis=0)
        left.append(
            f"{NAMES[name]}: {healthy:.1f} as it is, {errors.min():.1f} to {errors.max():.1f} with a block deleted"
        )
    ends = []
    for what, unit in (("deleted", "blocks deleted"), ("swapped", "pairs swapped")):
        ks, errors = many(results, what)
        mean = 100 * errors.mean(axis=0)
        ends.append(f"from {mean[0]:.1f} with {ks[0]} to {mean[-1]:.1f} with {ks[-1]} {unit}")
    measured = _published(results)
    right = f"Not measured: {results[0]['published_absent']}."
    if measured:
        deleted_ = ", ".join(f"{_cell(measured, 'deleted', k):.0f}" for k in range(9))
        right = f"{_healthy(measured)}; with block 1 to 9 deleted: {deleted_}; blocks 4 and 7 down-sample."
    parts = {"Left": "; ".join(left), "Middle": f"the error rises {', and '.join(ends)}", "Right": right}
    return " ".join(["Test errors in per cent.", *(f"{part}: {text.rstrip('.')}." for part, text in parts.items())])


EXPERIMENT = Experiment(
    name="lesions",
    title="What a net does without one of its blocks",
    question="How much does a trained net miss one of its blocks: deleted, swapped or repeated?",
    about=(
        "A plain net, a residual net and a deep pre-activation net learn the shipped digits (8 epochs at smoke scale, "
        "15 at full). Then, without any more learning, one block after the other is deleted (of a residual block only "
        "the skip is left, a plain one passes its input on), repeated, or swapped with the next, and the 397 test "
        "images are judged with running statistics. Of the deepest net many blocks are deleted or swapped at once, "
        "at random, the first one spared. Where the published ResNet-20 and CIFAR-10's test images are there "
        "(MINIRES_WEIGHTS and MINIRES_DATA name their folders), it is treated alike. What it does not show: that a "
        "net is an ensemble. Deleting blocks also takes paths away, but the function is not a sum over paths "
        "(see the experiment paths); and with 9 blocks, as in ResNet-20, every one of them is missed."
    ),
    measure=measure,
    judge=judge,
    tables=tables,
    draw=draw,
    alt=alt,
    ticks=lambda scale: len(SUBJECTS) + 2,
    seeds={"smoke": 1, "full": 5},
    seconds={"smoke": 13, "full": 230},
)
