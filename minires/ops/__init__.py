"""The formulas: each op's forward and backward side by side, one family a file."""
