"""Rows in, warnings out: from a file that grows or from standard input, with the reason in the features' own units."""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery._tables import opened
from relukit.gallery.maintenance import _engines, _files, _mill, _process
from relukit.gallery.maintenance.study import load_engines, load_process

Warn = Callable[[str], dict[str, Any] | None]


def use(out: Path, source: str | Path = "-", follow: float = 0) -> None:
    """Print one JSON line for each warning.

    Arguments:
        source: A file of one of the three formats, or `-` for standard input.
        follow: Wait that many seconds for further rows of a file that grows; 0 stops at its end.
    """
    for warning in warnings(out, source, float(follow)):
        print(json.dumps(warning), flush=True)


def warnings(out: Path, source: str | Path = "-", follow: float = 0) -> Iterator[dict[str, Any]]:
    """The same as a generator."""
    if str(source) != "-" and not Path(source).exists():
        raise UnreadableFile(f"{source} does not exist")
    stream = sys.stdin if str(source) == "-" else opened(Path(source))
    try:
        lines = _lines(stream, follow)
        first = next(lines, None)
        if first is None:
            raise InvalidInput("no row arrived")
        kind = _files.kind_of(first)
        makers = {"engines": _engine_rows, "process": _process_rows, "mill": _mill_rows}
        if kind not in makers:
            raise InvalidInput("rows of this format are not streamed; give a C-MAPSS table, AI4I rows or mill rows")
        said = makers[kind](out, first)
        rows = lines if kind != "engines" else _with(first, lines)
        for number, line in enumerate(rows, 1):
            try:
                warning = said(line)
            except ValueError as error:  # a row may say nothing of a machine; the rows after it still do
                raise InvalidInput(f"row {number} is not readable: {error}") from None
            if warning is not None:
                yield {"row": number, **warning}
    finally:
        if stream is not sys.stdin:
            stream.close()


def _with(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _lines(stream: TextIO, follow: float) -> Iterator[str]:
    """Whole lines; half a line waits for its other half."""
    kept, quiet = "", 0.0
    while True:
        part = stream.readline()
        if part:
            kept, quiet = kept + part, 0.0
            if kept.endswith("\n"):
                if kept.strip():
                    yield kept
                kept = ""
        elif quiet >= follow:
            if kept.strip():
                yield kept
            return
        else:
            time.sleep(0.05)
            quiet += 0.05


def _cells(header: list[str], line: str) -> dict[str, str]:
    cells = line.strip().split(",")
    if len(cells) != len(header):
        raise InvalidInput(f"a row has {len(cells)} cells where the header has {len(header)}: '{line.strip()[:60]}'")
    return dict(zip(header, cells))


def _process_rows(out: Path, head: str) -> Warn:
    import pandas as pd

    header, (net, rules, D, _, read) = head.strip().split(","), load_process(out)
    missing = [c for c in _process.COLUMNS if c not in header]
    if missing:
        raise InvalidInput(f"the rows lack {', '.join(missing)}")

    def said(line: str) -> dict[str, Any] | None:
        X = _process.features(pd.DataFrame([_cells(header, line)]))
        if net(X)[0, 0] <= 0:
            return None
        fired = _process.fired(rules, X[0], D)
        reason = [
            f"{s['feature']} {X[0, _process.FEATURES.index(s['feature'])]:.5g} {s['side']} {s['threshold']:.5g}"
            for s in read if s["rule"] in fired and s["threshold"] is not None and X[0, _process.FEATURES.index(s["feature"])] != 0
        ]  # fmt: skip
        return {"warning": "failure expected under these conditions", "reason": reason}

    return said


def _engine_rows(out: Path, _: str) -> Warn:
    networks, notes = load_engines(out)
    states: dict[int, _engines.Engine] = {}
    low: dict[int, int] = {}
    starts: dict[int, np.ndarray] = {}

    def said(line: str) -> dict[str, Any] | None:
        values = np.array([float(w) for w in line.split()])
        if values.shape != (26,):
            raise InvalidInput(f"a C-MAPSS row has 26 numbers, this one {values.size}: '{line.strip()[:60]}'")
        _engines.known_conditions(values[None], "the stream")
        engine = int(values[0])
        x = (values[[4 + s for s in _engines.SENSORS]] - notes["center"]) / notes["spread"]
        features = states.setdefault(engine, _engines.Engine()).push(x)
        if states[engine].count < _engines.START:
            return None
        starts.setdefault(engine, states[engine].first)
        left = float(np.mean([np.clip(n(features[None])[0, 0], 0, _engines.CAP) for n in networks]))
        low[engine] = low.get(engine, 0) + 1 if left < _engines.WARN else 0
        if low[engine] != 3:  # three rows in a row, told once
            return None
        ends = notes["quantiles"][np.digitize(left, _engines.BANDS) - 1]
        moved = states[engine].middle - starts[engine]
        strongest = np.argsort(-np.abs(moved))[:3]
        return {
            "engine": engine, "cycle": int(values[1]), "warning": f"about {left:.0f} cycles left",
            "interval_90": [max(0.0, round(left + ends[0], 1)), round(left + ends[1], 1)],
            "reason": [
                f"{_engines.NAMES[_engines.SENSORS[k]]} moved by {moved[k] * notes['spread'][k]:+.4g} since the engine's first cycles"
                for k in strongest
            ],
        }  # fmt: skip

    return said


def _mill_rows(out: Path, head: str) -> Warn:
    import relukit

    notes = json.loads((out / "mill.json").read_text())
    header, net = head.strip().split(","), relukit.load(out / "mill.npz")
    missing = [c for c in notes["columns"] if c not in header]
    if missing:
        raise InvalidInput(f"the rows lack {', '.join(missing)}")
    recent: deque[list[float]] = deque(maxlen=_mill.WINDOW)
    seen: deque[tuple[float, np.ndarray]] = deque(maxlen=_mill.MEMORY)
    state: dict[str, Any] = {"since": 0, "experiment": None, "told": False, "windows": 0}
    names = _mill.names(notes["columns"])

    def said(line: str) -> dict[str, Any] | None:
        cells = _cells(header, line)
        if cells.get("experiment") != state["experiment"]:
            recent.clear()
            seen.clear()
            state.update(experiment=cells.get("experiment"), since=0, told=False, windows=0)
        recent.append([float(cells[c]) for c in notes["columns"]])
        state["since"] += 1
        if len(recent) < _mill.WINDOW or state["since"] < _mill.STEP:
            return None
        state.update(since=0, windows=state["windows"] + 1)
        x = _mill.window_features(np.array(recent))
        seen.append((float(net(x[None])[0, 0]), x))
        vote = float(np.mean([v for v, _ in seen]))
        if len(seen) < _mill.PATIENCE or vote <= 0 or state["told"]:
            state["told"] = state["told"] and vote > 0
            return None
        state["told"] = True  # once, until the votes fall again
        usual = np.mean([x for _, x in seen], 0)
        # what a feature adds is its vote alone: the network is a sum over features
        alone = np.array([_alone(net, usual, j) if notes["vote"][j] else 0.0 for j in range(len(usual))])
        found = {"experiment": cells["experiment"]} if "experiment" in cells else {}
        return found | {
            "warning": "the tool seems worn", "vote": round(vote, 3), "seconds": (_mill.WINDOW + _mill.STEP * (state["windows"] - 1)) / _mill.RATE,
            "reason": [f"{names[j]} is {usual[j]:.4g} on average" for j in np.argsort(-np.abs(alone))[:3] if alone[j]],
        }  # fmt: skip

    return said


def _alone(net: Any, x: np.ndarray, j: int) -> float:
    other = x.copy()
    other[j] = 0.0
    return float(net(x[None])[0, 0] - net(other[None])[0, 0])
