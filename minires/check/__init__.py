"""Proof that a gradient is right: public API, used by the tests and by the grader."""

from minires.check.gradcheck import GradcheckError, Report, gradcheck

__all__ = ["GradcheckError", "Report", "gradcheck"]
