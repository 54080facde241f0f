"""What the page may ask for: settings checked field by field, so that nothing else reaches the engine."""

import math
from dataclasses import dataclass
from typing import Any

from relukit._errors import InvalidInput

ACTIVATIONS = ("relu", "leaky_relu", "prelu", "elu", "gelu", "tanh", "sigmoid")
DATA = ("spiral", "moons", "circles", "points", "digits", "max")
INITS = ("he", "xavier", "torch", "small")
EVENTS = ("lr", "revive", "construct")
MAX_WIDTH, MAX_DEPTH, MAX_STEP, MAX_POINTS, MAX_EVENTS = 64, 8, 20_000, 2_000, 200


@dataclass(frozen=True)
class Settings:
    """A training that can be run again from its first step: settings, seed, and what was done at which step."""

    data: str = "spiral"
    points: tuple[tuple[float, float, int], ...] = ()
    widths: tuple[int, ...] = (32, 32)
    activation: str = "relu"
    init: str = "he"
    lr: float = 0.01
    momentum: bool = True
    seed: int = 0
    events: tuple[tuple[int, str, float], ...] = ()


def number(value: Any, what: str, low: float, high: float) -> float:
    """A finite number in a range; booleans and text are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"{what} must be a number")
    if not low <= value <= high:
        raise InvalidInput(f"{what} must lie between {low:g} and {high:g}")
    return float(value)


def whole(value: Any, what: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"{what} must be a whole number")
    return int(number(value, what, low, high))


def items(value: Any, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise InvalidInput(f"{what} must be a list of at most {most} entries")
    return value


def point(value: Any, what: str = "point") -> tuple[float, float]:
    pair = items(value, what, 2)
    if len(pair) != 2:
        raise InvalidInput(f"{what} must hold two numbers")
    return number(pair[0], what, -100, 100), number(pair[1], what, -100, 100)


def _one_of(value: Any, what: str, names: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in names:
        raise InvalidInput(f"{what} must be one of {', '.join(names)}")
    return value


def _own_point(value: Any) -> tuple[float, float, int]:
    entry = items(value, "an own point", 3)
    if len(entry) != 3:
        raise InvalidInput("an own point holds x, y and a class")
    return *point(entry[:2], "an own point"), whole(entry[2], "class", 0, 1)


def _event(value: Any) -> tuple[int, str, float]:
    entry = items(value, "an event", 3)
    if len(entry) != 3:
        raise InvalidInput("an event holds step, kind and value")
    kind = _one_of(entry[1], "event", EVENTS)
    return whole(entry[0], "step of an event", 0, MAX_STEP), kind, number(entry[2], "value of an event", 0, 100)


def read_settings(raw: Any) -> Settings:
    """Settings from JSON.

    Raises:
        InvalidInput: A field is unknown, of another type or out of range.
    """
    if not isinstance(raw, dict):
        raise InvalidInput("settings must be an object")
    unknown = set(raw) - set(Settings.__dataclass_fields__)
    if unknown:
        raise InvalidInput("settings hold an unknown field")
    given = Settings()
    widths = items(raw.get("widths", list(given.widths)), "widths", MAX_DEPTH)
    if not widths:
        raise InvalidInput("a network needs at least one hidden layer")
    return Settings(
        data=_one_of(raw.get("data", given.data), "data", DATA),
        points=tuple(_own_point(p) for p in items(raw.get("points", []), "points", MAX_POINTS)),
        widths=tuple(whole(w, "width", 1, MAX_WIDTH) for w in widths),
        activation=_one_of(raw.get("activation", given.activation), "activation", ACTIVATIONS),
        init=_one_of(raw.get("init", given.init), "init", INITS),
        lr=number(raw.get("lr", given.lr), "learning rate", 0, 100),
        momentum=bool(raw.get("momentum", True)),
        seed=whole(raw.get("seed", 0), "seed", 0, 2**31 - 1),
        events=tuple(_event(e) for e in items(raw.get("events", []), "events", MAX_EVENTS)),
    )
