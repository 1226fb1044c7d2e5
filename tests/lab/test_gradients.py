"""The norms are those of the chain rule written out, and what batch norm and 1/sqrt(L) promise is kept."""

import math

import numpy as np
import pytest

from minires.lab import gradients
from minires.lab.gradients import Recipe


def by_hand(recipe, depth, seed, width, batch):
    """Forward and backward of a net without norm in plain NumPy, from the same draws."""
    rng = np.random.default_rng(seed)
    x, gy = rng.standard_normal((2, batch, width))
    slope = {"tanh": lambda z: 1 - np.tanh(z) ** 2, "relu": lambda z: (z > 0) * 1.0}[recipe.activation]
    value = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}[recipe.activation]
    skip = 0.0 if recipe.skip == "plain" else 1.0
    scale = depth**-0.5 if "scaled" in recipe.skip else 1.0
    first = "pre" in recipe.skip
    kept = []
    for _ in range(depth):
        w = rng.standard_normal((width, width)) * recipe.gain / math.sqrt(width)
        z = x if first else x @ w.T
        kept.append((x, w, z))
        x = skip * x + scale * (value(z) @ w.T if first else value(z))
    stream, weights = [gy], []
    for x, w, z in reversed(kept):
        gy = scale * stream[-1]
        weights.append(gy.T @ value(z) if first else (gy * slope(z)).T @ x)
        stream.append(skip * stream[-1] + (gy @ w * slope(z) if first else gy * slope(z) @ w))
    return ([np.linalg.norm(g) for g in reversed(row)] for row in (stream, weights))


@pytest.mark.parametrize("skip", ["plain", "sum", "scaled", "scaled pre"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_norms_are_those_of_the_chain_rule_by_hand(activation, skip):
    recipe = Recipe(activation, 1.3, "none", skip)
    found = gradients.norms(recipe, 5, seed=2, width=7, batch=3)
    stream, weights = by_hand(recipe, 5, seed=2, width=7, batch=3)
    np.testing.assert_allclose(found.stream, stream, rtol=1e-12)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-12)


@pytest.mark.parametrize("skip", ["plain", "sum", "scaled"])
def test_batch_norm_behind_the_weights_takes_the_gain_out(skip):
    low, high = (gradients.norms(Recipe("tanh", gain, "batch", skip), 6, 0, 32, 256).stream for gain in (0.8, 2.0))
    np.testing.assert_allclose(low, high, rtol=1e-3)
    low, high = (gradients.norms(Recipe("tanh", gain, "none", skip), 6, 0, 32, 256).stream for gain in (0.8, 2.0))
    assert np.abs(low / high - 1).max() > 0.1


def test_in_front_of_the_branch_it_does_not():
    low, high = (gradients.norms(Recipe("tanh", gain, "batch", "pre"), 6, 0, 32, 256).stream for gain in (0.8, 2.0))
    assert np.abs(low / high - 1).max() > 0.1


def test_one_layer_scaled_by_its_depth_is_not_scaled():
    one, other = (gradients.norms(Recipe("relu", 1.0, "none", skip), 1, 4, 8, 8) for skip in ("sum", "scaled"))
    np.testing.assert_array_equal(one.stream, other.stream)


def test_there_is_every_combination_once():
    assert len(set(gradients.RECIPES)) == len(gradients.RECIPES) == 3 * 4 * 8
    assert set(gradients.PROFILES.values()) <= set(gradients.RECIPES)


@pytest.mark.parametrize(
    ("ratio", "word"), [(1e-9, "fades"), (0.0101, "neither"), (1.0, "neither"), (99.0, "neither"), (101.0, "explodes")]
)
def test_what_becomes_of_a_gradient(ratio, word):
    assert gradients.fate(ratio) == word


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.444, "0.44"), (5.1e-9, "5e-9"), (2e12, "2e12"), (127.3, "127"), (12.34, "12"), (1e-36, "1e-36"), (1.04, "1")],
)
def test_ratios_are_written_short(ratio, text):
    assert gradients.short(ratio) == text


def result(**ratios):
    """A result in which every net's ratios are 1, but for those named by their profile."""
    rows = [{**recipe._asdict(), "stream": 1.0, "weights": 1.0} for recipe in gradients.RECIPES]
    for name, value in ratios.items():
        recipe = gradients.PROFILES[name]
        rows[gradients.RECIPES.index(recipe)].update(stream=value, weights=value)
    return {"depth": 50, "nets": rows, "profiles": {}, "sigmoid": 1e-6}


def test_the_grid_has_each_net_where_its_row_and_column_say():
    grid = gradients.grid([result()], "none")
    assert grid.shape == (12, 4)
    marked = result()
    recipe = Recipe("tanh", gradients.HE, "none", "scaled")
    marked["nets"][gradients.RECIPES.index(recipe)]["stream"] = 7.0
    grid = gradients.grid([marked], "none")
    assert np.argwhere(grid > 6.9).tolist() == [[6, 2]]
    assert gradients.ROWS[6] == "tanh, √2"


def test_seeds_are_joined_by_their_geometric_mean():
    assert gradients.typical([1e-4, 1e4]) == pytest.approx(1.0)


def test_the_verdicts_can_fail():
    growing = (math.pi / (math.pi - 1)) ** 25

    def told(sigmoid=1e-6, **ratios):
        named = {"plain relu, batch norm": growing, "x + G, relu, batch norm": 5.0, **ratios}
        return [v.holds for v in gradients.judge([{**result(**named), "sigmoid": sigmoid}])]

    good = told()
    assert good == [True, True, False, True, True, True, True]  # nothing explodes here, so the fifth holds
    for number, changes in (
        (0, {"sigmoid": 0.1}),
        (1, {"plain relu, He": 1e-5}),
        (3, {"plain relu, batch norm": 1.0}),
        (4, {"x + F, relu, He": 1e9}),
        (5, {"x + G/√L, relu, He": 1e9}),
        (6, {"x + G, relu, batch norm": 1e9}),
    ):
        assert told(**changes) == [flag and k != number for k, flag in enumerate(good)], changes
