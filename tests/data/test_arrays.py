"""The loader of arrays: every row once an epoch, an epoch from one seed, and any middle of it the same as the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.data.arrays import ArrayLoader
from minires.errors import RequestError


def loader(rows=10, batch_size=3, **options):
    a = np.arange(rows)
    return ArrayLoader((a, -a), batch_size, **options)


def noisy(batch, generator):
    return (*batch, generator.random(len(batch[0])))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 8), st.booleans(), st.integers(0, 5))
def test_an_epoch_has_every_row_once_and_its_arrays_stay_together(rows, batch_size, shuffle, seed):
    made = loader(rows, batch_size, shuffle=shuffle, prefetch=0)
    batches = list(made.epoch(seed))
    assert len(batches) == len(made)
    first, second = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert np.array_equal(first, -second)
    assert np.array_equal(np.sort(first), np.arange(rows))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.sampled_from([0, 2]))
def test_the_middle_of_an_epoch_is_that_of_the_whole_one(start, prefetch):
    whole = list(loader(shuffle=True, transform=noisy).epoch(5))
    rest = list(loader(shuffle=True, transform=noisy, prefetch=prefetch).epoch(5, start=start))
    assert len(rest) == len(whole) - start
    for ours, theirs in zip(rest, whole[start:], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_batches_of_one_epoch_are_transformed_by_draws_of_their_own():
    (*_, first), (*_, second), *_ = loader(transform=noisy).epoch(0)
    assert not np.array_equal(first, second)


def test_drop_last_leaves_out_what_does_not_fill_a_batch():
    made = loader(10, 4, drop_last=True)
    assert [len(a) for a, _ in made] == [4, 4]
    assert len(made) == 2


def test_without_shuffling_the_generator_is_left_alone():
    generator = np.random.default_rng(3)
    before = generator.bit_generator.state
    list(loader(generator=generator))
    assert generator.bit_generator.state == before


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ArrayLoader((np.arange(3), np.arange(4)), 2), r"lengths \[3, 4\]"),
        (lambda: ArrayLoader((np.arange(0),), 2), r"lengths \[0\]"),
        (lambda: loader(batch_size=0), "batch_size"),
        (lambda: loader(3, 4, drop_last=True), "larger than the 3 rows"),
        (lambda: loader().epoch(0, start=9), "an epoch has only 4 batches"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, told):
    with pytest.raises(RequestError, match=told):
        make()
