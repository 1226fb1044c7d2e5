import threading
import time

import numpy as np
import pytest

from minires.kernels import threads
from minires.kernels.compiled import provider

pytest.importorskip("numba", reason="compiled kernels need numba")


def test_it_is_lent_to_the_threads_with_the_first_compiled_kernel():
    assert provider.ready("pointwise", 1 << 20, np.ones(1 << 20))
    assert threads.stay_awake is not None


def test_it_returns_once_the_number_changes_and_other_threads_run_meanwhile():
    from minires.kernels.compiled import waiting

    number = np.zeros(1, np.int64)
    waiting.stay_awake(number, 1)  # is another already
    seen = []

    def watch():
        for _ in range(100_000):
            waiting.stay_awake(number, 0)
            if number[0]:
                break
        seen.append(int(number[0]))

    thread = threading.Thread(target=watch)
    thread.start()
    time.sleep(0.01)
    number[0] = 7
    thread.join(60)
    assert seen == [7]


def test_it_returns_after_a_moment_though_the_number_never_changes():
    from minires.kernels.compiled import waiting

    start = time.perf_counter()
    waiting.stay_awake(np.zeros(1, np.int64), 0)
    assert time.perf_counter() - start < 10
