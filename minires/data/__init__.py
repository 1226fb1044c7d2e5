"""Data sets in their publishers' own formats, augmentation and the batch loader. NumPy only."""

from minires.data.augment import Compose, Cutout, HorizontalFlip, Normalize, PadCrop, augmentation
from minires.data.datasets import Dataset, Splits, load, names, split_validation
from minires.data.fetch import data_dir
from minires.data.loader import DataLoader

__all__ = [
    "Compose",
    "Cutout",
    "DataLoader",
    "Dataset",
    "HorizontalFlip",
    "Normalize",
    "PadCrop",
    "Splits",
    "augmentation",
    "data_dir",
    "load",
    "names",
    "split_validation",
]
