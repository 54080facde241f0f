"""Several networks, or several copies of one, as one network over all their inputs; further outputs of one network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array
from relukit.activations import get
from relukit.network import Affine, Input, Network, Node, Origin
from relukit.network.affine import AbstractLinear, Dense, dense_or_sparse
from relukit.optimization._expression import Constraint, Linear, Part, Scope, parse_constraints
from relukit.sets import Box


def original_outputs(network: Network, x: Array) -> Array:
    """Outputs at rows, from the original in its own precision; where it ends in a softmax or sigmoid, its logits in that precision."""
    run = network.replay if not network.head else lambda rows: network(rows, network.dtype)
    return np.asarray(run(x), np.float64)


@dataclass(frozen=True, eq=False)
class Joint:
    """One network made of several.

    Arguments:
        network: Its inputs are all inputs that are not linked; its outputs all outputs, one network after another.
        box: Of its inputs.
        scope: What `name.x[i]` and `name.y[j]` stand for.
        constraints: Linked inputs stay within their own network's box.
    """

    network: Network
    box: Box
    scope: Scope
    constraints: tuple[Constraint, ...]


def join(networks: Mapping[str, Network], boxes: Mapping[str, Box] | None = None, links: Sequence[str] = ()) -> Joint:
    """Several networks side by side, inputs shared or computed from one another.

    Arguments:
        networks: By name; the same network may stand under several names.
        boxes: Domains by name; a network's own box by default.
        links: Equations with one input alone on the left: `"b.x[0] == a.x[0]"` shares an input, `"b.x[1] == 2*a.y[0] + 1"` feeds
            one network into another. They are substituted, not left to a solver; a network may only read earlier ones.

    Raises:
        InvalidInput: A bad name, a missing box, or a link that cannot be read or reads a later network.
    """
    if not networks:
        raise InvalidInput("no network was given")
    for name in networks:
        if not name.isidentifier():
            raise InvalidInput(f"'{name}' is no name for a network: letters, digits and _, not a digit first")
    domains = {name: _domain(name, net, (boxes or {}).get(name)) for name, net in networks.items()}
    written = _written(links, networks)
    total = sum(net.inputs for net in networks.values()) - len(written)
    sizes = (total, sum(net.outputs for net in networks.values()))
    parts: dict[str, Part] = {}
    lower, upper, rules = np.zeros(total), np.zeros(total), []
    at = first = 0
    for name, net in networks.items():
        places, linked = np.full(net.inputs, -1), {}
        scope = Scope(sizes, dict(parts))
        for i in range(net.inputs):
            if (name, i) in written:
                text = written[name, i]
                row = _right_side(text, scope, name)
                linked[i] = row
                low, high = float(domains[name].lower[i]), float(domains[name].upper[i])
                if _is_copy(row):
                    one = np.flatnonzero(row.inputs)
                    lower[one[0]], upper[one[0]] = max(lower[one[0]], low), min(upper[one[0]], high)
                    continue
                rules.append(
                    Constraint(row.inputs, row.outputs, row.constant - high, False, f"{name}.x[{i}] <= {high:.9g}")
                )
                rules.append(
                    Constraint(-row.inputs, -row.outputs, low - row.constant, False, f"{name}.x[{i}] >= {low:.9g}")
                )
            else:
                places[i], lower[at], upper[at] = at, domains[name].lower[i], domains[name].upper[i]
                at += 1
        parts[name] = Part(places, first, net.outputs, linked)
        first += net.outputs
    clash = np.flatnonzero(lower > upper)
    if len(clash):
        raise InvalidInput(
            f"the boxes of linked inputs have nothing in common: input {clash[0]} of the joint network would lie in [{lower[clash[0]]:g}, {upper[clash[0]]:g}]"
        )
    return Joint(_side_by_side(networks, parts, domains, sizes), Box(lower, upper), Scope(sizes, parts), tuple(rules))


def _domain(name: str, network: Network, box: Box | None) -> Box:
    box = network.box if box is None else box
    if box is None or box.size != network.inputs:
        raise InvalidInput(f"network '{name}' needs a box of its {network.inputs} inputs; it brings none of its own")
    return box


def _written(links: Sequence[str], networks: Mapping[str, Network]) -> dict[tuple[str, int], str]:
    """(network, input) -> the right side of its equation."""
    found: dict[tuple[str, int], str] = {}
    for text in links:
        left, relation, right = text.replace("==", "=").partition("=")
        name, _, rest = left.strip().partition(".")
        inner = rest.strip()
        if (
            not relation
            or not right.strip()
            or not inner.startswith("x[")
            or not inner.endswith("]")
            or not inner[2:-1].strip().isdigit()
        ):
            raise InvalidInput(f"the link '{text}' needs one input alone on the left, as in b.x[0] == a.y[0]")
        index = int(inner[2:-1])
        if name not in networks or index >= networks[name].inputs:
            raise InvalidInput(f"the link '{text}': there is no {name}.x[{index}]")
        if (name, index) in found:
            raise InvalidInput(f"the link '{text}': {name}.x[{index}] is linked twice")
        found[name, index] = right
    return found


def _right_side(text: str, scope: Scope, name: str) -> Linear:
    if not scope.parts:
        raise InvalidInput(
            f"the link '{name}.x[..] == {text.strip()}': the first network cannot read another; put the one it reads first"
        )
    try:
        row = parse_constraints(f"{text} <= 0", scope)[0]
    except InvalidInput as error:
        raise InvalidInput(
            f"the link of {name} to '{text.strip()}': {error}. A network may read those named before it"
        ) from error
    return row.linear


def _side_by_side(
    networks: Mapping[str, Network], parts: Mapping[str, Part], domains: Mapping[str, Box], sizes: tuple[int, int]
) -> Network:
    nodes = [Node(Input(sizes[0]), (), (sizes[0],), "input")]
    ends: list[tuple[int, Part]] = []
    for name, net in networks.items():
        part = parts[name]
        nodes += _entry(name, net, part, domains[name], sizes, ends, len(nodes))
        shift = len(nodes) - 1
        for node in net.nodes[1:]:
            nodes.append(
                Node(node.op, tuple(j + shift for j in node.inputs), node.shape, f"{name}.{node.name}", node.source)
            )
        ends.append((len(nodes) - 1, part))
    nodes.append(stacked([(end, nodes[end].size) for end, _ in ends], sizes[1]))
    dtype = np.dtype(np.float64) if any(n.dtype != np.float32 for n in networks.values()) else np.dtype(np.float32)

    def run(rows: Array) -> Array:
        y = np.zeros((len(rows), sizes[1]))
        for name, net in networks.items():
            part = parts[name]
            x = rows[:, np.maximum(part.inputs, 0)].astype(np.float64)
            for i, row in part.linked.items():
                x[:, i] = rows @ row.inputs + y @ row.outputs + row.constant
            y[:, part.first : part.first + part.outputs] = original_outputs(net, x)
        return y

    return Network(tuple(nodes), dtype=dtype, origin=Origin("built", run=run))


def _entry(
    name: str, net: Network, part: Part, box: Box, sizes: tuple[int, int], ends: list[tuple[int, Part]], at: int
) -> list[Node]:
    """The inputs of one network from the joint inputs and the outputs of earlier networks; `at` is the first node's number.

    Linked inputs are clipped to the network's box. A constraint keeps them there, so that this changes no point that counts,
    and bounds of the second network do not suffer from loose bounds of the first.
    """
    W = np.zeros((net.inputs, sizes[0]))
    own = np.flatnonzero(part.inputs >= 0)
    W[own, part.inputs[own]] = 1.0
    computed = [i for i, row in part.linked.items() if not _is_copy(row)]
    for i, row in part.linked.items():
        if _is_copy(row):
            W[i] = row.inputs
    if not computed:
        return [Node(Affine((dense_or_sparse(W),), np.zeros(net.inputs)), (0,), (net.inputs,), f"{name}.inputs")]
    rows = [part.linked[i] for i in computed]
    middle, half = 0.5 * (box.lower + box.upper)[computed], 0.5 * (box.upper - box.lower)[computed]
    divisor = np.where(half > 0, half, 1.0)
    maps: list[AbstractLinear] = [Dense(np.array([r.inputs for r in rows]) / divisor[:, None])]
    sources, Y = [0], np.array([r.outputs for r in rows]) / divisor[:, None]
    for end, earlier in ends:
        block = Y[:, earlier.first : earlier.first + earlier.outputs]
        if np.any(block):
            maps.append(Dense(block))
            sources.append(end)
    place = np.zeros((net.inputs, len(computed)))
    place[computed, np.arange(len(computed))] = half
    bias = np.zeros(net.inputs)
    bias[computed] = middle
    k = (len(computed),)
    return [
        Node(
            Affine(tuple(maps), (np.array([r.constant for r in rows]) - middle) / divisor),
            tuple(sources),
            k,
            f"{name}.linked",
        ),
        Node(get("hardtanh"), (at,), k, f"{name}.within its box"),
        Node(Affine((dense_or_sparse(W), Dense(place)), bias), (0, at + 1), (net.inputs,), f"{name}.inputs"),
    ]


def _is_copy(row: Linear) -> bool:
    """Whether an expression is one input itself."""
    one = np.flatnonzero(row.inputs)
    return len(one) == 1 and row.inputs[one[0]] == 1 and row.constant == 0 and not np.any(row.outputs)


def stacked(sources: list[tuple[int, int]], total: int, name: str = "outputs") -> Node:
    """A node that holds several nodes' values one after another; `sources` are (node, size)."""
    maps, at = [], 0
    for _, size in sources:
        place = np.zeros((total, size))
        place[at + np.arange(size), np.arange(size)] = 1.0
        maps.append(dense_or_sparse(place))
        at += size
    return Node(Affine(tuple(maps), np.zeros(total)), tuple(i for i, _ in sources), (total,), name)


def with_distance(network: Network, point: Array, norm: str, scale: Array) -> Network:
    r"""The network with one more output: the distance :math:`\|(x - p) / s\|` of its input from a point.

    :math:`|d| = \max(0, d) + \max(0, -d)` and :math:`\max(a, b) = a + \max(0, b - a)` are gates, so that the distance is
    exact and every method that takes networks takes it. Minimized, its relaxation is exact.

    Arguments:
        norm: `l1` or `linf`.
        scale: s, one entry for each input.
    """
    if norm not in ("l1", "linf"):
        raise InvalidInput(f"the distance must be l1 or linf, got '{norm}'")
    n, relu = network.inputs, get("relu")
    nodes = list(network.nodes)
    both = np.concatenate([np.diag(1 / scale), -np.diag(1 / scale)])
    nodes.append(Node(Affine((dense_or_sparse(both),), -both @ point), (0,), (2 * n,), "steps"))
    nodes.append(Node(relu, (len(nodes) - 1,), (2 * n,), "steps on either side"))
    fold = np.concatenate([np.eye(n), np.eye(n)], axis=1)
    if norm == "l1":
        fold = fold.sum(axis=0, keepdims=True)
    nodes.append(Node(Affine((dense_or_sparse(fold),), np.zeros(len(fold))), (len(nodes) - 1,), (len(fold),), "sizes"))
    nodes += largest_of(nodes[-1].size, len(nodes) - 1)
    last = len(network.nodes) - 1
    nodes.append(stacked([(last, network.outputs), (len(nodes) - 1, 1)], network.outputs + 1, "outputs and distance"))

    def run(rows: Array) -> Array:
        d = np.abs((rows.astype(np.float64) - point) / scale)
        far = d.sum(axis=1) if norm == "l1" else d.max(axis=1)
        return np.concatenate([original_outputs(network, rows), far[:, None]], axis=1)

    return Network(tuple(nodes), network.notes, "", network.dtype, network.box, origin=Origin("built", run=run))


def largest_of(size: int, source: int) -> list[Node]:
    """Nodes after number `source`, the last of which holds its largest entry."""
    found: list[Node] = []
    while size > 1:
        found += _halved(size, source + len(found), source + len(found) + 1)
        size = found[-1].size
    return found


def _halved(size: int, source: int, at: int) -> list[Node]:
    """The larger entry of each pair of a node's entries: `a + max(0, b - a)`."""
    pairs = size // 2
    left = np.zeros((pairs + size % 2, size))
    left[np.arange(len(left)), 2 * np.arange(len(left))] = 1.0
    rise = -left[:pairs].copy()
    rise[np.arange(pairs), 2 * np.arange(pairs) + 1] += 1.0
    place = np.zeros((len(left), pairs))
    place[np.arange(pairs), np.arange(pairs)] = 1.0
    return [
        Node(Affine((dense_or_sparse(rise),), np.zeros(pairs)), (source,), (pairs,), f"rises {at}"),
        Node(get("relu"), (at,), (pairs,), f"rises {at} above 0"),
        Node(
            Affine((dense_or_sparse(left), dense_or_sparse(place)), np.zeros(len(left))),
            (source, at + 1),
            (len(left),),
            f"larger {at}",
        ),
    ]
