"""Which proteins drive bladder cancer: the interaction map, three tables on it, and known drivers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import atomic_path, write_json
from relukit.gallery._life import Array, bootstrap_difference, data_folder, t_interval
from relukit.gallery.protein_network import _model, _relations, _sets
from relukit.gallery.protein_network._families import Families
from relukit.gallery.protein_network._graph import (
    EDGES,
    LABELS,
    TABLES,
    Graph,
    Labels,
    measured,
    read_graph,
    read_labels,
    read_tables,
)
from relukit.gallery.protein_network._modules import active_modules, highest
from relukit.gallery.protein_network._pathways import Pathways, enriched

NAME = "protein-network"
_WEIGHTS = [0.5, 1.0, 1.5]  # of the network, boosting and the kernel machine
_WITH_PATHWAYS, _SHARED = [0.5, 1.0, 1.0], 0.7  # the same, and what shared pathways weigh among likenesses


def fetch() -> Path:
    """Folder with the network, its tables and the labels; named pathways come into the user's cache where pip can bring them."""
    found = folder()
    if not any(found.glob("*.gmt*")):
        _sets.download()
    return found


def folder() -> Path:
    """The same folder, nothing fetched."""
    return data_folder("ppi_network", EDGES, LABELS, *TABLES.values())


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score every protein with and without neighbors' labels; five folds say how well; modules say where."""
    from sklearn.model_selection import StratifiedKFold

    graph = read_graph(data)
    labels = read_labels(data / LABELS, graph.index())
    sets = _sets.sets_for(data)
    drivers, known = labels.drivers, Known.read(graph, labels, data, sets)
    epochs, folds = (3, 2) if quick else (_model.EPOCHS, 5)
    held: dict[str, Array] = {}
    for k, (rest, there) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=0).split(labels.rows, drivers)):
        scores = _all_scores(known, rest, range(2), epochs)
        for name, values in scores.items():
            if not name.startswith("each"):
                held.setdefault(name, np.zeros(len(drivers)))[there] = values[labels.rows[there]]
        if on_progress is not None:
            on_progress(k + 1, folds + 2)
    scores = _all_scores(known, np.arange(len(drivers)), range(seeds), epochs)
    if on_progress is not None:
        on_progress(folds + 1, folds + 2)
    with atomic_path(out / "scores.npz") as path:
        np.savez(path, names=np.array(graph.names), trained=labels.rows, **scores)
    modules = active_modules(graph, scores["model"], repeats=5 if quick else 99)
    if sets is not None:
        _name_pathways(modules, sets, graph, scores["model"])
    write_json(out / "modules.json", modules)
    summary = {
        "folds": {name: _metrics(values, drivers) for name, values in held.items()},
        "labeled_proteins": len(drivers), "labels_not_in_the_network": len(labels.outside),
        "pathways": None if known.pathways is None else known.pathways.count, "modules": [_brief(m) for m in modules],
    }  # fmt: skip
    write_json(out / "training.json", summary)
    return summary


def _name_pathways(
    modules: list[dict[str, Any]], sets: dict[str, frozenset[str]], graph: Graph, scores: Array, top: int = 5
) -> None:
    """Add each module's first pathways."""
    rows = enriched([m["proteins"] for m in modules], sets, graph.names, [graph.names[i] for i in highest(scores)])
    for k, module in enumerate(modules, 1):
        module["pathways"] = [r for r in rows if r["module"] == k][:top]


def _brief(module: dict[str, Any]) -> dict[str, Any]:
    """A module in a line; all of it stands in `modules.json`."""
    first = module.get("pathways", [])[:1]
    return {
        "proteins": len(module["proteins"]), "best": module["proteins"][:8], "edges": module["edges"], "p": module["p"],
        **({"pathway": first[0]["pathway"], "q": first[0]["q"]} if first else {}),
    }  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What every fold starts from. Genes are the network's proteins, then the labeled genes outside it, which always train.

    Arguments:
        place: (genes, columns) for boosting; `plain` are its columns for networks, before scaling.
        lines: Rows of the labeled genes, in the order of `drivers` and of the columns of `similarity`.
        pathways: Named pathways, where there are any; `shared` is their likeness, with the columns of `similarity`.
    """

    graph: Graph
    walks: _model.Walks
    families: Families
    plain: Array
    place: Array
    similarity: Array
    lines: Array
    drivers: Array
    pathways: Pathways | None
    shared: Array | None

    @staticmethod
    def read(graph: Graph, labels: Labels, data: Path, sets: dict[str, frozenset[str]] | None = None) -> "Known":
        names = graph.names + labels.outside
        tables, families = read_tables(data, names), Families(names)
        outside = measured({k: v[len(graph.names) :] for k, v in tables.items()})
        plain, place = (_model.beyond(c, outside) for c in _model.unlabeled(graph))
        lines = np.concatenate([labels.rows, len(graph.names) + np.arange(len(labels.outside))])
        inside = slice(len(graph.names))
        state, where = _model.normal_scores(plain[inside]), place[inside, plain.shape[1] :]
        similarity = _relations.alike(graph, state, where, families, tables, lines)
        drivers = np.concatenate([labels.drivers, labels.outside_drivers])
        pathways = Pathways(names, sets) if sets else None
        pathways = pathways if pathways is not None and pathways.count else None
        shared = None if pathways is None else pathways.kernel(lines)
        return Known(graph, _model.Walks(graph), families, plain, place, similarity, lines, drivers, pathways, shared)


def _all_scores(known: Known, rest: Array, seeds: Sequence[int], epochs: int) -> dict[str, Array]:
    """The study's scores and the baselines' of all proteins, from the labels `rest` of the network and all outside it."""
    size = len(known.graph.names)
    chosen = np.concatenate([rest, np.flatnonzero(known.lines >= size)])
    lines, drivers = known.lines[chosen], known.drivers[chosen]
    rows, own = known.lines[rest], known.drivers[rest]
    labels = known.walks.honest(rows, own)
    heard = np.vstack([labels, np.full((len(known.plain) - size, labels.shape[1]), np.nan)])
    relatives = known.families.columns(lines, drivers)
    similarity, told, place = known.similarity[:, chosen], np.column_stack([heard, relatives]), known.place
    plain = _model.normal_scores(known.plain)
    networks = lambda X: _model.predict([_model.fit(X, lines, drivers, s, epochs) for s in seeds], X)[:, :size]
    trees = lambda *columns: _model.boosting(np.column_stack(columns), lines, drivers)[:size]
    machine = lambda likeness: _relations.machine(likeness, lines, drivers)[:size]
    join = lambda parts, weights: _model.together(np.stack(parts), np.array(weights), rows)
    inside, near = known.place[:size], np.column_stack([known.place[:size], labels])
    answer = {
        "boosting": _model.boosting(near, rows, own), "boosting_without_labels": _model.boosting(inside, rows, own),
        "random_walk": labels[:, 3], "logistic": _logistic(plain[:size], rows, own),
    }  # fmt: skip
    weights = _WEIGHTS
    if known.pathways is not None and known.shared is not None:
        answer["without_pathways"] = join([trees(place, told), machine(similarity)], _WEIGHTS[1:])
        shared, weights = known.shared[:, chosen], _WITH_PATHWAYS
        similarity = similarity + np.float32(_SHARED) * shared
        told = np.column_stack([told, known.pathways.columns(shared, lines, drivers)])
        place = np.column_stack([place, known.pathways.place()])
    full = np.column_stack([plain, _model.normal_scores(told)])
    each, quiet, kernel = networks(full), networks(plain).mean(0), machine(similarity)
    return answer | {
        "model": join([each.mean(0), trees(place, told), kernel], weights),
        "without_labels": join([quiet, trees(place)], [1.0, 2.0]), "kernel": kernel, "network": each.mean(0),
        "network_without_labels": quiet, "each": each,
    }  # fmt: skip


def _logistic(X: Array, rows: Array, drivers: Array) -> Array:
    """Logistic regression on the states smoothed over neighbors."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, max_iter=500).fit(X[rows], drivers).decision_function(X)


def _metrics(values: Array, drivers: Array) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {"auprc": float(average_precision_score(drivers, values)), "auroc": float(roc_auc_score(drivers, values))}


def load_scores(out: Path) -> dict[str, Array]:
    path = out / "scores.npz"
    if not path.exists():
        raise UnreadableFile(f"no trained study at {out}; run `relukit gallery run {NAME}` first")
    with np.load(path) as arrays:
        return {k: arrays[k] for k in arrays.files}


def score(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """AUPRC and AUROC on label files (columns gene, driver); genes outside the network are counted and left out."""
    from sklearn.metrics import average_precision_score

    if not files:
        raise UnreadableFile("give labels to score: --data LABELS.csv with the columns gene and driver")
    saved = load_scores(out)
    index = {str(n): i for i, n in enumerate(saved["names"])}
    parts = [read_labels(Path(f), index) for f in files]
    rows, drivers = np.concatenate([p.rows for p in parts]), np.concatenate([p.drivers for p in parts])
    if not len(rows):
        some = ", ".join(parts[0].outside[:3])
        raise UnreadableFile(
            f"none of the genes is in the network ({some}, ...); it names proteins by HUGO symbols, as TP53"
        )
    if len(set(drivers.tolist())) < 2:
        raise UnreadableFile(
            f"the label files name {len(rows)} proteins of the network, all of one kind; both are needed"
        )
    names = ("random_walk", "logistic", "boosting", "boosting_without_labels", "kernel")
    precision = lambda key, at: float(average_precision_score(drivers[at], saved[key][rows[at]]))
    gap = bootstrap_difference(lambda at: (precision("model", at), precision("boosting", at)), len(rows), 200)
    metrics: dict[str, Any] = _metrics(saved["model"][rows], drivers)
    for name in ("without_labels", "without_pathways", "network", "network_without_labels"):
        if name in saved:
            metrics[name] = _metrics(saved[name][rows], drivers)
    metrics["single_network_auprc"] = t_interval([average_precision_score(drivers, e[rows]) for e in saved["each"]])
    return {
        "study": NAME, "metrics": metrics, "baselines": {n: _metrics(saved[n][rows], drivers) for n in names},
        "paired_bootstrap": {"boosting": gap}, "rows": len(rows), "genes_not_in_the_network": sum(len(p.outside) for p in parts),
        "rows_seen_in_training": int(np.isin(rows, saved["trained"]).sum()),
    }  # fmt: skip
