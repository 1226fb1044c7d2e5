"""The work that is compared: each item's arrays, and its formula in the words of `peers.base.Peer`.

Written once for all frameworks, so that all compute the same. Names of weights are those of state_dicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

CLASSES = 10
Arrays = dict[str, Any]  # name: array, or a framework's tensor


@dataclass(frozen=True)
class Item:
    """One piece of work.

    Attributes
        kind       "forward": y; "both": y and the gradient of every array that is not constant, from a cotangent
                   "gy" (a scalar y: from 1); "step": one step of SGD on the mean cross-entropy with "labels";
                   "inference": y at rest, with nothing recorded
        arrays     makes weights and inputs by name, always the same ones
        formula    (peer, tensors by name) -> y
        constants  names without a gradient
        calls      how often one timed repetition does it: small work is lost in the clock's noise
        images     whether a memory layout of images can matter
        memory     whether the peak memory is of interest
        batch      examples, where examples a second are of interest
        model      what a framework may build of its own layers instead: a name, and options
    """

    name: str
    group: str
    kind: str
    what: str
    arrays: Callable[[], Arrays]
    formula: Callable[[Any, Arrays], Any]
    constants: tuple[str, ...] = ()
    calls: int = 1
    images: bool = False
    memory: bool = False
    batch: int = 0
    model: tuple[str, dict[str, Any]] | None = None
    lr: float = 0.01
    momentum: float = 0.9

    def wanted(self, arrays: Arrays) -> list[str]:
        """Names of the arrays that carry a gradient."""
        fixed = {"gy", "labels", *self.constants}
        return [name for name in arrays if name not in fixed and ".running_" not in name]


# --- arrays -----------------------------------------------------------------------------------------------------


class Draw:
    """Arrays of float32, one after the other from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.made: Arrays = {}

    def normal(self, name: str, *shape: int, scale: float = 1.0) -> Draw:
        self.made[name] = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        return self

    def labels(self, n: int, classes: int = CLASSES) -> Draw:
        self.made["labels"] = self.rng.integers(0, classes, n).astype(np.int64)
        return self

    def conv(self, name: str, o: int, i: int, k: int) -> Draw:
        return self.normal(f"{name}.weight", o, i, k, k, scale=(2 / (i * k * k)) ** 0.5)

    def linear(self, name: str, o: int, i: int) -> Draw:
        self.normal(f"{name}.weight", o, i, scale=i**-0.5)
        return self.normal(f"{name}.bias", o, scale=0.1)

    def norm(self, name: str, c: int, running: bool = True) -> Draw:
        self.made[f"{name}.weight"] = (1 + 0.1 * self.rng.standard_normal(c)).astype(np.float32)
        self.normal(f"{name}.bias", c, scale=0.1)
        if running:
            self.made[f"{name}.running_mean"] = np.zeros(c, np.float32)
            self.made[f"{name}.running_var"] = np.ones(c, np.float32)
        return self


def batch_norm(peer: Any, p: Arrays, name: str, x: Any) -> Any:
    parts = [p[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    return peer.batch_norm(x, *parts)


# --- residual blocks --------------------------------------------------------------------------------------------


def draw_block(batch: int, channels: int, size: int) -> Arrays:
    draw = Draw().normal("x", batch, channels, size, size).normal("gy", batch, channels, size, size)
    for i in ("1", "2"):
        draw.conv(f"conv{i}", channels, channels, 3).norm(f"bn{i}", channels)
    return draw.made


def residual_block(peer: Any, p: Arrays) -> Any:
    f = peer.relu(batch_norm(peer, p, "bn1", peer.conv(p["x"], p["conv1.weight"], padding=1)))
    f = batch_norm(peer, p, "bn2", peer.conv(f, p["conv2.weight"], padding=1))
    return peer.relu(peer.add(p["x"], f))


def preact_block(peer: Any, p: Arrays) -> Any:
    f = peer.conv(peer.relu(batch_norm(peer, p, "bn1", p["x"])), p["conv1.weight"], padding=1)
    f = peer.conv(peer.relu(batch_norm(peer, p, "bn2", f)), p["conv2.weight"], padding=1)
    return peer.add(p["x"], f)


# --- the CIFAR ResNet -------------------------------------------------------------------------------------------


def resnet_blocks(depth: int, width: int) -> list[tuple[str, int, int]]:
    """(name, channels, stride) of every block."""
    stages = [(f"layer{s + 1}.{i}", width << s, i) for s in range(3) for i in range((depth - 2) // 6)]
    return [(name, c, 2 if i == 0 and c > width else 1) for name, c, i in stages]


def draw_resnet(depth: int, width: int, batch: int) -> Arrays:
    draw = Draw().normal("x", batch, 3, 32, 32).labels(batch).conv("conv1", width, 3, 3).norm("bn1", width)
    for name, c, stride in resnet_blocks(depth, width):
        draw.conv(f"{name}.conv1", c, c // stride, 3).norm(f"{name}.bn1", c)
        draw.conv(f"{name}.conv2", c, c, 3).norm(f"{name}.bn2", c)
    return draw.linear("linear", CLASSES, 4 * width).made


def resnet(depth: int, width: int) -> Callable[[Any, Arrays], Any]:
    def formula(peer: Any, p: Arrays) -> Any:
        x = peer.relu(batch_norm(peer, p, "bn1", peer.conv(p["x"], p["conv1.weight"], padding=1)))  # (N, w, H, W)
        for name, c, stride in resnet_blocks(depth, width):
            f = peer.conv(x, p[f"{name}.conv1.weight"], stride=stride, padding=1)
            f = peer.relu(batch_norm(peer, p, f"{name}.bn1", f))
            f = batch_norm(peer, p, f"{name}.bn2", peer.conv(f, p[f"{name}.conv2.weight"], padding=1))
            x = peer.relu(peer.add(x if stride == 1 else peer.shortcut(x, c, stride), f))
        return peer.linear(peer.global_average(x), p["linear.weight"], p["linear.bias"])  # (N, classes)

    return formula


def resnet_item(depth: int, width: int = 16, batch: int = 128, kind: str = "step", name: str = "") -> Item:
    """A training step of, or inference with, a CIFAR ResNet; also for the sizes that are only scaled over."""
    doing = "training step, SGD with momentum" if kind == "step" else "inference"
    return Item(
        name or f"resnet{depth}-{kind}",
        "resnets",
        kind,
        f"ResNet-{depth} of width {width}, batch {batch} of 3x32x32, {doing}",
        lambda: draw_resnet(depth, width, batch),
        resnet(depth, width),
        ("x",),
        images=True,
        memory=True,
        batch=batch,
        model=("resnet", {"depth": depth, "width": width}),
    )


# --- the transformer --------------------------------------------------------------------------------------------


def draw_transformer(n: int, t: int, d: int) -> Arrays:
    draw = Draw().normal("x", n, t, d).normal("gy", n, t, d).norm("norm1", d, False).norm("norm2", d, False)
    draw.linear("in_proj", 3 * d, d).linear("out_proj", d, d)
    return draw.linear("linear1", 4 * d, d).linear("linear2", d, 4 * d).made


def transformer_block(peer: Any, p: Arrays, heads: int = 4) -> Any:
    def dense(name: str, x: Any) -> Any:
        return peer.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    h = peer.layer_norm(p["x"], p["norm1.weight"], p["norm1.bias"])
    h = peer.merge_heads(peer.attention(*peer.split_heads(dense("in_proj", h), heads)))  # (N, T, D)
    x = peer.add(p["x"], dense("out_proj", h))
    h = peer.layer_norm(x, p["norm2.weight"], p["norm2.bias"])
    return peer.add(x, dense("linear2", peer.gelu(dense("linear1", h))))


def draw_attention(n: int, heads: int, t: int, d: int) -> Arrays:
    draw = Draw()
    for name in ("q", "k", "v", "gy"):
        draw.normal(name, n, heads, t, d)
    return draw.made


# --- small work: what the tape itself costs -----------------------------------------------------------------------


def draw_mlp(batch: int) -> Arrays:
    return Draw().normal("x", batch, 64).labels(batch).linear("0", 64, 64).linear("2", CLASSES, 64).made


def mlp(peer: Any, p: Arrays) -> Any:
    h = peer.relu(peer.linear(p["x"], p["0.weight"], p["0.bias"]))
    return peer.linear(h, p["2.weight"], p["2.bias"])


def chain(peer: Any, p: Arrays) -> Any:
    x = p["x"]
    for _ in range(100):
        x = peer.tanh(x)
    return x


def diamonds(peer: Any, p: Arrays) -> Any:
    x = p["x"]
    for _ in range(50):
        x = peer.add(x, peer.tanh(x))
    return x


def broadcasts(peer: Any, p: Arrays) -> Any:
    x = p["x"]
    for _ in range(50):
        x = peer.add(peer.tanh(x), p["b"])
    return x


def _mlp_item(name: str, kind: str, doing: str) -> Item:
    return Item(
        name, "tape", kind, f"MLP 64-64-10, batch 32, {doing}", lambda: draw_mlp(32), mlp, ("x",), calls=50,
        batch=32, model=("mlp", {}), momentum=0.0,
    )  # fmt: skip


def _tape_item(name: str, what: str, formula: Callable[[Any, Arrays], Any], *parts: tuple[str, int]) -> Item:
    def arrays() -> Arrays:
        draw = Draw().normal("gy", 8, 32)
        for part, rows in parts:
            draw.normal(part, rows, 32) if rows else draw.normal(part, 32, scale=0.1)
        return draw.made

    return Item(name, "tape", "both", f"{what}, of (8, 32), forward and backward", arrays, formula, calls=10)


# --- single ops of the ResNet -------------------------------------------------------------------------------------


def _ops(batch: int = 128) -> list[Item]:
    """Every op alone, its forward pass and both passes."""
    found = []

    def add(name: str, what: str, formula: Any, draw: Callable[[], Draw], out: tuple[int, ...], **more: Any) -> None:
        arrays = (lambda: draw().normal("gy", *out).made) if out else (lambda: draw().made)
        for kind, doing in (("forward", "forward"), ("both", "forward and backward")):
            found.append(Item(f"{name}-{kind}", "ops", kind, f"{what}, {doing}", arrays, formula, **more))

    def conv(name: str, i: int, o: int, size: int, k: int = 3, stride: int = 1, groups: int = 1) -> None:
        def formula(peer: Any, p: Arrays) -> Any:
            return peer.conv(p["x"], p["w.weight"], stride=stride, padding=k // 2, groups=groups)

        kind = "depthwise " if groups > 1 else ""
        what = f"{kind}convolution {k}x{k}, {i} to {o} channels, {size}x{size}, stride {stride}, batch {batch}"
        out = (batch, o, size // stride, size // stride)
        draw = lambda: Draw().normal("x", batch, i, size, size).conv("w", o, i // groups, k)
        add(name, what, formula, draw, out, images=True)

    conv("conv3x3-16", 16, 16, 32)
    conv("conv3x3-32", 32, 32, 16)
    conv("conv3x3-64", 64, 64, 8)
    conv("conv3x3-stride2", 16, 32, 32, stride=2)
    conv("conv1x1", 64, 64, 16, k=1)
    conv("depthwise", 32, 32, 32, groups=32)
    image, pooled = (batch, 16, 32, 32), (batch, 16, 16, 16)
    where = f"16 channels, 32x32, batch {batch}"

    def one() -> Draw:
        return Draw().normal("x", *image)

    def normalized(peer: Any, p: Arrays) -> Any:
        return batch_norm(peer, p, "bn", p["x"])

    def dense(peer: Any, p: Arrays) -> Any:
        return peer.linear(p["x"], p["w.weight"], p["w.bias"])

    def loss(peer: Any, p: Arrays) -> Any:
        return peer.cross_entropy(p["x"], p["labels"])

    add("batch-norm", f"batch norm, {where}", normalized, lambda: one().norm("bn", 16), image, images=True)
    add("relu", f"ReLU, {where}", lambda peer, p: peer.relu(p["x"]), one, image, images=True)
    two = lambda: one().normal("f", *image)
    add("residual-add", f"x + f, {where}", lambda peer, p: peer.add(p["x"], p["f"]), two, image, images=True)
    add("max-pool", f"max pool 2x2, {where}", lambda peer, p: peer.max_pool(p["x"]), one, pooled, images=True)
    last = lambda: Draw().normal("x", batch, 64, 8, 8)
    average = lambda peer, p: peer.global_average(p["x"])
    what = f"global average pool, 64 channels, 8x8, batch {batch}"
    add("global-average", what, average, last, (batch, 64), calls=5, images=True)
    rows = lambda: Draw().normal("x", batch, 64).linear("w", CLASSES, 64)
    add("linear", f"linear, 64 to {CLASSES}, batch {batch}", dense, rows, (batch, CLASSES), calls=20)
    logits = lambda: Draw().normal("x", batch, CLASSES).labels(batch)
    add("cross-entropy", f"cross-entropy, {CLASSES} classes, batch {batch}", loss, logits, (), calls=20)
    return found


# --- all --------------------------------------------------------------------------------------------------------


def _all() -> dict[str, Item]:
    blocks = [
        Item(
            name, "blocks", "both", f"{what}, batch 64 of 16x32x32, forward and backward",
            lambda: draw_block(64, 16, 32), formula, images=True, memory=True, batch=64, model=(name, {"channels": 16}),
        )
        for name, what, formula in (
            ("residual-block", "conv-BN-ReLU-conv-BN-add-ReLU", residual_block),
            ("preact-block", "BN-ReLU-conv-BN-ReLU-conv-add", preact_block),
        )
    ]  # fmt: skip
    resnets = [resnet_item(depth) for depth in (8, 20, 56)]
    resnets.append(resnet_item(20, kind="inference"))
    transformers = [
        Item(
            "transformer-block", "transformers", "both",
            "pre-norm block, d 256, T 128, 4 heads, GELU, batch 16, forward and backward",
            lambda: draw_transformer(16, 128, 256), transformer_block, memory=True, batch=16,
        ),
        Item(
            "attention", "transformers", "both",
            "softmax(q kT / sqrt(d)) v, T 128, 4 heads of 64, batch 16, forward and backward",
            lambda: draw_attention(16, 4, 128, 64), lambda peer, p: peer.attention(p["q"], p["k"], p["v"]),
            memory=True, batch=16,
        ),
    ]  # fmt: skip
    tape = [
        _mlp_item("mlp-step", "step", "training step, SGD"),
        _mlp_item("mlp-inference", "inference", "inference"),
        _tape_item("chain", "100 tanh, one after the other", chain, ("x", 8)),
        _tape_item("diamonds", "50 times x + tanh(x)", diamonds, ("x", 8)),
        _tape_item("broadcasts", "50 times tanh(x) + b, b of (32,)", broadcasts, ("x", 8), ("b", 0)),
    ]
    return {item.name: item for item in (*blocks, *resnets, *transformers, *tape, *_ops())}


ITEMS = _all()
GROUPS = tuple(dict.fromkeys(item.group for item in ITEMS.values()))
