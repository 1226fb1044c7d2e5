"""Faster subclasses of ops for one array library. Never needed for a right answer.

Importing this package registers them; `MINIRES_KERNELS=off` or `minires.formulas_only()` ignores them.
"""

from minires.kernels.conv import BlockedConv2d, BlockedConvTranspose2d

__all__ = ["BlockedConv2d", "BlockedConvTranspose2d"]
