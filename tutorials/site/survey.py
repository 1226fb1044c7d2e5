"""Looks over a built site: what a reader would stumble on fails the build.

- every image says in words what it shows, and every drawing has a name or is hidden from screen readers;
- nothing is loaded from another host;
- every link within the site leads to a page that is there, and to a place in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
SOURCE = '<div class="source">'
RELATIONS_THAT_LOAD = {"stylesheet", "icon", "preload", "modulepreload", "shortcut", "manifest"}


@dataclass
class Page:
    """What a page holds that can go wrong."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in given}
        if "id" in attributes:
            if attributes["id"] in self.page.ids:
                self.page.faults.append(f"the id {attributes['id']!r} is given twice")
            self.page.ids.add(attributes["id"])
        if tag == "a" and attributes.get("href"):
            self.page.links.append(attributes["href"])
        loaded = attributes.get(LOADS.get(tag, ""), "")
        if loaded and (tag != "link" or RELATIONS_THAT_LOAD & set(attributes.get("rel", "").split())):
            self.page.loads.append(loaded)
        hidden = attributes.get("aria-hidden") == "true" or attributes.get("role") in ("presentation", "none")
        if tag == "img" and not hidden and not attributes.get("alt", "").strip():
            self.page.faults.append(f"an image has no alt text: {attributes.get('src', '')[:60]}")
        if tag == "svg" and not hidden and not {"aria-label", "aria-labelledby", "role"} & attributes.keys():
            self.page.faults.append("a drawing (svg) has no role and label, and is not aria-hidden")


def read(file: Path) -> Page:
    """What one page holds. Of a page of source, which is long and made by one line of code, only the ids."""
    if "source" in file.parts and SOURCE in (text := file.read_text(encoding="utf-8")):
        return Page(ids=set(re.findall(r' id="([^"]+)"', text)))
    reader = _Reader()
    reader.feed(file.read_text(encoding="utf-8"))
    return reader.page


def faults(site: Path) -> list[str]:
    """A line for each thing that is wrong in the site under `site`; empty where all is well."""
    files = (file for file in sorted(site.rglob("*.html")) if "_static" not in file.relative_to(site).parts)
    pages = {file.relative_to(site).as_posix(): read(file) for file in files}
    return [
        f"{name}: {fault}"
        for name, page in pages.items()
        for fault in (*page.faults, *_foreign(page), *_broken(site, name, pages))
    ]


def _foreign(page: Page) -> list[str]:
    return [f"loads {url} from another host" for url in page.loads if urlsplit(url).netloc]


def _broken(site: Path, name: str, pages: dict[str, Page]) -> list[str]:
    found = []
    for url in dict.fromkeys((*pages[name].links, *pages[name].loads)):
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        path = (site / name).parent / unquote(parts.path) if parts.path else site / name
        inside = path.is_file() and path.resolve().is_relative_to(site.resolve())
        target = path.resolve().relative_to(site.resolve()).as_posix() if inside else ""
        if not inside:
            found.append(f"links to {url}, which is not there")
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
            found.append(f"links to {url}, but that page has no such place")
    return found
