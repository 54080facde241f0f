"""Peaks, their shuffled counterparts, and the JASPAR matrices."""

from pathlib import Path

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery._life import Array, codes

MATRICES, LENGTH = "jaspar2018_selected.pfm", 101


def factor_of(path: Path) -> str:
    """The factor is the file's name before its first underscore."""
    return Path(path).name.split("_")[0]


def read(path: Path) -> tuple[Array, Array]:
    """Sequences as numbers and whether each is bound; letters other than A, C, G, T become A."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, sep="\t")
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableFile(f"{path}: not a table of tab-separated columns ({error})") from error
    if not {"seq", "Bound"} <= set(frame.columns):
        raise UnreadableFile(f"{path}: columns seq and Bound are needed, it has {list(frame.columns)[:10]}")
    if frame.empty:
        raise UnreadableFile(
            f"{path}: the table holds no rows; each is a sequence of {LENGTH} bases and Bound (0 or 1)"
        )
    if not set(frame["Bound"].unique().tolist()) <= {0, 1}:
        raise UnreadableFile(
            f"{path}: the column Bound must hold 0 or 1, it has {frame['Bound'].unique().tolist()[:5]}"
        )
    return np.maximum(codes(list(frame["seq"].astype(str)), LENGTH), 0), frame["Bound"].to_numpy(int)


def with_negatives(sequences: Array, bound: Array, seed: int) -> tuple[Array, Array]:
    """As they are if both kinds are there; else each peak beside its dinucleotide shuffle.

    Raises:
        InvalidInput: No sequence is bound.
    """
    if not bound.any():
        raise InvalidInput(
            "no row is bound (Bound = 1); peaks are needed, and shuffles of them are made if no others are there"
        )
    if not bound.all():
        return sequences, bound
    return np.concatenate([sequences, shuffled(sequences, seed)]), np.repeat([1, 0], len(sequences))


def shuffled(sequences: Array, seed: int) -> Array:
    """Each sequence with the same dinucleotide counts, first and last base, in random order.

    Every sequence is a walk over the edges base -> next base. All its rearrangements that keep the counts are equally
    likely: the order in which a base's edges are used is drawn, kept if the last ones lead to the final base, then walked.
    All sequences are walked at once.

    References:
        "Significance of nucleotide sequence alignments: a method for random sequence permutation that preserves
        dinucleotide and codon usage", Altschul and Erickson, 1985.
    """
    generator = np.random.default_rng(seed)
    answer = sequences.copy()
    waiting = np.arange(len(sequences))
    while len(waiting):
        part = sequences[waiting].astype(np.int64)
        edges, first, count = _drawn(part, generator)
        kept = _leads_home(edges, first, count, part[:, -1])
        answer[waiting[kept]] = _walk(part[kept, 0], edges[kept], first[kept])
        waiting = waiting[~kept]
    return answer


def _drawn(sequences: Array, generator: np.random.Generator) -> tuple[Array, Array, Array]:
    """Next bases grouped by base, each group in random order (count, length - 1); where groups start and their sizes."""
    before = sequences[:, :-1]
    order = np.argsort(before + generator.random(before.shape), 1)
    count = (before[:, :, None] == np.arange(4)).sum(1)
    return np.take_along_axis(sequences[:, 1:], order, 1), np.cumsum(count, 1) - count, count


def _leads_home(edges: Array, first: Array, count: Array, end: Array) -> Array:
    """Whether from each base that occurs, the last edges lead to the final base."""
    rows = np.arange(len(edges))
    last = np.take_along_axis(edges, np.minimum(first + np.maximum(count - 1, 0), edges.shape[1] - 1), 1)
    fine = np.ones(len(edges), bool)
    for base in range(4):
        at = np.full(len(edges), base)
        for _ in range(4):
            at = np.where(at == end, at, last[rows, at])
        fine &= (at == end) | (count[:, base] == 0)
    return fine


def _walk(start: Array, edges: Array, first: Array) -> Array:
    rows, used, here, walk = np.arange(len(edges)), first.copy(), start, [start]
    for _ in range(edges.shape[1]):
        place = used[rows, here]
        used[rows, here] += 1
        here = edges[rows, place]
        walk.append(here)
    return np.stack(walk, 1)


def read_matrices(path: Path) -> dict[str, Array]:
    """Letter frequencies (4, width) by factor; a heterodimer (MAX::MYC) stands for each of its partners."""
    matrices: dict[str, Array] = {}
    names: list[str] = []
    rows: list[list[float]] = []
    for line in [*path.read_text().splitlines(), ">"]:
        if line.startswith(">"):
            if len(rows) == 4:
                counts = np.array(rows) + 0.25
                for name in names:  # a matrix of the factor alone is preferred to that of a pair
                    if len(names) == 1 or name not in matrices:
                        matrices[name] = counts / counts.sum(0)
            names = [n.upper() for n in line.split()[-1].split("::")] if len(line) > 1 else []
            rows = []
        elif line.strip():
            rows.append([float(v) for v in line.replace("[", " ").replace("]", " ").split()[1:]])
    return matrices


def matrix_scores(sequences: Array, matrix: Array) -> Array:
    """Best log-odds of the matrix over all places and both strands."""
    odds = np.log2(matrix / 0.25)
    width = odds.shape[1]
    best = np.full(len(sequences), -np.inf)
    for m in (odds, odds[::-1, ::-1]):
        places = sum(m[sequences[:, j : LENGTH - width + 1 + j], j] for j in range(width))
        best = np.maximum(best, places.max(1))
    return best
