"""The learning rate of `fit` over its passes, and more of it where nothing moves."""

from typing import Any

RATE, _RAISE = 3e-3, 10 / 3
PEAK = 0.2  # share of the passes until the rate is highest
# Where the loss is still above this share of a constant's by then, the rate was too low to get anywhere (two spirals of two turns:
# 0.9 to 0.96, and 64 to 71 % right in the end, 84 to 92 % with the raised rate); tables that learn stand below 0.6.
_NO_HEADWAY = 0.85
COOLED = 0.6  # share of the passes before which nothing stops: the rate is still high, and scores still jump


def one_cycle(optimizer: Any, rate: float, steps: int) -> Any:
    """A schedule that rises over the first fifth and falls to nothing (Super-Convergence, Smith and Topin, 2019)."""
    import torch

    return torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=PEAK)


def constant_loss(goals: Any, loss_of: Any) -> float:
    """Loss of the best output that is the same for all rows."""
    import torch

    if goals.is_floating_point():
        return float(loss_of(goals.mean(0).expand_as(goals), goals))
    shares = torch.bincount(goals).clamp_min(1).float() / len(goals)
    return float(loss_of(shares.log().expand(len(goals), -1), goals))


def raise_if_stuck(optimizer: Any, loss: float, constant: float) -> None:
    """A higher rate for the rest of the schedule, whose corners are part of the optimizer's state."""
    if loss <= _NO_HEADWAY * constant:
        return
    for group in optimizer.param_groups:
        for key in ("max_lr", "initial_lr", "min_lr", "lr"):
            group[key] *= _RAISE
