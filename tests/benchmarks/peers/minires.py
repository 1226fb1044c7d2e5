"""minires itself: its kernels, or by the environment its NumPy kernels or its formulas alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.base import Tape, version
from minires import bench, models, nn, optim
from minires import functional as F
from minires.engine import Tensor
from minires.switches import kernels_at_any_size, no_grad


class Minires(Tape):
    def versions(self) -> dict[str, str]:
        return {"minires": bench.version(), **version("numpy"), "kernels": bench.active_kernels()}

    def build(self, item: Any, arrays: dict[str, Any], wanted: list[str]) -> Any:
        model = None if item.model is None else self._model(*item.model)
        if model is None:
            return super().build(item, arrays, wanted)
        kept = model.state_dict()
        model.load_state_dict({name: arrays.get(name, np.zeros((), np.int64)) for name in kept})
        model.train(self.training)
        leaves = {name: self.leaf(array, name in wanted) for name, array in arrays.items() if name not in kept}
        return {**leaves, **dict(model.named_parameters())}, lambda: model(leaves["x"])

    def _model(self, name: str, options: dict[str, Any]) -> Any:
        """What a user would build, where minires has it."""
        if name == "resnet":
            return models.create(f"resnet{options['depth']}", width=options["width"])
        if name == "residual-block":
            return models.ResidualBlock(options["channels"], options["channels"], 1, "A")
        if name == "mlp":
            return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        return None

    def leaf(self, array: Any, wanted: bool) -> Any:
        return Tensor(array.copy(), requires_grad=wanted)

    def numpy(self, tensor: Any) -> Any:
        return tensor.numpy()

    def backward(self, y: Any, gy: Any) -> None:
        y.backward(gy)

    def gradient(self, leaf: Any) -> Any:
        return leaf.grad

    def sgd(self, weights: list[Any], lr: float, momentum: float) -> Any:
        return optim.SGD(weights, lr=lr, momentum=momentum).step

    def at_rest(self, f: Any) -> Any:
        with no_grad():
            return f()

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        return F.conv2d(x, w, None, stride, padding, groups=groups)

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        return F.batch_norm(x, mean, var, w, b, self.training)

    def relu(self, x: Any) -> Any:
        return F.relu(x)

    def tanh(self, x: Any) -> Any:
        return F.tanh(x)

    def add(self, x: Any, f: Any) -> Any:
        return F.residual_add(x, f) if x.shape == f.shape else x + f

    def global_average(self, x: Any) -> Any:
        return F.mean(x, dim=(2, 3))

    def max_pool(self, x: Any) -> Any:
        return F.max_pool2d(x, 2)

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return F.linear(x, w, b)

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return F.cross_entropy(x, labels.data)

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        return F.layer_norm(x, w.shape, w, b)

    def gelu(self, x: Any) -> Any:
        return F.gelu(x)

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v)

    def split_heads(self, x: Any, heads: int) -> Any:
        n, t, d = x.shape
        parts = F.chunk(x, 3, dim=-1)
        return [F.transpose(F.reshape(part, (n, t, heads, d // (3 * heads))), 1, 2) for part in parts]

    def merge_heads(self, x: Any) -> Any:
        n, h, t, d = x.shape
        return F.reshape(F.transpose(x, 1, 2), (n, t, h * d))


def make(threads: int, variant: str) -> Minires:
    with kernels_at_any_size():  # compiles what there is to compile, as JAX does before its memory is measured
        F.sum(models.ResidualBlock(2, 2, 1, "A")(np.ones((2, 2, 4, 4), np.float32))).backward()
    return Minires()
