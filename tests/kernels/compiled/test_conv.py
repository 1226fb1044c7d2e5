import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.kernels import threads
from minires.kernels.compiled import plan, provider
from minires.switches import formulas_only, kernels_at_any_size
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, convolutions, in_order, run, transposed

pytest.importorskip("numba", reason="compiled kernels need numba")

BOUND = {np.float64: 1e-12, np.float32: 2e-5}  # of the largest entry; float32 sums of up to some thousand products


# channels on all sides of a vector
GEOMETRIES = convolutions(st.integers(1, 18), st.integers(1, 40), st.integers(1, 50), room=20)


def normal(rng, shape, dtype, order="C"):
    return in_order(rng.normal(size=shape).astype(dtype), order)


@pytest.mark.parametrize("frame", [1 << 17, 2000])
@settings(deadline=None, max_examples=60)
@given(GEOMETRIES, st.sampled_from(DTYPES), st.sampled_from(ORDERS), st.integers(0, 99))
def test_the_kernels_equal_their_formulas(frame, geometry, dtype, order, seed):
    (xs, ws, options), rng = geometry, np.random.default_rng(seed)
    x, w, b, c = (normal(rng, s, dtype, order) for s in (xs, ws, ws[:1], ws[1:2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "FRAME", frame)
        plan.forward.cache_clear()
        plan.backward.cache_clear()
        with formulas_only():
            shape = F.conv2d(x, w, **options).shape
        gy = normal(rng, shape, dtype, order)
        forward = lambda x, w, b: F.conv2d(x, w, b, **options)
        assert_equals_formula(provider.CompiledConv2d, forward, x, w, b, gy=gy, tolerance=BOUND[dtype])
        way_back = transposed(xs, ws, options)
        back = lambda g, w, c: F.conv_transpose2d(g, w, c, **way_back)
        assert_equals_formula(provider.CompiledConvTranspose2d, back, gy, w, c, gy=x, tolerance=BOUND[dtype])
    plan.forward.cache_clear()
    plan.backward.cache_clear()


@pytest.mark.parametrize("kernel", [(2, 3), (4, 4)])
def test_padding_may_differ_from_side_to_side(kernel):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 5, 9, 11)), rng.normal(size=(7, 5, *kernel))
    f = lambda x, w: F.conv2d(x, w, padding="same")
    assert_equals_formula(provider.CompiledConv2d, f, x, w, gy=rng.normal(size=(3, 7, 9, 11)), tolerance=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "w", "gy"])
def test_what_is_not_finite_reaches_what_it_reaches_in_the_formula(value, where):
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(2, 3, 10, 9)), "w": rng.normal(size=(5, 3, 3, 3)), "gy": None}
    given["gy"] = rng.normal(size=(2, 5, 10, 9))
    given[where][1, 2, 1, 1] = value
    f = lambda x, w: F.conv2d(x, w, padding=1)
    with np.errstate(invalid="ignore"):
        with formulas_only():
            _, expected = run(f, given["x"], given["w"], gy=given["gy"])
        with kernels_at_any_size():
            op, got = run(f, given["x"], given["w"], gy=given["gy"])
    assert op is provider.CompiledConv2d
    assert any(not np.isfinite(e).all() for e in expected)
    for a, e in zip(got, expected, strict=True):  # at an edge the formula has 0 times infinity where a scatter has none
        assert not np.isfinite(a)[~np.isfinite(e)].any()
        clean = np.isfinite(a)
        np.testing.assert_allclose(a[clean], e[clean], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch, stride):
    rng = np.random.default_rng(0)
    x, w, b = (normal(rng, s, np.float32) for s in ((40, 20, 16, 16), (24, 20, 3, 3), (24,)))
    gy = normal(rng, (40, 24, 16 // stride, 16 // stride), np.float32)
    seen = []
    for cores in (1, 2, 2, 5, 5):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        op, got = run(lambda *a: F.conv2d(*a, padding=1, stride=stride), x, w, b, gy=gy)
        assert op is provider.CompiledConv2d
        seen.append(got)
    for got in seen[1:]:
        assert all(np.array_equal(a, e) for a, e in zip(got, seen[0], strict=True))


def test_read_only_inputs_are_taken_and_not_compiled_for_anew():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 8, 16, 16)), rng.normal(size=(8, 8, 3, 3)), rng.normal(size=8)
    x.flags.writeable = w.flags.writeable = b.flags.writeable = False
    gy = np.broadcast_to(1.5, (2, 8, 14, 14))
    assert_equals_formula(provider.CompiledConv2d, F.conv2d, x, w, b, gy=gy, tolerance=1e-12)
    assert_equals_formula(provider.CompiledConv2d, F.conv2d, x, w, gy=gy, tolerance=1e-12)
    from minires.kernels.compiled import conv_loops

    for loop in (conv_loops.correlate, conv_loops.weigh, conv_loops.pack, conv_loops.unpack):
        assert len(loop.signatures) <= len(DTYPES)


def test_an_image_larger_than_a_frame_is_cut_into_strips():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 20, 70, 60)), rng.normal(size=(18, 20, 3, 3))
    assert plan.forward((1, 70, 60, 20), 18, (3, 3), (1, 1), (1, 1), (1, 1), (70, 60), 8).grid.strips > 2
    f = lambda x, w: F.conv2d(x, w, padding=1)
    assert_equals_formula(provider.CompiledConv2d, f, x, w, gy=rng.normal(size=(1, 18, 70, 60)), tolerance=1e-12)
