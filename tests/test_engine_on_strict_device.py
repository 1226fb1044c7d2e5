"""The engine on the devices: the same graphs, the same gradients, the same refusals as on NumPy."""

import math

import numpy as np
import pytest

import minires as mr
from minires import backend, nn
from minires import functional as F
from minires.engine import Tensor
from minires.errors import GraphError, LibraryError
from minires.switches import watch
from tests.devices import agree, without_waiting

X = np.random.default_rng(31).standard_normal((3, 4))
W = np.random.default_rng(32).standard_normal((4, 2))
ROW = np.random.default_rng(33).standard_normal((1, 4))
CUBE = np.random.default_rng(34).standard_normal((2, 3, 4))


def leaf(library, array, dtype=None):
    return Tensor(library.asarray(array.copy(), dtype), requires_grad=True)


def pulled(y, *leaves, seed=41, **options):
    """Backward from y with a random cotangent; what then are y and the leaves' gradients."""
    gy = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    y.backward(backend.find((y.data,)).asarray(gy), **options)
    return [y, *(x.grad for x in leaves)]


# --- graphs: each takes the library and returns what must be equal on all of them -----------------------


def a_diamond(library):
    x = leaf(library, X)
    h = x * x
    return pulled(F.tanh(h) + F.exp(-h), x)


def thirty_diamonds_in_a_row(library):
    x = leaf(library, X)
    h = x
    for _ in range(30):
        h = F.residual_add(h, 0.1 * F.tanh(h))
    return pulled(h, x)


def two_backward_calls_add_up(library):
    x, w = leaf(library, X), leaf(library, W)
    return [pulled(x @ w, x, w, seed=1), pulled(F.relu(x) @ (w * w), x, w, seed=2)]


def one_leaf_in_both_operands(library):
    x = leaf(library, X)
    return pulled(x * x + x / (x * x + 1.0) - x, x)


def every_kind_of_broadcasting(library):
    cube, row, column, number = (leaf(library, a) for a in (CUBE, ROW, X[:, :1], np.array(0.7)))
    y = (cube * row + column) * number - 2.0 * row / (1.0 + number * number)
    return pulled(y, cube, row, column, number)


def retain_graph(library):
    x = leaf(library, X)
    y = (F.sigmoid(x) * x).sum()
    y.backward(retain_graph=True)
    first = x.grad
    y.backward()
    return [first, x.grad]


def a_kept_gradient_in_the_middle(library):
    x = leaf(library, X)
    h = F.tanh(x)
    h.retain_grad()
    return [*pulled(h * h + h, x), h.grad]


def views_of_one_leaf(library):
    x = leaf(library, CUBE)
    first, *_ = x.unbind(0)
    y = x.permute(2, 0, 1).reshape(4, 6)[1:, ::-2].sum() + (first[:, None, 2] * x[1, ..., 0]).mean() + x.mT[0, 1].sum()
    return pulled(y, x)


def indices_that_come_twice(library):
    x = leaf(library, X)
    index = library.asarray(np.array([2, 0, 2, 2]))
    return pulled(x[index] * x[index, index], x)


def several_outputs_of_which_one_is_unused(library):
    x = leaf(library, CUBE)
    a, _, c = x.split([1, 1, 2], 2)
    return pulled(a * c, x)


def results_without_axes(library):
    x, number = leaf(library, X), leaf(library, np.array(3.0))
    y = x.mean() * number + (x * x).sum() ** 0.5
    return [y.shape == (), *pulled(y, x, number)]


def float32_meets_float64(library):
    x, row = leaf(library, X, np.float32), leaf(library, ROW)
    return pulled(x * row + 1.5 * x, x, row)


def what_is_not_recorded(library):
    x = leaf(library, X)
    with mr.no_grad():
        constant = F.exp(x)
    return [constant.requires_grad, *pulled(constant * x + x.detach() * x, x)]


def integers_and_comparisons(library):
    x = leaf(library, X)
    mask, largest = x > 0, x.argmax(1)
    y = F.where(mask, x * x, 0.1 * x)
    return [mask, ~mask & (x <= 1), largest, largest.requires_grad, *pulled(y, x)]


def every_operator(library):
    x, w = leaf(library, np.abs(X) + 0.5), leaf(library, W)
    y = 1.0 - x + 2.0 * x / 3.0 - 1.0 / x + x**2 + 2.0**x + x**x - (-x) + abs(x - 1.0)
    return pulled((y @ w).T, x, w)


def changes_in_place(library):
    t = Tensor(library.asarray(X.copy()))
    with mr.no_grad():
        t.copy_(X + 1.0)
        t[1] = 0.0
        t[:, 2] = library.asarray(X[:, 0])
    return t


def what_the_ledger_keeps(library):
    x = leaf(library, X)
    with mr.ledger() as book:
        pulled(F.residual_add(x, F.tanh(x) * 0.5), x)
    return [(entry.op, entry.index, entry.gradient) for entry in book.into(x)]


def what_a_watcher_puts_in_place(library):
    x = leaf(library, X)

    def cut_the_skip(edge, gradient):
        return gradient * 0.0 if edge.op.name == "ResidualAdd" and edge.index == 0 else None

    with watch(cut_the_skip):
        return pulled(F.residual_add(x, F.tanh(x) * 0.5), x)


def a_chain_of_1000(library):
    x = leaf(library, X)
    h = x
    for _ in range(1000):
        h = h * 0.999 + 0.001
    return pulled(h, x)


GRAPHS = [
    a_diamond,
    thirty_diamonds_in_a_row,
    two_backward_calls_add_up,
    one_leaf_in_both_operands,
    every_kind_of_broadcasting,
    retain_graph,
    a_kept_gradient_in_the_middle,
    views_of_one_leaf,
    indices_that_come_twice,
    several_outputs_of_which_one_is_unused,
    results_without_axes,
    float32_meets_float64,
    what_is_not_recorded,
    integers_and_comparisons,
    every_operator,
    changes_in_place,
    what_the_ledger_keeps,
    what_a_watcher_puts_in_place,
    a_chain_of_1000,
]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_a_graph_gives_the_numbers_of_numpy(library, graph):
    agree(library, graph)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_debugging_changes_no_number(library, graph):
    def debugged(library):
        with mr.debug():
            return graph(library)

    agree(library, debugged)


def test_the_walk_itself_neither_waits_nor_uploads(library):
    cube, row, number = (leaf(library, a) for a in (CUBE, ROW, np.array(0.7)))
    gy = library.asarray(np.ones((2, 3, 4)))
    with without_waiting(library):
        h = F.tanh(cube * row) * number
        y = F.residual_add(h, h.permute(0, 2, 1).reshape(2, 3, 4))
        y.backward(gy, retain_graph=True)
        y.mean().backward()
        assert (F.exp(cube) > 0).dtype == bool


# --- transforms -----------------------------------------------------------------------------------------


def energy(x, w):
    return (F.tanh(x @ w) * F.softmax(x @ w, -1)).sum()


TRANSFORMS = {
    "grad": lambda x, w, v, u: mr.grad(energy)(x, w),
    "grad of both": lambda x, w, v, u: mr.grad(energy, (0, 1))(x, w),
    "value_and_grad": lambda x, w, v, u: mr.value_and_grad(energy)(x, w),
    "vjp": lambda x, w, v, u: mr.vjp(lambda x, w: F.tanh(x @ w), x, w)[1](u),
    "jvp": lambda x, w, v, u: mr.jvp(lambda x: F.log_softmax(x, -1), x, v),
    "jvp along two": lambda x, w, v, u: mr.jvp(energy, (x, w), (v, w)),
    "hvp": lambda x, w, v, u: mr.hvp(lambda x: energy(x, w), x, v),
    "hvp along two": lambda x, w, v, u: mr.hvp(energy, (x, w), (v, w)),
    "hvp through indices": lambda x, w, v, u: mr.hvp(lambda x: (x[(0, 0, 2), :] ** 3).sum(), x, v),
    "hvp through a pool": lambda x, w, v, u: mr.hvp(lambda x: (F.max_pool1d(x[None], 2) ** 3).sum(), x, v),
    "jacobian": lambda x, w, v, u: mr.jacobian(lambda x: F.softmax(x, -1))(x),
    "jacobian of two outputs": lambda x, w, v, u: mr.jacobian(lambda x: (F.exp(x), x.sum(0)), (0,))(x),
    "jvp of a jacobian": lambda x, w, v, u: mr.jvp(mr.jacobian(lambda x: F.tanh(x).sum(0)), x, v),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_gives_the_numbers_of_numpy(library, name):
    def transformed(library):
        arrays = [library.asarray(a) for a in (X, W, X[::-1] * 0.5, X[:, :2])]
        return TRANSFORMS[name](*arrays)

    agree(library, transformed)


def test_the_weights_of_a_model_can_be_differentiated_as_arguments(library):
    def gradients(library):
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).to(library.device, "float64")
        weights = {name: p.detach() for name, p in model.named_parameters()}

        def loss(*values):
            named = dict(zip(weights, values, strict=True))
            return (nn.functional_call(model, named, Tensor(library.asarray(X))) ** 2).sum()

        values = tuple(weights.values())
        return mr.grad(loss, tuple(range(len(values))))(*values), mr.hvp(loss, values, values)

    agree(library, gradients)


# --- refusals -------------------------------------------------------------------------------------------


def test_two_libraries_do_not_meet_in_one_op(library):
    here, there = Tensor(X), leaf(library, X)
    mixing = [
        lambda: here + there,
        lambda: there + X,
        lambda: X * there,
        lambda: there @ W,
        lambda: F.cat([here, there]),
        lambda: F.where(here > 0, there, there),
        lambda: F.linear(there, Tensor(W.T)),
        lambda: F.cross_entropy(there, np.array([0, 1, 1])),
        lambda: F.residual_add(here, there),
        lambda: there == here,
        lambda: (there * there).backward(X),
        lambda: nn.Linear(4, 2)(there),
    ]
    for mix in mixing:
        with pytest.raises(LibraryError, match=r"numpy array on cpu"):
            mix()


def test_an_optimizer_does_not_mix_libraries(library):
    p = leaf(library, X)
    p.grad = X.copy()
    with pytest.raises(LibraryError, match="SGD"):
        mr.optim.SGD([p]).step()


@pytest.mark.parametrize("change", [lambda t: t.copy_(X), lambda t: t.reshape(-1).copy_(X.reshape(-1))])
def test_a_saved_array_that_changed_is_named(library, change):
    x = leaf(library, X)
    y = (x * x).sum()
    with mr.no_grad():
        change(x)
    with pytest.raises(GraphError, match=r"backward of Mul: the input 0 it saved, of shape \(3, 4\), was changed"):
        y.backward()


def test_a_raw_write_is_found_by_checksum(library):
    x = leaf(library, X)
    with mr.debug():
        y = (x * x).sum()
        x.data[0] = 0.0
        with pytest.raises(GraphError, match=r"found by checksum"):
            y.backward()


def test_an_optimizer_step_between_forward_and_backward_is_noticed(library):
    x, w = leaf(library, X), leaf(library, W)
    w.grad = library.asarray(W)
    y = (x @ w).sum()
    mr.optim.SGD([w]).step()
    with pytest.raises(GraphError, match=r"backward of Matmul: the input 1 it saved, .* was changed in place"):
        y.backward()


def test_a_freed_graph_and_a_missing_cotangent_are_refused(library):
    x = leaf(library, X)
    y = F.exp(x)
    with pytest.raises(GraphError, match="needs an explicit gradient"):
        y.backward()
    y.sum().backward()
    with pytest.raises(GraphError, match="a second time"):
        y.backward(library.asarray(X))


# --- to the device and back -----------------------------------------------------------------------------


def test_a_tensor_goes_to_cuda_and_comes_back_with_its_gradient(library):
    x = Tensor(X, requires_grad=True)
    for there in (x.to("cuda"), x.cuda(), x.to(library.device), x.to(leaf(library, X))):
        assert type(there.data) is library.array_type
        assert there.device == library.device
        assert there.to("cuda") is there
        x.grad = None
        (there * there).cpu().backward(X)
        assert np.allclose(x.grad, 2 * X * X, rtol=1e-15)


def test_new_tensors_are_made_where_the_device_says(library):
    with mr.device("cuda"):
        made = [mr.tensor([[1.0, 2.0]]), mr.tensor(3), Tensor([1, 2]), nn.Linear(4, 2).weight, nn.BatchNorm1d(3).bias]
    made.append(mr.tensor([1.0], device="cuda"))
    assert {type(t.data) for t in made} == {library.array_type}
    assert mr.tensor([1.0]).device == "cpu"
    assert [t.dtype for t in made[:3]] == [np.float32, np.int64, np.int64]


def test_values_come_out_as_python_and_numpy_know_them(library):
    t = Tensor(library.asarray(X))
    assert np.array_equal(t.numpy(), X)
    assert np.array_equal(np.asarray(t), X)
    assert [row.tolist() for row in t.numpy()] == X.tolist()
    assert float(t[0, 0]) == t[0, 0].item() == X[0, 0]
    assert bool(t[0, 0] > 100) is False
    assert int(Tensor(library.asarray(np.array(7)))) == 7
    assert "abcdefgh"[Tensor(library.asarray(np.array(7)))] == "h"
    assert len(t) == len(list(t)) == 3
    assert repr(t).endswith(f"device={library.device!r})")


# --- the primitives that libraries spell differently ----------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_draws_follow_the_seed_as_cupy_spells_them(library, dtype):
    def draws():
        return backend.CupyLibrary.uniform(library, (40, 25), dtype)

    backend.manual_seed(3)
    kept = backend.generator_state()
    first, second = draws(), draws()
    backend.set_generator_state(kept)
    again = backend.to_host(draws())
    first, second = backend.to_host(first), backend.to_host(second)
    assert first.dtype == dtype
    assert first.shape == (40, 25)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert 0 <= first.min() < 0.05
    assert 0.95 < first.max() < 1
    assert abs(first.mean() - 0.5) < 0.05


def test_erf_is_that_of_the_c_library(library):
    expected = [math.erf(value) for value in X.reshape(-1)]
    assert np.allclose(backend.to_host(library.erf(library.asarray(X))).reshape(-1), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_add_at_counts_an_index_as_often_as_it_comes(library, dtype):
    values = (X + (1j * X[::-1] if dtype[0] == "c" else 0)).astype(dtype)
    target = library.xp.zeros((5, 4), dtype)
    library.add_at(target, library.asarray(np.array([4, 1, 4])), library.asarray(values))
    expected = np.zeros((5, 4), dtype)
    np.add.at(expected, np.array([4, 1, 4]), values)
    assert target.dtype == dtype
    assert np.allclose(backend.to_host(target), expected, rtol=1e-6)
