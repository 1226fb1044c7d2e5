"""Chainer 7, on NumPy. It needs Python 3.9 and NumPy below 1.24."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import chainer
from chainer import functions as F

from benchmarks.peers.base import Missing, Tape, version


class Chainer(Tape):
    def versions(self) -> dict[str, str]:
        return version("chainer", "numpy")

    def leaf(self, array: Any, wanted: bool) -> Any:
        return chainer.Parameter(array.copy()) if wanted else array.copy()

    def numpy(self, tensor: Any) -> Any:
        return tensor.array

    def backward(self, y: Any, gy: Any) -> None:
        if gy is not None:
            y.grad = gy
        y.backward()

    def gradient(self, leaf: Any) -> Any:
        return leaf.grad

    def sgd(self, weights: list[Any], lr: float, momentum: float) -> Any:
        rule = chainer.optimizers.MomentumSGD(lr, momentum) if momentum else chainer.optimizers.SGD(lr)
        link = chainer.Link()
        with link.init_scope():
            for i, weight in enumerate(weights):
                setattr(link, f"w{i}", weight)
        return rule.setup(link).update

    def at_rest(self, f: Any) -> Any:
        with chainer.using_config("train", False), chainer.no_backprop_mode():
            return f()

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        return F.convolution_2d(x, w, stride=stride, pad=padding, groups=groups)

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        if not self.training:
            return F.fixed_batch_normalization(x, w, b, mean, var, eps=1e-5)
        return F.batch_normalization(x, w, b, eps=1e-5, running_mean=mean, running_var=var, decay=0.9)

    def relu(self, x: Any) -> Any:
        return F.relu(x)

    def tanh(self, x: Any) -> Any:
        return F.tanh(x)

    def add(self, x: Any, f: Any) -> Any:
        return x + f if x.shape == f.shape else x + F.broadcast_to(f, x.shape)

    def shortcut(self, x: Any, channels: int, stride: int) -> Any:
        more = (channels - x.shape[1]) // 2
        return F.pad(x[:, :, ::stride, ::stride], ((0, 0), (more, more), (0, 0), (0, 0)), "constant")

    def global_average(self, x: Any) -> Any:
        return F.mean(x, axis=(2, 3))

    def max_pool(self, x: Any) -> Any:
        return F.max_pooling_2d(x, 2)

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return F.linear(x, w, b, n_batch_axes=x.ndim - 1)

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return F.softmax_cross_entropy(x, labels)

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        n, t, d = x.shape
        return F.layer_normalization(x.reshape(n * t, d), w, b, eps=1e-5).reshape(n, t, d)

    def gelu(self, x: Any) -> Any:
        if find_spec("scipy") is None:
            raise Missing("computes erf by SciPy, which is not installed beside it")
        return 0.5 * x * (1 + F.erf(x * 2**-0.5))

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        scores = F.matmul(q * q.shape[-1] ** -0.5, k, transb=True)
        return F.matmul(F.softmax(scores, axis=3), v)


def make(threads: int, variant: str) -> Chainer:
    return Chainer()
