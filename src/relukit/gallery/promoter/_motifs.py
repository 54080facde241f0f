"""What the networks found: readers against the sigma-70 boxes, and the boxes' distance in the exact attributions."""

from typing import Any

import numpy as np

from relukit.gallery._life import LETTERS, Array, codes
from relukit.gallery._motifs import consensus, q_values, significance
from relukit.gallery.promoter._model import GAPS, attributions, encode

BOXES = {"minus35": "TTGACA", "minus10": "TATAAT"}


FIRES = 0.05  # a kind of site counts if this share of strong promoters has one above its threshold


def reader_matrices(module: Any, sequences: list[str]) -> list[tuple[str, int, Array]]:
    """Side, kind and letter probabilities (4, 20) of each reader: the Boltzmann weights exp of its energies, by column.

    Kinds that hardly fire on the sequences are left out: they may still look like what they started from.
    """
    answer = []
    for kind, line in enumerate(thresholds(module, sequences)):
        for side, reader in zip(BOXES, (module.before, module.after), strict=True):
            weights = np.exp(reader.weight[kind].detach().numpy().astype(float))
            if line["fires"] >= FIRES:
                answer.append((side, kind, weights / weights.sum(0)))
    return answer


def thresholds(module: Any, sequences: list[str]) -> list[dict[str, float]]:
    """Of each kind of site: the score at which one site holds the polymerase half of the time (minus the bias), the
    highest score that any bases could reach, the share of sequences with a site above the threshold, and the distance
    between the boxes at their best site."""
    import torch

    with torch.no_grad():
        energy = module.energies(encode(sequences))
        best = energy.amax(3).numpy()  # (count, kinds, gaps)
        top = lambda reader: reader.weight.amax(1).sum(1)
        place = module.place.amax(1)
        highest = (top(module.before) + top(module.after) + module.gap.amax(1) + place).numpy()
    return [
        {
            "threshold": -module.bias[k].item(),
            "highest": float(highest[k]),
            "fires": float((best[:, k].max(1) > 0).mean()),
            "distance": float(np.mean(np.array(GAPS)[best[:, k].argmax(1)])),
        }
        for k in range(best.shape[1])
    ]


def matches(module: Any, sequences: list[str]) -> dict[str, dict[str, Any]]:
    """Best reader for each box, its likeness (6 at most) and its q-value over the readers of both sides that fire."""
    readers = reader_matrices(module, sequences)
    answer = {}
    for name, letters in BOXES.items() if readers else ():
        like, p = significance([matrix for _, _, matrix in readers], consensus(letters))
        best = int(np.argmin(p))
        side, kind, _ = readers[best]
        answer[name] = {"kind": kind, "side": side, "likeness": float(like[best]), "q": float(q_values(p)[best])}
    return answer


def carried(scores: Array, numbers: Array, letters: str) -> Array:
    """(count, places): attribution of the letters of each window that match the box."""
    own = np.take_along_axis(scores, numbers[:, None, :].astype(np.int64), 1)[:, 0]
    stop = numbers.shape[1] - len(letters) + 1
    parts = [
        np.where(numbers[:, j : stop + j] == LETTERS.index(c), own[:, j : stop + j], 0) for j, c in enumerate(letters)
    ]
    return np.sum(parts, axis=0)


def best_gaps(minus35: Array, minus10: Array) -> tuple[Array, Array]:
    """Of each sequence, the distance between the boxes (10 to 24) that carries most attribution, and where the -10 is."""
    best = np.full(len(minus35), -np.inf)
    gap, place = np.zeros(len(best), int), np.zeros(len(best), int)
    for g in range(10, 25):
        both = minus35[:, : -(6 + g)] + minus10[:, 6 + g :]
        at = both.argmax(1)
        value = both[np.arange(len(both)), at]
        better = value > best
        best[better], gap[better], place[better] = value[better], g, at[better] + 6 + g
    return gap, place


def read_out(modules: list[Any], found: Any, sequences: list[str]) -> dict[str, Any]:
    """The boxes' matches and thresholds, and how often the boxes stand 16 to 18 bases apart.

    Arguments:
        modules: The trained networks, which started from the boxes.
        found: A network that started from the most enriched pair of words, and not from the boxes.
        sequences: Strong promoters.

    The chance level of the distance comes from pairing one sequence's -35 scores with another's -10 scores, 199 times.
    """
    answer: dict[str, Any] = {
        "kinds": thresholds(modules[0], sequences),
        "trained_from_boxes": matches(modules[0], sequences),
    }
    answer["trained_from_words"] = matches(found, sequences) | {"kinds": thresholds(found, sequences)}
    numbers = codes(sequences)
    for name, group in (("spacing_16_to_18", modules), ("spacing_16_to_18_from_words", [found])):
        slopes = attributions(group, sequences)
        first, second = (carried(slopes, numbers, b) for b in BOXES.values())
        good = lambda gaps: float(np.mean(np.abs(gaps - 17) <= 1))
        gaps, places = best_gaps(first, second)
        generator = np.random.default_rng(0)
        null = np.array([good(best_gaps(first, second[generator.permutation(len(second))])[0]) for _ in range(199)])
        answer[name] = {
            "share": good(gaps), "by_chance": float(null.mean()), "p": float((np.sum(null >= good(gaps)) + 1) / 200),
            "counts_from_10_to_24": np.bincount(gaps, minlength=25)[10:].tolist(),
            "minus10_place": float(np.median(places)), "sequences": len(sequences),
        }  # fmt: skip
    return answer
