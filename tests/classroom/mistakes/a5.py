"""Wrong residual blocks."""

from tests.classroom.mistakes import Mistake, mistake


def block(body: str) -> str:
    """A ResidualBlock.backward: gw2, ga, gw1 are right and made first; the body makes gx."""
    return f"""
def backward(self, gy):
    gw2 = gy.T @ self.h
    ga = (gy @ self.w2) * (self.h > 0)
    gw1 = ga.T @ self.x
    {body}
    return gx, gw1, gw2
"""


def projection(body: str) -> str:
    """A ProjectionBlock.backward in which all is right; the body changes something."""
    return f"""
def backward(self, gy):
    gws, gw2 = gy.T @ self.x, gy.T @ self.h
    ga = np.where(self.h > 0, gy @ self.w2, 0.0)
    gw1 = ga.T @ self.x
    gx = gy @ self.ws + ga @ self.w1
    {body}
    return gx, gws, gw1, gw2
"""


A5: tuple[Mistake, ...] = (
    # --- the sum
    mistake("SKIP_DROPPED", "sum", ResidualAdd__backward="def backward(self, gy):\n    return np.zeros(gy.shape), gy"),
    mistake("SKIP_DROPPED", "y = f", ResidualAdd__forward="def forward(self, x, f):\n    return f * 1.0"),
    mistake("BRANCH_DROPPED", "sum", ResidualAdd__backward="def backward(self, gy):\n    return gy, 0 * gy"),
    mistake("SKIP_DOUBLED", "sum", ResidualAdd__backward="def backward(self, gy):\n    return 2 * gy, gy"),
    mistake("BRANCH_DOUBLED", "sum", ResidualAdd__backward="def backward(self, gy):\n    return gy, gy * 2"),
    mistake("PATHS_AVERAGED", "sum", ResidualAdd__backward="def backward(self, gy):\n    return 0.5 * gy, 0.5 * gy"),
    mistake("ONE_PLUS_GRADIENT", "sum", ResidualAdd__backward="def backward(self, gy):\n    return gy + 1, gy"),
    mistake("BRANCH_SUBTRACTED", "sum", ResidualAdd__backward="def backward(self, gy):\n    return gy, -1 * gy"),
    mistake(
        "RELU_ON_SKIP",
        "sum, forward and backward",
        ResidualAdd__forward="""
def forward(self, x, f):
    self.y = np.where(x + f > 0, x + f, 0.0)
    return self.y
""",
        ResidualAdd__backward="""
def backward(self, gy):
    g = gy.copy()
    g[self.y == 0] = 0
    return g, g
""",
    ),
    mistake(
        "ALIASED_ADD",
        "sum, one array three times",
        ResidualAdd__backward="def backward(self, gy):\n    gx = gf = gy\n    gx += gf\n    return gx, gf",
    ),
    mistake(
        "ALIASED_ADD",
        "sum, the buffer cleared",
        ResidualAdd__backward="""
def backward(self, gy):
    gx, gf = gy.copy(), gy.copy()
    gy.fill(0)
    return gx, gf
""",
    ),
    mistake("INPUT_OVERWRITTEN", "sum", ResidualAdd__forward="def forward(self, x, f):\n    x += f\n    return x"),
    # --- the block
    mistake("SKIP_DROPPED", "block", ResidualBlock__backward=block("gx = ga @ self.w1")),
    mistake(
        "SKIP_DROPPED",
        "y = F(x)",
        ResidualBlock__forward="""
def forward(self, x, w1, w2):
    self.x, self.w1, self.w2 = x, w1, w2
    self.h = np.maximum(x @ w1.T, 0)
    return self.h @ w2.T
""",
    ),
    mistake("BRANCH_DROPPED", "block", ResidualBlock__backward=block("gx = gy.copy()")),
    mistake("SKIP_DOUBLED", "block", ResidualBlock__backward=block("gx = ga @ self.w1 + gy\n    gx = gx + gy")),
    mistake(
        "BRANCH_DOUBLED", "block", ResidualBlock__backward=block("gx = gy + ga @ self.w1\n    gx = gx + ga @ self.w1")
    ),
    mistake("PATHS_AVERAGED", "block", ResidualBlock__backward=block("gx = (gy + ga @ self.w1) / 2")),
    mistake("ONE_PLUS_GRADIENT", "block", ResidualBlock__backward=block("gx = 1 + ga @ self.w1")),
    mistake("ONE_PLUS_GRADIENT", "1 + all", ResidualBlock__backward=block("gx = 1 + gy + ga @ self.w1")),
    mistake("BRANCH_SUBTRACTED", "block", ResidualBlock__backward=block("gx = gy - ga @ self.w1")),
    mistake(
        "ALIASED_ADD",
        "gx = gy; gx += ...; and gw2 after it",
        ResidualBlock__backward="""
def backward(self, gy):
    ga = (gy @ self.w2) * (self.h > 0)
    gx = gy
    gx += ga @ self.w1
    gw1 = ga.T @ self.x
    gw2 = gy.T @ self.h
    return gx, gw1, gw2
""",
    ),
    mistake(
        "ALIASED_ADD",
        "added into, and added again",
        ResidualBlock__backward=block("gf = ga @ self.w1\n    gy += gf\n    gx = gy + gf"),
    ),
    mistake(
        "ALIASED_ADD", "right numbers, gy written to", ResidualBlock__backward=block("gx = gy\n    gx += ga @ self.w1")
    ),
    mistake(
        "INPUT_OVERWRITTEN",
        "block",
        ResidualBlock__forward="""
def forward(self, x, w1, w2):
    self.x, self.w1, self.w2 = x.copy(), w1, w2
    self.h = np.maximum(x @ w1.T, 0)
    x += self.h @ w2.T
    return x
""",
    ),
    mistake(
        "RELU_ON_SKIP",
        "block, both ways",
        ResidualBlock__forward="""
def forward(self, x, w1, w2):
    self.x, self.w1, self.w2 = x, w1, w2
    self.h = np.maximum(x @ w1.T, 0)
    self.y = np.maximum(x + self.h @ w2.T, 0)
    return self.y
""",
        ResidualBlock__backward="""
def backward(self, gy):
    g = gy * (self.y > 0)
    ga = (g @ self.w2) * (self.h > 0)
    return g + ga @ self.w1, ga.T @ self.x, g.T @ self.h
""",
    ),
    mistake("RELU_ON_SKIP", "mask of x", ResidualBlock__backward=block("gx = gy * (self.x > 0) + ga @ self.w1")),
    mistake(
        "RELU_ON_SKIP",
        "mask of y on the sum",
        ResidualBlock__backward=block("y = self.x + self.h @ self.w2.T\n    gx = (gy + ga @ self.w1) * (y > 0)"),
    ),
    mistake(
        "RELU_MASK_WRONG",
        "forgotten",
        ResidualBlock__backward="""
def backward(self, gy):
    gh = gy @ self.w2
    return gy + gh @ self.w1, gh.T @ self.x, gy.T @ self.h
""",
    ),
    mistake(
        "RELU_MASK_WRONG",
        "of the gradient",
        ResidualBlock__backward="""
def backward(self, gy):
    gh = gy @ self.w2
    gh[gh < 0] = 0
    return gy + gh @ self.w1, gh.T @ self.x, gy.T @ self.h
""",
    ),
    mistake(
        "RELU_MISPLACED",
        "none",
        ResidualBlock__forward="""
def forward(self, x, w1, w2):
    self.x, self.w1, self.w2 = x, w1, w2
    self.h = x @ w1.T
    return x + self.h @ w2.T
""",
    ),
    mistake(
        "RELU_MISPLACED",
        "behind both matrices",
        ResidualBlock__forward="""
def forward(self, x, w1, w2):
    self.x, self.w1, self.w2 = x, w1, w2
    self.a = x @ w1.T
    self.f = np.maximum(self.a @ w2.T, 0)
    return x + self.f
""",
        ResidualBlock__backward="""
def backward(self, gy):
    gf = gy * (self.f > 0)
    ga = gf @ self.w2
    return gy + ga @ self.w1, ga.T @ self.x, gf.T @ self.a
""",
    ),
    mistake(
        "WEIGHTS_AVERAGED",
        "block",
        ResidualBlock__backward="""
def backward(self, gy):
    n = gy.shape[0]
    ga = (gy @ self.w2) * (self.h > 0)
    return gy + ga @ self.w1, ga.T @ self.x / n, gy.T @ self.h / n
""",
    ),
    mistake(
        "TRANSPOSED",
        "block",
        ResidualBlock__backward="""
def backward(self, gy):
    ga = (gy @ self.w2) * (self.h > 0)
    return gy + ga @ self.w1, self.x.T @ ga, self.h.T @ gy
""",
    ),
    mistake(
        "NOTHING_RETURNED",
        ResidualBlock__backward="""
def backward(self, gy):
    ga = (gy @ self.w2) * (self.h > 0)
    gx = gy + ga @ self.w1
""",
    ),
    mistake(
        "WRONG_SHAPE",
        ResidualBlock__backward="""
def backward(self, gy):
    ga = (gy @ self.w2) * (self.h > 0)
    gx = gy + ga @ self.w1
    return gx.sum(0), ga.T @ self.x, gy.T @ self.h
""",
    ),
    mistake("NOT_FINITE", ResidualBlock__backward=block("gx = (gy + ga @ self.w1) * np.inf")),
    # --- the projection
    mistake(
        "PROJECTION_WITHOUT_GRADIENT", "zeros", ProjectionBlock__backward=projection("gws = np.zeros_like(self.ws)")
    ),
    mistake("PROJECTION_WITHOUT_GRADIENT", "None", ProjectionBlock__backward=projection("gws = None")),
    mistake(
        "PROJECTION_WITHOUT_GRADIENT",
        "three gradients",
        ProjectionBlock__backward="""
def backward(self, gy):
    ga = (gy @ self.w2) * (self.h > 0)
    return gy @ self.ws + ga @ self.w1, ga.T @ self.x, gy.T @ self.h
""",
    ),
    mistake(
        "PROJECTION_TRANSPOSED",
        also=("CRASHED",),
        ProjectionBlock__backward=projection("gx = gy @ self.ws.T + ga @ self.w1"),
    ),
    mistake("PROJECTION_BYPASSED", also=("CRASHED",), ProjectionBlock__backward=projection("gx = gy + ga @ self.w1")),
    mistake("SKIP_DROPPED", "projection", ProjectionBlock__backward=projection("gx = ga @ self.w1")),
    mistake("BRANCH_DROPPED", "projection", ProjectionBlock__backward=projection("gx = gy @ self.ws")),
    mistake("SKIP_DOUBLED", "projection", ProjectionBlock__backward=projection("gx = gx + gy @ self.ws")),
    mistake("TRANSPOSED", "projection", ProjectionBlock__backward=projection("gws = gws.T")),
    mistake("WEIGHTS_AVERAGED", "projection", ProjectionBlock__backward=projection("gws /= len(gy)")),
    # --- the start
    mistake("SADDLE_AT_START", "both 0", start_as_identity="def start_as_identity(w1, w2):\n    return 0 * w1, 0 * w2"),
    mistake(
        "SADDLE_AT_START", "the first", start_as_identity="def start_as_identity(w1, w2):\n    return 0 * w1, w2 * 1"
    ),
    mistake("NOT_IDENTITY_AT_START", start_as_identity="def start_as_identity(w1, w2):\n    return w1 * 0.1, w2 * 0.1"),
    mistake(
        "INPUT_OVERWRITTEN",
        "the start",
        start_as_identity="def start_as_identity(w1, w2):\n    w2[...] = 0\n    return w1, w2",
    ),
)
