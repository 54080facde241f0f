"""Proofs: what a network can and cannot do on a set."""

from relukit.verification.flip import Flip as Flip
from relukit.verification.flip import flip as flip
