# %% [markdown]
r"""
# 10. The unraveled view

**Goal.** You take the gradient of a residual net apart into its $2^L$ paths, walk each of them, and count how long they
are. You delete blocks from trained nets. And you learn how far the picture of "many shallow nets" carries.

**Time.** 40 minutes to read, 8 seconds to run at the smoke budget, 40 seconds in full. You need tutorial 8.
"""

# %%
import itertools
import math

import numpy as np
from _kit import BRANCH, PLAIN, SKIP, SUM, panels, show, smoke

import minires as mr
from minires.check import bugs, planted
from minires.lab import lesions, nets, paths
from minires.ops.residual import ResidualAdd

# %% [markdown]
r"""
## Predictions

1. Three blocks with skips: how many ways lead from the output back to the input? On how many of them does the gradient
   pass exactly two branches?
2. A net has 54 blocks. Pick a path by tossing a coin at each block. Between which lengths do 95 % of all paths lie,
   counted in branches?
3. You delete one block from a trained net, without training it again. How much worse is a residual net of 27 blocks,
   and how much a plain one of 9?

<details><summary>Answer 1</summary>

$2^3 = 8$ ways; 3 of them pass two branches.

</details>

<details><summary>Answer 2</summary>

Between 20 and 34. The lengths are binomial, and hardly any path is short.

</details>

<details><summary>Answer 3</summary>

The residual net loses a point or two in the median, and much more without its first block. The plain net falls to
guessing.

</details>
"""

# %% [markdown]
r"""
## Expand the product

Tutorial 8 ended with a product, one factor for each block. For two blocks, multiply it out:

$$ (I + J_2)(I + J_1) = I + J_1 + J_2 + J_2 J_1 \tag{10.1} $$

Each term is a way through the net. At every block it takes the skip, which contributes $I$, or the branch, which
contributes $J_i$. With $L$ blocks there are $2^L$ ways, one for each set $S$ of blocks whose branch is taken:

$$ g_0 = \sum_{S \subseteq \{1, \ldots, L\}} \Big( \prod_{i \in S} J_i \Big)^{T} g_L \tag{10.2} $$

Inside the product the blocks stand in their order, the last one on the left. The empty set is the path through skips
alone; it brings $g_L$ itself. The *length* of a path is the number of branches on it, $|S|$.
"""


# %%
def test_the_product_is_the_sum_over_all_sets():
    rng = np.random.default_rng(0)
    jacobians = rng.normal(size=(3, 4, 4))
    product = total = np.eye(4)
    for J in jacobians:
        product = (np.eye(4) + J) @ product
    subsets = [s for k in range(1, 4) for s in itertools.combinations(jacobians, k)]
    for chosen in subsets:
        total = total + np.linalg.multi_dot([*reversed(chosen), np.eye(4)])
    assert np.allclose(product, total, rtol=0, atol=1e-13)
    assert len(subsets) + 1 == 8  # prediction 1
    assert sum(len(chosen) == 2 for chosen in subsets) == 3


test_the_product_is_the_sum_over_all_sets()

# %% [markdown]
r"""
## Walk every path

Now in a real net: a pre-activation net, trained on digits. `mr.lesion` multiplies what a residual sum hands back. So we
can walk a single path. In the blocks of $S$ we cut the skip, in all others the branch.
"""

# %%
BLOCKS = 8 if smoke else 12
digits = nets.digits()
small = nets.build("pre", BLOCKS, seed=0)
nets.train(small, seed=0, epochs=3 if smoke else nets.EPOCHS)
few = nets.Images(*(a[:8] for a in digits.train))
f, x = paths.above_stem(small, few)  # the loss, as a function of the first block's input


# %%
def walk(taken):
    """What arrives at x through the branches of `taken` and the skips of the others."""
    others = [k for k in range(BLOCKS) if k not in taken]
    point = mr.tensor(x, requires_grad=True)
    loss = f(point)
    cut_skips = mr.lesion(skip_grad=0, branch_grad=1, block=taken)
    cut_branches = mr.lesion(skip_grad=1, branch_grad=0, block=others)
    with cut_skips, cut_branches:
        loss.backward()
    return point.grad


point = mr.tensor(x, requires_grad=True)
f(point).backward()
print(f"whole gradient: norm {np.linalg.norm(point.grad):.4f}")
for taken in ([], [0], [0, 1], list(range(BLOCKS))):
    print(f"through branches {taken}: norm {np.linalg.norm(walk(taken)):.2e}")

# %% [markdown]
r"""
`paths.path_terms` of the lab does this for all $2^L$ sets, on one tape. We add them up, one by one, and compare with
what backpropagation found in a single pass.
"""

# %%
terms = paths.path_terms(f, x)  # (2^L, images, features)
lengths = paths.path_lengths(BLOCKS)
off = np.abs(terms.sum(axis=0) - point.grad).max() / np.abs(point.grad).max()
print(f"{len(terms):,} paths; their sum differs from backpropagation by {off:.1e}")
assert len(terms) == 2**BLOCKS
assert off < 1e-12
assert np.allclose(terms[0b11], walk([0, 1]), rtol=0, atol=1e-15)

# %% [markdown]
r"""
The same to the last digits. Equation (10.2) is not an approximation.

But mind what was summed: **gradients at one point**. Each $J_i$ was taken where the whole net had put $x_i$. Below you
see that the function itself does not come apart like this.
"""

# %% [markdown]
r"""
## How long are the paths?

Each of $L$ blocks is passed by the branch or by the skip. So the number of paths with $k$ branches is a binomial
coefficient, and as a share of all paths

$$ P(k) = \binom{L}{k} \Big/ 2^L \tag{10.3} $$

The mean is $L/2$, the standard deviation $\sqrt L / 2$. For 54 blocks, as in the ResNet with 110 layers, that is
27 and 3.7. The lab can also count on the tape: with branches that do nothing, each path brings exactly 1.
"""

# %%
every = paths.length_distribution(54)
assert np.allclose(every, [math.comb(54, k) / 2**54 for k in range(55)], rtol=1e-12)
assert np.allclose(every, paths.counted(54), rtol=0, atol=1e-12)
low, high = paths.central_range(every)
print(f"the middle 95 % of the paths: {low} to {high} branches of 54")
print(f"19 to 35: {every[19:36].sum():.1%}   20 to 34: {every[20:35].sum():.1%}")
assert (low, high) == (20, 34)  # prediction 2
assert every[19:36].sum().round(3) == 0.980
assert every[20:35].sum().round(3) == 0.960

# %% [markdown]
r"""
Veit et al. (2016) write that more than 95 % of the paths take 19 to 35 of the 54 blocks. It is 98 %. The range 20 to 34
holds 96 %, and it is the middle 95 % to the nearest whole numbers. Short paths are rare: the very picture of "many
short nets" starts with hardly any.
"""

# %% [markdown]
r"""
## Which paths matter?

Suppose that each branch on a path multiplies what the path brings by $\varepsilon$. Then the paths of length $k$ bring
in proportion to $\binom{L}{k} \varepsilon^k$. Divide by the sum, which is $(1 + \varepsilon)^L$:

$$ \begin{aligned}
P_\varepsilon(k) &= \binom{L}{k} p^k (1 - p)^{L-k}, \\ p &= \frac{\varepsilon}{1 + \varepsilon}
\end{aligned} \tag{10.4} $$

It is a binomial distribution again, tilted to the short side. Its mean is

$$ \bar k = L\, \frac{\varepsilon}{1 + \varepsilon} \tag{10.5} $$

Veit et al. measured the gradient by path length and found that nearly all of it comes through 5 to 17 blocks. Which
$\varepsilon$ would do that?
"""

# %%
for gain in (1.0, 0.5, 0.25, 0.1):
    tilted = paths.length_distribution(54, gain)
    low, high = paths.central_range(tilted)
    mean = paths.mean_length(tilted)
    print(f"gain {gain:4.2f}: mean {mean:4.1f}, the middle 95 %: {low:2d} to {high:2d}")
    assert np.isclose(mean, 54 * gain / (1 + gain))  # (10.5)
assert paths.central_range(paths.length_distribution(54, 0.25)) == (5, 17)
share = every[5:18].sum()
print(f"share of all paths that have 5 to 17 branches: {share:.2%}")
assert f"{share:.2%}" == "0.45%"

# %% tags=["hide-input"]
figure, (panel,) = panels(width=8, height=3.6)
k = np.arange(55)
tilted = paths.length_distribution(54, 0.25)
panel.bar(k, 100 * every, 0.85, color=PLAIN, label="all paths: 96 % in 20 to 34")
panel.bar(k, 100 * tilted, 0.85, color=SKIP, hatch="///", edgecolor="w", lw=0, alpha=0.9, label="each branch × 0.25")
panel.set(xlabel="branches on the path, of 54", ylabel="share, %", xticks=range(0, 55, 6))
panel.annotate("97 % in 5 to 17", (11.5, 14), ha="center", color=SKIP)
panel.set_ylim(0, 16.5)
panel.legend(frameon=False)
show(
    figure,
    alt="Two binomial distributions over 0 to 54 branches. All paths, each counted once: a bell around 27, with 96 "
    "percent between 20 and 34. Each branch counted as 0.25: a bell around 10.8, with 97 percent between 5 and 17.",
    caption="One binomial, two gains: how many paths there are, and which would bring the gradient.",
)

# %% [markdown]
r"""
A gain of 0.25 gives just their range. So their two findings, 19 to 35 and 5 to 17, are one formula with two numbers in
it. Only 0.45 % of all paths lie in 5 to 17.
"""

# %%
assert tilted[5:18].sum().round(2) == 0.97
assert (every.argmax(), (54 * 0.25 / 1.25)) == (27, 10.8)
assert round(54**0.5 / 2, 1) == 3.7

# %% [markdown]
r"""
## Measure: the gradient by path length

Is it a constant gain, in a trained net? We draw random paths of each length $k$ through 27 blocks and measure the norm
of what one path brings.
"""

# %%
deep = nets.build("pre", 27, seed=0)
nets.train(deep, seed=0, epochs=4 if smoke else nets.EPOCHS)
f27, x27 = paths.above_stem(deep, nets.Images(*(a[:32] for a in digits.train)))
one_path = paths.path_norms(f27, x27, draws=3 if smoke else 20, seed=0)
slope, straight = paths.log_slope(one_path)
print(f"each further branch multiplies the norm by {np.exp(slope):.2f}")
print(f"a straight line explains {straight:.1%} of the logarithm's variance")
by_number = paths.mass_by_length(one_path)
print(f"number of paths times norm: mean length {paths.mean_length(by_number):.1f} of 27")
assert 0.1 < np.exp(slope) < 0.6
assert straight > 0.95
assert paths.mean_length(by_number) < 8 < 27 / 2

# %% [markdown]
r"""
So it is nearly a constant gain, and "number of paths times norm of one" sits far below the middle, 13.5. This is how
Veit et al. measured it.

But gradients are vectors. Paths of one length may cancel. What do they bring **together**? No need to walk them all. If
every branch's gradient is multiplied by a number $t$, a path of length $k$ is multiplied by $t^k$:

$$ \begin{aligned}
g(t) &= \sum_{k=0}^{L} t^k g_k, \\ g_k &= \sum_{|S| = k} \Big( \prod_{i \in S} J_i \Big)^{T} g_L
\end{aligned} \tag{10.6} $$

This is a polynomial in $t$. With $L + 1$ values of $t$ on the unit circle, a Fourier transform returns its coefficients
$g_k$. That takes 28 passes instead of $2^{27}$.
"""

# %%
parts = paths.gradient_by_length(f27, x27)  # g_0, ..., g_27
whole = parts.sum(axis=0)
exact = (parts * whole).sum(axis=(1, 2)) / (whole * whole).sum()  # its projections
print(f"exact: mean length {paths.mean_length(exact):.1f} of 27")
print("shares in %:", (100 * exact[:8]).round(1), "...")
assert np.isclose(exact.sum(), 1)
listed = [terms[lengths == k].sum(axis=0) for k in range(BLOCKS + 1)]  # the small net's
assert np.allclose(paths.gradient_by_length(f, x), listed, rtol=0, atol=1e-12)

# %% tags=["hide-input"]
figure, (left, right) = panels(2, width=8.4, height=3.8)
branches = np.arange(28)
left.semilogy(branches, one_path, "o-", color=SUM, ms=4, lw=1)
left.set(xlabel="branches on the path, of 27", ylabel="norm of what it brings", title="One path")
uniform = paths.length_distribution(27)
curves = {"all paths": (uniform, PLAIN, "s", ":"), "number × norm": (by_number, SKIP, "^", "-")}
curves["exact share"] = (exact, BRANCH, "D", "--")
for name, (values, color, marker, line) in curves.items():
    label = f"{name}: mean {paths.mean_length(values):.1f}"
    right.plot(branches, 100 * values, marker=marker, ls=line, color=color, ms=4, lw=1.3, label=label)
right.set(xlabel="branches on the path, of 27", ylabel="share, %", title="All paths of one length")
right.legend(frameon=False)
show(
    figure,
    alt="Left, log scale: the norm of what a single path brings falls on a straight line with the number of branches, "
    f"by a factor of {np.exp(slope):.2f} each. Right: shares by length. All paths have their mean at 13.5; number of "
    f"paths times norm at {paths.mean_length(by_number):.1f}; the exact share of the gradient at "
    f"{paths.mean_length(exact):.1f}.",
    caption="A trained pre-activation net of 27 blocks, 32 images.",
)

# %% [markdown]
r"""
The exact shares sit lower still: paths of the same length cancel in part. Veit et al.'s measure adds up norms, and
norms do not cancel. A share can even be negative, where paths of that length point against the sum.

Both say the same in kind: the gradient of this net comes through few branches at a time.
"""

# %%
assert paths.mean_length(exact) < paths.mean_length(by_number)
assert paths.mean_length(uniform) == 13.5

# %% [markdown]
r"""
## Delete a block

The forward pass first. Veit et al. took a trained net and deleted single blocks, without any more training. Of a
residual block the skip is left. Of a plain block nothing is left: its input is handed on. Then the test images are
judged, with batch norm at rest.
"""

# %%
plain = nets.build("plain", 9, seed=0)
nets.train(plain, seed=0, epochs=4 if smoke else nets.EPOCHS)
patient, plain_patient = (lesions.Patient(net, *digits.test) for net in (deep, plain))
cut = {}
patients = {"pre-activation, 27 blocks": patient, "plain, 9 blocks": plain_patient}
for name, of in patients.items():
    errors = cut[name] = np.array(of.each(lesions.deleted, range(len(of.blocks))))
    print(f"{name}: {of.healthy:.1%} wrong as it is")
    print(f"   one block deleted: median {np.median(errors):.1%}, worst {errors.max():.1%}")
healthy = patient.healthy, plain_patient.healthy

# %% tags=["hide-input"]
figure, (panel,) = panels(width=8, height=3.8)
for (name, errors), color, marker in zip(cut.items(), (SKIP, "k"), ("^", "s"), strict=True):
    before = healthy[0] if color == SKIP else healthy[1]
    label = f"{name} ({100 * before:.1f} % as it is)"
    panel.plot(np.arange(1, len(errors) + 1), 100 * errors, marker=marker, color=color, lw=1.3, label=label)
panel.axhline(90, color="0.6", lw=1)
panel.annotate("guessing: 90 %", (30.8, 91.5), ha="right", color="0.4")
panel.set(xlabel="deleted block, from the input", ylabel="test error, %", xlim=(0, 31), ylim=(0, 105))
panel.legend(frameon=False, loc="center right")
first, second = cut["pre-activation, 27 blocks"], cut["plain, 9 blocks"]
show(
    figure,
    alt="Test error after deleting one block. Pre-activation net of 27 blocks, "
    f"{100 * healthy[0]:.1f} percent as it is: {100 * first[0]:.0f} percent without block 1, "
    f"{100 * np.median(first):.1f} in the median. Plain net of 9 blocks, "
    f"{100 * healthy[1]:.1f} percent as it is: {100 * second.min():.0f} to {100 * second.max():.0f} percent, near "
    "guessing, whichever block is missing.",
    caption="The lesion study in miniature: one block deleted, nothing trained again.",
)

# %% [markdown]
r"""
The residual net hardly notices most blocks. The plain net depends on every one. That is Veit et al.'s finding.

Two things to add. The **first** block matters more than any other in the residual net. And in convolutional nets the
blocks that halve the image matter more as well. "Any block can be deleted" is not true.
"""


# %%
def test_a_residual_net_hardly_misses_a_block_and_a_plain_one_misses_each():
    assert np.median(first) < healthy[0] + 0.03
    assert first.argmax() == 0
    assert first[0] > healthy[0] + 0.05
    assert np.median(second) > 0.7
    assert second.min() > healthy[1] + 0.1


test_a_residual_net_hardly_misses_a_block_and_a_plain_one_misses_each()

# %% [markdown]
r"""
More blocks at once: the error rises step by step, it does not jump. (The first block is spared here.)
"""

# %%
many = lesions.random_lesions(patient, draws=6 if smoke else 40, seed=0)
for what, unit in (("deleted", "blocks deleted"), ("swapped", "pairs of blocks swapped")):
    means = [np.mean(errors) for errors in many[what].values()]
    told = [f"{k}: {error:.0%}" for k, error in zip(many[what], means, strict=True)]
    print(f"{unit}: {', '.join(told)}")
    assert np.diff(means).max() < 0.35
    assert means[-1] > means[0] + 0.05

# %% [markdown]
r"""
## What is not true

**"The function is a sum over $2^L$ paths."** For two blocks, write it down:

$$ x_2 = x + F_1(x) + F_2\big( x + F_1(x) \big) \tag{10.7} $$

To get four paths out of three terms, $F_2(x + F_1(x))$ would have to be $F_2(x) + F_2(F_1(x))$. That holds where $F_2$
is linear. With a ReLU it does not. The expansion (10.2) is exact for the Jacobian, and only there.
"""


# %%
def forward_paths(functions, x):
    """The sum over all 2^L compositions, as if the functions were linear."""
    total = 0
    for k in range(len(functions) + 1):
        for chosen in itertools.combinations(functions, k):
            value = x
            for function in chosen:
                value = function(value)
            total = total + value
    return total


rng = np.random.default_rng(1)
matrices, v = rng.normal(size=(3, 16, 16)) / 4, rng.normal(size=16)
off = {}
for name, act in (("linear", lambda z: z), ("relu", lambda z: np.maximum(z, 0))):
    functions = [lambda z, M=M, act=act: act(M @ z) for M in matrices]
    true = v
    for function in functions:
        true = true + function(true)
    off[name] = np.linalg.norm(forward_paths(functions, v) - true) / np.linalg.norm(true)
    print(f"3 blocks, {name:6s}: the sum over 8 paths is off by {off[name]:.1%}")
assert off["linear"] < 1e-14
assert off["relu"] > 0.05

# %% [markdown]
r"""
**"A residual net is an ensemble of $2^L$ nets."** Members of an ensemble are trained apart, and their outputs are
averaged. These paths share all their weights, and no path computes anything on its own. Veit et al. say
*ensemble-like*, for the way the error rises with the number of deleted blocks. That much we saw.

**"The useful paths have a length of the order of $\sqrt L$."** By (10.5) the mean is proportional to $L$, for a fixed
gain. The root belongs to the **standard deviation** of (10.3). It appears in the mean only if the gain itself shrinks
like $1/\sqrt L$.

**"The gradient takes short paths of 2 or 3 layers."** In Veit et al. it is 5 to 17 blocks, that is 10 to 34 layers.
"""

# %%
mean = {L: paths.mean_length(paths.length_distribution(L, 0.25)) for L in (54, 216)}
print(f"four times the blocks at the same gain: mean {mean[54]:.1f}, then {mean[216]:.1f}")
assert np.isclose(mean[216], 4 * mean[54])
for L in (100, 400, 900):
    shrinking = paths.mean_length(paths.length_distribution(L, L**-0.5))
    assert abs(shrinking - (L**0.5 - 1)) < 0.1

# %% [markdown]
r"""
## Break it

A wrong sum may hand $a\, g$ to the skip and $b\, g$ to the branch, where both should get $g$. Every skip on a path then
counts $a$ times, and every branch $b$ times:

$$ g_0^{\text{wrong}} = \sum_{k=0}^{L} a^{L-k}\, b^k\, g_k \tag{10.8} $$

| planted | skip, $a$ | branch, $b$ |
|---|---|---|
| `skip_dropped` | 0 | 1 |
| `branch_forgotten` | 1 | 0 |
| `skip_counted_twice` | 2 | 1 |
| `paths_averaged` | $\frac12$ | $\frac12$ |
| `branch_subtracted` | 1 | $-1$ |

**Predict.** Which of the five leaves only a single path? Which keeps the direction of the gradient?

<details><summary>Answer</summary>

`skip_dropped` leaves the one path through all branches, `branch_forgotten` the one through all skips. `paths_averaged`
divides everything by $2^L$ and keeps the direction. An optimizer that rescales each layer's gradient hides this
mistake. Plain gradient descent does not: the first layers hardly move.

</details>
"""

# %%
FACTORS = {
    "skip_dropped": (0.0, 1.0),
    "branch_forgotten": (1.0, 0.0),
    "skip_counted_twice": (2.0, 1.0),
    "paths_averaged": (0.5, 0.5),
    "branch_subtracted": (1.0, -1.0),
}
zoo = {bug.name: bug for bug in bugs(ResidualAdd)}
g_k = np.array([terms[lengths == k].sum(axis=0) for k in range(BLOCKS + 1)])
k = np.arange(BLOCKS + 1)
right_norm, wrong_norms = np.linalg.norm(point.grad), {}
for name, (a, b) in FACTORS.items():
    with planted(zoo[name]):
        broken = mr.tensor(x, requires_grad=True)
        f(broken).backward()
    predicted = np.tensordot(a ** (BLOCKS - k) * b**k, g_k, axes=1)  # (10.8); 0 ** 0 is 1
    scale = np.abs(broken.grad).max()
    assert np.allclose(broken.grad, predicted, rtol=0, atol=1e-11 * max(scale, 1))
    wrong_norms[name] = np.linalg.norm(broken.grad)
    print(f"{name:20s} norm {wrong_norms[name]:.2e}, the right one {right_norm:.2e}")

# %% [markdown]
r"""
**Observe.** Equation (10.8) predicts each wrong gradient exactly, from the right net's paths. The single path through
all branches is tiny: with the +1 dropped, that is all that is left. Counting the skip twice multiplies the shortest
path by $2^L$.
"""

# %%
assert wrong_norms["skip_dropped"] < 0.05 * right_norm
assert np.isclose(wrong_norms["paths_averaged"], right_norm / 2**BLOCKS, rtol=1e-12)
assert wrong_norms["skip_counted_twice"] > 10 * right_norm

# %% [markdown]
r"""
## Exercises

**1. A path sampler.** Write `sample_lengths(L, gain, draws, rng)`: lengths of random paths, drawn so that a path with
$k$ branches is chosen in proportion to $\varepsilon^k$. Do not list the paths.

<details><summary>Hint 1</summary>

The weight of a path is a product over the blocks. So the blocks can be decided one by one, independently.

</details>

<details><summary>Hint 2</summary>

At each block, the branch has weight $\varepsilon$ and the skip has weight 1. What is the chance of the branch?

</details>

<details><summary>Solution</summary>

The chance is $\varepsilon / (1 + \varepsilon)$: this is (10.4).

```python
def sample_lengths(L, gain, draws, rng):
    return (rng.random((draws, L)) < gain / (1 + gain)).sum(axis=1)


drawn = sample_lengths(54, 0.25, 100_000, np.random.default_rng(2))
shares = np.bincount(drawn, minlength=55) / len(drawn)
assert np.abs(shares - paths.length_distribution(54, 0.25)).max() < 0.006
assert abs(drawn.mean() - 10.8) < 0.05
```

</details>
"""

# %% [markdown]
r"""
**2. Permute blocks.** Exchange two blocks of the trained net, first neighbors, then blocks that are 12 apart. Spare the
first three. Which hurts more? What does that say about what a block has learned?

<details><summary>Hint 1</summary>

`patient.error(lesions.swapped(deep, i, j), i)` is the test error with blocks $i$ and $j$ exchanged, $i < j$.

</details>

<details><summary>Hint 2</summary>

Take the mean over many pairs of each kind, and compare it with `patient.healthy`.

</details>

<details><summary>Solution</summary>

Neighbors can change places at hardly any cost. Blocks far apart cost more: a block expects roughly the stream that it
was trained on, and neighbors see nearly the same one. A plain net would not survive either.

```python
def cost(apart):
    pairs = [(i, i + apart) for i in range(3, 27 - apart)]
    return np.mean([patient.error(lesions.swapped(deep, i, j), i) for i, j in pairs]) - patient.healthy


assert cost(1) < 0.02
assert cost(12) > cost(1)
```

</details>
"""

# %% [markdown]
r"""
**3. Who is short?** In a net of 54 blocks, how many blocks can be deleted at random so that a quarter of all paths
survives? And so that one path in a million survives?

<details><summary>Hint 1</summary>

A path survives if it takes the skip at every deleted block.

</details>

<details><summary>Solution</summary>

Each deleted block halves the number of paths. Two deleted blocks leave a quarter; twenty leave less than one in a
million. Yet a trained net of 27 blocks still reads most digits without 6 of its blocks, that is with a 64th of its
paths. So the number of paths is no measure of what a net can do.

```python
assert 0.5**2 == 0.25
assert 0.5**20 < 1e-6 < 0.5**19
assert np.mean(many["deleted"]["6"]) < 0.5
```

</details>
"""

# %% [markdown]
r"""
## Summary

- Expanded, the product of tutorial 8 is a sum over $2^L$ paths, (10.2). For the gradient at a point it is exact.
- Path lengths are binomial, (10.3): of 54 blocks most paths take 20 to 34.
- Weighted by a gain for each branch they are binomial again, (10.4). A gain of 0.25 gives Veit et al.'s 5 to 17.
- What all paths of one length bring together can be computed exactly, (10.6). They cancel in part.
- A trained residual net survives the loss of most single blocks. A plain one does not. The first block is an exception.
- The function is not a sum over paths, and the net is not an ensemble in the strict sense.

Next: `minires lab paths` and `minires lab lesions` measure this with more seeds, and on a published ResNet-20 where its
weights are present.
"""

# %% [markdown]
r"""
## Sources

- A. Veit, M. Wilber and S. Belongie 2016, *Residual Networks Behave Like Ensembles of Relatively Shallow Networks*,
  sections 3 to 5, figures 3, 5 and 6.
- K. He, X. Zhang, S. Ren and J. Sun 2016, *Identity Mappings in Deep Residual Networks*, equation 5.
- S. Jastrzebski et al. 2018, *Residual Connections Encourage Iterative Inference*: what lower and upper blocks do.
"""
