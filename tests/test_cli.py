"""The command line: what it prints, where it writes, and one line with the right exit code for every bad request."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minires import __version__, data
from minires.cli import main
from minires.train import checkpoint

QUICK = ["--model", "mlp", "--option", "hidden=[16]", "--epochs", "1", "--batch-size", "256"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder, so that a default run directory lands there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["train", *QUICK, "--out", str(out)]) == 0
    return out


def refused(capsys, arguments, *said, code=2):
    """The command fails with `code` and one line on stderr that says all of `said`; returns the line."""
    assert main([str(a) for a in arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("minires: ")
    assert error.count("\n") == 1, error
    for words in said:
        assert words in error, error
    return error


# --- what works


def test_train_tells_what_it_made_and_what_to_do_next(capsys):
    assert main(["train", *QUICK]) == 0
    shown = capsys.readouterr().out
    run = Path("runs/digits-mlp-1")
    assert "epoch 1/1" in shown
    assert "test accuracy 0." in shown
    assert f"next: minires eval {run}" in shown
    assert json.loads((run / "config.json").read_text())["model_options"] == {"hidden": [16]}
    assert json.loads((run / "summary.json").read_text())["parameters"] == 64 * 16 + 16 + 16 * 10 + 10


def test_a_second_run_gets_a_directory_of_its_own(capsys):
    assert main(["train", *QUICK]) == 0
    assert main(["train", *QUICK]) == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["digits-mlp-1", "digits-mlp-2"]


def test_an_empty_directory_will_do(capsys):
    Path("empty").mkdir()
    assert main(["train", *QUICK, "--out", "empty"]) == 0


def test_without_matplotlib_the_run_is_complete_but_for_its_figures(capsys, monkeypatch):
    monkeypatch.setattr("minires.train.figures.available", lambda: False)
    assert main(["train", *QUICK, "--out", "run"]) == 0
    assert "pip install 'minires[plot]'" in capsys.readouterr().out
    assert not list(Path("run").glob("*.png"))
    assert Path("run/summary.json").exists()


def test_resuming_a_finished_run_says_so(capsys, finished):
    assert main(["train", "--resume", str(finished)]) == 0
    assert "is finished" in capsys.readouterr().out


def test_eval_of_a_run_gives_its_test_accuracy(capsys, finished):
    assert main(["eval", str(finished)]) == 0
    summary = json.loads((finished / "summary.json").read_text())
    shown = capsys.readouterr().out
    assert shown.startswith(f"accuracy {summary['test_acc']:.4f}  loss {summary['test_loss']:.4f}  (")
    assert "normalization: dataset" in shown


def test_eval_of_a_runs_weight_file_needs_no_names(capsys, finished):
    assert main(["eval", str(finished)]) == 0
    of_run = capsys.readouterr().out
    assert main(["eval", str(finished / "best" / "model.safetensors")]) == 0
    assert capsys.readouterr().out == of_run


def test_eval_takes_npz_and_a_normalization_by_numbers(capsys, finished):
    arrays, _ = checkpoint.read_weights(finished / "best" / "model.safetensors")
    np.savez("w.npz", **arrays)
    test = data.load("digits").test
    names = ["--data", "digits", "--model", "mlp", "--option", "hidden=[16]"]
    numbers = ["--mean", *map(repr, map(float, test.mean)), "--std", *map(repr, map(float, test.std))]
    assert main(["eval", str(finished)]) == 0
    of_run = capsys.readouterr().out.splitlines()
    assert main(["eval", "w.npz", *names, *numbers, "--batch-size", "100"]) == 0
    by_numbers = capsys.readouterr().out.splitlines()
    assert by_numbers[0] == of_run[0]
    assert by_numbers[1].startswith("normalization: as given")
    assert main(["eval", "w.npz", *names, "--mean", "5", "--std", "0.1"]) == 0
    assert capsys.readouterr().out.splitlines()[0] != of_run[0]


def test_models_lists_published_counts(capsys):
    assert main(["models"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "269,722" in rows["resnet20"]
    assert "269,722" in rows["plain20"]
    assert " 20 " in rows["resnet20"]


def test_where_shows_the_plus_one(capsys):
    assert main(["where", "+1"]) == 0
    assert "ResidualAdd.backward" in capsys.readouterr().out


def test_doctor_names_what_there_is_and_what_to_type(capsys, monkeypatch):
    monkeypatch.setenv("MINIRES_DATA", str(Path("nothing").absolute()))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for words in ("minires", "numpy", "BLAS", "gpu", "matplotlib", "MINIRES_DATA", "cifar10", "digits"):
        assert words in shown


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["eval", "--help"], ["where", "--help"]])
def test_help(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "minires" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"minires {__version__}\n"


# --- what is refused


def test_bad_values_are_refused(capsys):
    for option, value, said in (
        ("--model", "resnet9", "resnet8 or resnet14"),
        ("--data", "imagenet", "there are"),
        ("--optimizer", "lion", "sgd"),
        ("--schedule", "wavy", "cosine"),
        ("--epochs", "0", "at least 1"),
        ("--epochs", "-1", "at least 1"),
        ("--epochs", "ten", "--help"),
        ("--batch-size", "0", "at least 1"),
        ("--batch-size", "-8", "at least 1"),
        ("--lr", "0", "above 0"),
        ("--lr", "-0.1", "above 0"),
        ("--lr", "nan", "above 0"),
        ("--option", "width", "NAME=VALUE"),
        ("--option", "wdith=8", "width"),
        ("--option", "width=many", "resnet8"),
        ("--option", "width=0", "width"),
        ("--seed", "-1", "at least 0"),
        ("--momentum", "1", "below 1"),
        ("--val-fraction", "1", "between 0 and 1"),
        ("--device", "tpu", "'cpu' and 'cuda'"),
    ):
        refused(capsys, ["train", f"{option}={value}"], said)
    assert not Path("runs").exists()


def test_argparse_errors_are_one_line_with_a_hint(capsys):
    refused(capsys, [], "minires --help")
    refused(capsys, ["trian"], "trian", "minires --help")
    refused(capsys, ["train", "--epoch-count", "3"], "--epoch-count", "--help")


def test_an_output_directory_that_holds_something_is_refused(capsys, finished):
    refused(capsys, ["train", *QUICK, "--out", finished], "not empty", f"--resume {finished}")


def test_an_output_that_is_or_lies_under_a_file_is_refused(capsys):
    Path("file").write_text("")
    refused(capsys, ["train", *QUICK, "--out", "file"], "is a file")
    refused(capsys, ["train", *QUICK, "--out", "file/run"], "--out file/run cannot be written")


def test_an_output_that_may_not_be_written_is_refused(capsys, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    refused(capsys, ["train", *QUICK, "--out", "run"], "--out run cannot be written", "Permission denied")


def test_cuda_without_a_gpu_is_refused(capsys):
    try:
        from minires import backend

        backend.cupy()
    except ValueError:
        refused(capsys, ["train", "--device", "cuda"], "device 'cuda'", "--device cpu")
    else:
        pytest.skip("there is a GPU")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08half a file"])
def test_half_downloaded_data_are_refused_by_name(capsys, monkeypatch, content):
    folder = Path("data/mnist")
    folder.mkdir(parents=True)
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        (folder / f"{name}.gz").write_bytes(content)
    monkeypatch.setenv("MINIRES_DATA", str(Path("data").absolute()))
    monkeypatch.setattr("socket.socket.connect", lambda *a: (_ for _ in ()).throw(OSError("no network")))
    refused(capsys, ["train", "--data", "mnist"], "train-images")
    assert not Path("runs").exists()


def test_resume_of_what_is_no_run_is_refused(capsys):
    refused(capsys, ["train", "--resume", "nowhere"], "no such directory")
    Path("empty").mkdir()
    refused(capsys, ["train", "--resume", "empty"], "not a run directory")


def test_resume_keeps_the_runs_options(capsys, finished):
    refused(capsys, ["train", "--resume", finished, "--lr", "1"], "--lr cannot be changed")
    refused(capsys, ["train", "--resume", finished, "--batch-size", "1"], "--batch-size cannot be changed")


def test_a_checkpoint_of_another_model_is_refused(capsys, finished):
    weights = finished / "best" / "model.safetensors"
    line = refused(capsys, ["eval", weights, "--model", "resnet8"], "is not of a resnet8")
    assert "missing" in line
    refused(capsys, ["eval", weights, "--option", "hidden=[8]"], "is not of a mlp", "shape")


def test_a_damaged_or_missing_weight_file_is_refused(capsys, finished):
    names = ["--data", "digits", "--model", "mlp"]
    Path("half.safetensors").write_bytes((finished / "best" / "model.safetensors").read_bytes()[:900])
    refused(capsys, ["eval", "half.safetensors", *names], "half.safetensors cannot be read")
    refused(capsys, ["eval", "none.safetensors", *names], "none.safetensors does not exist")
    Path("notes.txt").write_text("not weights")
    refused(capsys, ["eval", "notes.txt", *names], "notes.txt is not a weight file")


def test_weights_that_do_not_say_what_they_are_need_names(capsys):
    np.savez("w.npz", w=np.ones(3))
    refused(capsys, ["eval", "w.npz", "--model", "mlp"], "--data NAME")
    refused(capsys, ["eval", "w.npz", "--data", "digits"], "--model NAME")


def test_bad_evaluations_are_refused(capsys, finished):
    refused(capsys, ["eval", finished, "--batch-size", "0"], "--batch-size is 0")
    refused(capsys, ["eval", finished, "--data", "imagenet"], "--data 'imagenet' is unknown")
    refused(capsys, ["eval", finished, "--model", "resnet9"], "resnet8")
    refused(capsys, ["eval", finished, "--normalization", "none"], "imagenet and dataset")
    refused(capsys, ["eval", finished, "--normalization", "imagenet"], "3 channels")
    refused(capsys, ["eval", finished, "--mean", "0.5"], "--std")
    refused(capsys, ["eval", finished, "--mean", "0.5", "0.5", "--std", "1", "1"], "1 number")
    refused(capsys, ["eval", finished, "--mean", "0.5", "--std", "0"], "above 0")
    refused(capsys, ["eval", finished, "--checkpoint", "first"], "best and last")


def test_an_unknown_op_is_refused_with_the_nearest(capsys):
    refused(capsys, ["where", "convv2d"], "conv2d")


def test_a_run_that_diverges_exits_with_1_and_one_line(capsys):
    arguments = ["train", *QUICK, "--epochs", "3", "--lr", "1e30", "--schedule", "none", "--out", "run"]
    refused(capsys, arguments, "diverged", "epoch 1", "lower --lr", code=1)
    assert checkpoint.load(Path("run/last")).state["position"]["epoch"] == 0


# --- Ctrl-C


def start(*arguments):
    command = [sys.executable, "-m", "minires.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process on Windows")
def test_ctrl_c_stops_cleanly_and_the_rest_is_as_if_it_had_not():
    options = ["--model", "resnet8", "--option", "width=4", "--epochs", "4", "--batch-size", "64"]
    process = start("train", *options, "--out", "stopped")
    assert process.stdout.readline()  # the headline
    assert process.stdout.readline().startswith("epoch 1/4")
    process.send_signal(signal.SIGINT)
    shown, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error == ""
    assert "go on with: minires train --resume stopped" in shown
    position = checkpoint.load(Path("stopped/last")).state["position"]
    assert position["epoch"] >= 1
    assert not Path("stopped/summary.json").exists()

    assert main(["train", "--resume", "stopped"]) == 0
    assert main(["train", *options, "--out", "whole"]) == 0
    for name in ("last", "best"):
        a, b = (checkpoint.load(Path(run) / name).model for run in ("stopped", "whole"))
        assert all(a[key].tobytes() == b[key].tobytes() for key in b)


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = ["matplotlib", "torch", "cupy", "scipy", "pooch", "tqdm", "minires.nn", "minires.data", "minires.train"]
    code = f"import sys, minires.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_subcommand_has_a_handler_and_a_page_of_help(capsys):
    from minires import cli
    from minires.arguments import parser

    commands = next(action for action in parser()._actions if action.choices and action.dest == "command").choices
    assert {"train", "eval", "generate", "export", "models", "check", "bench", "where", "doctor"} <= set(commands)
    for name, command in commands.items():
        assert callable(getattr(cli, command.get_default("handler"))), name
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
        assert f"minires {name}" in capsys.readouterr().out
