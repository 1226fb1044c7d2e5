"""What a lesion leaves: (skip I + branch J_F)^T gy at each block that is cut, and all else as it was."""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires import nn
from minires.engine import Tensor
from minires.errors import RequestError


def blocks(rng, count=4, d=5):
    """A stack of blocks x + W tanh(x), its input, and each block's Jacobian J_F."""
    ws = [rng.standard_normal((d, d)) for _ in range(count)]
    x = Tensor(rng.standard_normal((1, d)), requires_grad=True)
    y, jacobians = x, []
    for w in ws:
        jacobians.append(w * (1 - np.tanh(y.data) ** 2))
        y = F.residual_add(y, F.linear(F.tanh(y), Tensor(w)))
    return x, y, jacobians


def expected(gy, jacobians, factors):
    for j, (skip, branch) in reversed(list(zip(jacobians, factors, strict=True))):
        gy = skip * gy + branch * gy @ j
    return gy


@pytest.mark.parametrize("block", [None, 0, 2, -1, (0, 3)])
@pytest.mark.parametrize(("skip", "branch"), [(0.0, 1.0), (0.3, 1.0), (1.0, 0.0), (0.7, -0.4)])
def test_a_lesion_replaces_the_factors_of_its_blocks_alone(block, skip, branch):
    rng = np.random.default_rng(3)
    x, y, jacobians = blocks(rng)
    gy = rng.standard_normal(y.shape)
    with mr.lesion(skip_grad=skip, branch_grad=branch, block=block):
        y.backward(gy)
    cut = {None: range(4), -1: [3]}.get(block, np.atleast_1d(block)) if not isinstance(block, tuple) else block
    factors = [(skip, branch) if k in cut else (1, 1) for k in range(4)]
    np.testing.assert_allclose(x.grad, expected(gy, jacobians, factors), rtol=1e-12)


def test_the_default_drops_the_skips_one_everywhere():
    rng = np.random.default_rng(4)
    x, y, jacobians = blocks(rng)
    gy = rng.standard_normal(y.shape)
    with mr.lesion():
        y.backward(gy)
    np.testing.assert_allclose(x.grad, expected(gy, jacobians, [(0, 1)] * 4), rtol=1e-12)


def test_after_the_with_block_gradients_are_whole_again():
    rng = np.random.default_rng(5)
    x, y, jacobians = blocks(rng)
    gy = rng.standard_normal(y.shape)
    with mr.lesion(block=1):
        y.backward(gy, retain_graph=True)
    x.grad = None
    y.backward(gy)
    np.testing.assert_allclose(x.grad, expected(gy, jacobians, [(1, 1)] * 4), rtol=1e-12)


def test_blocks_are_counted_anew_for_each_backward():
    rng = np.random.default_rng(6)
    with mr.lesion(block=-1):
        for count in (3, 5):
            x, y, jacobians = blocks(rng, count)
            gy = rng.standard_normal(y.shape)
            y.backward(gy)
            np.testing.assert_allclose(x.grad, expected(gy, jacobians, [(1, 1)] * (count - 1) + [(0, 1)]), rtol=1e-12)


def test_of_two_towers_blocks_are_numbered_as_they_were_made():
    rng = np.random.default_rng(7)
    x, y, left = blocks(rng, 2)
    z, t, right = blocks(rng, 2)
    gy = rng.standard_normal(y.shape)
    with mr.lesion(block=1):
        (y + t).backward(gy)
    np.testing.assert_allclose(x.grad, expected(gy, left, [(1, 1), (0, 1)]), rtol=1e-12)
    np.testing.assert_allclose(z.grad, expected(gy, right, [(1, 1), (1, 1)]), rtol=1e-12)


@pytest.mark.parametrize("block", [4, -5])
def test_a_block_that_is_not_there_is_named(block):
    _, y, _ = blocks(np.random.default_rng(8))
    with mr.lesion(block=block), pytest.raises(RequestError, match=f"number {block}, since on the tape there are 4"):
        y.backward(np.ones(y.shape))


def test_without_a_skip_there_is_nothing_to_cut():
    x = Tensor(np.array([2.0]), requires_grad=True)
    with mr.lesion(block=0), pytest.raises(RequestError, match="there is none"):
        (x * x).backward(np.array([1.5]))


@pytest.mark.parametrize("block", [np.array([0, 3]), range(0, 4, 3), np.int64(0)])
def test_block_numbers_may_come_from_numpy_and_ranges(block):
    rng = np.random.default_rng(8)
    x, y, jacobians = blocks(rng)
    gy = rng.standard_normal(y.shape)
    with mr.lesion(block=block):
        y.backward(gy)
    cut = np.atleast_1d(np.asarray(block))
    factors = [(0 if k in cut else 1, 1) for k in range(4)]
    np.testing.assert_allclose(x.grad, expected(gy, jacobians, factors), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"block": 1.5}, "block must be a whole number"),
        ({"block": "first"}, "block must be a whole number"),
        ({"block": slice(0, 2)}, "block must be a whole number"),
        ({"skip_grad": None}, "skip_grad must be a number"),
        ({"branch_grad": "0"}, "branch_grad must be a number"),
        ({"skip_grad": np.ones(3)}, "skip_grad must be a number"),
    ],
)
def test_what_is_no_number_is_refused_at_once(options, what):
    with pytest.raises(RequestError, match=what), mr.lesion(**options):
        pytest.fail("it went on")


def checkpointed(rng, d=4):
    """Three blocks x + W tanh(x), the middle one behind a checkpoint, and their Jacobians."""
    x, ws = Tensor(rng.standard_normal((1, d)), requires_grad=True), rng.standard_normal((3, d, d))

    def block(y, w):
        return F.residual_add(y, F.linear(F.tanh(y), Tensor(w)))

    y, jacobians = x, []
    for k, w in enumerate(ws):
        jacobians.append(w * (1 - np.tanh(y.data) ** 2))
        y = nn.checkpoint(lambda z, w=w: block(z, w), y) if k == 1 else block(y, w)
    return x, y, jacobians


def test_without_numbers_blocks_behind_a_checkpoint_are_cut_as_well():
    rng = np.random.default_rng(9)
    x, y, jacobians = checkpointed(rng)
    gy = rng.standard_normal(y.shape)
    with mr.lesion(skip_grad=0.3):
        y.backward(gy)
    np.testing.assert_allclose(x.grad, expected(gy, jacobians, [(0.3, 1)] * 3), rtol=1e-12)


@pytest.mark.parametrize("block", [0, 1, -1])
def test_numbers_are_refused_where_a_checkpoint_hides_blocks(block):
    """Else block 0 would be the hidden one as well, since it is made, and counted, while backward runs."""
    _, y, _ = checkpointed(np.random.default_rng(10))
    with pytest.raises(RequestError, match=r"nn\.checkpoint"), mr.lesion(block=block):
        y.backward(np.ones(y.shape))
