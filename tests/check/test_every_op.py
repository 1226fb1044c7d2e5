"""Every op against every oracle, invariant and law, on cases that hypothesis draws (and shrinks, should one fail).

How many cases depends on the profile: 10 a proof by default and in CI, 100 with `--hypothesis-profile=deep`.
"""

import importlib
import inspect
import pkgutil

import pytest
from hypothesis import settings

import minires.ops
from minires.check.case import subjects
from minires.check.evidence import TOLERANCE
from minires.check.examine import check_op, examine
from minires.engine import Function

SUBJECTS = [pytest.param(subject, id=subject.name) for subject in subjects()]
FORWARD_ONLY = {"OneHot"}  # integers in, so there is no gradient to check


def ops():
    for found in pkgutil.iter_modules(minires.ops.__path__):
        module = importlib.import_module(f"minires.ops.{found.name}")
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, Function) and value.__module__ == module.__name__:
                yield value


def test_no_op_is_left_out():
    concrete = {
        op.__name__ for op in ops() if op.backward is not Function.backward and op.forward is not Function.forward
    }
    assert concrete - FORWARD_ONLY == {subject.op.__name__ for subject in subjects()} - FORWARD_ONLY


def test_no_two_ops_go_by_one_name():
    names = [subject.name for subject in subjects()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_all_oracles_invariants_and_laws_hold(subject):
    check_op(subject.op, examples=max(1, settings.default.max_examples // 10), shrink=True)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_three_oracles_without_pytorch_agree_to_nine_digits(subject):
    named = [name for name in TOLERANCE if name != "torch"]
    said = examine(subject.op, oracles=named, examples=12, seed=3)
    assert said.failures == []
    agreeing = [found.name for found in said.oracles if found.max_rel_error is not None and found.max_rel_error <= 1e-9]
    assert len(agreeing) >= 3, agreeing


@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_op_without_complex_step_says_why(subject):
    said = {found.name: found for found in examine(subject.op, oracles=["complex-step"], examples=12).oracles}
    assert said["complex-step"].max_rel_error is not None or len(said["complex-step"].reason) > 20
