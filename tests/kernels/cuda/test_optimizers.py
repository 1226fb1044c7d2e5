"""The optimizers' CUDA, run on the CPU: the steps of the formulas, in how many launches, and inside a captured step."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minires import backend, models, optim
from minires.engine import Tensor
from minires.kernels.cuda import optimizers
from minires.switches import formulas_only
from tests.kernels.cuda import emulator
from tests.kernels.cuda.comparing import needs_compiler
from tests.kernels.equality import DTYPES, in_order
from tests.kernels.test_optimizers import EVERY, SHAPES, rules
from tests.parity import assert_close
from tests.strict_device import STRICT, StrictArray, no_sync
from tests.test_capture import BATCHES, Training, assert_same

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]
BOUND = {"d": 1e-12, "f": 2e-6}


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch):
    """The arithmetic does not depend on them, and on a CPU each takes its time."""
    monkeypatch.setattr(optimizers, "BLOCKS", 2)
    monkeypatch.setattr(optimizers, "THREADS", 32)


def sides(kind, options, arrays):
    """The same parameters twice: for the kernel and for the formula."""
    made = []
    for _ in range(2):
        held = [Tensor(STRICT.asarray(a), requires_grad=True) for a in arrays]
        made.append((held, kind(held, **options)))
    return made


def step(both, gradients, order="C"):
    for (held, optimizer), formulas in zip(both, (False, True), strict=True):
        for p, g in zip(held, gradients, strict=True):
            p.grad = None if g is None else StrictArray(in_order(g, order) if g.ndim else g)
        with no_sync():
            if formulas:
                with formulas_only():
                    optimizer.step()
            else:
                optimizer.step()


def assert_near(both):
    (ours, left), (theirs, right) = both
    for p, q in zip(ours, theirs, strict=True):
        assert p.dtype == q.dtype
        assert_close(p.numpy(), q.numpy(), tolerance=BOUND[p.dtype.char])
        assert p._version == q._version
    a, b = left.state_dict()["state"], right.state_dict()["state"]
    assert a.keys() == b.keys()
    for name, entries in a.items():
        assert entries.keys() == b[name].keys()
        for key, value in entries.items():
            if key == "step":
                assert value == b[name][key]
            else:
                assert_close(value, b[name][key], tolerance=BOUND[value.dtype.char])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(EVERY),
    st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES)), min_size=1, max_size=6),
    st.sampled_from(["C", "fortran", "gaps"]),
    st.integers(0, 999),
)
def test_steps_are_those_of_the_formula(rule, parameters, order, seed):
    rng = np.random.default_rng(seed)
    draw = lambda: [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape, dtype in parameters]
    both = sides(*rule, draw())
    for _ in range(4):
        step(both, [None if rng.random() < 0.2 else g for g in draw()], order)
    assert_near(both)


@rules
def test_a_resnets_step_is_one_launch_and_one_more_to_count(kind, options):
    shapes = [p.shape for p in models.create("resnet20", 10, 3).parameters()]
    rng = np.random.default_rng(0)
    both = sides(kind, options, [rng.standard_normal(s).astype(np.float32) * 0.1 for s in shapes])
    for _ in range(3):
        emulator.launches.clear()
        step(both, [rng.standard_normal(s).astype(np.float32) for s in shapes])
    assert emulator.launches == [{"SGD": "sgd", "RMSprop": "rmsprop"}.get(kind.__name__, "adam")]
    assert_near(both)


def test_more_parameters_than_fit_take_more_launches():
    rng = np.random.default_rng(1)
    both = sides(optim.AdamW, {}, [rng.standard_normal(3) for _ in range(200)])
    for _ in range(3):
        emulator.launches.clear()
        step(both, [rng.standard_normal(3) for _ in range(200)])
    assert emulator.launches == ["adam"] * 3
    assert_near(both)


def test_counts_go_on_after_a_freeze_a_load_and_another_order():
    rng = np.random.default_rng(2)
    both = sides(optim.Adam, {"lr": 0.05}, [rng.standard_normal(4) for _ in range(3)])
    for i in range(8):
        gradients = [rng.standard_normal(4) for _ in range(3)]
        if i in (2, 3):
            gradients[1] = None
        if i == 5:
            saved = both[0][1].state_dict()
            assert [saved["state"][str(n)]["step"] for n in range(3)] == [5, 3, 5]
            for _, optimizer in both:
                optimizer.load_state_dict(saved)
        step(both, gradients)
        assert_near(both)


def test_the_tables_have_the_layout_of_their_structures_and_fit_into_a_launch():
    for arrays, table in optimizers.TABLES.items():
        n = optimizers.COUNTS[arrays]
        assert table.fields["n"][1] == 8 * arrays * n
        assert table.itemsize == -(-(8 * arrays + 4) * n // 8) * 8
        assert table.itemsize + 12 * 8 <= 4096


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_a_captured_training_with_cuda_kernels_is_the_plain_one_bit_for_bit(kind):
    plain, captured = (Training(STRICT, kind) for _ in range(2))
    step = captured.captured()
    assert captured.run(step, BATCHES[:6]) == plain.run(plain.step, BATCHES[:6])
    assert_same(captured.end(), plain.end())
    assert captured.ran == 4


def test_another_library_and_other_dtypes_are_left_to_the_formula():
    walk = optimizers.CudaWalk(optimizers.RULES["sgd.SGD"])
    options = optim.SGD([Tensor(np.zeros(1))]).param_groups[0]
    for array in (np.zeros(3), STRICT.asarray(np.zeros(3, np.float16)), STRICT.asarray(np.zeros((3, 4))).T):
        p = Tensor(array, requires_grad=True)
        p.grad = array + 1
        assert walk.step([("p", p)], {}, options) == [("p", p)]
    assert backend.find((p.data,)) is STRICT
