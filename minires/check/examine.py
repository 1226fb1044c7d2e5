"""`check_op`: one op against every oracle, every invariant and every law about it.

report = check_op("conv2d")    raises CheckError at the first thing that is wrong, with the case that shows it
report = examine("conv2d")     collects everything instead: what `minires check` prints
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minires.check.case import Case, Op, Subject, subject_of
from minires.check.draw import Draw, for_each
from minires.check.evidence import TOLERANCE, CheckError
from minires.check.invariants import INVARIANTS
from minires.check.law import Law, all_laws
from minires.check.oracles import ORACLES, answer
from minires.switches import formulas_only

EXAMPLES = 12


@dataclass
class Found:
    """What one oracle said of one op: the largest relative error over all cases, or why it was not asked."""

    name: str
    max_rel_error: float | None
    reason: str = ""


@dataclass
class OpReport:
    """Everything that was found out about one op."""

    op: str
    inputs: list[str]
    oracles: list[Found] = field(default_factory=list)
    invariants: list[str] = field(default_factory=list)
    laws: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.failures


@dataclass(frozen=True)
class Proof:
    """One thing to be proved of an op; `run` raises CheckError when it is not so."""

    name: str
    kind: str  # "oracle", "invariant" or "law"
    run: Callable[[int, int, bool], Any]  # (examples, seed, shrink)


def check_op(
    op: Op,
    *,
    oracles: Sequence[str] | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    shrink: bool = False,
) -> OpReport:
    """Proves an op's backward, or raises CheckError naming the oracle, invariant or law, and the case.

    op         its class, its public name, or the function of that name in `minires.functional`
    oracles    which ones (see `ORACLES`); all by default
    examples   how many random cases each of them sees
    shrink     let hypothesis draw the cases, and tell a failure on the smallest shapes that show it
    """
    report = _empty(subject_of(op))
    for proof in proofs(subject_of(op), oracles):
        _enter(report, proof, proof.run(examples, seed, shrink))
    return report


def examine(op: Op, *, oracles: Sequence[str] | None = None, examples: int = EXAMPLES, seed: int = 0) -> OpReport:
    """As `check_op`, but what is wrong is collected in the report's `failures`."""
    report = _empty(subject_of(op))
    for proof in proofs(subject_of(op), oracles):
        try:
            _enter(report, proof, proof.run(examples, seed, False))
        except CheckError as error:
            report.failures.append(f"{proof.name}: {error}")
        except Exception as error:  # a wrong backward may fail in any way, and that is a finding too
            report.failures.append(f"{proof.name}: {type(error).__name__}: {error}")
    return report


def proofs(subject: Subject, oracles: Sequence[str] | None = None) -> Iterator[Proof]:
    """All that is to be proved, oracles first."""
    for name in ORACLES if oracles is None else oracles:
        yield Proof(name, "oracle", _oracle(subject, name))
    if oracles is not None:
        return
    for name, invariant in INVARIANTS.items():
        yield Proof(name, "invariant", _on_cases(subject, invariant))
    for each in all_laws(subject.op):
        yield Proof(each.name, "law", of_law(each))


def _empty(subject: Subject) -> OpReport:
    return OpReport(subject.name, subject.inputs)


def _enter(report: OpReport, proof: Proof, result: Any) -> None:
    if proof.kind == "oracle":
        report.oracles.append(result)
    else:
        (report.invariants if proof.kind == "invariant" else report.laws).append(proof.name)


def _oracle(subject: Subject, name: str) -> Callable[[int, int, bool], Found]:
    def run(examples: int, seed: int, shrink: bool) -> Found:
        worst, why_not, seen, expected = 0.0, "", set(), set()
        asked = False

        def one(draw: Draw) -> None:
            nonlocal worst, why_not, asked
            case = subject.draw(draw)
            rng = np.random.default_rng(draw.rng.integers(2**32))
            try:
                evidence = ORACLES[name](subject, case, answer(subject, case, rng), rng)
                if evidence is None:
                    why_not = why_not or case.why_not
                    return
                asked = True
                for piece in evidence:
                    expected.add(piece.name)
                    if not piece.error() <= TOLERANCE[name]:
                        raise CheckError(f"{piece.told()} (relative error {piece.error():.2g})")
                    worst = max(worst, piece.error())
                    if piece.expected.size and piece.blind_to(TOLERANCE[name]) is None:
                        seen.add(piece.name)
            except CheckError as error:
                raise CheckError(f"{subject.name}{case}: {error}") from None

        with formulas_only():
            for_each(one, examples, seed, shrink)
        if blind := sorted(expected - seen):
            raise CheckError(f"{subject.name}: this check cannot see the gradient of {', '.join(blind)}")
        return Found(name, worst if asked else None, why_not)

    return run


def _on_cases(subject: Subject, invariant: Callable[[Subject, Case, Draw], None]) -> Callable[[int, int, bool], None]:
    def one(draw: Draw) -> None:
        case = subject.draw(draw)
        try:
            invariant(subject, case, draw)
        except CheckError as error:
            raise CheckError(f"{subject.name}{case}: {error}") from None

    def run(examples: int, seed: int, shrink: bool) -> None:
        with formulas_only():
            for_each(one, examples, seed, shrink)

    return run


def of_law(law: Law) -> Callable[[int, int, bool], None]:
    """How a law is put to the proof."""

    def run(examples: int, seed: int, shrink: bool) -> None:
        with formulas_only():
            for_each(law.test, examples, seed, shrink)

    return run
