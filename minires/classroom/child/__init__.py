"""What runs in the process of a student's answer: the standard library and NumPy, and nothing of minires.

These files are loaded from their folder, as the package `child`, by a Python in which `minires` cannot be imported.
The grader's own process uses `steps` and `wire` too.
"""
