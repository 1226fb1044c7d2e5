"""`minires check`: every gradient against every oracle, every law, and the bugs that must be noticed."""

from __future__ import annotations

import difflib
import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minires.check import report
from minires.check.bug import bugs
from minires.check.case import Subject, subjects
from minires.check.examine import EXAMPLES, examine
from minires.check.mutation.judge import Verdict, caught, engine_proofs, judged, noticed
from minires.check.mutation.mutants import fingerprint, places
from minires.check.oracles import ORACLES, has_torch
from minires.errors import RequestError


@dataclass(frozen=True)
class Request:
    """What is to be checked, and how.

    Attributes
        subjects   the ops; None: all of them, and the engine
        oracles    which ones; None: all, and the laws and bugs too
        examples   random cases an oracle
        seed       of the cases, and of the sample
        mutants    also break every line of every backward
        sample     only so many of these mutants, drawn by the seed
        table      write the whole score to this file, as Markdown
        as_json    one JSON object instead of a table
    """

    subjects: Sequence[Subject] | None = None
    oracles: Sequence[str] | None = None
    examples: int = EXAMPLES
    seed: int = 0
    mutants: bool = False
    sample: int | None = None
    table: Path | None = None
    as_json: bool = False


def run(request: Request) -> bool:
    """Checks and prints; says whether all was well. Raises RequestError for a request that makes no sense."""
    if request.table is not None and (not request.mutants or request.sample is not None or request.subjects):
        raise RequestError("--table keeps the whole score, so it needs --mutants, and neither --sample nor an OP")
    if request.table is not None and not request.table.parent.is_dir():
        raise RequestError(f"cannot write {request.table}: there is no folder {request.table.parent}; make it first")
    if request.sample is not None and not request.mutants:
        raise RequestError("--sample draws from the mechanical mutants, so it needs --mutants")
    if request.mutants and request.oracles is not None:
        raise RequestError("--mutants is judged by all checks together, so it takes no --oracle")
    verdicts = _verdicts(request) if request.mutants else None
    wanted = request.subjects or subjects()
    wide = report.names_width(wanted)
    if not request.as_json:
        print(report.head(wide))
    entries = [_check(subject, request, verdicts, wide) for subject in wanted]
    engine = _engine(request) if request.subjects is None and request.oracles is None else None
    if request.as_json:
        print(json.dumps({"ops": entries, **({} if engine is None else {"engine": engine})}, indent=1))
    else:
        print(report.summary(entries, engine))
    if request.table is not None and verdicts is not None:
        zoo = [(each, noticed(each)) for each in _progress(bugs(), len(bugs()), "bugs")]
        _write(request.table, report.page(verdicts, zoo, fingerprint(places())))
    return all(each["passed"] for each in [*entries, *([] if engine is None else [engine])])


def find(names: Sequence[str], resolve: Callable[[str], Sequence[str]]) -> list[Subject] | None:
    """The subjects of these names: public names, class names, or classes that `resolve` knows a name to use.

    Returns None for no names. Raises RequestError with the nearest names when one is unknown.
    """
    if not names:
        return None
    by_name = {key: s for s in subjects() for key in (s.name, s.op.__name__.lower())}
    found: dict[str, Subject] = {}
    for name in names:
        keys = [name.lower()] if name.lower() in by_name else [op.lower() for op in resolve(name)]
        keys = [key for key in keys if key in by_name]
        if not keys:
            close = difflib.get_close_matches(name, by_name, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "minires check without names checks them all"
            raise RequestError(f"no op under check is called {name!r}; {hint}")
        found |= {by_name[key].name: by_name[key] for key in keys}
    return list(found.values())


def oracles(names: Sequence[str] | None) -> list[str] | None:
    """These names, if they are oracles and can be asked. Raises RequestError."""
    for name in names or ():
        if name not in ORACLES:
            raise RequestError(f"no oracle is called {name!r}; there are {', '.join(ORACLES)}")
        if name == "torch" and not has_torch():
            raise RequestError("the oracle torch needs PyTorch, which is not installed: pip install 'minires[torch]'")
    return list(names) if names else None


def show_zoo(wanted: Sequence[Subject] | None) -> None:
    """Prints every bug, or those of some ops."""
    ops = None if wanted is None else {s.op for s in wanted}
    print("\n\n".join(report.described(each) for each in bugs() if ops is None or each.op in ops))


def _check(
    subject: Subject, request: Request, verdicts: Sequence[Verdict] | None, wide: tuple[int, int]
) -> dict[str, Any]:
    found = examine(subject.op, oracles=request.oracles, examples=request.examples, seed=request.seed)
    zoo = [] if request.oracles is not None else [caught(each) for each in bugs(subject.op)]
    mine = None if verdicts is None else [v for v in verdicts if subject.name in v.ops]
    if not request.as_json:
        print(report.row(found, zoo, mine, wide=wide), flush=True)
    return report.entry(found, zoo, mine)


def _engine(request: Request) -> dict[str, Any]:
    """The engine's own laws and its broken relatives."""
    held, failures = [], []
    for proof in engine_proofs():
        try:
            proof.run(request.examples, request.seed, False)
            held.append(proof.name)
        except Exception as error:
            failures.append(f"{proof.name}: {error}")
    zoo = [caught(each) for each in bugs() if each.op is None]
    missed = [v.name for v in zoo if v.survived]
    return {
        "laws": held,
        "bugs": {"planted": len(zoo), "noticed": len(zoo) - len(missed)},
        "passed": not failures and not missed,
        "failures": failures + [f"not noticed: {name}" for name in missed],
    }


def _verdicts(request: Request) -> list[Verdict]:
    of = None if request.subjects is None else {s.name for s in request.subjects}
    return judged(of, sample=request.sample, seed=request.seed, progress=functools.partial(_progress, what="mutants"))


def _progress(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """The same items, with a bar on a terminal."""
    from tqdm import tqdm

    return tqdm(items, what, total, leave=False, disable=not sys.stderr.isatty())


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    half = path.with_name(path.name + ".part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
