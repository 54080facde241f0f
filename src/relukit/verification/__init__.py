"""Proofs: what a network can and cannot do on a set."""

from typing import TYPE_CHECKING

from relukit._lazy import attach
from relukit.verification._verdict import Falsified as Falsified
from relukit.verification._verdict import Undecided as Undecided
from relukit.verification._verdict import Verdict as Verdict
from relukit.verification._verdict import Verified as Verified
from relukit.verification.flip import Flip as Flip
from relukit.verification.flip import flip as flip
from relukit.verification.verify import verify as verify

if TYPE_CHECKING:
    from relukit.verification.certificate import Certificate as Certificate
    from relukit.verification.certificate import Claim as Claim
    from relukit.verification.certificate import certify as certify
    from relukit.verification.queries import Interval as Interval
    from relukit.verification.queries import Reach as Reach
    from relukit.verification.queries import closed_loop as closed_loop
    from relukit.verification.queries import equivalent as equivalent
    from relukit.verification.queries import lipschitz as lipschitz
    from relukit.verification.queries import monotone as monotone
    from relukit.verification.queries import output_range as output_range
    from relukit.verification.queries import reach as reach
    from relukit.verification.queries import robust as robust
    from relukit.verification.queries import safe_step as safe_step

# What one proof does not need is loaded when it is first used.
_CERTIFICATES = ("Certificate", "Claim", "certify")
_QUERIES = ("Interval", "Reach", "closed_loop", "equivalent", "lipschitz", "monotone", "output_range", "reach", "robust", "safe_step")  # fmt: skip
__getattr__, __dir__, _ = attach(
    __name__,
    dict.fromkeys(_CERTIFICATES, "relukit.verification.certificate") | dict.fromkeys(_QUERIES, "relukit.verification.queries"),
)  # fmt: skip
