"""`minires where`: the line it names is the line where the thing is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minires.errors import RequestError
from minires.where import SYMBOLS, Index


@pytest.fixture(scope="module")
def index():
    return Index()


def line(row):
    return Path(row.path).read_text(encoding="utf-8").splitlines()[row.line - 1].strip()


def rows(answer, what):
    return [row for row in answer.rows if row.what == what]


def test_the_skip_connection(index):
    answer = index.find("residual_add")
    assert line(rows(answer, "formula")[0]).startswith("class ResidualAdd(")
    assert line(rows(answer, "forward")[0]).startswith("def forward(")
    assert line(rows(answer, "gradient")[0]).startswith("def backward(")
    assert line(rows(answer, "functional")[0]).startswith("def residual_add(")
    assert line(rows(answer, "reference")[0]).startswith("def residual_add(")


def test_every_functional_name_leads_to_a_formula_and_its_gradient(index):
    for name, source in index.functional.items():
        if index.ops_of(source):
            answer = index.find(name)
            for row in rows(answer, "gradient"):
                assert line(row).startswith("def backward("), (name, row)
            assert rows(answer, "formula"), name
    assert len(index.functional) > 50


def test_every_op_class_is_found_by_its_own_name(index):
    for op in index.ops:
        assert index.find(op).rows, op


@pytest.mark.parametrize("sign", sorted(SYMBOLS))
def test_operators_are_found_by_their_sign(index, sign):
    assert rows(index.find(sign), "gradient"), sign


@pytest.mark.parametrize("query", ["conv2d", "Conv2d", "F.conv2d", "nn.Conv2d", "CONV2D"])
def test_however_it_is_spelled(index, query):
    assert line(rows(index.find(query), "formula")[0]).startswith("class Conv2d(")


def test_it_leads_to_the_equations_that_derive_the_gradient(index):
    found = rows(index.find("residual_add"), "derivation")
    assert [row.path.name for row in found] == ["t08_skip.py"] * len(found)
    assert r"\tag{8.2}" in line(found[0])
    assert found[0].about == "tutorial 8, (8.2)"


def test_a_layer_leads_to_its_op(index):
    answer = index.find("BatchNorm2d")
    assert any(line(row).startswith("class BatchNorm(") for row in rows(answer, "formula"))
    assert any("nn.BatchNorm2d" in row.about for row in rows(answer, "layer"))


def test_an_unknown_op_is_refused_with_the_nearest_names(index):
    with pytest.raises(RequestError, match="conv2d"):
        index.find("convv2d")
    with pytest.raises(RequestError, match="no op is called 'zzzz'"):
        index.find("zzzz")


def test_without_the_repository_it_says_where_the_tests_are(index):
    installed = Index()
    installed.tests = installed.tutorials = Path("nowhere")
    answer = installed.find("residual_add")
    assert not rows(answer, "tests")
    assert "in the repository" in str(answer)


def test_the_command_answers_after_a_second_of_work_at_most():
    """In the processor's seconds, which a busy machine does not lengthen; where children are not timed, they are 0."""
    times = []
    for _ in range(3):
        before = os.times()
        command = [sys.executable, "-m", "minires.cli", "where", "conv2d"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        times.append(os.times().children_user - before.children_user)
    assert "Conv2d.backward" in shown
    assert min(times) < 1
