# %% [markdown]
r"""
# 0. Sixty seconds: see the problem

**Goal.** You see the experiment that residual networks were invented for, on your own machine, with no download.

**Time.** A few minutes to read, less than 15 seconds to run. You need nothing: formulas start in tutorial 1.
"""

# %%
import numpy as np
from _kit import BRANCH, SKIP, SUM, has_matplotlib, panels, show, text_chart

import minires as mr
from minires import data, nn, optim
from minires import functional as F
from minires.check import bugs, planted

# %% [markdown]
r"""
## Predictions

Six networks learn to read 8x8 images of digits. They have 4, 18 and 54 layers. Three are *plain*: one layer after the
other. Three are *residual*: around every two layers a skip adds their input to their output. Everything else is the
same. Guess before you run:

1. Which of the three plain networks learns its training images best after 150 steps?
2. And which is the worst of all six?
3. A deeper plain network could copy the 4 layers of the smallest one, and let its other layers hand everything on
   unchanged. So can it really be worse, on the very images it is trained on?

<details><summary>Answer 1</summary>

The smallest. It is clearly ahead of 18 layers, and 54 layers have learned next to nothing.

</details>

<details><summary>Answer 2</summary>

The plain network with 54 layers. The residual one with 54 layers is close to the small ones.

</details>

<details><summary>Answer 3</summary>

It can. That a good solution exists does not mean that training finds it. This is not overfitting: the loss shown is
that of the training images.

</details>
"""

# %% [markdown]
r"""
## The experiment

This is all of it. `net` builds a network, and the skip is the one line with `nn.Residual`.
"""

# %%
DEPTHS, WIDTH, STEPS = (4, 18, 54), 32, 150
digits = data.load("digits").train  # shipped with minires: 1,400 images
pixels = digits.images.reshape(len(digits), 64).astype(np.float32) / digits.scale


# %%
def net(depth, skip):
    """`depth` hidden layers in blocks of two; with a skip around each block, or not."""
    blocks = []
    for _ in range(depth // 2):
        first = [nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        second = [nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH)]
        branch = nn.Sequential(*first, *second)
        blocks += [nn.Residual(branch) if skip else branch, nn.ReLU()]
    return nn.Sequential(nn.Linear(64, WIDTH), *blocks, nn.Linear(WIDTH, 10))


# %%
def training_loss(depth, skip, seed=0, lr=0.03):
    """The loss of each step, on images that the network is being trained on."""
    mr.manual_seed(seed)
    model = net(depth, skip)
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    rng, losses = np.random.default_rng(seed), []
    for _ in range(STEPS):
        batch = rng.integers(0, len(pixels), 64)
        loss = F.cross_entropy(model(pixels[batch]), digits.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %%
curves, final = {}, {}
print("training loss, mean of the last 20 steps")
for depth in DEPTHS:
    for skip in (False, True):
        curves[depth, skip] = training_loss(depth, skip)
        final[depth, skip] = np.mean(curves[depth, skip][-20:])
    plain, residual = final[depth, False], final[depth, True]
    print(f"{depth:3d} layers   plain {plain:.2f}   residual {residual:.2f}")

# %% [markdown]
r"""
## The picture
"""


# %% tags=["hide-input"]
def smooth(losses):
    """The mean over ten steps around each, so that the curves can be told apart."""
    return np.convolve(np.pad(losses, 5, mode="edge"), np.ones(11) / 11, mode="valid")


def characters():
    """The same picture where matplotlib is missing."""
    charts = [("plain", False), ("residual: with skips", True)]
    runs = [{f"{depth} layers": smooth(curves[depth, skip]) for depth in DEPTHS} for _, skip in charts]
    return "\n\n".join(f"{name}\n{text_chart(run, top=2.5)}" for (name, _), run in zip(charts, runs, strict=True))


# %% tags=["hide-input"]
def draw():
    figure, both = panels(2, width=8.4, height=3.8)
    looks = dict(zip(DEPTHS, ((SKIP, ":"), (SUM, "--"), (BRANCH, "-")), strict=True))
    for panel, skip, title in zip(both, (False, True), ("plain", "residual: with skips"), strict=True):
        free = 0.0
        for depth in sorted(DEPTHS, key=lambda depth, skip=skip: smooth(curves[depth, skip])[-1]):
            values, (color, line) = smooth(curves[depth, skip]), looks[depth]
            panel.plot(np.arange(1, STEPS + 1), values, line, color=color, lw=2)
            free = max(values[-1], free) + 0.17  # labels of curves that end together stand above each other
            panel.annotate(f"{depth} layers", (STEPS + 4, free - 0.17), color=color, va="center")
        panel.set(ylim=(0, 2.8), xlim=(1, STEPS * 1.27), xticks=range(0, STEPS + 1, 50), xlabel="step", title=title)
        panel.axhline(np.log(10), color="0.6", lw=1)
        panel.annotate("guessing", (STEPS + 4, np.log(10) + 0.09), color="0.4", va="center")
    both[0].set_ylabel("training loss")
    return figure


# %% tags=["hide-input"]
show(
    draw() if has_matplotlib else characters(),
    alt="Training loss over 150 steps, plain networks on the left, residual ones on the right. Plain: the deeper, the "
    f"worse; 4, 18 and 54 layers end at {final[4, False]:.2f}, {final[18, False]:.2f} and {final[54, False]:.2f}, the "
    f"last near guessing, 2.30. Residual: all three learn, to {final[4, True]:.2f}, {final[18, True]:.2f} and "
    f"{final[54, True]:.2f}.",
    caption="Degradation in miniature: the deeper plain network is worse on its own training images.",
)

# %% [markdown]
r"""
Without skips, each step in depth makes the training loss worse: 54 layers stay above 2, where guessing gives 2.30. With
skips, 54 layers end below 0.5. He et al. (2015) saw the same with 20 and 56 layers on CIFAR-10; it is the first figure
of their paper.
"""


# %%
def test_depth_degrades_plain_networks_and_not_residual_ones():
    assert final[4, False] < 0.3 < 0.5 < final[18, False] < 1.5 < 2 < final[54, False]
    assert final[54, True] < 0.5
    assert round(np.log(10), 2) == 2.30  # guessing
    assert len(digits) == 1400
    assert max(final[18, True], final[4, True]) < 0.3


test_depth_degrades_plain_networks_and_not_residual_ones()

# %% [markdown]
r"""
## What it does not show

It is tempting to say: "the gradient vanished". The picture does not show that. All six networks have batch norm, and He
et al. checked that the gradients of their plain networks had healthy sizes; they left the cause open. Tutorial 9
measures what can be measured. And 54 layers here do worse than in the paper: there, the deep plain network still
learns, only less.
"""

# %% [markdown]
r"""
## Break it

The skip adds $x$ in the forward pass, so backward hands the gradient on untouched: the "+1". We plant a bug that drops
just that. The forward pass stays the same.

**Predict.** Do 18 residual layers learn with it as well as before, as badly as the plain ones, or worse still?

<details><summary>Answer</summary>

As badly as the plain ones, or worse: with the right gradient the loss falls below 0.2, with the bug it stays above 0.5.
The skip in the forward pass alone does not help.

</details>
"""

# %%
(dropped,) = (found for found in bugs() if found.name == "skip_dropped")
with planted(dropped):
    broken = np.mean(training_loss(18, skip=True)[-20:])
print(f"18 layers: residual {final[18, True]:.2f}, plain {final[18, False]:.2f}")
print(f"residual, but without the +1 in backward: {broken:.2f}")
assert final[18, True] < 0.2 < 0.5 < broken

# %% [markdown]
r"""
## Exercises

**1. Guess the curve.** Where does a plain network with 8 layers end, and where a residual one? Write down two numbers,
then run.

<details><summary>Hint 1</summary>

8 lies between 4 and 18. The numbers for these are printed above.

</details>

<details><summary>Solution</summary>

About 0.2 and 0.1. With 8 layers a skip helps only a little; what it cures comes with depth.

```python
plain, residual = (np.mean(training_loss(8, skip)[-20:]) for skip in (False, True))
assert 0.1 < plain < 0.4
assert 0.05 < residual < 0.2
```

</details>
"""

# %% [markdown]
r"""
**2. Is it the learning rate?** Perhaps 54 plain layers only need a larger or smaller step. Find out.

<details><summary>Hint 1</summary>

`training_loss(54, skip=False, lr=...)`. Try factors of 10.

</details>

<details><summary>Solution</summary>

Neither a step ten times smaller nor one ten times larger brings the plain network below 2. In 150 steps, that is:
nothing here says that it would not learn in 100 times as many.

```python
for lr in 0.003, 0.3:
    assert np.mean(training_loss(54, skip=False, lr=lr)[-20:]) > 2
```

</details>
"""

# %% [markdown]
r"""
**3. Is it luck?** All six networks above were drawn with seed 0. What would convince you that the picture does not hang
on it? Do that.

<details><summary>Hint 1</summary>

One more seed is a start. What has to stay the same is the order of the curves, not the numbers.

</details>

<details><summary>Solution</summary>

Other seeds. Here is one; the loop over ten is yours.

```python
assert np.mean(training_loss(18, skip=True, seed=1)[-20:]) < 0.3
assert np.mean(training_loss(18, skip=False, seed=1)[-20:]) > 0.5
```

</details>
"""

# %% [markdown]
r"""
## Summary

- A plain network gets worse with depth on its own training images. That is *degradation*. It is not overfitting.
- With skips, 54 layers learn nearly as well as 4.
- Dropping the +1 from backward alone spoils it again. So it is worth knowing where the +1 comes from.

Next: tutorial 1 finds the +1 in the chain rule. Tutorial 9 comes back to this picture with more care.
"""

# %% [markdown]
r"""
## Sources

- K. He, X. Zhang, S. Ren and J. Sun 2015, *Deep Residual Learning for Image Recognition*, figures 1 and 6, section 4.1.
- The digits: E. Alpaydin and C. Kaynak 1998, *Optical Recognition of Handwritten Digits*, UCI Machine Learning
  Repository, CC BY 4.0.
"""
