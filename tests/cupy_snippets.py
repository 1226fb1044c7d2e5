"""What CuPy 14 refuses and what it takes: one line of code each, with the verdict.

The corpus tests the strict double (tests/strict_device.py), and with a GPU it asks CuPy itself; both must give the
verdict that stands here. Where NumPy would do something else, the reason is in the group's comment. In a snippet

    xp      the library                             v   ones, (3,)              i   [2, 0], integers
    a       0 to 8, (3, 3), float64                 z   ones, (3,), complex     m   a > 4
    h       0 to 2, (3,), a host array of NumPy     s   2, without axes
"""

import operator

import numpy as np

REFUSED, ACCEPTED = "refused", "accepted"
REFUSALS = (TypeError, AttributeError, NotImplementedError, ValueError, IndexError)

CORPUS = [
    # a host array is no operand, not even one without axes
    ("a + h", REFUSED),
    ("h * a", REFUSED),
    ("np.array(0.5) * a", REFUSED),
    ("xp.maximum(a, h)", REFUSED),
    ("a < h", REFUSED),
    ("a += h", REFUSED),
    ("a @ h", REFUSED),
    ("xp.where(m, h, 0.0)", REFUSED),
    ("xp.tensordot(a, h, 1)", REFUSED),
    ("xp.einsum('ij,j->i', a, h)", REFUSED),
    ("xp.concatenate([v, h])", REFUSED),
    ("xp.stack([v, h])", REFUSED),
    ("xp.dot(v, h)", REFUSED),
    ("a[0] = h", REFUSED),
    ("a[...] = np.ones((3, 3))", REFUSED),
    ("v.fill(h)", REFUSED),
    # nor is a list or a tuple
    ("v + [1.0, 2.0, 3.0]", REFUSED),
    ("xp.exp([1.0, 2.0])", REFUSED),
    ("xp.sum([1.0, 2.0])", REFUSED),
    ("xp.max([1.0, 2.0])", REFUSED),
    ("xp.prod(a.shape)", REFUSED),
    ("xp.concatenate([[1.0], [2.0]])", REFUSED),
    ("a[0] = [1.0, 2.0, 3.0]", REFUSED),
    # nothing becomes a host array or a Python integer in passing
    ("np.asarray(a)", REFUSED),
    ("np.array([a])", REFUSED),
    ("h[:] = v", REFUSED),
    ("range(s)", REFUSED),
    ("['x', 'y', 'z'][s]", REFUSED),
    ("operator.index(s)", REFUSED),
    # arguments that do not exist
    ("xp.exp(a, where=m)", REFUSED),
    ("xp.add(1, a, subok=False)", REFUSED),
    ("xp.add(1, a, order='C')", REFUSED),
    ("xp.sum(a, where=m)", REFUSED),
    ("xp.sum(a, initial=1.0)", REFUSED),
    ("xp.max(a, initial=0.0)", REFUSED),
    ("a.max(initial=0.0)", REFUSED),
    ("a.mean(where=m)", REFUSED),
    ("xp.any(m, where=m)", REFUSED),
    ("xp.var(a, correction=1)", REFUSED),
    ("a.std(mean=0.0)", REFUSED),
    ("xp.clip(a, min=0.0, max=1.0)", REFUSED),
    ("xp.take(a, i, mode='clip')", REFUSED),
    ("xp.sort(a, stable=True)", REFUSED),
    ("xp.argsort(a, stable=True)", REFUSED),
    ("xp.unique(a, sorted=True)", REFUSED),
    ("xp.zeros(3, device='cpu')", REFUSED),
    ("xp.zeros_like(a, device='cpu')", REFUSED),
    ("xp.concatenate(arrays=[v, v])", REFUSED),
    ("xp.lib.stride_tricks.as_strided(v, (3,), (8,), writeable=False)", REFUSED),
    # functions that do not exist
    ("xp.errstate(all='ignore')", REFUSED),
    ("xp.vecdot(a, a)", REFUSED),
    ("xp.matvec(a, v)", REFUSED),
    ("xp.unstack(a)", REFUSED),
    ("xp.block([[a]])", REFUSED),
    ("xp.insert(a, 0, 1.0)", REFUSED),
    ("xp.geomspace(1, 8, 4)", REFUSED),
    ("xp.frompyfunc(abs, 1, 1)", REFUSED),
    ("xp.ndenumerate(a)", REFUSED),
    ("xp.spacing(a)", REFUSED),
    ("xp.linalg.vector_norm(a)", REFUSED),
    ("xp.linalg.matrix_norm(a)", REFUSED),
    ("xp.linalg.multi_dot([a, a])", REFUSED),
    ("xp.no_such_function(1)", REFUSED),
    # ufuncs reduce with add and multiply alone, and `at` adds real numbers alone
    ("xp.maximum.reduce(a)", REFUSED),
    ("xp.logical_or.reduce(a)", REFUSED),
    ("xp.maximum.accumulate(a)", REFUSED),
    ("xp.multiply.reduceat(a, i)", REFUSED),
    ("xp.multiply.at(v, i, 2.0)", REFUSED),
    ("xp.add.at(z, i, 1.0)", REFUSED),
    # the generator has few methods
    ("xp.random.default_rng(0).normal(size=3)", REFUSED),
    ("xp.random.default_rng(0).permutation(3)", REFUSED),
    ("xp.random.default_rng(0).shuffle(v)", REFUSED),
    ("xp.random.default_rng(0).choice(3)", REFUSED),
    # dtypes that no device has
    ("xp.asarray([None, 1])", REFUSED),
    ("xp.asarray(np.array([1, 'a'], dtype=object))", REFUSED),
    ("xp.asarray(['a'])", REFUSED),
    ("xp.zeros(3, dtype=object)", REFUSED),
    ("xp.zeros(3, dtype=np.longdouble)", REFUSED),
    # what an array of NumPy has and one of CuPy has not
    ("hash(a)", REFUSED),
    ("a.flags.writeable", REFUSED),
    ("a.setflags(write=False)", REFUSED),
    ("a.resize((9,))", REFUSED),
    ("a.ctypes", REFUSED),
    ("a[:, :, 0]", REFUSED),
    # scalars go with any array, and an array without axes stays one
    ("2 * a + 1.5 - True", ACCEPTED),
    ("np.float64(2.0) * a + np.float32(1)", ACCEPTED),
    ("xp.maximum(a, 0.0)", ACCEPTED),
    ("xp.where(m, 0.0, a)", ACCEPTED),
    ("a + s", ACCEPTED),
    ("a[0] = 0.5", ACCEPTED),
    ("a[0, 0] = np.float32(0.5)", ACCEPTED),
    ("a[0] = np.array(0.5)", ACCEPTED),
    # what ufuncs and reductions do take
    ("xp.multiply(a, 2.0, out=a)", ACCEPTED),
    ("xp.add(a, 1, dtype=np.float32)", ACCEPTED),
    ("a += 1.0", ACCEPTED),
    ("a @= a", ACCEPTED),
    ("xp.sum(a, axis=(0, 1), keepdims=True)", ACCEPTED),
    ("a.sum(axis=-1, keepdims=True)", ACCEPTED),
    ("a.var(axis=0, ddof=1)", ACCEPTED),
    ("a.argmax(axis=1)", ACCEPTED),
    ("xp.cumsum(a, axis=0)", ACCEPTED),
    ("xp.clip(a, 1.0, 2.0)", ACCEPTED),
    ("xp.add.reduce(a, axis=1)", ACCEPTED),
    ("xp.add.at(v, i, xp.asarray([1.0, 2.0]))", ACCEPTED),
    ("xp.add.at(z.real, i, 1.0)", ACCEPTED),
    ("np.exp(a)", ACCEPTED),
    ("np.sum(a, axis=0)", ACCEPTED),
    # products
    ("a @ a", ACCEPTED),
    ("xp.dot(v, v)", ACCEPTED),
    ("xp.einsum('ij,kj->ik', a, a)", ACCEPTED),
    ("xp.tensordot(a, a, axes=([1], [0]))", ACCEPTED),
    ("xp.linalg.inv(xp.eye(3))", ACCEPTED),
    # shapes
    ("xp.pad(a, ((1, 1), (0, 2)), constant_values=-1.0)", ACCEPTED),
    ("xp.concatenate([a, a], axis=1)", ACCEPTED),
    ("xp.stack([a, a])", ACCEPTED),
    ("xp.broadcast_to(v, (2, 3))", ACCEPTED),
    ("a.transpose(1, 0).swapaxes(0, 1).reshape(-1).T", ACCEPTED),
    ("xp.flip(xp.moveaxis(a, 0, 1), axis=0)", ACCEPTED),
    ("xp.lib.stride_tricks.as_strided(v, (2, 2), (8, 8))", ACCEPTED),
    ("xp.lib.stride_tricks.sliding_window_view(a, (2, 2))", ACCEPTED),
    ("a.astype('float32', copy=False)", ACCEPTED),
    ("z.imag + z.real", ACCEPTED),
    ("xp.size(a)", ACCEPTED),
    ("a.flags.c_contiguous", ACCEPTED),
    # indices may come from the host, operands may not
    ("a[i]", ACCEPTED),
    ("a[[2, 0]]", ACCEPTED),
    ("a[np.array([2, 0])]", ACCEPTED),
    ("a[m]", ACCEPTED),
    ("a[..., None, ::-1]", ACCEPTED),
    ("a[:, 0] = v", ACCEPTED),
    ("a[m] = 0.0", ACCEPTED),
    ("xp.take_along_axis(a, xp.asarray([[0], [1], [2]]), axis=1)", ACCEPTED),
    # making arrays, and asking for one number
    ("xp.asarray(h)", ACCEPTED),
    ("xp.asarray([1.0, 2.0])", ACCEPTED),
    ("xp.arange(3) + xp.eye(3) + xp.full((3,), 2.0)", ACCEPTED),
    ("xp.zeros(3, xp.float32) + xp.asarray(xp.inf, dtype=xp.float32)", ACCEPTED),
    ("xp.random.default_rng(0).random((3, 2), dtype=np.float32)", ACCEPTED),
    ("xp.random.default_rng(0).standard_normal((3, 2))", ACCEPTED),
    ("bool(s > 0)", ACCEPTED),
    ("float(s) + int(s)", ACCEPTED),
    ("[row + 1 for row in a]", ACCEPTED),
]


def names(xp, asarray):
    """What a snippet may speak of, with its arrays made by `asarray`."""
    a = np.arange(9.0).reshape(3, 3)
    arrays = {"a": a, "v": np.ones(3), "z": np.ones(3, complex), "i": np.array([2, 0]), "m": a > 4, "s": np.array(2)}
    made = {name: asarray(array) for name, array in arrays.items()}
    return {**made, "xp": xp, "np": np, "h": np.arange(3.0), "operator": operator}


def run(snippet, spoken_of):
    """The value of an expression, None for a statement; what `spoken_of` holds may have changed."""
    try:
        code = compile(snippet, snippet, "eval")
    except SyntaxError:
        code = compile(snippet, snippet, "exec")
    return eval(code, spoken_of)


def verdict(snippet, spoken_of):
    """What became of a snippet: REFUSED or ACCEPTED. Errors that say neither (no GPU) are raised."""
    try:
        run(snippet, spoken_of)
    except REFUSALS:
        return REFUSED
    return ACCEPTED
