"""Activations, away from their kinks; what is chosen on a kink is a matter of laws."""

from __future__ import annotations

import math
from typing import Any

from minires import functional as F
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import activation as loops
from minires.ops.activation import (
    Elu,
    Gelu,
    GeluTanh,
    Hardswish,
    Hardtanh,
    LeakyRelu,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
)

# Where the slope is 0: a lone number there leaves no size for an error to be relative to.
SILU_IS_LEVEL, GELU_IS_LEVEL, HARDSWISH_IS_LEVEL = -1.2785, -0.7518, -1.5


def logistic(x: Any) -> Any:
    """1 / (1 + exp(-x)) out of elementary ops."""
    return F.div(1.0, F.add(F.exp(F.neg(x)), 1.0))


@case(Relu)
def relu(draw: Draw) -> Case:
    return Case(
        (draw.away(*draw.shape()),),
        reference=loops.relu,
        composed=lambda x: F.mul(F.add(x, F.abs(x)), 0.5),
        torch=lambda x: x.relu(),
    )


@case(LeakyRelu)
def leaky_relu(draw: Draw) -> Case:
    slope = draw.choice([0.01, 0.2, 0.0, 1.0, 1.7, -0.3])

    def torch(x: Any) -> Any:
        from torch.nn import functional as peer

        return peer.leaky_relu(x, slope)

    return Case(
        (draw.away(*draw.shape()),),
        {"slope": slope},
        reference=lambda x: loops.leaky_relu(x, slope),
        composed=lambda x: F.add(F.maximum(x, 0.0), F.mul(F.minimum(x, 0.0), slope)),
        torch=torch,
    )


@case(Elu)
def elu(draw: Draw) -> Case:
    alpha = draw.choice([1.0, 0.5, 1.6, 0.0])

    def torch(x: Any) -> Any:
        from torch.nn import functional as peer

        return peer.elu(x, alpha)

    return Case(
        (draw.away(*draw.shape()),),
        {"alpha": alpha},
        reference=lambda x: loops.elu(x, alpha),
        composed=lambda x: F.add(F.maximum(x, 0.0), F.mul(F.sub(F.exp(F.minimum(x, 0.0)), 1.0), alpha)),
        torch=torch,
    )


@case(Tanh)
def tanh(draw: Draw) -> Case:
    def composed(x: Any) -> Any:
        up, down = F.exp(x), F.exp(F.neg(x))
        return F.div(F.sub(up, down), F.add(up, down))

    x = draw.normal(*draw.shape())
    return Case((x,), reference=loops.tanh, composed=composed, torch=lambda x: x.tanh())


@case(Sigmoid)
def sigmoid(draw: Draw) -> Case:
    x = draw.normal(*draw.shape())
    return Case((x,), reference=loops.sigmoid, composed=logistic, torch=lambda x: x.sigmoid())


@case(Silu)
def silu(draw: Draw) -> Case:
    def torch(x: Any) -> Any:
        from torch.nn import functional as peer

        return peer.silu(x)

    x = draw.away(*draw.shape(), kinks=(SILU_IS_LEVEL,))
    return Case((x,), reference=loops.silu, composed=lambda x: F.mul(x, logistic(x)), torch=torch)


@case(Softplus)
def softplus(draw: Draw) -> Case:
    """Also with thresholds that small numbers pass, where the function jumps."""
    beta, threshold = draw.choice([1.0, 2.0, 0.5, 3.0, -1.5]), draw.choice([20.0, 1.0, 0.3, 2.0])

    def smooth(x: Any) -> Any:
        return F.div(F.log(F.add(F.exp(F.mul(x, beta)), 1.0)), beta)

    def composed(x: Any) -> Any:
        return F.where(x.data * beta > threshold, x, smooth(x))

    def torch(x: Any) -> Any:
        from torch.nn import functional as peer

        return peer.softplus(x, beta, threshold)

    return Case(
        (draw.away(*draw.shape(), kinks=(threshold / beta,)),),
        {"beta": beta, "threshold": threshold},
        reference=lambda x: loops.softplus(x, beta, threshold),
        composed=composed,
        torch=torch,
    )


@case(Hardtanh)
def hardtanh(draw: Draw) -> Case:
    low, high = draw.choice([(-1.0, 1.0), (0.0, 6.0), (-0.4, 0.9), (-2, 3), (0.5, 0.5)])

    def torch(x: Any) -> Any:
        from torch.nn import functional as peer

        return peer.hardtanh(x, low, high)

    return Case(
        (draw.away(*draw.shape(), kinks=(low, high), scale=(high - low) / 2 or 1.0),),
        {"low": low, "high": high},
        reference=lambda x: loops.hardtanh(x, low, high),
        composed=lambda x: F.minimum(F.maximum(x, low), high),
        torch=torch,
    )


@case(Hardswish)
def hardswish(draw: Draw) -> Case:
    def torch(x: Any) -> Any:
        from torch.nn import functional as peer

        return peer.hardswish(x)

    return Case(
        (draw.away(*draw.shape(), kinks=(-3.0, HARDSWISH_IS_LEVEL, 3.0), scale=3.0),),
        reference=loops.hardswish,
        composed=lambda x: F.mul(x, F.div(F.minimum(F.maximum(F.add(x, 3.0), 0.0), 6.0), 6.0)),
        torch=torch,
    )


@case(Gelu)
def gelu(draw: Draw) -> Case:
    def torch(x: Any) -> Any:
        from torch.nn import functional as peer

        return peer.gelu(x)

    return Case(
        (draw.away(*draw.shape(), kinks=(GELU_IS_LEVEL,)),),
        reference=loops.gelu,
        torch=torch,
        analytic=False,
        why_not="erf of a complex number needs SciPy, and minires does not",
    )


@case(GeluTanh)
def gelu_tanh(draw: Draw) -> Case:
    def composed(x: Any) -> Any:
        cubic = F.add(x, F.mul(F.pow(x, 3), 0.044715))
        return F.mul(F.mul(x, 0.5), F.add(F.tanh(F.mul(cubic, math.sqrt(2 / math.pi))), 1.0))

    def torch(x: Any) -> Any:
        from torch.nn import functional as peer

        return peer.gelu(x, approximate="tanh")

    x = draw.away(*draw.shape(), kinks=(GELU_IS_LEVEL,))
    return Case((x,), reference=loops.gelu_tanh, composed=composed, torch=torch)
