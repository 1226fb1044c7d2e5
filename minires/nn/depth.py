"""What a sublayer reads: every kind of skip as one matrix over depth.

Let v_0 be the input and v_k = f_k(h_k) what sublayer k makes of the h_k that it reads. Then every network here is

    h_{k+1} = sum_{j <= k} M[k, j] v_j         k = 0, ..., L;  h_{L+1} is the output

and they differ in M alone:

    residual stream         all ones below the diagonal: everything ever written, added up       (He et al. 2015)
    Highway                 stick-breaking: M[k, j] = T_j (1 - T_{j+1}) ... (1 - T_k)              (Srivastava 2015)
    DenseFormer             learned, over the outputs of blocks instead of their branches          (Pagliardini 2024)
    hyper-connections       n streams side by side: every block of M below the diagonal has rank <= n   (Zhu 2024)
    attention residuals     a softmax over depth that looks at the v_j themselves                  (Kimi Team 2026)

`DepthMixing` runs sublayers on a `Stream`, and a stream says how to begin, read, write and finish. `depth_matrix` asks
a stream for its M. By the chain rule the gradient takes the same matrix back: the gradient of v_j is the sum of
M[k, j] times the gradient of h_{k+1}, over all k.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import init
from minires.nn.containers import ModuleList
from minires.nn.module import Module, Parameter, empty
from minires.nn.residual import Residual
from minires.switches import no_grad

EPS = 1e-6  # of the keys' norm in attention residuals


class Stream(Module):
    """How what was written at one depth is read at later ones. Its state goes from call to call; itself keeps none.

    sublayers    how many will write
    """

    def __init__(self, sublayers: int) -> None:
        if sublayers < 1:
            raise RequestError(f"{type(self).__name__}: sublayers is {sublayers}, but must be at least 1")
        self.sublayers = sublayers

    def start(self, x: Any) -> Any:
        """The state that holds v_0 = x."""
        raise NotImplementedError(f"{type(self).__name__} has no start(x)")

    def read(self, state: Any, k: int) -> Tensor:
        """h_{k+1}: what sublayer k + 1 reads, k = 0, 1, ..., when v_0 to v_k are written."""
        raise NotImplementedError(f"{type(self).__name__} has no read(state, k)")

    def write(self, state: Any, k: int, v: Any) -> Any:
        """The state after v_k is written, k = 1, 2, ..."""
        raise NotImplementedError(f"{type(self).__name__} has no write(state, k, v)")

    def finish(self, state: Any) -> Tensor:
        """The output, h_{L+1}."""
        return self.read(state, self.sublayers)


class DepthMixing(Module):
    """Sublayers on a stream: h = read, v = f(h), write, one after the other.

    sublayers    modules that keep the shape; of a pre-norm `Residual` what it would add, f(norm(h)), is taken, and its
                 own skip is left out, since the stream is in its place
    stream       made for as many sublayers; None: the residual stream

    Shapes    x, y: equal
    Keys      f.{k}.* and stream.*
    """

    def __init__(self, sublayers: Iterable[Module], stream: Stream | None = None) -> None:
        self.f = ModuleList(sublayers)
        self.stream = stream or ResidualStream(len(self.f))
        if self.stream.sublayers != len(self.f):
            raise RequestError(
                f"the stream is made for {self.stream.sublayers} sublayers, but there are {len(self.f)}; make it anew"
            )

    def forward(self, x: Any) -> Tensor:
        return run(self.stream, self.f, x)


def run(stream: Stream, sublayers: Iterable[Module], x: Any) -> Tensor:
    """The output of `sublayers` on `stream`, begun with x."""
    state = stream.start(x)
    for k, f in enumerate(sublayers):
        h = stream.read(state, k)
        state = stream.write(state, k + 1, f.update(h) if isinstance(f, Residual) else f(h))
    return stream.finish(state)


def depth_matrix(stream: Stream) -> np.ndarray:
    """M (L + 1, L + 1) of a stream whose weights do not depend on what is written, lower triangular.

    Row k is what h_{k+1} holds of v_0 to v_k; the last row is the output's. Found by writing unit vectors, since such a
    stream is linear. For attention residuals, ask `weights` instead.
    """
    size = stream.sublayers + 1
    dtype = next((p.dtype for p in stream.parameters()), np.dtype(np.float64))
    unit = [Tensor(row) for row in np.eye(size, dtype=dtype)]
    rows = []
    with no_grad():
        state = stream.start(unit[0])
        for k in range(size):
            rows.append((stream.read(state, k) if k < size - 1 else stream.finish(state)).numpy())
            if k < size - 1:
                state = stream.write(state, k + 1, unit[k + 1])
    return np.array(rows)


# --- streams with weights of their own


class ResidualStream(Stream):
    """h_{k+1} = v_0 + v_1 + ... + v_k, kept as one running sum: h_{k+1} = h_k + v_k, with the skip's +1.

    Source    He et al. 2015, Deep Residual Learning; He et al. 2016, Identity Mappings, eq. 4
    """

    def start(self, x: Any) -> Any:
        return x

    def read(self, state: Any, k: int) -> Any:
        return state

    def write(self, state: Any, k: int, v: Any) -> Tensor:
        return F.residual_add(state, v)


class HighwayStream(Stream):
    """h_{k+1} = (1 - T_k) h_k + T_k v_k, with T_k = sigmoid(gate_k) a number for each sublayer.

    bias    the gates' start: below 0, the skip is open and the branch is not

    Keys      gate (L)
    Source    Srivastava et al. 2015, Highway Networks, eq. 3, with gates that do not look at x
    """

    def __init__(self, sublayers: int, bias: float = -2.0) -> None:
        super().__init__(sublayers)
        self.gate = Parameter(empty(sublayers))
        init.constant_(self.gate, bias)

    def start(self, x: Any) -> Any:
        return x

    def read(self, state: Any, k: int) -> Any:
        return state

    def write(self, state: Any, k: int, v: Any) -> Tensor:
        t = F.sigmoid(self.gate[k - 1])
        return F.residual_add((1 - t) * state, t * v)


class DenseFormerStream(Stream):
    """Blocks of `period` sublayers with a residual stream within each; behind block i, x_i becomes
    y_i = sum_{j <= i} alpha_i[j] x_j, over the outputs of all blocks so far and x_0, the input.

    Keys      alpha.{i} (i + 1), for block i = 1, 2, ...
    Start     alpha_i = (0, ..., 0, 1): the residual stream
    Source    Pagliardini et al. 2024, DenseFormer, eq. 2 (depth weighted average)
    """

    def __init__(self, sublayers: int, period: int = 2) -> None:
        super().__init__(sublayers)
        if period < 1 or sublayers % period:
            raise RequestError(f"DenseFormerStream: {sublayers} sublayers do not make blocks of {period}")
        self.period = period
        self.alpha = ModuleList([_Weights(i + 2) for i in range(sublayers // period)])

    def start(self, x: Any) -> Any:
        return [x], x

    def read(self, state: Any, k: int) -> Any:
        return state[1]

    def write(self, state: Any, k: int, v: Any) -> Any:
        outputs, x = state
        x = F.residual_add(x, v)
        if k % self.period:
            return outputs, x
        outputs = [*outputs, x]
        return outputs, self.alpha[k // self.period - 1](outputs)


class HyperConnections(Stream):
    """n streams H (n, ...): sublayer k reads their mixture with weights A_m, and writes to all of them.

        h = A_mᵀ H            H <- A_rᵀ H + B v            y = sum of the streams at the end

    streams    n

    Keys      a_m (L, n), b (L, n), a_r (L, n, n)
    Start     A_r = I, A_m = e_{k mod n}, B = 1, and every stream begins as x: the residual stream, n times its sum
    Source    Zhu et al. 2024, Hyper-Connections, section 2.2 and eq. 14 (static)
    """

    def __init__(self, sublayers: int, streams: int = 4) -> None:
        super().__init__(sublayers)
        if streams < 1:
            raise RequestError(f"HyperConnections: streams is {streams}, but must be at least 1")
        self.streams = streams
        unit = np.eye(streams, dtype=np.float32)
        self.a_m = _filled(np.stack([unit[k % streams] for k in range(sublayers)]))
        self.b = _filled(np.ones((sublayers, streams), np.float32))
        self.a_r = _filled(np.stack([unit] * sublayers))

    def start(self, x: Any) -> Tensor:
        return F.stack([x] * self.streams, 0)  # (n, ...)

    def read(self, state: Any, k: int) -> Tensor:
        if k == self.sublayers:
            return F.sum(state, 0)
        n, *shape = state.shape
        return F.reshape(F.matmul(self.a_m[k], F.reshape(state, (n, -1))), tuple(shape))

    def write(self, state: Any, k: int, v: Any) -> Tensor:
        n, *shape = state.shape
        kept = F.matmul(F.transpose(self.a_r[k - 1], 0, 1), F.reshape(state, (n, -1)))  # (n, ...) flat
        added = F.unsqueeze(self.b[k - 1], 1) * F.reshape(v, (1, -1))
        return F.reshape(kept + added, (n, *shape))


# --- attention over depth


class AttentionResiduals(Stream):
    """h_{k+1} = sum_j a_j v_j with a = softmax_j(w_k · RMSNorm_k(v_j)): each depth has a query w_k, and looks back at
    all that was written. Keys are normalized, values are not; there is no 1/sqrt(width).

    Keys      query (L + 1, width), gain (L + 1, width); the last row is the output's
    Start     w = 0: equal weights, so the stream over k + 1, which a norm behind it cannot tell from the stream
    Source    Kimi Team 2026, Attention Residuals, arXiv 2603.15031, section 3.1 (full)
    """

    def __init__(self, sublayers: int, width: int, eps: float = EPS) -> None:
        super().__init__(sublayers)
        if width < 1:
            raise RequestError(f"{type(self).__name__}: width is {width}, but must be at least 1")
        self.width, self.eps = width, eps
        self.query = _filled(np.zeros((sublayers + 1, width), np.float32))
        self.gain = _filled(np.ones((sublayers + 1, width), np.float32))

    def start(self, x: Any) -> Any:
        if x.shape[-1] != self.width:
            raise RequestError(
                f"{type(self).__name__} was made for vectors of {self.width}, but x is {tuple(x.shape)}; its last axis "
                "must be the width"
            )
        return [x]

    def write(self, state: Any, k: int, v: Any) -> Any:
        return [*state, v]

    def read(self, state: Any, k: int) -> Tensor:
        sources = F.stack(self.sources(state), 0)  # (S, ..., D)
        weights = F.unsqueeze(self._weights(sources, k), -1)  # (S, ..., 1)
        return F.sum(weights * sources, 0)

    def sources(self, state: Any) -> list[Any]:
        """What a read looks at: all values (here), or the sums of finished blocks and of the one under way."""
        return state

    def weights(self, state: Any, k: int) -> Tensor:
        """a (S, ...): how much of each source h_{k+1} holds; they are positive and sum to 1."""
        return self._weights(F.stack(self.sources(state), 0), k)

    def _weights(self, sources: Tensor, k: int) -> Tensor:
        keys = F.rms_norm(sources, (self.width,), self.gain[k], self.eps)
        return F.softmax(F.matmul(keys, self.query[k]), 0)  # (S, ...)


class BlockAttentionResiduals(AttentionResiduals):
    """Attention residuals over blocks: the sublayers of a block are added up, and reads look at the sums.

    The sources are v_0 (the embedding, by itself), the sum of every finished block, and from a block's second
    sublayer on the sum of what it has written so far. So memory grows with the number of blocks, not with depth.

    period    S, sublayers a block: 1 is the full form; as many as there are leaves the embedding and one sum

    Source    Kimi Team 2026, Attention Residuals, arXiv 2603.15031, section 3.2 (block)
    """

    def __init__(self, sublayers: int, width: int, period: int, eps: float = EPS) -> None:
        super().__init__(sublayers, width, eps)
        if period < 1:
            raise RequestError(f"BlockAttentionResiduals: period is {period}, but a block has at least 1 sublayer")
        self.period = period

    def write(self, state: Any, k: int, v: Any) -> Any:
        begins = (k - 1) % self.period == 0
        return [*state, v] if begins else [*state[:-1], F.residual_add(state[-1], v)]


# --- small parts


class _Weights(Module):
    """sum_j weight[j] x_j over a list of Tensors; at the start, the last of them."""

    def __init__(self, n: int) -> None:
        self.weight = _filled(np.eye(n, dtype=np.float32)[-1])

    def forward(self, xs: list[Any]) -> Tensor:
        n, shape = len(xs), xs[0].shape
        flat = F.reshape(F.stack(xs, 0), (n, -1))
        return F.reshape(F.matmul(self.weight, flat), shape)


def _filled(values: np.ndarray) -> Parameter:
    """A parameter with these values, where new arrays are made at the moment."""
    parameter = Parameter(empty(*values.shape))
    with no_grad():
        parameter.copy_(values)
    return parameter
