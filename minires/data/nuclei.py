"""Cell nuclei under the microscope: the gray images of 256 x 256 pixels of the 2018 Data Science Bowl, stage 1.

Three forms are read, the first that is there, from the folder `dsb2018-nuclei` of the data folder:

    dsb2018_stage1_256.npz      images (334, 256, 256) uint8, instances of that shape (0, or a nucleus's number), ids
    stage1_train.zip            as the publisher ships it; needs Pillow
    stage1_train/               the same unpacked: <id>/images/<id>.png and <id>/masks/*.png, one mask a nucleus

Source: BBBC038v1, Caicedo et al. 2019, Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl;
Broad Bioimage Benchmark Collection, https://bbbc.broadinstitute.org/BBBC038. License: CC0.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minires.data.fetch import data_dir
from minires.data.masks import MaskedImages
from minires.errors import RequestError

ADDRESS = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"
FOLDER, PACKED, UNPACKED = "dsb2018-nuclei", "dsb2018_stage1_256.npz", "stage1_train"
COUNT, SIDE = 334, 256


def load_nuclei(root: str | Path | None = None) -> MaskedImages:
    """The 334 images, by id, each with the union of its nuclei's masks.

    root    the data folder; None for `data_dir()`

    Raises RequestError when none of the three forms is there, when one is damaged or incomplete, and when Pillow is
    needed and missing.
    """
    folder = (data_dir() if root is None else Path(root).expanduser()) / FOLDER
    packed, archive, unpacked = folder / PACKED, folder / f"{UNPACKED}.zip", folder / UNPACKED
    if packed.exists():
        return _read_packed(packed)
    if archive.exists():
        try:
            with zipfile.ZipFile(archive) as pages:
                return _read_images(pages.namelist(), pages.read, archive)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RequestError(f"{archive} cannot be unpacked ({error}); fetch {ADDRESS} again") from None
    if unpacked.is_dir():
        names = (path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*.png"))
        return _read_images(names, lambda name: (unpacked / name).read_bytes(), unpacked)
    raise RequestError(
        f"nuclei: not found in {folder}; fetch {ADDRESS} (BBBC038, CC0) into that folder, or set MINIRES_DATA to a "
        f"folder that has {FOLDER}/; --data blobs needs no file"
    )


def _read_packed(path: Path) -> MaskedImages:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, instances, ids = (arrays[key] for key in ("images", "instances", "ids"))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise RequestError(f"{path} is damaged or another file ({error}); remove it and fetch {ADDRESS}") from None
    shape = (COUNT, SIDE, SIDE)
    if images.shape != shape or instances.shape != shape or ids.shape != (COUNT,) or images.dtype != np.uint8:
        raise RequestError(
            f"{path} holds images {images.shape}, instances {instances.shape} and ids {ids.shape}, but there are "
            f"{COUNT} of {SIDE} x {SIDE}; remove it and fetch {ADDRESS}"
        )
    return _by_id(images, instances > 0, ids)


def _read_images(names: Iterable[str], read: Callable[[str], bytes], where: Path) -> MaskedImages:
    """The images of 256 x 256 among the PNG files `names`, whose bytes `read` gives."""
    image_of: dict[str, str] = {}
    masks_of: dict[str, list[str]] = {}
    for name in names:
        match = re.search(r"(?:^|/)([0-9a-f]+)/(images|masks)/[0-9a-f]+\.png$", name)
        if match and match[2] == "images":
            image_of[match[1]] = name
        elif match:
            masks_of.setdefault(match[1], []).append(name)
    images, masks, ids = [], [], []
    for key, name in sorted(image_of.items()):
        image = _pixels(read(name), f"{where}: {name}")
        if image.shape == (SIDE, SIDE):
            images.append(image)
            ids.append(key)
            found = [_pixels(read(mask), f"{where}: {mask}") > 0 for mask in masks_of.get(key, [])]
            if any(mask.shape != image.shape for mask in found):
                raise RequestError(f"{where}: a mask of {key} has another size than its image; fetch {ADDRESS} again")
            masks.append(np.any(found, axis=0) if found else np.zeros(image.shape, bool))
    if len(images) != COUNT:
        raise RequestError(
            f"{where} has {len(images)} images of {SIDE} x {SIDE} pixels, where {COUNT} were published; "
            f"fetch {ADDRESS} again"
        )
    return _by_id(np.stack(images), np.stack(masks), np.array(ids))


def _pixels(raw: bytes, name: str) -> np.ndarray:
    """The gray levels (H, W) of a PNG file."""
    picture: Any
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise RequestError("nuclei: reading the publisher's PNG files needs Pillow; pip install pillow") from None
    try:
        with Image.open(io.BytesIO(raw), formats=["PNG"]) as picture:
            return np.asarray(picture.convert("L"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise RequestError(f"{name} is not a PNG image ({error}); fetch {ADDRESS} again") from None


def _by_id(images: np.ndarray, masks: np.ndarray, ids: np.ndarray) -> MaskedImages:
    order = np.argsort(ids)  # so that the split is the same in whichever form the images came
    return MaskedImages(images[order][:, None], masks[order][:, None], ids[order], "nuclei")
