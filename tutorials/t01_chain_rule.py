# %% [markdown]
r"""
# 1. The chain rule and the diamond

**Goal.** You derive why a value that is used twice adds two gradients, and why backward needs an order. You write
`backward` yourself, in exact fractions, and see the skip's $1 + f'$ as an equality.

**Time.** 30 minutes to read, 3 seconds to run. You need the derivative of a function of one variable.
"""

# %%
import inspect
from fractions import Fraction

import numpy as np
from _kit import BRANCH, SKIP, SUM, panels, show, smoke

from minires import Tensor
from minires.check import bugs, planted
from minires.scalar import Value

# %% [markdown]
r"""
## Predictions

Write down an answer to each before you read on.

1. $y = x + \frac12 x^2$ at $x = 3$. What is $dy/dx$, and which part of it belongs to the first $x$?
2. Twenty blocks $x \leftarrow x + f(x)$ stand in a row. Along how many paths can you walk from the end back to the
   beginning?
3. An engine hands each gradient on as soon as it arrives: to whatever the value was made from, and further, down to the
   inputs. Is the result right? Is it fast?

<details><summary>Answer 1</summary>

$1 + 3 = 4$. The first $x$, the skip, gives the 1.

</details>

<details><summary>Answer 2</summary>

Each block can be passed in two ways, so $2^{20} = 1\,048\,576$.

</details>

<details><summary>Answer 3</summary>

It is right, and slow: it walks every path of answer 2 on its own.

</details>
"""

# %% [markdown]
r"""
## Derivation: one path

Let $u = g(x)$ and $y = h(u)$. Disturb $x$ by $dx$. Then $u$ moves by $du = g'(x)\, dx$, and $y$ by $dy = h'(u)\, du$:

$$ \frac{dy}{dx} = h'(u)\, g'(x) \tag{1.1} $$

Slopes along a path multiply. Nothing else happens in a chain.
"""

# %% [markdown]
r"""
## Derivation: two paths

Now $y = h(u, v)$, and both $u$ and $v$ depend on $x$. To first order the two disturbances add:
$dy = \frac{\partial h}{\partial u} du + \frac{\partial h}{\partial v} dv$. Divide by $dx$:

$$ \frac{dy}{dx} = \frac{\partial h}{\partial u} \frac{du}{dx} + \frac{\partial h}{\partial v} \frac{dv}{dx}
\tag{1.2} $$

This is the whole reason why gradients **add** where a value is used twice. Do it again for $u$ and $v$, down to $x$:

$$ \frac{dy}{dx} = \sum_{\text{paths from } y \text{ to } x} \; \prod_{\text{edges of the path}} \text{slope}
\tag{1.3} $$
"""

# %% [markdown]
r"""
## The diamond

A residual block is $y = x + f(x)$. It has two paths: the skip, with slope 1, and the branch, with slope $f'(x)$. By
(1.3)

$$ \frac{dy}{dx} = 1 + f'(x) \tag{1.4} $$

Take $f(x) = \frac12 x^2$ at $x = 3$. `Value` is the scalar engine of minires: one page of Python. Each value keeps its
edges, that is, what it was made from and the slope along the way.
"""

# %%
x = Value(3)
f = x**2 / 2
y = x + f
for (to, slope), name in zip(y.edges, ("the skip, to x", "to f"), strict=True):
    print(f"from y {name:15s} slope {slope}, value there {to.data}")

# %%
y.backward()
print("dy/df =", f.grad, "  dy/dx =", x.grad)
assert (y.data, f.grad, x.grad) == (Fraction(15, 2), 1, 4)


# %% tags=["hide-input"]
def node(panel, at, name, value, gradient):
    panel.scatter(*at, s=2600, color="white", edgecolor=SUM, lw=1.6, zorder=2)
    panel.text(*at, f"{name} = {value:g}", ha="center", va="center", fontsize=11, zorder=3)
    panel.annotate(f"dy/d{name} = {gradient}", at, (0, -38), textcoords="offset points", ha="center", color="0.25")


def edge(panel, start, end, color, name, above, line="-", left=0):
    style = {"arrowstyle": "-|>", "color": color, "lw": 2.4, "ls": line, "shrinkA": 26, "shrinkB": 26}
    panel.annotate("", end, start, arrowprops=style)
    middle = np.mean([start, end], axis=0)
    panel.annotate(name, middle, (-left, above), textcoords="offset points", ha="center", color=color, fontsize=11)


# %% tags=["hide-input"]
figure, (panel,) = panels(width=8, height=3.4)
places = {"x": (0, 0), "f": (1, 1), "y": (2, 0)}
edge(panel, places["y"], places["x"], SKIP, "the skip: 1", 7)
edge(panel, places["y"], places["f"], BRANCH, "1", 9, "--")
edge(panel, places["f"], places["x"], BRANCH, "f'(x) = 3", 12, "--", left=22)
node(panel, places["x"], "x", 3, "1 + 1·3 = 4")
node(panel, places["f"], "f", 4.5, "1")
node(panel, places["y"], "y", 7.5, "1")
panel.set(xlim=(-0.5, 2.5), ylim=(-0.75, 1.4))
panel.axis("off")
show(
    figure,
    alt="The diamond with its slopes, as backward walks it: from y = 7.5 an arrow of slope 1, the skip, leads straight "
    "to x = 3; two dashed arrows lead over f = 4.5, with slopes 1 and f'(3) = 3. At x they meet: 1 + 1 times 3 is 4.",
    caption="Backward through y = x + f(x): two paths meet in x, and what they bring is added.",
)

# %% [markdown]
r"""
## Equal, not nearly equal

`Value` turns integers into fractions, so (1.4) can be tested with `==`. There is no tolerance to argue about.
"""


# %%
def test_one_plus_f_prime_is_an_equality():
    rng = np.random.default_rng(0)
    for _ in range(100):
        numerator, denominator, weight, power = (int(n) for n in rng.integers(1, 10, 4))
        x = Value(Fraction(numerator, denominator))
        y = x + weight * x**power
        y.backward()
        assert x.grad == 1 + weight * power * x.data ** (power - 1)


test_one_plus_f_prime_is_an_equality()

# %% [markdown]
r"""
## A tower of diamonds

Put $L$ blocks in a row. Each is passed by the skip or by the branch, so there are $2^L$ paths. The slopes of a chain
multiply, by (1.1), and here each slope is a sum, by (1.4):

$$ \frac{dy}{dx} = \prod_{l=1}^{L} \big( 1 + f_l' \big) \tag{1.5} $$

Multiply it out, and the $2^L$ paths of (1.3) appear, each as one term. One of them, all skips, is exactly 1.
"""


# %%
def tower(x, f, blocks):
    """x <- x + f(x), again and again."""
    for _ in range(blocks):
        x = x + f(x)
    return x


x = Value(1)
tower(x, lambda x: x / 10, 20).backward()
assert x.grad == Fraction(11, 10) ** 20
print("20 blocks with f' = 1/10: dy/dx =", x.grad)

rounded = Value(1.0)
tower(rounded, lambda x: x * 0.1, 20).backward()
error = Fraction(rounded.grad) - x.grad
print(f"in floating point {rounded.grad}, off by {float(error):.0e}")
assert 0 < abs(error) < 1e-14

# %% [markdown]
r"""
## What the 1 does not promise

One often reads that with skips the gradient "is always at least 1", or "cannot vanish". (1.5) says no such thing. The
term 1 is always there, but it is added to the others, and their sum can be anything.

- $f' = -1$ in a single block: the product is 0, and nothing below learns from this input.
- $f' = -\frac12$ in 20 blocks: $2^{-20}$, about one millionth.
- $f' = 1$ in 20 blocks: $2^{20}$. It can explode, too.
"""


# %%
def test_the_sum_can_be_anything():
    for slope, expected in (-1, 0), (Fraction(-1, 2), Fraction(1, 2**20)), (1, 2**20):
        x = Value(1)
        tower(x, lambda x, slope=slope: x * slope, 20).backward()
        assert x.grad == expected


test_the_sum_can_be_anything()

# %% [markdown]
r"""
## From the formula to an algorithm

(1.3) is right, and useless for 20 blocks. Write $\bar v$ for $dy/dv$ and group the paths by their last edge into $v$.
Each such edge comes from a value $c$ that was made from $v$:

$$ \bar v = \sum_{c \text{ made from } v} \frac{\partial c}{\partial v}\, \bar c, \qquad \bar y = 1 \tag{1.6} $$

Every edge now occurs once. There is one condition: $\bar v$ may be used only when its sum is complete. So **a value has
its turn after everything that was made from it**. That order is called reverse topological. To find it is easy: what is
made from $v$ is younger than $v$. Go by age, youngest first.
"""

# %%
print(inspect.getsource(Value.backward))

# %% [markdown]
r"""
`self.history()` is the list by age. The last line is (1.6): read it edge by edge. The `+=` is the sum, and the order of
`values` is the condition.

Here is an engine without the order. It hands on what arrives, at once.
"""


# %%
def along_paths(v, g, grads):
    """Adds g to v's gradient, hands it on, and returns how many edges it walked."""
    grads[v] = grads.get(v, 0) + g
    return sum(1 + along_paths(x, slope * g, grads) for x, slope in v.edges)


x, grads = Value(1), {}
y = tower(x, Value.relu, 10)  # f' = 1; a block has 3 edges: y to x, y to f, f to x
walked = along_paths(y, 1, grads)
y.backward()
print(f"dy/dx = {x.grad}, along paths {grads[x]}: both right")
print(f"{sum(len(v.edges) for v in y.history())} edges, {walked} steps along them")
assert grads[x] == x.grad == 2**10

# %% [markdown]
r"""
## Measure

Walking a block costs 3 edges, and then everything below is walked twice, once for each path. So for $L$ blocks

$$ T(L) = 3 + 2\, T(L - 1) = 3\, (2^L - 1) \tag{1.7} $$

In order it is $3 L$. Count both.
"""

# %%
depths = range(1, 13 if smoke else 17)
towers = [tower(Value(1), Value.relu, n) for n in depths]
in_order = [sum(len(v.edges) for v in y.history()) for y in towers]
on_paths = [along_paths(y, 1, {}) for y in towers]
assert in_order == [3 * n for n in depths]
assert on_paths == [3 * (2**n - 1) for n in depths]

# %% tags=["hide-input"]
figure, (panel,) = panels(width=7, height=4)
every = np.arange(1, 21)
panel.semilogy(every, 3 * (2.0**every - 1), "--", color=BRANCH, lw=1.2, label="3 (2^L - 1)")
panel.semilogy(depths, on_paths, "s", color=BRANCH, label="walked along paths, counted")
panel.semilogy(every, 3 * every, "-", color=SKIP, lw=1.2, label="3 L")
panel.semilogy(depths, in_order, "o", color=SKIP, label="walked in order, counted")
panel.annotate("3,145,725", (20, 3 * (2**20 - 1)), (-16, 0), textcoords="offset points", ha="right", color=BRANCH)
panel.annotate("60", (20, 60), (0, -14), textcoords="offset points", ha="center", color=SKIP)
panel.set(xlabel="L, residual blocks in a row", ylabel="edges walked", xticks=range(0, 21, 4))
panel.legend(frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.72))
show(
    figure,
    alt="Edges walked against the number L of blocks, on a logarithmic scale. In order: 3 L, 60 edges for 20 blocks. "
    "Along every path: 3 times (2 to the L, minus 1), 3,145,725 edges for 20 blocks. The counts lie on both curves.",
    caption="Right numbers at an exponential price: backward without an order.",
)
assert 3 * (2**20 - 1) == 3_145_725

# %% [markdown]
r"""
## Break it

The bug zoo holds engines that people have written. Five of them get the order or the sum wrong:

| planted | what it does |
|---|---|
| `leaf_overwritten` | `grad = ...` instead of `+=`, at the inputs |
| `last_one_wins` | `=` instead of `+=`, between ops |
| `visited_once` | walks paths, but turns away whoever comes second |
| `breadth_first` | takes what is nearest to the end first |
| `turn_at_every_arrival` | passes on all that has arrived so far, at every arrival |

**Predict.** Four graphs, with their right answers. Which engine passes which?

- a chain, $3 (2 z)$: 6
- a diamond at the input, $z + 3 z$: 4
- a diamond higher up, $u + 3 u$ with $u = 2 z$: 8
- two diamonds in a row: 16

<details><summary>Answer</summary>

All five pass the chain, which is what most first tests are. The diamond at the input catches only `leaf_overwritten`.
The diamond higher up catches the other four. Run the cell.

</details>
"""


# %%
def higher(z):
    u = z * 2
    return u + u * 3


GRAPHS = {
    "chain": lambda z: (z * 2) * 3,
    "at the input": lambda z: z + z * 3,
    "higher up": higher,
    "two": lambda z: tower(z * 1, lambda x: x * 3, 2),
}


def answers():
    """dy/dz of each graph, by the engine in place."""
    found = []
    for graph in GRAPHS.values():
        z = Tensor(np.array(1.0), requires_grad=True)
        graph(z).backward()
        found.append(int(z.grad))
    return found


# %%
HIGHER_UP = ("last_one_wins", "visited_once", "breadth_first", "turn_at_every_arrival")
FIVE = ("leaf_overwritten", *HIGHER_UP)
results = {"right": answers()}
for found in bugs():
    if found.name in FIVE:
        with planted(found):
            results[found.name] = answers()
print(f"{'':24s}", *(f"{name:>13s}" for name in GRAPHS))
for name in ("right", *FIVE):
    print(f"{name:24s}", *(f"{value:13d}" for value in results[name]))

# %% [markdown]
r"""
**Observe.** A chain tells you nothing about an engine, and a diamond at the input tells you little. The test that
counts is a diamond with something below it, which is to say: a residual network.
"""


# %%
def test_chains_see_nothing_and_diamonds_higher_up_see_the_order():
    assert results["right"] == [6, 4, 8, 16]
    assert all(results[name][0] == 6 for name in FIVE)
    assert [name for name in FIVE if results[name][1] != 4] == ["leaf_overwritten"]
    assert [name for name in FIVE if results[name][2] != 8] == list(HIGHER_UP)


test_chains_see_nothing_and_diamonds_higher_up_see_the_order()

# %% [markdown]
r"""
## Exercises

**1. Write `backward`.** `y.history()` gives every value once, youngest first. Write a function `backward(y)` that
returns a dictionary from each value to its gradient.

<details><summary>Hint 1</summary>

Start with gradient 0 everywhere, and 1 at `y`.

</details>

<details><summary>Hint 2</summary>

When a value's turn comes, its gradient is complete. Hand it to each of `v.edges`, times the slope, with `+=`.

</details>

<details><summary>Solution</summary>

```python
def backward(y):
    grads = dict.fromkeys(y.history(), 0)
    grads[y] = 1
    for v in y.history():
        for x, slope in v.edges:
            grads[x] += slope * grads[v]
    return grads


x = Value(1)
assert backward(tower(x, Value.relu, 30))[x] == 2**30
```

</details>
"""

# %% [markdown]
r"""
**2. Find the graph.** `along_paths` gives right numbers, only slowly. Somebody makes it fast with a set of visited
values: whoever comes to a value a second time is turned away, but what he brings is added. Find the smallest graph
where the result is wrong.

<details><summary>Hint 1</summary>

What is added after a value's turn is never passed on. So something must lie below the place where two paths meet.

</details>

<details><summary>Hint 2</summary>

Three values and an input, with $dy/dz = 8$, are enough. You have seen it above.

</details>

<details><summary>Solution</summary>

$u = 2 z$, $y = u + 3 u$. The skip reaches $u$ first and hands 1 on to $z$, which gets 2. Then the branch adds its 3 to
$u$, where it stays.

```python
def visited_once(v, g, grads):
    first = v not in grads
    grads[v] = grads.get(v, 0) + g
    if first:
        for x, slope in v.edges:
            visited_once(x, slope * g, grads)
    return grads


z = Value(1)
assert visited_once(higher(z), 1, {})[z] == 2
assert visited_once(GRAPHS["at the input"](z), 1, {})[z] == 4  # nothing lies below
```

</details>
"""

# %% [markdown]
r"""
**3. Cancel the skip.** Build a residual block of `relu` and multiplications whose gradient is 0 for every $x \ne 0$, on
both sides of 0, although it has a skip.

<details><summary>Hint 1</summary>

By (1.4) the branch needs $f' = -1$ on both sides.

</details>

<details><summary>Hint 2</summary>

$x = \operatorname{relu}(x) - \operatorname{relu}(-x)$.

</details>

<details><summary>Solution</summary>

$f(x) = -\operatorname{relu}(x) + \operatorname{relu}(-x)$ is $-x$, so $y = 0$ everywhere. He et al. (2016) call it
unlikely that a whole batch of samples meets this at once. No formula forbids it.

```python
for number in (Fraction(7, 3), Fraction(-2, 5)):
    x = Value(number)
    y = x + (-x.relu() + (-x).relu())
    y.backward()
    assert (y.data, x.grad) == (0, 0)
```

</details>
"""

# %% [markdown]
r"""
## Summary

- Along a path slopes multiply (1.1). Where paths meet they add (1.2). A gradient is the sum over all paths (1.3).
- A residual block is a diamond, and its slope is exactly $1 + f'$ (1.4). That is no lower bound: the sum may be 0.
- Backward walks every edge once if each value waits for all that was made from it (1.6). Without the order it walks
  $2^L$ paths.
- Chains and diamonds at the input hide broken engines. Test with a diamond higher up.

Next: tutorial 3 asks how you know that a gradient is right. Tutorial 8 has the diamond with vectors, and tutorial 10
its paths. In assignment A1 you write the whole engine.
"""

# %% [markdown]
r"""
## Sources

- R. E. Wengert 1964, *A Simple Automatic Derivative Evaluation Program*: values that remember what they were made from.
- F. L. Bauer 1974, *Computational Graphs and Rounding Error*: the derivative as a sum over paths.
- A. Griewank and A. Walther 2008, *Evaluating Derivatives*, second edition, chapter 3: the reverse mode.
- K. He, X. Zhang, S. Ren and J. Sun 2016, *Identity Mappings in Deep Residual Networks*, equations 4 and 5.
- micrograd, issue 2: a well-known small engine whose first version was wrong wherever a value was used again.
"""
