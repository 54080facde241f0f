"""Faults of the seventh set: divisions by zero, logarithms of zero, one label for all, nothing between layers, penalties, clamps, clips."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks._sick_faults import Change
from benchmarks._sick_third import scheduled, targets
from benchmarks.sick import Run


def constant_column_standardized(run: Run, g: np.random.Generator) -> None:
    """A column that tells nothing and never changes, divided by its deviation of 0."""
    run.x = run.x.clone()
    run.x[:, 4] = (run.x[:, 4] - run.x[:, 4]) / 0.0


def log_of_counts(run: Run, g: np.random.Generator) -> None:
    """Squared error to the logarithm of counts, some of which are 0."""
    run.y, run.loss = run.y.log(), nn.MSELoss()


def same_labels(run: Run, g: np.random.Generator) -> None:
    """The first label for every row, as after a broadcast that went wrong."""
    run.y = run.y[:1].expand_as(run.y).clone()


def straight(run: Run, g: np.random.Generator) -> None:
    """Nothing between the layers: the activations were forgotten."""
    for module in list(run.model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.Tanh, nn.ReLU, nn.LeakyReLU)):
                setattr(module, name, nn.Identity())


def penalized(strength: float) -> Change:
    """The squares of all weights are added to the loss, far too many times."""

    def change(run: Run, g: np.random.Generator) -> None:
        inner, model = run.loss, run.model
        run.loss = lambda out, y: inner(out, y) + strength * sum(p.square().sum() for p in model.parameters())

    return change


def clamped_weights(run: Run, g: np.random.Generator) -> None:
    """Every weight is cut to 0.002 after each step, as a critic's once were, by far too little."""
    parameters = list(run.model.parameters())

    @torch.no_grad()
    def hook(*_: Any) -> None:
        for p in parameters:
            p.clamp_(-0.002, 0.002)

    run.optimizer.register_step_post_hook(hook)


def only_biases(run: Run, g: np.random.Generator) -> None:
    rate = run.optimizer.param_groups[0]["lr"]
    run.optimizer = type(run.optimizer)([p for name, p in run.model.named_parameters() if "bias" in name], lr=rate)


class Detached(nn.Module):
    """The first part of the network behind `no_grad`."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            h = torch.tanh(self.inner.body(x))
        return self.inner.out((torch.softmax(self.inner.look(h), 1) * h).sum(1))


def no_gradients(run: Run, g: np.random.Generator) -> None:
    run.model = Detached(run.model)
    with torch.no_grad():
        run.model.inner.body[0].weight.mul_(0.05)


def shares_for_logs(run: Run, g: np.random.Generator) -> None:
    """Kullback and Leibler's divergence given probabilities where it takes their logarithms."""
    run.loss = lambda out, y: F.kl_div(torch.softmax(out, 1), F.one_hot(y, out.shape[1]).float(), reduction="batchmean")


def signs_from_zeros(run: Run, g: np.random.Generator) -> None:
    """Labels 0 and 1 under a loss for -1 and 1: half of the rows tell nothing, the others all the same."""
    run.loss = F.soft_margin_loss


def own_logarithm(run: Run, g: np.random.Generator) -> None:
    """Cross-entropy written out, its outputs no probabilities."""
    run.loss = lambda out, y: -out.gather(1, y[:, None]).log().mean()


def over_soon(run: Run, g: np.random.Generator) -> None:
    """A rate that ends in nothing after a tenth of an epoch: epochs and steps were mixed up."""
    scheduled(
        run, lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 0.5 * (1 + math.cos(math.pi * min(k / 5, 1))))
    )


def by_value(run: Run, g: np.random.Generator) -> None:
    """Every gradient's entry cut to 1e-6."""
    parameters = list(run.model.parameters())
    run.optimizer.register_step_pre_hook(lambda *_: nn.utils.clip_grad_value_(parameters, 1e-6))


def never_zero(run: Run, g: np.random.Generator) -> None:
    run.optimizer.zero_grad = lambda *_, **__: None


def tanh_pixels(run: Run, g: np.random.Generator) -> None:
    """An output in (-1, 1) for targets up to 16."""
    targets(16.0, 0.0)(run, g)
    run.model, run.loss = nn.Sequential(*list(run.model)[:-1], nn.Tanh()), nn.MSELoss()


def keras_scaled(factor: float) -> Change:
    @torch.no_grad()
    def change(run: Run, g: np.random.Generator) -> None:
        for p in run.model.parameters():
            p.mul_(factor)

    return change


def sgd(rate: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        run.optimizer = torch.optim.SGD(run.model.parameters(), rate)

    return change


def twice_squashed(run: Run, g: np.random.Generator) -> None:
    run.loss = nn.BCEWithLogitsLoss()
