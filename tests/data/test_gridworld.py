"""The grid world: gymnasium's five values, boards that can be solved, and values that are exact."""

import numpy as np
import pytest

from minires.data.gridworld import MOVES, GridWorlds, distances, make_boards, neighbors, optimal_values
from minires.errors import RequestError

UP, RIGHT, DOWN, LEFT = range(4)


def corridor(length=3, **options):
    """A board of `length` cells a side on which only the top row is free: from agent to goal."""
    walls = np.ones((1, length * length), bool)
    walls[0, :length] = False
    worlds = GridWorlds(length, **options)
    observation, info = worlds.place(walls, np.array([length - 1]), np.array([0]))
    return worlds, observation, info


# --- what the boards are


def test_a_board_is_a_function_of_its_seed_alone():
    walls, goals, agents = make_boards(np.arange(40), 6, 0.3)
    for i in (0, 17, 39):
        alone = make_boards(np.array([i]), 6, 0.3)
        assert np.array_equal(alone[0][0], walls[i])
        assert (alone[1][0], alone[2][0]) == (goals[i], agents[i])


def test_every_goal_can_be_reached_and_is_not_next_door():
    walls, goals, agents = make_boards(np.arange(500), 6, 0.45)
    away = distances(walls, goals)[np.arange(500), agents]
    assert np.all(np.isfinite(away))
    assert away.min() == 2
    assert away.max() > 8
    assert not walls[np.arange(500), goals].any()
    assert not walls[np.arange(500), agents].any()


def test_distances_are_those_of_a_search_one_cell_at_a_time():
    walls, goals, _ = make_boards(np.arange(30), 5, 0.4)
    found = distances(walls, goals)
    for board, goal, away in zip(walls, goals, found, strict=True):
        expected, front, steps = np.full(25, np.inf), {int(goal)}, 0
        while front:
            for cell in front:
                expected[cell] = steps
            steps += 1
            near = {
                (r + dr) * 5 + c + dc
                for r, c in (divmod(cell, 5) for cell in front)
                for dr, dc in MOVES
                if 0 <= r + dr < 5 and 0 <= c + dc < 5
            }
            front = {cell for cell in near if not board[cell] and expected[cell] == np.inf}
        assert np.array_equal(away, expected)


@pytest.mark.parametrize("gamma", [0.9, 0.97, 1.0])
def test_value_iteration_finds_the_return_of_the_shortest_way(gamma):
    walls, goals, _ = make_boards(np.arange(50), 5, 0.4)
    away, cost = distances(walls, goals), 0.02
    values = optimal_values(walls, goals, cost, gamma)
    for n, cell in zip(*np.nonzero(np.isfinite(away) & (away > 0)), strict=True):
        moves = int(away[n, cell])
        expected = gamma ** (moves - 1) - cost * sum(gamma**k for k in range(moves - 1))
        assert abs(values[n, cell] - expected) < 1e-12
    assert np.all(values[np.arange(50), goals] == 0)
    assert np.all(values[~np.isfinite(away)] == -np.inf)


def test_who_follows_the_best_values_collects_just_them():
    worlds, gamma = GridWorlds(6), 0.95
    worlds.reset(np.arange(60))
    rows = np.arange(60)
    values = optimal_values(worlds.walls, worlds.goals, worlds.step_cost, gamma)
    expected, collected, weight = values[rows, worlds.agents], np.zeros(60), 1.0
    while not worlds.terminated.all():
        worth = np.where(
            neighbors(6)[worlds.agents] == worlds.goals[:, None],
            1.0,
            -worlds.step_cost + gamma * values[rows[:, None], neighbors(6)[worlds.agents]],
        )
        _, reward, _, truncated, _ = worlds.step(worth.argmax(1))
        assert not truncated.any()
        collected += weight * reward
        weight *= gamma
    assert np.allclose(collected, expected, rtol=0, atol=1e-12)


# --- what a step gives back


def test_an_observation_shows_free_cells_goal_and_agent():
    _, observation, info = corridor()
    free, goal, agent = observation[0].astype(int).tolist()
    assert observation.dtype == np.float32
    assert free == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert goal == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert agent == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert info["distance"].tolist() == [2]


def test_the_way_to_the_goal_costs_each_move_but_the_last_which_earns_one():
    worlds, *_ = corridor(step_cost=0.25)
    observation, reward, terminated, truncated, info = worlds.step(np.array([RIGHT]))
    assert observation[0, 2].reshape(-1).argmax() == 1
    assert (reward.tolist(), terminated.tolist(), truncated.tolist()) == ([-0.25], [False], [False])
    _, reward, terminated, truncated, info = worlds.step(np.array([RIGHT]))
    assert (reward.tolist(), terminated.tolist(), truncated.tolist()) == ([1.0], [True], [False])
    assert info["moves"].tolist() == [2]


@pytest.mark.parametrize("action", [UP, DOWN, LEFT])
def test_into_a_wall_or_off_the_board_one_stays_and_pays(action):
    worlds, before, _ = corridor(step_cost=0.25)
    after, reward, *_ = worlds.step(np.array([action]))
    assert np.array_equal(after, before)
    assert reward.tolist() == [-0.25]


def test_each_action_leads_where_its_name_says():
    walls = np.zeros((4, 9), bool)
    worlds = GridWorlds(3)
    worlds.place(walls, np.zeros(4, int), np.full(4, 4))
    worlds.step(np.arange(4))
    assert worlds.agents.tolist() == [1, 5, 7, 3]


def test_after_the_limit_an_episode_is_cut_off_and_not_ended():
    worlds, *_ = corridor(limit=2, step_cost=0.25)
    *_, truncated, _ = worlds.step(np.array([UP]))
    assert not truncated[0]
    _, reward, terminated, truncated, _ = worlds.step(np.array([UP]))
    assert (reward[0], terminated[0], truncated[0]) == (-0.25, False, True)


def test_who_arrives_with_the_last_move_has_arrived():
    worlds, *_ = corridor(limit=2)
    worlds.step(np.array([RIGHT]))
    *_, terminated, truncated, _ = worlds.step(np.array([RIGHT]))
    assert (terminated[0], truncated[0]) == (True, False)


@pytest.mark.parametrize("last", [RIGHT, UP])
def test_a_finished_episode_stands_still_and_earns_nothing(last):
    worlds, *_ = corridor(limit=2)
    worlds.step(np.array([RIGHT]))
    seen, _, *ended, _ = worlds.step(np.array([last]))
    still, reward, *flags, info = worlds.step(np.array([LEFT]))
    assert np.array_equal(still, seen)
    assert np.array_equal(flags, ended)
    assert (reward[0], info["moves"][0]) == (0.0, 2)


def test_what_was_handed_out_is_not_changed_by_the_next_step():
    worlds, observation, _ = corridor(limit=5)
    kept = observation.copy()
    given = worlds.step(np.array([RIGHT]))
    copies = [a.copy() for a in given[:4]]
    worlds.step(np.array([RIGHT]))
    assert np.array_equal(observation, kept)
    assert all(np.array_equal(a, b) for a, b in zip(given[:4], copies, strict=True))


def test_boards_do_not_look_at_each_other():
    together, moves = GridWorlds(5), np.random.default_rng(3).integers(0, 4, (20, 8))
    together.reset(np.arange(8))
    alone = [GridWorlds(5) for _ in range(8)]
    for i, worlds in enumerate(alone):
        worlds.reset(i)
    for actions in moves:
        seen, reward, *_ = together.step(actions)
        for i, worlds in enumerate(alone):
            one, earned, *_ = worlds.step(actions[i : i + 1])
            assert np.array_equal(seen[i], one[0])
            assert reward[i] == earned[0]


# --- bad input


def test_what_cannot_be_is_refused():
    for size in (1, "6", 2.5):
        with pytest.raises(RequestError, match="grid world: size"):
            GridWorlds(size)
    for options in ({"walls": 1.0}, {"walls": "many"}, {"walls": -0.1}, {"limit": 0}):
        with pytest.raises(RequestError, match="cannot be"):
            GridWorlds(**options)
    with pytest.raises(RequestError, match="call reset"):
        GridWorlds().step(np.array([0]))
    with pytest.raises(RequestError, match="integers of at least 0"):
        GridWorlds().reset(-1)
    with pytest.raises(RequestError, match="integers of at least 0"):
        GridWorlds().reset(np.array([0.5]))
    with pytest.raises(RequestError, match="99% walls leave no way"):
        GridWorlds(12, walls=0.99).reset(0)
    worlds, *_ = corridor()
    for actions in (np.array([4]), np.array([-1]), np.array([0, 1]), np.array([0.0])):
        with pytest.raises(RequestError, match="1 integers from 0 to 3"):
            worlds.step(actions)
    walls = np.zeros((1, 9), bool)
    walls[0, 4] = True
    with pytest.raises(RequestError, match="inside a wall"):
        worlds.place(walls, np.array([4]), np.array([0]))
    with pytest.raises(RequestError, match="inside a wall"):
        worlds.place(walls, np.array([0]), np.array([4]))
    with pytest.raises(RequestError, match="at its goal already"):
        worlds.place(walls, np.array([2]), np.array([2]))
    with pytest.raises(RequestError, match=r"must be \(N, 9\)"):
        worlds.place(np.zeros((1, 4), bool), np.array([0]), np.array([1]))


def test_no_walls_and_the_smallest_board_work():
    worlds = GridWorlds(2, walls=0.0)
    _, info = worlds.reset(np.arange(20))
    assert set(info["distance"]) == {2.0}
