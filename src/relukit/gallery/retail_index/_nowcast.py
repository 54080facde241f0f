r"""Last month's retail sales from card spending, before the official figure is out.

Cards read :math:`c = A(g-\mu) + k + s_{month} + e`: g is the official change in percent, s an artifact of each calendar month
(card spending is adjusted by one year, 2019, whose own noise then returns every year), e the rest. Two years of cards are
too few rows to learn from, but enough to measure A and the sizes of s and e; thirty years of official changes say how g moves.
So the network learns from simulated pairs: g drawn from the official history, cards drawn around it. What it learns is how much of a
card move to believe: little of a small one, most of a large one, a bend that a straight line has not.

Each month it is given only what was known then: cards up to that month, official sales up to the month before.

References:
    Adaptive conformal inference under distribution shift, Gibbs and Candes, 2021 (the width of the band).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

BAND, QUIET, WIDTH, DRAWS = 0.90, 5.0, 16, 60_000
_STEP = 0.10  # how fast the band's width answers to a month inside or outside of it
# Half of a month's misfit taken as returning each year: with two years it cannot be told apart better than by a factor of two.
_PRIOR_SHARE, _PRIOR_PAIRS = 0.5, 6
_CARRIED = 2.0  # percent: a larger last change tells no more about this one (history has too few to learn from)
_MEMORY = 12  # months of misfit whose median is the drift k


@dataclass(frozen=True)
class Cards:
    """How card spending reads the official change: elasticity, mean change, size of the misfit, share of it that returns yearly."""

    elasticity: float
    mean: float
    spread: float
    returning: float

    def misfit(self, cards: Any, official: Any) -> Any:
        """What of the card changes the official ones do not explain, on common months."""
        months = cards.index.intersection(official.index)
        return cards[months] - self.elasticity * (official[months] - self.mean)


def measure(cards: Any, official: Any) -> Cards:
    """From common months: a robust slope of cards on official change, and the misfit of quiet months.

    Arguments:
        cards: Monthly change of card spending, percent.
        official: Monthly change of sales, percent; its whole history gives the mean.
    """
    from sklearn.linear_model import HuberRegressor

    months = cards.index.intersection(official.index)
    mean = float(official.median())
    slope = (
        HuberRegressor(alpha=0.0).fit((official[months] - mean).to_numpy()[:, None], cards[months].to_numpy()).coef_[0]
    )
    rest = Cards(float(slope), mean, 1.0, 0.5).misfit(cards, official)
    quiet = rest[(official[rest.index].abs() < QUIET) & (cards[rest.index].abs() < QUIET)]
    quiet = quiet - quiet.median()
    pairs = [quiet[m] * quiet[m - 12] for m in quiet.index if m - 12 in quiet.index]
    variance = float((1.4826 * quiet.abs().median()) ** 2)
    seen = float(np.clip(np.mean(pairs) / variance, 0, 1)) if pairs else _PRIOR_SHARE
    share = (len(pairs) * seen + _PRIOR_PAIRS * _PRIOR_SHARE) / (len(pairs) + _PRIOR_PAIRS)
    return Cards(float(slope), mean, variance**0.5, share)


def inputs(reader: Cards, cards: Any, official: Any, month: Any) -> np.ndarray:
    """(3,): what cards say once drift and the month's artifact are taken off, last official change, years of that month seen."""
    past = reader.misfit(cards[cards.index < month], official[official.index < month])
    recent = past[-_MEMORY:]
    drift = float(recent.median() * len(recent) / (len(recent) + _MEMORY)) if len(recent) else 0.0
    same = past[past.index.month == month.month] - drift
    noise = (1 - reader.returning) / max(reader.returning, 1e-6)
    artifact = float(same.clip(-3 * reader.spread, 3 * reader.spread).sum() / (len(same) + noise))
    before = np.clip(official.get(month - 1, reader.mean) - reader.mean, -_CARRIED, _CARRIED)
    return np.array([cards[month] - drift - artifact, before, min(len(same), 3)])


def draw(reader: Cards, official: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulated (inputs, official change less its mean): history resampled, one in ten stretched, as crises stretch it."""
    rng = np.random.default_rng(seed)
    history = (official - reader.mean).to_numpy(float)
    quiet = np.abs(history) < QUIET
    pick = rng.choice(np.flatnonzero(quiet[1:] & quiet[:-1]) + 1, count)
    stretch = np.where(rng.random(count) < 0.1, rng.uniform(1, 6, count), 1.0)
    g, before = history[pick] * stretch, history[pick - 1].clip(-_CARRIED, _CARRIED)
    years = rng.integers(0, 4, count)
    heavy = lambda size: rng.standard_t(5, size) / np.sqrt(5 / 3) * reader.spread
    artifact = heavy(count) * reader.returning**0.5
    noise = (1 - reader.returning) ** 0.5
    seen = np.where(years > 0, artifact + heavy(count) * noise / np.sqrt(np.maximum(years, 1)), 0.0)
    guess = seen * years / (years + (1 - reader.returning) / reader.returning)
    cards = reader.elasticity * g + artifact + heavy(count) * noise
    return np.stack([cards - guess, before, years], 1), g


def fit(reader: Cards, official: Any, seed: int, epochs: int = 12) -> dict[str, np.ndarray]:
    """A ReLU network to lower end, mean and upper end; returns its plain chain (`W0`, `b0`, ...)."""
    import torch
    from torch import nn

    from relukit.gallery._life import seeded, train_module

    x, g = draw(reader, official, DRAWS, seed)
    X, G = torch.tensor(x, dtype=torch.float32), torch.tensor(g, dtype=torch.float32)
    levels = torch.tensor([(1 - BAND) / 2, (1 + BAND) / 2])
    with seeded(seed):
        net = nn.Sequential(nn.Linear(3, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))

        def loss(rows: Any) -> Any:
            out = net(X[rows])
            e = G[rows, None] - out[:, ::2]
            return torch.maximum(levels * e, (levels - 1) * e).mean() + (G[rows] - out[:, 1]).square().mean() / 4

        train_module(net, loss, len(g), epochs=epochs, learning_rate=5e-3, weight_decay=0.0, batch=512, seed=seed)
    layers = [m for m in net if isinstance(m, nn.Linear)]
    return {
        f"{k}{i}": a.detach().double().numpy()
        for i, m in enumerate(layers)
        for k, a in (("W", m.weight), ("b", m.bias))
    }


def walk(networks: Any, reader: Cards, cards: Any, official: Any, months: Any, scale: float = 1.0) -> Any:
    """Nowcast month after month: `low`, `nowcast`, `high` (percent) and `scale`, that of the band before the month was known.

    The band widens after a month outside and narrows after one inside, so that 90 % lie inside in the long run whatever the
    simulation got wrong.
    """
    import pandas as pd

    rows = []
    for month in months:
        low, middle, high = (
            np.mean([n(inputs(reader, cards, official, month)[None])[0] for n in networks], 0) + reader.mean
        )
        low, high = middle - scale * max(middle - low, 0.05), middle + scale * max(high - middle, 0.05)
        rows.append((low, middle, high, scale))
        if month in official.index:
            missed = not low <= official[month] <= high
            scale = float(np.clip(scale * np.exp(_STEP * (missed - (1 - BAND)) / (1 - BAND) / 2), 0.5, 4.0))
    return pd.DataFrame(rows, index=pd.PeriodIndex(months, freq="M"), columns=["low", "nowcast", "high", "scale"])


def regression(cards: Any, official: Any, months: Any) -> np.ndarray:
    """Baseline: least squares of the change on cards and the last change, refitted before each month on the months then known."""
    result = []
    for month in months:
        known = [m for m in cards.index if m < month and m in official.index and m - 1 in official.index]
        rows = np.array([[1.0, cards[m], official[m - 1]] for m in known]).reshape(-1, 3)
        now = np.array([1.0, cards[month], official.get(month - 1, 0.0)])
        line = np.linalg.lstsq(rows, official[known].to_numpy(float), rcond=None)[0] if len(known) > 3 else np.zeros(3)
        result.append(float(now @ line))
    return np.array(result)


def metrics(nowcast: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """RMSE in percent of monthly change, and the share of months whose direction is right."""
    return {
        "rmse": float(np.sqrt(np.mean((nowcast - truth) ** 2))),
        "sign_right": float(np.mean(np.sign(nowcast) == np.sign(truth))),
    }
