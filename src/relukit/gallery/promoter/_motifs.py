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


def box_places(scores: Array, numbers: Array, letters: str) -> Array:
    """Start of the window of each sequence in which letters that match the box carry the most attribution."""
    own = np.take_along_axis(scores, numbers[:, None, :].astype(np.int64), 1)[:, 0]
    width = len(letters)
    carried = sum(
        np.where(
            numbers[:, j : numbers.shape[1] - width + 1 + j] == LETTERS.index(c),
            own[:, j : numbers.shape[1] - width + 1 + j],
            0,
        )
        for j, c in enumerate(letters)
    )
    return carried.argmax(1)


def read_out(modules: list[Any], sequences: list[str]) -> dict[str, Any]:
    """Best filter for each box with its q-value, and how often the boxes stand 16 to 18 bases apart.

    The chance level of the distance comes from pairing one sequence's -35 box with another's -10 box, 1,000 times.
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
    first, second = (box_places(slopes, numbers, b) for b in BOXES.values())
    good = lambda a, b: float(np.mean(np.abs(b - a - 6 - 17) <= 1))
    generator = np.random.default_rng(0)
    chance = np.array([good(first, generator.permutation(second)) for _ in range(1000)])
    observed = good(first, second)
    answer["spacing_16_to_18"] = {
        "share": observed, "by_chance": float(chance.mean()), "p": float((np.sum(chance >= observed) + 1) / 1001),
        "minus10_place": float(np.median(second)), "sequences": len(sequences),
    }  # fmt: skip
    return answer
