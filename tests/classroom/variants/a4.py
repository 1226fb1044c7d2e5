"""Right norms."""

from __future__ import annotations

from tests.classroom.variants.draw import Draw, filled


def norms(pick: Draw) -> tuple[dict[str, str], str]:
    functions = {
        "BatchNorm.forward": filled(
            """
def forward(self, x, w, b):
    {cast}
    axes = (0,) + tuple(range(2, x.ndim))
    self.axes, self.shape = axes, (1, x.shape[1]) + (1,) * (x.ndim - 2)
    self.m = {m}
    mean = {mean}
    centered = x - mean
    var = {var}
    {scale}
    {xhat}
    self.w = np.ones(self.shape) if w is None else w.reshape(self.shape)
    y = {y}
    return y if b is None else {bias}
""",
            cast=pick("pass", "pass", "x = x.astype(np.float32)", "x = np.ascontiguousarray(x)"),
            m=pick("x.size // x.shape[1]", "int(np.prod([x.shape[a] for a in axes]))", "x[:, 0].size"),
            mean=pick(
                "x.mean(axis=axes, keepdims=True)", "(x.sum(axis=axes) / self.m).reshape(self.shape)", "by_loops(x)"
            ),
            var=pick(
                "(centered**2).mean(axis=axes, keepdims=True)",
                "x.var(axis=axes, keepdims=True)",
                "(x * x).mean(axis=axes, keepdims=True) - mean**2",
                "np.square(centered).sum(axis=axes, keepdims=True) / self.m",
            ),
            scale=pick(
                "self.inv = 1 / np.sqrt(var + self.eps)",
                "self.inv = (var + self.eps) ** -0.5",
                "sigma = np.sqrt(self.eps + var)\nself.inv = 1.0 / sigma",
            ),
            xhat=pick(
                "self.xhat = centered * self.inv",
                "centered *= self.inv\nself.xhat = centered",
                "self.xhat = x * self.inv - mean * self.inv",
            ),
            y=pick("self.w * self.xhat", "np.multiply(self.xhat, self.w)"),
            bias=pick("y + b.reshape(self.shape)", "np.add(y, b.reshape(self.shape))"),
        ),
        "BatchNorm.backward": filled(
            """
def backward(self, gy):
    gb = {gb}
    gw = {gw}
    {gx}
    return gx, gw, gb
""",
            gb=pick(
                "gy.sum(axis=self.axes)",
                "np.sum(gy, axis=self.axes)",
                "np.array([gy[:, c].sum() for c in range(gy.shape[1])])",
            ),
            gw=pick(
                "(gy * self.xhat).sum(axis=self.axes)",
                "np.einsum('ncl,ncl->c', *(a.reshape(*a.shape[:2], -1) for a in (gy, self.xhat)))",
                "np.array([np.vdot(gy[:, c], self.xhat[:, c]) for c in range(gy.shape[1])])",
            ),
            gx=pick(
                "g = gy * self.w\n"
                "gx = g - g.mean(axis=self.axes, keepdims=True)\n"
                "gx = gx - self.xhat * (g * self.xhat).mean(axis=self.axes, keepdims=True)\n"
                "gx = gx * self.inv",
                "p, q = gb.reshape(self.shape), gw.reshape(self.shape)\n"
                "gx = self.w * self.inv * (gy - p / self.m - self.xhat * q / self.m)",
                "p, q = gb.reshape(self.shape), gw.reshape(self.shape)\n"
                "gx = self.w * self.inv / self.m * (self.m * gy - p - self.xhat * q)",
                "gx = gy - gb.reshape(self.shape) / self.m\n"
                "gx -= self.xhat * (gw.reshape(self.shape) / self.m)\n"
                "gx *= self.w * self.inv",
                "gxhat = gy * self.w\n"
                "centered = self.xhat / self.inv\n"
                "gvar = (gxhat * centered).sum(axis=self.axes, keepdims=True) * -0.5 * self.inv**3\n"
                "gmean = -(gxhat * self.inv).sum(axis=self.axes, keepdims=True)\n"
                "gx = gxhat * self.inv + gvar * 2 * centered / self.m + gmean / self.m",
                "gx = by_matrix(gy * self.w, self.xhat, self.inv)",
            ),
        ),
        "LayerNorm.backward": filled(
            """
def backward(self, gy):
    rows = gy.reshape(self.xhat.shape)
    d = rows.shape[1]
    gxhat = {gxhat}
    {gx}
    gw = {gw}
    gb = {gb}
    return gx.reshape(gy.shape), gw.reshape(self.normalized_shape), gb.reshape(self.normalized_shape)
""",
            gxhat=pick(
                "rows if self.w is None else rows * self.w",
                "rows * (1 if self.w is None else self.w)",
                "(rows if self.w is None else self.w * rows).copy()",
            ),
            gx=pick(
                "gx = (gxhat - gxhat.mean(axis=1, keepdims=True)\n"
                "      - self.xhat * (gxhat * self.xhat).mean(axis=1, keepdims=True)) * self.inv",
                "gx = self.inv / d * (d * gxhat - gxhat.sum(axis=1, keepdims=True)\n"
                "      - self.xhat * (gxhat * self.xhat).sum(axis=1, keepdims=True))",
                "gx = project(np, gxhat, self.xhat, self.inv)",
                "gx = np.empty_like(gxhat)\n"
                "for r in range(len(gxhat)):\n"
                "    p = np.eye(d) - 1 / d - np.outer(self.xhat[r], self.xhat[r]) / d\n"
                "    gx[r] = p @ gxhat[r] * self.inv[r]",
                "gx = gxhat.astype(np.float32)\n"
                "along = mean_of_products(np, gx, self.xhat.astype(np.float32))\n"
                "gx = gx - gx.mean(axis=1, keepdims=True) - self.xhat * along\n"
                "gx = gx * self.inv",
            ),
            gw=pick(
                "(rows * self.xhat).sum(axis=0)",
                "np.einsum('rd,rd->d', rows, self.xhat)",
                "sum(r * x for r, x in zip(rows, self.xhat))",
            ),
            gb=pick("rows.sum(axis=0)", "np.ones(len(rows)) @ rows", "np.add.reduce(rows)"),
        ),
        "statistics": filled(
            """
def statistics(x, running_mean, running_var, training, momentum=0.1):
    {rest}
    axes = tuple(a for a in range(x.ndim) if a != 1)
    m = x.size / x.shape[1]
    mean = x.mean(axis=axes)
    var = {var}
    {move}
    return mean, var
""",
            rest=pick(
                "if not training:\n    return running_mean, running_var",
                "if not training:\n    return running_mean.copy(), running_var.copy()",
                "if training is False:\n    return (running_mean, running_var)",
            ),
            var=pick("x.var(axis=axes)", "x.var(axis=axes, ddof=1) * (m - 1) / m", "(x**2).mean(axis=axes) - mean**2"),
            move=pick(
                "running_mean += momentum * (mean - running_mean)\n"
                "running_var += momentum * (var * m / (m - 1) - running_var)",
                "running_mean[...] = (1 - momentum) * running_mean + momentum * mean\n"
                "running_var[...] = (1 - momentum) * running_var + momentum * x.var(axis=axes, ddof=1)",
                "running_mean *= 1 - momentum\nrunning_mean += momentum * mean\n"
                "running_var *= 1 - momentum\nrunning_var += momentum * var * m / (m - 1)",
            ),
        ),
    }
    return functions, NORM_HELPERS


NORM_HELPERS = '''
def by_loops(x):
    """The mean of each channel, one number after the other."""
    flat = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    means = []
    for channel in flat:
        total = 0.0
        for value in channel:
            total += value
        means.append(total / len(channel))
    return np.array(means).reshape((1, -1) + (1,) * (x.ndim - 2))


def by_matrix(gxhat, xhat, inv):
    """The projection as a matrix, channel by channel."""
    gx = np.empty_like(gxhat)
    for c in range(gxhat.shape[1]):
        g, x = gxhat[:, c].ravel(), xhat[:, c].ravel()
        p = np.eye(len(g)) - np.ones((len(g), len(g))) / len(g) - np.outer(x, x) / len(g)
        gx[:, c] = (p @ g).reshape(gxhat[:, c].shape) * inv.reshape(-1)[c]
    return gx
'''
