"""Teach by DAgger, then drive tracks that were never seen: mean return, beside the expert that knows the track."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._numerics import write_json
from relukit.gallery._life import t_interval
from relukit.gallery.car_racing import _model
from relukit.gallery.car_racing._circuit import episode, make

NAME, EXAM, VALIDATION = "car-racing", 20, 900_000


def fetch() -> Path:
    """The environment makes its own tracks and pictures; the study reads no data."""
    return Path(tempfile.gettempdir())


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Teach `seeds` networks and keep the one that drives three tracks drawn for this best."""
    import relukit

    rounds = ((1, 2), (1, 2)) if quick else _model.ROUNDS
    total, done = seeds * len(rounds), [0]

    def advance() -> None:
        done[0] += 1
        if on_progress is not None:
            on_progress(done[0], total)

    returns, reached = [], []
    for seed in range(seeds):
        module, seen = _model.train(seed, rounds, advance)
        relukit.save(relukit.load(module, input_shape=_model.SHAPE), out / f"net{seed}.onnx")
        returns.append(seen)
        reached.append(float(np.mean(drive(load(out, seed), range(VALIDATION, VALIDATION + (1 if quick else 3))))))
    summary = {"returns_by_round": returns, "validation_return": reached, "chosen": int(np.argmax(reached))}
    write_json(out / "training.json", {"seeds": seeds, **summary})
    return summary


def load(out: Path, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    import relukit

    return _model.driving(relukit.load(out / f"net{seed}.onnx").on())


def drive(command: Callable[[np.ndarray], np.ndarray] | None, tracks: Sequence[int]) -> list[float]:
    """Returns on the tracks of those seeds."""
    env = make()
    return [episode(env, seed, command)[0] for seed in tracks]


def score(out: Path, files: Sequence[Path], seed: int = 1, count: int = EXAM, every: int = 0) -> dict[str, Any]:
    """Mean return over `count` new tracks.

    Arguments:
        seed: Tracks are those of the environment's seeds 10,000 `seed` and on.
        every: 1 drives all networks, not the chosen one alone.
    """
    if files:
        raise InvalidInput("car-racing draws its own tracks: --seed N, no files")
    if not isinstance(seed, int) or not 0 < seed < 90 or not isinstance(count, int) or not 0 < count <= 10_000:
        raise InvalidInput(
            f"--seed expects a whole number from 1 to 89 and --count one from 1 to 10000, got {seed!r} and {count!r}"
        )
    notes = json.loads((out / "training.json").read_text())
    tracks = range(10_000 * seed, 10_000 * seed + count)
    ours, expert = drive(load(out, notes["chosen"]), tracks), drive(None, tracks)
    answer = {"mean_return": float(np.mean(ours)), "interval": t_interval(ours), "lowest_return": float(np.min(ours))}
    if every:
        answer["each_network"] = t_interval(
            [float(np.mean(drive(load(out, k), tracks))) for k in range(notes["seeds"])]
        )
    return {
        "study": NAME, "metrics": answer,
        "baselines": {"expert_that_knows_the_track": {"mean_return": float(np.mean(expert))}}, "rows": count,
    }  # fmt: skip
