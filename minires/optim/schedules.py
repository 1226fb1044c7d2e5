"""The learning rate's course over training, under the names of `torch.optim.lr_scheduler`.

Every schedule here is a closed formula, `at(step, base)`: the rate after `step` calls of `step()` for a group that
started at `base`. So a schedule can be drawn without training, resumed from one number and put into a sequence.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minires.errors import RequestError
from minires.optim.optimizer import Optimizer


class LRScheduler:
    """Sets every group's "lr" at construction and again at each `step()`, which belongs after the optimizer's.

    Attributes
        last_epoch    how often `step()` was called (torch's name; batches or epochs, as you call it)
        base_lrs      each group's rate when its first schedule was made, kept in the group as "initial_lr"
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__} takes an optimizer, not a {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.base_lrs = [float(g.setdefault("initial_lr", g["lr"])) for g in optimizer.param_groups]
        self.last_epoch = 0
        self._apply()

    def at(self, step: int, base: float) -> float:
        """The rate after `step` steps for a group with base rate `base`."""
        raise NotImplementedError(f"{type(self).__name__} has no formula")

    def rates(self, step: int) -> list[float]:
        """Each group's rate after `step` steps."""
        return [self.at(step, base) for base in self.base_lrs]

    def step(self) -> None:
        """Moves on by one and sets the rates."""
        self.last_epoch += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """Each group's current rate."""
        return list(self._last)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, from which `load_state_dict` goes on; the schedule's own options are not in it."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Goes to the saved position and sets the rates. Raises RequestError for another number of groups."""
        if len(saved["base_lrs"]) != len(self.base_lrs):
            raise RequestError(
                f"this schedule was saved with {len(saved['base_lrs'])} parameter groups, "
                f"but the optimizer has {len(self.base_lrs)}"
            )
        self.last_epoch, self.base_lrs = int(saved["last_epoch"]), [float(lr) for lr in saved["base_lrs"]]
        self._apply()

    def _apply(self) -> None:
        self._last = [float(lr) for lr in self.rates(self.last_epoch)]
        for group, lr in zip(self.optimizer.param_groups, self._last, strict=True):
            group["lr"] = lr


class LambdaLR(LRScheduler):
    """lr = base * lr_lambda(step); one function, or a list with one for each group. Functions are not saved."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lambdas) != groups:
            raise RequestError(f"LambdaLR was given {len(self.lambdas)} functions for {groups} parameter groups")
        super().__init__(optimizer)

    def rates(self, step: int) -> list[float]:
        return [base * f(step) for f, base in zip(self.lambdas, self.base_lrs, strict=True)]


class StepLR(LRScheduler):
    """lr = base * gamma^floor(step / step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        _at_least("StepLR", "step_size", step_size, 1)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def at(self, step: int, base: float) -> float:
        return base * self.gamma ** (step // self.step_size)


class MultiStepLR(LRScheduler):
    """lr = base * gamma^(how many milestones the step has reached)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def at(self, step: int, base: float) -> float:
        return base * self.gamma ** bisect_right(self.milestones, step)


class LinearLR(LRScheduler):
    """A warm-up: base times a factor that goes in a straight line from start_factor to end_factor, then stays."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise RequestError(
                f"LinearLR: start_factor is {start_factor} and end_factor {end_factor}, "
                "but they must be in (0, 1] and [0, 1]"
            )
        _at_least("LinearLR", "total_iters", total_iters, 1)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def at(self, step: int, base: float) -> float:
        done = min(step, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) * (1 + cos(pi * step / T_max)) / 2. After T_max it rises again, as in torch.

    Source: Loshchilov and Hutter 2017, SGDR, eq. 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        _at_least("CosineAnnealingLR", "T_max", T_max, 1)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def at(self, step: int, base: float) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * step / self.T_max)) / 2


class NoamLR(LRScheduler):
    """The Transformer's course: up in a straight line over the warm-up, then down with the root of the step.

        lr = base * d_model^-0.5 * min(t^-0.5, t * warmup_steps^-1.5),  t = step + 1

    base is only a factor here: make the optimizer with lr=1. torch has no such schedule.
    Source: Vaswani et al. 2017, Attention Is All You Need, eq. 3.
    """

    def __init__(self, optimizer: Optimizer, d_model: int, warmup_steps: int = 4000) -> None:
        _at_least("NoamLR", "d_model", d_model, 1)
        _at_least("NoamLR", "warmup_steps", warmup_steps, 1)
        self.d_model, self.warmup_steps = d_model, warmup_steps
        super().__init__(optimizer)

    def at(self, step: int, base: float) -> float:
        t = step + 1
        return base * self.d_model**-0.5 * min(t**-0.5, t * self.warmup_steps**-1.5)


class OneCycleLR(LRScheduler):
    """One rise to max_lr and one long fall to almost nothing, while the momentum does the opposite.

    max_lr                       the peak, a number or one for each group
    total_steps                  or epochs and steps_per_epoch; stepping further raises RequestError
    pct_start                    the share of the steps spent rising
    anneal_strategy              "cos" or "linear"
    cycle_momentum               also move momentum (or beta1) from max_momentum to base_momentum and back
    div_factor, final_div_factor the first rate is max_lr / div_factor, the last that / final_div_factor

    torch's three_phase is not taken.
    Source: Smith and Topin 2018, Super-Convergence.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise RequestError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        _at_least("OneCycleLR", "total_steps", total_steps, 1)
        if not 0 <= pct_start <= 1:
            raise RequestError(f"OneCycleLR: pct_start is {pct_start}, but is a share and must be in [0, 1]")
        if anneal_strategy not in ("cos", "linear"):
            raise RequestError(f"OneCycleLR: anneal_strategy is {anneal_strategy!r}, but must be 'cos' or 'linear'")
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise RequestError("OneCycleLR: this optimizer has no momentum to cycle; pass cycle_momentum=False")
        groups = len(optimizer.param_groups)
        peaks = [float(max_lr)] * groups if isinstance(max_lr, (int, float)) else [float(lr) for lr in max_lr]
        if len(peaks) != groups:
            raise RequestError(f"OneCycleLR was given {len(peaks)} values of max_lr for {groups} parameter groups")
        self.total_steps, self.pct_start, self.linear = total_steps, pct_start, anneal_strategy == "linear"
        self.momenta = (max_momentum, base_momentum) if cycle_momentum else None
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["initial_lr"] = peak / div_factor
        super().__init__(optimizer)

    def at(self, step: int, base: float) -> float:
        return self._between(step, base, base * self.div_factor, base / self.final_div_factor)

    def _between(self, step: int, first: float, peak: float, last: float) -> float:
        if step > self.total_steps:
            raise RequestError(f"OneCycleLR was made for {self.total_steps} steps, and this is step {step}")
        turn, end = self.pct_start * self.total_steps - 1, self.total_steps - 1
        rising = step <= turn
        start, stop = (first, peak) if rising else (peak, last)
        begun, done = (0.0, turn) if rising else (turn, end)
        part = (step - begun) / (done - begun) if done != begun else 1.0
        if self.linear:
            return start + (stop - start) * part
        return stop + (start - stop) / 2 * (1 + math.cos(math.pi * part))

    def _apply(self) -> None:
        super()._apply()
        if self.momenta is None:
            return
        high, low = self.momenta
        momentum = self._between(self.last_epoch, high, low, high)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class SequentialLR(LRScheduler):
    """One schedule after the other, each counting from its own start: warm-up first, for instance.

    schedulers    made on the same optimizer
    milestones    the step at which each but the first takes over
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            raise RequestError(
                f"SequentialLR: {len(schedulers)} schedules need {len(schedulers) - 1} rising milestones, "
                f"not {list(milestones)}"
            )
        for schedule in schedulers:
            if schedule.optimizer is not optimizer:
                raise RequestError(f"SequentialLR: its {type(schedule).__name__} was made on another optimizer")
            if isinstance(schedule, OneCycleLR):
                raise RequestError("SequentialLR: OneCycleLR has its own warm-up and base rates; use it alone")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer)

    def rates(self, step: int) -> list[float]:
        i = bisect_right(self.milestones, step)
        return self.schedulers[i].rates(step - (self.milestones[i - 1] if i else 0))

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        for schedule in self.schedulers:
            schedule.base_lrs = [float(lr) for lr in saved["base_lrs"]]
        super().load_state_dict(saved)


def _at_least(schedule: str, name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RequestError(f"{schedule}: {name} is {value!r}, but must be an integer of at least {least}")
