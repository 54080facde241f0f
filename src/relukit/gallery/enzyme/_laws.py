"""The laws: Michaelis-Menten as it is known, and where the unknown factor enters."""

from collections.abc import Sequence
from typing import Any

from relukit.gallery.enzyme._data import pooled
from relukit.training.hybrid import Curve, Hybrid, decreasing_factor, hybrid

# s; umol/l, as replicates differ; between runs, chosen by leaving one out (the effects found have a root mean square of 0.23)
STEP, NOISE, SPREAD = 30.0, 2.4, 0.2


def _michaelis(S: Any, p: Any, given: Any) -> Any:
    return -p["kcat"] * given["enzyme"][:, None] * S / (p["KM"] + S)


def known(t: Any, S: Any, p: Any, g: Any, given: Any) -> Any:
    """Michaelis-Menten."""
    return _michaelis(S, p, given)


def inactivated(t: Any, S: Any, p: Any, g: Any, given: Any) -> Any:
    """Michaelis-Menten with an enzyme that dies at a constant rate."""
    return _michaelis(S, p, given) * (-p["kd"] * t).exp()


def by_conversion(t: Any, S: Any, p: Any, g: Any, given: Any) -> Any:
    """Michaelis-Menten times an unknown factor of the converted share of the substrate."""
    return _michaelis(S, p, given) * g(1 - S / given["start"][:, None])


def by_product(t: Any, S: Any, p: Any, g: Any, given: Any) -> Any:
    """Michaelis-Menten times an unknown factor of the product's concentration."""
    return _michaelis(S, p, given) * g(given["start"][:, None] - S)


def by_time(t: Any, P: Any, p: Any, g: Any, given: Any) -> Any:
    """Product formed at a constant rate while an unknown factor of time takes the enzyme away."""
    return p["rate"] * given["enzyme"][:, None] * g(t.expand_as(P)) + 0 * P


_START = {"kcat": 0.5, "KM": 60.0}


def fit_laccase(curves: Sequence[Curve], seed: int | None = None) -> Hybrid:
    """The study's model of ABTS and laccase: between runs the rate may differ by about 20 %, and replicates share their start."""
    factor = decreasing_factor(5)
    return hybrid(
        by_conversion, pooled(curves), _START, unknown=factor, noise=NOISE, spread=SPREAD, step=STEP, seed=seed
    )


def fit_known(curves: Sequence[Curve]) -> Hybrid:
    return hybrid(known, curves, _START, noise=NOISE, step=STEP)


def fit_inactivated(curves: Sequence[Curve]) -> Hybrid:
    return hybrid(inactivated, curves, {**_START, "kd": 1e-3}, noise=NOISE, step=STEP)


def fit_repressed(curves: Sequence[Curve], knots: int = 6, prior: float = 2.0) -> Hybrid:
    """Simulated data, where noise is relative (5 %, and a floor)."""
    noise = lambda readings: 0.05 * readings + 0.02
    factor = decreasing_factor(knots, 100.0)
    return hybrid(by_product, curves, {"kcat": 0.5, "KM": 40.0}, unknown=factor, noise=noise, prior=prior, limit=60)


def fit_oxidase(curves: Sequence[Curve]) -> Hybrid:
    """Glucose oxidase: each measurement has its own rate (it was deactivated before), the factor of time is shared."""
    return hybrid(by_time, curves, {"rate": 0.02}, unknown=decreasing_factor(5, 60.0), noise=0.01, spread=1.0)


def fit_black_box(curves: Sequence[Curve], seed: int = 0) -> Hybrid:
    """A neural ODE that knows no law: dS/dt = -net(S, P), a ReLU network of 105 parameters, fitted the same way."""
    import torch
    from torch import nn

    from relukit.gallery._life import seeded

    with seeded(seed):
        net = nn.Sequential(
            nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1), nn.Softplus()
        ).double()

    def rate(t: Any, S: Any, p: Any, g: Any, given: Any) -> Any:
        return -g(torch.cat([S, given["start"][:, None] - S], 1) / 60) * S / 20

    noise = lambda readings: 0.05 * readings + 0.02
    return hybrid(rate, curves, {}, unknown=net, noise=noise, prior=0.1)
