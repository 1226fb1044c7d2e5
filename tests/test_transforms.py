"""grad, vjp, jvp, jacobian and hvp against closed forms, against each other, and against differences."""

import threading
import warnings

import numpy as np
import pytest

from minires.engine import Function, Tensor
from minires.errors import RequestError
from minires.functional import cross_entropy, exp, gelu, layer_norm, linear, matmul, mul, reshape, softmax, tanh
from minires.functional import sum as total
from minires.switches import no_grad
from minires.transforms import grad, hvp, jacobian, jvp, value_and_grad, vjp
from tests.strict_device import STRICT, StrictArray

rng = np.random.default_rng(3)


def normal(*shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


def close(a, b, tolerance=1e-12):
    a = a.data if isinstance(a, Tensor) else a
    assert a.shape == np.shape(b)
    assert np.max(np.abs(a - b), initial=0.0) <= tolerance * max(np.max(np.abs(b), initial=0.0), 1e-300)


A = normal(4, 4)
LABELS = np.array([2, 0, 1, 2, 1])


def quadratic(x):
    """x^T A x / 2, whose gradient is (A + A^T) x / 2 and whose Hessian is (A + A^T) / 2."""
    return mul(total(mul(x, matmul(A, x))), 0.5)


def network(x, w1, b1, w2):
    """Smooth, and of no symmetry that a wrong Hessian could hide in."""
    h = layer_norm(tanh(linear(x, w1, b1)), (6,))
    return cross_entropy(linear(gelu(h, approximate="tanh"), w2), LABELS)


def network_inputs():
    return normal(5, 4), normal(6, 4), normal(6), normal(3, 6)


class Doubled(Function):
    """Refuses complex numbers, as an op on math.erf does."""

    def forward(self, x):
        if x.dtype.kind == "c":
            raise TypeError("must be real number, not complex")
        return 2.0 * x

    def backward(self, gy):
        return 2.0 * gy


class Modulus(Function):
    """Drops the imaginary part."""

    def forward(self, x):
        self.x = x
        return self.xp.abs(x)

    def backward(self, gy):
        return gy * self.xp.sign(self.x)


class IntoReal(Function):
    """Writes into a real array, which NumPy only warns about."""

    def forward(self, x):
        y = self.xp.empty(x.shape)
        y[...] = x
        return y

    def backward(self, gy):
        return gy


# --- grad ------------------------------------------------------------------------------------------


def test_grad_of_a_quadratic_is_its_closed_form():
    x = normal(4)
    close(grad(quadratic)(x), (A + A.T) @ x / 2)


def test_value_and_grad_returns_both_from_one_run():
    x, runs = normal(4), []
    y, gx = value_and_grad(lambda t: runs.append(0) or quadratic(t))(x)
    close(y, x @ A @ x / 2)
    close(gx, (A + A.T) @ x / 2)
    assert len(runs) == 1
    assert not y.requires_grad
    assert not gx.requires_grad


def test_argnums_picks_arguments_and_passes_the_others_on_as_they_are():
    x, w = normal(4), normal(4)

    def f(x, flag, w, scale=1.0):
        assert flag == "as it is"
        return mul(total(mul(exp(x), w)), scale)

    close(grad(f)(x, "as it is", w), np.exp(x) * w)
    close(grad(f, 2)(x, "as it is", w, scale=3.0), 3 * np.exp(x))
    gw, gx = grad(f, (2, 0))(x, "as it is", w)
    close(gx, np.exp(x) * w)
    close(gw, np.exp(x))


def test_grad_of_the_network_equals_central_differences():
    inputs, h = network_inputs(), 1e-6
    for i, g in enumerate(grad(network, (0, 1, 2, 3))(*inputs)):
        v = normal(*inputs[i].shape)
        ends = [network(*[x + s * h * v if k == i else x for k, x in enumerate(inputs)]).item() for s in (1, -1)]
        assert np.sum(g.data * v) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-7)


def test_an_argument_that_takes_no_part_has_gradient_zero():
    gx, gw = grad(lambda x, w: total(mul(x, x)), (0, 1))(normal(3), normal(2, 2))
    assert np.array_equal(gw.data, np.zeros((2, 2)))
    assert np.all(gx.data != 0)


def test_one_tensor_given_twice_is_two_arguments():
    x = Tensor(normal(3), requires_grad=True)
    ga, gb = grad(lambda a, b: total(mul(mul(a, a), b)), (0, 1))(x, x)
    close(ga, 2 * x.data**2)
    close(gb, x.data**2)


def test_gradients_keep_the_dtype_and_share_memory_with_nothing():
    x = normal(3, dtype=np.float32)
    ga, gb = grad(lambda a, b: total(mul(3.0, Sum.apply(a, b))), (0, 1))(x, x)
    assert ga.dtype == gb.dtype == np.float32
    assert not np.may_share_memory(ga.data, gb.data)


class Sum(Function):
    def forward(self, a, b):
        return a + b

    def backward(self, gy):
        return gy, gy


def test_scalars_and_lists_are_arguments_too():
    assert grad(lambda x: mul(mul(x, x), x))(2.0).item() == 12.0
    assert np.array_equal(grad(lambda x: total(mul(x, x)))([1.0, 2.0]).data, [2.0, 4.0])


def test_no_grad_attribute_is_touched_neither_of_arguments_nor_of_what_f_closes_over():
    w = Tensor(normal(4), requires_grad=True)
    x = Tensor(normal(4), requires_grad=True)
    kept = x.grad = normal(4)

    def f(t):
        return total(mul(exp(t), w))

    close(grad(f)(x), np.exp(x.data) * w.data)
    _, pullback = vjp(f, x)
    pullback(np.float64(1.0))
    jacobian(f)(x)
    hvp(f, x, normal(4))
    assert w.grad is None
    assert x.grad is kept
    assert x.is_leaf


def test_grad_works_under_no_grad():
    x = normal(4)
    with no_grad():
        close(grad(quadratic)(x), (A + A.T) @ x / 2)


# --- vjp, jvp, jacobian ------------------------------------------------------------------------------


def test_jvp_and_vjp_are_adjoint():
    inputs = network_inputs()[:3]
    vs = tuple(normal(*x.shape) for x in inputs)

    def f(x, w, b):
        return softmax(layer_norm(linear(x, w, b), (6,)), dim=-1)

    y, dy = jvp(f, inputs, vs)
    again, pullback = vjp(f, *inputs)
    close(y, again.data)
    u = normal(*y.shape)
    left = np.sum(u * dy.data)
    right = sum(np.sum(g.data * v) for g, v in zip(pullback(u), vs, strict=True))
    assert left == pytest.approx(right, rel=1e-12)


def test_jvp_is_the_closed_form():
    x, v = normal(5), normal(5)
    y, dy = jvp(exp, x, v)
    close(y, np.exp(x), 1e-15)
    close(dy, np.exp(x) * v, 1e-15)


def test_jvp_of_float32_is_computed_in_double_precision():
    x, v = normal(5, dtype=np.float32), normal(5, dtype=np.float32)
    _, dy = jvp(exp, x, v)
    assert dy.dtype == np.float64
    close(dy, np.exp(x.astype(np.float64)) * v.astype(np.float64), 1e-15)


def test_a_pullback_can_be_called_again_and_sees_each_cotangent_alone():
    x = normal(4)
    _, pullback = vjp(tanh, x)
    for _ in range(2):
        g = normal(4)
        close(pullback(g)[0], g * (1 - np.tanh(x) ** 2))


def test_several_outputs_come_and_go_as_tuples():
    x, v = normal(3), normal(3)

    def f(t):
        return exp(t), total(mul(t, t))

    (y0, y1), pullback = vjp(f, x)
    g0, g1 = normal(3), normal()
    close(y0, np.exp(x))
    close(y1, x @ x)
    close(pullback(g0, g1)[0], g0 * np.exp(x) + 2 * g1 * x)
    _, (d0, d1) = jvp(f, x, v)
    close(d0, np.exp(x) * v)
    close(d1, 2 * x @ v)
    j0, j1 = jacobian(f)(x)
    close(j0, np.diag(np.exp(x)))
    close(j1, 2 * x)


def test_an_output_that_is_the_input_itself_has_the_identity_as_jacobian():
    close(jacobian(lambda x: x)(normal(3)), np.eye(3))


def test_jacobian_of_a_composition_is_the_product_of_the_jacobians():
    x = normal(4)

    def inner(t):
        return softmax(matmul(A, t), dim=-1)

    def outer(t):
        return tanh(matmul(A[:3], exp(t)))

    j = jacobian(lambda t: outer(inner(t)))(x)
    assert j.shape == (3, 4)
    close(j, jacobian(outer)(inner(Tensor(x))).data @ jacobian(inner)(x).data)


def test_jacobian_is_shaped_outputs_by_inputs_and_its_columns_are_jvps():
    x, w = normal(2, 3), normal(4, 3)
    jx, jw = jacobian(lambda x, w: tanh(linear(x, w)), (0, 1))(x, w)
    assert jx.shape == (2, 4, 2, 3)
    assert jw.shape == (2, 4, 4, 3)
    v = normal(4, 3)
    _, dy = jvp(lambda w: tanh(linear(x, w)), w, v)
    close(dy, np.tensordot(jw.data, v, 2))


def test_jacobian_of_nothing_is_empty():
    assert jacobian(exp)(np.zeros(0)).shape == (0, 0)


def test_an_argument_changed_before_the_pullback_is_noticed():
    x = Tensor(normal(3))
    _, pullback = vjp(lambda t: mul(t, t), x)
    x.copy_(normal(3))
    with pytest.raises(RuntimeError, match="changed in place"):
        pullback(normal(3))


# --- second derivatives --------------------------------------------------------------------------------


def test_hvp_of_a_quadratic_is_its_constant_hessian():
    v = normal(4)
    close(hvp(quadratic, normal(4), v), (A + A.T) @ v / 2)


def test_hvp_of_the_network_is_symmetric():
    inputs = network_inputs()
    us, vs = [tuple(normal(*x.shape) for x in inputs) for _ in range(2)]
    left = sum(np.sum(u * h.data) for u, h in zip(us, hvp(network, inputs, vs), strict=True))
    right = sum(np.sum(v * h.data) for v, h in zip(vs, hvp(network, inputs, us), strict=True))
    assert left == pytest.approx(right, rel=1e-11)


def test_hvp_of_the_network_equals_differences_of_its_gradient():
    inputs, h = network_inputs(), 1e-5
    vs = tuple(normal(*x.shape) for x in inputs)
    every = grad(network, (0, 1, 2, 3))
    ends = [every(*[x + s * h * v for x, v in zip(inputs, vs, strict=True)]) for s in (1, -1)]
    for got, above, below in zip(hvp(network, inputs, vs), *ends, strict=True):
        close(got, (above.data - below.data) / (2 * h), 1e-7)


def test_hvp_is_the_jvp_of_grad_and_the_hessian_is_the_jvp_of_each_axis():
    x = normal(4)
    f = lambda t: total(mul(exp(t), quadratic(t)))
    columns = [jvp(grad(f), x, e)[1].data for e in np.eye(4)]
    hessian = np.stack(columns, axis=1)
    close(hessian, hessian.T)
    v = normal(4)
    close(hvp(f, x, v), hessian @ v)


def test_a_linear_function_has_hvp_zero():
    assert np.array_equal(hvp(total, normal(3), normal(3)).data, np.zeros(3))


def test_jvp_of_a_jacobian_is_a_third_order_array():
    x, v = normal(3), normal(3)
    _, dj = jvp(jacobian(exp), x, v)
    close(dj, np.diag(np.exp(x) * v))


def test_every_transform_stays_on_the_device_of_its_arguments():
    x, v = normal(2, 3), normal(2, 3)
    device = STRICT.asarray(x), STRICT.asarray(v)

    def f(t):
        return total(exp(mul(t, t)))

    def pull(x, v):
        return vjp(exp, x)[1](v)[0]

    for compute in (
        lambda x, v: grad(f)(x),
        lambda x, v: jvp(exp, x, v)[1],
        lambda x, v: hvp(f, x, v),
        lambda x, v: jacobian(tanh)(x),
        pull,
    ):
        there = compute(*device)
        assert type(there.data) is StrictArray
        close(there.numpy(), compute(x, v).data, 1e-14)


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [grad(exp), value_and_grad(exp), lambda x: hvp(exp, x, x)])
def test_a_function_that_is_not_scalar_has_no_gradient(transform):
    with pytest.raises(RequestError, match=r"must return one number, but returned shape \(3,\)"):
        transform(normal(3))


@pytest.mark.parametrize(
    "transform",
    [grad, value_and_grad, jacobian, lambda f: lambda x: vjp(f, x), lambda f: lambda x: jvp(f, x, x)],
)
def test_what_is_returned_must_be_a_tensor(transform):
    with pytest.raises(TypeError, match="must return a Tensor or a tuple of Tensors, but returned a ndarray"):
        transform(lambda x: x.data)(normal(3))


def test_a_mistake_in_f_shows_as_itself_and_not_as_a_complex_problem():
    with pytest.raises(TypeError, match="unexpected keyword"):
        jvp(lambda x: exp(x, wrong=1), normal(3), normal(3))
    with pytest.raises(TypeError, match="hvp: f must return a Tensor"):
        hvp(lambda x: 1.0, normal(3), normal(3))


@pytest.mark.parametrize(("op", "why"), [(Doubled, "does not take complex"), (IntoReal, "does not take complex")])
def test_an_op_that_refuses_complex_numbers_is_reported(op, why):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as outside of this suite, where NumPy's warning would pass unseen
        with pytest.raises(RequestError, match=f"jvp: an op in f {why}"):
            jvp(op.apply, normal(3), normal(3))


def test_an_op_that_drops_the_imaginary_part_is_reported():
    with pytest.raises(RequestError, match="drops the imaginary part"):
        jvp(Modulus.apply, normal(3), normal(3))


def test_backward_inside_backward_is_refused_instead_of_giving_zero():
    def f(x):
        return total(grad(quadratic)(x))

    with pytest.raises(RequestError, match="grad inside a function that is differentiated backward"):
        grad(f)(normal(4))
    with pytest.raises(RequestError, match="jvp inside a function"):
        grad(lambda x: total(jvp(exp, x, x)[1]))(normal(4))
    _, pullback = vjp(exp, normal(4))
    with pytest.raises(RequestError, match="the pullback of vjp inside"):
        grad(lambda x: total(pullback(x)[0]))(normal(4))
    grad(quadratic)(normal(4))  # and a failure leaves no trace


def test_another_thread_is_not_inside_anything():
    found = []

    def f(x):
        other = threading.Thread(target=lambda: found.append(grad(quadratic)(np.ones(4))))
        other.start()
        other.join()
        return quadratic(x)

    grad(f)(normal(4))
    close(found[0], (A + A.T) @ np.ones(4) / 2)


def test_jvp_of_jvp_is_refused():
    with pytest.raises(RequestError, match="a jvp of a jvp is not possible"):
        jvp(lambda x: jvp(exp, x, x)[1], normal(3), normal(3))


def test_integers_have_no_derivative():
    with pytest.raises(RequestError, match="argument 0 has dtype int64, and only floats"):
        grad(total)(np.arange(3))
    with pytest.raises(RequestError, match="x 0 has dtype int64"):
        jvp(total, np.arange(3), np.arange(3))


@pytest.mark.parametrize("argnums", [2, -1, (), (0, 0), (0, 5)])
def test_argnums_that_name_no_argument_or_one_twice_are_refused(argnums):
    with pytest.raises(RequestError, match="must name each argument once, of the 2"):
        grad(lambda x, w: total(mul(x, w)), argnums)(normal(3), normal(3))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(RequestError, match=r"x 0 has shape \(3,\), but its direction v has shape \(1,\)"):
        jvp(exp, normal(3), normal(1))
    with pytest.raises(RequestError, match="one v for each x"):
        jvp(mul, (normal(3), normal(3)), normal(3))
    with pytest.raises(RequestError, match="one v for each x"):
        hvp(total, (normal(3),), (normal(3), normal(3)))
    _, pullback = vjp(exp, normal(3))
    with pytest.raises(RequestError, match=r"cotangent 0 has shape \(1,\), but f's output has shape \(3,\)"):
        pullback(normal(1))
    with pytest.raises(RequestError, match="takes 1 cotangents"):
        pullback(normal(3), normal(3))


def test_reshaping_inside_f_keeps_the_jacobian_in_order():
    x = normal(2, 3)
    j = jacobian(lambda t: reshape(mul(t, 2.0), (3, 2)))(x)
    close(j, 2 * np.eye(6).reshape(3, 2, 2, 3))
