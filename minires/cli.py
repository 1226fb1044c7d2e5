"""The `minires` command: what each subcommand calls.

Whatever a subcommand needs is imported when it runs, so that `minires where` and `minires --help` answer at once.
Exit codes: 0 done; 1 the work failed; 2 the request was wrong; 130 stopped by Ctrl-C, as shells expect.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minires.arguments import parser
from minires.errors import DivergedError, RequestError

FAILED, WRONG_REQUEST, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code. Errors a user can cause are one line on stderr."""
    try:
        options = parser().parse_args(arguments)
        handler: Callable[[argparse.Namespace], int] = globals()[options.handler]
        return handler(options)
    except RequestError as error:
        return _complain(error, WRONG_REQUEST)
    except DivergedError as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return _complain("stopped at once, as asked", INTERRUPTED)
    except BrokenPipeError:  # `minires models | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor may closing it complain
        return 0


def _complain(error: object, code: int) -> int:
    print(f"minires: {' '.join(str(error).split())}", file=sys.stderr)
    return code


# --- train


def train(options: argparse.Namespace) -> int:
    """A new run, or the rest of an old one."""
    given = {k: v for k, v in vars(options).items() if k not in ("command", "handler", "resume", "quiet")}
    if options.resume is not None:
        return _resume(Path(options.resume), [k for k, v in given.items() if v is not None], options.quiet)
    from minires.train import config, loop

    given["model_options"] = _model_options(given.pop("option"))
    given["data_options"] = _model_options(given.pop("data_option"), "--data-option")
    return _fit(loop.start(config.create(**given), options.quiet))


def _resume(run: Path, given: list[str], quiet: bool) -> int:
    if given:
        raise RequestError(
            f"--{given[0].replace('_', '-')} cannot be changed in a run that is resumed; drop it, or start a new run"
        )
    from minires.train import config, loop, report, tasks

    summary = report.read_summary(run)
    if summary is not None:
        task = tasks.find(config.load(run / report.CONFIG).data)
        print(f"{run} is finished: {_test_figures(summary, task)}. Nothing to do; see minires eval {run}")
        return 0
    return _fit(loop.resume(run, quiet))


def _fit(trainer: Any) -> int:
    from minires.train import figures
    from minires.train.interrupt import Stopped

    run, config = trainer.run, trainer.config
    size = sum(p.size for p in trainer.parts.model.parameters())
    length = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    if config.recipe != "default":
        length += f" by the recipe {config.recipe}"
    print(f"{config.model} ({size:,} parameters) on {config.data}, {length}; the run is kept in {run}")
    try:
        summary = trainer.fit()
    except Stopped:
        print(f"\nstopped in epoch {trainer.position.epoch + 1}; go on with: minires train --resume {run}")
        return INTERRUPTED
    print(
        f"\n{_test_figures(summary, trainer.task)}, "
        f"with the weights of epoch {summary['best_epoch']} (the best in validation); {summary['seconds']:.0f} s\n"
    )
    print(f"made {run}/")
    print("  best/, last/        weights to use, and where a resumed run would go on")
    print("  metrics.jsonl       loss and figures of every epoch;  summary.json, config.json")
    if figures.available():
        print("  curves.png          how it learned;  gradient_flow.png: how the gradient reached each layer")
    else:
        print("  no figures, since matplotlib is not installed: pip install 'minires[plot]'")
    for file, shows in trainer.made:
        print(f"  {file:18}  {shows}")
    print("\nnext: " + "\n      ".join(trainer.task.next_commands(config, run)))
    return 0


def _test_figures(summary: dict[str, Any], task: Any) -> str:
    """The test figures of a summary: first the one that runs are compared by, and last the loss, if that is not it."""
    found = {key.removeprefix("test_"): value for key, value in summary.items() if key.startswith("test_")}
    keys = sorted(found, key=lambda key: 0 if key == task.best else 2 if key == "loss" else 1)
    return ", ".join(f"test {task.words.get(key, key)} {found[key]:.4f}" for key in keys)


def _model_options(pairs: list[str] | None, flag: str = "--option") -> dict[str, Any]:
    """{"width": 8} of ["width=8"]; true and false may be small, and what is not a Python literal is taken as text."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise RequestError(f"{flag} {pair!r} is not NAME=VALUE, as in --option width=8")
        try:
            found[name] = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (ValueError, SyntaxError):
            found[name] = text
    return found


# --- the others


def evaluate(options: argparse.Namespace) -> int:
    """Loss and figures of a run or a weight file."""
    from minires import data
    from minires.train import judge, tasks

    subject = judge.subject(
        Path(options.subject), options.data, options.model, _model_options(options.option), options.checkpoint
    )
    if not subject.labeled_images:
        for name in ("normalization", "mean", "std", "batch_size"):
            if getattr(options, name) is not None:
                raise RequestError(f"--{name.replace('_', '-')}: {subject.data} has no use for it; drop it")
        found = judge.judge_task(subject, options.device, options.keys)
        shown = _test_figures({f"test_{key}": value for key, value in found.items()}, tasks.find(subject.data))
        print(f"{shown}  (all test data of {subject.data}, {subject.model})")
        return 0
    test = data.load(subject.data).test
    normalization = judge.normalization(subject, test, options.normalization, options.mean, options.std)
    batch_size = 256 if options.batch_size is None else options.batch_size
    found = judge.judge(subject, test, normalization, batch_size, options.device, options.keys)
    of = f"{len(test)} test images of {subject.data}, {subject.model}"
    print(f"accuracy {found['acc']:.4f}  loss {found['loss']:.4f}  ({of})")
    print(f"normalization: {normalization}")
    return 0


def generate(options: argparse.Namespace) -> int:
    """Text from a language model."""
    from minires.train import generate

    generate.run(
        Path(options.run),
        options.prompt,
        options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        greedy=options.greedy,
        seed=options.seed,
        which=options.checkpoint,
        device=options.device,
    )
    return 0


def export(options: argparse.Namespace) -> int:
    """Weights in another format."""
    from minires.train import export

    request = export.Request(
        source=Path(options.source),
        to=Path(options.to),
        model=options.model,
        options=_model_options(options.option),
        keys=options.keys,
        source_keys=options.source_keys,
        checkpoint=options.checkpoint,
        image_size=options.image_size,
    )
    print(export.export(request))
    return 0


def list_models(options: argparse.Namespace) -> int:
    """The table of models."""
    from minires import models

    header = ("name", "family", "parameters", "depth", "skip", "source")
    rows = [models.describe(name) for name in models.names()]
    table: list[tuple[str, ...]] = [
        header,
        *((r.name, r.family, f"{r.parameters:,}", str(r.depth), r.skip, r.source) for r in rows),
    ]
    if options.markdown:
        table.insert(1, ("---", "---", "---:", "---:", "---", "---"))
        print("\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in table))
        return 0
    table = [(*row, source.partition(", ")[0]) for *row, source in table]  # a title is too long for a terminal
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        cells = [c.rjust(w) if c[0].isdigit() else c.ljust(w) for c, w in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
    print("\nparameters as created by default, for as many classes as the data have that the paper trained on")
    return 0


def explain(options: argparse.Namespace) -> int:
    """A backward pass, step by step."""
    from minires.explain import command

    command.run(
        options.subject,
        at=options.at,
        seed=options.seed,
        html=None if options.html is None else Path(options.html),
        svg=None if options.svg is None else Path(options.svg),
        show=options.open,
    )
    return 0


def run_lab(options: argparse.Namespace) -> int:
    """An experiment, or the list of them."""
    from minires.lab import command

    out = None if options.out is None else Path(options.out)
    command.run(options.name, scale=options.scale, seeds=options.seeds, out=out, quiet=options.quiet)
    return 0


def teach(options: argparse.Namespace) -> int:
    """Assignments: hand out, grade, report, solutions."""
    from minires.classroom import command

    if options.action == "hand-out":
        command.hand_out(options.assignment, Path(options.to))
    elif options.action == "grade":
        answer = Path(options.answer)
        complete = command.grade(
            options.assignment, answer, as_json=options.json, seconds=options.seconds, memory_mb=options.memory
        )
        return 0 if complete else FAILED
    elif options.action == "report":
        command.report(Path(options.results), Path(options.out))
    elif options.action == "solutions":
        command.solutions(options.assignment, Path(options.to))
    else:
        command.show_assignments()
    return 0


def find(options: argparse.Namespace) -> int:
    """Where an op is written."""
    from minires.where import Index

    print(Index().find(options.op))
    return 0


def check(options: argparse.Namespace) -> int:
    """Every gradient against every oracle, and whether the checks notice what is broken on purpose."""
    from minires.check import command
    from minires.where import Index

    found = command.find(options.op, lambda name: Index().classes(name))
    if options.zoo:
        command.show_zoo(found)
        return 0
    request = command.Request(
        subjects=found,
        oracles=command.oracles(options.oracle),
        examples=options.examples,
        seed=options.seed,
        mutants=options.mutants,
        sample=options.sample,
        table=None if options.table is None else Path(options.table),
        as_json=options.json,
    )
    return 0 if command.run(request) else FAILED


def examine(options: argparse.Namespace) -> int:
    """What is installed."""
    from minires import doctor

    for line in doctor.examine():
        print(line)
    return 0


def bench(options: argparse.Namespace) -> int:
    """How fast a model trains and answers here, and where the time goes."""
    import json

    from minires import bench

    found = bench.measure(
        options.model,
        options.batch_size,
        _model_options(options.option),
        options.seconds,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(found.as_dict()) if options.json else bench.report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
