"""The names of mistakes: what each means, where the derivation stands, and three hints, the first the vaguest.

A grader says one of these names only where it is certain (see `diagnosis.py`); else it says UNKNOWN.
"""

from __future__ import annotations

from minires.classroom.assignment import Cause
from minires.classroom.causes import block, engine, norms

# --- where the answer does not run, or says nothing: found by the grader itself

MACHINERY: dict[str, Cause] = {
    "UNKNOWN": Cause(
        "wrong, but by no mistake that the grader knows: it does not guess",
        "",
        (
            "Take the smallest failing input, and work it out on paper.",
            "Print each quantity of your code beside the one on paper; find the first that differs.",
            "Compare your gradient with a central difference: (f(x + e) - f(x - e)) / (2 e), one entry at a time.",
        ),
    ),
    "NOT_WRITTEN": Cause("the body is still the blank that was handed out"),
    "SYNTAX_ERROR": Cause("Python cannot read the file"),
    "IMPORT_ERROR": Cause("the file imports what is not there: it stands on NumPy and the standard library alone"),
    "MISSING_NAME": Cause("a class or function that was handed out is gone, or has another name"),
    "CHANGED_SIGNATURE": Cause("a function takes other arguments than when it was handed out"),
    "CRASHED": Cause("the code raised an error, or its process ended"),
    "TIMEOUT": Cause("the code did not come to an end in time"),
    "OUT_OF_MEMORY": Cause("the code asked for more memory than it may have"),
    "READS_REFERENCE": Cause("the file imports or reads the library, which holds the answer"),
    "FORBIDDEN_ACTION": Cause("the file does what no answer needs, such as writing files or starting programs"),
}

# --- what comes back is no gradient at all

SHAPES: dict[str, Cause] = {
    "NOTHING_RETURNED": Cause(
        "an output is None, or fewer came back than there are inputs",
        "",
        (
            "Does every way through your function end in a return?",
            "backward returns one gradient for each input of forward, in the same order.",
            "Print what backward returns: its length, and the shape of each entry.",
        ),
    ),
    "WRONG_SHAPE": Cause(
        "an output has another shape than what it belongs to",
        "",
        (
            "The gradient of an array has the shape of that array.",
            "Write the shape behind each line of your code, as in # (N, D).",
            "A sum over an axis removes the axis; keepdims=True keeps it, with length 1.",
        ),
    ),
    "NOT_FINITE": Cause(
        "an output holds nan or inf",
        "",
        (
            "Where do you divide, or take a root?",
            "What is it that you divide by, where all numbers of a set are equal?",
            "Find the first quantity that is not finite, by np.isfinite(...).all() behind each line.",
        ),
    ),
    "TRANSPOSED": Cause(
        "a gradient is the transpose of the right one",
        "tutorial 8, (8.3)",
        (
            "The gradient of a matrix has the shape of the matrix. Does yours, where it is not square?",
            "For y = h w^T with w: (O, H), what stands in row o of gw?",
            "gw[o, k] is the sum over n of gy[n, o] h[n, k]. Write this as one matrix product.",
        ),
    ),
    "INPUT_OVERWRITTEN": Cause(
        "an input was written to, and the caller still reads it",
        "tutorial 8, (8.3)",
        (
            "Whose array is x, once forward is done?",
            "Look for +=, *=, out= and x[...] = on arrays that you were handed.",
            "x += f writes into the caller's x; x + f makes a new array.",
        ),
    ),
    "ALIASED_ADD": Cause(
        "a gradient was added into an array that others still read",
        "tutorial 8, (8.3)",
        (
            "How many names does the array gy have, at the line where you add to it?",
            "gx = gy makes no copy: gx += ... changes gy too, and all that is computed from gy afterwards.",
            "Write gx = gy + ..., which makes a new array.",
        ),
    ),
}

CAUSES: dict[str, Cause] = MACHINERY | SHAPES | engine.MISTAKES | norms.MISTAKES | block.MISTAKES
"""Every name that a report may say."""
