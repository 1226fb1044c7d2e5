"""A checkpoint comes back as it was, and a kill at any moment leaves a whole one."""

import contextlib
import json

import numpy as np
import pytest

from minires.errors import RequestError
from minires.train import checkpoint
from minires.train.checkpoint import Checkpoint, find, load, save
from minires.weights import files


def example(seed):
    rng = np.random.default_rng(seed)
    weights = {"conv.weight": rng.standard_normal((2, 3)).astype(np.float32).T, "bn.count": np.array(seed)}
    state = {"conv.weight": {"momentum_buffer": rng.standard_normal((3, 2)), "step": seed}}
    optimizer = {"groups": [{"lr": 0.1 + 0.2, "params": ["conv.weight"]}], "state": state}
    return Checkpoint(weights, optimizer, {"position": {"epoch": seed}, "x": 1 / 3}, {"model": "resnet8"})


def assert_same(a, b):
    assert a.state == b.state
    assert a.about == b.about
    assert a.optimizer["groups"] == b.optimizer["groups"]
    for ours, theirs in (
        (a.model, b.model),
        *zip(a.optimizer["state"].values(), b.optimizer["state"].values(), strict=True),
    ):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert np.array_equal(value, theirs[key])
            if isinstance(value, np.ndarray):
                assert value.dtype == theirs[key].dtype


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    save(tmp_path / "last", example(1))
    assert_same(load(tmp_path / "last"), example(1))


def test_a_newer_checkpoint_replaces_the_older_and_leaves_nothing_beside_it(tmp_path):
    save(tmp_path / "last", example(1))
    save(tmp_path / "last", example(2))
    assert_same(load(tmp_path / "last"), example(2))
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("survived", range(8))
def test_a_kill_at_any_step_of_saving_leaves_the_old_or_the_new_one_whole(tmp_path, monkeypatch, survived):
    """Every write, rename and removal is one step; the process dies after `survived` of them."""

    class Killed(BaseException):
        pass

    save(tmp_path / "last", example(1))
    left = survived

    def dying(real):
        def step(*args, **kwargs):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", dying(files.write_bytes))
        patch.setattr(checkpoint.shutil, "rmtree", dying(checkpoint.shutil.rmtree))
        patch.setattr(checkpoint.Path, "rename", dying(checkpoint.Path.rename))
        with contextlib.suppress(Killed):
            save(tmp_path / "last", example(2))
    assert load(tmp_path / "last").state in (example(1).state, example(2).state)
    save(tmp_path / "last", example(3))  # and the next save works on what was left
    assert_same(load(tmp_path / "last"), example(3))
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_a_half_written_file_never_takes_the_name(tmp_path, monkeypatch):
    save(tmp_path / "last", example(1))

    def full(path, content):
        path.write_bytes(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path / "last", example(2))
    assert_same(load(tmp_path / "last"), example(1))


def test_a_missing_checkpoint_is_one_clear_line(tmp_path):
    assert find(tmp_path / "last") is None
    with pytest.raises(RequestError, match="holds no checkpoint"):
        load(tmp_path / "last")


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE])
def test_a_damaged_file_is_refused_by_name(tmp_path, name):
    save(tmp_path / "last", example(1))
    file = tmp_path / "last" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(RequestError, match=name):
        load(tmp_path / "last")


def test_a_state_without_its_parts_is_refused(tmp_path):
    save(tmp_path / "last", example(1))
    (tmp_path / "last" / checkpoint.STATE).write_text(json.dumps([1]))
    with pytest.raises(RequestError, match="damaged"):
        load(tmp_path / "last")
