"""The networks of a VNN-LIB 2.0 query: files given by name, checked against the declarations and put in their order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnreadableFile, UnsupportedOperation
from relukit._types import Array
from relukit.network import Network, load
from relukit.network._nodes import Affine, Node, Origin
from relukit.network.affine import Gather
from relukit.verification._declarations import FLOATS
from relukit.verification._property import Declared, Property, Tensor


def declared_networks(given: Any, asked: Property) -> list[Network]:
    """One network per declaration.

    Raises:
        InvalidInput: A network is missing, or one too many.
        ShapeMismatch: A network has other inputs or outputs than are declared.
        UnsupportedOperation: An element type without a sound analysis.
    """
    need = [d.name for d in asked.networks if not d.equal_to]
    if not isinstance(given, Mapping) or any(str(k).startswith("W") and str(k)[1:].isdigit() for k in given):
        if len(need) != 1:
            raise InvalidInput(
                f"{asked.source} declares the networks {', '.join(need)}: give each with --network NAME=FILE.onnx (a dictionary in Python)"
            )
        given = {need[0]: given}
    elif len(given) == 1 and len(need) == 1 and "" in given:
        given = {need[0]: given[""]}
    missing, spare = [n for n in need if n not in given], [str(n) for n in given if n not in need]
    if missing or spare:
        raise InvalidInput(
            f"{asked.source} needs the networks {', '.join(need)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; not needed: {', '.join(spare)}" if spare else "")
        )
    found: list[Network] = []
    names = [d.name for d in asked.networks]
    for d in asked.networks:
        source = d
        while source.equal_to:
            source = asked.networks[names.index(source.equal_to)]
        found.append(_arranged(given[source.name], d, asked.source))
    for d, network in zip(asked.networks, found):
        if d.isomorphic_to:
            like = found[names.index(d.isomorphic_to)]
            if [(n.op.__class__, n.size) for n in like.nodes] != [(n.op.__class__, n.size) for n in network.nodes]:
                raise ShapeMismatch(
                    f"{asked.source}: network '{d.name}' is said to be isomorphic to '{d.isomorphic_to}', and its layers differ"
                )
    return found


def kind_of(asked: Property) -> str:
    """`real`, or the floating-point type that the query declares its tensors with."""
    kinds = {t.kind for d in asked.networks for t in d.tensors} or {"real"}
    strange = sorted(kinds - {"real", *FLOATS})
    if strange:
        raise UnsupportedOperation(
            f"{asked.source} declares {strange[0]} tensors: there is no sound analysis for that type here; declare them real to ask about real arithmetic"
        )
    typed = kinds & set(FLOATS)
    if len(typed) > 1:
        raise UnsupportedOperation(
            f"{asked.source} mixes {' and '.join(sorted(typed))}; one type for all tensors is treated"
        )
    return typed.pop() if typed else "real"


def _arranged(source: Any, d: Declared, where: str) -> Network:
    inputs, outputs, hidden = d.of("input"), d.of("output"), d.of("hidden")
    network = load(source) if not hidden else _with_hidden(source, [h.node for h in hidden], where)
    for kind in {t.kind for t in d.tensors} & set(FLOATS):
        if network.dtype != np.dtype(kind):
            raise ShapeMismatch(f"{where}: network '{d.name}' is declared {kind}, its file holds {network.dtype}")
    size = lambda tensors: sum(t.size for t in tensors)
    if network.inputs != size(inputs) or network.outputs != size(outputs) + size(hidden):
        raise ShapeMismatch(
            f"{where}: network '{d.name}' is declared with {size(inputs)} inputs and {size(outputs)} outputs"
            f"{f' and {size(hidden)} hidden values' if hidden else ''}, its file has {network.inputs} and {network.outputs - size(hidden)}"
        )
    named = [t for t in inputs + outputs if t.node]
    if not named and not hidden:
        return network
    if named and len(named) < len(inputs) + len(outputs):
        raise UnreadableFile(
            f"{where}: network '{d.name}' names some of its inputs and outputs in the ONNX file; name all or none"
        )
    model = _model(network, d, where)
    constants = {t.name for t in model.graph.initializer}
    file_in = [(i.name, _entries(i)) for i in model.graph.input if i.name not in constants]
    file_out = [(o.name, _entries(o)) for o in model.graph.output]
    pick_in = _positions(inputs, file_in, d, where) if named else np.arange(network.inputs)
    order = [*hidden, *outputs]
    if named:
        pick_out = _positions(order, [*file_out, *[(h.node, h.size) for h in hidden]], d, where)
    else:  # the file's outputs come first, hidden ones were appended
        first = size(outputs)
        pick_out = np.concatenate([np.arange(first, network.outputs), np.arange(first)])
    return _permuted(network, pick_in, pick_out)


def _entries(value: Any) -> int:
    return int(np.prod([max(v.dim_value, 1) for v in value.type.tensor_type.shape.dim], dtype=np.int64))


def _positions(tensors: list[Tensor], known: list[tuple[str, int]], d: Declared, where: str) -> Array:
    """For each declared entry its place in the file's order."""
    starts = dict(zip([n for n, _ in known], np.cumsum([0, *[s for _, s in known]])))
    parts = []
    for t in tensors:
        if t.node not in starts:
            raise UnreadableFile(
                f"{where}: network '{d.name}' has no input or output '{t.node}' in its file; it has {', '.join(starts)}"
            )
        parts.append(starts[t.node] + np.arange(t.size))
    return np.concatenate(parts)


def _model(network: Network, d: Declared, where: str) -> Any:
    if network.origin.kind != "onnx" or network.origin.path is None:
        raise InvalidInput(f"{where}: names of values in network '{d.name}' need an ONNX file")
    import onnx

    from relukit.network._load import read_bytes

    return onnx.load_model_from_string(read_bytes(Path(network.origin.path)))


def _permuted(network: Network, pick_in: Array, pick_out: Array) -> Network:
    """The network whose entry i of the input is the file's entry `pick_in[i]`, and likewise for the output."""
    if np.array_equal(pick_in, np.arange(len(pick_in))) and np.array_equal(pick_out, np.arange(len(pick_out))):
        return network
    place = np.argsort(pick_in)  # the file's entry k is the declared entry place[k]
    nodes = [
        network.nodes[0],
        Node(Affine((Gather(place, len(place)),), np.zeros(len(place))), (0,), (len(place),), "declared order"),
    ]
    from dataclasses import replace

    nodes.extend(replace(n, inputs=tuple(j + 1 for j in n.inputs)) for n in network.nodes[1:])
    m = network.outputs
    nodes.append(
        Node(Affine((Gather(np.asarray(pick_out), m),), np.zeros(m)), (len(nodes) - 1,), (m,), "declared outputs")
    )
    run = lambda rows: np.asarray(network.replay(rows[:, place])).reshape(len(rows), -1)[:, pick_out]
    return Network(tuple(nodes), network.notes, "", network.dtype, None, {}, Origin("built", None, run))


def _with_hidden(source: Any, names: list[str], where: str) -> Network:
    """The network of an ONNX file whose hidden values are further outputs."""
    network = load(source)
    if network.origin.kind != "onnx" or network.origin.path is None:
        raise InvalidInput(f"{where}: hidden values are named in an ONNX file; this network comes from elsewhere")
    import onnx

    from relukit.network._load import read_bytes
    from relukit.network.onnx import from_onnx

    path = Path(network.origin.path)
    model = onnx.load_model_from_string(read_bytes(path))
    made = {name for node in model.graph.node for name in node.output}
    kind = model.graph.input[0].type.tensor_type.elem_type
    for name in names:
        if name not in made:
            raise UnreadableFile(f"{where}: the ONNX file has no value '{name}'; it has {', '.join(sorted(made)[:12])}")
        if name not in [o.name for o in model.graph.output]:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    content, cache = model.SerializeToString(), []

    def run(rows: Array) -> Array:
        import onnxruntime

        if not cache:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            cache.append(onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]))
        given = cache[0].get_inputs()
        shapes = [[v if isinstance(v, int) and v > 0 else 1 for v in i.shape] for i in given]
        cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
        out = []
        for row in rows:
            feed = {i.name: p.reshape(s).astype(network.dtype) for i, p, s in zip(given, np.split(row, cuts), shapes)}
            out.append(np.concatenate([np.asarray(o).ravel() for o in cache[0].run(None, feed)]))
        return np.stack(out)

    return from_onnx(model, path.resolve().parent).with_(origin=Origin("onnx", path, run))
