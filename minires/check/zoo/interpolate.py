"""Resizing with a wrong gradient: most often another resizing, where the transpose is meant."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.interpolate import Bilinear, Nearest

# --- copies


@bug(
    Nearest,
    symptom="silent: below each up-sampling of a U-Net gradients are a quarter of what they should be, and noisy",
    killed_by="a_copied_pixel_sums_the_gradients_of_its_copies",
)
class CopiesAssigned(Nearest):
    """gx[r(p), s(q)] = gy[p, q] instead of +=: of all copies of a pixel only the last one's gradient stays."""

    def backward(self, gy: Array) -> Array:
        rows, columns = _last(self.xp, self.r, self.shape[2]), _last(self.xp, self.s, self.shape[3])
        return rows.astype(gy.dtype).T @ gy @ columns.astype(gy.dtype)


@bug(
    Nearest,
    symptom="silent: below each up-sampling gradients are smaller by the square of its factor; Adam hides it",
    killed_by="enlarging_by_whole_factors_sums_each_block",
)
class CopiesAveraged(Nearest):
    """gx = mean of gy over a pixel's copies instead of their sum: average pooling, for it makes the image small again.

    The mean undoes the enlargement; the gradient is its transpose, and that sums.
    """

    def backward(self, gy: Array) -> Array:
        one = self.xp.ones((1, 1, *gy.shape[2:]), gy.dtype)
        return Nearest.backward(self, gy) / self.xp.maximum(1, Nearest.backward(self, one))


@bug(
    Nearest,
    symptom="silent for whole factors up to 2; for others the gradient is off by a pixel here and there",
    killed_by="a_copied_pixel_sums_the_gradients_of_its_copies",
)
class RoundedNotFloored(Nearest):
    """Backward takes r(p) = round(p step) where forward has floor(p step), and s(q) likewise: two ideas of nearest."""

    def backward(self, gy: Array) -> Array:
        kept = self.r, self.s
        self.r, self.s = (
            self.xp.rint(self.xp.arange(self.size[a]) * self.step[a]).astype("int64").clip(0, self.shape[2 + a] - 1)
            for a in (0, 1)
        )
        gx = Nearest.backward(self, gy)
        self.r, self.s = kept
        return gx


# --- weighted means


@bug(
    Bilinear,
    symptom="silent: the gradient's sum is right, its place is not; up-sampling layers learn blurred, jagged edges",
    killed_by="bilinear_resizing_reproduces_a_slanted_plane_and_keeps_the_gradients_moments",
)
class WeightsOfTheNeighborsExchanged(Bilinear):
    """gx[i] += t gy and gx[i + 1] += (1 - t) gy instead of (1 - t) gy and t gy, with t = u(p) - i along each axis.

    The farther pixel gets what belongs to the nearer one. With t = 1/2, as for halving, or t = 0, nothing shows.
    """

    def backward(self, gy: Array) -> Array:
        return self._exchanged(self.rows).T @ gy @ self._exchanged(self.cols)

    def _exchanged(self, weights: Array) -> Array:
        between = (weights > 0) & (weights < 1)
        return self.xp.where(between, 1 - weights, weights)


@bug(
    Bilinear,
    symptom="silent: below each enlargement gradients are smaller by the square of its factor, and smooth",
    killed_by="resizing_keeps_the_sum_of_the_gradient",
)
class ResizedBack(Bilinear):
    """gx = gy resized to (H, W), instead of Rᵀ gy C: "the gradient of enlarging is reducing".

    The other resizing's rows sum to one; those of the transpose need not, its columns do.
    """

    def backward(self, gy: Array) -> Array:
        h, w = self.rows.shape[1], self.cols.shape[1]
        return self._back(0, h) @ gy @ self._back(1, w).T

    def _back(self, axis: int, old: int) -> Array:
        new = self.size[axis]
        xp, i = self.xp, self.xp.arange(old)
        u = (i * (new - 1) / max(1, old - 1)) if self.align_corners else (i + 0.5) * new / old - 0.5
        near = xp.maximum(0.0, 1.0 - abs(u.clip(0, new - 1)[:, None] - xp.arange(new)))
        return near.astype(self.rows.dtype)  # (old, new)


@bug(
    Bilinear,
    symptom="silent: the gradient is right in the middle and drifts towards the border; invisible in the loss",
    killed_by="a_bilinear_gradient_reaches_only_the_neighbors_of_its_pixel",
)
class CornersAlignedInForwardOnly(Bilinear):
    """Backward has u(p) = (p + 1/2) H / OH - 1/2 where forward has u(p) = p (H - 1) / (OH - 1), or the reverse.

    align_corners was not handed on to backward.
    """

    def backward(self, gy: Array) -> Array:
        rows, columns = self._otherwise(0, self.rows.shape[1]), self._otherwise(1, self.cols.shape[1])
        return rows.T @ gy @ columns

    def _otherwise(self, axis: int, old: int) -> Array:
        new, xp = self.size[axis], self.xp
        p = xp.arange(new)
        u = (p + 0.5) * old / new - 0.5 if self.align_corners else p * (old - 1) / max(1, new - 1)
        near = xp.maximum(0.0, 1.0 - abs(u.clip(0, old - 1)[:, None] - xp.arange(old)))
        return near.astype(self.rows.dtype)  # (new, old)


@bug(
    Bilinear,
    symptom="silent: along the border gradients are too small, by a quarter for a factor of two; corners twice so",
    killed_by="resizing_keeps_the_sum_of_the_gradient",
)
class BorderNotClamped(Bilinear):
    """Backward leaves u(p) where it falls, below 0 or beyond H - 1; right is to clamp it as forward does.

    A new pixel outside the old grid then gives the border pixel 1 - |u| of its gradient, and the rest to none.
    """

    def backward(self, gy: Array) -> Array:
        rows, columns = self._loose(0, self.rows.shape[1]), self._loose(1, self.cols.shape[1])
        return rows.T @ gy @ columns

    def _loose(self, axis: int, old: int) -> Array:
        p, step, xp = self.xp.arange(self.size[axis]), self.step[axis], self.xp
        u = p * step if self.align_corners else (p + 0.5) * step - 0.5
        return xp.maximum(0.0, 1.0 - abs(u[:, None] - xp.arange(old))).astype(self.rows.dtype)  # (new, old)


def _last(xp: Any, places: Array, old: int) -> Array:
    """(new, old): whether new pixel p is the last copy of old pixel i."""
    copies = places[:, None] == places[None, :]
    later = copies & (xp.arange(len(places))[None, :] > xp.arange(len(places))[:, None])
    return (places[:, None] == xp.arange(old)) & ~later.any(axis=1)[:, None]
