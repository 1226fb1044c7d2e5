"""SE-ResNets at their smallest. Bottlenecks are checked in test_se_resnet.py, in a network less deep than 50."""

from tests.models.small import Small, images

TINY = {"num_classes": 3, "width": 2, "reduction": 2}
SMALL = [
    Small("se_resnet18", TINY, images(size=33)),
    Small("se_resnet18", {**TINY, "small_images": True, "relu_before_gate": False}, images(size=9)),
]
COUNTS = [
    ("se_resnet18", {}, 11_778_592),
    ("se_resnet50", {}, 28_088_024),
    ("se_resnet101", {}, 49_326_872),
    ("se_resnet152", {}, 66_821_848),
]
