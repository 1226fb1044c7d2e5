"""The mistakes of A1, the scalar engine."""

from __future__ import annotations

from minires.classroom.assignment import Cause

MISTAKES: dict[str, Cause] = {
    "WRONG_VALUE": Cause(
        "an operation computes a wrong number",
        "tutorial 1, (1.1)",
        (
            "Compute the example in your head.",
            "What is the data of the new value?",
            "An operation returns Value(number, edge, edge): the number comes first.",
        ),
    ),
    "PLAIN_NUMBER_REFUSED": Cause(
        "an operand that is a plain number is taken for a Value",
        "tutorial 1, (1.1)",
        (
            "What has a Value that 2 has not?",
            "There is a function in the file that makes a Value of a number and leaves a Value alone.",
            "Begin with a, b = self, lift(other).",
        ),
    ),
    "WRONG_LOCAL_SLOPE": Cause(
        "the slope along one edge of an operation is wrong",
        "tutorial 1, (1.1)",
        (
            "Hold one operand fixed, and move the other a little: how fast does the result move?",
            "Look at relu and exp: (input, slope) is what each edge keeps.",
            "d(a + b)/da = 1, d(a b)/da = b, d tanh(a)/da = 1 - tanh(a)^2.",
        ),
    ),
    "OVERWRITES_GRADIENT": Cause(
        "a second gradient replaces the first, where they should add",
        "tutorial 1, (1.2)",
        (
            "How many arrows leave x in y = x + f(x)?",
            "What is in x.grad when the second path arrives, and what after it?",
            "The multivariate chain rule is a sum: use +=, not =.",
        ),
    ),
    "NO_TOPOLOGICAL_ORDER": Cause(
        "a value passes its gradient on before all of it has arrived",
        "tutorial 1, (1.6)",
        (
            "When does a value know its whole gradient?",
            "Only after everything that was made from it has had its turn.",
            "Inputs are older than what is made from them: sort by serial, the youngest first.",
        ),
    ),
    "DOUBLE_COUNT": Cause(
        "a value that several paths reach passes its gradient on several times",
        "tutorial 1, (1.6)",
        (
            "How often does x have its turn in y = x + x?",
            "Count the entries of history() for a diamond: is any of them there twice?",
            "Keep a set of what was reached, and put a value on the list once.",
        ),
    ),
    "STALE_GRADIENTS": Cause(
        "a second backward adds to what the first one left",
        "tutorial 1, (1.6)",
        (
            "What is in grad when backward begins?",
            "After the first backward each value in the history holds a number.",
            "Set the grad of every value in the history to 0, before the walk.",
        ),
    ),
    "RECURSION_LIMIT": Cause(
        "a call within a call for each value of a chain: Python allows about a thousand",
        "tutorial 1, (1.6)",
        (
            "How deep are your calls for a chain of 10,000?",
            "A list can take the place of the calls: values that wait to be looked at.",
            "while waiting: take one with pop(), append its inputs that were not reached yet.",
        ),
    ),
    "EXPONENTIAL_TIME": Cause(
        "each path is walked on its own, and n diamonds have 2^n",
        "tutorial 1, (1.3)",
        (
            "How many paths lead through n diamonds, and how many values are there?",
            "The sum over paths can be collected at each value, before it is passed on.",
            "Each value has one turn, once its gradient is complete.",
        ),
    ),
    "NO_SEED": Cause(
        "the walk starts from 0, so that all gradients are 0",
        "tutorial 1, (1.1)",
        (
            "What is dy/dy?",
            "Where does your code set the gradient of the value that backward is called on?",
            "self.grad = Fraction(1), after the others are set to 0.",
        ),
    ),
    "ONE_STEP_ONLY": Cause(
        "only the inputs of the last operation get a gradient: the history ends there, or its oldest values come first",
        "tutorial 1, (1.3)",
        (
            "Take y = (a + b) * c. Who hands a its gradient, and when?",
            "Print the serials of self.history(). Is everything there? Which comes first, and what is its grad then?",
            "history() returns all that self depends on, not only its inputs, and the youngest comes first.",
        ),
    ),
}
