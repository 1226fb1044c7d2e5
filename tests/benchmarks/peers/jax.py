"""JAX on the CPU: every call one compiled function, compiled before anything is measured."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
from jax import numpy as jnp

from benchmarks.peers.base import Functional, version


class Jax(Functional):
    def versions(self) -> dict[str, str]:
        return version("jax", "jaxlib")

    def put(self, array: Any) -> Any:
        return jnp.array(array)

    def numpy(self, array: Any) -> Any:
        return jax.device_get(array)

    def _compiled(self, f: Any, *arguments: Any) -> Any:
        """f, with the running statistics that it moved handed out too, so that they are computed as elsewhere."""

        def traced(*given: Any) -> Any:
            self.moved: list[Any] = []
            return f(*given), self.moved

        made = jax.jit(traced).lower(*arguments).compile()
        return lambda *given: jax.block_until_ready(made(*given))[0]

    def forward(self, f: Any, held: Any, fixed: Any) -> Any:
        made = self._compiled(f, held, fixed)
        return lambda: made(held, fixed)

    def both(self, f: Any, held: Any, fixed: Any) -> Any:
        def value_and_gradients(h: Any, c: Any) -> Any:
            def recorded(inner: Any) -> Any:
                self.moved.clear()
                return f(inner, c), list(self.moved)

            y, pull, moved = jax.vjp(recorded, h, has_aux=True)
            self.moved[:] = moved
            return y, pull(c["gy"] if "gy" in c else jnp.ones((), y.dtype))[0]

        made = self._compiled(value_and_gradients, held, fixed)
        return lambda: made(held, fixed)

    def step(self, loss: Any, state: dict[str, Any], fixed: Any, lr: float, momentum: float) -> Any:
        def stepped(weights: Any, buffers: Any, c: Any) -> Any:
            def recorded(inner: Any) -> Any:
                self.moved.clear()
                return loss(inner, c), list(self.moved)

            (value, moved), g = jax.value_and_grad(recorded, has_aux=True)(weights)
            self.moved[:] = moved
            new = {n: momentum * buffers[n] + g[n] for n in g} if momentum else g
            return value, {n: weights[n] - lr * new[n] for n in new}, new if momentum else buffers

        state["buffers"] = {n: jnp.zeros_like(w) for n, w in state["weights"].items()}
        made = self._compiled(stepped, state["weights"], state["buffers"], fixed)

        def step() -> Any:
            value, state["weights"], state["buffers"] = made(state["weights"], state["buffers"], fixed)
            return value

        return step

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        pads = ((padding, padding), (padding, padding))
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), pads, dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=groups
        )

    def batch_norm(self, x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        if self.training:
            m = x.size // x.shape[1]
            old, (mean, spread) = (mean, var), (x.mean((0, 2, 3)), x.var((0, 2, 3)))
            self.moved += [0.9 * old[0] + 0.1 * mean, 0.9 * old[1] + 0.1 * spread * m / (m - 1)]
            var = spread
        scale = w * jax.lax.rsqrt(var + 1e-5)
        return (x - mean[:, None, None]) * scale[:, None, None] + b[:, None, None]

    def relu(self, x: Any) -> Any:
        return jax.nn.relu(x)

    def tanh(self, x: Any) -> Any:
        return jnp.tanh(x)

    def shortcut(self, x: Any, channels: int, stride: int) -> Any:
        more = (channels - x.shape[1]) // 2
        return jnp.pad(x[:, :, ::stride, ::stride], ((0, 0), (more, more), (0, 0), (0, 0)))

    def global_average(self, x: Any) -> Any:
        return x.mean((2, 3))

    def max_pool(self, x: Any) -> Any:
        window = (1, 1, 2, 2)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return x @ w.T + b

    def cross_entropy(self, x: Any, labels: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1).mean()

    def layer_norm(self, x: Any, w: Any, b: Any) -> Any:
        centered = x - x.mean(-1, keepdims=True)
        return centered * jax.lax.rsqrt((centered * centered).mean(-1, keepdims=True) + 1e-5) * w + b

    def gelu(self, x: Any) -> Any:
        return jax.nn.gelu(x, approximate=False)

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        scores = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)
        return jax.nn.softmax(scores) @ v


def make(threads: int, variant: str) -> Jax:
    return Jax()
