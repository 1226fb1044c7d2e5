"""VGG at its smallest."""

from tests.models.small import Small, images

SMALL = [Small("vgg16", {"num_classes": 3, "width": 2, "hidden": 8, "dropout": 0.0}, images(size=32))]
COUNTS = [
    ("vgg16", {}, 138_357_544),
    ("vgg16_bn", {}, 138_365_992),
    ("vgg19", {}, 143_667_240),
    ("vgg19_bn", {}, 143_678_248),
]
