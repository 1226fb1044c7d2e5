"""Products through cuBLAS, the linear layer and attention, with cuBLAS emulated at raw addresses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import backend
from minires import functional as F
from minires.kernels.cuda import allow_tf32
from minires.kernels.cuda.attention import CudaAttention
from minires.kernels.cuda.gemm import product
from minires.kernels.cuda.linear import CudaLinear, CudaMatmul
from minires.ops.attention import ScaledDotProductAttention
from minires.ops.linear import Matmul
from tests.kernels.cuda import emulator
from tests.kernels.cuda.comparing import assert_equals_formula, needs_compiler, run
from tests.kernels.equality import DTYPES
from tests.strict_device import STRICT, StrictArray

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]
sizes = st.integers(1, 6)


def laid_out(values, how):
    """The same matrices, by rows, by columns, with gaps of all kinds, turned, or one in the place of all."""
    n = values.shape[2]
    return {
        "rows": lambda: values.copy(),
        "wide rows": lambda: np.concatenate([values, values], axis=2)[:, :, :n],
        "apart": lambda: np.concatenate([values, values], axis=1)[:, : values.shape[1]],
        "interleaved": lambda: values.transpose(1, 0, 2).copy().transpose(1, 0, 2),
        "columns": lambda: values.transpose(0, 2, 1).copy().transpose(0, 2, 1),
        "gaps": lambda: np.repeat(values, 2, axis=2)[:, :, ::2],
        "backward": lambda: values[::-1].copy()[::-1],
        "upside down": lambda: values[:, ::-1].copy()[:, ::-1],
        "one for all": lambda: np.broadcast_to(values[:1], values.shape),
    }[how]()


BY_ROWS = ["rows", "wide rows", "apart", "interleaved"]
LAYOUTS = [*BY_ROWS, "columns", "gaps", "backward", "upside down", "one for all"]


@settings(max_examples=150)
@given(
    *[sizes] * 4, st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS), st.sampled_from(BY_ROWS),
    st.sampled_from([*DTYPES, np.float16]), st.sampled_from([1.0, 0.5]), st.sampled_from([0.0, 2.0]),
)  # fmt: skip
def test_a_product_of_any_two_layouts(b, m, k, n, how_a, how_b, how_out, dtype, alpha, beta):
    rng = np.random.default_rng(b + 7 * m + 31 * k + 101 * n)
    draw = lambda *shape: rng.normal(size=shape).astype(dtype)
    a, c, before = laid_out(draw(b, m, k), how_a), laid_out(draw(b, k, n), how_b), draw(b, m, n)
    out = laid_out(before, how_out)
    held = StrictArray(out)
    expected = alpha * (a.astype(float) @ c.astype(float)) + beta * before.astype(float)
    assert product(STRICT.xp, StrictArray(a), StrictArray(c), alpha, held, beta) is held
    np.testing.assert_allclose(out, expected, rtol=0, atol={2: 2e-2, 4: 1e-5, 8: 1e-13}[np.dtype(dtype).itemsize])


@pytest.mark.parametrize("shapes", [((2, 3, 0), (2, 0, 4)), ((0, 3, 2), (0, 2, 4)), ((2, 0, 3), (2, 3, 4))])
def test_empty_products(shapes):
    a, b = (StrictArray(np.ones(s)) for s in shapes)
    y = product(STRICT.xp, a, b)._host
    assert np.array_equal(y, np.ones(shapes[0]) @ np.ones(shapes[1]))


def test_float32_is_exact_unless_tf32_is_allowed():
    a = StrictArray(np.ones((1, 2, 2), np.float32))
    emulator.precisions.clear()
    product(STRICT.xp, a, a)
    with allow_tf32():
        product(STRICT.xp, a, a)
        for other in (np.float64, np.float16):
            product(STRICT.xp, a.astype(other), a.astype(other))
        with allow_tf32(False):
            product(STRICT.xp, a, a)
    assert emulator.precisions == [68, 77, 70, 68, 68]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 3), max_size=3), sizes, sizes, sizes, st.sampled_from(DTYPES), st.booleans())
def test_matmul_equals_its_formula(leading, t, k, d, dtype, one):
    rng = np.random.default_rng(t + k + d)
    x, w = rng.normal(size=(*leading, t, k)), rng.normal(size=(k, d) if one else (*leading, k, d))
    forward, backward = assert_equals_formula(CudaMatmul, F.matmul, x.astype(dtype), w.astype(dtype))
    assert (forward, backward) == (("gemm",), ("gemm", "gemm"))


def test_matmul_of_float16_is_summed_in_float32():
    x, w = np.full((1, 1, 4096), 1.0, np.float16), np.full((1, 4096, 1), 1.0, np.float16)
    assert F.matmul(StrictArray(x), StrictArray(w)).data._host.item() == 4096.0


def test_what_the_products_do_not_take_is_left_to_the_formula():
    for x, w in (((4,), (4, 2)), ((3, 4), (4,)), ((2, 3, 4), (1, 4, 2)), ((3, 4), (2, 4, 2))):
        assert run(F.matmul, np.ones(x), np.ones(w))[0] is Matmul
    assert run(F.matmul, np.ones((2, 2)), np.ones((2, 2), np.float32))[0] is Matmul
    q = np.ones((2, 1, 3, 4))
    assert run(F.scaled_dot_product_attention, q, q[:1], q[:1])[0] is ScaledDotProductAttention


@settings(max_examples=30)
@given(st.lists(st.integers(1, 3), max_size=2), st.sampled_from([1, 7, 300]), sizes, sizes, st.sampled_from(DTYPES))
def test_linear_equals_its_formula(leading, rows, d, o, dtype):
    rng = np.random.default_rng(rows + d + o)
    x, w, b = (rng.normal(size=s).astype(dtype) for s in ((*leading, rows, d), (o, d), (o,)))
    assert_equals_formula(CudaLinear, F.linear, x, w, b)
    assert_equals_formula(CudaLinear, lambda x, w: F.linear(x, w), x[..., ::-1], w)


MASKS = [None, (), (1,), "T", "S", "TS", "leading"]


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 3), max_size=3), sizes, st.sampled_from([1, 3, 33, 150]), sizes, sizes,
    st.sampled_from(DTYPES), st.sampled_from(MASKS), st.booleans(),
)  # fmt: skip
def test_attention_equals_its_formula(leading, t, s, e, d, dtype, masked, boolean):
    rng = np.random.default_rng(t + 7 * s + 31 * e + d)
    q, k, v = (rng.normal(size=(*leading, *tail)).astype(dtype) for tail in ((t, e), (s, e), (s, d)))
    f, more = F.scaled_dot_product_attention, ()
    if masked is not None:
        named = {"T": (t, 1), "S": (s,), "TS": (t, s), "leading": (*leading[:1], *[1] * len(leading[1:]), t, s)}
        shape = named.get(masked, masked)
        more = (rng.random(shape) < 0.5 if boolean else rng.normal(size=shape).astype(dtype),)
    alike = () if masked in ("S", "TS", "leading") else (3,)  # what is added to a whole row has a gradient of 0
    forward, backward = assert_equals_formula(CudaAttention, f, q, k, v, *more, constants=alike)
    assert forward == ("gemm", "attention_weights", "gemm")
    assert backward == ("gemm", "gemm", "softmax_gradient", "gemm", "gemm")
    if masked is None:
        causal = lambda q, k, v: f(q, k, v, is_causal=True, scale=0.3)
        assert_equals_formula(CudaAttention, causal, q, k, v)


@pytest.mark.parametrize("shape", [(3, 1, 5, 6), (3, 2, 5, 6), (3, 1, 1, 6), (2, 5, 1), (1, 5, 6)])
@pytest.mark.parametrize("boolean", [True, False])
def test_a_mask_for_each_sample_or_head(shape, boolean):
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 5, 4)), rng.normal(size=(3, 2, 6, 4)), rng.normal(size=(3, 2, 6, 3))
    mask = rng.random(shape) < 0.5 if boolean else rng.normal(size=shape)
    assert_equals_formula(CudaAttention, F.scaled_dot_product_attention, q, k, v, mask, constants=(3,))


def test_a_mask_with_more_axes_than_the_kernel_has_strides_for():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 3, 2, 5, 4)), rng.normal(size=(2, 3, 2, 6, 4))
    for shape in ((2, 1, 2, 5, 6), (2, 3, 1, 5, 1), (3, 1, 1, 6)):
        mask = rng.normal(size=shape)
        assert_equals_formula(CudaAttention, F.scaled_dot_product_attention, q, k, k, mask, constants=(3,))


def test_attention_with_heads_split_off_and_with_dropout():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 5, 3 * 4)).reshape(2, 5, 3, 4).transpose(0, 2, 1, 3) for _ in range(3))
    assert_equals_formula(CudaAttention, F.scaled_dot_product_attention, q, k, v)

    def dropped(q, k, v):
        backend.manual_seed(3)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.4)

    assert_equals_formula(CudaAttention, dropped, q, k, v)


def test_a_query_that_may_look_nowhere_gives_zero_and_gets_none():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 4, 4))
    mask = np.eye(4) > 0
    mask[2] = False
    _, (y, gq, *_), *_ = run(F.scaled_dot_product_attention, q, k, v, mask)
    assert not y[2].any()
    assert not gq[2].any()
