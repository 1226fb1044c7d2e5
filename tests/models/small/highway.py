"""Highway networks at their smallest."""

from tests.models.small import Small, images

SMALL = [
    Small("highway_mlp10", {"num_classes": 3, "units": 6, "image_size": 8}, images(channels=1)),
    Small("plain_mlp3", {"num_classes": 3, "units": 8, "image_size": 8}, images(channels=1)),
    Small("highway_cnn10", {"num_classes": 3, "widths": (3, 4, 5)}, images()),
]
COUNTS = [
    ("highway_mlp10", {}, 85_660),
    ("highway_mlp20", {}, 136_660),
    ("highway_mlp50", {}, 289_660),
    ("highway_mlp100", {}, 544_660),
    ("plain_mlp10", {}, 102_463),
    ("plain_mlp20", {}, 153_583),
    ("plain_mlp50", {}, 306_943),
    ("plain_mlp100", {}, 562_543),
    ("highway_cnn19", {}, 2_262_714),  # our layout, of the paper's 2.3 M
]
