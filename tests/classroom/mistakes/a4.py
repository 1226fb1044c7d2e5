"""Wrong norms."""

from tests.classroom.mistakes import Mistake, mistake


def forward(over: str = "axes", sigma: str = "np.sqrt(var + self.eps)", y: str = "") -> str:
    """A BatchNorm.forward in which one thing is wrong: the axes, sigma, or the output."""
    return f"""
def forward(self, x, w, b):
    axes = (0,) + tuple(range(2, x.ndim))
    over = {over}
    stretch = (1, -1) + (1,) * (x.ndim - 2)
    self.x, self.axes, self.over = x, axes, over
    self.m = x.size // x.shape[1]
    m = self.m
    self.mu = mu = x.mean(axis=over, keepdims=True)
    var = ((x - mu) ** 2).mean(axis=over, keepdims=True)
    self.sigma = {sigma}
    self.xhat = (x - mu) / self.sigma
    self.w = 1.0 if w is None else w.reshape(stretch)
    b = 0.0 if b is None else b.reshape(stretch)
    return {y or "self.w * self.xhat + b"}
"""


def backward(change: str = "", gx: str = "(g - mean - self.xhat * along) / self.sigma") -> str:
    """A BatchNorm.backward for that forward, in which one thing is wrong."""
    return f"""
def backward(self, gy):
    gb = gy.sum(axis=self.axes)
    gw = (gy * self.xhat).sum(axis=self.axes)
    over, m = self.over, self.m
    g = gy * self.w
    {change or "pass"}
    mean = g.mean(axis=over, keepdims=True)
    along = (g * self.xhat).mean(axis=over, keepdims=True)
    gx = {gx}
    return gx, gw, gb
"""


def batch(cause: str, title: str = "", also: tuple[str, ...] = (), *, fwd: str = "", bwd: str = "") -> Mistake:
    both = {"BatchNorm.forward": fwd or forward(), "BatchNorm.backward": bwd or backward()}
    return Mistake(cause, both, title, frozenset(also))


def layer(
    cause: str, gx: str = "", title: str = "", gw: str = "(rows * xhat).sum(0)", gb: str = "rows.sum(0)"
) -> Mistake:
    return mistake(
        cause,
        title or "layer norm",
        LayerNorm__backward=f"""
def backward(self, gy):
    xhat, m = self.xhat, self.xhat.shape[1]
    rows = gy.reshape(xhat.shape)
    w = np.ones(m) if self.w is None else self.w
    g = rows * w
    mean = g.mean(1, keepdims=True)
    along = (g * xhat).mean(1, keepdims=True)
    gx = {gx or "(g - mean - xhat * along) * self.inv"}
    gw, gb = {gw}, {gb}
    return gx.reshape(gy.shape), gw.reshape(self.normalized_shape), gb.reshape(self.normalized_shape)
""",
    )


def statistics(training: str, rest: str = "return running_mean, running_var", title: str = "") -> dict[str, str]:
    """A function statistics; the names in it are those of the statement."""
    return {
        "statistics": f"""
def statistics(x, running_mean, running_var, training, momentum=0.1):
    axes = (0,) + tuple(range(2, x.ndim))
    m = x.size // x.shape[1]
    mean, var = x.mean(axis=axes), x.var(axis=axes)
    unbiased = var * m / (m - 1)
    if training:
        {training}
        return mean, var
    {rest}
"""
    }


MOVE = "running_mean += momentum * (mean - running_mean); running_var += momentum * (unbiased - running_var)"

A4: tuple[Mistake, ...] = (
    # --- batch norm's gx
    batch("MEAN_TERM_DROPPED", bwd=backward(gx="(g - self.xhat * along) / self.sigma")),
    batch("VARIANCE_TERM_DROPPED", bwd=backward(gx="(g - mean) / self.sigma")),
    batch("STATISTICS_AS_CONSTANTS", bwd=backward(gx="g / self.sigma")),
    batch("WRONG_SIGN", "the mean's", bwd=backward(gx="(g + mean - self.xhat * along) / self.sigma")),
    batch("WRONG_SIGN", "xhat's", bwd=backward(gx="(g - mean + self.xhat * along) / self.sigma")),
    batch("VARIANCE_TERM_DOUBLED", bwd=backward(gx="(g - mean - 2 * self.xhat * along) / self.sigma")),
    batch("WRONG_AXIS", "layer norm's, backward", bwd=backward("over = tuple(range(1, gy.ndim))")),
    batch("WRONG_AXIS", "N alone, backward", bwd=backward("over = (0,)")),
    batch("WRONG_AXIS", "positions, backward", bwd=backward("over = tuple(range(2, gy.ndim))")),
    batch("WRONG_AXIS", "layer norm's", fwd=forward("tuple(range(1, x.ndim))")),
    batch("WRONG_AXIS", "N alone", fwd=forward("(0,)")),
    batch("GAIN_FORGOTTEN", bwd=backward("g = gy")),
    batch("GAIN_TWICE", bwd=backward("g = gy * self.w * self.w")),
    batch("BESSEL", "backward", bwd=backward(gx="(g - mean - self.xhat * along * m / (m - 1)) / self.sigma")),
    batch("BESSEL", "forward", fwd=forward(sigma="np.sqrt(var * m / (m - 1) + self.eps)")),
    batch("EPS_OUTSIDE_ROOT", "forward", fwd=forward(sigma="np.sqrt(var) + self.eps")),
    batch(
        "EPS_OUTSIDE_ROOT",
        "backward",
        bwd=backward(
            "var = self.x.var(axis=over, keepdims=True)",
            gx="(g - mean - self.xhat * along) / (np.sqrt(var) + self.eps)",
        ),
    ),
    batch(
        "EPS_FORGOTTEN",
        "backward",
        bwd=backward(gx="(g - mean - self.xhat * along) / self.x.std(axis=over, keepdims=True)"),
    ),
    batch("EPS_FORGOTTEN", "forward", fwd=forward(sigma="np.maximum(np.sqrt(var), 1e-30)")),
    batch("VARIANCE_NOT_ROOTED", "forward", fwd=forward(sigma="var + self.eps")),
    batch("VARIANCE_NOT_ROOTED", "backward", bwd=backward(gx="(g - mean - self.xhat * along) / self.sigma**2")),
    batch("SIGMA_FORGOTTEN", bwd=backward(gx="g - mean - self.xhat * along")),
    batch("SUMS_FOR_MEANS", bwd=backward(gx="(g - m * mean - self.xhat * m * along) / self.sigma")),
    batch("MEAN_NOT_TAKEN_OFF", fwd=forward(y="self.w * x / self.sigma + b")),
    batch("GAIN_FORGOTTEN", "forward", fwd=forward(y="self.xhat * 1.0")),
    # --- gain and bias
    batch("BIAS_GRADIENT_SUMMED_WRONG", "means", bwd=backward("gw, gb = gw / m, gb / m")),
    batch("BIAS_GRADIENT_SUMMED_WRONG", "over N", bwd=backward("gw, gb = gw / len(gy), gb / len(gy)")),
    batch("BIAS_GRADIENT_SUMMED_WRONG", "times w", bwd=backward("gb = g.sum(axis=self.axes)")),
    batch("WRONG_SHAPE", "N alone", bwd=backward("gb = gy.sum(0)")),
    batch("GAIN_GRADIENT_WRONG", "of x", bwd=backward("gw = (gy * self.x).sum(axis=self.axes)")),
    batch("GAIN_GRADIENT_WRONG", "without xhat", bwd=backward("gw = gb")),
    # --- what is written to, and what is missing
    batch("ALIASED_ADD", "gy scaled in place", bwd=backward("gy *= self.w; g = gy")),
    batch(
        "INPUT_OVERWRITTEN",
        fwd=forward().replace("self.xhat = (x - mu) / self.sigma", "x -= mu; self.xhat = x / self.sigma"),
    ),
    batch("NOTHING_RETURNED", bwd=backward().replace("return gx, gw, gb", "return gx, gw")),
    batch("NOT_FINITE", bwd=backward(gx="(g - mean - self.xhat * along) / (0 * self.sigma + 1e-320) / 1e300")),
    # --- layer norm
    layer("MEAN_TERM_DROPPED", "(g - xhat * along) * self.inv"),
    layer("VARIANCE_TERM_DROPPED", "(g - mean) * self.inv"),
    layer("STATISTICS_AS_CONSTANTS", "g * self.inv"),
    layer("WRONG_SIGN", "(g + mean - xhat * along) * self.inv"),
    layer("WRONG_AXIS", "(g - g.mean(0) - xhat * (g * xhat).mean(0)) * self.inv"),
    layer(
        "GAIN_OUTSIDE_THE_MEANS",
        "w * (rows - rows.mean(1, keepdims=True) - xhat * (rows * xhat).mean(1, keepdims=True)) * self.inv",
    ),
    layer(
        "GAIN_FORGOTTEN",
        "(rows - rows.mean(1, keepdims=True) - xhat * (rows * xhat).mean(1, keepdims=True)) * self.inv",
    ),
    layer("BESSEL", "(g - mean - xhat * along * m / (m - 1)) * self.inv"),
    layer("SUMS_FOR_MEANS", "(g - m * mean - xhat * m * along) * self.inv"),
    layer("SIGMA_FORGOTTEN", "g - mean - xhat * along"),
    layer("BIAS_GRADIENT_SUMMED_WRONG", title="layer norm, means", gw="(rows * xhat).mean(0)", gb="rows.mean(0)"),
    layer("BIAS_GRADIENT_SUMMED_WRONG", title="layer norm, times w", gb="g.sum(0)"),
    layer("GAIN_GRADIENT_WRONG", title="layer norm, times w", gw="(g * xhat).sum(0)"),
    layer("GAIN_GRADIENT_WRONG", title="layer norm, without xhat", gw="rows.sum(0)"),
    # --- running statistics
    Mistake(
        "RUNNING_STATISTICS_IN_EVAL",
        statistics(MOVE, f"{MOVE}\n    return running_mean.copy(), running_var.copy()"),
        "returns copies, after",
    ),
    Mistake(
        "RUNNING_STATISTICS_IN_EVAL",
        statistics(MOVE, f"kept = running_mean.copy(), running_var.copy()\n    {MOVE}\n    return kept"),
    ),
    Mistake("BATCH_STATISTICS_IN_EVAL", statistics(MOVE, "return mean, var")),
    Mistake("BIASED_RUNNING_VARIANCE", statistics(MOVE.replace("unbiased", "var"))),
    Mistake(
        "MOMENTUM_SWAPPED",
        statistics(
            "running_mean[...] = momentum * running_mean + (1 - momentum) * mean; "
            "running_var[...] = momentum * running_var + (1 - momentum) * unbiased"
        ),
    ),
    Mistake(
        "MOMENTUM_SWAPPED",
        statistics("running_mean += momentum * mean; running_var += momentum * unbiased"),
        "only grows",
    ),
    Mistake(
        "RUNNING_STATISTICS_NOT_MOVED",
        statistics(
            "running_mean = (1 - momentum) * running_mean + momentum * mean; "
            "running_var = (1 - momentum) * running_var + momentum * unbiased"
        ),
        "a new array",
    ),
    Mistake("RUNNING_STATISTICS_IN_TRAINING", statistics(f"{MOVE}\n        return running_mean, running_var")),
    Mistake("BESSEL", statistics(f"{MOVE}\n        return mean, unbiased"), "statistics"),
    batch("BESSEL", "both means", bwd=backward(gx="(g - (mean + self.xhat * along) * m / (m - 1)) / self.sigma")),
    layer("BESSEL", "(g - (mean + xhat * along) * m / (m - 1)) * self.inv", "layer norm, both means"),
    batch("GAIN_GRADIENT_WRONG", "with w", bwd=backward("gw = (g * self.xhat).sum(axis=self.axes)")),
    batch("GAIN_GRADIENT_WRONG", "without sigma", bwd=backward("gw = (gy * (self.x - self.mu)).sum(axis=self.axes)")),
    batch(
        "ALIASED_ADD",
        "gy *= w",
        bwd="""
def backward(self, gy):
    gy *= self.w
    gw, gb = (gy * self.xhat).sum(axis=self.axes), gy.sum(axis=self.axes)
    mean, along = (a.mean(axis=self.axes, keepdims=True) for a in (gy, gy * self.xhat))
    return (gy - mean - self.xhat * along) / self.sigma, gw, gb
""",
    ),
)
