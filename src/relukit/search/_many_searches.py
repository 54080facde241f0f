"""Several questions of many inputs: those about one network and box share all bounds."""

import time
from collections.abc import Sequence
from typing import Any

from relukit.search._decision import Decision
from relukit.search._many import Case, decide_cases


def decide_searches(searches: Sequence[Any], stop: float, device: Any = None) -> Decision:
    """Whether any of several questions has a point; those about one network and box share all bounds.

    Arguments:
        searches: `Search` objects.
        stop: Wall-clock time to stop at (`time.perf_counter`).
        device: A `Device` (`_torch_device`), or None.
    """
    if device is None:
        return _decide(searches, stop, None)
    import torch

    try:
        with device.threads_apart():
            return _decide(searches, stop, device)
    except torch.OutOfMemoryError:  # the compiled loops need none of the device's memory
        return _decide(searches, stop, None)


def _decide(searches: Sequence[Any], stop: float, device: Any) -> Decision:
    groups: dict[tuple, list[Any]] = {}
    for s in searches:
        groups.setdefault((id(s.network), s.box.lower.tobytes(), s.box.upper.tobytes()), []).append(s)
    nodes, unknown, engines = 0, "", set()
    for k, group in enumerate(groups.values()):
        cases = [Case(*s.question, s._confirmed) for s in group]
        limit = time.perf_counter() + (stop - time.perf_counter()) / (len(groups) - k)
        tell = lambda case, level, group=group: setattr(group[case], "level", level)
        found = decide_cases(group[0].network, group[0].box, cases, limit, group[0].seed, tell, device)
        if found.status == "sat":
            return found
        nodes, unknown = nodes + found.boxes, unknown or found.reason
        engines.add(found.engine)
    engine = "+".join(sorted(engines))
    return Decision("unknown", None, nodes, engine, unknown) if unknown else Decision("unsat", None, nodes, engine)
