"""Every bug of the zoo is noticed by the proof it names, and a reader learns what it is and how it shows."""

import pytest

from minires import engine
from minires.check.bug import bugs, planted
from minires.check.case import subjects
from minires.check.examine import proofs
from minires.check.mutation.judge import caught, engine_proofs

BUGS = [pytest.param(bug, id=bug.name) for bug in bugs()]
MODULES = {subject.op.__module__ for subject in subjects()} - {"minires.ops.transfer"}


def test_the_zoo_is_large_enough_and_covers_every_family():
    assert len(BUGS) >= 60
    assert {bug.op.__module__ for bug in bugs() if bug.op is not None} == MODULES
    assert sum(bug.op is None for bug in bugs()) >= 10


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_bug_is_noticed_by_the_proof_it_names_whatever_the_seed(bug, seed):
    assert caught(bug, seed=seed).killed_by == bug.killed_by


@pytest.mark.parametrize("bug", BUGS)
def test_without_the_bug_that_proof_holds(bug):
    from minires.check.case import subject_of

    found = engine_proofs() if bug.op is None else proofs(subject_of(bug.op))
    next(proof for proof in found if proof.name == bug.killed_by).run(12, 0, False)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_tells_what_is_wrong_and_how_it_shows(bug):
    assert len(bug.what) > 60
    assert len(bug.symptom) > 20
    assert bug.killed_by != "torch"


@pytest.mark.parametrize("bug", BUGS)
def test_planting_leaves_nothing_behind(bug):
    before = dict(vars(engine))
    with planted(bug):
        assert dict(vars(engine)) != before or bug.op is None
    assert dict(vars(engine)) == before
