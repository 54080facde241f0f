"""Tracks drawn from a seed: closed curves with and without a crossing of their own, and all that a camera meets."""

import numpy as np

from relukit.gallery.line_follower._tracks import Camera, Floor, Light, Line, Robot, Track

Array = np.ndarray
TIGHTEST = 6.0  # 1/m: no curve is tighter than a radius of 17 cm


def draw(count: int, seed: int, crowded: bool = False) -> list[Track]:
    """`count` tracks of that seed, each with its own light, floor, camera and robot; `crowded`: more crossings and gaps."""
    return [_one(np.random.default_rng([seed, k]), f"seed {seed}, track {k}", crowded) for k in range(count)]


def _one(g: np.random.Generator, name: str, crowded: bool) -> Track:
    more = 3 if crowded else 1
    while True:
        points = _eight(g) if g.random() < 0.25 else _loop(g)
        line = Track(points).line()
        if np.abs(line.curvature).max() <= TIGHTEST and _apart(line):
            break
    if g.random() < 0.5:
        points = points[::-1].copy()
    width = g.uniform(0.017, 0.025)
    crossings = tuple(
        (float(s), g.uniform(55, 125), g.uniform(0.1, 0.4)) for s in g.uniform(0, line.length, g.integers(0, 4) * more)
    )
    gaps = []
    for s in g.uniform(0, line.length, g.integers(0, 5) * more):
        if all(abs(s - c[0]) > 0.25 for c in crossings):
            gaps.append((float(s), g.uniform(0.01, 0.06)))
    low, high = points.min(0), points.max(0)
    shadows = tuple(
        (*map(float, g.uniform(low, high)), g.uniform(0.1, 0.6), g.uniform(0.1, 0.45)) for _ in range(g.integers(0, 5))
    )
    floor = Floor(g.uniform(0.5, 0.85), g.uniform(0.04, 0.2), g.uniform(0, 0.07), float(g.choice([0.0, 0.0, g.uniform(0.2, 0.5)])), int(g.integers(2**31)))  # fmt: skip
    light = Light(
        g.uniform(0.65, 1.25), g.uniform(-0.25, 0.25), g.uniform(-0.25, 0.25), g.uniform(0, 0.3), g.uniform(0, 0.08),
        g.uniform(0, 0.03), shadows,
    )  # fmt: skip
    camera = Camera(g.uniform(0.09, 0.11), g.uniform(42, 48), g.uniform(70, 80), g.uniform(0, 0.8))
    robot = Robot(
        g.uniform(0.4, 0.6), g.uniform(0.05, 0.12), int(g.integers(0, 2)), g.uniform(-0.015, 0.015), g.uniform(-8, 8)
    )
    return Track(points, name, width, tuple(gaps), crossings, floor, light, camera, robot)


def _loop(g: np.random.Generator) -> Array:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    r = np.ones_like(t)
    for k in range(2, 6):
        r += g.normal() * 0.28 / k * np.cos(k * t + g.uniform(0, 2 * np.pi))
    size = g.uniform(0.5, 0.8)
    return size * np.column_stack([r * np.cos(t) * g.uniform(0.9, 1.4), r * np.sin(t)])


def _eight(g: np.random.Generator) -> Array:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    size, tilt = g.uniform(0.7, 1.0), g.uniform(0, 2 * np.pi)
    x = size * (np.sin(t) + 0.1 * g.normal() * np.cos(2 * t))
    y = size * (g.uniform(0.4, 0.6) * np.sin(2 * t + 0.2 * g.normal()) + 0.08 * g.normal() * np.cos(t))
    return np.column_stack([x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)])


def _apart(line: Line) -> bool:
    """Parts of the line that are far along it keep 18 cm from each other, unless they cross steeply."""
    xy, heading = line.xy[::4], line.heading[::4]
    n = len(xy)
    gap = np.abs(np.arange(n)[:, None] - np.arange(n))
    far = np.minimum(gap, n - gap) * line.length / n > 0.4
    near = far & (np.linalg.norm(xy[:, None] - xy[None], axis=2) < 0.18)
    return bool(np.all(np.abs(np.sin(heading[:, None] - heading[None]))[near] > 0.7))
