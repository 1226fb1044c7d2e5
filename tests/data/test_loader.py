"""An epoch is a function of its seed: whoever prepares it, how far ahead, and from wherever it is entered."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import data
from minires.data.epochs import read_ahead
from minires.errors import RequestError


def numbered(n, channels=2):
    """A data set whose image k holds the value k everywhere and whose label is k."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, channels, 3, 5)).copy()
    names = tuple(map(str, range(n)))
    return data.Dataset(images, np.arange(n), "numbered", names, (0.3, 0.6)[:channels], (0.2, 0.5)[:channels], 200.0)


def noisy(images, rng):
    return (images + rng.integers(0, 50, images.shape)).astype(np.uint8)


def run(loader, seed, start=0):
    return list(loader.epoch(seed, start))


def assert_same(these, those):
    assert len(these) == len(those)
    for (x, labels), (other, other_labels) in zip(these, those, strict=True):
        np.testing.assert_array_equal(x, other)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    prefetch=st.integers(0, 3),
)
@settings(max_examples=50)
def test_every_image_comes_once_with_its_label(n, batch_size, shuffle, drop_last, prefetch):
    dataset = numbered(n)
    if drop_last and n < batch_size:
        return
    loader = data.DataLoader(dataset, batch_size, shuffle, drop_last, prefetch=prefetch, normalize=False)
    batches = run(loader, 7)
    assert len(batches) == len(loader)
    labels = np.concatenate([labels for _, labels in batches])
    assert [len(labels) for _, labels in batches][:-1] == [batch_size] * (len(batches) - 1)
    assert len(set(labels)) == len(labels) == (n // batch_size * batch_size if drop_last else n)
    for x, labels in batches:
        np.testing.assert_allclose(x, np.broadcast_to(labels[:, None, None, None] / 200, x.shape), atol=1e-6)
    if not shuffle:
        np.testing.assert_array_equal(labels, np.arange(n)[-len(labels) :] if not drop_last else labels)


TRANSFORMS = [None, noisy, data.Compose([data.PadCrop(1), data.HorizontalFlip()])]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_prefetching_changes_nothing_but_the_time(transform):
    loaders = [data.DataLoader(numbered(37), 8, True, transform=transform, prefetch=p) for p in (0, 1, 2, 50)]
    wanted = run(loaders[0], 11)
    for loader in loaders[1:]:
        assert_same(run(loader, 11), wanted)


def colored(n):
    """A data set of noise, no two pixels of an image alike, so that a misplaced one shows."""
    images = np.random.default_rng(4).permuted(np.tile(np.arange(120, dtype=np.uint8), (n, 1)), axis=1)
    names = ("a", "b")
    return data.Dataset(
        images.reshape(n, 3, 5, 8), np.arange(n) % 2, "colored", names, (0.3, 0.6, 0.5), (0.2, 0.5, 0.1)
    )


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("normalize", [True, False])
def test_the_order_of_memory_changes_no_value(transform, normalize):
    contiguous = colored(29)
    kept = np.ascontiguousarray(contiguous.images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert kept.strides != contiguous.images.strides
    channels_last = dataclasses.replace(contiguous, images=kept)
    options = {"batch_size": 8, "shuffle": True, "transform": transform, "normalize": normalize}
    wanted = run(data.DataLoader(contiguous, **options), 11)
    for dataset in (contiguous, channels_last):
        for order in (True, False):
            batches = run(data.DataLoader(dataset, channels_last=order, **options), 11)
            assert_same(batches, wanted)
            for x, _ in batches:
                assert (x.transpose(0, 2, 3, 1) if order else x).flags.c_contiguous


def test_a_subset_is_its_images_and_stays_in_their_order_of_memory():
    contiguous = colored(29)
    kept = np.ascontiguousarray(contiguous.images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    channels_last = dataclasses.replace(contiguous, images=kept)
    chosen = np.array([4, 0, 28, 4])
    for dataset in (contiguous, channels_last):
        part = dataset.subset(chosen)
        np.testing.assert_array_equal(part.images, contiguous.images[chosen])
        np.testing.assert_array_equal(part.labels, contiguous.labels[chosen])
        assert not np.shares_memory(part.images, dataset.images)
    assert channels_last.subset(chosen).images.transpose(0, 2, 3, 1).flags.c_contiguous
    assert contiguous.subset(chosen).images.flags.c_contiguous


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("start", range(6))
def test_an_epoch_entered_in_the_middle_goes_on_exactly(prefetch, start):
    loader = data.DataLoader(numbered(37), 8, True, transform=noisy, prefetch=prefetch)
    assert_same(run(loader, 3, start), run(loader, 3)[start:])


def test_the_seed_decides_order_and_augmentation_and_seeds_differ():
    loader = data.DataLoader(numbered(37), 8, True, transform=noisy)
    assert_same(run(loader, 3), run(loader, 3))
    (x, labels), (other, other_labels) = run(loader, 3)[0], run(loader, 4)[0]
    assert not np.array_equal(labels, other_labels)
    assert not np.array_equal(x, other)


def test_each_batch_is_augmented_by_a_stream_of_its_own_apart_from_the_order():
    streams = []

    def record(images, rng):
        streams.append(rng.integers(2**63, size=4).tolist())
        return images

    seed = 12345
    run(data.DataLoader(numbered(24), 8, True, transform=record, prefetch=0), seed)
    streams.append(np.random.default_rng(seed).integers(2**63, size=4).tolist())
    assert len({tuple(s) for s in streams}) == 4


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_iteration_draws_one_seed_from_the_generator_when_it_begins(prefetch):
    rng, twin = np.random.default_rng(8), np.random.default_rng(8)
    loader = data.DataLoader(numbered(20), 4, True, transform=noisy, generator=rng, prefetch=prefetch)
    iterator = iter(loader)
    seed = int(twin.integers(2**63))
    assert rng.bit_generator.state == twin.bit_generator.state  # drawn already, before the first batch
    assert_same(list(iterator), run(loader, seed))
    assert rng.bit_generator.state == twin.bit_generator.state
    assert 0 <= loader.draw_seed() < 2**63


def test_two_epochs_differ_and_a_new_loader_repeats_them():
    first, second, again = (data.DataLoader(numbered(30), 30, True) for _ in range(3))
    one, two = (next(iter(first))[1] for _ in range(2))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(next(iter(second))[1], one)
    np.testing.assert_array_equal(next(iter(again))[1], one)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_are_normalized_float32_and_the_callers_own(prefetch):
    dataset = numbered(20)
    before = dataset.images.copy()
    for x, labels in data.DataLoader(dataset, 6, prefetch=prefetch):
        assert (x.dtype, labels.dtype) == (np.float32, np.int64)
        mean, std = np.array(dataset.mean)[:, None, None], np.array(dataset.std)[:, None, None]
        wanted = (labels[:, None, None, None] / 200 - mean) / std
        np.testing.assert_allclose(x, np.broadcast_to(wanted, x.shape), atol=1e-6)
        x[...] = 0
        labels[...] = 0
    np.testing.assert_array_equal(dataset.images, before)
    np.testing.assert_array_equal(dataset.labels, np.arange(20))


def test_images_that_a_transform_returns_as_floats_are_handed_on():
    own = data.Normalize((0.1, 0.2), (1.0, 2.0), 200.0)
    for x, labels in data.DataLoader(numbered(9), 4, transform=own):
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, own(numbered(9).images[labels]))
    half = next(iter(data.DataLoader(numbered(9), 4, transform=lambda images, rng: images / 2.0)))[0]
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half[:, 0, 0, 0], [0, 0.5, 1, 1.5])


# --- the thread


def test_what_the_transform_raises_comes_out_at_its_batch():
    def third(images, rng):
        if images[0, 0, 0, 0] == 8:
            raise ZeroDivisionError("in the transform")
        return images

    iterator = iter(data.DataLoader(numbered(20), 4, transform=third, prefetch=2))
    assert [next(iterator)[1][0] for _ in range(2)] == [0, 4]
    with pytest.raises(ZeroDivisionError, match="in the transform"):
        next(iterator)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_breaking_off_ends_the_thread_at_once(taken):
    iterator = data.DataLoader(numbered(200), 1, prefetch=2).epoch(0)
    for _ in range(taken):
        next(iterator)
    begun = time.perf_counter()
    iterator.close()
    assert time.perf_counter() - begun < 2
    assert not [t for t in threading.enumerate() if t.name == "minires-read-ahead"]


def test_an_exception_in_the_loops_body_ends_the_thread():
    def consume():
        for _ in data.DataLoader(numbered(200), 1, prefetch=2):
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        consume()


def test_no_more_than_depth_items_are_made_ahead():
    made, gate = [], threading.Event()

    def items():
        for k in range(10):
            made.append(k)
            if len(made) >= 4:
                gate.set()
            yield k

    reader = read_ahead(items(), 3)
    assert next(reader) == 0
    assert gate.wait(5)  # 0 was taken, 1 to 3 are made ahead
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    assert list(reader) == list(range(1, 10))


def test_a_thread_that_waits_for_room_ends_too():
    gate = threading.Event()

    def items():
        for k in range(10):
            if k == 2:
                gate.set()
            yield k

    reader = read_ahead(items(), 2)
    next(reader)
    assert gate.wait(5)
    time.sleep(0.05)  # 1 and 2 are made, and it waits for one to be taken
    closer = threading.Thread(target=reader.close, daemon=True)
    closer.start()
    closer.join(5)
    assert not closer.is_alive()


def test_two_iterations_at_once_do_not_disturb_each_other():
    loader = data.DataLoader(numbered(30), 4, True, transform=noisy)
    pairs = list(zip(loader.epoch(1), loader.epoch(2), strict=True))
    assert_same([a for a, _ in pairs], run(loader, 1))
    assert_same([b for _, b in pairs], run(loader, 2))


# --- bad requests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "DataLoader: batch_size is 0, but must be a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": "8"}, "batch_size is '8'"),
        ({"batch_size": True}, "batch_size is True"),
        ({"prefetch": -1}, "DataLoader: prefetch is -1, but must be a whole number of at least 0"),
        ({"batch_size": 11, "drop_last": True}, "batch size 11 is larger than the 10 images of numbered"),
        ({"generator": 5}, r"generator is 5, not a NumPy generator; for a seed, give numpy.random.default_rng"),
    ],
)
def test_a_bad_option_is_one_line(options, message):
    with pytest.raises(RequestError, match=message) as caught:
        data.DataLoader(numbered(10), **options)
    assert "\n" not in str(caught.value)


def test_a_start_beyond_the_end_is_refused_at_the_call():
    loader = data.DataLoader(numbered(10), 4)
    assert list(loader.epoch(0, start=3)) == []
    with pytest.raises(RequestError, match="start is 4, but an epoch has only 3 batches"):
        loader.epoch(0, start=4)
    with pytest.raises(RequestError, match="start is -1"):
        loader.epoch(0, start=-1)
    with pytest.raises(RequestError, match="seed is -1"):
        loader.epoch(-1)


@pytest.mark.parametrize("result", [None, np.zeros((3, 1, 2, 2), np.uint8), np.zeros((4, 3), np.uint8)])
def test_a_transform_that_returns_no_batch_is_named(result):
    with pytest.raises(RequestError, match=r"transform must return \(4, C, H, W\) images"):
        next(iter(data.DataLoader(numbered(10), 4, transform=lambda images, rng: result)))
