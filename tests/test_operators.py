"""What Tensor does with Python's operators, and its methods: the functional's, bound."""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import GraphError, LibraryError, RequestError
from minires.operators import METHODS
from tests.strict_device import STRICT

rng = np.random.default_rng(8)


def normal(*shape):
    return rng.standard_normal(shape)


def positive(*shape):
    return rng.uniform(0.5, 2.0, shape)


# --- arithmetic

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
}


@pytest.mark.parametrize("sign", OPERATORS)
def test_an_operator_is_its_formula_with_both_gradients(sign):
    f, x, w = OPERATORS[sign], positive(3, 4), positive(4)
    assert np.array_equal(f(Tensor(x), Tensor(w)).data, f(x, w))
    gradcheck(f, x, w)


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("number", [2, 2.5, np.float32(2.5)])
def test_a_number_on_either_side_keeps_float32(sign, number):
    f, x = OPERATORS[sign], positive(3, 4).astype(np.float32)
    for y, plain in ((f(Tensor(x), number), f(x, number)), (f(number, Tensor(x)), f(number, x))):
        assert y.dtype == np.float32
        assert np.array_equal(y.data, plain)


@pytest.mark.parametrize("sign", OPERATORS)
def test_an_array_on_either_side_gives_a_tensor_with_the_gradient(sign):
    f, x, w = OPERATORS[sign], positive(3, 4), positive(3, 4)
    gradcheck(lambda x: f(x, w), x)
    gradcheck(lambda x: f(w, x), x)
    assert isinstance(f(w, Tensor(x)), Tensor)
    assert np.array_equal(f(w, Tensor(x)).data, f(w, x))


def test_matrices_multiply_from_either_side():
    x, w = normal(3, 4), normal(4, 2)
    gradcheck(lambda x, w: x @ w, x, w)
    assert np.array_equal((x @ Tensor(w)).data, x @ w)
    assert np.array_equal((Tensor(x) @ w).data, x @ w)


def test_minus_and_absolute_value():
    x = normal(3, 4)
    gradcheck(lambda x: -x, x)
    gradcheck(abs, x)


def test_mixed_dtypes_follow_numpy():
    ints, single = mr.tensor([1, 2, 3]), mr.tensor([0.5, 1.5, 2.5])
    assert (ints + 1).dtype == np.int64
    assert (ints + 0.5).dtype == np.float64
    assert (ints / 2).dtype == np.float64
    assert (ints + single).dtype == np.float64
    assert (single * np.float64(2.0)).dtype == np.float64
    assert (single * True).dtype == np.float32


def test_augmented_assignment_makes_a_new_tensor():
    x = Tensor(normal(3), requires_grad=True)
    first, values = x, x.data.copy()
    x += 1.0
    x *= first
    assert x is not first
    assert np.array_equal(first.data, values)
    g = normal(3)
    x.backward(g)
    assert np.allclose(first.grad, g * (2 * values + 1), rtol=1e-14)


@pytest.mark.parametrize("other", [None, "2", [1.0, 2.0], object()])
def test_an_operand_of_another_kind_is_a_type_error(other):
    for f in OPERATORS.values():
        with pytest.raises(TypeError, match=r"unsupported operand|is no index"):
            f(Tensor(normal(2)), other)
        with pytest.raises(TypeError, match=r"unsupported operand|can only concatenate|is no index"):
            f(other, Tensor(normal(2)))


def test_a_number_is_no_matrix():
    with pytest.raises(TypeError, match="unsupported operand"):
        Tensor(normal(2, 2)) @ 2.0


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(RequestError, match=r"add: the shapes \(2, 3\) and \(4,\) do not broadcast"):
        Tensor(normal(2, 3)) + Tensor(normal(4))


# --- comparisons


@pytest.mark.parametrize("compare", ["__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"])
def test_a_comparison_is_elementwise_and_carries_no_gradient(compare):
    a, b = rng.integers(0, 3, (2, 4, 5)).astype(float)
    y = getattr(Tensor(a, requires_grad=True), compare)(Tensor(b, requires_grad=True))
    assert (y.dtype, y.requires_grad, y.op) == (np.bool_, False, None)
    assert np.array_equal(y.data, getattr(a, compare)(b))
    assert np.array_equal(getattr(Tensor(a), compare)(1).data, getattr(a, compare)(1))


def test_an_array_may_stand_left_of_a_comparison():
    x = normal(3)
    assert np.array_equal((x < Tensor(-x)).data, x < -x)
    assert np.array_equal((np.float64(0) < Tensor(x)).data, x > 0)


def test_masks_combine():
    a, b = rng.random((2, 5)) < 0.5
    assert np.array_equal((Tensor(a) & Tensor(b)).data, a & b)
    assert np.array_equal((Tensor(a) | b).data, a | b)
    assert np.array_equal((a ^ Tensor(b)).data, a ^ b)
    assert np.array_equal((~Tensor(a)).data, ~a)


def test_a_tensor_equals_nothing_of_another_kind():
    x = Tensor(normal(3))
    assert (x == None) is False  # noqa: E711
    assert (x != "x") is True


def test_a_tensor_is_a_key_by_identity():
    x = Tensor(np.ones(3))
    twin = Tensor(np.ones(3))
    assert {x: "x", twin: "twin"}[x] == "x"
    assert len({x, twin, x}) == 2


def test_two_devices_do_not_mix():
    here, there = Tensor(normal(3)), Tensor(normal(3)).to("strict")
    for f in (*OPERATORS.values(), lambda a, b: a == b, lambda a, b: a < b):
        with pytest.raises(LibraryError, match=r"move one with \.to"):
            f(here, there)


# --- one number


def test_a_tensor_of_one_element_is_a_number():
    assert float(mr.tensor([[2.5]])) == 2.5
    assert int(mr.tensor(-2.5)) == -2
    assert bool(mr.tensor([0.5]))
    assert not mr.tensor(0)
    assert [10, 20, 30][mr.tensor(1)] == 20
    assert type(float(mr.tensor(2))) is float


@pytest.mark.parametrize("convert", [bool, float, int])
def test_a_tensor_of_several_elements_is_not(convert):
    for shape in ((3,), (0,)):
        with pytest.raises(RequestError, match=rf"{convert.__name__}: a tensor of shape \({shape[0]},\) is not one"):
            convert(Tensor(np.ones(shape)))


def test_a_float_is_no_index():
    with pytest.raises(TypeError, match="float"):
        [10, 20][mr.tensor(1.0)]


# --- a sequence


def test_iteration_gives_the_rows_and_each_takes_its_gradient_back():
    gradcheck(lambda x: tuple(x), normal(3, 4))
    rows = list(Tensor(normal(3, 4)))
    assert [r.shape for r in rows] == [(4,)] * 3
    a, b = Tensor(np.array([1.0, 2.0]))
    assert (a.item(), b.item()) == (1, 2)


def test_a_0d_tensor_has_no_rows():
    with pytest.raises(TypeError, match="0-d tensor"):
        list(mr.tensor(1.0))


def test_square_brackets_index():
    gradcheck(lambda x: x[1:, ..., None, 0], normal(3, 4))
    gradcheck(lambda x: x[[0, 0, 2]], normal(3, 4))


def test_a_mask_from_a_comparison_selects():
    x = Tensor(normal(3, 4), requires_grad=True)
    y = x[x > 0]
    y.backward(np.ones(y.shape))
    assert np.array_equal(x.grad, x.data > 0)


# --- NumPy


def test_numpy_reads_a_tensor_without_gradient():
    x = Tensor(normal(3))
    assert np.asarray(x) is x.data
    assert np.array(x) is not x.data
    assert np.asarray(x, dtype=np.float32).dtype == np.float32


def test_numpy_may_not_read_a_tensor_with_gradient():
    with pytest.raises(GraphError, match=r"use \.detach"):
        np.asarray(Tensor(normal(3), requires_grad=True))


def test_numpys_functions_refuse_a_tensor_instead_of_losing_its_gradient():
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.exp(Tensor(normal(3)))


# --- methods


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_function_of_the_same_name(name):
    assert getattr(Tensor, name) is getattr(F, name)
    assert getattr(Tensor, name).__doc__


def test_methods_chain_and_carry_the_gradient():
    gradcheck(lambda x: (x.exp().sum(1, keepdim=True) / x.std()).log().reshape(-1).softmax(0), normal(3, 4))
    gradcheck(lambda x: x.view(2, 6).transpose(0, 1).clamp(-0.9, 0.9).tanh().max(1).values, normal(3, 4))
    gradcheck(lambda x: x.flatten().unsqueeze(0).expand(3, -1).logsumexp((0, 1)) * x.mean(), normal(3, 4))


def test_a_matrix_is_transposed_by_T_and_a_batch_of_them_by_mT():
    x = normal(2, 3)
    gradcheck(lambda x: x.T @ x, x)
    assert np.array_equal(Tensor(x).T.data, x.T)
    assert np.array_equal(Tensor(normal(3)).T.shape, (3,))
    batch = normal(4, 2, 3)
    assert np.array_equal(Tensor(batch).mT.data, batch.swapaxes(1, 2))
    with pytest.raises(RequestError, match=r"T: a tensor of shape \(4, 2, 3\) is no matrix; use mT"):
        _ = Tensor(batch).T
    with pytest.raises(RequestError, match="mT"):
        _ = Tensor(normal(3)).mT


def test_operators_tell_what_they_are():
    assert Tensor.__add__.__name__ == "__add__"
    assert "broadcast" in Tensor.__radd__.__doc__
    assert "without gradient" in Tensor.__lt__.__doc__


# --- elsewhere, or in another dtype


def test_to_changes_nothing_where_there_is_nothing_to_change():
    x = mr.tensor([1.0, 2.0], requires_grad=True)
    assert x.to("cpu") is x.to(np.float32) is x.to(dtype="float32", device="cpu") is x.float() is x.cpu() is x


def test_the_gradient_of_a_cast_comes_back_in_the_tensors_own_dtype():
    x = mr.tensor([1.0, 2.0], requires_grad=True)
    y = x.double()
    y.backward(np.array([3.0, 4.0]))
    assert y.dtype == np.float64
    assert x.grad.dtype == np.float32
    assert np.array_equal(x.grad, [3, 4])
    assert x.long().dtype == np.int64
    assert not x.long().requires_grad
    assert x.astype("float64").dtype == x.to("float64").dtype == np.float64


def test_the_gradient_of_a_move_comes_back_to_where_the_tensor_was():
    x, w = Tensor(normal(3), requires_grad=True), Tensor(STRICT.asarray(normal(3)), requires_grad=True)
    g = normal(3)
    moved = x.to("strict")
    assert moved.device == "strict"
    assert moved.requires_grad
    y = (moved * w + moved).to("cpu")
    y.backward(g)
    assert (y.device, type(x.grad), type(w.grad)) == ("cpu", np.ndarray, STRICT.array_type)
    assert np.array_equal(x.grad, g * w.numpy() + g)
    assert np.array_equal(w.grad.get(), g * x.data)


def test_to_takes_a_device_and_a_dtype_or_a_tensor_that_has_both():
    x = Tensor(normal(3))
    y = x.to("strict", np.float32)
    assert (y.device, y.dtype) == ("strict", np.float32)
    z = x.to(y)
    assert (z.device, z.dtype) == ("strict", np.float32)
    assert np.array_equal(z.cpu().data, x.data.astype(np.float32))


def test_an_unknown_device_is_refused():
    with pytest.raises(RequestError, match="unknown device 'tpu'"):
        Tensor(normal(3)).to("tpu")
