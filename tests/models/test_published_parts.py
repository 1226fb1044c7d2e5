"""Published counts that are of a part of a model, or of a variant that has no name in the registry."""

import pytest

from minires import models, nn
from minires.nn import init


def size(module):
    return sum(p.size for p in module.parameters())


def convolutions_and_classifier(model):
    """As the paper on pre-activation counts: batch norm's gains and shifts left out."""
    return sum(size(m) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))


def stack(**options):
    """The blocks of a Conformer, without what stands before and behind them."""
    return models.create("conformer_s", **options).blocks


def densenet_of_the_released_code():
    """L = 40, k = 12, with a stem of 2k channels where the paper has 16."""
    return models.DenseNet((12, 12, 12), 12, 24, num_classes=10, bottleneck=False, compression=1.0, small_images=True)


PARTS = [
    ("a basic block of 64 channels", lambda: size(models.ResidualBlock(64, 64, 1, "A")), 73_984),
    ("a bottleneck of 256 and 64", lambda: size(models.Bottleneck(256, 256, 1)), 70_400),
    ("LayerScale in 12 layers of 768", lambda: 2 * 12 * size(nn.LayerScale(768, 0.1)), 18_432),
    ("DenseNet as released", lambda: size(densenet_of_the_released_code()), 1_059_298),
    ("164, no norms", lambda: convolutions_and_classifier(models.create("preact_resnet164")), 1_679_034),
    ("1001, no norms", lambda: convolutions_and_classifier(models.create("preact_resnet1001")), 10_178_490),
    ("16 Conformer blocks, kernel 31", lambda: size(stack(kernel=31)), 8_107_776),
    ("16 Conformer blocks, kernel 32", lambda: size(stack()), 8_110_080),
]


@pytest.mark.parametrize(("part", "count", "published"), PARTS, ids=[part for part, *_ in PARTS])
def test_a_part_has_as_many_parameters_as_published(part, count, published):
    with init.skip_init():
        assert count() == published
