"""Weight decay and dropout so strong that nothing is learned: how it is told, and what is done."""

from typing import Any

import numpy as np

from relukit.monitoring._facts import Facts, finding
from relukit.monitoring._finding import Finding
from relukit.monitoring._optimizer import scale_free

_DECAY, _DROP = 1e-4, 0.2  # common weak settings
_MOST_DROPPED = 0.85  # a hidden layer trains with 0.5, seldom with 0.8


def decay_pull(optimizer: Any, grad: Any, weight: Any, counts: list[int]) -> float:
    """How hard weight decay pulls, over what the loss asks for: median over layers.

    Added to the gradient (SGD, Adam) it is w |W| against the gradient's norm. Decoupled (AdamW, `decoupled_weight_decay`) it is
    w |W| against steps of about 1 per entry; both are multiplied by the rate.

    Arguments:
        optimizer: Of torch.
        grad: Norm of each layer's gradient, nan where it had none.
        weight: Norm of each layer's weights.
        counts: Entries of each layer's weights.
    """
    decays = [float(group.get("weight_decay", 0) or 0) for group in getattr(optimizer, "param_groups", ())]
    if not any(decays):
        return 0.0
    apart = any(kind.__name__ == "AdamW" for kind in type(optimizer).__mro__)
    apart = apart or any(group.get("decoupled_weight_decay") for group in optimizer.param_groups)
    asked = np.sqrt(counts) if apart and scale_free(optimizer) else np.maximum(grad, 1e-30)
    pulls = max(decays) * weight / asked
    return float(np.nanmedian(pulls)) if np.any(np.isfinite(pulls)) else 0.0


def most_dropped(modules: list[Any]) -> float:
    """Largest share that one of these dropout modules drops while it trains."""
    return max((float(m.p) for m in modules if m.training), default=0.0)


def dropouts_of(model: Any) -> list[Any]:
    """Its dropout modules, of any kind."""
    return [m for m in model.modules() if "Dropout" in type(m).__name__ and hasattr(m, "p")]


def regularized(f: Facts) -> list[Finding]:
    """No learning, and a decay that outweighs the loss from the first steps on, or a dropout that leaves hardly a unit."""
    pull = max((s.pull for s in f.record.samples[:3]), default=0.0)
    crushed = _crushed(f)
    if f.steps < (8 if crushed else 32) or not f.finite or (f.drop > 0.3 and not f.level > 0.9 and not crushed):
        return []
    shrunk = _shrunk(f)
    evidence = {"decay_over_gradient": pull, "dropped": f.record.dropped, "weights_over_first": shrunk}
    decayed = not f.learning and pull > 2 and shrunk < 0.7
    # A loss that falls to a constant's falls by the noise of dropout alone.
    lost = f.record.dropped >= _MOST_DROPPED and (not f.learning or (f.steps >= 40 and f.level > 0.97))
    if decayed or crushed or lost:
        return [finding(f, "slow_learning", "too_much_regularization", "error", 92 if crushed else 82, **evidence)]
    return []


def _crushed(f: Facts) -> bool:
    """Whether the weights are a sixth of what they were first, at most, while nothing is learned: a penalty within the loss, or a cut after
    each step, does that as decay does.

    |w - w0| / |w| <= 1 + |w0| / |w|, so what it exceeds 1 by tells how far they shrank at least.
    """
    away = f.record.away
    if away is None or any(layer.norm for layer in f.record.layers) or not f.hidden:
        return False
    # Of a loss with a penalty added, the fall is the penalty's own until it is below a constant's.
    learned = f.learning and (f.record.chain[:1] != ["Add"] or f.level < 0.9)
    # Weights that grew far and come back, as where steps are too large, are not held down.
    return not learned and float(np.median(away[1])) > 7 and _shrunk(f) <= 1


def _shrunk(f: Facts) -> float:
    """Median over hidden layers of the weights' norm over what it was first."""
    first, last = f.record.samples[0].weight, f.record.samples[-1].weight
    if first.shape != last.shape:
        return 1.0
    ratio = (last / np.maximum(first, 1e-30))[f.hidden or slice(None)]
    return float(np.nanmedian(ratio)) if np.any(np.isfinite(ratio)) else 1.0


def lower_regularization(watch: Any, finding: Any) -> str:
    """Weight decay of 1e-4 at most; dropout of more than a half becomes a fifth."""
    done = []
    for group in watch.optimizer.param_groups if watch.optimizer is not None else ():
        if (group.get("weight_decay", 0) or 0) > _DECAY:
            done.append(f"weight decay {group['weight_decay']:g} -> {_DECAY:g}")
            group["weight_decay"] = _DECAY
    for module in watch.dropouts:
        if module.p > 0.5:
            done.append(f"dropout {module.p:g} -> {_DROP:g}")
            module.p = _DROP
    return "; ".join(done)
