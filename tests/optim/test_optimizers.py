"""Each update rule against torch and by hand; groups, names, saving and loading."""

import json
import math

import numpy as np
import pytest

from minires import optim
from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional import mul
from minires.functional import sum as total
from tests.strict_device import STRICT, StrictArray, no_sync

rng = np.random.default_rng(5)
SHAPES = {"conv": (3, 2, 2), "weight": (4, 3), "bias": (3,), "gain": ()}

RULES = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "sgd-momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "sgd-dampening-decay": (optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.02}),
    "sgd-nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    "adam": (optim.Adam, {"lr": 0.05}),
    "adam-decay": (optim.Adam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": (optim.AdamW, {"lr": 0.05, "betas": (0.7, 0.9)}),
    "rmsprop": (optim.RMSprop, {"lr": 0.03}),
    "rmsprop-all": (
        optim.RMSprop,
        {"lr": 0.03, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.05, "momentum": 0.8, "centered": True},
    ),
}
rules = pytest.mark.parametrize(("kind", "options"), RULES.values(), ids=RULES)


def normal(*shape):
    return np.asarray(rng.standard_normal(shape))


def make(dtype=np.float64):
    return {name: Tensor(normal(*shape).astype(dtype), requires_grad=True) for name, shape in SHAPES.items()}


def gradients(steps):
    return [{name: normal(*shape) for name, shape in SHAPES.items()} for _ in range(steps)]


def run(optimizer, parameters, course, schedule=None):
    for gs in course:
        for name, g in gs.items():
            parameters[name].grad = g.astype(parameters[name].dtype)
        optimizer.step()
        if schedule is not None:
            schedule.step()


def copies(parameters):
    return {name: Tensor(p.data.copy(), requires_grad=True) for name, p in parameters.items()}


def equal(ours, theirs):
    return all(np.array_equal(ours[name].data, theirs[name].data) for name in ours)


# --- the rules -------------------------------------------------------------------------------------


@rules
def test_twenty_steps_are_those_of_torch(kind, options):
    torch = pytest.importorskip("torch")
    parameters, course = make(), gradients(20)
    peers = {name: torch.tensor(p.data, requires_grad=True) for name, p in parameters.items()}
    theirs = getattr(torch.optim, kind.__name__)(peers.values(), **options)
    run(kind(parameters.items(), **options), parameters, course)
    for gs in course:
        for name, g in gs.items():
            peers[name].grad = torch.tensor(g)
        theirs.step()
    for name, p in parameters.items():
        assert np.max(np.abs(p.data - peers[name].detach().numpy())) < 1e-12


@rules
def test_defaults_are_those_of_torch(kind, options):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, kind.__name__)([torch.zeros(1, requires_grad=True)]).defaults
    for key, value in kind([Tensor(np.zeros(1))]).defaults.items():
        assert value == theirs[key]


@rules
def test_a_step_under_the_rules_of_cupy_gives_the_same_numbers_without_waiting(kind, options):
    parameters, course = make(), gradients(3)
    peers = {name: Tensor(STRICT.asarray(p.data), requires_grad=True) for name, p in parameters.items()}
    ours, theirs = kind(parameters.items(), **options), kind(peers.items(), **options)
    run(ours, parameters, course)
    for gs in course:
        for name, g in gs.items():
            peers[name].grad = STRICT.asarray(g)
        with no_sync():
            optim.clip_grad_norm_(peers.values(), 1e3)
            optim.clip_grad_value_(peers.values(), 1e3)
            theirs.step()
    for name, p in parameters.items():
        assert np.max(np.abs(p.data - peers[name].numpy())) < 1e-14


def test_a_state_saved_on_one_device_is_loaded_on_another():
    parameters, course = make(), gradients(2)
    ours = optim.Adam(parameters.items())
    run(ours, parameters, course[:1])
    peers = {name: Tensor(STRICT.asarray(p.data), requires_grad=True) for name, p in parameters.items()}
    theirs = optim.Adam(peers.items())
    theirs.load_state_dict(ours.state_dict())
    assert all(type(state["exp_avg"]) is StrictArray for state in theirs.state.values())
    assert all(type(state["exp_avg"]) is np.ndarray for state in theirs.state_dict()["state"].values())
    run(ours, parameters, course[1:])
    for name, g in course[1].items():
        peers[name].grad = STRICT.asarray(g)
    theirs.step()
    for name, p in parameters.items():
        assert np.max(np.abs(p.data - peers[name].numpy())) < 1e-14


def test_plain_gradient_descent_is_p_minus_lr_g():
    p, g = Tensor(normal(3)), normal(3)
    before, p.grad = p.data.copy(), g
    optim.SGD([p], lr=0.25).step()
    assert np.array_equal(p.data, before - 0.25 * g)


def test_the_first_step_of_adam_has_length_lr_in_every_coordinate():
    p, g = Tensor(normal(50)), normal(50)
    before, p.grad = p.data.copy(), g
    optim.Adam([p], lr=0.01).step()
    assert np.allclose(before - p.data, 0.01 * np.sign(g), rtol=1e-5)


@rules
def test_a_descent_ends_at_the_minimum(kind, options):
    p = Tensor(normal(4), requires_grad=True)
    optimizer = kind([p], **{**options, "weight_decay": 0.0})
    schedule = optim.CosineAnnealingLR(optimizer, T_max=400)
    for _ in range(400):
        optimizer.zero_grad()
        total(mul(mul(p, p), np.array([1.0, 2.0, 3.0, 0.5]))).backward()
        optimizer.step()
        schedule.step()
    assert np.max(np.abs(p.data)) < 1e-2


@rules
def test_float32_stays_float32_in_place_and_gradients_are_left_alone(kind, options):
    parameters, course = make(np.float32), gradients(3)
    arrays = {name: p.data for name, p in parameters.items()}
    optimizer = kind(parameters.items(), **{**options, "lr": np.float64(0.1)})
    assert type(optimizer.lr) is float  # NumPy's own would compute in float64
    run(optimizer, parameters, course[:2])
    given = {name: g.astype(np.float32) for name, g in course[2].items()}
    for name, p in parameters.items():
        p.grad = given[name]
    optimizer.step()
    for name, p in parameters.items():
        assert p.data is arrays[name]
        assert p.dtype == np.float32
        assert p.grad is given[name]
        assert np.array_equal(p.grad, course[2][name].astype(np.float32))
    held = [v for entries in optimizer.state.values() for v in entries.values() if hasattr(v, "dtype")]
    assert all(v.dtype == np.float32 for v in held)
    assert not any(np.may_share_memory(v, p.grad) for v in held for p in parameters.values())


@rules
def test_a_parameter_without_gradient_is_left_alone(kind, options):
    used, unused = Tensor(normal(3)), Tensor(normal(3))
    before = unused.data.copy()
    optimizer = kind([used, unused], **options)
    used.grad = normal(3)
    optimizer.step()
    assert np.array_equal(unused.data, before)
    assert set(optimizer.state) <= {"0"}


def test_zero_grad_sets_none():
    parameters = make()
    optimizer = optim.SGD(parameters.values())
    run(optimizer, parameters, gradients(1))
    optimizer.zero_grad()
    assert all(p.grad is None for p in parameters.values())


def test_a_step_between_forward_and_backward_is_noticed():
    p = Tensor(normal(3), requires_grad=True)
    y = total(mul(p, p))
    p.grad = normal(3)
    optim.SGD([p]).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


# --- groups ----------------------------------------------------------------------------------------


def test_a_group_has_its_own_options_and_the_defaults_for_the_rest():
    a, b = Tensor(normal(3)), Tensor(normal(3))
    before = a.data.copy(), b.data.copy()
    a.grad, b.grad = normal(3), normal(3)
    optimizer = optim.SGD([{"params": [a], "lr": 0.5}, {"params": b, "weight_decay": 0.1}], lr=0.25)
    optimizer.step()
    assert np.allclose(a.data, before[0] - 0.5 * a.grad, rtol=1e-14)
    assert np.allclose(b.data, before[1] - 0.25 * (b.grad + 0.1 * before[1]), rtol=1e-14)
    assert optimizer.lr == 0.5


def test_state_is_kept_by_name_or_else_by_position():
    for given, names in ((lambda p: p.items(), list(SHAPES)), (lambda p: p.values(), ["0", "1", "2", "3"])):
        parameters = make()
        optimizer = optim.Adam(given(parameters))
        run(optimizer, parameters, gradients(1))
        assert list(optimizer.state) == names
    a, b = Tensor(normal(2)), Tensor(normal(2))
    optimizer = optim.SGD([{"params": [a]}, {"params": [b]}])
    assert [g["param_names"] for g in optimizer.param_groups] == [["0"], ["1"]]


def test_decay_groups_spare_norms_and_biases():
    decayed, free = optim.decay_groups(make().items(), 0.1)
    assert [name for name, _ in decayed["params"]] == ["conv", "weight"]
    assert [name for name, _ in free["params"]] == ["bias", "gain"]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    optim.AdamW([decayed, free])
    assert len(optim.decay_groups([("bias", Tensor(normal(3)))], 0.1)) == 1


def test_decay_groups_takes_a_module():
    class Model:
        def named_parameters(self):
            return iter(make().items())

    assert len(optim.decay_groups(Model(), 0.1)) == 2


# --- saving and loading ------------------------------------------------------------------------------

SCHEDULES = {
    "none": lambda o: None,
    "step": lambda o: optim.StepLR(o, 2),
    "multistep": lambda o: optim.MultiStepLR(o, [1, 3]),
    "linear": lambda o: optim.LinearLR(o, total_iters=3),
    "cosine": lambda o: optim.CosineAnnealingLR(o, 7),
    "noam": lambda o: optim.NoamLR(o, 16, 3),
    "lambda": lambda o: optim.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one-cycle": lambda o: optim.OneCycleLR(o, 0.2, 9, cycle_momentum=False),
    "one-cycle-momentum": lambda o: optim.OneCycleLR(o, 0.2, 9),
    "sequence": lambda o: optim.SequentialLR(o, [optim.LinearLR(o, total_iters=2), optim.StepLR(o, 1)], [2]),
}


@pytest.mark.parametrize("course", SCHEDULES)
@rules
def test_four_steps_are_two_then_a_resume_then_two_bit_for_bit(kind, options, course):
    start, gs, build = make(np.float32), gradients(4), SCHEDULES[course]

    def fresh(parameters):
        optimizer = kind(optim.decay_groups(parameters.items(), 0.05), **options)
        return optimizer, build(optimizer)

    whole = copies(start)
    optimizer, schedule = fresh(whole)
    run(optimizer, whole, gs, schedule)

    first = copies(start)
    o, s = fresh(first)
    run(o, first, gs[:2], s)
    saved, rates = o.state_dict(), s and json.loads(json.dumps(s.state_dict()))
    text = json.dumps({"groups": saved["groups"]})
    second = copies(first)
    o, s = fresh(second)
    o.load_state_dict({**saved, **json.loads(text)})
    if s is not None:
        s.load_state_dict(rates)
    run(o, second, gs[2:], s)

    assert equal(second, whole)
    assert not equal(second, first)
    assert o.lr == optimizer.lr


def test_state_dict_is_plain_numbers_and_arrays_and_a_snapshot():
    parameters = make()
    optimizer = optim.Adam(parameters.items())
    run(optimizer, parameters, gradients(2))
    saved = optimizer.state_dict()
    json.dumps(saved["groups"])
    assert saved["groups"][0]["params"] == list(SHAPES)
    assert saved["state"]["weight"]["step"] == 2
    kept = saved["state"]["weight"]["exp_avg"].copy()
    run(optimizer, parameters, gradients(1))
    assert type(saved["state"]["weight"]["exp_avg"]) is np.ndarray
    assert np.array_equal(saved["state"]["weight"]["exp_avg"], kept)


def test_load_state_dict_copies_so_that_two_optimizers_share_nothing():
    a, b = make(), make()
    first, second = optim.Adam(a.items()), optim.Adam(b.items())
    run(first, a, gradients(2))
    saved = first.state_dict()
    second.load_state_dict(saved)
    kept = saved["state"]["weight"]["exp_avg"].copy()
    run(second, b, gradients(1))
    assert np.array_equal(saved["state"]["weight"]["exp_avg"], kept)


def test_a_state_for_other_parameters_is_refused_and_changes_nothing():
    parameters = make()
    optimizer = optim.Adam(parameters.items())
    run(optimizer, parameters, gradients(1))
    saved = optimizer.state_dict()
    renamed = optim.Adam([(f"m.{name}", p) for name, p in parameters.items()])
    with pytest.raises(RequestError, match=r"group 0 has 'conv' there where it has 'm\.conv' here"):
        renamed.load_state_dict(saved)
    with pytest.raises(RequestError, match="group 0 has 4 parameters there, 3 here"):
        optim.Adam(list(parameters.items())[:3]).load_state_dict(saved)
    with pytest.raises(RequestError, match="1 groups there, 2 here"):
        optim.Adam(optim.decay_groups(parameters.items(), 0.1)).load_state_dict(saved)
    with pytest.raises(RequestError, match="not saved by SGD: it has no 'dampening'"):
        optim.SGD(parameters.items()).load_state_dict(saved)
    other = {**parameters, "weight": Tensor(normal(3, 4))}
    fresh = optim.Adam(other.items(), lr=0.7)
    with pytest.raises(RequestError, match=r"exp_avg of 'weight' has shape \(4, 3\), the parameter \(3, 4\)"):
        fresh.load_state_dict(saved)
    assert fresh.lr == 0.7
    assert fresh.state == {}
    saved["state"]["ghost"] = {}
    with pytest.raises(RequestError, match="it has a state for 'ghost'"):
        optimizer.load_state_dict(saved)


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, "0.1", None, True])
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_a_learning_rate_must_be_finite_and_not_negative(kind, lr):
    with pytest.raises(RequestError, match=f"{kind.__name__}: lr is .*, but must be a finite number of at least 0"):
        kind([Tensor(normal(2))], lr=lr)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (optim.SGD, {"momentum": -1.0}, "momentum is -1.0"),
        (optim.SGD, {"weight_decay": -1.0}, "weight_decay is -1.0"),
        (optim.SGD, {"dampening": math.nan}, "dampening is nan"),
        (optim.SGD, {"nesterov": True}, "needs momentum > 0 and dampening 0, not 0.0 and 0.0"),
        (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "not 0.9 and 0.1"),
        (optim.Adam, {"betas": (1.0, 0.9)}, r"betas\[0\] is 1.0, but must be a number in \[0, 1\)"),
        (optim.AdamW, {"betas": (0.9, -0.1)}, r"betas\[1\] is -0.1"),
        (optim.Adam, {"betas": (0.9,)}, "betas is .*, but must be two numbers"),
        (optim.Adam, {"betas": 0.9}, "betas is 0.9, but must be two numbers"),
        (optim.Adam, {"eps": -1e-8}, "eps is -1e-08"),
        (optim.RMSprop, {"alpha": 1.0}, "alpha is 1.0"),
        (optim.RMSprop, {"momentum": -0.5}, "momentum is -0.5"),
    ],
)
def test_bad_options_are_refused_for_all_and_in_a_group(kind, options, message):
    with pytest.raises(RequestError, match=message):
        kind([Tensor(normal(2))], **options)
    with pytest.raises(RequestError, match=message):
        kind([{"params": [Tensor(normal(2))], **options}])


def test_lr_zero_is_allowed():
    optim.SGD([Tensor(normal(2))], lr=0.0)


def test_what_is_not_a_list_of_parameters_is_refused():
    p, q = Tensor(normal(2), requires_grad=True), Tensor(normal(2))
    with pytest.raises(RequestError, match="SGD was given no parameters"):
        optim.SGD([])
    with pytest.raises(RequestError, match="SGD was given no parameters"):
        optim.SGD([{"params": []}])
    with pytest.raises(TypeError, match="not a Tensor; put it in a list"):
        optim.SGD(p)
    with pytest.raises(TypeError, match="parameter 1 is a ndarray"):
        optim.SGD([p, np.ones(2)])
    with pytest.raises(TypeError, match="parameters and groups are mixed"):
        optim.SGD([p, {"params": [q]}])
    with pytest.raises(RequestError, match='a group needs "params"'):
        optim.SGD([{"lr": 0.1}])
    with pytest.raises(RequestError, match="no option 'momentun'; a group may set lr, momentum"):
        optim.SGD([{"params": [p], "momentun": 0.9}])
    with pytest.raises(RequestError, match="some parameters have names and some do not"):
        optim.SGD([("w", p), q])
    with pytest.raises(RequestError, match="some groups have named parameters and some do not"):
        optim.SGD([{"params": [("w", p)]}, {"params": [q]}])
    with pytest.raises(RequestError, match="parameter 'w' was given twice"):
        optim.SGD([("w", p), ("w", q)])
    with pytest.raises(RequestError, match="parameter '1' was given twice"):
        optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.raises(RequestError, match="parameter '0' is the output of Mul: only leaves"):
        optim.SGD([mul(p, p)])


def test_repr_shows_the_options():
    assert repr(optim.SGD([Tensor(normal(2))], lr=0.5)) == (
        "SGD(\n  lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False: 1 parameters\n)"
    )
