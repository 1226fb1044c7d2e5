"""Words of two gliding tones, told apart by a Conformer: the shortest speech recognition there is."""

from __future__ import annotations

from typing import Any, ClassVar

from minires import backend, models
from minires import functional as F
from minires.backend import Array
from minires.data import tones
from minires.data.arrays import ArrayLoader
from minires.data.datasets import require_whole
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import Module
from minires.train.task import Loader, Task


class ToneWords(Task):
    """Log-mel features (N, T, mels) and words (N,), with the cross-entropy of the model's scores (N, 10).

    Options    sequences: training utterances; half as many again are made to validate and test on
    """

    names = ("tones",)
    options: ClassVar[dict[str, Any]] = {"sequences": 2000}
    unit = "sequences"
    loss_label = "cross-entropy, per utterance"
    words: ClassVar[dict[str, str]] = {"acc": "words recognized"}
    best_label = "share of words recognized"
    decay_all = False

    def usual(self, name: str) -> dict[str, Any]:
        return USUAL

    def model(self, config: Any) -> Module:
        about = models.info(config.model)
        if "mels" not in about.options or "num_classes" not in about.shape:
            raise RequestError(f"{config.model} does not classify log-mel features; for tones, use --model {MODEL}")
        with backend.device(config.device):
            return models.create(config.model, len(tones.WORDS), **config.model_options).to(config.device)

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        mels = {**models.info(config.model).options, **config.model_options}["mels"]
        sequences = require_whole("--data-option sequences", self.option(config, "sequences"), low=40)
        train, validation, test = tones.load(sequences, mels)
        return self.training_batches(train, config), ArrayLoader(validation, 250), ArrayLoader(test, 250)

    def loss(self, model: Module, *batch: Array, smoothing: float = 0.0) -> tuple[Tensor, list[Array]]:
        features, words = batch
        scores = model(features)  # (N, 10)
        return F.cross_entropy(scores, words, label_smoothing=smoothing), [(scores.data.argmax(1) == words).sum()]


MODEL = "conformer_tiny"
USUAL: dict[str, Any] = {
    "model": MODEL,
    "epochs": 6,
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 0.01,
    "clip_norm": 5.0,
}

TASK = ToneWords()
