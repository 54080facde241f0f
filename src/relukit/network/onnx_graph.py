"""What reading an ONNX graph works on: its operators, its constants, and the values built so far."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import AnyArray, Shape
from relukit.network.rewrite import Builder, size_of


class Reading:
    """State of one reading: constants, values by tensor name, and the builder."""

    def __init__(self, graph: Any, opset: int, folder: Path | None) -> None:
        from onnx import numpy_helper

        self.opset = opset
        self.constants: dict[str, AnyArray] = {}
        self.conditions: set[str] = set()  # values that are 0 or 1
        for tensor in graph.initializer:
            self.constants[tensor.name] = numpy_helper.to_array(tensor, str(folder or ""))
        inputs = [i for i in graph.input if i.name not in self.constants]
        shapes = [_input_shape(i) for i in inputs]
        if not inputs:
            raise UnsupportedOperation("the graph has no input")
        if len(inputs) == 1:
            self.builder = Builder(shapes[0], inputs[0].name)
            self.values = {inputs[0].name: 0}
        else:  # several inputs become one flat vector, in their order
            sizes = [size_of(s) for s in shapes]
            self.builder = Builder((1, sum(sizes)), "input")
            self.builder.notes.append(
                "inputs " + ", ".join(i.name for i in inputs) + " are joined into one vector, in this order"
            )
            starts = np.cumsum([0, *sizes])
            self.values = {
                i.name: self.builder.gather(0, np.arange(a, a + n), s, i.name)
                for i, a, n, s in zip(inputs, starts, sizes, shapes)
            }

    def get(self, name: str) -> AnyArray | None:
        """The constant of that name, or None where it is a value."""
        return self.constants.get(name)

    def shape(self, name: str) -> Shape:
        return self.constants[name].shape if name in self.constants else self.builder.shape(self.values[name])


def _input_shape(value: Any) -> Shape:
    dims = value.type.tensor_type.shape.dim
    shape = [d.dim_value if d.HasField("dim_value") else 0 for d in dims]
    if shape and shape[0] <= 0:
        shape[0] = 1
    if not dims or any(s <= 0 for s in shape):
        named = [d.dim_param or d.dim_value for d in dims]
        raise UnsupportedOperation(
            f"input '{value.name}' has the dynamic shape {named}: only the first (batch) dimension may be open. Export with fixed sizes."
        )
    return tuple(shape)


class Operator:
    """One ONNX node with its attributes as Python values."""

    def __init__(self, node: Any) -> None:
        from onnx import helper

        self.kind, self.name = node.op_type, node.name or (node.output[0] if node.output else node.op_type)
        self.inputs, self.outputs = list(node.input), list(node.output)
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.proto = node

    @property
    def source(self) -> str:
        return f"{self.kind} {self.name}"

    def attribute(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def refuse(self, why: str) -> UnsupportedOperation:
        return UnsupportedOperation(f"{self.kind} at node '{self.name}': {why}")


# -- the arguments of an operator ----------------------------------------------------------------------------------------


def constant(o: Operator, r: Reading, position: int, default: Any = None) -> Any:
    """Input number `position` as a constant array."""
    if position >= len(o.inputs) or o.inputs[position] == "":
        return default
    value = r.get(o.inputs[position])
    if value is None:
        raise o.refuse(f"input {position} ('{o.inputs[position]}') must be a constant")
    return value


def value_of(o: Operator, r: Reading, position: int = 0) -> int:
    """Input number `position` as a node; constants are refused with a reason."""
    name = o.inputs[position]
    if name not in r.values:
        raise o.refuse(f"input {position} ('{name}') must depend on the network's input")
    return r.values[name]


def axes_of(o: Operator, r: Reading) -> list[int] | None:
    given = constant(o, r, 1) if len(o.inputs) > 1 else o.attribute("axes")
    return None if given is None else [int(a) for a in np.ravel(given)]


def reindex(o: Operator, r: Reading, change: Callable[[AnyArray], AnyArray]) -> int:
    """Any operator that only moves entries: run it on the entries' numbers."""
    x = value_of(o, r)
    numbers = change(np.arange(r.builder.nodes[x].size).reshape(r.builder.shape(x)))
    return r.builder.gather(x, numbers, numbers.shape, o.name, o.source)
