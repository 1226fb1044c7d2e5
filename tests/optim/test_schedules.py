"""Each schedule against torch step by step, and by its formula."""

import math

import numpy as np
import pytest

from minires import optim
from minires.engine import Tensor
from minires.errors import RequestError


def groups():
    return [{"params": [Tensor(np.ones(2))]}, {"params": [Tensor(np.ones(2))], "lr": 0.3}]


def sgd():
    return optim.SGD(groups(), lr=0.1, momentum=0.9)


COURSES = {
    "step": lambda m, o: m.StepLR(o, 4, gamma=0.5),
    "multistep": lambda m, o: m.MultiStepLR(o, [3, 3, 9], gamma=0.2),
    "multistep-none": lambda m, o: m.MultiStepLR(o, []),
    "linear": lambda m, o: m.LinearLR(o, start_factor=0.2, end_factor=0.9, total_iters=6),
    "linear-default": lambda m, o: m.LinearLR(o),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 8, eta_min=0.01),
    "lambda": lambda m, o: m.LambdaLR(o, lambda t: 0.9**t),
    "lambdas": lambda m, o: m.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "one-cycle": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=20),
    "one-cycle-linear": lambda m, o: m.OneCycleLR(
        o, [0.5, 0.7], epochs=4, steps_per_epoch=5, pct_start=0.4, anneal_strategy="linear", div_factor=10.0
    ),
    "one-cycle-options": lambda m, o: m.OneCycleLR(
        o, 0.5, total_steps=23, final_div_factor=50.0, base_momentum=0.8, max_momentum=0.9
    ),
    "sequence": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, start_factor=0.25, total_iters=4), m.CosineAnnealingLR(o, 16)], [4]
    ),
    "sequence-of-three": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, total_iters=3), m.StepLR(o, 2), m.MultiStepLR(o, [1])], [3, 11]
    ),
}


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
def test_twenty_steps_are_those_of_torch(course):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD(
        [{"params": [torch.zeros(1, requires_grad=True)], **extra} for extra in ({}, {"lr": 0.3})], lr=0.1, momentum=0.9
    )
    ours = sgd()
    peer, schedule = course(torch.optim.lr_scheduler, theirs), course(optim, ours)
    for _ in range(20):
        assert schedule.get_last_lr() == pytest.approx(peer.get_last_lr(), rel=1e-11, abs=1e-15)
        for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert mine["lr"] == pytest.approx(other["lr"], rel=1e-11, abs=1e-15)
            assert mine["momentum"] == pytest.approx(other["momentum"], rel=1e-12)
        theirs.step()
        peer.step()
        schedule.step()


def test_one_cycle_moves_beta1_of_adam_as_torch_does():
    torch = pytest.importorskip("torch")
    theirs = torch.optim.Adam([torch.zeros(1, requires_grad=True)], betas=(0.9, 0.99))
    ours = optim.Adam([Tensor(np.ones(1))], betas=(0.9, 0.99))
    peer = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.1, 12)
    schedule = optim.OneCycleLR(ours, 0.1, 12)
    for _ in range(12):
        assert ours.param_groups[0]["betas"] == pytest.approx(theirs.param_groups[0]["betas"], rel=1e-12)
        theirs.step()
        peer.step()
        schedule.step()


def test_noam_rises_to_the_warmup_and_falls_with_the_root():
    optimizer = optim.SGD([Tensor(np.ones(1))], lr=2.0)
    schedule = optim.NoamLR(optimizer, d_model=64, warmup_steps=10)
    rates = []
    for _ in range(40):
        rates.append(optimizer.lr)
        schedule.step()
    expected = [2.0 * 64**-0.5 * min(t**-0.5, t * 10**-1.5) for t in range(1, 41)]
    assert rates == pytest.approx(expected, rel=1e-13)
    assert int(np.argmax(rates)) == 9


def test_cosine_is_half_way_in_the_middle_and_ends_at_eta_min():
    schedule = optim.CosineAnnealingLR(sgd(), T_max=10, eta_min=0.02)
    assert schedule.at(0, 0.1) == 0.1
    assert schedule.at(5, 0.1) == pytest.approx(0.06)
    assert schedule.at(10, 0.1) == pytest.approx(0.02)


def test_a_schedule_can_be_read_without_moving_it():
    optimizer = sgd()
    schedule = optim.StepLR(optimizer, 2)
    assert [schedule.at(t, 1.0) for t in (0, 1, 2, 4)] == pytest.approx([1, 1, 0.1, 0.01])
    assert optimizer.lr == 0.1
    assert schedule.last_epoch == 0


def test_the_order_of_loading_optimizer_and_schedule_does_not_matter():
    source = sgd()
    schedule = optim.StepLR(source, 2)
    for _ in range(3):
        schedule.step()
    for first in (True, False):
        optimizer = sgd()
        if first:
            optimizer.load_state_dict(source.state_dict())
        resumed = optim.StepLR(optimizer, 2)
        resumed.load_state_dict(schedule.state_dict())
        if not first:
            optimizer.load_state_dict(source.state_dict())
        resumed.step()
        assert optimizer.lr == pytest.approx(0.1 * 0.01)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda o: optim.StepLR(o, 0), "step_size is 0, but must be an integer of at least 1"),
        (lambda o: optim.CosineAnnealingLR(o, 2.5), "T_max is 2.5"),
        (lambda o: optim.LinearLR(o, start_factor=0.0), "start_factor is 0.0"),
        (lambda o: optim.LinearLR(o, end_factor=1.5), "end_factor 1.5"),
        (lambda o: optim.LinearLR(o, total_iters=0), "total_iters is 0"),
        (lambda o: optim.NoamLR(o, 0), "d_model is 0"),
        (lambda o: optim.NoamLR(o, 8, 0), "warmup_steps is 0"),
        (lambda o: optim.LambdaLR(o, [math.exp]), "1 functions for 2 parameter groups"),
        (lambda o: optim.OneCycleLR(o, 0.1), "needs total_steps, or epochs and steps_per_epoch"),
        (lambda o: optim.OneCycleLR(o, 0.1, 0), "total_steps is 0"),
        (lambda o: optim.OneCycleLR(o, 0.1, 9, pct_start=1.5), "pct_start is 1.5"),
        (lambda o: optim.OneCycleLR(o, 0.1, 9, anneal_strategy="exp"), "anneal_strategy is 'exp'"),
        (lambda o: optim.OneCycleLR(o, [0.1], 9), "1 values of max_lr for 2 parameter groups"),
        (lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)], [3]), "1 schedules need 0 rising milestones"),
        (lambda o: optim.SequentialLR(o, [optim.StepLR(sgd(), 1)], []), "StepLR was made on another optimizer"),
        (lambda o: optim.SequentialLR(o, [optim.OneCycleLR(o, 0.1, 9)], []), "OneCycleLR has its own warm-up"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(RequestError, match=message):
        build(sgd())


def test_one_cycle_refuses_to_go_past_its_end():
    schedule = optim.OneCycleLR(sgd(), 0.1, 3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(RequestError, match="made for 3 steps, and this is step 4"):
        schedule.step()


def test_one_cycle_needs_a_momentum_to_cycle():
    class Bare(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

    with pytest.raises(RequestError, match="no momentum to cycle; pass cycle_momentum=False"):
        optim.OneCycleLR(Bare(groups(), 0.1), 0.1, 9)


def test_a_schedule_takes_an_optimizer_and_a_state_of_as_many_groups():
    with pytest.raises(TypeError, match="StepLR takes an optimizer, not a float"):
        optim.StepLR(0.1, 2)
    one = optim.StepLR(optim.SGD([Tensor(np.ones(1))]), 2)
    with pytest.raises(RequestError, match="saved with 1 parameter groups, but the optimizer has 2"):
        optim.StepLR(sgd(), 2).load_state_dict(one.state_dict())
