"""The README's picture: the gradient of each residual block, taken apart into the skip's share and the branch's.

    python tutorials/figures/skip_share.py        writes skip_share.png beside this file (about two minutes)

For a block x -> x + F(x) the tape's ledger lists who sent x which gradient: `ResidualAdd` (the skip) and the
branch's first convolution. The figure shows |g_skip|, |g_branch| and the norm of their sum at the input of each
block of a ResNet-20, for one batch of the shipped digits, at initialization and after training.
"""

from pathlib import Path

import numpy as np

import minires as mr
from minires import data, models, optim
from minires import functional as F

HERE = Path(__file__).resolve().parent
SKIP, BRANCH, SUM = "#0072b2", "#d55e00", "#444444"  # told apart by readers with any color vision


def shares(model, x, labels):
    """Norms of the skip's share, the branch's share and the whole gradient at each block's input: (blocks, 3)."""
    x = F.relu(model.bn1(model.conv1(x)))
    inputs = []
    for layer in (model.layer1, model.layer2, model.layer3):
        for block in layer:
            inputs.append(x)
            x = block(x)
    loss = F.cross_entropy(model.linear(x.mean((2, 3))), labels)
    with mr.ledger() as book:
        loss.backward()
    rows = []
    for x in inputs:
        parts = {"skip": 0.0, "branch": 0.0}
        for entry in book.into(x):
            parts["branch" if entry.op == "Conv2d" else "skip"] += entry.gradient
        rows.append([np.linalg.norm(g) for g in (parts["skip"], parts["branch"], parts["skip"] + parts["branch"])])
    model.zero_grad()
    return np.array(rows)


def measure(epochs=8, seed=0):
    """The shares before and after training, and the training accuracy at the end."""
    mr.manual_seed(seed)
    train = data.load("digits").train
    loader = data.DataLoader(train, batch_size=128, shuffle=True, drop_last=True, generator=mr.backend.generator())
    model = models.create("resnet20", in_channels=1)
    x, labels = next(iter(loader))
    before = shares(model, x, labels)
    steps = epochs * len(loader)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = optim.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    hits = 0
    for epoch in range(epochs):
        for images, targets in loader:
            optimizer.zero_grad()
            scores = model(images)
            F.cross_entropy(scores, targets).backward()
            optimizer.step()
            schedule.step()
            hits += np.sum(scores.data.argmax(1) == targets) if epoch == epochs - 1 else 0
    return before, shares(model, x, labels), hits / (len(loader) * 128)


def draw(before, after, accuracy, path):
    """Two panels, one bar group a block, on a log scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    titles = ("at initialization", f"after training (training accuracy {accuracy:.1%})")
    for panel, rows, title in zip(panels, (before, after), titles, strict=True):
        block = np.arange(1, len(rows) + 1)
        panel.bar(block - 0.19, rows[:, 0], 0.38, color=SKIP, label="through the skip (the +1)")
        panel.bar(
            block + 0.19, rows[:, 1], 0.38, color=BRANCH, label="through the branch F", hatch="///", edgecolor="w"
        )
        panel.plot(block, rows[:, 2], "o-", color=SUM, ms=4, lw=1.2, label="their sum: what arrives")
        panel.set(yscale="log", xticks=block, xlabel="residual block, from the input", title=title)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.25)
        panel.set_axisbelow(True)
    panels[0].set_ylabel("norm of the gradient at the block's input")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Who carries the gradient in a ResNet-20?", fontweight="bold")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    draw(*measure(), HERE / "skip_share.png")
