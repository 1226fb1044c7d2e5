"""Networks of a thousand layers on real images: `python -m tests.benchmarks.thousand MODEL [BATCH] [STEPS]`.

Takes steps of SGD with momentum on CIFAR-10 (where MINIRES_DATA has it, else on random images) and prints each step's
loss, its seconds and the most memory that was resident. He et al. trained preact_resnet1001 with batches of 128 and
64, and both networks with a rate of 0.01 at first, since 0.1 is too much before they have begun to learn.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import minires as mr
from minires import data, models, optim
from minires import functional as F
from minires.errors import RequestError
from tests.benchmarks.memory import peak_of

RATE = 0.01


def images(batch: int) -> tuple[str, data.DataLoader | list[tuple[np.ndarray, np.ndarray]]]:
    """Where the batches are from, and the batches."""
    try:
        return "CIFAR-10", data.DataLoader(data.load("cifar10").train, batch, shuffle=True, drop_last=True)
    except RequestError:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((batch, 3, 32, 32)).astype(np.float32)
        return "random images", [(x, rng.integers(0, 10, batch))] * 1000


def main(name: str = "preact_resnet1001", batch: int = 64, steps: int = 3) -> None:
    mr.manual_seed(0)
    model = models.create(name)
    optimizer = optim.SGD(model.named_parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
    origin, batches = images(batch)
    print(f"{name}, {sum(p.size for p in model.parameters()):,} parameters, batch {batch} of {origin}")

    def train() -> None:
        for step, (x, labels) in zip(range(steps), batches, strict=False):
            begun = time.perf_counter()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            print(f"step {step + 1}: loss {loss.item():.4f}, {time.perf_counter() - begun:.1f} s", flush=True)

    print(f"peak {peak_of(train) / 2**30:.2f} GiB resident")


if __name__ == "__main__":
    main(*sys.argv[1:2], *(int(text) for text in sys.argv[2:4]))
