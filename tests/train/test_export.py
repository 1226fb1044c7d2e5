"""`minires export` writes what it was asked for, and `minires eval` reads every kind of file to the same figures."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from minires import data, models, weights
from minires.cli import main
from minires.errors import RequestError
from minires.switches import no_grad
from minires.train import config, report
from minires.train.checkpoint import Checkpoint, save
from minires.train.export import Request, export
from tests import peers

WIDTH = 2


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The directory of a run on digits whose weights are random: what it takes to export one."""
    monkeypatch.chdir(tmp_path)
    about = {"data": "digits", "model": "resnet8", "model_options": {"width": WIDTH}}
    model = models.create("resnet8", 10, 1, width=WIDTH)
    arrays = {k: v.data for k, v in model.state_dict().items()}
    Path("run").mkdir()
    config.save(config.create(**about), Path("run") / report.CONFIG)
    save(Path("run/best"), Checkpoint(arrays, {"groups": [], "state": {}}, {}, about))
    return Path("run")


def request(source, to, **more):
    return Request(Path(source), Path(to), **more)


def evaluated(capsys, path, *more):
    assert main(["eval", str(path), *more]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt", ".pth", ".th", ".bin"])
def test_a_run_in_every_format_gives_the_same_figures(run, capsys, suffix):
    if suffix not in (".safetensors", ".npz"):
        pytest.importorskip("torch")
    expected = evaluated(capsys, run)
    said = export(request(run, f"out/w{suffix}"))
    assert said.startswith(f"made {Path(f'out/w{suffix}')}: ")
    assert said.endswith("under the names of minires")
    names = ["--data", "digits", "--model", "resnet8", "--option", f"width={WIDTH}"]
    assert evaluated(capsys, f"out/w{suffix}", *names, "--normalization", "dataset") == expected


def test_an_exported_safetensors_file_says_what_it_is_of(run, capsys):
    expected = evaluated(capsys, run)
    export(request(run, "w.safetensors"))
    assert evaluated(capsys, "w.safetensors") == expected


def test_a_checkpoint_of_akamasters_kind_is_evaluated_by_the_same_path(run, capsys):
    torch = pytest.importorskip("torch")
    expected = evaluated(capsys, run)
    export(request(run, "w.pt", keys="akamaster"))
    state = {f"module.{k}": v for k, v in torch.load("w.pt", weights_only=True).items()}
    torch.save({"state_dict": state, "best_prec1": 50.0}, "checkpoint.th")
    names = ["--data", "digits", "--model", "resnet8", "--option", f"width={WIDTH}"]
    assert evaluated(capsys, "checkpoint.th", *names) == expected


def test_onnx_of_a_run_is_for_the_images_of_its_data(run):
    peers.onnx()
    said = export(request(run, "m.onnx"))
    assert said == "made m.onnx: resnet8 for images of 1 x 8 x 8, any number at once, in evaluation mode"
    model = models.create("resnet8", 10, 1, width=WIDTH).eval()
    weights.load(model, run / "best" / "model.safetensors")
    x = data.load("digits").test.images[:5].astype(np.float32)
    session = peers.onnxruntime().InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    with no_grad():
        assert np.allclose(session.run(None, {"input": x})[0], model(x).data, rtol=1e-4, atol=1e-5)


def test_onnx_of_weights_needs_the_model_and_takes_an_image_size(run):
    peers.onnx()
    export(request(run, "w.npz"))
    with pytest.raises(RequestError, match=r"w\.npz does not say which model it is of; add --model NAME"):
        export(request("w.npz", "m.onnx"))
    options = {"width": WIDTH, "in_channels": 1}
    said = export(request("w.npz", "m.onnx", model="resnet8", options=options))
    assert "images of 1 x 32 x 32" in said
    said = export(request("w.npz", "m.onnx", model="resnet8", options=options, image_size=12))
    assert "images of 1 x 12 x 12" in said


def test_names_of_another_library_go_both_ways_through_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"vocab_size": 11, "context": 7, "layers": 1, "heads": 2, "width": 8}
    model = models.create("gpt2", **options)
    weights.save("ours.safetensors", model, model="gpt2", model_options=options)
    export(request("ours.safetensors", "theirs.npz", keys="huggingface"))
    theirs, _ = weights.read_weights(Path("theirs.npz"))
    assert theirs["transformer.h.0.attn.c_attn.weight"].shape == (8, 24)
    assert np.array_equal(theirs["lm_head.weight"], model.transformer.wte.weight.data)
    said = export(request("theirs.npz", "back.safetensors", model="gpt2", options=options))
    assert said.endswith("under the names of minires")
    back, about = weights.read_weights(Path("back.safetensors"))
    assert about == {"model": "gpt2", "model_options": options}
    assert back.keys() == model.state_dict().keys()
    assert all(np.array_equal(back[k], v.data) for k, v in model.state_dict().items())


def test_a_file_of_an_unknown_model_keeps_its_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("w.npz", a=np.ones(2))
    assert export(request("w.npz", "w.safetensors")) == (
        "made w.safetensors: 1 tensors, 2 numbers, under their own names"
    )


BAD = [
    ({"to": Path("m.h5")}, r"--to m\.h5 does not say in which format; end it in one of \.safetensors, .*\.onnx"),
    ({"to": Path("m")}, r"--to m does not say"),
    ({"keys": "keras"}, "unknown key map 'keras'; there are minires, torchvision"),
    ({"keys": "torchvision"}, "torchvision has no name for the weights of resnet8"),
    ({"to": Path("m.onnx"), "keys": "timm"}, "--keys timm is for weight files; an ONNX file has the names of minires"),
    ({"source": Path("none")}, "none does not exist"),
    ({"checkpoint": "first"}, "--checkpoint 'first' is unknown"),
    ({"checkpoint": "last"}, "holds no checkpoint yet"),
    ({"model": "resnet9"}, "unknown model 'resnet9'"),
    (
        {"model": "resnet14", "options": {"width": WIDTH, "in_channels": 1}},
        r"is not of a resnet14 .* 30 missing \(layer",
    ),
    ({"options": {"wdith": 2}, "model": "resnet8"}, "--option wdith: resnet8 has no such option"),
    ({"to": Path("m.onnx"), "image_size": 0}, "--image-size is 0"),
    ({"to": Path("file/m.npz")}, r"--to file/m\.npz cannot be written"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_request_is_one_line_and_makes_nothing(run, change, message):
    Path("file").write_text("in the way")
    asked = dataclasses.replace(request(run, "m.npz"), **change)
    with pytest.raises(RequestError, match=message) as caught:
        export(asked)
    assert "\n" not in str(caught.value)
    assert not asked.to.exists()


def test_eval_of_weights_that_fit_nothing_names_all_that_is_wrong(run, capsys):
    arrays, _ = weights.read_weights(run / "best" / "model.safetensors")
    arrays["layer9.weight"] = arrays.pop("linear.weight")
    arrays["linear.bias"] = arrays["linear.bias"][:4]
    weights.write_weights(Path("w.npz"), arrays)
    assert main(["eval", "w.npz", "--data", "digits", "--model", "resnet8", "--option", f"width={WIDTH}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "w.npz is not of a resnet8 for digits" in error
    assert "1 of another shape (linear.bias is (10,) here and (4,) there)" in error
    assert "1 missing (linear.weight); 1 unexpected (layer9.weight)" in error
