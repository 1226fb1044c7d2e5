"""Pre-activation networks at their smallest, with each order of norm, rectifier and sum."""

from tests.models.small import Small, images

TINY = {"num_classes": 3, "width": 2}
SMALL = [
    Small("preact_resnet8", TINY, images()),
    Small("preact_resnet11", TINY, images()),
]
COUNTS = [
    ("preact_resnet20", {}, 269_722),
    ("preact_resnet110", {}, 1_727_962),
    ("preact_resnet110", {"shortcut": "project"}, 1_730_522),
    ("preact_resnet164", {}, 1_703_258),
    ("preact_resnet1001", {}, 10_327_706),
    # norm and rectifier elsewhere: a norm behind the first convolution, none behind the last block
    ("preact_resnet110", {"order": "original"}, 1_727_962),
    ("preact_resnet110", {"order": "bn_after_addition"}, 1_727_962),
    ("preact_resnet110", {"order": "relu_before_addition"}, 1_727_962),
    ("preact_resnet110", {"order": "relu_only_preactivation"}, 1_727_962),
]
