"""The residual stream: how it grows with depth, what each block's share of it is, and what it already knows.

    x_L = x_0 + F_1 + F_2 + ... + F_L

Growth is measured in transformers that are not trained, on seven kinds of stream; shares and the logit lens (the head
asked after every block) in a trained pre-activation net.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import minires as mr
from minires import functional as F
from minires import nn
from minires.engine import Tensor
from minires.lab import nets
from minires.lab.experiment import Experiment, Results, Table, Tick, Verdict
from minires.lab.spread import spread
from minires.models.transformer_layers import FeedForward, SelfAttention, Sizes
from minires.switches import no_grad
from minires.train.figures import BLUE, GREY, ORANGE, plain

SCALE = {"smoke": {"layers": 24, "blocks": 27, "epochs": 5}, "full": {"layers": 48, "blocks": 54, "epochs": 15}}
WIDTH, HEADS, SENTENCES, TOKENS = 128, 4, 2, 16
BEGIN = 4  # the layer from which an exponent is fitted: by then x_0 is a small part

STREAMS = {  # what one sublayer F does, and how it is drawn
    "no norm": ("x + F(x)", "black", "^", "-"),
    "relu last": ("x + relu(F(LN(x)))", ORANGE, "s", "-"),
    "pre-norm": ("x + F(LN(x))", BLUE, "o", "-"),
    "scaled": ("x + F(LN(x)) / √(2L)", GREY, "D", "--"),
    "ReZero": ("x + a F(x), a = 0 at the start", "#999999", "v", "--"),
    "post-norm": ("LN(x + F(x))", "black", "x", ":"),
    "attention residuals": ("reads Σ softmax(w · RMSNorm(v_j)) v_j, w = 0 at the start", BLUE, "P", "--"),
}


# --- growth, before training


def sublayers(layers: int, seed: int, norm: str = "pre") -> list[Any]:
    """Attention, feed-forward, attention, ... of Xavier-normal weights without biases, in float64, as `Residual`s."""
    mr.manual_seed(seed)
    sizes = Sizes(WIDTH, HEADS, feedforward=WIDTH, dropout=0.0, norm=norm)
    made = [kind(sizes).to(np.float64) for _ in range(layers) for kind in (SelfAttention, FeedForward)]
    for f in made:
        for name, p in f.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=WIDTH**-0.5)
            elif not name.startswith("norm_layer"):
                nn.init.zeros_(p)
    return made


def tokens(seed: int) -> Tensor:
    """Random embeddings (N, T, D) of mean square 1."""
    return Tensor(np.random.default_rng(seed).standard_normal((SENTENCES, TOKENS, WIDTH)))


def states(kind: str, layers: int, seed: int) -> list[np.ndarray]:
    """What is read before layer 1, 2, ..., and by the head: L + 1 arrays (N, T, D), for a key of STREAMS."""
    parts = sublayers(layers, seed, "post" if kind == "post-norm" else "pre")
    x = tokens(seed)
    found = [x.data]
    with no_grad():
        if kind == "attention residuals":
            attention = nn.AttentionResiduals(len(parts), WIDTH).to(np.float64)
            state = attention.start(x)
            for k, f in enumerate(parts):
                state = attention.write(state, k + 1, f.update(attention.read(state, k)))
                found.append(attention.read(state, k + 1).data)
        else:
            for f in parts:
                x = _next(kind, f, x, len(parts))
                found.append(x.data)
    return found[::2]


def _next(kind: str, f: Any, x: Tensor, count: int) -> Tensor:
    """The stream after one sublayer of `count`."""
    if kind in ("pre-norm", "post-norm"):
        return f(x)
    if kind == "relu last":
        return F.residual_add(x, F.relu(f.update(x)))
    if kind == "scaled":
        return F.residual_add(x, f.update(x) * count**-0.5)
    return F.residual_add(x, f.branch(x) * (1.0 if kind == "no norm" else 0.0))


def growth(kind: str, layers: int, seed: int) -> list[float]:
    """The root mean square of an element of the stream, after 0, 1, ..., L layers; it starts near 1."""
    return [float(np.sqrt(np.mean(x * x))) for x in states(kind, layers, seed)]


def exponent(sizes: Any) -> float:
    """The p of size ~ depth^p, by least squares in logarithms, from layer BEGIN on."""
    depth = np.arange(BEGIN, len(sizes))
    return float(np.polyfit(np.log(depth), np.log(sizes[BEGIN:]), 1)[0])


# --- shares and lens, after training


class Stream(NamedTuple):
    """x_0, ..., x_L (L + 1, N, D) of a net whose blocks are x + F(x), and F_1, ..., F_L (L, N, D), in evaluation."""

    points: np.ndarray
    updates: np.ndarray


def trace(net: nets.Net, pixels: np.ndarray) -> Stream:
    """The stream of a pre-activation net, by running statistics."""
    with nn.evaluating(net):
        points, updates = [net.stem(pixels)], []
        for block in net.blocks():
            updates.append(block.update(points[-1]))
            points.append(F.residual_add(points[-1], updates[-1]))
    return Stream(*(np.stack([t.data for t in row]) for row in (points, updates)))


def shares(stream: Stream) -> np.ndarray:
    """<term, x_L> / |x_L|² for the terms x_0, F_1, ..., F_L of the sum x_L, over all images: they add up to 1."""
    terms, last = [stream.points[0], *stream.updates], stream.points[-1]
    return np.array([np.vdot(term, last) for term in terms]) / np.vdot(last, last)


def lens(net: nets.Net, stream: Stream, labels: np.ndarray) -> list[float]:
    """The accuracy of head(norm(x_l)) for l = 0, ..., L: what the stream would answer if it ended there."""
    with nn.evaluating(net):
        scores = [net.head(net.norm(Tensor(x))).data for x in stream.points]
    return [float(np.mean(s.argmax(axis=1) == labels)) for s in scores]


def measure(scale: str, seed: int, tick: Tick) -> dict[str, Any]:
    """Growth of every kind of stream; shares, sizes and lens of one trained net, on the test images."""
    options = SCALE[scale]
    found: dict[str, Any] = {"growth": {}}
    for kind in STREAMS:
        found["growth"][kind] = growth(kind, options["layers"], seed)
        tick(f"growth of {kind}")
    net = nets.build("pre", options["blocks"], seed)
    nets.train(net, seed, epochs=options["epochs"], tick=tick)
    net = net.to(np.float64)
    pixels, labels = nets.digits().test
    stream = trace(net, pixels.astype(np.float64))
    norms = np.linalg.norm(stream.points, axis=2)  # (L + 1, N)
    found["shares"] = [float(share) for share in shares(stream)]
    found["norms"] = [float(size) for size in norms.mean(axis=1)]
    found["relative"] = [
        float(np.mean(np.linalg.norm(f, axis=1) / before)) for f, before in zip(stream.updates, norms[:-1], strict=True)
    ]
    found["lens"] = lens(net, stream, labels)
    return found


# --- judging


def judge(results: Results) -> list[Verdict]:
    """What papers say of the stream at the start and after training, and three popular sentences."""
    return [
        _xiong(results),
        _linear(results),
        _one_signed(results),
        _controlled(results),
        _bounded(results),
        _dilution(results),
        _one_lth(results),
        _lens(results),
    ]


def sizes(results: Results, kind: str) -> np.ndarray:
    """The growth of this kind of stream (seeds, L + 1)."""
    return np.array([r["growth"][kind] for r in results])


def _xiong(results: Results) -> Verdict:
    squares = sizes(results, "pre-norm") ** 2
    depth = np.arange(squares.shape[1])
    per_layer = [np.polyfit(depth, row, 1)[0] for row in squares]
    return Verdict(
        "In a pre-norm transformer, before training, E|x_l|²/d lies between 1 + l/2 and 1 + 3l/2.",
        "Xiong et al. 2020, On Layer Normalization in the Transformer Architecture, lemma 2",
        f"It grows by {spread(per_layer, '.2f')} a layer, to {squares[:, -1].mean():.0f} after {depth[-1]} layers.",
        bool(0.5 <= np.mean(per_layer) <= 1.5),
    )


def _linear(results: Results) -> Verdict:
    seen = [exponent(row) for row in sizes(results, "pre-norm")]
    return Verdict(
        "The norm of the stream grows linearly with depth.",
        "popular articles; linear is the upper bound for branches of bounded norm",
        f"Before training it grows like depth^p, p = {spread(seen, '.2f')}: branches that know nothing of each other "
        "add up like a random walk.",
        min(seen) > 0.85,
        expected=False,
    )


def _one_signed(results: Results) -> Verdict:
    seen = [exponent(row) for row in sizes(results, "relu last")]
    return Verdict(
        "With a rectifier at the end of the branch the stream can only increase.",
        "He et al. 2016, Identity Mappings in Deep Residual Networks, section 4.1 (ReLU before addition)",
        f"The norm then grows like depth^p, p = {spread(seen, '.2f')}: here growth is linear.",
        min(seen) > 0.9 and max(seen) < 1.1,
    )


def _controlled(results: Results) -> Verdict:
    pre, post = (sizes(results, kind)[:, -1] for kind in ("pre-norm", "post-norm"))
    return Verdict(
        "Pre-norm keeps the stream from growing.",
        "a popular article; Xiong et al. 2020 say the reverse",
        f"The root mean square goes from 1 to {pre.mean():.1f} in {sizes(results, 'pre-norm').shape[1] - 1} pre-norm "
        f"layers and stays at {post.mean():.2f} with post-norm. Pre-norm bounds what a branch reads.",
        bool(pre.mean() < 1.5 * post.mean()),
        expected=False,
    )


def _bounded(results: Results) -> Verdict:
    scaled, rezero, attention = (sizes(results, kind) for kind in ("scaled", "ReZero", "attention residuals"))
    still = bool(np.all(rezero == rezero[:, :1]))
    return Verdict(
        "1/√L, ReZero and attention residuals bound the stream.",
        "Hayou et al. 2021, Stable ResNet; Bachlechner et al. 2020, ReZero; Kimi Team 2026, Attention Residuals",
        f"Before training, with 1/√(2L) it ends at {scaled[:, -1].mean():.2f}; ReZero {'leaves' if still else 'moves'} "
        f"every bit of it in place; what attention residuals read falls to {attention[:, -1].mean():.2f}, since equal "
        "weights take a mean.",
        bool(scaled.max() < 1.5 and still and attention.max() < 1.1),
    )


def _dilution(results: Results) -> Verdict:
    relative = np.array([r["relative"] for r in results])
    first, last = relative[:, 0], relative[:, -1]
    return Verdict(
        "The deeper a pre-norm block, the less it changes the stream (dilution).",
        "Kimi Team 2026, Attention Residuals, section 1 and figure 5 (for large language models)",
        f"After training |F|/|x| is {spread(first, '.2f')} at the first block and {spread(last, '.2f')} at the last.",
        bool(np.all(last < 0.5 * first)),
    )


def _one_lth(results: Results) -> Verdict:
    seen = np.array([r["shares"] for r in results])
    blocks = seen.shape[1] - 1
    off = np.abs(seen.sum(axis=1) - 1).max()
    return Verdict(
        "Each layer contributes 1/L of the stream.",
        "a popular article",
        f"Shares along the final stream add up to 1 (within {max(off, 1e-16):.0e}), but go from {seen.min():.3f} to "
        f"{seen.max():.3f} where 1/L is {1 / blocks:.3f}.",
        bool(np.all(np.abs(seen[:, 1:] - 1 / blocks) < 0.5 / blocks)),
        expected=False,
    )


def _lens(results: Results) -> Verdict:
    seen = np.array([r["lens"] for r in results])
    fall = (np.maximum.accumulate(seen, axis=1) - seen).max()
    return Verdict(
        "The stream comes closer to the answer block by block; the head can read it at any depth (logit lens).",
        "nostalgebraist 2020, Interpreting GPT: the logit lens",
        f"Test accuracy of the head is {spread(seen[:, 0], '.2f')} on x_0, {seen[:, seen.shape[1] // 2].mean():.2f} "
        f"half way and {spread(seen[:, -1], '.2f')} at the end; it never falls more than {fall:.2f} below its "
        "best so far.",
        bool(seen[:, 0].max() < 0.65 and seen[:, -1].min() > 0.9 and fall < 0.2),
    )


# --- showing


def _mean(results: Results, key: str) -> np.ndarray:
    return np.mean([r[key] for r in results], axis=0)


def tables(results: Results) -> list[Table]:
    """Growth at powers of two, with the exponents; then block by block what training made of the stream."""
    layers = len(results[0]["growth"]["pre-norm"]) - 1
    shown = [0, *(2**k for k in range(layers.bit_length()) if 2**k < layers), layers]
    by_depth: list[list[str | float]] = [
        [kind, *map(float, sizes(results, kind).mean(axis=0)[shown])] for kind in STREAMS
    ]
    columns = (_mean(results, key) for key in ("norms", "shares", "lens"))
    relative = _mean(results, "relative")
    rows: list[list[str | float]] = [
        [str(k) if k else "0 (the input)", *map(float, row), "" if k == 0 else float(relative[k - 1])]
        for k, row in enumerate(zip(*columns, strict=True))
    ]
    return [
        Table(
            "Root mean square of the stream before training, after so many layers",
            ("stream", *map(str, shown)),
            by_depth,
        ),
        Table("What one sublayer makes of x", ("stream", "x becomes"), [(kind, STREAMS[kind][0]) for kind in STREAMS]),
        Table(
            "The stream of a trained net, mean over the seeds",
            ("after block", "|x|", "share of this term", "accuracy of the head", "|F| / |x|"),
            rows,
        ),
    ]


def draw(results: Results, figure: Any) -> None:
    """Growth above; shares and lens below."""
    figure.set_size_inches(10, 8.6)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    _draw_growth(top.subplots(), results)
    share, accuracy = bottom.subplots(1, 2)
    block = np.arange(len(results[0]["shares"]))
    values = _mean(results, "shares")
    share.bar(block[:1], values[:1], 0.75, color=GREY, hatch="///", edgecolor="w", label="the input, x_0")
    share.bar(block[1:], values[1:], 0.75, color=ORANGE, label="a block's F")
    for r in results:
        share.plot(block, r["shares"], "k.", ms=3.5, label="one seed" if r is results[0] else None)
    share.axhline(1 / (len(block) - 1), color="black", lw=1.2, ls="--", label="1/L for each block")
    share.set(title="Whose is the final stream? (trained)", xlabel="block (0: the input)", ylabel="share along x_L")
    share.legend(frameon=False, loc="upper right")
    plain(share)
    accuracy.plot(block, _mean(results, "lens"), color=BLUE, marker="o", ms=4.5, lw=1.4)
    accuracy.set(title="What does it know already? (trained)", xlabel="read after block", ylim=(0, 1.03))
    accuracy.set_ylabel("test accuracy of the head")
    plain(accuracy)


def _draw_growth(axes: Any, results: Results) -> None:
    for kind, (_, color, marker, line) in STREAMS.items():
        size = sizes(results, kind).mean(axis=0)
        every, label = max(1, len(size) // 8), f"{kind}: {size[-1]:.2g}"
        axes.plot(size, color=color, marker=marker, ls=line, lw=1.4, ms=5, markevery=every, label=label)
    axes.set(yscale="log", xlabel="layer", ylabel="root mean square of the stream")
    axes.set_ylim(0.08, 1e3)
    axes.set_title("How the stream grows, before training")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="at the last layer", alignment="left")
    plain(axes)


def alt(results: Results) -> str:
    """The figure in words."""
    ends = ", ".join(f"{kind} {sizes(results, kind).mean(axis=0)[-1]:.3g}" for kind in STREAMS)
    share, accuracy = _mean(results, "shares"), _mean(results, "lens")
    return (
        f"Three panels. Root mean square of the stream before training, from 1, after "
        f"{sizes(results, 'pre-norm').shape[1] - 1} layers: {ends}. Shares of the final stream of a trained net: "
        f"{share[0]:.3f} for the input, {share[1:].min():.3f} to {share[1:].max():.3f} for its {len(share) - 1} "
        f"blocks. Accuracy of the head when it reads the stream early: {accuracy[0]:.2f} before the first block, "
        f"{accuracy[len(accuracy) // 2]:.2f} half way, {accuracy[-1]:.2f} after the last."
    )


EXPERIMENT = Experiment(
    name="stream",
    title="How does the residual stream grow, and who writes it?",
    question="How does the stream grow with depth, what is each block's share of it, and when does it know the answer?",
    about=(
        "Growth: transformers of width 128, with attention and feed-forward sublayers of Xavier-normal weights, on "
        "random tokens, before any training. One sublayer adds as the table says; the root mean square of an element "
        "of the stream is measured after every layer. For attention residuals it is that of what the next sublayer "
        "reads, since there is no running sum. All of this holds at the start; training may align the branches, and "
        "then a norm can grow faster.\n\n"
        "Shares and lens: a pre-activation net of two-layer blocks, 32 features wide, trained on the shipped digits "
        "and looked at on the test images with running statistics. A term's share is its projection on the final "
        "stream, over the stream's squared norm, so that the shares of x_0 and of all blocks add up to 1. The lens "
        "asks the trained last norm and head after every block. It was trained for the last one alone, so a low "
        "accuracy early on does not say that the information is not there yet."
    ),
    measure=measure,
    judge=judge,
    tables=tables,
    draw=draw,
    alt=alt,
    ticks=lambda scale: len(STREAMS) + SCALE[scale]["epochs"],
    seeds={"smoke": 3, "full": 5},
    seconds={"smoke": 8, "full": 80},
)
