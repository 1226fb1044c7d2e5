"""Degradation: plain nets get worse with depth, on the very images that they learn from; nets with skips do not.

    net = nets.build("plain", blocks=27, seed=0)
    nets.train(net, seed=0)
    nets.error(net, *nets.digits().train)

Source: He et al. 2015, Deep Residual Learning for Image Recognition, figures 1 and 6, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minires as mr
from minires import data, models, nn
from minires import functional as F
from minires.errors import RequestError
from minires.lab import nets
from minires.lab.experiment import Experiment, Results, Table, Tick, Verdict
from minires.lab.spread import percent, spread

DEPTHS = (8, 20, 56)  # layers, of 3, 9 and 27 blocks
EPOCHS = {"smoke": 5, "full": nets.EPOCHS}
NAMES = {"plain": "plain", "post": "residual", "pre": "pre-activation"}
CONVOLUTIONAL = {"plain": "plain", "post": "resnet", "pre": "preact_resnet"}  # models
CONV_WIDTH, CONV_EPOCHS = 8, 8
MNIST_DEPTHS = (4, 18, 54)  # layers in blocks
MNIST_WIDTH, MNIST_IMAGES, MNIST_EPOCHS = 48, 10_000, 2
PROBE = 256  # images whose gradient is measured


# --- measuring


def gradient_norms(net: nets.Net, images: nets.Images | None = None) -> list[float]:
    """|dL/dW| of the blocks' linear layers from the input on, for one batch in training mode.

    The net's weights and running statistics are left as they were.

    images    the batch; None for the first 256 of the shipped digits
    Source    He et al. 2015, section 4.1: "backward propagated gradients exhibit healthy norms with BN"
    """
    pixels, labels = images or nets.Images(*(a[:PROBE] for a in nets.digits().train))
    kept = [(buffer, buffer.data.copy()) for buffer in net.buffers()]
    net.train()
    net.zero_grad()
    F.cross_entropy(net(pixels), labels).backward()
    norms = [float(np.linalg.norm(layer.weight.grad)) for layer in net.layers()[1:-1] if layer.weight.grad is not None]
    net.zero_grad()
    for buffer, values in kept:
        buffer.copy_(values)
    return norms


def measure(scale: str, seed: int, tick: Tick) -> dict[str, Any]:
    """Errors, the last epoch's loss and gradient norms of every kind and depth; at full scale two more data sets'."""
    found: dict[str, Any] = {"seed": seed, "nets": {}, "conv": None, "mnist": None}
    for kind in nets.KINDS:
        found["nets"][kind] = {}
        for depth in DEPTHS:
            net = nets.build(kind, (depth - 2) // 2, seed)
            start = gradient_norms(net)
            errors = learned(net, seed, nets.digits(), EPOCHS[scale])
            found["nets"][kind][str(depth)] = {**errors, "start": start, "end": gradient_norms(net)}
            tick(f"{NAMES[kind]} net of {depth} layers")
    absent: str | None = "only at --scale full"
    if scale == "full":
        found["conv"] = _convolutional(seed, tick)
        found["mnist"], absent = _mnist(seed, tick)
    found["mnist_absent"] = absent
    return found


def learned(net: nn.Module, seed: int, halves: nets.Halves, epochs: int) -> dict[str, float]:
    """Trains the net: {"train", "test": fractions that it gets wrong, "loss": of its last epoch's batches}."""
    losses = nets.train(net, seed, halves.train, epochs=epochs)
    last = losses[-len(losses) // epochs :]
    return {
        "train": nets.error(net, *halves.train),
        "test": nets.error(net, *halves.test),
        "loss": float(np.mean(last)),
    }


def _convolutional(seed: int, tick: Tick) -> dict[str, dict[str, dict[str, float]]]:
    """The convolutional nets of the paper, 8 channels wide, on the same digits."""
    halves = nets.Halves(*(nets.Images(i.pixels.reshape(-1, 1, 8, 8), i.labels) for i in nets.digits()))

    def make(kind: str, depth: int) -> nn.Module:
        mr.manual_seed(seed)
        return models.create(f"{CONVOLUTIONAL[kind]}{depth}", in_channels=1, width=CONV_WIDTH)

    return _table_of(make, nets.KINDS, DEPTHS, seed, halves, CONV_EPOCHS, tick, "convolutional")


def _mnist(seed: int, tick: Tick) -> tuple[Any, str | None]:
    """(the nets on MNIST at 14 x 14, None), or (None, why not)."""
    try:
        halves = nets.Halves(*(_halved(half) for half in data.load("mnist", download=False)))
    except RequestError:
        for _ in range(2 * len(MNIST_DEPTHS)):
            tick("no MNIST here")
        return None, f"MNIST is not in {data.data_dir()}; MINIRES_DATA names the folder"

    def make(kind: str, depth: int) -> nn.Module:
        return nets.build(kind, depth // 2, seed, width=MNIST_WIDTH, inputs=196)

    return _table_of(make, ("plain", "post"), MNIST_DEPTHS, seed, halves, MNIST_EPOCHS, tick, "MNIST"), None


def _halved(images: data.Dataset) -> nets.Images:
    """The first 10,000 images, each 2 x 2 pixels as their mean: 14 x 14."""
    few = images.subset(np.arange(MNIST_IMAGES))
    pixels = nets.flat(few).pixels.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))  # (N, 14, 14)
    return nets.Images(pixels.reshape(len(few), -1), few.labels)


def _table_of(
    make: Callable[[str, int], nn.Module],
    kinds: Sequence[str],
    depths: Sequence[int],
    seed: int,
    halves: nets.Halves,
    epochs: int,
    tick: Tick,
    label: str,
) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {kind: {} for kind in kinds}
    for kind in kinds:
        for depth in depths:
            found[kind][str(depth)] = learned(make(kind, depth), seed, halves, epochs)
            tick(f"{label}: {NAMES[kind]} net of {depth} layers")
    return found


# --- judging


def rounded(ratio: float) -> str:
    """Three digits, without a power of ten: "25,100", "12.2"."""
    return f"{float(f'{ratio:.3g}'):,.4g}" if ratio < 1000 else f"{float(f'{ratio:.3g}'):,.0f}"


def collect(results: Results, kind: str, depth: int, what: str, of: str = "nets") -> np.ndarray:
    """One number of every seed."""
    return np.array([result[of][kind][str(depth)][what] for result in results])


def growth(results: Results, kind: str, when: str, depth: int = 56) -> np.ndarray:
    """|dL/dW| of the first block's first layer over the last block's last, for every seed."""
    norms = collect(results, kind, depth, when)
    first_over_last: np.ndarray = norms[:, 0] / norms[:, -1]
    return first_over_last


def judge(results: Results) -> list[Verdict]:
    """Of the claims, those on depth by training error, and those on the gradient's norm."""
    plain8, plain20, plain56 = (collect(results, "plain", depth, "train") for depth in DEPTHS)
    post20, post56 = (collect(results, "post", depth, "train") for depth in DEPTHS[1:])
    pre20, pre56 = (collect(results, "pre", depth, "train") for depth in DEPTHS[1:])
    test20, test56 = (collect(results, "plain", depth, "test") for depth in DEPTHS[1:])
    start, end, pre_start = (
        growth(results, "plain", "start"),
        growth(results, "plain", "end"),
        growth(results, "pre", "start"),
    )
    per_layer = start ** (1 / (DEPTHS[-1] - 3))
    return [
        Verdict(
            "A deeper plain net has the higher training error.",
            "He et al. 2015, Deep Residual Learning, figures 1 and 6 (left)",
            f"plain nets of 8, 20 and 56 layers get {percent(plain8)}, {percent(plain20)} and {percent(plain56)} of "
            "their training images wrong",
            bool(np.all(plain20 > plain8 + 0.02) and np.all(plain56 > plain20 + 0.2)),
        ),
        Verdict(
            "This degradation is not caused by overfitting.",
            "He et al. 2015, section 1",
            f"from 20 to 56 plain layers the test error rises from {percent(test20)} to {percent(test56)}, but so does "
            f"the training error; of the 56 layers' test error only {percent(test56 - plain56)} come on top of it",
            bool(np.all(test56 > test20) and np.all(plain56 > plain20) and np.all(test56 - plain56 < 0.5 * test56)),
        ),
        Verdict(
            "Nets with skips overcome the difficulty: the same depth can be optimized.",
            "He et al. 2015, section 4.2, figure 6 (middle)",
            f"training error of 56 residual layers {percent(post56)}, of 20 plain ones {percent(plain20)}; 20 residual "
            f"layers are still better, {percent(post20)}, so that no accuracy is gained by depth here",
            bool(np.all(post56 < plain20) and np.all(post56 < 0.5 * plain56)),
        ),
        Verdict(
            "With activation in front of the layers a very deep net is easier to optimize still.",
            "He et al. 2016, Identity Mappings, section 4.1 and table 3",
            f"training error of 56 layers: pre-activation {percent(pre56)}, residual {percent(post56)}; of 20 layers: "
            f"{percent(pre20)} and {percent(post20)}",
            bool(np.all(pre56 < post56) and np.all(pre56 < 0.05)),
        ),
        Verdict(
            "With batch norm the difficulty is unlikely to be caused by vanishing gradients.",
            "He et al. 2015, section 4.1",
            "in the plain net of 56 layers |dL/dW| of the first layer over the last is "
            f"{spread(start, ',.0f')} before and {spread(end, '.2g')} after training",
            bool(np.all(start > 1) and np.all(end > 1e-3)),
        ),
        Verdict(
            "But healthy they are not at the start: batch norm without skips lets gradients explode, by a factor of "
            "sqrt(pi / (pi - 1)) = 1.21 a layer.",
            "Yang et al. 2019, A Mean Field Theory of Batch Normalization, abstract and section 4",
            f"a factor {spread(per_layer, '.3f')} a layer in the plain net of 56 layers, {spread(start, ',.0f')} in "
            f"all; in the pre-activation net {spread(pre_start, '.1f')} in all",
            bool(np.all((per_layer > 1.15) & (per_layer < 1.27)) and np.all(pre_start < 0.01 * start)),
        ),
    ]


# --- showing


def tables(results: Results) -> list[Table]:
    """Errors by kind and depth, means over the seeds, in per cent; then what else was measured."""
    found = [
        Table(
            "Errors in per cent, means over the seeds",
            ("net", "layers", "training", "test", "last epoch's loss", "gradient norm, first layer over last"),
            [
                [
                    NAMES[kind],
                    depth,
                    100 * collect(results, kind, depth, "train").mean(),
                    100 * collect(results, kind, depth, "test").mean(),
                    collect(results, kind, depth, "loss").mean(),
                    growth(results, kind, "start", depth).mean(),
                ]
                for kind in nets.KINDS
                for depth in DEPTHS
            ],
        )
    ]
    titles = {
        "conv": "Convolutional nets, 8 channels wide, on the same digits: errors in per cent",
        "mnist": "Nets of width 48 on MNIST at 14 x 14, 10,000 images, 2 epochs: errors in per cent",
    }
    for part, title in titles.items():
        have = [result for result in results if result[part]]
        if have:
            rows: list[list[str | float]] = [
                [NAMES[k], depth, *(_mean(have, k, depth, what, part) for what in ("train", "test", "loss"))]
                for k in have[0][part]
                for depth in map(int, have[0][part][k])
            ]
            found.append(Table(title, ("net", "layers", "training", "test", "last epoch's loss"), rows))
    return found


def _mean(results: Results, kind: str, depth: int, what: str, part: str) -> float:
    mean = float(collect(results, kind, depth, what, part).mean())
    return mean if what == "loss" else 100 * mean


STYLE = {  # kind: color, marker, line; plain is black, what has skips is blue
    "plain": ("#000000", "s", "-"),
    "post": ("#3f94cf", "o", "--"),
    "pre": ("#0072b2", "^", "-"),
}


def draw(results: Results, figure: Any) -> None:
    """Error by depth on the left, the gradient from layer to layer at the start on the right."""
    from minires.train import figures

    figure.set_size_inches(10.5, 4.8)
    left, right = figure.subplots(1, 2)
    for kind, (color, marker, line) in STYLE.items():
        for half in ("train", "test"):
            errors = np.array([100 * collect(results, kind, depth, half) for depth in DEPTHS])  # (depths, seeds)
            solid = {"mfc": color, "ls": line, "lw": 1.8} if half == "train" else {"mfc": "w", "ls": ":", "lw": 1.0}
            left.vlines(DEPTHS, errors.min(axis=1), errors.max(axis=1), color=color, lw=1)
            label = f"{NAMES[kind]}, {'training' if half == 'train' else 'test'}"
            left.plot(DEPTHS, errors.mean(axis=1), color=color, marker=marker, ms=6, label=label, **solid)
            if half == "train":
                last = errors[-1].mean()
                left.annotate(f"{last:.1f}", (DEPTHS[-1], last), (9, -3), textcoords="offset points", fontsize=9)
        norms = collect(results, kind, DEPTHS[-1], "start").mean(axis=0)
        label = f"{NAMES[kind]}: {rounded(growth(results, kind, 'start').mean())} times"
        right.plot(range(1, len(norms) + 1), norms, color=color, marker=marker, ms=3.5, ls=line, lw=1.2, label=label)
    left.set(xticks=DEPTHS, xlabel="layers", ylabel="error, %", xlim=(5, 62), ylim=(-3, 100))
    left.set_title("Error by depth: means and extremes of the seeds", fontsize=11)
    right.set(yscale="log", xlabel="layer, from the input", ylabel=r"norm of $\partial L\,/\,\partial W$, log scale")
    right.set_title("Gradients of 56 layers before training", fontsize=11)
    for axes in (left, right):
        figures.plain(axes)
    left.legend(frameon=False, fontsize=9, loc="upper left")
    right.legend(
        frameon=False, fontsize=9, loc="upper right", title="the first layer's over the last's", title_fontsize=9
    )
    figure.suptitle(EXPERIMENT.title, fontweight="bold")


def alt(results: Results) -> str:
    """The figure's numbers in a few sentences."""
    by_kind = []
    for kind in nets.KINDS:
        errors = [f"{100 * collect(results, kind, depth, 'train').mean():.1f}" for depth in DEPTHS]
        by_kind.append(f"{NAMES[kind]} {', '.join(errors)}")
    ratios = [f"{rounded(growth(results, kind, 'start').mean())} times in the {NAMES[kind]} net" for kind in nets.KINDS]
    shown = ", ".join(ratios)
    return (
        "Left: training and test error of nets of 8, 20 and 56 layers. Training error in per cent: "
        f"{'; '.join(by_kind)}. Right: the gradient's norm in each layer of the nets of 56 layers before training, on "
        f"a log scale; the first layer's is {shown} the last one's."
    )


EXPERIMENT = Experiment(
    name="degradation",
    title="Deeper and worse, on the training images",
    question="Does a deeper net do worse on the very images that it learns from, and do skips change that?",
    about=(
        "Nets of 8, 20 and 56 layers learn the shipped digits: plain, residual (He et al. 2015) and pre-activation "
        "(He et al. 2016), all of width 32, with batch norm, SGD and the same number of epochs (5 at smoke scale, 15 "
        "at full). What is compared is the error on the 1,400 training images, with running statistics; the 397 test "
        "images stand beside it. Before and after training the gradient's norm is measured in every layer. Full scale "
        "adds the paper's convolutional nets and, where the data set is present, MNIST at 14 x 14. What it does not "
        "show: that depth helps. The task is easy, and 8 layers solve it; He et al. gain accuracy by depth on CIFAR-10 "
        "and ImageNet. Nor does it tell the cause of degradation, only that it is neither overfitting nor vanishing "
        "gradients."
    ),
    measure=measure,
    judge=judge,
    tables=tables,
    draw=draw,
    alt=alt,
    ticks=lambda scale: 9 if scale == "smoke" else 9 + 9 + 6,
    seeds={"smoke": 2, "full": 3},
    seconds={"smoke": 14, "full": 390},
)
