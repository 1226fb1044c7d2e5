"""The small nets that the experiments share: deep, narrow, and trained on the shipped digits in seconds.

    net = build("pre", blocks=27, seed=0)           # "plain", "post" or "pre"
    losses = train(net, seed=0)
    error(net, *digits().train)                     # with running statistics

An image of 64 pixels enters a linear layer of width 32, passes `blocks` blocks of two linear layers with batch norm,
and leaves by a linear classifier: 2 blocks + 2 layers, as He et al. 2015 count. The kinds differ in the block alone:

    plain   y = relu(F(x))          F = bn(w2 relu(bn(w1 x)))
    post    y = relu(x + F(x))      the same F
    pre     y = x + G(x)            G = w2 relu(bn(w1 relu(bn(x)))), and a last relu(bn(.)) in front of the classifier
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minires as mr
from minires import data, nn, optim
from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError

KINDS = ("plain", "post", "pre")
WIDTH = 32
EPOCHS = 15
BATCH = 64
CHUNK = 512  # images that are looked at together where nothing is learned

Tick = Callable[[str], None]


class Images(NamedTuple):
    """Flat images (N, pixels), standardized, and their labels (N,)."""

    pixels: np.ndarray
    labels: np.ndarray


class Halves(NamedTuple):
    """What nets learn from, and what they never see."""

    train: Images
    test: Images


def flat(images: data.Dataset, dtype: Any = np.float32) -> Images:
    """The images in a row each, less their data set's mean and over its deviation."""
    pixels = images.images.reshape(len(images), -1) / images.scale
    return Images(((pixels - images.mean[0]) / images.std[0]).astype(dtype), images.labels)


@functools.cache
def digits() -> Halves:
    """The shipped digits, 8 x 8."""
    return Halves(*map(flat, data.load("digits")))


# --- the nets


class Net(nn.Module):
    """Stem, blocks, head: y = head(norm(blocks(stem(x)))).

    kind       one of KINDS
    count      how many blocks
    width      features between the blocks
    inputs     pixels of an image
    classes    how many

    Shapes    x: (N, inputs); y: (N, classes)
    """

    def __init__(self, kind: str, count: int, width: int = WIDTH, inputs: int = 64, classes: int = 10) -> None:
        if kind not in KINDS:
            raise RequestError(f"there is no {kind!r} net; there are {', '.join(KINDS)}")
        if count < 1:
            raise RequestError(f"a net needs at least one block, not {count}")
        self.kind = kind
        pre = kind == "pre"
        self.stem = nn.Sequential(nn.Linear(inputs, width, bias=False), *(() if pre else normalized(width)))
        self.body = nn.Sequential(*(block(kind, width) for _ in range(count)))
        self.norm = nn.Sequential(*(normalized(width) if pre else ()))
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Any) -> Tensor:
        return self.head(self.norm(self.body(self.stem(x))))

    def blocks(self) -> list[Any]:
        """The blocks, from the input on."""
        return list(self.body)

    def layers(self) -> list[nn.Linear]:
        """Every linear layer, from the input on: 2 for each block, the stem and the head."""
        return [module for module in self.modules() if isinstance(module, nn.Linear)]


def block(kind: str, width: int) -> nn.Module:
    """One block of the kind, of two linear layers without biases (batch norm has its own)."""
    first, second = (nn.Linear(width, width, bias=False) for _ in range(2))
    if kind == "pre":
        return nn.Residual(nn.Sequential(*normalized(width), first, *normalized(width), second))
    branch = nn.Sequential(first, *normalized(width), second, nn.BatchNorm1d(width))
    return nn.Sequential(branch, nn.ReLU()) if kind == "plain" else nn.Residual(branch, activation=F.relu)


def normalized(width: int) -> tuple[nn.Module, nn.Module]:
    """Batch norm, then the rectifier."""
    return nn.BatchNorm1d(width), nn.ReLU()


def build(kind: str, blocks: int, seed: int, dtype: Any = np.float32, **options: Any) -> Net:
    """A net from the He normal distribution, the same for the same seed in every dtype. It seeds minires' generator.

    options    width, inputs and classes, as `Net` takes them

    Raises RequestError for a kind that there is not, or no blocks.
    Source    He et al. 2015, Deep Residual Learning, section 3.3; He et al. 2016, Identity Mappings, figure 4 (a), (e)
    """
    mr.manual_seed(seed)
    net = Net(kind, blocks, **options)
    return net if np.dtype(dtype) == np.float32 else net.to(dtype)


# --- learning


def train(
    net: nn.Module,
    seed: int,
    images: Images | None = None,
    *,
    epochs: int = EPOCHS,
    lr: float = 0.05,
    tick: Tick | None = None,
    label: str = "",
) -> list[float]:
    """Trains the net, and leaves it in training mode. Returns the loss of every step.

    SGD with momentum .9 and weight decay 1e-4, batches of 64; the learning rate is divided by 10 after 60 % of the
    epochs. `tick(text)` is called after every epoch.

    images    what it learns from; None for the shipped digits
    seed      of the order of the images
    label     what the net is called in the ticks' texts
    """
    pixels, labels = digits().train if images is None else images
    rng = np.random.default_rng(seed)
    optimizer = optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    schedule = optim.MultiStepLR(optimizer, [round(0.6 * epochs)])
    losses = []
    net.train()
    for epoch in range(epochs):
        order = rng.permutation(len(labels))
        for start in range(0, len(labels) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            loss = F.cross_entropy(net(pixels[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        if tick is not None:
            tick(f"{label or 'net'}: epoch {epoch + 1} of {epochs}, loss {losses[-1]:.3f}")
    return losses


def error(net: nn.Module, pixels: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of images that the net gets wrong, by batch norm's running statistics. Its mode is left alone."""
    wrong = 0
    with nn.evaluating(net):
        for start in range(0, len(labels), CHUNK):
            scores = net(pixels[start : start + CHUNK]).numpy()
            wrong += int(np.sum(scores.argmax(axis=1) != labels[start : start + CHUNK]))
    return wrong / len(labels)
