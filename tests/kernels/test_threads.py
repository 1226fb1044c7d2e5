import os
import threading
import time

import numpy as np
import pytest
import threadpoolctl

from minires.kernels import threads


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 2)


def test_the_caller_does_not_wait_for_a_helper_that_comes_late():
    """The only helper is busy with another caller's piece; the pieces at hand are done without it."""
    begun, release = threading.Event(), threading.Event()

    def slow(i):
        begun.set()
        assert release.wait(20)

    other = threading.Thread(target=lambda: threads.each(2, slow))
    other.start()
    assert begun.wait(20)
    time.sleep(0.05)
    done = []
    threads.each(2, done.append)
    assert sorted(done) == [0, 1]
    release.set()
    other.join()


def test_the_caller_waits_for_pieces_that_a_helper_has_begun():
    done, here = [], threading.get_ident()

    def work(i):
        if threading.get_ident() != here:
            time.sleep(0.1)
        else:
            time.sleep(0.02)  # so that the helper gets a piece
        done.append(i)

    threads.each(4, work)
    assert sorted(done) == [0, 1, 2, 3]


def test_a_helper_without_work_and_a_caller_that_waits_stay_awake_for_a_moment(monkeypatch):
    """What they watch changes with the next call, or with the last piece; they work on whether they saw it or not."""
    watched, begun = [], threading.Event()

    def stay_awake(number, seen):
        watched.append(threading.get_ident())
        deadline = time.perf_counter() + 20
        while number[0] == seen and time.perf_counter() < deadline:
            time.sleep(0.001)

    monkeypatch.setattr(threads, "stay_awake", stay_awake)
    here, done = threading.get_ident(), []

    def work(i):
        if threading.get_ident() == here:
            assert begun.wait(20)  # until the helper has a piece, too
        else:
            begun.set()
            time.sleep(0.05)  # so that the caller has to wait for it
        done.append(i)

    for _ in range(3):
        begun.clear()
        threads.each(2, work)
    assert sorted(done) == [0, 0, 0, 1, 1, 1]
    assert here in watched
    assert set(watched) - {here}
    monkeypatch.setattr(threads, "stay_awake", None)
    threads.each(2, done.append)  # the helper, which still watches, sees this


def test_work_without_blas_leaves_its_threads_alone():
    blas = lambda: [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    seen = []
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas()
        threads.each(2, lambda i: seen.append(blas()), blas=False)
    assert seen == [before] * 2


def test_pieces_may_have_pieces():
    done = []
    threads.each(3, lambda i: threads.each(3, lambda j: done.append((i, j))))
    assert sorted(done) == [(i, j) for i in range(3) for j in range(3)]


def test_of_several_errors_the_first_piece_s_is_raised_and_the_rest_is_done():
    done = []

    def work(i):
        done.append(i)
        if i % 2:
            raise ValueError(str(i))

    with pytest.raises(ValueError, match="1"):
        threads.each(6, work)
    assert sorted(done) == list(range(6))


def test_errstate_holds_in_every_thread():
    x = np.zeros(4)
    seen = []

    def work(i):
        time.sleep(0.01)
        seen.append(np.geterr()["divide"])
        1 / x

    with np.errstate(divide="ignore"):
        threads.each(6, work)
    assert seen == ["ignore"] * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_helpers_of_its_own():
    threads.each(2, lambda i: None)
    child = os.fork()
    if not child:
        done = []
        threads.each(8, lambda i: (time.sleep(0.01), done.append(threading.current_thread().name)))
        os._exit(0 if len(done) == 8 and "minires" in done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
