"""Right residual blocks."""

from __future__ import annotations

from tests.classroom.variants.draw import Draw, filled


def block(pick: Draw) -> tuple[dict[str, str], str]:
    cast = pick("x", "x", "np.asarray(x)", "x.astype(np.float32)")
    relu = pick(
        "np.maximum(a, 0)", "a * (a > 0)", "np.where(a > 0, a, 0.0)", "a.clip(min=0)", "(a + np.abs(a)) / 2", "relu(a)"
    )
    mask = pick(
        "(self.h > 0)", "(self.a > 0)", "np.sign(self.h)", "np.heaviside(self.a, 0)", "(self.a > 0).astype(gy.dtype)"
    )
    ga = pick(
        f"ga = (gy @ self.w2) * {mask}",
        f"ga = np.einsum('no,oh->nh', gy, self.w2)\nga *= {mask}",
        f"ga = gy.dot(self.w2) * {mask}",
    )
    gw1 = pick("ga.T @ self.x", "np.einsum('nh,nd->hd', ga, self.x)", "(self.x.T @ ga).T", "outer(ga, self.x)")
    gw2 = pick(
        "gy.T @ self.h",
        "np.einsum('no,nh->oh', gy, self.h)",
        "sum(np.outer(g, h) for g, h in zip(gy, self.h))",
        "outer(gy, self.h)",
    )
    gws = pick("gy.T @ self.x", "np.tensordot(gy, self.x, (0, 0))", "outer(gy, self.x)")
    skip = pick("gy", "gy.copy()", "gy * 1.0", "1 * gy", "gy @ np.eye(gy.shape[1])")
    functions = {
        "ResidualAdd.forward": pick(
            "def forward(self, x, f):\n    return f + x",
            "def forward(self, x, f):\n    y = x.copy()\n    y += f\n    return y",
            "def forward(self, x, f):\n    return np.add(x, f)",
            "def forward(self, x, f):\n    return (x.astype(np.float32) + f).astype(np.float32)",
            "def forward(self, x, f):\n    return np.sum([x, f], axis=0)",
        ),
        "ResidualAdd.backward": pick(
            "def backward(self, gy):\n    return gy, gy",
            "def backward(self, gy):\n    return gy.copy(), gy.copy()",
            "def backward(self, gy):\n    return [1 * gy, gy]",
            "def backward(self, gy):\n    gx = gy\n    gf = np.array(gy)\n    return (gx, gf)",
        ),
        "ResidualBlock.forward": filled(
            """
def forward(self, x, w1, w2):
    self.x, self.w1, self.w2 = {cast}, w1, w2
    a = {first}
    self.a = a
    self.h = {relu}
    f = {second}
    {join}
""",
            cast=cast,
            first=pick("x @ w1.T", "x.dot(w1.T)", "(w1 @ x.T).T", "np.einsum('nd,hd->nh', x, w1)", "np.inner(x, w1)"),
            relu=relu,
            second=pick("self.h @ w2.T", "np.inner(self.h, w2)", "np.einsum('nh,oh->no', self.h, w2)"),
            join=pick(
                "return x + f",
                "f += x\nreturn f",
                "return np.add(f, x)",
                "y = np.zeros_like(f)\ny += f\ny += x\nreturn y",
            ),
        ),
        "ResidualBlock.backward": filled(
            """
def backward(self, gy):
    {ga}
    gx = {gx}
    return gx, {gw1}, {gw2}
""",
            ga=ga,
            gx=pick(
                f"{skip} + ga @ self.w1",
                f"ga.dot(self.w1) + {skip}",
                "np.add(gy, np.einsum('nh,hd->nd', ga, self.w1))",
                "pull(self, gy)",
            ),
            gw1=gw1,
            gw2=gw2,
        ),
        "ProjectionBlock.forward": filled(
            """
def forward(self, x, ws, w1, w2):
    self.x, self.ws, self.w1, self.w2 = x, ws, w1, w2
    a = x @ w1.T
    self.a = a
    self.h = {relu}
    return {sum}
""",
            relu=relu,
            sum=pick(
                "x @ ws.T + self.h @ w2.T",
                "np.hstack([x, self.h]) @ np.hstack([ws, w2]).T",
                "np.inner(self.h, w2) + np.inner(x, ws)",
            ),
        ),
        "ProjectionBlock.backward": filled(
            """
def backward(self, gy):
    {ga}
    gws = {gws}
    gx = {gx}
    return gx, gws, {gw1}, {gw2}
""",
            ga=ga,
            gws=gws,
            gx=pick(
                "gy @ self.ws + ga @ self.w1",
                "np.hstack([gy, ga]) @ np.vstack([self.ws, self.w1])",
                "ga @ self.w1 + np.einsum('no,od->nd', gy, self.ws)",
            ),
            gw1=gw1,
            gw2=gw2,
        ),
        "start_as_identity": pick(
            "def start_as_identity(w1, w2):\n    return w1, np.zeros_like(w2)",
            "def start_as_identity(w1, w2):\n    return w1.copy(), w2 * 0",
            "def start_as_identity(w1, w2):\n    out = w2.copy()\n    out[:] = 0\n    return [w1 + 0, out]",
            "def start_as_identity(w1, w2):\n    return 0.5 * w1, np.zeros(w2.shape, dtype=np.float32)",
        ),
    }
    return functions, BLOCK_HELPERS


BLOCK_HELPERS = """
def relu(a):
    out = a.copy()
    out[out < 0] = 0
    return out


def outer(g, x):
    total = np.zeros((g.shape[1], x.shape[1]))
    for n in range(len(g)):
        total += g[n][:, None] * x[n][None, :]
    return total


def pull(block, gy):
    rows = []
    for n, g in enumerate(gy):
        jacobian = (block.w2 * (block.a[n] > 0)) @ block.w1
        rows.append((np.eye(len(g)) + jacobian).T @ g)
    return np.array(rows)
"""
