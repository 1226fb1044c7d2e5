# %% [markdown]
r"""
# 9. Degradation, honestly

**Goal.** You repeat the observation that residual nets were invented for. You learn to tell two kinds of failure apart
by their curves. And you learn to say what the experiment shows, and what it does not.

**Time.** 30 minutes to read, 10 seconds to run at the smoke budget, 2 or 3 minutes in full. You need tutorials 0 and 8;
tutorial 6 helps.
"""

# %%
import numpy as np
from _kit import BRANCH, PLAIN, SKIP, SUM, panels, show, smoke

import minires as mr
from minires import models, nn
from minires.check import bugs, planted
from minires.lab import degradation, nets
from minires.ops.residual import ResidualAdd

# %% [markdown]
r"""
## Predictions

Nets of 8, 20 and 56 layers learn 1,400 images of digits. Three kinds differ in the block alone: *plain*, *residual*
(He et al. 2015) and *pre-activation* (He et al. 2016). All have batch norm and the same number of weights.

1. Order the plain nets by their error on the images that they learn from.
2. Before the first step, in the plain net of 56 layers: is the gradient of the first layer's weights smaller than that
   of the last layer's, alike, or larger?
3. The plain net of 56 layers does badly on new images. Is that overfitting?

<details><summary>Answer 1</summary>

The deeper, the worse: 8 layers, then 20, then 56.

</details>

<details><summary>Answer 2</summary>

Larger: by a factor of about 20,000. "The gradient vanished" is not what happens here.

</details>

<details><summary>Answer 3</summary>

No. It does just as badly on the images that it learns from. Overfitting is when these go well and new ones do not.

</details>
"""

# %% [markdown]
r"""
## A solution by construction

Before the experiment, a proof that it should not happen. Take a net of 8 layers, and add blocks that hand on what they
get. The deeper net then computes the same function. So the best deeper net is at least as good on the training images:

$$ \min_{\text{56 layers}} E_{\text{train}} \;\le\; \min_{\text{8 layers}} E_{\text{train}} \tag{9.1} $$

Can a plain block hand on what it gets? It computes $y = \operatorname{relu}(\mathrm{bn}(W_2
\operatorname{relu}(\mathrm{bn}(W_1 x))))$, and $x \ge 0$, since a ReLU stands in front. Yes:

$$ W_1 = W_2 = I,\quad \mathrm{bn}(z) = z \quad\Rightarrow\quad y = \operatorname{relu}(\operatorname{relu}(x)) = x
\qquad (x \ge 0) \tag{9.2} $$

A residual block needs less. Its branch only has to be zero, and for that its last batch norm needs gain and bias 0:

$$ F = 0 \quad\Rightarrow\quad y = \operatorname{relu}(x + 0) = x \qquad (x \ge 0) \tag{9.3} $$

We build (9.2): a trained net of 8 layers, and 24 blocks that do nothing.
"""

# %%
digits, EPOCHS = nets.digits(), 4 if smoke else nets.EPOCHS


def make_identity(block):
    """Turns a new plain block into (9.2), for batch norm at rest: mean 0 and variance 1."""
    for layer in block.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(np.eye(nets.WIDTH, dtype=np.float32))
        if isinstance(layer, nn.BatchNorm1d):
            layer.weight.copy_(np.full(nets.WIDTH, (1 + layer.eps) ** 0.5, np.float32))


def deepened(small, blocks):
    """A deeper net that computes what `small` computes."""
    deep = nets.build("plain", blocks, seed=0)
    pairs = [(small.stem, deep.stem), (small.head, deep.head)]
    pairs += zip(small.body, deep.body, strict=False)
    with mr.no_grad():
        for old, new in pairs:
            new.load_state_dict(old.state_dict())
        for block in deep.blocks()[len(small.blocks()) :]:
            make_identity(block)
    return deep


# %%
small = nets.build("plain", 3, seed=0)
nets.train(small, seed=0, epochs=EPOCHS)
constructed = deepened(small, 27)
errors = [nets.error(net, *digits.train) for net in (small, constructed)]
print(f"8 layers, trained:      {errors[0]:.1%} wrong")
print(f"56 layers, constructed: {errors[1]:.1%} wrong")
assert len(constructed.layers()) == 56
assert errors[0] == errors[1] < 0.1

# %% [markdown]
r"""
So good plain nets of 56 layers exist. Here is one. If training ends elsewhere, then not because there is nothing to
find.
"""

# %% [markdown]
r"""
## Measure: error by depth

Now train. `learn` draws a net, trains it, and looks at both errors after every epoch: on the 1,400 training images,
and on 397 images that no net learns from. It also keeps the gradient's norm in every layer, before and after.
"""


# %%
def learn(kind, depth, epochs=EPOCHS, seed=0):
    """Errors after each epoch, and gradient norms by layer before and after."""
    net = nets.build(kind, (depth - 2) // 2, seed)
    run = {"train": [], "test": [], "start": degradation.gradient_norms(net)}

    def look(_):
        run["train"].append(nets.error(net, *digits.train))
        run["test"].append(nets.error(net, *digits.test))

    nets.train(net, seed, epochs=epochs, tick=look)
    run["end"] = degradation.gradient_norms(net)
    run["parameters"] = sum(p.size for p in net.parameters())
    return run


# %%
NAMES = {"plain": "plain", "post": "residual", "pre": "pre-activation"}
DEPTHS = {"plain": (8, 20, 56), "post": (20, 56), "pre": (56,)}
runs = {}
print(f"error in % after {EPOCHS} epochs   training    test")
for kind, depths in DEPTHS.items():
    for depth in depths:
        run = runs[kind, depth] = learn(kind, depth)
        train, test = (100 * run[half][-1] for half in ("train", "test"))
        print(f"{NAMES[kind]:15s}{depth:3d} layers {train:12.1f} {test:7.1f}")

# %% tags=["hide-input"]
looks = {
    ("plain", 8): (PLAIN, "o"),
    ("plain", 20): (SUM, "s"),
    ("plain", 56): (BRANCH, "X"),
    ("post", 20): ("#56b4e9", "v"),
    ("post", 56): (SKIP, "^"),
    ("pre", 56): ("k", "D"),
}
epochs = np.arange(1, EPOCHS + 1)
last = {key: f"{100 * run['train'][-1]:.1f} and {100 * run['test'][-1]:.1f}" for key, run in runs.items()}

# %% tags=["hide-input"]
figure, both = panels(2, width=8, height=4.6)
for panel, half, title in zip(both, ("train", "test"), ("Images it learns from", "New images"), strict=True):
    for (kind, depth), (color, marker) in looks.items():
        label = f"{NAMES[kind]} {depth}"
        errors = 100 * np.array(runs[kind, depth][half])
        panel.plot(epochs, errors, marker=marker, color=color, ms=6, lw=1.5, label=label)
    panel.set(xlabel="epoch", title=title, ylim=(-3, 100), xticks=epochs[:: max(1, EPOCHS // 5)])
both[0].set_ylabel("error, %")
figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
show(
    figure,
    alt="Error by epoch of six nets, on the training images on the left, on new images on the right; the two pictures "
    "look alike. At the end, training and test error in percent: "
    + "; ".join(f"{NAMES[kind]} {depth} layers {told}" for (kind, depth), told in last.items())
    + ".",
    caption=f"Degradation: plain nets get worse with depth, on both halves. {EPOCHS} epochs, one seed.",
)

# %% [markdown]
r"""
The deeper plain net is worse, on its training images. This is *degradation*. Around the same layers, skips change the
picture: residual nets of 20 layers get less than half as much wrong as plain ones, and 56 layers can be trained.
"""


# %%
def test_plain_nets_get_worse_with_depth_and_nets_with_skips_do_not_fail():
    final = {key: run["train"][-1] for key, run in runs.items()}
    assert final["plain", 8] < 0.1
    assert final["plain", 8] + 0.03 < final["plain", 20] < final["plain", 56]
    assert final["plain", 56] > 0.6
    assert final["post", 20] < 0.5 * final["plain", 20]
    assert final["post", 56] < 0.4
    assert final["pre", 56] < 0.08
    assert len({runs[kind, 56]["parameters"] for kind in nets.KINDS}) == 1
    assert (len(digits.train.labels), len(digits.test.labels)) == (1400, 397)


test_plain_nets_get_worse_with_depth_and_nets_with_skips_do_not_fail()

# %% [markdown]
r"""
## Overfitting or optimization?

Split the error on new images in two:

$$ E_{\text{test}} = \underbrace{E_{\text{train}}}_{\text{what optimization left}} + \underbrace{(E_{\text{test}} -
E_{\text{train}})}_{\text{what does not generalize}} \tag{9.4} $$

Overfitting lives in the second part, degradation in the first. To see the difference, we make a net overfit: 8 layers,
60 epochs, and only 100 images to learn from.
"""

# %%
picked = np.random.default_rng(0).choice(1400, 100, replace=False)
few = nets.Halves(nets.Images(*(a[picked] for a in digits.train)), digits.test)
net = nets.build("plain", 3, seed=0)
nets.train(net, 0, few.train, epochs=60)
overfit = nets.error(net, *few.train), nets.error(net, *few.test)
degraded = runs["plain", 56]["train"][-1], runs["plain", 56]["test"][-1]

print("                           training   gap to new images")
told = {"8 layers, 100 images": overfit, "56 layers, 1,400 images": degraded}
for name, (train, test) in told.items():
    print(f"plain, {name:24s} {train:5.1%} {test - train:10.1%}")
assert overfit[0] < 0.02 < 0.1 < overfit[1]
assert degraded[0] > 0.6
assert abs(degraded[1] - degraded[0]) < 0.08

# %% [markdown]
r"""
Both nets do badly on new images, for opposite reasons. The first has learned its 100 images by heart. The second has
not even learned its own. More data, dropout or weight decay may help the first. They are no cure for the second.
"""

# %% [markdown]
r"""
## Does the gradient vanish?

It is the usual explanation. He et al. (2015, section 4.1) looked, and ruled it out: with batch norm their gradients had
"healthy norms". They left the cause open.

We look too: at the norm of $\partial L / \partial W$ in each layer of the 56, before the first step and after the last.
"""

# %%
print("gradient of the first layer's weights, over the last layer's")
ratio = {}
for (kind, depth), run in runs.items():
    ratio[kind, depth] = tuple(run[when][0] / run[when][-1] for when in ("start", "end"))
    before, after = ratio[kind, depth]
    print(f"{NAMES[kind]:15s}{depth:3d} layers:  before {before:9,.1f}  after {after:6.2f}")
factor = ratio["plain", 56][0] ** (1 / 53)  # 54 layers in blocks, 53 steps between them
print(f"plain, 56 layers, before: a factor of {factor:.3f} a layer")

# %% tags=["hide-input"]
figure, both = panels(2, width=8, height=4)
for panel, when, title in zip(both, ("start", "end"), ("Before training", "After training"), strict=True):
    for kind in ("plain", "post", "pre"):
        color, marker = looks[kind, 56]
        norms = runs[kind, 56][when]
        panel.semilogy(range(1, 55), norms, marker=marker, ms=3.5, lw=1.1, color=color, label=NAMES[kind])
    panel.set(xlabel="layer, from the input", title=title, ylim=(1e-3, 5e4))
both[0].set_ylabel("norm of the weights' gradient")
both[0].legend(frameon=False)
show(
    figure,
    alt="The norm of the gradient of each layer's weights in nets of 56 layers, log scale. Before training the plain "
    f"net's first layer has {ratio['plain', 56][0]:,.0f} times the last one's, a straight line; the residual one's "
    f"{ratio['post', 56][0]:.0f} times, the pre-activation one's {ratio['pre', 56][0]:.0f} times. After training "
    f"the plain net has {ratio['plain', 56][1]:.2g} times.",
    caption="It explodes towards the input rather than vanishing: nets of 56 layers.",
)

# %% [markdown]
r"""
In the plain net the gradient does not vanish. Before training it **explodes** towards the input. For wide nets with
batch norm and ReLU the theory gives this factor a layer (Yang et al. 2019):

$$ \sqrt{\frac{\pi}{\pi - 1}} \approx 1.21 \tag{9.5} $$

We measured it: over 53 layers it makes a factor of more than 5,000. So "healthy" needs a footnote: He et al. speak of
norms during training, and of 34 layers. In nets with skips the factor is about 10 in all.
"""

# %%
assert round((np.pi / (np.pi - 1)) ** 0.5, 2) == 1.21
assert 1.17 < factor < 1.25
assert ratio["plain", 56][0] > 5000
assert ratio["plain", 56][1] > 0.01  # and it has not vanished afterwards
assert max(ratio["post", 56][0], ratio["pre", 56][0]) < 40

# %% [markdown]
r"""
Does the explosion explain the failure, then? It is a candidate: no learning rate suits all layers. There are others.
Balduzzi et al. (2017) find that gradients of deep plain nets resemble white noise, whatever their norm. Li et al.
(2018) find that without skips the loss surface turns chaotic with depth. An experiment that compares final errors
cannot decide between them.
"""

# %% [markdown]
r"""
## How harsh is this?

Harsher than in the paper. Our plain net of 56 layers gets more than 60 % wrong, and guessing gets 90 % wrong. The
paper's plain nets of 56 layers do learn; they are a few points behind those of 20. (Of 110 layers theirs fail as well,
with an error above 60 %.) Ours are narrow, 32 features, fully connected, and train for a few epochs only.

So trust the milder gap more: 20 layers. There both kinds learn, and the plain one is clearly behind. And look at the
paper's own kind of net: convolutions, here with 8, 16 and 32 channels, on 8x8 images. At the smoke budget only two
small runs are made. In full, nets of 20 and 56 layers train for 8 epochs.
"""

# %%
CONV_EPOCHS, CONV_DEPTHS = (1, (8,)) if smoke else (degradation.CONV_EPOCHS, (20, 56))
images = (nets.Images(half.pixels.reshape(-1, 1, 8, 8), half.labels) for half in digits)
images = nets.Halves(*images)
conv = {}
for depth in CONV_DEPTHS:
    for name in ("plain", "resnet"):
        mr.manual_seed(0)
        net = models.create(f"{name}{depth}", in_channels=1, width=8)
        error = degradation.learned(net, 0, images, CONV_EPOCHS)["train"]
        print(f"{name}{depth}, epochs: {CONV_EPOCHS}, training images wrong: {error:.1%}")
        conv[name, depth] = error
if not smoke:
    assert conv["resnet", 20] <= conv["plain", 20] < 0.05
    assert conv["resnet", 56] < 0.2 < 0.4 < conv["plain", 56]

# %% [markdown]
r"""
In full, both convolutional nets of 20 layers learn nearly all images. Of 56 layers the plain one gets more than 40 %
wrong, the residual one less than 20 %. Depth 20 is no problem here, and 56 is. With fully connected layers 20 was one
already. **The depth at which plain nets fail depends on the rest of the recipe.**
"""

# %% [markdown]
r"""
## What does not follow

Sentences that are often attached to this experiment, and what can be said against them.

- *"Plain nets cannot be trained."* They can, slowly. He et al. conjecture "exponentially low convergence rates".
  Exercise 2 gives 20 plain layers more time. Other starting points help as well: Xiao et al. (2018) train plain
  convolutional nets of 10,000 layers.
- *"With skips, deeper can no longer be worse."* In the table above the residual net of 56 layers is behind that of 20.
  He et al. report 7.93 % for 1,202 layers and 6.43 % for 110.
- *"Depth helps."* Not here: 8 layers are enough for these digits. That it helps on ImageNet is another experiment.
- *"Skips add capacity."* The nets have the same number of weights. What differs is how well training finds good ones.
- *"It is the skip in the forward pass."* or *"It is the skip in the backward pass."* The next section breaks just one.
"""

# %%
assert runs["post", 56]["train"][-1] > runs["post", 20]["train"][-1]

# %% [markdown]
r"""
## Break it

The bug zoo holds wrong gradients for the residual sum. We train 20 residual layers for 4 epochs with each of these
planted. The forward pass stays right.

| planted | what the sum hands back, to skip and branch |
|---|---|
| `skip_dropped` | $0$ and $g$ |
| `branch_forgotten` | $g$ and $0$ |
| `relu_after_the_sum` | $g$ and $g$, but 0 where $y$ is negative |

**Predict.** Which of the three does the least harm? Is one of them worse than the plain net? The blocks here are those
of 2015: a ReLU stands behind the sum.

<details><summary>Answer</summary>

`relu_after_the_sum` does no harm at all: the ReLU behind the sum has put a 0 there already. In a pre-activation net it
would. `skip_dropped` trains no better than the plain net. `branch_forgotten` leaves all blocks as they were drawn; only
the first and the last layers and the norms between learn. It still beats the plain net.

</details>
"""

# %%
zoo = {bug.name: bug for bug in bugs(ResidualAdd)}
kinds = {"right": "post", "plain net": "plain"}
broken = {name: learn(kind, 20, 4)["train"][-1] for name, kind in kinds.items()}
for name in ("skip_dropped", "branch_forgotten", "relu_after_the_sum"):
    with planted(zoo[name]):
        broken[name] = learn("post", 20, 4)["train"][-1]
for name, error in broken.items():
    print(f"{name:20s} {error:6.1%} of the training images wrong")

# %% tags=["hide-input"]
figure, (panel,) = panels(width=7.6, height=3.2)
colors = {"right": SKIP, "plain net": PLAIN}
bars = panel.barh(list(broken), [100 * e for e in broken.values()], color=[colors.get(n, BRANCH) for n in broken])
panel.bar_label(bars, fmt="%.1f", padding=4)
panel.invert_yaxis()
panel.grid(visible=False)
panel.set(xlabel="training error after 4 epochs, %", xlim=(0, 110 * max(broken.values())))
show(
    figure,
    alt="Training error of 20 layers after 4 epochs, in percent. Residual with the right gradient: "
    + ", ".join(f"{name} {100 * error:.1f}" for name, error in broken.items())
    + ". Without the +1 in backward the residual net is no better than the plain one.",
    caption="The skip in the forward pass alone does not help.",
)

# %% [markdown]
r"""
**Observe.** With the +1 cut from backward, the forward skip is worth nothing. With backward left through the skip
alone, the net still learns something: the first layer hears from the loss. And a wrong formula can be invisible in a
curve, as the third one is. Curves do not prove gradients right; tests do.
"""


# %%
def test_the_forward_skip_alone_does_not_help():
    assert broken["right"] < 0.12
    assert broken["skip_dropped"] > 0.8 * broken["plain net"]
    assert broken["right"] < broken["branch_forgotten"] < broken["plain net"]
    assert broken["relu_after_the_sum"] == broken["right"]


test_the_forward_skip_alone_does_not_help()

# %% [markdown]
r"""
## Exercises

**1. Read the curves.** Three nets, with errors in percent. Which overfits, which suffers from optimization, and which
is fine? What would you try first for each?

| net | training | test |
|---|---|---|
| P | 1 | 24 |
| Q | 31 | 33 |
| R | 2 | 5 |

<details><summary>Hint 1</summary>

Split the test error by (9.4).

</details>

<details><summary>Solution</summary>

P overfits: a gap of 23 points. More data or augmentation. Q has an optimization problem: 31 points are there before
any new image is seen. Longer training, another learning rate, skips. R is fine.

```python
table = {"P": (1, 24), "Q": (31, 33), "R": (2, 5)}
gaps = {name: test - train for name, (train, test) in table.items()}
assert gaps == {"P": 23, "Q": 2, "R": 3}
assert max(table, key=lambda name: table[name][0]) == "Q"
```

</details>
"""

# %% [markdown]
r"""
**2. Only slower?** Give the plain net of 20 layers more time: 4 epochs, then 15. Does it catch up with the residual one
after 4?

<details><summary>Hint 1</summary>

`learn("plain", 20, 15)["train"]` has the error after each epoch. The learning rate drops after 60 % of the epochs.

</details>

<details><summary>Solution</summary>

It improves a lot, from a third to about a tenth. So "cannot be trained" is too strong for 20 layers. It does not catch
up with 4 epochs of the residual net.

```python
longer = learn("plain", 20, 15)["train"][-1]
assert broken["right"] - 0.03 < longer < 0.6 * broken["plain net"]
```

</details>
"""

# %% [markdown]
r"""
**3. A better start.** The residual net of 56 layers is worse than that of 20. Equation (9.3) suggests a cure that costs
nothing: let every block start as the identity. `nn.zero_gamma_(net)` sets the gain of each branch's last batch norm
to 0. Try it.

<details><summary>Hint 1</summary>

Draw the net with `nets.build("post", 27, 0)`, and train it with `nets.train(net, 0, epochs=4)`.

</details>

<details><summary>Hint 2</summary>

Compare with the same net without `zero_gamma_`, after the same 4 epochs.

</details>

<details><summary>Solution</summary>

The error falls to about 1 %: 56 layers are now as good as 20. The skip is not all of it. How the branches start counts
as much (Goyal et al. 2017). At the start the blocks are the identity, so the gradient does not explode either.

```python
result = {}
for started in (False, True):
    net = nets.build("post", 27, 0)
    if started:
        nn.zero_gamma_(net)
    result[started] = degradation.learned(net, 0, digits, 4)["train"]
assert result[True] < 0.04 and result[True] < 0.5 * result[False]
```

</details>
"""

# %% [markdown]
r"""
## Summary

- A deeper plain net can represent what a shallower one does: (9.1). Training does not find it.
- Degradation shows in the **training** error. The gap to new images stays small, (9.4): it is not overfitting.
- Nor is it a vanishing gradient: with batch norm the gradient of a plain net explodes towards the input before
  training, by 1.21 a layer, (9.5).
- The cause is not settled by this experiment. Skips help, and a good start of the branches helps as much.
- At which depth plain nets fail depends on the recipe. Say which recipe, and how many seeds.

Next: tutorial 10 takes a residual net apart into paths. `minires lab degradation --scale full` repeats all this with
three seeds and writes a page about it.
"""

# %% [markdown]
r"""
## Sources

- K. He, X. Zhang, S. Ren and J. Sun 2015, *Deep Residual Learning for Image Recognition*, sections 1, 4.1 and 4.2,
  figures 1 and 6, table 6.
- G. Yang et al. 2019, *A Mean Field Theory of Batch Normalization*: the factor (9.5).
- D. Balduzzi et al. 2017, *The Shattered Gradients Problem*.
- H. Li et al. 2018, *Visualizing the Loss Landscape of Neural Nets*.
- L. Xiao et al. 2018, *Dynamical Isometry and a Mean Field Theory of CNNs*: plain nets of 10,000 layers.
- P. Goyal et al. 2017, *Accurate, Large Minibatch SGD*, section 5.1: the gain of the last norm starts at 0.
"""
