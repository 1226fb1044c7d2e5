"""`minires explain`: prints, writes, opens; what is wrong gets one line and exit code 2."""

import re
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


def test_an_op_that_serves_another_function_says_so(capsys):
    assert main(["explain", "bmm"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(", the op behind bmm")
    assert main(["explain", "LayerNorm"]) == 0
    assert "behind" not in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("subject", ["block", "conv2d", "preact", "x + tanh(w * x)"])
def test_text_fits_a_narrow_terminal_and_loses_no_word(subject, capsys, monkeypatch):
    main(["explain", subject])
    plain = capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    for columns in ("200", "80", "48"):
        monkeypatch.setenv("COLUMNS", columns)
        main(["explain", subject])
        narrow = capsys.readouterr().out
        assert max(map(len, narrow.splitlines())) <= int(columns)
        assert narrow.split() == plain.split()
        if columns != "48":  # who receives it stays in one line
            assert not re.search(r"by the$|->$", narrow, re.MULTILINE)
    monkeypatch.delenv("NO_COLOR")
    main(["explain", subject])
    assert "\033[1mForward" in capsys.readouterr().out


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
        (["x*x", "--svg", "no/such/folder/a.svg"], "make it first"),
        (["   "], "the expression is empty"),
        (["x ^ 2"], "a power is x**2"),
        (["9**9**9 * x"], "cannot be computed: Numerical result out of range"),
        (["\udcce * x"], "characters that cannot be read"),
        (["x + " * 400 + "x"], "shorten it"),
        (["0" + " + -x" * 990 + " ^ x"], "shorten it"),
        (["x + " * 3000 + "x"], "shorten it"),
        (["0" + " + -x" * 100 + " ^ x"], "none of"),
        (["(" * 400 + "x" + ")" * 400], "too many nested"),
        (["argmax"], "gives integers"),
        (["cnov2d"], "conv2d or Conv2d? Or name a block: block, skip"),
    ],
)
def test_what_is_wrong_gets_one_line_and_exit_code_2(arguments, what, capsys):
    assert main(["explain", *arguments]) == 2
    err = capsys.readouterr().err
    assert what in err
    assert err.count("\n") == 1
    assert len(err) < 400
