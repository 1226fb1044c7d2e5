"""The graph: well-formed SVG, boxes apart, lines from box to box, and the tape's numbers beside them."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from minires import explain
from minires.engine import Tensor
from minires.explain.graph import MOST, content
from minires.explain.layout import arranged

SVG = "{http://www.w3.org/2000/svg}"
EXPRESSIONS = ["x + tanh(w * x)", "x*x*x + x", "(a*b + c*d) * (a + c) + tanh(a*d) * b"]
WALKS = [*explain.BLOCKS, "conv2d", "cat", "unbind", "where"]


def walk_of(name):
    if name in explain.BLOCKS:
        return explain.block(name)
    return explain.expression(name) if " " in name or "*" in name else explain.op(name)


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.?\d*", text)]


def boxes(root):
    return [
        tuple(float(rect.get(k)) for k in ("x", "y", "width", "height"))
        for rect in root.iter(f"{SVG}rect")
        if rect.get("class") != "ground"
    ]


def on_border(x, y, box):
    left, top, width, height = box
    return left - 0.2 <= x <= left + width + 0.2 and min(abs(y - top), abs(y - top - height)) < 0.2


@pytest.mark.parametrize("name", [*WALKS, *EXPRESSIONS])
def test_boxes_stand_apart_and_every_line_runs_from_box_to_box(name):
    root = ElementTree.fromstring(walk_of(name).svg())
    found = boxes(root)
    for (ax, ay, aw, ah), (bx, by, bw, bh) in itertools.combinations(found, 2):
        assert ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay
    lines = [p for p in root.iter(f"{SVG}path") if (p.get("class") or "").split()[:1] in (["forward"], ["gradient"])]
    lines = [p for p in lines if "C" in p.get("d")]  # those of the legend are straight
    assert lines
    for line in lines:
        points = numbers(line.get("d"))
        for x, y in (points[:2], points[-2:]):
            assert any(on_border(x, y, box) for box in found)
        assert points[1] < points[-1]  # values run down


@pytest.mark.parametrize("name", [*WALKS, *EXPRESSIONS])
def test_no_label_is_cut_off_or_lies_on_a_box(name):
    root = ElementTree.fromstring(walk_of(name).svg())
    width = float(root.get("width"))
    for label in (t for t in root.iter(f"{SVG}text") if "label" in (t.get("class") or "")):
        left, y = float(label.get("x")), float(label.get("y")) - 4
        right = left + 7.2 * len(label.text)
        assert left >= 0
        assert right <= width
        for bx, by, bw, bh in boxes(root):
            assert not (left < bx + bw and bx < right and by < y < by + bh)


@pytest.mark.parametrize("name", [*WALKS, *EXPRESSIONS])
def test_every_step_is_a_box_and_every_contribution_a_line_with_its_length(name):
    walk = walk_of(name)
    nodes, lines = content(walk)
    assert [n.step for n in nodes.values() if n.kind == "step"] == [s.number for s in walk.steps]
    terms = [t for s in walk.steps for t in s.terms]
    assert {id(line.term) for line in lines if line.term} == {id(t) for t in terms}
    labels = [t.text for t in ElementTree.fromstring(walk.svg()).iter(f"{SVG}text") if "label" in t.get("class", "")]
    assert sorted(labels) == sorted(line.label for line in lines if line.label)
    assert len(labels) == len(terms)


def test_a_plus_stands_where_gradients_meet_and_nowhere_else():
    walk = explain.expression("x + tanh(w * x)")
    root = ElementTree.fromstring(walk.svg())
    assert len([g for g in root.iter(f"{SVG}g") if g.get("class") == "plus"]) == 1
    assert {n for n, node in content(walk)[0].items() if node.plus} == {"x"}
    assert "x now has 2 contributions" in root.find(f"{SVG}desc").text


def test_skip_and_branch_differ_in_more_than_color():
    style = explain.block().svg()
    dashes = dict(re.findall(r"\.gradient\.(skip|branch) \{[^}]*stroke-dasharray: ([^;]+);", style))
    assert dashes["skip"] != dashes["branch"]
    assert "skip |g|" in style
    assert "branch |g|" in style


def test_a_long_walk_shows_its_last_steps():
    x = Tensor(np.array(0.3), requires_grad=True)
    y = x
    for _ in range(2 * MOST):
        y = y * 1.01
    walk = explain.backward(y, names={"x": x})
    assert sum(n.kind == "step" for n in content(walk)[0].values()) == MOST
    ElementTree.fromstring(walk.svg())


@pytest.mark.parametrize("seed", range(8))
def test_any_graph_can_be_arranged(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    sizes = {k: (float(rng.uniform(30, 160)), float(rng.uniform(20, 60))) for k in range(n)}
    edges = [(int(rng.integers(0, b)), b, 40.0) for b in range(1, n) for _ in range(rng.integers(0, 4))]
    drawing = arranged(sizes, edges)
    for a, b in itertools.combinations(drawing.boxes.values(), 2):
        assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top
    for (a, b, _), bends in zip(edges, drawing.bends, strict=True):
        assert drawing.boxes[a].bottom < drawing.boxes[b].top
        for x, top, bottom in bends:
            others = [box for box in drawing.boxes.values() if box.top < bottom and top < box.bottom]
            assert all(not box.left < x < box.right for box in others)
    for box in drawing.boxes.values():
        assert 0 <= box.left < box.right <= drawing.width
        assert 0 <= box.top < box.bottom <= drawing.height
