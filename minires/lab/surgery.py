"""Lesions in the forward pass: blocks deleted, swapped or repeated for the length of a `with` block.

    with deleted(model, 3):                # only its skip is left of the fourth block, counted from the input
        scores = model(x)

`mr.lesion` cuts gradients and leaves the forward pass alone; here it is the other way round. Whatever happens inside,
the model is afterwards what it was.

Source: Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, section 4.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from minires import nn
from minires.errors import RequestError
from minires.nn.residual_scale import StochasticDepth


def blocks_of(model: nn.Module) -> list[Any]:
    """The model's blocks from the input on: what its `blocks()` lists, else every `nn.Residual` in it.

    Raises RequestError for a model that has neither.
    """
    listed = getattr(model, "blocks", None)
    found = list(listed()) if callable(listed) else [m for m in model.modules() if isinstance(m, nn.Residual)]
    if not found:
        raise RequestError(f"this {type(model).__name__} has no blocks: neither a method blocks() nor an nn.Residual")
    return found


@contextmanager
def deleted(model: nn.Module, block: int | Sequence[int]) -> Iterator[None]:
    """Deletes the branch of one block, or of several, for the length of a `with` block.

    What is left of a residual block is its shortcut, and its activation where it has one behind the sum; of a block
    without a skip nothing is left, and x passes unchanged.

    block    numbers as in a list: 0 for the block nearest to the input, -1 for the last

    Raises RequestError for a block that the model does not have.
    Source    Veit et al. 2016, sections 4.1 and 4.2
    """
    chosen = [block] if not isinstance(block, Sequence) else block
    with ExitStack() as stack:
        for one in _pick(model, chosen):
            if isinstance(one, nn.Residual):
                stack.enter_context(instead(one, "drop_path", _Dropped(0.0)))
            else:
                stack.enter_context(instead(one, "forward", lambda x: x))
        yield


@contextmanager
def swapped(model: nn.Module, i: int, j: int) -> Iterator[None]:
    """Exchanges two blocks for the length of a `with` block. Inside another lesion it exchanges what stands there.

    Raises RequestError for a block that the model does not have, or blocks of different shapes.
    Source    Veit et al. 2016, section 4.3
    """
    first, second = _pick(model, (i, j))
    if shapes(first) != shapes(second):
        raise RequestError(f"swapped: blocks {i} and {j} have weights of different shapes; swap two of the same stage")
    before = first.forward, second.forward
    with instead(first, "forward", before[1]), instead(second, "forward", before[0]):
        yield


@contextmanager
def repeated(model: nn.Module, block: int, times: int = 2) -> Iterator[None]:
    """Runs one block `times` times in a row, for the length of a `with` block.

    Raises RequestError for a block that the model does not have, or fewer times than one. A block that changes the
    shape of its input cannot be repeated: its own layers say so when they meet their output.
    Source    Jastrzebski et al. 2018, Residual Connections Encourage Iterative Inference, section 5 (unrolling)
    """
    if times < 1:
        raise RequestError(f"repeated: times is {times}, but must be at least 1; to leave a block out, use deleted")
    (one,) = _pick(model, (block,))
    once = one.forward

    def often(x: Any) -> Any:
        for _ in range(times):
            x = once(x)
        return x

    with instead(one, "forward", often):
        yield


class _Dropped(StochasticDepth):
    """A branch that never survives: `nn.Residual` then does not compute it."""

    def draw(self) -> float:
        return 0.0


@contextmanager
def instead(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Puts `value` in an attribute's place. What was there, if only in the class, is there again afterwards."""
    held, absent = vars(module), object()
    before = held.get(name, absent)
    held[name] = value
    try:
        yield
    finally:
        if before is absent:
            del held[name]
        else:
            held[name] = before


def _pick(model: nn.Module, numbers: Sequence[int]) -> list[Any]:
    blocks = blocks_of(model)
    for number in map(operator.index, numbers):
        if not -len(blocks) <= number < len(blocks):
            raise RequestError(f"there is no block {number}; this model has {len(blocks)}, 0 to {len(blocks) - 1}")
    return [blocks[number] for number in numbers]


def shapes(block: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in block.named_parameters()]
