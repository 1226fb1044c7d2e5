"""Whether the checks notice: every mutant, and every bug of the zoo, against `check_op`'s proofs."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from minires.check.bug import Bug, planted
from minires.check.case import Subject, subject_of
from minires.check.examine import EXAMPLES, Proof, of_law, proofs
from minires.check.law import all_laws
from minires.check.mutation.equivalent import why_equivalent
from minires.check.mutation.mutants import Mutant, mutants, mutated
from minires.errors import RequestError

FIRST = ("adjoint", "complex-step", "index-loops", "composed", "central")  # in the order of their cost
PATIENCE = 60.0  # seconds after which a mutant that runs forever counts as noticed


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant or bug.

    Attributes
        name        what was planted
        place       the function changed, as in "conv.Conv2d.backward"; for a bug, its op
        ops         the ops it takes part in, by their public names
        killed_by   the proof that noticed; None: nobody did
        proof       why it is equal to the original, if it is
    """

    name: str
    place: str
    ops: tuple[str, ...]
    killed_by: str | None
    proof: str | None = None

    @property
    def survived(self) -> bool:
        """Neither noticed nor proved equal."""
        return self.killed_by is None and self.proof is None

    @property
    def equal(self) -> bool:
        """Not noticed, and proved equal to the original."""
        return self.killed_by is None and self.proof is not None

    @property
    def wrong(self) -> str | None:
        """What speaks against the checks, or against the proof of equality; None if nothing does."""
        if self.survived:
            return f"not noticed: {self.name}"
        if self.killed_by is not None and self.proof is not None:
            return f"proved equal, and yet {self.killed_by} notices it: {self.name}"
        return None


def judged(
    of: set[str] | None = None,
    *,
    sample: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[Any, int], Any] = lambda verdicts, total: verdicts,
) -> list[Verdict]:
    """Every mutant (of the ops named), or a seeded `sample` of them, before the checks.

    Raises RequestError when the checks fail without any mutant, for then they would say nothing.
    """
    everything = mutants(of)
    chosen = np.arange(len(everything))
    if sample is not None and sample < len(everything):
        chosen = np.sort(np.random.default_rng(seed).choice(len(everything), sample, replace=False))
    for subject in {s.op: s for k in chosen for s in everything[k].place.served}.values():
        if killer := _first_to_notice(_ordered(subject), EXAMPLES, 0):
            raise RequestError(
                f"{subject.name} fails {killer} without any mutant, so a score would mean nothing; "
                f"run minires check {subject.name} first"
            )
    count = workers or max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if count == 1 or len(chosen) < 20:
        return list(progress((_verdict(everything[k]) for k in chosen), len(chosen)))
    with ProcessPoolExecutor(count, get_context("spawn"), _prepare, (of,)) as pool:
        return list(progress(pool.map(_numbered, map(int, chosen), chunksize=4), len(chosen)))


def noticed(bug: Bug, examples: int = EXAMPLES, seed: int = 0) -> list[str]:
    """Every proof that notices a bug of the zoo."""
    with planted(bug):
        return [proof.name for proof in _candidates(bug) if _first_to_notice([proof], examples, seed)]


def caught(bug: Bug, examples: int = EXAMPLES, seed: int = 0) -> Verdict:
    """Whether the proof that a bug names notices it, or else any other."""
    named = sorted(_candidates(bug), key=lambda proof: proof.name != bug.killed_by)
    with planted(bug):
        killer = _first_to_notice(named, examples, seed)
    op = subject_of(bug.op).name if bug.op is not None else "engine"
    return Verdict(bug.name, op, (op,), killer)


def _candidates(bug: Bug) -> list[Proof]:
    return _ordered(subject_of(bug.op)) if bug.op is not None else engine_proofs()


def engine_proofs() -> list[Proof]:
    """The laws of the engine itself."""
    return [Proof(each.name, "law", of_law(each)) for each in all_laws() if not each.ops]


_everything: list[Mutant] = []


def _prepare(of: set[str] | None) -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    _everything[:] = mutants(of)


def _numbered(k: int) -> Verdict:
    return _verdict(_everything[k])


def _verdict(mutant: Mutant) -> Verdict:
    with mutated(mutant):
        killer = next(
            (
                found
                for examples, seed in ((EXAMPLES, 0), (4 * EXAMPLES, 1))  # a survivor is looked at more closely
                for subject in mutant.place.served
                if (found := _first_to_notice(_ordered(subject), examples, seed))
            ),
            None,
        )
    served = tuple(subject.name for subject in mutant.place.served)
    return Verdict(str(mutant), mutant.place.qualified, served, killer, why_equivalent(mutant))


def _ordered(subject: Subject) -> list[Proof]:
    """The quick oracles first; PyTorch is left out, so that the score is the same where there is none."""
    found = [proof for proof in proofs(subject) if proof.name != "torch"]
    return sorted(found, key=lambda proof: FIRST.index(proof.name) if proof.name in FIRST else len(FIRST))


def _first_to_notice(candidates: Sequence[Proof], examples: int, seed: int) -> str | None:
    """The first proof that fails, in whatever way: a wrong shape or a crash is noticed as well as a wrong number."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), _patience():
        warnings.simplefilter("ignore")
        for proof in candidates:
            try:
                proof.run(examples, seed, False)
            except Exception:
                return proof.name
    return None


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """TimeoutError after PATIENCE seconds, where the system can interrupt."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
