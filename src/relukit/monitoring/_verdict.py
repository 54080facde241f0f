"""What the counts of `health` mean: findings with symptom, severity, evidence and remedies."""

from typing import Any

import numpy as np

from relukit.monitoring._finding import Finding

# Healthy networks end with 6 to 35 % dead units, sick ones with 40 to 100 %.
_MANY, _MOST = 0.4, 0.75
_FADED = 1e-5  # first gradient over last: healthy 0.1 to 4, vanishing 1e-13 to 5e-6


def findings_of(
    layers: tuple[Any, ...], outputs: np.ndarray, causes: dict[str, str] | None = None
) -> tuple[Finding, ...]:
    """Findings about a finished network on its rows, worst first.

    The cause stays "" where a finished network does not tell which of several made it so; `watch` sees it happen.

    Arguments:
        layers: `LayerHealth` of each activation layer, first to last.
        outputs: Values of the output on the rows, shape `(rows, outputs)`.
        causes: Why units of a layer are dead, by its name, where that is told.
    """
    causes = causes or {}
    found: list[Finding] = []
    if not np.all(np.isfinite(outputs)):
        bad = int((~np.isfinite(outputs)).any(axis=1).sum())
        found.append(Finding("exploding", "", "error", evidence={"rows_not_finite": bad}, score=100))
    elif len(outputs) > 1 and np.ptp(outputs, axis=0).max() <= 1e-12 * max(1.0, float(np.abs(outputs).max())):
        shut = next((layer for layer in layers if layer.units and layer.dead == layer.units), None)
        found.append(
            Finding(
                "dead_output",
                causes.get(shut.name, "") if shut else "bad_initialization",
                "error",
                shut.name if shut else "",
                evidence={"output": "the same for all rows"} | ({"whole_layer_dead": shut.name} if shut else {}),
                remedies=("revive_dead_units", "reinitialize") if shut else ("reinitialize",),
                score=90,
            )
        )
    for place, layer in enumerate(layers):
        share = layer.dead / max(layer.units, 1)
        if share < _MANY:
            continue
        dead = tuple(np.flatnonzero(layer.off_share == 1.0)[:1000].tolist())
        again = "stay off for these rows" if place == 0 else "can come back if layers before them change"
        evidence = {"dead": layer.dead, "units": layer.units, "dead_share": share, "prognosis": again}
        # Lossless pruning is the other way to see it: a unit that no row switches on is free to remove.
        remedies = ("revive_dead_units", "leaky_activation") if share < 1 else ("reinitialize", "leaky_activation")
        if causes.get(layer.name) in ("shifted_input", "unscaled_input"):
            remedies = ("standardize_input", *remedies)
        severity = "error" if share >= _MOST else "note"
        found.append(
            Finding("dying_relu", causes.get(layer.name, ""), severity, layer.name, dead,
                    evidence=evidence, remedies=remedies, score=50 * share)
        )  # fmt: skip
    norms = [(layer.name, layer.grad_norm) for layer in layers if layer.grad_norm is not None]
    if len(norms) > 2 and norms[-1][1] > 0 and norms[0][1] / norms[-1][1] < _FADED:
        ratio = norms[0][1] / norms[-1][1]
        found.append(
            Finding("vanishing_gradient", "", "error", norms[0][0],
                    evidence={"gradient_first_over_last": ratio, "layers": len(norms)},
                    remedies=("reinitialize", "normalization", "skip_connections"), score=40)
        )  # fmt: skip
    return tuple(sorted(found, key=lambda f: (f.severity != "error", -f.score)))
