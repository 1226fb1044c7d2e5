# %% [markdown]
r"""
# 3. How do I know it is right?

**Goal.** You measure a gradient without backward, and you know beforehand how many digits to expect. Then you plant
35 wrong gradients and see which checks notice them.

**Time.** 35 minutes to read, 5 seconds to run. You need Taylor's formula and the chain rule (tutorial 1).
"""

# %%
import numpy as np
from _kit import BRANCH, PLAIN, SKIP, SUM, panels, show, smoke

from minires import functional as F
from minires.check import CheckError, GradcheckError, bugs, gradcheck, planted, pull
from minires.check.draw import for_each
from minires.check.law import all_laws

# %% [markdown]
r"""
## Predictions

A wrong gradient rarely crashes. The loss still falls, only less. So a gradient has to be measured. Write down an answer
to each question before you read on.

1. You measure a slope as $(f(x + \epsilon) - f(x - \epsilon)) / 2 \epsilon$ in float64. Which of the steps
   $\epsilon = 10^{-2}, 10^{-5}, 10^{-8}, 10^{-12}$ gives the most digits?
2. The same in float32, with the best step there is. How many digits do you get?
3. Somebody's softmax hands back seven times the right gradient. You check it with the loss $L = \sum_i y_i$. Does the
   check notice?

<details><summary>Answer 1</summary>

$10^{-5}$. It gives about 11 digits. At $10^{-2}$ the curvature costs you most of them, at $10^{-12}$ rounding does.

</details>

<details><summary>Answer 2</summary>

About 5, and for a weight of a network 3 or 4.

</details>

<details><summary>Answer 3</summary>

No. The outputs of softmax sum to 1 whatever the scores are. So the true gradient of $L$ is zero, and seven times zero
is zero too.

</details>
"""

# %% [markdown]
r"""
## The difference quotient, and what it leaves out

A slope is the limit of a difference quotient. A computer takes no limit. It takes a step $\epsilon$ and makes an error,
which Taylor's formula shows:

$$ \frac{f(x + \epsilon) - f(x)}{\epsilon} = f' + \frac{\epsilon}{2} f'' + O(\epsilon^2) \tag{3.1} $$

Step to both sides. The even powers of $\epsilon$ are the same on both, so they cancel:

$$ \frac{f(x + \epsilon) - f(x - \epsilon)}{2 \epsilon} = f' + \frac{\epsilon^2}{6} f''' + O(\epsilon^4) \tag{3.2} $$

This is the **central difference**. A step ten times smaller makes it a hundred times better. So why not take
$\epsilon = 10^{-12}$?
"""


# %%
def forward_difference(f, x, eps):
    return (f(x + eps) - f(x)) / eps


def central_difference(f, x, eps):
    return (f(x + eps) - f(x - eps)) / (2 * eps)


# %% [markdown]
r"""
## Rounding

Because $f$ is computed to finitely many digits. A float64 has 53 binary digits, so each value of $f$ is off by up to
$u\, |f|$ with $u = 2^{-53} \approx 1.1 \cdot 10^{-16}$. The two values are nearly equal. Their difference is small, and
the rounding errors stay as large as they were. Then everything is divided by $2 \epsilon$:

$$ \text{rounding} \lesssim \frac{u\, |f|}{\epsilon} \tag{3.3} $$

Both errors together, one growing with $\epsilon$ and one shrinking:

$$ E(\epsilon) \approx \frac{\epsilon^2}{6} |f'''| + \frac{u\, |f|}{\epsilon} \tag{3.4} $$
"""

# %% [markdown]
r"""
Set the derivative of $E$ to zero, and put the result back in:

$$ \begin{aligned} \epsilon_\ast &= \Big( \frac{3\, u\, |f|}{|f'''|} \Big)^{1/3} \\
E(\epsilon_\ast) &= \frac{1}{2} (3\, u\, |f|)^{2/3}\, |f'''|^{1/3} \end{aligned} \tag{3.5} $$

The exponents are what to remember. The best step is about $u^{1/3}$, and the best error is about $u^{2/3}$. A third of
the digits is lost, at every other step more.

We try it on $f = e^x$, where $f = f' = f'''$.
"""

# %%
u = {np.float64: 2.0**-53, np.float32: 2.0**-24}
best_step = {kind: (3 * u[kind]) ** (1 / 3) for kind in u}
best_error = {kind: (3 * u[kind]) ** (2 / 3) / 2 for kind in u}
for kind in u:
    print(f"{kind.__name__}: step {best_step[kind]:.1e}, error {best_error[kind]:.1e}")
assert 6e-6 < best_step[np.float64] < 8e-6
assert 2e-11 < best_error[np.float64] < 3e-11
assert 5e-3 < best_step[np.float32] < 6e-3
assert 1e-5 < best_error[np.float32] < 2e-5

# %% [markdown]
r"""
## Two ways to do better

**More points.** Four points on each side, well weighted, cancel all powers up to $\epsilon^7$. The rounding stays:

$$ \begin{aligned} &\sum_{k=1}^{4} c_k \frac{f(x + k \epsilon) - f(x - k \epsilon)}{\epsilon} = f' + O(\epsilon^8) \\
&c = \Big( \frac{4}{5}, -\frac{1}{5}, \frac{4}{105}, -\frac{1}{280} \Big) \end{aligned} \tag{3.6} $$

An order $p$ in place of 2 gives a best step of about $u^{1/(p+1)}$ and a best error of about $u^{p/(p+1)}$. For
$p = 8$ that is a step near $10^{-2}$, and a ninth of the digits is lost in place of a third.
"""


# %%
def eighth_order(f, x, eps):
    weights = enumerate((4 / 5, -1 / 5, 4 / 105, -1 / 280), start=1)
    return sum(c * (f(x + k * eps) - f(x - k * eps)) / eps for k, c in weights)


# %% [markdown]
r"""
**A step in another direction.** Go along the imaginary axis. If the formula of $f$ holds for complex numbers, Taylor's
formula does too, with $\mathrm i^2 = -1$:

$$ f(x + \mathrm i h) = f + \mathrm i h f' - \frac{h^2}{2} f'' - \mathrm i \frac{h^3}{6} f''' + \dots \tag{3.7} $$

The value $f$ sits in the real part, the slope in the imaginary part. They never meet. Divide the imaginary part by $h$:

$$ f' = \frac{\operatorname{Im} f(x + \mathrm i h)}{h} + O(h^2) \tag{3.8} $$

There is no subtraction, so nothing cancels. Take $h = 10^{-30}$: the error $h^2$ is far below any rounding.
"""


# %%
def complex_step(f, x, h):
    return np.imag(f(x + 1j * h)) / h


# %% [markdown]
r"""
## Measure: the V

We measure the slope of $e^x$ at 400 points between 0 and 1, and take the median of the relative error. Each kind of
difference has its own curve. Predict where each has its lowest point.
"""

# %%
at = np.random.default_rng(0).uniform(0, 1, 400)
steps = 10.0 ** np.arange(-14, 0.1, 1 if smoke else 0.25)


def relative_error(difference, step, kind=np.float64):
    x = at.astype(kind)
    slope = difference(np.exp, x, kind(step)).astype(np.float64)
    right = np.exp(x.astype(np.float64))
    return np.median(np.abs(slope - right) / right)


curves = {
    "forward": [relative_error(forward_difference, step) for step in steps],
    "central": [relative_error(central_difference, step) for step in steps],
    "central, float32": [relative_error(central_difference, s, np.float32) for s in steps],
    "8th order": [relative_error(eighth_order, step) for step in steps],
    "complex step": [relative_error(complex_step, step) for step in steps],
}

# %%
lowest = {}
print(f"{'':18s}best step  error there")
for name, errors in curves.items():
    k = int(np.argmin(errors))
    lowest[name] = steps[k], errors[k]
    print(f"{name:18s}{steps[k]:9.0e}  {errors[k]:.0e}")
assert 1e-9 < lowest["forward"][1] < 2e-8
assert 1e-6 < lowest["central"][0] < 1e-4  # prediction 1
assert 1e-12 < lowest["central"][1] < 5e-11
assert 2e-6 < lowest["central, float32"][1] < 5e-5  # prediction 2
assert lowest["8th order"][1] < 5e-14
assert lowest["complex step"][1] < 1e-16

# %% tags=["hide-input"]
looks = {
    "forward": ("v", PLAIN, "-"),
    "central": ("o", SKIP, "-"),
    "central, float32": ("s", BRANCH, "-"),
    "8th order": ("^", "#009e73", "-"),
    "complex step": ("D", SUM, "--"),
}

# %% tags=["hide-input"]
figure, (panel,) = panels(width=8, height=5)
for name, (marker, color, line) in looks.items():
    shown = np.maximum(curves[name], 1e-17)
    panel.loglog(steps, shown, line, marker=marker, color=color, ms=6, label=name, markevery=1 if smoke else 4)
theory = steps**2 / 6 + u[np.float64] / steps
panel.loglog(steps, theory, ":", color="k", lw=1.6, label="(3.4), float64")
panel.set(xlabel="step", ylabel="relative error of the slope", ylim=(5e-18, 5), xlim=(5e-15, 2))
panel.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1], ["1e-16", "1e-12", "1e-8", "1e-4", "1"])
panel.set_xticks([1e-12, 1e-8, 1e-4, 1], ["1e-12", "1e-8", "1e-4", "1"])
panel.minorticks_off()
panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
show(
    figure,
    alt="Relative error of a slope against the step, both axes logarithmic. Each difference draws a V. Forward: lowest "
    "near 1e-8, error about 1e-8. Central: lowest near 1e-5, about 1e-11, along the dotted line of theory. Central in "
    "float32: lowest near 1e-2 to 1e-3, about 1e-5, and at 1e-8 all digits are gone. Eighth order: lowest near 1e-2, "
    "below 1e-13. The complex step has no left arm: below 1e-8 its error stays under 1e-16.",
    caption="The V: too long a step cuts the curve short, too short a step drowns in rounding.",
)

# %% [markdown]
r"""
Read the figure from the right. Every curve falls with the slope of its order: 1, 2, 8. Then it turns, and rises to the
left with slope 1, which is (3.3). The complex step does not turn; its right arm lies on that of the central difference.
Values below $10^{-17}$, exact zeros among them, are drawn there.

In float32 the best error is about $10^{-5}$. With the step $10^{-8}$, good enough in float64, **nothing** is left:
$x \pm \epsilon$ rounds back to $x$.
"""


# %%
def test_the_best_step_and_error_are_those_of_the_theory():
    for kind in u:
        error = relative_error(central_difference, best_step[kind], kind)
        assert best_error[kind] / 5 < error < best_error[kind] * 2


def test_in_float32_a_short_step_leaves_nothing():
    assert relative_error(central_difference, 1e-8, np.float32) == 1.0


test_the_best_step_and_error_are_those_of_the_theory()
test_in_float32_a_short_step_leaves_nothing()

# %% [markdown]
r"""
## Float32 at the scale of a network

In (3.3) stands $|f|$, not $|f'|$. The loss of a network is a number near 2. The slope of a single weight may be a
thousandth of that. Then the rounding of the loss swamps the slope. We take a small classifier and measure each weight
of its first layer at a few steps. The error is relative to the largest slope.
"""

# %%
rng = np.random.default_rng(1)
images, labels = rng.normal(size=(64, 20)), rng.integers(0, 10, 64)
w1, w2 = rng.normal(size=(8, 20)) / 20**0.5, rng.normal(size=(10, 8)) / 8**0.5


def loss(w1, w2=w2):
    hidden = F.tanh(F.linear(images.astype(w1.dtype), w1))
    return F.cross_entropy(F.linear(hidden, w2.astype(w1.dtype)), labels)


def measured(weights, eps):
    """The central difference of the loss for each weight."""
    slopes = np.zeros(weights.shape)
    for k in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[k] = eps
        slopes[k] = (loss(weights + step).item() - loss(weights - step).item()) / (2 * eps)
    return slopes


# %%
value, (slopes,) = pull(loss, w1, gy=np.ones(()))
worst = {}
ladders = {np.float64: (1e-3, 1e-4, 1e-5), np.float32: (1e-1, 1e-2, 1e-3, 1e-4)}
for kind, ladder in ladders.items():
    for eps in ladder:
        off = np.abs(measured(w1.astype(kind), kind(eps)) - slopes).max()
        worst[kind, eps] = off / np.abs(slopes).max()
        print(f"{kind.__name__} step {eps:.0e}: worst error {worst[kind, eps]:.0e}")
print(f"loss {value:.2f}, largest slope {np.abs(slopes).max():.3f}")

# %%
best32 = min(error for (kind, _), error in worst.items() if kind is np.float32)
best64 = min(error for (kind, _), error in worst.items() if kind is np.float64)
print(f"at best: {best32:.0e} in float32, {best64:.0e} in float64")
assert 1e-4 < best32 < 5e-4
assert worst[np.float32, 1e-1] > 5e-3
assert worst[np.float32, 1e-3] > 1e-3
assert best64 < 1e-8

# %% [markdown]
r"""
The best of the four steps leaves an error of $2 \cdot 10^{-4}$ in float32, its neighbors $10^{-2}$ and
$2 \cdot 10^{-3}$. Nobody knows the best step beforehand. So a tolerance of $10^{-2}$ has to do.

"Float32 is useless for gradient checks" is often said, and it is not quite true: a dropped term or a wrong sign is
seen. A slip of half a percent is not. Check in float64. The formula is the same.
"""

# %% [markdown]
r"""
## From a slope to a gradient: the dot-product test

Backward does not compute slopes one by one. For a function with Jacobian $J$ it takes a vector $g$, the **cotangent**,
and hands back $J^T g$. Differentiating along a direction $v$ gives the other product, $J v$. For all $g$ and $v$

$$ \langle g,\, J v \rangle = \langle J^T g,\, v \rangle \tag{3.9} $$

On the left there is no backward at all: one complex step along $v$. On the right there is no difference quotient. One
number each, for a function of any size.
"""


# %%
def dot_test(f, x, rng):
    """The gap between both sides of (3.9), for random g and v, relative to their size."""
    v, h = rng.normal(size=x.shape), 1e-30
    jv = f(x + 1j * h * v).data.imag / h
    g = rng.normal(size=jv.shape)
    _, (pulled,) = pull(f, x, gy=g)
    left, right = np.sum(g * jv), np.sum(pulled * v)
    return abs(left - right) / (np.linalg.norm(pulled) * np.linalg.norm(v))


def block(x):
    return F.residual_add(x, F.layer_norm(F.tanh(x), 50))


rng = np.random.default_rng(2)
gap = dot_test(block, rng.normal(size=(40, 50)), rng)
print(f"a block of 2000 numbers: gap {gap:.0e}")
assert gap < 1e-15

# %% [markdown]
r"""
Can one number see a mistake among thousands? Call the error of the gradient $e$. The test sees $\langle e, v \rangle$.
For a random $v$ with normal entries that is a normal number with standard deviation $|e|$, wherever in $e$ the mistake
sits. The chance that it falls below $t\, |e|$ is

$$ P\big( |\langle e, v \rangle| < t\, |e| \big) \approx \sqrt{2 / \pi}\; t \tag{3.10} $$

A mistake of size $10^{-4}$ against a tolerance of $10^{-10}$ has $t = 10^{-6}$. It escapes about once in a million.
A $v$ of ones is another matter: there $\langle e, v \rangle$ is the sum of $e$. Two entries in each other's place have
an error whose sum is zero.
"""

# %%
rng = np.random.default_rng(4)
one_wrong, exchanged = np.zeros(2000), np.zeros(2000)
one_wrong[7], exchanged[[7, 8]] = 1, (1, -1)
for name, e in (("one entry wrong", one_wrong), ("two exchanged", exchanged)):
    seen = np.abs(rng.normal(size=(4000, 2000)) @ e) / np.linalg.norm(e)
    below = np.mean(seen < 0.1)
    print(f"{name:16s} sum {e.sum():.0f}, below t = 0.1 in {below:.3f} of the draws")
    assert abs(below - (2 / np.pi) ** 0.5 * 0.1) < 0.02
assert exchanged.sum() == 0

# %% [markdown]
r"""
## The cotangent must be random too

The loss $L = \sum_i y_i$ is the usual seed of a check, because it needs no thought. It is the cotangent
$g = \mathbf 1$, and the check then sees $J^T \mathbf 1$ only. Softmax gives probabilities, so $\mathbf 1^T y = 1$ for
any input. Differentiate that:

$$ J^T \mathbf 1 = 0 \tag{3.11} $$

Batch norm and layer norm give outputs with mean zero, so (3.11) holds for them as well (tutorial 6). These are the ops
whose backward is the easiest to get wrong.
"""

# %%
rng = np.random.default_rng(5)
x, g = rng.normal(size=(2, 8, 5))
norms = {
    "softmax": lambda x: F.softmax(x, dim=-1),
    "layer norm": lambda x: F.layer_norm(x, 5),
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
    "tanh": F.tanh,
}
print("largest gradient     ones     random")
for name, f in norms.items():
    (ones,), (random,) = pull(f, x, gy=np.ones_like(g))[1], pull(f, x, gy=g)[1]
    by_ones, by_random = np.abs(ones).max(), np.abs(random).max()
    print(f"{name:15s} {by_ones:9.0e} {by_random:10.2f}")
    assert (by_ones < 1e-14) == (name != "tanh")
    assert by_random > 0.1

# %% [markdown]
r"""
Three gradients of zero. A backward that is wrong by a factor of seven passes such a check, and so does one that returns
zeros. So minires never seeds a check with ones. And where the true gradient is zero, `gradcheck` does not say "passed".
It says that it cannot see.
"""

# %%
try:
    gradcheck(lambda x: F.sum(F.softmax(x, dim=-1)), x)
except GradcheckError as error:
    refused = str(error)
print(refused.split(";")[0])
assert "cannot see" in refused

# %% [markdown]
r"""
## Choosing the tolerance

The tolerance $\tau$ has to lie between two numbers:

$$ \frac{E(\epsilon_\ast)}{|f'|} \;\ll\; \tau \;\ll\; \text{the smallest mistake you want to see} \tag{3.12} $$

- In float64, central differences of a whole loss: the left side is near $10^{-9}$. Take $\tau = 10^{-6}$.
- Eighth order: take $\tau = 10^{-8}$. Complex step: take $\tau = 10^{-10}$. These are the defaults of `gradcheck`.
- In float32 the left side is near $10^{-3}$. Take $\tau = 10^{-2}$, and mistakes below 1 % pass.

Errors are best taken relative to the **largest** entry of the gradient. An entry near zero is a sum whose terms cancel,
and nobody knows it to ten digits of its own.
"""

# %% [markdown]
r"""
## Kinks

ReLU has no slope at zero. If $0 < x < \epsilon$, the two points of a central difference lie on both sides of the kink:

$$ \frac{\operatorname{relu}(x + \epsilon) - \operatorname{relu}(x - \epsilon)}{2 \epsilon} = \frac{1}{2} +
\frac{x}{2 \epsilon} \tag{3.13} $$

The true slope is 1. The check accuses a backward that is right. The complex step does not reach across, since its step
has no real part. At zero itself there is no slope to compare with, and `gradcheck` says so.
"""


# %%
def relu(x):
    return F.relu(x).data


near = np.array([3e-6])
across = central_difference(relu, near, 1e-5)
beside = complex_step(relu, near, 1e-30)
print(f"relu at 3e-6: central difference {across[0]:.2f}, complex step {beside[0]:.2f}")
assert np.allclose(across, 0.5 + 0.3 / 2, rtol=1e-6)
assert beside == 1
try:
    gradcheck(F.relu, np.array([1.0, 0.0, -2.0]))
except GradcheckError as error:
    refused = str(error)
print(refused.split(". ")[0])
assert "f has a kink here" in refused

# %% [markdown]
r"""
## gradcheck, and minires check

All of this is in one call. It draws the cotangent, tries the complex step, falls back to eighth order with a step that
it finds itself, looks for kinks, and asks whether it would have seen a wrong gradient.
"""

# %%
rng = np.random.default_rng(6)
x, w, b = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=3)


def norm(x, w, b):
    return F.batch_norm(x, None, None, w, b, training=True)


report = gradcheck(norm, x, w, b)
print(report)
assert report.method == "complex"
assert report.max_rel_error < 1e-14

# %% [markdown]
r"""
`gradcheck` is for your own functions, layers and models. For the ops of minires there is a command. In a terminal, type

    minires check softmax

It asks six **oracles**, that is, six ways to know the gradient that share nothing with backward: the complex step, the
dot-product test, central differences, the op written as plain loops, the op taken apart into simpler ones, and PyTorch
where it is installed. Then come the **laws**: sentences such as "the gradient of softmax sums to zero".
"""

# %% [markdown]
r"""
## Break it

The bug zoo of minires holds wrong versions of every op. We take those of five ops, 35 in all, and one point for each
op, such as a tester would draw.
"""

# %%
rng = np.random.default_rng(7)
points = {
    "Softmax": (lambda x: F.softmax(x, dim=-1), [(3, 4)]),
    "BatchNorm": (norm, [(8, 3), (3,), (3,)]),
    "Linear": (F.linear, [(4, 3), (5, 3), (5,)]),
    "ResidualAdd": (lambda x: F.residual_add(x, F.tanh(x)), [(3, 4)]),
    "MaxPool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), [(1, 2, 5, 5)]),
}
for op, (f, shapes) in points.items():
    points[op] = f, [rng.normal(size=s) for s in shapes]
zoo = [found for found in bugs() if found.op is not None and found.op.__name__ in points]
print(len(zoo), "wrong gradients of", ", ".join(points))
assert len(zoo) == 35


# %% [markdown]
r"""
Five checks, from the most common to the most thorough.

| check | cotangent | slope | tolerance |
|---|---|---|---|
| ones | $\mathbf 1$ | central, $10^{-5}$, float64 | $10^{-6}$ |
| float32 | random | central, $5 \cdot 10^{-3}$, float32 | $10^{-2}$ |
| float64 | random | central, $10^{-5}$, float64 | $10^{-6}$ |
| gradcheck | random | complex step, or eighth order | $10^{-10}$, $10^{-8}$ |
| laws | | every law about the op, on cases it draws itself | |
"""


# %%
def differences(f, arrays, ones, eps, tolerance):
    """Whether backward agrees with central differences, relative to the largest slope."""
    y, _ = pull(f, *arrays, gy=np.zeros_like(f(*arrays).data))
    random = np.random.default_rng(8).normal(size=y.shape)
    g = np.ones_like(y) if ones else random.astype(y.dtype)
    _, gradients = pull(f, *arrays, gy=g)
    gaps, largest = [0.0], 0.0
    for i, gradient in enumerate(gradients):
        for k in np.ndindex(gradient.shape):
            up, down = ([a.copy() for a in arrays] for _ in range(2))
            up[i][k] += eps
            down[i][k] -= eps
            slope = np.sum(g * (f(*up).data - f(*down).data)) / (2 * eps)
            gaps.append(abs(slope - gradient[k]))
            largest = max(largest, abs(slope))
    return max(gaps) <= tolerance * max(largest, 0.01)


# %%
def obeys_the_laws(op):
    for law in all_laws(op):
        for_each(law.test, 12, 0, False)
    return True


def passes(check, op):
    """Whether the op passes. A check that ends in an error has noticed something."""
    f, arrays = points[op.__name__]
    single = [a.astype(np.float32) for a in arrays]
    run = {
        "ones": lambda: differences(f, arrays, True, 1e-5, 1e-6),
        "float32": lambda: differences(f, single, False, 5e-3, 1e-2),
        "float64": lambda: differences(f, arrays, False, 1e-5, 1e-6),
        "gradcheck": lambda: bool(gradcheck(f, *arrays)),
        "laws": lambda: obeys_the_laws(op),
    }
    try:
        return run[check]()
    except (CheckError, ValueError, TypeError):
        return False


# %% [markdown]
r"""
**Predict.** First all five checks run on the right ops, and none complains. Then on the 35 wrong ones. How many does
each check notice? Is there one that notices all?

<details><summary>Answer</summary>

Ones: 20. Float32: 26. Float64: 27. Gradcheck: 28. Laws: 34. None notices all 35. Gradcheck and the laws together do.

</details>
"""

# %%
CHECKS = "ones", "float32", "float64", "gradcheck", "laws"
assert all(passes(check, op) for check in CHECKS for op in {found.op for found in zoo})

noticed = {}
for found in zoo:
    with planted(found):
        noticed[found.name] = [not passes(check, found.op) for check in CHECKS]
counts = np.sum(list(noticed.values()), axis=0)
print(dict(zip(CHECKS, map(int, counts), strict=True)))
assert tuple(counts) == (20, 26, 27, 28, 34)
assert all(by_gradcheck or by_laws for *_, by_gradcheck, by_laws in noticed.values())

# %% tags=["hide-input"]
figure, (panel,) = panels(width=7.5, height=6)
escaped = {name: row for name, row in noticed.items() if not all(row)}
for y, row in enumerate(escaped.values()):
    for x, seen in enumerate(row):
        look = {"marker": "o", "color": SKIP} if seen else {"marker": "x", "color": BRANCH}
        panel.plot(x, y, ls="", ms=9, mew=2, **look)
panel.set_xticks(range(5), [f"{c}\n{n} of 35" for c, n in zip(CHECKS, counts, strict=True)])
panel.set_yticks(range(len(escaped)), escaped)
panel.xaxis.tick_top()
panel.tick_params(length=0)
panel.set(ylim=(len(escaped) - 0.5, -0.5), xlim=(-0.5, 4.5))
panel.spines[["left", "bottom"]].set_visible(False)
show(
    figure,
    alt="Fifteen wrong gradients that at least one check misses, one a row, and five checks, one a column. Noticed of "
    "all 35: ones 20, float32 26, float64 27, gradcheck 28, laws 34. Ones misses all fifteen drawn here, among them "
    "five of batch norm and two of softmax. Gradcheck misses seven, the laws one: buffer_cleared_for_reuse.",
    caption="Dot: noticed. Cross: missed. The other 20 are noticed by every check.",
)
assert len(escaped) == 15
assert not any(ones for ones, *_ in escaped.values())

# %% [markdown]
r"""
**Observe.** The step from ones to a random cotangent is worth the most. The step from float32 to float64 finds
`eps_beside_the_root`, a matter of $\epsilon = 10^{-5}$. Gradcheck adds the one that overwrites its cotangent, because
it looks at the arrays, too.

Seven get through `gradcheck`. They are worth a look, because they show what a gradient check cannot do. Below each
stands the law that it breaks.
"""

# %%
for found in zoo:
    *_, by_gradcheck, _ = noticed[found.name]
    if not by_gradcheck:
        print(f"{found.name}\n    {found.killed_by.replace('_', ' ')}")

# %% [markdown]
r"""
- **Right at this point, wrong elsewhere** (three). The transposed weight gradient shows on square weights only. The two
  others need a batch of sequences, or more than one image. A check speaks about the point it was given.
- **Ties** (two). Where two pixels are equal, max pooling has a kink. Random points have no ties.
- **A right gradient of a wrong function** (one). `padded_with_zero` changes forward, and its backward agrees with that.
  Backward is checked against forward. Who checks forward? The loops and PyTorch, and the laws.
- **It should have refused** (one). A skip that broadcasts has a right gradient. It is a mistake all the same.

For the first three, better points are enough:
"""


# %%
def test_other_points_show_what_was_right_at_the_first_one():
    rng = np.random.default_rng(9)
    pool, _ = points["MaxPool2d"]
    sequences = [rng.normal(size=s) for s in ((2, 4, 3), (3, 3), (3,))]
    elsewhere = {
        "weight_gradient_transposed": (F.linear, sequences),
        "bias_averaged_over_the_sequence": (F.linear, sequences),
        "reshaped_along_the_wrong_axes": (pool, [rng.normal(size=(2, 3, 4, 4))]),
    }
    for found in zoo:
        if found.name in elsewhere:
            f, arrays = elsewhere[found.name]
            gradcheck(f, *arrays)
            with planted(found):
                try:
                    gradcheck(f, *arrays)
                except GradcheckError:
                    continue
            raise AssertionError(found.name)


test_other_points_show_what_was_right_at_the_first_one()

# %% [markdown]
r"""
## Exercises

**1. A step to one side.** You can only evaluate $f$ at $x$ and to the right of it, so you need the forward difference.
Which step is best, and how large is the error? Choose a tolerance for float64. Which mistakes does it let pass?

<details><summary>Hint 1</summary>

Write down (3.4) with the error of (3.1) in place of that of (3.2). The rounding is $2 u |f| / \epsilon$, since one
divides by $\epsilon$.

</details>

<details><summary>Hint 2</summary>

$E(\epsilon) = \frac{\epsilon}{2} |f''| + 2 u |f| / \epsilon$. The minimum of $a \epsilon + b / \epsilon$ is
$2 \sqrt{a b}$, at $\epsilon = \sqrt{b / a}$.

</details>

<details><summary>Solution</summary>

$\epsilon_\ast = 2 \sqrt{u |f| / |f''|}$ and $E(\epsilon_\ast) = 2 \sqrt{u |f|\, |f''|}$. For $e^x$ that is
$2 \cdot 10^{-8}$ both times: half of the digits are lost. A whole loss has $|f|$ a hundred times the slope, so a
tolerance of $10^{-5}$ is safe. It lets mistakes below a thousandth of a percent pass.

```python
step = 2 * u[np.float64] ** 0.5
error = relative_error(forward_difference, step)
assert 2e-8 < step < 2.2e-8
assert step / 5 < error < step
assert error < relative_error(forward_difference, step * 30)
assert error < relative_error(forward_difference, step / 30)
```

</details>
"""

# %% [markdown]
r"""
**2. A check that cannot be fooled.** Write `check(backward, x)` for a softmax of one vector. It returns True for the
right backward and False for every one of the others below. Use `forward`, and no backward but the one handed in.
"""


# %%
def forward(x):
    y = np.exp(x - x.real.max())
    return y / y.sum()


def right(x, g):
    p = forward(x)
    return p * (g - p @ g)


def writes_to_g(x, g):
    g -= forward(x) @ g
    return forward(x) * g


fools = {
    "seven times": lambda x, g: 7 * right(x, g),
    "zero": lambda x, g: 0 * x,
    "not a number": lambda x, g: np.nan * x,
    "a column": lambda x, g: right(x, g)[:, None],
    "as for a sigmoid": lambda x, g: forward(x) * (1 - forward(x)) * g,
    "one in a thousand": lambda x, g: right(x, g) * (1 + 0.001 * (x == x.max())),
    "writes to g": writes_to_g,
}

# %% [markdown]
r"""
<details><summary>Hint 1</summary>

Which comparison is false when one side is not a number? What does NumPy make of the difference of a row and a column?

</details>

<details><summary>Hint 2</summary>

Draw $g$ at random and keep a copy of it. Compare shapes first. Then demand `gap <= tolerance * largest`. Do not look
for `gap > tolerance * largest`, for a comparison with NaN is always False.

</details>

<details><summary>Solution</summary>

```python
def check(backward, x):
    g = np.random.default_rng(10).normal(size=x.shape)
    kept = g.copy()
    gx = backward(x, g)
    if gx.shape != x.shape or not np.array_equal(g, kept):
        return False
    slopes = [kept @ forward(x + 1e-30j * e).imag / 1e-30 for e in np.eye(len(x))]
    gap, largest = np.abs(gx - slopes).max(), np.abs(slopes).max()
    return bool(largest > 1e-6 and gap <= 1e-10 * largest)


x = np.random.default_rng(11).normal(size=6)
assert check(right, x)
assert not any(check(backward, x) for backward in fools.values())
```

</details>
"""

# %% [markdown]
r"""
**3. Find the mutant.** Four versions of softmax's backward were given the probabilities $p$ and the cotangent $g$
below. One is right. Which? And what did the others do? No computer is needed.
"""

# %%
p, g = np.array([1.0, 2.0, 4.0, 1.0]) / 8, np.array([0.0, 0.0, 8.0, 0.0])
A = np.array([0.0, 0.0, 2.0, 0.0])
B = np.array([-0.25, -0.5, 3.0, -0.25])
C = np.array([-0.5, -1.0, 2.0, -0.5])
D = np.array([-0.0625, -0.25, 1.0, -0.0625])
print("p =", p, " g =", g)

# %% [markdown]
r"""
<details><summary>Hint 1</summary>

By (3.11) and since the Jacobian is symmetric, the right one has a sum of zero.

</details>

<details><summary>Hint 2</summary>

The right one is $p\,(g - \langle p, g \rangle)$. Compute $\langle p, g \rangle$ and the plain mean of $g$.

</details>

<details><summary>Solution</summary>

The sums are 2, 2, 0 and 0.625, so C is right. $\langle p, g \rangle = 4$. A has only the diagonal of the Jacobian,
$p (1 - p) g$. B takes the plain mean of $g$, which is 2. D multiplies with $p$ once more.

```python
assert [v.sum() for v in (A, B, C, D)] == [2, 2, 0, 0.625]
scores = np.log(p)
versions = {"right": pull(lambda x: F.softmax(x, dim=-1), scores, gy=g)[1][0]}
for found in zoo:
    if found.op.__name__ == "Softmax":
        with planted(found):
            versions[found.name] = pull(lambda x: F.softmax(x, dim=-1), scores, gy=g)[1][0]
assert np.allclose(versions["right"], C)
assert np.allclose(versions["softmax_element_by_element"], A)
assert np.allclose(versions["softmax_mean_not_weighted"], B)
assert np.allclose(versions["softmax_weighted_twice"], D)
```

</details>
"""

# %% [markdown]
r"""
## Summary

- A difference quotient has two errors. One grows with the step, one shrinks: (3.4). The best central step is about
  $u^{1/3}$ and keeps two thirds of the digits: (3.5).
- Eighth order keeps eight ninths. The complex step keeps all, where the formula holds for complex numbers: (3.8).
- The dot-product test (3.9) checks a whole backward with one number, and a random direction misses next to nothing.
- A cotangent of ones makes the true gradient of softmax and of the norms zero. It noticed 20 of 35 wrong gradients.
- A gradient check speaks about one point, and compares backward with forward. Laws, loops and odd shapes do the rest.

Next: tutorial 5 uses all this on the first op that is hard to get right by eye, convolution.
"""

# %% [markdown]
r"""
## Sources

- B. Fornberg 1988, *Generation of Finite Difference Formulas on Arbitrarily Spaced Grids*, table 1: the
  weights of (3.6).
- W. Squire and G. Trapp 1998, *Using Complex Variables to Estimate Derivatives of Real Functions*, equation 6: (3.8).
- J. R. R. A. Martins, P. Sturdza and J. J. Alonso 2003, *The Complex-Step Derivative Approximation*: what a formula has
  to look like for it.
- J. F. Claerbout 1992, *Earth Soundings Analysis: Processing versus Inversion*, chapter 5: the dot-product test.
- A. Griewank and A. Walther 2008, *Evaluating Derivatives*, second edition, chapter 3: (3.9) for any program.
- N. J. Higham 2002, *Accuracy and Stability of Numerical Algorithms*, second edition, chapters 1 and 2: rounding and
  cancellation.
"""
