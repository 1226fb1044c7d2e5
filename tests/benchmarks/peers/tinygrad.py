"""tinygrad on the CPU, every call replayed by TinyJit. It compiles with clang, which must be on the path."""

from __future__ import annotations

import os
from typing import Any

from tinygrad import Context, Device, Tensor, TinyJit, nn

from benchmarks.peers.base import Functional, version


class Tinygrad(Functional):
    warmups = 3  # TinyJit runs a first call as it stands, captures the second, and replays from the third on

    def versions(self) -> dict[str, str]:
        return {**version("tinygrad"), "device": Device.DEFAULT}

    def prepare(self, item: Any, arrays: dict[str, Any]) -> Any:
        job = super().prepare(item, arrays)
        job.warmups = self.warmups
        return job

    def put(self, array: Any) -> Any:
        return Tensor(array).contiguous().realize()

    def numpy(self, array: Any) -> Any:
        return array.numpy()

    def _replayed(self, f: Any) -> Any:
        """f, whose tensors are computed, with the running statistics that it moved."""

        def traced() -> Any:
            self.moved: list[Any] = []
            found = f()
            Tensor.realize(*found, *self.moved)
            return found

        made = TinyJit(traced)

        def call() -> Any:
            with Context(TRAINING=int(self.training)):
                found = made()
            Device[Device.DEFAULT].synchronize()
            return found

        return call

    def forward(self, f: Any, held: Any, fixed: Any) -> Any:
        call = self._replayed(lambda: [f(held, fixed)])
        return lambda: call()[0]

    def both(self, f: Any, held: Any, fixed: Any) -> Any:
        def value_and_gradients() -> Any:
            y = f(held, fixed)
            return [y, *y.gradient(*held.values(), gradient=fixed.get("gy"))]

        call = self._replayed(value_and_gradients)

        def named() -> Any:
            y, *gradients = call()
            return y, {name: gradients[i] for i, name in enumerate(held)}

        return named

    def step(self, loss: Any, state: dict[str, Any], fixed: Any, lr: float, momentum: float) -> Any:
        weights = state["weights"]
        for weight in weights.values():
            weight.is_param_()
        optimizer = nn.optim.SGD(list(weights.values()), lr=lr, momentum=momentum)

        def stepped() -> Any:
            optimizer.zero_grad()
            value = loss(weights, fixed)
            value.backward()
            return [value, *optimizer.schedule_step()]

        call = self._replayed(stepped)
        return lambda: call()[0]

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        return x.conv2d(w, None, groups, stride, 1, padding)

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        if self.training:
            m = x.numel() // x.shape[1]
            moving = mean, var
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            unbiased = var.detach() * (m / (m - 1))
            self.moved += [moving[0].assign(0.9 * moving[0] + 0.1 * mean.detach())]
            self.moved += [moving[1].assign(0.9 * moving[1] + 0.1 * unbiased)]
        return x.batchnorm(w, b, mean, (var + 1e-5).rsqrt())

    def relu(self, x: Any) -> Any:
        return x.relu()

    def tanh(self, x: Any) -> Any:
        return x.tanh()

    def shortcut(self, x: Any, channels: int, stride: int) -> Any:
        more = (channels - x.shape[1]) // 2
        return x[:, :, ::stride, ::stride].pad(((0, 0), (more, more), (0, 0), (0, 0)))

    def global_average(self, x: Any) -> Any:
        return x.mean((2, 3))

    def max_pool(self, x: Any) -> Any:
        return x.max_pool2d(2)

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return x.linear(w.T, b)

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return x.sparse_categorical_crossentropy(labels)

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        return x.layernorm(eps=1e-5) * w + b

    def gelu(self, x: Any) -> Any:
        return 0.5 * x * (1 + (x * 2**-0.5).erf())

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        return q.scaled_dot_product_attention(k, v)

    def transpose(self, x: Any, axes: tuple[int, ...]) -> Any:
        return x.permute(*axes)


def make(threads: int, variant: str) -> Tinygrad:
    os.environ.setdefault("CPU_COUNT", str(threads))
    Tensor([1.0]).add(1).realize()  # a missing compiler shows here
    return Tinygrad()
