"""The mistakes of A4, the norms."""

from __future__ import annotations

from minires.classroom.assignment import Cause

MISTAKES: dict[str, Cause] = {
    "MEAN_TERM_DROPPED": Cause(
        "the mean was taken for a constant: gx is not orthogonal to 1",
        "tutorial 6, (6.2)",
        (
            "Add the same number to the whole set. What does xhat do, and what does that say about gx?",
            "mu is the mean of x: which dx moves it?",
            "A term - mean(gxhat) is missing: the sum of gx over a set is 0.",
        ),
    ),
    "VARIANCE_TERM_DROPPED": Cause(
        "sigma was taken for a constant: gx is not orthogonal to xhat",
        "tutorial 6, (6.3)",
        (
            "Multiply the whole set by 2 (eps aside). What does xhat do, and what does that say about gx?",
            "sigma^2 = var + eps: which dx moves it?",
            "A term - xhat mean(gxhat xhat) is missing.",
        ),
    ),
    "STATISTICS_AS_CONSTANTS": Cause(
        "mean and sigma were taken for constants: this is the gradient at rest, not in training",
        "tutorial 6, (6.4)",
        (
            "Does y depend on x in one place, or in three?",
            "mu and sigma are made of x, too. Each adds a term.",
            "gx = P gxhat / sigma, where P takes away what lies along 1 and along xhat.",
        ),
    ),
    "WRONG_SIGN": Cause(
        "a term of gx has the wrong sign",
        "tutorial 6, (6.5)",
        (
            "A projection takes something away.",
            "Check that the sum of gx over a set is 0, and then that the sum of gx xhat is.",
            "gx = (gxhat - mean(gxhat) - xhat mean(gxhat xhat)) / sigma: two minus signs.",
        ),
    ),
    "VARIANCE_TERM_DOUBLED": Cause(
        "the variance's part counts twice: a 2 was not cancelled by the 1/2 of the root",
        "tutorial 6, (6.3)",
        (
            "What is the derivative of sqrt(v)?",
            "d var = 2 mean((x - mu) dx), and d sigma = d var / (2 sigma).",
            "So d sigma = mean(xhat dx): the 2 is gone.",
        ),
    ),
    "WRONG_AXIS": Cause(
        "the means are taken over the wrong axes",
        "tutorial 6, (6.1)",
        (
            "Which numbers share a mean?",
            "Batch norm: one channel, over N and all positions. Layer norm: one row, over its features.",
            "For (N, C, H, W) batch norm's axes are (0, 2, 3), and m = N H W.",
        ),
    ),
    "GAIN_FORGOTTEN": Cause(
        "w has no part in gx (or in y), which is right only where w = 1",
        "tutorial 6, (6.5)",
        (
            "Try w = 2. What should gx do?",
            "y = w xhat + b. What reaches xhat, when gy reaches y?",
            "gxhat = w gy is what is projected.",
        ),
    ),
    "GAIN_TWICE": Cause(
        "w is multiplied in twice",
        "tutorial 6, (6.5)",
        (
            "Try w = 2. What does gx do, and what should it do?",
            "How many of the factors of your gx hold w?",
            "With gxhat = w gy inside there is no w outside.",
        ),
    ),
    "GAIN_OUTSIDE_THE_MEANS": Cause(
        "w was drawn out of the means, as in batch norm; in layer norm it varies within a set",
        "tutorial 6, (6.10)",
        (
            "Is w one number for a set, or one for each entry?",
            "mean(w gy) is w mean(gy) only where w is the same for the whole set.",
            "Multiply first, gxhat = w gy, and take the means of that.",
        ),
    ),
    "GAIN_GRADIENT_WRONG": Cause(
        "gw is not the sum of gy xhat",
        "tutorial 6, (6.6)",
        (
            "What does w meet in forward?",
            "Not x, not y, not w: it meets xhat.",
            "gw = sum(gy xhat), over all that share this w.",
        ),
    ),
    "BIAS_GRADIENT_SUMMED_WRONG": Cause(
        "gb (or gw) is a mean, or holds a factor that does not belong there; it is the sum of gy (of gy xhat)",
        "tutorial 6, (6.6)",
        (
            "How many entries of y does one b move?",
            "Each of them adds its gy; nothing is divided.",
            "gb = sum(gy) over N and all positions, without w and without 1 / m.",
        ),
    ),
    "BESSEL": Cause(
        "m - 1 where it should be m: the unbiased variance belongs to the running statistics alone",
        "tutorial 6, (6.3)",
        (
            "By what does forward divide the sum of squares?",
            "Look at a set of two numbers: is gx orthogonal to xhat (but for eps)?",
            "Batch norm and layer norm divide by m, forward and backward.",
        ),
    ),
    "EPS_OUTSIDE_ROOT": Cause(
        "sigma = sqrt(var) + eps, where it is sqrt(var + eps)",
        "tutorial 6, (6.1)",
        (
            "Compare your sigma with the one of the docstring, for var = 0.",
            "With eps = 0.25 the difference is easy to see.",
            "eps stands under the root, beside the variance.",
        ),
    ),
    "EPS_FORGOTTEN": Cause(
        "eps has no part in sigma",
        "tutorial 6, (6.1)",
        (
            "What does your code do where all numbers of a set are equal?",
            "Where is self.eps used?",
            "sigma = sqrt(var + eps), in forward and in backward.",
        ),
    ),
    "VARIANCE_NOT_ROOTED": Cause(
        "variance and standard deviation were taken for one another",
        "tutorial 6, (6.1)",
        (
            "Multiply x by 10 (eps aside): does your y stay?",
            "Is what you divide by of the unit of x, or of its square?",
            "sigma is the root of var + eps; divide by it once.",
        ),
    ),
    "SIGMA_FORGOTTEN": Cause(
        "gx is not divided by sigma",
        "tutorial 6, (6.5)",
        (
            "Multiply x by 10: y stays. What does gx do?",
            "xhat = (x - mu) / sigma: a small dx is divided too.",
            "All three terms of gx stand over sigma.",
        ),
    ),
    "SUMS_FOR_MEANS": Cause(
        "sums where there should be means: 1 / m is missing",
        "tutorial 6, (6.4)",
        (
            "Take a larger batch. Do the last two terms grow with it?",
            "mu is the sum over m, so d mu is, too.",
            "gb and gw are sums; in gx each is divided by m.",
        ),
    ),
    "MEAN_NOT_TAKEN_OFF": Cause(
        "x is divided by sigma without its mean taken off",
        "tutorial 6, (6.1)",
        (
            "What is the mean of your xhat over a set?",
            "xhat = (x - mu) / sigma.",
            "Take the mean off first, and keep what is left: the variance is the mean of its square.",
        ),
    ),
    "RUNNING_STATISTICS_IN_EVAL": Cause(
        "the running statistics move at rest; they move in training only",
        "tutorial 6, (6.9)",
        (
            "May what a model answers depend on what it was asked before?",
            "Look at which lines run when training is False.",
            "At rest: return the running ones, and touch nothing.",
        ),
    ),
    "RUNNING_STATISTICS_IN_TRAINING": Cause(
        "in training the running statistics are returned; a batch is normalized by its own",
        "tutorial 6, (6.9)",
        (
            "By what is a batch normalized in training?",
            "The running statistics are for later, when there is no batch.",
            "Return the batch's mean and variance; move the running ones beside.",
        ),
    ),
    "RUNNING_STATISTICS_NOT_MOVED": Cause(
        "the arrays of running statistics stay as they were",
        "tutorial 6, (6.9)",
        (
            "Whose array does your line change?",
            "running_mean = ... gives the name to a new array; the caller keeps the old one.",
            "Write into it: running_mean += ..., or running_mean[...] = ...",
        ),
    ),
    "BATCH_STATISTICS_IN_EVAL": Cause(
        "at rest the batch's statistics are returned: an answer then depends on its neighbors",
        "tutorial 6, (6.9)",
        (
            "What is the variance of a batch of one?",
            "At rest there may be a single sample.",
            "With training=False return running_mean and running_var.",
        ),
    ),
    "BIASED_RUNNING_VARIANCE": Cause(
        "the running variance took up the biased one, over m; it estimates the population, so it is over m - 1",
        "tutorial 6, (6.9)",
        (
            "Which of the two variances does the docstring ask for?",
            "The batch is normalized by the biased variance. The running one takes the other.",
            "var m / (m - 1), with m = N times the number of positions.",
        ),
    ),
    "MOMENTUM_SWAPPED": Cause(
        "momentum weighs the old where it should weigh the new (or the old was not weighed at all)",
        "tutorial 6, (6.9)",
        (
            "With momentum = 0, what should happen?",
            "Here momentum is the weight of the new batch, as in PyTorch.",
            "r <- (1 - momentum) r + momentum s.",
        ),
    ),
}
