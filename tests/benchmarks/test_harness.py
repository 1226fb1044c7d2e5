"""The comparison is fair and tells the truth: turns, medians, ratios, what drops out, and what is the same work."""

import importlib
import json
import math
import sys
import time

import numpy as np
import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import digest, figure, memory, race, report, scaling
from tests.benchmarks.items import ITEMS, resnet_item
from tests.benchmarks.peers import CANDIDATES
from tests.benchmarks.process import HERE, Failed, Worker, interpreters

SETTINGS = race.Settings(rounds=4, seconds=100.0, pause=0.0)
RIGHT = {"y": [1.0, 0.5, 0.5, 0.5, 0.5]}


class Fake:
    """A worker that needs the seconds it is told, writes down when it was asked, and fails when told to."""

    def __init__(self, name, diary, seconds, digests=RIGHT, fails=None):
        self.name, self.diary, self.seconds, self.digests = name, diary, iter(seconds), digests
        self.fails = fails or {}
        self.asked = 0

    def ask(self, do, **request):
        self.diary.append((self.name, do))
        if do == "repeat":
            self.asked += 1
        if do in self.fails and self.asked >= self.fails[do][0]:
            raise self.fails[do][1]
        if do == "prepare":
            return {"digests": self.digests, "seconds": 0.0}
        if do == "memory":
            return {"peak": 7, "process": 9}
        return {"seconds": next(self.seconds)} if do == "repeat" else {}


def run(diary, settings=SETTINGS, reference=None, **workers):
    told = []
    fakes = {name: Fake(name, diary, **given) for name, given in workers.items()}
    requests = {name: {"name": "work"} for name in fakes}
    return race.race(fakes, requests, settings, reference, told.append), told


# --- turns


def test_candidates_take_turns_and_each_round_begins_with_another():
    diary = []
    run(diary, a={"seconds": [1] * 4}, b={"seconds": [1] * 4}, c={"seconds": [1] * 4})
    turns = [name for name, do in diary if do == "repeat"]
    assert turns == ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]


def test_all_have_prepared_before_the_first_is_timed():
    diary = []
    run(diary, a={"seconds": [1] * 4}, b={"seconds": [1] * 4})
    assert [do for _, do in diary[:2]] == ["prepare", "prepare"]
    assert [do for _, do in diary[-2:]] == ["release", "release"]


def test_a_slow_candidate_leaves_off_after_three_rounds_and_the_others_go_on():
    found, _ = run([], race.Settings(6, 10.0, 0.0), a={"seconds": [1] * 6}, slow={"seconds": [20] * 6})
    assert len(found["a"].seconds) == 6
    assert len(found["slow"].seconds) == race.LEAST


# --- numbers


def test_median_and_quartiles_of_known_times():
    found, _ = run([], a={"seconds": [20, 1, 4, 3]})
    assert found["a"].median == 3.5
    assert found["a"].quartiles == (2.5, 8)


def outcomes(**medians):
    return {name.replace("_", "-"): race.Outcome(seconds=[value]) for name, value in medians.items()}


def test_speeds_are_multiples_of_minires_and_of_pytorchs_better_layout():
    found = outcomes(minires=2.0, minires_formulas=8.0, torch=4.0, torch_channels_last=1.0)
    assert report.of_minires(found) == 2.0
    assert report.best_torch(found) == 1.0
    assert report.speed(found["minires"], report.best_torch(found)) == 0.5
    assert report.speed(found["minires-formulas"], report.of_minires(found)) == 0.25
    shown = "\n".join(report.lines("work", 10, found))
    row = next(line for line in shown.splitlines() if "formulas" in line)
    assert "0.25" in row
    assert "0.12" in row


def test_without_pytorch_there_is_no_ratio_to_it():
    found = outcomes(minires=2.0, jax=4.0)
    assert report.best_torch(found) is None
    assert report.speed(found["jax"], None) is None
    assert any(" - " in line or line.rstrip().endswith("-") for line in report.lines("work", 0, found))


def test_the_line_through_points_on_a_line_is_that_line_and_a_bend_is_seen():
    exact = report.fit([8, 14, 20, 32], [3 + 2 * x for x in (8, 14, 20, 32)])
    assert exact["slope"] == pytest.approx(2)
    assert exact["intercept"] == pytest.approx(3)
    assert exact["r2"] == pytest.approx(1)
    assert exact["worst"] == pytest.approx(0, abs=1e-12)
    bent = report.fit([8, 14, 20, 110], [64, 196, 400, 12100])
    assert bent["r2"] < 0.995
    assert bent["worst"] > 0.5
    with pytest.raises(ValueError, match="three"):
        report.fit([1, 2], [1, 2])


# --- what drops out


def test_a_worker_that_cannot_prepare_is_one_line_and_the_rest_goes_on():
    broken = {"prepare": (0, Failed("ZeroDivisionError: by zero"))}
    found, told = run([], a={"seconds": [1] * 4}, b={"seconds": [], "fails": broken})
    assert told == ["b: ZeroDivisionError: by zero"]
    assert found["b"].failed == "ZeroDivisionError: by zero"
    assert len(found["a"].seconds) == 4


def test_a_worker_that_dies_keeps_its_times_and_the_rest_goes_on():
    dies = {"repeat": (3, Failed("its process ended with code -9"))}
    found, told = run([], a={"seconds": [1] * 4}, b={"seconds": [1] * 4, "fails": dies})
    assert len(found["b"].seconds) == 2
    assert "code -9" in found["b"].failed
    assert told == ["b: its process ended with code -9"]
    assert len(found["a"].seconds) == 4


def test_work_that_a_framework_does_not_offer_is_not_a_failure():
    lacks = {"prepare": (0, Failed("has no attention", missing=True))}
    found, told = run([], a={"seconds": [1] * 4}, b={"seconds": [], "fails": lacks})
    assert not told
    assert found["b"].missing == "has no attention"
    assert not found["b"].failed


def test_a_candidate_that_computes_something_else_is_not_timed():
    wrong = {"y": [1.0, 0.5, 0.5, 0.5, 0.51]}
    found, told = run([], a={"seconds": [1] * 4}, b={"seconds": [1] * 4, "digests": wrong})
    assert found["b"].seconds == []
    assert told == ["b: computes something else: y is off by 0.01 of its length"]
    missing = {"y": RIGHT["y"], "gradient of x": RIGHT["y"]}
    found, told = run([], a={"seconds": [1] * 4}, b={"seconds": [1] * 4, "digests": missing})
    assert "gradient of x on one side only" in found["b"].failed
    nothing = {"y": [math.nan] * 5}
    found, told = run([], a={"seconds": [1] * 4}, b={"seconds": [1] * 4, "digests": nothing})
    assert "y is off by inf" in found["b"].failed


def test_the_reference_is_who_it_is_said_to_be():
    other = {"y": [1.0, 0.5, 0.5, 0.5, 0.51]}
    workers = {"a": {"seconds": [1] * 4, "digests": other}, "b": {"seconds": [1] * 4}}
    found, _ = run([], reference="b", **workers)
    assert found["a"].failed
    assert not found["b"].failed
    found, _ = run([], reference="", **workers)  # each does work of its own: nothing to compare
    assert not found["a"].failed


# --- the same work


def test_digests_tell_arrays_apart_and_know_equal_ones():
    a = np.random.default_rng(1).standard_normal((3, 4, 5))
    assert digest.distance(digest.digest(a), digest.digest(a.copy(order="F"))) == 0
    b = a.copy()
    b[1, 2, 3] += 0.1 * np.linalg.norm(a)
    assert 0.01 < digest.distance(digest.digest(b), digest.digest(a)) < 1
    assert digest.distance(digest.digest(a.transpose(2, 1, 0)), digest.digest(a)) > 0.1
    assert digest.distance([math.inf] * 5, digest.digest(a)) == math.inf
    assert digest.distance(digest.digest(np.zeros(3)), digest.digest(np.zeros(3))) == 0


def test_every_item_says_what_it_does_and_makes_the_same_arrays_each_time():
    for item in ITEMS.values():
        if item.group == "resnets" and "56" in item.name:
            continue
        first, second = item.arrays(), item.arrays()
        assert item.kind in ("forward", "both", "step", "inference")
        assert all(np.array_equal(first[name], second[name]) for name in second)
        assert "x" in first or "q" in first
        assert set(item.wanted(first)) <= set(first)
        assert all(a.dtype in (np.float32, np.int64) for a in first.values())


def test_the_resnets_have_the_weights_of_minires_own():
    from minires import models

    for depth in (8, 20):
        arrays = resnet_item(depth, batch=2).arrays()
        model = models.create(f"resnet{depth}")
        assert {n: p.shape for n, p in model.named_parameters()} == {
            n: arrays[n].shape for n in resnet_item(depth).wanted(arrays)
        }


# --- real workers

QUICK = race.Settings(rounds=2, seconds=5.0, pause=0.0)


@pytest.fixture(scope="module")
def workers():
    """minires twice, and PyTorch where it is installed, on one thread each."""
    names = ["minires-formulas", "minires-numpy"]
    if importlib.util.find_spec("torch") is not None:
        names.append("torch")
    made = {name: Worker(name, sys.executable, 1, 120.0) for name in names}
    yield made
    for worker in made.values():
        worker.close()


def test_the_candidates_compute_the_same_on_the_small_items(workers):
    for name in ("mlp-step", "mlp-inference", "diamonds", "broadcasts", "cross-entropy-both", "linear-both"):
        found = race.race(workers, {worker: {"name": name} for worker in workers}, QUICK)
        for candidate, outcome in found.items():
            assert not outcome.failed, (name, candidate, outcome.failed)
            assert len(outcome.seconds) == 2
            assert all(s > 0 for s in outcome.seconds)


def test_a_small_resnet_trains_alike_in_all(workers):
    requests = {name: {"sized": {"depth": 8, "width": 4, "batch": 2}} for name in workers}
    found = race.race(workers, requests, QUICK, "minires-formulas")
    assert not [outcome.failed for outcome in found.values() if outcome.failed]


def test_an_error_in_a_worker_is_an_answer_and_the_worker_lives_on(workers):
    worker = workers["minires-numpy"]
    with pytest.raises(Failed, match="KeyError"):
        worker.ask("prepare", item={"name": "nothing"})
    assert worker.alive
    assert "digests" in worker.ask("prepare", item={"name": "chain"})


def test_a_worker_that_is_killed_says_so_in_one_line():
    worker = Worker("minires", sys.executable, 1, 60.0)
    try:
        worker._process.kill()
        with pytest.raises(Failed, match="its process ended with code"):
            worker.ask("repeat")
    finally:
        worker.close()


def test_a_worker_that_does_not_answer_in_time_is_ended():
    worker = Worker("minires", sys.executable, 1, 60.0)
    try:
        worker.limit = 0.01
        with pytest.raises(Failed, match=r"no answer within 0\.01 s"):
            worker.ask("prepare", item={"name": "resnet8-step"})
        deadline = time.monotonic() + 10
        while worker.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not worker.alive
    finally:
        worker.close()


def test_a_framework_that_is_not_installed_is_missing_by_name(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['mygrad'] = None")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    with pytest.raises(Failed, match="not installed") as caught:
        Worker("mygrad", str(python), 1, 60.0)
    assert caught.value.missing


def test_the_peak_of_more_work_is_higher():
    peaks = []
    for name in ("residual-add-both", "mlp-step"):
        worker = Worker("minires-formulas", sys.executable, 1, 60.0)
        try:
            outcome = race.Outcome()
            race.measure_memory(worker, {"name": name}, outcome)
        finally:
            worker.close()
        peaks.append(outcome.peak)
        assert outcome.process > outcome.peak
    assert peaks[0] > 8 << 20 > peaks[1]  # one result of the addition alone holds 8 MiB


def test_the_peak_of_work_is_what_it_holds_and_not_what_was_held_before():
    if not memory._clear.exists():
        pytest.skip("only Linux sets the mark back")
    before = memory.held()
    high = memory.peak_of(lambda: np.ones(200 << 20, np.uint8).sum())
    low = memory.peak_of(lambda: np.ones(64 << 20, np.uint8).sum())
    assert high - before > 190 << 20
    assert 55 << 20 < low - before < 120 << 20


def test_a_worker_tells_what_its_framework_lacks_from_what_went_wrong(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parent))
    worker, base = (importlib.import_module(f"benchmarks.{name}") for name in ("worker", "peers.base"))

    class Lacking(base.Tape):
        def leaf(self, array, wanted):
            return array

    server = worker.Server(Lacking())
    assert worker.answer(server, {"do": "prepare", "item": {"name": "relu-forward"}})["missing"] == "has no ReLU"
    assert "NotImplementedError" in worker.answer(server, {"do": "prepare", "item": {"name": "mlp-step"}})["error"]


# --- the command


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """What --json keeps of a quick run."""
    path = tmp_path_factory.mktemp("bench") / "kept.json"
    arguments = ["mlp-step", "--peers", "none", "--rounds", "2", "--threads", "1", "--json", str(path)]
    assert command.main(arguments) == 0
    return path


def test_the_json_has_raw_times_versions_machine_and_threads(kept):
    found = json.loads(kept.read_text())
    assert found["machine"]["threads"] == 1
    assert found["machine"]["cpu"]
    assert found["candidates"]["minires"]["numpy"]
    outcome = found["items"]["mlp-step"]["candidates"]["minires"]
    assert len(outcome["seconds"]) == 2
    assert outcome["median"] == pytest.approx(sum(outcome["seconds"]) / 2)


def test_the_table_is_markdown_and_is_made_without_measuring(kept, capsys):
    assert command.main(["--from", str(kept), "--table"]) == 0
    head, rule, row, *_ = capsys.readouterr().out.splitlines()
    assert head.startswith("| work | minires |")
    assert set(rule) <= set("|-: ")
    assert row.startswith("| MLP 64-64-10, batch 32, training step, SGD |")
    assert head.count("|") == rule.count("|") == row.count("|")


def test_the_figure_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    items = {
        "a": {
            "what": "a",
            "batch": 0,
            "candidates": {n: o.as_dict() for n, o in outcomes(minires=1.0, torch=2.0).items()},
        }
    }
    machine = {"cpu": "one", "threads": 1}
    figure.draw({"machine": machine, "items": items, "candidates": {}}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_scaling_asks_for_each_size_of_its_axis():
    assert scaling.sized("depth", 44) == {"depth": 44, "width": 16, "batch": scaling.BATCH}
    assert scaling.sized("batch", 512) == {"depth": 20, "width": 16, "batch": 512}
    assert max(scaling.AXES["depth"]) == 110


def test_scaling_fits_time_and_memory(monkeypatch):
    class Sized(Fake):
        def __init__(self):
            super().__init__("sized", [], [])

        def ask(self, do, **request):
            size = request["item"]["sized"]["depth"] if "item" in request else getattr(self, "size", 0)
            self.size = size
            answers = {"memory": {"peak": size << 20, "process": size << 21}, "repeat": {"seconds": 0.001 * size}}
            return answers.get(do, {"digests": {}, "seconds": 0.0})

        def close(self):
            pass

    said = []
    found = scaling.run("depth", lambda name: Sized(), QUICK, True, said.append)
    assert found["fits"]["ms"]["r2"] == pytest.approx(1)
    assert found["fits"]["ms"]["slope"] == pytest.approx(1)
    assert found["fits"]["MiB"]["slope"] == pytest.approx(1)
    assert "R^2 1.00000" in "\n".join(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no item or group 'nothing'"),
        (["--peers", "theano"], "--peers 'theano'"),
        (["--variants", "fast"], "--variants 'fast'"),
        (["--rounds", "0"], "at least 1"),
        (["--python", "chainer"], "PEER=PATH"),
        (["--python", "chainer=/no/such/python"], "no such interpreter"),
        (["--json", "/no/such/folder/x.json"], "no such folder"),
        (["--from", "/no/such/file"], "/no/such/file"),
    ],
)
def test_bad_requests_are_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_interpreters_are_those_given_and_else_this_one():
    found = interpreters([f"chainer={sys.executable}"])
    assert set(found) == {c.peer for c in CANDIDATES.values()}
    assert set(found.values()) == {sys.executable}


def test_items_are_chosen_by_name_group_or_all():
    assert command.chosen_items(["mlp-step", "tape"], False)[0] == "mlp-step"
    assert len(command.chosen_items(["all"], False)) == len(ITEMS)
    assert not any(ITEMS[name].group == "ops" for name in command.chosen_items([], False))
    assert command.chosen_items([], True) == []
