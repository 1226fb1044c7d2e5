"""Proof that a gradient is right: public API, used by the tests, by `minires check` and by the grader.

For any function, layer or model

    gradcheck(f, *inputs)    backward against differentiation that knows nothing of it

For an op of this library, or one of your own with a case that draws its inputs (`@case`)

    check_op(op)             every oracle, invariant and law, or a CheckError with the case that shows what is wrong
    examine(op)              the same as a report

And for those who doubt the checks themselves

    bugs()                   the zoo: wrong gradients that people write; `with planted(bug):` puts one in place
    all_laws()               what must hold whatever the numbers, stated as a sentence
    mutation                 every line of every backward broken on purpose
"""

from minires.check.bug import Bug, bug, bugs, planted
from minires.check.case import Case, Subject, case, subject_of, subjects
from minires.check.draw import Draw, Seeded, for_each
from minires.check.evidence import CheckError, Evidence
from minires.check.examine import OpReport, check_op, examine
from minires.check.gradcheck import GradcheckError, KinkError, Report, UncheckableError, gradcheck
from minires.check.law import Law, all_laws, law, pull, require, same, same_bits

__all__ = [
    "Bug",
    "Case",
    "CheckError",
    "Draw",
    "Evidence",
    "GradcheckError",
    "KinkError",
    "Law",
    "OpReport",
    "Report",
    "Seeded",
    "Subject",
    "UncheckableError",
    "all_laws",
    "bug",
    "bugs",
    "case",
    "check_op",
    "examine",
    "for_each",
    "gradcheck",
    "law",
    "planted",
    "pull",
    "require",
    "same",
    "same_bits",
    "subject_of",
    "subjects",
]
