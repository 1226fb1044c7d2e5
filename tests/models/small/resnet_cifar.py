"""The original CIFAR networks at their smallest; more counts are in `tests/models/test_resnet_cifar.py`."""

from tests.models.small import Small, images

TINY = {"num_classes": 3, "width": 2}
SMALL = [
    Small("plain8", TINY, images()),
    Small("resnet8", TINY | {"shortcut": "B", "shortcut_kind": "exclusive_gate", "gate_bias": -1.0}, images()),
    Small("resnet8", TINY, images()),
]
COUNTS = [
    ("plain20", {}, 269_722),
    ("resnet20", {}, 269_722),
    ("resnet32", {}, 464_154),
    ("resnet44", {}, 658_586),
    ("resnet56", {}, 853_018),
    ("resnet110", {}, 1_727_962),
    ("resnet1202", {}, 19_421_274),
]
