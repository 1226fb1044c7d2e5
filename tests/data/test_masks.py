"""Images with masks: three disjoint parts, one motion for both, and the publisher's forms of the nuclei."""

import io
import sys
import zipfile

import numpy as np
import pytest

from minires.data import nuclei
from minires.data.blobs import load_blobs
from minires.data.fetch import data_dir
from minires.data.masks import CropTurnFlip, MaskedImages, split, standardize
from minires.errors import RequestError

rng = np.random.default_rng(29)


def some(n=20, side=8):
    images = rng.integers(0, 256, (n, 1, side, side), np.uint8)
    return MaskedImages(images, images > 128, np.array([f"{i:03}" for i in range(n)]), "some")


# --- what holds for any


def test_the_three_parts_are_disjoint_whole_and_the_test_set_never_changes():
    data = some(50)
    parts = split(data, 0.25, seed=3)
    assert [len(p) for p in parts] == [30, 10, 10]
    ids = [set(p.ids) for p in parts]
    assert set.union(*ids) == set(data.ids)
    assert sum(map(len, ids)) == 50
    for part in parts:
        assert np.all(np.diff(part.ids.astype(int)) > 0)
        assert np.array_equal(part.images, data.images[part.ids.astype(int)])
        assert np.array_equal(part.masks, data.masks[part.ids.astype(int)])
    again = split(data, 0.25, seed=4)
    assert np.array_equal(again[2].ids, parts[2].ids)
    assert not np.array_equal(again[1].ids, parts[1].ids)
    assert np.array_equal(split(data, 0.25, seed=3)[1].ids, parts[1].ids)


def test_a_part_that_would_be_empty_is_refused():
    with pytest.raises(RequestError, match="2 images leave 2 for training, 0 for validation and 0 for the test"):
        split(some(2), 0.1, 0)
    with pytest.raises(RequestError, match="20 images leave 16 for training, 0 for validation and 4 for the test"):
        split(some(20), 0.01, 0)


def test_image_and_mask_move_together_and_all_eight_symmetries_come():
    image = np.arange(36, dtype=np.uint8).reshape(1, 1, 6, 6)
    seen = set()
    for seed in range(300):
        x, mask = CropTurnFlip(4)((image, image.astype(np.float32) * 2), np.random.default_rng(seed))
        assert x.shape == mask.shape == (1, 1, 4, 4)
        assert x.dtype == np.uint8
        assert np.array_equal(mask, 2.0 * x)
        seen.add(x.tobytes())
    places = [np.s_[:, :, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    turned = [np.rot90(image[p], k, axes=(2, 3)) for p in places for k in range(4)]
    possible = {np.ascontiguousarray(f).tobytes() for t in turned for f in (t, t[..., ::-1])}
    assert len(possible) == 72
    assert seen <= possible
    assert len(seen) > 60


def test_each_image_is_moved_by_draws_of_its_own():
    images = np.repeat(np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8), 12, axis=0)
    (moved,) = CropTurnFlip(8)((images,), np.random.default_rng(0))
    assert len({m.tobytes() for m in moved}) > 4


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(RequestError, match="crop of 9 pixels does not fit images of 8 x 8"):
        CropTurnFlip(9)((some().images,), rng)
    with pytest.raises(RequestError, match="the crop's side is 0"):
        CropTurnFlip(0)


def test_each_image_is_standardized_by_itself_so_that_exposure_does_not_matter():
    data = some(3)
    dim = data.images // 8
    bright = dim * 5 + 20
    assert np.allclose(standardize(dim), standardize(bright.astype(np.uint8)), atol=1e-5)
    x = standardize(data.images)
    assert x.dtype == np.float32
    assert np.allclose(x.mean((1, 2, 3)), 0, atol=1e-5)
    assert np.allclose(x.std((1, 2, 3)), 1, atol=1e-5)
    assert np.all(standardize(np.full((1, 1, 4, 4), 7, np.uint8)) == 0)


def test_arrays_that_do_not_fit_together_are_refused():
    data = some(4)
    for images, masks, ids, said in (
        (data.images[:, 0], data.masks, data.ids, r"images must be \(N, 1, H, W\) uint8, not \(4, 8, 8\) uint8"),
        (data.images, data.masks[:3], data.ids, r"need bool masks of that shape, not \(3, 1, 8, 8\)"),
        (data.images, data.masks * 255, data.ids, "need bool masks of that shape.* int64"),
        (data.images, data.masks, data.ids[:3], r"4 images need as many ids, not \(3,\)"),
    ):
        with pytest.raises(RequestError, match=said):
            MaskedImages(images, masks, ids, "some")


# --- blobs


def test_blobs_are_the_same_every_time_and_no_threshold_finds_them():
    data = load_blobs(40)
    assert np.array_equal(data.images, load_blobs(40).images)
    assert not np.array_equal(data.images, load_blobs(40, seed=1).images)
    assert np.array_equal(data.images[:10], load_blobs(10).images)
    assert data.images.shape == data.masks.shape == (40, 1, 64, 64)
    assert 0.05 < data.masks.mean() < 0.4
    assert data.masks.any((1, 2, 3)).all()
    best = 0.0
    for threshold in range(0, 256, 4):
        found, true = data.images > threshold, data.masks
        best = max(best, (found & true).sum() / (found | true).sum())
    assert best < 0.65


# --- nuclei


@pytest.fixture
def few(monkeypatch):
    """The publisher's set, as if it had three images of 16 x 16."""
    monkeypatch.setattr(nuclei, "COUNT", 3)
    monkeypatch.setattr(nuclei, "SIDE", 16)
    images = rng.integers(0, 256, (3, 16, 16), np.uint8)
    instances = np.zeros((3, 16, 16), np.uint8)
    instances[0, 2:5, 3:8], instances[0, 9:12, 1:4], instances[2, 0:4, 10:16] = 1, 2, 1
    return images, instances, np.array(["0a", "1b", "2c"])


def png(levels, color=False):
    image = pytest.importorskip("PIL.Image", reason="the publisher's form needs Pillow")
    file = io.BytesIO()
    shown = np.dstack([levels] * 3 + [np.full_like(levels, 255)]) if color else levels
    image.fromarray(shown).save(file, "PNG")
    return file.getvalue()


def published(images, instances, ids):
    """{path: bytes} as in the publisher's archive, with an image of another size among them."""
    files = {"ff/images/ff.png": png(np.zeros((8, 16), np.uint8), color=True), "ff/masks/01.png": b"not looked at"}
    for image, numbers, key in zip(images, instances, ids, strict=True):
        files[f"{key}/images/{key}.png"] = png(image, color=True)
        for i in range(1, numbers.max(initial=0) + 1):
            files[f"{key}/masks/{i:02}.png"] = png((numbers == i).astype(np.uint8) * 255)
    return files


def unpacked(root, files):
    for name, content in files.items():
        path = root / nuclei.FOLDER / nuclei.UNPACKED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def zipped(root, files):
    (root / nuclei.FOLDER).mkdir(exist_ok=True)
    with zipfile.ZipFile(root / nuclei.FOLDER / "stage1_train.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def packed(root, images, instances, ids):
    (root / nuclei.FOLDER).mkdir(exist_ok=True)
    np.savez(root / nuclei.FOLDER / nuclei.PACKED, images=images, instances=instances, ids=ids)


def test_all_three_forms_give_the_same_images_masks_and_order(few, tmp_path):
    images, instances, ids = few
    backward = [a[::-1] for a in few]
    for form in ("packed", "zipped", "unpacked"):
        root = tmp_path / form
        root.mkdir()
        if form == "packed":
            packed(root, *backward)
        else:
            {"zipped": zipped, "unpacked": unpacked}[form](root, published(*backward))
        data = nuclei.load_nuclei(root)
        assert list(data.ids) == list(ids), form
        assert np.array_equal(data.images[:, 0], images), form
        assert np.array_equal(data.masks[:, 0], instances > 0), form
        assert data.masks[1].sum() == 0


def test_nothing_there_is_one_line_that_says_what_to_fetch(tmp_path):
    with pytest.raises(RequestError, match=r"nuclei: not found .*BBBC038/stage1_train.zip .*MINIRES_DATA.*blobs") as e:
        nuclei.load_nuclei(tmp_path)
    assert "\n" not in str(e.value)


def test_damaged_incomplete_and_foreign_files_are_refused_by_name(few, tmp_path):
    images, instances, ids = few
    packed(tmp_path, images[:2], instances[:2], ids[:2])
    with pytest.raises(RequestError, match=r"dsb2018_stage1_256.npz holds images \(2, 16, 16\).*there are 3"):
        nuclei.load_nuclei(tmp_path)
    file = tmp_path / nuclei.FOLDER / nuclei.PACKED
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RequestError, match=r"stage1_256\.npz is damaged or another file"):
        nuclei.load_nuclei(tmp_path)
    file.unlink()
    archive = tmp_path / nuclei.FOLDER / "stage1_train.zip"
    archive.write_bytes(b"PK cut short")
    with pytest.raises(RequestError, match=r"stage1_train.zip cannot be unpacked"):
        nuclei.load_nuclei(tmp_path)
    files = published(*few)
    for said, changes in (
        ("0a/images/0a.png is not a PNG image", {"0a/images/0a.png": b"GIF89a"}),
        ("a mask of 0a has another size", {"0a/masks/01.png": png(np.zeros((8, 8), np.uint8))}),
        (
            "has 2 images of 16 x 16 pixels, where 3 were published",
            {"1b/images/1b.png": png(np.zeros((8, 8), np.uint8))},
        ),
    ):
        zipped(tmp_path, {**files, **changes})
        with pytest.raises(RequestError, match=said):
            nuclei.load_nuclei(tmp_path)


def test_without_pillow_the_publishers_form_asks_for_it(few, tmp_path, monkeypatch):
    unpacked(tmp_path, published(*few))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(RequestError, match="needs Pillow; pip install pillow"):
        nuclei.load_nuclei(tmp_path)


def test_the_real_nuclei_are_334_images_each_brighter_where_its_nuclei_are():
    if not (data_dir() / nuclei.FOLDER).is_dir():
        pytest.skip("MINIRES_DATA has no dsb2018-nuclei")
    data = nuclei.load_nuclei()
    assert data.images.shape == (334, 1, 256, 256)
    assert len(set(data.ids)) == 334
    assert data.masks.any((1, 2, 3)).all()
    assert data.masks.mean() == pytest.approx(0.0768667, abs=1e-6)
    brighter = [x[m].mean() > x[~m].mean() for x, m in zip(data.images, data.masks, strict=True)]
    assert all(brighter)
