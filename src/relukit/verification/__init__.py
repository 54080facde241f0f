"""Proofs: what a network can and cannot do on a set."""

from typing import TYPE_CHECKING

from relukit._lazy import attach
from relukit.verification._verdict import Falsified as Falsified
from relukit.verification._verdict import Interval as Interval
from relukit.verification._verdict import Undecided as Undecided
from relukit.verification._verdict import Verdict as Verdict
from relukit.verification._verdict import Verified as Verified
from relukit.verification.flip import Flip as Flip
from relukit.verification.flip import flip as flip
from relukit.verification.flip import flips as flips
from relukit.verification.verify import verify as verify

if TYPE_CHECKING:
    from relukit._spread import Shard as Shard
    from relukit.verification._merge import Merged as Merged
    from relukit.verification._merge import merge as merge
    from relukit.verification.certificate import Certificate as Certificate
    from relukit.verification.certificate import Claim as Claim
    from relukit.verification.certificate import certify as certify
    from relukit.verification.control import Reach as Reach
    from relukit.verification.control import closed_loop as closed_loop
    from relukit.verification.control import reach as reach
    from relukit.verification.control import safe_step as safe_step
    from relukit.verification.instances import run_instances as run_instances
    from relukit.verification.queries import equivalent as equivalent
    from relukit.verification.queries import monotone as monotone
    from relukit.verification.queries import output_range as output_range
    from relukit.verification.queries import robust as robust
    from relukit.verification.slopes import lipschitz as lipschitz

# What one proof does not need is loaded when it is first used; the others are here already.
_NAMES = {
    "_verdict": ("Falsified", "Interval", "Undecided", "Verdict", "Verified"),
    "flip": ("Flip", "flip", "flips"),
    "verify": ("verify",),
    "_merge": ("Merged", "merge"),
    "certificate": ("Certificate", "Claim", "certify"),
    "control": ("Reach", "closed_loop", "reach", "safe_step"),
    "instances": ("run_instances",),
    "queries": ("equivalent", "monotone", "output_range", "robust"),
    "slopes": ("lipschitz",),
}
__getattr__, __dir__, __all__ = attach(
    __name__,
    {name: f"relukit.verification.{module}" for module, names in _NAMES.items() for name in names}
    | {"Shard": "relukit._spread"},
)
