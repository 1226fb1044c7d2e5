"""Segmentation: which pixels belong to a nucleus (data set "nuclei"), or to a blob ("blobs", which needs no file)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minires import backend, models
from minires import functional as F
from minires.backend import Array
from minires.data.arrays import ArrayLoader
from minires.data.blobs import load_blobs
from minires.data.datasets import require_whole
from minires.data.fetch import data_dir
from minires.data.masks import CropTurnFlip, MaskedImages, split, standardize
from minires.data.nuclei import load_nuclei
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import Module
from minires.train import figures, overlay
from minires.train.task import Loader, Task, answer

READERS: dict[str, Callable[[Path], MaskedImages]] = {"nuclei": load_nuclei, "blobs": lambda folder: load_blobs()}

# What a U-Net has here unless `--option` says otherwise: the published width would take a day on two cores.
UNET = {"width": 8, "norm": "batch"}

# Nuclei: with seed 0 the test IoU is 0.792 over all pixels, 0.856 in the mean over images; twice the width (20 epochs)
# gains nothing (0.787, 0.853): crowded images hold most errors, and people outlined some of them wide, others tight.
USUAL: dict[str, dict[str, Any]] = {
    "nuclei": {"epochs": 30, "batch_size": 8},
    "blobs": {"epochs": 8, "batch_size": 16},
}
SHARED = {"model": "unet", "optimizer": "adamw", "lr": 3e-3, "weight_decay": 1e-2, "val_fraction": 0.15}


class Segmentation(Task):
    """Images (N, 1, H, W) and their masks, bool of that shape; a model gives one score a pixel, (N, 1, H, W).

    The loss is binary cross-entropy plus dice loss: the former judges each pixel alone, the latter how far the two
    areas overlap, so that the few bright pixels weigh as much as the dark rest (Milletari et al. 2016, V-Net).

    Figures, of the pixels of all images together: `acc`, the share of pixels that are right; `iou`, intersection over
    union of true and predicted foreground; `dice`, 2 iou / (1 + iou). `image_iou` is the mean of each image's own.
    """

    names = tuple(READERS)
    options: ClassVar[dict[str, Any]] = {"crop": 128}
    counts = ("hits", "false_alarms", "misses", "rejections", "image_iou")
    uses = ("augment", "val_fraction", "label_smoothing")
    best = "iou"
    words: ClassVar[dict[str, str]] = {"acc": "pixel accuracy", "iou": "IoU", "image_iou": "IoU by image"}
    best_label = "intersection over union, all pixels"
    loss_label = "cross-entropy + dice loss"

    def usual(self, name: str) -> dict[str, Any]:
        return {**SHARED, **USUAL[name]}

    def model(self, config: Any) -> Module:
        data = _load(config.data, data_dir())
        options = {**UNET, **config.model_options} if config.model == "unet" else config.model_options
        if set(models.info(config.model).shape) != {"num_classes", "in_channels"}:
            raise RequestError(f"{config.model} takes no images, so it cannot learn {config.data}; use --model unet")
        with backend.device(config.device):
            model = models.create(config.model, 1, 1, **options).to(config.device)
            for side in {self.crop(config, data), *data.images.shape[2:]}:
                _try(model, config, side)
        return model

    def crop(self, config: Any, data: MaskedImages) -> int:
        """The side of the windows to train on: no larger than the images, which blobs are half of."""
        wanted = require_whole("--data-option crop", self.option(config, "crop"), low=1)
        return min(wanted, *data.images.shape[2:])

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        data = _load(config.data, data_dir())
        train, validation, test = split(data, config.val_fraction, config.seed)
        augmentation = CropTurnFlip(self.crop(config, data)) if config.augment else None
        held_out, tested = (ArrayLoader(_arrays(part), batch_size=8) for part in (validation, test))
        return self.training_batches(_arrays(train), config, augmentation), held_out, tested

    def loss(self, model: Module, *batch: Array, smoothing: float = 0.0) -> tuple[Tensor, list[Array]]:
        images, masks = batch
        scores = model(images)  # (N, 1, H, W)
        masks = _middle(masks, scores.shape)
        targets = masks * (1 - smoothing) + smoothing / 2 if smoothing else masks
        targets = targets.astype(scores.dtype)
        loss = F.binary_cross_entropy_with_logits(scores, targets) + F.dice_loss(F.sigmoid(scores), targets)
        return loss, confusion(scores.data > 0, masks)

    def metrics(self, counts: dict[str, float], size: int) -> dict[str, float]:
        hits, wrong = counts["hits"], counts["false_alarms"] + counts["misses"]
        right = hits + counts["rejections"]
        return {
            "acc": right / max(right + wrong, 1),
            "iou": hits / max(hits + wrong, 1),
            "dice": 2 * hits / max(2 * hits + wrong, 1),
            "image_iou": counts["image_iou"] / max(size, 1),
        }

    def finish(self, model: Module, config: Any, run: Path) -> list[tuple[str, str]]:
        if not figures.available():
            return []
        test = split(_load(config.data, data_dir()), config.val_fraction, config.seed)[2]
        predicted = predict(model, standardize(test.images))
        pictures, masks = (_middle(a, predicted.shape) for a in (test.images, test.masks))
        title = f"{config.model} on {config.data}"
        overlay.draw(run / "overlay.png", pictures[:, 0], masks[:, 0], predicted[:, 0], title)
        return [("overlay.png", "test images from worst to best, with true and predicted outlines")]


def confusion(predicted: Array, true: Array) -> list[Array]:
    """Of two masks (N, 1, H, W): pixels in both, in the first only, in the second only, in neither; the images' IoU.

    The last is the sum over images of |both| / |either|, which is 1 where both masks are empty.
    """
    both, either = predicted & true, predicted | true
    shared, spanned = both.sum((1, 2, 3)), either.sum((1, 2, 3))  # (N,)
    image_iou = (shared + (spanned == 0)) / (spanned + (spanned == 0))
    return [both.sum(), (predicted & ~true).sum(), (true & ~predicted).sum(), (~either).sum(), image_iou.sum()]


def predict(model: Module, images: np.ndarray, batch_size: int = 8) -> np.ndarray:
    """The predicted mask (N, 1, H, W) of standardized images (N, 1, H, W), as booleans on the host.

    Of a model that loses the image's border, the mask of the middle. The model is left in the mode it was in.
    """
    parts = (images[k : k + batch_size] for k in range(0, len(images), batch_size))
    return np.concatenate([backend.to_host(answer(model, part).data > 0) for part in parts])


def _arrays(part: MaskedImages) -> tuple[np.ndarray, np.ndarray]:
    return standardize(part.images), part.masks


@functools.lru_cache(maxsize=1)
def _load(name: str, folder: Path) -> MaskedImages:
    """The data set, kept, since model, loaders and pictures each ask for it."""
    return READERS[name](folder)


def _middle(maps: Any, shape: tuple[int, ...]) -> Any:
    """The middle of maps (N, 1, H, W), as large as `shape`: what a model without padding has scores for."""
    (h, w), (top, left) = shape[2:], ((n - m) // 2 for n, m in zip(maps.shape[2:], shape[2:], strict=True))
    return maps[:, :, top : top + h, left : left + w]


def _try(model: Module, config: Any, side: int) -> None:
    """One forward pass, so that a model that cannot take these images is refused before anything is written."""
    x = np.zeros((1, 1, side, side), np.float32)
    try:
        shape = tuple(answer(model, x).shape)
    except (ValueError, TypeError) as error:
        raise RequestError(f"{config.model} does not fit {config.data} cut to {side} x {side}: {error}") from None
    if len(shape) != 4 or shape[:2] != (1, 1):
        raise RequestError(
            f"{config.model} gives scores {shape} for images {tuple(x.shape)}, but {config.data} asks for one a "
            "pixel; use --model unet"
        )


TASK = Segmentation()
