"""The multilayer perceptron and LeNet at their smallest."""

from tests.models.small import Small, images

SMALL = [
    Small("mlp", {"num_classes": 3, "hidden": [5], "image_size": 4}, images(size=4)),
    Small("lenet", {"num_classes": 3, "in_channels": 1, "image_size": 8}, images(channels=1), steps=15),
]
