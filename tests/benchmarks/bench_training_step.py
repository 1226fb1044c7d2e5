"""One training step, minires beside PyTorch: python tests/benchmarks/bench_training_step.py [mlp|resnet20] ...

mlp       batch 32, 64-64-10, ReLU, cross-entropy, SGD: what the tape itself costs
resnet20  batch 128 of (3, 32, 32) float32, SGD with momentum: where the convolutions decide
"""

import sys

import numpy as np
from side_by_side import compare

import minires as mr
from minires import functional as F
from minires import models, nn, optim


def minires_step(model, x, y, **sgd):
    optimizer = optim.SGD(model.parameters(), **sgd)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def torch_step(model, x, y, **sgd):
    import torch

    x, y = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.SGD(model.parameters(), **sgd)

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def torch_resnet20():
    from torch import nn as tnn

    class Block(tnn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.conv1, self.bn1 = tnn.Conv2d(i, o, 3, stride, 1, bias=False), tnn.BatchNorm2d(o)
            self.conv2, self.bn2 = tnn.Conv2d(o, o, 3, 1, 1, bias=False), tnn.BatchNorm2d(o)
            self.pad, self.stride = (o - i) // 2, stride

        def forward(self, x):
            f = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            if self.stride > 1:
                x = tnn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
            return (x + f).relu()

    blocks = [Block(16, 16, 1) for _ in range(3)]
    blocks += [Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1)]
    blocks += [Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1)]
    stem = [tnn.Conv2d(3, 16, 3, 1, 1, bias=False), tnn.BatchNorm2d(16), tnn.ReLU()]
    return tnn.Sequential(*stem, *blocks, tnn.AdaptiveAvgPool2d(1), tnn.Flatten(), tnn.Linear(64, 10))


def candidates(task, rng):
    """{name: one training step} for the task, minires first."""
    mr.manual_seed(0)
    if task == "mlp":
        x, y = rng.standard_normal((32, 64)).astype(np.float32), rng.integers(0, 10, 32)
        steps = {"minires": minires_step(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), x, y, lr=0.1)}
    else:
        x, y = rng.standard_normal((128, 3, 32, 32)).astype(np.float32), rng.integers(0, 10, 128)
        steps = {"minires": minires_step(models.create("resnet20"), x, y, lr=0.1, momentum=0.9)}
    try:
        from torch import nn as tnn
    except ImportError:
        print("PyTorch is not installed: minires alone")
        return steps
    if task == "mlp":
        net = tnn.Sequential(tnn.Linear(64, 64), tnn.ReLU(), tnn.Linear(64, 10))
        return {**steps, "torch eager": torch_step(net, x, y, lr=0.1)}
    return {**steps, "torch eager, NCHW": torch_step(torch_resnet20(), x, y, lr=0.1, momentum=0.9)}


if __name__ == "__main__":
    for task in sys.argv[1:] or ["mlp", "resnet20"]:
        print(task)
        compare(candidates(task, np.random.default_rng(0)), rounds=200 if task == "mlp" else 7)
