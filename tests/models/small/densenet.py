"""DenseNet at its smallest."""

from tests.models.small import Small, images

SMALL = [
    Small("densenet10", {"num_classes": 3, "growth_rate": 2}, images(size=4, n=4)),
    Small("densenet_bc10", {"num_classes": 3, "growth_rate": 2}, images(size=4, n=4)),
    Small(
        "densenet121",
        {"num_classes": 3, "block_config": (1, 2), "growth_rate": 2, "num_init_features": 4},
        images(size=8, n=4),
    ),
]
COUNTS = [
    ("densenet40", {}, 1_019_722),
    ("densenet100", {}, 6_979_642),
    ("densenet100", {"growth_rate": 24}, 27_249_082),
    ("densenet_bc40", {}, 176_122),
    ("densenet_bc100", {}, 769_162),
    ("densenet_bc250", {"growth_rate": 24}, 15_324_406),
    ("densenet_bc190", {"growth_rate": 40}, 25_624_430),
    ("densenet121", {}, 7_978_856),
    ("densenet169", {}, 14_149_480),
    ("densenet201", {}, 20_013_928),
    ("densenet161", {}, 28_681_000),
]
