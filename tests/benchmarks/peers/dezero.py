"""DeZero, on NumPy below 1.24."""

from __future__ import annotations

from typing import Any

import dezero
from dezero import functions as F

from benchmarks.peers.base import Missing, Tape, version


class DeZero(Tape):
    def versions(self) -> dict[str, str]:
        return version("dezero", "numpy")

    def leaf(self, array: Any, wanted: bool) -> Any:
        return dezero.Parameter(array.copy()) if wanted else array.copy()

    def numpy(self, tensor: Any) -> Any:
        return tensor.data

    def backward(self, y: Any, gy: Any) -> None:
        if gy is not None:
            y.grad = dezero.Variable(gy)
        y.backward()

    def gradient(self, leaf: Any) -> Any:
        return leaf.grad.data

    def sgd(self, weights: list[Any], lr: float, momentum: float) -> Any:
        kinds = dezero.optimizers
        rule = kinds.MomentumSGD(lr, momentum) if momentum else kinds.SGD(lr)

        def move() -> None:
            for weight in weights:
                rule.update_one(weight)

        return move

    def at_rest(self, f: Any) -> Any:
        with dezero.no_grad(), dezero.test_mode():
            return f()

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        if groups > 1:
            raise Missing("has no grouped convolution")
        return F.conv2d(x, w, None, stride, padding)

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        return F.batch_nrom(x, w, b, mean, var, decay=0.9, eps=1e-5)

    def relu(self, x: Any) -> Any:
        return F.relu(x)

    def tanh(self, x: Any) -> Any:
        return F.tanh(x)

    def shortcut(self, x: Any, channels: int, stride: int) -> Any:
        raise Missing("has neither padding nor concatenation")

    def global_average(self, x: Any) -> Any:
        return F.reshape(F.average_pooling(x, x.shape[2:], x.shape[2:]), x.shape[:2])

    def max_pool(self, x: Any) -> Any:
        return F.pooling(x, 2, 2)

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return F.linear(x, F.transpose(w), b)

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return F.softmax_cross_entropy(x, labels)


def make(threads: int, variant: str) -> DeZero:
    return DeZero()
