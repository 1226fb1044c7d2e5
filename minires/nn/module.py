"""Module: a tree of plain attributes, some of which are parameters.

Nothing is registered. An attribute that is a `Parameter` is learned, one that is a `Buffer` is kept but not
learned, one that is a `Module` is a child; everything else is the module's own business. So
`model.layer2[0].conv1.weight` is ordinary attribute access, and the walks below only look at what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np

from minires import backend
from minires.backend import Array
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad

T = TypeVar("T", bound=Tensor)


class Parameter(Tensor):
    """A tensor that is learned. float32 unless `dtype` says otherwise; shares memory where nothing is converted."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = np.float32) -> None:
        super().__init__(data.data if isinstance(data, Tensor) else data, requires_grad, dtype)


class Buffer(Tensor):
    """A tensor that is part of a module's state but not learned, such as a running mean.

    persistent    whether `state_dict()` contains it
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Any, persistent: bool = True) -> None:
        super().__init__(data.data if isinstance(data, Tensor) else data)
        self.persistent = persistent


class LoadedKeys(NamedTuple):
    """What `load_state_dict(..., strict=False)` left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Misfits(NamedTuple):
    """Names that keep a state dict from fitting a module; the first with both shapes."""

    misshapen: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        kinds = zip(("of another shape", "missing", "unexpected"), self, strict=True)
        return "; ".join(f"{len(names)} {what} ({', '.join(names)})" for what, names in kinds if names)


class Module:
    """The base of every layer and model. A subclass makes its children in `__init__` and writes `forward`.

    Attributes
        training    what `train()` and `eval()` set; dropout and batch norm look at it
    """

    training: bool = True
    may_be_missing: ClassVar[frozenset[str]] = frozenset()  # own tensors that older weight files do not have

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward; write def forward(self, x): ...")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        """Plain assignment, but for two slips that would silently take weights away from the optimizer."""
        held = self.__dict__.get(name)
        if isinstance(held, (Parameter, Buffer)) and isinstance(value, Tensor) and not isinstance(value, type(held)):
            role = type(held).__name__
            raise TypeError(
                f"{type(self).__name__}.{name} is a {role}, and a plain Tensor in its place would no longer be one; "
                f"wrap it in nn.{role}(...), or overwrite the values with {name}.copy_(...) under no_grad()"
            )
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        if any(isinstance(element, Module) for element in inside):
            raise TypeError(
                f"{type(self).__name__}.{name}: parameters() does not look inside a {type(value).__name__}; "
                "wrap the modules in nn.ModuleList, nn.ModuleDict or nn.Sequential"
            )
        object.__setattr__(self, name, value)

    # --- building the tree by name

    def add_module(self, name: str, module: Module | None) -> None:
        """The same as `self.name = module`, for names that are computed. Raises KeyError for one already taken."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{name!r} is a {type(module).__name__}, not a Module")
        if not name or "." in name or (hasattr(self, name) and name not in dict(self.named_children())):
            raise KeyError(f"{name!r} cannot name a child: it is empty, has a dot in it or names another attribute")
        setattr(self, name, module)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """The same as `self.name = parameter`."""
        setattr(self, name, parameter)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """The same as `self.name = Buffer(tensor, persistent)`; None stays None."""
        setattr(self, name, None if tensor is None else Buffer(tensor, persistent))

    # --- walking the tree

    def named_children(self) -> Iterator[tuple[str, Module]]:
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, parents first, with dotted names ("" for this one)."""
        seen: set[int] = set()

        def walk(name: str, module: Module) -> Iterator[tuple[str, Module]]:
            if remove_duplicate and id(module) in seen:
                return
            seen.add(id(module))
            yield name, module
            for key, child in module.named_children():
                yield from walk(f"{name}.{key}" if name else key, child)

        return walk(prefix, self)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its dotted name; one that is shared comes once, under its first name."""
        return _unique(self._named(Parameter, prefix, recurse))

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters("", recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        return _unique(self._named(Buffer, prefix, recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        return (buffer for _, buffer in self.named_buffers("", recurse))

    def _named(self, kind: type[T], prefix: str, recurse: bool) -> Iterator[tuple[str, T]]:
        owners = self.named_modules(prefix, remove_duplicate=False) if recurse else [(prefix, self)]
        for owner, module in owners:
            for name, value in vars(module).items():
                if isinstance(value, kind):
                    yield f"{owner}.{name}" if owner else name, value

    # --- state

    def _state(self) -> dict[str, tuple[Module, Tensor]]:
        """Every persistent tensor and its owner, in the order of torch: parameters, buffers, then the children's."""
        state: dict[str, tuple[Module, Tensor]] = {}
        for owner, module in self.named_modules(remove_duplicate=False):
            own: list[tuple[str, Tensor]] = [(k, v) for k, v in vars(module).items() if isinstance(v, Parameter)]
            own += [(k, v) for k, v in vars(module).items() if isinstance(v, Buffer) and v.persistent]
            state.update({f"{owner}.{name}" if owner else name: (module, value) for name, value in own})
        return state

    def state_dict(self) -> dict[str, Tensor]:
        """Every parameter and persistent buffer by dotted name, detached, on the module's own memory."""
        return {name: tensor.detach() for name, (_, tensor) in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadedKeys:
        """Overwrites parameters and buffers with `state`: arrays or Tensors by dotted name.

        With strict=False, names that only one side knows are left alone and returned. As in torch, a weight
        file older than batch norm's `num_batches_tracked` is complete without it.

        Raises RequestError naming every missing, unexpected and wrongly shaped name; then nothing was changed.
        """
        misfits = self.misfits(state)
        if misfits.misshapen or (strict and any(misfits)):
            told = misfits if strict else misfits._replace(missing=[], unexpected=[])
            raise RequestError(
                f"these weights do not fit this {type(self).__name__}: {told}; "
                "build the model with the options that the weights were saved from"
            )
        own = self._state()
        with no_grad():
            for name in own.keys() & state.keys():
                own[name][1].copy_(state[name])
        return LoadedKeys(misfits.missing, misfits.unexpected)

    def misfits(self, state: Mapping[str, Any]) -> Misfits:
        """What keeps `load_state_dict(state)` from loading: nothing where `any(...)` of it is False."""
        own = self._state()
        return Misfits(
            [f"{k} is {own[k][1].shape} here and {_shape(v)} there" for k, v in state.items() if _other(own.get(k), v)],
            [k for k, (m, _) in own.items() if k not in state and k.rpartition(".")[2] not in m.may_be_missing],
            [k for k in state if k not in own],
        )

    # --- switches

    def train(self, mode: bool = True) -> Self:
        """Training mode for this module and all below it."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode: dropout does nothing, batch norm uses its running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freezes (False) or unfreezes every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forgets every parameter's gradient (sets it to None, as torch does)."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Calls `fn` on every module of the tree, children before their parent."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, device: Any = None, dtype: Any = None) -> Self:
        """Moves parameters, buffers and gradients in place: `to("cuda")`, `to(np.float64)`, `to("cpu", "float32")`.

        Only floating-point tensors take a new dtype. Raises RequestError for an unknown device and TypeError for
        a dtype that is not floating-point.
        """
        if dtype is None and device is not None and not isinstance(device, str):
            device, dtype = None, device
        library = None if device is None else backend.library_of(device)
        kind = None if dtype is None else np.dtype(dtype)
        if kind is not None and kind.kind not in "fc":
            raise TypeError(f"a module's dtype must be floating-point, not {kind}; use float32 or float64")

        def moved(array: Array) -> Array:
            goal = library or backend.find((array,))
            return goal.asarray(array, kind if array.dtype.kind in "fc" else None)

        held: Iterable[Tensor] = [*self.parameters(), *self.buffers()]
        for t in held:
            t.data = moved(t.data)
            t.grad = None if t.grad is None else moved(t.grad)
        return self

    # --- what it looks like

    def extra_repr(self) -> str:
        """What a subclass wants to see between the parentheses of its `repr`."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}(" + "\n  ".join(["", *([extra] if extra else []), *lines]) + "\n)"


def functional_call(module: Module, tensors: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
    """Runs `module(*args)` with the named parameters and buffers replaced by `tensors`, and puts the old ones back.

    What gradient checks, `grad` and `vjp` need: the module as a function of its weights.
    Raises RequestError for a name that the module does not have.
    """
    owners = dict(module.named_modules(remove_duplicate=False))
    places = []
    for name in tensors:
        owner, _, attribute = name.rpartition(".")
        place = vars(owners[owner]) if owner in owners else {}
        if not isinstance(place.get(attribute), (Parameter, Buffer)):
            raise RequestError(f"functional_call: {type(module).__name__} has no parameter or buffer {name!r}")
        places.append((place, attribute, place[attribute]))
    try:
        for (place, attribute, _), t in zip(places, tensors.values(), strict=True):
            place[attribute] = t
        return module(*args, **kwargs)
    finally:
        for place, attribute, held in places:
            place[attribute] = held


def empty(*shape: int) -> Array:
    """A float32 array where new arrays are made at the moment, for an initializer to fill (zeros until then)."""
    return backend.default().xp.zeros(shape, np.float32)


def refuse_inplace(layer: str, inplace: bool) -> None:
    """Raises TypeError for torch's `inplace=True`, which would overwrite what backward needs."""
    if inplace:
        raise TypeError(
            f"{layer}: minires computes out of place, so that backward sees what forward saw; drop inplace=True"
        )


def _unique(named: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _other(own: tuple[Module, Tensor] | None, values: Any) -> bool:
    """Whether a tensor of this name is there, but of another shape."""
    return own is not None and own[1].shape != _shape(values)


def _shape(values: Any) -> tuple[int, ...]:
    return tuple(values.shape) if hasattr(values, "shape") else np.shape(values)
