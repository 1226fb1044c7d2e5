"""A GPT learns a text from the command's own parts: windows, figures, a run, and what it then writes."""

import json
import math

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires import models
from minires.data import text
from minires.errors import RequestError
from minires.train import config, figures, generate, loop, report, tasks
from minires.train.evaluate import evaluate
from minires.train.tasks import language
from tests.devices import without_waiting

rng = np.random.default_rng(77)
TASK = language.TASK
TINY = {"layers": 1, "heads": 2, "width": 8, "context": 8}


@pytest.fixture
def plays(monkeypatch):
    """A few hundred lines in place of Shakespeare's forty thousand."""
    lines = "To be, or not to be.\nThe rest is silence.\nMuch ado about nothing, café!\n" * 60
    splits = text.TextSplits(lines[:3600], lines[3600:4000], lines[4000:])
    monkeypatch.setattr(text, "load_shakespeare", lambda root: splits)
    monkeypatch.setattr(figures, "available", lambda: False)  # which take longer to draw than this to train
    language._corpus.cache_clear()
    yield splits
    language._corpus.cache_clear()


def options(out=None, **given):
    chosen = {"epochs": 2, "batch_size": 4, "data_options": {"steps": 5}, "model_options": TINY, **given}
    return config.create(data="shakespeare", out=None if out is None else str(out), **chosen)


# --- windows


@pytest.mark.parametrize("n", [2, 5, 6, 7, 11, 12, 40])
def test_windows_hold_every_token_but_the_first_as_a_target_once(n):
    tokens, lengths = rng.integers(0, 9, n), rng.integers(1, 5, 9)
    read, targets, written = language.windows(tokens, 5, lengths)
    real = targets != language.IGNORED
    assert read.shape == targets.shape == written.shape == (math.ceil((n - 1) / 5), 5)
    assert targets[real].tolist() == tokens[1:].tolist()
    assert read[real].tolist() == tokens[:-1].tolist()
    assert written[real].tolist() == lengths[tokens[1:]].tolist()
    assert not written[~real].any()


def test_training_windows_come_from_anywhere_and_their_targets_are_one_place_on():
    tokens = np.arange(40)
    read, targets = language.cut(tokens, 5000, 6, rng)
    assert np.array_equal(read[:, 1:], targets[:, :-1])
    assert np.array_equal(targets, read + 1)
    assert set(read[:, 0]) == set(range(34))  # the last window ends with the text


def test_an_epoch_is_as_many_batches_as_asked_and_belongs_to_its_seed(plays):
    train, validation, test = TASK.loaders(options())
    assert len(train) == 5
    assert [a.shape for a in next(iter(train))] == [(4, 8), (4, 8)]
    a, b, rest = list(train.epoch(3)), list(train.epoch(3)), list(train.epoch(3, start=2))
    assert all(np.array_equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True))
    assert all(np.array_equal(x, y) for p, q in zip(a[2:], rest, strict=True) for x, y in zip(p, q, strict=True))
    assert not np.array_equal(a[0][0], a[1][0])
    for loader, part in ((validation, plays.validation), (test, plays.test)):
        assert sum(TASK.size(*batch) for batch in loader) == len(part) - 1


# --- figures


@pytest.mark.parametrize("tokenizer", ["char", "bpe:280"])
def test_figures_are_those_of_the_whole_text(plays, tokenizer):
    given = options(data_options={"tokenizer": tokenizer})
    mr.manual_seed(1)
    model = TASK.model(given).to(np.float64)
    for p in model.parameters():
        mr.nn.init.normal_(p, 0.0, 0.4)
    _, validation, _ = TASK.loaders(given)
    found = evaluate(model, validation, task=TASK)
    made = TASK.corpus(given)
    tokens, nats, right = made.validation, 0.0, 0
    with mr.no_grad():
        for begun in range(0, len(tokens) - 1, 8):
            window = tokens[begun : begun + 9]
            logits = model(window[None, :-1])[0]
            nats += F.cross_entropy(logits, window[1:], reduction="sum").item()
            right += int((logits.data.argmax(-1) == window[1:]).sum())
    characters = len(plays.validation) - len(made.tokenizer.decode(tokens[:1]))
    assert math.isclose(found["loss"], nats / (len(tokens) - 1), rel_tol=1e-9)
    assert math.isclose(found["acc"], right / (len(tokens) - 1), rel_tol=1e-12)
    assert math.isclose(found["bits"], nats / characters / math.log(2), rel_tol=1e-9)
    if tokenizer == "char":
        assert "char_loss" not in found
    else:
        assert math.isclose(found["char_loss"], nats / characters, rel_tol=1e-9)


def test_the_training_loss_waits_for_nothing_and_counts_what_it_got_right(library):
    mr.manual_seed(1)
    model = models.create("gpt_char", **TINY, vocab_size=9).to(library.device)
    tokens, targets = (library.asarray(rng.integers(0, 9, (3, 8))) for _ in range(2))
    with without_waiting(library):
        loss, (correct,) = TASK.loss(model, tokens, targets)
        loss.backward()
    predicted = library.to_host(model(tokens).data).argmax(-1)
    assert int(library.to_host(correct)) == int((predicted == library.to_host(targets)).sum())


# --- a run


@pytest.mark.parametrize("tokenizer", ["char", "bpe:270"])
def test_a_run_learns_keeps_its_vocabulary_and_writes(plays, tmp_path, monkeypatch, capsys, tokenizer):
    given = options(tmp_path / "run", lr=1e-2, epochs=3, data_options={"steps": 20, "tokenizer": tokenizer})
    trainer = loop.start(given, quiet=True)
    summary = trainer.fit()
    records = [json.loads(line) for line in (tmp_path / "run" / report.METRICS).read_text().splitlines()]
    assert records[-1]["val_loss"] < records[0]["val_loss"] < math.log(270)
    assert summary["best_val_loss"] == min(record["val_loss"] for record in records)
    assert {"test_loss", "test_acc", "test_bits"} <= summary.keys()
    assert records[0]["tokens_per_second"] > 0
    assert [file for file, _ in trainer.made] == ["sample.txt", "tokenizer.json"]
    assert len((tmp_path / "run" / "sample.txt").read_text(encoding="utf-8")) > 100

    language._corpus.cache_clear()
    monkeypatch.setattr(text, "load_shakespeare", lambda root: pytest.fail("generate needs no data set"))
    capsys.readouterr()
    generate.run(tmp_path / "run", "The rest", 30, seed=4)
    first = capsys.readouterr()
    generate.run(tmp_path / "run", "The rest", 30, seed=4)
    assert capsys.readouterr() == first
    assert first.out.startswith("The rest")
    assert len(first.out) >= len("The rest") + 30
    assert "by the 8 before it" in first.err
    generate.run(tmp_path / "run", "The", 2, greedy=True)
    assert capsys.readouterr().err == ""


def test_decay_leaves_biases_and_gains_alone(plays, tmp_path):
    trainer = loop.start(options(tmp_path / "run"), quiet=True)
    groups = trainer.parts.optimizer.state_dict()["groups"]
    assert sorted(group["weight_decay"] for group in groups) == [0.0, 0.1]


# --- what is refused


def test_what_cannot_be_trained_is_refused(plays):
    for given, why in (
        ({"model": "resnet8", "model_options": {}}, "resnet8 does not write text: .* try gpt_char"),
        ({"model_options": {**TINY, "vocab_size": 99}}, "vocab_size=99, but the tokenizer has"),
        ({"data_options": {"tokenizer": "words"}}, "unknown tokenizer 'words'"),
        ({"data_options": {"steps": 0}}, "--data-option steps is 0"),
        ({"model_options": {**TINY, "context": 600}}, "the validation text has 400 tokens, too few"),
    ):
        with pytest.raises(RequestError, match=why):
            TASK.build(options(**given))


def test_what_cannot_be_generated_is_refused(plays, tmp_path):
    run = tmp_path / "run"
    loop.start(options(run), quiet=True)
    with pytest.raises(RequestError, match="best holds no checkpoint yet"):
        generate.run(run)
    generate.run(run, tokens=1, which="last", show=lambda piece: None)
    for given, why in (
        ({"prompt": "2 b?"}, "the vocabulary has no '2', '\\?'; it has"),
        ({"prompt": ""}, "a prompt of at least one token"),
        ({"tokens": -5}, "-5 tokens cannot be made"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"seed": -1}, "--seed is -1"),
        ({"which": "worst"}, "there are best and last"),
    ):
        with pytest.raises(RequestError, match=why):
            generate.run(run, **{"which": "last", **given}, show=lambda piece: None)
    with pytest.raises(RequestError, match="is not a run directory"):
        generate.run(tmp_path / "elsewhere")
    (run / "tokenizer.json").unlink()
    with pytest.raises(RequestError, match="is not a run that trained a language model"):
        generate.run(run)


def test_the_task_is_found_by_its_name():
    assert tasks.find("shakespeare") is TASK
    usual = config.create(data="shakespeare")
    assert (usual.model, usual.optimizer) == ("gpt_char", "adamw")
