"""What a watched training leaves behind: losses of all steps, and samples of gradients, updates and activity."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

_FEW = 16  # rows of a batch from which on its loss alone says how training goes


@dataclass(eq=False)
class Sample:
    """One look at the gradients, after the backward pass of a step.

    Arguments:
        step: Number of the step, from 1.
        grad: l2 norm of each layer's weight gradient, shape `(layers,)`; nan where a layer had none.
        weight: l2 norm of each layer's weight.
        silent: For each layer the units without any gradient in this batch, bool arrays.
        seconds: What the look cost.
        pull: Weight decay against what the loss asks for (see `decay_pull`).
        rate: Learning rate, or nan.
    """

    step: int
    grad: np.ndarray
    weight: np.ndarray
    silent: list[np.ndarray]
    seconds: float = 0.0
    pull: float = 0.0
    rate: float = math.nan

    def silent_share(self) -> np.ndarray:
        return np.array([s.mean() if len(s) else 0.0 for s in self.silent])


@dataclass(eq=False)
class Activity:
    """One look at the forward pass: the inputs and each layer's outputs.

    Arguments:
        step: Number of the step.
        input_mean: Per feature over the batch, `input_std` likewise (features flattened, at most 4096 of them).
        rms: Root mean square of each layer's output by layer index.
        saturated: Share of entries beyond 4 before a sigmoid (2 before tanh).
        outputs: A few rows of the model's output.
        first_non_finite: The first layer whose output was not finite, or "".
        target: What the batch's targets were, as far as that can be told.
        overshoot: Correlation of outputs with their gradients: near 1 where outputs vary far more than their targets, and apart
            from them, whatever the loss.
        always_on: Units whose output before the activation was above 0 for all of a few rows, by layer index.
    """

    step: int
    input_mean: np.ndarray
    input_std: np.ndarray
    input_finite: bool
    rms: dict[int, float]
    saturated: dict[int, float]
    outputs: np.ndarray
    first_non_finite: str = ""
    target: Any = None
    always_on: dict[int, np.ndarray] = field(default_factory=dict)
    overshoot: float = math.nan
    tokens: bool = False  # inputs are whole numbers

    @property
    def rows(self) -> int:
        return len(self.outputs)


@dataclass(eq=False)
class Record:
    """Everything seen so far."""

    layers: list[Any]
    losses: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    activity: list[Activity] = field(default_factory=list)
    updates: list[tuple[int, np.ndarray]] = field(default_factory=list)
    scale: tuple[float, float] = (1.0, 0.0)  # what a cure multiplies the model's outputs by and adds to them
    # At a step: how far each layer's weights lie from where they started, over their size.
    away: tuple[int, np.ndarray] | None = None
    chain: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    straight: list[int] = field(default_factory=list)  # layers with nothing between them and the next one
    joined: bool = False  # paths join between the layers: skip connections
    start: dict[str, np.ndarray] = field(default_factory=dict)
    rate: float = math.nan
    memory: float = 1.0  # steps that the optimizer's momentum averages over
    optimizer: str = ""
    dropped: float = 0.0  # largest share that a dropout module drops
    before: int = 0  # steps that came before the first of these losses
    factor: float = 1.0  # that the whole loss is multiplied by; nan where it is not told
    kept: list[bool] = field(default_factory=list)  # at looks: did the gradient still hold those of steps taken before?
    outside: list[int] = field(default_factory=list)  # layers to be trained that the optimizer does not hold
    ran: list[int] = field(default_factory=list)  # layers that the first forward pass went through
    holes: int = 0  # losses that were not finite, of steps that were left out

    @property
    def step(self) -> int:
        return len(self.losses)

    def until(self, count: int) -> "Record":
        """What was known after so many of these steps."""
        last = self.before + count
        return replace(
            self,
            losses=self.losses[:count],
            samples=[s for s in self.samples if s.step <= last],
            activity=[a for a in self.activity if a.step <= last],
            updates=[u for u in self.updates if u[0] <= last],
            away=self.away if self.away is not None and self.away[0] <= last else None,
        )

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation by feature: of the first batch, or of several where it holds a few rows only.

        Two rows tell no deviation: until eight rows were seen, features count as standardized.
        """
        if not self.activity:
            return np.zeros(1), np.ones(1)
        first = self.activity[0]
        if first.rows >= _FEW or not first.rows or first.tokens:
            return first.input_mean, first.input_std
        looks = [a for a in self.activity[:_FEW] if a.input_mean.shape == first.input_mean.shape and a.input_finite]
        if sum(a.rows for a in looks) < 8:
            return np.zeros_like(first.input_mean), np.ones_like(first.input_std)
        mean = np.mean([a.input_mean for a in looks], axis=0)
        return mean, np.sqrt(np.mean([a.input_std**2 + (a.input_mean - mean) ** 2 for a in looks], axis=0))

    def entry(self) -> float:
        """Root mean square of what the first layer put out at the first look, as torch's start would have it; nan where that is not told."""
        seen = next((a for a in self.activity if a.rms), None)
        if seen is None or "weight_std" not in self.start:
            return math.nan
        size = float(self.start["weight_std"][0]) * math.sqrt(3 * self.layers[0].fan_in)
        return seen.rms.get(0, math.nan) / max(size, 1.0)

    def loss_at(self, step: int) -> float:
        """Loss of a step by the number that samples and looks go by."""
        return self.losses[min(max(step - 1 - self.before, 0), len(self.losses) - 1)]

    def smooth(self) -> np.ndarray:
        """Losses as means over the last few steps that hold 16 rows together: of single rows each is another one's."""
        losses = np.asarray(self.losses, float)
        rows = len(self.activity[0].outputs) if self.activity else _FEW
        width = min(math.ceil(_FEW / max(rows, 1)), len(losses))
        if width < 2:
            return losses
        means = np.convolve(losses, np.full(width, 1 / width), "valid")
        return np.concatenate([np.full(width - 1, means[0]), means])

    def level(self, share: float = 0.15) -> tuple[float, float]:
        """Mean loss of the first few steps and of the last ones."""
        losses = self.smooth()
        first = min(max(3, len(losses) // 20), 10)
        last = max(5, int(share * len(losses)))
        before = float(np.mean(losses[:first]))
        # Steps that blew up at once are no start to fall from: the very first loss is.
        before = float(losses[0]) if before > 3 * losses[0] > 0 else before
        return before, float(np.mean(losses[-last:]))

    def drop(self) -> float:
        """Share of the initial loss that is gone; negative where it grew."""
        if len(self.losses) < 8:
            return 0.0
        before, now = self.level()
        return (
            (before - now) / max(self.size(before), 1e-12)
            if math.isfinite(before) and math.isfinite(now)
            else -math.inf
        )

    def size(self, before: float) -> float:
        """What changes of the loss are measured by: its first level; of one that changes its sign, as rewards do, its first sizes."""
        first = np.asarray(self.losses[:16])
        return float(np.mean(np.abs(first))) if first.min() < 0 < first.max() else abs(before)

    def stands(self) -> bool:
        """Whether the last quarter of the losses lies no lower than the quarter before."""
        quarter = len(self.losses) // 4
        losses = self.smooth()
        now, before = losses[-quarter:], losses[-2 * quarter : -quarter]
        return quarter > 0 and float(np.mean(now)) > 0.97 * float(np.mean(before))

    def unrest(self, count: int) -> tuple[float, float]:
        """Of the last losses: the median jump from one to the next, and how far they spread about a level that only falls, over their
        median; of a loss that goes through 0, such as a Poisson's, over its first sizes where those are larger."""
        losses = self.smooth()[-count:]
        level = max(abs(float(np.median(losses))), 1e-12)
        if min(self.losses) < 0 < max(self.losses):
            level = max(level, float(np.mean(np.abs(self.losses[:16]))))
        jump = float(np.median(np.abs(np.diff(losses)))) / level
        return jump, float(np.subtract(*np.percentile(losses - _falling(losses), [90, 10]))) / level

    def scatter(self) -> float:
        """How much a batch's loss changes with its rows alone: its deviation over its size.

        Squared errors scatter at least as those of normal ones do (by the root of 2): a few rows seldom show their tail.
        """
        told = [a.target.scatter for a in self.activity if a.target is not None and math.isfinite(a.target.scatter)]
        rows = len(self.activity[0].outputs) if self.activity else 0
        squared = self.chain[:1] == ["MseLoss"]
        if not rows or not (told or squared):
            return 0.0
        return max(float(np.median(told)) if told else 0.0, math.sqrt(2) * squared) / math.sqrt(max(rows, _FEW))

    def relation(self) -> float:
        """How far the outputs of the last three looks went with their targets, in deviations of chance; 0 where that is not told."""
        told = [a.target.relation for a in self.activity if a.target is not None and math.isfinite(a.target.relation)]
        last = told[-3:]
        return sum(last) / math.sqrt(len(last)) if last else 0.0

    def path(self) -> float:
        """How far the weights came, in their own size: the mean over looks of a step's relative length (median over layers) times steps."""
        steps = [float(np.nanmedian(u)) for _, u in self.updates if np.any(np.isfinite(u))]
        return self.step * sum(steps) / len(steps) if steps else 0.0

    def drift(self) -> float:
        """How straight the weights went: from start to now, over what a random walk of as many such steps makes (median over layers).

        Near 1 where the gradients of the batches agree in nothing, more where each step goes on where the others went. Of steps that
        average over gradients, a walk comes as far as the root of (1 + beta) / (1 - beta) times as many. nan where it is not told.
        """
        if self.away is None or not self.updates or self.away[0] <= self.before:
            return math.nan
        step, away = self.away
        with np.errstate(all="ignore"):
            length = np.mean([u for at, u in self.updates if at <= step], axis=0)
            straight = away / (length * math.sqrt((step - self.before) * (2 * self.memory - 1)))
        return float(np.median(straight[np.isfinite(straight)])) if np.any(np.isfinite(straight)) else math.nan

    def trend(self) -> float:
        """t statistic of the slope of the loss over all steps after the first few: well below 0 where it falls steadily."""
        losses = np.asarray(self.losses[3:])
        if len(losses) < 8 or not np.all(np.isfinite(losses)):
            return 0.0
        groups = np.array_split(
            losses, min(len(losses) // 2, 24)
        )  # group means: batches that come round again are not noise
        y = np.array([g.mean() for g in groups])
        x = np.arange(len(y)) - (len(y) - 1) / 2
        slope = float(x @ y / (x @ x))
        rest = y - y.mean() - slope * x
        error = math.sqrt(float(rest @ rest) / max(len(y) - 2, 1) / float(x @ x))
        return slope / error if error > 0 else -math.inf * (slope < 0) if slope else 0.0


def _falling(values: np.ndarray) -> np.ndarray:
    """The nearest sequence that never rises (pool adjacent violators: Ayer et al., 1955)."""
    means: list[float] = []
    counts: list[int] = []
    for value in values.tolist():
        means.append(value)
        counts.append(1)
        while len(means) > 1 and means[-2] < means[-1]:
            count = counts[-2] + counts[-1]
            means[-2:] = [(means[-2] * counts[-2] + means[-1] * counts[-1]) / count]
            counts[-2:] = [count]
    return np.repeat(means, counts)


def without_holes(record: Record, skipped: bool = False) -> Record:
    """The record with each loss that is not finite as the last finite one before it, where training goes on all the same.

    That is so where the last three losses are finite, or where such steps are left out on purpose (`skipped`) and one in the last
    16 is.
    """
    losses = np.asarray(record.losses, float)
    sound = np.isfinite(losses)
    if sound.all() or not sound[-16 if skipped else -3 :].any() or (not skipped and not sound[-3:].all()):
        return record
    places = np.maximum.accumulate(np.where(sound, np.arange(len(losses)), -1))
    places[places < 0] = int(np.argmax(sound))
    return replace(record, losses=losses[places].tolist(), holes=int((~sound).sum()))
