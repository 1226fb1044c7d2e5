"""The site as readers meet it: every page loads by itself, is found by search, and is read by screen readers as well.

It needs a built site: MINIRES_SITE_DIR, or build/site (python tutorials/site/build.py --smoke).
"""

import http.server
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("MINIRES_SITE_DIR") or ROOT / "build" / "site")

if not (SITE / "index.html").is_file():
    pytest.skip(f"there is no site in {SITE}: python tutorials/site/build.py --smoke", allow_module_level=True)

PAGES = sorted(file.relative_to(SITE).as_posix() for file in SITE.rglob("*.html") if "_static" not in file.parts)
SOURCES = [page for page in PAGES if page.startswith("source/")]
LESSONS = [page for page in PAGES if page.startswith("tutorials/t")]
WITH_MATH = next((page for page in LESSONS if 'id="eq-' in (SITE / page).read_text(encoding="utf-8")), None)
READ = ["index.html", *LESSONS[-1:], "api/minires.nn.html", "install.html", "source/minires/ops/residual.html"]
READ += [page for page in ("atlas/batch_norm.html", "lab/skip.html") if page in PAGES]


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A page asks for forty files at once: let more of them wait than the five that are usual."""
    monkeypatch.setattr(http.server.ThreadingHTTPServer, "request_queue_size", 128)


@pytest.mark.parametrize("batch", range(4))
def test_every_page_loads_without_a_complaint_or_a_foreign_request(serve, page_at, batch):
    home, page = serve(SITE), page_at(1280)
    for path in [*(p for p in PAGES if p not in SOURCES), *SOURCES[:4]][batch::4]:
        answer = page.goto(f"{home}/{path}")
        assert answer.ok, path
        assert page.title(), path
        assert page.locator("h1").count() == 1, path


def test_every_link_within_the_site_leads_somewhere_and_every_picture_has_words():
    sys.path.insert(0, str(ROOT / "tutorials" / "site"))
    import survey

    assert survey.faults(SITE) == []


LOOKS = [(path, width, scheme) for path in READ for width in (360, 1280) for scheme in ("light", "dark")]
LOOKS += [(path, 360, "light") for path in LESSONS[:-1]]


@pytest.mark.parametrize(("path", "width", "scheme"), LOOKS)
def test_a_page_is_accessible_and_as_wide_as_the_screen(serve, page_at, axe, path, width, scheme):
    page = page_at(width, color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"{serve(SITE)}/{path}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []


def test_search_finds_an_op_and_leads_to_it(serve, page_at):
    page = page_at(1280)
    page.goto(f"{serve(SITE)}/search.html?q=residual_add")
    found = page.locator("#search-results li a")
    found.first.wait_for()
    targets = found.evaluate_all("links => links.map(link => link.href)")
    assert any("api/minires.functional.html" in target for target in targets)
    found.first.click()
    page.locator("h1").wait_for()


def test_search_is_reached_by_keyboard(serve, page_at):
    page = page_at(1280)
    page.goto(f"{serve(SITE)}/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("ledger")
    page.keyboard.press("Enter")
    page.locator("#search-results li a").first.wait_for()
    assert "q=ledger" in page.url


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.skipif(WITH_MATH is None, reason="this site has no tutorial with numbered equations")
def test_all_math_is_set_by_katex_and_no_number_lies_over_its_equation(serve, page_at, width):
    page = page_at(width)
    page.goto(f"{serve(SITE)}/{WITH_MATH}")
    page.locator(".math .katex").first.wait_for()
    places, read = (
        page.locator(s).count() for s in (".math.inline, .math.display", ".math > .katex, .math > .katex-display")
    )
    assert places == read > 0
    assert page.locator(".katex-error").count() == 0
    apart = page.locator('.math.display[id^="eq-"]').evaluate_all(
        """boxes => boxes.map(box => {
            const edge = (part, side) => part.getBoundingClientRect()[side];
            const bases = [...box.querySelectorAll(".katex-html > .katex-base")].map(base => edge(base, "right"));
            return edge(box.querySelector(".katex-tag > .mord"), "left") - Math.max(...bases);
        })"""
    )
    assert apart
    assert min(apart) >= 0


@pytest.mark.skipif(WITH_MATH is None, reason="this site has no tutorial with numbered equations")
def test_a_mention_of_an_equation_leads_to_it(serve, page_at):
    page = page_at(1280)
    page.goto(f"{serve(SITE)}/{WITH_MATH}")
    mention = page.locator("a.equation-link").first
    number = mention.inner_text().strip("()")
    mention.click()
    assert page.url.endswith(f"#eq-{number.replace('.', '-')}")
    page.wait_for_function(
        "id => document.getElementById(id).getBoundingClientRect().top < innerHeight", arg=page.url.split("#")[1]
    )


@pytest.mark.parametrize("path", ["index.html", *LESSONS[-1:], "api/minires.nn.html"])
def test_without_javascript_a_page_can_be_read_and_left(serve, page_at, path):
    page = page_at(1280, java_script_enabled=False)
    page.goto(f"{serve(SITE)}/{path}")
    text = page.locator("article").inner_text()
    assert len(text) > 500
    assert page.locator("article h1").is_visible()
    if path == WITH_MATH:
        assert re.search(r"\\\[.*\\tag\{\d+\.\d+\}.*\\\]", text, re.DOTALL)
    page.locator("nav a", has_text="Install").first.click()
    assert page.url.endswith("/install.html")
