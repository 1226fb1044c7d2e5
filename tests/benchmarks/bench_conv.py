"""The convolutions of ResNet-20 on a batch of 128: plain formula, kernel and, where installed, PyTorch.

    python tests/benchmarks/bench_conv.py [rounds]

For each: forward, and backward to input and weights, in turn; medians, and ratios to the formula. Run it with
OPENBLAS_NUM_THREADS=1 and without.
"""

import sys

import numpy as np
from side_by_side import compare

from minires import functional as F
from minires.engine import Tensor
from minires.switches import formulas_only

BATCH = 128
LAYERS = [(3, 16, 32, 1), (16, 16, 32, 1), (16, 32, 32, 2), (32, 32, 16, 1), (32, 64, 16, 2), (64, 64, 8, 1)]
TIMES = [1, 6, 1, 5, 1, 5]  # how often ResNet-20 has each


def minires_step(x, w, stride, gy):
    leaves = [Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)]
    return lambda: F.conv2d(*leaves, stride=stride, padding=1).op.backward(gy)


def torch_step(x, w, stride, gy):
    import torch

    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w)]
    gy = torch.from_numpy(gy)
    return lambda: torch.autograd.grad(torch.nn.functional.conv2d(*leaves, stride=stride, padding=1), leaves, gy)


def candidates(channels, out, size, stride):
    rng = np.random.default_rng(0)
    x, w, gy = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in (
            (BATCH, channels, size, size),
            (out, channels, 3, 3),
            (BATCH, out, size // stride, size // stride),
        )
    )
    found = {"formula": formulas_only()(minires_step(x, w, stride, gy)), "kernel": minires_step(x, w, stride, gy)}
    try:
        found["torch"] = torch_step(x, w, stride, gy)
    except ImportError:
        print("PyTorch is not installed")
    return found


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    total: dict[str, float] = {}
    for layer, times in zip(LAYERS, TIMES, strict=True):
        print(f"{layer[0]} to {layer[1]} channels, {layer[2]} x {layer[2]}, stride {layer[3]}: {times} in ResNet-20")
        for name, median in compare(candidates(*layer), rounds).items():
            total[name] = total.get(name, 0.0) + times * median
    print("all convolutions of ResNet-20, forward and backward")
    for name, seconds in total.items():
        print(f"  {name:10} {seconds * 1e3:8.1f} ms   formula / {name}: {total['formula'] / seconds:.2f}")
