"""A cell type of one's own, and a protein knocked out."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from relukit._errors import InvalidInput
from relukit.gallery._life import Array
from relukit.gallery.protein_network import _model
from relukit.gallery.protein_network._graph import LABELS, Graph, read_graph, read_labels
from relukit.gallery.protein_network.study import fetch


def use(out: Path, knockout: str | None = None, expression: str | None = None, top: int = 20) -> list[dict[str, Any]]:
    """What changes when a protein's edges are cut, or when another expression table stands on the map.

    A network without label columns is trained on the study's own state (seconds) and read before and after; the
    proteins whose logit moves most are listed.

    Arguments:
        knockout: Name of a protein; all its interactions are removed.
        expression: A table of gene names and log fold changes, of another tissue or cell type.
        top: How many proteins to list.
    """
    if not knockout and not expression:
        raise InvalidInput("give --knockout PROTEIN or --expression TABLE (or both)")
    data = fetch()
    graph = read_graph(data)
    labels = read_labels(data / LABELS, graph.index())
    before = _model.signals(graph)
    network = [_model.fit(_placed(before, before), labels.rows, labels.drivers, seed) for seed in range(3)]
    changed = read_graph(data, Path(expression)) if expression else graph
    if knockout:
        if knockout not in changed.index():
            raise InvalidInput(
                f"'{knockout}' is not in the network of {len(changed.names)} proteins; use its HUGO symbol"
            )
        changed = without(changed, knockout)
    after = _model.predict(network, _placed(_model.signals(changed), before)).mean(0)
    first = _model.predict(network, _placed(before, before)).mean(0)
    move = after - first
    order = [i for i in np.argsort(-np.abs(move)) if graph.names[i] != knockout][: int(top)]
    near = set(graph.adjacency[graph.index()[knockout]].indices.tolist()) if knockout else set()
    return [
        {"protein": graph.names[i], "before": float(first[i]), "after": float(after[i]), "change": float(move[i]), "neighbor": i in near}
        for i in order
    ]  # fmt: skip


def without(graph: Graph, protein: str) -> Graph:
    """The same graph with all edges of one protein removed."""
    keep = np.ones(len(graph.names))
    keep[graph.index()[protein]] = 0
    A = sp.csr_matrix(sp.diags(keep) @ graph.adjacency @ sp.diags(keep))
    A.eliminate_zeros()
    return Graph(graph.names, A, graph.tables)


def _placed(X: Array, reference: Array) -> Array:
    """Columns of X as normal quantiles within the columns of `reference`: piecewise linear between its values."""
    scaled = _model.normal_scores(reference)
    columns = []
    for x, r, z in zip(X.T, reference.T, scaled.T):
        values, first = np.unique(r, return_index=True)
        columns.append(np.interp(x, values, z[first]))
    return np.column_stack(columns)


def to_csv(rows: list[dict[str, Any]]) -> str:
    lines = ["protein,before,after,change,neighbor"]
    lines += [f"{r['protein']},{r['before']:.4f},{r['after']:.4f},{r['change']:.4f},{int(r['neighbor'])}" for r in rows]
    return "\n".join(lines) + "\n"
