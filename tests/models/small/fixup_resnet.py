"""Fixup at its smallest."""

from tests.models.small import Small, images

SMALL = [Small("fixup_resnet8", {"num_classes": 3, "width": 2}, images())]
COUNTS = [
    # no gains and biases of batch norm; four numbers and a multiplier for each of 27 blocks, and two at the ends
    ("fixup_resnet56", {}, 853_018 - 2 * (16 + 18 * (16 + 32 + 64)) + 27 * 5 + 2),
]
