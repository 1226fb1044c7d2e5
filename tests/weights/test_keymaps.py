"""A state dict of another library loads under its own names, gives that library's output, and goes back unchanged."""

import os
from pathlib import Path

import numpy as np
import pytest

from minires import models, nn, weights
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad
from minires.weights.keymaps import MAPS
from tests import peers
from tests.parity import assert_close

rng = np.random.default_rng(23)
TOLERANCE = 1e-9


def shaken(peer):
    """A torch module in float64 and evaluation mode, with gains, biases and statistics away from 1 and 0."""
    torch = peers.torch()
    peer = peer.double().eval()
    with torch.no_grad():
        for name, p in peer.named_parameters():
            if p.ndim == 1:
                p.copy_(torch.tensor(rng.standard_normal(p.shape) * 0.3 + ("weight" in name)))
        for name, b in peer.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(torch.tensor(rng.standard_normal(b.shape) * 0.3))
            elif name.endswith("running_var"):
                b.copy_(torch.tensor(rng.uniform(0.5, 2.0, b.shape)))
    return peer


def state_of(peer):
    return {name: t.detach().numpy() for name, t in peer.state_dict().items()}


def assert_goes_through(peer, model, file, keys, name):
    """peer -> file -> model -> file -> peer: found out and told, nothing lost, and the way back is exact."""
    torch = peers.torch()
    state = state_of(peer)
    weights.write_weights(file, state)
    for stated in (None, keys):
        model.load_state_dict({k: np.zeros_like(v.data) for k, v in model.state_dict().items()})
        weights.load(model, file, stated)
        back = weights.export(model.state_dict(), keys, name)
        lost = set(state) - set(back)
        assert all(k.endswith("num_batches_tracked") for k in lost)
        assert not set(back) - set(state)
        for key, array in back.items():
            assert np.array_equal(array, state[key]), key
    peer.load_state_dict({k: torch.tensor(np.ascontiguousarray(v)) for k, v in back.items()})


def assert_same_output(peer, model, x):
    torch = peers.torch()
    model.eval()
    with no_grad(), torch.no_grad():
        y = model(x)
        assert_close(y.data, peer(torch.tensor(x)).numpy(), tolerance=TOLERANCE)


# --- akamaster ------------------------------------------------------------------------------------


def akamaster(depth, head="linear", shortcut="A", width=16):
    """akamaster's network, written after the paper: option A pads zeros to every other pixel."""
    torch = peers.torch()
    t = torch.nn

    class Block(t.Module):
        def __init__(self, a, b, stride):
            super().__init__()
            self.conv1, self.bn1 = t.Conv2d(a, b, 3, stride, 1, bias=False), t.BatchNorm2d(b)
            self.conv2, self.bn2 = t.Conv2d(b, b, 3, 1, 1, bias=False), t.BatchNorm2d(b)
            self.shortcut = t.Sequential()
            self.pad = b // 4 if stride > 1 and shortcut == "A" else 0
            if stride > 1 and shortcut == "B":
                self.shortcut = t.Sequential(t.Conv2d(a, b, 1, stride, bias=False), t.BatchNorm2d(b))

        def forward(self, x):
            f = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            if self.pad:
                x = t.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
            return (f + self.shortcut(x)).relu()

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            w, n = width, (depth - 2) // 6
            self.conv1, self.bn1 = t.Conv2d(3, w, 3, 1, 1, bias=False), t.BatchNorm2d(w)
            for i, (a, b, s) in enumerate([(w, w, 1), (w, 2 * w, 2), (2 * w, 4 * w, 2)], start=1):
                blocks = t.Sequential(Block(a, b, s), *(Block(b, b, 1) for _ in range(n - 1)))
                setattr(self, f"layer{i}", blocks)
            setattr(self, head, t.Linear(4 * w, 10))

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
            return getattr(self, head)(x.mean((2, 3)))

    return Net()


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110, 1202])
def test_akamasters_checkpoints_load_at_every_depth(tmp_path, depth):
    """As published: a training script's .th, every name behind DataParallel's `module.`."""
    torch = peers.torch()
    width = 16 if depth < 100 else 2
    peer = shaken(akamaster(depth, width=width))
    with torch.no_grad():  # 400 blocks that each double the stream would leave nothing to compare
        for name, p in peer.named_parameters():
            if name.endswith("bn2.weight"):
                p.mul_(0.1)
    wrapped = {f"module.{k}": v for k, v in peer.state_dict().items() if "num_batches" not in k}
    torch.save({"state_dict": wrapped, "best_prec1": 91.7}, tmp_path / "checkpoint.th")
    model = models.create(f"resnet{depth}", width=width).to(np.float64)
    weights.load(model, tmp_path / "checkpoint.th")
    assert_same_output(peer, model, rng.standard_normal((2, 3, 16, 16)))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_akamasters_names_go_both_ways(tmp_path, shortcut):
    model = models.create("resnet20", width=4, shortcut=shortcut).to(np.float64)
    peer = shaken(akamaster(20, shortcut=shortcut, width=4))
    assert_goes_through(peer, model, tmp_path / "w.safetensors", "akamaster", "resnet20")
    assert_same_output(peer, model, rng.standard_normal((2, 3, 12, 12)))


def test_a_head_called_fc_is_akamasters_too(tmp_path):
    peer = shaken(akamaster(20, head="fc", width=4))
    model = models.create("resnet20", width=4).to(np.float64)
    assert weights.fill(model, state_of(peer)) == "akamaster"
    assert_same_output(peer, model, rng.standard_normal((2, 3, 12, 12)))


# --- torchvision and timm --------------------------------------------------------------------------

VISION = [
    "resnet18", "resnet50", "resnext50_32x4d", "alexnet", "vgg16_bn", "densenet121", "efficientnet_b0", "mobilenet_v2",
]  # fmt: skip


def assert_same_names(peer, keys, name):
    """`peer()` and the model have the same tensors but for their names. No number is drawn on either side."""
    with peers.torch().device("meta"):
        theirs = {k: tuple(v.shape) for k, v in peer().state_dict().items()}
    with nn.init.skip_init():
        model = models.create(name)
    named = weights.export(model.state_dict(), keys, name)
    assert {k: v.shape for k, v in named.items()} == theirs


@pytest.mark.parametrize("name", VISION)
def test_torchvisions_names_are_ours(name):
    if name not in models.names():
        pytest.skip(f"{name} is not in the registry")
    assert_same_names(lambda: peers.torchvision().models.get_model(name, weights=None), "torchvision", name)


def test_torchvisions_state_dict_gives_its_output(tmp_path):
    peer = shaken(peers.torchvision().models.resnet18(weights=None))
    model = models.create("resnet18").to(np.float64)
    assert_goes_through(peer, model, tmp_path / "w.npz", "torchvision", "resnet18")
    assert_same_output(peer, model, rng.standard_normal((2, 3, 24, 33)))


def test_timms_se_resnet_loads_and_gives_its_output(tmp_path):
    peer = shaken(peers.timm().create_model("legacy_seresnet18", num_classes=7))
    model = models.create("se_resnet18", num_classes=7).to(np.float64)
    assert_goes_through(peer, model, tmp_path / "w.safetensors", "timm", "se_resnet18")
    assert_same_output(peer, model, rng.standard_normal((2, 3, 24, 31)))


def test_torchvisions_vision_transformer_loads_and_gives_its_output(tmp_path):
    peer = shaken(peers.torchvision().models.VisionTransformer(8, 4, 2, 2, 8, 12, num_classes=5))
    sizes = {"image_size": 8, "patch_size": 4, "layers": 2, "heads": 2, "width": 8, "feedforward": 12}
    model = models.create("vit_base", num_classes=5, **sizes).to(np.float64)
    assert_goes_through(peer, model, tmp_path / "w.safetensors", "torchvision", "vit_base")
    assert_same_output(peer, model, rng.standard_normal((2, 3, 8, 8)))


@pytest.mark.parametrize("depth", [34, 50, 101, 152])
def test_timms_deeper_se_resnets_have_the_same_tensors(depth):
    assert_same_names(lambda: peers.timm().create_model(f"legacy_seresnet{depth}"), "timm", f"se_resnet{depth}")


# --- Hugging Face ----------------------------------------------------------------------------------


def gpt2(**more):
    t = peers.transformers()
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 11, "n_positions": 7}
    return t.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, attn_implementation="eager", **more)


def our_gpt2(tied=True):
    sizes = {"vocab_size": 11, "context": 7, "layers": 2, "heads": 2, "width": 8}
    return models.create("gpt2", **sizes, dropout=0.0, tied=tied).to(np.float64)


def assert_same_logits(peer, model, tokens):
    torch = peers.torch()
    with no_grad(), torch.no_grad():
        theirs = peer(torch.tensor(tokens)).logits.numpy()
        assert_close(model.eval()(tokens).data, theirs, tolerance=TOLERANCE)


def test_hugging_faces_gpt2_loads_and_gives_its_logits(tmp_path):
    peer = shaken(peers.transformers().GPT2LMHeadModel(gpt2()))
    model = our_gpt2()
    assert_goes_through(peer, model, tmp_path / "w.pt", "huggingface", "gpt2")
    assert_same_logits(peer, model, rng.integers(0, 11, (3, 7)))


def test_gpt2_files_of_older_kinds_load():
    """The published file: no `transformer.` before the names, causal masks among them, no head."""
    peer = shaken(peers.transformers().GPT2LMHeadModel(gpt2()))
    state = {k.removeprefix("transformer."): v for k, v in state_of(peer).items() if k != "lm_head.weight"}
    masks = {f"h.{i}.attn.bias": np.tri(7).reshape(1, 1, 7, 7) for i in range(2)}
    state = {**state, **masks, "h.0.attn.masked_bias": np.array(-1e4)}
    for tied in (True, False):
        model = our_gpt2(tied)
        assert weights.fill(model, state) == "huggingface"
        assert_same_logits(peer, model, rng.integers(0, 11, (3, 7)))


def test_a_head_of_its_own_is_not_taken_for_a_tied_one():
    peer = shaken(peers.transformers().GPT2LMHeadModel(gpt2(tie_word_embeddings=False)))
    with pytest.raises(RequestError, match=r"1 unexpected \(lm_head.weight\)"):
        weights.fill(our_gpt2(), state_of(peer))
    model = our_gpt2(tied=False)
    weights.fill(model, state_of(peer))
    assert_same_logits(peer, model, rng.integers(0, 11, (3, 7)))
    back = weights.export(model.state_dict(), "huggingface", "gpt2")
    assert all(np.array_equal(back[k], v) for k, v in state_of(peer).items())


BERTS = {"none": "BertModel", "masked": "BertForMaskedLM", "pretraining": "BertForPreTraining"}


@pytest.mark.parametrize("head", BERTS)
def test_hugging_faces_berts_load_and_go_back(tmp_path, head):
    t = peers.transformers()
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    config = t.BertConfig(vocab_size=11, max_position_embeddings=7, attn_implementation="eager", **sizes)
    peer = shaken(getattr(t, BERTS[head])(config))
    ours = {"vocab_size": 11, "context": 7, "layers": 2, "heads": 2, "width": 8, "feedforward": 12, "head": head}
    model = models.create("bert_base", **ours, dropout=0.0).to(np.float64)
    assert_goes_through(peer, model, tmp_path / "w.bin", "huggingface", "bert_base")
    with no_grad(), peers.torch().no_grad():
        words = rng.integers(0, 11, (3, 7))
        y, theirs = model.eval()(words), peer(peers.torch().tensor(words))[0].numpy()
    assert_close((y[0] if isinstance(y, tuple) else y).data, theirs, tolerance=TOLERANCE)


def test_bert_files_of_older_kinds_load():
    """The published file: gamma and beta, the positions among the weights, the head without its tied matrix."""
    sizes = {"vocab_size": 11, "context": 7, "layers": 1, "heads": 2, "width": 8, "feedforward": 12}
    model = models.create("bert_base", **sizes, head="pretraining")
    state = {k: v.data + 1 for k, v in model.state_dict().items()}
    old = {k.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v for k, v in state.items()}
    assert weights.fill(model, {**old, "bert.embeddings.position_ids": np.arange(7)[None]}) == "huggingface"
    assert all(np.array_equal(v.data, state[k]) for k, v in model.state_dict().items())


# --- published weights -----------------------------------------------------------------------------


def published(name):
    folder = os.environ.get("MINIRES_WEIGHTS") or Path(__file__).parents[2].parent / "shared" / "weights"
    file = Path(folder) / name
    if not file.exists():
        pytest.skip(f"{name} is not here; MINIRES_WEIGHTS names its folder")
    return file


def test_the_published_checkpoint_and_its_safetensors_are_the_same_weights():
    peers.torch()
    models_ = [models.create("resnet20") for _ in range(2)]
    for model, name in zip(models_, ("resnet20-12fca82f.th", "resnet20-cifar10.safetensors"), strict=True):
        weights.load(model, published(name))
    for a, b in zip(*(m.state_dict().values() for m in models_), strict=True):
        assert np.array_equal(a.data, b.data)


# --- what a map does and refuses -------------------------------------------------------------------


class Two(nn.Module):
    """A matrix that may be read either way up."""

    def __init__(self, n=3):
        self.transformer = nn.ModuleDict({"h": nn.ModuleList([Attention(n)])})


class Attention(nn.Module):
    def __init__(self, n):
        self.attn = nn.ModuleDict({"c_proj": nn.Linear(n, n, bias=False)})


def test_names_that_fit_two_maps_are_refused_until_it_is_said_whose_they_are():
    model, w = Two(), rng.standard_normal((3, 3))
    state = {"transformer.h.0.attn.c_proj.weight": w}
    with pytest.raises(RequestError, match=r"fit the names of minires and of huggingface, differently; say whose"):
        weights.fill(model, state)
    for keys, expected in (("minires", w), ("huggingface", w.T)):
        assert weights.fill(model, state, keys) == keys
        assert np.array_equal(model.transformer["h"][0].attn["c_proj"].weight.data, expected.astype(np.float32))


def test_a_state_dict_that_fits_no_map_is_refused_with_everything_that_is_wrong():
    model = models.create("mlp", num_classes=3)
    held = {k: v.data.copy() for k, v in model.state_dict().items()}
    state = {**held, "extra": np.ones(1), "other": np.ones(1)}
    gone = state.popitem()[0], next(iter(held))
    del state[gone[1]]
    with pytest.raises(
        RequestError, match=rf"1 missing \({gone[1]}\); 1 unexpected \(extra\); build the model"
    ) as caught:
        weights.fill(model, state)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(v.data, held[k]) for k, v in model.state_dict().items())


def test_an_unknown_key_map_is_refused():
    model = models.create("mlp")
    for act in (lambda: weights.fill(model, {}, "keras"), lambda: weights.export(model.state_dict(), "keras")):
        with pytest.raises(RequestError, match="unknown key map 'keras'; there are minires, torchvision, timm, akama"):
            act()


@pytest.mark.parametrize(("keys", "name"), [("akamaster", "mlp"), ("timm", "resnet20"), ("torchvision", "resnet20")])
def test_a_library_without_that_model_is_refused(keys, name):
    model = models.create(name)
    with pytest.raises(RequestError, match=f"{keys} has no name for the weights of {name}: its key map is for"):
        weights.export(model.state_dict(), keys, name)


def test_weights_of_a_model_that_rows_do_not_know_are_refused():
    with pytest.raises(RequestError, match=r"huggingface has no name .* a model with the key conv1.weight"):
        weights.export(models.create("resnet8").state_dict(), "huggingface")


def test_convert_leaves_model_and_state_as_they_are():
    model = our_gpt2()
    before = {k: v.data.copy() for k, v in model.state_dict().items()}
    state = weights.export(before, "huggingface", "gpt2")
    copies = {k: v.copy() for k, v in state.items()}
    named = weights.convert({k: Tensor(v) for k, v in state.items()}, model)
    assert all(np.array_equal(named[k], v) for k, v in before.items())
    assert all(np.array_equal(state[k], v) for k, v in copies.items())
    assert all(np.array_equal(v.data, before[k]) for k, v in model.state_dict().items())


def test_every_map_stands_under_its_peers_name():
    assert weights.peers() == list(MAPS)
    assert all(m.peer == peer for peer, key_maps in MAPS.items() for m in key_maps)


def test_save_and_load_of_our_own(tmp_path):
    model, other = models.create("resnet8", width=2), models.create("resnet8", width=2)
    weights.save(tmp_path / "w.safetensors", model, model="resnet8", model_options={"width": 2})
    assert weights.load(other, tmp_path / "w.safetensors") == "minires"
    assert all(np.array_equal(a.data, b.data) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    about = weights.read_weights(tmp_path / "w.safetensors")[1]
    assert about == {"model": "resnet8", "model_options": {"width": 2}}


def test_models_on_a_device_load_and_save(tmp_path, library):
    model, other = (models.create("resnet8", width=2) for _ in range(2))
    expected = {k: v.data.copy() for k, v in model.state_dict().items()}
    weights.save(tmp_path / "w.safetensors", model.to("cuda"), "akamaster", "resnet8")
    weights.load(other.to("cuda"), tmp_path / "w.safetensors")
    assert all(np.array_equal(library.to_host(v.data), expected[k]) for k, v in other.state_dict().items())
    assert {v.device for v in other.state_dict().values()} == {library.device}
