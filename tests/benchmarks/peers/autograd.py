"""HIPS autograd, on NumPy. What it has of no own is composed, as its examples do."""

from __future__ import annotations

from typing import Any

import autograd
from autograd import numpy as np
from autograd.core import make_vjp
from autograd.tracer import getval

from benchmarks.peers.base import Functional, Missing, version


class Autograd(Functional):
    def versions(self) -> dict[str, str]:
        return version("autograd", "numpy")

    def forward(self, f: Any, held: Any, fixed: Any) -> Any:
        if not self.training:
            return lambda: f(held, fixed)
        return lambda: make_vjp(lambda h: f(h, fixed), held)[1]

    def both(self, f: Any, held: Any, fixed: Any) -> Any:
        def call() -> Any:
            pull, y = make_vjp(lambda h: f(h, fixed), held)
            return y, pull(fixed.get("gy", 1.0))

        return call

    def step(self, loss: Any, state: dict[str, Any], fixed: Any, lr: float, momentum: float) -> Any:
        value_and_gradients = autograd.value_and_grad(lambda h: loss(h, fixed))
        buffers = {n: np.zeros_like(w) for n, w in state["weights"].items()}

        def step() -> Any:
            value, g = value_and_gradients(state["weights"])
            moves = g
            if momentum:
                moves = {n: momentum * buffers[n] + g[n] for n in g}
                buffers.update(moves)
            state["weights"] = {n: w - lr * moves[n] for n, w in state["weights"].items()}
            return value

        return step

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        from autograd.scipy.signal import convolve

        if groups > 1:
            raise Missing("has no grouped convolution")
        if stride > 1:
            raise Missing("has no strided convolution")
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), "constant")
        return convolve(x, w[:, :, ::-1, ::-1], axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        if self.training:
            m = x.size // x.shape[1]
            moving, spread = (mean, var), np.var(x, axis=(0, 2, 3))
            mean, var = np.mean(x, axis=(0, 2, 3)), spread
            for old, new in ((moving[0], getval(mean)), (moving[1], getval(spread) * (m / (m - 1)))):
                old *= 0.9
                old += 0.1 * getval(new)
        scale = w / np.sqrt(var + 1e-5)
        return (x - mean[:, None, None]) * scale[:, None, None] + b[:, None, None]

    def relu(self, x: Any) -> Any:
        return np.maximum(x, 0)

    def tanh(self, x: Any) -> Any:
        return np.tanh(x)

    def shortcut(self, x: Any, channels: int, stride: int) -> Any:
        more = (channels - x.shape[1]) // 2
        return np.pad(x[:, :, ::stride, ::stride], ((0, 0), (more, more), (0, 0), (0, 0)), "constant")

    def global_average(self, x: Any) -> Any:
        return np.mean(x, axis=(2, 3))

    def max_pool(self, x: Any) -> Any:
        n, c, h, w = x.shape
        return np.max(x.reshape(n, c, h // 2, 2, w // 2, 2), axis=(3, 5))

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return np.dot(x, w.T) + b

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        shifted = x - np.max(getval(x), axis=1, keepdims=True)
        rows = np.arange(x.shape[0])
        return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - shifted[rows, labels])

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        centered = x - np.mean(x, axis=-1, keepdims=True)
        return centered / np.sqrt(np.mean(centered**2, axis=-1, keepdims=True) + 1e-5) * w + b

    def gelu(self, x: Any) -> Any:
        from autograd.scipy.special import erf

        return 0.5 * x * (1 + erf(x * 2**-0.5))

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        scores = np.matmul(q * q.shape[-1] ** -0.5, np.swapaxes(k, -1, -2))
        weights = np.exp(scores - np.max(getval(scores), axis=-1, keepdims=True))
        return np.matmul(weights / np.sum(weights, axis=-1, keepdims=True), v)

    def transpose(self, x: Any, axes: tuple[int, ...]) -> Any:
        return np.transpose(x, axes)


def make(threads: int, variant: str) -> Autograd:
    return Autograd()
