"""A browser for tests: Debian's or anybody's Chromium, driven by Playwright, that may talk to this machine only.

    page_at(360, reduced_motion="reduce")     a page 360 px wide; its errors and its foreign requests fail the test
    serve(directory)                          the address of a static server of that directory
    axe(page)                                 what axe-core finds wrong with the page, a line each

Chromium is found by MINIRES_CHROMIUM or on the PATH, axe-core by MINIRES_AXE, the path of an `axe.min.js`.
"""

import functools
import http.server
import os
import shutil
import threading
import urllib.parse
from pathlib import Path

import pytest

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HERE = ("localhost", "127.0.0.1", "::1")
HARMLESS = ("Got invalid theme mode",)  # pydata-sphinx-theme says so once, before a reader has chosen a theme


def _chromium():
    named = os.environ.get("MINIRES_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on the PATH (apt-get install chromium), and MINIRES_CHROMIUM does not name one")
    return found


@pytest.fixture(scope="module")  # no longer: its event loop would be in the way of other tests of this process
def browser():
    """One Chromium for the tests of a file."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install 'minires[browser]'"
    )
    executable = _chromium()
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def page_at(browser):
    """`page_at(width, height=900, **context)` opens a page; at the end none of them may have complained."""
    contexts, complaints = [], []

    def open_page(width, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        context.route("**/*", functools.partial(_only_here, complaints))
        page = context.new_page()
        page.on("console", lambda message: _console(complaints, message))
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _only_here(complaints, route):
    address = urllib.parse.urlsplit(route.request.url)
    if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in HERE:
        complaints.append(f"foreign request: {route.request.url}")
        route.abort()
    else:
        route.continue_()


def _console(complaints, message):
    if message.type == "error" or (message.type == "warning" and not any(h in message.text for h in HARMLESS)):
        complaints.append(f"console: {message.text}")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/favicon.ico":  # browsers ask for it unasked
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture
def serve():
    """`serve(directory)` gives `http://127.0.0.1:PORT`, for the length of the test."""
    servers = []

    def start(directory: Path) -> str:
        handler = functools.partial(_Quiet, directory=str(directory))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def axe():
    """`axe(page)` lists the violations that axe-core finds; skips where axe-core is not there."""
    path = os.environ.get("MINIRES_AXE")
    if not path or not Path(path).is_file():
        pytest.skip("MINIRES_AXE does not name an axe.min.js (npm pack axe-core, then unpack it)")
    source = Path(path).read_text(encoding="utf-8")

    def violations(page):
        page.evaluate(source)
        found = page.evaluate("async () => (await axe.run(document)).violations")
        return [
            f"{v['id']} ({v['impact']}): {v['help']}: {node['target']} {node['html'][:120]}"
            for v in found
            for node in v["nodes"]
        ]

    return violations
