"""What assignment A4 asks for and the library has in two places: the statistics a batch norm normalizes by.

In the library `functional.batch_norm` chooses them and `BatchNorm` shows the batch's to a callback. Here they are one
function on plain arrays.
"""

from __future__ import annotations

from minires.backend import Array


def statistics(
    x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float = 0.1
) -> tuple[Array, Array]:
    """The mean and the variance that batch norm normalizes x by; in training the running ones move towards them.

    Shapes    x: (N, C, *); running_mean, running_var, and what is returned: (C,)
    Training  returned are the batch's own: mean and biased variance of each channel, over the m numbers it has
              running_mean <- (1 - momentum) running_mean + momentum mean
              running_var <- (1 - momentum) running_var + momentum var m / (m - 1), which is unbiased
              both in place, in the arrays that were given
    At rest   returned are the running ones, and they stay as they are
    Source    Ioffe and Szegedy 2015, Batch Normalization, algorithm 2
    """
    if not training:
        return running_mean, running_var
    axes = (0, *range(2, x.ndim))
    m = x.size // x.shape[1]
    mean, var = x.mean(axes), x.var(axes)
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * m / (m - 1) - running_var)
    return mean, var
