"""U-Net at its smallest."""

from minires.train.tasks.segmentation import TASK
from tests.models.small import Small


def pictures(size):
    """A batch of images (N, 2, H, W) and random masks (N, 1, H, W)."""

    def batch(rng):
        return rng.standard_normal((3, 2, size, size)), rng.random((3, 1, size, size)) < 0.4

    return batch


def segment(model, images, masks):
    """The loss that `minires train --data nuclei` trains with."""
    return TASK.loss(model, images, masks)[0]


SHAPE = {"num_classes": 1, "in_channels": 2, "width": 2}
SMALL = [
    Small("unet", {**SHAPE, "levels": 1, "padding": "valid"}, pictures(18), segment),
    Small("unet", {**SHAPE, "levels": 2, "dropout": 0.3}, pictures(8), segment),
    Small("unet", {**SHAPE, "levels": 2, "norm": "batch"}, pictures(8), segment),
]
COUNTS = [
    ("unet", {}, 31_030_658),  # Ronneberger et al. 2015: one channel in, two classes, biases
    ("unet", {"padding": "valid"}, 31_030_658),
    ("unet", {"in_channels": 3, "norm": "batch"}, 31_037_698),  # batch norm instead of biases
    ("unet", {"width": 8}, 485_682),
]
