"""The options of the `minires` command: what each subcommand takes, and what its --help says.

Handlers are named, not imported, so that `minires --help` answers at once; `cli.py` holds them.
"""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from minires import __version__
from minires.errors import RequestError


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line like all others, not a page of usage with the error below it."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; {self.prog} --help shows what there is")


def parser() -> Parser:
    """The command line; `options.handler` is the name of a function in `cli.py`.

    A default of None means: the data set's own (`train/config.py`, `train/tasks/`).
    """
    top = Parser(
        prog="minires",
        description="Train, evaluate and look into residual networks, with every gradient in plain sight.",
        epilog="Start with: minires train        (a small ResNet on the shipped digits, offline, about a minute)",
    )
    top.add_argument("--version", action="version", version=f"minires {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _train_options(
        _command(commands, "train", "train", "train a model; without options, a small ResNet on digits", TRAIN)
    )
    _eval_options(_command(commands, "eval", "evaluate", "loss and figures of a run or a weight file", EVAL))
    _generate_options(_command(commands, "generate", "generate", "text from a run on shakespeare", GENERATE))
    _export_options(_command(commands, "export", "export", "weights in another format or under other names", EXPORT))
    _models_options(_command(commands, "models", "list_models", "every model: parameters, depth, skip, source", ""))
    _check_options(_command(commands, "check", "check", "every gradient against every oracle", CHECK))
    _bench_options(_command(commands, "bench", "bench", "how fast training is here, and where the time goes", BENCH))
    _explain_options(_command(commands, "explain", "explain", "a backward pass, step by step", EXPLAIN))
    _lab_options(_command(commands, "lab", "run_lab", "an experiment: numbers, figure, verdict", LAB))
    _class_options(_command(commands, "class", "teach", "assignments: hand out, grade, report, solutions", CLASS))
    where = _command(commands, "where", "find", "file:line of an op's formula, gradient, kernel, tests", WHERE)
    where.add_argument("op", metavar="OP", help="conv2d, BatchNorm2d, cross_entropy, + , @ ...")
    _command(commands, "doctor", "examine", "what is installed, what is missing, what to type", "")
    return top


TRAIN = """examples:
  minires train
  minires train --data mnist --model resnet8 --epochs 3
  minires train --data cifar10 --model resnet20 --epochs 10 --out runs/cifar
  minires train --data cifar10 --recipe fast
  minires train --resume runs/cifar       after Ctrl-C: goes on as if it had never stopped

data, and what learns them unless --model says otherwise:
  digits mnist fashion-mnist              resnet8             which digit, which piece of clothing
  cifar10 cifar100                        resnet20            what is in the picture
  shakespeare                             gpt_char            the next character; see minires generate
  copy reverse sort copy-reverse-sort     transformer_tiny    strings from strings, written symbol by symbol
  masked                                  bert_tiny           the hidden digits of sums such as 27+15=42
  nuclei blobs                            unet                which pixels are cells; blobs are made, nuclei are real
  tones                                   conformer_tiny      which word was spoken, in two tones and noise
  gridworld                               policy_value_tower  the way to the goal, by reinforcement
All but mnist, fashion-mnist, cifar10, cifar100, shakespeare and nuclei come with minires or are made by it. The first
two lines are learned by sgd, gridworld by adam, the rest by adamw.
--data-option, as in: tokenizer=bpe:512 steps=500 (shakespeare), crop=128 (nuclei, blobs), sequences=2000 (tones),
size=7 walls=0.3 (gridworld)

recipes, sets of defaults for a data set; an option beside --recipe wins over it:
  default    the defaults named above
  fast       as accurate as a given time allows on two cores
             cifar10: near 90 % in an hour       resnet20, 24 epochs, batch 128, lr 0.2, rising for 0.3 of them
             mnist: 99.4 % in five minutes       resnet8, 4 epochs, batch 64, lr 0.2, rising for 0.1 of them
             both: one-cycle, Nesterov, weight decay 0.0005, augmentation, 0.05 held out for validation

The best epoch on the validation data, which are never trained on, is tested once, at the end.
exit codes: 0 done, 1 the loss was no longer finite, 2 the request was wrong, 130 stopped by Ctrl-C"""
EVAL = """examples:
  minires eval runs/digits-resnet8-1
  minires eval resnet20-cifar10.safetensors --data cifar10 --model resnet20

  minires eval runs/shakespeare-gpt_char-1

Images with labels are scaled to [0, 1], less a mean, over a deviation. Weights that minires trained know theirs: the
data set's. Other weight files are taken to expect ImageNet's (0.485 0.456 0.406 and 0.229 0.224 0.225), as published
ones mostly do, on color images, and the data set's on grey ones. The line printed last says which were used."""
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
GENERATE = """examples:
  minires generate runs/shakespeare-gpt_char-1
  minires generate runs/shakespeare-gpt_char-1 --prompt "ROMEO:" --tokens 300 --temperature 0.7
  minires generate runs/shakespeare-gpt_char-1 --greedy

The same seed gives the same text. The vocabulary is the run's own, so the data set is not needed."""
EXPORT = """examples:
  minires export runs/cifar --to resnet20.onnx
  minires export runs/cifar --to resnet20.safetensors
  minires export resnet50.pth --model resnet50 --source-keys torchvision --to resnet50.npz
  minires export runs/shakespeare-gpt_char-1 --to gpt.safetensors --keys huggingface

The suffix of --to says the format. ONNX is for models of images, in evaluation mode, with any number of images."""
EXPLAIN = """examples:
  minires explain                              a residual block, forward and backward
  minires explain "x + tanh(w * x)" --at x=0.5 w=2
  minires explain -- "-x * exp(x)"             -- in front of one that begins with a minus
  minires explain conv2d                       an op, on small random numbers
  minires explain preact                       a block: skip, basic, bottleneck, preact, prenorm, postnorm
  minires explain batch_norm --html norm.html  the same as one page, with the graph
  minires explain skip --open                  the figure of the skip connection, in the browser

Every step: the op, its formula with the numbers in it, shapes, |g|, who receives it, and where gradients meet."""
LAB = """examples:
  minires lab                                  what experiments there are
  minires lab degradation                      one of them, in seconds
  minires lab degradation --scale full --seeds 5 --out runs/degradation
  minires lab all                              all of them at smoke scale

Each writes NAME.json (the numbers), NAME.png (the figure) and NAME.html (both, with the verdict) into --out."""
CLASS = """examples:
  minires class hand-out A5 --to A5            a student's folder: one file to edit, statement, hints, rubric
  minires class grade A5 A5                    the score, and what went wrong where
  minires class grade A5 A5 --json > ada.json
  minires class report results --out class.html
  minires class solutions A5 --to solutions

All of it works offline. The answer runs in a process of its own, with limits of time and memory."""
WHERE = """examples:
  minires where conv2d
  minires where LayerNorm
  minires where +1"""


def _command(commands: Any, name: str, handler: str, summary: str, epilog: str) -> Parser:
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
        "--data", metavar="NAME", help="digits, mnist, cifar10, shakespeare ...; see below (default: digits)"
    )
    what.add_argument("--model", metavar="NAME", help="see minires models (default: see below)")
    what.add_argument(
        "--option", metavar="K=V", action="append", help="a model's own option, as in width=8; repeatable"
    )
    what.add_argument(
        "--data-option", metavar="K=V", action="append", help="the data's own option, as in tokenizer=bpe:512"
    )
    what.add_argument("--recipe", metavar="NAME", help="default or fast, see below; other options win over it")
    how = p.add_argument_group("how")
    how.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="default: digits 15, mnist 3, fashion-mnist 5, CIFAR 10, others see config.json",
    )
    how.add_argument("--batch-size", type=int, metavar="N", help="default: 128; digits 32, mnist 64")
    how.add_argument(
        "--lr", type=float, metavar="X", help="highest learning rate (default: 0.1; digits 0.2; 0.001 but for sgd)"
    )
    how.add_argument("--optimizer", metavar="NAME", help="sgd, adam, adamw, rmsprop (default: see below)")
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
    how.add_argument("--label-smoothing", type=float, metavar="X", help="not for gridworld (default: 0)")
    how.add_argument("--clip-norm", type=float, metavar="X", help="longest gradient a step may take (default: any)")
    how.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="of images (default: only CIFAR, nuclei and blobs)",
    )
    how.add_argument(
        "--val-fraction", type=float, metavar="X", help="of images, held out for validation (default: 0.1; digits 0.2)"
    )
    how.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same run (default: 0)")
    how.add_argument("--device", metavar="NAME", help="cpu or cuda (default: cpu)")
    where = p.add_argument_group("where")
    where.add_argument("--out", metavar="DIR", help="a new directory (default: runs/DATA-MODEL-N)")
    where.add_argument("--resume", metavar="DIR", help="go on with this run, with its own options, to its end")
    where.add_argument("--quiet", action="store_true", help="no progress bar")


def _generate_options(p: Parser) -> None:
    p.add_argument("run", metavar="RUN", help="a run directory of a language model")
    p.add_argument("--prompt", default="\n", metavar="TEXT", help="what the text begins with (default: a new line)")
    p.add_argument("--tokens", type=int, default=500, metavar="N", help="how many to write (default: 500)")
    p.add_argument("--temperature", type=float, default=0.8, metavar="X", help="below 1: safer (default: 0.8)")
    p.add_argument("--top-k", type=int, metavar="K", help="only from the K likeliest tokens (default: any)")
    p.add_argument("--top-p", type=float, metavar="P", help="only from the likeliest that make up P (default: any)")
    p.add_argument("--greedy", action="store_true", help="always the likeliest token")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    p.add_argument("--checkpoint", metavar="NAME", default="best", help="best or last (default: best)")
    p.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda (default: cpu)")


def _export_options(p: Parser) -> None:
    p.add_argument("source", metavar="RUN_OR_WEIGHTS", help="a run directory, or a weight file of any library")
    p.add_argument("--to", required=True, metavar="FILE", help=".onnx, .safetensors, .npz or .pt")
    p.add_argument("--model", metavar="NAME", help="what the weights are of (default: what they say themselves)")
    p.add_argument("--option", metavar="K=V", action="append", help="a model's own option, as in num_classes=100")
    p.add_argument("--keys", default="minires", metavar="NAME", help="whose names to write (default: minires)")
    p.add_argument("--source-keys", metavar="NAME", help="whose names the source has (default: found out)")
    p.add_argument("--checkpoint", metavar="NAME", default="best", help="of a run: best or last (default: best)")
    p.add_argument("--image-size", type=int, metavar="N", help="for ONNX (default: the run's, or the model's usual)")


def _models_options(p: Parser) -> None:
    p.add_argument("--markdown", action="store_true", help="as a page of Markdown")


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


def _explain_options(p: Parser) -> None:
    p.add_argument("subject", nargs="?", metavar="SUBJECT", help="an expression, an op, block or skip (default: block)")
    p.add_argument("--at", nargs="+", default=[], metavar="NAME=X", help="an expression's numbers (default: drawn)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (default: 0)")
    p.add_argument("--html", metavar="FILE", help="also as one page that needs nothing else")
    p.add_argument("--svg", metavar="FILE", help="also the graph alone")
    p.add_argument("--open", action="store_true", help="show the page in the browser")


def _lab_options(p: Parser) -> None:
    p.add_argument("name", nargs="?", metavar="NAME", help="the experiment, or all (default: list them)")
    p.add_argument("--scale", default="smoke", metavar="NAME", help="smoke: seconds; full: minutes (default: smoke)")
    p.add_argument("--seeds", type=_positive, metavar="N", help="how many seeds, 0 to N - 1 (default: the scale's)")
    p.add_argument("--out", metavar="DIR", help="where to keep what it makes (default: runs/lab-NAME-N)")
    p.add_argument("--quiet", action="store_true", help="no progress bar")


def _class_options(p: Parser) -> None:
    p.set_defaults(action=None)
    actions = p.add_subparsers(dest="action", metavar="ACTION")

    def add(name: str, summary: str, assignment: bool = True) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        if assignment:
            action.add_argument("assignment", metavar="NAME", help="A1, A4, A5; see minires class")
        return action

    for name, summary in (("hand-out", "a student's folder"), ("solutions", "the answers, for teachers")):
        add(name, summary).add_argument("--to", required=True, metavar="DIR", help="a new folder")
    grade = add("grade", "score an answer, and name its mistakes")
    grade.add_argument("answer", metavar="DIR", help="the student's folder, or the one file in it")
    grade.add_argument("--json", action="store_true", help="one JSON object instead of the report")
    grade.add_argument("--seconds", type=float, default=60.0, metavar="X", help="limit of time (default: 60)")
    grade.add_argument("--memory", type=_positive, default=1024, metavar="MB", help="limit of memory (default: 1024)")
    report = add("report", "a class at a glance, as one page", assignment=False)
    report.add_argument("results", metavar="DIR", help="a folder of results: grade --json > DIR/STUDENT.json")
    report.add_argument("--out", default="report.html", metavar="FILE", help="default: report.html")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def _eval_options(p: Parser) -> None:
    p.add_argument(
        "subject", metavar="RUN_OR_WEIGHTS", help="a run directory, or a weight file: .safetensors, .npz, .pt, .th"
    )
    p.add_argument("--data", metavar="NAME", help="the data set to test on (default: the run's)")
    p.add_argument("--model", metavar="NAME", help="what the weights are of (default: the run's)")
    p.add_argument("--option", metavar="K=V", action="append", help="a model's own option, as in width=8; repeatable")
    p.add_argument("--keys", metavar="NAME", help="whose names the weights have, as torchvision (default: found out)")
    p.add_argument("--checkpoint", metavar="NAME", default="best", help="of a run: best or last (default: best)")
    p.add_argument("--normalization", metavar="NAME", help="imagenet or dataset (default: see below)")
    p.add_argument("--mean", type=float, nargs="+", metavar="X", help="one number a channel, with --std")
    p.add_argument("--std", type=float, nargs="+", metavar="X", help="one number a channel, with --mean")
    p.add_argument("--batch-size", type=int, metavar="N", help="of images with labels (default: 256)")
    p.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda (default: cpu)")
