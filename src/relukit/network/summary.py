"""A network as a readable listing."""

from relukit.network._network import Affine, Input, Network


def listing(network: Network) -> str:
    """One line per node: name, what it is, shape, parameters."""
    lines = []
    for i, node in enumerate(network.nodes):
        if isinstance(node.op, Input):
            what = "input"
        elif isinstance(node.op, Affine):
            what = " + ".join(m.describe() for m in node.op.maps)
        else:
            what = repr(node.op)
        reads = ", ".join(network.nodes[j].name for j in node.inputs if j != i - 1 or len(node.inputs) > 1)
        parameters = f"{node.op.parameters} parameters" if isinstance(node.op, Affine) and node.op.parameters else ""
        shape = "x".join(map(str, node.shape)) or "1"
        lines.append(f"{node.name:20} {what:44} {shape:14} {parameters}{'  <- ' + reads if reads else ''}".rstrip())
    return "\n".join(lines)
