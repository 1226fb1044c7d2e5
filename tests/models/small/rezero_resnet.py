"""ReZero at its smallest, with and without batch norm."""

from tests.models.small import Small, images

TINY = {"num_classes": 3, "width": 2}
SMALL = [
    Small("rezero_resnet8", TINY | {"norm": False}, images()),
    Small("rezero_resnet8", TINY, images()),
]
COUNTS = [
    ("rezero_resnet56", {}, 853_018 + 27),  # one alpha for each block
    # without norm: a bias for a gain and a bias, in the first convolution and in each of 18 of every stage
    ("rezero_resnet56", {"norm": False}, 853_018 + 27 - (16 + 18 * (16 + 32 + 64))),
]
