"""Networks, one architecture family a file, and the registry that makes them by name."""

from minires.models.alexnet import AlexNet, alexnet
from minires.models.bert import Bert, BertForPretraining, bert_base, bert_large, bert_tiny
from minires.models.conformer import Conformer, conformer_s, conformer_tiny
from minires.models.densenet import DenseNet, densenet, densenet_bc
from minires.models.depth_gpt import DepthGPT
from minires.models.efficientnet import EfficientNet, MobileNetV2
from minires.models.fixup_resnet import FixupResNet, fixup_resnet
from minires.models.gpt import GPT, gpt_char
from minires.models.highway import HighwayCNN, HighwayMLP
from minires.models.lenet import LeNet, lenet
from minires.models.mlp import MLP, mlp
from minires.models.policy_value import PolicyValueTower, policy_value_tower
from minires.models.preact_resnet import PreActBlock, PreActBottleneck, PreActResNet, preact_resnet
from minires.models.registry import Depths, Description, Info, create, describe, info, names, register
from minires.models.resnet import BasicBlock, Bottleneck, ResNet
from minires.models.resnet_cifar import CifarResNet, PlainBlock, ResidualBlock, plain, resnet
from minires.models.rezero_resnet import ReZeroResNet, rezero_resnet
from minires.models.se_resnet import SEBasicBlock, SEBottleneck, SEResNet
from minires.models.stochastic_depth import StochasticDepthResNet, stochastic_depth_resnet
from minires.models.transformer import EncoderDecoder, Transformer, transformer_base, transformer_tiny
from minires.models.unet import UNet, unet
from minires.models.vgg import VGG
from minires.models.vit import ViT, vit_base, vit_small, vit_tiny
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
    "alexnet",
    "bert_base",
    "bert_large",
    "bert_tiny",
    "conformer_s",
    "conformer_tiny",
    "create",
    "densenet",
    "densenet_bc",
    "describe",
    "fixup_resnet",
    "gpt_char",
    "info",
    "lenet",
    "mlp",
    "names",
    "plain",
    "policy_value_tower",
    "preact_resnet",
    "register",
    "resnet",
    "rezero_resnet",
    "stochastic_depth_resnet",
    "transformer_base",
    "transformer_tiny",
    "unet",
    "vit_base",
    "vit_small",
    "vit_tiny",
]
