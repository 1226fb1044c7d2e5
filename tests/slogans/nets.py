"""What the tests of slogans are made of: stacks of blocks, a small transformer, and a deep net that learns digits.

The slogans are quoted from five popular articles about residual connections:

    S0    Residual Connections: Skip Connections, Gradient Flow, and Deep Network Training
    S1    Residual Connections (AI digest)
    S2    Residual Connections Explained: The Trick That Made Deep Networks Trainable
    S3    Residual Connections (a course page on vanishing gradients)
    S4    Residual Connections (Skip Connections) (deep-learning notes)

Each claim is met twice: what is false as they write it, with a counterexample that runs, and what is true instead.
Everything runs in float64.
"""

import functools

import numpy as np

from minires import data, nn, optim
from minires import functional as F
from minires.check.law import pull
from minires.engine import Tensor


def gradient(f, x, gy):
    """The gradient of x for the cotangent gy."""
    return pull(f, np.asarray(x, dtype=np.float64), gy=np.asarray(gy, dtype=np.float64))[1][0]


def norm(x):
    """The Euclidean norm of an array or a Tensor."""
    return float(np.linalg.norm(x.data if isinstance(x, Tensor) else x))


def stack(x, branches):
    """x_0, ..., x_L through residual blocks x + f(x)."""
    points = [x if isinstance(x, Tensor) else Tensor(x)]
    for f in branches:
        points.append(F.residual_add(points[-1], f(points[-1])))
    return points


def last(branches):
    """A residual stack as a function of its input."""
    return lambda x: stack(x, branches)[-1]


def slopes(*values):
    """Blocks x + a x, one for each a: F' = a."""
    return last([lambda x, a=a: x * a for a in values])


def two_layers(w1, w2):
    """The branch w2 relu(w1 x), as linear layers hold their weights."""
    return lambda x: F.linear(F.relu(F.linear(x, w1)), w2)


def standardized(z):
    """Batch norm without weights."""
    return F.batch_norm(z, None, None, training=True)


# --- transformers


class Transformer:
    """Layers of attention and a ReLU network of the same width, Xavier initialized, without biases or embeddings.

    norm    "pre": x + f(LN(x)); "post": LN(alpha x + f(x)); "none": f(LN(x)), no skip
    deep    the constants of DeepNorm for an encoder alone (Wang et al. 2022, DeepNet); else alpha = 1
    """

    def __init__(self, layers, norm, seed, d=64, heads=4, deep=False):
        self.rng = np.random.default_rng(seed)
        self.norm, self.d, self.heads = norm, d, heads
        self.alpha = (2 * layers) ** 0.25 if deep else 1.0
        small = (8 * layers) ** -0.25 if deep else 1.0
        gains = {"q": 1.0, "k": 1.0, "v": small, "o": small, "w1": small, "w2": small}
        self.layers = [{name: self.weight(d, d, gain) for name, gain in gains.items()} for _ in range(layers)]

    def weight(self, rows, columns, gain=1.0):
        """Normal, of Xavier's variance."""
        scale = gain * (2 / (rows + columns)) ** 0.5
        return Tensor(self.rng.standard_normal((rows, columns)) * scale, requires_grad=True)

    def tokens(self, batch=4, length=16):
        """Random embeddings, E |x|^2 = d."""
        return Tensor(self.rng.standard_normal((batch, length, self.d)), requires_grad=True)

    def attend(self, x, p):
        n, t, d = x.shape

        def heads(w):
            split = F.reshape(F.linear(x, w), (n, t, self.heads, d // self.heads))
            return F.transpose(split, 1, 2)  # (N, H, T, D)

        y = F.scaled_dot_product_attention(heads(p["q"]), heads(p["k"]), heads(p["v"]))
        return F.linear(F.reshape(F.transpose(y, 1, 2), (n, t, d)), p["o"])

    def think(self, x, p):
        return two_layers(p["w1"], p["w2"])(x)

    def sublayer(self, x, f):
        if self.norm == "pre":
            return F.residual_add(x, f(self.ln(x)))
        if self.norm == "post":
            return self.ln(F.residual_add(x * self.alpha, f(x)))
        return f(self.ln(x))

    def ln(self, x):
        return F.layer_norm(x, self.d)

    def stream(self, x):
        """x after 0, 1, ..., L layers."""
        points = [x]
        for p in self.layers:
            for f in (self.attend, self.think):
                x = self.sublayer(x, lambda z, f=f, p=p: f(z, p))
            points.append(x)
        return points

    def gradients(self, classes=100):
        """The norm of the loss's gradient for every layer's last weight, at random tokens and labels."""
        x = self.tokens()
        y = self.stream(x)[-1]
        y = self.ln(y) if self.norm == "pre" else y
        logits = F.reshape(F.linear(y, self.weight(classes, self.d)), (-1, classes))
        F.cross_entropy(logits, self.rng.integers(0, classes, len(logits))).backward()
        return np.array([norm(p["w2"].grad) for p in self.layers])


# --- a net that learns


@functools.cache
def digits():
    """The shipped digits, pixels standardized, and their labels."""
    train = data.load("digits").train
    pixels = train.images.reshape(len(train), -1) / train.scale
    return (pixels - pixels.mean(axis=0)) / (pixels.std(axis=0) + 0.1), train.labels


def losses(block, seed, steps=60, depth=32, d=32):
    """The loss of each Adam step of a deep, narrow net without normalization whose blocks are `block(x, f, a)`.

    f = relu(w x) with He's normal start, and a is a number to learn that starts at 0.
    """
    rng = np.random.default_rng(seed)
    pixels, labels = digits()

    def learned(values):
        return nn.Parameter(values, dtype=np.float64)

    stem = learned(rng.standard_normal((d, pixels.shape[1])) * pixels.shape[1] ** -0.5)
    head = learned(rng.standard_normal((10, d)) * d**-0.5)
    layers = [(learned(rng.standard_normal((d, d)) * (2 / d) ** 0.5), learned(np.zeros(()))) for _ in range(depth)]
    optimizer = optim.Adam([stem, head, *(p for layer in layers for p in layer)], lr=1e-3)
    seen = []
    for _ in range(steps):
        batch = rng.integers(0, len(labels), 64)
        x = F.linear(pixels[batch], stem)
        for w, a in layers:
            x = block(x, F.relu(F.linear(x, w)), a)
        loss = F.cross_entropy(F.linear(x, head), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return seen
