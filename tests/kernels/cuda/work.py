"""One piece of work for each kernel, at a small size for the emulator and at the sizes of real networks for a GPU."""

import numpy as np

from minires import backend
from minires import functional as F

RESNET = {"small": (3, 5, 6, 7), "real": (128, 16, 32, 32)}  # N, C, H, W: the first stage of ResNet-20, batch 128
TOKENS = {"small": (3, 7, 8), "real": (16, 128, 256)}  # N, T, D: a transformer of 4 heads
CLASSES = {"small": (5, 7), "real": (1024, 1000)}


def image(size, rng):
    """Images channels last, as the convolutions hand them on."""
    n, c, h, w = RESNET[size]
    return rng.normal(size=(n, h, w, c)).transpose(0, 3, 1, 2)


def heads(size, rng):
    """(N, 4, T, D / 4), split off a wider axis."""
    n, t, d = TOKENS[size]
    return rng.normal(size=(n, t, 4, d // 4)).transpose(0, 2, 1, 3)


def works(size):
    """{name: (f, arrays)}: what to run, and the inputs that are differentiated."""
    rng = np.random.default_rng(0)
    c, d, classes = RESNET[size][1], TOKENS[size][2], CLASSES[size]
    vector, x = lambda count=c: rng.normal(size=count), image(size, rng)
    tokens, labels = rng.normal(size=TOKENS[size]), rng.integers(classes[1], size=classes[0])
    normed = lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)
    return {
        "batch norm, channels last": (normed, (x, vector(), vector())),
        "batch norm, C order": (normed, (np.ascontiguousarray(x), vector(), vector())),
        "relu": (F.relu, (x,)),
        "residual add": (F.residual_add, (x, image(size, rng))),
        "max pool 3, stride 2": (lambda x: F.max_pool2d(x, 3, 2, 1), (x,)),
        "average pool 2": (lambda x: F.avg_pool2d(x, 2), (x,)),
        "convolution 3x3": (lambda x, w: F.conv2d(x, w, padding=1), (x, rng.normal(size=(c, c, 3, 3)))),
        "convolution 3x3, stride 2": (
            lambda x, w: F.conv2d(x, w, stride=2, padding=1),
            (x, rng.normal(size=(2 * c, c, 3, 3))),
        ),
        "convolution 1x1": (lambda x, w: F.conv2d(x, w), (x, rng.normal(size=(2 * c, c, 1, 1)))),
        "cross-entropy": (
            lambda x: F.cross_entropy(x, backend.find((x.data,)).asarray(labels)),
            (rng.normal(size=classes),),
        ),
        "softmax": (lambda x: F.softmax(x, -1), (rng.normal(size=classes),)),
        "layer norm": (lambda x, w, b: F.layer_norm(x, (d,), w, b), (tokens, vector(d), vector(d))),
        "RMS norm": (lambda x, w: F.rms_norm(x, (d,), w), (tokens, vector(d))),
        "gelu": (F.gelu, (tokens,)),
        "linear": (F.linear, (tokens, rng.normal(size=(4 * d, d)), vector(4 * d))),
        "attention": (F.scaled_dot_product_attention, tuple(heads(size, rng) for _ in range(3))),
        "causal attention": (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            tuple(heads(size, rng) for _ in range(3)),
        ),
    }
