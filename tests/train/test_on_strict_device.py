"""Training on the devices: a small resnet on digits goes NumPy's way, stops, goes on, and waits only where it says."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from minires import backend, data, models, nn, optim
from minires import functional as F
from minires.cli import main
from minires.data import DataLoader
from minires.errors import DivergedError
from minires.train import checkpoint, config, evaluate, loop, metrics, report
from minires.train.interrupt import Stopped
from tests.devices import agree, without_waiting
from tests.strict_device import STRICT, counts

SMALL = {
    "model": "resnet8",
    "model_options": {"width": 4},
    "epochs": 2,
    "batch_size": 32,
    "lr": 0.05,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "augment": True,
}
MEASURED = ("train_loss", "train_acc", "val_loss", "val_acc", "lr")


@pytest.fixture(autouse=True)
def _few_digits_and_no_figures(monkeypatch):
    few = data.load("digits")
    parts = {
        name: dataclasses.replace(d, images=d.images[:160], labels=d.labels[:160])
        for name, d in zip(("train", "test"), few, strict=True)
    }
    monkeypatch.setattr(data, "load", lambda name: few._replace(**parts))
    monkeypatch.setattr("minires.train.figures.available", lambda: False)


def started(out, device, **changes):
    """A run in float64, so that rounding cannot hide behind training."""
    trainer = loop.start(config.create(**{**SMALL, **changes}, device=device, out=str(out)), quiet=True)
    trainer.parts.model.to(np.float64)
    return trainer


def weights(run):
    return checkpoint.load(run / "last").model


def assert_same_course(run, other, tolerance=1e-8):
    ours, theirs = ([json.loads(line) for line in (r / report.METRICS).read_text().splitlines()] for r in (run, other))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert [a[k] for k in MEASURED] == pytest.approx([b[k] for k in MEASURED], rel=tolerance)
    assert weights(run).keys() == weights(other).keys()
    for name, array in weights(other).items():
        assert np.allclose(weights(run)[name], array, rtol=0, atol=tolerance), name


@pytest.fixture(scope="module")
def on_numpy(tmp_path_factory):
    """Where the run on NumPy is, once it has been made."""
    return tmp_path_factory.mktemp("numpy") / "run"


def reference(out):
    if not out.exists():
        started(out, "cpu").fit()
    return out


def test_a_resnet_trained_on_the_device_goes_the_way_of_numpy(library, on_numpy, tmp_path):
    trainer = started(tmp_path / "run", "cuda")
    summary = trainer.fit()
    assert {t.device for t in trainer.parts.model.state_dict().values()} == {library.device}
    assert_same_course(tmp_path / "run", reference(on_numpy))
    theirs = json.loads((on_numpy / report.SUMMARY).read_text())
    for key in ("test_loss", "test_acc", "best_epoch", "parameters"):
        assert summary[key] == pytest.approx(theirs[key], rel=1e-8)


def test_a_run_stopped_on_the_device_goes_on_to_the_same_end(library, on_numpy, tmp_path):
    trainer = started(tmp_path / "run", "cuda")
    step, steps = trainer.parts.schedule.step, []

    def counted():
        step()
        steps.append(1)
        trainer.interrupts.asked = len(steps) == 6

    trainer.parts.schedule.step = counted
    with pytest.raises(Stopped):
        trainer.fit()
    backend.manual_seed(99)
    resumed = loop.resume(tmp_path / "run", quiet=True)
    resumed.parts.model.to(np.float64)
    resumed.restore()  # once more, now that there is room for every digit
    assert {a.dtype for a in weights(tmp_path / "run").values()} == {np.dtype("float64"), np.dtype("int64")}
    held = [entry["momentum_buffer"] for entry in resumed.parts.optimizer.state.values()]
    assert {type(array) for array in held} == {library.array_type}
    resumed.fit()
    assert_same_course(tmp_path / "run", reference(on_numpy))


def test_what_was_trained_on_the_device_is_judged_the_same_on_both(library, tmp_path):
    started(tmp_path / "run", "cuda", epochs=1).fit()
    arrays = weights(tmp_path / "run")

    def judged(library):
        model = models.create("resnet8", 10, 1, width=4).to(library.device, np.float64)
        model.load_state_dict(arrays)
        found = evaluate.evaluate(model, DataLoader(data.load("digits").test, batch_size=50))
        assert model.training
        return found

    agree(library, judged, tolerance=1e-9)


def test_the_step_of_a_resnet_neither_waits_nor_uploads(library):
    images, labels = next(iter(DataLoader(data.load("digits").train, batch_size=16)))

    def steps(library):
        model = models.create("resnet8", 10, 1, width=4).to(library.device, np.float64)
        optimizer = optim.SGD(model.named_parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
        schedule = optim.OneCycleLR(optimizer, 0.1, total_steps=4, cycle_momentum=False)
        x, targets, losses = library.asarray(images), library.asarray(labels), []
        for _ in range(3):
            with without_waiting(library):
                loss = F.cross_entropy(model(x), targets, label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optim.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            losses.append(loss.detach())
        return losses, model.state_dict()

    agree(library, steps, tolerance=1e-9)


def test_a_step_of_the_loop_neither_waits_nor_uploads_until_the_host_looks(tmp_path, monkeypatch):
    """Batches go to the device while it works; loss and accuracy come back together, every so often."""
    monkeypatch.setattr(loop, "LOOK_EVERY", 2)
    trainer = started(tmp_path / "run", "strict")
    monkeypatch.setattr(trainer, "watch_gradient", lambda: None)  # looks at every weight, in two steps of a run
    seen, step = [dict(counts.seen)], trainer.parts.schedule.step

    def noted():
        step()
        seen.append(dict(counts.seen))

    trainer.parts.schedule.step = noted
    trainer.train_epoch()
    trainer.finish_epoch()
    trainer.train_epoch()
    costs = [{kind: after[kind] - before[kind] for kind in after} for before, after in itertools.pairwise(seen)]
    assert len(costs) == 8
    first, second = costs[:4], costs[5:]
    assert first[0] == {"sync": 0, "upload": 1}  # where the epoch's sums begin
    for i, cost in enumerate([*first[1:], *second]):
        assert cost == {"sync": 1 if i in (1, 4) else 0, "upload": 0}, i


def test_the_step_of_a_run_is_captured_and_ends_where_the_plain_one_ends(tmp_path, monkeypatch):
    trainers = {}
    for name, warmup in (("captured", 2), ("plain", 10**6)):
        trainers[name] = trainer = started(tmp_path / name, "strict", epochs=3)
        step = trainer.plain_step
        trainer.ran = []
        trainer.plain_step = lambda *inputs, step=step, ran=trainer.ran, **how: ran.append(1) or step(*inputs, **how)
        trainer.step = backend.capture(trainer.plain_step, trainer.held, warmup=warmup, library=STRICT)
        trainer.fit()
    assert len(trainers["plain"].ran) == 12
    assert len(trainers["captured"].ran) == 5  # two to warm up, one recorded, and two whose gradients are looked at
    ours, theirs = weights(tmp_path / "captured"), weights(tmp_path / "plain")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    lines = [(tmp_path / name / report.METRICS).read_text().splitlines() for name in trainers]
    for a, b in zip(*lines, strict=True):
        assert [json.loads(a)[k] for k in MEASURED] == [json.loads(b)[k] for k in MEASURED]


def test_a_model_that_draws_random_numbers_is_trained_piece_by_piece(tmp_path, monkeypatch, capsys):
    def with_dropout(*_, **__):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.2))

    monkeypatch.setattr(models, "create", with_dropout)
    ends = []
    for device in ("strict", "cpu"):
        trainer = started(tmp_path / device, device, model_options={}, epochs=3)
        trainer.quiet = False
        trainer.fit()
        ends.append(weights(tmp_path / device))
    told = capsys.readouterr().err
    assert told == (
        "this step cannot be captured: it draws random numbers, and every replay would draw the same; "
        "draw them outside; so each step goes to the device piece by piece\n"
    )
    for name, array in ends[1].items():
        assert np.allclose(ends[0][name], array, rtol=0, atol=1e-8)


def test_a_loss_that_is_not_finite_is_noticed_when_the_host_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOOK_EVERY", 3)
    trainer = started(tmp_path / "run", "strict", lr=1e200, clip_norm=None, warmup_epochs=0)
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) at epoch 1, batch 3 of 4"):
        trainer.fit()


def test_the_gradient_of_each_weight_is_looked_at_with_one_copy_each(library):
    images, labels = next(iter(DataLoader(data.load("digits").train, batch_size=16)))

    def norms(library):
        model = models.create("resnet8", 10, 1, width=4).to(library.device, np.float64)
        F.cross_entropy(model(library.asarray(images)), library.asarray(labels)).backward()
        before = counts.seen["sync"]
        found = metrics.gradient_norms(model)
        assert library is not STRICT or counts.seen["sync"] == before + len(found)
        return found

    agree(library, norms, tolerance=1e-9)


def test_the_command_line_trains_resumes_and_evaluates_on_cuda(library, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["--model", "mlp", "--option", "hidden=[16]", "--batch-size", "64", "--epochs", "1"]
    assert main(["train", *quick, "--device", "cuda", "--out", "run"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["device"] == "cuda"
    assert main(["train", "--resume", "run"]) == 0
    capsys.readouterr()
    said = []
    for device in ("cuda", "cpu"):
        assert main(["eval", "run", "--device", device]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
