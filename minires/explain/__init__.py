"""A backward pass, step by step: op, formula with the numbers in it, shapes, |g|, and who receives it.

    from minires import explain

    print(explain.expression("x + tanh(w * x)", {"x": 0.5, "w": 2}))
    print(explain.op("conv2d"))
    print(explain.block("preact"))

And for any graph of one's own

    with explain.record() as seen:                       # so that the walk also knows the values of the forward pass
        loss = F.cross_entropy(model(x), labels)
    walk = explain.backward(loss, names=model, seen=seen)

A walk prints itself, shows itself in Jupyter, and is plain data: `walk.steps`, `walk.into("x")`, `walk.gradient("x")`;
`walk.page()` is an HTML page, `walk.svg()` the graph.
"""

from minires.explain.build import backward
from minires.explain.subjects import BLOCKS, block, expression, op
from minires.explain.tape import Recording, record
from minires.explain.walk import Shown, Step, Term, Value, Walk

__all__ = [
    "BLOCKS",
    "Recording",
    "Shown",
    "Step",
    "Term",
    "Value",
    "Walk",
    "backward",
    "block",
    "expression",
    "op",
    "record",
]
