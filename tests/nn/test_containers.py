"""Sequential, ModuleList, ModuleDict."""

import pytest

from minires import nn


class Add(nn.Module):
    def __init__(self, n):
        self.n = n

    def forward(self, x):
        return x + self.n


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


def test_sequential_composes_in_order():
    assert nn.Sequential(Add(1), Double())(3) == 8
    assert nn.Sequential(Double(), Add(1))(3) == 7
    assert nn.Sequential()(3) == 3


def test_sequential_takes_a_dict_of_names():
    model = nn.Sequential({"up": Add(1), "twice": Double()})
    assert model(3) == 8
    assert [n for n, _ in model.named_children()] == ["up", "twice"]
    assert model[0] is model.up


@pytest.mark.parametrize("kind", ["sequential", "list"])
def test_numbered_containers_behave_as_lists(kind):
    made = [Add(0), Add(1), Add(2)]
    model = nn.Sequential(*made) if kind == "sequential" else nn.ModuleList(made)
    assert len(model) == 3
    assert list(model) == made
    assert model[-1] is made[2]
    assert list(model[1:]) == made[1:]
    assert type(model[1:]) is type(model)
    with pytest.raises(IndexError):
        model[3]
    first = Add(9)
    model.insert(0, first)
    assert [n for n, _ in model.named_children()] == ["0", "1", "2", "3"]
    assert list(model) == [first, *made]
    model[1] = Double()
    assert isinstance(model[1], Double)
    assert model.append(Add(5)) is model
    assert len(model.extend([Add(6)])) == 6
    with pytest.raises(TypeError, match="not a Module"):
        model.append(3)


def test_modules_in_a_list_are_children():
    class Net(nn.Module):
        def __init__(self):
            self.blocks = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))

    assert list(Net().state_dict()) == ["blocks.0.weight", "blocks.1.weight"]


def test_module_dict_behaves_as_a_dict():
    model = nn.ModuleDict({"a": Add(1)})
    model["b"] = Double()
    assert list(model) == ["a", "b"]
    assert list(model.keys()) == ["a", "b"]
    assert [k for k, _ in model.items()] == ["a", "b"]
    assert list(model.values()) == [model["a"], model["b"]]
    assert "a" in model
    assert "training" not in model
    del model["a"]
    assert len(model) == 1
    for name in ("a", "training"):
        with pytest.raises(KeyError):
            del model[name]
    with pytest.raises(KeyError, match="cannot name a child"):
        model["items"] = Add(1)
