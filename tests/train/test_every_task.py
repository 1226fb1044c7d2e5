"""Every task by the same laws: a stop changes nothing, eval knows a run again, a wrong request is one line."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from minires import backend
from minires.cli import main
from minires.data import blobs, sequences, sums, text
from minires.errors import RequestError
from minires.train import config, loop, report, tasks
from minires.train.interrupt import Stopped
from minires.train.tasks import gridworld, language, segmentation
from tests.runs import assert_same_run, measured, refused, stop_after

ATTENTION = {"width": 8, "heads": 2}
# Each task at its smallest, with dropout, drawn moves or augmentation where it has them: all that has a state
SMALL = {
    "digits": {"model": "mlp", "model_options": {"hidden": [8]}, "batch_size": 300, "augment": True},
    "blobs": {"model_options": {"width": 2, "levels": 2}, "data_options": {"crop": 16}, "batch_size": 6},
    "shakespeare": {
        "model_options": {**ATTENTION, "layers": 1, "context": 8, "dropout": 0.1},
        "data_options": {"steps": 3},
        "batch_size": 4,
    },
    "tones": {
        "model_options": {**ATTENTION, "layers": 1, "mels": 10},
        "data_options": {"sequences": 40},
        "batch_size": 12,
    },
    "gridworld": {
        "model_options": {"width": 8, "blocks": 1, "hidden": 8},
        "data_options": {"size": 2, "walls": 0.0},
        "batch_size": 20,
    },
    "copy": {
        "model_options": {**ATTENTION, "feedforward": 12, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.1},
        "batch_size": 20,
    },
    "masked": {"model_options": {**ATTENTION, "feedforward": 12, "layers": 1, "dropout": 0.1}, "batch_size": 20},
}


@pytest.fixture(scope="module", autouse=True)
def _few():
    """So few data that a run takes a moment, and no figures, which take longer."""
    some = {"train": 64, "validation": 20, "test": 20}
    images = blobs.load_blobs(30, 16)
    plays = "To be, or not to be.\nThe rest is silence.\n" * 40
    splits = text.TextSplits(plays[:1200], plays[1200:1400], plays[1400:])
    with pytest.MonkeyPatch.context() as patch:
        for made in (sequences, sums):
            patch.setattr(made, "SIZES", some)
        patch.setattr(gridworld, "WORLDS", some)
        patch.setitem(segmentation.READERS, "blobs", lambda folder: images)
        patch.setattr(text, "load_shakespeare", lambda root: splits)
        patch.setattr("minires.train.figures.available", lambda: False)
        for cached in (segmentation._load, language._corpus):
            cached.cache_clear()
        yield
        for cached in (segmentation._load, language._corpus):
            cached.cache_clear()


def started(name, out, **changes):
    return loop.start(config.create(data=name, **{**SMALL[name], "epochs": 2, **changes}, out=str(out)), quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """finished(name): the directory of a run of this task that nobody interrupted; made once."""
    folder = tmp_path_factory.mktemp("runs")

    def of(name):
        if not (folder / name).exists():
            started(name, folder / name).fit()
        return folder / name

    return of


def test_every_task_has_a_row():
    assert {type(tasks.find(name)) for name in tasks.names()} == {type(tasks.find(name)) for name in SMALL}


# --- determinism


@pytest.mark.parametrize("name", SMALL)
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(name, finished, tmp_path):
    """Stopped in the middle of the second epoch, and once more right after; and every seed is a run of its own."""
    trainer = started(name, tmp_path / "run")
    batches = len(trainer.parts.train)
    assert batches >= 3
    for steps in (batches + 1, 1):
        stop_after(trainer, steps)
        with pytest.raises(Stopped):
            trainer.fit()
        backend.manual_seed(99)  # a new process starts from another generator
        trainer = loop.resume(tmp_path / "run", quiet=True)
    assert (trainer.position.epoch, trainer.position.batch) == (1, 2)
    trainer.fit()
    assert_same_run(finished(name), tmp_path / "run")
    started(name, tmp_path / "other", seed=1, epochs=1).fit()
    assert measured(finished(name))[0] != measured(tmp_path / "other")[0]


@pytest.mark.parametrize("name", SMALL)
def test_the_files_of_a_run_keep_their_contract(name, finished):
    task = tasks.find(name)
    records = [json.loads(line) for line in (finished(name) / report.METRICS).read_text().splitlines()]
    summary = json.loads((finished(name) / report.SUMMARY).read_text())
    assert [r["epoch"] for r in records] == [1, 2]
    for record in records:
        assert {"train_loss", "train_acc", "val_loss", "val_acc", "lr", "seconds"} <= record.keys()
        assert record[f"{task.unit}_per_second"] > 0
        assert all(np.isfinite(value) for value in record.values())
    judged = {key.removeprefix("val_") for key in records[0] if key.startswith("val_")}
    assert {key.removeprefix("test_") for key in summary if key.startswith("test_")} == judged
    assert set(task.words) - {"char_loss"} <= judged  # which a vocabulary of characters does not need
    assert {"parameters", "seconds", "best_epoch", f"best_val_{task.best}"} <= summary.keys()


# --- eval and export


@pytest.mark.parametrize("name", SMALL)
def test_eval_gives_the_figures_of_the_runs_end_for_the_run_and_for_its_exported_weights(
    name, finished, tmp_path, capsys
):
    run = finished(name)
    summary = json.loads((run / report.SUMMARY).read_text())
    assert main(["eval", str(run)]) == 0
    shown = capsys.readouterr().out
    task = tasks.find(name)
    best = f"test {task.words.get(task.best, task.best)} {summary[f'test_{task.best}']:.4f}, "
    assert shown.startswith(best) or name == "digits"  # whose line is older
    for key in ("test_loss", "test_acc"):
        assert f" {summary[key]:.4f}" in shown, (key, shown)
    assert main(["export", str(run), "--to", str(tmp_path / "w.safetensors")]) == 0
    for weights in (tmp_path / "w.safetensors", run / "best" / "model.safetensors"):
        capsys.readouterr()
        assert main(["eval", str(weights)]) == 0
        assert capsys.readouterr().out == shown
    assert main(["train", "--resume", str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"{run} is finished: test ")


def test_a_run_on_one_rule_can_be_judged_by_another(finished, capsys):
    assert main(["eval", str(finished("copy")), "--data", "reverse"]) == 0
    assert "(all test data of reverse, transformer_tiny)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("copy", ["--normalization", "imagenet"], "--normalization: copy has no use for it; drop it"),
        ("gridworld", ["--batch-size", "7"], "--batch-size: gridworld has no use for it; drop it"),
        ("tones", ["--data", "digits"], "conformer_tiny does not classify images, so it cannot learn digits"),
        ("digits", ["--data", "tones"], "mlp does not classify log-mel features"),
        ("masked", ["--option", "layers=2"], "is not of a bert_tiny for masked: "),
        ("masked", ["--checkpoint", "first"], "--checkpoint 'first' is unknown; there are best and last"),
    ],
)
def test_a_wrong_evaluation_is_one_line(name, arguments, said, finished, capsys):
    assert said in refused(["eval", finished(name), *arguments], capsys)


@pytest.mark.parametrize("name", ["shakespeare", "copy", "masked", "tones"])
def test_onnx_of_what_is_not_a_model_of_images_is_refused_and_leaves_nothing(name, finished, tmp_path, capsys):
    said = refused(["export", finished(name), "--to", tmp_path / "new" / "m.onnx"], capsys)
    assert f"of {name} takes none; end --to in another suffix, such as .safetensors" in said
    assert not (tmp_path / "new").exists()


def test_generate_says_of_which_run_weights_are_not(finished, tmp_path, capsys):
    run = tmp_path / "run"
    started("shakespeare", run)
    about = json.loads((run / report.CONFIG).read_text())
    about["model_options"]["layers"] = 2
    (run / report.CONFIG).write_text(json.dumps(about))
    said = refused(["generate", run, "--checkpoint", "last"], capsys)
    assert "model.safetensors is not of the gpt_char that" in said


# --- what does not go together


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--data shakespeare --model resnet8", "resnet8 does not write text"),
        ("--data shakespeare --model transformer_tiny", "transformer_tiny does not write text"),
        ("--data shakespeare --model bert_tiny", "bert_tiny sees the tokens that it should foretell"),
        ("--data shakespeare --model bert_tiny --option head=none", "it does not score each token that may follow"),
        ("--data shakespeare --option context=0", "context is 0, but"),
        ("--data digits --model gpt_char", "gpt_char does not classify images, so it cannot learn digits"),
        ("--data digits --model policy_value_tower", "policy_value_tower does not classify images"),
        ("--data blobs --model gpt_char", "gpt_char takes no images, so it cannot learn blobs; use --model unet"),
        ("--data copy --model gpt_char", "gpt_char does not translate, so it cannot learn copy"),
        ("--data copy --option vocab_size=many", "vocab_size is 'many', but must be like"),
        ("--data masked --model gpt_char", "gpt_char does not guess hidden tokens"),
        ("--data masked --option vocab_size=many", "vocab_size is 'many', but must be like"),
        ("--data tones --model bert_tiny", "bert_tiny does not classify log-mel features"),
        ("--data tones --data-option sequences=[40]", "--data-option sequences is [40], but must be a whole number"),
        ("--data gridworld --model gpt_char", "gpt_char does not play; for gridworld, use --model policy_value_tower"),
        ("--data gridworld --data-option walls=many", "grid world: walls 'many'"),
        ("--data masked --augment", "--augment: masked has no use for it; drop it"),
        ("--data shakespeare --val-fraction 0.2", "--val-fraction: shakespeare has no use for it; drop it"),
        ("--data gridworld --label-smoothing 0.1", "--label-smoothing: gridworld has no use for it; drop it"),
        ("--data copy --recipe fast", "--recipe fast is made for mnist and cifar10, not for copy"),
        ("--data digits --data-option steps=3", "--data-option steps: digits has no such option; it has none"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_leaves_nothing(arguments, said, tmp_path, capsys):
    assert said in refused(["train", *arguments.split(), "--out", tmp_path / "run"], capsys)
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize("name", [name for name in SMALL if name != "shakespeare"])
def test_a_batch_larger_than_the_data_is_all_of_them(name):
    """But for text, whose batches are drawn anew, as large as one likes."""
    options = config.create(data=name, **{**SMALL[name], "batch_size": 10_000})
    _, train, _, _ = tasks.find(name).build(options)
    ((rows, *_),) = train.epoch(0)
    assert 20 <= len(rows) < 10_000


@pytest.mark.parametrize("name", ["tones", "copy"])
def test_every_epoch_has_the_same_rows_in_an_order_of_its_own(name):
    _, train, _, _ = tasks.find(name).build(config.create(data=name, **{**SMALL[name], "batch_size": 10_000}))
    first, again, other = ([row.tobytes() for row in next(train.epoch(seed))[0]] for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other)


@pytest.mark.parametrize(("name", "array"), [("digits", 0), ("blobs", 0), ("tones", 0), ("copy", -1)])
def test_training_validation_and_test_share_nothing(name, array):
    """Of the others, see tests/data: the text is cut by position, a board is of its seed, a sum occurs once."""
    plain = {"augment": False} if "augment" in tasks.find(name).uses else {}
    loaders = tasks.find(name).build(config.create(data=name, **{**SMALL[name], **plain}))[1:]
    held = [{row.tobytes() for batch in loader for row in batch[array]} for loader in loaders]
    assert all(held)
    assert not any(a & b for a, b in itertools.combinations(held, 2))


def test_an_unknown_task_is_one_line():
    with pytest.raises(RequestError, match="--data 'chess' is unknown; there are digits, "):
        tasks.find("chess")
