"""One residual tower with two heads, as programs that play board games use it: which move, and who wins.

A 3x3 convolution, `blocks` post-activation residual blocks, then a policy head (scores of the actions) and a value head
(one number between -1 and 1). AlphaGo Zero's are planes=17, width=256, hidden=256, size=19, actions=362 with
blocks=19 or 39; the defaults suit a board of 8 x 8 on which one moves in four directions.

Source: Silver et al. 2017, Mastering the game of Go without human knowledge, Methods, Neural network architecture.
"""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.nn import BatchNorm2d, Conv2d, GroupNorm, Identity, Linear, Module, ReLU, Residual, Sequential

NORMS = ("batch", "group")


def normalization(kind: str, channels: int, head: bool = False) -> Module:
    """BatchNorm2d, as published, or one GroupNorm over all channels, whose result no other board has a part in.

    Who acts with a network and then learns from the same boards in another batch needs the second: with batch norm
    the policy that acted is not the one whose gradient is taken. A head's few channels then go without, since a group
    norm would take from them how large they are, and with it how good the position is.
    """
    if kind == "batch":
        return BatchNorm2d(channels)
    return Identity() if head else GroupNorm(1, channels)


class TowerBlock(Residual):
    """y = relu(x + F(x)) with F(x) = norm(conv(relu(norm(conv(x))))).

    Shapes    x, y: (N, width, H, W)
    Keys      conv1, norm1, conv2, norm2
    """

    def __init__(self, width: int, norm: str) -> None:
        super().__init__(activation=ReLU())
        self.conv1 = Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = normalization(norm, width)
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = normalization(norm, width)

    def branch(self, x: Any) -> Tensor:
        return self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))


@register(
    "policy_value_tower",
    depth=12,  # 2 blocks + 1 convolutions, and the three layers of the value head
    skip="y = relu(x + F(x))",
    source="Silver et al. 2017, Mastering the game of Go without human knowledge",
)
class PolicyValueTower(Module):
    """(scores of the actions, value of the position) of each board.

    policy_planes    what the policy head sees of each cell: 2 are enough where an action is a cell, as in Go
    value_planes     the same of the value head; without batch norm take more than 1, which may start all negative, and
                     behind a ReLU would stay so

    Shapes    x: (N, planes, size, size); scores: (N, actions), before the softmax; value: (N,), in (-1, 1)
    Keys      conv, norm; blocks.{i}; policy_conv, policy_norm, policy; value_conv, value_norm, value_hidden, value
    """

    def __init__(
        self,
        planes: int = 3,
        actions: int = 4,
        size: int = 8,
        blocks: int = 4,
        width: int = 32,
        hidden: int = 64,
        policy_planes: int = 2,
        value_planes: int = 1,
        norm: str = "batch",
    ) -> None:
        name = "policy_value_tower"
        require.at_least_one(name, planes=planes, actions=actions, size=size, width=width, hidden=hidden)
        require.at_least_one(name, policy_planes=policy_planes, value_planes=value_planes)
        require.one_of(name, "norm", norm, NORMS)
        if blocks < 0:
            raise RequestError(f"{name}: blocks is {blocks}, but must be at least 0")
        self.board_shape = (planes, size, size)
        self.conv = Conv2d(planes, width, 3, padding=1, bias=False)
        self.norm = normalization(norm, width)
        self.blocks = Sequential(*(TowerBlock(width, norm) for _ in range(blocks)))
        self.policy_conv = Conv2d(width, policy_planes, 1, bias=False)
        self.policy_norm = normalization(norm, policy_planes, head=True)
        self.policy = Linear(policy_planes * size * size, actions)
        self.value_conv = Conv2d(width, value_planes, 1, bias=False)
        self.value_norm = normalization(norm, value_planes, head=True)
        self.value_hidden = Linear(value_planes * size * size, hidden)
        self.value = Linear(hidden, 1)

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        require.images("policy_value_tower", x, self.board_shape, "planes and size")
        x = F.relu(self.norm(self.conv(x)))  # (N, width, H, W)
        x = self.blocks(x)
        p = F.relu(self.policy_norm(self.policy_conv(x)))  # (N, policy_planes, H, W)
        v = F.relu(self.value_norm(self.value_conv(x)))  # (N, value_planes, H, W)
        v = F.relu(self.value_hidden(F.flatten(v, 1)))  # (N, hidden)
        return self.policy(F.flatten(p, 1)), F.squeeze(F.tanh(self.value(v)), 1)
