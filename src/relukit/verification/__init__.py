"""Proofs: what a network can and cannot do on a set."""

from relukit.verification._verdict import Falsified as Falsified
from relukit.verification._verdict import Undecided as Undecided
from relukit.verification._verdict import Verdict as Verdict
from relukit.verification._verdict import Verified as Verified
from relukit.verification.certificate import Certificate as Certificate
from relukit.verification.certificate import Claim as Claim
from relukit.verification.certificate import certify as certify
from relukit.verification.flip import Flip as Flip
from relukit.verification.flip import flip as flip
from relukit.verification.verify import verify as verify
