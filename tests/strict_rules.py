"""What CuPy takes: the signatures of the real package (strict_signatures.json), and what they do not tell."""

import inspect
import json
from pathlib import Path

TABLE = json.loads(Path(__file__).with_name("strict_signatures.json").read_text(encoding="utf-8"))


def names(text):
    return frozenset(text.split())


# An array is required under these names; under any other, numbers, shapes, axes and dtypes pass.
ARRAYS = names("a b x x1 x2 y y1 v arr ary array condition m A prototype")
SCALAR_TOO = names("b x y x1 x2 v")  # of those, where a Python number is fine as well
LISTS_OF_ARRAYS = names("tup arrays arys xi operands")
UPLOADS = names("array asarray asanyarray ascontiguousarray asfortranarray")  # take host arrays and lists
ANYTHING = names("isscalar result_type can_cast common_type shape ndim iscomplexobj isrealobj")
SYNCS = names("item tolist nonzero flatnonzero argwhere unique extract compress allclose array_equal bincount")
REDUCIBLE = {"reduce": {"add", "multiply"}, "accumulate": {"add", "multiply"}, "reduceat": {"add"}}
SUPPORTED = "?bhilqBHILQefdFD"
IN_PLACE = names("copyto fill_diagonal place put putmask fill sort partition")  # they write their first argument
JOINS = names("concatenate stack hstack vstack dstack column_stack")
AT_DTYPES = {"add": "ilILefd", "maximum": "ilILfd", "minimum": "ilILfd", "subtract": "iI"}


def signature(parameters):
    """An inspect.Signature from the table's row; binding to it refuses what CuPy does not take."""
    kinds = inspect.Parameter
    made, kind = [], kinds.POSITIONAL_OR_KEYWORD
    for text in parameters:
        name = text.strip("*=")
        if text == "*":
            kind = kinds.KEYWORD_ONLY
        elif text.startswith("**"):
            made.append(kinds(name, kinds.VAR_KEYWORD))
        elif text.startswith("*"):
            made.append(kinds(name, kinds.VAR_POSITIONAL))
            kind = kinds.KEYWORD_ONLY
        else:
            made.append(kinds(name, kind, default=None if text.endswith("=") else kinds.empty))
    return inspect.Signature(made)
