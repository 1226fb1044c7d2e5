"""The mutation score: mutants are real changes, planted and taken out again, and the kept table is of this code."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from minires.check.bug import bugs
from minires.check.mutation import equivalent
from minires.check.mutation.judge import judged
from minires.check.mutation.mutants import fingerprint, mutants, mutated, places
from minires.check.mutation.operators import changes
from minires.errors import RequestError
from minires.ops.residual import PadChannels, ResidualAdd

TABLE = Path(__file__).resolve().parents[2] / "tutorials" / "site" / "mutation-score.md"


@pytest.fixture(scope="module")
def everything():
    return mutants()


def changed(source):
    """What each change makes of a one-line backward."""
    function = ast.parse(f"def backward(self, gy):\n    return {source}").body[0]
    return {c.after.removeprefix("return ") for c in changes(function)}


def test_a_change_is_of_every_kind_that_gradients_suffer_from():
    assert {"(gy - x, x)", "(gy, x)", "(x, gy + x)", "(-(gy + x), x)", "((gy + x) * 1.1, x)"} <= changed("gy + x, x")
    assert {"w @ gy", "gy @ w * 1.1"} <= changed("gy @ w")
    assert {"gy.sum(axis=1)", "gy.sum()", "gy.mean(axis=0)"} <= changed("gy.sum(axis=0)")
    assert {"xp.where(x >= 0, gy, 0)", "gy", "xp.where(x > 0, 0, gy)"} <= changed("xp.where(x > 0, gy, 0)")
    assert "x" in changed("swap(x)")
    assert "x" in changed("x.real")


def test_every_mutant_differs_from_the_original_and_compiles(everything):
    for mutant in everything:
        assert ast.unparse(mutant.change.function) != ast.unparse(mutant.place.tree())
        compile(ast.Module([mutant.change.function], []), "mutant", "exec")


def test_every_backward_is_mutated(everything):
    found = {mutant.place.qualified for mutant in everything}
    assert found == {place.qualified for place in places()}
    assert len(everything) > 1500


def test_a_mutant_is_in_place_for_the_length_of_a_block_only():
    right = ResidualAdd.backward
    for mutant in mutants({"residual_add"}):
        with mutated(mutant):
            assert ResidualAdd.backward is not right
        assert ResidualAdd.backward is right


def test_a_seeded_sample_of_mutants_is_noticed():
    verdicts = judged(sample=40, seed=7, workers=1)
    assert [v.name for v in verdicts if v.survived] == []


def test_no_proof_is_about_a_line_that_is_gone(everything):
    assert set(equivalent.PROOFS) <= {m.key for m in everything}
    assert all(len(proof) > 30 for proof in equivalent.PROOFS.values())


def test_a_proof_of_equality_that_a_check_contradicts_is_told(monkeypatch):
    monkeypatch.setattr("minires.check.mutation.judge.why_equivalent", lambda mutant: "nothing is different, surely")
    verdicts = judged({"residual_add"}, workers=1)
    assert all(v.wrong.startswith("proved equal, and yet adjoint notices it: residual.ResidualAdd") for v in verdicts)


def test_without_a_sound_op_there_is_no_score(monkeypatch):
    def backward(self, gy):
        return np.zeros(self.shape)

    monkeypatch.setattr(PadChannels, "backward", backward)
    with pytest.raises(RequestError, match="pad_channels fails adjoint without any mutant"):
        judged({"pad_channels"}, workers=1)


def test_the_kept_table_is_of_this_code(everything):
    """After a change to a backward: minires check --mutants --table tutorials/site/mutation-score.md."""
    page = TABLE.read_text(encoding="utf-8")
    assert f"`{fingerprint(places())}`" in page
    total, killed, equal, survived = map(
        int, re.search(r"mutants: (\d+)\. Noticed: (\d+)\. .* original: (\d+)\. Survived: (\d+)", page).groups()
    )
    assert total == len(everything) == killed + equal + survived
    assert killed >= 0.99 * (total - equal)
    assert survived == 0
    assert f"Bug zoo: {len(bugs())} of {len(bugs())} noticed" in page
