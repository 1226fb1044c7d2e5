"""The page about tasks tells every data set, model, figure and option as they are."""

import re
from pathlib import Path

import pytest

from minires import models
from minires.train import config, tasks

PAGE = Path(__file__).parents[2] / "tutorials" / "site" / "tasks.md"


@pytest.fixture(scope="module")
def page():
    if not PAGE.exists():
        pytest.skip("the tutorials are not part of this installation")
    return PAGE.read_text(encoding="utf-8")


def rows(page, head):
    """The cells of the table whose first line begins with `head`."""
    lines = page[page.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_tasks_states_the_defaults(page):
    told = {}
    for names, _, model, _, epochs, best in rows(page, "| `--data` | what"):
        for name, number in zip(re.findall(r"`([\w-]+)`", names), _each(epochs, names), strict=True):
            told[name] = (model.strip("`"), int(number), best.strip("`"))
    made = {name: config.create(data=name) for name in tasks.names()}
    assert told == {name: (c.model, c.epochs, tasks.find(name).best) for name, c in made.items()}


def _each(epochs, names):
    numbers = epochs.split(", ")
    return numbers * names.count("` `") + numbers if len(numbers) == 1 else numbers


def test_the_counts_of_parameters_are_those_of_the_default_models(page):
    counts = {row[2].strip("`"): int(row[3].replace(",", "")) for row in rows(page, "| `--data` | what")}
    made = {"resnet8": models.describe("resnet8", 10, 1), "resnet20": models.describe("resnet20", 10, 3)}
    made["gpt_char"] = models.describe("gpt_char", vocab_size=65)  # the characters of Shakespeare, who is not here
    measured = {name: of.parameters for name, of in made.items()}
    for name in ("copy", "masked", "blobs", "tones", "gridworld"):
        options = config.create(data=name)
        measured[options.model] = sum(p.size for p in tasks.find(name).model(options).parameters())
    assert measured == counts
    assert models.info("gpt_char").options["context"] == 128


def test_the_table_of_options_is_what_the_tasks_take(page):
    told = {
        (name, option.strip("`")): default.strip("`")
        for option, names, default, _ in rows(page, "| `--data-option` |")
        for name in re.findall(r"`([\w-]+)`", names)
    }
    assert told == {(n, k): str(v) for n in tasks.names() for k, v in tasks.find(n).options.items()}


def test_every_figure_and_speed_is_told(page):
    for name in tasks.names():
        task = tasks.find(name)
        assert f"`{task.unit}_per_second`" in page
        for figure in {*task.words, task.best}:
            assert f"`{figure}`" in page, figure


def test_every_task_but_images_has_a_measured_row(page):
    measured = {re.fullmatch(r"`minires train --data (\S+)`", row[0])[1] for row in rows(page, "| command |")}
    assert measured == set(tasks.names()) - set(tasks.find("digits").names)
