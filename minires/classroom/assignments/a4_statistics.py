"""Wrong statistics: what `statistics` of A4 may return, and what it may do to the running ones."""

from __future__ import annotations

from collections.abc import Callable

from minires.backend import Array
from minires.classroom.assignments.a4_reference import statistics

Pieces = tuple[Array, Array, Array, Array]  # mean, var, running_mean, running_var


def pieces(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
    """What is right."""
    moved = running_mean.copy(), running_var.copy()
    mean, var = statistics(x, *moved, training, momentum)
    return mean, var, *moved


def _moved(formula: Callable[..., tuple[Array, Array]]) -> Callable[..., Pieces]:
    """Running statistics that move otherwise: formula(running_mean, running_var, mean, var, unbiased, momentum)."""

    def wrong(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
        mean, var, *moved = pieces(x, running_mean, running_var, training, momentum)
        if not training:
            return mean, var, moved[0], moved[1]
        m = x.size // x.shape[1]
        return mean, var, *formula(running_mean, running_var, mean, var, var * m / (m - 1), momentum)

    return wrong


def _running_in_training(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
    right = pieces(x, running_mean, running_var, training, momentum)
    return running_mean, running_var, right[2], right[3]


def _moved_in_training(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
    right = pieces(x, running_mean, running_var, training, momentum)
    return right[2], right[3], right[2], right[3]


def _unbiased(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
    mean, var, *moved = pieces(x, running_mean, running_var, training, momentum)
    m = x.size // x.shape[1]
    return mean, var * m / (m - 1) if training else var, moved[0], moved[1]


def _rooted(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
    mean, var, *moved = pieces(x, running_mean, running_var, training, momentum)
    return mean, var**0.5, moved[0], moved[1]


def _batch_at_rest(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
    right = pieces(x, running_mean, running_var, training, momentum)
    batch = pieces(x, running_mean, running_var, True, momentum)
    return batch[0], batch[1], right[2], right[3]


def _moved_at_rest(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
    right = pieces(x, running_mean, running_var, training, momentum)
    moved = pieces(x, running_mean, running_var, True, momentum)
    return right[0], right[1], moved[2], moved[3]


def _returned_after(x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float) -> Pieces:
    if training:
        return pieces(x, running_mean, running_var, training, momentum)
    moved = pieces(x, running_mean, running_var, True, momentum)
    return moved[2], moved[3], moved[2], moved[3]


STATISTICS: tuple[tuple[str, str, Callable[..., Pieces]], ...] = (
    ("BESSEL", "the unbiased variance, where the batch is normalized by the biased one", _unbiased),
    ("VARIANCE_NOT_ROOTED", "the standard deviation, where the variance is asked for", _rooted),
    ("RUNNING_STATISTICS_IN_TRAINING", "the running statistics, before they moved", _running_in_training),
    ("RUNNING_STATISTICS_IN_TRAINING", "the running statistics, after they moved", _moved_in_training),
    ("RUNNING_STATISTICS_NOT_MOVED", "what they were", _moved(lambda rm, rv, m, v, u, k: (rm, rv))),
    (
        "MOMENTUM_SWAPPED",
        "momentum r + (1 - momentum) s, where it is (1 - momentum) r + momentum s",
        _moved(lambda rm, rv, m, v, u, k: (k * rm + (1 - k) * m, k * rv + (1 - k) * u)),
    ),
    (
        "MOMENTUM_SWAPPED",
        "r + momentum s, which only grows: (1 - momentum) is missing",
        _moved(lambda rm, rv, m, v, u, k: (rm + k * m, rv + k * u)),
    ),
    (
        "BIASED_RUNNING_VARIANCE",
        "those of the biased variance, divided by m where the running one has m - 1",
        _moved(lambda rm, rv, m, v, u, k: (rm + k * (m - rm), rv + k * (v - rv))),
    ),
    ("BATCH_STATISTICS_IN_EVAL", "the batch's own", _batch_at_rest),
    ("RUNNING_STATISTICS_IN_EVAL", "what a step of training makes of them", _moved_at_rest),
    ("RUNNING_STATISTICS_IN_EVAL", "the running ones after a step of training", _returned_after),
)
"""(cause, what the wrong piece is, the wrong pieces)."""
