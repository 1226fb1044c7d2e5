"""Wrong norms: what an answer to A4 is compared with, beside those of the bug zoo.

Each is a mistake that somebody makes, told in the first line of its docstring, under the name that the report gives it.
The zoo's are wrong in backward; those here are wrong in forward too, or in ways the zoo does not keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minires.backend import Array
from minires.classroom.diagnosis import Suspect, from_the_zoo, suspect
from minires.ops.norm import BatchNorm, LayerNorm, affine, by_channel, column, mean_of_products

# --- batch norm, wrong in forward: 1 / sigma, or the set that is normalized


def _scaled(cause: str, text: str, inverse: Callable[[Any, Array, float, int], Array]) -> Suspect:
    """A batch norm whose 1 / sigma is inverse(xp, var, eps, m), in forward and backward."""

    def forward(self: BatchNorm, x: Array, w: Array | None, b: Array | None) -> Array:
        BatchNorm.forward(self, x, w, b)
        var = 1 / self.inv**2 - self.eps
        centered = self.xhat / self.inv
        self.inv = inverse(self.xp, var, self.eps, self.m)
        self.xhat = centered * self.inv
        return affine(self.xp, self.xhat, self.w, None if b is None else column(b)).reshape(x.shape)

    return suspect(cause, type("Scaled", (BatchNorm,), {"__doc__": text, "forward": forward}))


def _over(axes: tuple[int, ...], text: str) -> Suspect:
    """A batch norm of (N, C, L) over other axes, forward and backward."""

    def forward(self: BatchNorm, x: Array, w: Array | None, b: Array | None) -> Array:
        BatchNorm.forward(self, x, w, b)
        x3 = by_channel(x)
        centered = x3 - x3.mean(axes, keepdims=True)
        self.inv = 1 / self.xp.sqrt((centered * centered).mean(axes, keepdims=True) + self.eps)
        self.xhat = centered * self.inv
        return affine(self.xp, self.xhat, self.w, None if b is None else column(b)).reshape(x.shape)

    def backward(self: BatchNorm, gy: Array) -> Any:
        _, gw, gb = BatchNorm.backward(self, gy)
        g = by_channel(gy) if self.w is None else by_channel(gy) * self.w
        gx = g - g.mean(axes, keepdims=True) - self.xhat * (g * self.xhat).mean(axes, keepdims=True)
        return (gx * self.inv).reshape(gy.shape), gw, gb

    return suspect(
        "WRONG_AXIS", type("Over", (BatchNorm,), {"__doc__": text, "forward": forward, "backward": backward})
    )


class AxesOfLayerNorm(BatchNorm):
    """gx takes its means over the channels and positions of each sample: layer norm's formula."""

    axes: tuple[int, ...] = (1, 2)

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        g = by_channel(gy) if self.w is None else by_channel(gy) * self.w
        gx = g - g.mean(self.axes, keepdims=True) - self.xhat * (g * self.xhat).mean(self.axes, keepdims=True)
        return (gx * self.inv).reshape(gy.shape), gw, gb


class OverTheBatchOnly(AxesOfLayerNorm):
    """gx takes its means over N alone, where a channel's set is N and all positions."""

    axes = (0,)


class OverTheChannels(AxesOfLayerNorm):
    """gx takes its means over the channels alone."""

    axes = (1,)


class EpsForgottenInBackward(BatchNorm):
    """1 / sigma = 1 / sqrt(var) in backward, without eps."""

    def backward(self, gy: Array) -> Any:
        self.inv = 1 / self.xp.sqrt(1 / self.inv**2 - self.eps)
        return super().backward(gy)


class GainSquared(BatchNorm):
    """gx is multiplied by w twice."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx if self.w is None else (by_channel(gx) * self.w).reshape(gx.shape), gw, gb


class SigmaForgotten(BatchNorm):
    """gx = w (gy - gb / m - xhat gw / m), without 1 / sigma."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return (by_channel(gx) / self.inv).reshape(gx.shape), gw, gb


class SigmaSquared(BatchNorm):
    """gx is divided by sigma^2, the variance, where it is divided by sigma."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return (by_channel(gx) * self.inv).reshape(gx.shape), gw, gb


class SumsForMeans(BatchNorm):
    """gx = (w / sigma) (gy - gb - xhat gw): sums where there should be means, 1 / m is missing."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        g = by_channel(gy) - column(gb) - self.xhat * column(gw)
        return (g * (self.inv if self.w is None else self.w * self.inv)).reshape(gy.shape), gw, gb


class BesselInBoth(BatchNorm):
    """gx with sums over m - 1 where there are means: m - 1 belongs to no gradient here."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        few = max(self.m - 1, 1)
        g = by_channel(gy) - column(gb) / few - self.xhat * column(gw) / few
        return (g * (self.inv if self.w is None else self.w * self.inv)).reshape(gy.shape), gw, gb


class GainAndBiasAveraged(BatchNorm):
    """gw and gb are means over the set, where they are sums: off by 1 / m."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw / self.m, gb / self.m


class GainAndBiasPerSample(BatchNorm):
    """gw and gb are means over N of sums over the positions: off by 1 / N."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw / len(gy), gb / len(gy)


class BiasTakesTheGain(BatchNorm):
    """gb = Σ w gy, where b stands outside of w xhat: gb = Σ gy."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw, gb if self.w is None else gb * self.w.reshape(-1)


class GainCollectsTheCotangent(BatchNorm):
    """gw = Σ gy, without xhat: that is gb."""

    def backward(self, gy: Array) -> Any:
        gx, _, gb = super().backward(gy)
        return gx, gb, gb


class GainCollectsTheInput(BatchNorm):
    """gw = Σ gy x, where w meets xhat: gw = Σ gy xhat."""

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        self.x = by_channel(x)
        return super().forward(x, w, b)

    def backward(self, gy: Array) -> Any:
        gx, _, gb = super().backward(gy)
        return gx, (by_channel(gy) * self.x).sum((0, 2)), gb


class GainCollectsTheScaled(BatchNorm):
    """gw = Σ w gy xhat, where it is Σ gy xhat: w itself has no part in its gradient."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw if self.w is None else gw * self.w.reshape(-1), gb


class GainCollectsTheCentered(BatchNorm):
    """gw = Σ gy (x - mu), where w meets xhat: 1 / sigma is missing."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw / self.inv.reshape(-1), gb


class NoGainNoBias(BatchNorm):
    """y = xhat: neither w nor b is used."""

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        super().forward(x, w, b)
        return self.xhat.reshape(x.shape)


class NotCentered(BatchNorm):
    """y = w x / sigma + b: the mean is not taken off."""

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        super().forward(x, w, b)
        self.xhat = by_channel(x) * self.inv
        return affine(self.xp, self.xhat, self.w, None if b is None else column(b)).reshape(x.shape)


BATCH: list[Suspect] = [
    _scaled(
        "EPS_OUTSIDE_ROOT",
        "sigma = sqrt(var) + eps, where eps stands under the root",
        lambda xp, var, eps, m: 1 / (xp.sqrt(var) + eps),
    ),
    _scaled("EPS_FORGOTTEN", "sigma = sqrt(var), without eps", lambda xp, var, eps, m: 1 / xp.sqrt(var)),
    _scaled(
        "BESSEL",
        "sigma from the unbiased variance, divided by m - 1 where it is m",
        lambda xp, var, eps, m: 1 / xp.sqrt(var * m / max(m - 1, 1) + eps),
    ),
    _scaled(
        "VARIANCE_NOT_ROOTED",
        "(x - mean) / (var + eps): divided by the variance, not by its root",
        lambda xp, var, eps, m: 1 / (var + eps),
    ),
    _over((1, 2), "each sample is normalized over its channels and positions: a layer norm"),
    _over((1,), "each position is normalized over its channels"),
    _over((2,), "each sample's channel is normalized over its positions: an instance norm"),
    _over((0,), "each position is normalized over N alone; a channel's set is N and all positions"),
    *(suspect("WRONG_AXIS", op) for op in (AxesOfLayerNorm, OverTheBatchOnly, OverTheChannels)),
    suspect("EPS_FORGOTTEN", EpsForgottenInBackward),
    suspect("GAIN_TWICE", GainSquared),
    suspect("SIGMA_FORGOTTEN", SigmaForgotten),
    suspect("VARIANCE_NOT_ROOTED", SigmaSquared),
    suspect("SUMS_FOR_MEANS", SumsForMeans),
    suspect("BIAS_GRADIENT_SUMMED_WRONG", GainAndBiasAveraged),
    suspect("BIAS_GRADIENT_SUMMED_WRONG", GainAndBiasPerSample),
    suspect("BIAS_GRADIENT_SUMMED_WRONG", BiasTakesTheGain),
    suspect("GAIN_GRADIENT_WRONG", GainCollectsTheCotangent),
    suspect("GAIN_GRADIENT_WRONG", GainCollectsTheInput),
    suspect("GAIN_GRADIENT_WRONG", GainCollectsTheScaled),
    suspect("GAIN_GRADIENT_WRONG", GainCollectsTheCentered),
    suspect("BESSEL", BesselInBoth),
    suspect("GAIN_FORGOTTEN", NoGainNoBias),
    suspect("MEAN_NOT_TAKEN_OFF", NotCentered),
    *from_the_zoo(
        BatchNorm,
        {
            "statistics_treated_as_constants": "STATISTICS_AS_CONSTANTS",
            "variance_path_dropped": "VARIANCE_TERM_DROPPED",
            "mean_path_dropped": "MEAN_TERM_DROPPED",
            "bessel_in_backward": "BESSEL",
            "gain_forgotten": "GAIN_FORGOTTEN",
            "means_over_positions_only": "WRONG_AXIS",
            "eps_beside_the_root": "EPS_OUTSIDE_ROOT",
            "gain_collects_the_output": "GAIN_GRADIENT_WRONG",
        },
    ),
]

# --- layer norm: forward is given, so only backward can be wrong


class RowsAsConstants(LayerNorm):
    """gx = gxhat / sigma: mean and variance are taken for constants."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        return ((rows if self.w is None else rows * self.w) * self.inv).reshape(gy.shape), gw, gb


class RowsWithoutVariance(LayerNorm):
    """gx = (gxhat - mean(gxhat)) / sigma: the variance's part is missing."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        g = rows if self.w is None else rows * self.w
        return ((g - g.mean(axis=1, keepdims=True)) * self.inv).reshape(gy.shape), gw, gb


class RowsGainForgotten(LayerNorm):
    """gx = (gy - mean(gy) - xhat mean(gy xhat)) / sigma: w is missing."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        kept, self.w = self.w, None
        gx, _, _ = super().backward(gy)
        self.w = kept
        return gx, gw, gb


class RowsBessel(LayerNorm):
    """gx with xhat Σ(gxhat xhat) / (m - 1), where it is the mean."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        g = rows if self.w is None else rows * self.w
        m = g.shape[1]
        gx = g - g.mean(axis=1, keepdims=True)
        gx = gx - self.xhat * mean_of_products(self.xp, g, self.xhat) * (m / max(m - 1, 1))
        return (gx * self.inv).reshape(gy.shape), gw, gb


class RowsBesselInBoth(LayerNorm):
    """gx with sums over m - 1 where there are means: m - 1 belongs to no gradient here."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        g = rows if self.w is None else rows * self.w
        few = max(g.shape[1] - 1, 1)
        gx = g - g.sum(axis=1, keepdims=True) / few - self.xhat * (g * self.xhat).sum(axis=1, keepdims=True) / few
        return (gx * self.inv).reshape(gy.shape), gw, gb


class RowsSumsForMeans(LayerNorm):
    """gx with sums where there should be means: 1 / m is missing."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        g = rows if self.w is None else rows * self.w
        gx = g - g.sum(axis=1, keepdims=True) - self.xhat * (g * self.xhat).sum(axis=1, keepdims=True)
        return (gx * self.inv).reshape(gy.shape), gw, gb


class RowsSigmaForgotten(LayerNorm):
    """gx = gxhat - mean(gxhat) - xhat mean(gxhat xhat), without 1 / sigma."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return (gx.reshape(self.xhat.shape) / self.inv).reshape(gy.shape), gw, gb


class RowsAveraged(LayerNorm):
    """gw and gb are means over the rows, where they are sums: off by 1 / rows."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw / len(self.xhat), gb / len(self.xhat)


class RowsBiasTakesTheGain(LayerNorm):
    """gb = Σ w gy, where b stands outside of w xhat: gb = Σ gy."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw, gb if self.w is None else gb * self.w.reshape(gb.shape)


class RowsGainCollectsTheScaled(LayerNorm):
    """gw = Σ w gy xhat, where it is Σ gy xhat: w itself has no part in its gradient."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw if self.w is None else gw * self.w.reshape(gw.shape), gb


LAYER: list[Suspect] = [
    suspect("STATISTICS_AS_CONSTANTS", RowsAsConstants),
    suspect("VARIANCE_TERM_DROPPED", RowsWithoutVariance),
    suspect("GAIN_FORGOTTEN", RowsGainForgotten),
    suspect("BESSEL", RowsBessel),
    suspect("BESSEL", RowsBesselInBoth),
    suspect("SUMS_FOR_MEANS", RowsSumsForMeans),
    suspect("SIGMA_FORGOTTEN", RowsSigmaForgotten),
    suspect("BIAS_GRADIENT_SUMMED_WRONG", RowsAveraged),
    suspect("BIAS_GRADIENT_SUMMED_WRONG", RowsBiasTakesTheGain),
    suspect("GAIN_GRADIENT_WRONG", RowsGainCollectsTheScaled),
    *from_the_zoo(
        LayerNorm,
        {
            "over_the_batch": "WRONG_AXIS",
            "gain_outside_the_means": "GAIN_OUTSIDE_THE_MEANS",
            "centering_forgotten": "MEAN_TERM_DROPPED",
            "gain_collects_gy": "GAIN_GRADIENT_WRONG",
        },
    ),
]
