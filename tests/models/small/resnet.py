"""The ImageNet ResNets at their smallest. Bottlenecks are checked in test_resnet.py, in networks less deep than 50."""

from tests.models.small import Small, images

SMALL = [
    Small("resnet18", {"num_classes": 3, "width": 2}, images(size=33)),
    Small("resnet18", {"num_classes": 3, "width": 2, "small_images": True}, images(size=9)),
]
COUNTS = [
    ("resnet18", {}, 11_689_512),
    ("resnet34", {}, 21_797_672),
    ("resnet50", {}, 25_557_032),
    ("resnet101", {}, 44_549_160),
    ("resnet152", {}, 60_192_808),
    ("resnet50", {"stride_in": "1x1"}, 25_557_032),
    ("resnet18", {"shortcut": "A"}, 11_515_688),
    ("resnet34", {"shortcut": "A"}, 21_623_848),
    ("plain18", {}, 11_515_688),
    ("plain34", {}, 21_623_848),
    ("resnext50_32x4d", {}, 25_028_904),
    ("wide_resnet50_2", {}, 68_883_240),
    ("resnet50", {"width_per_group": 128}, 68_883_240),
    ("resnet18", {"num_classes": 10, "small_images": True}, 11_173_962),
    ("resnet50", {"num_classes": 10, "small_images": True}, 23_520_842),
]
