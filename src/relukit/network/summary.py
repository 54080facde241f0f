"""A network as a readable listing, and the stretches of it that collapse to one affine map."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.network._network import Network
from relukit.network._nodes import Affine, Input, Node
from relukit.network.affine import Dense


def describe(node: Node) -> str:
    """What a node does, in a few words."""
    if isinstance(node.op, Input):
        return "input"
    if isinstance(node.op, Affine):
        return " + ".join(m.describe() for m in node.op.maps)
    return repr(node.op)


def listing(network: Network) -> str:
    """One line per node: name, what it is, shape, parameters."""
    lines = []
    for i, node in enumerate(network.nodes):
        reads = ", ".join(network.nodes[j].name for j in node.inputs if j != i - 1 or len(node.inputs) > 1)
        parameters = f"{node.op.parameters} parameters" if isinstance(node.op, Affine) and node.op.parameters else ""
        shape = "x".join(map(str, node.shape)) or "1"
        lines.append(
            f"{node.name:20} {describe(node):44} {shape:14} {parameters}{'  <- ' + reads if reads else ''}".rstrip()
        )
    return "\n".join(lines)


def stretches(network: Network) -> list[list[int]]:
    """Runs of two or more affine nodes with parameters that follow each other with no activation between them.

    Each run is one affine map, however many layers it has: without an activation depth adds nothing.
    """
    runs: list[list[int]] = []
    run: list[int] = []
    for i, node in enumerate(network.nodes[1:], start=1):
        goes_on = bool(run) and node.inputs == (run[-1],) and len(network.consumers[run[-1]]) == 1
        if isinstance(node.op, Affine) and len(node.op.maps) == 1:
            if not goes_on:
                runs.append(run)
                run = []
            run.append(i)
        else:
            runs.append(run)
            run = []
    runs.append(run)
    return [r for r in runs if sum(network.nodes[i].op.parameters > 0 for i in r) >= 2]


def merge(network: Network) -> Network:
    """The equal network with every such stretch written as one dense layer.

    Raises:
        InvalidInput: There is no such stretch.
    """
    runs = stretches(network)
    if not runs:
        raise InvalidInput("no two affine layers follow each other without an activation: there is nothing to merge")
    ends, inside = {r[-1]: r for r in runs}, {i for r in runs for i in r[:-1]}
    nodes: list[Node] = []
    number: dict[int, int] = {}
    for i, node in enumerate(network.nodes):
        if i in inside:
            continue
        op, inputs = node.op, node.inputs
        if i in ends:
            W, b = np.eye(network.nodes[ends[i][0]].op.maps[0].in_size), 0.0
            for j in ends[i]:
                step = network.nodes[j].op
                W, b = step.maps[0].apply(W.T).T, step.maps[0].apply(b) + step.bias if np.ndim(b) else step.bias
            op, inputs = Affine((Dense(W),), b), network.nodes[ends[i][0]].inputs
        nodes.append(Node(op, tuple(number[j] for j in inputs), node.shape, node.name, node.source))
        number[i] = len(nodes) - 1
    note = f"{sum(map(len, runs))} affine layers merged into {len(runs)}"
    return Network(tuple(nodes), (*network.notes, note), network.head, network.dtype, network.box, network.extras)


def summary(network: Network) -> dict[str, Any]:
    """The listing as data."""
    nodes = [
        {
            "name": n.name, "what": describe(n), "shape": list(n.shape), "parameters": n.op.parameters if isinstance(n.op, Affine) else 0,
            "reads": [network.nodes[j].name for j in n.inputs], "source": n.source,
        }
        for n in network.nodes
    ]  # fmt: skip
    return {
        "inputs": network.inputs, "input_shape": list(network.input_shape), "outputs": network.outputs, "units": network.units,
        "parameters": network.parameters, "layers": len(network.activations), "activations": sorted({repr(network.nodes[i].op) for i in network.activations}),
        "piecewise_linear": network.is_piecewise_linear, "head": network.head, "notes": list(network.notes), "nodes": nodes,
        "affine_stretches": [[network.nodes[i].name for i in r] for r in stretches(network)],
    }  # fmt: skip
