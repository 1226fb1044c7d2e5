"""minires beside other frameworks: `python -m tests.benchmarks`, from the root of a checkout.

Each framework computes the same work on the same weights and inputs, in a process of its own with the same number of
threads and cores. What they compute is compared before it is timed; whoever computes something else drops out. Then
one repetition by one of them follows another by the next, in rounds that begin with another each time.

Times are medians of one call, after warm-up and compilation. A call of 50 ms or less is done once untimed before it is
timed, so that caches hold what they hold in a training loop. Peaks are resident bytes that the work adds, at most, to
what a fresh process held once framework, weights and inputs were there (`memory.py` tells how they are read).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import race, report, scaling
from tests.benchmarks.items import GROUPS, ITEMS
from tests.benchmarks.peers import CANDIDATES, PEERS
from tests.benchmarks.process import Failed, Worker, cores, interpreters

EXAMPLES = """examples:
  python -m tests.benchmarks                             all but the single ops, with every framework that is here
  python -m tests.benchmarks resnet20-step ops --peers torch
  python -m tests.benchmarks blocks --python chainer=PATH --python dezero=PATH
  python -m tests.benchmarks --scaling depth --peers none
  python -m tests.benchmarks --json bench.json --figure bench.png --table
  python -m tests.benchmarks --from bench.json --table   the README's table again, without measuring

frameworks: torch jax mygrad autograd tinygrad from PyPI (tinygrad compiles with clang); chainer 7.8.1 and dezero need
NumPy below 1.24, so an environment with Python 3.9, named by --python or by MINIRES_BENCH_PYTHON="chainer=PATH
dezero=PATH". What is not installed is named and left out. minires takes part as installed, with its NumPy kernels
only (MINIRES_FAST=off) and with its formulas only (MINIRES_KERNELS=off)."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="minires beside other frameworks: the same work, in alternation, in separate processes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("items", nargs="*", metavar="ITEM", help=f"items or groups ({', '.join(GROUPS)}) or all; see --list")
    p.add_argument("--list", action="store_true", help="show the items and stop")
    p.add_argument("--peers", metavar="A,B", help=f"of {', '.join(PEERS[1:])}; none (default: all that are installed)")
    p.add_argument("--variants", metavar="A,B", help="of minires: default, numpy, formulas (default: all)")
    p.add_argument(
        "--python", metavar="PEER=PATH", action="append", default=[], help="a peer's interpreter; repeatable"
    )
    p.add_argument("--rounds", type=int, default=15, metavar="N", help="repetitions by each candidate (default: 15)")
    p.add_argument(
        "--seconds", type=float, default=15.0, metavar="X", help="that a slow one may take on an item (default: 15)"
    )
    p.add_argument("--threads", type=int, default=cores(), metavar="N", help="of each (default: all cores)")
    p.add_argument(
        "--limit", type=float, default=180.0, metavar="X", help="seconds to wait for an answer (default: 180)"
    )
    p.add_argument("--no-memory", dest="memory", action="store_false", help="do not measure peak memory")
    p.add_argument(
        "--scaling", nargs="?", const="all", choices=[*scaling.AXES, "all"], help="minires alone, over growing sizes"
    )
    p.add_argument("--json", metavar="FILE", type=Path, help="keep all that was measured")
    p.add_argument("--figure", metavar="FILE", type=Path, help="draw it, as PNG or SVG (needs matplotlib)")
    p.add_argument("--table", action="store_true", help="print the README's table, in Markdown")
    p.add_argument("--from", dest="kept", metavar="FILE", type=Path, help="measure nothing: take what --json kept")
    return p


def main(arguments: list[str] | None = None) -> int:
    p = parser()
    options = p.parse_args(arguments)
    try:
        if options.list:
            for item in ITEMS.values():
                print(f"{item.name:25} {item.group:14} {item.what}")
            return 0
        kept = read(options.kept) if options.kept else Comparison(options).run()
        if options.table:
            print(report.markdown(kept))
        if options.figure:
            from tests.benchmarks import figure

            figure.draw(kept, options.figure)
    except (ValueError, OSError, ImportError) as error:
        p.error(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def read(path: Path) -> dict[str, Any]:
    """What --json kept. Raises ValueError for another kind of file."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(kept, dict) or not {"machine", "items", "candidates"} <= kept.keys():
        raise ValueError(f"{path} is not a file that --json wrote")
    return kept


class Comparison:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        if options.rounds < 1 or options.threads < 1 or not options.seconds > 0:
            raise ValueError("--rounds and --threads must be at least 1, --seconds above 0")
        for path in (options.json, options.figure):
            if path and not path.parent.is_dir():
                raise ValueError(f"{path}: there is no such folder")
        self.options = options
        self.items = chosen_items(options.items, bool(options.scaling))
        self.names = chosen_candidates(options.peers, options.variants)
        given = shlex.split(os.environ.get("MINIRES_BENCH_PYTHON", "")) + options.python
        self.pythons = interpreters(given)
        self.settings = race.Settings(options.rounds, options.seconds)
        self.workers: dict[str, Worker] = {}

    def start(self, name: str) -> Worker:
        """A fresh worker for a candidate. Raises Failed."""
        return Worker(name, self.pythons[CANDIDATES[name].peer], self.options.threads, self.options.limit)

    def run(self) -> dict[str, Any]:
        """Measures, prints tables as they come, and returns what the JSON keeps."""
        began = time.time()
        kept: dict[str, Any] = {
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "machine": {**machine(), "threads": self.options.threads},
            "settings": vars(self.settings),
            "items": {},
            "scaling": {},
        }
        try:
            kept["candidates"] = self._start_all()
            for name in self.items:
                kept["items"][name] = self._item(name)
                self._keep(kept, began)
        finally:
            for worker in self.workers.values():
                worker.close()
        axes = {"all": list(scaling.AXES), None: []}.get(self.options.scaling, [self.options.scaling])
        for axis in axes:
            kept["scaling"][axis] = scaling.run(axis, self.start, self.settings, self.options.memory, say)
            self._keep(kept, began)
        return kept

    def _keep(self, kept: dict[str, Any], began: float) -> None:
        """Writes what there is so far: a long run that is stopped has not been for nothing."""
        kept["minutes"] = (time.time() - began) / 60
        if self.options.json:
            self.options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")

    def _start_all(self) -> dict[str, dict[str, str]]:
        """Starts a worker for every candidate that is installed; their versions."""
        versions: dict[str, dict[str, str]] = {}
        if not self.items:
            return versions
        for name in list(self.names):
            label = CANDIDATES[name].label
            try:
                self.workers[name] = self.start(name)
            except Failed as why:
                say(f"{label}: left out: {why}")
                self.names.remove(name)
                continue
            versions[name] = self.workers[name].versions
            if name == "minires-numpy" and versions[name] == versions.get("minires"):
                say(f"{label}: left out: the same as minires as installed, which has no compiled kernels here")
                self.workers.pop(name).close()
                versions.pop(name)
                self.names.remove(name)
                continue
            say(f"{label}: " + ", ".join(f"{k} {v}" for k, v in versions[name].items()))
        say("")
        return versions

    def _item(self, name: str) -> dict[str, Any]:
        item = ITEMS[name]
        names = [n for n in self.names if item.images or not CANDIDATES[n].images]
        racing = {n: worker for n in names if (worker := self._alive(n)) is not None}
        requests = {n: {"name": name} for n in racing}
        outcomes = race.race(racing, requests, self.settings, "minires-formulas", lambda line: None)
        if self.options.memory and item.memory:
            for n in [n for n, outcome in outcomes.items() if outcome.seconds]:
                self._memory(n, name, outcomes[n])
        for line in report.lines(f"{name}: {item.what}", item.batch, outcomes):
            say(line)
        say("")
        return {
            "what": item.what,
            "kind": item.kind,
            "batch": item.batch,
            "candidates": {n: outcome.as_dict() for n, outcome in outcomes.items()},
        }

    def _alive(self, name: str) -> Worker | None:
        """The candidate's worker, a new one where the old one died."""
        if not self.workers[name].alive:
            self.workers[name].close()
            try:
                self.workers[name] = self.start(name)
            except Failed as why:
                say(f"{name}: could not be started again: {why}")
                return None
        return self.workers[name]

    def _memory(self, name: str, item: str, outcome: race.Outcome) -> None:
        try:
            worker = self.start(name)
            try:
                race.measure_memory(worker, {"name": item}, outcome)
            finally:
                worker.close()
        except Failed as why:
            say(f"{name}: no peak memory: {why}")


def chosen_items(given: list[str], scaling_only: bool) -> list[str]:
    """Names of items. Raises ValueError for one that does not exist."""
    if not given:
        return [] if scaling_only else [n for n, item in ITEMS.items() if item.group != "ops"]
    found: list[str] = []
    for word in given:
        matching = [n for n, item in ITEMS.items() if word in (n, item.group, "all")]
        if not matching:
            raise ValueError(f"there is no item or group {word!r}; --list shows all")
        found += [n for n in matching if n not in found]
    return found


def chosen_candidates(peers: str | None, variants: str | None) -> list[str]:
    """Names of candidates, minires first. Raises ValueError for one that does not exist."""
    ours = {"default": "minires", "numpy": "minires-numpy", "formulas": "minires-formulas"}
    found = [ours[v] for v in _words("--variants", variants, list(ours))]
    wanted = [] if peers == "none" else _words("--peers", peers, list(PEERS[1:]))
    return found + [name for name, candidate in CANDIDATES.items() if candidate.peer in wanted]


def _words(option: str, given: str | None, known: list[str]) -> list[str]:
    words = known if given is None else [word.strip() for word in given.split(",")]
    for word in words:
        if word not in known:
            raise ValueError(f"{option} {word!r}: there are {', '.join(known)}")
    return words


def machine() -> dict[str, Any]:
    """What this ran on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = named[0] if named else cpu
    return {"cpu": cpu, "cores": cores(), "system": platform.platform()}


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
