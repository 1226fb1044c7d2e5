# %% [markdown]
r"""
# 6. Batch norm and layer norm by projection

**Goal.** You derive the backward pass of batch norm in four lines. You see that it is a projection. Then you look at
wrong gradients and say which term each of them lacks.

**Time.** 30 minutes to read, 5 seconds to run. You need the chain rule (tutorial 1) and dot products.
"""

# %%
import inspect

import numpy as np
from _kit import BRANCH, PLAIN, SKIP, SUM, panels, show, smoke

from minires import functional as F
from minires.check import bugs, planted, pull
from minires.ops.norm import BatchNorm

# %% [markdown]
r"""
## Predictions

Write down an answer to each before you read on. Every answer is checked further down.

1. Four numbers are normalized, and the loss is the sum of the results: $L = \sum_i y_i$. What is the gradient of the
   four numbers?
2. Now the loss looks at one result only: $L = y_1$. How many of the four numbers get a gradient?
3. A linear layer with a bias stands in front of batch norm. What is the gradient of its bias?

<details><summary>Answer 1</summary>

Zero, for all four. The mean of the results is 0 whatever the numbers are, so their sum cannot change. Many gradient
checks use exactly this loss. They see nothing.

</details>

<details><summary>Answer 2</summary>

All four. Each number moves the mean and the standard deviation, and both move $y_1$.

</details>

<details><summary>Answer 3</summary>

Zero. A bias shifts all numbers of a channel alike, and the mean takes the shift away again.

</details>
"""

# %% [markdown]
r"""
## Forward

Take a set of $N$ numbers. Batch norm has one set per channel: that channel's values over the whole batch.

$$ \begin{aligned}
\mu &= \frac{1}{N} \sum_i x_i, & \sigma^2 &= \frac{1}{N} \sum_i (x_i - \mu)^2 + \epsilon, \\
\hat x &= \frac{x - \mu}{\sigma}, & y &= w \hat x + b
\end{aligned} \tag{6.1} $$

The small number $\epsilon$ keeps $\sigma$ away from zero. Until we need it, it is 0.

Our example is the set $x = (7, 5, 3, 1)$. Its mean is 4 and its variance is 5.
"""

# %%
x = np.array([7.0, 5.0, 3.0, 1.0])
N, one = len(x), np.ones(len(x))
mu, sigma = x.mean(), x.std()
xhat = (x - mu) / sigma
assert (mu, round(sigma**2, 12)) == (4, 5)
print("xhat =", xhat.round(3))

# %% [markdown]
r"""
Two facts about $\hat x$ carry the whole tutorial. Write $\mathbf 1$ for the vector of ones.

- $\hat x$ has mean 0, so $\mathbf 1 \cdot \hat x = 0$.
- $\hat x$ has variance 1, so $\hat x \cdot \hat x = N$. (With $\epsilon > 0$ it is a little less.)
"""

# %%
assert abs(one @ xhat) < 1e-15
assert abs(xhat @ xhat - N) < 1e-14

# %% [markdown]
r"""
## Derivation

Disturb the input by a small $dx$ and follow it forward. The mean changes by the mean of the disturbance:

$$ d\mu = \frac{1}{N}\, \mathbf 1^T dx \tag{6.2} $$

The standard deviation: $\sigma^2 - \epsilon$ is the mean of $(x - \mu)^2$, so
$2 \sigma\, d\sigma = \frac{2}{N} (x - \mu)^T (dx - \mathbf 1\, d\mu)$. The part with $d\mu$ is zero, because
$(x - \mu)^T \mathbf 1 = 0$. Divide by $2 \sigma$:

$$ d\sigma = \frac{1}{N}\, \hat x^T dx \tag{6.3} $$
"""

# %% [markdown]
r"""
Now $\hat x = (x - \mu) / \sigma$. The quotient rule gives
$d\hat x = (dx - \mathbf 1\, d\mu - \hat x\, d\sigma) / \sigma$. Put (6.2) and (6.3) in:

$$ d\hat x = \frac{1}{\sigma}\, P\, dx, \qquad
P = I - \frac{1}{N} \mathbf 1 \mathbf 1^T - \frac{1}{N} \hat x \hat x^T \tag{6.4} $$

Backward multiplies by the transposed matrix. $P$ is symmetric, so that is $P$ again. With $y = w \hat x + b$ and the
gradient $g$ of $y$ given:

$$ g_x = \frac{w}{\sigma}\, P\, g = \frac{w}{\sigma} \Big( g - \operatorname{mean}(g) - \hat x
\operatorname{mean}(g\, \hat x) \Big) \tag{6.5} $$

Gain and bias collect what stands beside them:

$$ g_w = \sum_i g_i\, \hat x_i, \qquad g_b = \sum_i g_i \tag{6.6} $$
"""

# %% [markdown]
r"""
## Code

First by hand. The loss looks at $y_1$ only, so $g = (1, 0, 0, 0)$.
"""

# %%
P = np.eye(N) - np.outer(one, one) / N - np.outer(xhat, xhat) / N
g = np.array([1.0, 0.0, 0.0, 0.0])
print("P g =", (P @ g).round(12))
assert np.allclose(P @ g, [0.3, -0.4, -0.1, 0.2], rtol=0, atol=1e-15)

# %% [markdown]
r"""
All four numbers get a gradient, as predicted: $P g = (0.3, -0.4, -0.1, 0.2)$.

Now the library. `pull` runs a function forward and hands the gradient `gy` back through it.
"""


# %%
def batch_norm(x, w=None, b=None, eps=0.0):
    """Batch norm in training. Each column of x, (N, C), is one set."""
    return F.batch_norm(x, None, None, w, b, training=True, eps=eps)


def gradients(x, g, w=1.0, b=0.0, eps=0.0):
    """What backward hands to x, w and b, for one set of numbers, (N,)."""
    column, gain, bias = x[:, None], np.array([w]), np.array([b])
    _, grads = pull(lambda *a: batch_norm(*a, eps), column, gain, bias, gy=g[:, None])
    return [grad.squeeze() for grad in grads]


gx, gw, gb = gradients(x, g, w=2.0)
assert np.allclose(gx, 2.0 / sigma * P @ g, rtol=0, atol=1e-15)
assert np.allclose((gw, gb), (g @ xhat, g.sum()), rtol=0, atol=1e-15)

# %% [markdown]
r"""
This is the code that computed it. Find (6.5) and (6.6) in it. No matrix is built: `gb / m` and `gw / m` are the two
means of (6.5), and they are needed anyway.
"""

# %%
print(inspect.getsource(BatchNorm.backward))

# %% [markdown]
r"""
## It is a projection

Multiply $P$ with $\mathbf 1$, with $\hat x$ and with itself. The two facts from above do the rest, for $\epsilon = 0$:

$$ P\, \mathbf 1 = 0, \qquad P\, \hat x = 0, \qquad P\, P = P \tag{6.7} $$

So $P$ is an orthogonal projection. It removes two directions and leaves everything at right angles to them untouched.

- $\mathbf 1$ is what a **shift** of $x$ does. Normalizing forgets the shift, so no gradient flows along it.
- $\hat x$ is what a **stretch** of $x$ does. Normalizing forgets the scale, so no gradient flows along it.
"""


# %%
def test_backward_is_a_projection():
    rng = np.random.default_rng(0)
    x, g = rng.normal(5, 3, 12), rng.normal(size=12)
    gx, _, _ = gradients(x, g, w=1.7)
    assert abs(gx.sum()) < 1e-14
    assert abs(gx @ (x - x.mean())) < 1e-13
    again, _, _ = gradients(x, gx * x.std() / 1.7, w=1.7)  # P P g = P g
    assert np.allclose(again, gx, rtol=1e-13)


test_backward_is_a_projection()

# %% [markdown]
r"""
Here is the projection of the example, to scale. The floor is spanned by $\mathbf 1$ and $\hat x$. The gradient $g$
loses its shadow on the floor. What stands upright is left.
"""

# %%
along_one = g @ one / N**0.5  # 1 and xhat have length sqrt(N)
along_xhat = g @ xhat / N**0.5
upright = np.linalg.norm(P @ g)
assert np.allclose((along_one, along_xhat, upright), (0.5, 0.671, 0.548), atol=5e-4)
assert np.isclose(along_one**2 + along_xhat**2 + upright**2, g @ g)
print(f"g along 1: {along_one:.3f}, along xhat: {along_xhat:.3f}, upright: {upright:.3f}")


# %% tags=["hide-input"]
def draw_projection(panel):
    """An oblique view: 1 to the right, xhat into the page, and upright what P leaves."""
    flat = np.array([[1.0, -0.14], [0.6, 0.42], [0.0, 1.0]])  # where each coordinate goes on the page

    def arrow(start, end, color, name, shift, line="-", width=2.4):
        style = {"arrowstyle": "-|>", "color": color, "ls": line, "lw": width, "shrinkA": 0, "shrinkB": 0}
        panel.annotate("", end @ flat, start @ flat, arrowprops=style)
        panel.annotate(name, (start + end) / 2 @ flat, shift, textcoords="offset points", color=color, fontsize=13)

    origin, tip, foot = np.zeros(3), np.array([along_one, along_xhat, upright]), np.array([along_one, along_xhat, 0])
    panel.fill(*(np.array([[0, 0, 0], [0.9, 0, 0], [0.9, 0.9, 0], [0, 0.9, 0]]) @ flat).T, color="0.94")
    for axis, name in zip(0.9 * np.eye(3)[:2], ("1", "x̂"), strict=True):
        arrow(origin, axis, "0.55", "", (0, 0), width=1.2)
        panel.annotate(name, axis @ flat, (5, -4), textcoords="offset points", fontsize=13, color="0.3")
    arrow(origin, foot, BRANCH, "removed", (-6, -20), "--")
    arrow(origin, tip, SUM, "g", (-14, 4))
    arrow(foot, tip, SKIP, "P g", (7, 0))
    panel.set(aspect="equal", xlim=(-0.1, 1.6), ylim=(-0.25, 0.95))
    panel.axis("off")
    panel.set_title("The gradient loses its shadow")


# %% tags=["hide-input"]
def draw_terms(panel):
    """The three terms of (6.5), number by number, and their sum."""
    terms = {"- mean(g)": -g.mean() * one, "- x̂ mean(g x̂)": -xhat * (g @ xhat) / N, "P g: g and both terms": P @ g}
    bottom = np.arange(1, N + 1)
    looks = [(PLAIN, ""), (BRANCH, "///"), (SKIP, "")]
    for k, ((name, values), (color, hatch)) in enumerate(zip(terms.items(), looks, strict=True)):
        bars = panel.bar(bottom + 0.3 * (k - 1), values, 0.28, color=color, hatch=hatch, edgecolor="w", label=name)
        panel.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    panel.axhline(0, color="0.3", lw=0.8)
    panel.set(xticks=bottom, xlabel="which of the four numbers", ylim=(-0.95, 0.55), yticks=np.arange(-0.4, 0.5, 0.2))
    panel.set_title("The same, number by number")
    panel.legend(frameon=False, fontsize=9, loc="lower right", handlelength=1.2)


# %% tags=["hide-input"]
figure, (left, right) = panels(2, width=8.8, height=4)
draw_projection(left)
draw_terms(right)
show(
    figure,
    alt="Left: an arrow g stands over a floor spanned by 1 and x-hat. Its shadow on the floor is removed; the upright "
    "part, P g, of length 0.55, is left. Right: for each of four numbers the terms of P g. Minus the mean is -0.25 "
    "everywhere; the x-hat term is -0.45, -0.15, 0.15, 0.45; together with g = (1, 0, 0, 0) they sum to"
    " 0.3, -0.4, -0.1, 0.2.",
    caption="Batch norm's backward is a projection: the example x = (7, 5, 3, 1), g = (1, 0, 0, 0).",
)

# %% [markdown]
r"""
## What follows from it

**A bias in front of batch norm does nothing.** A bias is added to all numbers of the set, so its gradient is the sum of
$g_x$, and (6.7) says that sum is 0. It costs memory and learns nothing. Leave it out: `bias=False`.

**With $\epsilon > 0$ a little is left along $\hat x$.** Then $\hat x \cdot \hat x = N\, v / (v + \epsilon)$, where $v$
is the variance, and

$$ P\, \hat x = \frac{\epsilon}{v + \epsilon}\, \hat x \tag{6.8} $$

The direction $\mathbf 1$ is removed exactly, whatever $\epsilon$ is.
"""


# %%
def test_a_bias_in_front_gets_no_gradient_and_eps_leaves_its_share_along_xhat():
    rng = np.random.default_rng(1)
    x, g, eps = rng.normal(5, 3, 12), rng.normal(size=12), 0.1
    z, gz = x[:, None], g[:, None]
    _, (bias,) = pull(lambda c: batch_norm(F.add(z, c), eps=eps), np.zeros(1), gy=gz)
    assert abs(bias.item()) < 1e-14
    v = x.var()
    xhat = (x - x.mean()) / np.sqrt(v + eps)
    gx, _, _ = gradients(x, xhat, eps=eps)
    assert np.allclose(gx, eps / (v + eps) * xhat / np.sqrt(v + eps), rtol=1e-10)


test_a_bias_in_front_gets_no_gradient_and_eps_leaves_its_share_along_xhat()

# %% [markdown]
r"""
## At rest

After training, batch norm uses running statistics $\mu_r$ and $\sigma_r$. They are constants. Nothing in them depends
on $x$, so there is nothing to project:

$$ y = w\, \frac{x - \mu_r}{\sigma_r} + b, \qquad g_x = \frac{w}{\sigma_r}\, g \tag{6.9} $$

The difference can be seen with a loss that looks at one sample only. In training all samples of the batch get a
gradient. At rest only that one does.
"""

# %%
mean, var = np.array([x.mean()]), np.array([x.var()])


def batch_norm_at_rest(x):
    return F.batch_norm(x, mean, var, eps=0.0)


_, (at_rest,) = pull(batch_norm_at_rest, x[:, None], gy=g[:, None])
in_training, _, _ = gradients(x, g)
print("in training:", in_training.round(3))
print("at rest:    ", at_rest[:, 0].round(3))
assert np.allclose(in_training, P @ g / sigma)
assert np.allclose(at_rest[:, 0], g / sigma)

# %% [markdown]
r"""
Both formulas are right, each in its mode. Training with (6.9), or evaluating with (6.5), is a classic mistake. The
forward values can agree to the last digit, as they do here, while the gradients differ.
"""

# %% [markdown]
r"""
## Layer norm: the other axis

Layer norm takes its sets along the features: one set per sample. Two things change in the formula.

- The sums run over the features, not over the batch.
- The gain $w$ now differs **within** a set. It cannot be pulled out of the means, so it goes in first:

$$ g_x = \frac{1}{\sigma}\, P\, (w \odot g) \tag{6.10} $$

RMS norm does not subtract the mean. It forgets the scale only, so one term goes. With $r$ the root of the mean square
and $\hat x = x / r$:

$$ g_x = \frac{1}{r} \Big( I - \frac{1}{N} \hat x \hat x^T \Big) (w \odot g) \tag{6.11} $$
"""


# %%
def test_layer_norm_is_batch_norm_on_the_other_axis():
    rng = np.random.default_rng(2)
    x, g = rng.normal(size=(2, 5, 7))
    _, (across,) = pull(lambda x: F.layer_norm(x, 7, eps=0.0), x, gy=g)
    _, (down,) = pull(batch_norm, x.T, gy=g.T)
    assert np.allclose(across, down.T, rtol=1e-10, atol=1e-13)


def test_the_gain_goes_into_the_projection():
    rng = np.random.default_rng(3)
    x, g, w = rng.normal(size=(3, 7))
    xhat = (x - x.mean()) / x.std()
    right = (w * g - (w * g).mean() - xhat * (w * g * xhat).mean()) / x.std()
    _, (gx, _) = pull(lambda x, w: F.layer_norm(x, 7, w, eps=0.0), x, w, gy=g)
    assert np.allclose(gx, right, rtol=1e-10, atol=1e-13)


test_layer_norm_is_batch_norm_on_the_other_axis()
test_the_gain_goes_into_the_projection()

# %% [markdown]
r"""
## Measure: what a seed of ones can see

A gradient check needs a $g$ to start from. Many use ones, that is, the loss $L = \sum_i y_i$. By (6.7) the true $g_x$
is then 0, and any multiple of it is 0 as well.

The bug zoo of minires holds nine wrong versions of this backward. We plant each, with $w = 1$ and $b = 0$ as at the
start of training, and look whether any of $g_x, g_w, g_b$ changes. Then we do the same with a random seed and a gain
that is not 1.
"""

# %%
rng = np.random.default_rng(4)
x8, g8 = rng.normal(5, 3, 8), rng.normal(size=8)


def notices(found, g, w, b):
    """Whether the wrong version's gradients differ from the right ones."""
    right = gradients(x8, g, w, b, eps=1e-5)
    with planted(found):
        wrong = gradients(x8, g, w, b, eps=1e-5)
    return max(np.abs(r - q).max() for r, q in zip(right, wrong, strict=True)) > 1e-9


zoo = bugs(BatchNorm)
by_ones = {found.name: notices(found, np.ones(8), 1.0, 0.0) for found in zoo}
by_random = {found.name: notices(found, g8, 1.7, 0.3) for found in zoo}
assert np.abs(gradients(x8, np.ones(8))[0]).max() < 1e-15  # prediction 1
print(f"{'planted':32s} ones  random")
for name, seen in by_ones.items():
    print(f"{name:32s} {'seen' if seen else '-':5s} {'seen' if by_random[name] else '-'}")

# %% [markdown]
r"""
The seed of ones sees 3 of the 9, the random seed all 9.

It is often said that a seed of ones sees nothing. That is nearly right: it sees a wrong matrix that does not map
$\mathbf 1$ to 0, and no other mistake. So minires never seeds a check with ones.
"""

# %%
assert len(by_ones) == 9
assert sum(by_ones.values()) == 3
assert sum(by_random.values()) == 9

# %% [markdown]
r"""
## Break it

Four of the nine are about $P$ itself.

| planted | what it computes, up to $w / \sigma$ |
|---|---|
| `mean_path_dropped` | $g - \hat x \operatorname{mean}(g \hat x)$ |
| `variance_path_dropped` | $g - \operatorname{mean}(g)$ |
| `statistics_treated_as_constants` | $g$ |
| `bessel_in_backward` | $g - \operatorname{mean}(g) - \hat x \sum_i g_i \hat x_i / (N - 1)$ |

**Predict.** A right $g_x$ is at right angles to $\mathbf 1$ and to $\hat x$. Which right angle does each of the four
lose?

<details><summary>Answer</summary>

`mean_path_dropped` loses the one with $\mathbf 1$ and keeps the one with $\hat x$. `variance_path_dropped` does the
opposite. `statistics_treated_as_constants` loses both. `bessel_in_backward` takes away a little too much along
$\hat x$, so it loses that one, by a small angle.

</details>

Now break it. We plant each bug, draw 60 random sets of 8 numbers, and measure both cosines.
"""

# %%
MEAN, VARIANCE = "mean_path_dropped", "variance_path_dropped"
BOTH, BESSEL = "statistics_treated_as_constants", "bessel_in_backward"


def cosines(x, gx):
    """The cosine of each column of gx with 1, and with xhat."""
    lengths = np.linalg.norm(gx, axis=0) * len(x) ** 0.5
    xhat = (x - x.mean(axis=0)) / x.std(axis=0)
    return gx.sum(axis=0) / lengths, (gx * xhat).sum(axis=0) / lengths


# %%
def channels(x, g):
    """The gradient of x for many sets at once, one a column."""
    return pull(batch_norm, x, gy=g)[1][0]


sets, seeds = rng.normal(5, 3, (8, 60)), rng.normal(size=(8, 60))
angles = {"right": cosines(sets, channels(sets, seeds))}
for found in bugs(BatchNorm):
    if found.name in (MEAN, VARIANCE, BOTH, BESSEL):
        with planted(found):
            angles[found.name] = cosines(sets, channels(sets, seeds))
largest = {name: np.abs(both).max(axis=1) for name, both in angles.items()}
print(f"{'largest cosine':32s} with 1   with xhat")
for name, (with_one, with_xhat) in largest.items():
    print(f"{name:32s} {with_one:.1e}  {with_xhat:.1e}")

# %% tags=["hide-input"]
figure, (panel,) = panels(width=7.5, height=5)
looks = {BOTH: ("x", PLAIN), MEAN: ("s", SKIP), VARIANCE: ("^", BRANCH), BESSEL: ("+", "k"), "right": ("o", SUM)}
for name in looks:
    marker, color = looks[name]
    panel.scatter(*angles[name], marker=marker, color=color, s=60 if name == "right" else 26, label=name)
panel.set(xlabel="cosine of g_x with 1", ylabel="cosine of g_x with x̂", xlim=(-1, 1), ylim=(-1, 1))
panel.grid(axis="x", alpha=0.25)
panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
show(
    figure,
    alt="Each gradient as a point: its cosine with 1 across, with x-hat up. Right gradients sit at the origin. With "
    "the mean path dropped they lie on the horizontal axis, with the variance path dropped on the vertical one, with "
    "both dropped anywhere, and Bessel's slip keeps them on the vertical axis, near the origin.",
    caption="Which right angle is lost names the missing term: 60 random sets of 8 numbers for each bug.",
)

# %% [markdown]
r"""
**Observe.** Each mistake has its own place. The grader of assignment A4 looks at the same two right angles to tell a
student which term is missing.
"""


# %%
def test_which_right_angle_is_lost_names_the_missing_term():
    lost = {name: tuple(both > 1e-3) for name, both in largest.items()}
    assert lost["right"] == (False, False)
    assert lost[MEAN] == (True, False)
    assert lost[VARIANCE] == lost[BESSEL] == (False, True)
    assert lost[BOTH] == (True, True)


test_which_right_angle_is_lost_names_the_missing_term()

# %% [markdown]
r"""
## Measure: a slip that hides in large batches

`bessel_in_backward` divides by $N - 1$ where $N$ belongs. Its error is the last term of (6.5) over $N - 1$. A random
$g$ has about one part in $\sqrt N$ along $\hat x$, so the relative error falls like $N^{-3/2}$.

Predict: at which $N$ does it drop below a tolerance of 0.001?
"""

# %%
sizes = [2**k for k in range(2, 11 if smoke else 13)]
(bessel,) = (found for found in bugs(BatchNorm) if found.name == BESSEL)
errors = []
for n in sizes:
    sets, seeds = rng.normal(size=(2, n, 400))
    right = channels(sets, seeds)
    with planted(bessel):
        wrong = channels(sets, seeds)
    off, size = np.linalg.norm([wrong - right, right], axis=1)
    errors.append(np.median(off / size))
    print(f"N = {n:4d}: {errors[-1]:.6f}")

# %% tags=["hide-input"]
figure, (panel,) = panels(width=7, height=4)
panel.loglog(sizes, errors, "o-", color=BRANCH, label="median of 400 random sets")
panel.loglog(sizes, 0.67 * np.array(sizes) ** -1.5, "--", color=SUM, label="0.67 N^(-3/2)")
panel.axhline(1e-3, color=SKIP, lw=1.2, ls=":", label="a tolerance of 0.001")
panel.set_xticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1024"])
panel.minorticks_off()
panel.set(xlabel="N, numbers in the set", ylabel="relative error of g_x")
panel.legend(frameon=False)
show(
    figure,
    alt="The relative error of Bessel's slip against the size N of the set, both axes logarithmic: 0.04 at N = 8, "
    "0.0014 at 64, 0.0005 at 128, along a straight line of slope minus 3/2. Between 64 and 128 it falls below the "
    "tolerance of 0.001.",
    caption="The larger the set, the better the slip hides.",
)

# %% [markdown]
r"""
At $N = 8$ the typical error is 4 %, at $N = 128$ it is 0.05 %. A check with a batch of 128 and a tolerance of 0.001
lets the slip pass. Check gradients on small sets, and in float64.
"""

# %%
error = dict(zip(sizes, errors, strict=True))
assert 0.03 < error[8] < 0.05
assert 0.0004 < error[128] < 0.0006
assert error[128] < 1e-3 < error[64]

# %% [markdown]
r"""
## What the projection does not explain

The projection takes 2 of $N$ directions away. Of a random $g$ that is, on average, the fraction $2 / N$ of its squared
length: 3 % for $N = 64$. So it is not what makes training faster. Why batch norm helps is an open question; the first
answer, "internal covariate shift", did not survive measurement (Santurkar et al. 2018).

Another sentence is plainly false: "batch norm keeps gradients from exploding". In a deep stack of linear layer, batch
norm and ReLU, at the start of training, the gradient **grows** towards the input, by a factor of about 1.2 a layer
(Yang et al. 2019).
"""

# %%
rng = np.random.default_rng(5)
depth, width, batch = 50, 64, 128
weights = [rng.normal(size=(width, width)) / width**0.5 for _ in range(depth)]


def stack(x, *weights):
    for w in weights:
        x = F.relu(F.batch_norm(F.linear(x, w), None, None, training=True))
    return x


inputs, seed = rng.normal(size=(2, batch, width))
_, (_, *grads) = pull(stack, inputs, *weights, gy=seed)
growth = (np.linalg.norm(grads[0]) / np.linalg.norm(grads[-1])) ** (1 / (depth - 1))
print(f"first layer's gradient over the last one's: {growth ** (depth - 1):.0f}")
print(f"that is a factor of {growth:.2f} a layer")
assert 1.17 < growth < 1.25

# %%
z, h = rng.normal(size=(2, 64, 4000))
kept = np.mean(np.linalg.norm(channels(z, h) * z.std(axis=0), axis=0) ** 2) / 64
print(f"squared length that the projection takes away at N = 64: {1 - kept:.3f}")
assert abs(1 - kept - 2 / 64) < 0.01

# %% [markdown]
r"""
## Exercises

**1. Layer norm's backward.** Write `layer_norm_gx(g, w, xhat, sigma)` for one set, from (6.10), without a matrix.

<details><summary>Hint 1</summary>

What enters the projection is not $g$. What is it?

</details>

<details><summary>Hint 2</summary>

Call it $h = w \odot g$. Then $g_x = (h - \operatorname{mean}(h) - \hat x \operatorname{mean}(h\, \hat x)) / \sigma$.

</details>

<details><summary>Solution</summary>

```python
def layer_norm_gx(g, w, xhat, sigma):
    h = w * g
    return (h - h.mean() - xhat * (h * xhat).mean()) / sigma


x, g, w = np.random.default_rng(6).normal(size=(3, 7))
_, (gx, _) = pull(lambda x, w: F.layer_norm(x, 7, w, eps=0.0), x, w, gy=g)
assert np.allclose(layer_norm_gx(g, w, (x - x.mean()) / x.std(), x.std()), gx)
```

</details>
"""

# %% [markdown]
r"""
**2. Weights in front of batch norm.** Let $z = X v$, with data $X$ of shape (N, D) and weights $v$ of shape (D,), and
let batch norm follow. Show that the gradient of $v$ is at right angles to $v$. What does a step of gradient descent
then do to the length of $v$?

<details><summary>Hint 1</summary>

$g_v = X^T g_z$. What is $v \cdot g_v$?

</details>

<details><summary>Hint 2</summary>

$v \cdot g_v = (X v) \cdot g_z = z \cdot g_z$. Write $z$ as a combination of $\mathbf 1$ and $\hat z$.

</details>

<details><summary>Solution</summary>

$z = \mu \mathbf 1 + \sigma \hat z$, and $g_z$ is at right angles to both by (6.7), so $v \cdot g_v = 0$. By Pythagoras
$|v - \eta g_v|^2 = |v|^2 + \eta^2 |g_v|^2$: without weight decay every step makes $v$ longer. The output does not
depend on the length of $v$, so only the direction learns, ever more slowly.

```python
rng = np.random.default_rng(7)
X, v, g = rng.normal(size=(20, 5)), rng.normal(size=5), rng.normal(size=20)
_, (gv,) = pull(lambda v: batch_norm(F.matmul(X, v)), v[:, None], gy=g[:, None])
gv = gv[:, 0]
assert abs(gv @ v) < 1e-13
stepped = v - 0.1 * gv
assert np.isclose(stepped @ stepped, v @ v + 0.01 * gv @ gv)
```

</details>
"""

# %% [markdown]
r"""
**3. Name the mistake.** Somebody's batch norm gave these three gradients for the set $x = (7, 5, 3, 1)$, with $w = 1$
and $g = (0, 1, 0, 2)$. One is right. Which, and what do the others lack?
"""

# %%
g = np.array([0.0, 1.0, 0.0, 2.0])
A = np.array([-0.75, 0.25, -0.75, 1.25])
B = np.array([0.0, 0.5, -1.0, 0.5])
C = np.array([0.75, 1.25, -0.25, 1.25])
print("times sigma:", A, B, C, sep="\n")

# %% [markdown]
r"""
<details><summary>Hint 1</summary>

Two dot products with each of the three are enough.

</details>

<details><summary>Hint 2</summary>

Sum each. Then multiply each with $(3, 1, -1, -3)$ and sum again.

</details>

<details><summary>Solution</summary>

The sums are 0, 0 and 3. The products with $(3, 1, -1, -3)$ give $-5$, 0 and 0. So B is right. A is not at right angles
to $\hat x$: the variance term is missing. C is not at right angles to $\mathbf 1$: the mean term is missing.

```python
direction = np.array([3.0, 1.0, -1.0, -3.0])
assert [sum(gx) for gx in (A, B, C)] == [0, 0, 3]
assert [gx @ direction for gx in (A, B, C)] == [-5, 0, 0]
assert np.allclose(B / sigma, gradients(x, g)[0])
for name, gx in (VARIANCE, A), (MEAN, C):
    (found,) = (each for each in bugs(BatchNorm) if each.name == name)
    with planted(found):
        assert np.allclose(gx / sigma, gradients(x, g)[0])
```

</details>
"""

# %% [markdown]
r"""
## Summary

- Normalizing forgets the shift and the scale of a set. So its backward removes the gradient along $\mathbf 1$ and along
  $\hat x$: it is the projection (6.7), times $w / \sigma$.
- Batch norm, layer norm and group norm share (6.5) and differ in what forms a set. RMS norm forgets the scale alone.
- At rest nothing is projected, because the statistics are constants: (6.9).
- A seed of ones sees 3 of 9 wrong versions. A random seed, a gain that is not 1 and small sets see all nine.
- The right angle that is lost names the missing term.

Next: tutorial 8 puts such layers into a branch with a skip around it. In assignment A4 you write this backward
yourself.
"""

# %% [markdown]
r"""
## Sources

- S. Ioffe and C. Szegedy 2015, *Batch Normalization*, algorithm 1 and section 3.
- J. L. Ba, J. R. Kiros and G. E. Hinton 2016, *Layer Normalization*, equation 3.
- B. Zhang and R. Sennrich 2019, *Root Mean Square Layer Normalization*, equation 4.
- S. Santurkar, D. Tsipras, A. Ilyas and A. Madry 2018, *How Does Batch Normalization Help Optimization?*, section 2.
- G. Yang et al. 2019, *A Mean Field Theory of Batch Normalization*: gradients explode in batch-normalized plain nets.
- T. van Laarhoven 2017, *L2 Regularization versus Batch and Weight Normalization*: weights that only turn (exercise 2).
"""
