"""The commands of the README on the real data sets. Minutes long: they run with --slow, where the data are."""

import json
import os
from pathlib import Path

import pytest

from minires.cli import main

pytestmark = pytest.mark.slow


def folder(name):
    root = os.environ.get("MINIRES_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"MINIRES_DATA has no {name}")
    return Path(root) / name


def test_resnet8_reads_98_percent_of_the_mnist_test_images_after_one_epoch_of_the_fast_recipe(tmp_path):
    """0.9899 after one and 0.9949 after all four, with seed 0 and the compiled kernels."""
    folder("mnist")
    out = tmp_path / "run"
    assert main(["train", "--data", "mnist", "--recipe", "fast", "--epochs", "1", "--out", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())["test_acc"] >= 0.98


def test_the_published_resnet20_weights_score_as_published_on_the_cifar10_test_images(capsys):
    folder("cifar-10-batches-py")
    here = Path(os.environ.get("MINIRES_WEIGHTS", Path(__file__).parents[3] / "shared" / "weights"))
    weights = here / "resnet20-cifar10.safetensors"
    if not weights.is_file():
        pytest.skip("the published ResNet-20 weights are not here; set MINIRES_WEIGHTS to their folder")
    assert main(["eval", str(weights), "--data", "cifar10", "--model", "resnet20"]) == 0
    assert "0.9173" in capsys.readouterr().out


def test_gpt_writes_shakespeare_better_than_letter_pairs_after_300_steps(tmp_path, capsys):
    """Pairs of letters, counted in the training text, give 2.47 nats a character in validation; it has 2.38."""
    folder("tinyshakespeare")
    out = tmp_path / "run"
    options = ["--epochs", "1", "--data-option", "steps=300"]
    assert main(["train", "--data", "shakespeare", *options, "--out", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())["best_val_loss"] < 2.43
    capsys.readouterr()
    assert main(["generate", str(out), "--prompt", "ROMEO:", "--tokens", "40"]) == 0
    assert capsys.readouterr().out.startswith("ROMEO:")


def test_the_encoder_decoder_copies_what_it_has_never_seen(tmp_path):
    """In half of its epochs: all four write every test string without a mistake."""
    out = tmp_path / "run"
    assert main(["train", "--data", "copy", "--epochs", "2", "--out", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())["test_exact"] > 0.9
