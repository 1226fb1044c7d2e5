"""EfficientNet and MobileNetV2 at their smallest: one block a stage, of which two keep their input's shape."""

from tests.models.small import Small, images

THIN = {"num_classes": 3, "width_mult": 0.05, "depth_mult": 0.25, "small_images": True}
# What leaves a linear bottleneck goes straight into a convolution with batch norm, which takes every shift away: in
# training, the gradient of the shift in the bottleneck's own batch norm is zero.
SMALL = [
    Small(
        "efficientnet_b0",
        THIN,
        images(size=8, n=4),
        lr=0.003,
        may_vanish=("block.2.1.bias", "block.3.1.bias"),
    ),
    Small("mobilenet_v2", THIN, images(size=8, n=4), lr=0.003, may_vanish=("conv.2.bias", "conv.3.bias")),
]
COUNTS = [
    ("efficientnet_b0", {}, 5_288_548),
    ("efficientnet_b0", {"depth_mult": 1.1}, 7_794_184),  # B1
    ("efficientnet_b0", {"width_mult": 2.0, "depth_mult": 3.1}, 66_347_960),  # B7
    ("mobilenet_v2", {}, 3_504_872),
]
