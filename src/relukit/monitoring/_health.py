"""What each unit of a network does over a batch of rows, and what is proven of it on a box."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, RelukitError, UnsupportedOperation
from relukit._shown import Shown
from relukit._types import Array, BoolArray, IntArray
from relukit.activations import CATALOGUE
from relukit.monitoring._finding import Finding
from relukit.monitoring._verdict import findings_of
from relukit.network import Network
from relukit.piecewise import PiecewiseLinear
from relukit.sets import AbstractSet

_BATCH = 64  # rows of one training batch: `silent` counts units that are off in the first so many rows
_GRADIENT_ROWS = 256


@dataclass(frozen=True, eq=False)
class LayerHealth(Shown):
    """One activation layer; `to_dict` also lists which units are dead, always on and proven dead.

    Arguments:
        name: The activation node.
        activation: Its kind.
        units: Number of units.
        silent: Off (constant output) for every row of the first batch.
        dead: Off for every row.
        always_on: Off for no row.
        proven_dead: Provably off on the whole box; None without a box.
        zero_share: Share of outputs that are exactly zero.
        grad_norm: l2 norm of the mean absolute gradient of the loss at this layer's output, or None where it was not asked for.
        off_share: Share of rows for which each unit is off, shape `(units,)`.
        proven: Which units are provably off, shape `(units,)`, or None.
    """

    name: str
    activation: str
    units: int
    silent: int
    dead: int
    always_on: int
    proven_dead: int | None
    zero_share: float
    grad_norm: float | None
    off_share: Array
    proven: BoolArray | None

    def to_dict(self) -> dict[str, Any]:
        keys = ("name", "activation", "units", "silent", "dead", "always_on", "proven_dead", "zero_share", "grad_norm")
        units = {"dead_units": self.off_share == 1.0, "always_on_units": self.off_share == 0.0}
        if self.proven is not None:
            units["proven_dead_units"] = self.proven
        return {k: getattr(self, k) for k in keys} | {k: np.flatnonzero(v).tolist() for k, v in units.items()}


@dataclass(frozen=True, eq=False)
class Health(Shown):
    """Health of all activation layers over `rows` rows, and what it means (`findings`, worst first)."""

    layers: tuple[LayerHealth, ...]
    rows: int
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "layers": [layer.to_dict() for layer in self.layers],
            "findings": [f.to_dict() for f in self.findings],
        }

    def plot(self, path: str | Path) -> None:
        """Activity of every unit and gradient norm of every layer, as a picture."""
        from relukit.monitoring._unit_picture import draw_health

        draw_health(self, path)

    def __repr__(self) -> str:
        dead, units = sum(layer.dead for layer in self.layers), sum(layer.units for layer in self.layers)
        return f"Health({len(self.layers)} layers, {dead} of {units} units dead over {self.rows} rows)"


def health(network: Any, data: Array, box: AbstractSet | None = None, targets: IntArray | None = None) -> Health:
    """Silent, dead, provably dead and always-on units, zeros and gradients, layer by layer.

    "Off" means that the unit's output does not depend on its input there: the piece it is on has slope 0.

    Arguments:
        network: Any network, or what `load` reads; smooth activations have no off units, only values and gradients. A torch
            module that is no such network (attention, normalization over features, recurrent cells) gives the leaves of its module
            tree and the activations in its forward instead, without proofs.
        data: Rows, shape `(rows, inputs)`.
        box: Where to prove units dead; linear bounds are used.
        targets: Class numbers; the gradient is then that of the cross-entropy, else that of the largest output.

    Raises:
        InvalidInput: No row.
        UnsupportedOperation: A box for a module that is no network.
    """
    if not isinstance(network, Network):
        known = _as_network(network)
        if known is None:
            from relukit.monitoring._module import module_health

            if box is not None:
                raise UnsupportedOperation(
                    f"{type(network).__name__} is no network of affine maps and activations: its units can be watched on data, "
                    "but not be proven dead on a box. Leave box out."
                )
            return module_health(network, data)
        network = known
    rows, _ = network.rows(data)
    if not len(rows):
        raise InvalidInput("health needs at least one row")
    bounds = None
    if box is not None:
        from relukit.bounds import linear

        bounds = linear(network, box)
    values = network.values(rows)
    norms = _gradient_norms(
        network, [v[:_GRADIENT_ROWS] for v in values], None if targets is None else np.asarray(targets)[:_GRADIENT_ROWS]
    )
    layers = []
    for i in _units(network):
        node = network.nodes[i]
        z, op = values[node.inputs[0]], node.op
        if not isinstance(op, PiecewiseLinear) and op.name not in CATALOGUE:
            continue  # arithmetic inside an attention or a normalization: squares, roots, exponentials
        off = _off(op, z)
        proven = None if bounds is None else bounds.off(i)
        layers.append(
            LayerHealth(
                node.name,
                op.name,
                node.size,
                int(off[:_BATCH].all(axis=0).sum()),
                int(off.all(axis=0).sum()),
                int((~off).all(axis=0).sum()),
                None if proven is None else int(proven.sum()),
                float(np.mean(values[i] == 0)),
                norms.get(i),
                off.mean(axis=0),
                proven,
            )
        )
    causes = {layer.name: _why_dead(network, rows, values, layer) for layer in layers if layer.dead}
    return Health(tuple(layers), len(rows), findings_of(tuple(layers), values[-1], causes))


def _units(network: Network) -> list[int]:
    """The activations that are units of the network: not the gates max(0, b - a) that a maximum was rewritten into.

    All of them where there are no others.
    """
    gates = {i for i in network.activations if _decides_a_maximum(network, i)}
    return [i for i in network.activations if i not in gates] or list(network.activations)


def _decides_a_maximum(network: Network, i: int) -> bool:
    """Whether activation `i` is a gate of some b - a, both plain values, under the name that the rewriting gives it."""
    from relukit.network import Affine

    op = network.nodes[network.nodes[i].inputs[0]].op
    if not re.search(r"\.relu(_\d+)?$", network.nodes[i].name) or not isinstance(op, Affine) or np.any(op.bias):
        return False
    ones = [np.ones(m.in_size) for m in op.maps]
    difference = sum(m.apply(one) for m, one in zip(op.maps, ones))
    size = sum(m.absolute().apply(one) for m, one in zip(op.maps, ones))
    return bool(np.all(difference == 0) and np.all(size == 2))


def _why_dead(network: Network, rows: Array, values: list[Array], layer: LayerHealth) -> str:
    """What a finished network still tells of why units are off: biases that hold them down, or rows far from 0.

    "" where neither does: too large a step or a poor start leave no trace.
    """
    from relukit.network import Affine

    i = next(i for i in network.activations if network.nodes[i].name == layer.name)
    before = network.nodes[i].inputs[0]
    spread, middle = rows.std(axis=0), np.abs(rows.mean(axis=0))
    live = spread > 1e-12
    if live.any() and i == network.activations[0]:
        if float(np.median(middle[live] / spread[live])) > 4:
            return "shifted_input"
        if float(np.median(spread[live])) > 8 or float(spread.max() / np.median(spread[live])) > 100:
            return "unscaled_input"
    op = network.nodes[before].op
    if not isinstance(op, Affine):
        return ""
    dead = layer.off_share == 1
    lifted = (values[before] - op.bias)[:, dead] > 0
    return "negative_bias" if float(lifted.any(axis=0).mean()) > 0.5 else ""


def _as_network(source: Any) -> Network | None:
    """What `load` makes of a path, a torch module (in evaluation mode) or a Keras model; None where it is no such network."""
    from relukit.network import load

    if not hasattr(source, "forward"):
        return load(source)
    was = source.training
    try:
        source.eval()
        return load(source)
    except RelukitError:
        return None
    finally:
        source.train(was)


def _off(op: Any, z: Array) -> BoolArray:
    if not isinstance(op, PiecewiseLinear):
        return np.zeros(z.shape, bool)
    return op.derivative(z) == 0


def _gradient_norms(network: Network, values: list[Array], targets: IntArray | None) -> dict[int, float]:
    """For each activation node the l2 norm over units of the mean absolute gradient."""
    out = values[-1]
    count = len(out)
    if targets is not None and network.outputs > 1 and targets.min() >= 0 and targets.max() < network.outputs:
        shifted = np.exp(out - out.max(axis=1, keepdims=True))
        grad = shifted / shifted.sum(axis=1, keepdims=True)
        grad[np.arange(count), targets] -= 1
    else:
        grad = np.zeros_like(out)
        grad[np.arange(count), out.argmax(axis=1)] = 1
    from relukit.network import Affine

    pending, norms = {len(values) - 1: grad}, {}
    for i in range(len(values) - 1, 0, -1):
        node, grad = network.nodes[i], pending.pop(i, None)
        if grad is None:
            continue
        if node.is_activation:
            norms[i] = float(np.linalg.norm(np.abs(grad).mean(axis=0)))
        for k, j in enumerate(node.inputs):
            part = (
                node.op.maps[k].adjoint(grad)
                if isinstance(node.op, Affine)
                else grad * node.op.fast_derivative(values[j])
            )
            pending[j] = pending[j] + part if j in pending else part
    return norms
