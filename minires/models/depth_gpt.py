"""GPT with another stream between its sublayers: attention residuals, or hyper-connections.

Attention and MLP are those of `gpt.py`, and so are embeddings, final LN and head. What differs is what a sublayer
reads: not the sum of all that was written before it, but a mixture over depth that is learned (`nn/depth.py`).

    h_{k+1} = sum_{j <= k} M[k, j] v_j,        v_k = f_k(LN(h_k))

At the start both are GPT itself, up to the epsilon of its norms. Text is made without a cache of keys and values.

Source: Kimi Team 2026, Attention Residuals, arXiv 2603.15031; Zhu et al. 2024, Hyper-Connections, arXiv 2409.19606.
"""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.gpt import GPT, GPTBody
from minires.models.memory import Memory
from minires.models.registry import register
from minires.nn import AttentionResiduals, BlockAttentionResiduals, HyperConnections, Module, Stream
from minires.nn.depth import run


class DepthBody(GPTBody):
    """GPT's embeddings, sublayers and final LN, with a stream for the skips.

    Keys      those of GPTBody, and stream.*
    """

    stream: Stream

    def sublayers(self) -> list[Module]:
        """Attention, MLP, attention, MLP, ..."""
        return [f for block in self.h for f in (block.attn, block.mlp)]

    def forward(self, tokens: Any, cache: list[Memory] | None = None) -> Tensor:
        if cache is not None:
            raise RequestError("keys and values are not cached across a stream over depth; generate without a cache")
        return self.ln_f(run(self.stream, self.sublayers(), self.embed(tokens)))


class DepthGPT(GPT):
    """GPT on a stream of any kind; everything else is as in `GPT`."""

    body = DepthBody

    def __init__(self, stream: Stream, vocab_size: int, context: int, **sizes: Any) -> None:
        super().__init__(vocab_size, context, **sizes)
        self.transformer.stream = stream

    def new_cache(self) -> None:
        """There is none."""
        return


@register(
    "attnres_gpt",
    depth=4,
    skip="h = sum_j softmax_j(w · RMSNorm(v_j)) v_j",
    source="Kimi Team 2026, Attention Residuals, arXiv 2603.15031",
)
def attnres_gpt(
    *,
    vocab_size: int = 65,
    context: int = 128,
    layers: int = 4,
    heads: int = 4,
    width: int = 128,
    dropout: float = 0.0,
    tied: bool = True,
    period: int = 1,
) -> DepthGPT:
    """GPT with attention residuals: full with period=1, else over blocks of so many sublayers (2 a layer)."""
    full = period == 1
    n = 2 * layers
    stream = AttentionResiduals(n, width) if full else BlockAttentionResiduals(n, width, period)
    return DepthGPT(stream, vocab_size, context, layers=layers, heads=heads, width=width, dropout=dropout, tied=tied)


@register(
    "hyper_gpt",
    depth=4,
    skip="h = A_mᵀ H, H <- A_rᵀ H + B f(h)",
    source="Zhu et al. 2024, Hyper-Connections, arXiv 2409.19606",
)
def hyper_gpt(
    *,
    vocab_size: int = 65,
    context: int = 128,
    layers: int = 4,
    heads: int = 4,
    width: int = 128,
    dropout: float = 0.0,
    tied: bool = True,
    streams: int = 4,
) -> DepthGPT:
    """GPT with static hyper-connections of so many streams."""
    stream = HyperConnections(2 * layers, streams)
    return DepthGPT(stream, vocab_size, context, layers=layers, heads=heads, width=width, dropout=dropout, tied=tied)
