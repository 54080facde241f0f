"""What a batch's targets were, told from the outputs and their gradient: the loss is the user's own, and stays unseen.

For squared error the gradient of an output is 2 (out - y) / n, for cross-entropy (p - y) / n, and so on: each can be solved for
y. What is found that way counts only where it gives back the loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

_MOST = 1 << 20  # entries of tokens' classes that a look may go through: milliseconds
_NEAR = 1e-2  # relative difference up to which a loss counts as given back


@dataclass(frozen=True)
class Target:
    """Targets of one batch.

    Arguments:
        level: Loss of the best constant output; nan where only the rest is told.
        mean: Of all entries (nan for classes); `std` their deviation, or nan.
        low, high: Quantiles 0.2 and 0.8 of the entries.
        mismatch: What makes loss and output unfit for each other, or "".
        rows: Of the batch.
        one_sided: All of them lie above, or all below, the outputs.
        shares: Of the classes, or of the ones of each output where those are told apart one by one (`binary`); else None.
    """

    level: float
    mean: float = math.nan
    std: float = math.nan
    low: float = math.nan
    high: float = math.nan
    mismatch: str = ""
    rows: int = 0
    shares: tuple[float, ...] | None = None
    binary: bool = False
    one_sided: bool = False
    relation: float = math.nan
    scatter: float = math.nan


def reference(targets: list[Target]) -> tuple[float, float]:
    """Loss of the best constant output over several batches, and how far off it may be, relatively: one batch alone says
    little about rare classes."""
    known = [t for t in targets if math.isfinite(t.level)]
    if not known:
        return math.nan, 0.0
    rows = sum(t.rows for t in known)
    error = 1 / math.sqrt(rows) if rows else 0.0
    shares = [t.shares for t in known if t.shares is not None]
    if len(shares) < len(known) or len({len(s) for s in shares}) != 1:
        return max(sum(t.level for t in known) / len(known), 1e-9), error
    pooled = [sum(t.rows * s[k] for t, s in zip(known, shares)) / rows for k in range(len(shares[0]))]
    if known[0].binary:
        # No positive among a few rows does not mean that there are none (Krichevsky and Trofimov, 1981).
        level = sum(_entropy((rows * p + 0.5) / (rows + 1)) for p in pooled) / len(pooled)
    else:
        level = _mixture(pooled, rows)
    return max(level, 1e-9), error


def recovered(chain: list[str], seen: Any, loss: float, factor: float = 1.0) -> Target | None:
    """Targets of the batch whose output and gradient `seen` holds, or None where they cannot be told.

    Arguments:
        chain: Gradient nodes from the loss back to the last weights.
        seen: The model's output and its gradient.
        loss: The batch's loss.
        factor: The number that it was multiplied by; nan for a number that is not told.
    """
    if seen is None or not chain or not math.isfinite(loss) or factor < 0:
        return None
    out, grad = (t.detach().float() for t in seen)
    factor = factor if math.isfinite(factor) else _factor(chain, out, grad, loss)
    found = _of_part(chain, out, grad / factor, loss / factor)
    return None if found is None else replace(found, level=found.level * factor)


def _factor(chain: list[str], out: Any, grad: Any, loss: float) -> float:
    """What a squared or absolute error must have been multiplied by, so that gradient and loss go together; 1 elsewhere, where
    weights are told one by one."""
    n = out.numel()
    if chain[0] == "MseLoss" and loss > 0:
        return max(float(grad.double().square().mean()) * n**2 / (4 * loss), 1e-30)
    return max(float(grad.abs().max()) * n, 1e-30) if chain[0] == "L1Loss" else 1.0


def _of_part(chain: list[str], out: Any, grad: Any, loss: float) -> Target | None:
    # A loss over some rows of the batch only: the others get no gradient at all.
    covered = grad.reshape(len(grad), -1).ne(0).any(dim=1)
    if 3 < int(covered.sum()) < len(out):
        part = _solved(chain, out[covered], grad[covered], loss)
        if part is not None and math.isfinite(part.level) and not part.mismatch:
            return part
    return _solved(chain, out, grad, loss)


def _solved(chain: list[str], out: Any, grad: Any, loss: float) -> Target | None:
    if "LogSoftmax" in chain[:4]:
        return _classes(out, grad, loss)
    if chain[:1] == ["Mean"] and len(chain) > 1 and chain[1] in ("Relu", "ClampMin", "Clamp"):
        return _hinge(out, grad, loss)
    solve = _SOLVERS.get(chain[0])
    if solve is None and out.numel() > 7 and _two_slopes(grad * out.numel()):
        solve = _absolute  # a loss of one's own that is straight on either side, such as a quantile's
    found = solve(out, grad, loss) if solve is not None and out.numel() > 1 else None
    if found is None and solve is not None and solve in (_absolute, *_SUMMED):  # by sum in place of mean
        found = solve(out, grad / out.numel(), loss / out.numel())
        found = None if found is None else replace(found, level=found.level * out.numel())
    return None if found is None else replace(found, rows=len(out))


def _two_slopes(pull: Any) -> bool:
    """Whether all gradients are one of two numbers of different sign, the slopes of a loss on signed distances."""
    above, below = pull[pull > 0], pull[pull < 0]
    same = [float(side.max() - side.min()) < 1e-3 * float(side.abs().max()) for side in (above, below) if side.numel()]
    return all(same) and above.numel() + below.numel() == pull.numel() and (float(pull.abs().max()) <= 1.0 + 1e-3)


def _numbers(y: Any, level: float, mismatch: str = "") -> Target:
    import torch

    flat = y.reshape(-1)
    low, high = torch.quantile(flat[:4096], torch.tensor([0.2, 0.8], device=flat.device)).tolist()
    return Target(level, float(flat.mean()), float(flat.std(unbiased=False)), low, high, mismatch)


def _relation(out: Any, y: Any) -> float:
    """By how many deviations outputs and targets of the same row go together more than those of rows paired by chance would.

    Sum over rows of <a, b>, both centered; over all pairings its mean is 0 and its variance trace(A'A B'B) / (n - 1).
    """
    a, b = (t[:256].reshape(min(len(t), 256), -1)[:, :256].float() for t in (out, y))
    if len(a) < 3 or a.shape != b.shape:
        return math.nan
    a, b = a - a.mean(0), b - b.mean(0)
    chance = float(((a.T @ a) * (b.T @ b)).sum()) / (len(a) - 1)
    return float((a * b).sum()) / math.sqrt(chance) if 0 < chance < math.inf else math.nan


def _scatter(losses: Any) -> float:
    """Deviation of the rows' losses over their mean: how much a batch's loss changes with its rows."""
    if len(losses) < 4:
        return math.nan
    mean = float(losses.mean())
    return float(losses.std()) / mean if mean > 0 else math.nan


def _by_row(values: Any) -> Any:
    return values.reshape(len(values), -1).mean(1)


def _close(a: float, b: float) -> bool:
    return math.isfinite(a) and abs(a - b) <= _NEAR * abs(b) + 1e-6


def _mse(out: Any, grad: Any, loss: float) -> Target | None:
    n, rows = out.numel(), len(out)
    for scale, total in ((n, 1), (1, n), (rows, n / rows)):  # reduction by mean, by sum, by the mean of rows' sums
        y = out - grad * scale / 2
        error = float((out - y).square().mean()) * total
        if _close(error, loss):
            level = float(y.reshape(len(y), -1).var(dim=0, unbiased=False).mean()) * total
            spread = float(y.std(unbiased=False))
            if spread < 1e-3 * max(float(y.abs().mean()), math.sqrt(error / total)):
                level = math.nan  # what is driven to one number, a residual to 0, has no worse answer to be measured by
            same = y.ndim == 2 and y.shape[1] > 1 and float((y - y[:, :1]).abs().max()) < 1e-4 * (spread + 1e-9)
            told = _numbers(y, level, "one target stands against all outputs of its row" if same else "")
            return replace(told, relation=_relation(out, y), scatter=_scatter(_by_row((out - y).square())))
    # Every output against every target: the mean over pairs is mean (out - E y)^2 + var y, so all solve to E y.
    y = out - grad * n / 2
    flat, rest = y.reshape(-1), loss - float((out - y).square().mean())
    even = float(flat.std(unbiased=False)) < 1e-3 * (float(flat.abs().mean()) + math.sqrt(max(rest, 0.0)))
    if out.numel() == len(out) > 2 and even and rest > 1e-3 * loss:
        mean = float(flat.mean())
        deviation = math.sqrt(rest)
        return Target(
            rest, mean, deviation, mean - deviation, mean + deviation, "every output is compared with every target"
        )
    return None


def _bounded(limit_of: Any) -> Any:
    """Losses that are squared near 0 and straight beyond: there only the sign is told, and the loss tells the mean size."""

    def solve(out: Any, grad: Any, loss: float) -> Target | None:
        import torch

        n = out.numel()
        pull = grad * n
        limit = limit_of(pull)
        if not 0 < limit < math.inf:
            return None
        if limit == 1.0 and float(pull.abs().max()) > 1.001:
            return None
        straight = pull.abs() > limit * (1 - 1e-4)
        inside = 0.5 * float(pull[~straight].square().sum())
        count = int(straight.sum())
        size = ((loss * n - inside) / count / limit + 0.5 * limit) if count else 0.0
        if size < limit * 0.9 if count else not _close(inside / n, loss):
            return None
        if count == n and bool((pull > 0).all() | (pull < 0).all()):  # all far off on one side, as by an absolute error
            mean = float(out.mean()) - size * math.copysign(1.0, float(pull.reshape(-1)[0]))
            return Target(math.nan, mean, math.nan, mean, mean, one_sided=True)
        if count > n / 2 and float(out.std(unbiased=False)) > 0.5 * size:
            return None  # most errors are told by their sign, and they are as unlike as the outputs: no target is told
        y = out - torch.where(straight, torch.sign(pull) * size, pull)
        errors = (y - y.median()).abs()
        level = float(torch.where(errors < limit, 0.5 * errors.square(), limit * (errors - 0.5 * limit)).mean())
        return replace(_numbers(y, level), relation=_relation(out, y))

    return solve


def _absolute(out: Any, grad: Any, loss: float) -> Target | None:
    """Signs alone: an output that hardly varies and lies amid the targets has about the loss of the best constant.

    Quantile losses are the same with two slopes, one for each side.
    """
    pull = grad * out.numel()
    if float(pull.abs().max()) > 1.001:
        return None
    down, up = float(pull.max()), -float(pull.min())  # slopes where the output is too large, too small
    above = float((pull < 0).float().mean())
    size = up if above else down  # of the side there is
    if above in (0.0, 1.0) and size > 0:  # all targets on one side: their mean is told exactly, nothing else
        mean = float(out.mean()) + (loss if above else -loss) / size
        return Target(math.nan, mean, math.nan, mean, mean, one_sided=True)
    if not 0.25 < above < 0.75 or down <= 0 or up <= 0:
        return None
    reach = loss / (above * up + (1 - above) * down)  # mean distance, were it the same on both sides
    if float(out.std(unbiased=False)) > 0.5 * reach:
        return None
    y = out - pull.sign() * reach
    return Target(loss, float(y.mean()), 1.25 * reach, float(out.mean()) - reach, float(out.mean()) + reach)


def _entropy(share: float) -> float:
    share = min(max(share, 1e-4), 1 - 1e-4)
    return -(share * math.log(share) + (1 - share) * math.log(1 - share))


def _mixture(shares: Sequence[float], rows: int) -> float:
    """Cross-entropy of the best constant over classes with these shares of so many rows, which show less than their source has
    (Miller, 1955)."""
    entropy = -sum(p * math.log(p) for p in shares if p > 0)
    return min(math.log(len(shares)), entropy + (sum(p > 1e-3 for p in shares) - 1) / (2 * rows))


def _logits(out: Any, grad: Any, loss: float) -> Target | None:
    import torch

    y = torch.sigmoid(out) - grad * out.numel()
    given = float((out.clamp(min=0) - out * y + torch.log1p(torch.exp(-out.abs()))).mean())
    if _close(given, loss):
        rows = _by_row(out.clamp(min=0) - out * y + torch.log1p(torch.exp(-out.abs())))
        return replace(_probabilities(y), relation=_relation(out, y), scatter=_scatter(rows))
    p = torch.sigmoid(out.double())
    return _weighted_ones(p, torch.where(grad < 0, -grad / (1 - p), grad / p), grad < 0, loss)


def _weighted_ones(p: Any, weights: Any, ones: Any, loss: float) -> Target | None:
    """A sum of weighted cross-entropies with targets 0 and 1, which the gradient's signs tell: by sum, or with a weight for each class."""
    import torch

    sure = (p > 1e-4) & (p < 1 - 1e-4)
    if not bool(sure.any()):
        return None
    weights = torch.where(sure, weights, weights[sure].median())
    if not _close(float(-(weights * torch.log(torch.where(ones, p, 1 - p).clamp_min(1e-30))).sum()), loss):
        return None
    weights, ones = weights.reshape(len(p), -1), ones.reshape(len(p), -1)
    one, zero = (weights * ones).sum(0), (weights * ~ones).sum(0)
    level = sum(float(a + b) * _entropy(float(a / (a + b))) for a, b in zip(one, zero))
    told = _numbers(ones.float(), level)
    return replace(told, binary=True, relation=_relation(p, ones))


def _probability(out: Any, grad: Any, loss: float) -> Target | None:
    import torch

    if float(out.min()) >= 0 and float(out.max()) <= 1:
        y = out - grad * out.numel() * out * (1 - out)
        given = float(-(y * torch.log(out.clamp_min(1e-12)) + (1 - y) * torch.log((1 - out).clamp_min(1e-12))).mean())
        if _close(given, loss):
            return replace(_probabilities(y), relation=_relation(out, y))
        p = out.double()
        weighted = _weighted_ones(p, torch.where(grad < 0, -grad * p, grad * (1 - p)), grad < 0, loss)
        if weighted is not None:
            return weighted
    return _logits(out, grad, loss)  # the sigmoid is part of the loss function


def _probabilities(y: Any) -> Target:
    outside = float(((y < -0.05) | (y > 1.05)).float().mean()) > 0.01
    share = y.clamp(0, 1).reshape(len(y), -1).mean(0)
    shares = tuple(share[:64].tolist())
    level = sum(_entropy(s) for s in shares) / len(shares)
    told = _numbers(y, level, "targets of a loss on probabilities lie outside [0, 1]" if outside else "")
    return replace(told, shares=shares, binary=True)


def _classes(out: Any, grad: Any, loss: float) -> Target | None:
    import torch

    if out.ndim > 2 and out.numel() > _MOST:
        return None
    if out.ndim > 2:
        # A class for each token or pixel: classes are the second axis, or the last where the loss flattened the rest.
        found = _classes(*_asked(out.movedim(1, -1), grad.movedim(1, -1)), loss)
        last = _classes(*_asked(out, grad), loss) if out.ndim == 3 and (found is None or found.shares is None) else None
        return last if last is not None and last.shares is not None else found
    if out.ndim != 2:
        return None
    most = math.log(max(out.shape[1], 1))
    if out.shape[1] == 1:
        return Target(0.0, mismatch="cross-entropy on a single output is 0 whatever the network does")
    logs = torch.log_softmax(out, 1)
    chosen = logs.exp() - grad * len(out)  # the targets' distributions: one class, or smoothed
    if not _close(float(-(chosen * logs).sum(1).mean()), loss):
        return _weighted_classes(logs, grad, loss) or (Target(most) if loss < 5 * most else None)
    shares = tuple(chosen.mean(0).clamp_min(0).tolist())
    told = {"relation": _relation(out, chosen), "scatter": _scatter(-(chosen * logs).sum(1))}
    return Target(_mixture(shares, len(out)), rows=len(out), shares=shares, **told)


def _asked(out: Any, grad: Any) -> tuple[Any, Any]:
    """The rows along the last axis, of all others together, that a loss asks for: padding has no gradient."""
    out, grad = (t.reshape(-1, t.shape[-1]) for t in (out, grad))
    covered = grad.ne(0).any(dim=1)
    return (out[covered], grad[covered]) if 3 < int(covered.sum()) < len(out) else (out, grad)


def _weighted_classes(logs: Any, grad: Any, loss: float) -> Target | None:
    """A sum of weighted cross-entropies, which the gradient's only negative entry in each row tells: by sum, or with weights of classes."""
    import torch

    logs, grad = logs.double(), grad.double()
    row, label = torch.arange(len(grad)), grad.argmin(1)
    left = 1 - logs[row, label].exp()
    sure = left > 1e-4
    if not bool(sure.any()):
        return None
    weights = -grad[row, label] / left
    weights = torch.where(sure, weights, weights[sure].median())
    if not _close(float(-(weights * logs[row, label]).sum()), loss):
        return None
    total = float(weights.sum())
    shares = torch.zeros(grad.shape[1], dtype=torch.float64).index_add_(0, label.cpu(), weights.cpu()) / total
    chosen = torch.nn.functional.one_hot(label, grad.shape[1])
    return Target(total * _mixture(shares.tolist(), len(grad)), relation=_relation(logs, chosen))


_ZEROS = "labels 0 under a loss that takes -1 and 1: these rows tell nothing"


def _hinge(out: Any, grad: Any, loss: float) -> Target | None:
    """mean max(0, 1 - y out) with y = +-1: outputs 0 cost 1."""
    pull = grad * out.numel()
    sure = float(((pull.abs() < 1e-4) | ((pull.abs() - 1).abs() < 1e-4)).float().mean()) == 1.0
    if not sure or float(pull.abs().max()) < 0.5:
        return None
    asked = pull.abs() > 0.5
    # Rows without a gradient cost nothing by labels -1 and 1, and 1 each by a label 0.
    zeros = loss * out.numel() - float((1 + pull * out)[asked].sum())
    none = zeros > 0.99 and float(pull.max()) < 0.5
    return Target(1.0, mismatch=_ZEROS if none else "")


def _soft_margin(out: Any, grad: Any, loss: float) -> Target | None:
    """mean log(1 + exp(-y out)) with y = +-1: the gradient's sign tells y, and a label 0 has no gradient."""
    import torch

    y = -torch.sign(grad)
    given = float(torch.nn.functional.softplus(-y * out).mean())
    if not _close(given, loss):
        return None
    known = y.reshape(len(y), -1)
    none = int((known == 0).sum()) > 1 and float(out.abs().max()) < 80  # beyond, a gradient underflows
    ones = (known > 0).float()
    level = sum(_entropy(float(share)) for share in ones.mean(0)) / known.shape[1]
    return Target(
        math.nan if none else level, mismatch=_ZEROS if none else "", relation=_relation(out, y), rows=len(out)
    )


def _margin(out: Any, grad: Any, loss: float) -> Target | None:
    return Target(1 - 1 / out.shape[1]) if out.ndim == 2 and out.shape[1] > 1 else None


_SOLVERS = {
    "MseLoss": _mse, "SmoothL1Loss": _bounded(lambda pull: 1.0), "HuberLoss": _bounded(lambda pull: max(1.0, float(pull.abs().max()))),
    "L1Loss": _absolute, "BinaryCrossEntropyWithLogits": _logits, "BinaryCrossEntropy": _probability, "MultiMarginLoss": _margin,
    "SoftMarginLoss": _soft_margin,
}  # fmt: skip
_SUMMED = (_SOLVERS["SmoothL1Loss"],)
