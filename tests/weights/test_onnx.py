"""An exported model gives in onnxruntime what it gives here, at every batch size, or is refused by name."""

import math
import sys
from typing import NamedTuple

import numpy as np
import pytest

from minires import backend, models, nn, weights
from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad
from minires.weights.onnx import translations
from tests import peers
from tests.models.small import rows

rng = np.random.default_rng(41)
TOLERANCE = 2e-5  # of the largest entry; runtimes compute convolutions in float32 only


def randomize(model):
    """Weights that keep the image's trace alive, and statistics away from 0 and 1, where a wrong graph could hide."""
    with no_grad():
        for p in model.parameters():
            fan_in = math.prod(p.shape[1:])
            p.copy_(rng.standard_normal(p.shape) * (np.sqrt(2 / fan_in) if p.ndim > 1 else 0.2) + 0.5 * (p.ndim < 2))
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(rng.standard_normal(b.shape) * 0.3)
            elif name.endswith("running_var"):
                b.copy_(rng.uniform(0.5, 2.0, b.shape))
    return model


def run(path, x):
    options = peers.onnxruntime().SessionOptions()
    options.intra_op_num_threads = 1
    session = peers.onnxruntime().InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})


def assert_same_in_onnxruntime(model, path, shape, batches=(1, 5)):
    peers.onnx()
    weights.export_onnx(model, path, shape)
    model.eval()
    for n in batches:  # neither is a batch that it was recorded with
        x = rng.standard_normal((n, *shape)).astype(np.float32)
        with no_grad():
            y = model(Tensor(x))
        found = run(path, x)
        expected = list(y) if isinstance(y, tuple) else [y]
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            top = np.max(np.abs(b.data))
            assert np.max(np.abs(a - b.data)) <= TOLERANCE * top
            assert top > 1e-6
            assert n == 1 or np.max(np.abs(b.data[0] - b.data[1])) > 1e-6 * top  # it depends on the image


def of_images():
    """The rows of all models that take one image."""
    for row in rows("SMALL"):
        x = row.batch(np.random.default_rng(0))[0]
        if x.ndim == 4 and x.dtype.kind == "f" and row.inputs == 1:
            yield pytest.param(row, x.shape[1:], id=f"{row.name}-{'-'.join(map(str, row.options.values()))}")


@pytest.mark.parametrize(("row", "shape"), list(of_images()))
def test_every_model_of_images_is_the_same_in_onnxruntime(tmp_path, row, shape):
    model = randomize(models.create(row.name, **row.options))
    assert_same_in_onnxruntime(model, tmp_path / "model.onnx", shape)


# --- every translation -----------------------------------------------------------------------------


class Of(nn.Module):
    """A module of one function."""

    def __init__(self, f, *weights):
        self.f = f
        for i, w in enumerate(weights):
            self.register_parameter(f"w{i}", nn.Parameter(w))

    def forward(self, x):
        return self.f(x, *self.parameters())


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def positive(x):
    return F.add(F.mul(x, x), 0.1)


CASES = {
    "add": lambda x: x + 0.5, "sub": lambda x: 2 - x, "mul": lambda x: x * 3, "div": lambda x: 1 / positive(x),
    "neg": lambda x: -x, "pow": lambda x: positive(x) ** 1.5, "exp": F.exp, "log": lambda x: F.log(positive(x)),
    "sqrt": lambda x: F.sqrt(positive(x)), "abs": F.abs, "maximum": lambda x: F.maximum(x, 0.25),
    "minimum": lambda x: F.minimum(x, F.mul(x, 2)), "residual_add": lambda x: F.residual_add(x, F.exp(x)),
    "where": lambda x: F.where(np.array([True, False, True, True, False]), x, 7.0), "clip": lambda x: F.clip(x, -0.5),
    "relu": F.relu, "relu6": lambda x: F.relu6(4 * x), "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 0.7), "sigmoid": F.sigmoid, "tanh": F.tanh, "silu": F.silu,
    "softplus": lambda x: F.softplus(x, 2.0), "hardswish": lambda x: F.hardswish(3 * x),
    "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "softmax": lambda x: F.softmax(x, dim=1),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1), "sum": lambda x: F.sum(x, dim=(1, 3)),
    "mean": lambda x: F.mean(x, dim=2, keepdim=True), "amax": lambda x: F.amax(x, dim=(2, 3)),
    "amin": lambda x: F.amin(x, dim=1), "var": lambda x: F.var(x, dim=(2, 3)),
    "logsumexp": lambda x: F.logsumexp(x, dim=-1, keepdim=True),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1), "max_pool_ceil": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "max_pool_dilated": lambda x: F.max_pool2d(x, 2, 1, 0, 3), "avg_pool": lambda x: F.avg_pool2d(x, 2),
    "avg_pool_padded": lambda x: F.avg_pool2d(x, 3, 2, 1), "avg_pool_ceil": lambda x: F.avg_pool2d(x, 3, 2, 1, True),
    "avg_pool_exclusive": lambda x: F.avg_pool2d(x, 3, 2, 1, False, False),
    "avg_pool_divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (4, 2)), "global": lambda x: F.adaptive_avg_pool2d(x, 1),
    "nearest": lambda x: F.interpolate(x, (11, 3)), "bilinear": lambda x: F.interpolate(x, (9, 4), mode="bilinear"),
    "corners": lambda x: F.interpolate(x, (9, 4), mode="bilinear", align_corners=True),
    "pad_channels": lambda x: F.pad_channels(x, 7, 2), "pad_channels_only": lambda x: F.pad_channels(x, 6, 1),
    "reshape": lambda x: F.reshape(x, -1, 7, 20), "flatten": lambda x: F.flatten(x, 1),
    "merge": lambda x: F.reshape(F.flatten(x, 0, 1), (-1, 4, 7, 5)), "permute": lambda x: F.permute(x, 0, 3, 1, 2),
    "cat": lambda x: F.cat([x, 2 * x], dim=1), "stack": lambda x: F.stack([x, -x], dim=2),
    "split": lambda x: F.cat(F.split(x, [1, 4, 2], dim=2)[::-1], dim=2),
    "unbind": lambda x: F.add(*F.unbind(F.split(x, 2, dim=1)[1], dim=1)), "flip": lambda x: F.flip(x, (1, 3)),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), "crop": lambda x: F.pad(x, (-1, 1, -2, 0)),
    "reflect": lambda x: F.pad(x, (1, 2, 3, 1), mode="reflect"),
    "replicate": lambda x: F.pad(x, (1, 2, 3, 1), mode="replicate"),
    "circular": lambda x: F.pad(x, (1, 2, 3, 1), mode="circular"),
    "index": lambda x: x[:, 1:3, ::2, -1], "last": lambda x: x[:, -1], "backward": lambda x: x[..., ::-2],
    "new_axes": lambda x: x[:, None, 2, ..., None, :3], "gather": lambda x: x[:, :, [3, 0, 0, 6]],
    "layer_norm": lambda x: F.layer_norm(x, (7, 5)), "rms_norm": lambda x: F.rms_norm(x, (5,)),
    "group_norm": lambda x: F.group_norm(x, 2), "cast": lambda x: F.cast(F.cast(x, np.float64), np.float32),
    "attention": lambda x: F.scaled_dot_product_attention(x, 2 * x, F.exp(x)),
    "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "masked": lambda x: F.scaled_dot_product_attention(x, x, x, np.tri(7, dtype=bool)[::-1, ::-1].copy()),
    "biased": lambda x: F.scaled_dot_product_attention(x, x, x, np.arange(49, dtype=np.float32).reshape(7, 7) / 9),
}  # fmt: skip
WEIGHED = {
    "linear": (lambda x, w, b: F.linear(x, w, b), normal(3, 5), normal(3)),
    "linear_flat": (lambda x, w: F.linear(F.flatten(x, 1), w), normal(3, 140)),
    "linear_flat_biased": (lambda x, w, b: F.linear(F.flatten(x, 1), w, b), normal(3, 140), normal(3)),
    "matmul": (lambda x, w: x @ w, normal(5, 2)),
    "conv": (lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2)), normal(6, 4, 3, 2), normal(6)),
    "conv_grouped": (lambda x, w: F.conv2d(x, w, None, 1, 2, 2, 2), normal(6, 2, 3, 3)),
    "conv_same": (lambda x, w: F.conv2d(x, w, None, padding="same"), normal(4, 4, 4, 2)),
    "up": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1, 2), normal(4, 3, 3, 3), normal(6)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (5,), w, b), normal(5), normal(5)),
    "rms_norm": (lambda x, w: F.rms_norm(x, (7, 5), w), normal(7, 5)),
    "group_norm": (lambda x, w, b: F.group_norm(x, 4, w, b), normal(4), normal(4)),
    "batch_norm_plain": (lambda x, m: F.batch_norm(x, m, np.full(4, 2.0, np.float32)), normal(4)),
    "expand": (lambda x, w: F.cat([F.expand(w, x.shape[0], -1, -1, -1), x], dim=1), normal(1, 2, 7, 5)),
    "embedding": (lambda x, w: x + F.embedding(np.array([2, 0, 1, 1, 2, 0, 2]), w), normal(3, 5)),
    "scaled_weights": (lambda x, w: F.conv2d(x, F.mul(w, 0.5)), normal(2, 4, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_translation_computes_what_the_op_does(tmp_path, name):
    assert_same_in_onnxruntime(Of(CASES[name]), tmp_path / "m.onnx", (4, 7, 5))


@pytest.mark.parametrize("name", WEIGHED)
def test_every_translation_with_weights_computes_what_the_op_does(tmp_path, name):
    f, *held = WEIGHED[name]
    assert_same_in_onnxruntime(Of(f, *held), tmp_path / "m.onnx", (4, 7, 5))


def test_the_cases_above_reach_every_translation(tmp_path, monkeypatch):
    peers.onnx()
    reached = set()

    class Reached(dict):
        def get(self, name):
            reached.add(name)
            return translations[name]

    monkeypatch.setattr("minires.weights.onnx.translations", Reached(translations))
    modules = [Of(f) for f in CASES.values()] + [Of(f, *held) for f, *held in WEIGHED.values()]
    for module in modules:
        weights.export_onnx(module, tmp_path / "m.onnx", (4, 7, 5))
    assert set(translations) - reached == {"To"}  # from device to device, which the identity is


# --- the file --------------------------------------------------------------------------------------


class Both(NamedTuple):
    scores: Tensor
    features: Tensor


class TwoHeads(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(3, 4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        features = F.relu(self.conv(x))
        return Both(F.mean(self.drop(features), dim=(2, 3)), features)


def test_weights_and_outputs_have_their_names_and_the_batch_is_open(tmp_path):
    onnx = peers.onnx()
    weights.export_onnx(TwoHeads(), tmp_path / "m.onnx", (3, 6, 6), {"model": "two"})
    made = onnx.load(tmp_path / "m.onnx")
    assert {"conv.weight", "conv.bias"} <= {i.name for i in made.graph.initializer}
    assert [o.name for o in made.graph.output] == ["scores", "features"]
    for value in (made.graph.input[0], *made.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {p.key: p.value for p in made.metadata_props} == {"minires": '{"model": "two"}'}
    assert made.opset_import[0].version >= 17
    assert {i.name for i in made.graph.initializer} <= {name for node in made.graph.node for name in node.input}


def test_the_weights_of_resnet_are_all_there_under_their_names(tmp_path):
    onnx = peers.onnx()
    model = randomize(models.create("resnet8", width=2))
    weights.export_onnx(model, tmp_path / "m.onnx", (3, 8, 8))
    kept = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(tmp_path / "m.onnx").graph.initializer}
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert np.array_equal(kept[name], tensor.data), name


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    peers.onnx()
    model = models.create("resnet8", width=2)
    model.layer1.eval()
    model.conv1.weight.requires_grad = False
    before = {k: v.data.copy() for k, v in model.state_dict().items()}
    backend.manual_seed(3)
    drawn = backend.generator().random(4)
    backend.manual_seed(3)
    assert_same_in_onnxruntime_and_back(model, tmp_path)
    assert np.array_equal(backend.generator().random(4), drawn)
    assert all(np.array_equal(v.data, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert (model.training, model.layer1.training, model.layer2.training) == (True, False, True)


def assert_same_in_onnxruntime_and_back(model, tmp_path):
    weights.export_onnx(model, tmp_path / "m.onnx", (3, 8, 8))


def test_float64_models_stay_float64(tmp_path):
    onnx = peers.onnx()
    model = models.create("mlp", in_channels=1, image_size=4).to(np.float64)
    weights.export_onnx(model, tmp_path / "m.onnx", (1, 4, 4))
    x = rng.standard_normal((3, 1, 4, 4))
    with no_grad():
        expected = model(x).data
    assert np.max(np.abs(run(tmp_path / "m.onnx", x)[0] - expected)) < 1e-12
    assert onnx.load(tmp_path / "m.onnx").graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE


# --- what is refused -------------------------------------------------------------------------------


def gram(rows):
    """The products of all pairs of a batch."""
    n = len(rows)
    return F.reshape(rows @ F.transpose(rows, 0, 1), (n, n, 1))


EARLIER = F.exp(Tensor(normal(5), requires_grad=True))
REFUSED = {
    "no translation": (lambda x: F.max(x, dim=1).values, "Max has no translation into ONNX; there are "),
    "checkpointed": (lambda x: F.exp(nn.checkpoint(F.exp, x)), "Checkpoint keeps what it computes off the tape"),
    "checkpointed last": (lambda x: nn.checkpoint(F.exp, x), "Checkpoint keeps what it computes off the tape"),
    "an earlier tape": (lambda x: x + EARLIER, "an input of Add was computed before the model ran"),
    "batch statistics": (lambda x: F.batch_norm(x, None, None, training=True), "BatchNorm has no translation"),
    "outside of the tape": (lambda x: x * x.data.max(), "an input of Mul was computed from the image outside"),
    "variance over the batch": (lambda x: x / F.var(x, dim=0), "Var is taken over the batch"),
    "index by the batch": (lambda x: x[: x.shape[0] - 1], "index of BasicIndex depends on the batch's size"),
    "other ops": (lambda x: F.exp(x) if x.shape[0] == 2 else F.tanh(x), "other ops for another batch"),
    "two open axes": (lambda x: gram(F.flatten(x, 1)), "shape of Reshape depends on the batch's size, .2, 2, 1. and"),
    "no answer an image": (lambda x: F.mean(x, dim=(0, 1, 2)), r"output is of shape \(5,\) for a batch of 2"),
    "not these images": (lambda x: F.conv2d(x, normal(2, 3, 1, 1)), "models of images, and Of takes none of 4 x 7 x 5"),
    "two positions": (lambda x: x[:, [0, 1], [2, 3]], "AdvancedIndex is translated for one array of positions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_by_name(tmp_path, name):
    peers.onnx()
    f, message = REFUSED[name]
    with pytest.raises(RequestError, match=message) as caught:
        weights.export_onnx(Of(f), tmp_path / "m.onnx", (4, 7, 5))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()


def test_without_onnx_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnx.checker", None)
    with pytest.raises(RequestError, match=r"needs onnx, which is not installed: pip install 'minires\[onnx\]'"):
        weights.export_onnx(models.create("mlp"), tmp_path / "m.onnx", (3, 32, 32))


@pytest.mark.parametrize("name", ["resnet8", "lenet"])
def test_a_model_on_a_device_gives_the_same_file(tmp_path, library, name):
    peers.onnx()
    model = randomize(models.create(name, in_channels=1))
    weights.export_onnx(model, tmp_path / "host.onnx", (1, 32, 32))
    weights.export_onnx(model.to("cuda"), tmp_path / "device.onnx", (1, 32, 32))
    assert (tmp_path / "host.onnx").read_bytes() == (tmp_path / "device.onnx").read_bytes()
