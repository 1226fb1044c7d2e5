"""The policy/value tower at its smallest, and what AlphaGo Zero's two sizes come to."""

from minires import functional as F
from tests.models.small import Small


def positions(rng):
    return rng.standard_normal((6, 2, 4, 4)), rng.integers(0, 3, 6), rng.uniform(-1, 1, 6)


def imitate(model, boards, moves, outcomes):
    """The loss of AlphaGo Zero: the moves' cross-entropy, and how far the outcome lay from the value."""
    scores, values = model(boards)
    return F.cross_entropy(scores, moves) + F.mse_loss(values, outcomes)


def smallest(**options):
    return {"planes": 2, "actions": 3, "size": 4, "blocks": 1, "width": 4, "hidden": 8, **options}


def weights(planes, actions, size, blocks, width, hidden):
    """Convolutions without biases, two numbers a channel for each norm, linear layers with biases."""
    tower = 9 * planes * width + 2 * width + blocks * 2 * (9 * width * width + 2 * width)
    policy = 2 * width + 4 + 2 * size * size * actions + actions
    return tower + policy + width + 2 + size * size * hidden + hidden + hidden + 1


GO = {"planes": 17, "actions": 362, "size": 19, "width": 256, "hidden": 256}

SMALL = [
    Small("policy_value_tower", smallest(), positions, imitate),
    Small("policy_value_tower", smallest(norm="group", policy_planes=3, value_planes=2), positions, imitate),
]
COUNTS = [
    ("policy_value_tower", {}, weights(3, 4, 8, 4, 32, 64)),
    ("policy_value_tower", {**GO, "blocks": 19}, 22_827_877),
    ("policy_value_tower", {**GO, "blocks": 39}, 46_441_317),
]
