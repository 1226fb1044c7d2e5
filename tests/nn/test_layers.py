"""Layers against torch.nn: state keys, outputs, and the gradient of every input and parameter, in float64.

The formulas have their own tests in tests/ops; here it is the layers' wiring that is proved.
"""

import numpy as np
import pytest

from minires import nn
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad

rng = np.random.default_rng(23)

LAYERS = [
    # build, shape of x
    (lambda n: n.Linear(5, 4), (3, 5)),
    (lambda n: n.Linear(5, 4, bias=False), (2, 3, 5)),
    (lambda n: n.Flatten(), (2, 3, 4)),
    (lambda n: n.Flatten(0, 1), (2, 3, 4)),
    (lambda n: n.Identity(54, unused=True), (2, 3)),
    (lambda n: n.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 9)),
    (lambda n: n.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(1, 0), bias=False), (2, 3, 6, 7)),
    (lambda n: n.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), (1, 4, 6, 5)),
    (lambda n: n.Conv2d(2, 3, 3, padding="same"), (2, 2, 5, 5)),
    (lambda n: n.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 4, 4, 3)),
    (lambda n: n.BatchNorm1d(4), (6, 4)),
    (lambda n: n.BatchNorm1d(4, momentum=None), (3, 4, 5)),
    (lambda n: n.BatchNorm2d(3, eps=1e-3, momentum=0.3), (4, 3, 5, 4)),
    (lambda n: n.BatchNorm2d(3, affine=False), (4, 3, 5, 4)),
    (lambda n: n.BatchNorm2d(3, track_running_stats=False), (4, 3, 5, 4)),
    (lambda n: n.LayerNorm(6), (2, 3, 6)),
    (lambda n: n.LayerNorm((3, 6), eps=1e-2, bias=False), (2, 3, 6)),
    (lambda n: n.LayerNorm(6, elementwise_affine=False), (2, 3, 6)),
    (lambda n: n.RMSNorm(6), (2, 3, 6)),
    (lambda n: n.RMSNorm((3, 6), eps=1e-2), (2, 3, 6)),
    (lambda n: n.GroupNorm(2, 4), (2, 4, 3, 3)),
    (lambda n: n.GroupNorm(1, 4, affine=False), (2, 4, 5)),
    (lambda n: n.MaxPool2d(3, stride=2, padding=1), (2, 3, 7, 6)),
    (lambda n: n.MaxPool2d(2), (2, 3, 6, 7)),
    (lambda n: n.AvgPool2d((2, 3), stride=(2, 1)), (2, 3, 6, 7)),
    (lambda n: n.AdaptiveAvgPool2d((2, 3)), (2, 3, 7, 5)),
    (lambda n: n.ReLU(), (4, 5)),
    (lambda n: n.ReLU6(), (4, 5)),
    (lambda n: n.LeakyReLU(0.2), (4, 5)),
    (lambda n: n.ELU(0.7), (4, 5)),
    (lambda n: n.GELU(), (4, 5)),
    (lambda n: n.GELU(approximate="tanh"), (4, 5)),
    (lambda n: n.SiLU(), (4, 5)),
    (lambda n: n.Hardswish(), (4, 5)),
    (lambda n: n.Tanh(), (4, 5)),
    (lambda n: n.Sigmoid(), (4, 5)),
    (lambda n: n.Softplus(beta=2.0, threshold=1.5), (4, 5)),
    (lambda n: n.Softmax(dim=1), (4, 5, 2)),
    (lambda n: n.LogSoftmax(dim=-1), (4, 5)),
    (lambda n: n.Dropout(0.0), (4, 5)),
    (lambda n: n.Dropout2d(0.0), (2, 3, 4, 5)),
    (lambda n: n.Upsample(scale_factor=2), (2, 3, 3, 4)),
    (lambda n: n.Upsample(size=(5, 7), mode="bilinear", align_corners=False), (2, 3, 3, 4)),
    (lambda n: n.Sequential(n.Linear(4, 3), n.Tanh(), n.Linear(3, 2)), (5, 4)),
]

NAMES = [f"{type(make(nn)).__name__} {i}" for i, (make, _) in enumerate(LAYERS)]


def near(a, b):
    b = b.detach().numpy()
    return a.shape == b.shape and np.max(np.abs(a - b), initial=0) <= 1e-10 * max(1e-3, np.max(np.abs(b), initial=0))


def pair(torch, make):
    """The layer and its torch twin, in float64, with the same random weights."""
    ours, theirs = make(nn).to(np.float64), make(torch.nn).double()
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]
    with torch.no_grad():
        for key, value in theirs.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, value.shape) if "var" in key else draw(value.shape)))
    ours.load_state_dict({k: v.numpy().copy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def draw(shape):
    return rng.standard_normal(tuple(shape))


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=NAMES)
def test_output_gradients_and_buffers_equal_torch(make, shape):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, make)
    for mode in (True, True, False):  # twice in training: the running average moves, and counts
        ours.train(mode)
        theirs.train(mode)
        ours.zero_grad()
        theirs.zero_grad()
        x = 2 * draw(shape)
        x_ours, x_theirs = Tensor(x.copy(), requires_grad=True), torch.from_numpy(x).requires_grad_()
        y_ours, y_theirs = ours(x_ours), theirs(x_theirs)
        assert near(y_ours.data, y_theirs)
        gy = draw(y_theirs.shape)
        y_ours.backward(gy)
        y_theirs.backward(torch.from_numpy(gy))
        assert near(x_ours.grad, x_theirs.grad)
        for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert near(p.grad, q.grad), key
        for (key, a), b in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            assert near(a.data, b), key
            assert str(a.dtype) == str(b.dtype).removeprefix("torch.")


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=NAMES)
def test_float32_stays_float32(make, shape):
    layer = make(nn)
    x = Tensor(draw(shape).astype(np.float32), requires_grad=True)
    y = layer(x)
    assert y.dtype == np.float32
    y.backward(draw(y.shape).astype(np.float32))
    assert x.grad.dtype == np.float32
    assert all(p.grad.dtype == np.float32 for p in layer.parameters())


def test_embedding_equals_torch_and_its_padding_row_learns_nothing():
    torch = pytest.importorskip("torch")
    for padding in (None, 2, -1):
        ours, theirs = pair(torch, lambda n, p=padding: n.Embedding(6, 3, padding_idx=p))
        x = rng.integers(0, 6, (4, 5))
        gy = draw((4, 5, 3))
        y = ours(x)
        y.backward(gy)
        expected = theirs(torch.from_numpy(x))
        expected.backward(torch.from_numpy(gy))
        assert near(y.data, expected)
        assert near(ours.weight.grad, theirs.weight.grad)
        fresh = nn.Embedding(6, 3, padding_idx=padding)
        assert [i for i in range(6) if not fresh.weight.data[i].any()] == ([] if padding is None else [padding % 6])
    with pytest.raises(RequestError, match="padding_idx 6 is no row of 6"):
        nn.Embedding(6, 3, padding_idx=6)


LOSSES = [
    (lambda n, w: n.MSELoss(), "real"),
    (lambda n, w: n.MSELoss(reduction="sum"), "real"),
    (lambda n, w: n.L1Loss(), "real"),
    (lambda n, w: n.SmoothL1Loss(beta=0.5), "real"),
    (lambda n, w: n.HuberLoss(delta=0.5), "real"),
    (lambda n, w: n.BCEWithLogitsLoss(), "unit"),
    (lambda n, w: n.BCEWithLogitsLoss(weight=w, pos_weight=2 * w, reduction="none"), "unit"),
    (lambda n, w: n.NLLLoss(weight=w, ignore_index=1), "class"),
    (lambda n, w: n.CrossEntropyLoss(), "class"),
    (lambda n, w: n.CrossEntropyLoss(weight=w, ignore_index=2, label_smoothing=0.1), "class"),
    (lambda n, w: n.CrossEntropyLoss(reduction="none"), "class"),
]


@pytest.mark.parametrize(("make", "kind"), LOSSES)
def test_losses_equal_torch(make, kind):
    torch = pytest.importorskip("torch")
    w = rng.uniform(0.5, 2.0, 4)
    ours, theirs = make(nn, w), make(torch.nn, torch.from_numpy(w))
    x = draw((6, 4))
    target = {"real": draw((6, 4)), "unit": rng.uniform(0, 1, (6, 4)), "class": rng.integers(0, 4, 6)}[kind]
    x_ours, x_theirs = Tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
    y, expected = ours(x_ours, target), theirs(x_theirs, torch.from_numpy(target))
    assert near(y.data, expected)
    gy = draw(expected.shape)
    y.backward(gy)
    expected.backward(torch.from_numpy(gy))
    assert near(x_ours.grad, x_theirs.grad)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_batch_norm_counts_batches_and_averages_them_plainly_with_momentum_none():
    bn = nn.BatchNorm2d(3, momentum=None).to(np.float64)
    batches = [3 * draw((4, 3, 2, 2)) + k for k in range(3)]
    for x in batches:
        bn(x)
    assert bn.num_batches_tracked.item() == 3
    assert bn.num_batches_tracked.dtype == np.int64
    assert np.allclose(bn.running_mean.data, np.mean([x.mean((0, 2, 3)) for x in batches], axis=0), rtol=1e-12)
    assert np.allclose(bn.running_var.data, np.mean([x.var((0, 2, 3), ddof=1) for x in batches], axis=0), rtol=1e-12)
    bn.eval()(batches[0])
    assert bn.num_batches_tracked.item() == 3
    bn.reset_running_stats()
    assert (bn.num_batches_tracked.item(), bn.running_mean.data[0], bn.running_var.data[0]) == (0, 0, 1)


def test_weights_older_than_the_batch_counter_are_complete():
    bn = nn.Sequential(nn.BatchNorm1d(2))
    state = {k: v.numpy() + 1 for k, v in bn.state_dict().items() if "tracked" not in k}
    assert bn.load_state_dict(state) == ([], [])
    assert np.all(bn[0].running_var.data == 2)


def test_batch_norm_refuses_images_of_the_wrong_kind():
    with pytest.raises(RequestError, match=r"BatchNorm2d takes an input of 4 axes, not shape \(2, 3\)"):
        nn.BatchNorm2d(3)(np.zeros((2, 3), np.float32))
    with pytest.raises(RequestError, match="BatchNorm1d takes an input of 2 or 3 axes"):
        nn.BatchNorm1d(3)(np.zeros((2, 3, 4, 5), np.float32))


@pytest.mark.parametrize("make", [nn.Dropout, nn.Dropout2d, nn.DropPath])
def test_dropping_layers_keep_the_mean_in_training_and_do_nothing_in_evaluation(make):
    layer = make(0.25)
    x = np.ones((2000, 4, 2, 2))
    y = layer(x).data
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.25 / 0.75 / 2000)  # whole samples drop, at worst
    assert np.array_equal(layer.eval()(x).data, x)
    with pytest.raises(RequestError, match=r"p is 1\.5, but a probability"):
        make(1.5)


@pytest.mark.parametrize("make", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.Dropout])
def test_inplace_is_refused_with_its_reason(make):
    make(inplace=False)
    with pytest.raises(TypeError, match=f"{make.__name__}: minires computes out of place.*drop inplace=True"):
        make(inplace=True)


def test_impossible_sizes_are_refused():
    with pytest.raises(RequestError, match=r"Conv2d: 3 groups must divide in_channels, 4, and out_channels, 6"):
        nn.Conv2d(4, 6, 3, groups=3)
    with pytest.raises(RequestError, match=r"kernel_size \(3, 3, 3\) has 3 numbers; give 2"):
        nn.Conv2d(4, 6, (3, 3, 3))
    with pytest.raises(RequestError, match="GroupNorm: 3 groups must divide num_channels, 4"):
        nn.GroupNorm(3, 4)


def test_global_average_pooling_is_the_mean_of_each_channel():
    x = Tensor(draw((2, 3, 4, 5)), requires_grad=True)
    y = nn.GlobalAvgPool2d()(x)
    gy = draw((2, 3))
    y.backward(gy)
    assert np.allclose(y.data, x.data.mean((2, 3)), rtol=1e-13)
    assert np.allclose(x.grad, np.ones((4, 5)) * gy[:, :, None, None] / 20, rtol=1e-13)
    with pytest.raises(RequestError, match=r"not \(2, 3\)"):
        nn.GlobalAvgPool2d()(gy)


# --- residual --------------------------------------------------------------------------------------


def test_residual_adds_the_skips_gradient_to_the_branchs():
    layer = nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.Tanh())).to(np.float64)
    x = Tensor(draw((3, 4)), requires_grad=True)
    y = layer(x)
    gy = draw((3, 4))
    y.backward(gy)
    f = np.tanh(x.data @ layer.branch[0].weight.data.T + layer.branch[0].bias.data)
    assert np.allclose(y.data, x.data + f, rtol=1e-13)
    assert np.allclose(x.grad, gy + (gy * (1 - f * f)) @ layer.branch[0].weight.data, rtol=1e-12)


def test_residual_with_a_shortcut_equals_its_parts():
    layer = nn.Residual(nn.Conv2d(2, 6, 3, 2, padding=1), nn.ShortcutA(2, 6, 2)).to(np.float64)
    x = draw((2, 2, 5, 5))
    y = layer(x).data
    skipped = np.zeros_like(y)
    skipped[:, 2:4] = x[:, :, ::2, ::2]
    assert np.allclose(y - layer.branch(x).data, skipped, atol=1e-14)


def test_shortcuts_have_the_parameters_of_the_paper():
    keys = ["0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert list(nn.ShortcutA(4, 8, 2).state_dict()) == []
    assert list(nn.ShortcutB(4, 4).state_dict()) == []
    assert list(nn.ShortcutB(4, 8, 2).state_dict()) == keys
    assert list(nn.ShortcutB(4, 4, 2).state_dict()) == keys
    assert list(nn.ShortcutC(4, 4).state_dict()) == keys
    x = draw((2, 4, 3, 3)).astype(np.float32)
    with no_grad():
        assert nn.ShortcutA(4, 4)(x) is x
        assert nn.ShortcutB(4, 4)(x) is x
        for made in (nn.ShortcutA, nn.ShortcutB, nn.ShortcutC):
            assert made(4, 8, 2)(x).shape == (2, 8, 2, 2)
