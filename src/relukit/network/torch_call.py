"""One call of an exported torch graph, as the table of operators sees it."""

from typing import Any

import numpy as np
import torch

from relukit._errors import UnsupportedOperation
from relukit._types import Array


class Call:
    """One call in the exported graph with its arguments resolved: values are `Value`, the rest constants."""

    def __init__(self, node: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.node, self.args, self.kwargs = node, args, kwargs
        self.kind = str(node.target).split(".")[1] if "." in str(node.target) else str(node.target)
        stack = node.meta.get("nn_module_stack") or {}
        path, cls = list(stack.values())[-1] if stack else ("", "")
        self.path = path or node.name
        self.source = f"{getattr(cls, '__name__', str(cls).rsplit('.', 1)[-1])} {path}".strip()

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        value = self.args[position] if position < len(self.args) else self.kwargs.get(name, default)
        return default if value is None else value

    def refuse(self, why: str) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"aten.{self.kind} at node '{self.node.name}' ({self.source or 'no module'}): {why}"
        )


class Value:
    """A tensor that depends on the input: a node of the builder."""

    def __init__(self, index: int) -> None:
        self.index = index


def constant(value: Any) -> Array:
    return (
        value.detach().to("cpu", torch.float64).numpy()
        if isinstance(value, torch.Tensor)
        else np.asarray(value, np.float64)
    )


def index_of(call: Call, position: int = 0) -> int:
    value = call.args[position]
    if not isinstance(value, Value):
        raise call.refuse(f"argument {position} must depend on the input")
    return value.index
