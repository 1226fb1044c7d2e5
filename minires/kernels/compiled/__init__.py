"""Compiled kernels, for those who install the extra `fast` (numba): the same maps, with loops made for this processor.

`provider` holds the kernels and imports nothing of numba until one of them is asked for; the other files are functions
on contiguous (N, H, W, C) arrays.
"""
