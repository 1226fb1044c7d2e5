"""How fast each kernel is on this GPU, beside its formula: python -m tests.kernels.cuda.speed

Prints, for each piece of work, forward and backward together: milliseconds by the formula and by the kernel (the median
of alternating runs), how often the kernel is faster, and the kernel's rate counted in arrays: the bytes of its inputs,
output and all gradients, once each, over the time.
"""

import statistics

import numpy as np

from minires import backend
from minires.engine import Tensor
from minires.kernels.cuda import tf32
from minires.switches import formulas_only
from tests.kernels.cuda.test_on_gpu import laid_out
from tests.kernels.cuda.work import works

RUNS, WARM = 30, 5


def milliseconds(xp, run):
    start, end = xp.cuda.Event(), xp.cuda.Event()
    start.record()
    run()
    end.record()
    end.synchronize()
    return xp.cuda.get_elapsed_time(start, end)


def measure(library, f, arrays):
    """(by the formula, by the kernel, bytes): medians in milliseconds."""
    leaves = [Tensor(laid_out(library, a.astype(np.float32)), requires_grad=True) for a in arrays]
    y = f(*leaves)
    gy = library.asarray(np.random.default_rng(9).normal(size=y.shape).astype(np.float32))

    def step():
        for leaf in leaves:
            leaf.grad = None
        f(*leaves).backward(gy)

    times = {True: [], False: []}
    for i in range(RUNS + WARM):
        for kernels in (True, False):
            if kernels:
                took = milliseconds(library.xp, step)
            else:
                with formulas_only():
                    took = milliseconds(library.xp, step)
            if i >= WARM:
                times[kernels].append(took)
    moved = 2 * (y.data.nbytes + sum(leaf.data.nbytes for leaf in leaves))
    return statistics.median(times[False]), statistics.median(times[True]), moved


def main():
    library = backend.cupy()
    print(f"TF32 {'allowed' if tf32() else 'not allowed'}; float32, forward and backward")
    print(f"{'':28}{'formula ms':>12}{'kernel ms':>12}{'ratio':>8}{'GB/s':>8}")
    for name, (f, arrays) in works("real").items():
        formula, kernel, moved = measure(library, f, arrays)
        print(f"{name:28}{formula:12.3f}{kernel:12.3f}{formula / kernel:8.1f}{moved / kernel / 1e6:8.0f}")


if __name__ == "__main__":
    main()
