"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from minires.nn.module import Module


class _Numbered(Module):
    """Children named "0", "1", ..., in order."""

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Any]:  # Any: what the children can do is known only to their owner
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Any: ...

    def __getitem__(self, index: Any) -> Any:
        chosen = list(self.children())[index]
        return self._of(chosen) if isinstance(index, slice) else chosen

    def __setitem__(self, index: int, module: Module) -> None:
        names = [name for name, _ in self.named_children()]
        self.add_module(names[operator.index(index)], module)

    def append(self, module: Module) -> Any:
        """Adds one module at the end; returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Adds several at the end; returns self."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Puts a module before position `index`; those behind move up by one."""
        order = list(self.children())
        order.insert(index, module)
        for name in [name for name, _ in self.named_children()]:
            delattr(self, name)
        self.extend(order)

    @staticmethod
    def _of(modules: list[Module]) -> Any:
        raise NotImplementedError


class Sequential(_Numbered):
    """y = f_n(... f_2(f_1(x))). Takes modules, or one dict of names and modules. With none it is the identity."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named: Iterable[tuple[str, Any]] = modules[0].items()
        else:
            named = ((str(i), module) for i, module in enumerate(modules))
        for name, module in named:
            self.add_module(name, module)

    def forward(self, x: Any) -> Any:
        for _, module in self.named_children():
            x = module(x)
        return x

    @staticmethod
    def _of(modules: list[Module]) -> Sequential:
        return Sequential(*modules)


class ModuleList(_Numbered):
    """A list whose modules are children of whoever holds it."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    @staticmethod
    def _of(modules: list[Module]) -> ModuleList:
        return ModuleList(modules)


class ModuleDict(Module):
    """A dict whose modules are children of whoever holds it."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Adds or replaces children by name."""
        for name, module in dict(modules).items():
            self[name] = module

    def __getitem__(self, name: str) -> Any:
        return dict(self.named_children())[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        self[name]  # a KeyError for what is no child
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in dict(self.named_children())

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> Iterable[str]:
        return dict(self.named_children()).keys()

    def values(self) -> Iterable[Any]:
        return dict(self.named_children()).values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return dict(self.named_children()).items()
