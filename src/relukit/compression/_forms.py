"""The forms that a smaller network can take: fewer units, direct connections to the inputs, fewer channels."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from relukit._types import Array, IntArray
from relukit.bounds import Bounds, CompactNetwork, compact
from relukit.compression._channels import channel_form
from relukit.compression._columns import trimmed
from relukit.compression._copies import closeness
from relukit.compression._gates import error_bound, give_up, merge
from relukit.compression._plain import plain_form
from relukit.network import Affine, Network, Origin
from relukit.network.affine import Conv, Dense
from relukit.network.rewrite import RELU, Builder
from relukit.sets import AbstractSet

_GATES = 4_000  # undecided units up to which a network that is no dense chain is multiplied out
_ENTRIES = 1 << 26  # of the matrices that take: 512 MiB


@dataclass(frozen=True, eq=False)
class Candidate:
    """A smaller form, the bound of its difference, and for proofs what its gates stand for (see `Record`)."""

    form: str
    network: Network
    error: float
    merged: int
    gates: IntArray
    follow: list[tuple[int, int, int, float]]
    lines: list[tuple[int, int, float, float]] = field(default_factory=list)
    rounded: int = 0


def forms(network: Network, domain: AbstractSet, bounds: Bounds, moving: np.ndarray, tolerance: float) -> Iterator[Candidate]:  # fmt: skip
    """All forms that can be built, as `Candidate`s."""
    for found in _whole(network, domain, bounds, moving, tolerance):
        yield replace(found, network=trimmed(found.network))


def _whole(network: Network, domain: AbstractSet, bounds: Bounds, moving: np.ndarray, tolerance: float) -> Iterator[Candidate]:  # fmt: skip
    convolved = any(isinstance(m, Conv) for n in network.nodes if isinstance(n.op, Affine) for m in n.op.maps)
    plain = None if convolved else plain_form(network, bounds, moving, domain)
    if plain is not None:
        yield Candidate(
            "plain",
            plain.network,
            plain.error,
            len(plain.merged) + plain.folded,
            plain.gates,
            plain.merged,
            rounded=plain.rounded,
        )
    else:
        cut = channel_form(network, bounds)
        if cut is not None:
            yield Candidate("channels", cut.network, cut.error, cut.merged, np.array(cut.gates, np.int64).reshape(-1, 2), cut.follow, rounded=cut.rounded)  # fmt: skip
    undecided = sum(int(bounds.undecided(i).sum()) for i in network.activations)
    widest = max(node.size for node in network.nodes)
    if plain is None and (undecided > _GATES or widest * (network.inputs + undecided) > _ENTRIES):
        return
    full = compact(network, domain, bounds)
    small, follow, unread, rounded = merge(full, closeness(network))
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
    yield Candidate("skip", skip_form(small, moving, network), error, gone, np.array(named, np.int64).reshape(-1, 2), followers, lines, rounded)  # fmt: skip


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
