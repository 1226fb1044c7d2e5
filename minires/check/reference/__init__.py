"""Index-loop twins of the ops, written for reading: an oracle for the tests, and the tutorials' index formulas."""
