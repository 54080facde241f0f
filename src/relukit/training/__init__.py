"""Training: fit, and what keeps deep networks trainable."""

from relukit.training._fit import Fit as Fit
from relukit.training._fit import fit as fit
