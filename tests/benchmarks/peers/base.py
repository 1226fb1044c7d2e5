"""What a framework must offer to be compared: the primitives of `items`, and how it differentiates.

A framework with a tape (`Tape`) makes leaves, calls backward and reads gradients. One that differentiates functions
(`Functional`) hands back the function that a repetition calls.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from benchmarks.digest import digest

STEPS = 3  # of training, observed: momentum shows in the second, and its decay in the third


class Missing(Exception):
    """The framework does not offer what an item needs."""


class Job:
    """Prepared work: `call()` is what is timed, `observe()` does it once and tells digests of what came out.

    `warmups` calls go before the first that is timed, beside what is observed.
    """

    warmups = 1

    def __init__(self, call: Callable[[], Any], observe: Callable[[], dict[str, Any]]) -> None:
        self.call = call
        self._observe = observe

    def observe(self) -> dict[str, list[float]]:
        return {name: digest(array) for name, array in self._observe().items()}


class Peer:
    """The primitives, in torch's conventions: (N, C, H, W), weights (O, C / groups, KH, KW) and (O, I)."""

    training = True

    def prepare(self, item: Any, arrays: dict[str, Any]) -> Job:
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        raise NotImplementedError

    def _lacks(self, what: str) -> Any:
        raise Missing(f"has no {what}")

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        return self._lacks("convolution")

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        """With the batch's statistics, moving mean and var by 0.1, in training; with mean and var at rest."""
        return self._lacks("batch norm")

    def relu(self, x: Any) -> Any:
        return self._lacks("ReLU")

    def tanh(self, x: Any) -> Any:
        return self._lacks("tanh")

    def add(self, x: Any, f: Any) -> Any:
        return x + f

    def shortcut(self, x: Any, channels: int, stride: int) -> Any:
        """Every stride-th pixel, and as many channels of zeros on either side."""
        return self._lacks("padding")

    def global_average(self, x: Any) -> Any:
        return self._lacks("mean over pixels")

    def max_pool(self, x: Any) -> Any:
        """2x2, stride 2."""
        return self._lacks("max pooling")

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return self._lacks("linear layer")

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return self._lacks("cross-entropy")

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        return self._lacks("layer norm")

    def gelu(self, x: Any) -> Any:
        return self._lacks("exact GELU")

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        """(N, H, T, D) each."""
        return self._lacks("attention")

    def split_heads(self, x: Any, heads: int) -> Any:
        """q, k, v: (N, H, T, D) each, of (N, T, 3 H D)."""
        n, t, d = x.shape
        parts = self.transpose(x.reshape(n, t, 3, heads, d // (3 * heads)), (2, 0, 3, 1, 4))  # (3, N, H, T, D)
        return parts[0], parts[1], parts[2]

    def merge_heads(self, x: Any) -> Any:
        """(N, T, H D) of (N, H, T, D)."""
        n, h, t, d = x.shape
        return self.transpose(x, (0, 2, 1, 3)).reshape(n, t, h * d)

    def transpose(self, x: Any, axes: tuple[int, ...]) -> Any:
        return x.transpose(*axes)


class Tape(Peer):
    """Leaves, a formula that is recorded, and backward."""

    def prepare(self, item: Any, arrays: dict[str, Any]) -> Job:
        self.training = item.kind != "inference"
        wanted = item.wanted(arrays) if self.training else []
        leaves, f = self.build(item, arrays, wanted)
        make = {"forward": self._forward, "both": self._both, "step": self._step, "inference": self._forward}
        return make[item.kind](item, arrays, leaves, wanted, f)

    def build(self, item: Any, arrays: dict[str, Any], wanted: list[str]) -> tuple[dict[str, Any], Callable[[], Any]]:
        """(tensors by name, formula of them). A framework may use layers of its own where `item.model` names them."""
        leaves = {name: self.leaf(array, name in wanted) for name, array in arrays.items()}
        return leaves, lambda: item.formula(self, leaves)

    def _forward(self, item: Any, arrays: Any, leaves: Any, wanted: Any, f: Callable[[], Any]) -> Job:
        call = (lambda: self.finish(f())) if self.training else (lambda: self.finish(self.at_rest(f)))
        return Job(call, lambda: {"y": self.numpy(call())})

    def _both(self, item: Any, arrays: Any, leaves: Any, wanted: Any, f: Callable[[], Any]) -> Job:
        inputs = [leaves[name] for name in wanted]

        def call() -> Any:
            self.clear(inputs)
            y = f()
            self.backward(y, leaves.get("gy"))
            return self.finish(y, inputs)

        def observe() -> dict[str, Any]:
            seen = {"y": self.numpy(call())}
            return {**seen, **{f"gradient of {name}": self.gradient(leaves[name]) for name in wanted}}

        return Job(call, observe)

    def _step(self, item: Any, arrays: Any, leaves: Any, wanted: Any, f: Callable[[], Any]) -> Job:
        names, labels = wanted, leaves["labels"]
        weights = [leaves[name] for name in names]
        move = self.sgd(weights, item.lr, item.momentum)

        def call() -> Any:
            self.clear(weights)
            loss = self.cross_entropy(f(), labels)
            self.backward(loss, None)
            move()
            return self.finish(loss, weights)

        def observe() -> dict[str, Any]:
            seen = {f"loss {i + 1}": self.numpy(call()) for i in range(STEPS)}
            return {**seen, **{f"change of {n}": self.numpy(leaves[n]) - arrays[n] for n in names}}

        return Job(call, observe)

    # --- what a framework with a tape offers

    def leaf(self, array: Any, wanted: bool) -> Any:
        """A tensor with a copy of the array."""
        raise NotImplementedError

    def numpy(self, tensor: Any) -> Any:
        raise NotImplementedError

    def backward(self, y: Any, gy: Any) -> None:
        """From the cotangent gy, a leaf, or from 1 where there is none."""
        raise NotImplementedError

    def gradient(self, leaf: Any) -> Any:
        """As a NumPy array."""
        raise NotImplementedError

    def clear(self, leaves: list[Any]) -> None:
        """Forgets their gradients."""
        for leaf in leaves:
            leaf.grad = None

    def sgd(self, weights: list[Any], lr: float, momentum: float) -> Callable[[], Any]:
        """The function that moves the weights once along their gradients."""
        raise NotImplementedError

    def at_rest(self, f: Callable[[], Any]) -> Any:
        """f() with nothing recorded."""
        return f()

    def finish(self, y: Any, others: Any = ()) -> Any:
        """Waits until y, and whatever a call changed, is computed."""
        return y


class Functional(Peer):
    """Functions of a dict of arrays, and transforms of them."""

    def prepare(self, item: Any, arrays: dict[str, Any]) -> Job:
        self.training = item.kind != "inference"
        wanted = item.wanted(arrays)
        p = {name: self.put(array) for name, array in arrays.items()}
        held = {name: p[name] for name in wanted}
        fixed = {name: p[name] for name in p if name not in held}
        if item.kind == "step":
            return self._step(item, arrays, held, fixed)
        if item.kind == "both":
            call = self.both(lambda h, c: item.formula(self, {**c, **h}), held, fixed)
            return Job(call, lambda: self._outcome(*call()))
        call = self.forward(lambda h, c: item.formula(self, {**c, **h}), held, fixed)
        return Job(call, lambda: {"y": self.numpy(call())})

    def _outcome(self, y: Any, gradients: dict[str, Any]) -> dict[str, Any]:
        seen = {"y": self.numpy(y)}
        return {**seen, **{f"gradient of {name}": self.numpy(g) for name, g in gradients.items()}}

    def _step(self, item: Any, arrays: dict[str, Any], weights: Any, fixed: Any) -> Job:
        def loss(h: Any, c: Any) -> Any:
            return self.cross_entropy(item.formula(self, {**c, **h}), c["labels"])

        state = {"weights": weights}
        step = self.step(loss, state, fixed, item.lr, item.momentum)

        def observe() -> dict[str, Any]:
            seen = {f"loss {i + 1}": self.numpy(step()) for i in range(STEPS)}
            return {**seen, **{f"change of {n}": self.numpy(w) - arrays[n] for n, w in state["weights"].items()}}

        return Job(step, observe)

    # --- what a framework of functions offers

    def put(self, array: Any) -> Any:
        return array

    def numpy(self, array: Any) -> Any:
        return array

    def forward(self, f: Any, held: Any, fixed: Any) -> Callable[[], Any]:
        """The function that computes f(held, fixed)."""
        raise NotImplementedError

    def both(self, f: Any, held: Any, fixed: Any) -> Callable[[], Any]:
        """The function that computes f(held, fixed) and its gradients, from fixed["gy"] or from 1."""
        raise NotImplementedError

    def step(self, loss: Any, state: dict[str, Any], fixed: Any, lr: float, momentum: float) -> Callable[[], Any]:
        """The function that moves state["weights"] once and gives the loss before."""
        raise NotImplementedError


def version(*names: str) -> dict[str, str]:
    """Versions of installed distributions."""
    return {name: metadata.version(name) for name in names}
