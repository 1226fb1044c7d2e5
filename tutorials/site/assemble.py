"""Gathers what Sphinx reads: the pages of this folder, the tutorials, and the pages that code writes."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
from pathlib import Path

import api
import lab_pages
from sources import page_of

HERE = Path(__file__).resolve().parent
TUTORIALS = HERE.parent
ROOT = TUTORIALS.parent
INTO_THE_CODE = re.compile(r"\[([^\]]+)\]\(\.\./\.\./([^)#]+?)/?\)")


def assemble(source: Path, smoke: bool) -> None:
    """Fills `source`, a new folder, with everything that becomes a page."""
    source.mkdir(parents=True)
    experiments = lab_pages.write(source / "lab", smoke)
    _copy_tutorials(source / "tutorials")
    api.write(source / "api")
    atlas = _write_atlas(source / "atlas")
    marks = {
        "<!-- tutorials -->": _list_of_tutorials(),
        "<!-- experiments -->": _list_of_experiments(experiments),
        "<!-- the interactive figure -->": _figure(),
        "<!-- atlas -->": "Atlas <atlas/index>" if atlas else "",
    }
    for page in sorted(HERE.glob("*.md")):
        text = into_site(page.read_text(encoding="utf-8"))
        for mark, made in marks.items():
            text = text.replace(mark, made)
        (source / page.name).write_text(text, encoding="utf-8")


def into_site(text: str) -> str:
    """A page's links into the checkout, as [conv.py](../../minires/conv.py), made links to the site's pages of source.

    A folder has no page of source: it is named as code.
    """

    def lead(link: re.Match[str]) -> str:
        words, target = link.groups()
        if target.endswith(".py") and (ROOT / target).is_file():
            return f'<a href="{page_of(target)}.html"><code>{words.strip("`")}</code></a>'
        return f"`{words.strip('`')}`"

    return INTO_THE_CODE.sub(lead, text)


def _figure() -> str:
    """The interactive figure, or nothing where this checkout has none."""
    if importlib.util.find_spec("minires.explain.figure") is None:
        return ""
    from minires.explain import figure

    return f"```{{raw}} html\n{figure.fragment()}\n```"


# --- tutorials


def tutorials() -> list[Path]:
    """tutorials/tNN_name.py, by number."""
    return sorted(TUTORIALS.glob("t[0-9][0-9]_*.py"))


def _copy_tutorials(directory: Path) -> None:
    directory.mkdir()
    for file in [*tutorials(), TUTORIALS / "_kit.py"]:
        shutil.copy(file, directory)


def _list_of_tutorials() -> str:
    rows = [f"| [{title(file)}](tutorials/{file.name}) | {goal(file)} |" for file in tutorials()]
    return _table("| tutorial | goal |\n|---|---|", rows, [f"tutorials/{file.stem}" for file in tutorials()])


def _list_of_experiments(experiments: list[tuple[str, str, str]]) -> str:
    rows = [f"| [{title}](lab/{name}.md) | {question} |" for name, title, question in experiments]
    return _table("| experiment | question |\n|---|---|", rows, [f"lab/{name}" for name, _, _ in experiments])


def _table(header: str, rows: list[str], pages: list[str]) -> str:
    return "\n".join([header, *rows, "", "```{toctree}", ":hidden:", "", *pages, "```"])


def title(file: Path) -> str:
    """A tutorial's title: its first Markdown heading."""
    found = re.search(r"^# (?!%%)(?:# )?(.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else file.stem


def goal(file: Path) -> str:
    """What its reader takes away: the paragraph that begins with "**Goal.**", or nothing."""
    found = re.search(r"^\*\*Goal\.\*\* (.+?)\n\n", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()).replace("|", "\\|") if found else ""


def write_downloads(directory: Path, source: Path) -> None:
    """Each tutorial as a notebook and as it is, the small file that both import, and what the experiments left."""
    import jupytext

    shutil.copytree(source / "lab", directory / "lab", ignore=shutil.ignore_patterns("*.md", "*.html"))
    for file in [*tutorials(), TUTORIALS / "_kit.py"]:
        shutil.copy(file, directory)
    for file in tutorials():
        jupytext.write(jupytext.read(file, fmt="py:percent"), directory / f"{file.stem}.ipynb")


# --- the atlas of formulas


def _write_atlas(directory: Path) -> bool:
    if importlib.util.find_spec("atlas") is None:
        return False
    importlib.import_module("atlas").write(directory)
    return True
