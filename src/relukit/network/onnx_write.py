"""Writing a network as ONNX, checked in onnxruntime before the file appears."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._numerics import write_bytes
from relukit._types import Array
from relukit.network._network import Network
from relukit.network._nodes import Affine, Node
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Scale, Sparse
from relukit.network.curves import Jump
from relukit.piecewise import AbstractActivation, PiecewiseLinear

_OPSET = 20  # the first with Gelu
_KINDS = {2: 10, 4: 1, 8: 11}  # TensorProto's FLOAT16, FLOAT and DOUBLE, by bytes
_CHECK_ROWS = 8
_SMOOTH = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "elu": "Elu",
    "gelu": "Gelu",
    "softplus": "Softplus",
    "hardswish": "HardSwish",
    "mish": "Mish",
    "selu": "Selu",
    "celu": "Celu",
    "exp": "Exp",
    "log": "Log",
    "erf": "Erf",
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "sin": "Sin",
    "cos": "Cos",
    "sign": "Sign",
}
_HEADS = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "sigmoid": "Sigmoid"}


class _Writer:
    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.prefix = ""  # the network's node that is being written: readers get its name back
        self._count = 0
        self._names: set[str] = set()

    def constant(self, value: Any, hint: str) -> str:
        from onnx import numpy_helper

        name = f"{hint}_{len(self.weights)}"
        value = np.asarray(value)
        self.weights.append(
            numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(self.dtype), name)
        )
        return name

    def op(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        self._count += 1
        output = output or f"t{self._count}"
        name = (
            self.prefix
            if self.prefix and self.prefix not in self._names
            else f"{self.prefix or kind}.{kind}_{self._count}"
        )
        self._names.add(name)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def linear(self, m: AbstractLinear, x: str, bias: Array | None) -> tuple[str, bool]:
        """The map applied to a flat value; says whether the bias went in with it."""
        if isinstance(m, Identity):
            return x, False
        if isinstance(m, Dense | Sparse):
            W = self.constant(m.matrix(), "W")
            inputs = [x, W] if bias is None else [x, W, self.constant(bias, "b")]
            return self.op("Gemm", inputs, transB=1), bias is not None
        if isinstance(m, Scale):
            return self.op("Mul", [x, self.constant(m.diagonal, "s")]), False
        if isinstance(m, Gather):
            source = x
            if np.any(m.index < 0):
                source = self.op("Pad", [x, self.constant(np.asarray([0, 0, 0, 1], np.int64), "pads")])
            index = np.where(m.index < 0, m.in_size, m.index).astype(np.int64)
            return self.op("Gather", [source, self.constant(index, "i")], axis=1), False
        if isinstance(m, Conv):
            image = self.op("Reshape", [x, self.constant(np.asarray((-1, *m.in_shape), np.int64), "shape")])
            inputs = [image, self.constant(m.kernel, "K")]
            by_channel = None if bias is None else bias.reshape(m.out_shape[0], -1)
            inside = by_channel is not None and np.all(by_channel == by_channel[:, :1])
            if inside and by_channel is not None:
                inputs.append(self.constant(by_channel[:, 0], "b"))
            top, left, bottom, right = m.padding
            y = self.op(
                "Conv", inputs, group=m.groups, strides=m.stride, dilations=m.dilation, pads=[top, left, bottom, right]
            )
            return self.op("Flatten", [y], axis=1), bool(inside)
        raise UnsupportedOperation(f"{type(m).__name__} has no ONNX form")

    def affine(self, op: Affine, inputs: list[str]) -> str:
        has_bias = bool(np.any(op.bias))
        alone = len(op.maps) == 1
        parts, done = [], not has_bias
        for m, x in zip(op.maps, inputs):
            y, inside = self.linear(m, x, op.bias if alone and has_bias else None)
            parts.append(y)
            done = done or inside
        total = parts[0]
        for part in parts[1:]:
            total = self.op("Add", [total, part])
        return total if done else self.op("Add", [total, self.constant(op.bias, "b")])

    def activation(self, op: AbstractActivation, x: str) -> str:
        if isinstance(op, PiecewiseLinear):
            return self.piecewise(op, x)
        parameters = getattr(op, "parameters", {})
        if op.name in ("square", "power"):
            return self.op("Pow", [x, self.constant(np.asarray(float(parameters.get("n", 2))), "exponent")])
        if isinstance(op, Jump) and op.name == "step":
            zero = self.constant(np.asarray(0.0), "zero")
            return self.op(
                "Cast",
                [self.op("GreaterOrEqual" if op.middle else "Greater", [x, zero])],
                to=_KINDS[self.dtype.itemsize],
            )
        if op.name == "silu":
            return self.op("Mul", [x, self.op("Sigmoid", [x])])
        if op.name not in _SMOOTH:
            raise UnsupportedOperation(f"{op.name} has no ONNX operator")
        keep = {"elu": ("alpha",), "celu": ("alpha",), "gelu": ("approximate",)}.get(op.name, ())
        return self.op(_SMOOTH[op.name], [x], **{k: parameters[k] for k in keep})

    def piecewise(self, op: PiecewiseLinear, x: str) -> str:
        """ReLU, leaky, PReLU, abs and clip by their operators; anything else as its sum of hinges."""
        if op.is_relu:
            return self.op("Relu", [x])
        slopes, knots = op.slopes, op.knots
        if knots.shape == (1,) and knots[0] == 0 and np.all(op.height == 0) and np.all(slopes[1] == 1):
            if slopes.ndim == 1:
                if slopes[0] == -1:
                    return self.op("Abs", [x])
                return self.op("LeakyRelu", [x], alpha=float(slopes[0]))
            return self.op("PRelu", [x, self.constant(slopes[0], "slope")])
        flat = slopes.ndim == 1 and knots.ndim == 1 and np.ndim(op.height) == 0
        if flat and len(knots) and set(slopes.tolist()) <= {0.0, 1.0} and np.all(op._heights() == knots):
            low = self.constant(np.asarray(knots[0]), "low") if slopes[0] == 0 else ""
            high = self.constant(np.asarray(knots[-1]), "high") if slopes[-1] == 0 else ""
            if len(knots) <= 2 and (len(knots) == 1 or slopes.tolist() == [0.0, 1.0, 0.0]):
                return self.op("Clip", [x, low, high] if high else [x, low])
        h = op.hinges()
        total = self.op("Add", [self.op("Mul", [x, self.constant(h.slope, "s")]), self.constant(h.offset, "o")])
        for weight, knot in zip(h.weights, h.knots):
            gate = self.op("Relu", [self.op("Sub", [x, self.constant(knot, "k")])])
            total = self.op("Add", [total, self.op("Mul", [gate, self.constant(weight, "w")])])
        return total


def to_onnx(network: Network, head: bool = True) -> Any:
    """An `onnx.ModelProto` with a free batch dimension, in the precision of the source.

    Raises:
        InvalidInput: Weights above 2 GiB, ONNX's limit for one file.
    """
    from onnx import checker, helper

    from relukit._version import __version__

    if network.parameters * network.dtype.itemsize >= 1 << 31:
        raise InvalidInput("the weights exceed 2 GiB, the limit of one ONNX file")
    writer = _Writer(network.dtype)
    kind = _KINDS[network.dtype.itemsize]
    shape = network.input_shape
    names = ["input"]
    if len(shape) > 1:
        names = [writer.op("Flatten", ["input"], axis=1)]
    for node in network.nodes[1:]:
        reads = [names[j] for j in node.inputs]
        writer.prefix = node.name
        names.append(
            writer.affine(node.op, reads) if isinstance(node.op, Affine) else writer.activation(node.op, reads[0])
        )
    writer.prefix = ""
    last: Node = network.nodes[-1]
    out = writer.op("Reshape", [names[-1], writer.constant(np.asarray((-1, *last.shape), np.int64), "shape")])
    final = (
        writer.op(_HEADS[network.head], [out], "output")
        if head and network.head
        else writer.op("Identity", [out], "output")
    )
    graph = helper.make_graph(
        writer.nodes,
        "relukit",
        [helper.make_tensor_value_info("input", kind, ["batch", *shape])],
        [helper.make_tensor_value_info(final, kind, ["batch", *last.shape])],
        writer.weights,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(
        graph, opset_imports=opset, producer_name="relukit", producer_version=__version__, ir_version=9
    )
    checker.check_model(model)
    return model


def write_onnx(network: Network, path: str | Path) -> Path:
    """Write `.onnx` once onnxruntime gives the network's own outputs.

    Raises:
        InvalidInput: onnxruntime disagrees with the network by more than rounding explains.
        UnsupportedOperation: onnxruntime has no such operation in the network's precision (convolutions in float64).
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    content = to_onnx(network).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except NoKernel as error:
        raise UnsupportedOperation(
            f"onnxruntime cannot run this network in {network.dtype} ({str(error).splitlines()[0]}). Write it in single precision: "
            'relukit.save(network.with_(dtype=np.dtype("float32")), path)'
        ) from error
    generator = np.random.default_rng(0)
    box = network.box
    rows = (
        generator.standard_normal((_CHECK_ROWS, network.inputs)) if box is None else box.sample(_CHECK_ROWS, generator)
    )
    rows = rows.astype(network.dtype)
    got = session.run(None, {"input": rows.reshape(len(rows), *network.input_shape)})[0].reshape(len(rows), -1)
    want = network.apply_head(network(rows))
    scale = max(1.0, float(np.abs(network(rows)).max()))
    near = 1e-3 if network.dtype.itemsize > 2 else 2e-2  # half precision has 11 bits
    if not np.all(np.abs(got - want) <= near * scale):
        raise InvalidInput(
            f"onnxruntime and the network differ by {np.abs(got - want).max():.3g}: the file was not written. Please report this network."
        )
    return write_bytes(path, content)
