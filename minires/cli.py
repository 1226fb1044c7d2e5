"""The `minires` command: its options, and what each subcommand calls.

Whatever a subcommand needs is imported when it runs, so that `minires where` and `minires --help` answer at once.
Exit codes: 0 done; 1 the work failed; 2 the request was wrong; 130 stopped by Ctrl-C, as shells expect.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from minires import __version__
from minires.errors import DivergedError, RequestError

FAILED, WRONG_REQUEST, INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line like all others, not a page of usage with the error below it."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; {self.prog} --help shows what there is")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code. Errors a user can cause are one line on stderr."""
    try:
        options = parser().parse_args(arguments)
        return options.handler(options)
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
    from minires.train import loop, report

    summary = report.read_summary(run)
    if summary is not None:
        print(f"{run} is finished: {_figures(summary)}. Nothing to do; see minires eval {run}")
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
        f"\n{_figures(summary)}, "
        f"with the weights of epoch {summary['best_epoch']} (the best in validation); {summary['seconds']:.0f} s\n"
    )
    print(f"made {run}/")
    print("  best/, last/        weights to use, and where a resumed run would go on")
    print("  metrics.jsonl       loss and accuracy of every epoch;  summary.json, config.json")
    if figures.available():
        print("  curves.png          how it learned;  gradient_flow.png: how the gradient reached each layer")
    else:
        print("  no figures, since matplotlib is not installed: pip install 'minires[plot]'")
    for file, shows in trainer.made:
        print(f"  {file:18}  {shows}")
    print("\nnext: " + "\n      ".join(trainer.task.next_commands(config, run)))
    return 0


def _figures(summary: dict[str, Any]) -> str:
    """The test figures of a summary, the loss last."""
    found = {key.removeprefix("test_"): value for key, value in summary.items() if key.startswith("test_")}
    loss = found.pop("loss")
    return ", ".join(f"test {'accuracy' if k == 'acc' else k} {v:.4f}" for k, v in {**found, "loss": loss}.items())


def _model_options(pairs: list[str] | None, flag: str = "--option") -> dict[str, Any]:
    """{"width": 8} of ["width=8"]; what is not a Python literal is taken as text."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise RequestError(f"{flag} {pair!r} is not NAME=VALUE, as in --option width=8")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


# --- the others


def evaluate(options: argparse.Namespace) -> int:
    """Loss and accuracy of a run or a weight file."""
    from minires import data
    from minires.train import judge

    subject = judge.subject(
        Path(options.subject), options.data, options.model, _model_options(options.option), options.checkpoint
    )
    test = data.load(subject.data).test
    normalization = judge.normalization(subject, test, options.normalization, options.mean, options.std)
    found = judge.judge(subject, test, normalization, options.batch_size, options.device)
    of = f"{len(test)} test images of {subject.data}, {subject.model}"
    print(f"accuracy {found['acc']:.4f}  loss {found['loss']:.4f}  ({of})")
    print(f"normalization: {normalization}")
    return 0


def list_models(options: argparse.Namespace) -> int:
    """The table of models."""
    from minires import models

    rows = [models.describe(name) for name in models.names()]
    skips = max(len(row.skip) for row in rows)
    print(f"{'name':16} {'parameters':>12} {'depth':>6}  {'skip':{skips}}  source")
    for row in rows:
        print(f"{row.name:16} {row.parameters:>12,} {row.depth:>6}  {row.skip:{skips}}  {row.source}")
    print("\nparameters as created by default, e.g. for 10 classes of 3 x 32 x 32 images")
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


# --- options


def parser() -> Parser:
    """The command line. A default of None means: the data set's own (`train/config.py`)."""
    top = Parser(
        prog="minires",
        description="Train, evaluate and look into residual networks, with every gradient in plain sight.",
        epilog="Start with: minires train        (a small ResNet on the shipped digits, offline, about a minute)",
    )
    top.add_argument("--version", action="version", version=f"minires {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _train_options(
        _command(commands, "train", train, "train a model; without options, a small ResNet on digits", TRAIN)
    )
    _eval_options(_command(commands, "eval", evaluate, "loss and accuracy of a run or a weight file", EVAL))
    _command(commands, "models", list_models, "every model: parameters, depth, skip, source", "")
    _check_options(_command(commands, "check", check, "every gradient against every oracle", CHECK))
    _bench_options(_command(commands, "bench", bench, "how fast training is here, and where the time goes", BENCH))
    where = _command(commands, "where", find, "file:line of an op's formula, gradient, kernel, tests", WHERE)
    where.add_argument("op", metavar="OP", help="conv2d, BatchNorm2d, cross_entropy, + , @ ...")
    _command(commands, "doctor", examine, "what is installed, what is missing, what to type", "")
    return top


TRAIN = """examples:
  minires train
  minires train --data mnist --model resnet8 --epochs 3
  minires train --data cifar10 --model resnet20 --epochs 10 --out runs/cifar
  minires train --data cifar10 --recipe fast
  minires train --resume runs/cifar       after Ctrl-C: goes on as if it had never stopped

recipes, sets of defaults for a data set; an option beside --recipe wins over it:
  default    the defaults named above
  fast       as accurate as a given time allows on two cores
             cifar10: near 90 % in an hour       resnet20, 24 epochs, batch 128, lr 0.2, rising for 0.3 of them
             mnist: 99.4 % in five minutes       resnet8, 4 epochs, batch 64, lr 0.2, rising for 0.1 of them
             both: one-cycle, Nesterov, weight decay 0.0005, augmentation, 0.05 held out for validation

The best epoch on the held-out validation images is tested once, at the end.
exit codes: 0 done, 1 the loss was no longer finite, 2 the request was wrong, 130 stopped by Ctrl-C"""
EVAL = """examples:
  minires eval runs/digits-resnet8-1
  minires eval resnet20-cifar10.safetensors --data cifar10 --model resnet20

Images are scaled to [0, 1], less a mean, over a deviation. Weights that minires trained know theirs: the data set's.
Other weight files are taken to expect ImageNet's (0.485 0.456 0.406 and 0.229 0.224 0.225), as published ones mostly
do, on color images, and the data set's on grey ones. The line printed last says which were used."""
CHECK = """examples:
  minires check                              all ops: to how many digits each oracle agrees with backward
  minires check conv2d batch_norm            only these
  minires check conv2d --oracle adjoint      only by this oracle: complex-step, adjoint, central,
                                             index-loops, composed, torch (where it is installed)
  minires check --zoo                        the bug zoo: what people get wrong, and what notices it
  minires check --mutants --sample 200       breaks 200 lines of the gradients on purpose; all must be noticed

exit codes: 0 every gradient is proved, 1 one is wrong or a bug was not noticed, 2 the request was wrong"""
BENCH = """examples:
  minires bench
  minires bench --model resnet56 --batch-size 64
  minires bench --model mlp --json > mlp.json
  MINIRES_KERNELS=off minires bench       what the kernels are worth

Training is a step of SGD with momentum on random images: medians, memory, and a table of ops, forward and backward.
In a checkout, python -m tests.benchmarks compares with PyTorch, JAX and others."""
WHERE = """examples:
  minires where conv2d
  minires where LayerNorm
  minires where +1"""


def _command(commands: Any, name: str, handler: Any, summary: str, epilog: str) -> Parser:
    made = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(handler=handler)
    return made


def _train_options(p: Parser) -> None:
    what = p.add_argument_group("what to train")
    what.add_argument(
        "--data", metavar="NAME", help="digits, mnist, fashion-mnist, cifar10, cifar100 (default: digits)"
    )
    what.add_argument("--model", metavar="NAME", help="see minires models (default: resnet8; resnet20 for CIFAR)")
    what.add_argument(
        "--option", metavar="K=V", action="append", help="a model's own option, as in width=8; repeatable"
    )
    what.add_argument(
        "--data-option", metavar="K=V", action="append", help="the data's own option, as in tokenizer=bpe:512"
    )
    what.add_argument("--recipe", metavar="NAME", help="default or fast, see below; other options win over it")
    how = p.add_argument_group("how")
    how.add_argument("--epochs", type=int, metavar="N", help="default: digits 15, mnist 3, fashion-mnist 5, CIFAR 10")
    how.add_argument("--batch-size", type=int, metavar="N", help="default: 128; digits 32, mnist 64")
    how.add_argument(
        "--lr", type=float, metavar="X", help="highest learning rate (default: 0.1; digits 0.2; 0.001 but for sgd)"
    )
    how.add_argument("--optimizer", metavar="NAME", help="sgd, adam, adamw, rmsprop (default: sgd)")
    how.add_argument("--momentum", type=float, metavar="X", help="of sgd and rmsprop (default: 0.9)")
    how.add_argument(
        "--nesterov", action=argparse.BooleanOptionalAction, default=None, help="Nesterov's momentum (default: off)"
    )
    how.add_argument("--weight-decay", type=float, metavar="X", help="default: 0.0001; digits 0.0005")
    how.add_argument("--schedule", metavar="NAME", help="none, step, multistep, cosine, one-cycle (default: one-cycle)")
    how.add_argument(
        "--pct-start", type=float, metavar="X", help="share of one-cycle in which the rate rises (default: 0.3)"
    )
    how.add_argument("--warmup-epochs", type=float, metavar="X", help="rise linearly to --lr first (default: 0)")
    how.add_argument("--label-smoothing", type=float, metavar="X", help="default: 0")
    how.add_argument("--clip-norm", type=float, metavar="X", help="longest gradient a step may take (default: any)")
    how.add_argument(
        "--augment", action=argparse.BooleanOptionalAction, default=None, help="default: only for CIFAR, crop and flip"
    )
    how.add_argument(
        "--val-fraction", type=float, metavar="X", help="held out for validation (default: 0.1; digits 0.2)"
    )
    how.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same run (default: 0)")
    how.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cpu)")
    where = p.add_argument_group("where")
    where.add_argument("--out", metavar="DIR", help="a new directory (default: runs/DATA-MODEL-N)")
    where.add_argument("--resume", metavar="DIR", help="go on with this run, with its own options, to its end")
    where.add_argument("--quiet", action="store_true", help="no progress bar")


def _bench_options(p: Parser) -> None:
    p.add_argument("--model", default="resnet20", metavar="NAME", help="see minires models (default: resnet20)")
    p.add_argument("--option", metavar="K=V", action="append", help="a model's own option, as in width=8; repeatable")
    p.add_argument("--batch-size", type=int, default=128, metavar="N", help="default: 128")
    p.add_argument("--seconds", type=float, default=6.0, metavar="X", help="to time training for (default: 6)")
    p.add_argument("--json", action="store_true", help="one JSON object instead of the tables")


def _check_options(p: Parser) -> None:
    p.add_argument("op", metavar="OP", nargs="*", help="conv2d, BatchNorm, cross_entropy ... (default: all)")
    p.add_argument("--oracle", metavar="NAME", action="append", help="only this one, without laws; repeatable")
    p.add_argument("--examples", type=_positive, default=12, metavar="N", help="random cases a proof (default: 12)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of the random cases (default: 0)")
    p.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    p.add_argument("--zoo", action="store_true", help="show the bugs instead of checking")
    p.add_argument("--mutants", action="store_true", help="also break every line of every backward (minutes)")
    p.add_argument("--sample", type=_positive, metavar="N", help="only N of these mutants, drawn by --seed")
    p.add_argument("--table", metavar="FILE", help="keep the whole score as a page of Markdown")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _eval_options(p: Parser) -> None:
    p.add_argument("subject", metavar="RUN_OR_WEIGHTS", help="a run directory, or a .safetensors or .npz file")
    p.add_argument("--data", metavar="NAME", help="the data set whose test images are used (default: the run's)")
    p.add_argument("--model", metavar="NAME", help="what the weights are of (default: the run's)")
    p.add_argument("--option", metavar="K=V", action="append", help="a model's own option, as in width=8; repeatable")
    p.add_argument("--checkpoint", metavar="NAME", default="best", help="of a run: best or last (default: best)")
    p.add_argument("--normalization", metavar="NAME", help="imagenet or dataset (default: see below)")
    p.add_argument("--mean", type=float, nargs="+", metavar="X", help="one number a channel, with --std")
    p.add_argument("--std", type=float, nargs="+", metavar="X", help="one number a channel, with --mean")
    p.add_argument("--batch-size", type=int, default=256, metavar="N", help="default: 256")
    p.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda (default: cpu)")


if __name__ == "__main__":
    sys.exit(main())
