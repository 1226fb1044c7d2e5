"""Each transform equals its meaning, image by image, and depends on nothing but its images and its generator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import data
from minires.errors import RequestError

geometry = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


def images_of(shape, seed):
    return np.random.default_rng(seed).integers(1, 256, shape, np.uint8)  # no zeros, so that blanks show


def shifted(image, dy, dx):
    """image moved by (dy, dx), index by index, with zeros where nothing came from."""
    y = np.zeros_like(image)
    c, h, w = image.shape
    for k in range(c):
        for i in range(h):
            for j in range(w):
                if 0 <= i + dy < h and 0 <= j + dx < w:
                    y[k, i, j] = image[k, i + dy, j + dx]
    return y


@given(geometry, st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=40)
def test_a_crop_of_a_padded_image_is_a_translation(shape, padding, seed):
    x = images_of(shape, seed)
    y = data.PadCrop(padding)(x, np.random.default_rng(seed))
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    reach = range(-padding, padding + 1)
    for before, after in zip(x, y, strict=True):
        assert any(np.array_equal(after, shifted(before, dy, dx)) for dy in reach for dx in reach)


def test_every_shift_is_equally_likely():
    x = np.zeros((40000, 1, 5, 5), np.uint8)
    x[:, 0, 2, 2] = 1  # where it ends up tells the shift
    y = data.PadCrop(1)(x, np.random.default_rng(0))
    counts = y.sum(0)[0][1:4, 1:4]
    assert counts.sum() == 40000
    np.testing.assert_allclose(counts / 40000, 1 / 9, atol=6 * np.sqrt(1 / 9 * 8 / 9 / 40000))


@given(geometry, st.integers(0, 99))
@settings(max_examples=20)
def test_a_flip_mirrors_and_two_flips_are_the_identity(shape, seed):
    x = images_of(shape, seed)
    rng = np.random.default_rng(seed)
    flip = data.HorizontalFlip(1.0)
    np.testing.assert_array_equal(flip(x, rng), x[:, :, :, ::-1])
    np.testing.assert_array_equal(flip(flip(x, rng), rng), x)
    np.testing.assert_array_equal(data.HorizontalFlip(0.0)(x, rng), x)


def test_a_flip_comes_with_its_probability_and_image_by_image():
    x = np.tile(np.array([1, 2], np.uint8), (20000, 1, 1, 1))
    flipped = data.HorizontalFlip(0.3)(x, np.random.default_rng(0))[:, 0, 0, 0] == 2
    assert abs(flipped.mean() - 0.3) < 6 * np.sqrt(0.3 * 0.7 / 20000)


@given(geometry, st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=40)
def test_cutout_blanks_one_square_clipped_at_the_border_and_nothing_else(shape, size, seed):
    h, w = shape[2:]
    x = images_of(shape, seed)
    y = data.Cutout(size)(x, np.random.default_rng(seed))
    assert y.dtype == x.dtype
    for before, after in zip(x, y, strict=True):
        blank = after == 0
        assert (blank == blank[:1]).all()  # the same in every channel
        np.testing.assert_array_equal(after[~blank], before[~blank])
        rows, columns = np.flatnonzero(blank[0].any(1)), np.flatnonzero(blank[0].any(0))
        assert blank[0].sum() == len(rows) * len(columns) > 0  # a full rectangle
        for hit, length in ((rows, h), (columns, w)):
            assert np.array_equal(hit, np.arange(hit[0], hit[-1] + 1))
            touches = hit[0] == 0 or hit[-1] == length - 1
            assert len(hit) == min(size, length) or (touches and len(hit) >= min((size + 1) // 2, length))


def test_cutout_away_from_the_border_blanks_size_squared_pixels():
    x = np.ones((500, 1, 31, 31), np.uint8)
    areas = (data.Cutout(4)(x, np.random.default_rng(0)) == 0).sum((1, 2, 3))
    assert areas.max() == 16
    assert (areas == 16).mean() == pytest.approx((28 / 31) ** 2, abs=0.08)


@given(geometry, st.floats(1, 255), st.integers(0, 99))
@settings(max_examples=20)
def test_normalize_is_its_formula(shape, scale, seed):
    rng = np.random.default_rng(seed)
    mean, std = rng.uniform(0, 1, shape[1]), rng.uniform(0.1, 1, shape[1])
    x = images_of(shape, seed)
    y = data.Normalize(tuple(mean), tuple(std), scale)(x)
    assert y.dtype == np.float32
    wanted = (x / scale - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5 * (1 + np.abs(wanted).max()))


TRANSFORMS = [
    data.PadCrop(2),
    data.HorizontalFlip(),
    data.Cutout(3),
    data.Compose([data.PadCrop(1), data.HorizontalFlip(), data.Cutout(2)]),
    data.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_a_transform_is_decided_by_its_generator_and_leaves_its_input_alone(transform):
    x = images_of((16, 3, 6, 7), 1)
    before = x.copy()
    first, again = (transform(x, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(first, x)
    x.flags.writeable = False
    transform(x, np.random.default_rng(5))


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@pytest.mark.parametrize("n", [0, 1, 9])
def test_the_order_of_memory_changes_no_value_and_channels_last_comes_out(transform, n):
    x = images_of((n, 3, 6, 7), 1)
    wanted = transform(x, np.random.default_rng(5))
    orders = [
        np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        np.asfortranarray(x),
        np.repeat(x, 2, axis=3)[:, :, :, ::2],
        np.ascontiguousarray(x[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1],
    ]
    for seen in orders:
        y = transform(seen, np.random.default_rng(5))
        np.testing.assert_array_equal(y, wanted)
        assert (y.shape, y.dtype) == (wanted.shape, wanted.dtype)
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous
        assert not np.shares_memory(y, seen)


def test_the_draws_are_two_shifts_and_a_coin_an_image_in_that_order():
    """A run is resumed, and repeated years later, by its seed: who draws otherwise makes another run."""
    x, p = images_of((50, 3, 6, 7), 3), 2
    y = data.Compose((data.PadCrop(p), data.HorizontalFlip(0.3)))(x, np.random.default_rng(6))
    rng = np.random.default_rng(6)
    shifts, coins = rng.integers(0, 2 * p + 1, (2, 50)) - p, rng.random(50) < 0.3
    assert coins.any()
    assert not coins.all()
    for before, after, dy, dx, flipped in zip(x, y, *shifts, coins, strict=True):
        wanted = shifted(before, dy, dx)
        np.testing.assert_array_equal(after, wanted[:, :, ::-1] if flipped else wanted)


def test_compose_goes_from_first_to_last_with_one_generator():
    x = images_of((8, 1, 6, 7), 2)
    crop, cut = data.PadCrop(2), data.Cutout(3)
    rng = np.random.default_rng(9)
    wanted = cut(crop(x, rng), rng)
    np.testing.assert_array_equal(data.Compose((crop, cut))(x, np.random.default_rng(9)), wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.PadCrop(-1), "PadCrop: padding is -1, but must be a whole number of at least 0"),
        (lambda: data.PadCrop(1.5), "PadCrop: padding is 1.5"),
        (lambda: data.HorizontalFlip(1.1), "HorizontalFlip: p is 1.1, but a probability lies between 0 and 1"),
        (lambda: data.HorizontalFlip(float("nan")), "HorizontalFlip: p is nan"),
        (lambda: data.Cutout(0), "Cutout: size is 0, but must be a whole number of at least 1"),
        (lambda: data.Normalize((), ()), "one number a channel"),
        (lambda: data.Normalize((0.5,), (0.0,)), "std and scale above 0"),
        (lambda: data.Normalize((0.5,), (1.0, 1.0)), "one number a channel"),
        (
            lambda: data.Normalize((0.5,), (1.0,))(images_of((1, 3, 2, 2), 0)),
            "1 means do not fit images of 3 channels",
        ),
        (lambda: data.augmentation("cifar"), "unknown data set 'cifar': did you mean cifar10"),
    ],
)
def test_bad_values_are_one_line(make, message):
    with pytest.raises(RequestError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", data.names())
def test_the_usual_augmentation_keeps_shape_and_type_and_digits_get_none(name):
    transform = data.augmentation(name)
    assert (transform is None) == (name == "digits")
    if transform is not None:
        x = images_of((3, 1, 28, 28), 0)
        y = transform(x, np.random.default_rng(0))
        assert (y.shape, y.dtype) == (x.shape, x.dtype)


def test_mnist_digits_are_never_mirrored():
    x = np.zeros((64, 1, 28, 28), np.uint8)
    x[:, :, 4:-4, 4:12] = 9  # a bar on the left stays on the left
    y = data.augmentation("mnist")(x, np.random.default_rng(0))
    assert (y[..., :14].sum((1, 2, 3)) > y[..., 14:].sum((1, 2, 3))).all()
