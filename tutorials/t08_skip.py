# %% [markdown]
r"""
# 8. The skip: 1 + F'

**Goal.** You derive what a skip does to a gradient, for one block and for many. You watch it on the tape, cut it, and
learn which popular sentences about it are false.

**Time.** 40 minutes to read, 3 seconds to run. You need the chain rule (tutorial 1) and matrices.
"""

# %%
import inspect
from contextlib import nullcontext

import numpy as np
from _kit import BRANCH, PLAIN, SKIP, SUM, panels, show

import minires as mr
from minires import functional as F
from minires.check import bugs, planted, pull
from minires.explain import figure as skip_figure
from minires.ops.residual import ResidualAdd

# %% [markdown]
r"""
## Predictions

Write down an answer to each before you read on. Every answer is checked further down.

1. $y = x + F(x)$ with $F(x) = 3x$, for a number $x$. The gradient of $y$ is 1. What is the gradient of $x$?
2. "Thanks to the skip, the gradient of $x$ is at least as large as that of $y$." For which slope $F'$ is it zero?
3. Twenty blocks with skips, drawn at random as He et al. do it, with no normalization. On its way from the last block
   to the first, does the gradient fade, stay, or grow?

<details><summary>Answer 1</summary>

4. The skip brings 1, the branch brings 3, and the two are added.

</details>

<details><summary>Answer 2</summary>

For $F' = -1$. The skip's share is always there, but the branch's share may point against it. So the sentence is false.

</details>

<details><summary>Answer 3</summary>

It grows, by a factor of several hundred. Each block adds to it. That is why residual nets need normalization, or small
branches.

</details>
"""

# %% [markdown]
r"""
## The skip

A residual block adds a branch $F$ to its input. Move the input by a small $dx$, and the output moves by

$$ y = x + F(x), \qquad dy = dx + J_F\, dx \tag{8.1} $$

$J_F$ is the Jacobian of the branch: row $i$, column $j$ holds $\partial F_i / \partial x_j$. For numbers it is the
slope $F'$.

Look at the sum alone, with $f = F(x)$. In $y = x + f$ each summand has the derivative 1. So each gets the gradient $g$
of $y$, whole and untouched:

$$ g_{\text{skip}} = g, \qquad g_f = g \tag{8.2} $$

It is not shared out between the two. And this is all of the code:
"""

# %%
print(inspect.getsource(ResidualAdd.forward))
print(inspect.getsource(ResidualAdd.backward))

# %% [markdown]
r"""
## The block's backward

The branch receives $g$ at its output and returns $J_F^T g$ at its input. That is what every backward pass does. Then
two gradients arrive at $x$, and the multivariate chain rule adds them (tutorial 1):

$$ g_x = g + J_F^T\, g = (I + J_F)^T\, g \tag{8.3} $$

The same follows from (8.1): $dy = (I + J_F)\, dx$, and backward multiplies with the transposed matrix. For numbers,
(8.3) reads $g_x = (1 + F')\, g$. That is the "+1".

Our example has two features and a branch of one layer, $F(x) = \tanh(W x)$. `pull` runs a function forward and hands
the gradient `gy` back through it.
"""

# %%
W = np.array([[0.8, -0.5], [0.6, 0.9]])
x, g = np.array([[1.2, -0.7]]), np.array([[0.5, -1.0]])  # one sample, (N, D)


def block(x):
    return F.residual_add(x, F.tanh(F.linear(x, W)))


y, (gx,) = pull(block, x, gy=g)
J = (1 - np.tanh(x @ W.T).T ** 2) * W  # row i: slope of tanh at i, times row i of W
print("g   =", g[0], "  J^T g =", (g @ J)[0].round(3), "  g_x =", gx[0].round(3))
assert np.allclose(gx, g + g @ J, rtol=0, atol=1e-15)
_, (four,) = pull(lambda x: F.residual_add(x, 3 * x), np.ones(1), gy=np.ones(1))
assert four == 4  # prediction 1

# %% [markdown]
r"""
The tape knows more than the sum. Its *ledger* keeps what each op handed to $x$: one entry from the skip, one from the
branch. The skip's entry is $g$, bit for bit.
"""

# %%
t = mr.tensor(x, requires_grad=True)
with mr.ledger() as book:
    block(t).backward(g)
shares = {entry.op: entry.gradient for entry in book.into(t)}
for op, gradient in shares.items():
    print(f"{op:12s} hands x the gradient {gradient[0].round(3)}")
assert np.array_equal(shares["ResidualAdd"], g)
assert np.allclose(shares["Linear"], g @ J, rtol=0, atol=1e-15)

# %% [markdown]
r"""
Step through it. The figure below uses exactly these numbers. Its switch drops the +1, and its two columns show what
becomes of a gradient in many blocks. (Run as a script, this tutorial only names the command that opens it.)
"""

# %% tags=["hide-input"]
if "get_ipython" in globals():  # in a notebook, and on the site
    from IPython.display import HTML, display

    display(HTML(skip_figure.fragment()))
else:
    print("the interactive figure: type  minires explain skip --open")
kept = skip_figure.golden()["block"]["kept"]
assert np.allclose(gx[0], kept["gx"], rtol=0, atol=1e-12)

# %% tags=["hide-input"]
figure, (left, right) = panels(2, width=7.4, height=3.8)
ends = {"whole": [g[0], (g @ J)[0]], "cut": [np.zeros(2), (g @ J)[0]]}
for panel, (name, (skip, branch)) in zip((left, right), ends.items(), strict=True):
    arrows = [((0, 0), skip, SKIP, "-", "g", (8, 4)), (skip, skip + branch, BRANCH, "--", "Jᵀg", (8, -14))]
    if name == "whole":
        arrows.append(((0, 0), skip + branch, SUM, "-", "g_x", (-30, -18)))
    for start, end, color, line, label, shift in arrows:
        if not np.array_equal(start, end):
            style = {"arrowstyle": "-|>", "color": color, "ls": line, "lw": 2.4, "shrinkA": 0, "shrinkB": 0}
            panel.annotate("", end, start, arrowprops=style)
            at = (np.add(start, end)) / 2
            panel.annotate(label, at, shift, textcoords="offset points", color=color, fontsize=12)
    panel.set(xlim=(-0.9, 1.1), ylim=(-2.15, 0.25), aspect="equal", xlabel="first feature")
    panel.grid(axis="x", alpha=0.25)
left.set(title="g_x = g + Jᵀg", ylabel="second feature")
right.set_title("The +1 cut: Jᵀg alone is left")
show(
    figure,
    alt="Two pictures of gradients as arrows. Left: g = (0.50, -1.00) by the skip, then J transposed g = (-0.49, -0.96)"
    " by the branch; their sum g_x = (0.01, -1.96). In the first feature the two cancel, in the second they add up. "
    "Right: with the +1 cut, only (-0.49, -0.96) is left.",
    caption="The two shares of a block's gradient, for the example.",
)

# %% [markdown]
r"""
Look at the first feature. The skip brings 0.50, the branch brings -0.49, and 0.01 is left. The +1 is a summand. It is
not a floor.
"""

# %%
assert gx[0].round(2).tolist() == [0.01, -1.96]
assert (g @ J)[0].round(2).tolist() == [-0.49, -0.96]

# %% [markdown]
r"""
## Many blocks

Put blocks one behind the other, $x_{i+1} = x_i + F_i(x_i)$. Add up what the blocks from $l$ on have added:

$$ x_L = x_l + \sum_{i=l}^{L-1} F_i(x_i) \tag{8.4} $$

Every $x_i$ in the sum depends on $x_l$. Differentiate, and write $g_l$ for the gradient of $x_l$:

$$ g_l = \Big( I + \frac{\partial}{\partial x_l} \sum_{i=l}^{L-1} F_i(x_i) \Big)^{T} g_L \tag{8.5} $$

This is equation 5 of He et al. (2016). The first term carries $g_L$ from the last block to block $l$, past all weights.

Or use (8.3) block by block. It is the same matrix, written as a product:

$$ g_l = (I + J_l)^T \cdots (I + J_{L-1})^T\, g_L \tag{8.6} $$
"""


# %%
def test_the_sum_and_the_product_are_the_same_matrix():
    rng = np.random.default_rng(0)
    weights, x0, gL = rng.normal(size=(4, 3, 3)), rng.normal(size=3), rng.normal(size=3)
    points = [x0]
    for w in weights:
        points.append(points[-1] + np.tanh(w @ points[-1]))
    product = np.eye(3)  # (8.6), each factor from its own point
    for w, point in zip(weights, points, strict=False):
        product = (np.eye(3) + (1 - np.tanh(w @ point) ** 2)[:, None] * w) @ product

    def added(x):  # the sum of all F_i, as a function of x_0
        start = x
        for w in weights:
            x = F.residual_add(x, F.tanh(F.linear(x, w)))
        return x - start

    (total,) = pull(added, x0[None], gy=gL[None])[1]
    assert np.allclose(gL + total[0], product.T @ gL, rtol=1e-13)  # (8.5) is (8.6)


test_the_sum_and_the_product_are_the_same_matrix()

# %% [markdown]
r"""
## Measure: how far it reaches

We build 20 blocks with the branch $F(x) = W_2 \operatorname{relu}(W_1 x)$. The weights are random: $W_1$ has variance
$2/d$, as He et al. draw it, and $W_2$ has $1/d$. There is no normalization. The branch may be multiplied by a number
$\alpha$:

$$ \begin{aligned}
y &= x + \alpha F(x), \qquad g_x = (I + \alpha J_F)^T\, g, \\
&\operatorname{E} |g_x|^2 \approx (1 + \alpha^2)\, |g|^2
\end{aligned} \tag{8.7} $$

The last part holds for such weights. $W_2$ has mean 0 and hardly depends on $g$, so $g \cdot J_F^T g$ is 0 on average;
and $|J_F^T g|^2$ is $|g|^2$ on average. Over $L$ blocks the norm grows by about $(1 + \alpha^2)^{L/2}$.

Compute this for $L = 20$, with $\alpha = 1$ and $\alpha = 1 / \sqrt L$, before you go on.
"""

# %%
L, d = 20, 64
rng = np.random.default_rng(0)
drawn = rng.normal(size=(L, 2, d, d)) / d**0.5
layers = [(w1 * 2**0.5, w2) for w1, w2 in drawn]
inputs, seed = rng.normal(size=(2, 32, d))


def norms(alpha, skip=True, cut=False):
    """|g_l| / |g_L| for l = 0, ..., L."""
    points = [mr.tensor(inputs, requires_grad=True)]
    for w1, w2 in layers:
        f = alpha * F.linear(F.relu(F.linear(points[-1], w1)), w2)
        points.append((F.residual_add(points[-1], f) if skip else f).retain_grad())
    with mr.lesion(skip_grad=0) if cut else nullcontext():
        points[-1].backward(seed)
    found = np.array([np.linalg.norm(point.grad) for point in points])
    return found / found[-1]


# %%
root = L**-0.5
reach = {
    "α = 1": norms(1.0),
    "α = 1/√L": norms(root),
    "no skips": norms(1.0, skip=False),
    "α = 1/√L, +1 cut": norms(root, cut=True),
    "α = 1, +1 cut": norms(1.0, cut=True),
}
print("gradient at the first block, over that behind the last")
for name, ratios in reach.items():
    print(f"{name:18s} {ratios[0]:8.3g}")
print("expected by (8.7):", 2.0**10, "and", round((1 + 1 / L) ** 10, 2))

# %% tags=["hide-input"]
figure, (panel,) = panels(width=6.8, height=4.6)
looks = {
    "α = 1": (SKIP, "o", "-"),
    "α = 1/√L": (SKIP, "^", "--"),
    "no skips": (PLAIN, "s", "-"),
    "α = 1, +1 cut": (BRANCH, "x", "-"),
    "α = 1/√L, +1 cut": (BRANCH, "v", "--"),
}
for name, (color, marker, line) in looks.items():
    label = f"{name}: {reach[name][0]:.3g}"
    panel.semilogy(range(L + 1), reach[name], marker=marker, ls=line, color=color, ms=5, lw=1.4, label=label)
panel.set(xlabel="l: in front of block l (0 is the input)", ylabel="|g_l| / |g_L|", xticks=range(0, L + 1, 4))
panel.legend(frameon=False, loc="lower right", title="at the input")
show(
    figure,
    alt="The gradient's norm in front of each of 20 blocks, relative to behind the last, on a log scale. "
    f"With alpha = 1 it grows to {reach['α = 1'][0]:.0f} at the input, with alpha = 1/sqrt(L) to "
    f"{reach['α = 1/√L'][0]:.1f}. Without skips it stays at {reach['no skips'][0]:.2f}. With the +1 cut and "
    f"alpha = 1/sqrt(L) it falls to {reach['α = 1/√L, +1 cut'][0]:.0e}; with the +1 cut and alpha = 1 it stays at "
    f"{reach['α = 1, +1 cut'][0]:.1f}.",
    caption="The same weights, five ways: with skips, without, and with the +1 cut from backward alone.",
)

# %% [markdown]
r"""
Read it slowly, for it is not the usual story.

- With $\alpha = 1$ the gradient **grows**, by a factor of several hundred. Not fading is not enough.
- With $\alpha = 1 / \sqrt L$ it stays: the factor is below 2 at any depth, for $(1 + 1/L)^{L/2} < \sqrt e$ in (8.7).
- **Without skips it neither fades nor grows** here. These weights were chosen for that. A plain net's gradient does
  not always vanish.
- `mr.lesion` cuts the +1 from the backward pass and leaves the forward pass alone. Where the branches are small, the
  gradient is then gone: each block multiplies it by about $1/\sqrt{20}$. Where they are not small, it is not.

So the exact statement is this. The skip makes the gradient **independent of the size of the branches**: they may be as
small as one likes, and $g$ still arrives.
"""

# %%
assert 300 < reach["α = 1"][0] < 2000
assert 1.2 < reach["α = 1/√L"][0] < 2
assert (1 + 1 / L) ** (L / 2) < np.e**0.5 < 2
assert 0.2 < reach["no skips"][0] < 5
assert reach["α = 1/√L, +1 cut"][0] < 1e-12
assert 0.2 < reach["α = 1, +1 cut"][0] < 5

# %% [markdown]
r"""
## The start

How should a block start? As the identity, if you like: then $L$ blocks together are the identity too. For that, $F$ has
to be zero. There are two ways to get there, and one of them is a trap.

Take $F(x) = W_2 \operatorname{relu}(W_1 x)$ again. If both matrices are 0, the gradient of each is 0, since each is
multiplied by the other. No step of gradient descent ever leaves this point; it is a saddle. If only the last one,
$W_2$, is 0, then $W_1$ waits, but $W_2$ gets a gradient and learns.
"""


# %%
def weight_gradients(w1, w2):
    rng = np.random.default_rng(1)
    x, g = rng.normal(size=(2, 8, 5))

    def block(w1, w2):
        return F.residual_add(x, F.linear(F.relu(F.linear(x, w1)), w2))

    y, grads = pull(block, w1, w2, gy=g)
    assert np.array_equal(y, x)  # the identity, in both cases
    return [float(np.abs(grad).max()) for grad in grads]


random, zeros = np.random.default_rng(2).normal(size=(5, 5)), np.zeros((5, 5))
both, last = weight_gradients(zeros, zeros), weight_gradients(random, zeros)
print("both zero:      largest entry of g_W1, g_W2 =", both)
print("last one zero:  largest entry of g_W1, g_W2 =", np.round(last, 2).tolist())
assert both == [0, 0]
assert last[0] == 0 < last[1]

# %% [markdown]
r"""
## The projection

Where a stage widens, $x$ and $F(x)$ have different shapes. Then the skip carries $W_s x$, a projection:

$$ \begin{aligned} y &= W_s\, x + F(x), \\ g_x &= W_s^T g + J_F^T\, g \end{aligned} \tag{8.8} $$

There is no $I$ any more. What the skip hands back has gone through a matrix. Nothing is wrong with one or two of those
in a net. But along $n$ of them, the skips' share of the gradient is a product of $n$ matrices, as in a plain net. With
$W_s = \lambda I$ it is $\lambda^n g$.

He et al. (2016) put such skips into all 54 blocks of a net with 110 layers. Its test error on CIFAR-10 rose from 6.6 %
to 12.2 % with 1x1 convolutions. With the constant $\lambda = \frac12$ on the skips it stayed above 20 %.
"""

# %%
Ws = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])  # from 2 features to 3
wide, g3 = np.random.default_rng(3).normal(size=(3, 2)), np.array([[1.0, -1.0, 0.5]])


def projected(x):
    return F.residual_add(F.linear(x, Ws), F.tanh(F.linear(x, wide)))


_, (gx3,) = pull(projected, x, gy=g3)
J3 = (1 - np.tanh(x @ wide.T).T ** 2) * wide
assert np.allclose(gx3, g3 @ Ws + g3 @ J3, rtol=0, atol=1e-14)
print(f"the skips' share after 54 halvings: {0.5**54:.1e}")
assert f"{0.5**54:.1e}" == "5.6e-17"

# %% [markdown]
r"""
**An activation behind the sum** takes the identity away too. The original block of 2015 computes
$y = \operatorname{relu}(x + F(x))$. With $m = 1$ where $y > 0$, else 0:

$$ g_x = (I + J_F)^T\, (m \odot g) \tag{8.9} $$

Where $m$ is 0, the skip hands back nothing. And with $F = 0$ this block is not the identity but a ReLU. The block of
2016 moves the activation into the branch for this reason: the *pre-activation* block.
"""

# %%
negative, one = np.array([[-1.0, 2.0]]), np.ones((1, 2))
y, (gx,) = pull(lambda x: F.relu(F.residual_add(x, 0 * x)), negative, gy=one)
print("F = 0, relu behind the sum:  x =", negative[0], " y =", y[0], " g_x =", gx[0])
assert y.tolist() == [[0, 2]]
assert gx.tolist() == [[0, 1]]

# %% [markdown]
r"""
## What is not true

Four sentences that you will meet, and a counterexample to each.

**"The gradient through a block is at least 1."** Let $F(x) = -x$. A branch of two layers and a ReLU can do that, since
$-x = \operatorname{relu}(-x) - \operatorname{relu}(x)$. Then $y = 0$ for every $x$, and $g_x = 0$ for every $g$.
"""

# %%
eye = np.eye(2)
first, second = np.vstack([eye, -eye]), np.hstack([-eye, eye])


def canceling(x):
    return F.residual_add(x, F.linear(F.relu(F.linear(x, first)), second))


y, (gx,) = pull(canceling, x, gy=g)
print("y =", y[0], " g_x =", gx[0])
assert not y.any()
assert not gx.any()

# %% [markdown]
r"""
That block was built on purpose. Are random ones better? We draw blocks with 16 features, and count how often $g_x$ is
shorter than $g$.
"""


# %%
def shorter(scale, draws=2000, d=16):
    """The share of random blocks, branch times `scale`, whose g_x is shorter than g."""
    rng, count = np.random.default_rng(0), 0
    for _ in range(draws):
        w1 = rng.normal(size=(d, d)) * (2 / d) ** 0.5
        w2 = rng.normal(size=(d, d)) / d**0.5
        x, g = rng.normal(size=(2, d))
        gx = g + scale * (w1.T * (w1 @ x > 0)) @ (w2.T @ g)
        count += np.linalg.norm(gx) < np.linalg.norm(g)
    return count / draws


smaller = {scale: shorter(scale) for scale in (1.0, 0.5, 0.1)}
for scale, share in smaller.items():
    print(f"branch times {scale}: shorter in {share:.0%} of all blocks")
assert 0.03 < smaller[1.0] < 0.10
assert 0.15 < smaller[0.5] < 0.25
assert 0.38 < smaller[0.1] < 0.48

# %% [markdown]
r"""
What **is** true needs a condition. If the branch stretches no vector by more than $\epsilon < 1$, the triangle
inequality gives

$$ \begin{aligned}
&(1 - \epsilon)\, |g| \le |g_x| \le (1 + \epsilon)\, |g| \\
&\text{where } \lVert J_F \rVert_2 \le \epsilon < 1
\end{aligned} \tag{8.10} $$
"""


# %%
def test_a_small_branch_changes_the_length_by_little():
    rng = np.random.default_rng(4)
    for _ in range(200):
        J, g = rng.normal(size=(6, 6)), rng.normal(size=6)
        eps = rng.uniform(0.01, 0.99)
        J *= eps / np.linalg.norm(J, 2)
        ratio = np.linalg.norm(g + J.T @ g) / np.linalg.norm(g)
        assert 1 - eps <= ratio <= 1 + eps


test_a_small_branch_changes_the_length_by_little()

# %% [markdown]
r"""
**"With skips a gradient cannot vanish, whatever the depth."** By (8.6) the factors multiply. With the slope
$F' = -\frac12$ in each of 54 blocks, $2^{-54} = 5.6 \cdot 10^{-17}$ of the gradient is left. With $F' = 1$ in 20 blocks
it grows a million times. The 1 is still there in (8.5), but the sum beside it nearly cancels it, or drowns it.

He et al. are more careful than those who quote them. They write that cancellation is *unlikely*, since the sum would
have to be $-1$ for all samples of a mini-batch.

**"Backward, a skip gives $\partial L / \partial x = 1 + \partial L / \partial F$."** The 1 belongs to the Jacobian. It
multiplies $g$; it is not added to it. With $F(x) = A x$ and $g = (3, -2)$:
"""

# %%
A, c = np.array([[0.1, 0.2], [-0.3, 0.4]]), np.array([[3.0, -2.0]])
_, (gx,) = pull(lambda x: F.residual_add(x, F.linear(x, A)), x, gy=c)
print("true: g + A^T g =", gx[0].round(12), "   1 + dL/dF =", 1 + c[0])
assert np.allclose(gx[0], [3.9, -2.2], rtol=0, atol=1e-15)
assert (1 + c[0]).tolist() == [4, -1]
assert f"{(1 - 0.5) ** 54:.1e}" == "5.6e-17"
assert (1 + 1) ** 20 > 1e6

# %% [markdown]
r"""
**"If all eigenvalues of the Jacobians are below 1, the gradient vanishes."** This one is about plain nets. What counts
are singular values, for a product of matrices can grow although the eigenvalues of each are small. And factors below 1
need not bring a product to 0: $\prod_{k \ge 2} (1 - 1/k^2) = \frac12$. They have to stay below a bound that is itself
below 1.
"""

# %%
A = np.array([[0.5, 2.0], [0.0, 0.5]])
B = A.T
assert max(abs(np.linalg.eigvals(A))) == max(abs(np.linalg.eigvals(B))) == 0.5
ten = np.linalg.norm(np.linalg.matrix_power(B @ A, 10), 2)
print(f"eigenvalues 0.5, but ten times B A stretches a vector by {ten:.1e}")
assert ten > 3e6
assert abs(np.prod([1 - 1 / k**2 for k in range(2, 10_000)]) - 0.5) < 1e-4

# %% [markdown]
r"""
## Break it

The bug zoo of minires holds ten wrong versions of the sum. We plant each, and look at the gradient of a whole block.
Its error is compared with the two vectors that a right gradient is made of:

$$ g_x^{\text{wrong}} - g_x = a\, g + b\, J_F^T\, g + \text{rest} \tag{8.11} $$

**Predict.** Which $(a, b)$ belongs to a skip that is dropped? Which to a branch that is forgotten, which to a skip that
counts twice? Is there a mistake that leaves a rest?

<details><summary>Answer</summary>

$(-1, 0)$, $(0, -1)$ and $(1, 0)$. A rest is left where something is added that is neither $g$ nor $J_F^T g$, such as a
literal 1, or a mask.

</details>
"""

# %%
rng = np.random.default_rng(5)
w1, w2, x, g = (rng.normal(size=shape) for shape in ((12, 6), (6, 12), (4, 6), (4, 6)))


def two_layers(x):
    return F.residual_add(x, F.linear(F.relu(F.linear(x, w1)), w2))


def gradient():
    return pull(two_layers, x, gy=g.copy())[1][0]  # some bugs write into gy


right = gradient()
basis = np.stack([g.ravel(), (right - g).ravel()], axis=1)  # g, and J^T g


def fit(wrong):
    """(a, b) of (8.11) by least squares, and the rest as a fraction of the error."""
    error = (wrong - right).ravel()
    found, *_ = np.linalg.lstsq(basis, error)
    rest = np.linalg.norm(error - basis @ found)
    a, b = np.round(found, 12) + 0.0  # and no minus zero
    return a, b, rest / max(np.linalg.norm(error), 1e-300)


# %%
found = {}
for bug in bugs(ResidualAdd):
    with planted(bug):
        found[bug.name] = fit(gradient())
for name, (a, b, rest) in found.items():
    fitted = rest < 1e-12
    told = f"a = {a:4.1f}, b = {b:4.1f}" if fitted else f"fits nothing: {rest:.0%} are left"
    print(f"{name:26s} {told}")

# %% tags=["hide-input"]
figure, (panel,) = panels(width=7.6, height=4.6)
spots = {}
for name, (a, b, rest) in found.items():
    if rest < 1e-12:
        spots.setdefault((round(a, 6) + 0.0, round(b, 6) + 0.0), []).append(name)
for (a, b), names in spots.items():
    right_here = (a, b) == (0, 0)
    panel.plot(a, b, "o" if right_here else "X", color=SUM if right_here else BRANCH, ms=10)
    label = "\n".join(names) + ("\n(this gradient is right)" if right_here else "")
    paper = {"fc": "white", "ec": "none", "pad": 1.5}
    panel.annotate(label, (a, b), (11, 0), textcoords="offset points", va="center", fontsize=9, bbox=paper)
panel.axhline(0, color="0.6", lw=0.8, zorder=0)
panel.axvline(0, color="0.6", lw=0.8, zorder=0)
panel.set(xlim=(-1.3, 2.3), ylim=(-2.4, 1.4), xlabel="a: how much of g too much", ylabel="b: how much of Jᵀg too much")
panel.grid(axis="x", alpha=0.25)
show(
    figure,
    alt="Wrong versions of the residual sum in the plane of their coefficients (a, b): skip_dropped at (-1, 0), "
    "skip_counted_twice at (1, 0), branch_forgotten at (0, -1), branch_subtracted at (0, -2), paths_averaged at "
    "(-0.5, -0.5), summed_in_place at (1, 1). Two bugs that this gradient cannot show are at (0, 0).",
    caption="Two numbers name the mistake.",
)

# %% [markdown]
r"""
**Observe.** Six of the ten are named by two numbers. The fit is exact, so there is no doubt.

Two fit nothing, `one_plus_the_gradient` and `relu_after_the_sum`. Whoever grades has to say "unknown" here, or test for
these two. And two give the right gradient: `buffer_cleared_for_reuse` spoils the array that it was handed, and
`skip_broadcast` accepts shapes that it should refuse. They need tests of their own. The grader of assignment A5 works
like this.
"""


# %%
def test_two_numbers_name_the_mistake():
    fitted = {name: (a, b) for name, (a, b, rest) in found.items() if rest < 1e-12}
    exact = {name: (round(a, 9), round(b, 9)) for name, (a, b) in fitted.items()}
    assert exact["skip_dropped"] == (-1, 0)
    assert exact["branch_forgotten"] == (0, -1)
    assert exact["skip_counted_twice"] == (1, 0)
    assert exact["branch_subtracted"] == (0, -2)
    assert exact["paths_averaged"] == (-0.5, -0.5)
    assert exact["summed_in_place"] == (1, 1)
    assert exact["buffer_cleared_for_reuse"] == exact["skip_broadcast"] == (0, 0)
    assert len(exact) == 8
    assert set(found) - set(exact) == {"one_plus_the_gradient", "relu_after_the_sum"}
    assert len(found) == 10


test_two_numbers_name_the_mistake()

# %% [markdown]
r"""
## Exercises

**1. The block's backward.** Let $y = x + \operatorname{relu}(x w_1^T)\, w_2^T$, with samples in rows. Write
`block_backward(x, w1, w2, gy)`, which returns `gx, gw1, gw2`, in NumPy. This is the heart of assignment A5; type
`minires class hand-out A5` to get all of it.

<details><summary>Hint 1</summary>

Name what forward computes: $a = x w_1^T$, $h = \operatorname{relu}(a)$, $f = h w_2^T$. Go through it backwards. What is
the gradient of $f$? See (8.2).

</details>

<details><summary>Hint 2</summary>

$g_h = g\, w_2$, and $g_a$ is $g_h$ where $a > 0$, else 0. A weight's gradient is its output's gradient, transposed,
times its input.

</details>

<details><summary>Hint 3</summary>

Two gradients arrive at $x$: $g$ from the skip, and $g_a w_1$ from the branch.

</details>

<details><summary>Solution</summary>

```python
def block_backward(x, w1, w2, gy):
    a = x @ w1.T
    ga = (gy @ w2) * (a > 0)
    return gy + ga @ w1, ga.T @ x, gy.T @ np.maximum(a, 0)


def forward(x, w1, w2):
    return F.residual_add(x, F.linear(F.relu(F.linear(x, w1)), w2))


_, truth = pull(forward, x, w1, w2, gy=g)
for mine, true in zip(block_backward(x, w1, w2, g), truth, strict=True):
    assert np.allclose(mine, true, rtol=1e-12)
```

</details>
"""

# %% [markdown]
r"""
**2. How small must the branch be?** You want $|g_0|$ to lie within a factor of 2 of $|g_L|$ for **every** $g_L$, with
$L = 20$ blocks. Which bound $\epsilon$ on $\lVert J_i \rVert_2$ guarantees it? Compare with what
$\alpha = 1/\sqrt L$ gave above, without any guarantee.

<details><summary>Hint 1</summary>

Use (8.10) twenty times.

</details>

<details><summary>Hint 2</summary>

$(1 + \epsilon)^{20} \le 2$, and $(1 - \epsilon)^{20} \ge \frac12$. Which of the two is the harder one?

</details>

<details><summary>Solution</summary>

The second one: $\epsilon \le 1 - 2^{-1/20} = 0.034$. A bound for the worst case goes like $1/L$. Random branches add up
like independent steps, so that $1/\sqrt L$ is enough for them; but their $\lVert \alpha J_i \rVert_2$ is far above
0.034, so nothing is guaranteed.

```python
upper, lower = 2 ** (1 / 20) - 1, 1 - 2 ** (-1 / 20)
assert round(lower, 3) == 0.034 and lower < upper
w1, w2 = layers[0]
mask = (w1 @ inputs[0] > 0)[:, None]
assert np.linalg.norm(root * w2 @ (mask * w1), 2) > 10 * lower
```

</details>
"""

# %% [markdown]
r"""
**3. Name the mistake.** Three students computed $g_x$ for one block. The right shares are $g = (2, -1)$ and
$J_F^T g = (1, 3)$. What did each of them do?
"""

# %%
g_skip, g_branch = np.array([2.0, -1.0]), np.array([1.0, 3.0])
P, Q, R = np.array([1.0, 3.0]), np.array([4.0, 5.0]), np.array([1.5, 1.0])
print("P", P, " Q", Q, " R", R)

# %% [markdown]
r"""
<details><summary>Hint 1</summary>

The right answer is $(3, 2)$. Subtract it, and write what is left as $a\, g + b\, J_F^T g$.

</details>

<details><summary>Solution</summary>

P: $(a, b) = (-1, 0)$, the skip is dropped. Q: $(0, 1)$, the branch is added twice. That happens to those who write
`gx = gy; gx += ...` and forget that the two names mean one array: whoever reads `gy` next finds $J_F^T g$ in it
already. R: $(-0.5, -0.5)$. Somebody believes that the gradient is split where the paths part.

```python
two = np.stack([g_skip, g_branch], axis=1)
coefficients = [np.linalg.solve(two, wrong - g_skip - g_branch) for wrong in (P, Q, R)]
assert np.allclose(coefficients, [(-1, 0), (0, 1), (-0.5, -0.5)])
```

</details>
"""

# %% [markdown]
r"""
## Summary

- A block's gradient has two shares: $g$ from the skip, untouched, and $J_F^T g$ from the branch, (8.3).
- Over many blocks the factors $I + J_i$ multiply, (8.6). Expanded, the product contains $I$: (8.5).
- So the gradient does not depend on the branches being large. It can still fade, if they point against it, and it grows
  if they are neither small nor normalized.
- A projection (8.8) or an activation behind the sum (8.9) takes the identity away.
- A bound needs a condition: (8.10).
- Two numbers name most mistakes: (8.11).

Next: tutorial 9 looks at what skips do for training, and tutorial 10 expands the product (8.6) into paths. In
assignment A5 you write the block yourself.
"""

# %% [markdown]
r"""
## Sources

- K. He, X. Zhang, S. Ren and J. Sun 2015, *Deep Residual Learning for Image Recognition*, equations 1 and 2.
- K. He, X. Zhang, S. Ren and J. Sun 2016, *Identity Mappings in Deep Residual Networks*, equations 4 and 5, section 3,
  table 1.
- P. Goyal et al. 2017, *Accurate, Large Minibatch SGD*, section 5.1: the last norm of a branch starts at 0.
- H. Zhang, Y. Dauphin and T. Ma 2019, *Fixup Initialization*: unscaled branches without normalization explode.
"""
