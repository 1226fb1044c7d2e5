"""`minires check`: what it prints, its JSON, its exit codes, and one line for every bad request."""

import json

import pytest

from minires.check.bug import bugs, substituted
from minires.cli import main
from minires.ops.residual import PadChannels, ResidualAdd


def run(capsys, *arguments):
    code = main(["check", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def refused(capsys, *arguments):
    """The one line on stderr of a request that was wrong."""
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert error.startswith("minires: ")
    assert error.count("\n") == 1, error
    return error


class Dropped(ResidualAdd):
    """The +1 is gone."""

    def backward(self, gy):
        return self.xp.zeros_like(gy), gy


def test_the_table_has_a_line_an_op_and_ends_with_the_verdict(capsys):
    code, shown, _ = run(capsys, "residual_add", "pad_channels")
    assert code == 0
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["residual_add", "pad_channels"]
    assert lines[2].split()[1:3] == ["x", "f"]
    assert lines[-1].startswith("2 ops proved; the least agreement is 1")


def test_a_wrong_gradient_is_told_with_its_place_and_the_exit_code_is_1(capsys):
    with substituted(ResidualAdd, Dropped):
        code, shown, _ = run(capsys, "residual_add")
    assert code == 1
    assert "WRONG complex-step: residual_add(" in shown
    assert "backward gave 0" in shown
    assert "1 of 1 ops are not proved: residual_add" in shown


def test_json_is_one_object_of_the_promised_form(capsys):
    code, shown, _ = run(capsys, "residual_add", "--json")
    assert code == 0
    found = json.loads(shown)
    (op,) = found["ops"]
    assert op["op"] == "residual_add"
    assert op["inputs"] == ["x", "f"]
    assert op["passed"] is True
    assert "both_gradients_of_residual_add_are_gy_bit_for_bit" in op["laws"]
    assert len(op["oracles"]) >= 3
    assert all(set(o) == {"name", "max_rel_error"} and o["max_rel_error"] <= 1e-9 for o in op["oracles"])
    assert op["bugs"]["planted"] == op["bugs"]["noticed"] == len(bugs(ResidualAdd))


def test_json_of_a_wrong_gradient_says_so(capsys):
    with substituted(ResidualAdd, Dropped):
        code, shown, _ = run(capsys, "residual_add", "--json")
    (op,) = json.loads(shown)["ops"]
    assert (code, op["passed"]) == (1, False)
    assert any("complex-step" in failure for failure in op["failures"])


def test_one_oracle_can_be_asked_alone(capsys):
    code, shown, _ = run(capsys, "pad_channels", "--oracle", "adjoint", "--oracle", "central", "--json")
    assert code == 0
    (op,) = json.loads(shown)["ops"]
    assert [o["name"] for o in op["oracles"]] == ["adjoint", "central"]
    assert op["laws"] == []


def test_an_op_answers_to_its_public_name_its_class_its_sign_and_its_layer(capsys):
    for name, op in {"conv2d": "conv2d", "Conv2d": "conv2d", "+": "add", "BatchNorm2d": "batch_norm"}.items():
        _, shown, _ = run(capsys, name, "--oracle", "adjoint", "--json", "--examples", 2)
        assert op in [entry["op"] for entry in json.loads(shown)["ops"]]


def test_mutants_are_counted_in_the_table(capsys):
    code, shown, _ = run(capsys, "pad_channels", "--mutants")
    assert code == 0
    noticed, planted = shown.splitlines()[2].split()[-1].split("/")
    assert noticed == planted
    assert int(planted) >= 10


def test_the_zoo_is_shown_with_symptom_and_killer(capsys):
    code, shown, _ = run(capsys, "residual_add", "--zoo")
    assert code == 0
    assert "skip_dropped (ResidualAdd)" in shown
    assert "symptom: " in shown
    assert "noticed by: both_gradients_of_residual_add_are_gy_bit_for_bit" in shown


def test_the_score_is_kept_whole_or_not_at_all(capsys, tmp_path, monkeypatch):
    from minires.check import command
    from minires.check.case import subject_of

    some = [subject_of(PadChannels)]
    monkeypatch.setattr(command, "subjects", lambda: some)
    monkeypatch.setattr(command, "bugs", lambda op=None: bugs(ResidualAdd) if op is None else [])
    monkeypatch.setattr(command, "judged", lambda of, **options: judged({"pad_channels"}, workers=1))
    from minires.check.mutation.judge import judged

    page = tmp_path / "score.md"
    assert run(capsys, "--mutants", "--table", page)[0] == 0
    text = page.read_text()
    assert "| `residual.PadChannels.backward` |" in text
    assert "Survived: 0. Score: 100.00 %" in text
    assert "| skip_dropped | ResidualAdd |" in text
    assert [p.name for p in tmp_path.iterdir()] == ["score.md"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["convolution3d"], "no op"),
        (["residual_ad"], "did you mean residual_add"),
        (["--oracle", "gut"], "no oracle is called 'gut'; there are complex-step, adjoint"),
        (["--examples", "0"], "--examples"),
        (["--examples", "many"], "--examples"),
        (["--sample", "9"], "needs --mutants"),
        (["--mutants", "--oracle", "adjoint"], "takes no --oracle"),
        (["residual_add", "--mutants", "--table", "score.md"], "neither --sample nor an OP"),
        (["--table", "score.md"], "needs --mutants"),
    ],
)
def test_a_bad_request_gets_one_line(capsys, arguments, said):
    assert said in refused(capsys, *arguments)


def test_torch_as_oracle_says_what_to_install(capsys, monkeypatch):
    from minires.check import command

    monkeypatch.setattr(command, "has_torch", lambda: False)
    assert "pip install 'minires[torch]'" in refused(capsys, "residual_add", "--oracle", "torch")


def test_a_table_in_a_folder_that_is_not_there_is_refused_before_the_work(capsys, tmp_path):
    assert "folder" in refused(capsys, "--mutants", "--table", tmp_path / "nowhere" / "score.md")
