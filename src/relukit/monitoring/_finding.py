"""What a finding is: symptom, cause, evidence in numbers, remedies in order."""

from dataclasses import dataclass, field
from typing import Any

from relukit._shown import Shown

SYMPTOMS = ("dying_relu", "vanishing_gradient", "exploding", "dead_output", "slow_learning", "oscillating")
CAUSES = (
    "bad_initialization", "learning_rate_too_high", "learning_rate_too_low", "unscaled_input", "shifted_input",
    "saturating_activation", "negative_bias", "too_deep_for_init", "too_narrow", "wrong_output_layer", "loss_mismatch",
    "bad_input_data", "unscaled_target", "too_much_regularization", "gradients_not_cleared", "weights_not_in_optimizer", "blocked_gradient",
    "missing_activation",
)  # fmt: skip

REMEDIES = {
    "negative_bias": ("reset_biases", "revive_dead_units", "leaky_activation"),
    "bad_initialization": ("reinitialize", "revive_dead_units", "normalization"),
    "learning_rate_too_high": ("lower_learning_rate", "clip_gradients", "revive_dead_units"),
    "learning_rate_too_low": ("raise_learning_rate",),
    "unscaled_input": ("standardize_input", "restart"),
    "shifted_input": ("standardize_input", "revive_dead_units"),
    "saturating_activation": ("centered_activation", "relu_activation", "reinitialize", "normalization"),
    "too_deep_for_init": ("reinitialize", "normalization", "skip_connections"),
    "too_narrow": ("leaky_activation", "reinitialize", "widen"),
    "wrong_output_layer": ("remove_output_activation",),
    "loss_mismatch": ("change_loss",),
    "bad_input_data": ("clean_input", "skip_broken_steps"),
    "unscaled_target": ("scale_output", "lower_learning_rate", "clip_gradients"),
    "too_much_regularization": ("lower_regularization", "restart"),
    "gradients_not_cleared": ("clear_gradients", "restart"),
    "weights_not_in_optimizer": ("add_to_optimizer",),
    "blocked_gradient": ("let_gradients_pass",),
    "missing_activation": ("add_activations",),
}


@dataclass(frozen=True)
class Finding(Shown):
    """A verdict.

    Arguments:
        symptom: One of `SYMPTOMS`.
        cause: One of `CAUSES`; "" for a finished network, which does not tell.
        severity: `error`: the run does not learn as it could; `note`: worth knowing.
        layer: Name of the layer where it shows most, or "".
        units: Numbers of the units concerned (at most 1,000 of them).
        since_step: First step at which it was seen.
        evidence: The numbers it rests on.
        remedies: Names of cures, best first; `Watch.fix` applies the first one that it can.
        score: How sure; findings are ranked by severity and score.
    """

    symptom: str
    cause: str
    severity: str
    layer: str = ""
    units: tuple[int, ...] = ()
    since_step: int = 0
    evidence: dict[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()
    score: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "symptom": self.symptom, "cause": self.cause, "severity": self.severity, "layer": self.layer,
            "units": list(self.units), "since_step": self.since_step, "evidence": self.evidence,
            "remedies": list(self.remedies),
        }  # fmt: skip

    def __str__(self) -> str:
        numbers = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.evidence.items())
        where = f" at {self.layer}" if self.layer else ""
        return f"{self.severity}: {self.symptom}{where}{f', since step {self.since_step}' if self.since_step else ''}; {f'cause: {self.cause} ' if self.cause else ''}({numbers}); try {', '.join(self.remedies) or 'nothing'}"
