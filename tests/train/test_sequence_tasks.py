"""Translation and hidden tokens: what is counted, whole runs and what they leave, devices, and what is refused."""

import json

import numpy as np
import pytest

from minires import backend
from minires.cli import main
from minires.data import sequences, sums
from minires.errors import RequestError
from minires.models.translate import greedy
from minires.switches import no_grad
from minires.train import config, evaluate, loop, report
from minires.train.tasks import masked, translation
from tests.devices import agree, without_waiting
from tests.devices import library as library  # the fixture

SMALL = {"width": 8, "heads": 2, "feedforward": 12}
LAYERS = {"copy": {"encoder_layers": 1, "decoder_layers": 1}, "masked": {"layers": 1}}
TASKS = {"copy": translation.TASK, "masked": masked.TASK}


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """So few sentences that a run takes a moment."""
    for made in (sequences, sums):
        monkeypatch.setattr(made, "SIZES", {"train": 64, "validation": 20, "test": 20})


def quick(name, **given):
    options = {**SMALL, **LAYERS["masked" if name == "masked" else "copy"], **given.pop("model_options", {})}
    return config.create(data=name, model_options=options, **{"epochs": 1, "batch_size": 16, **given})


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def batch_of(name):
    """(task, model in float64, first validation batch)."""
    backend.manual_seed(3)
    model, _, validation, _ = TASKS[name].build(quick(name))
    return TASKS[name], model.to(np.float64), next(iter(validation))


# --- what is counted


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("name", "nothing"), [("copy", sequences.PAD), ("masked", masked.IGNORED)])
def test_loss_and_counts_are_over_the_tokens_that_are_asked_for(name, nothing, smoothing):
    task, model, batch = batch_of(name)
    loss, (correct,) = task.loss(model, *batch, smoothing=smoothing)
    log_p = log_softmax(model(*batch[:-1]).data)
    right = []
    losses = []
    for place in zip(*np.nonzero(batch[-1] != nothing), strict=True):
        own = log_p[place]
        losses.append(-(1 - smoothing) * own[batch[-1][place]] - smoothing * own.mean())
        right.append(own.argmax() == batch[-1][place])
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-12)
    assert int(correct) == sum(right)
    assert task.size(*batch) == len(right) < batch[-1].size
    assert task.metrics({"correct": float(correct)}, len(right))["acc"] == np.mean(right)


def test_a_sentence_is_exact_if_the_model_writes_it_all_when_it_hears_only_itself():
    task, model, batch = batch_of("copy")
    source, _, target_out = batch
    written = [greedy(model, row[None], target_out.shape[1])[0].tolist() for row in source]
    for i in (0, 3, 4):  # three that it would have got right
        target_out[i] = written[i] + [sequences.PAD] * (target_out.shape[1] - len(written[i]))
    for i in (5, 6):  # and two in which only what comes last is wrong
        target_out[i] = written[i] + [sequences.PAD] * (target_out.shape[1] - len(written[i]))
        target_out[i, np.flatnonzero(target_out[i])[-1]] = 9 if target_out[i].max() != 9 else 10
    model.eval()
    with no_grad():
        _, counts = task.judge(model, *batch)
    correct, exact, sentences = (float(c) for c in counts)
    figures = task.metrics({"correct": correct, "exact": exact, "sentences": sentences}, task.size(*batch))
    assert (exact, sentences) == (3, len(source))
    assert figures["exact"] == 3 / len(source)
    assert figures["acc"] == correct / task.size(*batch)


def test_training_is_not_asked_to_write_and_validation_is():
    task = translation.TASK
    assert set(task.metrics({"correct": 1.0}, 2)) == {"acc"}
    _, model, _ = batch_of("copy")
    result = evaluate.evaluate(model, task.loaders(quick("copy"))[1], task=task)
    assert set(result) == {"loss", "acc", "exact"}


def test_holes_are_new_in_every_epoch_of_training_and_the_same_in_validation_and_test():
    train, validation, test = masked.TASK.loaders(quick("masked"))
    seed = train.draw_seed()
    first, again, other = (list(train.epoch(s)) for s in (seed, seed, seed + 1))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    holes = [{tuple(map(tuple, batch[1])) for batch in epoch} for epoch in (first, other)]
    assert not holes[0] & holes[1]
    late = list(train.epoch(seed, start=2))
    assert np.array_equal(late[0][0], first[2][0])
    for loader in (validation, test):
        (shown, hidden), (seen, asked) = next(iter(loader)), next(iter(loader))
        assert np.array_equal(shown, seen)
        assert np.array_equal(hidden, asked)
        where = hidden != masked.IGNORED
        assert where.any(axis=1).all()
        assert not np.array_equal(shown[where], hidden[where])


# --- a run


@pytest.mark.parametrize("name", ["copy", "copy-reverse-sort", "masked"])
def test_a_run_ends_with_its_figures_and_a_file_of_examples(name, tmp_path, capsys):
    options = quick(name).model_options
    given = [word for key, value in options.items() for word in ("--option", f"{key}={value}")]
    out = tmp_path / "run"
    assert main(["train", "--data", name, *given, "--epochs", "2", "--batch-size", "16", "--out", str(out)]) == 0
    made = masked.EXAMPLES if name == "masked" else translation.EXAMPLES
    best = "acc" if name == "masked" else "exact"
    assert made in capsys.readouterr().out
    summary = json.loads((out / report.SUMMARY).read_text())
    assert {"test_loss", "test_acc", f"test_{best}", f"best_val_{best}"} <= summary.keys()
    lines = (out / made).read_text().splitlines()
    assert len(lines) == 1 + 20


def test_a_translation_without_a_mark_is_a_right_one(tmp_path):
    _, model, _ = batch_of("copy")
    translation.TASK.finish(model, quick("copy"), tmp_path)
    pairs = sequences.load("copy")["test"]
    said = greedy(model, pairs.source, sequences.LONGEST + 1)
    lines = (tmp_path / translation.EXAMPLES).read_text().splitlines()[1:]
    for line, row, target in zip(lines, said, pairs.target_out, strict=True):
        assert ("not " in line) == (sequences.spell(row) != sequences.spell(target))


def test_the_usual_models_hold_the_whole_language():
    for name, words in (("copy", sequences.VOCABULARY), ("masked", sums.VOCABULARY)):
        model = TASKS[name].model(config.create(data=name))
        assert model.vocab_size == len(words)
    assert set(translation.USUAL) == set(translation.TASK.names)


# --- devices


@pytest.mark.parametrize("name", TASKS)
def test_loss_and_counts_on_a_device_are_those_of_numpy_and_nothing_waits(name, library):
    task, _, batch = batch_of(name)

    def compute(library):
        with backend.device(library.device):
            model = task.model(quick(name, device=library.device)).to(library.device, np.float64)
        there = [library.asarray(a) for a in batch]
        with without_waiting(library) if library is not backend.NUMPY else backend.device("cpu"):
            loss, counts = task.loss(model, *there)
            loss.backward()
        with no_grad():
            judged = task.judge(model.eval(), *there)
        return loss, counts, judged[1], [p.grad for p in model.parameters()]

    agree(library, compute, tolerance=1e-10)


@pytest.mark.parametrize("name", TASKS)
def test_a_run_on_a_device_gives_the_figures_of_numpy(name, library, tmp_path, monkeypatch):
    monkeypatch.setattr("minires.train.figures.available", lambda: False)
    summaries = []
    for device in ("cpu", "cuda"):
        trainer = loop.start(quick(name, device=device, out=str(tmp_path / device)), quiet=True)
        trainer.parts.model.to(np.float64)
        summaries.append(trainer.fit())
    for key in ("test_loss", "test_acc"):
        assert summaries[1][key] == pytest.approx(summaries[0][key], rel=1e-8), key


# --- what is refused


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("copy", {"model": "bert_tiny", "model_options": {}}, "bert_tiny does not translate, so it cannot learn copy"),
        ("copy", {"model_options": {"vocab_size": 30}}, "copy needs a vocab_size of 32 and a context of 14"),
        ("copy", {"model_options": {"context": 13}}, "copy needs a vocab_size of 32 and a context of 14"),
        ("masked", {"model": "resnet8", "model_options": {}}, "resnet8 does not guess hidden tokens"),
        ("masked", {"model_options": {"head": "none"}}, "masked needs head=masked, a vocab_size of 16"),
        ("masked", {"model_options": {"context": 4}}, "masked needs head=masked, a vocab_size of 16 and a context of"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_one_line(name, given, message):
    with pytest.raises(RequestError, match=message):
        TASKS[name].model(config.create(data=name, **given))
