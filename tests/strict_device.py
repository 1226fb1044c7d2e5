"""A second array library for tests without a GPU: NumPy's numbers under CuPy's rules.

Whatever CuPy refuses is refused here, by the signatures of the real package (strict_signatures.json): NumPy arrays
and lists as operands, `where=` and `initial=`, functions and ufunc methods that do not exist, conversion to NumPy in
passing. What CuPy leaves undefined is made loud: `empty` holds NaN, an index out of bounds raises, and so does an
assignment that writes one place twice. What it does in no fixed order is done in another order than NumPy's: sums of
`add.at` run backward. Results are C-ordered, and a 0-d result stays an array.

Importing this module makes the device "strict" known: `backend.library_of("strict")`, `tensor.to("strict")`.
"""

import functools

import numpy as np

from minires import backend
from tests import strict_graph
from tests.strict_graph import counts as counts
from tests.strict_graph import no_sync as no_sync
from tests.strict_rules import (
    ANYTHING,
    ARRAYS,
    AT_DTYPES,
    IN_PLACE,
    JOINS,
    LISTS_OF_ARRAYS,
    REDUCIBLE,
    SCALAR_TOO,
    SUPPORTED,
    SYNCS,
    TABLE,
    UPLOADS,
    names,
    signature,
)

# --- the array --------------------------------------------------------------------------------------


class Flags:
    """The memory layout, as far as CuPy tells it: nothing is `writeable`, and nothing can be set."""

    NAMES = names("c_contiguous f_contiguous owndata fnc forc")

    def __init__(self, of):
        self._of = of

    def __getattr__(self, name):
        if name not in self.NAMES:
            raise AttributeError(f"'Flags' object has no attribute {name!r}")
        return getattr(self._of, name)

    def __getitem__(self, name):
        return getattr(self, name.lower())


class StrictArray:
    """One NumPy array, held where only the rules below can reach it."""

    __slots__ = ("__weakref__", "_host", "base")

    def __init__(self, host, base=None):
        if host.dtype.char not in SUPPORTED:
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self._host = host
        self.base = base

    flags = property(lambda self: Flags(self._host.flags))

    def __array__(self, *_args, **_kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` explicitly.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        """NumPy's scalars hand their arithmetic over here; np.exp(x) works too, as it does with CuPy."""
        target = getattr(xp, ufunc.__name__)
        return (target if method == "__call__" else getattr(target, method))(*inputs, **kwargs)

    def __array_function__(self, func, types, args, kwargs):
        return getattr(xp, func.__name__)(*args, **kwargs)

    def get(self):
        counts.add("sync", "get()")
        return self._host.copy()

    def set(self, arr, stream=None):
        """A copy from the host; on a stream of its own it is made some time later."""
        if self.shape != arr.shape or self.dtype != arr.dtype:
            raise ValueError(f"{arr.dtype}{arr.shape} cannot be copied to {self.dtype}{self.shape}")
        if stream is None:
            counts.add("upload", "set()")
            self._host[...] = arr
        else:
            stream.send(self, arr)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return f"Strict{self._host!r}"

    def __getitem__(self, index):
        place = _index(index)
        host = self._host
        if isinstance(host[place], np.generic):  # NumPy makes a copy of a single element, CuPy a view
            place = (*(place if isinstance(place, tuple) else (place,)), Ellipsis)
        return performed(lambda: host[place], self)

    def __setitem__(self, index, value):
        place = _index(index)
        if not isinstance(value, (StrictArray, bool, int, float, complex, np.generic)) and not _is_number(value):
            raise TypeError(f"Unsupported type {type(value)}")
        if isinstance(value, StrictArray) and _is_advanced(place):
            reached = np.arange(self.size).reshape(self.shape)[place]
            if np.unique(reached).size < reached.size:
                raise ValueError("this assignment writes one place twice, which CuPy leaves undefined; use add_at")
        bare = _bare(value)
        host = self._host
        performed(lambda: host.__setitem__(place, bare), self, value, out=self)


def wrapped(result, *sources):
    """A NumPy result as StrictArray: a view of a source keeps its memory and strides, the rest is C-ordered."""
    if isinstance(result, (tuple, list)):
        return type(result)(wrapped(r, *sources) for r in result)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    for source in sources:
        if isinstance(source, StrictArray):
            if result is source._host:
                return source
            if np.may_share_memory(result, source._host):
                return StrictArray(result, source if source.base is None else source.base)
    return StrictArray(np.asarray(result, order="C"))


def performed(compute, *sources, out=None, memory_only=False):
    """Runs `compute` on the sources, and has it noted where a stream is captured."""
    arrays = [s for s in sources if isinstance(s, StrictArray)]
    return strict_graph.perform(compute, lambda y: wrapped(y, *arrays), arrays, out, memory_only)


def _bare(value):
    """What NumPy is given. Whoever calls this has checked that no host array is in it."""
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, (tuple, list)):
        return type(value)(_bare(v) for v in value)
    return value


def _index(index):
    """NumPy and list indices are taken, but cost an upload; boolean masks cost a wait."""
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        if isinstance(part, (np.ndarray, list)) and not _is_number(part):
            counts.add("upload", "a host array as index")
        if getattr(part, "dtype", None) == np.bool_ and part.ndim:
            counts.add("sync", "a boolean mask as index")
    return tuple(_bare(part) for part in parts) if isinstance(index, tuple) else _bare(index)


def _is_number(value):
    """A host array without axes: as good as a scalar where CuPy fills with it, but not as an operand."""
    return isinstance(value, np.ndarray) and not value.ndim


def _is_advanced(place):
    return any(isinstance(part, (np.ndarray, list)) for part in (place if isinstance(place, tuple) else (place,)))


# --- the functions ------------------------------------------------------------------------------------


def _refuse_host(function, value):
    if isinstance(value, np.ndarray):
        raise TypeError(f"{function}: Unsupported type {type(value)}; a host array met a device array")
    if isinstance(value, (tuple, list)):
        for v in value:
            _refuse_host(function, v)


def _check(function, bound):
    for name, value in bound.items():
        _refuse_host(function, value)
        if name in ARRAYS and not isinstance(value, StrictArray):
            number = isinstance(value, (bool, int, float, complex, np.generic))
            if value is None or (number and name in SCALAR_TOO):
                continue
            raise TypeError(f"{function}: {name} must be a device array, not {type(value).__name__}")
        if name in LISTS_OF_ARRAYS:
            for v in value:
                if not isinstance(v, (StrictArray, str)):
                    raise TypeError(f"{function}: {name} must hold device arrays, not {type(v).__name__}")


def _sources(args, kwargs):
    for value in (*args, *kwargs.values()):
        if isinstance(value, (tuple, list)):
            yield from value
        else:
            yield value


def _poisoned(name, result):
    if name in ("empty", "empty_like"):
        result.fill(np.nan if result.dtype.kind in "fc" else result.dtype.type(-77 if result.dtype.kind == "i" else 1))
    return result


def function(name, parameters, twin):
    """`twin` of NumPy, behind CuPy's signature and CuPy's refusals."""
    takes = signature(parameters)

    @functools.wraps(twin)
    def call(*args, **kwargs):
        bound = takes.bind(*args, **kwargs).arguments
        if name in UPLOADS:
            if isinstance(args[0], (np.ndarray, tuple, list)):
                if not _is_number(args[0]):
                    counts.add("upload", f"{name}() of host data")
                args = (np.array(_bare(args[0])), *args[1:])
        elif name not in ANYTHING:
            _check(name, bound)
        if name in SYNCS or (name == "where" and len(args) + len(kwargs) == 1):
            counts.add("sync", f"{name}()")
        if name in JOINS and len(args[0]) > 8:
            counts.add("upload", f"{name}() of more than eight arrays, by a table of where they are,", free=True)
        kwargs.pop("blocking", None)
        bare, named = [_bare(a) for a in args], {key: _bare(value) for key, value in kwargs.items()}
        sources = list(_sources(args, kwargs))
        if name in ANYTHING:
            return twin(*bare, **named)
        if name in IN_PLACE:
            performed(lambda: twin(*bare, **named), *sources, out=args[0])
            return None
        room = name in ("empty", "empty_like")
        return performed(
            lambda: _poisoned(name, twin(*bare, **named)), *sources, out=kwargs.get("out"), memory_only=room
        )

    return call


class Ufunc:
    """A ufunc with CuPy's arguments (out, dtype, casting) and CuPy's few methods."""

    def __init__(self, name, nin, nout):
        self.name, self.nin, self.nout, self._twin = name, nin, nout, getattr(np, name)

    def __call__(self, *args, **kwargs):
        unknown = set(kwargs) - {"out", "dtype", "casting"}
        if unknown:
            raise TypeError(f"Wrong arguments {unknown}: {self.name} takes out, dtype and casting only")
        if not self.nin <= len(args) <= self.nin + self.nout:
            raise TypeError(f"Wrong number of arguments for {self.name!r}")
        for value in (*args, kwargs.get("out")):
            if not isinstance(value, (StrictArray, bool, int, float, complex, np.generic, tuple, type(None))):
                raise TypeError(f"Unsupported type {type(value)}")
        bare, named = [_bare(a) for a in args], {key: _bare(value) for key, value in kwargs.items()}
        out = kwargs.get("out") if len(args) == self.nin else args[self.nin]
        out = out[0] if isinstance(out, tuple) else out
        return performed(lambda: self._twin(*bare, **named), *args, out, out=out)

    def at(self, a, indices, b=None):
        if a.dtype.char not in AT_DTYPES.get(self.name, ""):
            raise TypeError(f"{self.name}.at does not support {a.dtype}")
        _check(f"{self.name}.at", {"a": a, "b": b})
        reached = np.arange(a.size).reshape(a.shape)[_index(indices)]
        values = np.broadcast_to(_bare(b), reached.shape).reshape(-1)[::-1]
        if reached.size:
            places = np.unravel_index(reached.reshape(-1)[::-1], a.shape)
            target = a._host
            performed(lambda: self._twin.at(target, places, values), a, b, out=a)

    def outer(self, a, b, **kwargs):
        _check(f"{self.name}.outer", {"a": a, "b": b})
        bare = a._host, _bare(b)
        return performed(lambda: self._twin.outer(*bare, **kwargs), a, b)

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        return self._run("reduce", array, axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def accumulate(self, array, axis=0, dtype=None, out=None):
        return self._run("accumulate", array, axis=axis, dtype=dtype, out=out)

    def reduceat(self, array, indices, axis=0, dtype=None, out=None):
        return self._run("reduceat", array, _bare(indices), axis=axis, dtype=dtype, out=out)

    def _run(self, method, array, *args, out, **kwargs):
        if self.name not in REDUCIBLE[method]:
            raise NotImplementedError(f"`{self.name}.{method}` is not supported yet")
        _check(f"{self.name}.{method}", {"a": array})
        twin, host, target = getattr(self._twin, method), array._host, _bare(out)
        return performed(lambda: twin(host, *args, out=target, **kwargs), array, out, out=out)


class Namespace:
    """A module of functions; a name that CuPy does not have is an AttributeError."""

    def __init__(self, name, functions, twin):
        self._name = name
        vars(self).update({key: function(key, row, getattr(twin, key)) for key, row in functions.items()})

    def __getattr__(self, name):
        raise AttributeError(f"module 'cupy{self._name}' has no attribute {name!r}")


class Generator:
    """cupy.random.Generator's few methods, on NumPy's numbers."""

    def __init__(self, seed=None):
        self._twin = np.random.default_rng(seed)

    def __getattr__(self, name):
        if name not in TABLE["generator"]:
            raise AttributeError(f"'Generator' object has no attribute {name!r}")
        return lambda *args, **kwargs: wrapped(getattr(self._twin, name)(*args, **kwargs))


def _namespace():
    made = Namespace("", TABLE["functions"], np)
    vars(made).update({name: getattr(np, name) for name in TABLE["numpys_own"]})
    vars(made).update({name: Ufunc(name, *counts_) for name, counts_ in TABLE["ufuncs"].items()})
    made.matmul = _matmul
    made.ndarray = StrictArray
    made.asnumpy = StrictArray.get
    made.linalg = Namespace(".linalg", TABLE["linalg"], np.linalg)
    made.lib = Namespace(".lib", {}, np.lib)
    made.lib.stride_tricks = Namespace(".lib.stride_tricks", TABLE["stride_tricks"], np.lib.stride_tricks)
    made.cuda = strict_graph
    made.random = Namespace(".random", {}, np.random)
    made.random.default_rng = Generator
    return made


def _matmul(a, b, /, out=None, **kwargs):
    signature(TABLE["linalg"]["matmul"]).bind(a, b, **kwargs)
    for value in (a, b):
        if not isinstance(value, StrictArray):
            raise TypeError(f"Unsupported type {type(value)}")
    bare, target = (a._host, b._host), _bare(out)
    return performed(lambda: np.matmul(*bare, out=target, **kwargs), a, b, out, out=out)


xp = _namespace()


# --- what hangs on the array: operators and methods -----------------------------------------------------

OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul",
}  # fmt: skip
COMPARISONS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"
}  # fmt: skip
ATTRIBUTES = ["shape", "dtype", "ndim", "size", "strides", "itemsize", "nbytes", "T", "mT", "real", "imag"]
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def _hang():
    for name in ATTRIBUTES:
        setattr(StrictArray, name, property(lambda self, name=name: _attribute(self, name)))
    for name, ufunc in {**OPERATORS, **COMPARISONS, **UNARY}.items():
        f = getattr(xp, ufunc)
        setattr(StrictArray, f"__{name}__", lambda self, *other, f=f: f(self, *other))
        if name in OPERATORS:
            setattr(StrictArray, f"__r{name}__", lambda self, other, f=f: f(other, self))
        if f"__i{name}__" in TABLE["operators"]:
            setattr(StrictArray, f"__i{name}__", lambda self, other, f=f: f(self, other, out=self))
    for kind in (bool, int, float, complex):
        setattr(StrictArray, f"__{kind.__name__}__", _number(kind))
    for name, parameters in TABLE["methods"].items():
        if name not in vars(StrictArray):
            setattr(StrictArray, name, _method(name, parameters))
    StrictArray.__hash__ = None


def _attribute(array, name):
    if name in ("T", "mT", "real", "imag"):
        host = array._host
        return performed(lambda: getattr(host, name), array)
    return getattr(array._host, name)


def _number(kind):
    def converted(self):
        counts.add("sync", f"{kind.__name__}()")
        return kind(self._host)

    return converted


def _method(name, parameters):
    takes = signature(parameters)
    twin = getattr(np.ndarray, name)

    def call(self, *args, **kwargs):
        _check(name, takes.bind(*args, **kwargs).arguments)
        if name in SYNCS:
            counts.add("sync", f"{name}()")
        bare, named = [_bare(a) for a in args], {key: _bare(value) for key, value in kwargs.items()}
        out = self if name in IN_PLACE else kwargs.get("out")
        host = self._host
        made = performed(lambda: twin(host, *bare, **named), self, *args, *kwargs.values(), out=out)
        return None if name in IN_PLACE else made

    return call


_hang()


# --- the library --------------------------------------------------------------------------------------------


class StrictLibrary(backend.CupyLibrary):
    """minires' own library for CuPy, with the double in CuPy's place, but for what lies outside CuPy's namespace."""

    name = "strict"
    device = "strict"

    def __init__(self):
        self.xp = xp
        self.array_type = StrictArray
        self._uploads = {}

    def uniform(self, shape, dtype):
        """NumPy's numbers, so that results can be compared. CuPy draws on the device: no upload."""
        return StrictArray(backend.NUMPY.uniform(shape, dtype))

    def erf(self, x):
        host = x._host
        return performed(lambda: backend.NUMPY.erf(host), x)

    def synchronize(self):
        counts.add("sync", "synchronize()")


STRICT = StrictLibrary()
backend.register(STRICT)
