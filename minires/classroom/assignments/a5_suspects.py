"""Wrong residual blocks: what an answer to A5 is compared with, beside the bug zoo's wrong skips.

Each is a mistake that somebody makes, told in the first line of its docstring, under the name that the report gives it.
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.classroom.assignments.a5_reference import ProjectionBlock, ResidualBlock
from minires.classroom.diagnosis import Suspect, from_the_zoo, suspect
from minires.engine import Function
from minires.ops.residual import ResidualAdd

# --- the sum


class OnlyTheBranch(ResidualAdd):
    """y = f: x is not added."""

    def forward(self, x: Array, f: Array) -> Array:
        return f.copy()


class Averaged(ResidualAdd):
    """y = (x + f) / 2."""

    def forward(self, x: Array, f: Array) -> Array:
        return (x + f) / 2


class Rectified(ResidualAdd):
    """y = relu(x + f): the activation belongs to the block, not to the sum."""

    def forward(self, x: Array, f: Array) -> Array:
        return self.xp.maximum(x + f, 0)


class BranchTwice(ResidualAdd):
    """gf = 2 gy instead of gy."""

    def backward(self, gy: Array) -> Any:
        return gy, 2 * gy


ADD: list[Suspect] = [
    suspect("BRANCH_DOUBLED", BranchTwice),
    suspect("SKIP_DROPPED", OnlyTheBranch),
    suspect("PATHS_AVERAGED", Averaged),
    suspect("RELU_ON_SKIP", Rectified),
    *from_the_zoo(
        ResidualAdd,
        {
            "skip_dropped": "SKIP_DROPPED",
            "skip_counted_twice": "SKIP_DOUBLED",
            "paths_averaged": "PATHS_AVERAGED",
            "branch_forgotten": "BRANCH_DROPPED",
            "one_plus_the_gradient": "ONE_PLUS_GRADIENT",
            "branch_subtracted": "BRANCH_SUBTRACTED",
            "relu_after_the_sum": "RELU_ON_SKIP",
        },
    ),
]

# --- a block's forward


class _Block(ResidualBlock):
    """A block whose forward is made of two steps, so that one of them can be wrong."""

    def act(self, a: Array) -> Array:
        return self.xp.maximum(a, 0)

    def join(self, x: Array, f: Array) -> Array:
        return x + f

    def forward(self, x: Array, w1: Array, w2: Array) -> Array:
        super().forward(x, w1, w2)
        self.h = self.act(x @ w1.T)
        self.y = self.join(x, self.h @ w2.T)
        return self.y


class ForwardWithoutSkip(_Block):
    """y = F(x): x is not added."""

    def join(self, x: Array, f: Array) -> Array:
        return f


class ForwardRectified(_Block):
    """y = relu(x + F(x)): here nothing stands behind the sum."""

    def join(self, x: Array, f: Array) -> Array:
        return self.xp.maximum(x + f, 0)


class ForwardRectifiedSkip(_Block):
    """y = relu(x) + F(x): the ReLU stands in the branch, the skip carries x as it is."""

    def join(self, x: Array, f: Array) -> Array:
        return self.xp.maximum(x, 0) + f


class ForwardAveraged(_Block):
    """y = (x + F(x)) / 2."""

    def join(self, x: Array, f: Array) -> Array:
        return (x + f) / 2


class ForwardWithoutRelu(_Block):
    """F(x) = x w1^T w2^T: the ReLU between the two matrices is missing."""

    def act(self, a: Array) -> Array:
        return a


class ForwardReluOfBranch(_Block):
    """F(x) = relu(x w1^T w2^T): the ReLU stands behind both matrices, not between them."""

    def act(self, a: Array) -> Array:
        return a

    def join(self, x: Array, f: Array) -> Array:
        self.f = f
        return x + self.xp.maximum(f, 0)

    def backward(self, gy: Array) -> Any:
        gf = gy * (self.f > 0)
        ga = gf @ self.w2
        return gy + ga @ self.w1, ga.T @ self.x, gf.T @ self.h


# --- a block's backward


class ReluOnTheSum(_Block):
    """gx = (gy + J_F^T gy) [y > 0]: the gradient of relu(x + F(x))."""

    def backward(self, gy: Array) -> Any:
        gx, gw1, gw2 = super().backward(gy)
        return gx * (self.y > 0), gw1, gw2


class ReluBeforeBoth(_Block):
    """all gradients are those of relu(x + F(x)): gy [y > 0] takes the place of gy."""

    def backward(self, gy: Array) -> Any:
        return super().backward(gy * (self.y > 0))


class ReluOnTheSkip(_Block):
    """gx = gy [y > 0] + J_F^T gy: the mask is put on the skip alone."""

    def backward(self, gy: Array) -> Any:
        gx, gw1, gw2 = super().backward(gy)
        return gx - gy * (self.y <= 0), gw1, gw2


class ReluOfTheInput(_Block):
    """gx = gy [x > 0] + J_F^T gy: the mask of x is put on the skip."""

    def backward(self, gy: Array) -> Any:
        gx, gw1, gw2 = super().backward(gy)
        return gx - gy * (self.x <= 0), gw1, gw2


class OnePlus(_Block):
    """gx = 1 + J_F^T gy: the 1 of 1 + F' is added, where it multiplies gy."""

    def backward(self, gy: Array) -> Any:
        gx, gw1, gw2 = super().backward(gy)
        return gx - gy + 1, gw1, gw2


class OnePlusAll(_Block):
    """gx = 1 + gy + J_F^T gy: a 1 is added to the gradient."""

    def backward(self, gy: Array) -> Any:
        gx, gw1, gw2 = super().backward(gy)
        return gx + 1, gw1, gw2


class MaskForgotten(_Block):
    """ga = gy w2: without the mask [a > 0], as if relu had slope 1 everywhere."""

    def backward(self, gy: Array) -> Any:
        ga = gy @ self.w2
        return gy + ga @ self.w1, ga.T @ self.x, gy.T @ self.h


class MaskOfTheGradient(_Block):
    """ga = relu(gy w2): masked where the gradient is negative, not where a is."""

    def backward(self, gy: Array) -> Any:
        ga = self.xp.maximum(gy @ self.w2, 0)
        return gy + ga @ self.w1, ga.T @ self.x, gy.T @ self.h


class MaskOfTheInput(_Block):
    """h itself takes the place of the mask: ga = (gy w2) h."""

    def backward(self, gy: Array) -> Any:
        ga = (gy @ self.w2) * self.h
        return gy + ga @ self.w1, ga.T @ self.x, gy.T @ self.h


class WeightsAveraged(_Block):
    """the weights' gradients are means over the rows, where the gradient is a sum: off by 1 / N."""

    def backward(self, gy: Array) -> Any:
        gx, gw1, gw2 = super().backward(gy)
        return gx, gw1 / len(gy), gw2 / len(gy)


class Transposed(_Block):
    """gw1 and gw2 are transposed."""

    def backward(self, gy: Array) -> Any:
        gx, gw1, gw2 = super().backward(gy)
        return gx, gw1.T, gw2.T


class InputForHidden(_Block):
    """gw2 = gy^T a: of what stands before the ReLU, where w2 has met what comes out of it."""

    def backward(self, gy: Array) -> Any:
        gx, gw1, _ = super().backward(gy)
        return gx, gw1, gy.T @ (self.x @ self.w1.T)


PATHS = (
    ((-1, 0), "SKIP_DROPPED", 'your gx equals J^T g; it lacks "+ {g}"'),
    ((0, -1), "BRANCH_DROPPED", 'your gx equals {g}; it lacks "+ J^T g"'),
    ((1, 0), "SKIP_DOUBLED", "your gx equals 2 {g} + J^T g; the skip counts twice"),
    ((0, 1), "BRANCH_DOUBLED", "your gx equals {g} + 2 J^T g; the branch counts twice"),
    ((-0.5, -0.5), "PATHS_AVERAGED", "your gx equals ({g} + J^T g) / 2; each path gets all of g, not half of it"),
    ((0, -2), "BRANCH_SUBTRACTED", "your gx equals {g} - J^T g; the branch's sign is wrong"),
)
"""Coefficients of the error of gx on {g, J_F^T g}, and the mistake they belong to; {g} is what the skip hands back."""


def _mixed(error: tuple[float, float], cause: str, text: str) -> Suspect:
    """A block whose gx is off by error[0] g + error[1] J_F^T g."""

    def backward(self: ResidualBlock, gy: Array) -> Any:
        gx, gw1, gw2 = ResidualBlock.backward(self, gy)
        return gx + error[0] * gy + error[1] * (gx - gy), gw1, gw2

    return suspect(cause, type(cause, (ResidualBlock,), {"__doc__": text.format(g="g"), "backward": backward}))


BLOCK: list[Suspect] = [
    suspect("SKIP_DROPPED", ForwardWithoutSkip),
    suspect("PATHS_AVERAGED", ForwardAveraged),
    *(suspect("RELU_ON_SKIP", op) for op in (ForwardRectified, ForwardRectifiedSkip)),
    *(suspect("RELU_MISPLACED", op) for op in (ForwardWithoutRelu, ForwardReluOfBranch)),
    *(suspect("RELU_ON_SKIP", op) for op in (ReluOnTheSum, ReluBeforeBoth, ReluOnTheSkip, ReluOfTheInput)),
    *(suspect("ONE_PLUS_GRADIENT", op) for op in (OnePlus, OnePlusAll)),
    *(suspect("RELU_MASK_WRONG", op) for op in (MaskForgotten, MaskOfTheGradient, MaskOfTheInput)),
    suspect("WEIGHTS_AVERAGED", WeightsAveraged),
    suspect("TRANSPOSED", Transposed),
    suspect("RELU_MISPLACED", InputForHidden),
    *(_mixed(*path) for path in PATHS),
]

# --- the projection


class _Projection(ProjectionBlock):
    """A projection block whose backward knows its parts, so that one of them can be wrong."""

    def parts(self, gy: Array) -> dict[str, Array]:
        gx, gws, gw1, gw2 = super().backward(gy)
        skip = gy @ self.ws
        return {"skip": skip, "branch": gx - skip, "gws": gws, "gw1": gw1, "gw2": gw2}


def _projection(text: str, change: Any) -> type[Function]:
    """A projection block with that docstring, whose parts (skip, branch, gws, gw1, gw2) go through `change`."""

    def backward(self: _Projection, gy: Array) -> Any:
        p = change(self, gy, self.parts(gy))
        return p["skip"] + p["branch"], p["gws"], p["gw1"], p["gw2"]

    return type("Wrong", (_Projection,), {"__doc__": text, "backward": backward})


PROJECTION: list[Suspect] = [
    suspect(
        "PROJECTION_WITHOUT_GRADIENT",
        _projection("gws = 0: the projection is never trained.", lambda op, gy, p: p | {"gws": 0 * p["gws"]}),
    ),
    suspect(
        "SKIP_DROPPED",
        _projection("gx = J_F^T gy: the skip hands nothing back.", lambda op, gy, p: p | {"skip": 0 * p["skip"]}),
    ),
    suspect(
        "BRANCH_DROPPED",
        _projection("gx = gy ws: the branch hands nothing back.", lambda op, gy, p: p | {"branch": 0 * p["branch"]}),
    ),
    suspect(
        "SKIP_DOUBLED",
        _projection("gx = 2 gy ws + J_F^T gy: the skip counts twice.", lambda op, gy, p: p | {"skip": 2 * p["skip"]}),
    ),
    suspect(
        "WEIGHTS_AVERAGED",
        _projection(
            "the weights' gradients are means over the rows, where the gradient is a sum: off by 1 / N.",
            lambda op, gy, p: p | {name: p[name] / len(gy) for name in ("gws", "gw1", "gw2")},
        ),
    ),
    suspect(
        "TRANSPOSED",
        _projection(
            "the weights' gradients are transposed.",
            lambda op, gy, p: p | {name: p[name].T for name in ("gws", "gw1", "gw2")},
        ),
    ),
    suspect(
        "PROJECTION_TRANSPOSED",
        _projection(
            "the skip hands back gy ws^T, where it is gy ws.",
            lambda op, gy, p: p | {"skip": gy @ op.ws.T if op.ws.shape[0] == op.ws.shape[1] else p["skip"]},
        ),
    ),
    suspect(
        "PROJECTION_BYPASSED",
        _projection(
            "the skip hands back gy itself, as where nothing is projected.",
            lambda op, gy, p: p | {"skip": gy if gy.shape == p["skip"].shape else p["skip"]},
        ),
    ),
]
