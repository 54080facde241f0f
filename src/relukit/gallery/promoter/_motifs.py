"""What the networks found: filters against the sigma-70 boxes, and the boxes' distance in the exact attributions."""

from typing import Any

import numpy as np

from relukit.gallery._life import LETTERS, Array, codes
from relukit.gallery._motifs import consensus, q_values, significance, site_matrix
from relukit.gallery.promoter._model import WIDTH, attributions, encode

BOXES = {"minus35": "TTGACA", "minus10": "TATAAT"}


def filter_matrices(module: Any, sequences: list[str]) -> tuple[list[Array], list[dict[str, float]]]:
    """Letter frequencies of the windows each first-layer filter fires on, and its threshold.

    A filter fires where its weights' score exceeds minus its bias: that is its threshold, given beside the highest
    score any sequence could reach.
    """
    import torch

    numbers = codes(sequences)
    with torch.no_grad():
        response = module.filters(encode(sequences)).numpy()
    weights, bias = module.filters.weight.detach().numpy(), module.filters.bias.detach().numpy()
    half = WIDTH // 2
    matrices, thresholds = [], []
    for k in range(len(bias)):
        inner = response[:, k, half : response.shape[2] - half]
        matrices.append(site_matrix(numbers, inner, WIDTH)[0])
        thresholds.append(
            {
                "threshold": float(-bias[k]),
                "highest": float(weights[k].max(0).sum()),
                "fires": float((inner > 0).mean()),
            }
        )
    return matrices, thresholds


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


def read_out(modules: list[Any], sequences: list[str]) -> dict[str, Any]:
    """Best filter for each box with its q-value, and how often the boxes stand 16 to 18 bases apart.

    The chance level of the distance comes from pairing one sequence's -35 scores with another's -10 scores, 199 times.
    """
    matrices, thresholds = filter_matrices(modules[0], sequences)
    answer: dict[str, Any] = {"filters": len(matrices)}
    for name, letters in BOXES.items():
        like, p = significance(matrices, consensus(letters))
        best = int(np.argmin(p))
        answer[name] = {
            "filter": best,
            "likeness": float(like[best]),
            "q": float(q_values(p)[best]),
            **thresholds[best],
        }
    numbers, slopes = codes(sequences), attributions(modules, sequences)
    first, second = (carried(slopes, numbers, b) for b in BOXES.values())
    good = lambda gaps: float(np.mean(np.abs(gaps - 17) <= 1))
    gaps, places = best_gaps(first, second)
    generator = np.random.default_rng(0)
    chance = np.array([good(best_gaps(first, second[generator.permutation(len(second))])[0]) for _ in range(199)])
    answer["spacing_16_to_18"] = {
        "share": good(gaps), "by_chance": float(chance.mean()), "p": float((np.sum(chance >= good(gaps)) + 1) / 200),
        "counts_from_10_to_24": np.bincount(gaps, minlength=25)[10:].tolist(),
        "minus10_place": float(np.median(places)), "sequences": len(sequences),
    }  # fmt: skip
    return answer
