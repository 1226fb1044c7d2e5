"""The path-sum engine against calculus, since it judges the other one."""

import operator

import numpy as np
import pytest

from minires.check.pathsum import Node, count, gradient, paths, step, terms

rng = np.random.default_rng(41)


def stack(x, depth):
    y = x
    for _ in range(depth):
        y = step(operator.add, y, step(np.tanh, y))
    return y


def test_a_steps_jacobian_is_exact():
    x, w = Node(rng.standard_normal(3)), Node(rng.standard_normal((2, 3)))
    y = step(lambda x, w: w @ x, x, w)
    (_, jx), (_, jw) = y.parents
    assert np.allclose(jx, w.value, rtol=1e-15)
    assert np.allclose(jw, np.kron(np.eye(2), x.value), rtol=1e-15)


@pytest.mark.parametrize("depth", [0, 1, 2, 6])
def test_a_stack_of_diamonds_has_2_to_the_depth_paths(depth):
    x = Node(rng.standard_normal(2))
    y = stack(x, depth)
    assert count(y, x) == len(list(paths(y, x))) == 2**depth
    assert sorted(map(len, paths(y, x)))[-1] == 2 * depth


def test_the_sum_over_the_paths_is_the_product_of_one_plus_the_slopes():
    x, gy = Node(rng.standard_normal(3)), rng.standard_normal(3)
    points = [stack(x, k).value for k in range(4)]
    expected = gy * np.prod([2 - np.tanh(p) ** 2 for p in points], axis=0)
    y = stack(x, 4)
    assert np.allclose(gradient(y, x, gy), expected, rtol=1e-14)
    assert np.allclose(sum(terms(y, x, gy)), expected, rtol=1e-14)


def test_a_node_used_twice_counts_twice():
    x, gy = Node(rng.standard_normal(3)), rng.standard_normal(3)
    assert np.allclose(gradient(step(operator.mul, x, x), x, gy), 2 * x.value * gy, rtol=1e-15)


def test_where_no_path_leads_the_gradient_is_zero():
    x, w = Node(rng.standard_normal(3)), Node(rng.standard_normal((0, 2)))
    y = step(operator.neg, x)
    assert np.array_equal(gradient(y, w, rng.standard_normal(3)), np.zeros((0, 2)))
    assert np.array_equal(gradient(x, x, x.value), x.value)


def test_nothing_has_a_jacobian_without_columns():
    x = Node(np.zeros((0, 2)))
    y = step(lambda x: x.sum(0), x)
    assert gradient(y, x, rng.standard_normal(2)).shape == (0, 2)
