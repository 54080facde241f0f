"""Remove what provably does nothing on a set of inputs: dead gates, always-on gates, inputs that never move."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import Bounds, CompactNetwork, compact, linear
from relukit.network import Affine, Network, Origin
from relukit.network.affine import Dense
from relukit.network.rewrite import RELU, Builder
from relukit.sets import AbstractSet

_SAMPLES = 2_000  # witnesses: a unit seen on both sides of its kink needs no bound


@dataclass(frozen=True, eq=False)
class Compression:
    """A smaller network and what is known about it.

    Arguments:
        network: The network to use instead; equal to the original on the set (and only there).
        form: `plain` (layers with fewer units), `skip` (undecided gates with direct connections from the input) or `unchanged`.
        parameters_before, parameters_after: Stored numbers.
        units: Hidden units before; `dead` and `always_on` of them are proven so on the set.
        undecided_by_samples: Units for which sampled inputs show both sides: no proof can remove them.
        max_difference: Largest difference of any output seen on sampled inputs, both networks in float32.
        error_bound: Bound of the difference of the two functions in real arithmetic (rounding of the folded weights).
        proven: Whether that bound covers the whole set. False only where nothing was proven because nothing was removed.
        reason: One sentence.
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

    @property
    def stable_units(self) -> int:
        return self.dead + self.always_on

    def to_dict(self) -> dict[str, Any]:
        keys = (
            "form",
            "parameters_before",
            "parameters_after",
            "units",
            "stable_units",
            "dead",
            "always_on",
            "undecided_by_samples",
            "proven",
            "error_bound",
            "reason",
            "cpu_seconds",
        )
        return {k: getattr(self, k) for k in keys} | {
            "max_difference": self.max_difference,
            "max_difference_float32": self.max_difference,
        }

    def __repr__(self) -> str:
        return (
            f"Compression({self.parameters_before} -> {self.parameters_after} parameters, {self.form}: {self.reason})"
        )


def compress(network: Network, input_set: AbstractSet, seed: int = 0, timeout: float = 10.0) -> Compression:
    """A network with fewer parameters that equals this one on a set.

    Sampling comes first: units seen on both sides of their kink are undecided for certain. Linear bounds then prove
    which of the others are constant or always on. Two forms are built and the one with fewer parameters is kept.

    Arguments:
        network: Piecewise linear.
        input_set: The domain: one box, ball or polytope.
        timeout: Seconds for branch and bound over all units together; 0 leaves it out.

    Raises:
        UnsupportedOperation: An activation is smooth.

    References:
        Lossless Compression of Deep Neural Networks, Serra, Kumar, Ramalingam, 2020.
    """
    started = time.process_time()
    network.require_piecewise_linear("exact compression")
    points = input_set.sample(_SAMPLES, seed)
    both, moving = _witnessed(network, points), _moving_inputs(input_set)
    before = network.parameters
    seen, units = sum(int(b.sum()) for b in both.values()), network.units
    if seen == units and moving.all():
        reason = f"sampled inputs show both sides of every one of the {units} units: nothing can be removed"
        return Compression(
            network,
            "unchanged",
            before,
            before,
            units,
            0,
            0,
            seen,
            0.0,
            0.0,
            True,
            reason,
            time.process_time() - started,
        )
    bounds, _searched, _left = linear(network, input_set), 0, 0
    if timeout > 0:
        from relukit.compression._settle import settle

        bounds, _searched, _left = settle(network, input_set, bounds, points, timeout, seed)
    dead = sum(int(bounds.off(i).sum()) for i in network.activations)
    on = sum(int(bounds.always_on(i).sum()) for i in network.activations)
    small = compact(network, input_set, bounds)
    candidates = [("skip", skip_form(small, moving, network))]
    plain = plain_form(network, bounds, moving, input_set)
    if plain is not None:
        candidates.insert(0, ("plain", plain))
    form, best = min(candidates, key=lambda pair: pair[1].parameters)
    if best.parameters >= before:
        reason = (
            f"{dead} dead and {on} always-on units are proven, but no smaller form exists"
            if dead + on
            else "no unit is provably dead or always on"
        )
        return Compression(
            network,
            "unchanged",
            before,
            before,
            units,
            dead,
            on,
            seen,
            0.0,
            0.0,
            True,
            reason,
            time.process_time() - started,
        )
    error = error_bound(small) if form == "skip" else _plain_error(network, bounds, moving)
    difference = float(np.abs(best(points, np.float32) - network(points, np.float32)).max())
    reason = f"{dead} dead and {on} always-on of {units} units, {int((~moving).sum())} inputs that do not move"
    return Compression(
        best,
        form,
        before,
        best.parameters,
        units,
        dead,
        on,
        seen,
        difference,
        error,
        True,
        reason,
        time.process_time() - started,
    )


def _witnessed(network: Network, points: Array) -> dict[int, np.ndarray]:
    """Units whose kinks all lie strictly inside the values seen."""
    values = network.values(np.asarray(points, np.float64))
    found = {}
    for i in network.activations:
        z, op = values[network.nodes[i].inputs[0]], network.nodes[i].op
        pieces = op.piece(z)
        found[i] = pieces.min(axis=0) < pieces.max(axis=0)
    return found


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


def plain_form(network: Network, bounds: Bounds, moving: np.ndarray, input_set: AbstractSet) -> Network | None:
    """The same layers without dead units and unmoving inputs; None for networks that are no chain of dense ReLU layers."""
    chain = network.dense_chain()
    if chain is None or not chain.is_relu or len(chain.activations) != len(network.activations):
        return None
    builder = Builder(network.input_shape)
    last = builder.gather(0, np.flatnonzero(moving), (int(moving.sum()),), "free inputs") if not moving.all() else 0
    keep, fixed = moving, np.where(moving, 0.0, input_set.box().lower)
    for k, (W, b) in enumerate(zip(chain.weights, chain.biases)):
        bias = b + W @ fixed if k == 0 else b
        alive = ~bounds.off(network.activations[k]) if k < len(chain.activations) else np.ones(len(b), bool)
        if not alive.any():
            return None  # a layer that is all dead: the skip form writes the constant
        last = builder.affine(last, Dense(W[np.ix_(alive, keep)]), bias[alive], name=f"layer{k}")
        if k < len(chain.activations):
            last = builder.activation(last, RELU, f"relu{k}")
        keep, fixed = alive, np.zeros(len(b))
    notes = ("equal only on the set it was compressed for",)
    return builder.build(
        last, dtype=network.dtype, head=network.head, box=network.box, origin=Origin("built"), notes=notes
    )


def error_bound(small: CompactNetwork) -> float:
    """Largest difference between the compact form and the network, in real arithmetic, over the set."""
    gates = np.zeros(small.gates)
    for k in range(small.gates):
        gates[k] = small.error[k] + np.abs(small.W[k, :k]) @ gates[:k]
    return float((1 + 1e-9) * (small.output_error + np.abs(small.H) @ gates).max(initial=0.0))


def _plain_error(network: Network, bounds: Bounds, moving: np.ndarray) -> float:
    """Only the first layer's biases were rounded, where inputs that do not move were folded in; ReLU layers pass it on by |W|."""
    if moving.all():
        return 0.0
    affine = [n.op for n in network.nodes if isinstance(n.op, Affine)]
    reach = np.maximum(np.abs(bounds.lower[0]), np.abs(bounds.upper[0]))
    error = gamma(affine[0].terms) * (affine[0].maps[0].absolute().apply(reach) + np.abs(affine[0].bias))
    for op in affine[1:]:
        error = op.maps[0].absolute().apply(error)
    return float((1 + 1e-9) * np.max(error))
