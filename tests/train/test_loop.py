"""The life of a run: the same seed is the same run, a stop anywhere changes nothing, a divergence is told."""

import json
import math

import numpy as np
import pytest

from minires import backend
from minires.errors import DivergedError, RequestError
from minires.train import checkpoint, config, loop, setup
from minires.train.interrupt import Stopped
from tests.runs import assert_same_run, measured, stop_after

# dropout, augmentation, warm-up, momentum and clipping: everything that has a state of its own
SMALL = {
    "model": "mlp",
    "model_options": {"hidden": [16]},
    "epochs": 4,
    "batch_size": 256,
    "lr": 0.05,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "clip_norm": 1.0,
    "augment": True,
}


def run(out, **changes):
    trainer = loop.start(config.create(**{**SMALL, **changes}, out=str(out)), quiet=True)
    trainer.fit()
    return trainer


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    """Drawing takes longer than these runs; the one run of `whole` is drawn."""
    monkeypatch.setattr("minires.train.figures.available", lambda: False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(out)
    return out


def test_a_run_directory_is_complete(whole):
    for name in ("config.json", "metrics.jsonl", "summary.json", "last/model.safetensors", "best/model.safetensors"):
        assert (whole / name).is_file(), name
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    keys = ["epoch", "train_loss", "train_acc", "val_loss", "val_acc", "lr", "seconds", "images_per_second"]
    assert [list(r) for r in records] == [keys] * 4
    assert [r["epoch"] for r in records] == [1, 2, 3, 4]
    assert all(0 <= r[k] <= 1 for r in records for k in ("train_acc", "val_acc"))
    summary = json.loads((whole / "summary.json").read_text())
    assert {"test_acc", "test_loss", "parameters", "seconds", "best_epoch"} <= set(summary)
    best = max(records, key=lambda r: (r["val_acc"], r["epoch"]))
    assert summary["best_epoch"] == best["epoch"]


def test_figures_are_drawn_where_matplotlib_is(whole):
    pytest.importorskip("matplotlib")
    assert (whole / "curves.png").is_file()
    assert (whole / "gradient_flow.png").is_file()


def test_the_same_seed_is_the_same_run(whole, tmp_path):
    run(tmp_path / "again")
    assert_same_run(whole, tmp_path / "again")


def test_another_seed_is_another_run(whole, tmp_path):
    run(tmp_path / "other", seed=1)
    assert measured(whole) != measured(tmp_path / "other")


@pytest.mark.parametrize("steps", [1, 3, "epoch", "two epochs"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole, tmp_path, steps):
    out = tmp_path / "run"
    trainer = loop.start(config.create(**SMALL, out=str(out)), quiet=True)
    batches = len(trainer.parts.train)
    stop_after(trainer, {"epoch": batches, "two epochs": 2 * batches}.get(steps, steps))
    with pytest.raises(Stopped):
        trainer.fit()
    assert not (out / "summary.json").exists()
    backend.manual_seed(99)  # a new process starts from another generator
    loop.resume(out, quiet=True).fit()
    assert_same_run(whole, out)


def test_stopped_twice_in_one_epoch(whole, tmp_path):
    out = tmp_path / "run"
    trainer = loop.start(config.create(**SMALL, out=str(out)), quiet=True)
    for steps in (2, 1):
        stop_after(trainer, steps)
        with pytest.raises(Stopped):
            trainer.fit()
        trainer = loop.resume(out, quiet=True)
    assert trainer.position.batch == 3
    trainer.fit()
    assert_same_run(whole, out)


def test_a_kill_loses_at_most_the_epoch_it_came_in(whole, tmp_path, monkeypatch):
    """Killed after `best/` of epoch 3 was written and before `last/`: epoch 3 is done again, the same."""

    class Killed(BaseException):
        pass

    out = tmp_path / "run"
    trainer = loop.start(config.create(**SMALL, out=str(out)), quiet=True)
    save = trainer.save

    def killed(name):
        if name == "last" and trainer.position.epoch == 3:
            raise Killed
        save(name)

    trainer.save = killed
    with pytest.raises(Killed):
        trainer.fit()
    loop.resume(out, quiet=True).fit()
    assert_same_run(whole, out)


def test_stopping_during_the_final_test_leaves_the_last_weights_alone(whole, tmp_path):
    out = tmp_path / "run"
    trainer = loop.start(config.create(**SMALL, out=str(out)), quiet=True)
    finish_epoch = trainer.finish_epoch

    def then_stop():
        finish_epoch()
        trainer.interrupts.asked = trainer.position.epoch == 4

    trainer.finish_epoch = then_stop
    trainer.parts.model.load_state_dict = lambda weights: [p.data.fill(0) for p in trainer.parts.model.parameters()]
    with pytest.raises(Stopped):
        trainer.fit()
    loop.resume(out, quiet=True).fit()
    assert_same_run(whole, out)


@pytest.mark.parametrize("changes", [{"optimizer": "adam"}, {"optimizer": "rmsprop"}, {"model": "lenet"}])
def test_every_kind_of_state_survives_a_stop(tmp_path, changes):
    options = {"epochs": 2, "model_options": {}, "lr": 1e-3, **changes}
    run(tmp_path / "whole", **options)
    trainer = loop.start(config.create(**{**SMALL, **options}, out=str(tmp_path / "run")), quiet=True)
    stop_after(trainer, 3)
    with pytest.raises(Stopped):
        trainer.fit()
    loop.resume(tmp_path / "run", quiet=True).fit()
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    out = tmp_path / "run"
    trainer = loop.start(config.create(**SMALL, out=str(out)), quiet=True)
    finish_epoch = trainer.finish_epoch

    def then_break():
        finish_epoch()
        trainer.parts.optimizer.step = lambda: next(trainer.parts.model.parameters()).data.fill(math.inf)

    trainer.finish_epoch = then_break
    with pytest.raises(DivergedError, match=r"diverged: the loss is nan at epoch 2, batch 2 of .*--lr") as caught:
        trainer.fit()
    assert "\n" not in str(caught.value)
    held = checkpoint.load(out / "last")
    assert held.state["position"]["epoch"] == 1
    assert all(np.isfinite(a).all() for a in held.model.values())


def test_a_checkpoint_of_another_model_is_one_clear_line(whole, tmp_path):
    trainer = loop.start(
        config.create(**{**SMALL, "model_options": {"hidden": [8]}}, out=str(tmp_path / "a")), quiet=True
    )
    checkpoint.save(tmp_path / "a" / "last", checkpoint.load(whole / "last"))
    with pytest.raises(RequestError, match=r"not a checkpoint of this run.*mlp.*shape"):
        trainer.restore()


def test_a_model_that_cannot_take_the_images_is_refused_before_anything_is_written(tmp_path):
    options = {**SMALL, "model": "mlp", "model_options": {"image_size": 9}}
    with pytest.raises(RequestError, match="mlp does not fit digits, whose images are 1 x 8 x 8"):
        loop.start(config.create(**options, out=str(tmp_path / "run")), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", config.SCHEDULES)
def test_schedules_start_or_peak_at_lr_and_never_exceed_it(name):
    options = config.create(schedule=name, epochs=4, lr=0.1, model="mlp")
    parts = setup.build(options)
    rates = []
    for _ in range(4 * len(parts.train)):
        rates.append(parts.optimizer.lr)
        parts.schedule.step()
    assert max(rates) == pytest.approx(0.1, rel=1e-3)  # one-cycle need not step on its peak
    expected = {"none": 0.1, "step": 1e-3, "multistep": 1e-3}
    if name in expected:
        assert rates[-1] == pytest.approx(expected[name])
    else:
        assert rates[-1] < 1e-3


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_one_cycle_rises_for_its_share_of_the_run_and_then_falls(share):
    options = config.create(schedule="one-cycle", pct_start=share, epochs=2, model="mlp")
    parts = setup.build(options)
    rates = []
    for _ in range(2 * len(parts.train)):
        rates.append(parts.optimizer.lr)
        parts.schedule.step()
    peak = rates.index(max(rates))
    assert abs(peak - share * len(rates)) <= 1
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)


def test_warm_up_rises_to_lr_and_hands_over():
    parts = setup.build(config.create(schedule="cosine", warmup_epochs=1, epochs=3, lr=0.1, model="mlp"))
    batches = len(parts.train)
    rates = []
    for _ in range(3 * batches):
        rates.append(parts.optimizer.lr)
        parts.schedule.step()
    assert rates[: batches + 1] == sorted(rates[: batches + 1])
    assert rates[batches] == pytest.approx(0.1)
    assert rates[batches:] == sorted(rates[batches:], reverse=True)
