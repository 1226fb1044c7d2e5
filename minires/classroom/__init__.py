"""Assignments cut from the library, and the grader that names mistakes."""
