"""The API pages: every public name of a module, from its own docstring."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

# module: what the page is called, in the order of the index
MODULES = {
    "minires": "minires (mr): tensors, gradients, switches",
    "minires.functional": "minires.functional (F): the ops",
    "minires.nn": "minires.nn: layers",
    "minires.models": "minires.models: networks by name",
    "minires.optim": "minires.optim: optimizers and schedules",
    "minires.data": "minires.data: data sets and loaders",
    "minires.train": "minires.train: runs",
    "minires.weights": "minires.weights: files of weights",
    "minires.check": "minires.check: proving gradients",
    "minires.explain": "minires.explain: a backward pass step by step",
    "minires.lab": "minires.lab: experiments",
    "minires.classroom": "minires.classroom: assignments and the grader",
    "minires.scalar": "minires.scalar: the whole idea on one page",
}


def write(directory: Path) -> None:
    """Writes api/index.md and a page a module into `directory`."""
    directory.mkdir(parents=True)
    written = []
    for name in MODULES:
        names = public(importlib.import_module(name))
        (directory / f"{name}.md").write_text(_page(name, names), encoding="utf-8")
        written.append((name, len(names)))
    rows = [f"| [`{name}`]({name}.md) | {MODULES[name].partition(': ')[2]} | {count} |" for name, count in written]
    index = ["# API reference", "", *INTRODUCTION, ""]
    index += ["| module | what it holds | names |", "|---|---|---:|", *rows, ""]
    index += ["```{toctree}", ":hidden:", "", *(name for name, _ in written), "```", ""]
    (directory / "index.md").write_text("\n".join(index), encoding="utf-8")


INTRODUCTION = [
    "The public names, each from its docstring. *Shapes* are those of arrays, with N the batch, C channels, H and W",
    "rows and columns, T time and D features. `[source]` leads to the code.",
    "What has PyTorch's name also has its arguments and defaults: see [for PyTorch users](../pytorch-users.md).",
]


def public(module: ModuleType) -> list[str]:
    """The qualified names that a module's page shows: its `__all__`, or else what its own files define.

    Of minires.train, which has no `__all__` since its files do the work, those of its files.
    """
    listed = getattr(module, "__all__", None)
    if listed is None and module.__name__ == "minires.functional":
        listed = [n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))]
    if listed is not None:
        kept = (n for n in listed if not n.startswith("_") and not isinstance(getattr(module, n), ModuleType))
        return [f"{module.__name__}.{name}" for name in kept]
    files = [module]
    if module.__name__ == "minires.train":
        parts = pkgutil.iter_modules(module.__path__)
        files += [importlib.import_module(f"minires.train.{part.name}") for part in parts]
    return [
        f"{file.__name__}.{name}"
        for file in files
        for name, found in vars(file).items()
        if getattr(found, "__module__", "") == file.__name__
        and not name.startswith("_")
        and (inspect.isclass(found) or inspect.isfunction(found))
        and found.__doc__
    ]


def _page(name: str, names: list[str]) -> str:
    lines = [f"# {MODULES[name]}", "", "```{eval-rst}", f".. automodule:: {name}", "   :no-members:", ""]
    for title, group in _groups(name, names).items():
        if title:
            lines += ["```", "", f"## {title}", "", "```{eval-rst}"]
        for qualified in group:
            lines += _directive(qualified)
    return "\n".join([*lines, "```", ""])


def _groups(name: str, names: list[str]) -> dict[str, list[str]]:
    """The names under the file that defines them, where a module is a package of several."""
    groups: dict[str, list[str]] = {}
    for qualified in names:
        home = getattr(_resolve(qualified), "__module__", name)
        groups.setdefault(home.rpartition(".")[2] if home != name else "", []).append(qualified)
    return groups if len(groups) > 1 else {"": names}


def _resolve(qualified: str) -> object:
    module, _, name = qualified.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _directive(qualified: str) -> list[str]:
    found = _resolve(qualified)
    if inspect.isclass(found):
        return [f".. autoclass:: {qualified}", "   :members:", ""]
    return [f".. autofunction:: {qualified}" if callable(found) else f".. autodata:: {qualified}", ""]
