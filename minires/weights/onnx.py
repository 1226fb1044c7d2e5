"""ONNX export: a model is run once under a recorder, and what stands on the tape is written down op by op.

It is run on two batches of different sizes. What is the same in both belongs to the model; a shape that differs
depends on the batch and is written so, which leaves the batch's axis open; anything else that differs was computed
from the image outside of the tape, and is refused instead of being frozen into the file.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minires import backend
from minires.engine import Folded, Function, Tensor
from minires.errors import RequestError
from minires.nn import Module, evaluating
from minires.switches import enable_grad, formulas_only, record_with
from minires.weights.files import write_bytes

OPSET, IR = 18, 8  # read by every runtime since 2023
BATCHES = 2, 3
INSTALL = "pip install 'minires[onnx]'"

# A named tensor; (op, output); a constant; an op of an earlier run; an absent input.
Source = str | tuple[int, int] | np.ndarray | Function | None
Translate = Callable[..., Any]

translations: dict[str, Translate] = {}


def translates(*ops: str) -> Callable[[Translate], Translate]:
    """Registers f(graph, step, *inputs) -> the name of the output, or a tuple of them, for ops by class name."""

    def register(f: Translate) -> Translate:
        translations.update(dict.fromkeys(ops, f))
        return f

    return register


def export_onnx(
    model: Module, path: str | Path, image_shape: tuple[int, int, int], about: dict[str, Any] | None = None
) -> None:
    """Writes a model of images as ONNX: evaluation mode, any batch size, weights under their `state_dict()` names.

    image_shape    (C, H, W); the batch stays open, the image's size does not
    about          what the model is; goes into the file's metadata

    The input is named "input"; the output "output", or by field or number where there are several.
    Raises RequestError for an op without translation, by its name, for a model that takes no such images, for one
    that computes from the image outside of the tape, and when onnx is not installed.
    """
    onnx = _onnx()
    importlib.import_module("minires.weights.onnx_ops")  # which registers the translations
    with evaluating(model):
        first, second = (_record(model, (n, *image_shape)) for n in BATCHES)
    graph = Graph(onnx, first.tensors)
    outputs = _translate(graph, first, second)
    made = graph.model(first, outputs, {"minires": json.dumps(about or {})})
    onnx.checker.check_model(made, full_check=True)
    write_bytes(Path(path), made.SerializeToString())


# --- recording


@dataclass(frozen=True)
class Recorded:
    """An op on the tape, and where its inputs came from."""

    op: Function
    sources: tuple[Source, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]


@dataclass(frozen=True)
class Recording:
    """One run. `outputs` are names with sources, shapes and dtypes; `tensors` the model's own, by name."""

    ops: list[Recorded]
    outputs: dict[str, tuple[Source, tuple[int, ...], Any]]
    tensors: dict[str, np.ndarray]
    shape: tuple[int, ...]
    dtype: Any


def _record(model: Module, shape: tuple[int, ...]) -> Recording:
    parameter = next(model.parameters(), None)
    dtype = np.float32 if parameter is None else parameter.dtype
    library = backend.default() if parameter is None else backend.find((parameter.data,))
    values = np.random.default_rng(shape[0]).standard_normal(shape)
    image = Tensor(library.asarray(values, dtype), requires_grad=True)
    tensors = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    names = {id(tensor.data): name for name, tensor in tensors.items()} | {id(image.data): "input"}
    ops: list[Recorded] = []
    place: dict[int, int] = {}

    def source(x: Any) -> Source:
        if x is None:
            return None
        if isinstance(x, Tensor):
            if x.op is not None:
                return (place[id(x.op)], x.index) if id(x.op) in place else x.op
            x = x.data
        return names.get(id(x)) or np.asarray(backend.to_host(x))

    def recorder(op: Function, inputs: Sequence[Any]) -> None:
        arrays = [_array(x) for x in inputs]
        dtypes = tuple(getattr(a, "dtype", None) for a in arrays)
        ops.append(Recorded(op, tuple(source(x) for x in inputs), tuple(np.shape(a) for a in arrays), dtypes))
        place[id(op)] = len(ops) - 1

    with enable_grad(), formulas_only(), record_with(recorder):
        try:
            answer = model(image)
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            size = " x ".join(map(str, shape[1:]))
            raise RequestError(
                f"ONNX export is for models of images, and {type(model).__name__} takes none of {size}: {error}"
            ) from error
    outputs = {name: (source(y), tuple(y.shape), y.dtype) for name, y in _named(answer)}
    host = {name: tensor.numpy() for name, tensor in tensors.items()}
    return Recording(ops, outputs, host, shape, np.dtype(dtype))


def _array(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else 0.0 if x is None else x


def _named(answer: Any) -> Iterator[tuple[str, Tensor]]:
    """The model's outputs and the names they get."""
    if isinstance(answer, (tuple, list)):
        fields = getattr(answer, "_fields", [f"output_{i}" for i in range(len(answer))])
        yield from zip(fields, answer, strict=True)
    else:
        yield "output", answer


# --- translating


@dataclass(frozen=True)
class Step:
    """One op in both runs, for its translation to look at."""

    first: Recorded
    second: Recorded

    @property
    def name(self) -> str:
        return self.first.op.name

    @property
    def dtype(self) -> Any:
        """Of output 0."""
        return self.first.op.outputs[0][1]

    def option(self, name: str) -> Any:
        """What the op was given. Raises RequestError where it depends on the batch."""
        value = getattr(self.first.op, name)
        if not _same(value, getattr(self.second.op, name)):
            raise RequestError(f"ONNX export: {name} of {self.name} depends on the batch's size, which stays open")
        return value

    def values(self, name: str) -> np.ndarray:
        """The same for an option that is an array."""
        return np.asarray(backend.to_host(self.option(name)))

    def both(self, name: str) -> tuple[Any, Any]:
        """What the op was given in either run."""
        return getattr(self.first.op, name), getattr(self.second.op, name)

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """Of input i; its axis 0 is the first run's."""
        return self.first.shapes[i]

    def count(self, axes: Sequence[int]) -> int:
        """How many numbers `axes` of input 0 span. Raises RequestError where it depends on the batch."""
        sizes = {int(np.prod([run.shapes[0][axis] for axis in axes])) for run in (self.first, self.second)}
        if len(sizes) > 1:
            raise RequestError(f"ONNX export: {self.name} is taken over the batch, whose size stays open")
        return sizes.pop()


class Graph:
    """ONNX nodes and constants on their way into a file."""

    def __init__(self, onnx: Any, tensors: dict[str, np.ndarray]) -> None:
        self.onnx = onnx
        self.tensors = tensors
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._known: dict[tuple[Any, ...], str] = {}
        self.label = ""  # of the op that is being translated; its nodes are named by it

    def node(self, kind: str, *inputs: str | None, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns its output's name, or with outputs > 1 a tuple."""
        name = f"{self.label}/{kind}_{len(self.nodes)}"
        names = [f"{name}:{i}" for i in range(outputs)] if outputs > 1 else [name]
        given = [i or "" for i in inputs]
        while given and not given[-1]:
            given.pop()
        self.nodes.append(self.onnx.helper.make_node(kind, given, names, name=name, **attributes))
        return tuple(names) if outputs > 1 else names[0]

    def constant(self, values: Any, dtype: Any = None) -> str:
        """The name of a constant; equal ones share it."""
        array = np.array(values, dtype)  # a copy: it must not change any more
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = f"constant_{len(self._known)}"
            self.constants[self._known[key]] = array
        return self._known[key]

    def ints(self, *values: int) -> str:
        """A constant vector of int64: axes, sizes, positions."""
        return self.constant(values, np.int64)

    def promoted(self, x: str | None, dtype: Any, goal: Any) -> str | None:
        """A float of another width than the op's output, which ONNX does not widen by itself."""
        if x is None or x in self.constants or dtype is None or dtype == goal or (dtype.kind, goal.kind) != ("f", "f"):
            return x
        return self.node("Cast", x, to=self.onnx.helper.np_dtype_to_tensor_dtype(goal))

    def shape(self, step: Step, name: str, infer: bool) -> str:
        """A shape that the op was given, with the batch's size left open.

        infer    write it as -1, which Reshape takes; otherwise it is computed from the input
        """
        first, second = step.both(name)
        free = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        if not free:
            return self.ints(*first)
        (i, *more), (n, m) = free, BATCHES
        if more or first[i] * m != second[i] * n:
            raise RequestError(f"ONNX export: {name} of {step.name} depends on the batch's size, {first} and {second}")
        if infer:
            return self.ints(*first[:i], -1, *first[i + 1 :])
        batch = self.node("Shape", "input", start=0, end=1)
        length = self.node("Mul", batch, self.ints(first[i] // n))
        parts = [self.ints(*first[:i])] * (i > 0) + [length] + [self.ints(*first[i + 1 :])] * (i + 1 < len(first))
        return self.node("Concat", *parts, axis=0)

    def model(self, run: Recording, outputs: dict[str, str], metadata: dict[str, str]) -> Any:
        """The finished model."""
        helper, kind = self.onnx.helper, self.onnx.helper.np_dtype_to_tensor_dtype
        self.label = "output"
        for name, value in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name], name=f"output/{name}"))
        used = {i for node in self.nodes for i in node.input}
        held = {k: v for k, v in {**self.tensors, **self.constants}.items() if k in used}
        arrays = [self.onnx.numpy_helper.from_array(np.asarray(a, order="C"), k) for k, a in held.items()]
        inputs = [helper.make_tensor_value_info("input", kind(run.dtype), ["batch", *run.shape[1:]])]
        results = [
            helper.make_tensor_value_info(name, kind(dtype), ["batch", *shape[1:]])
            for name, (_, shape, dtype) in run.outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "minires", inputs, results, arrays)
        opsets = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="minires")
        helper.set_model_props(made, metadata)
        return made


def _translate(graph: Graph, first: Recording, second: Recording) -> dict[str, str]:
    """Translates all ops; returns the outputs' names in the graph."""
    if [r.op.name for r in first.ops] != [r.op.name for r in second.ops]:
        raise RequestError("ONNX export: the model runs other ops for another batch, so no one graph is the model")
    made: list[tuple[str, ...]] = []

    def value(a: Source, b: Source, reader: str, dtype: Any) -> str | None:
        if isinstance(a, tuple):
            return made[a[0]][a[1]]
        if a is None or isinstance(a, str):
            return a
        if isinstance(a, Function):
            raise RequestError(f"ONNX export: an input of {reader} was computed before the model ran; detach() it")
        if not _same(a, b):
            raise RequestError(f"ONNX export: an input of {reader} was computed from the image outside of the tape")
        a_number = a.dtype.kind == "f" or (a.dtype.kind in "iu" and not a.ndim)
        return graph.constant(a, dtype if a_number else None)

    for r, twin in zip(first.ops, second.ops, strict=True):
        if isinstance(r.op, Folded):
            raise RequestError(
                f"ONNX export: {r.op.name} keeps what it computes off the tape; build the model without activation "
                "checkpointing, which changes no number (--option memory_efficient=False)"
            )
        translate = translations.get(r.op.name)
        if translate is None:
            known = ", ".join(sorted(translations))
            raise RequestError(f"ONNX export: {r.op.name} has no translation into ONNX; there are {known}")
        step = Step(r, twin)
        graph.label = r.op.name
        inputs = [value(a, b, r.op.name, step.dtype) for a, b in zip(r.sources, twin.sources, strict=True)]
        if r.op.name != "Cast":
            inputs = [graph.promoted(x, a, step.dtype) for x, a in zip(inputs, r.dtypes, strict=True)]
        names = translate(graph, step, *inputs)
        made.append(names if isinstance(names, tuple) else (names,))
    found = {}
    for name, (a, shape, _) in first.outputs.items():
        b, other, _ = second.outputs[name]
        if (shape[:1], other[:1]) != ((BATCHES[0],), (BATCHES[1],)):
            raise RequestError(f"ONNX export: {name} is of shape {shape} for a batch of {BATCHES[0]}, not one an image")
        found[name] = str(value(a, b, name, None))
    return found


# --- small parts


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if hasattr(a, "shape") or hasattr(b, "shape"):
        return np.array_equal(np.asarray(backend.to_host(a)), np.asarray(backend.to_host(b)))
    return bool(a == b)


def _onnx() -> Any:
    try:
        importlib.import_module("onnx.checker")
        return importlib.import_module("onnx")
    except ImportError:
        raise RequestError(f"ONNX export needs onnx, which is not installed: {INSTALL}") from None
