"""A5: what its statement and guide say holds."""

import numpy as np

from minires.classroom.assignment import find
from minires.classroom.assignments.a5_reference import ResidualBlock
from minires.classroom.diagnosis import Case, made, run

ASSIGNMENT = find("A5")


def test_the_guides_answers_hold():
    x, gy = np.array([[1.0, 2.0]]), np.array([[0.3, -0.7]])
    eye, zero = np.eye(2), np.zeros((2, 2))
    _, gx, gw1, gw2 = run(ResidualBlock, Case((x, eye, zero), gy, {}))  # question 1
    assert np.array_equal(gx, gy)
    assert not gw1.any()
    assert gw2.any()
    _, gx, _, _ = run(ResidualBlock, Case((x, eye, -eye), gy, {}))  # question 2
    assert not gx.any()
    rng = np.random.default_rng(0)
    d, g = 64, rng.normal(size=(8, 64))
    first, h = g.copy(), rng.normal(size=(8, 64))
    for _ in range(50):  # question 3
        w1, w2 = (rng.normal(size=(d, d)) * np.sqrt(2 / d) for _ in range(2))
        block = made(ResidualBlock)
        h = block.forward(h / np.linalg.norm(h), w1, w2)
        g = block.backward(g)[0]
    assert np.linalg.norm(g) > 1e6 * np.linalg.norm(first)
