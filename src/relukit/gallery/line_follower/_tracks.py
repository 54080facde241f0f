"""Tracks: what a file says of line, floor, light, camera and robot, and tracks drawn from a seed.

A file of tracks is JSON:

    {"format": "relukit line-follower tracks 1",
     "tracks": [{"name": "hall", "points": [[0, 0], [1.2, 0.1], [1.3, 0.9], [0.1, 0.8]],
                 "line_width": 0.02, "gaps": [[1.5, 0.05]], "crossings": [[2.2, 80, 0.3]],
                 "floor": {...}, "light": {...}, "camera": {...}, "robot": {...}}]}

`points` (meters, at least 4) are joined by a closed smooth curve, the middle of the line. A gap is [where it starts along
the curve, length]; a crossing is a straight line [where, angle to the curve in degrees, length]. Everything but `points`
has a default; the fields of the classes below, with their ranges, are the keys. x points right and y up, seen from above.
"""

import json
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile

Array = np.ndarray
FORMAT, SPACING = "relukit line-follower tracks 1", 0.005  # m between two samples of a center line
LARGEST = 12.0  # m: a floor is held as a picture of 4 mm cells


def _number(default: float, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Floor:
    """Share of light that floor and line give back, spread of the floor's patches, side of its tiles [m] (0: none)."""

    brightness: float = _number(0.7, 0, 1)
    line: float = _number(0.1, 0, 1)
    texture: float = _number(0.05, 0, 0.5)
    tiles: float = _number(0.0, 0, 10)
    seed: int = _number(0, 0, 2**31)


@dataclass(frozen=True)
class Light:
    """Brightness, its change across and down the picture, darker corners, flicker at 2 Hz, noise; shadows on the floor.

    A shadow is [x, y, radius, share of the light it takes].
    """

    brightness: float = _number(1.0, 0.05, 5)
    across: float = _number(0.0, -1, 1)
    down: float = _number(0.0, -1, 1)
    vignette: float = _number(0.1, 0, 1)
    flicker: float = _number(0.0, 0, 1)
    noise: float = _number(0.01, 0, 0.3)
    shadows: tuple[tuple[float, ...], ...] = field(default=(), metadata={"items": 4})


@dataclass(frozen=True)
class Camera:
    """Height [m], pitch below the horizon [degrees], horizontal field of view [degrees], blur [pixels], place before the axle [m]."""

    height: float = _number(0.1, 0.02, 1)
    pitch: float = _number(45.0, 5, 90)
    field_of_view: float = _number(75.0, 20, 140)
    blur: float = _number(0.4, 0, 1)
    ahead: float = _number(0.04, -0.2, 0.5)


@dataclass(frozen=True)
class Robot:
    """Speed [m/s], lag of the steering [s], frames between picture and command, and where it starts beside the line [m, degrees]."""

    speed: float = _number(0.5, 0.05, 3)
    lag: float = _number(0.08, 0, 1)
    latency: int = _number(1, 0, 5)
    start_offset: float = _number(0.0, -0.2, 0.2)
    start_heading: float = _number(0.0, -60, 60)


@dataclass(frozen=True)
class Track:
    """One exam: a closed center line and all that makes it hard to see."""

    points: Array
    name: str = ""
    line_width: float = _number(0.02, 0.005, 0.2)
    gaps: tuple[tuple[float, ...], ...] = field(default=(), metadata={"items": 2})
    crossings: tuple[tuple[float, ...], ...] = field(default=(), metadata={"items": 3})
    floor: Floor = Floor()
    light: Light = Light()
    camera: Camera = Camera()
    robot: Robot = Robot()

    def line(self) -> "Line":
        """The curve through the points, sampled every 5 mm."""
        from scipy.interpolate import CubicSpline

        closed = np.vstack([self.points, self.points[:1]])
        t = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
        spline = CubicSpline(t, closed, bc_type="periodic")
        fine = np.linspace(0, t[-1], 40 * len(t) + 400)
        along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(spline(fine), axis=0), axis=1))])
        count = max(16, round(along[-1] / SPACING))
        at = np.interp(np.arange(count) * along[-1] / count, along, fine)
        (dx, dy), (ddx, ddy) = spline(at, 1).T, spline(at, 2).T
        curvature = (dx * ddy - dy * ddx) / np.maximum((dx**2 + dy**2) ** 1.5, 1e-12)
        return Line(spline(at), np.arctan2(dy, dx), curvature, float(along[-1]))


@dataclass(frozen=True)
class Line:
    """Positions (n, 2), headings (n,) and curvatures (n,) of a center line at equal steps, and its length."""

    xy: Array
    heading: Array
    curvature: Array
    length: float


def read(path: str | Path) -> list[Track]:
    """Tracks of a file.

    Raises:
        UnreadableFile: It is not of the format; the message names the track, the key and what was expected there.
    """
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnreadableFile(
            f"{path} is not JSON ({error}); see the README of the study (`relukit/gallery/line_follower/README.md`) for the format"
        ) from None
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise UnreadableFile(f'{path}: expected an object with "format": "{FORMAT}" and "tracks"')
    rows = held.get("tracks")
    if not isinstance(rows, list) or not rows:
        raise UnreadableFile(f'{path}: "tracks" must be a list with at least one track')
    return [_track(row, f"{path}, track {k}", f"track {k}") for k, row in enumerate(rows)]


def write(path: str | Path, tracks: list[Track]) -> None:
    """The same, written."""
    from relukit._numerics import write_json

    write_json(Path(path), {"format": FORMAT, "tracks": [_plain(t) for t in tracks]})


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return np.round(value, 5).tolist()
    return [list(v) for v in value] if isinstance(value, tuple) else value


def _track(row: Any, where: str, name: str) -> Track:
    if not isinstance(row, dict) or "points" not in row:
        raise UnreadableFile(f'{where}: expected an object with "points", the corners of the closed curve in meters')
    points = _rows(row["points"], 2, f"{where}, points")
    if len(points) < 4:
        raise UnreadableFile(f"{where}: a closed curve needs at least 4 points, got {len(points)}")
    xy = np.array(points)
    if np.linalg.norm(xy[0] - xy[-1]) < 1e-9:
        xy = xy[:-1]  # the first point said again at the end
    if np.min(np.linalg.norm(xy - np.roll(xy, 1, axis=0), axis=1)) < 1e-6:
        raise UnreadableFile(f"{where}: two neighboring points are the same")
    if np.ptp(xy, axis=0).max() > LARGEST:
        raise UnreadableFile(
            f"{where}: the curve spans {np.ptp(xy, axis=0).max():.3g} m; meters are expected, at most {LARGEST:g}"
        )
    rest = {k: v for k, v in row.items() if k not in ("points", "name")}
    found = _filled(Track, rest, where, {"points": xy, "name": str(row.get("name", name))})
    if found.floor.line >= found.floor.brightness:
        raise UnreadableFile(
            f"{where}: the line ({found.floor.line:g}) must be darker than the floor ({found.floor.brightness:g})"
        )
    return found


def _filled(kind: Any, row: Any, where: str, known: dict[str, Any] | None = None) -> Any:
    """A dataclass from a JSON object; every key is known and every number in its range."""
    if not isinstance(row, dict):
        raise UnreadableFile(f"{where}: expected an object with keys {', '.join(f.name for f in fields(kind))}")
    table = {f.name: f for f in fields(kind)}
    values = dict(known or {})
    for key, value in row.items():
        if key not in table:
            raise UnreadableFile(f"{where}: unknown key '{key}'; known are {', '.join(table)}")
        spec, here = table[key].metadata, f"{where}, {key}"
        if "items" in spec:
            values[key] = tuple(_rows(value, spec["items"], here))
        elif "low" in spec:
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not spec["low"] <= value <= spec["high"]
            ):
                raise UnreadableFile(
                    f"{here}: expected a number from {spec['low']:g} to {spec['high']:g}, got {value!r}"
                )
            values[key] = int(value) if isinstance(table[key].default, int) else float(value)
        else:
            values[key] = _filled(type(table[key].default), value, here)
    return kind(**values)


def _rows(value: Any, items: int, where: str) -> list[tuple[float, ...]]:
    good = isinstance(value, list) and all(
        isinstance(r, list) and len(r) == items and all(isinstance(x, int | float) and np.isfinite(x) for x in r)
        for r in value
    )
    if not good:
        raise UnreadableFile(f"{where}: expected a list of rows of {items} numbers")
    return [tuple(float(x) for x in r) for r in value]
