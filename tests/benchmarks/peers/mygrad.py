"""MyGrad, on NumPy, in its faster mode: without its guard against writes to arrays in the graph."""

from __future__ import annotations

from typing import Any

import mygrad
import numpy as np
from mygrad import nnet

from benchmarks.peers.base import Missing, Tape, version


class MyGrad(Tape):
    def versions(self) -> dict[str, str]:
        return version("mygrad", "numpy")

    def leaf(self, array: Any, wanted: bool) -> Any:
        return mygrad.tensor(array, constant=False) if wanted else array.copy()

    def numpy(self, tensor: Any) -> Any:
        return tensor.data

    def backward(self, y: Any, gy: Any) -> None:
        y.backward(gy)

    def gradient(self, leaf: Any) -> Any:
        return leaf.grad

    def clear(self, leaves: list[Any]) -> None:
        for leaf in leaves:
            leaf.null_grad()

    def sgd(self, weights: list[Any], lr: float, momentum: float) -> Any:
        buffers = [np.zeros_like(weight.data) for weight in weights]

        def move() -> None:
            for i, weight in enumerate(weights):
                if momentum:
                    buffers[i] *= momentum
                    buffers[i] += weight.grad
                    weight.data[...] -= lr * buffers[i]
                else:
                    weight.data[...] -= lr * weight.grad

        return move

    def at_rest(self, f: Any) -> Any:
        with mygrad.no_autodiff:
            return f()

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        if groups > 1:
            raise Missing("has no grouped convolution")
        if any((size + 2 * padding - k) % stride for size, k in ((x.shape[i], w.shape[i]) for i in (2, 3))):
            raise Missing("has no strided convolution of these sizes: a stride must reach the padded edge exactly")
        return nnet.conv_nd(x, w, stride=stride, padding=padding)

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        if not self.training:
            raise Missing("has no batch norm at rest")
        return nnet.batchnorm(x, gamma=w, beta=b, eps=1e-5)

    def relu(self, x: Any) -> Any:
        return nnet.relu(x)

    def tanh(self, x: Any) -> Any:
        return mygrad.tanh(x)

    def shortcut(self, x: Any, channels: int, stride: int) -> Any:
        x = x[:, :, ::stride, ::stride]
        more = np.zeros((x.shape[0], (channels - x.shape[1]) // 2, *x.shape[2:]), np.float32)
        return mygrad.concatenate([more, x, more], axis=1)

    def global_average(self, x: Any) -> Any:
        return mygrad.mean(x, axis=(2, 3))

    def max_pool(self, x: Any) -> Any:
        return nnet.max_pool(x, (2, 2), 2)

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return mygrad.matmul(x, w.T) + b

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return nnet.softmax_crossentropy(x, labels)

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        centered = x - mygrad.mean(x, axis=-1, keepdims=True)
        return centered / mygrad.sqrt(mygrad.mean(centered**2, axis=-1, keepdims=True) + 1e-5) * w + b

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        scores = mygrad.matmul(q * q.shape[-1] ** -0.5, mygrad.transpose(k, (0, 1, 3, 2)))
        return mygrad.matmul(nnet.softmax(scores, axis=-1), v)


def make(threads: int, variant: str) -> MyGrad:
    mygrad.turn_memory_guarding_off()
    return MyGrad()
