"""The page and the text: self-contained, well-formed, with the tape's numbers, readable without color."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from minires import explain
from minires.explain import page as page_module
from minires.explain.printing import nested, norm, number
from minires.explain.terminal import colored, meeting

VOID = {"meta", "br", "rect", "path", "circle", "input", "link"}


class Tags(HTMLParser):
    """Fails on a tag that is closed out of turn, and keeps attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.words, self.headings = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            assert not (tag in ("p", "details", "div", "ol") and "p" in self.open), f"{tag} inside p"
            self.open.append(tag)
        self.attributes += [(tag, k, v) for k, v in attrs]

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, k, v) for k, v in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


@pytest.mark.parametrize("name", ["block", "preact", "postnorm"])
def test_the_page_is_well_formed_and_asks_nobody_for_anything(name):
    html = explain.block(name).page()
    tags = Tags(html)
    assert not [v for tag, k, v in tags.attributes if k in ("src", "href", "action", "data") and tag != "a"]
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|fetch\(|import ", html)
    assert ("html", "lang", "en") in tags.attributes
    ids = [v for _, k, v in tags.attributes if k == "id"]
    assert len(ids) == len(set(ids))


def test_the_fragment_for_a_notebook_has_no_script_and_no_ids():
    html = explain.block()._repr_html_()
    tags = Tags(html)
    assert "<script" not in html
    assert not [v for _, k, v in tags.attributes if k == "id"]
    assert "hidden" not in html.replace("overflow: hidden", "").partition("</style>")[2]


def test_every_gradient_that_text_and_page_show_is_the_tapes():
    walk = explain.block("bottleneck", 5)
    text, words = " ".join(str(walk).split()), " ".join("".join(Tags(walk.page()).words).split())
    for step in walk.steps:
        for term in step.terms:
            size = f"|g| {number(norm(term.gradient))}"
            assert size in text
            assert size in words
    for name in walk.leaves:
        assert f"|g| {number(norm(walk.gradient(name)))}" in text
    printed = re.findall(r"\|g\| (\S+)", text)
    arrays = [t.gradient for s in walk.steps for t in s.terms] + list(walk.totals.values())
    assert {p.rstrip(",;") for p in printed} <= {number(norm(a)) for a in arrays}


def test_gradients_meet_in_words():
    walk = explain.expression("x + tanh(w * x)", {"x": 0.5, "w": 2.0})
    slope = 2 * (1 - np.tanh(1.0) ** 2)
    assert meeting("x", walk.into("x")) == (
        f"x now has 2 contributions: skip 1 + branch {number(slope)} = {number(1 + slope)}"
    )
    assert f"x  {nested(np.array(1 + slope))}   from skip 1 (step 3), branch {number(slope)} (step 1)" in str(walk)
    three = explain.expression("x * x * x", {"x": 2.0})
    assert "x now has 3 contributions: step 2 4 + step 1 4 + step 1 4 = 12" in " ".join(str(three).split())


def test_the_formulas_stand_in_the_text_with_their_numbers():
    text = str(explain.expression("x + tanh(w * x)", {"x": 0.5, "w": 2.0}))
    assert "gv1 = (1 - v2^2) gv2 = (1 - 0.7616^2) * 1 = 0.42   -> v1, by the branch" in text
    assert "gx = w gv1 = 2 * 0.42 = 0.8399   -> x, by the branch" in text


def test_color_only_repeats_what_the_words_say():
    plain = str(explain.block())
    assert "\033" not in plain
    assert re.sub(r"\033\[[\d;]*m", "", colored(plain)) == plain
    assert "\033[38;5;33mskip" in colored(plain)


def test_lines_are_short_for_long_names_and_large_numbers():
    names = {f"a_name_of_{'many_' * 8}letters": 1e300, "x": [[1e-300] * 12]}
    text = str(explain.expression(" * ".join(names), names))
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_the_length_printed_is_the_euclidean_one_at_any_scale(scale):
    g = np.random.default_rng(4).standard_normal((3, 4))
    assert norm(scale * g) == pytest.approx(scale * np.linalg.norm(g), rel=1e-12)
    assert norm(np.zeros((2, 0))) == 0


def test_names_cannot_smuggle_markup_into_the_page():
    from minires.engine import Tensor

    x = Tensor(np.array(2.0), requires_grad=True)
    html = explain.backward(x * x, names={"<b>x&": x}, title="<script>").page()
    assert "<b>x&" not in html
    assert "<script>\n" in html
    assert "<title>&lt;script&gt;" in html


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_stepper_is_a_script_that_node_can_read():
    script = Path(page_module.__file__).with_name("page.js")
    assert subprocess.run(["node", "--check", script], capture_output=True, check=False).returncode == 0
