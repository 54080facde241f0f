"""Where the readers start: from the known boxes, or from the pair of words that the active sequences themselves single out."""

import numpy as np

from relukit.gallery._life import LETTERS, Array, codes

WIDTH = 20  # bases of each reader: 12 before the -35 box (UP element), 6 before the -10 box and 8 after it
BOX35, BOX10 = 12, 6  # where the six bases of a box stand in its reader
_DISTANCES = range(14, 34)  # from a word's start to the other's


def known_boxes() -> tuple[Array, Array]:
    """Readers (4, 20) of TTGACA and TATAAT; bases that are kept best weigh most."""
    readers = np.zeros((2, 4, WIDTH))
    weights = ([1, 1, 0.8, 0.6, 0.4, 0.4], [1, 1.3, 0.6, 0.7, 0.6, 1.3])
    for reader, letters, first, each in zip(readers, ("TTGACA", "TATAAT"), (BOX35, BOX10), weights, strict=True):
        reader[codes([letters])[0], range(first, first + 6)] = each
    return readers[0], readers[1]


def enriched_pair(numbers: Array, active: Array) -> tuple[tuple[Array, Array], dict[str, object]]:
    """Readers from the most enriched pair of three-letter words at one distance, and what it was.

    A pair counts against the same two words at the other distances from 14 to 33, in active sequences only, so that
    neither the bases' frequencies nor a word's own can make it stand out. The active sequences that hold the pair are
    lined up, and the readers are 0.7 times their log-odds against the bases' frequencies (four pseudo-counts, within
    1.5): no box is known before.

    Arguments:
        numbers: (count, 150) bases.
        active: (count,) truth values.
    """
    words = sum(
        np.maximum(numbers[:, j : numbers.shape[1] - 2 + j], 0).astype(np.int64) * 4 ** (2 - j) for j in range(3)
    )
    theirs = words[active]
    counts = np.stack(
        [np.bincount((theirs[:, :-d] * 64 + theirs[:, d:]).ravel(), minlength=4096) for d in _DISTANCES]
    ).astype(float)
    expected = (counts.sum(0) - counts) / (len(counts) - 1)
    score = (counts - expected) / np.sqrt(expected + 1)
    which, pair = np.unravel_index(int(score.argmax()), score.shape)
    distance, first, second = _DISTANCES[int(which)], int(pair) // 64, int(pair) % 64
    stop = BOX35 + distance - BOX10 + WIDTH  # the second reader starts 6 bases before the second word
    windows = [
        numbers[i, p - BOX35 : p - BOX35 + stop]
        for i in np.flatnonzero(active)
        for p in np.flatnonzero((words[i, :-distance] == first) & (words[i, distance:] == second))
        if p >= BOX35 and p - BOX35 + stop <= numbers.shape[1]
    ]
    background = np.bincount(np.maximum(numbers[active], 0).ravel(), minlength=4)[:, None] / numbers[active].size
    letters = np.array(windows).reshape(-1, 1, stop)
    table = (letters == np.arange(4)[:, None]).sum(0) + 4 * background
    odds = 0.7 * np.clip(np.log(table / table.sum(0) / background), -1.5, 1.5)
    spell = lambda word: "".join(LETTERS[word // 4 ** (2 - j) % 4] for j in range(3))
    found = {
        "words": [spell(first), spell(second)], "distance": distance, "sequences": int(counts[which, pair]),
        "expected": float(expected[which, pair]), "z": float(score[which, pair]),
    }  # fmt: skip
    return (odds[:, :WIDTH], odds[:, stop - WIDTH :]), found
