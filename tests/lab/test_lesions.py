"""Forward lesions do what they say, for the length of a `with` block, and nothing stays behind."""

import copy
import os

import numpy as np
import pytest

from minires import functional as F
from minires import models, nn
from minires.errors import RequestError
from minires.lab import lesions, nets, published
from minires.lab.lesions import Patient, deleted, many_swapped, repeated, swapped
from minires.switches import no_grad

rng = np.random.default_rng(4)
KINDS = ("plain", "post", "pre")


def net_of(kind, blocks=4, seed=3):
    """An evaluated net, and what enters its blocks; weights are moved, so that no two blocks are alike."""
    net = nets.build(kind, blocks, seed, dtype=np.float64).eval()
    with no_grad():
        for buffer in net.buffers():
            if buffer.dtype.kind == "f":
                buffer.copy_(buffer.data + rng.uniform(-0.5, -0.1, buffer.shape))
    return net, rng.standard_normal((7, 64))


def by_hand(net, x, order):
    """Blocks one after the other in `order`: numbers, or functions in their place. On a twin without lesions."""
    twin, _ = net_of(net.kind)
    twin.load_state_dict(net.state_dict())
    with no_grad():
        x = twin.stem(x)
        for one in order:
            x = twin.body[one](x) if isinstance(one, int) else one(x)
        return twin.head(twin.norm(x)).data


def run(net, x):
    with no_grad():
        return net(x).data


# --- what a lesion is


@pytest.mark.parametrize(
    ("kind", "left"), [("plain", lambda x: x), ("post", F.relu), ("pre", lambda x: x)], ids=["plain", "post", "pre"]
)
def test_what_is_left_of_a_deleted_block_is_its_skip(kind, left):
    net, x = net_of(kind)
    whole = run(net, x)
    with deleted(net, 2):
        assert np.array_equal(run(net, x), by_hand(net, x, [0, 1, left, 3]))
        assert not np.allclose(run(net, x), whole)
    with deleted(net, [0, -1]):
        assert np.array_equal(run(net, x), by_hand(net, x, [left, 1, 2, left]))


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_blocks_run_in_each_others_place(kind):
    net, x = net_of(kind)
    with swapped(net, 1, 2):
        assert np.array_equal(run(net, x), by_hand(net, x, [0, 2, 1, 3]))
    with swapped(net, 0, 1), swapped(net, 1, 2):  # block 0 is now third
        assert np.array_equal(run(net, x), by_hand(net, x, [1, 2, 0, 3]))
    with many_swapped(net, [(0, 3), (1, 2)]):
        assert np.array_equal(run(net, x), by_hand(net, x, [3, 2, 1, 0]))


@pytest.mark.parametrize("kind", KINDS)
def test_repeated_blocks_run_again_on_their_own_output(kind):
    net, x = net_of(kind)
    with repeated(net, 1):
        assert np.array_equal(run(net, x), by_hand(net, x, [0, 1, 1, 2, 3]))
    with repeated(net, -1, times=3):
        assert np.array_equal(run(net, x), by_hand(net, x, [0, 1, 2, 3, 3, 3]))
    with repeated(net, 1, times=1):
        assert np.array_equal(run(net, x), run(net, x))


def test_lesions_inside_one_another_add_up():
    net, x = net_of("pre")
    with deleted(net, 0), swapped(net, 1, 2), repeated(net, 1):
        assert np.array_equal(run(net, x), by_hand(net, x, [2, 2, 1, 3]))


def test_a_deleted_branch_is_not_computed():
    """Its batch norms see no batch, and its weights get no gradient."""
    net, x = net_of("pre")
    net.train()
    seen = int(net.body[1].branch[0].num_batches_tracked.item())
    with deleted(net, 1):
        y = net(x)
        y.backward(rng.standard_normal(y.shape))
    assert net.body[1].branch[0].num_batches_tracked.item() == seen
    assert net.body[1].branch[2].weight.grad is None
    assert np.linalg.norm(net.body[0].branch[2].weight.grad) > 1e-6


def test_a_deleted_block_keeps_its_shortcut_and_its_gate():
    gate = nn.TransferGate(nn.Linear(5, 5))
    block = nn.Residual(nn.Linear(5, 5), gate=gate, drop_path=0.5).to(np.float64).eval()
    x = rng.standard_normal((2, 5))
    with deleted(block, 0):
        np.testing.assert_allclose(block(x).data, x * (1 - gate(x).data), atol=1e-15)
    net = models.create("preact_resnet8", width=2).to(np.float64).eval()
    blocks = [m for m in net.modules() if isinstance(m, nn.Residual)]
    x = rng.standard_normal((2, 2, 8, 8))
    with deleted(net, 1):
        np.testing.assert_array_equal(blocks[1](x).data, blocks[1].shortcut(blocks[1].activated(x)).data)


# --- and what stays of it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "lesion",
    [
        lambda net: deleted(net, [0, 2]),
        lambda net: swapped(net, 0, 3),
        lambda net: repeated(net, 1),
        lambda net: many_swapped(net, [(0, 1), (1, 2)]),
    ],
    ids=["deleted", "swapped", "repeated", "many swapped"],
)
def test_the_model_is_afterwards_what_it_was_whatever_happens(kind, lesion):
    net, x = net_of(kind)
    before = [dict(vars(module)) for module in net.modules()]
    whole, keys = run(net, x), list(net.state_dict())

    def fail_inside():
        with lesion(net):
            assert list(net.state_dict()) == keys
            assert not np.allclose(run(net, x), whole)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert [dict(vars(module)) for module in net.modules()] == before
    assert [list(vars(module)) for module in net.modules()] == [list(b) for b in before]
    assert np.array_equal(run(net, x), whole)


@pytest.mark.parametrize(
    ("lesion", "words"),
    [
        (lambda net: deleted(net, 4), "no block 4; this model has 4, 0 to 3"),
        (lambda net: deleted(net, [0, -5]), "no block -5"),
        (lambda net: swapped(net, 0, 9), "no block 9"),
        (lambda net: repeated(net, 4), "no block 4"),
        (lambda net: repeated(net, 0, times=0), "at least 1"),
        (lambda net: deleted(nn.Linear(2, 2), 0), "this Linear has no blocks"),
        (lambda net: swapped(models.create("resnet8", width=2), 0, 1), "different shapes"),
    ],
)
def test_a_lesion_that_cannot_be_is_refused_in_a_line_before_anything_changes(lesion, words):
    net, x = net_of("pre")
    whole = run(net, x)
    with pytest.raises(RequestError, match=words) as refused, lesion(net):
        pass
    assert "\n" not in str(refused.value)
    assert np.array_equal(run(net, x), whole)


# --- one lesion after another


@pytest.mark.parametrize("kind", KINDS)
def test_computing_only_what_lies_behind_the_lesion_changes_no_error(kind):
    net = nets.build(kind, 3, seed=1)
    nets.train(net, seed=1, epochs=1)
    images = nets.digits().test
    patient = Patient(net, *images)
    found = patient.examine()
    assert found["healthy"] == nets.error(net, *images)
    for k in range(3):
        for what, lesion in {"deleted": deleted(net, k), "repeated": repeated(net, k)}.items():
            with lesion:
                error = nets.error(net, *images)
            assert error == (found[what][k] if what == "deleted" else found[what][str(k)])
    with swapped(net, 1, 2):
        assert nets.error(net, *images) == found["swapped"]["1"]
    assert list(found["swapped"]) == ["0", "1"]
    assert len({found["healthy"], *found["deleted"]}) > 1
    assert nets.error(net, *images) == found["healthy"]


def test_random_lesions_are_the_seeds_and_spare_the_first_block(monkeypatch):
    monkeypatch.setattr(lesions, "DELETED", (1, 3))
    monkeypatch.setattr(lesions, "SWAPPED", (1, 2))
    net = nets.build("pre", 6, seed=1)
    patient = Patient(net, *nets.digits().test)
    starts = []
    monkeypatch.setattr(patient, "error", lambda lesion, start: starts.append(start) or start / 10)
    found = lesions.random_lesions(patient, 30, seed=5)
    assert set(starts) <= {1, 2, 3, 4, 5}
    assert found == lesions.random_lesions(patient, 30, seed=5) != lesions.random_lesions(patient, 30, seed=6)
    assert [len(errors) for what in found.values() for errors in what.values()] == [30] * 4


def test_where_the_published_net_is_not_here_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRES_WEIGHTS", str(tmp_path))
    model, absent = published.resnet20()
    assert model is None
    assert "MINIRES_WEIGHTS names its folder" in absent
    monkeypatch.delenv("MINIRES_WEIGHTS")
    assert published.resnet20()[0] is None
    published._test.cache_clear()
    monkeypatch.setenv("MINIRES_DATA", str(tmp_path))
    images, absent = published.cifar10(8, 0)
    assert images is None
    assert "MINIRES_DATA names its folder" in absent
    assert "\n" not in absent


def test_the_published_net_gets_nine_of_ten_right():
    model, absent = published.resnet20()
    images, missing = published.cifar10(64, 3)
    if model is None or images is None:
        pytest.skip(absent or missing)
    assert Patient(model, *images).healthy < 0.2
    labels = published._test().labels
    assert np.array_equal(images.labels, labels[192:256])
    assert np.array_equal(published.cifar10(1500, 6)[0].labels, [*labels[9000:], *labels[:500]])


# --- verdicts


def result(with_published=True):
    """What a measurement could look like."""

    def single(healthy, errors):
        others = {str(k): healthy for k in range(len(errors))}
        return {"healthy": healthy, "deleted": errors, "repeated": others, "swapped": others}

    many = {
        "deleted": {"1": [0.03, 0.05], "4": [0.06, 0.08], "9": [0.2, 0.3]},
        "swapped": {"1": [0.03, 0.05], "4": [0.06, 0.08]},
    }
    down = [0.2, 0.2, 0.3, 0.6, 0.2, 0.15, 0.62, 0.3, 0.4]
    return {
        "seed": 0,
        "nets": {
            "plain": single(0.2, [0.9] * 9),
            "post": single(0.04, [0.3, 0.1, *[0.05] * 7]),
            "pre": single(0.03, [0.1, *[0.03] * 26]),
        },
        "many": many,
        "published": single(0.09, down) if with_published else None,
        "published_absent": None if with_published else "no weights here",
    }


def test_the_claims_hold_for_such_a_measurement():
    verdicts = lesions.EXPERIMENT.judge([result(), result(with_published=False)])
    assert [v.holds for v in verdicts] == [True] * 6
    assert len(lesions.EXPERIMENT.judge([result(with_published=False)])) == 5


@pytest.mark.parametrize(
    ("number", "path", "value"),
    [
        (0, ("nets", "plain", "deleted"), [0.3] * 9),
        (1, ("nets", "pre", "deleted"), [0.1, *[0.08] * 26]),
        (1, ("nets", "post", "deleted"), [0.3] * 9),
        (2, ("nets", "post", "deleted"), [0.05] * 9),
        (2, ("nets", "pre", "deleted"), [0.03] * 27),
        (3, ("many", "deleted", "4"), [0.01, 0.01]),
        (3, ("many", "deleted", "9"), [0.9, 0.9]),
        (4, ("many", "swapped", "4"), [0.01, 0.01]),
        (5, ("published", "deleted"), [0.2] * 9),
    ],
)
def test_a_measurement_to_the_contrary_turns_the_verdict(number, path, value):
    other = copy.deepcopy(result())
    at = other
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert not lesions.EXPERIMENT.judge([other])[number].holds


@pytest.mark.parametrize("with_published", [True, False])
def test_figure_text_and_tables_stand_with_and_without_the_published_net(with_published):
    found = [result(with_published)]
    text = lesions.EXPERIMENT.alt(found)
    assert ("ResNet-20" in text, "no weights here" in text) == (with_published, not with_published)
    assert len(lesions.EXPERIMENT.tables(found)) == 3 + with_published
    pytest.importorskip("matplotlib")
    from minires.train import figures

    figure = figures.blank(9.5, 4.5)
    lesions.EXPERIMENT.draw(found, figure)
    figure.savefig(os.devnull, format="png")
