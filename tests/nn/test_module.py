"""Module: the tree, the state, the switches."""

import copy

import numpy as np
import pytest

from minires import nn
from minires.engine import Function, Tensor
from minires.errors import GraphError, RequestError

rng = np.random.default_rng(3)


class Times(Function):
    broadcasts = True

    def forward(self, a, b):
        self.a, self.b = a, b
        return a * b

    def backward(self, gy):
        return gy * self.b, gy * self.a


class Scale(nn.Module):
    def __init__(self, n=3):
        self.weight = nn.Parameter(rng.standard_normal(n))
        self.seen = nn.Buffer(np.zeros((), np.int64))
        self.scratch = nn.Buffer(np.ones(2), persistent=False)

    def forward(self, x):
        return Times.apply(x, self.weight)


class Pair(nn.Module):
    def __init__(self):
        self.first = Scale()
        self.offset = nn.Parameter([1.0, 2.0, 3.0])
        self.second = Scale()

    def forward(self, x):
        return self.second(self.first(x))


def test_parameters_are_float32_and_want_a_gradient():
    for data in ([1.0, 2.0], np.zeros(2), Tensor(np.zeros(2))):
        p = nn.Parameter(data)
        assert p.dtype == np.float32
        assert p.requires_grad
    assert nn.Parameter(np.zeros(2), dtype=np.float64).dtype == np.float64
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad


def test_names_are_the_dotted_attribute_paths_own_parameters_first():
    model = Pair()
    assert [n for n, _ in model.named_parameters()] == ["offset", "first.weight", "second.weight"]
    assert [n for n, _ in model.named_parameters(recurse=False)] == ["offset"]
    assert next(n for n, _ in model.named_parameters("net")) == "net.offset"
    assert [n for n, _ in model.named_modules()] == ["", "first", "second"]
    assert [n for n, _ in model.named_children()] == ["first", "second"]
    assert [n for n, _ in model.named_buffers()] == ["first.seen", "first.scratch", "second.seen", "second.scratch"]
    assert list(model.state_dict()) == ["offset", "first.weight", "first.seen", "second.weight", "second.seen"]


def test_a_shared_parameter_is_optimized_once_and_saved_under_each_name():
    model = Pair()
    model.second.weight = model.first.weight
    assert [n for n, _ in model.named_parameters()] == ["offset", "first.weight"]
    assert {"first.weight", "second.weight"} <= set(model.state_dict())
    assert len(list(nn.Sequential(model.first, model.first).modules())) == 2


def test_state_is_detached_and_on_the_modules_own_memory():
    model = Pair()
    state = model.state_dict()
    assert not any(t.requires_grad for t in state.values())
    assert all(np.shares_memory(state[n].data, p.data) for n, p in model.named_parameters())


def test_loading_what_was_saved_gives_the_same_values_in_place():
    source, target = Pair(), Pair()
    before = list(target.parameters())
    keys = target.load_state_dict({k: v.numpy().copy() for k, v in source.state_dict().items()})
    assert keys == ([], [])
    assert all(a is b for a, b in zip(before, target.parameters(), strict=True))
    for key, value in source.state_dict().items():
        assert np.array_equal(value.data, target.state_dict()[key].data)
        assert not np.shares_memory(value.data, target.state_dict()[key].data)


def test_loading_rounds_to_the_modules_dtype():
    model = Scale()
    model.load_state_dict({"weight": np.array([0.1, 0.2, 0.3]), "seen": 5})
    assert model.weight.dtype == np.float32
    assert model.seen.item() == 5


def test_loading_between_forward_and_backward_is_noticed():
    model = Scale()
    y = model(np.ones(3, np.float32))
    model.load_state_dict(Scale().state_dict())
    with pytest.raises(GraphError, match="changed in place"):
        y.backward(np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("offset"), r"do not fit this Pair: 1 missing \(offset\); build the model"),
        (lambda s: s.update(extra=np.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda s: s.update(offset=np.zeros(4)), r"1 of another shape \(offset is \(3,\) here and \(4,\) there\)"),
        (lambda s: s.clear(), r"5 missing \(offset, first.weight, first.seen, second.weight, second.seen\)"),
        (
            lambda s: (s.pop("offset"), s.update({"a": 1, "b": 2, "c": 3, "d": 4, "first.weight": 5})),
            r"1 of another shape \(first.weight .*\); 1 missing \(offset\); 4 unexpected \(a, b, c, d\); build",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(change, message):
    model = Pair()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    state = {k: v.numpy() + 1 for k, v in model.state_dict().items()}
    change(state)
    with pytest.raises(RequestError, match=message) as caught:
        model.load_state_dict(state)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(before[k], v.data) for k, v in model.state_dict().items())


def test_strict_false_loads_what_fits_and_returns_the_rest():
    model = Pair()
    keys = model.load_state_dict({"offset": [7.0, 8.0, 9.0], "extra": [1.0]}, strict=False)
    assert model.offset.numpy().tolist() == [7.0, 8.0, 9.0]
    assert keys.unexpected_keys == ["extra"]
    assert keys.missing_keys == ["first.weight", "first.seen", "second.weight", "second.seen"]
    with pytest.raises(RequestError, match="another shape"):
        model.load_state_dict({"offset": [7.0]}, strict=False)


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(Pair(), nn.Dropout())
    assert model.training
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    assert all(m.training for m in model.train().modules())


def test_to_changes_dtype_of_floats_in_place_and_keeps_integers():
    model = Pair()
    parameters = list(model.parameters())
    model(np.ones(3)).backward(np.ones(3))
    assert model.to(np.float64) is model
    assert [p.dtype for p in parameters] == [np.float64] * 3
    assert model.first.weight.grad.dtype == np.float64
    assert model.first.seen.dtype == np.int64
    assert model.first.scratch.dtype == np.float64
    assert model.to("cpu", "float32").offset.dtype == np.float32
    assert model.to(dtype=np.float64).offset.dtype == np.float64


def test_to_refuses_what_it_cannot_do():
    with pytest.raises(RequestError, match="unknown device 'tpu'"):
        Pair().to("tpu")
    with pytest.raises(TypeError, match="must be floating-point, not int64"):
        Pair().to(np.int64)


def test_zero_grad_and_requires_grad():
    model = Pair()
    model(np.ones(3, np.float32)).backward(np.ones(3, np.float32))
    assert np.allclose(model.first.weight.grad, model.second.weight.data)
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    model.first.requires_grad_(False)
    model(np.ones(3, np.float32)).backward(np.ones(3, np.float32))
    assert model.first.weight.grad is None
    assert np.allclose(model.second.weight.grad, model.first.weight.data)


def test_apply_visits_children_before_their_parent():
    order = []
    model = Pair()
    assert model.apply(lambda m: order.append(m)) is model
    assert order == [model.first, model.second, model]


def test_functional_call_uses_the_given_tensors_and_puts_the_old_ones_back():
    model = Pair()
    held = model.first.weight
    w = Tensor(rng.standard_normal(3), requires_grad=True)
    y = nn.functional_call(model, {"first.weight": w}, np.ones(3))
    y.backward(np.array([1.0, -2.0, 3.0]))
    assert np.allclose(w.grad, np.array([1.0, -2.0, 3.0]) * model.second.weight.data)
    assert model.first.weight is held
    assert held.grad is None
    with pytest.raises(RequestError, match=r"no parameter or buffer 'first.bias'"):
        nn.functional_call(model, {"first.bias": w}, np.ones(3))
    with pytest.raises(ZeroDivisionError):
        nn.functional_call(Broken(), {"weight": w}, np.ones(3))
    assert model.first.weight is held


class Broken(Scale):
    def forward(self, x):
        return 1 / 0


def test_slips_that_would_lose_weights_are_refused():
    model = Pair()
    with pytest.raises(TypeError, match=r"Pair.offset is a Parameter.*nn.Parameter"):
        model.offset = Tensor(np.zeros(3))
    with pytest.raises(TypeError, match=r"does not look inside a list; wrap the modules in nn.ModuleList"):
        model.blocks = [Scale(), Scale()]
    with pytest.raises(TypeError, match="inside a dict"):
        model.blocks = {"a": Scale()}
    model.offset = nn.Parameter(np.zeros(2))
    model.offset = None
    model.sizes = [1, 2]


def test_building_by_name():
    model = nn.Module()
    model.add_module("a", Scale())
    model.add_module("a", nn.Identity())
    model.register_parameter("w", nn.Parameter([1.0]))
    model.register_buffer("mean", np.zeros(2))
    model.register_buffer("nothing", None)
    model.register_buffer("cache", np.zeros(2), persistent=False)
    assert list(model.state_dict()) == ["w", "mean"]
    for name in ("", "a.b", "training", "forward"):
        with pytest.raises(KeyError, match="cannot name a child"):
            model.add_module(name, Scale())
    with pytest.raises(TypeError, match="is a int, not a Module"):
        model.add_module("b", 3)
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        model(1)


def test_a_deep_copy_has_its_own_weights_and_keeps_what_is_shared():
    model = Pair()
    model.second.weight = model.first.weight
    twin = copy.deepcopy(model)
    assert twin.second.weight is twin.first.weight
    assert isinstance(twin.first.weight, nn.Parameter)
    twin.first.weight.data[...] = 0
    assert np.all(model.first.weight.data != 0)


def test_repr_shows_the_tree_as_torch_does():
    torch = pytest.importorskip("torch")
    build = [
        lambda n: n.Sequential(n.Linear(2, 3), n.Sequential(n.ReLU(), n.Dropout(0.25))),
        lambda n: n.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        lambda n: n.Conv2d(4, 8, (3, 1), groups=2, dilation=2),
        lambda n: n.RMSNorm(5),
        lambda n: n.Embedding(5, 2, padding_idx=-1),
        lambda n: n.ModuleDict({"a": n.Flatten(), "b": n.Softmax(dim=-1)}),
    ]
    for make in build:
        assert repr(make(nn)) == repr(make(torch.nn)).replace(", inplace=False", "")
