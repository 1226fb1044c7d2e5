"""Runs that tests compare: what they measured and kept, how to stop one within an epoch, and how one is refused."""

import json

import numpy as np

from minires.cli import main
from minires.train import checkpoint, report


def measured(folder):
    """metrics.jsonl and summary.json without timings, as text: equal means byte for byte."""
    lines = (folder / report.METRICS).read_text().splitlines()
    records = [*map(json.loads, lines), json.loads((folder / report.SUMMARY).read_text())]
    return [
        json.dumps({k: v for k, v in r.items() if k != "seconds" and not k.endswith("_per_second")}) for r in records
    ]


def assert_same_run(a, b):
    """Both measured the same and ended with the same weights, optimizer and generator, bit for bit."""
    assert measured(a) == measured(b)
    for name in ("last", "best"):
        ours, theirs = checkpoint.load(a / name), checkpoint.load(b / name)
        assert ours.model.keys() == theirs.model.keys()
        for key, array in ours.model.items():
            assert array.tobytes() == theirs.model[key].tobytes(), (name, key)
        assert ours.state["generator"] == theirs.state["generator"]
        assert ours.state["gradient_flow"] == theirs.state["gradient_flow"]
        for parameter, held in ours.optimizer["state"].items():
            for key, value in held.items():
                assert np.array_equal(value, theirs.optimizer["state"][parameter][key])


def stop_after(trainer, steps):
    """Presses Ctrl-C, so to say, after so many batches."""
    taken = 0
    step = trainer.parts.optimizer.step

    def counted():
        nonlocal taken
        step()
        taken += 1
        trainer.interrupts.asked |= taken == steps

    trainer.parts.optimizer.step = counted


def refused(arguments, capsys):
    """What the one line says with which the command turns a request down."""
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minires: ")
    assert error.count("\n") == 1, error
    return error
