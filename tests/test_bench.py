"""`minires bench`: what it says of a small model is complete and adds up. How fast that is, no test can say."""

import json

import numpy as np
import pytest

from minires import bench, formulas_only
from minires.cli import main
from minires.switches import state, without_compiled

SMALL = ["--model", "resnet8", "--option", "width=4", "--batch-size", "2", "--seconds", "0.05"]


@pytest.fixture(scope="module")
def found():
    return bench.measure("resnet8", 2, {"width": 4}, seconds=0.05)


def refused(capsys, arguments, *said):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minires: ")
    assert error.count("\n") == 1, error
    for words in said:
        assert words in error, error


def test_a_measurement_is_positive_and_its_quartiles_surround_its_median(found):
    for timing in (found.training, found.inference):
        assert 0 < timing.low <= timing.median <= timing.high
        assert 1 <= timing.repetitions <= bench.MOST  # fewer than LEAST on a machine that has much else to do
    assert found.image_shape == (3, 32, 32)
    assert found.parameters == sum(p.size for p in bench.models.create("resnet8", width=4).parameters())


def test_the_shares_of_the_ops_add_up_to_the_profiled_time(found):
    p = found.profile
    assert sum(row.seconds for row in p.rows) + p.rest + p.own == pytest.approx(p.seconds)
    calls = {(row.op, row.phase): row.calls for row in p.rows}
    steps = calls["CrossEntropy", "backward"]
    assert steps in (1, bench.PROFILED)
    assert calls["Conv2d", "forward"] == calls["Conv2d", "backward"] == 7 * steps  # the stem and three blocks of two


def test_timings_are_of_what_was_done_so_often(monkeypatch):
    clock = iter([0, 1, 10, 12, 20, 23, 30, 34])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    done = []
    assert bench._repeat(lambda: done.append(1), 7.0) == [1, 2, 3, 4]  # stops after 10 s, not after 6
    assert len(done) == 4
    assert bench.Timing.of([1, 2, 3, 4]) == bench.Timing(2.5, 1.75, 3.25, 4)
    assert bench.Timing.of([3.0]) == bench.Timing(3.0, 3.0, 3.0, 1)


def test_three_repetitions_may_take_longer_than_asked(monkeypatch):
    clock = iter([0, 1.5, 10, 11.5, 20, 21.5])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert bench._repeat(lambda: None, 2.0) == [1.5] * bench.LEAST


def test_work_that_takes_long_is_done_fewer_times(monkeypatch):
    clock = iter([0, 100])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert bench._repeat(lambda: None, 7.0) == [100]


def test_the_peak_is_what_a_step_held_beyond_what_was_there():
    if bench._held(bench.Path("/proc/self/status"), "VmHWM") is None:
        pytest.skip("this system does not tell the peak")

    def step(size):
        return lambda: np.ones(size, np.uint8).sum()

    high = bench._peak_of(step(200 << 20))
    low = bench._peak_of(step(64 << 20))
    assert 190 << 20 < high < 230 << 20
    assert 55 << 20 < low < 95 << 20  # the mark was set back: the 200 MiB before it are forgotten


def test_without_proc_there_is_no_peak_and_the_step_still_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "Path", lambda path: tmp_path / "nothing" / path.strip("/"))
    done = []
    assert bench._peak_of(lambda: done.append(1)) is None
    assert len(done) == 2


def test_it_names_what_computes_and_what_would_speed_it_up(monkeypatch):
    monkeypatch.setattr(bench, "_blas_threads", lambda: 1)
    monkeypatch.setattr(bench, "cores", lambda: 4)
    monkeypatch.setattr(bench.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(bench, "_numba", lambda: None)
    assert bench.active_kernels() == "NumPy kernels"
    numba, blas, affinity = bench.hints()
    assert "pip install 'minires[fast]'" in numba
    assert "1 of 4 cores" in blas
    assert "4 of 8 cores" in affinity
    monkeypatch.setattr(bench, "_numba", lambda: "0.99")
    monkeypatch.setattr(state, "compiled", True)
    assert bench.active_kernels() == "compiled kernels (numba 0.99)"
    assert len(bench.hints()) == 2
    with without_compiled():
        assert bench.active_kernels() == "NumPy kernels"
        assert "MINIRES_FAST" in bench.hints()[0]
    with formulas_only():
        assert bench.active_kernels() == "formulas"
        assert "MINIRES_KERNELS" in bench.hints()[0]


def test_the_command_shows_speed_memory_threads_and_ops(capsys):
    assert main(["bench", *SMALL]) == 0
    shown = capsys.readouterr()
    for words in (
        "resnet8",
        "batch 2 of 3 x 32 x 32",
        "training",
        "inference",
        "images/s",
        "core",
        "Conv2d",
        "GFLOP/s",
    ):
        assert words in shown.out
    assert "timing training steps" in shown.err
    assert "timing" not in shown.out


def test_json_is_one_object_with_all_of_it(capsys):
    assert main(["bench", *SMALL, "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)
    assert kept["model"] == "resnet8"
    assert kept["images_per_second"]["training"] == pytest.approx(2 / kept["training"]["median"])
    assert {"op", "phase", "calls", "seconds", "flops"} <= kept["profile"]["rows"][0].keys()
    assert {"kernels", "threads", "hints", "peak_bytes", "versions"} <= kept.keys()


def test_a_model_with_an_image_size_of_its_own_gets_such_images(capsys):
    arguments = ["--model", "lenet", "--option", "image_size=12", "--batch-size", "3", "--seconds", "0.01"]
    assert main(["bench", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image_shape"] == [3, 12, 12]


def test_bad_requests_are_refused_in_one_line(capsys):
    for arguments, said in (
        (["--model", "resnet9"], "resnet8 or resnet14"),
        (["--model", "gpt_char"], "gpt_char is none"),
        (["--model", "unet", "--option", "width=2"], "unet is none"),
        (["--batch-size", "0"], "--batch-size is 0, but must be at least 1"),
        (["--batch-size", "-3"], "at least 1"),
        (["--batch-size", "many"], "--help"),
        (["--seconds", "0"], "--seconds is 0, but must be above 0"),
        (["--seconds", "nan"], "above 0"),
        (["--seconds", "inf"], "finite"),
        (["--option", "width"], "NAME=VALUE"),
        (["--option", "wide=3"], "wide"),
        (["--mdoel", "resnet8"], "--help"),
    ):
        refused(capsys, arguments, said)


def test_a_batch_that_does_not_fit_is_refused(capsys, monkeypatch):
    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(bench, "_step", full)
    refused(capsys, SMALL, "a batch of 2 does not fit", "lower --batch-size")
