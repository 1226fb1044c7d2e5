"""The policy gradient against the exact gradient of the expected return, and what `play` writes down."""

import itertools

import numpy as np
import pytest

from minires import backend, models
from minires import functional as F
from minires.data.gridworld import GridWorlds
from minires.engine import Tensor
from minires.switches import no_grad
from minires.train.actor_critic import Episodes, actor_critic_loss, advantages, entropy, play, policy_loss
from tests.devices import agree
from tests.devices import library as library  # the fixture

rng = np.random.default_rng(41)
LIMIT = 3


def tower(size=2, norm="group", seed=1, **options):
    """A small tower in float64 whose policy prefers some moves to others."""
    draw = np.random.default_rng(seed)
    small = {"width": 3, "blocks": 1, "hidden": 3, **options}
    model = models.create("policy_value_tower", size=size, norm=norm, **small).to(np.float64)
    with no_grad():
        for name, p in model.named_parameters():
            p.copy_(p.numpy() + draw.standard_normal(p.shape) * (0.5 if p.ndim == 1 else 0.3))
            assert np.all(p.numpy() != 0), name
    return model


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: 0.0 * p.data if p.grad is None else p.grad for name, p in model.named_parameters()}


# --- the policy gradient theorem, by enumeration


def every_episode(expected):
    """Each course that an episode on one board of 2 x 2 can take, as Episodes of one: 64 move sequences or fewer.

    expected    the value of (moves made, cell): any numbers, since a baseline that ignores the move changes nothing
    """
    found = {}
    for moves in itertools.product(range(4), repeat=LIMIT):
        worlds = GridWorlds(2, limit=LIMIT)
        observation, _ = worlds.place(np.array([[False, False, True, False]]), np.array([3]), np.array([0]))
        seen, rewards, values = [], [], []
        for move in moves:
            seen.append(observation)
            values.append(expected[len(values), worlds.agents[0]])
            observation, reward, terminated, truncated, _ = worlds.step(np.array([move]))
            rewards.append(reward)
            if terminated[0] or truncated[0]:
                break
        made = np.array(moves[: len(rewards)])
        end = 0.0 if terminated[0] else expected[LIMIT, worlds.agents[0]]
        found[tuple(made)] = Episodes(
            np.concatenate(seen),
            made,
            np.ones(len(made)),
            np.ones((len(made), 1), bool),
            np.stack(rewards),
            np.array([*values, end])[:, None],
            terminated.copy(),
        )
    return list(found.values())


def log_chance(model, episode):
    """log of the probability that the policy takes just these moves."""
    logs = F.log_softmax(model(Tensor(episode.observations.astype(float)))[0], dim=-1)
    return F.sum(logs[np.arange(len(episode.actions)), episode.actions])


def test_the_expected_policy_gradient_is_the_gradient_of_the_expected_return():
    model, expected = tower(), rng.standard_normal((LIMIT + 1, 4))
    episodes = every_episode(expected)
    assert 1 < len(episodes) < 64
    assert {len(e.actions) for e in episodes} == {2, 3}

    chances = [F.exp(log_chance(model, e)) for e in episodes]
    assert abs(sum(c.item() for c in chances) - 1) < 1e-12
    total = sum((c * (e.rewards.sum() + e.values[-1, 0]) for c, e in zip(chances, episodes, strict=True)), start=0.0)
    exact = gradients(model, total)

    mean = sum(
        (actor_critic_loss(model, e, 1.0, 1.0, 0.0, 0.0) * c.item() for c, e in zip(chances, episodes, strict=True)),
        start=0.0,
    )
    estimated = gradients(model, mean)
    for name, gradient in exact.items():
        scale = max(np.abs(gradient).max(), 1e-3)
        assert np.max(np.abs(estimated[name] + gradient)) < 1e-12 * scale + 1e-14, name
    assert max(np.abs(g).max() for g in exact.values()) > 1e-2


def test_another_baseline_gives_another_estimate_of_the_same_gradient():
    model = tower()
    plain, shifted = (every_episode(np.full((LIMIT + 1, 4), b)) for b in (0.0, 5.0))
    for e in shifted:  # the same ends, so that the returns are those of `plain`
        e.values[-1] = 0.0
    one = gradients(model, actor_critic_loss(model, plain[0], 1.0, 1.0, 0.0, 0.0))
    other = gradients(model, actor_critic_loss(model, shifted[0], 1.0, 1.0, 0.0, 0.0))
    assert not np.allclose(one["policy.weight"], other["policy.weight"])
    chances = [F.exp(log_chance(model, e)).item() for e in plain]
    means = [
        gradients(
            model,
            sum(
                (actor_critic_loss(model, e, 1.0, 1.0, 0.0, 0.0) * c for c, e in zip(chances, es, strict=True)),
                start=0.0,
            ),
        )
        for es in (plain, shifted)
    ]
    for name, gradient in means[0].items():
        assert np.allclose(gradient, means[1][name], rtol=0, atol=1e-12), name


def test_the_policys_loss_leaves_the_value_alone():
    model = tower()
    found = gradients(model, actor_critic_loss(model, every_episode(np.ones((LIMIT + 1, 4)))[5], 0.9, 0.8, 0.0, 0.1))
    for name, gradient in found.items():
        assert np.any(gradient) != name.startswith("value"), name


# --- the pieces of the loss


def random_episodes(lengths, seed=0):
    draw = np.random.default_rng(seed)
    going = np.arange(max(lengths))[:, None] < np.array(lengths)
    values = np.concatenate([going, np.zeros((1, len(lengths)))]) * draw.standard_normal((len(going) + 1, len(lengths)))
    for n, length in enumerate(lengths):
        values[length, n] = draw.standard_normal() * (n % 2)  # every other one was cut off
    moves = int(going.sum())
    return Episodes(
        draw.standard_normal((moves, 3, 2, 2)),
        draw.integers(0, 4, moves),
        np.ones(moves),
        going,
        going * draw.standard_normal(going.shape),
        values,
        np.arange(len(lengths)) % 2 == 0,
    )


@pytest.mark.parametrize(("gamma", "trace"), [(0.9, 0.7), (1.0, 1.0), (0.8, 0.0), (0.9, 1.0)])
def test_an_advantage_is_the_discounted_sum_of_surprises(gamma, trace):
    episodes = random_episodes([4, 1, 3, 4])
    found = advantages(episodes, gamma, trace)
    for n, length in enumerate(episodes.going.sum(0)):
        r, v = episodes.rewards[:, n], episodes.values[:, n]
        surprise = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((gamma * trace) ** (k - t) * surprise[k] for k in range(t, length))
            assert abs(found[t, n] - expected) < 1e-12
            if trace == 1:
                rewards = sum(gamma ** (k - t) * r[k] for k in range(t, length))
                assert abs(found[t, n] + v[t] - rewards - gamma ** (length - t) * v[length]) < 1e-12
    assert not found[~episodes.going].any()


def test_the_loss_is_the_mean_over_episodes_of_its_three_terms():
    model, episodes = tower(), random_episodes([3, 2])
    gamma, trace, value_weight, entropy_weight = 0.9, 0.6, 0.7, 0.3
    scores, values = (y.data for y in model(Tensor(episodes.observations)))
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    better = advantages(episodes, gamma, trace)
    returns = (better + episodes.values[:-1])[episodes.going]
    chosen = logs[np.arange(5), episodes.actions]
    spread = -(np.exp(logs) * logs).sum(1)
    terms = -better[episodes.going] * chosen + value_weight * (values - returns) ** 2 - entropy_weight * spread
    loss = actor_critic_loss(model, episodes, gamma, trace, value_weight, entropy_weight)
    assert abs(loss.item() - terms.sum() / 2) < 1e-12
    assert np.allclose(entropy(Tensor(scores)).data, spread, rtol=0, atol=1e-12)
    uniform = entropy(Tensor(np.full((1, 4), 3.0)))
    assert abs(uniform.item() - np.log(4)) < 1e-12


def test_the_score_function_is_one_hot_less_softmax_times_the_weight():
    scores, actions, weights = rng.standard_normal((5, 4)), rng.integers(0, 4, 5), rng.standard_normal(5)
    leaf, gy = Tensor(scores, requires_grad=True), rng.standard_normal(5)
    policy_loss(leaf, actions, weights).backward(gy)
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = (gy * weights)[:, None] * (chances - np.eye(4)[actions])
    assert np.allclose(leaf.grad, expected, rtol=0, atol=1e-13)


# --- playing


def started(n=12, size=3, **options):
    worlds = GridWorlds(size, walls=0.0, **options)
    return worlds, worlds.reset(np.arange(n))[0]


def test_what_was_written_down_can_be_played_again():
    model = tower(3)
    episodes = play(model, *started(limit=6), backend.generator())
    worlds, observation = started(limit=6)
    position = 0
    for going, reward in zip(episodes.going, episodes.rewards, strict=True):
        part = slice(position, position + int(going.sum()))
        assert np.array_equal(episodes.observations[part], observation[going])
        actions = np.zeros(12, int)
        actions[going] = episodes.actions[part]
        observation, again, terminated, truncated, _ = worlds.step(actions)
        assert np.array_equal(reward, again)
        position = part.stop
    assert position == len(episodes.actions) == episodes.going.sum()
    assert np.array_equal(episodes.reached, terminated)
    assert np.all(terminated | truncated)
    assert 0 < terminated.sum() < 12  # of each kind some, or the next lines say nothing
    lengths = episodes.going.sum(0)
    with no_grad():
        left = model(Tensor(observation.astype(float)))[1].data
    ends = episodes.values[lengths, np.arange(12)]
    assert np.allclose(ends, np.where(terminated, 0.0, left), rtol=0, atol=1e-12)


def test_the_pass_that_is_differentiated_sees_the_policy_and_the_values_that_acted():
    model = tower(3)
    episodes = play(model, *started(limit=6), backend.generator())
    scores, values = model(Tensor(episodes.observations.astype(float)))
    logs = F.log_softmax(scores, dim=-1).data[np.arange(len(episodes.actions)), episodes.actions]
    assert np.allclose(np.exp(logs), episodes.chances, rtol=0, atol=1e-12)
    assert np.allclose(values.data, episodes.values[:-1][episodes.going], rtol=0, atol=1e-12)


def test_moves_are_drawn_from_the_policy_by_the_seeded_generator():
    model = tower(3)
    worlds, observation = started(1, limit=1)
    many = np.repeat(observation, 4000, axis=0)
    worlds.place(*(np.repeat(a, 4000, axis=0) for a in (worlds.walls, worlds.goals, worlds.agents)))
    backend.manual_seed(5)
    first = play(model, worlds, many, backend.generator())
    chances = np.exp(F.log_softmax(model(Tensor(observation.astype(float)))[0], dim=-1).data[0])
    counted = np.bincount(first.actions[:4000], minlength=4) / 4000
    assert np.all(np.abs(counted - chances) < 5 * np.sqrt(chances * (1 - chances) / 4000))
    assert np.abs(chances - 0.25).max() > 0.05

    def again(seed):
        backend.manual_seed(seed)
        return play(model, *started(limit=6), backend.generator()).actions

    assert np.array_equal(again(7), again(7))
    assert not np.array_equal(again(7), again(8))


def test_the_greedy_play_makes_the_likeliest_moves_and_draws_nothing():
    model = tower(3)
    state = backend.generator_state()
    episodes = play(model, *started(limit=6), None)
    assert backend.generator_state() == state
    scores = model(Tensor(episodes.observations.astype(float)))[0].data
    assert np.array_equal(episodes.actions, scores.argmax(1))


@pytest.mark.parametrize("training", [True, False])
def test_acting_changes_neither_running_statistics_nor_the_mode(training):
    model = tower(3, norm="batch").train(training)
    before = [b.numpy().copy() for b in model.buffers()]
    play(model, *started(limit=3), backend.generator())
    assert all(np.array_equal(b.numpy(), a) for a, b in zip(before, model.buffers(), strict=True))
    assert all(m.training == training for m in model.modules())


def test_a_device_plays_the_same_episodes_and_finds_the_same_gradient(library):
    def compute(library):
        backend.manual_seed(3)
        model = models.create("policy_value_tower", size=3, norm="group", width=3, blocks=1, hidden=3)
        model.to(library.device, np.float64)
        backend.manual_seed(4)
        episodes = play(model, *started(limit=6), backend.generator())
        loss = actor_critic_loss(model, episodes, 0.9, 0.8, 0.5, 0.01)
        loss.backward()
        return loss, {name: p.grad for name, p in model.named_parameters()}

    agree(library, compute, tolerance=1e-9)
