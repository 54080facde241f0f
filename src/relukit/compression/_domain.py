"""The domain of a compression: its points, its bounds, and what a network shows without either."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array, IntArray
from relukit.bounds import Bounds, linear
from relukit.compression._witness import drawn_in, products
from relukit.network import Network
from relukit.sets import AbstractSet, Box

_SAMPLES = 2_000  # witnesses: a unit seen on both sides of its kink needs no bound
# multiplications that all of them may take (a few seconds), and how many there are at least
_PRODUCTS, _LEAST = 5e9, 50
_BOXES = 64  # boxes around rows of data bounded at once


def bounded(network: Network, domain: AbstractSet, cover: Box | None) -> Bounds:
    """Linear bounds; over boxes around rows of data the union of theirs."""
    if cover is None:
        return linear(network, domain)
    lower: list[Array] = []
    upper: list[Array] = []
    for start in range(0, len(cover.lower), _BOXES):
        part = linear(network, Box(cover.lower[start : start + _BOXES], cover.upper[start : start + _BOXES]))
        low, high = [v.min(axis=0) for v in part.lower], [v.max(axis=0) for v in part.upper]
        lower = low if not lower else [np.minimum(a, b) for a, b in zip(lower, low)]
        upper = high if not upper else [np.maximum(a, b) for a, b in zip(upper, high)]
    return Bounds(network, tuple(lower), tuple(upper))


def cover_of(network: Network, data: Any, margin: float) -> Box:
    """Boxes around rows, as a batch."""
    rows = network.rows(data)[0]
    if not len(rows) or not np.isfinite(rows).all():
        raise InvalidInput("data needs at least one row of finite numbers")
    return Box(rows - margin, rows + margin)


def hull(cover: Box) -> Box:
    return Box(cover.lower.min(axis=0), cover.upper.max(axis=0))


def points_of(network: Network, domain: AbstractSet, cover: Box | None, seed: int) -> tuple[Array, IntArray]:
    """Points of the domain, and which of its boxes each is in; near rows of data, the rows and others beside them."""
    count = int(np.clip(_PRODUCTS / max(products(network), 1), _LEAST, _SAMPLES))
    if cover is None:
        points = domain.sample(count, seed)
        if not isinstance(domain, Box):
            points = drawn_in(domain, points)
            inside = domain.contains(points)
            points = points[inside] if inside.any() else points  # a flat polytope holds no point of floating point
        return points, np.zeros(len(points), np.int64)
    g = np.random.default_rng(seed)
    home = np.r_[np.arange(len(cover.lower)), g.integers(len(cover.lower), size=count)]
    share = g.choice([0.0, 0.5, 1.0], (len(home), cover.size))
    share[: len(cover.lower)] = 0.5
    return np.clip(cover.lower[home] + share * (cover.upper - cover.lower)[home], cover.lower[home], cover.upper[home]), home  # fmt: skip


def moving_inputs(input_set: AbstractSet) -> np.ndarray:
    box = input_set.box()
    return box.lower < box.upper
