"""What every optimizer shares: parameter groups, state by name, saving and loading. No update rule stands here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from minires import backend, cuda_graph, switches
from minires.backend import Array, Library
from minires.engine import Tensor
from minires.errors import RequestError
from minires.kernels import optimizers

Named = list[tuple[str | None, Tensor]]


class Optimizer:
    """Walks over the parameters and lets a subclass's `update` change each one in place.

    params      an iterable of parameters, of (name, parameter) pairs such as `model.named_parameters()`, or of
                groups: dicts {"params": either of these, and options that hold for this group alone}
    defaults    the options of the groups that do not set their own

    Attributes
        param_groups    list of {"params": [Tensor], "param_names": [str], **options}; schedules write "lr" here
        state           {name: {key: array or number}}, where a parameter without a name is called by its
                        position, "0", "1", ...; filled at a parameter's first step

    A parameter whose `.grad` is None is left alone, its state included.
    Raises RequestError for an empty list, an unknown option, a bad value, or a parameter that is given twice.
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ("lr", "weight_decay", "eps", "momentum")  # finite, at least 0
    decays: ClassVar[tuple[str, ...]] = ("alpha",)  # running means: in [0, 1)

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[str, dict[str, Any]] = {}
        self._formula: Any = None
        self._laid_out: dict[int, list[Any]] = {}  # by group: the kernels for this formula
        for group in _groups(params, type(self).__name__):
            self._add(group)
        if not any(group["params"] for group in self.param_groups):
            raise RequestError(
                f"{type(self).__name__} was given no parameters; pass model.parameters(), and note that a "
                "generator that was walked once is empty"
            )

    def update(self, p: Array, g: Array, state: dict[str, Any], options: dict[str, Any], xp: Any) -> None:
        """Changes `p` in place, given its gradient `g` (not to be written to), its state and its group's options."""
        raise NotImplementedError(f"{type(self).__name__} has no update rule")

    def check(self, options: dict[str, Any]) -> None:
        """Raises RequestError for a value that the update rule cannot use."""
        for key in self.may_be_zero:
            if key in options:
                self._within(key, options[key], math.inf)
        for key in self.decays:
            if key in options:
                self._within(key, options[key], 1)

    def step(self) -> None:
        """One update of every parameter that has a gradient, by a kernel where there is one, else by the formula."""
        for i, group in enumerate(self.param_groups):
            named = zip(group["param_names"], group["params"], strict=True)
            due = [(name, parameter) for name, parameter in named if parameter.grad is not None]
            for walk in self._walks(i):
                due = walk.step(due, self.state, group)
            options: dict[str, Any] = {}
            for name, parameter in due:
                library = backend.find((parameter.data, parameter.grad), type(self).__name__)
                state = self.state.setdefault(name, {})
                if library.name not in options:
                    options[library.name] = _live(group, library)
                self.update(parameter.data, parameter.grad, state, options[library.name], library.xp)
                parameter.touch()

    def zero_grad(self) -> None:
        """Forgets every parameter's gradient (sets it to None, as torch does)."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return self.param_groups[0]["lr"]

    def _walks(self, group: int) -> list[Any]:
        """The kernels that may step this group in the formula's place."""
        if not switches.state.kernels:
            return []
        formula = getattr(self.update, "__func__", self.update)
        if formula is not self._formula:
            self._formula, self._laid_out = formula, {}
        if group not in self._laid_out:
            self._laid_out[group] = optimizers.walks(formula)
        return self._laid_out[group]

    def __getstate__(self) -> dict[str, Any]:
        """Without the kernels' layouts: a copy's arrays are others, and it makes its own."""
        return {**self.__dict__, "_laid_out": {}}

    # --- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """A snapshot of numbers (for JSON) and NumPy arrays (for safetensors).

        {"groups": [{"lr": ..., "params": [names]}, ...], "state": {name: {"momentum_buffer": array, ...}}}
        """
        groups = [{**_options(group), "params": list(group["param_names"])} for group in self.param_groups]
        state = {name: {key: _saved(value) for key, value in entries.items()} for name, entries in self.state.items()}
        return {"groups": groups, "state": state}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes over the options and the state that `state_dict` returned; arrays go where their parameter is.

        Raises RequestError when the groups' names or the arrays' shapes are not those of this optimizer; then
        nothing was changed.
        """
        owned = [group["param_names"] for group in self.param_groups]
        theirs = [list(group["params"]) for group in saved["groups"]]
        if owned != theirs:
            raise RequestError(f"this optimizer state is for other parameters: {_difference(owned, theirs)}")
        options = [self._plain(group) for group in saved["groups"]]
        parameters = {n: p for g in self.param_groups for n, p in zip(g["param_names"], g["params"], strict=True)}
        state: dict[str, dict[str, Any]] = {}
        for name, entries in saved["state"].items():
            if name not in parameters:
                raise RequestError(f"this optimizer state is for other parameters: it has a state for {name!r}")
            state[name] = {key: _placed(v, parameters[name], f"{key} of {name!r}") for key, v in entries.items()}
        for group, values in zip(self.param_groups, options, strict=True):
            group.update(values)
        self.state = state

    # --- building the groups

    def _plain(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """A saved group's options, checked, with JSON's lists as tuples again."""
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in group.items() if k != "params"}
        missing = sorted(set(self.defaults) - set(options))
        if missing:
            raise RequestError(f"this optimizer state was not saved by {type(self).__name__}: it has no {missing[0]!r}")
        self.check(options)
        return options

    def _add(self, group: dict[str, Any]) -> None:
        unknown = [key for key in group if key != "params" and key not in self.defaults]
        if unknown:
            takes = ", ".join(self.defaults)
            raise RequestError(f"{type(self).__name__} has no option {unknown[0]!r}; a group may set {takes}")
        options = {**self.defaults, **_options(group)}
        # NumPy's scalars would turn a float32 update into float64: Python's own do not.
        options = {key: value.item() if hasattr(value, "item") else value for key, value in options.items()}
        self.check(options)
        taken = {id(p): n for g in self.param_groups for n, p in zip(g["param_names"], g["params"], strict=True)}
        names: list[str] = []
        for name, parameter in group["params"]:
            called = str(len(taken)) if name is None else name
            if not parameter.is_leaf:
                raise RequestError(
                    f"parameter {called!r} is the output of {parameter.op.name}: only leaves can be optimized"
                )
            if id(parameter) in taken or called in taken.values():
                raise RequestError(f"parameter {called!r} was given twice; each one belongs in one group, once")
            taken[id(parameter)] = called
            names.append(called)
        self.param_groups.append({"params": [p for _, p in group["params"]], "param_names": names, **options})

    def _within(self, key: str, value: Any, below: float) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value < below:
            wanted = "a finite number of at least 0" if below == math.inf else f"a number in [0, {below})"
            raise RequestError(f"{type(self).__name__}: {key} is {value!r}, but must be {wanted}")

    def __repr__(self) -> str:
        lines = [
            f"  {', '.join(f'{k}={v}' for k, v in _options(g).items())}: {len(g['params'])} parameters"
            for g in self.param_groups
        ]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def number(value: Any, p: Array) -> Any:
    """A number beside `p`: Python's take p's dtype by themselves, a 0-d array of a captured step is made to."""
    return value.astype(p.dtype) if hasattr(value, "astype") else value


def counter(p: Array, start: int = 0) -> Any:
    """A count of p's steps: a plain number; beside a device's array a 0-d array, for the device to count by itself."""
    library = backend.find((p,))
    return start if library is backend.NUMPY else library.xp.full((), start, "int64")


def decay_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: weights decay, norms and biases (all that has fewer than two axes) do not.

    model    a module, or (name, parameter) pairs

    Decaying a bias or a norm's gain shrinks no function class; most recipes since ResNet leave them out.
    Source: He, Zhang et al. 2019, Bag of Tricks, section 3.1.
    """
    named = list(model.named_parameters() if hasattr(model, "named_parameters") else model)
    decayed = [(name, p) for name, p in named if p.ndim >= 2]
    free = [(name, p) for name, p in named if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _groups(params: Any, optimizer: str) -> list[dict[str, Any]]:
    if isinstance(params, (Tensor, Mapping)) or not isinstance(params, Iterable):
        raise TypeError(
            f"{optimizer} takes an iterable of parameters, of (name, parameter) pairs or of groups, "
            f"not a {type(params).__name__}; put it in a list, or pass model.parameters()"
        )
    given = list(params)
    dicts = [isinstance(entry, Mapping) for entry in given]
    if not any(dicts):
        return [{"params": _named(given, optimizer)}]
    if not all(dicts):
        raise TypeError(f"{optimizer}: parameters and groups are mixed; put the parameters in a group of their own")
    for entry in given:
        if "params" not in entry:
            raise RequestError(f'{optimizer}: a group needs "params", but this one only has {", ".join(entry)}')
    groups = [{**g, "params": _named(_entries(g["params"]), optimizer)} for g in given]
    if len({name is None for group in groups for name, _ in group["params"]}) > 1:
        raise RequestError(f"{optimizer}: some groups have named parameters and some do not; name all or none")
    return groups


def _entries(params: Any) -> list[Any]:
    return [params] if isinstance(params, Tensor) else list(params)


def _named(entries: list[Any], optimizer: str) -> Named:
    pairs: Named = []
    for i, entry in enumerate(entries):
        name, parameter = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)
        if not isinstance(parameter, Tensor) or not isinstance(name, (str, type(None))):
            raise TypeError(
                f"{optimizer}: parameter {i} is a {type(entry).__name__}, not a parameter or a (name, parameter) pair"
            )
        pairs.append((name, parameter))
    if len({name is None for name, _ in pairs}) > 1:
        raise RequestError(f"{optimizer}: some parameters have names and some do not; name all or none")
    return pairs


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}


def _live(group: dict[str, Any], library: Library) -> dict[str, Any]:
    """The group as it is; in a captured step with an "lr" that the device reads anew at every replay."""
    if not cuda_graph.capturing():
        return group
    cuda_graph.constant(lambda: {k: v for k, v in _options(group).items() if k not in ("lr", "initial_lr")})
    return {**group, "lr": cuda_graph.live(library.xp, lambda: group["lr"])}


def _saved(value: Any) -> Any:
    """A copy on the host; a counter as a plain number, wherever it was."""
    if not hasattr(value, "shape"):
        return value
    return backend.to_host(value).copy() if value.dtype.kind in "fc" else value.item()


def _placed(value: Any, parameter: Tensor, what: str) -> Any:
    """A saved count where the parameter is; a saved array copied to the parameter's library and dtype."""
    if not hasattr(value, "shape"):
        return counter(parameter.data, value)
    if value.shape != parameter.shape:
        raise RequestError(
            f"this optimizer state does not fit: {what} has shape {value.shape}, the parameter {parameter.shape}"
        )
    library = backend.find((parameter.data,))
    return library.xp.array(library.asarray(value), dtype=parameter.dtype, copy=True)


def _difference(owned: list[list[str]], theirs: list[list[str]]) -> str:
    if len(owned) != len(theirs):
        return f"{len(theirs)} groups there, {len(owned)} here"
    for i, (own, other) in enumerate(zip(owned, theirs, strict=True)):
        for mine, its in zip(own, other, strict=False):
            if mine != its:
                return f"group {i} has {its!r} there where it has {mine!r} here"
        if len(own) != len(other):
            return f"group {i} has {len(other)} parameters there, {len(own)} here"
    return "they are the same"
