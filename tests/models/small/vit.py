"""ViT at its smallest; with LayerScale too."""

from tests.models.small import Small, images

SIZES = {"num_classes": 3, "image_size": 8, "patch_size": 4, "layers": 2, "heads": 2, "width": 4, "feedforward": 6}

SMALL = [
    *(Small(name, SIZES, images(size=8)) for name in ("vit_base", "vit_small", "vit_tiny")),
    Small("vit_tiny", {**SIZES, "layer_scale": 0.1, "drop_path": 0.2}, images(size=8)),
]
COUNTS = [
    ("vit_tiny", {}, 5_717_416),
    ("vit_small", {}, 22_050_664),
    ("vit_base", {}, 86_567_656),
]
