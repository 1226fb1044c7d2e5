"""Every optimizer, schedule and clipping on the devices: the parameters, the state and the norms of NumPy."""

import inspect
import json
import math

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires import nn, optim
from minires.engine import Tensor
from minires.errors import DivergedError
from tests.devices import agree, without_waiting

rng = np.random.default_rng(61)
SHAPES = {"conv": (3, 2, 2), "weight": (4, 3), "bias": (3,), "gain": ()}
START = {name: np.asarray(rng.standard_normal(shape)) for name, shape in SHAPES.items()}
COURSE = [{name: np.asarray(rng.standard_normal(shape)) for name, shape in SHAPES.items()} for _ in range(6)]

OPTIMIZERS = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.02},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ],
    "Adam": [{"lr": 0.05}, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}],
    "AdamW": [{"lr": 0.05, "betas": (0.7, 0.9)}],
    "RMSprop": [
        {"lr": 0.03},
        {"lr": 0.03, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.05, "momentum": 0.8, "centered": True},
    ],
}
EVERY = [
    pytest.param(getattr(optim, name), options, id=f"{name}-{i}")
    for name, cases in OPTIMIZERS.items()
    for i, options in enumerate(cases)
]
SCHEDULES = {
    "LambdaLR": lambda o: optim.LambdaLR(o, lambda step: 0.8**step),
    "StepLR": lambda o: optim.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: optim.MultiStepLR(o, [1, 4], 0.5),
    "LinearLR": lambda o: optim.LinearLR(o, total_iters=4),
    "CosineAnnealingLR": lambda o: optim.CosineAnnealingLR(o, 6),
    "NoamLR": lambda o: optim.NoamLR(o, 16, 3),
    "OneCycleLR": lambda o: optim.OneCycleLR(o, 0.2, 6),
    "SequentialLR": lambda o: optim.SequentialLR(o, [optim.LinearLR(o), optim.StepLR(o, 2)], [2]),
}


def parameters(library, dtype=None):
    return {name: Tensor(library.asarray(a.copy(), dtype), requires_grad=True) for name, a in START.items()}


def walk(library, optimizer, held, course, schedule=None):
    for gradients in course:
        for name, g in gradients.items():
            held[name].grad = library.asarray(g.copy(), held[name].dtype)
        with without_waiting(library):
            optimizer.step()
        if schedule is not None:
            schedule.step()


def entries(optimizer):
    """The optimizer's own state, where it is held."""
    return {name: dict(entry) for name, entry in optimizer.state.items()}


def test_every_optimizer_and_schedule_has_a_case():
    public = [value for value in vars(optim).values() if inspect.isclass(value)]
    assert {k.__name__ for k in public if issubclass(k, optim.Optimizer)} - {"Optimizer"} == set(OPTIMIZERS)
    assert {k.__name__ for k in public if issubclass(k, optim.LRScheduler)} - {"LRScheduler"} == set(SCHEDULES)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_six_steps_end_where_numpy_ends_and_never_wait(library, kind, options, dtype):
    def steps(library):
        held = parameters(library, dtype)
        optimizer = kind(held.items(), **options)
        walk(library, optimizer, held, COURSE)
        return held, entries(optimizer)

    agree(library, steps)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_moves_the_rate_of_an_optimizer_on_the_device(library, name):
    def steps(library):
        held = parameters(library)
        optimizer = optim.SGD(held.items(), lr=0.1, momentum=0.9)
        schedule = SCHEDULES[name](optimizer)
        walk(library, optimizer, held, COURSE, schedule)
        return held, optimizer.lr

    agree(library, steps)


def test_groups_with_and_without_decay(library):
    def steps(library):
        held = parameters(library)
        optimizer = optim.SGD(optim.decay_groups(held.items(), 0.1), lr=0.1)
        walk(library, optimizer, held, COURSE)
        return held

    agree(library, steps)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_by_norm_does_not_wait_and_gives_numpys_gradients(library, norm_type, max_norm):
    def clipped(library):
        held = parameters(library)
        for name, g in COURSE[0].items():
            held[name].grad = library.asarray(g.copy())
        with without_waiting(library):
            norm = optim.clip_grad_norm_(held.values(), max_norm, norm_type)
        return norm, [p.grad for p in held.values()]

    agree(library, clipped)


def test_clipping_by_value_does_not_wait_and_gives_numpys_gradients(library):
    def clipped(library):
        held = parameters(library)
        for name, g in COURSE[0].items():
            held[name].grad = library.asarray(g.copy())
        with without_waiting(library):
            optim.clip_grad_value_(held.values(), 0.4)
        return [p.grad for p in held.values()]

    agree(library, clipped)


def test_a_norm_that_is_not_finite_is_refused_on_request(library):
    p = Tensor(library.asarray(START["weight"]), requires_grad=True)
    p.grad = library.asarray(np.full((4, 3), np.inf))
    with pytest.raises(DivergedError, match="norm is inf"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_a_state_goes_from_device_to_host_to_device_and_the_steps_go_on(library, kind, options):
    held = parameters(library)
    optimizer = kind(held.items(), **options)
    walk(library, optimizer, held, COURSE[:3])
    saved = optimizer.state_dict()
    arrays = [value for entry in saved["state"].values() for value in entry.values() if hasattr(value, "shape")]
    assert all(type(array) is np.ndarray for array in arrays)
    json.dumps(saved["groups"])

    ends = []
    for place in (library, mr.backend.NUMPY):
        again = {
            name: Tensor(place.asarray(mr.backend.to_host(p.data).copy()), requires_grad=True)
            for name, p in held.items()
        }
        resumed = kind(again.items(), **options)
        resumed.load_state_dict(saved)
        values = [value for entry in resumed.state.values() for value in entry.values()]
        loaded = [value for value in values if hasattr(value, "shape") and value.dtype.kind == "f"]
        assert {type(value) for value in values} <= {place.array_type, int}
        assert all(type(array) is place.array_type for array in loaded)
        assert len(loaded) == len(arrays)
        walk(place, resumed, again, COURSE[3:])
        ends.append([p.numpy() for p in again.values()])
    walk(library, optimizer, held, COURSE[3:])
    for p, on_device, on_host in zip(held.values(), *ends, strict=True):
        assert np.array_equal(p.numpy(), on_device)
        assert np.allclose(on_device, on_host, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_training_a_small_network_ends_where_numpy_ends(library, kind, options):
    images, labels = rng.standard_normal((12, 5)), rng.integers(3, size=12)

    def train(library):
        model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        model.to(library.device, "float64")
        optimizer = kind(model.named_parameters(), **options)
        x, targets, losses = Tensor(library.asarray(images)), library.asarray(labels), []
        for _ in range(5):
            with without_waiting(library):
                loss = F.cross_entropy(model(x), targets)
                optimizer.zero_grad()
                loss.backward()
                optim.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            losses.append(loss.detach())
        return losses, model.state_dict()

    agree(library, train, tolerance=1e-9)
