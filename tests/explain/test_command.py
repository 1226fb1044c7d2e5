"""`minires explain`: prints, writes, opens; what is wrong gets one line and exit code 2."""

import webbrowser

import pytest

from minires.cli import main


def test_without_a_subject_it_explains_a_residual_block(capsys):
    assert main(["explain"]) == 0
    assert "y = x + W2 tanh(W1 x)" in capsys.readouterr().out


@pytest.mark.parametrize("subject", ["conv2d", "+", "@", "LayerNorm", "BatchNorm2d", "attention", "softmax", "preact"])
def test_ops_go_by_any_of_their_names(subject, capsys):
    assert main(["explain", subject]) == 0
    assert "Backward, from gy" in capsys.readouterr().out


def test_an_expression_with_its_numbers(capsys):
    assert main(["explain", "x + tanh(w * x)", "--at", "x=0.5", "w=2"]) == 0
    assert "skip 1 + branch 0.8399 = 1.84" in capsys.readouterr().out


def test_page_and_graph_are_written_whole(tmp_path, capsys):
    html, svg = tmp_path / "walk.html", tmp_path / "walk.svg"
    assert main(["explain", "x*x", "--html", str(html), "--svg", str(svg)]) == 0
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["walk.html", "walk.svg"]
    assert f"wrote {html}" in capsys.readouterr().out


def test_the_page_is_opened_in_the_browser(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    assert main(["explain", "tanh", "--open"]) == 0
    assert opened[0].startswith("file:///")
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    assert main(["explain", "tanh", "--open"]) == 0
    assert "open it yourself" in capsys.readouterr().out


def test_the_skips_page_is_the_interactive_figure(tmp_path):
    figure = pytest.importorskip("minires.explain.figure")
    html = tmp_path / "skip.html"
    assert main(["explain", "skip", "--html", str(html)]) == 0
    assert html.read_text(encoding="utf-8") == figure.page()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["con2d"], "did you mean"),
        (["x +* 2"], "is no expression"),
        (["tan(x)"], "did you mean tanh"),
        (["x.y + 1"], "attribute"),
        (["x + w", "--at", "x="], "no value"),
        (["x + w", "--at", "z=3"], "has no z"),
        (["x / w", "--at", "x=1", "w=0"], "not finite"),
        (["conv2d", "--at", "x=1"], "--at is for"),
        (["block", "--seed", "-3"], "seed"),
        (["x*x", "--html", "no/such/folder/a.html"], "cannot write"),
        (["x*x", "--svg", "/"], "cannot write"),
    ],
)
def test_what_is_wrong_gets_one_line_and_exit_code_2(arguments, what, capsys):
    assert main(["explain", *arguments]) == 2
    err = capsys.readouterr().err
    assert what in err
    assert err.count("\n") == 1
