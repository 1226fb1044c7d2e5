"""Training on the devices: a small resnet on digits goes NumPy's way, stops, goes on, and waits only where it says."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from minires import backend, data, models, optim
from minires import functional as F
from minires.cli import main
from minires.data import DataLoader
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
    step, steps = trainer.parts.optimizer.step, []

    def counted():
        step()
        steps.append(1)
        trainer.interrupts.asked = len(steps) == 6

    trainer.parts.optimizer.step = counted
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


def test_a_step_of_the_loop_uploads_its_batch_and_waits_for_loss_and_accuracy_alone(tmp_path, monkeypatch):
    """Two copies to the device, images and labels; two numbers back, the loss and how many were right."""
    trainer = started(tmp_path / "run", "strict")
    monkeypatch.setattr(trainer, "watch_gradient", lambda: None)  # looks once an epoch, at every weight
    seen, step = [], trainer.parts.optimizer.step

    def noted():
        step()
        seen.append(dict(counts.seen))

    trainer.parts.optimizer.step = noted
    trainer.train_epoch()
    costs = [{kind: after[kind] - before[kind] for kind in after} for before, after in itertools.pairwise(seen)]
    assert len(costs) >= 3
    assert all(cost == {"upload": 2, "sync": 2} for cost in costs), costs


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
