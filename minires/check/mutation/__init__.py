"""Tests of the tests: every line of every backward is broken on purpose, and the checks must notice.

A *mutant* is a backward with one small mechanical change: a plus for a minus, a term dropped, another axis, two
operands swapped. A mutant that no oracle, invariant or law notices is either equal to the original, which then is
proved in `equivalent.py`, or a hole in the checks.

General tools (mutmut, cosmic-ray) change whole files and judge each mutant by a run of pytest. Here only the
gradients are changed, with changes that gradients suffer from, and `check_op` itself is the judge: some 20 ms
a mutant instead of seconds, so that the whole score is a matter of minutes.
"""
