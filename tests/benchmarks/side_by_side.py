"""Fair timing on a noisy machine: the candidates take turns inside one run; medians and ratios are what counts."""

import statistics
import time


def compare(candidates, rounds=15, warmup=2):
    """Times each of {name: callable} in alternation and prints medians, and ratios to the first.

    Returns {name: median seconds}.
    """
    times = {name: [] for name in candidates}
    for turn in range(warmup + rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(t) for name, t in times.items()}
    base = next(iter(medians.values()))
    for name, median in medians.items():
        spread = f"{min(times[name]) * 1e3:.2f} to {max(times[name]) * 1e3:.2f}"
        print(f"  {name:24} median {median * 1e3:10.3f} ms   ratio {median / base:6.2f}   (range {spread})")
    return medians
