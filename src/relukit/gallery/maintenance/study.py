"""Three machines, one face: each file is recognized by its format and goes to the model of that machine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._numerics import atomic_path, write_json
from relukit.gallery._life import data_folder
from relukit.gallery.maintenance import _compressor, _engines, _files, _mill, _process

NAME, EPOCHS = "maintenance", 10


def fetch() -> Path:
    """Folder with C-MAPSS FD001, AI4I 2020 and the mill's experiments."""
    return data_folder("predictive_maintenance", _files.CMAPSS, _files.AI4I, _files.MILL)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train the three models and say what each reached on engines, rows and experiments kept from it."""
    total, done = seeds + _engines.FOLDS + 2, [0]

    def advance() -> None:
        done[0] += 1
        if on_progress is not None:
            on_progress(done[0], total)

    summary = {"engines": _train_engines(data, out, seeds, 2 if quick else EPOCHS, advance)}
    summary["process"] = _train_process(data, out, quick)
    advance()
    summary["mill"] = _train_mill(data, out, quick)
    advance()
    write_json(out / "training.json", summary)
    return summary


def _train_engines(data: Path, out: Path, seeds: int, epochs: int, advance: Callable[[], None]) -> dict[str, Any]:
    import relukit

    table = _files.numbers(data / _files.CMAPSS)
    networks, seen = _engines.train(table, seeds, epochs, advance)
    for k, net in enumerate(networks):
        relukit.save(net, out / f"engine{k}.npz")
    center, spread = _engines.scale(table)
    _arrays(out / "engines.npz", center=center, spread=spread, networks=np.array(len(networks)), **seen)
    near = seen["left"] < _engines.CAP
    gap = seen["unseen"] - seen["left"]
    lead = _engines.lead_times(seen["left"], seen["unseen"], seen["engine"])
    return {
        "rmse_engines_held_in_turn": float(np.sqrt(np.mean(gap**2))),
        "rmse_below_cap": float(np.sqrt(np.mean(gap[near] ** 2))),
        "lead_cycles_median": float(np.median(lead)), "lead_cycles_least": float(lead.min()),
        "engines_warned": int((lead > 0).sum()), "engines": len(lead),
    }  # fmt: skip


def _train_process(data: Path, out: Path, quick: bool) -> dict[str, Any]:
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold

    import relukit

    table = _process.read(data / _files.AI4I)
    X, y = _process.features(table), table[_process.TARGET].to_numpy(int)
    D = _process.directions(X, y)
    rules = _process.learn(X @ D.T, y)
    net = _process.network(rules, X, D)
    relukit.save(net, out / "process.npz")
    read = _process.thresholds(net, rules, X, D)
    write_json(out / "process.json", {
        "rules": [{str(j): t for j, t in r.items()} for r in rules], "directions": D.tolist(),
        "spread": ((X @ D.T).std(0) + 1e-12).tolist(), "read_off": read,
    })  # fmt: skip
    said = np.zeros(len(y), bool)
    folds = StratifiedKFold(2 if quick else 5, shuffle=True, random_state=0)
    for a, b in folds.split(X, y):
        E = _process.directions(X[a], y[a])
        said[b] = _process.network(_process.learn(X[a] @ E.T, y[a]), X[a], E)(X[b])[:, 0] > 0
    lead = _process.lead_times(net, table, table)
    return {"f1_rows_held_in_turn": float(f1_score(y, said)), "rules": read, "lead": lead}


def _train_mill(data: Path, out: Path, quick: bool) -> dict[str, Any]:
    import relukit

    table = _mill.read(data / _files.MILL)
    experiments = _mill.windows(table, columns := _mill.signals(table))
    net, vote = _mill.fit(experiments)
    relukit.save(net, out / "mill.npz")
    write_json(out / "mill.json", {"columns": columns, "vote": vote.tolist()})
    worn = {k: p["worn"] for k, p in experiments.items()}
    alone = _mill.left_out(experiments)
    scores = _mill.remembered(alone)
    reached = _mill.auroc(scores, worn)
    luck = _mill.relabelling_share(experiments, reached, 3 if quick else 60)
    return {
        "auroc_experiments_held_in_turn": reached,
        "auroc_windows_alone": _mill.auroc(alone, worn),
        "shuffled_labels": luck,
        "experiments": len(experiments),
        "lead": _mill.lead_times(scores, worn),
    }


def _arrays(path: Path, **values: Any) -> None:
    with atomic_path(path) as temporary, Path(temporary).open("wb") as f:
        np.savez(f, **values)


def load_process(out: Path) -> tuple[Any, list[dict[int, float]], np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Network, rules, directions, their spread in training, and the thresholds read off."""
    import json

    import relukit

    notes = json.loads((out / "process.json").read_text())
    rules = [{int(j): t for j, t in r.items()} for r in notes["rules"]]
    if "directions" not in notes:
        raise UnreadableFile(f"{out} was trained by an older version; run `relukit gallery run {NAME}` again")
    return relukit.load(out / "process.npz"), rules, np.array(notes["directions"]), np.array(notes["spread"]), notes["read_off"]  # fmt: skip


def load_engines(out: Path) -> tuple[list[Any], dict[str, np.ndarray]]:
    import relukit

    with np.load(out / "engines.npz") as stored:
        notes = dict(stored)
    return [relukit.load(out / f"engine{k}.npz") for k in range(int(notes["networks"]))], notes


def score(out: Path, files: Sequence[Path], download: str | None = None) -> dict[str, Any]:
    """Metrics on files of one format (a C-MAPSS table comes with its RUL list); baselines are fitted and run anew.

    Arguments:
        download: A folder into which MetroPT-3 (218 MB) is fetched first, to be scored with what else is given.
    """
    import pandas as pd

    import relukit

    if download is not None:
        files = [*files, _compressor.download(Path(download))]
    if not files:
        raise InvalidInput("give files: --data test_FD001.txt RUL_FD001.txt, or AI4I, mill or MetroPT-3 rows")
    by_kind: dict[str, list[Path]] = {}
    for file in files:
        by_kind.setdefault(_files.read_kind(Path(file)), []).append(Path(file))
    data = fetch()
    if "engines" in by_kind or "remaining" in by_kind:
        if {k: len(v) for k, v in by_kind.items()} != {"engines": 1, "remaining": 1}:
            raise InvalidInput("C-MAPSS is scored on one table and its RUL list: --data test_FD001.txt RUL_FD001.txt")
        table, left = _files.numbers(by_kind["engines"][0]), _files.numbers(by_kind["remaining"][0])[:, 0]
        networks, notes = load_engines(out)
        training = _files.numbers(data / _files.CMAPSS)
        _engines.known_conditions(table, by_kind["engines"][0])
        metrics, baselines = _engines.score(networks, notes["quantiles"], training, table, left)
        return {"study": NAME, "metrics": metrics, "baselines": baselines, "rows": len(left)}
    if len(by_kind) > 1:
        raise InvalidInput(f"one format a call; these files are {' and '.join(by_kind)}")
    if "compressor" in by_kind:
        if len(by_kind["compressor"]) > 1:
            raise InvalidInput("MetroPT-3 is one file; give it alone")
        metrics, baselines, rows = _compressor.score(by_kind["compressor"][0])
        return {"study": NAME, "metrics": metrics, "baselines": baselines, "rows": rows}
    if "process" in by_kind:
        needed = [*_process.COLUMNS, _process.TARGET]
        parts, training = [_process.read(f) for f in by_kind["process"]], _process.read(data / _files.AI4I)
        table = pd.concat(parts, ignore_index=True)
        net, rules, D, spread, read = load_process(out)
        metrics, baselines = _process.score(net, rules, D, spread, training, table)
        seen = len(pd.merge(table[needed], training[needed].drop_duplicates()))
        return {"study": NAME, "metrics": metrics, "baselines": baselines, "rows": len(table), "rows_left_out": sum(t.attrs["left_out"] for t in parts),
                "rows_seen_in_training": seen, "rules": read}  # fmt: skip
    reference = _mill.read(data / _files.MILL)
    signals = _mill.signals(reference)
    parts = [_mill.read(f, signals) for f in by_kind["mill"]]
    experiments: dict[int, dict[str, Any]] = {}
    for part in parts:  # two files may each number their own from 1
        found = _mill.windows(part, signals)
        shift = max(experiments, default=0) if experiments.keys() & found.keys() else 0
        experiments |= {k + shift: p for k, p in found.items()}
    if not experiments:
        raise InvalidInput(f"no experiment of these files has {_mill.WINDOW} rows, one window of 5 seconds")
    training = _mill.windows(reference, signals)
    metrics, baselines = _mill.score(relukit.load(out / "mill.npz"), experiments, training)
    rows = sum(len(p["features"]) for p in experiments.values())
    return {"study": NAME, "metrics": metrics, "baselines": baselines, "rows": rows, "experiments": len(experiments),
            "rows_left_out": sum(t.attrs["left_out"] for t in parts)}  # fmt: skip
