"""The Conformer at its smallest: as a classifier, and with an odd kernel and no convolution biases."""

from tests.models.small import Small


def utterances(rng):
    return rng.standard_normal((3, 16, 8)), rng.integers(0, 3, 3)


def smallest(**options):
    return {"num_classes": 3, "mels": 8, "layers": 1, "width": 4, "heads": 2, "kernel": 4, **options}


# A softmax over keys subtracts again what all keys have in common, and a batch norm what stands before it.
KEYS, BEFORE_NORM = "attention.branch.key.bias", "convolution.branch.depthwise.bias"

SMALL = [
    Small("conformer_s", smallest(), utterances, may_vanish=(KEYS, BEFORE_NORM)),
    Small("conformer_tiny", smallest(kernel=3, conv_bias=False), utterances, may_vanish=(KEYS,)),
]
COUNTS = [
    ("conformer_s", {}, 8_692_416),
    ("conformer_s", {"kernel": 31}, 8_692_416 - 16 * 144),
    ("conformer_s", {"kernel": 31, "conv_bias": False}, 16 * 506_160 + 582_336),
    ("conformer_s", {"num_classes": 10}, 8_692_416 + 1_450),
]
