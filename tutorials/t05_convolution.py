# %% [markdown]
r"""
# 5. Convolution is a linear map

**Goal.** You see a convolution as a matrix and its backward as the transpose. From one sum you read off all three
gradients, with stride, padding and dilation. Then you break each of them.

**Time.** 40 minutes to read, 10 seconds to run, half a minute more if MNIST is on your disk. You need matrix products
and the dot-product test (tutorial 3).
"""

# %%
import inspect
import time

import numpy as np
from _kit import BRANCH, PLAIN, SKIP, SUM, panels, show, smoke

import minires as mr
from minires import data, nn, optim
from minires import functional as F
from minires.check import bugs, planted, pull
from minires.errors import RequestError
from minires.ops.conv import Conv2d, Convolution

# %% [markdown]
r"""
## Predictions

Write down an answer to each before you read on.

1. A 3x3 kernel slides over an 8x8 image with a rim of zeros around it, so 64 pixels go in and 64 come out. As a matrix
   that is 64 x 64 = 4096 entries. How many are not zero, and how many different numbers are among them?
2. A 1x1 convolution with stride 2, as in the shortcut of a ResNet. How many of the pixels below it get a gradient?
3. In somebody's backward, the overlaps are assigned instead of added: `gx[...] = part` for `gx[...] += part`. Is there
   a geometry for which that is right?

<details><summary>Answer 1</summary>

484 entries, a bit less than 9 in each row, since taps on the rim fall away. But only 9 different numbers: the weights.

</details>

<details><summary>Answer 2</summary>

A quarter. The others are never read, so their gradient is zero.

</details>

<details><summary>Answer 3</summary>

Yes. If the stride is at least the kernel's size, no pixel is read twice, and there is nothing to add.

</details>
"""

# %% [markdown]
r"""
## Forward: one sum

A row of pixels $x$ and a kernel $w$ with $K$ entries, its **taps**. The output $i$ is the sum of what lies under the
taps when the kernel stands at $i$:

$$ y_i = \sum_{k=0}^{K-1} w_k\; x_{s i + d k - p} \tag{5.1} $$

- The **stride** $s$ is how far the kernel moves from one output to the next.
- The **padding** $p$ is how many zeros are put in front of the pixels, and behind them.
- The **dilation** $d$ is the distance between two taps.

Deep learning calls this a convolution. In mathematics it is a correlation: a convolution would turn the kernel round.
The turned kernel will come back in (5.6).
"""

# %%
x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
w = np.array([2.0, 1.0, -1.0])


def row(x, w, **options):
    """A convolution of one row of pixels."""
    return F.conv1d(F.reshape(x, 1, 1, -1), F.reshape(w, 1, 1, -1), **options)


y = row(x, w).data.ravel()
print("y =", y)
assert y.tolist() == [2 * 1 + 2 - 3, 2 * 2 + 3 - 4, 2 * 3 + 4 - 5] == [1, 3, 5]

# %% [markdown]
r"""
An image has two axes of pixels, and channels $c$. Every output channel $o$ has a kernel of its own for each input
channel. There is a batch of images $n$, too:

$$ y_{n o i j} = b_o + \sum_{c, k, l} w_{o c k l}\; x_{n,\, c,\, s i + d k - p,\, s j + d l - p} \tag{5.2} $$

The last output is the last place where the kernel still fits. With $H$ pixels that makes

$$ H' = \Big\lfloor \frac{H + 2 p - d (K - 1) - 1}{s} \Big\rfloor + 1 \tag{5.3} $$
"""


# %%
def test_the_size_of_the_output():
    for size, k, s, p, d in (8, 3, 1, 1, 1), (7, 2, 3, 0, 2), (5, 5, 4, 3, 1):
        image, kernel = np.zeros((1, 1, size, size)), np.zeros((1, 1, k, k))
        y = F.conv2d(image, kernel, None, s, p, d)
        assert y.shape[2] == (size + 2 * p - d * (k - 1) - 1) // s + 1


test_the_size_of_the_output()

# %% [markdown]
r"""
## As a matrix

For a fixed kernel, (5.1) is linear in $x$. So there is a matrix $C$ with

$$ \begin{aligned} y &= C x \\ C_{i a} &= \begin{cases} w_k & a = s i + d k - p \\ 0 & \text{no such } k
\end{cases} \end{aligned} \tag{5.4} $$

You need not work it out. Column $a$ of a matrix is what it makes of the unit vector $e_a$. So convolve each unit
vector.
"""

# %%
C = np.stack([row(e, w).data.ravel() for e in np.eye(5)], axis=1)
print(C)
assert np.array_equal(C @ x, y)
assert np.array_equal(C, [[2, 1, -1, 0, 0], [0, 2, 1, -1, 0], [0, 0, 2, 1, -1]])

# %% [markdown]
r"""
Each row is the kernel, moved on by the stride. All else is zero. The same for images: unroll the pixels row by row, and
convolve each unit image. We let the weights be the numbers 1 to 9, so that an entry tells which tap it is.
"""


# %%
def matrix_of(w, size, **options):
    """The matrix of a convolution of one-channel images, size x size."""
    units = np.eye(size * size).reshape(-1, 1, size, size)
    return F.conv2d(units, w, **options).data.reshape(size * size, -1).T


taps = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
eight = matrix_of(taps, 8, padding=1)
print(eight.shape, "entries that are not 0:", np.count_nonzero(eight))
assert eight.size == 4096
assert np.count_nonzero(eight) == 484  # prediction 1
assert set(eight[eight != 0]) == set(range(1, 10))


# %% tags=["hide-input"]
def draw_matrix(panel, stride):
    """The matrix with the number of the tap in each entry, ruled where a row of pixels ends."""
    matrix = matrix_of(taps, 4, padding=1, stride=stride)
    panel.imshow(np.where(matrix == 0, np.nan, matrix), cmap="Blues", vmin=-4, vmax=14)
    for i, a in np.argwhere(matrix):
        panel.text(a, i, int(matrix[i, a]), ha="center", va="center", fontsize=10)
    for edge in np.arange(-0.5, 16, 4):
        panel.axvline(edge, color="0.6", lw=0.8)
    for edge in np.arange(-0.5, len(matrix), len(matrix) ** 0.5):
        panel.axhline(edge, color="0.6", lw=0.8)
    panel.set(xticks=[0, 4, 8, 12], yticks=range(0, len(matrix), 4), ylabel="output pixel")
    panel.grid(False)
    panel.set_title(f"stride {stride}: {len(matrix)} outputs of 16 pixels", fontsize=11)


# %% tags=["hide-input"]
figure, axes = panels(1, 2, width=6.6, height=8.9)
axes[0].get_gridspec().set_height_ratios([4, 1])
for panel, stride in zip(axes, (1, 2), strict=True):
    draw_matrix(panel, stride)
axes[1].set_xlabel("input pixel, row by row")
show(
    figure,
    alt="Two matrices with 16 columns, one for each pixel of a 4x4 image; numbers 1 to 9 name the tap, empty means 0. "
    "With stride 1 there are 16 rows and three bands, each of three diagonals: taps 4, 5, 6 on the main diagonal, taps "
    "1, 2, 3 four columns to the left, taps 7, 8, 9 four to the right; 100 entries. With stride 2 only 4 rows of it "
    "are left, 25 entries.",
    caption="A convolution is a matrix with few entries and fewer numbers: 3x3 kernel, 4x4 image, padding 1.",
)
assert np.count_nonzero(matrix_of(taps, 4, padding=1)) == 100
assert np.count_nonzero(matrix_of(taps, 4, padding=1, stride=2)) == 25

# %% [markdown]
r"""
Read the second matrix beside the first. A stride of 2 keeps every other row of every other band, so 4 rows of 16.
"""

# %%
one, two = (matrix_of(taps, 4, padding=1, stride=s) for s in (1, 2))
assert np.array_equal(two, one[[0, 2, 8, 10]])

# %% [markdown]
r"""
## Backward for the image: the transpose

A linear map $y = C x$ hands back the gradient $g$ of $y$ through the transposed matrix:

$$ \begin{aligned} g_x &= C^T g \\ (g_x)_a &= \sum_{\substack{i, k \\ s i + d k - p = a}} w_k\; g_i
\end{aligned} \tag{5.5} $$

In words: each output sends its gradient to the pixels that it read, through the weights that it read them with. It
paints $g_i$ times the kernel where it had looked. Where paintings overlap, they **add**.
"""

# %%
g = np.array([1.0, 0.0, 10.0])
_, (gx, gw) = pull(row, x, w, gy=g.reshape(1, 1, 3))
print("gx =", gx)
assert np.array_equal(gx, C.T @ g)
assert gx.tolist() == [2, 1, -1 + 20, 10, -10]

# %% [markdown]
r"""
The first output painted $(2, 1, -1)$ at the left end, the third painted $(20, 10, -10)$ at the right end. They meet in
the middle pixel, and there is $-1 + 20 = 19$.

For $s = d = 1$ this is a convolution again. Pixel $a$ gets $w_k$ from output $a + p - k$, so the taps count backwards.
The kernel is turned round, and the padding is $K - 1 - p$:

$$ (g_x)_a = \sum_k w_{K - 1 - k}\; g_{a + k + p + 1 - K} \tag{5.6} $$
"""


# %%
def test_at_stride_1_gx_is_a_convolution_with_the_kernel_turned_round():
    rng = np.random.default_rng(0)
    x, w, g = (rng.normal(size=s) for s in ((2, 3, 6, 7), (4, 3, 3, 3), (2, 4, 6, 7)))
    _, (gx,) = pull(lambda x: F.conv2d(x, w, padding=1), x, gy=g)
    turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)  # output channels are now the input
    assert np.allclose(gx, F.conv2d(g, turned, padding=3 - 1 - 1).data, rtol=0, atol=1e-13)


test_at_stride_1_gx_is_a_convolution_with_the_kernel_turned_round()

# %% [markdown]
r"""
## All three gradients from one sum

What about the weights? Multiply (5.2) with a gradient $g$ and sum over everything. Without the bias that is

$$ S(x, w, g) = \langle g, y \rangle = \sum_{n, o, c, i, j, k, l} g_{n o i j}\; w_{o c k l}\;
x_{n,\, c,\, s i + d k - p,\, s j + d l - p} \tag{5.7} $$

$S$ is linear in each of its three arguments. The gradient of a linear expression is what stands beside the variable. So
**leave one of the three out, and you have the map that belongs to it**: without $g$ it is forward, without $x$ it is
(5.5), and without $w$ it is

$$ (g_w)_{o c k l} = \sum_{n, i, j} g_{n o i j}\; x_{n,\, c,\, s i + d k - p,\, s j + d l - p} \tag{5.8} $$

The bias stands in every pixel of its channel, so it collects them all:

$$ (g_b)_o = \sum_{n, i, j} g_{n o i j} \tag{5.9} $$
"""

# %%
print("gw =", gw)
assert np.array_equal(gw, [g @ x[0:3], g @ x[1:4], g @ x[2:5]])
assert gw.tolist() == [31, 42, 53]

# %% [markdown]
r"""
Each weight compares $g$ with the pixels that it saw. That is a correlation of $x$ with $g$. Compare the indices of
(5.8) with those of (5.2): the sum runs over $i$ now, and $i$ stands beside $s$. So **stride and dilation change
places**:

$$ \begin{aligned} &g_w = \operatorname{correlate}(x, g) \\
&\text{with stride } d \text{ and dilation } s \end{aligned} \tag{5.10} $$
"""


# %%
def test_gw_is_a_correlation_with_stride_and_dilation_exchanged():
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(2, 3, 9, 8)), rng.normal(size=(4, 3, 3, 2))
    g = rng.normal(size=F.conv2d(x, w, None, 2, 1, 3).shape)
    _, (gw,) = pull(lambda w: F.conv2d(x, w, None, 2, 1, 3), w, gy=g)
    images, kernels = x.swapaxes(0, 1), g.swapaxes(0, 1)  # the sum runs over the batch now
    found = F.conv2d(images, kernels, None, stride=3, padding=1, dilation=2).data
    found = found.swapaxes(0, 1)[:, :, :3, :2]  # beyond may lie places where no tap is
    assert np.allclose(gw, found, rtol=0, atol=1e-13)


test_gw_is_a_correlation_with_stride_and_dilation_exchanged()

# %% [markdown]
r"""
This is the code. `spread` is (5.5), `weigh` is (5.8), and the last line is (5.9).
"""

# %%
print(inspect.getsource(Conv2d.backward))

# %% [markdown]
r"""
## As a matrix product: im2col

The matrix $C$ is nearly empty, so nobody builds it. What libraries build is the other matrix. Lay the pixels under each
tap out as a row, one column for each output. Call that $P(x)$, the patches. Its usual name is **im2col**. With the
weights as a matrix $W$, one row for each output channel,

$$ \begin{aligned} y &= W\, P(x) \\ g_W &= g\, P(x)^T \\ g_x &= P^T (W^T g) \end{aligned} \tag{5.11} $$

Two of these are matrix products, which computers are good at. The third ends with $P^T$, the transpose of the map
$x \mapsto P(x)$. It adds every entry back to the pixel that it was read from. Its name is **col2im**.

$$ \langle P x,\, R \rangle = \langle x,\, P^T R \rangle \tag{5.12} $$

That holds for all images $x$ and all matrices $R$ of the shape of $P(x)$.
"""

# %%
print(inspect.getsource(Convolution.scatter))

# %% [markdown]
r"""
`+=`, because of the overlaps. How many are there? $P$ reads pixel $a$ some number of times, say $n_a$. $P^T$ adds as
many copies back:

$$ P^T P\, x = n \odot x \tag{5.13} $$

So col2im does not undo im2col. It multiplies each pixel by how often it was read. We measure $n$ on an image of ones.
The patches themselves are a convolution, with one filter for each tap.
"""


# %%
def patches(x, k, stride):
    """im2col of one-channel images, (N, 1, H, W): (N, k k, OH, OW)."""
    return F.conv2d(x, np.eye(k * k).reshape(-1, 1, k, k), stride=stride)


def times_read(k, stride, size=7):
    ones = np.ones((1, 1, size, size))
    read = patches(ones, k, stride).data
    _, (back,) = pull(lambda x: patches(x, k, stride), ones, gy=read)
    return back[0, 0]


counts = {(k, s): times_read(k, s) for k, s in ((3, 1), (3, 2), (2, 2), (2, 3))}
assert counts[3, 1].max() == 9
assert counts[3, 2].max() == 4
assert counts[2, 2].max() == counts[2, 3].max() == 1  # prediction 3
assert np.count_nonzero(counts[2, 3] == 0) == 49 - 16

# %% tags=["hide-input"]
figure, axes = panels(2, 2, width=6.4, height=6.8)
for panel, ((k, stride), count) in zip(axes, counts.items(), strict=True):
    panel.imshow(np.where(count == 0, np.nan, count), cmap="Blues", vmin=-2.5, vmax=14)
    for i, j in np.ndindex(count.shape):
        color = "k" if count[i, j] else BRANCH
        panel.text(j, i, int(count[i, j]), ha="center", va="center", fontsize=11, color=color)
    panel.set_title(f"kernel {k}x{k}, stride {stride}", fontsize=11)
    panel.set(xticks=[], yticks=[])
    panel.grid(False)
    panel.spines[:].set_visible(True)
figure.get_layout_engine().set(wspace=0.06, hspace=0.04)
show(
    figure,
    alt="Four 7x7 images with a count in each pixel: how often it is read. Kernel 3, stride 1: 1 in the corners, 9 in "
    "the middle. Kernel 3, stride 2: 1, 2 and 4, in a checkered pattern. Kernel 2, stride 2: 1 everywhere, but 0 in "
    "the last row and column. Kernel 2, stride 3: 1 in four blocks of 2x2, 0 in the other 33 pixels.",
    caption="How often each pixel is read, and so how many gradients add up in it.",
)

# %% [markdown]
r"""
Three things to see.

- With stride 1 the pixels in the middle are read nine times, those in the corners once. So nine gradients add up in the
  middle, and one in a corner.
- With kernel 3 and stride 2 the counts make a checkered pattern.
- A zero is a pixel that nobody reads. Its gradient is zero, and no loss can teach what stands before it.
"""

# %% [markdown]
r"""
## 1x1

With $K = 1$ there are no neighbors. Every pixel is a vector of channels, and the convolution is one matrix for all:

$$ y_{n, :, i, j} = W\, x_{n, :, s i, s j} \tag{5.14} $$

It is the linear layer of images. ResNets use it with stride 2 as the *projection* on a shortcut, where a block halves
the image. Count what it reads.
"""

# %%
rng = np.random.default_rng(2)
x, w = rng.normal(size=(2, 3, 8, 8)), rng.normal(size=(5, 3, 1, 1))
one_matrix_for_all = np.einsum("oc,ncij->noij", w[:, :, 0, 0], x[:, :, ::2, ::2])
assert np.allclose(F.conv2d(x, w, stride=2).data, one_matrix_for_all)
_, (gx,) = pull(lambda x: F.conv2d(x, w, stride=2), x, gy=rng.normal(size=(2, 5, 4, 4)))
reached = np.count_nonzero(gx.any(axis=(0, 1))) / 64
print(f"pixels that get a gradient through the projection: {reached:.0%}")
assert reached == 0.25  # prediction 2

# %% [markdown]
r"""
Three quarters of the pixels get nothing through such a shortcut. What they get comes through the branch. An average
over 2x2 pixels and then a 1x1 with stride 1 reads them all. That is one of the changes that make a ResNet-D (He et al.
2019).
"""

# %% [markdown]
r"""
## The transposed convolution

Take $C^T$ as a forward pass. It makes large images out of small ones, and it is the layer `conv_transpose2d`. By
definition

$$ \langle C x,\, g \rangle = \langle x,\, C^T g \rangle \tag{5.15} $$

and its own backward is $(C^T)^T = C$, a plain convolution. We measure (5.15) over 40 random geometries. No matrix, no
backward: two forward passes.
"""

# %%
rng, gaps = np.random.default_rng(3), []
for _ in range(40):
    k, s, p, d = rng.integers([1, 1, 0, 1], [5, 4, 3, 4])
    x = rng.normal(size=(2, 3, *rng.integers(12, 20, 2)))
    w = rng.normal(size=(4, 3, k, k))
    y = F.conv2d(x, w, None, s, p, d).data
    g = rng.normal(size=y.shape)
    beyond = [(n + 2 * p - d * (k - 1) - 1) % s for n in x.shape[2:]]  # the last window
    back = F.conv_transpose2d(g, w, None, s, p, beyond, dilation=d).data
    size = np.linalg.norm(x) * np.linalg.norm(back)
    gaps.append(abs(np.sum(y * g) - np.sum(x * back)) / size)
print(f"largest gap in 40 geometries: {max(gaps):.0e}")
assert max(gaps) < 1e-14

# %% [markdown]
r"""
It is also called "deconvolution". That name is wrong: $C^T$ is no inverse of $C$. And the counts of the figure above
are what it makes of a constant. With kernel 3 and stride 2 it turns a flat picture into a checkered one, and that is a
known blemish of generated images (Odena et al. 2016).
"""

# %%
rng = np.random.default_rng(4)
x, w = rng.normal(size=(1, 1, 7, 7)), rng.normal(size=(1, 1, 3, 3))
there_and_back = F.conv_transpose2d(F.conv2d(x, w, padding=1), w, padding=1).data
cosine = np.sum(x * there_and_back) / np.linalg.norm(x) / np.linalg.norm(there_and_back)
print(f"cosine between x and C^T C x: {cosine:.2f}")
assert cosine < 0.95

flat = F.conv_transpose2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), stride=2).data[0, 0]
print(flat.astype(int))
assert np.array_equal(flat, counts[3, 2])

# %% [markdown]
r"""
## Measure: five ways to the same gradient

Two images of 8x8 with 3 channels, 4 filters of 3x3. That is 384 pixels and 108 weights. We want $g_x$ and $g_w$.

- **formula, in loops:** (5.5) and (5.8) as they stand, one multiplication at a time.
- **im2col:** (5.11), the formula of minires, without its faster kernels.
- **differences:** two forward passes for every single number, or eight with eighth order (tutorial 3).
- **complex step:** one forward pass for every number.

Which is the fastest? Which is the least exact?
"""

# %%
rng = np.random.default_rng(5)
x, w, g = (rng.normal(size=s) for s in ((2, 3, 8, 8), (4, 3, 3, 3), (2, 4, 8, 8)))


def in_loops():
    gx, gw = np.zeros_like(x), np.zeros_like(w)
    for n, o, i, j in np.ndindex(g.shape):
        for c, k, m in np.ndindex(w.shape[1:]):
            a, b = i + k - 1, j + m - 1  # padding 1
            if 0 <= a < 8 and 0 <= b < 8:
                gx[n, c, a, b] += w[o, c, k, m] * g[n, o, i, j]
                gw[o, c, k, m] += x[n, c, a, b] * g[n, o, i, j]
    return gx, gw


def im2col():
    with mr.formulas_only():
        return pull(lambda x, w: F.conv2d(x, w, padding=1), x, w, gy=g)[1]


# %%
def by_slopes(slope):
    """Both gradients, number by number; slope(along) is the derivative of along(t) at 0."""
    found = []
    for which, array in enumerate((x, w)):
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            unit = np.zeros_like(array)
            unit[index] = 1

            def along(t, which=which, unit=unit):
                a, b = (x + t * unit, w) if which == 0 else (x, w + t * unit)
                return np.sum(g * F.conv2d(a, b, padding=1).data)

            gradient[index] = slope(along)
        found.append(gradient)
    return found


# %%
EIGHTH = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
ways = {
    "formula, in loops": in_loops,
    "im2col": im2col,
    "central, 1e-5": lambda: by_slopes(lambda f: (f(1e-5) - f(-1e-5)) / 2e-5),
    "8th order, 1e-2": lambda: by_slopes(
        lambda f: sum(c * (f(k / 100) - f(-k / 100)) * 100 for k, c in EIGHTH.items())
    ),
    "complex step": lambda: by_slopes(lambda f: f(1e-30j).imag / 1e-30),
}
exact = in_loops()
seconds, digits = {}, {}
for name, way in ways.items():
    start = time.perf_counter()
    found = way()
    seconds[name] = time.perf_counter() - start
    pairs = zip(found, exact, strict=True)
    off = max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs)
    digits[name] = 16 if off == 0 else min(-np.log10(off), 16)
    print(f"{name:18s}{1000 * seconds[name]:8.1f} ms   {digits[name]:4.1f} digits")

# %% [markdown]
r"""
Every way finds the same gradient. The difference is what it costs.

- Differences lose digits: about 10 are left with order 2, about 12 with order 8. The complex step loses none.
- They need at least one forward pass for each of 492 numbers. A network has millions.
- The loops do the same multiplications as im2col, more than ten times slower, because Python does them one at a time.

So the loops and the differences are judges, not workers. They are slow, and they are hard to get wrong.
"""


# %%
def test_what_every_way_costs():
    assert digits["im2col"] > 14.5
    assert digits["complex step"] > 14.5
    assert 9 < digits["central, 1e-5"] < 12 < digits["8th order, 1e-2"]
    assert seconds["formula, in loops"] > 10 * seconds["im2col"]
    assert seconds["8th order, 1e-2"] > seconds["complex step"] > 3 * seconds["im2col"]


test_what_every_way_costs()

# %% [markdown]
r"""
## Break it

The zoo holds 13 wrong backwards of this op. Most are the right sum, read at the wrong pixels. Here are eight
geometries to look for them.
"""

# %%
GEOMETRIES = {  # shape of x, shape of w, options
    "3x3": ((2, 4, 7, 7), (6, 4, 3, 3), {"padding": 1}),
    "3x3\nstride 2": ((2, 4, 7, 7), (6, 4, 3, 3), {"padding": 1, "stride": 2}),
    "2x2\nstride 2": ((2, 4, 8, 8), (6, 4, 2, 2), {"stride": 2}),
    "1x1": ((2, 4, 7, 7), (6, 4, 1, 1), {}),
    "3x3\ndilation 2": ((2, 4, 7, 7), (6, 4, 3, 3), {"padding": 2, "dilation": 2}),
    "4x4\nsame": ((2, 4, 7, 7), (6, 4, 4, 4), {"padding": "same"}),
    "3x3\ngroups 2": ((2, 4, 7, 7), (6, 2, 3, 3), {"padding": 1, "groups": 2}),
    "3x3\none image": ((1, 4, 7, 7), (6, 4, 3, 3), {"padding": 1}),
}


def gradients(x_shape, w_shape, options):
    """gx, gw and gb for random inputs and a random g."""
    rng = np.random.default_rng(6)
    arrays = [rng.normal(size=s) for s in (x_shape, w_shape, w_shape[:1])]

    def f(x, w, b):
        return F.conv2d(x, w, b, **options)

    return pull(f, *arrays, gy=rng.normal(size=f(*arrays).shape))[1]


# %% [markdown]
r"""
**Predict.** `overlap_assigned` is the mistake of prediction 3. For which of the eight geometries is it right? And is
there one geometry that shows all 13 mistakes?

<details><summary>Answer</summary>

It is right for 2x2 with stride 2 and for 1x1. Nothing overlaps there. No geometry shows all: the most that one
geometry shows is 9.

</details>
"""

# %%
zoo = {found.name: found for found in bugs(Conv2d)}
table = {}
for name, found in zoo.items():
    table[name] = []
    for geometry in GEOMETRIES.values():
        right = gradients(*geometry)
        with planted(found):
            wrong = gradients(*geometry)
        gap = max(np.abs(a - b).max() for a, b in zip(right, wrong, strict=True))
        table[name].append(gap > 1e-9)
seen = np.array(list(table.values()))
for geometry, count in zip(GEOMETRIES, seen.sum(axis=0), strict=True):
    print(f"{geometry.replace(chr(10), ', '):16s} shows {count} of 13")

# %% tags=["hide-input"]
figure, (panel,) = panels(width=8.8, height=6)
for y, x in np.ndindex(seen.shape):
    look = {"marker": "o", "color": SKIP} if seen[y, x] else {"marker": "x", "color": BRANCH}
    panel.plot(x, y, ls="", ms=9, mew=2, **look)
panel.set_xticks(range(len(GEOMETRIES)), [f"{g}\n{n}" for g, n in zip(GEOMETRIES, seen.sum(axis=0), strict=True)])
panel.set_yticks(range(len(table)), table)
panel.xaxis.tick_top()
panel.tick_params(length=0, labelsize=9)
panel.set(ylim=(len(table) - 0.5, -0.5), xlim=(-0.5, len(GEOMETRIES) - 0.5))
panel.spines[["left", "bottom"]].set_visible(False)
show(
    figure,
    alt="Thirteen wrong gradients of a convolution, one a row, and eight geometries, one a column; a dot where the "
    "mistake shows. Mistakes shown by 3x3: 7, 3x3 with stride 2: 9, 2x2 with stride 2: 7, 1x1: 4, 3x3 with dilation "
    "2: 9, 4x4 with same padding: 8, two groups: 9, one image: 5. overlap_assigned does not show for 2x2 with stride 2 "
    "and 1x1. Only filters_never_learn and bias_averaged_over_pixels show everywhere.",
    caption="Dot: the gradient is wrong. Cross: it is right, for this geometry. Under each: how many show.",
)

# %% [markdown]
r"""
**Observe.** A 1x1 convolution shows 4 of 13. A plain 3x3, the geometry that comes to mind first, shows 7. Dilation,
groups and a padding that differs on both sides each show a mistake that hides everywhere else. So
`minires check conv2d` draws its geometries at random, with all options.
"""


# %%
def test_which_geometry_shows_which_mistake():
    names = [geometry.replace("\n", " ") for geometry in GEOMETRIES]
    everywhere, shown_in = set(names), {}
    for name, row in table.items():
        shown_in[name] = {geometry for geometry, hit in zip(names, row, strict=True) if hit}
    assert everywhere - shown_in["overlap_assigned"] == {"2x2 stride 2", "1x1"}
    assert shown_in["dilation_forgotten_in_gx"] == {"3x3 dilation 2"}
    assert shown_in["padding_cropped_from_the_other_side"] == {"4x4 same"}
    assert shown_in["groups_interleaved"] == {"3x3 groups 2"}
    assert shown_in["first_groups_weights_for_all"] == {"3x3 groups 2"}
    assert [name for name in table if shown_in[name] == everywhere] == [
        "filters_never_learn",
        "bias_averaged_over_pixels",
    ]
    assert seen.sum(axis=0).tolist() == [7, 9, 7, 4, 9, 8, 9, 5]
    assert seen.any(axis=1).all()


test_which_geometry_shows_which_mistake()

# %% [markdown]
r"""
## Measure: a network that learns is no proof

Here is a small convolutional network for the 8x8 digits that come with minires: two convolutions, the second with
stride 2, and a linear layer. It trains for three epochs. Then it trains again with a mistake planted in **every**
convolution's backward.

Predict the test accuracy with `overlap_assigned`, with `kernel_not_flipped`, and with `filters_never_learn`, where the
weights of both convolutions stay random for ever.
"""


# %%
def small_cnn(pixels):
    """For images of pixels x pixels, with one channel."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * (pixels // 2) ** 2, 10),
    )


def scaled(part, rows):
    return (part.images[rows] / part.scale).astype(np.float32)


# %%
def accuracy_after_training(sets, seed, epochs, lr, batch):
    mr.manual_seed(seed)
    model, rng = small_cnn(sets.train.images.shape[-1]), np.random.default_rng(seed)
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        order = rng.permutation(len(sets.train))
        for rows in np.array_split(order, len(order) // batch):
            scores = model(scaled(sets.train, rows))
            loss = F.cross_entropy(scores, sets.train.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with mr.no_grad():
        parts = np.array_split(np.arange(len(sets.test)), max(1, len(sets.test) // 500))
        guesses = [model(scaled(sets.test, rows)).data.argmax(axis=1) for rows in parts]
    return np.mean(np.concatenate(guesses) == sets.test.labels)


# %%
shipped = data.load("digits")
MISTAKES = "right", "overlap_assigned", "kernel_not_flipped", "filters_never_learn"
seeds = range(3 if smoke else 8)


def with_mistake(name, sets, **recipe):
    if name == "right":
        return accuracy_after_training(sets, **recipe)
    with planted(zoo[name]):
        return accuracy_after_training(sets, **recipe)


recipe, reached = {"epochs": 3, "lr": 0.1, "batch": 32}, {}
for name in MISTAKES:
    found = reached[name] = [with_mistake(name, shipped, seed=s, **recipe) for s in seeds]
    print(f"{name:20s} mean {np.mean(found):.3f}, {min(found):.3f} to {max(found):.3f}")

# %% tags=["hide-input"]
figure, (panel,) = panels(width=7.5, height=3.6)
looks = (SKIP, "o"), (PLAIN, "s"), (SUM, "^"), (BRANCH, "D")
for y, found in enumerate(reached.values()):
    color, marker = looks[y]
    panel.plot(found, [y] * len(found), marker, color=color, ms=8, alpha=0.75)
    panel.vlines(np.mean(found), y - 0.3, y + 0.3, color="k", lw=2)
    panel.text(np.mean(found), y - 0.34, f"{np.mean(found):.3f}", ha="center")
panel.set_yticks(range(len(reached)), reached)
panel.set(ylim=(len(reached) - 0.5, -0.75), xlim=(0.8, 1), xlabel="test accuracy on the shipped digits")
panel.grid(axis="y", visible=False)
panel.grid(axis="x", alpha=0.25)
show(
    figure,
    alt="Test accuracy after three epochs, a mark for each seed and a line for their mean: "
    + ", ".join(f"{name} {np.mean(found):.3f}" for name, found in reached.items())
    + ". The mean of overlap_assigned is within three points of the right gradient's.",
    caption=f"Wrong gradients train, too. One mark for each of {len(seeds)} seeds; the line is their mean.",
)

# %% [markdown]
r"""
All four learn. What `overlap_assigned` costs is less than three points, about what two seeds can differ by. A look at
one result would not tell. With filters that never learn it still comes above 80 %, because the linear layer learns from
random filters. A falling loss shows that **some** gradients are right.
"""

# %%
mean = {name: np.mean(found) for name, found in reached.items()}
assert mean["right"] > 0.92
assert mean["right"] - mean["overlap_assigned"] < 0.03
assert 0.8 < mean["filters_never_learn"] < mean["right"] - 0.03
assert mean["kernel_not_flipped"] < mean["right"]

# %% [markdown]
r"""
The same on MNIST: 60,000 images of 28x28, one epoch. The right gradient comes to 97 %. With filters that never learn it
is 91 %. The cell runs if the files are on your disk, and not at the smoke budget.
"""

# %%
try:
    mnist = None if smoke else data.load("mnist", download=False)
    print("smoke budget: MNIST left out" if smoke else f"{len(mnist.train)} images")
except RequestError as missing:
    mnist = None
    print(missing)
if mnist:
    for name, low, high in ("right", 0.965, 0.98), ("filters_never_learn", 0.88, 0.94):
        accuracy = with_mistake(name, mnist, seed=0, epochs=1, lr=0.05, batch=64)
        print(f"{name:20s} {accuracy:.3f}")
        assert low < accuracy < high

# %% [markdown]
r"""
## Exercises

**1. Write the backward.** `backward(x, w, g, s, p)` returns $g_x$ and $g_w$ for images with channels, stride $s$ and
padding $p$. Loop over the taps only, not over pixels.

<details><summary>Hint 1</summary>

Pad $x$ first. Then tap $(k, l)$ sees the slice `padded[:, :, k : k + s * oh : s, l : l + s * ow : s]`, of the same size
as $g$.

</details>

<details><summary>Hint 2</summary>

For each tap: $g_w$ of the tap is `np.einsum("noij,ncij->oc", g, under)`. To that very slice of the padded $g_x$ add
`np.einsum("noij,oc->ncij", g, w[:, :, k, l])`. Cut the padding off at the end.

</details>

<details><summary>Solution</summary>

```python
def backward(x, w, g, s, p):
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    gx, gw = np.zeros_like(padded), np.zeros_like(w)
    (oh, ow), (height, width) = g.shape[2:], x.shape[2:]
    for k, l in np.ndindex(w.shape[2:]):
        under = (..., slice(k, k + s * oh, s), slice(l, l + s * ow, s))
        gw[:, :, k, l] = np.einsum("noij,ncij->oc", g, padded[under])
        gx[under] += np.einsum("noij,oc->ncij", g, w[:, :, k, l])
    return gx[:, :, p : p + height, p : p + width], gw


rng = np.random.default_rng(7)
for s, p, size in ((1, 0, 6), (1, 1, 6), (2, 1, 7), (3, 2, 9)):
    x, w = rng.normal(size=(2, 3, size, size + 1)), rng.normal(size=(4, 3, 3, 3))
    g = rng.normal(size=F.conv2d(x, w, None, s, p).shape)
    _, theirs = pull(lambda x, w: F.conv2d(x, w, None, s, p), x, w, gy=g)
    for mine, right in zip(backward(x, w, g, s, p), theirs, strict=True):
        assert np.allclose(mine, right, rtol=0, atol=1e-12)
```

</details>
"""

# %% [markdown]
r"""
**2. In three pieces.** A convolution with padding and stride is three linear maps in a row: pad, convolve with stride
1, keep every $s$-th output. What are the transposes of padding and of keeping? In which order does the transpose of the
whole apply them? Build a transposed convolution from the three, and do not use `conv_transpose2d`.

<details><summary>Hint 1</summary>

$(S\, C\, Z)^T = Z^T C^T S^T$. What does a matrix look like that puts zeros around its input? What does its transpose
drop?

</details>

<details><summary>Hint 2</summary>

The transpose of keeping puts zeros in between. The transpose of padding crops. The middle one is (5.6) with $p = 0$.

</details>

<details><summary>Solution</summary>

```python
def transposed(g, w, s, p, height, width):
    k = w.shape[2]
    full = height + 2 * p - k + 1, width + 2 * p - k + 1
    spread_out = np.zeros((*g.shape[:2], *full))
    spread_out[:, :, ::s, ::s] = g
    turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)
    painted = F.conv2d(spread_out, turned, padding=k - 1).data
    return painted[:, :, p : p + height, p : p + width]


rng = np.random.default_rng(8)
x, w = rng.normal(size=(2, 3, 8, 7)), rng.normal(size=(4, 3, 3, 3))
for s, p in ((1, 0), (1, 1), (2, 1), (3, 0)):
    y = F.conv2d(x, w, None, s, p).data
    g = rng.normal(size=y.shape)
    assert np.isclose(np.sum(y * g), np.sum(x * transposed(g, w, s, p, 8, 7)), rtol=1e-12)
```

</details>
"""

# %% [markdown]
r"""
**3. Find the mistake.** A 2x2 kernel slides over a 3x3 image with stride 1. Below are the kernel, the gradient of the
four outputs, and three answers for $g_x$. One is right. What did the other two do? No computer is needed.
"""

# %%
w = np.array([[1.0, 2.0], [3.0, 4.0]])
g = np.array([[1.0, 0.0], [0.0, 1.0]])
A = np.array([[4.0, 3.0, 0.0], [2.0, 5.0, 3.0], [0.0, 2.0, 1.0]])
B = np.array([[1.0, 2.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
C = np.array([[1.0, 2.0, 0.0], [3.0, 5.0, 2.0], [0.0, 3.0, 4.0]])
print("w =", w.tolist(), " g =", g.tolist())

# %% [markdown]
r"""
<details><summary>Hint 1</summary>

The first output looked at the upper left 2x2 pixels, the last one at the lower right. Only these two send something.

</details>

<details><summary>Hint 2</summary>

Both paint the kernel as it is. They meet in the middle.

</details>

<details><summary>Solution</summary>

C is right: the kernel twice, and $4 + 1 = 5$ in the middle. A painted the kernel turned round. B painted tap after tap
and assigned: the zeros of a later tap erased what an earlier one had painted.

```python
image, kernel, cotangent = np.zeros((1, 1, 3, 3)), w[None, None], g[None, None]


def answer():
    return pull(lambda x: F.conv2d(x, kernel), image, gy=cotangent)[1][0][0, 0]


assert np.array_equal(answer(), C)
for name, gx in ("kernel_not_flipped", A), ("overlap_assigned", B):
    with planted(zoo[name]):
        assert np.array_equal(answer(), gx)
```

</details>
"""

# %% [markdown]
r"""
## Summary

- A convolution is a matrix, nearly empty, with few different numbers: (5.4). Backward for the image is its transpose:
  every output paints the kernel where it had looked, and overlaps add, (5.5).
- One sum holds all three gradients. Leave an argument out, and its gradient is left: (5.7), (5.8).
- In the gradient of the weights, stride and dilation change places: (5.10).
- im2col turns it into matrix products. Its transpose, col2im, adds; together they count how often a pixel is read.
- A transposed convolution is $C^T$, not $C^{-1}$.
- A wrong gradient can be right for the geometry that you test, and a network with it can still learn. Test strides,
  dilation, groups and uneven padding.

Next: tutorial 6 takes the layer that stands behind most convolutions, batch norm.
"""

# %% [markdown]
r"""
## Sources

- Y. LeCun et al. 1989, *Backpropagation Applied to Handwritten Zip Code Recognition*: convolutions trained by
  backpropagation.
- K. Chellapilla, S. Puri and P. Simard 2006, *High Performance Convolutional Neural Networks for Document Processing*,
  section 3: (5.11).
- V. Dumoulin and F. Visin 2016, *A Guide to Convolution Arithmetic for Deep Learning*, chapters 2 and 4: (5.3) and the
  transposed convolution.
- A. Odena, V. Dumoulin and C. Olah 2016, *Deconvolution and Checkerboard Artifacts*.
- K. He, X. Zhang, S. Ren and J. Sun 2015, *Deep Residual Learning for Image Recognition*, section 3.3: the projection
  with stride 2.
- T. He et al. 2019, *Bag of Tricks for Image Classification with Convolutional Neural Networks*, section 4: ResNet-D.
"""
