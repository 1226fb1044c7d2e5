"""Every experiment keeps the contract: verdicts as published, plain numbers, a figure in words, the same every time."""

import functools
import json
import math
import re
from pathlib import Path

import pytest

from minires import lab, switches
from minires.lab import degradation, gradients, lesions, nets, outcome, paths, skip, stream
from tests.lab.test_command import read

NAMES = sorted(
    path.stem for path in Path(lab.__file__).parent.glob("*.py") if "\nEXPERIMENT =" in path.read_text("utf-8")
)


KNOWN = {}


def train_once(net, seed, images=None, *, train=nets.train, epochs=nets.EPOCHS, tick=None, label=""):
    """nets.train, but what a net has learned from the same start in another experiment is not learned again."""
    if switches.state.watchers or not (images is None or images is nets.digits().train):
        return train(net, seed, images, epochs=epochs, tick=tick, label=label)
    start = {key: value.data.tobytes() for key, value in net.state_dict().items()}
    key = net.kind, seed, epochs, tuple(start.items())
    if key not in KNOWN:
        told = []
        losses = train(net, seed, epochs=epochs, tick=told.append, label="net")
        KNOWN[key] = losses, told, {key: value.data.copy() for key, value in net.state_dict().items()}
    losses, told, weights = KNOWN[key]
    net.load_state_dict(weights)
    net.train()
    for text in told if tick else ():
        tick(text)
    return list(losses)


@functools.cache
def ticked(name):
    """The outcome of one seed at smoke scale, and what it said on the way. Each experiment runs once for all tests."""
    ticks = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome.Bar, "tick", lambda self, what: ticks.append(what))
        patch.setattr(nets, "train", train_once)
        return lab.run(name, seeds=1), ticks


@pytest.fixture(params=NAMES)
def made(request):
    return ticked(request.param)[0]


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """name -> the folder that its outcome was saved in."""
    return functools.cache(lambda name: _saved(name, tmp_path_factory.mktemp(name)))


def _saved(name, folder):
    ticked(name)[0].save(folder)
    return folder


def test_there_are_six():
    assert list(lab.experiments()) == NAMES == ["degradation", "gradients", "lesions", "paths", "skip", "stream"]


def test_every_verdict_is_as_published(made):
    assert made.verdicts
    for verdict in made.verdicts:
        assert verdict.holds == verdict.expected, verdict
        assert isinstance(verdict.holds, bool)
        assert re.search(r"\d", verdict.observed), verdict
        assert verdict.claim
        assert verdict.source


@pytest.mark.parametrize("name", NAMES)
def test_it_ticks_as_often_as_it_says(name):
    found, ticks = ticked(name)
    assert len(ticks) == found.experiment.ticks("smoke")
    assert all(ticks)


def test_what_it_says_of_itself_is_complete(made):
    found = made.experiment
    assert found.question.endswith("?")
    assert "\n" not in found.question + found.title
    assert len(found.about) > 200
    for by_scale in (found.seeds, found.seconds):
        assert set(by_scale) == {"smoke", "full"}
        assert 0 < by_scale["smoke"] <= by_scale["full"]
    assert found.seconds["smoke"] <= 25


def numbers(value):
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, float) else []


def test_its_json_holds_all_of_it_in_plain_numbers(made, saved):
    record = json.loads((saved(made.experiment.name) / f"{made.experiment.name}.json").read_text(encoding="utf-8"))
    assert " ".join(record) == "experiment title question scale seeds minires seconds results verdicts"
    assert record["results"] == made.results
    assert all(math.isfinite(n) for n in numbers(record["results"]))
    assert len(numbers(record["results"])) > 10
    assert [list(verdict) for verdict in record["verdicts"]] == [["claim", "source", "observed", "holds"]] * len(
        made.verdicts
    )


def test_its_tables_have_a_cell_for_every_column(made):
    tables = made.experiment.tables(made.results)
    assert tables
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}
    width = sum(max(len(row[k]) for row in tables[0].cells()) + 2 for k in range(len(tables[0].header)))
    assert width <= 100  # fits a terminal


def test_its_page_has_the_figure_in_words_and_every_table(made, saved):
    name = made.experiment.name
    page = read((saved(name) / f"{name}.html").read_text(encoding="utf-8"))
    words = made.experiment.alt(made.results)
    assert len(re.findall(r"\d+\.?\d*", words)) >= 5
    assert words in page.text
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == len(made.experiment.tables(made.results))
    assert tags.count("li") == len(made.verdicts)
    for tag, values in page.tags:
        assert tag != "img" or values["alt"] == words
    ids = [values["id"] for _, values in page.tags if "id" in values]
    assert len(ids) == len(set(ids))


def test_its_figure_is_drawn(made, saved):
    pytest.importorskip("matplotlib")
    name = made.experiment.name
    picture = (saved(name) / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = (int.from_bytes(picture[k : k + 4]) for k in (16, 20))
    assert 1000 <= width <= 2400
    assert 500 <= height <= 2400


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_numbers(name, monkeypatch):
    """Nets are shallow here, and see 192 images in each of two epochs, so that twice does not take long."""
    whole = nets.train

    def briefly(net, seed, images=None, **options):
        pixels, labels = nets.digits().train if images is None else images
        return whole(net, seed, nets.Images(pixels[:192], labels[:192]), **options)

    monkeypatch.setattr(nets, "train", briefly)
    for module in (degradation, lesions, paths):
        monkeypatch.setitem(module.EPOCHS, "smoke", 2)
    monkeypatch.setattr(degradation, "DEPTHS", (8,))
    monkeypatch.setitem(gradients.DEPTH, "smoke", 6)
    monkeypatch.setattr(lesions, "SUBJECTS", {"plain": ("plain", 2), "post": ("post", 2), "pre": ("pre", 5)})
    monkeypatch.setattr(lesions, "DELETED", (1, 3))
    monkeypatch.setattr(lesions, "SWAPPED", (1, 2))
    monkeypatch.setattr(paths, "BLOCKS", 6)
    monkeypatch.setitem(paths.EXACT, "smoke", 3)
    monkeypatch.setitem(skip.SCALE, "smoke", {"blocks": 3, "epochs": 2})
    monkeypatch.setitem(stream.SCALE, "smoke", {"layers": 2, "blocks": 3, "epochs": 2})
    first, second = (lab.experiments()[name].measure("smoke", 3, lambda what: None) for _ in range(2))
    assert first == second
    assert first != lab.experiments()[name].measure("smoke", 4, lambda what: None)
