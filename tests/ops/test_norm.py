import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.check import gradcheck
from minires.check.reference import norm as reference
from minires.engine import Tensor
from minires.errors import GraphError, RequestError
from minires.functional.norm import batch_norm, group_norm, layer_norm, rms_norm
from minires.switches import debug
from tests.parity import assert_close, assert_like_torch, spread_out

rng = np.random.default_rng(3)
SHAPES = [(5, 3), (4, 3, 7), (3, 2, 4, 5), (1, 3, 2, 2), (6, 1), (2, 1, 3, 1), (3, 2, 2, 3, 2)]


def batch(shape, dtype=np.float64, rng=rng):
    """A random input, gain and bias: nothing at 0 or 1."""
    x = 1.7 * rng.standard_normal(shape) + 0.7
    return (
        x.astype(dtype),
        (rng.standard_normal(shape[1]) + 0.3).astype(dtype),
        rng.standard_normal(shape[1]).astype(dtype),
    )


def features(shape, normalized, dtype=np.float64):
    x, w, b = (
        1.7 * rng.standard_normal(shape) + 0.7,
        rng.standard_normal(normalized) + 0.3,
        rng.standard_normal(normalized),
    )
    return x.astype(dtype), w.astype(dtype), b.astype(dtype)


def running(channels):
    return rng.standard_normal(channels), rng.uniform(0.5, 2.0, channels)


def train(x, w=None, b=None, eps=1e-5):
    return batch_norm(x, None, None, w, b, training=True, eps=eps)


def channels_last(x):
    """The same numbers in the same logical order, channels innermost in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def gradients(f, *arrays, gy):
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    f(*leaves).backward(gy)
    return [leaf.grad for leaf in leaves]


# --- every gradient, by the complex step


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_gradients(shape):
    x, w, b = batch(shape)
    gradcheck(train, x, w, b)
    gradcheck(lambda x: train(x, eps=1e-2), x)
    gradcheck(lambda x, w: train(x, w), x, w)
    gradcheck(lambda x, b: train(x, None, b), x, b)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 2)])
def test_batch_norm_gradients_in_evaluation(shape):
    x, w, b = batch(shape)
    mean, var = running(shape[1])
    gradcheck(lambda x, w, b: batch_norm(x, mean, var, w, b), x, w, b)
    gradcheck(lambda x: batch_norm(x, mean, var), x)
    gradcheck(lambda x, b: batch_norm(x, mean, var, None, b), x, b)


@pytest.mark.parametrize(
    ("shape", "normalized"), [((4, 6), (6,)), ((2, 3, 5), (5,)), ((2, 3, 4), (3, 4)), ((7,), (7,)), ((1, 1, 4), (1, 4))]
)
def test_layer_and_rms_norm_gradients(shape, normalized):
    x, w, b = features(shape, normalized)
    gradcheck(lambda x, w, b: layer_norm(x, normalized, w, b), x, w, b)
    gradcheck(lambda x: layer_norm(x, normalized, eps=1e-2), x)
    gradcheck(lambda x, b: layer_norm(x, normalized, None, b), x, b)
    gradcheck(lambda x, w: rms_norm(x, normalized, w, eps=1e-3), x, w)
    gradcheck(lambda x: rms_norm(x, normalized), x)


@pytest.mark.parametrize(("shape", "groups"), [((2, 4, 3), 2), ((2, 6), 3), ((1, 4, 2, 3), 1), ((2, 3, 2, 2), 3)])
def test_group_norm_gradients(shape, groups):
    x, w, b = batch(shape)
    gradcheck(lambda x, w, b: group_norm(x, groups, w, b), x, w, b)
    gradcheck(lambda x: group_norm(x, groups, eps=1e-2), x)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_batch_norm_gradients_for_any_geometry(n, c, h, w, last, seed):
    if n * h * w < 3:
        n = 3  # with two values x-hat is +-1 whatever x is, so gx nearly vanishes
    x, gain, bias = batch((n, c, h, w), rng=np.random.default_rng(seed))
    gradcheck(train, channels_last(x) if last else x, gain, bias, tolerance=1e-8)


@pytest.mark.parametrize("norm", [train, lambda x, w, b: group_norm(x, 2, w, b)])
def test_norms_take_any_memory_layout(norm):
    x, (_, w, b) = spread_out(3, 4, 2, 5), batch((3, 4, 2, 5))
    gradcheck(norm, x, w, b)
    packed = np.ascontiguousarray(x)
    assert_close(norm(x, w, b).data, norm(packed, w, b).data)
    assert_close(norm(channels_last(x), w, b).data, norm(packed, w, b).data)


# --- the index-loop twins, and PyTorch


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_equals_its_index_loop(shape):
    x, w, b = batch(shape)
    mean, var = running(shape[1])
    assert_close(train(x, w, b).data, reference.batch_norm(x, w, b))
    assert_close(batch_norm(x, mean, var, w, b).data, reference.batch_norm_eval(x, mean, var, w, b))


def test_layer_rms_and_group_norm_equal_their_index_loops():
    x, w, b = features((2, 3, 4), (3, 4))
    assert_close(layer_norm(x, (3, 4), w, b).data, reference.layer_norm(x, (3, 4), w, b))
    assert_close(rms_norm(x, (3, 4), w, eps=1e-3).data, reference.rms_norm(x, (3, 4), w, eps=1e-3))
    x, w, b = batch((2, 6, 2, 3))
    assert_close(group_norm(x, 3, w, b).data, reference.group_norm(x, 3, w, b))


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_matches_torch(shape):
    F = pytest.importorskip("torch").nn.functional
    torch = pytest.importorskip("torch")
    x, w, b = batch(shape)
    assert_like_torch(train, lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), x, w, b)
    mean, var = running(shape[1])
    theirs = torch.tensor(mean), torch.tensor(var)
    assert_like_torch(
        lambda x, w, b: batch_norm(x, mean, var, w, b, eps=1e-3),
        lambda x, w, b: F.batch_norm(x, *theirs, w, b, eps=1e-3),
        x, w, b,
    )  # fmt: skip


def test_running_statistics_match_torch():
    torch = pytest.importorskip("torch")
    mean, var = running(3)
    ours, theirs = (Tensor(mean.copy()), Tensor(var.copy())), (torch.tensor(mean), torch.tensor(var))
    for momentum in (0.1, 0.4, 1.0):
        x, w, b = batch((4, 3, 2, 5))
        batch_norm(x, *ours, w, b, training=True, momentum=momentum)
        torch.nn.functional.batch_norm(*map(torch.tensor, (x,)), *theirs, training=True, momentum=momentum)
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(mine.data, other.numpy())


@pytest.mark.parametrize("normalized", [(5,), (3, 5)])
def test_layer_and_rms_norm_match_torch(normalized):
    F = pytest.importorskip("torch").nn.functional
    x, w, b = features((2, 3, 5), normalized)
    assert_like_torch(
        lambda x, w, b: layer_norm(x, normalized, w, b), lambda x, w, b: F.layer_norm(x, normalized, w, b), x, w, b
    )
    assert_like_torch(lambda x, w: rms_norm(x, normalized, w), lambda x, w: F.rms_norm(x, normalized, w), x, w)
    tiny = x * 1e-8
    assert_like_torch(lambda x: rms_norm(x, normalized), lambda x: F.rms_norm(x, normalized), tiny)


def test_group_norm_matches_torch():
    F = pytest.importorskip("torch").nn.functional
    x, w, b = batch((2, 6, 2, 3))
    for groups in (1, 2, 6):
        assert_like_torch(
            lambda x, w, b, g=groups: group_norm(x, g, w, b),
            lambda x, w, b, g=groups: F.group_norm(x, g, w, b),
            x,
            w,
            b,
        )


# --- laws


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_gx_is_orthogonal_to_ones_and_to_xhat(shape):
    x, w, b = batch(shape)
    axes = (0, *range(2, x.ndim))
    (gx, _, _) = gradients(lambda x, w, b: train(x, w, b, eps=0.0), x, w, b, gy=rng.standard_normal(shape))
    xhat = x - x.mean(axes, keepdims=True)
    scale = np.abs(gx).sum(axes) + 1e-3
    assert np.all(np.abs(gx.sum(axes)) < 1e-12 * scale)
    assert np.all(np.abs((gx * xhat).sum(axes)) < 1e-12 * scale * np.abs(xhat).max())


def test_batch_norm_gx_along_xhat_is_what_eps_leaves():
    """With eps, xhat^2 averages v / (v + eps) < 1, so the share eps / (v + eps) of the gradient along xhat survives."""
    x, w, _ = batch((6, 2, 3))
    gy, eps = rng.standard_normal(x.shape), 0.5
    (gx, gw) = gradients(lambda x, w: train(x, w, eps=eps), x, w, gy=gy)
    var = x.var((0, 2))
    xhat = (x - x.mean((0, 2), keepdims=True)) / np.sqrt(var + eps)[:, None]
    assert_close((gx * xhat).sum((0, 2)), w * gw / np.sqrt(var + eps) * eps / (var + eps))


def test_batch_norm_in_evaluation_scales_the_gradient_by_gamma_over_sigma():
    x, w, b = batch((3, 2, 4, 4))
    mean, var = running(2)
    gy = rng.standard_normal(x.shape)
    gx, _, _ = gradients(lambda x, w, b: batch_norm(x, mean, var, w, b), x, w, b, gy=gy)
    assert_close(gx, gy * (w / np.sqrt(var + 1e-5))[:, None, None])


def test_batch_norm_forgets_offset_and_scale_of_each_channel():
    x, w, b = batch((5, 3, 4))
    moved = x * np.array([2.0, 0.5, 30.0])[:, None] + np.array([-4.0, 9.0, 100.0])[:, None]
    assert_close(train(moved, w, b, eps=0.0).data, train(x, w, b, eps=0.0).data)


def test_batch_norm_output_has_the_mean_and_deviation_it_was_told():
    x, w, b = batch((50, 3, 4))
    y = train(x, w, b, eps=0.0).data
    assert_close(y.mean((0, 2)), b)
    assert_close(y.std((0, 2)), np.abs(w))


def test_layer_norm_is_scale_invariant():
    x, w, b = features((4, 6), (6,))
    for norm in (lambda x: layer_norm(x, 6, w, b, eps=0.0), lambda x: rms_norm(x, 6, w, eps=0.0)):
        assert_close(norm(37.0 * x).data, norm(x).data)
        gy = rng.standard_normal(x.shape)
        (gx,), (gx37,) = gradients(norm, x, gy=gy), gradients(norm, 37.0 * x, gy=gy)
        assert_close(37.0 * gx37, gx)  # so a larger input moves less
        assert np.max(np.abs((gx * x).sum(1))) < 1e-12


def test_layer_norm_gx_sums_to_zero_and_rms_norm_gx_does_not():
    x, w, b = features((4, 6), (6,))
    gy = rng.standard_normal(x.shape)
    gx, _, _ = gradients(lambda x, w, b: layer_norm(x, 6, w, b), x, w, b, gy=gy)
    assert np.max(np.abs(gx.sum(1))) < 1e-13
    gx, _ = gradients(lambda x, w: rms_norm(x, 6, w), x, w, gy=gy)
    assert np.min(np.abs(gx.sum(1))) > 1e-3


def test_one_group_is_layer_norm_and_a_batch_of_one_with_all_groups_is_batch_norm():
    x, _, _ = batch((2, 4, 3, 3))
    assert_close(group_norm(x, 1).data, layer_norm(x, (4, 3, 3)).data)
    assert_close(group_norm(x[:1], 4).data, train(x[:1]).data)


# --- running statistics


def test_running_variance_is_unbiased_and_both_move_by_momentum():
    x, _, _ = batch((4, 3, 5))
    mean, var = running(3)
    new_mean, new_var = mean.copy(), var.copy()
    batch_norm(x, new_mean, new_var, training=True, momentum=0.25)
    assert_close(new_mean, 0.75 * mean + 0.25 * x.mean((0, 2)))
    assert_close(new_var, 0.75 * var + 0.25 * x.var((0, 2), ddof=1))


def test_running_statistics_stay_where_they_are_and_are_counted_as_changed():
    mean, var = Tensor(np.zeros(3)), Tensor(np.ones(3))
    before = mean.data, var.data
    x, w, _ = batch((4, 3))
    y = batch_norm(Tensor(x, requires_grad=True), mean, var, Tensor(w, requires_grad=True))
    batch_norm(x, mean, var, training=True)
    assert mean.data is before[0]
    assert var.data is before[1]
    assert (mean._version[0], var._version[0]) == (1, 1)
    y.backward(rng.standard_normal(x.shape))  # what evaluation saved is its own


def test_running_statistics_are_left_alone_in_evaluation():
    x, w, b = batch((4, 3))
    mean, var = running(3)
    kept = mean.copy(), var.copy()
    batch_norm(x, mean, var, w, b)
    assert np.array_equal(mean, kept[0])
    assert np.array_equal(var, kept[1])


def test_two_training_passes_share_running_statistics_under_debug():
    with debug():
        mean, var = Tensor(np.zeros(3)), Tensor(np.ones(3))
        x = Tensor(batch((4, 3))[0], requires_grad=True)
        first = batch_norm(x, mean, var, training=True)
        second = batch_norm(first, mean, var, training=True)
        second.backward(rng.standard_normal((4, 3)))
    assert_close(mean.data, 0.1 * x.data.mean(0) * 0.9, tolerance=1e-6)


def test_a_gain_changed_before_backward_is_noticed():
    x, w, b = batch((4, 3))
    gain = Tensor(w, requires_grad=True)
    y = train(Tensor(x, requires_grad=True), gain, b)
    gain.data *= 2
    gain.touch()
    with pytest.raises(GraphError, match="BatchNorm"):
        y.backward(rng.standard_normal(x.shape))


# --- precision


def test_float32_stays_float32():
    x, w, b = batch((4, 6, 3), np.float32)
    mean, var = (a.astype(np.float32) for a in running(6))
    row = np.ones((6, 3), np.float32)
    for norm in (
        lambda x, w, b: batch_norm(x, mean, var, w, b, training=True),
        lambda x, w, b: batch_norm(x, mean, var, w, b),
        lambda x, w, b: group_norm(x, 2, w, b),
    ):
        gy = rng.standard_normal(x.shape).astype(np.float32)
        assert norm(x, w, b).dtype == np.float32
        assert {g.dtype for g in gradients(norm, x, w, b, gy=gy)} == {np.dtype(np.float32)}
    for norm in (lambda x, w: layer_norm(x, (6, 3), w, row), lambda x, w: rms_norm(x, (6, 3), w)):
        assert norm(x, row).dtype == np.float32
        assert {g.dtype for g in gradients(norm, x, row, gy=gy)} == {np.dtype(np.float32)}
    assert mean.dtype == var.dtype == np.float32


@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last])
def test_float32_statistics_are_accurate_far_from_zero(layout):
    """Variance 1 at mean 300: mean(x^2) - mu^2 would lose all but two digits of it."""
    x = layout((rng.standard_normal((64, 2, 56, 56)) + 300).astype(np.float32))
    mean, var = np.zeros(2, np.float32), np.zeros(2, np.float32)
    batch_norm(x, mean, var, training=True, momentum=1.0)
    exact = x.astype(np.float64)
    assert np.allclose(mean, exact.mean((0, 2, 3)), rtol=1e-6, atol=0)
    assert np.allclose(var, exact.var((0, 2, 3), ddof=1), rtol=1e-5, atol=0)


# --- what is refused


def test_a_single_value_per_channel_is_refused_in_training_only():
    for shape in [(1, 3), (1, 3, 1, 1)]:
        with pytest.raises(ValueError, match=r"expected more than 1 value per channel when training.*\(1, 3"):
            batch_norm(np.ones(shape), None, None, training=True)
        assert batch_norm(np.ones(shape), np.zeros(3), np.ones(3)).shape == shape
    with pytest.raises(ValueError, match="more than 1 value"):
        group_norm(np.ones((1, 3)), 3)


def test_evaluation_needs_running_statistics():
    with pytest.raises(ValueError, match="running_mean and running_var must be given unless training=True"):
        batch_norm(np.ones((2, 3)), None, None)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train(np.ones((2, 3)), np.ones(4)), RequestError, r"weight is \(4,\).*\(2, 3\) it must be \(3,\)"),
        (lambda: train(np.ones((2, 3)), None, np.ones((3, 1))), RequestError, r"bias is \(3, 1\)"),
        (lambda: batch_norm(np.ones((2, 3)), np.ones(2), np.ones(3)), RequestError, r"running_mean is \(2,\)"),
        (lambda: train(np.ones(3)), RequestError, r"must be \(N, C\)"),
        (lambda: train(np.ones((2, 3), int)), TypeError, "int64"),
        (lambda: layer_norm(np.ones((2, 3)), (4,)), RequestError, r"\(4,\), but input is \(2, 3\)"),
        (lambda: layer_norm(np.ones((2, 3)), ()), RequestError, "does not end in it"),
        (lambda: layer_norm(np.ones(3), (2, 3)), RequestError, "does not end in it"),
        (lambda: layer_norm(np.ones((2, 3)), 3, np.ones(2)), RequestError, r"weight is \(2,\)"),
        (lambda: rms_norm(np.ones((2, 3)), 2), RequestError, "rms_norm"),
        (lambda: group_norm(np.ones((2, 5)), 2), RequestError, "5 channels do not split into 2 groups"),
        (lambda: group_norm(np.ones((2, 4)), 0), RequestError, "0 groups"),
    ],
)
def test_wrong_shapes_are_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
