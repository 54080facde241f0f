"""Where the filters start: the words that peaks hold more often than their shuffles do."""

import numpy as np

from relukit.gallery._life import Array
from relukit.gallery.tf_binding._data import shuffled

LENGTH, SHUFFLES, CANDIDATES, ALIKE = 8, 4, 3000, 6


def enriched_words(peaks: Array, count: int, seed: int) -> Array:
    """The most enriched eight-letter words (count, 8), each unlike the ones before it.

    A word counts once per peak, on either strand, against the mean of four dinucleotide shuffles: its score is
    (seen - expected) / sqrt(expected + 2). A word that agrees in six letters with one already chosen, moved by up to
    three places on either strand, is passed over.
    """
    expected = sum(_present(shuffled(peaks, 7919 * seed + k)) for k in range(SHUFFLES)) / SHUFFLES
    score = (_present(peaks) - expected) / np.sqrt(expected + 2)
    chosen: list[Array] = []
    for code in np.argsort(-score, kind="stable")[:CANDIDATES]:
        word = code // _PLACES % 4
        if all(_agreement(word, other) < ALIKE for other in chosen):
            chosen.append(word)
        if len(chosen) == count:
            break
    return np.array(chosen).reshape(-1, LENGTH)


_PLACES = 4 ** np.arange(LENGTH)[::-1]


def _present(sequences: Array) -> Array:
    """In how many sequences each word occurs; a word and its reverse complement are one, under the lower number."""
    windows = np.lib.stride_tricks.sliding_window_view(sequences, LENGTH, 1).astype(np.int64)
    codes = np.sort(np.minimum(windows @ _PLACES, (3 - windows[:, :, ::-1]) @ _PLACES), 1)
    first = np.ones(codes.shape, bool)
    first[:, 1:] = codes[:, 1:] != codes[:, :-1]
    return np.bincount(codes[first], minlength=4**LENGTH).astype(float)


def _agreement(a: Array, b: Array) -> int:
    """Most letters in common over shifts of up to three places and both strands."""
    best = 0
    for other in (b, 3 - b[::-1]):
        for shift in range(-3, 4):
            here, there = a[max(0, shift) : LENGTH + min(0, shift)], other[max(0, -shift) : LENGTH + min(0, -shift)]
            best = max(best, int((here == there).sum()))
    return best
