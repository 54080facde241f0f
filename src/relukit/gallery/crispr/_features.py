"""A guide's 30-mer as numbers: bases and base pairs by position, and what is true of the guide as a whole.

The 30-mer is 4 bases before the guide, the 20 of the guide, the PAM (NGG) and 3 bases after it.
"""

from collections.abc import Sequence

import numpy as np

from relukit.gallery._life import Array, codes

LENGTH, GUIDE = 30, slice(4, 24)
# Free energy of stacking two DNA base pairs at 37 C, kcal/mol, in the order AA, AC, .., TT (SantaLucia 1998).
_STACKING = np.array(
    [-1.0, -1.44, -1.28, -0.88, -1.45, -1.84, -2.17, -1.28, -1.3, -2.24, -1.84, -1.44, -0.58, -1.3, -1.45, -1.0]
)


def positions(numbers: Array) -> Array:
    """(count, 20, 30): 4 channels say the base, 16 say the base together with the one after it."""
    pairs = np.full(numbers.shape, -1, np.int64)
    known = (numbers[:, :-1] >= 0) & (numbers[:, 1:] >= 0)
    pairs[:, :-1] = np.where(known, 4 * numbers[:, :-1].astype(np.int64) + numbers[:, 1:], -1)
    both = np.concatenate([numbers[:, None] == np.arange(4)[:, None], pairs[:, None] == np.arange(16)[:, None]], 1)
    return both.astype(np.float32)


def summaries(numbers: Array) -> Array:
    """(count, 35): counts of bases and pairs, GC by segment, stacking energy by segment, longest runs."""
    guide = numbers[:, GUIDE].astype(np.int64)
    pairs = 4 * np.maximum(numbers[:, :-1], 0).astype(np.int64) + np.maximum(numbers[:, 1:], 0)
    gc, energy = np.isin(numbers, (1, 2)), _STACKING[pairs]
    whole = gc[:, GUIDE].sum(1)
    columns = [(guide == b).sum(1) for b in range(4)]
    columns += [(pairs[:, 4:23] == b).sum(1) for b in range(16)]
    columns += [whole, gc[:, 4:9].sum(1), gc[:, 9:17].sum(1), gc[:, 17:24].sum(1)]
    columns += [np.maximum(whole - 10, 0), np.maximum(10 - whole, 0)]
    columns += [energy[:, a:b].sum(1) for a, b in ((4, 23), (4, 8), (8, 16), (16, 23), (0, 29))]
    columns += [_longest_run(guide == b) for b in range(4)]
    return np.stack(columns, 1).astype(np.float32)


def _longest_run(flags: Array) -> Array:
    run, longest = np.zeros(len(flags), np.int64), np.zeros(len(flags), np.int64)
    for column in flags.T:
        run = (run + 1) * column
        longest = np.maximum(longest, run)
    return longest


def table(sequences: Sequence[str]) -> Array:
    """All features flat, for boosting and ridge: the same numbers that the network sees."""
    numbers = codes(sequences, LENGTH)
    return np.concatenate([positions(numbers).reshape(len(numbers), -1), summaries(numbers)], 1)
