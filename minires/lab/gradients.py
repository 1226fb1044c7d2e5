"""Where the gradient goes at initialization: it fades, explodes, or neither, by activation, gain, norm and skip.

With W from N(0, gain² / width), a the activation and N batch norm or nothing, a branch is one of

    F(x) = a(N(W x))        activation last, as in a plain net
    G(x) = W a(N(x))        weights last: pre-activation, and with N pre-norm

and a layer of a net of L layers is F(x), or x plus one of them, or x plus one of them over sqrt(L).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from minires import functional as F
from minires.engine import Tensor
from minires.lab.experiment import Experiment, Results, Table, Tick, Verdict
from minires.lab.spread import spread
from minires.train.figures import BLUE, GREY, ORANGE, plain

WIDTH, BATCH = 64, 128
DEPTH = {"smoke": 50, "full": 100}
SHALLOW = 10  # layers that suffice for a sigmoid

HE = math.sqrt(2)
ACTIVATIONS = {"relu": F.relu, "tanh": F.tanh, "sigmoid": F.sigmoid}
GAINS = (0.8, 1.0, HE, 2.0)
NORMS = {"none": ("plain", "sum", "scaled", "scaled pre"), "batch": ("plain", "sum", "scaled", "pre")}
SKIPS = {"plain": "plain: F", "sum": "x + F", "scaled": "x + F/√L", "pre": "x + G", "scaled pre": "x + G/√L"}
LIMIT = 100.0  # the first layer's gradient over the last one's: below 1 / LIMIT it fades, above LIMIT it explodes


class Recipe(NamedTuple):
    """A kind of net: keys of ACTIVATIONS, NORMS and SKIPS, and the gain."""

    activation: str
    gain: float
    norm: str
    skip: str


RECIPES = [
    Recipe(activation, gain, norm, skip)
    for norm, skips in NORMS.items()
    for activation, gain, skip in itertools.product(ACTIVATIONS, GAINS, skips)
]
PROFILES = {  # drawn layer by layer
    "plain sigmoid, gain 1": Recipe("sigmoid", 1.0, "none", "plain"),
    "plain tanh, gain 0.8": Recipe("tanh", 0.8, "none", "plain"),
    "plain relu, He": Recipe("relu", HE, "none", "plain"),
    "plain relu, batch norm": Recipe("relu", HE, "batch", "plain"),
    "x + F, relu, He": Recipe("relu", HE, "none", "sum"),
    "x + G/√L, relu, He": Recipe("relu", HE, "none", "scaled pre"),
    "x + G, relu, batch norm": Recipe("relu", HE, "batch", "pre"),
}


# --- measuring


class Norms(NamedTuple):
    """Norms of the gradient for x_0, ..., x_L, and for W_1, ..., W_L."""

    stream: np.ndarray
    weights: np.ndarray


def layer(recipe: Recipe, x: Tensor, w: Tensor, depth: int) -> Tensor:
    """One layer of a net of `depth` layers, as at the top of this file. Shapes: x, y (N, D); w (D, D)."""
    activation = ACTIVATIONS[recipe.activation]

    def normed(z: Tensor) -> Tensor:
        return F.batch_norm(z, None, None, training=True) if recipe.norm == "batch" else z

    weights_last = recipe.skip.endswith("pre")
    f = F.linear(activation(normed(x)), w) if weights_last else activation(normed(F.linear(x, w)))
    if recipe.skip == "plain":
        return f
    return F.residual_add(x, f * depth**-0.5 if recipe.skip.startswith("scaled") else f)


def norms(recipe: Recipe, depth: int, seed: int, width: int = WIDTH, batch: int = BATCH) -> Norms:
    """The gradients of a random net, for random inputs and a random gradient at its output, in float64."""
    rng = np.random.default_rng(seed)
    start, gy = rng.standard_normal((2, batch, width))
    points: list[Any] = [Tensor(start, requires_grad=True)]
    weights: list[Any] = []
    for _ in range(depth):
        drawn = rng.standard_normal((width, width)) * (recipe.gain * width**-0.5)
        weights.append(Tensor(drawn, requires_grad=True))
        points.append(layer(recipe, points[-1], weights[-1], depth).retain_grad())
    points[-1].backward(gy)
    return Norms(*(np.array([np.linalg.norm(t.grad) for t in row]) for row in (points, weights)))


def fate(ratio: float) -> str:
    """What became of a gradient that is `ratio` times as large at the input as at the output."""
    return "fades" if ratio < 1 / LIMIT else "explodes" if ratio > LIMIT else "neither"


def measure(scale: str, seed: int, tick: Tick) -> dict[str, Any]:
    """For every recipe the ratio of the first to the last norm, of the stream and of the weights; and some profiles."""
    depth = DEPTH[scale]
    rows = []
    for recipe in RECIPES:
        stream, weights = norms(recipe, depth, seed)
        ratio = float(stream[0] / stream[-1])
        rows.append({**recipe._asdict(), "stream": ratio, "weights": float(weights[0] / weights[-1])})
        tick(f"norm: {recipe.norm}, {SKIPS[recipe.skip]}, {recipe.activation}, gain {recipe.gain:.2g}")
    profiles = {}
    for name, recipe in PROFILES.items():
        stream = norms(recipe, depth, seed).stream
        profiles[name] = [float(size) for size in stream / stream[-1]]
    shallow = norms(PROFILES["plain sigmoid, gain 1"], SHALLOW, seed).weights
    return {"depth": depth, "nets": rows, "profiles": profiles, "sigmoid": float(shallow[0] / shallow[-1])}


def ratios(results: Results, recipe: Recipe, of: str = "stream") -> list[float]:
    """The ratio of first to last norm for each seed."""
    return [next(row[of] for row in r["nets"] if Recipe(*list(row.values())[:4]) == recipe) for r in results]


def typical(values: list[float]) -> float:
    """The geometric mean, since gradients are compared by their factors."""
    return float(np.exp(np.mean(np.log(values))))


# --- judging


def judge(results: Results) -> list[Verdict]:
    """What papers say of gradients at initialization, and two popular sentences."""
    return [
        _sigmoid(results),
        _he(results),
        _plain_dies(results),
        _batch_norm(results),
        _skips_keep(results),
        _scaled(results),
        _pre_norm(results),
    ]


def _sigmoid(results: Results) -> Verdict:
    seen = [r["sigmoid"] for r in results]
    return Verdict(
        "With sigmoids and a random start, gradients vanish in a deep plain net.",
        "Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks",
        f"In {SHALLOW} layers the first weights get {spread(seen, '.2g')} times the last ones' gradient.",
        max(seen) < 1e-4,
    )


def _he(results: Results) -> Verdict:
    seen = ratios(results, PROFILES["plain relu, He"], "weights")
    return Verdict(
        "Vanishing gradients are largely addressed by normalized initialization.",
        "He et al. 2015, Deep Residual Learning, section 1",
        f"In {results[0]['depth']} plain ReLU layers with He's gain, √2, the first weights get {spread(seen, '.2g')} "
        "times the last ones' gradient.",
        min(seen) > 0.02 and max(seen) < 50,
    )


def _plain_dies(results: Results) -> Verdict:
    fates = [fate(typical(ratios(results, recipe))) for recipe in RECIPES if recipe.skip == "plain"]
    counted = {word: fates.count(word) for word in ("fades", "explodes", "neither")}
    return Verdict(
        "In a plain net the gradient dies on its way to the input.",
        "popular articles; He et al. 2015, section 4.1, call it unlikely",
        f"Of {len(fates)} kinds of plain net it fades in {counted['fades']}, explodes in {counted['explodes']}, and "
        f"does neither in {counted['neither']}. It depends on gain, activation and norm.",
        counted["fades"] == len(fates),
        expected=False,
    )


def _batch_norm(results: Results) -> Verdict:
    depth = results[0]["depth"]
    rates = [ratio ** (1 / depth) for ratio in ratios(results, PROFILES["plain relu, batch norm"])]
    theory = math.sqrt(math.pi / (math.pi - 1))
    return Verdict(
        f"With batch norm and ReLU a plain net's gradient grows by {theory:.2f} a layer towards the input.",
        "Yang et al. 2019, A Mean Field Theory of Batch Normalization (for wide layers and large batches)",
        f"It grows by {spread(rates, '.3f')} a layer, so {theory**depth:.0e} in {depth} layers. He et al. 2015 saw "
        "healthy norms in training, at 34 layers.",
        max(abs(rate - theory) for rate in rates) < 0.04,
    )


def _skips_keep(results: Results) -> Verdict:
    sums = [recipe for recipe in RECIPES if recipe.skip == "sum"]
    fates = [fate(typical(ratios(results, recipe))) for recipe in sums]
    worst = max(typical(ratios(results, recipe)) for recipe in sums)
    return Verdict(
        "With skips the gradient keeps its size at any depth.",
        "popular articles",
        f"Of {len(sums)} kinds of net with x + F it explodes in {fates.count('explodes')}, by up to {worst:.0e}. The "
        "skip keeps it from fading, but the branches add up.",
        fates.count("neither") == len(sums),
        expected=False,
    )


def _scaled(results: Results) -> Verdict:
    seen = [
        ratio
        for recipe in RECIPES
        if recipe.skip == "scaled pre" and recipe.gain <= HE
        for ratio in ratios(results, recipe)
    ]
    one_signed = ratios(results, Recipe("relu", HE, "none", "scaled"))
    return Verdict(
        "Branches scaled by 1/√L keep the gradient bounded at any depth.",
        "Hayou et al. 2021, Stable ResNet (branches that end in weights)",
        f"x + G/√L without any norm, for all activations and gains up to √2: {spread(seen, '.2g')} times as "
        f"large (in theory √e = 1.65 for ReLU and √2). Where a rectifier ends the branch, {spread(one_signed, '.2g')} "
        "times: what has one sign adds up even so, like exp(√L).",
        min(seen) > 0.5 and max(seen) < 2.5,
    )


def _pre_norm(results: Results) -> Verdict:
    seen = ratios(results, PROFILES["x + G, relu, batch norm"], "weights")
    return Verdict(
        "Norm in front of the branch makes deep branches small beside the skip, and so keeps the gradient moderate.",
        "De and Smith 2020, Batch Normalization Biases Residual Blocks Towards the Identity Function",
        f"In {results[0]['depth']} pre-norm ReLU layers with He's gain the first weights get {spread(seen, '.2g')} "
        "times the last ones' gradient.",
        min(seen) > 0.2 and max(seen) < 30,
    )


# --- showing


def grid(results: Results, norm: str) -> np.ndarray:
    """The typical ratio (activations x gains, skips) of all nets with this norm."""
    values = [typical(ratios(results, recipe)) for recipe in RECIPES if recipe.norm == norm]
    return np.array(values).reshape(len(ACTIVATIONS) * len(GAINS), len(NORMS[norm]))


ROWS = [f"{a}, {'√2' if g == HE else f'{g:g}'}" for a in ACTIVATIONS for g in GAINS]


def short(ratio: float) -> str:
    """A ratio in few characters: 0.44, 5e-9, 2e12."""
    if 0.01 <= ratio < 1000:
        return f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}"
    mantissa, exponent = f"{ratio:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def tables(results: Results) -> list[Table]:
    """The two heat maps, and the profiles at every tenth of the depth."""
    depth = results[0]["depth"]
    maps = [
        Table(
            f"Gradient at the input over that at the output, {depth} layers, {name}",
            ("activation, gain", *(SKIPS[skip] for skip in NORMS[norm])),
            [
                (row, *(f"{short(v)} {fate(v)}" for v in values))
                for row, values in zip(ROWS, grid(results, norm), strict=True)
            ],
        )
        for norm, name in (("none", "no normalization"), ("batch", "batch norm"))
    ]
    layers = range(0, depth + 1, depth // 10)
    profiles = Table(
        "Norm of the gradient at x_l over that at the output",
        ("layer", *PROFILES),
        [(str(k), *(typical([r["profiles"][name][k] for r in results]) for name in PROFILES)) for k in layers],
    )
    return [*maps, profiles]


def draw(results: Results, figure: Any) -> None:
    """The two heat maps above, and some nets layer by layer below."""
    figure.set_size_inches(10, 10.2)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.08)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.35, 1))
    panels = top.subplots(1, 2, width_ratios=(1, 1))
    depth = results[0]["depth"]
    for axes, (norm, title) in zip(panels, (("none", "no normalization"), ("batch", "batch norm")), strict=True):
        image = _heat_map(axes, grid(results, norm), [SKIPS[skip] for skip in NORMS[norm]])
        axes.set_title(title)
        axes.set_yticks(range(len(ROWS)), ROWS if norm == "none" else [])
    panels[0].set_ylabel("activation, gain")
    bar = top.colorbar(image, ax=panels, shrink=0.85, extend="both", ticks=[-8, -4, -2, 0, 2, 4, 8])
    bar.ax.set_yticklabels(["1e-8", "1e-4", "0.01", "1", "100", "1e4", "1e8"])
    top.suptitle(f"Gradient at the input over that at the output, {depth} layers", fontweight="bold")
    key = f"F = a(N(W x)),  G = W a(N(x))          ▼ fades: below 1/{LIMIT:g}     ▲ explodes: above {LIMIT:g}"
    top.supxlabel(key, fontsize="medium")
    _profiles(bottom.subplots(), results)


def _heat_map(axes: Any, values: np.ndarray, columns: list[str]) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("fades to explodes", (BLUE, "#ffffff", ORANGE))
    image = axes.imshow(np.log10(values), cmap=colors, vmin=-8, vmax=8, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        strong = abs(math.log10(value)) > 5.5
        mark = {"fades": "▼ ", "explodes": "▲ ", "neither": ""}[fate(float(value))]
        axes.text(column, row, mark + short(value), ha="center", va="center", color="white" if strong else "black")
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(length=0)
    for edge in range(len(GAINS), len(values), len(GAINS)):
        axes.axhline(edge - 0.5, color=GREY, lw=1.2)
    return image


def _profiles(axes: Any, results: Results) -> None:
    styles = zip(
        PROFILES,
        ("#999999", "#999999", "black", "black", ORANGE, BLUE, BLUE),
        ("v", "D", "o", "^", "s", "o", "P"),
        ("--", "-", "-", "--", "-", "-", "--"),
        strict=True,
    )
    depth = results[0]["depth"]
    for name, color, marker, line in styles:
        sizes = [typical([r["profiles"][name][k] for r in results]) for k in range(depth + 1)]
        axes.plot(sizes, color=color, marker=marker, ls=line, lw=1.4, ms=5, markevery=max(1, depth // 10), label=name)
    axes.set(yscale="log", xlabel="layer, from the input", ylabel="over the output's", ylim=(1e-14, 1e14))
    axes.set_title("Norm of the gradient, layer by layer")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    plain(axes)


def alt(results: Results) -> str:
    """The figure in words."""
    counted = {norm: [fate(float(v)) for v in grid(results, norm).reshape(-1)] for norm in NORMS}
    told = "; ".join(
        f"{name} {counted[norm].count('fades')} fade, {counted[norm].count('explodes')} explode and "
        f"{counted[norm].count('neither')} do neither"
        for norm, name in (("none", "without normalization"), ("batch", "with batch norm"))
    )
    ends = "; ".join(f"{name}: {short(typical([r['profiles'][name][0] for r in results]))}" for name in PROFILES)
    return (
        f"Two heat maps of the gradient at the input over that at the output of nets of {results[0]['depth']} layers, "
        f"by activation, gain and skip. Of the nets {told}. Below, the norm of the gradient layer by layer for seven "
        f"of them; at the input: {ends}."
    )


EXPERIMENT = Experiment(
    name="gradients",
    title="Fades, explodes or neither?",
    question="How large is the gradient at the input of a deep net, by activation, gain, norm and skip?",
    about=(
        "Nets of 50 layers (100 at full scale), 64 features wide, before any training: random inputs, a random "
        "gradient at the output, weights from N(0, gain²/64). The ratio of the gradient's norm at the input to that at "
        "the output says what becomes of it: below 1/100 it fades, above 100 it explodes. The limits are a convention, "
        "and nets near them may fall on either side. √2 is He's gain, 1 is Xavier's for layers of equal width. Batch "
        "norm behind W takes the gain out again: there the rows of one activation differ only by chance or not at "
        "all.\n\n"
        "This is about the start alone. That a gradient neither fades nor explodes does not say that a net learns "
        "well, and He et al. 2015 found plain nets to be worse although their gradients were healthy; see the "
        "experiment degradation."
    ),
    measure=measure,
    judge=judge,
    tables=tables,
    draw=draw,
    alt=alt,
    ticks=lambda scale: len(RECIPES),
    seeds={"smoke": 2, "full": 5},
    seconds={"smoke": 6, "full": 60},
)
