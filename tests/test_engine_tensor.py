"""What a tensor and an op say of themselves, and the refusals that no graph is needed for."""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.engine import Function, Tensor, backpropagate
from minires.errors import GraphError

rng = np.random.default_rng(17)


class FirstOnly(Function):
    """x w, whose gradient by w it never hands back."""

    def forward(self, x, w):
        self.w = w
        return x * w

    def backward(self, gy):
        return gy * self.w, None


def test_a_tensor_of_a_tensor_is_refused():
    with pytest.raises(TypeError, match=r"already a Tensor; use \.detach\(\)"):
        Tensor(Tensor(np.ones(2)))


def test_a_tensor_of_nested_lists_takes_a_dtype():
    t = Tensor([[1, 2], [3, 4]], dtype=np.float32)
    assert (t.shape, t.dtype, t.ndim, t.size, len(t)) == ((2, 2), np.float32, 2, 4, 2)
    assert Tensor(np.arange(3), dtype=np.float64).dtype == np.float64
    assert t.is_leaf


def test_a_0_d_tensor_has_no_length():
    with pytest.raises(TypeError, match="0-d tensor has no length"):
        len(Tensor(np.array(1.0)))


def test_a_tensor_shows_its_values_and_where_it_came_from():
    x = Tensor(np.array([1.0, 2.5]), requires_grad=True)
    assert repr(x) == "tensor([1. , 2.5], dtype=float64, requires_grad=True)"
    assert repr(x.detach()) == "tensor([1. , 2.5], dtype=float64)"
    assert repr(x * x) == "tensor([1.  , 6.25], dtype=float64, op=Mul)"


def test_an_op_shows_its_name_and_when_it_ran():
    y = F.neg(Tensor(np.ones(2), requires_grad=True))
    assert repr(y.op) == f"<Neg #{y.op.serial}>"
    assert repr(FirstOnly()) == "<FirstOnly #?>"


def test_an_op_without_formulas_says_which_one_is_missing():
    with pytest.raises(TypeError, match="Function has no forward formula"):
        Function.apply(Tensor(np.ones(2)))

    class ForwardAlone(Function):
        def forward(self, x):
            return 2 * x

    y = ForwardAlone.apply(Tensor(np.ones(2), requires_grad=True))
    with pytest.raises(TypeError, match="ForwardAlone has no backward formula"):
        y.backward(np.ones(2))


def test_an_op_accepts_whatever_it_is_given_unless_it_says_otherwise():
    assert Function.accepts(np.ones(2), axis=1)


def test_an_input_that_gets_no_gradient_back_ends_the_walk_there():
    x, w = (Tensor(rng.standard_normal(3), requires_grad=True) for _ in range(2))
    a, gy = F.tanh(w), rng.standard_normal(3)
    FirstOnly.apply(x, a).backward(gy)
    assert np.array_equal(x.grad, gy * a.data)
    assert w.grad is None


def test_overwriting_takes_tensors_and_refuses_another_shape():
    t = Tensor(np.zeros(3))
    values = rng.standard_normal(3)
    assert t.copy_(Tensor(values)) is t
    assert np.array_equal(t.data, values)
    with pytest.raises(ValueError, match=r"values of shape \(2,\) cannot overwrite a tensor of shape \(3,\)"):
        t.copy_(np.zeros(2))
    t[Tensor(np.array([0, 2]))] = Tensor(values[:2])
    assert np.array_equal(t.data, [values[0], values[1], values[1]])


def test_a_new_tensor_copies_another_ones_values():
    t = Tensor(rng.standard_normal(3))
    copy = mr.tensor(t, dtype=np.float32, requires_grad=True, device="cpu")
    assert copy.requires_grad
    assert np.array_equal(copy.data, t.data.astype(np.float32))
    assert not np.shares_memory(mr.tensor(t).data, t.data)
    assert mr.tensor(1 + 2j).dtype == np.complex64


def test_asking_twice_to_keep_a_gradient_is_asking_once():
    x, gy = Tensor(rng.standard_normal(3), requires_grad=True), rng.standard_normal(3)
    a = F.tanh(x)
    assert a.retain_grad().retain_grad() is a
    assert x.retain_grad() is x
    F.neg(a).backward(gy)
    assert np.array_equal(a.grad, -gy)
    assert np.allclose(x.grad, -gy * (1 - a.data**2), rtol=1e-14)


def test_a_kept_gradient_of_an_output_that_went_unused_stays_none():
    x = Tensor(rng.standard_normal(4), requires_grad=True)
    used, unused = F.split(x, 2)
    unused.retain_grad()
    gy = rng.standard_normal(2)
    used.backward(gy)
    assert unused.grad is None
    assert np.array_equal(x.grad, [*gy, 0.0, 0.0])


def test_the_cotangent_may_be_a_tensor_a_list_or_of_another_float_dtype():
    gy = rng.standard_normal(3)
    for given in (Tensor(gy), gy.tolist(), gy.astype(np.float32)):
        x = Tensor(rng.standard_normal(3), requires_grad=True)
        F.neg(x).backward(given)
        assert x.grad.dtype == np.float64
        assert np.allclose(x.grad, -gy, rtol=1e-6)


def test_a_leaf_may_be_walked_by_itself():
    x, gy = Tensor(rng.standard_normal(3), requires_grad=True), rng.standard_normal(3)
    got = []
    backpropagate(x, gy, deliver=lambda *delivered: got.append(delivered))
    assert got[0][0] is x
    assert np.array_equal(got[0][1], gy)
    assert got[0][2] is True


def test_a_number_that_depends_on_nothing_has_no_gradient():
    with pytest.raises(GraphError, match="depends on nothing that requires a gradient"):
        F.neg(Tensor(np.ones(()))).backward()
