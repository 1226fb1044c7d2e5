"""Measuring residual networks: one experiment a file.

    from minires import lab

    outcome = lab.run("skip")              # numbers of each seed, and verdicts on published claims
    outcome.save("runs/skip")              # skip.json, skip.png, skip.html

`minires lab` does the same from the command line. What the experiments measure with is public, for tutorials to use:
`from minires.lab import stream`, and so on.
"""

from minires.lab.experiment import Experiment, Table, Verdict, experiments, find
from minires.lab.outcome import Outcome, run

__all__ = ["Experiment", "Outcome", "Table", "Verdict", "experiments", "find", "run"]
