"""A backward pass, step by step: op, formula with the numbers in it, shapes, |g|, and who receives it."""
