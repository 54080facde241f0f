"""What counts as a flip: rows on the outputs for every decision asked about."""

from dataclasses import dataclass

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array
from relukit.network import Network


@dataclass(frozen=True, eq=False)
class Goal:
    """Another decision: `A y + b <= 0` in every row wherever it is made.

    With a probability over more than two classes the rows are necessary but not sufficient, and `exact` is False.
    """

    A: Array
    b: Array
    exact: bool = True


class Question:
    """The flips of one input.

    Arguments:
        target: Only this decision counts.
        margin: The new decision must lead every other output by at least so much (a single output: lie so far beyond 0).
        probability: The new decision must have at least this probability after softmax or sigmoid.

    Raises:
        InvalidInput: A target that does not exist or is the decision already, or a margin and probability that make no sense.
    """

    def __init__(
        self, network: Network, x: Array, target: int | None, margin: float = 0.0, probability: float | None = None
    ) -> None:
        self.network, self.source = network, int(network.decide(x))
        classes = max(network.outputs, 2)
        if target is not None and not 0 <= target < classes:
            raise InvalidInput(f"target {target} is none of the decisions 0 to {classes - 1}")
        if target == self.source:
            raise InvalidInput(f"target {target} is the decision already")
        if not np.isfinite(margin) or margin < 0:
            raise InvalidInput(f"margin must be a number of at least 0, got {margin}")
        if probability is not None and not 0 < probability < 1:
            raise InvalidInput(f"probability must lie between 0 and 1, got {probability}")
        self.margin, self.probability = float(margin), probability
        self.logit = 0.0 if probability is None else float(np.log(probability) - np.log1p(-probability))
        self.lead = max(self.margin, self.logit)
        self.targets = [t for t in range(classes) if t != self.source and target in (None, t)]
        self.goals = {
            t: self._goal(t, target is not None or self.lead != 0.0 or probability is not None) for t in self.targets
        }

    def _goal(self, t: int, strict: bool) -> Goal:
        if self.network.outputs == 1:
            return Goal(np.array([[-1.0 if t == 1 else 1.0]]), np.array([self.lead]))
        others = [j for j in range(self.network.outputs) if j != t] if strict else [self.source]
        A = np.zeros((len(others), self.network.outputs))
        A[np.arange(len(others)), others] = 1.0
        A[:, t] = -1.0
        b = np.full(len(others), self.lead)
        if self.probability is None or self.network.outputs == 2:
            return Goal(A, b)
        # log of the sum of exp(y_j - y_t) is convex and at least the mean plus log of the number, in every sum of rows.
        return Goal(np.vstack([A, A.mean(axis=0)]), np.append(b, self.logit + np.log(len(others))), exact=False)

    def rows(self, t: int, y: Array) -> Array:
        """How far outputs are from decision t: at most 0 where it is made; shape `(batch,)`."""
        goal = self.goals[t]
        worst = (y @ goal.A.T + goal.b).max(axis=1)
        if goal.exact:
            return worst
        others = np.delete(y, t, axis=1) - y[:, [t]]
        top = others.max(axis=1, keepdims=True)
        soft = top[:, 0] + np.log(np.exp(others - top).sum(axis=1)) + self.logit
        return np.maximum(worst, soft)

    def slopes(self, t: int, y: Array) -> Array:
        """Slopes of `-rows(t, y)` by the outputs, shape `(batch, outputs)`."""
        goal = self.goals[t]
        out = y @ goal.A.T + goal.b
        if goal.exact:
            return -goal.A[out.argmax(axis=1)]
        others = np.exp(y - np.delete(y, t, axis=1).max(axis=1, keepdims=True))
        others[:, t] = 0.0
        weights = others / others.sum(axis=1, keepdims=True)
        weights[:, t] = -1.0
        return -weights

    def decided(self, y: Array) -> int | None:
        """The new decision where outputs as the original returns them (head included) are a flip."""
        y = np.asarray(y, np.float64)
        if not np.all(np.isfinite(y)):
            return None
        if len(y) == 1:
            found = int(y[0] > (0.5 if self.network.head == "sigmoid" else 0.0))
        else:
            found = int(np.argmax(y))
        if found not in self.targets:
            return None
        if self.lead == 0.0 and self.probability is None:
            return found
        if self.network.head in ("sigmoid", "softmax"):
            with np.errstate(divide="ignore"):
                y = np.log(y) - (np.log1p(-y) if self.network.head == "sigmoid" else 0.0)
            y = np.nan_to_num(y, neginf=-800.0, posinf=800.0)
        return found if self.rows(found, y[None])[0] <= 0 else None
