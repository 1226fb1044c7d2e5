"""Embedding: a table that is looked up."""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import init
from minires.nn.module import Module, Parameter, empty
from minires.switches import no_grad


class Embedding(Module):
    """y = weight[x].

    With `padding_idx` that row starts at zero and gets no gradient.

    Shapes    x: any shape, of integers; y: (*x.shape, embedding_dim)
    Keys      weight (num_embeddings, embedding_dim)
    Start     N(0, 1), as torch
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise RequestError(f"Embedding: padding_idx {padding_idx} is no row of {num_embeddings} embeddings")
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.weight = Parameter(empty(num_embeddings, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(self, x: Any) -> Tensor:
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        extra = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{extra}"
