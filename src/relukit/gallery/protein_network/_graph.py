"""The interaction map and what is measured on it, as sparse matrices and columns."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from relukit._errors import UnreadableFile
from relukit.gallery._life import Array
from relukit.gallery._tables import read_csv

EDGES, LABELS = "PPNet_edges.txt.gz", "labels_dev.csv"
TABLES = {
    "expression": "GE_BLCA_expression_matrix.tsv.gz",
    "methylation": "METH_BLCA_methylation_RATIO_mean.tsv.gz",
    "mutation": "MF_BLCA_mutation_matrix.tsv.gz",
}
EMBEDDING = 96


@dataclass(frozen=True)
class Graph:
    """Proteins by name, symmetric adjacency without loops, and one column per table (NaN: not measured)."""

    names: list[str]
    adjacency: sp.csr_matrix
    tables: dict[str, Array]

    @property
    def degree(self) -> Array:
        return np.asarray(self.adjacency.sum(1)).ravel()

    def index(self) -> dict[str, int]:
        return {n: i for i, n in enumerate(self.names)}

    def normalized(self) -> sp.csr_matrix:
        """D^-1/2 A D^-1/2."""
        half = sp.diags(1 / np.sqrt(np.maximum(self.degree, 1)))
        return sp.csr_matrix(half @ self.adjacency @ half)


def read_table(path: Path, names: list[str]) -> Array:
    """The first column of numbers of a table whose first column names genes, in the order of `names`."""
    import pandas as pd

    try:
        column = pd.read_csv(path, sep=None, engine="python", index_col=0).select_dtypes("number").iloc[:, 0]
    except (OSError, ValueError, IndexError) as error:
        raise UnreadableFile(f"{path}: needs gene names and a column of numbers ({error})") from error
    column = column[~column.index.duplicated()]
    found = column.reindex(names).to_numpy(float)
    if np.isnan(found).all():
        raise UnreadableFile(f"{path}: none of its genes is in the network; are they HUGO symbols?")
    return found


def read_graph(data: Path, expression: Path | None = None) -> Graph:
    """The network with its tables; `expression` replaces the expression table by another (another cell type)."""
    import pandas as pd

    edges = pd.read_csv(data / EDGES, sep="\t", header=None, keep_default_na=False)
    names = sorted(set(edges[0]) | set(edges[1]))
    place = {n: i for i, n in enumerate(names)}
    rows, columns = edges[0].map(place).to_numpy(), edges[1].map(place).to_numpy()
    A = sp.coo_matrix((np.ones(len(rows)), (rows, columns)), (len(names),) * 2).tocsr()
    A = ((A + A.T) > 0).astype(float).tolil()
    A.setdiag(0)
    A = A.tocsr()
    A.eliminate_zeros()
    return Graph(names, A, read_tables(data, names, expression))


def read_tables(data: Path, names: list[str], expression: Path | None = None) -> dict[str, Array]:
    """Expression, methylation and mutation of those genes (NaN: not measured)."""
    return {
        k: read_table(expression if expression and k == "expression" else data / f, names) for k, f in TABLES.items()
    }


@dataclass(frozen=True)
class Labels:
    """Proteins of the network by row, driver (1) or not (0), and labeled genes that are not in the network."""

    rows: Array
    drivers: Array
    outside: list[str]
    outside_drivers: Array


def read_labels(path: Path, names: dict[str, int]) -> Labels:
    """Labels of a table with the columns gene and driver."""
    frame = read_csv(path, ["gene", "driver"], keep_default_na=False)
    text = frame["driver"].astype(str).str.strip().str.lower()
    driver = text.map({"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0})
    if driver.isna().any():
        k = int(np.flatnonzero(driver.isna())[0])
        raise UnreadableFile(
            f"{path}: driver must be 1 or 0, row {k + 1} ({frame['gene'].iloc[k]}) has '{text.iloc[k]}'"
        )
    gene, driver = frame["gene"].astype(str).str.strip(), driver.to_numpy(int)
    row = gene.map(names).fillna(-1).to_numpy(int)
    there = row >= 0
    return Labels(row[there], driver[there], gene[~there].tolist(), driver[~there])


def own_state(graph: Graph) -> Array:
    """(proteins, 9): degree, and what is measured."""
    return np.column_stack([np.log1p(graph.degree), measured(graph.tables)])


def measured(tables: dict[str, Array]) -> Array:
    """(genes, 8): mutation, expression and methylation with their sizes, and what was not measured."""
    filled = {k: np.nan_to_num(v) for k, v in tables.items()}
    mutation = np.log(np.where(np.isnan(tables["mutation"]), 0.004, np.maximum(tables["mutation"], 1e-4)))
    return np.column_stack([
        mutation, filled["expression"], np.abs(filled["expression"]), filled["methylation"], np.abs(filled["methylation"]),
        *[np.isnan(tables[k]) for k in ("expression", "methylation", "mutation")],
    ]).astype(float)  # fmt: skip


def structure(graph: Graph) -> Array:
    """(proteins, 97): place in the network (leading singular vectors of the normalized map) and closed triangles."""
    from sklearn.utils.extmath import randomized_svd

    U, s, _ = randomized_svd(graph.normalized(), EMBEDDING, n_iter=4, random_state=0)
    A = graph.adjacency
    triangles = np.log1p(np.asarray((A @ A).multiply(A).sum(1)).ravel())
    return np.column_stack([U * s, triangles])
