"""A cell type of one's own, a protein knocked out, and the pathways that the modules hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery._life import Array
from relukit.gallery.protein_network import _model
from relukit.gallery.protein_network._graph import LABELS, Graph, read_graph, read_labels
from relukit.gallery.protein_network._modules import highest
from relukit.gallery.protein_network._pathways import enriched
from relukit.gallery.protein_network._sets import gene_sets as sets_of
from relukit.gallery.protein_network.study import NAME, folder, load_scores


def use(
    out: Path,
    knockout: str | None = None,
    expression: str | None = None,
    gene_sets: str | None = None,
    gene_numbers: str | None = None,
    top: int = 20,
) -> list[dict[str, Any]]:
    """What changes when a protein's edges are cut, or when another expression table stands on the map; or named pathways.

    A network without label columns is trained on the study's own state (seconds) and read before and after; the
    proteins whose logit moves most are listed. With `gene_sets` the pathways of the strongest modules are, instead.

    Arguments:
        knockout: Name of a protein; all its interactions are removed.
        expression: A table of gene names and log fold changes, of another tissue or cell type.
        gene_sets: A GMT file, or `wikipathways`.
        gene_numbers: A table of NCBI Gene, where that file gives numbers (by default the one of `goatools`).
        top: How many proteins, or pathways of each module, to list.
    """
    if not isinstance(top, int) or top < 1:
        raise InvalidInput(f"--top must be a number of rows, at least 1; got {top}")
    if gene_sets is not None:
        if knockout or expression:
            raise InvalidInput("--gene-sets goes with neither --knockout nor --expression; ask one thing at a time")
        return pathways(out, str(gene_sets), gene_numbers, top)
    if not knockout and not expression:
        raise InvalidInput("give --knockout PROTEIN or --expression TABLE (or both), or --gene-sets FILE.gmt")
    data = folder()
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
    order = [i for i in np.argsort(-np.abs(move)) if graph.names[i] != knockout][:top]
    near = set(graph.adjacency[graph.index()[knockout]].indices.tolist()) if knockout else set()
    return [
        {"protein": graph.names[i], "before": float(first[i]), "after": float(after[i]), "change": float(move[i]), "neighbor": i in near}
        for i in order
    ]  # fmt: skip


def pathways(out: Path, source: str, numbers: str | None = None, top: int = 20) -> list[dict[str, Any]]:
    """The `top` named pathways of each saved module, the least likely by chance first."""
    modules, saved = out / "modules.json", load_scores(out)
    if not modules.exists():
        raise UnreadableFile(f"no modules at {out}; run `relukit gallery run {NAME}` first")
    names = saved["names"].astype(str)
    best = names[highest(saved["model"])]
    proteins = [m["proteins"] for m in json.loads(modules.read_text())]
    rows = enriched(proteins, sets_of(source, numbers), names, best)
    return [
        r for k in range(1, len(proteins) + 1) for r in [r for r in rows if r["module"] == k and r["overlap"]][:top]
    ]


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
    """Rows as CSV, as RFC 4180 has it; proteins of a pathway are joined by spaces."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0] if rows else ["protein", "before", "after", "change", "neighbor"])
    for row in rows:
        writer.writerow([_cell(v) for v in row.values()])
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, float):
        return f"{value:.3g}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
    return str(int(value)) if isinstance(value, bool) else str(value)
