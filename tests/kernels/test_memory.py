import numpy as np
import pytest

from minires.kernels import memory


@pytest.fixture(autouse=True)
def _own_blocks(monkeypatch):
    monkeypatch.setattr(memory, "_blocks", {})
    monkeypatch.setattr(memory, "LARGE", 1000)


def address(a):
    return a.__array_interface__["data"][0]


def test_memory_is_used_again_once_nothing_refers_to_it():
    a = memory.empty((50, 10), np.float32)
    where = address(a)
    del a
    assert address(memory.empty((20, 25), np.float32)) == where


@pytest.mark.parametrize("keep", [lambda a: a, lambda a: a[3:], lambda a: a.T[2], lambda a: a.reshape(-1)[5:6]])
def test_memory_is_not_lent_while_any_view_of_it_lives(keep):
    a = memory.empty((50, 10), np.float32)
    view = keep(a)
    del a
    b = memory.empty((50, 10), np.float32)
    assert not np.shares_memory(view, b)


def test_arrays_alive_at_once_share_no_memory():
    arrays = [memory.empty((10, 40), np.float64) for _ in range(5)]
    assert all(not np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_an_array_is_as_numpy_makes_it():
    for shape, dtype in (((3, 100, 2), np.float32), ((500,), np.float64), ((), np.float32), ((0, 5000), np.float64)):
        a = memory.empty(shape, dtype)
        assert a.shape == shape
        assert a.dtype == dtype
        assert a.flags.c_contiguous
        assert a.flags.writeable
        assert a.flags.aligned


def test_empty_like_keeps_the_memory_order():
    x = np.ones((4, 5, 6, 7))
    assert memory.empty_like(x).flags.c_contiguous
    assert memory.empty_like(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1).flags.c_contiguous


def test_release_gives_back_only_what_nobody_uses():
    kept = memory.empty((1000,), np.float64)
    memory.empty((1000,), np.float32)
    kept[...] = 7
    assert memory.release() == 4000
    assert memory.release() == 0
    assert (kept == 7).all()
    assert not np.shares_memory(kept, memory.empty((1000,), np.float64))


def test_idle_blocks_of_ever_new_sizes_do_not_pile_up():
    memory.release()
    kept = memory.empty((7777,), np.float64)
    kept[...] = 7
    for i in range(3 * memory.SIZES):
        memory.empty((8000 + i,), np.float64)
    assert memory.release() <= memory.SIZES * 8 * (8000 + 3 * memory.SIZES)
    assert (kept == 7).all()


def test_small_arrays_are_left_to_the_allocator():
    assert memory.empty((10,), np.float32).base is None


def test_an_array_begins_with_a_cache_line():
    held = [memory.empty((1000 + i,), np.float64) for i in range(20)]
    assert all(address(a) % memory.LINE == 0 for a in held)
