"""PyTorch as an oracle: the same arrays through both libraries, the same random cotangent back."""

import numpy as np
import pytest

from minires.engine import Tensor

TOLERANCE = 1e-10  # of the largest entry; everything runs in float64


def assert_like_torch(ours, theirs, *arrays, seed=0):
    """Output and the gradient of every float array agree. `theirs` takes torch tensors and returns one."""
    torch = pytest.importorskip("torch")
    leaves = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    peers = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, peer = ours(*leaves), theirs(*peers)
    assert_close(y.data, peer.detach().numpy(), "the output")
    gy = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(gy)
    peer.backward(torch.tensor(gy))
    for i, (leaf, other) in enumerate(zip(leaves, peers, strict=True)):
        assert_close(leaf.grad, other.grad.numpy(), f"the gradient of input {i}")


def assert_close(a, b, what="the result", tolerance=TOLERANCE):
    """Shapes equal, and values to `tolerance` of the largest (and 1e-15, where the truth is zero)."""
    assert np.shape(a) == np.shape(b), what
    allowed = tolerance * np.max(np.abs(b), initial=0.0) + 1e-15
    assert np.max(np.abs(np.asarray(a) - b), initial=0.0) <= allowed, what


def spread_out(*shape, dtype=np.float64, rng=None):
    """A non-contiguous array of this shape: every other element of a larger one, axes reversed in memory."""
    rng = rng or np.random.default_rng(7)
    big = rng.standard_normal(tuple(2 * n for n in reversed(shape))).astype(dtype)
    return big[tuple(slice(None, None, 2) for _ in shape)].T
