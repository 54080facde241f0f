"""Remove what provably does nothing on a set of inputs: dead gates, always-on gates, copies, inputs that never move."""

from dataclasses import replace
from typing import Any

import numpy as np

from relukit._clock import Clock
from relukit._errors import InvalidInput, UnsupportedOperation
from relukit.bounds import Bounds, interval
from relukit.compression._channels import has_copies
from relukit.compression._domain import bounded, cover_of, hull, moving_inputs, points_of
from relukit.compression._float32 import float32_error
from relukit.compression._forms import Candidate, forms
from relukit.compression._large import bounded_in_time, too_large
from relukit.compression._proof import Domain, Record, confirmed, relu_only, stable
from relukit.compression._result import Compression
from relukit.compression._settle import hoped, settle
from relukit.compression._signs import signed
from relukit.compression._witness import Seen, ascend, products
from relukit.network import Network, load
from relukit.sets import AbstractSet, Box, require_set
from relukit.verification.certificate import Certificate

_LOOSE = 1e-6  # of the outputs: what multiples that are such in float32 only may add to the proven difference
_COMPARED, _LEAST = 1e9, 20  # multiplications of comparing the two networks on points, and how many points at least
_HOPELESS = 0.03  # seconds of search where no form would be smaller even if all open units were stable


def compress(
    network: Any,
    input_set: AbstractSet | None = None,
    seed: int = 0,
    timeout: float = 10.0,
    *,
    data: Any = None,
    margin: float = 0.0,
    tolerance: float = 0.0,
    proof: bool = False,
) -> Compression:
    """A network with fewer parameters that equals this one on a set.

    Witnesses come first: sampled points, and points found along gradients from them; units seen on both sides of their kink are undecided
    for certain. Linear bounds then prove which of the others are constant or always on, and branch and bound settles most of the rest. Gates
    that are multiples of others are merged. Forms are built (layers with fewer units; gates with direct connections; convolutions with fewer
    channels) and the one with the fewest parameters is kept.

    Arguments:
        network: Piecewise linear; anything that `load` takes.
        input_set: The domain: one box, ball or polytope; by default the network's own box.
        timeout: Seconds for branch and bound over all units together; 0 leaves it out. Where no form would be smaller whatever it proves,
            it gets a few hundredths of a second. Networks for which linear bounds alone would take longer (above some 50,000 units) get these
            bounds within it, units that may be removed first.
        data: Instead of a set: rows `(count, inputs)`; the domain is all inputs within `margin` of a row, entry by entry.
        tolerance: Outputs may differ by this much: gates that matter least become lines, the bound proven.
        proof: Whether to keep a proof for `save_proof`; only units that the independent checker can follow count then.
        seed: Of everything that is drawn at random; the same seed gives the same answer.

    Raises:
        UnsupportedOperation: An activation is smooth; a proof was asked for and an activation has slopes that no sum of ReLUs gives exactly.
        InvalidInput: No domain, weights that are not finite, a tolerance or margin below 0.

    References:
        Lossless Compression of Deep Neural Networks, Serra, Kumar, Ramalingam, 2020.
        Scaling Up Exact Neural Network Compression by ReLU Stability, Serra, Yu, Kumar, Ramalingam, 2021.
    """
    clock, network = Clock(), load(network)
    try:
        network.require_piecewise_linear("exact compression")
    except UnsupportedOperation as error:
        raise UnsupportedOperation(
            f"{error} What still can be done: relukit health finds units that never react on data, and a network retrained with ReLU, leaky ReLU, hardtanh or "
            "ReLU6 can be compressed."
        ) from error
    network.require_finite()
    if network.dtype.itemsize < 4:  # what is folded and merged would not survive rounding to half precision
        network = network.with_(dtype=np.dtype(np.float32))
    if not (tolerance >= 0 and np.isfinite(tolerance) and margin >= 0 and np.isfinite(margin)):
        raise InvalidInput(f"tolerance and margin are finite and not negative, got {tolerance} and {margin}")
    if not (timeout >= 0 and np.isfinite(timeout)):
        raise InvalidInput(f"timeout is a number of seconds, 0 or more, got {timeout}")
    cover = None if data is None else cover_of(network, data, margin)
    domain = hull(cover) if cover is not None else network.box if input_set is None else input_set
    if domain is None:
        raise InvalidInput("compress needs a domain: a Box, Ball or Polytope, or data with a margin")
    require_set(domain, "the domain")
    shape = Domain.of(domain, cover) if proof else None
    target, numbers = relu_only(network) if proof else (network, {})
    points, home = points_of(network, domain, cover, seed)
    witnesses, moving = Seen.of(network, domain, cover, points, home), moving_inputs(domain)
    ascend(witnesses, domain)
    seen = witnesses.count
    blank = Compression(network, "unchanged", network.parameters, network.parameters, network.units, 0, 0, seen, 0.0, 0.0, True, "", 0.0)  # fmt: skip
    done = lambda found, **changes: replace(found, cpu_seconds=clock.seconds, load_seconds=clock.loading, **changes)
    one_map = len(network) <= 2
    if seen == network.units and (seen or one_map) and moving.all() and not tolerance and not has_copies(network):
        reason = (
            f"points of the domain show both sides of every one of the {network.units} units: nothing can be removed"
        )
        whole = None if shape is None else _same(target, Record(shape, Certificate((), len(target.activations))))
        return done(blank, reason=reason if network.units else "there are no hidden units: nothing can be removed", _proof=whole)  # fmt: skip
    # bounds that a search left as they were need no second set of forms
    made: dict[int, tuple[Bounds, list[Candidate]]] = {}

    def forms_of(known: Bounds) -> list[Candidate]:
        if id(known) not in made:
            made[id(known)] = known, list(forms(target, domain, known, moving, tolerance))
        return made[id(known)][1]

    least = lambda built: min((f.network.parameters for f in built), default=network.parameters)
    smaller = lambda built: least(built) < network.parameters
    rough, record = too_large(target, domain), None
    if rough is not None:
        if target is not network:
            witnesses = Seen.of(target, domain, cover, witnesses.points, home)
        if not tolerance and not smaller(forms_of(hoped(target, rough, witnesses))):
            dead, on = (sum(int(v(i).sum()) for i in target.activations) for v in (rough.off, rough.always_on))
            reason = f"points of the domain show {seen} units on both sides: even if all others were stable, no smaller form would exist"
            whole = None if shape is None else _same(target, Record(shape, Certificate((), len(target.activations))))
            return done(blank, dead=dead, always_on=on, reason=reason, _proof=whole)
        bounds = signed(bounded_in_time(target, domain, witnesses, timeout), domain)
    else:
        bounds = signed(bounded(target, domain, cover), domain)
    if timeout > 0 and cover is None and rough is None:
        own = witnesses if target is network else Seen.of(target, domain, cover, witnesses.points, home)
        best_hope, crossed = hoped(target, bounds, own), 0
        if best_hope is not bounds:
            hopeless = not tolerance and least(forms_of(best_hope)) >= least(forms_of(bounds))
            bounds, crossed = settle(target, domain, bounds, own, min(timeout, _HOPELESS) if hopeless else timeout, seed)  # fmt: skip
        blank = replace(blank, undecided_by_samples=seen + crossed if target is network else seen)
    if shape is not None:
        bounds, record = confirmed(target, shape, bounds, max(timeout, 1.0), tolerance > 0)
        dead, on = stable(network, target, numbers, bounds)
    else:
        dead = sum(int(bounds.off(i).sum()) for i in network.activations)
        on = sum(int(bounds.always_on(i).sum()) for i in network.activations)
    blank = replace(blank, dead=dead, always_on=on)
    built = forms_of(bounds)
    some = points[: int(np.clip(_COMPARED / max(products(network), 1), _LEAST, len(points)))]
    loose = _LOOSE * (1.0 + float(np.abs(network(some)).max(initial=0.0)))
    if not tolerance and any(f.rounded and f.error > loose for f in built):
        wide = target.with_(dtype=np.dtype(np.float64))  # there, multiples are such up to float64's rounding
        exact = forms(wide, domain, bounds, moving, 0.0)
        built = [f for f in built if not f.rounded or f.error <= loose]
        built += [replace(f, network=f.network.with_(dtype=target.dtype)) for f in exact]
    if not smaller(built):
        reason = f"{dead} dead and {on} always-on units are proven, but no smaller form exists" if dead + on else "no unit is provably dead or always on"  # fmt: skip
        return done(blank, reason=reason, _proof=None if record is None else _same(target, record))
    best = min(built, key=lambda f: f.network.parameters)
    # the bound is about real arithmetic: both networks in float32, on inputs of the set
    rows = domain.project(some.astype(np.float32)) if isinstance(domain, Box) and cover is None else some
    difference = float(np.abs(best.network(rows, np.float32) - network(rows, np.float32)).max())
    single = best.error + float32_error(target, bounds) + float32_error(best.network, interval(best.network, domain))
    reason = f"{dead} dead and {on} always-on of {network.units} units, {int((~moving).sum())} inputs that do not move"
    reason += f", {best.merged} merged or unread" if best.merged else ""
    reason += f" ({best.rounded} of them multiples up to the rounding of float32)" if best.rounded else ""
    reason += f", {len(best.lines)} given up within {tolerance:g}" if best.lines else ""
    if record is not None:
        record = replace(record, gates=best.gates, real=best.network.units, merged=best.follow, lines=best.lines)
    return done(
        blank, network=best.network, form=best.form, parameters_after=best.network.parameters, merged=best.merged, given_up=len(best.lines),
        max_difference=difference, error_bound=best.error, float32_bound=single, reason=reason, _proof=record,
    )  # fmt: skip


def _same(network: Network, record: Record) -> Record:
    """The record of a network that stays as it is: every unit stands for itself."""
    gates = [(k, j) for k, i in enumerate(network.activations) for j in range(network.nodes[i].size)]
    return replace(record, gates=np.array(gates, np.int64).reshape(-1, 2), real=len(gates))
