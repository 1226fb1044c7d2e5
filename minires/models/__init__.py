"""Networks, one architecture family a file, and the registry that makes them by name."""

from minires.models.lenet import LeNet, lenet
from minires.models.mlp import MLP, mlp
from minires.models.registry import Depths, Description, Info, create, describe, info, names, register
from minires.models.resnet_cifar import CifarResNet, PlainBlock, ResidualBlock, plain, resnet

__all__ = [
    "MLP",
    "CifarResNet",
    "Depths",
    "Description",
    "Info",
    "LeNet",
    "PlainBlock",
    "ResidualBlock",
    "create",
    "describe",
    "info",
    "lenet",
    "mlp",
    "names",
    "plain",
    "register",
    "resnet",
]
