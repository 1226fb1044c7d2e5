"""AlexNet at its smallest."""

from tests.models.small import Small, images

SMALL = [
    Small("alexnet", {"num_classes": 3, "width": 2, "hidden": 8, "dropout": 0.0}, images(size=63)),
    Small("alexnet", {"num_classes": 3, "width": 4, "hidden": 8, "dropout": 0.0, "two_tower": True}, images(size=63)),
]
COUNTS = [
    ("alexnet", {}, 61_100_840),
    ("alexnet", {"two_tower": True}, 60_965_224),
]
