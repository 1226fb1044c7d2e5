"""Learning to act: episodes of the policy as it is, what each move turned out to be worth, and the gradient of that.

The environment lives on the host: each of its steps fetches the device's probabilities and sends the next observations.
No gradient is kept on the way. Afterwards one pass over all that was seen is differentiated, on the model's device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minires import backend
from minires import functional as F
from minires.backend import Array
from minires.engine import Tensor
from minires.nn import Module
from minires.train.task import answer


class Environment(Protocol):
    """N episodes side by side, with gymnasium's `step`; one that has ended stands still."""

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]: ...


@dataclass
class Episodes:
    """N episodes that were played, on the host. T is the length of the longest, M the number of all moves.

    Attributes
        observations    (M, *): what was seen before each move, the first moves of all episodes first
        actions         (M,): the moves
        chances         (M,): how probable each was
        going           (T, N): which of the T N places hold a move; M of them do
        rewards         (T, N), 0 where there was no move
        values          (T + 1, N): what the model expected before each move; behind the last one what it expected
                        then, where the episode was cut off, and 0 where it came to its end
        reached         (N,): whether it came to its end
    """

    observations: np.ndarray
    actions: np.ndarray
    chances: np.ndarray
    going: np.ndarray
    rewards: np.ndarray
    values: np.ndarray
    reached: np.ndarray


def play(
    model: Module, environment: Environment, observation: np.ndarray, draws: np.random.Generator | None
) -> Episodes:
    """Plays each episode of `environment` from `observation` (N, *) to its end or its time limit.

    model    observations (n, *) -> (scores (n, actions), values (n,)); it acts in evaluation mode
    draws    draws each move from softmax(scores); None makes the likeliest one
    """
    going = np.ones(len(observation), bool)
    seen, made, likely, marks, rewards = [], [], [], [], []
    values: list[np.ndarray] = []
    while going.any():
        chances, expected = _ask(model, observation[going])  # (n, actions), (n,)
        chosen = chances.argmax(1) if draws is None else _draw(chances, draws)
        actions, worth = np.zeros(len(going), np.int64), np.zeros(len(going))
        actions[going], worth[going] = chosen, expected
        seen.append(observation[going])
        made.append(chosen)
        likely.append(chances[np.arange(len(chosen)), chosen])
        marks.append(going)
        values.append(worth)
        observation, reward, terminated, truncated, _ = environment.step(actions)
        rewards.append(reward)
        going = ~(terminated | truncated)
    table = np.stack([*values, np.zeros(len(going))])  # (T + 1, N)
    cut = np.flatnonzero(~terminated)
    if len(cut):
        table[np.sum(marks, axis=0)[cut], cut] = _ask(model, observation[cut])[1]
    observations, moves, probable = (np.concatenate(parts) for parts in (seen, made, likely))
    return Episodes(observations, moves, probable, np.stack(marks), np.stack(rewards), table, terminated.copy())


def _ask(model: Module, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities (n, actions), values (n,)) on the host, in float64."""
    scores, values = answer(model, observations.astype(next(model.parameters()).dtype))
    host = backend.to_host(scores.data).astype(np.float64)
    powers = np.exp(host - host.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True), backend.to_host(values.data).astype(np.float64)


def _draw(chances: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """One index a row of (n, actions), with these chances."""
    passed = chances.cumsum(axis=1) < draws.random(len(chances))[:, None]
    return np.minimum(passed.sum(axis=1), chances.shape[1] - 1)


def advantages(episodes: Episodes, gamma: float, trace: float) -> np.ndarray:
    """How much better each move was than expected, (T, N), 0 where there was none.

    A_t = delta_t + gamma trace A_{t+1} with delta_t = r_t + gamma V(s_{t+1}) - V(s_t): with trace = 1 the discounted
    rewards that came, less what was expected; with trace = 0 one step's surprise; between the two, less noise for
    more trust in V. An episode that was cut off goes on as V expects; one that reached its end is worth 0 from there.

    Source    Schulman et al. 2016, High-dimensional continuous control using generalized advantage estimation, eq. 16
    """
    found = np.zeros_like(episodes.rewards)
    later = np.zeros(episodes.rewards.shape[1])
    for t in reversed(range(len(found))):
        surprise = episodes.rewards[t] + gamma * episodes.values[t + 1] - episodes.values[t]
        later = np.where(episodes.going[t], surprise + gamma * trace * later, 0.0)
        found[t] = later
    return found


def policy_loss(scores: Any, actions: Array, weights: Array) -> Tensor:
    """-weight log pi(action | state) of each move, (M,): its gradient is minus the score function times the weight.

    In expectation over the policy's own episodes, the sum over an episode's moves has the gradient of minus the
    expected return, if weight is A_t with gamma = trace = 1: E[sum_t r_t] changes as E[sum_t A_t grad log pi(a_t|s_t)].
    The weight is a constant: no gradient goes through it into the value that was subtracted. With gamma < 1 the sum
    is not the gradient of anything, but has less noise.

    Shapes    scores: (M, actions); actions, weights: (M,)
    Source    Williams 1992, Simple statistical gradient-following algorithms, theorem 1; Sutton et al. 2000, Policy
              gradient methods for reinforcement learning with function approximation, theorem 1
    """
    return F.cross_entropy(scores, actions, reduction="none") * weights


def entropy(scores: Any) -> Tensor:
    """-sum over actions of p log p, with p = softmax(scores): (M,) of (M, actions)."""
    logs = F.log_softmax(scores, dim=-1)
    return -F.sum(F.exp(logs) * logs, dim=-1)


def actor_critic_loss(
    model: Module, episodes: Episodes, gamma: float, trace: float, value_weight: float, entropy_weight: float
) -> Tensor:
    """The mean over episodes of sum_t -A_t log pi(a_t | s_t) + value_weight (V(s_t) - R_t)^2 - entropy_weight H(s_t).

    R_t = A_t + V(s_t), the return that came; it, like A_t, is a constant.

    Source    Mnih et al. 2016, Asynchronous methods for deep reinforcement learning, section 4 and algorithm S3
    """
    first = next(model.parameters())
    library = backend.find((first.data,))
    better = advantages(episodes, gamma, trace)
    returns = better + episodes.values[:-1]
    weights, targets = (library.asarray(a[episodes.going], first.dtype) for a in (better, returns))  # (M,)
    scores, values = model(library.asarray(episodes.observations, first.dtype))
    per_move = policy_loss(scores, library.asarray(episodes.actions), weights)
    error = values - targets
    per_move = per_move + value_weight * error * error - entropy_weight * entropy(scores)
    return F.sum(per_move) * (1.0 / len(episodes.reached))
