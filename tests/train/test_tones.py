"""The tone words as a task: a whole run, its figures on a device, and what is refused."""

import json

import numpy as np
import pytest

from minires import functional as F
from minires import models
from minires.data import tones
from minires.train import config, loop, tasks
from minires.train.tasks.tones import TASK
from tests.devices import agree, without_waiting
from tests.devices import library as library  # the fixture
from tests.runs import refused

QUICK = {
    "data": "tones",
    "data_options": {"sequences": 40},
    "model_options": {"layers": 1, "width": 8, "heads": 2, "mels": 10},
    "batch_size": 10,
    "epochs": 1,
}


def test_a_run_ends_with_its_figures(tmp_path):
    options = config.create(**QUICK, out=str(tmp_path / "run"))
    summary = loop.start(options, quiet=True).fit()
    assert 0 <= summary["test_acc"] <= 1
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert {"train_loss", "train_acc", "val_loss", "val_acc", "sequences_per_second"} <= set(record)


def test_the_model_hears_as_many_mels_as_the_features_have():
    options = config.create(**QUICK)
    model, (train, validation, test) = TASK.model(options), TASK.loaders(options)
    assert model.subsampling.mels == 10
    assert [len(loader.arrays[0]) for loader in (train, validation, test)] == [40, 10, 10]
    for features, words in train:
        assert features.shape == (10, 78, 10)
        assert model(features).shape == (len(words), len(tones.WORDS))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_count_on_a_device_are_those_of_numpy_and_wait_for_nothing(library, smoothing):
    rng = np.random.default_rng(3)
    features, words = rng.standard_normal((6, 20, 8)), rng.integers(0, 10, 6)

    def compute(library):
        model = models.create("conformer_tiny", 10, mels=8, width=4, layers=1, dropout=0.0).to(np.float64)
        model.to(library.device)
        batch = [library.asarray(a) for a in (features, words)]
        with without_waiting(library):
            loss, counts = TASK.loss(model, *batch, smoothing=smoothing)
        return loss, counts

    agree(library, compute, tolerance=1e-10)


def test_the_loss_is_the_smoothed_cross_entropy_and_the_count_that_of_right_words():
    scores = np.random.default_rng(4).standard_normal((5, 10))
    words = scores.argmax(1)
    words[3] = scores[3].argmin()
    loss, (correct,) = TASK.loss(lambda x: F.add(x, 0.0), scores, words, smoothing=0.1)
    assert loss.item() == F.cross_entropy(scores, words, label_smoothing=0.1).item()
    assert int(correct) == 4
    assert TASK.metrics({"correct": 4.0}, 5) == {"acc": 0.8}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "resnet8"], "resnet8 does not classify log-mel features; for tones, use --model conformer_tiny"),
        (["--data-option", "sequences=10"], "--data-option sequences is 10, but must be a whole number of at least 40"),
        (["--option", "mels=5"], "mels is 5, but two convolutions of stride 2 need at least 7"),
        (["--data-option", "noise=1"], "--data-option noise: tones has no such option; it has sequences"),
    ],
)
def test_bad_requests_are_one_line(arguments, said, tmp_path, capsys):
    assert said in refused(["train", "--data", "tones", "--out", str(tmp_path / "run"), *arguments], capsys)
    assert not (tmp_path / "run").exists()


def test_the_task_is_found_by_its_name():
    assert tasks.find("tones") is TASK


@pytest.mark.slow
def test_the_default_run_knows_the_words(tmp_path):
    """In half of its epochs: all six give 1.000."""
    options = config.create(data="tones", epochs=3, out=str(tmp_path / "run"))
    assert loop.start(options, quiet=True).fit()["test_acc"] > 0.9
