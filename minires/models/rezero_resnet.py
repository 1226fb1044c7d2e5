"""ReZero ResNets: each branch is multiplied by one learned number that starts from 0.

y = relu(shortcut(x) + alpha F(x)) with alpha = 0 at first, so that a network of any depth starts as its shortcuts and
rectifiers alone, which hand signal and gradient on as they are.

Source: Bachlechner et al. 2020, ReZero is All You Need: Fast Convergence at Large Depth
"""

from __future__ import annotations

from minires.models.registry import register
from minires.models.resnet_cifar import COMPARED, CifarResNet, ResidualBlock
from minires.nn import BatchNorm2d, Identity, LearnedScale, Module


@register(
    "rezero_resnet",
    depth=COMPARED,
    skip="y = relu(x + alpha F(x)), alpha = 0 at first",
    source="Bachlechner et al. 2020, ReZero is All You Need",
)
class ReZeroResNet(CifarResNet):
    """ResNet-N with y = relu(shortcut(x) + alpha F(x)).

    norm    whether the batch norms stay, as in the paper's comparison with ResNet-56; without them convolutions have
            a bias instead, and alpha = 0 alone makes depth trainable

    Keys    those of CifarResNet, with scale.alpha in each block; without norm, no bn1 and bn2, but conv{1,2}.bias
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        shortcut: str = "A",
        norm: bool = True,
    ) -> None:
        def block(before: int, after: int, stride: int) -> Module:
            residual = ResidualBlock(before, after, stride, shortcut, bias=not norm, scale=LearnedScale())
            return residual if norm else _without_norm(residual)

        super().__init__(depth, num_classes, in_channels, width, shortcut, block=block, bias=not norm)
        if not norm:
            _without_norm(self)


def _without_norm(module: Module) -> Module:
    for name, child in list(module.named_children()):
        if isinstance(child, BatchNorm2d):
            module.add_module(name, Identity())
    return module
