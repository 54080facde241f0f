"""Reading ONNX on the `onnx` package alone: a table from operator to nodes.

Every tensor is either a constant array or a value of the `Builder`, with its full ONNX shape, the batch of 1 included:
reshape, transpose and their kin are then plain index arithmetic.
"""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile, UnsupportedOperation
from relukit._types import AnyArray
from relukit.network._load import read_bytes
from relukit.network._network import Network
from relukit.network._nodes import Origin
from relukit.network.onnx_graph import Operator, Reading
from relukit.network.onnx_operators import OPERATORS as OPERATORS
from relukit.network.rewrite import size_of

HEADS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
_FLOATS: dict[str, type] = {"tensor(double)": np.float64, "tensor(float16)": np.float16}  # of onnxruntime; else float32


def read_onnx(path: Path) -> Network:
    """Read an `.onnx` or `.onnx.gz` file.

    Raises:
        UnreadableFile: No valid ONNX, or external data outside its folder.
        UnsupportedOperation: An operator that is neither affine nor one-dimensional, with its node.
    """
    import onnx

    content = read_bytes(path)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError has no stable place
        raise UnreadableFile(f"{path} is no valid ONNX file (damaged or truncated): {error}") from error
    if not model.graph.node:
        raise UnreadableFile(f"{path} holds no ONNX graph (damaged or truncated)")
    for tensor in model.graph.initializer:
        _check_external(tensor, path)
    run = _Replay(path)
    try:
        network = from_onnx(model, path.resolve().parent)
    except (UnreadableFile, UnsupportedOperation, MemoryError):
        raise
    except Exception as error:  # operators of constants are run by onnx, which raises what it likes
        raise UnreadableFile(f"{path} is damaged or uses ONNX in a way relukit does not know: {error}") from error
    return network.with_(origin=Origin("onnx", path, run))


def _check_external(tensor: Any, path: Path) -> None:
    """External data must lie inside the model's folder."""
    for entry in tensor.external_data:
        if entry.key == "location":
            folder = path.resolve().parent
            target = (folder / entry.value).resolve()
            if not target.is_relative_to(folder):
                raise UnreadableFile(
                    f"{path}: tensor '{tensor.name}' points to '{entry.value}' outside the model's folder; refused"
                )
            if not target.exists():
                raise UnreadableFile(f"{path}: external data file '{entry.value}' of tensor '{tensor.name}' is missing")


class _Replay:
    """Runs the file in onnxruntime on CPU with one thread; the session is made on first use."""

    def __init__(self, path: Path) -> None:
        self.path, self._session = path, None

    def __call__(self, rows: AnyArray) -> AnyArray:
        if self._session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            packed = self.path.suffix == ".gz"
            content = read_bytes(self.path) if packed else str(self.path)
            try:
                self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # it has a class of its own for each of its reasons
                why = str(error).strip().partition("\n")[0]
                raise UnreadableFile(
                    f"{self.path}: onnxruntime does not run this file, so that no result can be compared with the original: {why}"
                ) from error
        session, results = self._session, []
        inputs = session.get_inputs()
        known = [[d if isinstance(d, int) and d > 0 else 1 for d in i.shape] for i in inputs]
        sizes = [size_of(tuple(s)) for s in known]
        kinds = [_FLOATS.get(i.type, np.float32) for i in inputs]
        for row in rows:
            parts = np.split(row, np.cumsum(sizes)[:-1])
            feed = {i.name: p.reshape(s).astype(k) for i, p, s, k in zip(inputs, parts, known, kinds)}
            results.append(np.concatenate([np.asarray(o).ravel() for o in session.run(None, feed)]))
        return np.stack(results)


def from_onnx(model: Any, folder: Path | None = None) -> Network:
    """A network from an `onnx.ModelProto`."""
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    graph, reading = model.graph, None
    reading = Reading(graph, opset, folder)
    outputs = [o.name for o in graph.output]
    operators = [Operator(n) for n in graph.node]
    head = ""
    for operator in operators:
        if (
            operator.kind in HEADS
            and operator.outputs[0] in outputs
            and len(outputs) == 1
            and operator.inputs[0] in reading.values
            and _over_all(operator, reading)
        ):
            head = HEADS[operator.kind]
            reading.builder.notes.append(
                f"the last {operator.kind} is set aside: it is monotone, so decisions are those of its inputs"
            )
            reading.values[operator.outputs[0]] = reading.values[operator.inputs[0]]
            continue
        if all(name == "" or name in reading.constants for name in operator.inputs):
            _fold(operator, reading)
            continue
        row = OPERATORS.get(operator.kind)
        if row is None:
            raise operator.refuse(
                "relukit does not know this operator (`relukit supports --onnx-operators` lists those it knows)"
            )
        missing = [n for n in operator.inputs if n and n not in reading.constants and n not in reading.values]
        if missing:
            raise operator.refuse(f"reads '{missing[0]}', which nothing before it produces")
        result = row(operator, reading)
        for name, value in zip(operator.outputs, result if isinstance(result, list) else [result]):
            if isinstance(value, np.ndarray):
                reading.constants[name] = value
            else:
                reading.values[name] = value
    builder = reading.builder
    constant = [o for o in outputs if o not in reading.values]
    if constant:
        raise UnsupportedOperation(f"output '{constant[0]}' does not depend on the input")
    parts = [reading.values[o] for o in outputs]
    if len(parts) > 1:
        parts = [builder.reshape(p, (1, builder.nodes[p].size)) for p in parts]
        builder.notes.append("outputs " + ", ".join(outputs) + " are joined into one vector, in this order")
        parts = [builder.concatenate(parts, 1)]
    given = {i.type.tensor_type.elem_type for i in graph.input if i.name in reading.values}
    kind = np.float64 if 11 in given else np.float16 if given == {10} else np.float32
    return _without_batch(builder.build(parts[0], head=head, dtype=np.dtype(kind)))


def _without_batch(network: Network) -> Network:
    """Shapes without the leading 1 that stood for the batch."""
    from dataclasses import replace

    cut = lambda shape: shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return network.with_(nodes=tuple(replace(n, shape=cut(n.shape)) for n in network.nodes))


def _over_all(operator: Operator, reading: Reading) -> bool:
    """Whether a last normalization is over all outputs, so that it can be set aside."""
    if operator.kind == "Sigmoid":
        return True
    shape = reading.shape(operator.inputs[0])
    axis = operator.attribute("axis", 1 if reading.opset < 13 else -1) % max(len(shape), 1)
    return (size_of(shape[axis:]) if reading.opset < 13 else shape[axis]) == size_of(shape)


def _fold(operator: Operator, reading: Reading) -> None:
    """Evaluate an operator whose inputs are all constants."""
    if operator.kind == "Constant":
        from onnx import numpy_helper

        for value in operator.attributes.values():
            kept = numpy_helper.to_array(value) if hasattr(value, "raw_data") else np.asarray(value)
            reading.constants[operator.outputs[0]] = kept
        return
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    infos = [helper.make_tensor_value_info(n, 0, None) for n in operator.inputs if n]
    outs = [helper.make_tensor_value_info(n, 0, None) for n in operator.outputs]
    graph = helper.make_graph([operator.proto], "fold", infos, outs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", reading.opset)])
    feed = {n: reading.constants[n] for n in operator.inputs if n}
    for name, value in zip(operator.outputs, ReferenceEvaluator(model).run(None, feed)):
        reading.constants[name] = np.asarray(value)
