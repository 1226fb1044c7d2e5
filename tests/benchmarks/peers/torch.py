"""PyTorch, eager, in either memory layout."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.peers.base import Tape, version


class Torch(Tape):
    def __init__(self, channels_last: bool) -> None:
        self.channels_last = channels_last

    def versions(self) -> dict[str, str]:
        return {**version("torch"), "threads": str(torch.get_num_threads())}

    def build(self, item: Any, arrays: dict[str, Any], wanted: list[str]) -> Any:
        if item.model is None or item.model[0] != "mlp":
            return super().build(item, arrays, wanted)
        model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        weights = dict(model.named_parameters())
        model.load_state_dict({name: torch.tensor(arrays[name]) for name in weights})
        leaves = {name: self.leaf(arrays[name], False) for name in ("x", "labels")}
        return {**leaves, **weights}, lambda: model(leaves["x"])

    def leaf(self, array: Any, wanted: bool) -> Any:
        made = torch.tensor(array)
        if self.channels_last and made.ndim == 4:
            made = made.to(memory_format=torch.channels_last)
        return made.requires_grad_(wanted)

    def numpy(self, tensor: Any) -> Any:
        return tensor.detach().numpy()

    def backward(self, y: Any, gy: Any) -> None:
        y.backward(gy)

    def gradient(self, leaf: Any) -> Any:
        return leaf.grad.numpy()

    def sgd(self, weights: list[Any], lr: float, momentum: float) -> Any:
        return torch.optim.SGD(weights, lr=lr, momentum=momentum).step

    def at_rest(self, f: Any) -> Any:
        with torch.no_grad():
            return f()

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        return F.conv2d(x, w, None, stride, padding, 1, groups)

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        return F.batch_norm(x, mean, var, w, b, self.training)

    def relu(self, x: Any) -> Any:
        return F.relu(x)

    def tanh(self, x: Any) -> Any:
        return torch.tanh(x)

    def shortcut(self, x: Any, channels: int, stride: int) -> Any:
        more = (channels - x.shape[1]) // 2
        return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more, more))

    def global_average(self, x: Any) -> Any:
        return x.mean((2, 3))

    def max_pool(self, x: Any) -> Any:
        return F.max_pool2d(x, 2)

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return F.linear(x, w, b)

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return F.cross_entropy(x, labels)

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        return F.layer_norm(x, w.shape, w, b)

    def gelu(self, x: Any) -> Any:
        return F.gelu(x)

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v)

    def transpose(self, x: Any, axes: tuple[int, ...]) -> Any:
        return x.permute(axes)


def make(threads: int, variant: str) -> Torch:
    torch.set_num_threads(threads)
    return Torch(variant == "channels-last")
