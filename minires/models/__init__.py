"""Networks, one architecture family a file, and the registry that makes them by name: `create("resnet20")`.

Here are the classes; what else a family has is in its own file.
"""

from minires.models.alexnet import AlexNet
from minires.models.bert import Bert, BertForPretraining
from minires.models.conformer import Conformer
from minires.models.densenet import DenseNet
from minires.models.depth_gpt import DepthGPT
from minires.models.efficientnet import EfficientNet, MobileNetV2
from minires.models.fixup_resnet import FixupResNet
from minires.models.gpt import GPT
from minires.models.highway import HighwayCNN, HighwayMLP
from minires.models.lenet import LeNet
from minires.models.mlp import MLP
from minires.models.policy_value import PolicyValueTower
from minires.models.preact_resnet import PreActBlock, PreActBottleneck, PreActResNet
from minires.models.registry import Depths, Description, Info, create, describe, info, names, register
from minires.models.resnet import BasicBlock, Bottleneck, ResNet
from minires.models.resnet_cifar import CifarResNet, PlainBlock, ResidualBlock
from minires.models.rezero_resnet import ReZeroResNet
from minires.models.se_resnet import SEBasicBlock, SEBottleneck, SEResNet
from minires.models.stochastic_depth import StochasticDepthResNet
from minires.models.transformer import EncoderDecoder, Transformer
from minires.models.unet import UNet
from minires.models.vgg import VGG
from minires.models.vit import ViT
from minires.models.wide_resnet import WideBlock, WideResNet

__all__ = [
    "GPT",
    "MLP",
    "VGG",
    "AlexNet",
    "BasicBlock",
    "Bert",
    "BertForPretraining",
    "Bottleneck",
    "CifarResNet",
    "Conformer",
    "DenseNet",
    "DepthGPT",
    "Depths",
    "Description",
    "EfficientNet",
    "EncoderDecoder",
    "FixupResNet",
    "HighwayCNN",
    "HighwayMLP",
    "Info",
    "LeNet",
    "MobileNetV2",
    "PlainBlock",
    "PolicyValueTower",
    "PreActBlock",
    "PreActBottleneck",
    "PreActResNet",
    "ReZeroResNet",
    "ResNet",
    "ResidualBlock",
    "SEBasicBlock",
    "SEBottleneck",
    "SEResNet",
    "StochasticDepthResNet",
    "Transformer",
    "UNet",
    "ViT",
    "WideBlock",
    "WideResNet",
    "create",
    "describe",
    "info",
    "names",
    "register",
]
