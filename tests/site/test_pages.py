"""What the pages tell to type is real: their code runs, their commands and extras exist, their links lead somewhere."""

import contextlib
import io
import re
import shlex
import sys
import tomllib

import assemble
import pytest

from minires.arguments import parser

PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(assemble.HERE.glob("*.md"))}
OWN = ("index.md", "install.md", "tutorials.md", "lab.md", "teachers.md", "pytorch-users.md", "add-an-op.md")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def run(code):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), {"__name__": "page"})
    return printed.getvalue()


@pytest.fixture
def registries(monkeypatch):
    """What a page registers is gone afterwards; the library's own is loaded before."""
    from minires import engine
    from minires.check import all_laws, bugs, subjects

    subjects(), all_laws(), bugs()
    for module, name in (("case", "_subjects"), ("law", "_laws"), ("bug", "_bugs")):
        held = sys.modules[f"minires.check.{module}"]
        monkeypatch.setattr(held, name, dict(getattr(held, name)))
    monkeypatch.setattr(engine, "_kernels", dict(engine._kernels))


def test_the_example_of_the_front_page_prints_what_it_shows():
    assert run(*blocks("index.md", "python")) == blocks("index.md", "text")[0]


@pytest.mark.parametrize("code", blocks("pytorch-users.md", "python"))
def test_each_example_for_pytorch_users_runs_by_itself(code):
    run(code)


def test_the_op_that_is_added_is_proved_and_each_of_its_bugs_is_noticed(registries):
    printed = run("\n".join(blocks("add-an-op.md", "python")))
    names = [line.split()[0] for line in printed.splitlines()]
    noticed = ["snake_without_the_skip", "snake_at_one_frequency"]
    assert names == ["complex-step", "adjoint", "central", "index-loops", *noticed]
    for shown, got in zip(blocks("add-an-op.md", "text")[0].splitlines(), printed.splitlines(), strict=False):
        name, digits = shown.split()
        assert got.startswith(name)
        assert float(got.split()[1]) < 100 * float(digits)  # another BLAS rounds otherwise


def test_the_law_of_the_added_op_notices_what_the_page_says_it_notices(registries):
    from minires.check import CheckError, all_laws, bugs, for_each, planted

    code = "\n".join(blocks("add-an-op.md", "python"))
    scope = {"__name__": "page"}
    exec(code.partition("\n\nfor mistake in bugs(Snake)")[0], scope)
    (law,) = all_laws(scope["Snake"])
    (bug,) = [each for each in bugs(scope["Snake"]) if each.killed_by == law.name]
    for_each(law.test, 12, seed=0)
    with planted(bug), pytest.raises(CheckError):
        for_each(law.test, 12, seed=0)


def commands():
    for page in OWN:
        for line in "\n".join(blocks(page, "sh")).splitlines():
            words = shlex.split(line, comments=True)
            while words and "=" in words[0] and not words[0].startswith("-"):
                words = words[1:]  # an environment variable
            if "minires" in words:
                words = words[words.index("minires") :]
                yield words[1 : words.index(">") if ">" in words else None]


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_every_command_is_one_that_minires_knows(words):
    assert parser().parse_args(words).handler


def test_every_extra_that_a_page_names_is_one_that_the_package_has():
    project = tomllib.loads((assemble.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"""['"][.\w]+\[([\w,]+)\]['"]""", "".join(PAGES[page] for page in OWN))
    assert {name for names in named for name in names.split(",")} <= project["optional-dependencies"].keys()
    shown = re.findall(r"'\.\[(\w+)\]'` +\|", PAGES["install.md"])
    for_others = {"dev", "mpi"}  # for who works on minires, and for what is not there yet
    assert sorted(shown) == sorted(project["optional-dependencies"].keys() - for_others)


def test_what_the_page_of_installation_says_is_needed_is_what_is_needed():
    project = tomllib.loads((assemble.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = " ".join(PAGES["install.md"].partition("All commands")[0].split()).lower()
    assert all(re.split("[>=]", each)[0] in told for each in project["dependencies"])
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in PAGES["install.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_pages_and_into_the_code_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        made = target in ("api/index.md",)
        assert made or (assemble.HERE / target).exists(), target


def test_a_link_into_the_code_leads_to_the_page_of_that_file():
    text = "See [the kernel](../../minires/kernels/conv.py), and [minires/models/](../../minires/models/)."
    assert assemble.into_site(text) == (
        'See <a href="source/minires/kernels/conv.html"><code>the kernel</code></a>, and `minires/models/`.'
    )
