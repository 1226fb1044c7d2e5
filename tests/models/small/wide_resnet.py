"""Wide ResNets at their smallest."""

from tests.models.small import Small, images

SMALL = [Small("wrn16_4", {"num_classes": 3, "width": 1}, images())]
COUNTS = [
    ("wrn16_4", {}, 2_748_890),
    ("wrn28_10", {}, 36_479_194),
    ("wrn40_4", {}, 8_949_210),
]
