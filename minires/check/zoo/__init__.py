"""The bug zoo: wrong gradients that people really write, each with its symptom and the law that kills it."""
