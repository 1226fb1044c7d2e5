"""The engine: Tensor, Function, the tape and `backward()`. No formula stands here.

A `Function` is one op: `forward` and `backward` on plain arrays. `Function.apply` runs it and, where a
gradient is wanted, leaves it on the tape: the outputs remember the op that made them, and the op
remembers where each of its inputs came from (its *edges*).

Every op carries a serial number, and inputs are made before outputs. So creation order is already a
topological order, and `backpropagate` only has to take the reached op with the highest serial, again and
again: when an op's turn comes, all that its outputs fed has been walked, its gradient is complete, and its
`backward` runs exactly once. A residual block is a diamond; an engine that recurses along paths runs
it 2^depth times.
"""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from minires import backend
from minires.backend import Array, Library
from minires.errors import GraphError, RequestError
from minires.switches import state

F = TypeVar("F", bound="type[Function]")

USED_UP = (
    "a second time, but its saved arrays were freed after the first; "
    "call the first backward with retain_graph=True, or run the forward pass again"
)

_serials = itertools.count()
_kernels: dict[type[Function], list[tuple[str, type[Function]]]] = {}


class Tensor:
    """An array and, where a gradient is wanted, the op on the tape that made it.

    Attributes
        data            the array (NumPy or CuPy)
        grad            the accumulated gradient, an array shaped like `data`, or None (leaves only,
                        unless `retain_grad()` was called)
        requires_grad   whether `backward()` reaches this tensor
    """

    __array_ufunc__ = None  # so that `array * tensor` asks the tensor
    __slots__ = ("__weakref__", "_version", "data", "grad", "index", "op", "requires_grad")

    data: Array
    grad: Array | None
    requires_grad: bool
    op: Function | None
    index: int

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        if isinstance(data, Tensor):
            raise TypeError("data is already a Tensor; use .detach() for a new leaf on the same array")
        try:
            library = backend.find((data,), "Tensor")
            self.data = library.asarray(data, dtype) if dtype is not None else library.xp.asarray(data)
        except TypeError:
            self.data = backend.default().asarray(data, dtype)
        if requires_grad and self.data.dtype.kind not in "fc":
            raise RequestError(f"a tensor of dtype {self.data.dtype} cannot require a gradient: only floats carry one")
        self.grad = None
        self.requires_grad = requires_grad
        self.op = None
        self.index = 0
        self._version = [0]

    # --- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def device(self) -> str:
        return backend.find((self.data,)).device

    @property
    def is_leaf(self) -> bool:
        return self.op is None

    def __len__(self) -> int:
        if not self.data.ndim:
            raise TypeError("a 0-d tensor has no length")
        return self.data.shape[0]

    def __repr__(self) -> str:
        values = np.array2string(
            backend.to_host(self.data), precision=4, separator=", ", prefix="tensor(", threshold=200
        )
        place = "" if self.device == "cpu" else f", device={self.device!r}"
        origin = f", op={self.op.name}" if self.op else ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({values}, dtype={self.dtype}{place}{origin})"

    # --- getting values out

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array (shares memory where the tensor is on the CPU)."""
        return backend.to_host(self.data)

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        return self.data.item()

    def detach(self) -> Tensor:
        """A leaf without gradient on the same array."""
        leaf = _wrap(self.data)
        leaf._version = self._version
        return leaf

    # --- changing values in place: counted, so that a saved array that changed is noticed

    def copy_(self, values: Any) -> Tensor:
        """Overwrites the values in place. Shapes must match; the dtype stays."""
        self._guard("copy_")
        source = values.data if isinstance(values, Tensor) else values
        source = backend.find((self.data,)).asarray(source)
        if source.shape != self.shape:
            raise ValueError(f"copy_: values of shape {source.shape} cannot overwrite a tensor of shape {self.shape}")
        self.data[...] = source
        return self.touch()

    def __setitem__(self, index: Any, values: Any) -> None:
        self._guard("item assignment")
        plain = values.data if isinstance(values, Tensor) else values
        self.data[index.data if isinstance(index, Tensor) else index] = plain
        self.touch()

    def touch(self) -> Tensor:
        """Counts one in-place change of `data`, whoever made it (an optimizer, a buffer update)."""
        self._version[0] += 1
        return self

    def _guard(self, what: str) -> None:
        if self.op is not None or (self.requires_grad and state.recording):
            raise GraphError(
                f"{what} on a tensor that carries a gradient would hide the change from backward; "
                "compute a new tensor, or use no_grad() for a parameter"
            )

    # --- gradients

    if TYPE_CHECKING:  # what minires.operators binds

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __float__(self) -> float: ...
        def __int__(self) -> int: ...

    def retain_grad(self) -> Tensor:
        """Asks an interior tensor to keep its gradient in `.grad`, as leaves do."""
        if self.op is not None and all(t is not self for t in self.op.retained):
            self.op.retained.append(self)
        return self

    def backward(self, grad: Any = None, retain_graph: bool = False) -> None:
        """Adds d(self)/d(leaf), contracted with `grad`, to `.grad` of every leaf that self depends on.

        grad            the cotangent, shaped like self; optional (1) for a one-element tensor only
        retain_graph    keep the saved arrays, so that backward can be called again

        Raises GraphError without a graph, without a needed `grad`, on a second call, or when an array
        that an op saved was changed in the meantime.
        """
        backpropagate(self, grad, retain_graph=retain_graph, deliver=_accumulate)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, device: str | None = None) -> Tensor:
    """A new leaf tensor holding a copy of `data`: nested lists, numbers or an array.

    Python floats become float32, as in PyTorch; arrays keep their dtype. `device` is "cpu" or "cuda";
    without it an array stays where it is and the rest goes where `with device(...)` says.
    """
    if isinstance(data, Tensor):
        data = data.data
    if device is None and hasattr(data, "dtype") and not isinstance(data, np.generic):
        library = backend.find((data,), "tensor")
    else:
        library = backend.default() if device is None else backend.library_of(device)
    if dtype is None and not hasattr(data, "dtype"):
        host = np.asarray(data)
        dtype = {"f": np.float32, "c": np.complex64}.get(host.dtype.kind, host.dtype)
        data = host
    return Tensor(library.xp.array(library.asarray(data, dtype), copy=True), requires_grad)


def _wrap(data: Array) -> Tensor:
    """A Tensor around an array, without the constructor's checks (the engine's hot path)."""
    t = Tensor.__new__(Tensor)
    t.data = data
    t.grad = None
    t.requires_grad = False
    t.op = None
    t.index = 0
    t._version = [0]
    return t


class Function:
    """One op. A subclass writes `forward(self, *arrays)` and `backward(self, gy)` on plain arrays.

    On `self` the engine puts `xp` (numpy or cupy), `lib` (its `backend.Library`), `needs` (for each
    input, whether its gradient is wanted; a costly one may be skipped and returned as None), and the
    options given to `apply`. What `forward` stores on `self` is what the op saves; the engine guards it
    against changes and frees it once `backward` has used it.

    Class attributes
        broadcasts   the inputs broadcast against each other; the engine then sums each gradient back
        view         output 0 may share memory with input 0
    """

    broadcasts: ClassVar[bool] = False
    view: ClassVar[bool] = False
    stands_for: ClassVar[type[Function] | None] = None  # set on a kernel by `kernel`
    __slots__ = (
        "__dict__",
        "checksums",
        "edges",
        "freed",
        "inputs",
        "lib",
        "needs",
        "outputs",
        "retained",
        "saw",
        "serial",
        "xp",
    )

    xp: Any
    lib: Library
    needs: tuple[bool, ...]
    serial: int
    edges: Sequence[tuple[Function | Tensor, int] | None]  # who made each input; None: no gradient
    inputs: Sequence[tuple[tuple[int, ...], Any] | None]  # shape and dtype of each input with a gradient
    outputs: Sequence[tuple[tuple[int, ...], Any]]
    saw: list[tuple[list[int], int, int, int, int, tuple[int, ...]]]  # see `_note_versions`
    checksums: dict[str, int] | None  # of what is saved, while debugging
    retained: list[Tensor]
    freed: str  # why there is nothing saved any more

    def forward(self, *arrays: Any) -> Any:
        raise TypeError(f"{self.name} has no forward formula")

    def backward(self, *gys: Any) -> Any:
        raise TypeError(f"{self.name} has no backward formula")

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        """For a kernel: whether it handles these arrays and options. The op itself handles all."""
        return True

    @property
    def name(self) -> str:
        """The op's name; for a kernel, that of the op it stands for."""
        return (self.stands_for or type(self)).__name__

    def __repr__(self) -> str:
        return f"<{self.name} #{getattr(self, 'serial', '?')}>"

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """Runs the op on Tensors, arrays or Python scalars; returns a Tensor, or a tuple of them.

        An input may be None (an absent bias). Raises LibraryError when arrays of two libraries meet.
        """
        recording = state.recording
        arrays: list[Any] = []
        needs: list[bool] = []
        for x in inputs:
            if isinstance(x, Tensor):
                arrays.append(x.data)
                needs.append(recording and x.requires_grad)
            else:
                arrays.append(x)
                needs.append(False)
        lib = backend.find(arrays, cls.__name__)
        op = _choose(cls, lib, arrays, options)()
        if options:
            op.__dict__.update(options)
        op.lib = lib
        op.xp = lib.xp
        op.needs = tuple(needs)
        timer = state.timer
        results = op.forward(*arrays) if timer is None else timer(op, "forward", op.forward, tuple(arrays))
        kind = lib.array_type
        outputs: list[Tensor] = []
        for y in results if isinstance(results, tuple) else (results,):
            outputs.append(_wrap(y if type(y) is kind or backend.is_array(y) else lib.asarray(y)))
        if cls.view and isinstance(inputs[0], Tensor):
            outputs[0]._version = inputs[0]._version
        if True in needs:
            op._record(inputs, outputs)
        return tuple(outputs) if isinstance(results, tuple) else outputs[0]

    def _record(self, inputs: Sequence[Any], outputs: Sequence[Tensor]) -> None:
        edges: list[tuple[Function | Tensor, int] | None] = []
        metas: list[tuple[tuple[int, ...], Any] | None] = []
        for x, need in zip(inputs, self.needs, strict=True):
            edges.append((x.op or x, x.index) if need else None)
            metas.append((x.data.shape, x.data.dtype) if need else None)
        self.edges, self.inputs = edges, metas
        self._sign(outputs)
        self._note_versions(inputs, outputs)
        if state.recorder is not None:
            state.recorder(self, inputs)

    def _sign(self, outputs: Sequence[Tensor]) -> None:
        """Puts the op on the tape as what made the outputs."""
        self.serial = next(_serials)
        metas = []
        for index, y in enumerate(outputs):
            dtype = y.data.dtype
            metas.append((y.data.shape, dtype))
            if dtype.kind in "fc":
                y.requires_grad, y.op, y.index = True, self, index
        self.outputs = metas
        self.saw, self.checksums = [], None
        self.retained = []
        self.freed = ""

    def _note_versions(self, inputs: Sequence[Any], outputs: Sequence[Tensor]) -> None:
        """Notes the version of each input and output, and its memory. Whether that was saved, `_check_saved` asks."""
        saw = self.saw
        for position, t in enumerate((*inputs, *outputs)):
            if isinstance(t, Tensor):
                data, version = t.data, t._version
                saw.append((version, version[0], id(data), id(data.base), position, data.shape))
        if state.debugging:
            kind = self.lib.array_type
            self.checksums = {k: checksum(a) for k, a in self.__dict__.items() if type(a) is kind}

    def _saved_memory(self) -> set[int]:
        """The ids of the arrays that `forward` stored on self, and of those that they are views of."""
        kind: Any = self.lib.array_type
        saved = [a for a in self.__dict__.values() if type(a) is kind]
        return {id(a) for a in saved} | {id(a.base) for a in saved if a.base is not None}

    def _check_saved(self) -> None:
        """Raises GraphError when an array that `forward` saved has changed since."""
        for version, count, data, base, position, shape in self.saw:
            if version[0] != count and not self._saved_memory().isdisjoint((data, base)):
                inputs = len(self.inputs)
                name = f"input {position}" if position < inputs else f"output {position - inputs}"
                raise GraphError(
                    f"backward of {self.name}: the {name} it saved, of shape {shape}, was changed in place "
                    "after the forward pass, so the gradient would be wrong; run the forward pass again before backward"
                )
        if self.checksums is not None:
            for name, before in self.checksums.items():
                if checksum(self.__dict__[name]) != before:
                    raise GraphError(
                        f"backward of {self.name}: its saved array {name!r}, of shape {self.__dict__[name].shape}, "
                        "was written to between forward and backward (found by checksum); write to a copy instead"
                    )

    def _free(self, why: str = USED_UP) -> None:
        self.__dict__.clear()
        self.edges = ()
        self.retained = []
        self.freed = why


class Meeting(Function):
    """Where two paths meet, what they hand back is added. Not on the tape itself, but kernels may stand for it."""

    def forward(self, x: Array, f: Array) -> Array:
        return x + f


class Folded(Function):
    """Stands on the tape for ops that are made only when backward comes to them (see `nn.checkpoint`).

    `unfold` makes them and returns an edge for each output of this op: the walk goes on along these, with what has
    arrived here. The new ops are younger than all that are still to be walked, and depend on older ones only, so
    creation order stays a topological one.
    """

    unfold: Callable[[], Sequence[tuple[Function | Tensor, int] | None]]

    def stand_for(self, outputs: Sequence[Tensor], edges: Sequence[tuple[Function | Tensor, int]]) -> None:
        """Takes the place of the ops that made `outputs`. `edges` tells who looks at the graph what they depend on."""
        self.lib = backend.find([y.data for y in outputs], self.name)
        self.xp = self.lib.xp
        self.edges, self.inputs = edges, ()
        self._sign(outputs)


def kernel(op: type[Function], library: str) -> Callable[[F], F]:
    """Registers a subclass of `op` that computes the same forward and backward faster on one library."""

    def register(implementation: F) -> F:
        if not issubclass(implementation, op):
            raise TypeError(f"kernel {implementation.__name__} must be a subclass of {op.__name__}")
        implementation.stands_for = op
        _kernels.setdefault(op, []).append((library, implementation))
        return implementation

    return register


def kernels_of(op: type[Function]) -> list[type[Function]]:
    """Every kernel registered for `op`, whatever the library."""
    return [implementation for _, implementation in _kernels.get(op, ())]


def _choose(op: type[Function], lib: Library, arrays: Sequence[Any], options: dict[str, Any]) -> type[Function]:
    if state.kernels:
        for library, implementation in _kernels.get(op, ()):
            if library == lib.name and implementation.accepts(*arrays, **options):
                return implementation
    return op


# --- the walk backward --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edge:
    """What input `index` of `op` hands back, and to whom: one contribution to one gradient."""

    op: Function
    index: int
    receiver: Function | Tensor  # the op whose output the input is, or a leaf
    output: int  # which output of the receiver


def backpropagate(
    root: Tensor,
    grad: Any,
    *,
    retain_graph: bool = False,
    deliver: Callable[[Tensor, Array, bool], None],
) -> None:
    """Walks the tape backward from `root` and calls `deliver(leaf, gradient, owned)` for every leaf edge.

    `owned` says that the engine made the array, so that the receiver may keep it without a copy.
    """
    seed = _seed(root, grad)
    if root.op is None:
        deliver(root, seed, True)
        return
    arriving: dict[Function, list[Any]] = {root.op: [None] * len(_alive(root.op).outputs)}
    owned: set[tuple[Function, int]] = {(root.op, root.index)}
    arriving[root.op][root.index] = seed
    heap: list[tuple[int, Function]] = [(-root.op.serial, root.op)]
    edges: Sequence[tuple[Function | Tensor, int] | None]
    gys: Any
    seed = gxs = gx = slots = None  # so that no name here outlives what it holds
    while heap:
        op = heapq.heappop(heap)[1]
        gys = arriving.pop(op)
        for t in op.retained:
            if gys[t.index] is not None:
                _accumulate(t, gys[t.index], False)
        op._check_saved()
        if isinstance(op, Folded):
            edges, gxs = op.unfold(), gys
        else:
            edges, gxs = op.edges, _run_backward(op, gys)
        gys = None
        if not retain_graph:
            op._free()
        for edge, gx in zip(edges, gxs, strict=True):
            if edge is None or gx is None:
                continue
            receiver, output = edge
            if isinstance(receiver, Tensor):
                deliver(receiver, gx, False)
                continue
            slots = arriving.get(receiver)
            if slots is None:
                slots = arriving[receiver] = [None] * len(_alive(receiver).outputs)
                heapq.heappush(heap, (-receiver.serial, receiver))
            if slots[output] is None:
                slots[output] = gx
            elif (receiver, output) in owned:
                slots[output] += gx
            else:  # an op's own array is never written to: the first sum makes a new one
                slots[output] = _sum(op.lib, slots[output], gx)
                owned.add((receiver, output))
        gxs = gx = slots = None


def _sum(lib: Library, x: Array, f: Array) -> Array:
    op = _choose(Meeting, lib, (x, f), {})()
    op.lib, op.xp = lib, lib.xp
    return lib.xp.asarray(op.forward(x, f))


def _run_backward(op: Function, gys: list[Any]) -> Sequence[Any]:
    """The op's backward formula, then what the formulas leave to the engine: shapes, dtypes, watchers."""
    if len(gys) > 1:
        gys = [op.xp.zeros(*meta) if g is None else g for g, meta in zip(gys, op.outputs, strict=True)]
    timer = state.timer
    gxs = op.backward(*gys) if timer is None else timer(op, "backward", op.backward, tuple(gys))
    if not isinstance(gxs, tuple):
        gxs = (gxs,)
    if len(gxs) != len(op.edges):
        raise GraphError(f"backward of {op.name} returned {len(gxs)} gradients for {len(op.edges)} inputs")
    fitted = []
    for i, gx in enumerate(gxs):
        fitted.append(_fit(op, i, gx))
    for watch in state.watchers:
        for i, (edge, gx) in enumerate(zip(op.edges, fitted, strict=True)):
            if edge is not None and gx is not None:
                replaced = watch(Edge(op, i, *edge), gx)
                fitted[i] = gx if replaced is None else _fit(op, i, replaced)
    return fitted


def _fit(op: Function, i: int, gx: Any) -> Any:
    meta = op.inputs[i]
    if meta is None or gx is None:
        return None
    shape, dtype = meta
    if type(gx) is not op.lib.array_type:
        gx = op.lib.asarray(gx)
    if gx.shape != shape:
        if not op.broadcasts:
            raise GraphError(f"backward of {op.name} returned shape {gx.shape} for input {i}, which has shape {shape}")
        gx = sum_to(gx, shape)
    if gx.dtype != dtype:
        gx = (gx.real if gx.dtype.kind == "c" and dtype.kind != "c" else gx).astype(dtype)
    return gx


def sum_to(gy: Array, shape: tuple[int, ...]) -> Array:
    """The adjoint of broadcasting `shape` to `gy.shape`: what was repeated forward is summed backward."""
    new = gy.ndim - len(shape)
    stretched = [i for i, n in enumerate(shape, start=new) if n == 1 and gy.shape[i] != 1]
    return gy.sum(axis=(*range(new), *stretched)).reshape(shape)


def _seed(root: Tensor, grad: Any) -> Array:
    if not root.requires_grad:
        raise GraphError(
            "backward() of a tensor that depends on nothing that requires a gradient; "
            "create an input with requires_grad=True, and not under no_grad()"
        )
    lib = backend.find((root.data,))
    if grad is None:
        if root.size != 1:
            raise GraphError(
                f"backward() of a tensor of shape {root.shape} needs an explicit gradient of that shape, "
                "as in y.backward(g); reduce to a scalar loss first, or pass the cotangent"
            )
        return lib.xp.ones(root.shape, root.dtype)
    grad = grad.data if isinstance(grad, Tensor) else grad
    if not hasattr(grad, "shape"):
        grad = lib.asarray(grad)
    backend.find((root.data, grad), "backward()")
    if grad.shape != root.shape:
        raise GraphError(f"backward() of a tensor of shape {root.shape} was given a gradient of shape {grad.shape}")
    return lib.xp.array(grad, dtype=root.dtype, copy=True)


def _alive(op: Function) -> Function:
    if op.freed:
        raise GraphError(f"backward() reached {op.name} {op.freed}")
    return op


def _accumulate(leaf: Tensor, gradient: Array, owned: bool) -> None:
    if leaf.grad is None:
        leaf.grad = gradient if owned else gradient.copy()
    else:
        # Out of place: somebody may hold the old one. A sum of 0-d arrays is a scalar in NumPy, hence asarray.
        leaf.grad = backend.find((gradient,)).xp.asarray(leaf.grad + gradient)


def checksum(a: Array) -> int:
    """A number that changes with the values of `a`."""
    return zlib.crc32(np.ascontiguousarray(backend.to_host(a)).view(np.uint8).reshape(-1))
