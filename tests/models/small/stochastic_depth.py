"""Stochastic depth at its smallest."""

from tests.models.small import Small, images

BEFORE_NORM = ("conv1.bias", "conv2.bias")
DROPPED = tuple(f"layer3.0.{layer}.{what}" for layer in ("conv1", "bn1", "conv2", "bn2") for what in ("weight", "bias"))
SMALL = [
    Small(  # with the seed of the gradient test, two branches are computed and the third one is dropped
        "stochastic_depth_resnet8",
        {"num_classes": 3, "width": 2},
        images(),
        may_vanish=(*BEFORE_NORM, *DROPPED),
        steps=12,
    ),
]
COUNTS = [
    ("stochastic_depth_resnet110", {}, 1_732_010),
    ("stochastic_depth_resnet110", {"bias": False}, 1_727_962),
]
