"""Remove what provably does nothing on a set of inputs: dead gates, always-on gates, copies, inputs that never move."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from relukit._clock import Clock
from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._types import Array, IntArray
from relukit.bounds import Bounds, CompactNetwork, compact, interval, linear
from relukit.compression._channels import channel_form
from relukit.compression._float32 import float32_error
from relukit.compression._gates import error_bound, give_up, merge
from relukit.compression._plain import plain_form
from relukit.compression._proof import Domain, Record, confirmed, relu_only, stable, write_proof
from relukit.compression._settle import hoped, settle
from relukit.compression._witness import Seen, ascend
from relukit.network import Affine, Network, Origin
from relukit.network.affine import Conv, Dense, Scale, Sparse
from relukit.network.rewrite import RELU, Builder
from relukit.sets import AbstractSet, Box, require_set
from relukit.verification.certificate import Certificate

_SAMPLES = 2_000  # witnesses: a unit seen on both sides of its kink needs no bound
_GATES = 4_000  # undecided units up to which a network that is no dense chain is multiplied out
_HOPELESS = 0.03  # seconds of search where no form would be smaller even if all open units were stable
_BOXES = 64  # boxes around rows of data bounded at once


@dataclass(frozen=True, eq=False)
class Compression:
    """A smaller network and what is known about it.

    Arguments:
        network: The network to use instead; equal to the original on the set (and only there).
        form: `plain` (layers with fewer units), `skip` (undecided gates with direct connections from the input), `channels` (convolutions
            with fewer channels) or `unchanged`.
        parameters_before, parameters_after: Stored numbers.
        units: Hidden units before; `dead` and `always_on` of them are proven so on the set.
        merged: Units that are copies or multiples of others, numbers, or that nothing reads.
        undecided_by_samples: Units for which points of the set show both sides of a kink: no proof can make them stable.
        open_units: Units neither proven stable nor seen on both sides.
        given_up: Gates replaced by lines within the tolerance.
        max_difference: Largest difference of any output seen on sampled inputs, both networks in float32.
        error_bound: Bound of the difference of the two functions in real arithmetic (rounding of the folded weights, and the tolerance used).
        float32_bound: Bound of the difference when both are computed in float32, whatever the order of their sums.
        proven: Whether that bound covers the whole set.
        reason: One sentence.
        cpu_seconds: Of work by this process; `load_seconds` went to loading or compiling code, once in a process.
    """

    network: Network
    form: str
    parameters_before: int
    parameters_after: int
    units: int
    dead: int
    always_on: int
    undecided_by_samples: int
    max_difference: float
    error_bound: float
    proven: bool
    reason: str
    cpu_seconds: float
    load_seconds: float = 0.0
    merged: int = 0
    given_up: int = 0
    float32_bound: float = 0.0
    _proof: Record | None = field(default=None, repr=False)

    @property
    def stable_units(self) -> int:
        return self.dead + self.always_on

    @property
    def open_units(self) -> int:
        return max(self.units - self.stable_units - self.undecided_by_samples, 0)

    def save_proof(self, path: str | Path, original: str | Path, small: str | Path) -> float:
        """Write the proof for two files, once the independent checker accepts it.

        Arguments:
            original: The file the network came from.
            small: Where `network` was saved.

        Returns:
            The bound of the difference of the two files' functions, rounding of stored weights included.

        Raises:
            InvalidInput: `compress` was not called with `proof=True`, or the checker does not accept.
        """
        if self._proof is None:
            raise InvalidInput("this compression holds no proof: call compress(..., proof=True)")
        allowed = np.inf if self.form == "unchanged" else 1e-6 + 10 * (self.error_bound + self.float32_bound)
        return write_proof(path, self._proof, original, small, allowed)

    def to_dict(self) -> dict[str, Any]:
        keys = (
            "form", "parameters_before", "parameters_after", "units", "stable_units", "dead", "always_on", "merged", "given_up",
            "undecided_by_samples", "open_units", "proven", "error_bound", "reason", "cpu_seconds", "load_seconds",
        )  # fmt: skip
        return {k: getattr(self, k) for k in keys} | {
            "max_difference": self.max_difference,
            "max_difference_float32": self.max_difference,
            "float32_bound": self.float32_bound,
        }

    def __repr__(self) -> str:
        return (
            f"Compression({self.parameters_before} -> {self.parameters_after} parameters, {self.form}: {self.reason})"
        )


def compress(
    network: Network,
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
    for certain. Linear bounds then prove which of the others are constant or always on, and branch and bound settles most of the rest. Gates that are multiples of others
    are merged. Forms are built (layers with fewer units; gates with direct connections; convolutions with fewer channels) and
    the one with the fewest parameters is kept.

    Arguments:
        network: Piecewise linear.
        input_set: The domain: one box, ball or polytope; by default the network's own box.
        timeout: Seconds for branch and bound over all units together; 0 leaves it out. Where no form would be smaller whatever it proves,
            it gets a few hundredths of a second.
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
    clock = Clock()
    try:
        network.require_piecewise_linear("exact compression")
    except UnsupportedOperation as error:
        raise UnsupportedOperation(
            f"{error} What still can be done: relukit health finds units that never react on data, and a network retrained with ReLU, leaky ReLU, hardtanh or "
            "ReLU6 can be compressed."
        ) from error
    _finite(network)
    if not (tolerance >= 0 and np.isfinite(tolerance) and margin >= 0 and np.isfinite(margin)):
        raise InvalidInput(f"tolerance and margin are finite and not negative, got {tolerance} and {margin}")
    cover = None if data is None else _cover(network, data, margin)
    domain = _hull(cover) if cover is not None else network.box if input_set is None else input_set
    if domain is None:
        raise InvalidInput("compress needs a domain: a Box, Ball or Polytope, or data with a margin")
    require_set(domain, "the domain")
    shape = Domain.of(domain, cover) if proof else None
    target, numbers = relu_only(network) if proof else (network, {})
    points, home = _points(domain, cover, seed)
    witnesses, moving = Seen.of(network, domain, cover, points, home), _moving_inputs(domain)
    ascend(witnesses, domain)
    seen = witnesses.count
    blank = Compression(network, "unchanged", network.parameters, network.parameters, network.units, 0, 0, seen, 0.0, 0.0, True, "", 0.0)  # fmt: skip
    done = lambda found, **changes: replace(found, cpu_seconds=clock.seconds, load_seconds=clock.loading, **changes)
    if seen == network.units and moving.all() and not tolerance and not _has_copies(network):
        reason = (
            f"points of the domain show both sides of every one of the {network.units} units: nothing can be removed"
        )
        whole = None if shape is None else _same(target, Record(shape, Certificate((), len(target.activations))))
        return done(blank, reason=reason if network.units else "there are no hidden units: nothing can be removed", _proof=whole)  # fmt: skip
    forms_of = lambda bounds: list(_forms(target, domain, bounds, moving, tolerance))
    smaller = lambda forms: bool(forms) and min(f.network.parameters for f in forms) < network.parameters
    bounds, record = _bounded(target, domain, cover), None
    if timeout > 0 and cover is None:
        hopeless = not tolerance and not smaller(forms_of(hoped(target, bounds, witnesses.points)))
        bounds, _, _ = settle(target, domain, bounds, witnesses.points, min(timeout, _HOPELESS) if hopeless else timeout, seed)  # fmt: skip
    if shape is not None:
        bounds, record = confirmed(target, shape, bounds, max(timeout, 1.0), tolerance > 0)
        dead, on = stable(network, target, numbers, bounds)
    else:
        dead = sum(int(bounds.off(i).sum()) for i in network.activations)
        on = sum(int(bounds.always_on(i).sum()) for i in network.activations)
    blank = replace(blank, dead=dead, always_on=on)
    forms = forms_of(bounds)
    if not smaller(forms):
        reason = f"{dead} dead and {on} always-on units are proven, but no smaller form exists" if dead + on else "no unit is provably dead or always on"  # fmt: skip
        return done(blank, reason=reason, _proof=None if record is None else _same(target, record))
    best = min(forms, key=lambda f: f.network.parameters)
    # the bound is about real arithmetic: both networks in float32, on inputs of the set
    rows = domain.project(points.astype(np.float32)) if isinstance(domain, Box) and cover is None else points
    difference = float(np.abs(best.network(rows, np.float32) - network(rows, np.float32)).max())
    single = best.error + float32_error(target, bounds) + float32_error(best.network, interval(best.network, domain))
    reason = f"{dead} dead and {on} always-on of {network.units} units, {int((~moving).sum())} inputs that do not move"
    reason += f", {best.merged} merged or unread" if best.merged else ""
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


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A smaller form, the bound of its difference, and for proofs what its gates stand for (see `Record`)."""

    form: str
    network: Network
    error: float
    merged: int
    gates: IntArray
    follow: list[tuple[int, int, int, float]]
    lines: list[tuple[int, int, float, float]] = field(default_factory=list)


def _forms(network: Network, domain: AbstractSet, bounds: Bounds, moving: np.ndarray, tolerance: float):
    """All forms that can be built."""
    convolved = any(isinstance(m, Conv) for n in network.nodes if isinstance(n.op, Affine) for m in n.op.maps)
    plain = None if convolved else plain_form(network, bounds, moving, domain)
    if plain is not None:
        yield _Candidate(
            "plain", plain.network, plain.error, len(plain.merged) + plain.folded, plain.gates, plain.merged
        )
    else:
        cut = channel_form(network, bounds)
        if cut is not None:
            yield _Candidate("channels", cut.network, cut.error, cut.merged, np.array(cut.gates, np.int64).reshape(-1, 2), cut.follow)  # fmt: skip
    undecided = sum(int(bounds.undecided(i).sum()) for i in network.activations)
    if plain is None and undecided > _GATES:
        return
    full = compact(network, domain, bounds)
    small, follow, unread = merge(full)
    gone = full.gates - small.gates
    layer = {node: k for k, node in enumerate(network.activations)}
    name = lambda row: (layer[int(row[0])], int(row[1]))
    lines: list[tuple[int, int, float, float]] = []
    error = error_bound(small)
    if tolerance and error <= tolerance:
        small, given = give_up(small, tolerance)
        lines, error = [(*name(g), g[3], g[4]) for g in given], error_bound(small)
    named = [name(row) for row in small.units] + [name(full.units[i]) for i in unread]
    number = {unit: i for i, unit in enumerate(named)}
    pairs = [(name(full.units[i]), name(full.units[j]), f) for i, j, f in follow]
    followers = [(*unit, number[other], f) for unit, other, f in pairs if other in number]
    slopes = {line[:2]: line[2:] for line in lines}
    lines += [(*unit, f * slopes[other][0], f * slopes[other][1]) for unit, other, f in pairs if other in slopes]
    yield _Candidate("skip", skip_form(small, moving, network), error, gone, np.array(named, np.int64).reshape(-1, 2), followers, lines)  # fmt: skip


def _bounded(network: Network, domain: AbstractSet, cover: Box | None) -> Bounds:
    """Linear bounds; over boxes around rows of data the union of theirs."""
    if cover is None:
        return linear(network, domain)
    lower: list[Array] = []
    upper: list[Array] = []
    for start in range(0, len(cover.lower), _BOXES):
        part = linear(network, Box(cover.lower[start : start + _BOXES], cover.upper[start : start + _BOXES]))
        low, high = [v.min(axis=0) for v in part.lower], [v.max(axis=0) for v in part.upper]
        lower = low if not lower else [np.minimum(a, b) for a, b in zip(lower, low)]
        upper = high if not upper else [np.maximum(a, b) for a, b in zip(upper, high)]
    return Bounds(network, tuple(lower), tuple(upper))


def _cover(network: Network, data: Any, margin: float) -> Box:
    """Boxes around rows, as a batch."""
    rows = network.rows(data)[0]
    if not len(rows) or not np.isfinite(rows).all():
        raise InvalidInput("data needs at least one row of finite numbers")
    return Box(rows - margin, rows + margin)


def _hull(cover: Box) -> Box:
    return Box(cover.lower.min(axis=0), cover.upper.max(axis=0))


def _points(domain: AbstractSet, cover: Box | None, seed: int) -> tuple[Array, IntArray]:
    """Points of the domain, and which of its boxes each is in; near rows of data, the rows and others beside them."""
    if cover is None:
        points = domain.sample(_SAMPLES, seed)
        return points, np.zeros(len(points), np.int64)
    g = np.random.default_rng(seed)
    home = np.r_[np.arange(len(cover.lower)), g.integers(len(cover.lower), size=_SAMPLES)]
    share = g.choice([0.0, 0.5, 1.0], (len(home), cover.size))
    share[: len(cover.lower)] = 0.5
    return cover.lower[home] + share * (cover.upper - cover.lower)[home], home


def _finite(network: Network) -> None:
    """Raise `InvalidInput` where a weight is NaN or infinite."""
    for node in network.nodes:
        if isinstance(node.op, Affine):
            values = [node.op.bias]
            for m in node.op.maps:
                values.append(m.W if isinstance(m, Dense) else m.W.data if isinstance(m, Sparse) else m.kernel if isinstance(m, Conv) else m.diagonal if isinstance(m, Scale) else np.zeros(0))  # fmt: skip
            if not all(np.isfinite(v).all() for v in values):
                raise InvalidInput(f"node '{node.name}' holds weights that are NaN or infinite; train it anew or repair the file")  # fmt: skip


def _has_copies(network: Network) -> bool:
    """Whether a layer holds a multiple of another unit or channel, a unit without weights, or one that nothing reads."""
    for i in network.activations:
        node = network.nodes[i]
        source = network.nodes[node.inputs[0]]
        if not isinstance(source.op, Affine) or len(source.op.maps) != 1:
            continue
        m = source.op.maps[0]
        if isinstance(m, Conv):
            rows = np.c_[m.kernel.reshape(len(m.kernel), -1), source.op.bias.reshape(len(m.kernel), -1)[:, 0]]
        elif isinstance(m, Dense):
            rows = np.c_[m.W, source.op.bias]
        else:
            continue
        sizes = np.abs(rows).max(axis=1)
        if np.any(np.abs(rows[:, :-1]).max(axis=1, initial=0) == 0) or len(np.unique(np.round(rows / sizes[:, None], 7), axis=0)) < len(rows):  # fmt: skip
            return True
        for reader in network.consumers[i]:
            op = network.nodes[reader].op
            if isinstance(op, Affine) and len(op.maps) == 1 and isinstance(op.maps[0], Dense) and len(network.consumers[i]) == 1 and np.any(~op.maps[0].W.any(axis=0)):  # fmt: skip
                return True
    return False


def _moving_inputs(input_set: AbstractSet) -> np.ndarray:
    box = input_set.box()
    return box.lower < box.upper


def skip_form(small: CompactNetwork, moving: np.ndarray, network: Network) -> Network:
    """The compact form as a network: gates by layer, each reading the inputs and all earlier gates."""
    builder = Builder(network.input_shape)
    rest = np.where(moving, 0.0, small.input_set.box().lower)  # inputs that do not move are folded into the biases
    free = builder.gather(0, np.flatnonzero(moving), (int(moving.sum()),), "free inputs") if not moving.all() else 0
    sources, spans = [free], []
    for at, node in enumerate(dict.fromkeys(small.units[:, 0].tolist())):
        rows = np.flatnonzero(small.units[:, 0] == node)
        blocks = [small.C[rows][:, moving], *(small.W[np.ix_(rows, span)] for span in spans)]
        z = builder.combine(*_nonzero(sources, blocks), small.b[rows] + small.C[rows] @ rest, name=f"gates{at}.z")
        sources.append(builder.activation(z, RELU, f"gates{at}"))
        spans.append(rows)
    blocks = [small.X[:, moving], *(small.H[:, span] for span in spans)]
    out = builder.combine(*_nonzero(sources, blocks), small.c + small.X @ rest, network.nodes[-1].shape, "output")
    return builder.build(
        out,
        dtype=network.dtype,
        head=network.head,
        box=network.box,
        origin=Origin("built"),
        notes=("equal only on the set it was compressed for",),
    )


def _nonzero(sources: list[int], blocks: list[Array]) -> tuple[list[int], list[Dense]]:
    """Only sources with a nonzero block (the first stays, so that there is one)."""
    keep = [k for k, block in enumerate(blocks) if k == 0 or np.any(block)]
    return [sources[k] for k in keep], [Dense(blocks[k]) for k in keep]
