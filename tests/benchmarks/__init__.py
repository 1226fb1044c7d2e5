"""minires beside other frameworks: the same work, in alternation. `python -m tests.benchmarks --help` tells how.

`items` says what is computed, `peers/` how each framework computes it. Both, and `worker`, `memory` and `digest`, run
in the peers' own interpreters, as old as Python 3.9, and import nothing of minires but in its own peer.
"""
