import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.check import gradcheck
from minires.check.reference import residual as reference
from minires.engine import Function, Tensor
from minires.errors import RequestError
from minires.functional.residual import pad_channels, residual_add
from tests.parity import assert_close, assert_like_torch, spread_out

rng = np.random.default_rng(13)


class Branch(Function):
    """F(x) = tanh(x A), a branch with a Jacobian that is dense and not symmetric."""

    def forward(self, x, a):
        self.a, self.f = a, self.xp.tanh(x @ a)
        return self.f

    def backward(self, gy):
        return (gy * (1 - self.f * self.f)) @ self.a.T, None


def gradient(f, x, gy):
    leaf = Tensor(x, requires_grad=True)
    f(leaf).backward(gy)
    return leaf.grad


# --- the +1


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4), (1, 1)])
def test_residual_add_gradients(shape):
    gradcheck(residual_add, rng.standard_normal(shape), rng.standard_normal(shape))


def test_residual_add_gradients_in_any_memory_layout():
    gradcheck(residual_add, spread_out(3, 4), rng.standard_normal((3, 4)))


def test_both_gradients_are_gy_bit_for_bit_and_share_no_memory():
    x, f = (Tensor(rng.standard_normal((3, 4)), requires_grad=True) for _ in range(2))
    gy = rng.standard_normal((3, 4))
    residual_add(x, f).backward(gy)
    assert x.grad.tobytes() == f.grad.tobytes() == gy.tobytes()
    assert not np.shares_memory(x.grad, f.grad)
    assert not np.shares_memory(x.grad, gy)


def test_a_block_adds_the_branch_s_pull_to_the_untouched_gradient():
    """gx = gy + J_F^T gy, with the Jacobian of F written out: J[i, j] = df_i / dx_j."""
    x, a, gy = rng.standard_normal(5), rng.standard_normal((5, 5)), rng.standard_normal(5)
    jacobian = (1 - np.tanh(x @ a) ** 2)[:, None] * a.T
    gx = gradient(lambda x: residual_add(x, Branch.apply(x, a)), x, gy)
    assert_close(gx, gy + jacobian.T @ gy)
    assert_close(gx, (np.eye(5) + jacobian).T @ gy)


def test_where_the_branch_is_zero_gradients_pass_any_depth_bit_for_bit():
    x, zero, gy = rng.standard_normal((2, 5)), np.zeros((5, 5)), rng.standard_normal((2, 5))

    def stack(x):
        for _ in range(50):
            x = residual_add(x, Branch.apply(x, zero))
        return x

    assert np.array_equal(stack(Tensor(x)).data, x)
    assert gradient(stack, x, gy).tobytes() == gy.tobytes()


def test_x_added_to_itself_gets_the_gradient_twice():
    x, gy = rng.standard_normal(4), rng.standard_normal(4)
    assert np.array_equal(gradient(lambda x: residual_add(x, x), x, gy), 2 * gy)


def test_residual_add_equals_its_index_loop_and_torch():
    x, f = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4))
    assert np.array_equal(residual_add(x, f).data, reference.residual_add(x, f))
    assert_like_torch(residual_add, lambda x, f: x + f, x, f)


@pytest.mark.parametrize("shapes", [((2, 3), (1, 3)), ((2, 3), (3,)), ((2, 3), ()), ((2, 16, 8, 8), (2, 32, 4, 4))])
def test_a_skip_that_would_broadcast_is_refused(shapes):
    with pytest.raises(RequestError, match=r"the skip is .* and the branch .* must not broadcast.*pad_channels"):
        residual_add(*(np.ones(s) for s in shapes))


# --- the padding shortcut


@pytest.mark.parametrize(
    ("shape", "out", "stride"), [((2, 2, 4, 6), 4, 2), ((1, 3, 5, 3), 6, 2), ((2, 1, 3, 3), 1, 1), ((1, 2, 1, 4), 5, 3)]
)
def test_pad_channels_gradients(shape, out, stride):
    gradcheck(lambda x: pad_channels(x, out, stride), rng.standard_normal(shape))
    gradcheck(lambda x: pad_channels(x, out, stride), spread_out(*shape))


@settings(deadline=None, max_examples=40)
@given(*[st.integers(1, 4)] * 2, *[st.integers(1, 6)] * 2, st.integers(0, 5), st.integers(1, 3), st.integers(0, 99))
def test_pad_channels_is_linear_and_backward_is_its_adjoint(n, c, h, w, added, stride, seed):
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((2, n, c, h, w))

    def f(x):
        return pad_channels(x, c + added, stride)

    assert_close(f(2.5 * x - z).data, 2.5 * f(x).data - f(z).data)
    assert np.array_equal(f(x).data, reference.pad_channels(x, c + added, stride))
    gy = rng.standard_normal(f(x).shape)
    assert abs(np.sum(f(x).data * gy) - np.sum(x * gradient(f, x, gy))) < 1e-12 * (1 + np.abs(x).sum())


def test_pad_channels_matches_the_slice_and_pad_of_option_a():
    F = pytest.importorskip("torch").nn.functional
    x = rng.standard_normal((2, 4, 6, 6))
    assert_like_torch(
        lambda x: pad_channels(x, 8, 2), lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8 // 4, 8 // 4)), x
    )


def test_an_odd_channel_goes_behind():
    y = pad_channels(np.ones((1, 2, 1, 1)), 5).data
    assert y.ravel().tolist() == [0, 1, 1, 0, 0]


def test_float32_stays_float32():
    x = rng.standard_normal((2, 2, 4, 4)).astype(np.float32)
    for f in (lambda x: residual_add(x, x), lambda x: pad_channels(x, 4, 2)):
        y = f(x)
        assert y.dtype == np.float32
        assert gradient(f, x, rng.standard_normal(y.shape).astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pad_channels(np.ones((1, 4, 2, 2)), 3), "out_channels is 3, fewer than the 4 channels"),
        (lambda: pad_channels(np.ones((4, 2, 2)), 8), r"x is \(4, 2, 2\)"),
        (lambda: pad_channels(np.ones((1, 4, 2, 2)), 8, 0), "stride is 0"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message):
    with pytest.raises(RequestError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
