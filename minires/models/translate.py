"""Writing a translation with a `Transformer`: the likeliest next token again and again, or the best of several drafts.

The encoder reads the sources once. The decoder then reads one token at a time: keys and values of the source, and of
what it has said, are kept. That gives the logits of reading everything again, for one row of work a token.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import backend
from minires import functional as F
from minires.backend import Array
from minires.errors import RequestError
from minires.models.memory import Memory
from minires.models.transformer import PAD, Transformer
from minires.nn import evaluating

BOS, EOS = 1, 2  # what a target begins with, and what ends it


class Drafts:
    """Translations under way, a row each.

    source    (N, S) tokens, on the model's device
    limit     how many tokens a translation may have
    """

    def __init__(self, model: Transformer, source: Array, limit: int) -> None:
        if not 1 <= limit <= model.context:
            raise RequestError(f"limit is {limit}, but must be from 1 to the model's context, {model.context}")
        if len(source) == 0:
            raise RequestError("there is nothing to translate; give at least one source")
        self.model = model
        x: Any = model.embed(source)
        self.mask = model.mask(source)
        x = model.stacks.encode(x, self.mask)
        self.looked = [tuple(part.data for part in layer.cross_attn.look(x)) for layer in model.stacks.decoder]
        self.memories = [Memory(limit) for _ in self.looked]

    def read(self, token: Array) -> Array:
        """Adds a token (N,) to each row; returns the log-probabilities (N, V) of the next. PAD and BOS have none."""
        stacks = self.model.stacks
        y: Any = self.model.embed(token[:, None], self.memories[0].length)  # (N, 1, d)
        for layer, looked, memory in zip(stacks.decoder, self.looked, self.memories, strict=True):
            y = layer.go_on(y, looked, self.mask, memory)
        logits = self.model.logits(y if stacks.decoder_norm is None else stacks.decoder_norm(y)).data[:, 0]
        logits[:, [PAD, BOS]] = -np.inf
        return F.log_softmax(logits, dim=-1).data

    def keep(self, rows: Array) -> None:
        """Goes on with these rows; one may come several times."""
        self.mask = self.mask[rows]
        self.looked = [tuple(part[rows] for part in looked) for looked in self.looked]
        for memory in self.memories:
            memory.keep(rows)


def greedy(model: Transformer, source: Array, limit: int) -> Array:
    """The likeliest token at each step, up to EOS: tokens (N, T), T <= limit, filled up with PAD behind EOS.

    Looks after every token whether all rows have ended, so on a GPU it waits for the device.
    """
    xp = backend.find((source,)).xp
    with evaluating(model):
        drafts = Drafts(model, source, limit)
        token = xp.full(len(source), BOS)
        ended = xp.zeros(len(source), bool)
        said: list[Array] = []
        while len(said) < limit and not bool(ended.all()):
            token = xp.where(ended, PAD, drafts.read(token).argmax(-1))
            said.append(token)
            ended = ended | (token == EOS)
    return xp.stack(said, axis=1)


def beam(
    model: Transformer, source: Array, limit: int, width: int = 4, penalty: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    """The best of several drafts: (tokens (N, T) filled up with PAD behind EOS, their scores (N,)), on the host.

    At each step every draft is continued by every token, and the `width` likeliest continuations go on; those that end
    are kept by their score, log P / ((5 + length) / 6)^penalty, without which the shortest would win. A sentence is
    finished when no draft can beat its best ended one. Where none ended within the limit, the likeliest draft counts.

    Raises RequestError for a width below 1 or a penalty below 0.
    Source    Wu et al. 2016, Google's Neural Machine Translation System, section 7; Vaswani et al. 2017, section 6.1
    """
    if width < 1 or penalty < 0:
        raise RequestError(f"beam: width is {width} and penalty {penalty}, but must be at least 1 and 0")
    library = backend.find((source,))
    n = len(source)
    best: list[tuple[float, list[int]] | None] = [None] * n
    texts: list[list[list[int]]] = [[[]] for _ in range(n)]  # the drafts of each sentence
    so_far = np.zeros((n, 1))  # their log-probabilities
    with evaluating(model):
        drafts = Drafts(model, source, limit)
        token = np.full(n, BOS)
        for length in range(1, limit + 1):
            following = library.to_host(drafts.read(library.asarray(token))).astype(np.float64)
            total = so_far[:, :, None] + following.reshape(n, so_far.shape[1], -1)  # (N, drafts, V)
            for i, row in enumerate(_score(total[:, :, EOS], length, penalty)):
                j = int(row.argmax())
                held = best[i]
                if row[j] > -np.inf and (held is None or row[j] > held[0]):
                    best[i] = row[j], [*texts[i][j], EOS]
            total[:, :, EOS] = -np.inf
            so_far, parent, chosen = _likeliest(total, width)
            texts = [[[*texts[i][p], int(c)] for p, c in zip(parent[i], chosen[i], strict=True)] for i in range(n)]
            hope = _score(so_far[:, 0], limit, penalty)  # longer is judged milder, and log P only falls
            if all(held is not None and held[0] >= h for held, h in zip(best, hope, strict=True)):
                break
            rows = np.arange(n)[:, None] * total.shape[1] + parent  # (N, drafts)
            drafts.keep(library.asarray(rows.ravel()))
            token = chosen.ravel()
    ended = [held or (_score(so_far[i, 0], limit, penalty), texts[i][0]) for i, held in enumerate(best)]
    tokens = np.full((n, max(len(text) for _, text in ended)), PAD)
    for i, (_, text) in enumerate(ended):
        tokens[i, : len(text)] = text
    return tokens, np.array([score for score, _ in ended])


def _score(log_p: Any, length: int, penalty: float) -> Any:
    return log_p / ((5 + length) / 6) ** penalty


def _likeliest(total: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(log-probabilities, draft, token) of each sentence's `width` likeliest continuations, best first."""
    n, _, vocabulary = total.shape
    flat = total.reshape(n, -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(flat, order, axis=1), order // vocabulary, order % vocabulary
