"""Units of a watched training over time: who is silent, who died and who came back."""

from typing import Any

import numpy as np

from relukit._types import BoolArray, IntArray
from relukit.monitoring._layers import LEAKY, RELU_LIKE
from relukit.monitoring._record import Record

_LOOKS = 3  # looks in a row without any gradient after which a unit counts as dead: one batch may just not need it


def silence(record: Record, k: int) -> tuple[IntArray, BoolArray]:
    """Steps that were looked at, and which units of layer `k` got no gradient there, shape `(looks, units)`."""
    looks = [s for s in record.samples if len(s.silent[k])]
    count = len(looks[-1].silent[k]) if looks else 0
    looks = [s for s in looks if len(s.silent[k]) == count]  # a cure may have made the layer wider
    flags = np.array([s.silent[k] for s in looks], bool).reshape(len(looks), count)
    return np.array([s.step for s in looks], int), flags


def deaths_and_revivals(flags: BoolArray) -> tuple[BoolArray, BoolArray]:
    """At which look each unit died (the first of at least three silent ones) and came back, both shaped like `flags`."""
    died, revived = np.zeros_like(flags), np.zeros_like(flags)
    run = np.zeros(flags.shape[1], int)
    for t, silent in enumerate(flags):
        revived[t] = ~silent & (run >= _LOOKS)
        run = np.where(silent, run + 1, 0)
        lasted = run == _LOOKS
        died[t - _LOOKS + 1] |= lasted if t >= _LOOKS - 1 else False
    return died, revived


def layer_dict(record: Record, k: int, first: bool) -> dict[str, Any]:
    """What is known of a layer's units, ready for JSON; lists hold the numbers of units."""
    layer = record.layers[k]
    steps, flags = silence(record, k)
    died, revived = deaths_and_revivals(flags)
    recent = flags[-4:].all(axis=0) if len(flags) else np.zeros(0, bool)
    never = flags.all(axis=0) if len(flags) else np.zeros(0, bool)
    numbers = lambda mask: np.flatnonzero(mask)[:1000].tolist()
    deep = next((a for a in reversed(record.activity) if k in a.always_on), None)
    gates = layer.activation in RELU_LIKE or layer.activation not in LEAKY
    again = "stays dead: nothing before it changes" if first else "can revive when layers before it change"
    return {
        "name": layer.name, "units": layer.units, "activation": layer.activation,
        "silent": int(flags[-1].sum()) if len(flags) else 0,
        "silent_in_all_recent": int(recent.sum()),
        "silent_units": numbers(flags[-1]) if len(flags) else [],
        "dead_on_data_seen": numbers(never),
        "prognosis": again if gates and recent.any() else "",
        "deaths": [[int(steps[t]), int(died[t].sum())] for t in np.flatnonzero(died.any(axis=1))],
        "revivals": [[int(steps[t]), int(revived[t].sum())] for t in np.flatnonzero(revived.any(axis=1))],
        "always_on": None if deep is None else numbers(deep.always_on[k]),
        "saturated_share": next((a.saturated[k] for a in reversed(record.activity) if k in a.saturated), None),
        "grad_norm": float(record.samples[-1].grad[k]) if record.samples else None,
    }  # fmt: skip
