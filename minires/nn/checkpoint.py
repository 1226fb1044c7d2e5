"""Activation checkpointing: what a function would save is computed a second time instead of kept.

Backward needs the activations of the forward pass, so a net of L layers keeps O(L) of them. A checkpointed segment
keeps its inputs alone, and runs again when backward comes to it: sqrt(L) segments of sqrt(L) layers need O(sqrt L)
memory, at the price of one more forward pass.

    y = nn.checkpoint(block, x)
    y = nn.checkpoint_sequential(layers, 8, x)

On the tape the function is one op, a `Checkpoint`. When its turn comes it is *unfolded*: the function runs again, and
the walk goes on through the ops that this run put on the tape, to the inputs and to whatever else the function used,
such as parameters. So every gradient is computed by the same ops in the same order as without a checkpoint.

Source    Chen, Xu, Zhang and Guestrin 2016, Training Deep Nets with Sublinear Memory Cost
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minires import backend
from minires.engine import Folded, Function, Tensor, checksum
from minires.errors import GraphError, RequestError
from minires.nn.containers import Sequential
from minires.switches import enable_grad, recomputing, record_with, state

NOT_KEPT = (
    "inside a checkpointed function, of which nothing is kept but what it returns; "
    "return that tensor (alone, or in a tuple, list or dict), and do not call backward in there"
)


def checkpoint(
    function: Callable[..., Any],
    *inputs: Any,
    preserve_rng_state: bool = True,
    use_reentrant: bool = False,
    **options: Any,
) -> Any:
    """function(*inputs, **options), without keeping the activations: backward computes them again.

    function              a module, or any function; what it closes over gets its gradients, too. It must do the same
                          both times, and hand out the tensors that it makes only in what it returns: a Tensor, or a
                          tuple, list or dict of Tensors and other things
    preserve_rng_state    dropout draws the same masks in the second run, and the generator then goes on where it was
    use_reentrant         torch's older variant, which loses the gradients of what `function` closes over: only False

    Running statistics see the batch once. With retain_graph=True each backward runs the function anew. Under no_grad
    this is a plain call.

    Raises GraphError in backward when a tensor that the function read was changed in place in the meantime, when the
    second run makes other ops than the first, or, under `debug()`, other numbers; RequestError for use_reentrant=True.
    """
    if use_reentrant:
        raise RequestError("checkpoint: use_reentrant=True is not supported; leave it out, every gradient then arrives")
    if not state.recording:
        return function(*inputs, **options)
    return Checkpoint().run(function, inputs, options, preserve_rng_state)


def checkpoint_sequential(functions: Any, segments: int, input: Any, **options: Any) -> Any:
    """y = f_n(... f_2(f_1(input))), cut into `segments` of which each is checkpointed.

    functions    an nn.Sequential, or any iterable of modules and functions
    segments     how many; about sqrt(n) needs the least memory. The last one is not checkpointed: backward begins there
    options      preserve_rng_state and use_reentrant, see `checkpoint`

    Raises RequestError when there are not 1 ... n segments.
    """
    chain = list(functions.children()) if isinstance(functions, Sequential) else list(functions)
    if not isinstance(segments, int) or not 1 <= segments <= max(len(chain), 1):
        raise RequestError(
            f"checkpoint_sequential: {segments!r} segments cannot be made of {len(chain)} functions; "
            f"choose 1 to {max(len(chain), 1)}"
        )
    size = len(chain) // segments
    for start in range(segments - 1):
        input = checkpoint(_chained(chain[start * size : (start + 1) * size]), input, **options)
    return _chained(chain[(segments - 1) * size :])(input)


class Checkpoint(Folded):
    """A function on the tape, in place of the ops that it runs. Saved: the function, its inputs, and `_Conditions`."""

    def run(self, function: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any], random: bool) -> Any:
        """The first run. It is recorded, to see what the result depends on, but each op is emptied at once."""
        self.call = lambda: function(*inputs, **options)
        self.conditions = _Conditions(random)
        inside: dict[Function, None] = {}
        edges: dict[tuple[int, int], tuple[Function | Tensor, int]] = {}
        read: dict[int, tuple[list[int], int, tuple[int, ...]]] = {}

        def forget(op: Function, its_inputs: Sequence[Any]) -> None:
            outside = [t for t in its_inputs if isinstance(t, Tensor) and t.op not in inside]
            seen = [(t._version, t._version[0], t.shape) for t in outside]
            for each in op.read if isinstance(op, Checkpoint) else seen:
                read.setdefault(id(each[0]), each)
            for edge in op.edges:
                if edge is not None and edge[0] not in inside:
                    edges[id(edge[0]), edge[1]] = edge
            inside[op] = None
            op._free(NOT_KEPT)

        with record_with(forget):
            result = self.call()
        outputs = _made_by(inside, result)
        if outputs:
            self.ran = _described(inside)
            self.sums = [checksum(y.data) for y in outputs] if state.debugging else None
            self.stand_for(outputs, list(edges.values()))
            self.read = list(read.values())
            if state.recorder is not None:
                state.recorder(self, ())
        return result

    def unfold(self) -> list[tuple[Function | Tensor, int] | None]:
        """The second run: for each output an edge to the op that made it, now with all that it saved."""
        inside: dict[Function, None] = {}
        with self.conditions.again(), record_with(lambda op, _: inside.update({op: None})):
            result = self.call()
        outputs = _made_by(inside, result)
        if _described(inside) != self.ran or len(outputs) != len(self.outputs):
            raise GraphError(
                "checkpoint: the function made other ops when backward ran it again, so its gradient would be that of "
                "another function; it must do the same both times (was train() or eval() called in between?)"
            )
        if self.sums is not None and self.sums != [checksum(y.data) for y in outputs]:
            raise GraphError(
                "checkpoint: the function returned other numbers when backward ran it again (found by checksum); it "
                "must draw from minires' generator alone, and what it reads must not be written to before backward"
            )
        return [(y.op, y.index) for y in outputs if y.op is not None]

    def _check_saved(self) -> None:
        for version, count, shape in self.read:
            if version[0] != count:
                raise GraphError(
                    f"backward of a checkpoint: a tensor of shape {shape} that its function read was changed in place "
                    "after the forward pass, so running it again would give another result; "
                    "run the forward pass again before backward"
                )


class _Conditions:
    """What a run depends on beside its inputs."""

    def __init__(self, random: bool) -> None:
        self.switches = {field: getattr(state, field) for field in ("kernels", "any_size", "compiled")}
        self.place = backend.default().device
        self.random = backend.generator_state() if random else None

    @contextmanager
    def again(self) -> Iterator[None]:
        """The same conditions for the length of the block, for a run that is recorded and a repetition."""
        now = _Conditions(self.random is not None)
        try:
            self._set()
            with backend.device(self.place), enable_grad(), recomputing():
                yield
        finally:
            now._set()

    def _set(self) -> None:
        for field, value in self.switches.items():
            setattr(state, field, value)
        if self.random is not None:
            backend.set_generator_state(self.random)


def _made_by(ops: Container[Function], result: Any) -> list[Tensor]:
    """The tensors in a nest of tuples, lists and dicts that one of `ops` made, each once."""
    found: dict[int, Tensor] = {}
    waiting = [result]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.op is not None and value.op in ops:
                found[id(value)] = value
        elif isinstance(value, (tuple, list)):
            waiting += reversed(value)
        elif isinstance(value, dict):
            waiting += reversed(value.values())
    return list(found.values())


def _described(ops: Iterable[Function]) -> list[tuple[str, Sequence[Any]]]:
    return [(op.name, op.outputs) for op in ops]


def _chained(functions: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def chain(x: Any) -> Any:
        for f in functions:
            x = f(x)
        return x

    return chain
