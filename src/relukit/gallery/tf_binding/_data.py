"""Peaks, their shuffled counterparts, and the JASPAR matrices."""

from pathlib import Path

import numpy as np

from relukit._errors import UnreadableFile
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
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path}: not a table of tab-separated columns ({error})") from error
    if not {"seq", "Bound"} <= set(frame.columns):
        raise UnreadableFile(f"{path}: columns seq and Bound are needed, it has {list(frame.columns)[:10]}")
    return np.maximum(codes(list(frame["seq"]), LENGTH), 0), frame["Bound"].to_numpy(int)


def with_negatives(sequences: Array, bound: Array, seed: int) -> tuple[Array, Array]:
    """As they are if both kinds are there; else each peak beside its dinucleotide shuffle."""
    if len(set(bound.tolist())) > 1:
        return sequences, bound
    return np.concatenate([sequences, shuffled(sequences, seed)]), np.repeat([1, 0], len(sequences))


def shuffled(sequences: Array, seed: int) -> Array:
    """Each sequence with the same dinucleotide counts, first and last base, in random order.

    References:
        "Significance of nucleotide sequence alignments: a method for random sequence permutation that preserves
        dinucleotide and codon usage", Altschul and Erickson, 1985.
    """
    generator = np.random.default_rng(seed)
    return np.stack([_shuffle(s, generator) for s in sequences])


def _shuffle(sequence: Array, generator: np.random.Generator) -> Array:
    """A random walk over all edges base -> next base: last exits form a tree into the last base, others are free."""
    s = sequence.tolist()
    exits: list[list[int]] = [[], [], [], []]
    for a, b in zip(s[:-1], s[1:]):
        exits[a].append(b)
    end = s[-1]
    while True:
        last = [e[int(generator.integers(len(e)))] if e and v != end else -1 for v, e in enumerate(exits)]
        if all(_reaches(v, end, last) for v in range(4) if exits[v]):
            break
    for v, e in enumerate(exits):
        if v != end and e:
            e.remove(last[v])
        e[:] = [e[i] for i in generator.permutation(len(e))]
        if v != end and last[v] >= 0:
            e.append(last[v])
    used, walk = [0, 0, 0, 0], [s[0]]
    for _ in range(len(s) - 1):
        here = walk[-1]
        walk.append(exits[here][used[here]])
        used[here] += 1
    return np.array(walk, sequence.dtype)


def _reaches(v: int, end: int, last: list[int]) -> bool:
    for _ in range(4):
        if v == end:
            return True
        v = last[v]
        if v < 0:
            return False
    return v == end


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
