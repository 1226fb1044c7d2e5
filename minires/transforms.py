"""Derivatives as functions of functions: grad, vjp, jvp, jacobian, hvp.

`f` takes and returns Tensors; what comes back here are Tensors too, cut from the tape. No `.grad` is touched,
neither that of an argument nor that of a parameter which `f` closes over.

    reverse    grad, value_and_grad, vjp, jacobian walk the tape backward: one walk gives v^T J
    forward    jvp runs f once at x + i h v: f(x + i h v) = f(x) + i h J v + O(h^2), so the imaginary part over
               h is J v. Nothing is subtracted, so h = 1e-30 loses no digit (Squire and Trapp 1998, eq. 6)
    both       hvp is the jvp of grad: the imaginary part of backward's own answer, with no second-order rule

Forward mode needs ops that hold for complex arrays, and promotes float32 to complex128. Backward itself is not
recorded, so grad of grad is refused instead of silently giving zero: use hvp, or jvp of grad or jacobian.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minires import backend
from minires.backend import Array
from minires.engine import Tensor, backpropagate
from minires.errors import RequestError
from minires.switches import enable_grad, no_grad

H = 1e-30  # the complex step: far below the rounding of any value it is added to


def grad(f: Callable[..., Tensor], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The function that returns the gradient of a scalar function `f`.

    argnums    which positional arguments to differentiate: an int gives a Tensor, a tuple gives a tuple.
               The others, and keyword arguments, reach `f` as they are

    An argument that does not take part in the result has gradient zero.
    Raises RequestError when `f` is not scalar or an argument holds no floats, TypeError when `f` returns no Tensor.
    """
    return _gradient("grad", f, argnums)


def value_and_grad(f: Callable[..., Tensor], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """As `grad`, but returns the pair (f's value, gradient) from one run."""
    return _value_and_grad("value_and_grad", f, argnums)


def _gradient(name: str, f: Callable[..., Tensor], argnums: int | tuple[int, ...]) -> Callable[..., Any]:
    both = _value_and_grad(name, f, argnums)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


def _value_and_grad(name: str, f: Callable[..., Tensor], argnums: int | tuple[int, ...]) -> Callable[..., Any]:
    @functools.wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        with _recording(name):
            inner, xs = _of_arguments(name, f, argnums, args, kwargs)
            y = _tensors(name, inner(*xs))
            if len(y) != 1 or y[0].size != 1:
                returned = ", ".join(str(t.shape) for t in y)
                raise RequestError(
                    f"{name}: f must return one number, but returned shape {returned}; "
                    "reduce it to a scalar, or use vjp or jacobian"
                )
            gradients = _walk(y, [None], xs, retain_graph=False)
        return y[0].detach(), gradients[0] if isinstance(argnums, int) else gradients

    return value_and_gradient


def vjp(f: Callable[..., Any], *xs: Any) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """(y, pullback): f's value at `xs`, and the function that takes a cotangent of y to one of each x.

    pullback(gy) returns the tuple of gy^T J, one an argument, and may be called again and again; where `f`
    returns a tuple it takes as many cotangents: pullback(gy0, gy1).
    Raises RequestError for arguments without floats and, in pullback, for cotangents of another number or shape.
    """
    with _recording("vjp"):
        leaves = [_leaf("vjp", x, i) for i, x in enumerate(xs)]
        result = f(*leaves)
        y = _tensors("vjp", result)

    def pullback(*gys: Any) -> tuple[Tensor, ...]:
        with _recording("the pullback of vjp"):
            if len(gys) != len(y):
                raise RequestError(f"the pullback takes {len(y)} cotangents, one an output of f, but got {len(gys)}")
            arrays = [_plain(gy) for gy in gys]
            for i, (gy, t) in enumerate(zip(arrays, y, strict=True)):
                if gy.shape != t.shape:
                    raise RequestError(f"cotangent {i} has shape {gy.shape}, but f's output has shape {t.shape}")
            return _walk(y, arrays, leaves, retain_graph=True)

    return _like(result, [t.detach() for t in y]), pullback


def jacobian(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The function that returns the Jacobian of `f`, shaped (*y.shape, *x.shape): one backward walk a row.

    A tuple of argnums gives a tuple, one Jacobian an argument; a function with several outputs a tuple of those.
    """

    @functools.wraps(f)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        with _recording("jacobian"):
            inner, xs = _of_arguments("jacobian", f, argnums, args, kwargs)
            result = inner(*xs)
            blocks = []
            for y in _tensors("jacobian", result):
                walks = [_walk([y], [unit], xs, retain_graph=True) for unit in _units(y)]
                rows = [_stacked([walk[k] for walk in walks], y, x) for k, x in enumerate(xs)]
                blocks.append(rows[0] if isinstance(argnums, int) else tuple(rows))
        return _like(result, blocks)

    return jacobian_of


def jvp(f: Callable[..., Any], xs: Any, vs: Any) -> tuple[Any, Any]:
    """(y, dy): f's value at `xs`, and J v, its derivative along `vs`. Exact to rounding, in one run of `f`.

    xs, vs    an array or Tensor each, or tuples of them with equal shapes

    f runs on complex128 whatever the dtype of `xs`, so y and dy are float64. The step travels in the values, so
    `detach()` does not stop it. Results follow f: a Tensor, or a tuple of them.
    Raises RequestError when the shapes differ, `xs` are complex already (a jvp of a jvp), or an op in f drops or
    refuses the imaginary part.
    """
    return _jvp("jvp", f, xs, vs)


def hvp(f: Callable[..., Tensor], xs: Any, vs: Any) -> Any:
    """H v, the derivative of f's gradient along `vs`: the Hessian of a scalar `f` times a vector, exact to rounding.

    xs, vs    as for jvp; the result is a Tensor for an array and a tuple for a tuple

    This is Im(grad f(x + i h v)) / h. Errors are those of grad and jvp.
    """
    argnums = tuple(range(len(xs))) if isinstance(xs, tuple) else 0
    return _jvp("hvp", _gradient("hvp", f, argnums), xs, vs)[1]


def _jvp(name: str, f: Callable[..., Any], xs: Any, vs: Any) -> tuple[Any, Any]:
    _refuse_nesting(name)
    points, directions = _points(name, xs, vs)
    result = _at_complex(name, f, points, directions)
    ys = [t.data for t in _tensors(name, result)]
    values = [Tensor(y.real.copy()) for y in ys]
    return _like(result, values), _like(result, [Tensor(_slope(name, y)) for y in ys])


# --- forward mode: the complex step


def _points(name: str, xs: Any, vs: Any) -> tuple[list[Array], list[Array]]:
    several = isinstance(xs, tuple)
    if several != isinstance(vs, tuple) or (several and len(xs) != len(vs)):
        raise RequestError(f"{name}: xs and vs must be two arrays, or two tuples with one v for each x")
    points = [_plain(x) for x in (xs if several else (xs,))]
    directions = [_plain(v) for v in (vs if several else (vs,))]
    for i, (x, v) in enumerate(zip(points, directions, strict=True)):
        if x.shape != v.shape:
            raise RequestError(f"{name}: x {i} has shape {x.shape}, but its direction v has shape {v.shape}")
        if x.dtype.kind == "c" or v.dtype.kind == "c":
            raise RequestError(
                f"{name}: x {i} or its v is complex, but the imaginary part is where the derivative travels; "
                "pass real arrays (a jvp of a jvp is not possible)"
            )
        if x.dtype.kind != "f":
            raise RequestError(f"{name}: x {i} has dtype {x.dtype}, and only floats have a derivative")
    return points, directions


def _at_complex(name: str, f: Callable[..., Any], points: Sequence[Array], directions: Sequence[Array]) -> Any:
    moved = [
        Tensor(x.astype("complex128") + v.astype("complex128") * (1j * H))
        for x, v in zip(points, directions, strict=True)
    ]
    with no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            return f(*moved)
        except (TypeError, np.exceptions.ComplexWarning) as error:
            f(*[Tensor(x) for x in points])  # a mistake of f's own shows here, as itself
            raise RequestError(
                f"{name}: an op in f does not take complex numbers ({error}); use vjp, or central differences"
            ) from error


def _slope(name: str, y: Array) -> Array:
    if y.dtype.kind == "f":
        raise RequestError(
            f"{name}: f returned real numbers for complex inputs: either it does not depend on xs, or an op in it "
            "drops the imaginary part, and with it the derivative; use vjp, or central differences"
        )
    return y.imag / H


# --- reverse mode: the walk, delivered to the arguments alone


class _Depth(threading.local):
    value = 0


_depth = _Depth()


def _refuse_nesting(name: str) -> None:
    if _depth.value:
        raise RequestError(
            f"{name} inside a function that is differentiated backward: backward is not recorded, so this part "
            "would silently count as a constant; use hvp, or jvp of grad or jacobian"
        )


@contextmanager
def _recording(name: str) -> Iterator[None]:
    _refuse_nesting(name)
    _depth.value += 1
    try:
        with enable_grad():
            yield
    finally:
        _depth.value -= 1


def _of_arguments(
    name: str, f: Callable[..., Any], argnums: int | tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], list[Tensor]]:
    """f as a function of the differentiated arguments alone, and these as fresh leaves."""
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= i < len(args) for i in chosen):
        raise RequestError(
            f"{name}: argnums={argnums} must name each argument once, of the {len(args)} that f was given"
        )

    def inner(*xs: Tensor) -> Any:
        filled = list(args)
        for i, x in zip(chosen, xs, strict=True):
            filled[i] = x
        return f(*filled, **kwargs)

    return inner, [_leaf(name, args[i], i) for i in chosen]


def _leaf(name: str, x: Any, i: int) -> Tensor:
    leaf = x.detach() if isinstance(x, Tensor) else Tensor(x)
    if leaf.dtype.kind not in "fc":
        raise RequestError(
            f"{name}: argument {i} has dtype {leaf.dtype}, and only floats have a derivative; "
            "leave it out of argnums, or close over it"
        )
    leaf.requires_grad = True
    return leaf


def _walk(ys: Sequence[Tensor], gys: Sequence[Any], xs: Sequence[Tensor], retain_graph: bool) -> tuple[Tensor, ...]:
    """Each x's gradient, summed over the outputs; what reaches any other leaf is dropped."""
    collected: dict[int, Array] = {}
    wanted = {id(x) for x in xs}

    def deliver(leaf: Tensor, gradient: Array, owned: bool) -> None:
        key = id(leaf)
        if key in collected:
            collected[key] = collected[key] + gradient
        elif key in wanted:
            collected[key] = gradient if owned else gradient.copy()

    for y, gy in zip(ys, gys, strict=True):
        if y.requires_grad:
            backpropagate(y, gy, retain_graph=retain_graph, deliver=deliver)
    return tuple([Tensor(collected[id(x)] if id(x) in collected else _xp(x).zeros_like(x.data)) for x in xs])


def _units(y: Tensor) -> Iterator[Array]:
    for i in range(y.size):
        unit = _xp(y).zeros(y.size, y.dtype)
        unit[i] = 1
        yield unit.reshape(y.shape)


def _stacked(rows: Sequence[Tensor], y: Tensor, x: Tensor) -> Tensor:
    if not rows:
        return Tensor(_xp(x).zeros((*y.shape, *x.shape), x.dtype))
    return Tensor(_xp(x).stack([row.data for row in rows]).reshape(*y.shape, *x.shape))


# --- what f takes and returns


def _tensors(name: str, result: Any) -> list[Tensor]:
    outputs = list(result) if isinstance(result, tuple) else [result]
    for y in outputs:
        if not isinstance(y, Tensor):
            raise TypeError(f"{name}: f must return a Tensor or a tuple of Tensors, but returned a {type(y).__name__}")
    return outputs


def _like(result: Any, values: Sequence[Any]) -> Any:
    return tuple(values) if isinstance(result, tuple) else values[0]


def _plain(x: Any) -> Array:
    return x.data if isinstance(x, Tensor) else Tensor(x).data


def _xp(x: Tensor) -> Any:
    return backend.find((x.data,)).xp
