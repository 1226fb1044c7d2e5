"""Every layer on the devices: outputs, gradients, buffers and initial weights are those of NumPy."""

import copy
import inspect

import numpy as np
import pytest

import minires as mr
from minires import backend, models, nn
from minires import functional as F
from minires.engine import Tensor
from minires.errors import LibraryError
from tests.devices import agree, leaves
from tests.strict_device import STRICT, no_sync

rng = np.random.default_rng(53)


def n(*shape):
    return rng.standard_normal(shape)


def ints(high, *shape):
    return rng.integers(high, size=shape)


class Holder(nn.Module):
    """Calls one after the other what a list or a dict holds."""

    def __init__(self, held):
        self.held = held

    def forward(self, x):
        for layer in self.held.values() if isinstance(self.held, nn.ModuleDict) else self.held:
            x = layer(x)
        return x


def attention(**options):
    """An attention layer that takes its masks as inputs."""
    layer = nn.MultiheadAttention(4, 2, **options)
    forward = layer.forward
    layer.forward = lambda q, k, v, padding=None, mask=None, **said: forward(q, k, v, padding, True, mask, **said)
    return layer


image, rows, classes = n(2, 4, 6, 5), n(6, 4), ints(4, 6)

LAYERS = {  # name: (how it is made, what it is given: floats are differentiated), ...
    "AdaptiveAvgPool2d": [(lambda: nn.AdaptiveAvgPool2d((3, 2)), image)],
    "AvgPool2d": [
        (lambda: nn.AvgPool2d(2), image),
        (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), image),
    ],
    "BCEWithLogitsLoss": [
        (lambda: nn.BCEWithLogitsLoss([1.0, 2.0, 0.5, 1.5], pos_weight=[0.5, 1.0, 2.0, 3.0]), rows, rng.random((6, 4)))
    ],
    "BatchNorm1d": [(lambda: nn.BatchNorm1d(4), rows), (lambda: nn.BatchNorm1d(3, momentum=None), n(3, 3, 5))],
    "BatchNorm2d": [
        (lambda: nn.BatchNorm2d(4, momentum=0.3), image),
        (lambda: nn.BatchNorm2d(4, affine=False), image),
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), image),
    ],
    "Conv1d": [(lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), n(2, 4, 9))],
    "Conv2d": [
        (lambda: nn.Conv2d(4, 6, 3, padding=1), image),
        (lambda: nn.Conv2d(4, 4, (3, 2), (1, 2), (1, 0), groups=2, bias=False), image),
    ],
    "ConvTranspose2d": [(lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), image)],
    "CrossEntropyLoss": [
        (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), rows, classes),
        (lambda: nn.CrossEntropyLoss([1.0, 2.0, 0.5, 1.5], ignore_index=2), rows, classes),
    ],
    "DenseConcat": [(lambda: nn.DenseConcat(nn.Conv2d(4, 3, 3, padding=1)), image)],
    "DropPath": [(lambda: nn.DropPath(0.4), image)],
    "Dropout": [(lambda: nn.Dropout(0.4), rows)],
    "Dropout2d": [(lambda: nn.Dropout2d(0.4), image)],
    "ELU": [(lambda: nn.ELU(0.7), rows)],
    "Embedding": [
        (lambda: nn.Embedding(5, 3), ints(5, 2, 4)),
        (lambda: nn.Embedding(5, 3, padding_idx=1), ints(5, 2, 4)),
    ],
    "EncoderDecoderSkip": [(lambda: nn.EncoderDecoderSkip(), image, n(2, 3, 9, 6))],
    "Flatten": [(lambda: nn.Flatten(), image)],
    "GELU": [(lambda: nn.GELU(), rows), (lambda: nn.GELU("tanh"), rows)],
    "GatedShortcut": [(lambda: nn.GatedShortcut(nn.TransferGate(nn.Linear(4, 4))), rows)],
    "GlobalAvgPool2d": [(lambda: nn.GlobalAvgPool2d(), image)],
    "GroupNorm": [(lambda: nn.GroupNorm(2, 4), image)],
    "Hardswish": [(lambda: nn.Hardswish(), 3 * rows)],
    "HuberLoss": [(lambda: nn.HuberLoss(delta=0.6), rows, n(6, 4))],
    "Identity": [(lambda: nn.Sequential(nn.Identity(), nn.Tanh()), rows)],
    "L1Loss": [(lambda: nn.L1Loss(), rows, n(6, 4))],
    "LayerNorm": [(lambda: nn.LayerNorm(4), rows), (lambda: nn.LayerNorm((6, 5), bias=False), image)],
    "LayerScale": [(lambda: nn.LayerScale(4, 0.3), rows), (lambda: nn.LayerScale(4, 0.3, 1), image)],
    "LearnedScale": [(lambda: nn.LearnedScale(0.3), rows)],
    "LeakyReLU": [(lambda: nn.LeakyReLU(0.2), rows)],
    "Linear": [(lambda: nn.Linear(4, 3), rows), (lambda: nn.Linear(5, 3, bias=False), image)],
    "LogSoftmax": [(lambda: nn.LogSoftmax(-1), rows)],
    "MSELoss": [(lambda: nn.MSELoss(), rows, n(6, 4))],
    "MaxPool2d": [(lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), image)],
    "ModuleDict": [(lambda: Holder(nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.ReLU()})), rows)],
    "ModuleList": [(lambda: Holder(nn.ModuleList([nn.Linear(4, 4), nn.ReLU()])), rows)],
    "MultiheadAttention": [
        (lambda: attention(batch_first=True), n(2, 3, 4), n(2, 5, 4), n(2, 5, 4)),
        (lambda: attention(dropout=0.3), n(3, 2, 4), n(5, 2, 4), n(5, 2, 4), rng.random((2, 5)) < 0.4),
        (lambda: attention(), n(3, 2, 4), n(5, 2, 4), n(5, 2, 4), None, np.tri(3, 5, 1) == 0),
        (lambda: nn.MultiheadAttention(4, 2, bias=False), n(3, 4), n(5, 4), n(5, 4)),
    ],
    "NLLLoss": [(lambda: nn.NLLLoss([1.0, 2.0, 0.5, 1.5]), rows, classes)],
    "RMSNorm": [(lambda: nn.RMSNorm(4), rows), (lambda: nn.RMSNorm((6, 5), 1e-2), image)],
    "ReLU": [(lambda: nn.ReLU(), rows)],
    "ReLU6": [(lambda: nn.ReLU6(), 5 * rows)],
    "Residual": [
        (lambda: nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.Tanh())), rows),
        (lambda: nn.Residual(nn.Conv2d(4, 6, 3, 2, 1), nn.ShortcutC(4, 6, 2)), image),
        (lambda: nn.Residual(nn.Linear(4, 4), gate=nn.TransferGate(nn.Linear(4, 4)), activation=F.relu), rows),
        (lambda: nn.Residual(nn.Linear(4, 4), scale=0.5, drop_path=0.4, norm="pre", norm_layer=nn.LayerNorm(4)), rows),
        (lambda: nn.Residual(nn.Linear(4, 4), nn.Scale(2), norm="post", norm_layer=nn.LayerNorm(4)), rows),
        (lambda: nn.Residual(nn.Linear(4, 4), drop_path=nn.StochasticDepth(0.5)), rows),
    ],
    "Scale": [(lambda: nn.Scale(0.3), rows)],
    "Sequential": [(lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), rows)],
    "ShortcutA": [(lambda: nn.ShortcutA(4, 7, 2), image)],
    "ShortcutB": [(lambda: nn.ShortcutB(4, 7, 2), image)],
    "ShortcutC": [(lambda: nn.ShortcutC(4, 4), image)],
    "SiLU": [(lambda: nn.SiLU(), rows)],
    "Sigmoid": [(lambda: nn.Sigmoid(), rows)],
    "SmoothL1Loss": [(lambda: nn.SmoothL1Loss(beta=0.5), rows, n(6, 4))],
    "Softmax": [(lambda: nn.Softmax(1), rows)],
    "Softplus": [(lambda: nn.Softplus(2.0, 1.5), rows)],
    "SqueezeExcitation": [
        (lambda: nn.SqueezeExcitation(4, 2), image),
        (lambda: nn.SqueezeExcitation(4, squeezed=3, conv=False, activation=F.silu), image),
    ],
    "StochasticDepth": [(lambda: nn.StochasticDepth(0.5), image)],
    "Tanh": [(lambda: nn.Tanh(), rows)],
    "TransferGate": [(lambda: nn.TransferGate(nn.Conv2d(4, 4, 3, padding=1)), image)],
    "Upsample": [
        (lambda: nn.Upsample(scale_factor=2), image),
        (lambda: nn.Upsample((9, 4), mode="bilinear", align_corners=False), image),
    ],
}
MODELS = {
    "mlp": (lambda: models.create("mlp", 3, 2, hidden=[5], image_size=8), n(4, 2, 8, 8)),
    "lenet": (lambda: models.create("lenet", 3, 1, image_size=12), n(2, 1, 12, 12)),
    "resnet8": (lambda: models.create("resnet8", 3, 1), n(3, 1, 8, 8)),
}
EVERY = [
    pytest.param(make, given, id=f"{name}-{i}")
    for name, cases in {**LAYERS, **{name: [case] for name, case in MODELS.items()}}.items()
    for i, (make, *given) in enumerate(cases)
]
WAITING = {
    "AvgPool2d-1",  # how many real pixels each window holds comes from the host
    "BatchNorm1d-1",  # without a momentum, the count of batches sets it
}


def placed(library, given, dtype):
    return [
        Tensor(library.asarray(a.astype(dtype)), requires_grad=True)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f"
        else None
        if a is None
        else library.asarray(a)
        for a in given
    ]


def run(layer, inputs):
    """Forward, and backward with a random cotangent for each output."""
    result = layer(*inputs)
    outputs = [y for y in (result if isinstance(result, tuple) else (result,)) if y is not None]
    cotangents = np.random.default_rng(2)
    for y in outputs:
        if y.requires_grad:
            gy = cotangents.standard_normal(y.shape).astype(y.dtype)
            y.backward(backend.find((y.data,)).asarray(gy), retain_graph=True)
    return outputs


def test_every_layer_has_a_case():
    public = {k for k, v in vars(nn).items() if inspect.isclass(v) and issubclass(v, nn.Module)} - {"Module"}
    streams = {k for k in public if issubclass(getattr(nn, k), nn.Stream)} | {"DepthMixing"}  # in test_depth.py
    assert set(LAYERS) == public - streams


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("make", "given"), EVERY)
def test_a_layer_gives_the_numbers_of_numpy(library, make, given, dtype):
    def steps(library):
        layer = make().to(library.device, dtype)
        inputs = placed(library, given, dtype)
        said = [run(layer.train(mode), inputs) for mode in (True, True, False)]
        gradients = {name: p.grad for name, p in layer.named_parameters()}
        return said, [x.grad for x in inputs if isinstance(x, Tensor)], gradients, layer.state_dict()

    agree(library, steps, tolerance=1e-11)


@pytest.mark.parametrize("name", [case.id for case in EVERY])
def test_no_layer_waits_for_the_device_but_those_named_here(name):
    make, given = next(case.values for case in EVERY if case.id == name)
    layer, inputs = make().to("strict"), placed(STRICT, given, "float32")

    def without_waiting():
        with no_sync():
            result = layer(*inputs)
            for y in result if isinstance(result, tuple) else (result,):
                if y is not None and y.requires_grad:
                    y.backward(STRICT.xp.ones_like(y.data), retain_graph=True)

    if name not in WAITING:
        without_waiting()
        return
    with pytest.raises(AssertionError, match=r"inside no_sync\(\)"):
        without_waiting()


# --- weights: made on the device, moved to it, saved and loaded ------------------------------------------


@pytest.mark.parametrize(("make", "given"), EVERY)
def test_initial_weights_are_the_same_wherever_they_are_made(library, make, given):
    def made(library):
        with mr.device(library.device):
            return make().state_dict()

    agree(library, made, tolerance=0.0)


INITIALIZERS = {
    "constant_": (0.3,),
    "zeros_": (),
    "ones_": (),
    "uniform_": (-1.0, 2.0),
    "normal_": (0.5, 2.0),
    "trunc_normal_": (0.0, 1.0, -1.0, 0.5),
    "xavier_uniform_": (),
    "xavier_normal_": (2.0,),
    "kaiming_uniform_": (0.1,),
    "kaiming_normal_": (0.0, "fan_out", "relu"),
}


def test_every_initializer_is_tried():
    assert {name for name in vars(nn.init) if name.endswith("_") and name[0] != "_"} == set(INITIALIZERS)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_an_initializer_draws_the_same_on_every_device(library, name):
    def drawn(library):
        weight = nn.Parameter(library.xp.zeros((5, 4, 3), "float32"))
        return getattr(nn.init, name)(weight, *INITIALIZERS[name])

    agree(library, drawn, tolerance=0.0)


def trained():
    """A model whose parameters have gradients and whose running statistics have moved."""
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    run(model, [Tensor(image.astype("float32"))])
    return model


def test_to_cuda_moves_parameters_buffers_and_gradients(library):
    model, twin = trained(), trained()
    twin.load_state_dict(model.state_dict())
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.grad = p.grad
    assert model.to("cuda") is model
    held = [*model.parameters(), *model.buffers()]
    arrays = [a for t in held for a in (t.data, t.grad) if a is not None]
    assert len(arrays) == 6 + 6 + 3
    assert {type(a) for a in arrays} == {library.array_type}
    model.to("cpu")
    for ours, theirs in zip(leaves([model.state_dict()]), leaves([twin.state_dict()]), strict=True):
        assert np.array_equal(ours[1], theirs[1])
        assert ours[1].dtype == theirs[1].dtype
    assert all(np.array_equal(p.grad, q.grad) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def test_running_statistics_are_updated_in_place_on_the_device(library):
    layer = nn.BatchNorm2d(4).to("cuda")
    before = [b.data for b in layer.buffers()]
    layer(Tensor(library.asarray(image.astype("float32"))))
    assert all(b.data is array for b, array in zip(layer.buffers(), before, strict=True))
    assert {type(b.data) for b in layer.buffers()} == {library.array_type}
    assert layer.num_batches_tracked.item() == 1
    assert np.allclose(layer.running_mean.numpy(), 0.1 * image.mean((0, 2, 3)), atol=1e-6)


def test_a_state_dict_goes_to_the_device_and_back_unchanged(library):
    model, other = trained(), trained()
    there = copy.deepcopy(other).to("cuda")
    for state in (model.state_dict(), {name: t.numpy() for name, t in model.state_dict().items()}):
        there.load_state_dict(other.state_dict())
        assert there.load_state_dict(state) == ([], [])
        assert {t.device for t in there.state_dict().values()} == {library.device}
        other.load_state_dict(there.state_dict())
        for name, t in model.state_dict().items():
            assert np.array_equal(other.state_dict()[name].numpy(), t.numpy())


def test_a_deep_copy_on_the_device_has_its_own_memory(library):
    model = trained().to("cuda")
    twin = copy.deepcopy(model)
    kept = [t.numpy() for t in twin.state_dict().values()]
    with mr.no_grad():
        for p in model.parameters():
            p.copy_(np.zeros(p.shape))
    assert {t.device for t in twin.state_dict().values()} == {library.device}
    assert all(np.array_equal(t.numpy(), k) for t, k in zip(twin.state_dict().values(), kept, strict=True))


def test_a_model_on_the_device_refuses_images_on_the_host(library):
    model = trained().to("cuda")
    with pytest.raises(LibraryError, match=r"numpy array on cpu.*move one with"):
        model(image.astype("float32"))
