"""A walk says what the tape says: every op once, every contribution, and sums that are backward's own."""

import numpy as np
import pytest

import minires as mr
from minires import explain, nn
from minires import functional as F
from minires.check import subjects
from minires.engine import Tensor
from minires.errors import GraphError, RequestError
from minires.explain.printing import nested, norm, number
from minires.ops.activation import Tanh

OPS = [s.name for s in subjects()]


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def network(rng, depth=3):
    """Residual blocks with shared weights, so that gradients meet at values and at leaves."""
    x, w, b = leaf(rng, 4, 3), leaf(rng, 3, 3), leaf(rng, 3)
    h = x
    for _ in range(depth):
        h = F.residual_add(h, F.tanh(F.linear(h, w, b)))
    y = h * F.sigmoid(h) + x
    return y, {"x": x, "w": w, "b": b}


def count_ops(root):
    reached, waiting = set(), [root.op]
    while waiting:
        op = waiting.pop()
        if op not in reached and not isinstance(op, Tensor):
            reached.add(op)
            waiting += [edge[0] for edge in op.edges if edge is not None]
    return len(reached)


# --- the laws


def test_contributions_sum_to_the_gradient_that_backward_gives_bit_for_bit(rng):
    with mr.formulas_only():
        y, leaves = network(rng)
        gy = rng.standard_normal(y.shape)
        walk = explain.backward(y, gy, leaves)
        y.backward(gy)
    for name, t in leaves.items():
        total = walk.into(name)[0].gradient
        for term in walk.into(name)[1:]:
            total = total + term.gradient
        np.testing.assert_array_equal(walk.gradient(name), t.grad)
        np.testing.assert_allclose(total, t.grad, rtol=1e-12)


def test_what_each_step_receives_is_the_gradient_of_what_it_made(rng):
    x, w = leaf(rng, 4, 3), leaf(rng, 3)
    h = (x * w).retain_grad()
    z = F.tanh(h) * F.sigmoid(h) + h
    gy = rng.standard_normal(z.shape)
    walk = explain.backward(z, gy, {"x": x})
    assert h.grad is None
    z.backward(gy)
    np.testing.assert_array_equal(walk.steps[0].gys[0], h.grad)


def test_every_op_is_one_step_and_takes_its_turn_once(rng):
    y, leaves = network(rng, depth=5)
    walk = explain.backward(y, rng.standard_normal(y.shape), leaves)
    assert len(walk.steps) == count_ops(y)
    assert [s.number for s in walk.steps] == list(range(1, len(walk.steps) + 1))
    assert len({value.name for s in walk.steps for value in s.makes}) == len(walk.steps)


def test_each_contribution_is_the_ledgers_entry(rng):
    y, leaves = network(rng)
    gy = rng.standard_normal(y.shape)
    walk = explain.backward(y, gy, leaves)
    with mr.ledger() as book:
        y.backward(gy)
    for name, t in leaves.items():
        entries, terms = book.into(t), walk.into(name)
        assert len(entries) == len(terms)
        for entry, term in zip(entries, terms, strict=True):
            np.testing.assert_array_equal(entry.gradient, term.gradient)
            assert entry.index == term.index


def test_looking_changes_nothing(rng):
    y, leaves = network(rng)
    y.retain_grad()
    explain.backward(y, rng.standard_normal(y.shape), leaves)
    assert all(t.grad is None for t in (y, *leaves.values()))
    explain.backward(y, rng.standard_normal(y.shape), leaves)  # and the graph is still there
    y.backward(rng.standard_normal(y.shape))


def test_a_step_owns_what_it_shows(rng):
    y, leaves = network(rng)
    with explain.record() as seen:
        y = F.tanh(leaves["x"])
    walk = explain.backward(y, rng.standard_normal(y.shape), leaves, seen=seen)
    before = walk.gradient("x").copy(), walk.values["x"].array.copy()
    y.data[...] = 9.0
    leaves["x"].data[...] = 9.0
    np.testing.assert_array_equal(walk.values["x"].array, before[1])
    np.testing.assert_array_equal(walk.gradient("x"), before[0])


# --- skip and branch


def test_the_skip_hands_gy_back_and_the_branch_the_rest(rng):
    x, w = leaf(rng, 2, 3), leaf(rng, 3, 3)
    gy = rng.standard_normal((2, 3))
    walk = explain.backward(F.residual_add(x, F.tanh(F.matmul(x, w))), gy, {"x": x, "w": w})
    by_role = {term.role: term.gradient for term in walk.into("x")}
    np.testing.assert_array_equal(by_role["skip"], gy)
    assert set(by_role) == {"skip", "branch"}
    assert {t.role for t in walk.into("w")} == {"branch"}


def test_a_plain_sum_is_a_residual_one_only_where_one_operand_makes_the_other(rng):
    x, w = leaf(rng), leaf(rng)
    roles = {t.role for s in explain.backward(x * w + F.tanh(w), names={"x": x, "w": w}).steps for t in s.terms}
    assert roles == {""}
    either = explain.backward(F.tanh(x * w) + x, names={"x": x, "w": w})
    assert [t.role for t in either.into("x")] == ["skip", "branch"]


def test_in_nested_blocks_the_innermost_counts(rng):
    x = leaf(rng, 3)
    inner = F.residual_add(F.tanh(x), F.sigmoid(F.tanh(x)))
    y = F.residual_add(x, F.exp(inner))
    walk = explain.backward(y, rng.standard_normal(3), {"x": x})
    last, first = walk.steps[-1], next(s for s in walk.steps if s.op == "residual_add")
    assert [t.role for t in last.terms] == ["skip", "branch"]
    assert [t.role for t in first.terms] == ["skip", "branch"]


def test_a_projected_skip_is_a_skip_all_along(rng):
    x, p, w = leaf(rng, 2, 3), leaf(rng, 3, 3), leaf(rng, 3, 3)
    walk = explain.backward(
        F.residual_add(F.matmul(x, p), F.matmul(x, w)), rng.standard_normal((2, 3)), {"x": x, "p": p, "w": w}
    )
    assert sorted(t.role for t in walk.into("x")) == ["branch", "skip"]
    assert walk.into("p")[0].role == "skip"


# --- values and names


def test_values_are_known_where_forward_was_recorded_and_shapes_everywhere(rng):
    x, w = leaf(rng, 2, 3), leaf(rng, 3, 3)
    with explain.record() as seen:
        y = F.tanh(F.matmul(x, w))
    known, unknown = (explain.backward(y, np.ones((2, 3)), {"x": x}, seen=s).values for s in (seen, None))
    np.testing.assert_array_equal(known["v1"].array, x.data @ w.data)
    assert unknown["v1"].array is None
    assert unknown["v1"].shape == (2, 3)


def test_names_come_from_the_user_a_module_or_the_step_and_never_collide(rng):
    layer = nn.Linear(3, 2)
    v1, x = leaf(rng, 2, 3), leaf(rng, 3)
    y = F.tanh(layer(v1 * x))
    walk = explain.backward(y, np.ones((2, 2)), {"v1": v1, "y": x})
    assert set(walk.leaves) == {"v1", "y", "t1", "t2"}
    assert walk.roots == ("y'",)
    assert {v.name for s in walk.steps for v in s.makes} == {"u1", "u2", "y'"}
    assert set(explain.backward(y, np.ones((2, 2)), layer).leaves) >= {"weight", "bias"}


def test_several_results_are_walked_at_once(rng):
    x = leaf(rng, 4, 3)
    parts = F.unbind(x, 0)
    gys = [rng.standard_normal(3) for _ in parts]
    walk = explain.backward(parts, gys, {"x": x})
    assert len(walk.steps) == 1
    np.testing.assert_array_equal(walk.gradient("x"), np.stack(gys))


def test_a_leaf_itself_has_no_steps(rng):
    x = leaf(rng)
    walk = explain.backward(x, names={"x": x})
    assert walk.steps == ()
    assert walk.gradient("x") == 1
    assert "x" in str(walk)
    assert "<svg" in walk.page()


def test_kernels_are_walked_under_the_names_of_their_ops(rng):
    x = leaf(rng, 64, 64)
    walk = explain.backward(F.residual_add(x, F.relu(x)), rng.standard_normal(x.shape), {"x": x})
    assert [s.op for s in walk.steps] == ["relu", "residual_add"]


@pytest.mark.parametrize("kind", ["bug in backward", "op of one's own"])
def test_numbers_are_put_in_only_where_the_formula_comes_to_the_tapes(rng, kind):
    class Wrong(Tanh):
        """The hyperbolic tangent.

        Forward   y = tanh(x)
        Backward  gx = (1 - y^2) gy
        """

        def backward(self, gy):
            return gy * (1 - self.y)

    x = leaf(rng)
    with explain.record() as seen:
        y = (Wrong if kind == "bug in backward" else Tanh).apply(x)
    term = explain.backward(y, rng.standard_normal(()), {"x": x}, seen=seen).steps[0].terms[0]
    assert (term.formula.numbers is None) == (kind == "bug in backward")


def test_large_graphs_are_cut_with_a_line_that_says_so():
    x = Tensor(np.array(0.5), requires_grad=True)
    y = x
    for _ in range(1500):
        y = F.tanh(y)
    walk = explain.backward(y, names={"x": x}, limit=10)
    text = str(walk)
    assert len(walk.steps) == 1500
    assert text.count("1,480 steps are left out here") == 2
    assert len(text.splitlines()) < 100
    assert "the last 120 of 1,500 steps" in walk.page()


# --- every op, every block


@pytest.mark.parametrize("name", OPS)
def test_every_op_is_explained_and_its_printed_gradients_are_the_tapes(name):
    walk = explain.op(name)
    text = str(walk)
    assert max(map(len, text.splitlines())) <= 100
    for leaf_name in walk.leaves:
        g = walk.gradient(leaf_name)
        assert (nested(g) if g.ndim == 0 else f"|g| {number(norm(g))}") in text
    assert walk.steps[-1].about
    assert any(step.forward and (step.terms[0].formula or step.before or step.after) for step in walk.steps)


@pytest.mark.parametrize("name", OPS)
def test_an_op_goes_by_its_public_name(name):
    assert {step.op for step in explain.op(name).steps} == {name}


def test_a_letter_on_the_way_is_not_passed_off_as_the_result():
    (step,) = explain.op("mse_loss").steps
    assert step.forward[0].text == "l = (x - t)^2"
    assert not step.forward[0].whole
    for text in (str(explain.op("mse_loss")), explain.op("mse_loss").page()):
        assert "l = (x - t)^2 =" not in text
        assert nested(step.makes[0].array) in text


@pytest.mark.parametrize("name", list(explain.BLOCKS))
def test_every_block_has_a_skip_and_its_lines_are_short(name):
    walk = explain.block(name)
    assert "skip" in {t.role for t in walk.into("x")}
    assert max(map(len, str(walk).splitlines())) <= 100


def test_the_skips_numbers_are_those_of_the_interactive_figure():
    figure = pytest.importorskip("minires.explain.figure")
    kept = figure.golden()["block"]["kept"]
    walk = explain.block("skip")
    by_role = {t.role: t.gradient for t in walk.into("x")}
    for name, found in {
        "x": walk.values["x"].array,
        "y": walk.values["y"].array,
        "f": walk.values["v2"].array,
        "g": walk.gradient("y"),
        "skip": by_role["skip"],
        "branch": by_role["branch"],
        "gx": walk.gradient("x"),
    }.items():
        np.testing.assert_allclose(found, kept[name], rtol=1e-12)


# --- what is refused


def test_bad_requests_get_one_line(rng):
    x = leaf(rng, 3)
    with pytest.raises(RequestError, match="pass gy"):
        explain.backward(F.tanh(x))
    with pytest.raises(RequestError, match=r"gy has shape \(2,\), but the result \(3,\)"):
        explain.backward(F.tanh(x), np.ones(2))
    with pytest.raises(RequestError, match="depends on nothing"):
        explain.backward(Tensor(np.ones(3)), np.ones(3))
    with pytest.raises(RequestError, match="names"):
        explain.backward(F.tanh(x), np.ones(3), {"x": 3})
    with pytest.raises(RequestError, match=r"nn\.checkpoint"):
        explain.backward(nn.checkpoint(F.tanh, F.sigmoid(x)) * 2, np.ones(3))
    y = F.tanh(x)
    y.backward(np.ones(3))
    with pytest.raises(GraphError):
        explain.backward(y, np.ones(3))


def test_unknown_ops_and_blocks_get_the_nearest_name():
    with pytest.raises(RequestError, match="conv2d"):
        explain.op("con2d")
    with pytest.raises(RequestError, match="preact"):
        explain.block("preactt")
    with pytest.raises(RequestError, match="seed"):
        explain.op("conv2d", seed=-1)


@pytest.mark.parametrize("result", [np.ones(3), 3.0, [np.ones(3)], None])
def test_what_is_no_tensor_is_refused_by_its_type(result):
    with pytest.raises(RequestError, match="must be a Tensor"):
        explain.backward(result)


def test_a_name_without_gradient_gets_the_nearest():
    walk = explain.expression("x * weight", {"x": 2.0, "weight": 3.0})
    with pytest.raises(RequestError, match="called 'wieght'; as weight is"):
        walk.gradient("wieght")
