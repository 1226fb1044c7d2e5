"""`minires lab` on an experiment made for the purpose: what it prints and keeps, what it refuses, and its page."""

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from minires import lab
from minires.cli import main
from minires.errors import RequestError
from minires.lab import command, experiment, outcome, page
from minires.lab.experiment import Experiment, Table, Verdict
from minires.train import figures
from tests.runs import refused

CLAIM = "Half of <all> coins & more show heads"


def measure(scale, seed, tick):
    for k in range(3):
        tick(f"coin {k}")
    return {"heads": [seed, 1, 0.25]}


def draw(results, figure):
    figure.set_size_inches(3, 2)
    figure.subplots().plot(results[0]["heads"])


COIN = Experiment(
    name="coin",
    title="Which side?",
    question="Which side does a coin fall on?",
    about="It is thrown.\n\nNothing else.",
    measure=measure,
    judge=lambda results: [
        Verdict(CLAIM, "Laplace 1812", f"{len(results)} seeds", True),
        Verdict("It never lands on its edge.", "Bernoulli 1713", "1 of 4 did", False),
        Verdict("It remembers.", "gamblers", "it does not", False, expected=False),
    ],
    tables=lambda results: [
        Table("Heads", ("coin", "a number", "a word"), [("first", 1234567.0, "x"), ("2", 0.5, "")])
    ],
    draw=draw,
    alt=lambda results: f"A line with {len(results)} ends & 3 points",
    ticks=lambda scale: 3,
    seeds={"smoke": 2, "full": 4},
    seconds={"smoke": 1, "full": 60},
)


@pytest.fixture(autouse=True)
def coin(monkeypatch, tmp_path):
    """The only experiment there is, and an empty folder to work in."""
    other = {"coin": COIN, "dice": Experiment(**{**vars(COIN), "name": "dice", "title": "How many?"})}
    monkeypatch.setattr(experiment, "experiments", lambda: other)
    monkeypatch.setattr(command, "experiments", lambda: other)
    monkeypatch.chdir(tmp_path)


def test_without_a_name_it_lists_every_experiment_its_question_and_its_seconds(capsys):
    assert main(["lab"]) == 0
    text = capsys.readouterr().out
    for name in ("coin", "dice"):
        assert f"{name}     1 s  Which side does a coin fall on?" in text
    assert "minires lab coin" in text
    assert "minires lab all" in text


def test_a_long_question_is_wrapped_under_itself():
    long = Experiment(**{**vars(COIN), "question": "word " * 60})
    lines = command.listing([long]).split("\n\n")[0].splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= command.WIDTH
    assert {line.index("word") for line in lines} == {lines[0].index("word")}


def test_a_run_shows_the_table_and_the_verdicts_and_names_its_files(capsys):
    assert main(["lab", "coin", "--out", "here"]) == 0
    text = capsys.readouterr().out
    assert "Which side? (smoke, 2 seeds, 0 s)" in text
    assert "  coin    a number  a word\n  first  1.235e+06  x\n  2            0.5\n" in text
    assert f"holds: {CLAIM}" in text
    assert "claimed in Laplace 1812" in text
    assert "seen here: 2 seeds" in text
    assert "does not hold at this scale: It never lands on its edge." in text
    assert "does not hold: It remembers." in text
    assert "made here/coin.json" in text.replace("\\", "/")


def test_it_keeps_the_numbers_the_figure_and_the_page(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    main(["lab", "coin", "--scale", "full", "--seeds", "3", "--out", "a/b"])
    kept = tmp_path / "a" / "b"
    assert sorted(path.name for path in kept.iterdir()) == ["coin.html", "coin.json", "coin.png"]
    assert (kept / "coin.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((kept / "coin.json").read_text())
    assert record["results"] == [{"heads": [seed, 1, 0.25]} for seed in range(3)]
    assert (record["experiment"], record["scale"], record["seeds"]) == ("coin", "full", 3)
    assert record["verdicts"][0] == {"claim": CLAIM, "source": "Laplace 1812", "observed": "3 seeds", "holds": True}


def test_without_out_it_takes_the_first_free_folder_under_runs(tmp_path, capsys):
    for _ in range(2):
        assert main(["lab", "coin", "--quiet"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["lab-coin-1", "lab-coin-2"]


def test_all_runs_every_experiment_and_makes_an_index_of_their_pages(tmp_path, capsys):
    assert main(["lab", "all", "--out", "all"]) == 0
    assert {path.stem for path in (tmp_path / "all").glob("*.json")} == {"coin", "dice"}
    index = read((tmp_path / "all" / "index.html").read_text())
    assert [values["href"] for tag, values in index.tags if tag == "a"] == ["coin.html", "dice.html"]
    assert all((tmp_path / "all" / values["href"]).exists() for tag, values in index.tags if tag == "a")
    assert "1 of 3" in index.text


def test_without_matplotlib_it_makes_the_rest_and_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(figures, "available", lambda: False)
    assert main(["lab", "coin", "--out", "x"]) == 0
    assert "pip install 'minires[plot]'" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["coin.html", "coin.json"]
    assert "A line with 2 ends & 3 points" in read((tmp_path / "x" / "coin.html").read_text()).text


# --- what is refused


@pytest.mark.parametrize(("name", "near"), [("coim", "coin"), ("DICE", "dice"), ("al", "all")])
def test_a_misspelt_experiment_gets_the_nearest_name(name, near, capsys):
    error = refused(["lab", name], capsys)
    assert repr(name) in error
    assert f"minires lab {near}" in error


def test_an_experiment_like_no_other_gets_all_names(capsys):
    assert "minires lab coin or dice or all" in refused(["lab", "zzzzzz"], capsys)


@pytest.mark.parametrize("scale", ["huge", "SMOKE"])
def test_an_unknown_scale_is_refused_before_anything_is_made(scale, capsys, tmp_path):
    assert "smoke and full" in refused(["lab", "coin", "--scale", scale, "--out", "x"], capsys)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "notes.txt").write_text("mine")
    error = refused(["lab", "coin", "--out", "x"], capsys)
    assert "not empty" in error
    assert "train" not in error
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["notes.txt"]


def test_a_file_is_refused_as_a_folder(tmp_path, capsys):
    (tmp_path / "x").write_text("mine")
    assert "is a file" in refused(["lab", "coin", "--out", "x"], capsys)


def test_what_cannot_be_made_is_refused_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", denied)
    monkeypatch.setattr(outcome, "run", lambda *args, **kwargs: pytest.fail("it measured"))
    assert "Permission denied" in refused(["lab", "coin", "--out", "x/y"], capsys)


def test_of_a_run_that_is_stopped_no_empty_folder_is_left(tmp_path, monkeypatch, capsys):
    def stopped(*args, **kwargs):
        assert (tmp_path / "runs" / "lab-coin-1").is_dir()  # no other run takes it meanwhile
        raise KeyboardInterrupt

    monkeypatch.setattr(outcome, "run", stopped)
    assert main(["lab", "coin"]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [["--out", "x"], ["--seeds", "3"], ["--scale", "full"]])
def test_options_without_an_experiment_are_refused(options, capsys, tmp_path):
    assert "minires lab NAME" in refused(["lab", *options], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("columns", "widest"), [(40, 60), (72, 72), (200, 100)])
def test_text_fits_the_terminal(columns, widest, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    long = Experiment(**{**vars(COIN), "question": "word " * 60})
    lines = command.listing([long]).splitlines()
    assert widest - 5 < max(map(len, lines)) <= widest


def test_fewer_seeds_than_one_are_refused(capsys):
    refused(["lab", "coin", "--seeds", "0"], capsys)
    with pytest.raises(RequestError, match="at least 1"):
        lab.run("coin", seeds=0)


def test_an_unknown_scale_is_refused_from_python_too():
    with pytest.raises(RequestError, match="smoke and full"):
        lab.run("coin", scale="tiny")


def test_what_cannot_be_written_is_one_line_and_nothing_is_left(tmp_path, monkeypatch):
    def denied(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.replace", denied)
    with pytest.raises(RequestError, match=r"coin\.json cannot be written \(Permission denied\)"):
        lab.run("coin").save(tmp_path / "x")
    assert list((tmp_path / "x").iterdir()) == []


# --- the bar


def test_the_bar_is_for_terminals_and_counts_every_tick(capsys, monkeypatch):
    lab.run("coin", progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with outcome.Bar("coin", 3, shown=True) as bar:
        bar.prefix = "seed 7: "
        for k in range(3):
            bar.tick(f"coin {k}")
        assert (bar._bar.n, bar._bar.total) == (3, 3)
        assert bar._bar.postfix == "seed 7: coin 2"


def test_the_bar_names_the_seed_only_where_there_are_several(monkeypatch):
    seen = []
    monkeypatch.setattr(outcome.Bar, "tick", lambda bar, what: seen.append(bar.prefix + what))
    lab.run("coin", seeds=1)
    lab.run("coin", seeds=2)
    assert seen[:4] == ["coin 0", "coin 1", "coin 2", "seed 0: coin 0"]
    assert seen[-1] == "seed 1: coin 2"


# --- the page


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def read(text):
    found = Page()
    found.feed(text)
    return found


@pytest.fixture
def made():
    found = lab.run("coin")
    return found, read(page.page(COIN, found.record(), found.results, found.verdicts, b"picture"))


def test_the_page_says_all_that_the_outcome_says(made):
    found, shown = made
    for verdict in found.verdicts:
        for part in (verdict.claim, verdict.source, verdict.observed, verdict.word):
            assert part in shown.text
    assert COIN.question in shown.text
    assert "minires lab coin --scale smoke --seeds 2" in shown.text
    assert "1.235e+06" in shown.text
    assert [v["class"] for tag, v in shown.tags if tag == "li"] == ["holds", "fails", "fails"]


def test_the_page_is_one_file_that_everyone_can_read(made):
    _, shown = made
    tags = [tag for tag, _ in shown.tags]
    assert ("html", {"lang": "en"}) in shown.tags
    assert tags.count("h1") == tags.count("main") == tags.count("title") == 1
    assert "script" not in tags
    (image,) = (values for tag, values in shown.tags if tag == "img")
    assert image["alt"] == "A line with 2 ends & 3 points"
    assert image["src"].startswith("data:image/png;base64,")
    for tag, values in shown.tags:
        assert not {"href", "src"} & values.keys() or next(iter(values.values())).startswith(("data:", "icon"))
        assert tag != "th" or values["scope"] in ("row", "col")
        assert values.get("class") != "wide" or (values["tabindex"] == "0" and values["aria-label"])
    levels = [int(tag[1]) for tag in tags if tag in ("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def contrast(a, b):
    """The ratio of two colors #rrggbb by the Web Content Accessibility Guidelines 2.2, section 1.4.3."""

    def luminance(color):
        parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_its_colors_have_contrast_by_day_and_by_night():
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in page.STYLE.split("prefers-color-scheme")[:2])
    for colors in (light, dark):
        assert len(colors) == 8
        for ink in ("ink", "faint", "yes", "no", "link"):
            assert min(contrast(colors[ink], colors[ground]) for ground in ("paper", "card")) >= 4.5, ink
