"""What a residual branch is multiplied by before it is added: fixed, learned, or drawn at random."""

from __future__ import annotations

from typing import Any

from minires import backend
from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import init
from minires.nn.module import Module, Parameter, empty


class Scale(Module):
    """y = factor x, with a fixed number.

    On each of L branches, L^-1/2 keeps the sum of independent branches at the size of one. As a shortcut it is the
    constant scaling that harms (He et al. 2016, table 1), or DeepNorm's alpha, which the norm behind the sum divides
    out again.
    """

    def __init__(self, factor: float) -> None:
        self.factor = float(factor)

    def forward(self, x: Any) -> Tensor:
        return F.mul(x, self.factor)

    def extra_repr(self) -> str:
        return f"{self.factor}"


class LearnedScale(Module):
    """y = alpha x, with one learned number. From 0, every block starts as the identity and learns how much to add.

    At alpha = 0 only alpha itself has a gradient, so the first step moves alpha and the second the branch.

    Keys      alpha (1,)
    Source    Bachlechner et al. 2020, ReZero is All You Need; De and Smith 2020, Batch Normalization Biases Residual
              Blocks Towards the Identity Function in Deep Networks (SkipInit: the same, in place of batch norm)
    """

    def __init__(self, init: float = 0.0) -> None:
        self.init = float(init)
        self.alpha = Parameter(empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.constant_(self.alpha, self.init)

    def forward(self, x: Any) -> Tensor:
        return F.mul(x, self.alpha)

    def extra_repr(self) -> str:
        return f"init={self.init}"


class LayerScale(Module):
    """y = diag(gamma) x: one learned number for each feature, small at the start.

    dim       how many features
    init      what each starts from; the paper's choice for depths up to 18, up to 24 and above: 0.1, 1e-5, 1e-6
    axis      where they are: -1 for (..., D), 1 for (N, C, H, W)

    Keys      gamma (dim,)
    Raises RequestError when x has another number of features there.
    Source    Touvron et al. 2021, Going deeper with Image Transformers, eq. 4
    """

    def __init__(self, dim: int, init: float = 1e-5, axis: int = -1) -> None:
        self.dim = dim
        self.init = float(init)
        self.axis = axis
        self.gamma = Parameter(empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.constant_(self.gamma, self.init)

    def forward(self, x: Any) -> Tensor:
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != self.dim:
            raise RequestError(
                f"LayerScale: x is {tuple(x.shape)}, but must have {self.dim} features on axis {self.axis}"
            )
        behind = x.ndim - 1 - self.axis % x.ndim
        return F.mul(x, F.reshape(self.gamma, self.dim, *[1] * behind))

    def extra_repr(self) -> str:
        return f"{self.dim}, init={self.init}, axis={self.axis}"


class StochasticDepth(Module):
    """b x in training, with one b ~ Bernoulli(survival) for the whole batch; survival x in evaluation.

    Inside a `Residual` a branch with b = 0 is not computed at all, which is what makes training faster: its parameters
    then have no gradient (None), so the optimizer passes over them, and its batch norms see no batch. DropPath differs
    in two ways: it draws for each sample, and it divides by the chance in training instead of multiplying at test time.
    Where F is not linear, no test-time rule gives the mean over all subnetworks exactly.

    survival    the chance p of b = 1, between 0 and 1; see `linear_decay`

    Source    Huang et al. 2016, Deep Networks with Stochastic Depth, eq. 2 and 5
    """

    def __init__(self, survival: float) -> None:
        if not 0 <= survival <= 1:
            raise RequestError(f"StochasticDepth: survival is {survival}, but a probability lies between 0 and 1")
        self.survival = float(survival)

    def draw(self) -> float:
        """What this pass multiplies by: 0 or 1, drawn on the host, in training; `survival` in evaluation."""
        if not self.training:
            return self.survival
        return float(self.survival == 1 or backend.generator().random() < self.survival)

    def forward(self, x: Any) -> Tensor:
        return F.mul(x, self.draw())

    def extra_repr(self) -> str:
        return f"survival={self.survival}"


def linear_decay(block: int, blocks: int, last: float = 0.5) -> float:
    """The chance that block number `block` of 1 ... `blocks` survives: 1 - block / blocks (1 - last).

    So the input survives surely and the last block with chance `last`; on average (3L - 1) / 4 of L blocks are in use
    when last = 0.5. With blocks counted from 0 and `blocks - 1` for the last, 1 - linear_decay(...) is the row of drop
    rates that vision transformers use.

    Raises RequestError for a block that there is not, or a `last` that is no probability.
    Source    Huang et al. 2016, Deep Networks with Stochastic Depth, eq. 4
    """
    if not 0 <= block <= max(blocks, 0):
        raise RequestError(f"linear_decay: block {block} is not one of {blocks} blocks")
    if not 0 <= last <= 1:
        raise RequestError(f"linear_decay: last is {last}, but a probability lies between 0 and 1")
    return 1 - block / max(blocks, 1) * (1 - last)


def deepnorm(encoder_layers: int, decoder_layers: int = 0, part: str | None = None) -> tuple[float, float]:
    """DeepNorm's constants (alpha, beta): y = LN(alpha x + F(x)), with F's weights started beta times smaller.

                          alpha                    beta
        encoder only      (2 N)^1/4                (8 N)^-1/4
        decoder only      (2 M)^1/4                (8 M)^-1/4
        both: encoder     0.81 (N^4 M)^1/16        0.87 (N^4 M)^-1/16
        both: decoder     (3 M)^1/4                (12 M)^-1/4

    encoder_layers    N; 0 where there is no encoder
    decoder_layers    M; 0 where there is no decoder
    part              "encoder" or "decoder", where there are both: whose constants; by default the encoder's

    beta scales the start of the value and output projections and of both feed-forward layers, not of queries and keys:
    Residual(branch, nn.Scale(alpha), norm="post", norm_layer=nn.LayerNorm(d)).

    Raises RequestError without any layer, or for a part that is not there.
    Source    Wang et al. 2022, DeepNet: Scaling Transformers to 1,000 Layers, figure 2
    """
    n, m = encoder_layers, decoder_layers
    layers = {"encoder": n, "decoder": m}
    part = part or ("encoder" if n else "decoder")
    if min(n, m) < 0 or layers.get(part, 0) < 1:
        raise RequestError(
            f"deepnorm: part {part!r} of {n} encoder and {m} decoder layers; give the layers of the part, "
            "'encoder' or 'decoder', that the constants are for"
        )
    if n and m and part == "encoder":
        return 0.81 * (n**4 * m) ** (1 / 16), 0.87 * (n**4 * m) ** (-1 / 16)
    if n and m:
        return (3 * m) ** 0.25, (12 * m) ** -0.25
    return (2 * (n or m)) ** 0.25, (8 * (n or m)) ** -0.25
