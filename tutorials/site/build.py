"""Builds the site: python tutorials/site/build.py [--smoke] [--out DIR]

It needs `pip install -e '.[docs]'`. The tutorials are run, with --smoke at their smallest scale; the API pages and the
lab's are made from the code. A warning, a picture without alt text, a link that leads nowhere, a request to another
host or a docstring that cites an equation which no tutorial has: each of them fails the build, with a line that says
where. Whatever fails, the site that was there before stays as it was.

Exit codes: 0 built; 1 something is wrong with a page; 2 a tool is missing, or the request was wrong.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NEEDED = ("sphinx", "myst_nb", "pydata_sphinx_theme", "jupytext", "ipykernel", "matplotlib", "minires")


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds the site, and returns the exit code."""
    options = _parser().parse_args(arguments)
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        return _complain(2, f"{', '.join(absent)} is not installed; type: pip install -e '.[docs]'")
    out = Path(options.out).resolve()
    if out.exists() and not (out.is_dir() and ((out / "index.html").is_file() or not any(out.iterdir()))):
        return _complain(2, f"{out} is there and is no site; give another --out, or remove it")
    from equations import citations, equations, missing

    try:
        lost = missing(equations(ROOT / "tutorials"), citations(ROOT / "minires"))
    except ValueError as error:
        return _complain(1, str(error))
    if lost:
        return _complain(1, *lost)
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        wrong = _build(Path(scratch), options.smoke)
        if wrong:
            return _complain(1, *wrong)
        _swap(Path(scratch) / "site", out, Path(scratch) / "before")
    pages = sum(1 for _ in out.rglob("*.html"))
    print(f"{pages} pages in {time.perf_counter() - start:.0f} s; open {out / 'index.html'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build.py", description="Builds the site of minires.", allow_abbrev=False)
    parser.add_argument("--smoke", action="store_true", help="run tutorials and lab at their smallest scale")
    parser.add_argument("--out", default=str(ROOT / "build" / "site"), metavar="DIR", help="default: build/site")
    return parser


def _complain(code: int, *lines: str) -> int:
    for line in lines:
        print(f"build.py: {line}", file=sys.stderr)
    return code


def _build(scratch: Path, smoke: bool) -> list[str]:
    """Builds into scratch/site. Returns what is wrong, a line each."""
    import assemble
    import survey

    pages, site = scratch / "pages", scratch / "site"
    try:
        assemble.assemble(pages, smoke)
    except RuntimeError as error:  # the atlas shows proved gradients only
        return [str(error)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    environment.pop("MINIRES_BUDGET", None)
    if smoke:
        environment["MINIRES_BUDGET"] = "smoke"
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--quiet"]
    command += ["--conf-dir", str(HERE), "--doctree-dir", str(scratch / "doctrees"), str(pages), str(site)]
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        return ["Sphinx found fault with a page; its lines are above"]
    assemble.write_downloads(site / "downloads", pages)
    return survey.faults(site)


def _swap(new: Path, out: Path, old: Path) -> None:
    """Puts the finished site in its place: two renames, so that a half-written one is never seen."""
    if out.exists():
        out.rename(old)
    try:
        shutil.move(new, out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise


if __name__ == "__main__":
    sys.exit(main())
