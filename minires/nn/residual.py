"""Skips of every kind as layers: the one around a residual branch, and those that concatenate.

`Residual` is the way through every block of every model: what it adds, what it multiplies, where it normalizes and
when it leaves a branch out is in its `forward`, a line each. What a branch may be multiplied by is in
`residual_scale.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import init
from minires.nn.containers import Sequential
from minires.nn.conv import Conv1d, Conv2d
from minires.nn.dropout import DropPath
from minires.nn.linear import Linear
from minires.nn.module import Module
from minires.nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from minires.nn.residual_scale import Scale, StochasticDepth

NORMS = (BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm)


class _Around(Module):
    """A module of parts, a branch among them: each is given, or in a subclass a method, which keeps the keys flat."""

    branch: Any = None

    def __init__(self, branch: Module | None) -> None:
        self._take(branch=branch)
        if self.branch is None:
            raise RequestError(f"{type(self).__name__} has no branch; give it a Module, or write def branch(self, x)")

    def _take(self, **parts: Any) -> None:
        """Keeps the parts that were given. Raises RequestError where the subclass has one of that name already."""
        for name, part in parts.items():
            if part is not None and getattr(self, name) is not None:
                raise RequestError(
                    f"{type(self).__name__}: {name} was given, but the class has its own {name}; "
                    "leave one out, or give what is no part of the skip another name"
                )
            if part is not None:
                setattr(self, name, part)


class Residual(_Around):
    """The skip around a branch F.

        norm=None      y = act( shortcut(x) + drop(scale(F(x))) )
        norm="pre"     y = act( shortcut(x) + drop(scale(F(norm_layer(x)))) )     usually x + F(norm(x)): a clean stream
        norm="post"    y = act( norm_layer( shortcut(x) + drop(scale(F(x))) ) )
        gate           F(x) times T(x), and shortcut(x) times 1 - T(x), in any of these

    branch        F, a Module
    shortcut      what carries x past the branch; it must give the branch's output shape. None: the identity
    scale         what F is multiplied by: a number, LearnedScale (ReZero, SkipInit) or LayerScale
    gate          T, such as `TransferGate`: a Highway layer
    drop_path     a number, the chance that a sample's branch is dropped (DropPath); StochasticDepth, for which a
                  dropped branch is not computed; or another Module, such as Dropout
    norm          None, "pre" or "post", with norm_layer, any Module
    activation    a function of the sum, such as F.relu

    More arguments of a call go to the branch. A subclass may write a part as a method, `def branch(self, x)`, and keeps
    its keys flat. So in a subclass these names, and `norm`, mean this and nothing else.

    Raises RequestError for a part that is given and is the subclass's own, for a norm without norm_layer or the other
    way round, and in `forward` when the branch's shape is not the shortcut's: a skip must not broadcast.

    Backward  gx = gy + J_Fᵀ gy (see `minires.ops.residual`), where shortcut, gate, post-norm and activation are absent
    Source    He et al. 2015, Deep Residual Learning, eq. 1 and 2; He et al. 2016, Identity Mappings in Deep Residual
              Networks; Srivastava et al. 2015, Highway Networks, eq. 3; Xiong et al. 2020, On Layer Normalization in
              the Transformer Architecture, figure 1
    """

    last_norm: ClassVar[str] = ""  # a subclass whose `branch` ends in a norm names it, for zero_gamma_
    shortcut: Any = None
    scale: Any = None
    gate: Any = None
    drop_path: Any = None
    norm_layer: Any = None
    activation: Any = None

    def __init__(
        self,
        branch: Module | None = None,
        shortcut: Module | None = None,
        *,
        scale: float | Module | None = None,
        gate: Module | None = None,
        drop_path: float | Module = 0.0,
        norm: str | None = None,
        norm_layer: Module | None = None,
        activation: Callable[[Any], Any] | None = None,
    ) -> None:
        if norm not in (None, "pre", "post"):
            raise RequestError(f"Residual: norm is {norm!r}, but there are None, 'pre' and 'post'")
        super().__init__(branch)
        self.norm = norm
        scale = Scale(scale) if isinstance(scale, (int, float)) else scale
        drop = drop_path if isinstance(drop_path, Module) else DropPath(drop_path) if drop_path else None
        self._take(shortcut=shortcut, scale=scale, gate=gate, drop_path=drop)
        self._take(norm_layer=norm_layer, activation=activation)
        if (norm is None) != (self.norm_layer is None):
            raise RequestError(f"Residual: norm is {norm!r} and norm_layer {self.norm_layer!r}; give both, or neither")

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        y = x if self.shortcut is None else self.shortcut(x)
        t = None if self.gate is None else self.gate(x)
        if t is not None:
            y = (1 - t) * y
        keep = self.drop_path.draw() if isinstance(self.drop_path, StochasticDepth) else None
        if keep != 0:  # a dropped branch is not even computed
            f = self._scaled(x, *args, **kwargs)
            if keep is not None:
                f = f if keep == 1 else F.mul(f, keep)
            elif self.drop_path is not None:
                f = self.drop_path(f)
            y = F.residual_add(y, f if t is None else t * f)
        if self.norm == "post":
            y = self.norm_layer(y)
        return y if self.activation is None else self.activation(y)

    def update(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What the branch adds to the skip: drop(scale(F(x))), with norm="pre" of norm_layer(x)."""
        f = self._scaled(x, *args, **kwargs)
        return f if self.drop_path is None else self.drop_path(f)

    def _scaled(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        f = self.branch(self.norm_layer(x) if self.norm == "pre" else x, *args, **kwargs)
        return f if self.scale is None else self.scale(f)


# --- shortcuts, for a branch that changes the shape


class ShortcutA(Module):
    """Option A: every `stride`-th pixel, and zeros for the new channels; the identity where nothing changes.

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    Keys      none: there is nothing to learn
    Source    He et al. 2015, Deep Residual Learning, section 3.3 (A)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: Any) -> Any:
        if self.stride == 1 and self.in_channels == self.out_channels:
            return x
        return F.pad_channels(x, self.out_channels, self.stride)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"


class ShortcutC(Sequential):
    """Option C: a 1x1 convolution and batch norm, even where nothing changes, so that no gradient passes untouched.

    Shapes    as ShortcutA
    Keys      0.weight (the convolution's), 1.weight, 1.bias, ... (batch norm's)
    Source    He et al. 2015, Deep Residual Learning, section 3.3 (C)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels))


class ShortcutB(Sequential):
    """Option B: a 1x1 convolution and batch norm where the shape changes, else the identity.

    Shapes    as ShortcutA
    Keys      those of ShortcutC, or none
    Source    He et al. 2015, Deep Residual Learning, section 3.3 (B)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        changes = stride != 1 or in_channels != out_channels
        super().__init__(*(ShortcutC(in_channels, out_channels, stride) if changes else ()))


# --- gates


class TransferGate(Module):
    """T(x) = sigmoid(W x + b), for `Residual(gate=...)`: y = T(x) F(x) + (1 - T(x)) x, a Highway layer.

    layer     W and b: a Linear or a convolution with a bias
    bias      what b starts from: negative, so that at first most of x is carried past (T = .12 at -2)

    Keys      layer.weight, layer.bias
    Raises RequestError for a layer without bias.
    Source    Srivastava et al. 2015, Highway Networks, eq. 2 and 3, section 2.2
    """

    def __init__(self, layer: Linear | Conv1d | Conv2d, bias: float = -2.0) -> None:
        if layer.bias is None:
            raise RequestError("TransferGate: the layer has no bias, but the gate starts from it; drop bias=False")
        self.layer = layer
        init.constant_(layer.bias, bias)

    def forward(self, x: Any) -> Tensor:
        return F.sigmoid(self.layer(x))


class GatedShortcut(Module):
    """(1 - T(x)) shortcut(x): gating of the shortcut alone, which leaves the branch at full strength.

    Source    He et al. 2016, Identity Mappings in Deep Residual Networks, section 3.1 (shortcut-only gating)
    """

    def __init__(self, gate: Module, shortcut: Module | None = None) -> None:
        self.gate = gate
        self.shortcut = shortcut

    def forward(self, x: Any) -> Tensor:
        return (1 - self.gate(x)) * (x if self.shortcut is None else self.shortcut(x))


# --- skips that concatenate: nothing is added, so there is no +1, but a copy of gy's part


class DenseConcat(_Around):
    """y = [x, F(x)]: x stays as it is beside the new features, and all later layers see both.

    branch    F, as in `Residual`
    dim       the axis of the features

    Backward  gx = gy[x's part] + J_Fᵀ gy[F's part]
    Shapes    x: (N, C, ...); y: (N, C + K, ...)
    Source    Huang et al. 2017, Densely Connected Convolutional Networks, eq. 2
    """

    def __init__(self, branch: Module | None = None, dim: int = 1) -> None:
        super().__init__(branch)
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return F.cat((x, self.branch(x)), self.dim)


class EncoderDecoderSkip(Module):
    """y = [crop(e), d]: the encoder's map beside the decoder's, cut to its middle where it is larger.

    Convolutions without padding lose a border on the way down and up; what the encoder has more of is cut off on both
    sides, of an odd number of pixels one more at the end.

    Shapes    d: (N, C, H, W); e: (N, E, at least H, at least W); y: (N, E + C, H, W)
    Raises RequestError when the encoder's map is the smaller one.
    Source    Ronneberger et al. 2015, U-Net, section 2
    """

    def forward(self, d: Any, e: Any) -> Tensor:
        if d.ndim != 4 or e.ndim != 4 or d.shape[0] != e.shape[0] or e.shape[2] < d.shape[2] or e.shape[3] < d.shape[3]:
            raise RequestError(
                f"EncoderDecoderSkip: the decoder's map is {tuple(d.shape)} and the encoder's {tuple(e.shape)}, but "
                "they must be (N, C, H, W), and the encoder's H and W at least the decoder's; "
                "give images whose sides halve evenly on the way down"
            )
        if tuple(e.shape[2:]) != tuple(d.shape[2:]):
            (h, w), (top, left) = d.shape[2:], ((e.shape[2] - d.shape[2]) // 2, (e.shape[3] - d.shape[3]) // 2)
            e = F.getitem(e, (slice(None), slice(None), slice(top, top + h), slice(left, left + w)))  # (N, E, H, W)
        return F.cat((e, d), 1)


# --- starting as the identity


def zero_gamma_(module: Module) -> Module:
    """Sets gamma, the weight, of a norm to 0; of any other module, that of each norm in which a residual branch ends.

    With beta = 0, as norms start, such a block adds nothing at first: y = x, or act(x). Returns `module`.

    Raises RequestError where no branch ends in a norm with a weight. A pre-activation branch does not: zero gammas
    inside it would stop every gradient, since the rectifier behind them has slope 0 at 0.
    Source    Goyal et al. 2017, Accurate, Large Minibatch SGD, section 5.1
    """
    ends = [module] if isinstance(module, NORMS) else [_end(m) for m in module.modules() if isinstance(m, Residual)]
    weights = [end.weight for end in ends if isinstance(end, NORMS) and end.weight is not None]
    if not weights:
        raise RequestError(f"zero_gamma_: no residual branch in this {type(module).__name__} ends in a norm")
    for weight in weights:
        init.zeros_(weight)
    return module


def _end(residual: Residual) -> Module | None:
    """The layer that the branch ends in, as far as its form tells."""
    if residual.last_norm:
        found: Module = getattr(residual, residual.last_norm)
        return found
    branch = residual.branch
    while isinstance(branch, Sequential) and len(branch):
        branch = branch[-1]
    return branch if isinstance(branch, Module) else None
