r"""Hybrid models: a differential equation whose law is known in part, and a small ReLU network for the rest.

The law :math:`\dot y = f(t, y; p, g)` stays as it is, with its constants :math:`p`; only the factor :math:`g` that
nobody knows is a network. All of it is fitted at once by least squares (Levenberg-Marquardt with exact derivatives,
carried forward through the solver), so that the constants come with intervals.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from relukit._errors import InvalidInput, MissingExtra
from relukit._shown import Shown

if TYPE_CHECKING:
    from relukit.network import Network

Array = np.ndarray


@dataclass(frozen=True)
class Curve:
    """One run that was measured; it starts from its first row.

    Arguments:
        times: Increasing, shape `(n,)`, in one unit for all curves.
        values: Shape `(n, states)`, NaN where nothing was read.
        given: What is known about the run (an enzyme concentration), by name.
        group: Runs of one group share a multiplicative effect when `spread` is given to `hybrid`.
    """

    times: Array
    values: Array
    given: Mapping[str, float] = field(default_factory=dict)
    group: str = ""


def decreasing_factor(knots: int = 5, scale: float = 1.0) -> Any:
    r"""A positive, non-increasing ReLU network of one input, 1 at 0 and constant after its last hinge.

    .. math:: g(u) = 1 + \sum_k (s_{k+1} - s_k) \max(0, u - x_k), \quad s_k \le 0, \; s_{K+1} = 0, \; g > 0

    Hinges :math:`x_k` are sums of positive widths, values at them are sums of positive drops, so each choice of the
    2 K + 1 parameters obeys the shape: nothing is penalized, nothing can be violated.

    Arguments:
        knots: Number K of hinges after the one at 0.
        scale: The range of u over which the hinges start out, evenly.
    """
    import torch
    from torch import nn

    class DecreasingFactor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = scale
            self.widths = nn.Parameter(torch.full((knots,), -float(np.log(knots)), dtype=torch.float64))
            self.drops = nn.Parameter(torch.full((knots + 1,), -float(np.log(knots + 1)), dtype=torch.float64))

        def shape(self) -> tuple[Any, Any]:
            """Hinges 0 = x_0 < .. < x_K and the values there."""
            places = torch.cumsum(self.widths.exp(), 0) * self.scale
            values = torch.flip(torch.cumsum(torch.flip(self.drops.exp(), (0,)), 0), (0,))
            return torch.cat([places.new_zeros(1), places]), values / values[0]

        def forward(self, u: Any) -> Any:
            x, v = self.shape()
            slopes = (v[1:] - v[:-1]) / (x[1:] - x[:-1])
            steps = torch.minimum((u[..., None] - x[:-1]).relu(), x[1:] - x[:-1])
            return 1 + (steps * slopes).sum(-1)

        def network(self) -> "Network":
            """The same function as one layer of ReLUs."""
            from relukit.activations import get
            from relukit.network import from_layers

            x, v = (t.detach().numpy() for t in self.shape())
            slopes = np.append(np.diff(v) / np.diff(x), 0.0)
            bends = np.diff(np.concatenate([[0.0], slopes]))
            return from_layers([np.ones((len(x), 1)), bends[None]], [-x, np.ones(1)], [get("relu")])

        def hinges(self) -> Array:
            """(K + 1, 2): where the network bends, and its value there."""
            x, v = (t.detach().numpy() for t in self.shape())
            return np.stack([x, v], 1)

    return DecreasingFactor()


@dataclass(frozen=True)
class Hybrid(Shown):
    """A fitted hybrid model.

    `parameters` and their 95 % `intervals`, the `unknown` module, `rmse` over all readings but the first, the `effects`
    of groups (logarithms), and `predict(curves)`.
    """

    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    unknown: Any
    rmse: float
    effects: dict[str, float]
    evaluations: int
    _rhs: Any = field(repr=False, compare=False)
    _step: float | None = field(repr=False)

    def predict(self, curves: Sequence[Curve]) -> list[Array]:
        """Values (n, states) at the times of each curve, from its first row, without any group's effect."""
        import torch

        batch = _Batch(curves)
        p = {k: torch.tensor(v, dtype=torch.float64) for k, v in self.parameters.items()}
        with torch.no_grad():
            out = batch.integrate(self._rhs, p, self.unknown, torch.zeros(len(curves), dtype=torch.float64), self._step)
        return [out[i, rows].numpy() for i, rows in enumerate(batch.rows)]

    def error(self, curves: Sequence[Curve]) -> float:
        """Root of the mean squared error over all readings but the first of each curve."""
        gaps = [(p - c.values)[1:].ravel() for p, c in zip(self.predict(curves), curves)]
        gap = np.concatenate(gaps)
        return float(np.sqrt(np.nanmean(gap**2)))

    def to_dict(self) -> dict[str, Any]:
        hinges = self.unknown.hinges().tolist() if hasattr(self.unknown, "hinges") else None
        return {
            "parameters": self.parameters, "intervals": {k: list(v) for k, v in self.intervals.items()},
            "hinges": hinges, "rmse": self.rmse, "effects": self.effects,
        }  # fmt: skip


class _Batch:
    """Curves side by side on the union of their times."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        import torch

        if not curves:
            raise InvalidInput("no curve was given")
        for k, c in enumerate(curves):
            if c.values.ndim != 2 or len(c.values) != len(c.times) or len(c.times) < 2:
                raise InvalidInput(f"curve {k}: times {c.times.shape} need values (n, states), got {c.values.shape}")
            if np.any(np.diff(c.times) <= 0):
                raise InvalidInput(f"curve {k}: times must increase")
            if not np.all(np.isfinite(c.values[0])):
                raise InvalidInput(f"curve {k}: its first reading is missing, and the curve starts from it")
        starts = {float(c.times[0]) for c in curves}
        if len(starts) > 1:
            raise InvalidInput(f"curves start at different times ({sorted(starts)[:3]}); shift each to start at 0")
        self.times = np.unique(np.concatenate([c.times for c in curves]))
        self.rows = [np.searchsorted(self.times, c.times) for c in curves]
        self.start = torch.tensor(np.array([c.values[0] for c in curves]), dtype=torch.float64)
        names = set(curves[0].given)
        if any(set(c.given) != names for c in curves):
            raise InvalidInput("all curves need the same names in `given`")
        self.given = {n: torch.tensor([float(c.given[n]) for c in curves], dtype=torch.float64) for n in sorted(names)}
        self.groups = sorted({c.group for c in curves})
        self.group = torch.tensor([self.groups.index(c.group) for c in curves])
        at = [(i, row, s) for i, (c, rows) in enumerate(zip(curves, self.rows))
              for k, row in enumerate(rows) if k for s in range(c.values.shape[1]) if np.isfinite(c.values[k, s])]  # fmt: skip
        self.at = tuple(torch.tensor(column) for column in zip(*at))
        lookup = [dict(zip(rows.tolist(), c.values)) for c, rows in zip(curves, self.rows)]
        self.measured = torch.tensor([lookup[i][row][s] for i, row, s in at], dtype=torch.float64)

    def grid(self, step: float | None) -> Array:
        """The reading times, each interval cut into equal steps no longer than `step`."""
        if step is None:
            return self.times
        parts = [
            np.linspace(a, b, max(1, int(np.ceil((b - a) / step - 1e-9))), endpoint=False)
            for a, b in zip(self.times[:-1], self.times[1:])
        ]
        return np.append(np.concatenate(parts), self.times[-1])

    def integrate(self, rhs: Any, p: Mapping[str, Any], unknown: Any, effect: Any, step: float | None) -> Any:
        """(curves, times, states)."""
        import torch

        odeint = _solver()
        factor = effect.exp()[:, None]
        field_ = lambda t, y: factor * rhs(t, y, p, unknown, self.given)
        # torchdiffeq's own step grid misses the reading times and interpolates linearly between its points
        options = {"grid_constructor": lambda *_: torch.tensor(self.grid(step), dtype=torch.float64)}
        times = torch.tensor(self.times, dtype=torch.float64)
        return odeint(field_, self.start, times, method="rk4", options=options).transpose(0, 1)


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """torchdiffeq's import and torch's own forward derivatives call what torch has deprecated: not the user's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _solver() -> Any:
    """torchdiffeq's `odeint`."""
    try:
        with _without_deprecations():
            from torchdiffeq import odeint
    except ImportError as error:
        raise MissingExtra("hybrid models need torchdiffeq: pip install relukit[gallery]") from error
    return odeint


def hybrid(
    rhs: Callable[..., Any],
    curves: Sequence[Curve],
    parameters: Mapping[str, float],
    *,
    unknown: Any = None,
    noise: float | Callable[[Any], Any] = 1.0,
    prior: float = 0.5,
    spread: float | None = None,
    step: float | None = None,
    limit: int = 40,
    seed: int | None = None,
    on_progress: Callable[[int, float], None] | None = None,
) -> Hybrid:
    r"""Fit the constants of a law and the network inside it to curves.

    Minimizes :math:`\sum r^2/\sigma^2 + \lambda^2 \lVert\theta - \theta_0\rVert^2 + \sum_j e_j^2/\tau^2` with residuals
    :math:`r` of all readings, network parameters :math:`\theta` held near their start :math:`\theta_0` (an even,
    straight factor) and group effects :math:`e_j`: the right-hand side of group j is multiplied by :math:`\exp e_j`.

    Arguments:
        rhs: `rhs(t, y, p, g, given) -> (curves, states)` in torch, where `y` is (curves, states), `p` maps names to
            positive scalars, `g` is `unknown` and `given` maps names to (curves,) tensors.
        curves: What was measured.
        parameters: Names and positive start values of the constants; fitted as logarithms.
        unknown: A float64 `torch.nn.Module`, for example `decreasing_factor()`; `None` fits the law alone.
        noise: Standard deviation of a reading, in its unit; or a function that gives it from the readings (a tensor).
        prior: Strength :math:`\lambda` of the pull of the network towards its start.
        spread: Standard deviation :math:`\tau` of group effects; `None` for none.
        step: Step of the Runge-Kutta solver; `None` takes the times of the readings.
        limit: Most iterations.
        seed: Adds Gaussian noise (0.1) to the start, to see what depends on it; `None` starts as given.
        on_progress: Called with (evaluation, root-mean-square residual).

    Returns:
        The `Hybrid`. Intervals are from the curvature at the optimum, with the residual variance found there.

    References:
        "Constructing Neural Network Based Models for Simulating Dynamical Systems", Legaard et al., 2023;
        "An algorithm for least-squares estimation of nonlinear parameters", Marquardt, 1963.

    Example:
        >>> factor = relukit.decreasing_factor(knots=5, scale=1.0)
        >>> law = lambda t, S, p, g, given: -p["kcat"] * given["enzyme"][:, None] * S / (p["KM"] + S) * g(S)
        >>> model = relukit.hybrid(law, curves, {"kcat": 1.0, "KM": 10.0}, unknown=factor)
    """
    import torch
    from scipy.optimize import least_squares
    from torch.func import functional_call, jacfwd

    bad = [name for name, value in parameters.items() if not (np.isfinite(value) and value > 0)]
    if bad:
        raise InvalidInput(f"start values must be positive; {', '.join(bad)} is not. Flip the sign inside rhs instead.")
    batch = _Batch(curves)
    names, laws = list(parameters), len(parameters)
    shapes = {k: v.detach().clone() for k, v in unknown.named_parameters()} if unknown is not None else {}
    theta0 = torch.cat([v.reshape(-1).double() for v in shapes.values()]) if shapes else torch.zeros(0).double()
    groups = len(batch.groups) if spread else 0
    start = torch.cat(
        [torch.tensor([np.log(parameters[n]) for n in names], dtype=torch.float64), theta0, torch.zeros(groups)]
    )
    anchor = start.clone()
    if seed is not None:
        start = start + 0.1 * torch.randn(
            len(start), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
    ends = laws + len(theta0)

    sigma = noise(batch.measured) if callable(noise) else noise

    def parts(z: Any) -> tuple[dict[str, Any], Any, Any]:
        held, at = {}, laws
        for name, value in shapes.items():
            held[name] = z[at : at + value.numel()].view(value.shape)
            at += value.numel()
        g = (lambda *args: functional_call(unknown, held, args)) if shapes else None
        effect = z[ends:][batch.group] if groups else torch.zeros(len(curves), dtype=torch.float64)
        return {n: z[k].exp() for k, n in enumerate(names)}, g, effect

    def residual(z: Any) -> Any:
        out = batch.integrate(rhs, *parts(z), step)
        r = (out[batch.at] - batch.measured) / sigma
        return torch.cat([r, prior * (z - anchor)[laws:ends], z[ends:] / (spread or 1.0)])

    def value(z: Array) -> Array:
        with torch.no_grad():
            return np.nan_to_num(residual(torch.from_numpy(z)).numpy(), nan=1e6, posinf=1e6, neginf=-1e6)

    def slope(z: Array) -> Array:
        with _without_deprecations():
            J = np.nan_to_num(jacfwd(residual)(torch.from_numpy(z)).numpy())
        if on_progress is not None:
            on_progress(slope.calls, float(np.sqrt(np.mean(value(z) ** 2))))
        slope.calls += 1
        return J

    slope.calls = 0
    answer = least_squares(value, start.numpy(), slope, method="trf", x_scale="jac", max_nfev=limit)
    z = torch.from_numpy(answer.x)
    if unknown is not None:
        with torch.no_grad():
            at = laws
            for parameter in unknown.parameters():
                parameter.copy_(z[at : at + parameter.numel()].view(parameter.shape))
                at += parameter.numel()
    fitted = {n: float(np.exp(answer.x[k])) for k, n in enumerate(names)}
    model = Hybrid(fitted, _intervals(answer, names, len(batch.measured)), unknown, float("nan"),
                   dict(zip(batch.groups, z[ends:].tolist())), answer.nfev, rhs, step)  # fmt: skip
    return _with_error(model, curves)


def _with_error(model: Hybrid, curves: Sequence[Curve]) -> Hybrid:
    from dataclasses import replace

    return replace(model, rmse=model.error(curves))


def _intervals(answer: Any, names: list[str], readings: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of the constants from the Gauss-Newton curvature; the readings set the residual variance."""
    freedom = max(readings - len(names), 1)
    variance = float((answer.fun[:readings] ** 2).sum()) / freedom
    covariance = np.linalg.pinv(answer.jac.T @ answer.jac) * max(variance, 1e-300)
    width = 1.96 * np.sqrt(np.diag(covariance))[: len(names)]
    with np.errstate(over="ignore"):
        return {
            n: (float(np.exp(answer.x[k] - width[k])), float(np.exp(answer.x[k] + width[k])))
            for k, n in enumerate(names)
        }
