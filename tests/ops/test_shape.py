"""Shapes, joints, borders and indices: every number arrives, and its gradient finds the way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minires.check import gradcheck
from minires.check.reference import shape as reference
from minires.engine import Tensor
from minires.errors import GraphError, RequestError
from minires.functional import shape as F
from minires.switches import no_grad

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)
MODES = ("reflect", "replicate", "circular")


def random(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def randoms(shape, count, seed=0):
    return [random(*shape, seed=seed + k) for k in range(count)]


def data(y):
    return tuple(t.data for t in y) if isinstance(y, tuple) else y.data


def same(ours, theirs):
    if isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    else:
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_array_equal(ours, theirs)


# Each case: ours, torch's, and the shapes of the inputs. They serve the gradient check, parity and dtype tests.
CASES = {
    "reshape": (lambda x: F.reshape(x, 3, -1), lambda t, x: x.reshape(3, -1), [(2, 3, 2)]),
    "reshape tuple": (lambda x: F.reshape(x, (4, 1, 3)), lambda t, x: x.reshape(4, 1, 3), [(2, 6)]),
    "reshape scalar": (lambda x: F.reshape(x, ()), lambda t, x: x.reshape(()), [(1, 1)]),
    "view": (lambda x: F.view(x, -1), lambda t, x: x.view(-1), [(2, 3)]),
    "flatten": (lambda x: F.flatten(x, 1), lambda t, x: t.flatten(x, 1), [(2, 3, 1, 2)]),
    "flatten middle": (lambda x: F.flatten(x, 1, -2), lambda t, x: t.flatten(x, 1, -2), [(2, 3, 2, 2)]),
    "squeeze": (lambda x: F.squeeze(x), lambda t, x: t.squeeze(x), [(1, 3, 1, 2)]),
    "squeeze dim": (lambda x: F.squeeze(x, (0, 1)), lambda t, x: t.squeeze(x, (0, 1)), [(1, 3, 1)]),
    "unsqueeze": (lambda x: F.unsqueeze(x, -1), lambda t, x: t.unsqueeze(x, -1), [(2, 3)]),
    "expand": (lambda x: F.expand(x, 4, -1, 3), lambda t, x: x.expand(4, -1, 3), [(2, 1)]),
    "broadcast_to": (lambda x: F.broadcast_to(x, (2, 3, 4)), lambda t, x: t.broadcast_to(x, (2, 3, 4)), [(3, 1)]),
    "permute": (lambda x: F.permute(x, 2, 0, 3, 1), lambda t, x: x.permute(2, 0, 3, 1), [(2, 3, 4, 1)]),
    "permute negative": (lambda x: F.permute(x, (-1, 0, 1)), lambda t, x: x.permute(-1, 0, 1), [(2, 3, 4)]),
    "transpose": (lambda x: F.transpose(x, -1, 0), lambda t, x: t.transpose(x, -1, 0), [(2, 3, 4)]),
    "movedim": (lambda x: F.movedim(x, (0, 1), (-1, 0)), lambda t, x: t.movedim(x, (0, 1), (-1, 0)), [(2, 3, 4, 5)]),
    "movedim int": (lambda x: F.movedim(x, 1, -1), lambda t, x: t.movedim(x, 1, -1), [(2, 3, 4)]),
    "flip": (lambda x: F.flip(x, (0, -1)), lambda t, x: t.flip(x, (0, -1)), [(2, 3, 4)]),
    "cat": (lambda *xs: F.cat(xs, 1), lambda t, *xs: t.cat(xs, 1), [(2, 3), (2, 1), (2, 4)]),
    "cat negative": (lambda *xs: F.cat(xs, -2), lambda t, *xs: t.concat(xs, -2), [(1, 2), (3, 2)]),
    "stack": (lambda *xs: F.stack(xs, 1), lambda t, *xs: t.stack(xs, 1), [(2, 3)] * 3),
    "stack last": (lambda *xs: F.stack(xs, -1), lambda t, *xs: t.stack(xs, -1), [(2,)] * 2),
    "stack scalars": (lambda *xs: F.stack(xs), lambda t, *xs: t.stack(xs), [()] * 3),
    "split": (lambda x: F.split(x, 2, 1), lambda t, x: t.split(x, 2, 1), [(2, 5)]),
    "split sections": (lambda x: F.split(x, [1, 0, 3], -2), lambda t, x: t.split(x, [1, 0, 3], -2), [(4, 2)]),
    "chunk": (lambda x: F.chunk(x, 3), lambda t, x: t.chunk(x, 3), [(7, 2)]),
    "chunk few": (lambda x: F.chunk(x, 4), lambda t, x: t.chunk(x, 4), [(5,)]),
    "unbind": (lambda x: F.unbind(x, 1), lambda t, x: t.unbind(x, 1), [(2, 3, 2)]),
    "unbind vector": (lambda x: F.unbind(x), lambda t, x: t.unbind(x), [(3,)]),
    "pad": (lambda x: F.pad(x, (1, 2), value=0.5), lambda t, x: t.nn.functional.pad(x, (1, 2), value=0.5), [(2, 3)]),
    "pad crop": (lambda x: F.pad(x, (-1, 2, 1, -1)), lambda t, x: t.nn.functional.pad(x, (-1, 2, 1, -1)), [(2, 3, 4)]),
    **{
        f"pad {mode}": (
            lambda x, mode=mode: F.pad(x, (2, 1, 1, 2), mode),
            lambda t, x, mode=mode: t.nn.functional.pad(x, (2, 1, 1, 2), mode),
            [(2, 1, 4, 3)],
        )
        for mode in MODES
    },
}

INDICES = {
    "integer": 1,
    "negative": (-1, 0),
    "slice": slice(1, None),
    "step": (slice(None), slice(0, 4, 2)),
    "ellipsis": (..., 1),
    "newaxis": (None, slice(None), None, 0),
    "nothing": (),
    "empty slice": slice(2, 2),
    "repeated": np.array([0, 2, 2, 2, 1]),
    "list": [2, 0, 2],
    "matrix": np.array([[0, 1], [2, 0]]),
    "pair": (np.array([0, 2, 0]), np.array([1, 3, 1])),
    "broadcast pair": (np.array([[0], [2]]), np.array([1, 3, 3])),
    "slice and array": (slice(None), np.array([3, 3, 0])),
    "integer and array": (1, slice(None), np.array([1, 1, 0])),
    "integer, newaxis and mask": (..., None, 1, np.array([True, False])),
    "apart": (np.array([0, 1]), slice(None), np.array([1, 1])),
    "ellipsis and array": (..., np.array([1, 1, 0])),
    "newaxis and array": (None, np.array([-1, -1])),
    "mask": np.array([True, False, True]),
    "matrix mask": np.arange(12).reshape(3, 4) % 3 == 0,
    "mask behind": (..., np.array([[True, False], [True, True], [False, False], [True, False]])),
    "mask and array": (np.array([True, False, True]), np.array([0, 0])),
    "empty mask": np.zeros(3, bool),
    "numpy integer": np.int64(2),
}


@pytest.mark.parametrize("name", CASES)
def test_backward_is_the_adjoint(name):
    f, _, shapes = CASES[name]
    gradcheck(f, *[random(*s, seed=k) for k, s in enumerate(shapes)])


@pytest.mark.parametrize("name", CASES)
def test_strides_do_not_matter(name):
    f, _, shapes = CASES[name]
    xs = [
        random(*s[::-1], seed=k).T if len(s) > 1 else random(*s, s[0], seed=k)[..., 0]
        for k, s in enumerate(shapes)
        if s
    ]
    if not xs:
        return
    same(data(f(*xs)), data(f(*[np.ascontiguousarray(x) for x in xs])))
    gradcheck(f, *xs)


@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward_equal_torch(name):
    torch = pytest.importorskip("torch")
    f, theirs, shapes = CASES[name]
    xs = [random(*s, seed=k) for k, s in enumerate(shapes)]
    a, b = [Tensor(x, requires_grad=True) for x in xs], [torch.tensor(x, requires_grad=True) for x in xs]
    ya, yb = f(*a), theirs(torch, *b)
    both = list(zip(ya, yb, strict=True)) if isinstance(ya, tuple) else [(ya, yb)]
    for k, (u, v) in enumerate(both):
        same(u.data, v.detach().numpy())
        g = random(*u.shape, seed=50 + k)
        u.backward(g, retain_graph=True)
        v.backward(torch.tensor(g), retain_graph=True)
    for u, v in zip(a, b, strict=True):
        np.testing.assert_allclose(u.grad, v.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name):
    f, _, shapes = CASES[name]
    xs = [Tensor(random(*s, seed=k).astype(np.float32), requires_grad=True) for k, s in enumerate(shapes)]
    y = f(*xs)
    first = y[0] if isinstance(y, tuple) else y
    first.backward(random(*first.shape).astype(np.float32))
    assert first.dtype == np.float32
    assert all(x.grad.dtype == np.float32 for x in xs)


@pytest.mark.parametrize("name", INDICES)
def test_getitem_reads_what_numpy_reads_and_gives_back_what_it_read(name):
    index = INDICES[name]
    x = random(3, 4, 2)
    expected = x[1][:, index[2]] if name == "integer and array" else np.asarray(x[index])  # torch's rule, see getitem
    same(F.getitem(x, index).data, expected)
    gradcheck(lambda x: F.getitem(x, index), x, may_vanish=name.startswith("empty"))


@pytest.mark.parametrize("name", INDICES)
def test_getitem_equals_torch(name):
    torch = pytest.importorskip("torch")
    index = INDICES[name]
    items = index if isinstance(index, tuple) else (index,)
    theirs = tuple(torch.as_tensor(i) if isinstance(i, np.ndarray) else i for i in items)
    a, b = Tensor(random(3, 4, 2), requires_grad=True), torch.tensor(random(3, 4, 2), requires_grad=True)
    ya, yb = F.getitem(a, index), b[theirs]
    g = random(*ya.shape, seed=1)
    ya.backward(g)
    yb.backward(torch.tensor(g))
    same(ya.data, yb.detach().numpy())
    np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-12)


# --- laws


def test_an_index_read_twice_gets_both_gradients():
    x = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    F.getitem(x, [2, 0, 2, 2]).backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    np.testing.assert_array_equal(x.grad, [10.0, 0.0, 1101.0])


def test_basic_indexing_is_a_view_and_advanced_indexing_a_copy():
    x = Tensor(random(3, 4), requires_grad=True)
    rows = F.getitem(x, slice(1, 3))
    assert np.shares_memory(rows.data, x.data)
    assert not np.shares_memory(F.getitem(x, [1, 2]).data, x.data)


def test_advanced_index_cannot_be_changed_between_forward_and_backward():
    index = np.array([0, 0, 2])
    x = Tensor(random(3), requires_grad=True)
    y = F.getitem(x, index)
    index[:] = 1
    y.backward(np.array([1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(x.grad, [3.0, 0.0, 4.0])


def test_tensors_serve_as_indices():
    x = random(3, 4)
    same(F.getitem(x, Tensor(np.array([2, 2]))).data, x[[2, 2]])
    same(F.getitem(x, (Tensor(np.array(1)), slice(2))).data, x[1, :2])
    same(F.getitem(x, Tensor(x > 0)).data, x[x > 0])


def test_pieces_of_a_split_own_their_memory():
    x = Tensor(random(4, 2), requires_grad=True)
    pieces = (*F.split(x, 2), *F.split(x, 4), *F.unbind(x))
    assert not any(np.shares_memory(piece.data, x.data) for piece in pieces)


def test_a_saved_view_of_a_changed_tensor_is_refused():
    from minires.engine import Function

    class Square(Function):
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, gy):
            return 2 * gy * self.x

    for move in (lambda x: F.getitem(x, 0), F.flatten, lambda x: F.transpose(x, 0, 1), lambda x: F.expand(x, 4, 3, 2)):
        x = Tensor(random(3, 2), requires_grad=True)
        y = Square.apply(move(x))
        with no_grad():
            x.copy_(np.zeros((3, 2)))
        with pytest.raises(GraphError, match="changed in place"):
            y.backward(random(*y.shape))


def test_unused_pieces_give_zero_gradient():
    x = Tensor(random(5, 2), requires_grad=True)
    _, middle, _ = F.split(x, [1, 3, 1])
    g = random(3, 2, seed=3)
    middle.backward(g)
    np.testing.assert_array_equal(x.grad, np.pad(g, ((1, 1), (0, 0))))


def test_cat_of_a_tensor_with_itself_adds_both_gradients():
    x = Tensor(random(2, 3), requires_grad=True)
    g = random(4, 3, seed=2)
    F.cat([x, x]).backward(g)
    np.testing.assert_array_equal(x.grad, g[:2] + g[2:])


def test_zero_dimensional_corners_follow_torch():
    x = np.array(3.0)
    assert F.flatten(x).shape == (1,)
    assert F.unsqueeze(x, 0).shape == F.unsqueeze(x, -1).shape == (1,)
    assert F.squeeze(x).shape == F.permute(x, ()).shape == F.transpose(x, 0, -1).shape == ()
    assert F.getitem(x, (None, ...)).shape == (1,)
    assert F.expand(x, 2, 3).shape == (2, 3)
    assert F.flip(x, ()).shape == ()


def test_zero_length_axes_pass_through():
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    assert F.reshape(x, 3, 0).shape == (3, 0)
    assert F.cat([x, random(2, 3)]).shape == (2, 3)
    assert [p.shape for p in F.split(x, 2)] == [(0, 3)]
    assert [p.shape for p in F.chunk(x, 2)] == [(0, 3), (0, 3)]
    assert F.pad(x, (0, 0, 1, 1), value=2.0).data.tolist() == [[2.0] * 3] * 2


@given(data=st.data(), shape=SHAPES)
@settings(max_examples=40)
def test_moves_equal_their_index_loops(data, shape):
    x = random(*shape)
    n = len(shape)
    dims = data.draw(st.permutations(range(n)))
    same(F.permute(x, dims).data, reference.permute(x, dims))
    axes = data.draw(st.lists(st.integers(0, n - 1), unique=True))
    same(F.flip(x, axes).data, reference.flip(x, axes))
    other = tuple(data.draw(st.permutations(shape)))
    same(F.reshape(x, other).data, reference.reshape(x, other))
    wide = (2, *[data.draw(st.integers(1, 3)) if k == 1 else k for k in shape])
    same(F.expand(x, wide).data, reference.expand(x, wide))


@given(data=st.data(), shape=SHAPES, count=st.integers(1, 3))
@settings(max_examples=40)
def test_joints_equal_their_index_loops_and_undo_each_other(data, shape, count):
    axis = data.draw(st.integers(0, len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    pieces = [random(*shape[:axis], size, *shape[axis + 1 :], seed=k) for k, size in enumerate(sizes)]
    joined = F.cat(pieces, axis)
    same(joined.data, reference.cat(pieces, axis))
    apart = F.split(joined, sizes, axis)
    same(tuple(p.data for p in apart), reference.split(joined.data, sizes, axis))
    same(tuple(p.data for p in apart), tuple(pieces))
    equal = randoms(shape, count)
    stacked = F.stack(equal, axis)
    same(stacked.data, reference.stack(equal, axis))
    same(tuple(p.data for p in F.unbind(stacked, axis)), reference.unbind(stacked.data, axis))
    same(tuple(p.data for p in F.unbind(stacked, axis)), tuple(equal))


@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    mode=st.sampled_from(["constant", *MODES]),
)
@settings(max_examples=80)
def test_pad_equals_its_index_loop_and_passes_the_gradient_check(data, shape, mode):
    pad = []
    for n in shape[::-1][: data.draw(st.integers(1, len(shape)))]:
        widest = {"reflect": n - 1, "replicate": 3, "circular": n, "constant": 3}[mode]
        before = data.draw(st.integers(-((n - 1) // 2), widest))
        pad += [before, data.draw(st.integers(-(n + min(before, 0)) + 1, widest))]
    x = random(*shape)
    value = 1.5 if mode == "constant" else None
    same(F.pad(x, pad, mode, value).data, reference.pad(x, pad, mode, value or 0.0))
    gradcheck(lambda x: F.pad(x, pad, mode, value), x)


@given(index=hnp.basic_indices((3, 4, 2), allow_newaxis=True, allow_ellipsis=True))
@settings(max_examples=60)
def test_any_basic_index_is_right(index):
    x = random(3, 4, 2)
    same(F.getitem(x, index).data, np.asarray(x[index]))
    gradcheck(lambda x: F.getitem(x, index), x, may_vanish=True)


@given(index=hnp.integer_array_indices((3, 4), result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
@settings(max_examples=60)
def test_any_integer_index_is_right(index):
    x = random(3, 4, 2)
    same(F.getitem(x, index).data, x[index])
    gradcheck(lambda x: F.getitem(x, index), x)


# --- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.reshape(x, 5), RequestError, r"x is \(2, 3\), 6 elements, which do not fill \(5,\)"),
        (lambda x: F.reshape(x, 4, -1), RequestError, r"do not fill \(4, -1\)"),
        (lambda x: F.reshape(x, -1, -1), RequestError, "only one may be -1"),
        (lambda x: F.reshape(x, 0, -1), RequestError, "do not fill"),
        (lambda x: F.flatten(x, 1, 0), RequestError, "start_dim 1 comes after end_dim 0"),
        (lambda x: F.unsqueeze(x, 3), IndexError, "unsqueeze: dim 3 is out of range for 3 axes: use -3 to 2"),
        (lambda x: F.squeeze(x, 2), IndexError, "squeeze: dim 2 is out of range"),
        (lambda x: F.expand(x, 2, 4), RequestError, "only an axis of length 1 grows"),
        (lambda x: F.expand(x, 3), RequestError, "only an axis of length 1 grows"),
        (lambda x: F.expand(x, -1, 2, 3), RequestError, "only an axis of length 1 grows"),
        (lambda x: F.permute(x, 0, 0), RequestError, "name an axis twice"),
        (lambda x: F.permute(x, 1), RequestError, "each of the 2 axes"),
        (lambda x: F.transpose(x, 0, 2), IndexError, "transpose: dim 2"),
        (lambda x: F.movedim(x, (0, 1), 0), RequestError, "as many axes"),
        (lambda x: F.cat([x, x[:, :2]]), RequestError, r"tensor 1 is \(2, 2\) and tensor 0 is \(2, 3\)"),
        (lambda x: F.cat([]), RequestError, "non-empty"),
        (lambda x: F.cat(x), RequestError, "non-empty tuple or list"),
        (lambda x: F.cat([np.array(1.0)]), RequestError, "use stack"),
        (lambda x: F.stack([x, x[0]]), RequestError, r"tensor 1 is \(3,\)"),
        (lambda x: F.split(x, [1, 2]), RequestError, "do not add up to 2"),
        (lambda x: F.split(x, 0), RequestError, "at least 1"),
        (lambda x: F.chunk(x, 0), RequestError, "at least 1"),
        (lambda x: F.unbind(np.array(1.0)), RequestError, "0-d"),
        (lambda x: F.pad(x, (1,)), RequestError, "pair"),
        (lambda x: F.pad(x, (1,) * 6), RequestError, "at most 2 axes"),
        (lambda x: F.pad(x, (-2, -2)), RequestError, "crops more than axis 1 of x has, 3"),
        (lambda x: F.pad(x, (1, 1), "mirror"), RequestError, "unknown mode 'mirror'"),
        (lambda x: F.pad(x, (1, 1), "reflect", 1.0), RequestError, "takes no value"),
        (lambda x: F.pad(x, (3, 0), "reflect"), RequestError, "does not fit axis 1 of x, which is 3 long"),
        (lambda x: F.pad(x, (0, 4), "circular"), RequestError, "does not fit axis 1"),
        (lambda x: F.getitem(x, 1.0), IndexError, "float of dtype float64"),
        (lambda x: F.getitem(x, True), IndexError, "is no index"),
        (lambda x: F.getitem(x, np.array([0.5])), IndexError, "is no index"),
        (lambda x: F.getitem(x, np.ones(3, bool)), IndexError, r"mask of shape \(3,\) does not fit axis 0"),
        (lambda x: F.getitem(x, (slice(None), np.ones(2, bool))), IndexError, "does not fit axis 1"),
        (lambda x: F.getitem(x, 2), IndexError, "out of bounds"),
        (lambda x: F.getitem(x, [0, 5]), IndexError, "out of bounds"),
    ],
)
def test_bad_requests_are_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(random(2, 3))
    assert "\n" not in str(caught.value)
