"""Convolutions and layers beside skip connections with fewer channels: dead and constant ones, copies, and those that nothing reads."""

from dataclasses import dataclass

import numpy as np

from relukit._types import Array
from relukit.bounds import Bounds
from relukit.compression._columns import fold_constants
from relukit.compression._copies import closeness, multiples, only_rounded
from relukit.compression._cut import Draft, Layer
from relukit.compression._dependent import combined
from relukit.network import Affine, Network, Origin
from relukit.network.affine import Conv, Dense
from relukit.piecewise import AbstractActivation


@dataclass(frozen=True, eq=False)
class Channels:
    """The smaller network, a bound of its difference, how many channels were merged (`rounded`: up to float32 only), and (for proofs) its gates as in `Plain`."""

    network: Network
    error: float
    merged: int
    gates: list[tuple[int, int]]
    follow: list[tuple[int, int, int, float]]
    rounded: int


def channel_form(network: Network, bounds: Bounds) -> Channels | None:
    """Convolutions and dense layers with fewer channels and units; None where nothing goes.

    A layer is cut if its affine node is a sum of convolutions without groups, matrices and selections, and what reads it mixes or selects channels,
    behind activations, poolings, depthwise convolutions, means and changes of shape. A skip connection then selects what is left. Last, matrices
    lose the columns of entries that are constant: single places of a channel that stays.
    """
    draft, merged, rounded, changed = Draft.of(network, bounds), 0, 0, False
    unread: list[tuple[int, int]] = []
    follow: list[tuple[int, int, int, float]] = []  # layer, unit, unit that it follows, factor
    # always-on units that pass on what others added: they stand for themselves no more
    passed: set[tuple[int, int]] = set()
    number = {i: k for k, i in enumerate(network.activations)}
    once = list(range(1, len(network)))
    for source, again in [(i, False) for i in once] + [(i, True) for i in reversed(once)]:
        layer = Layer.of(draft, source)
        if layer is None:
            continue
        folded, followers = np.zeros(layer.channels, bool), np.zeros(layer.channels, bool)
        if not again:  # the second time, from the end, is for what nothing reads any more
            folded, rows = layer.fold(), layer.rows()
            for a, b, factor in multiples(rows, closeness(network)):
                if not folded[a] and not folded[b] and layer.twins(a, b, factor):
                    layer.move(a, b, factor)
                    followers[a], merged, rounded = True, merged + 1, rounded + only_rounded(rows[a], rows[b], factor)
                    for i in (i for i in layer.group if i in number):
                        one, two = (draft.kept[i][layer.entries(i, c)].tolist() for c in (a, b))
                        follow += [(number[i], p, q, factor) for p, q in zip(one, two)]
            combinations, carriers = combined(layer, folded | followers)
            if combinations.any():
                folded, merged = folded | combinations, merged + int(combinations.sum())
                passed |= {(number[i], int(draft.kept[i][p])) for i in layer.group for p in np.flatnonzero(carriers)}
        gone = layer.spared(folded | ~layer.read(), folded)
        if not gone.any():
            continue
        for i in (i for i in layer.group if i in number):
            alone = np.flatnonzero(gone & ~followers)
            place = draft.kept[i][np.isin(layer.owners[i], alone)]
            unread += [(number[i], p) for p in place[bounds.undecided(i)[place]].tolist()]
        layer.drop(gone)
        changed = True
    if not (fold_constants(draft) or changed):
        return None
    made = Network(
        tuple(draft.nodes), ("equal only on the set it was compressed for",), network.head, network.dtype, network.box, origin=Origin("built")
    )  # fmt: skip
    gates = [(k, int(p)) for i, k in number.items() for p in draft.kept[i]]
    gates = [(-1, p) if (k, p) in passed else (k, p) for k, p in gates] + unread
    names = {name: at for at, name in enumerate(gates)}
    named = [(k, p, names[k, q], f) for k, p, q, f in follow if (k, q) in names]
    return Channels(made, _propagate(network, draft.drift), merged, gates, named, rounded)


def has_copies(network: Network) -> bool:
    """Whether a layer holds a multiple of another unit or channel, a unit without weights, or one that nothing reads."""
    draft = Draft.of(network, None)
    for source in range(1, len(network)):
        layer, op = Layer.of(draft, source), network.nodes[source].op
        if layer is not None:
            rows = layer.rows()
            if not layer.read().all() or (rows.shape[1] > 1 and not rows[:, :-1].any(axis=1).all()):
                return True
        else:
            if not isinstance(op, Affine) or len(op.maps) != 1 or not isinstance(op.maps[0], Dense | Conv):
                continue
            m = op.maps[0]
            rows = np.c_[
                m.W if isinstance(m, Dense) else m.kernel.reshape(len(m.kernel), -1),
                op.bias.reshape(m.out_size if isinstance(m, Dense) else len(m.kernel), -1),
            ]
        if multiples(rows, closeness(network)):
            return True
    return False


def _propagate(network: Network, drift: dict[int, Array]) -> float:
    """What errors at some nodes can do to the outputs: through |W|, and activations by their largest slope."""
    errors: list[Array] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node.op, Affine):
            error = sum(m.absolute().apply(errors[j]) for m, j in zip(node.op.maps, node.inputs)) + drift.get(i, 0.0)
        elif i == 0:
            error = np.zeros(node.size)
        else:
            assert isinstance(node.op, AbstractActivation)
            error = errors[node.inputs[0]] * node.op.lipschitz()
        errors.append(np.asarray(error))
    return float((1 + 1e-9) * errors[-1].max(initial=0.0))
