"""Answers as the VNN-LIB standards print them."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._numerics import write_bytes
from relukit._types import Array
from relukit.verification._property import Property, Tensor


def one_word(verdict: Any, old: bool = False) -> str:
    """`sat`, `unsat`, `unknown` or `timed-out` (`timeout` in the result file of the 1.0 competition form)."""
    if verdict.status == "unknown" and verdict.timed_out:
        return "timeout" if old else "timed-out"
    return verdict.status


def assignment(verdict: Any, asked: Property) -> str:
    """The witness: pairs `(X_0 value)` for 1.0; for 2.0 each tensor's name, type and shape, then its entries."""
    if not asked.networks:
        pairs = [f"(X_{i} {v:.17g})" for i, v in enumerate(verdict.witness)]
        pairs += [f"(Y_{i} {v:.9g})" for i, v in enumerate(verdict.outputs)]
        return "(" + "\n".join(pairs) + ")\n"
    lines = []
    for tensor, values in _tensors(verdict, asked):
        lines.append(f"{tensor.name} {tensor.kind} [{','.join(map(str, tensor.shape))}]")
        lines.extend(f"{v:.17g}" if tensor.role == "input" else f"{v:.9g}" for v in values)
    return "\n".join(lines) + "\n"


def _tensors(verdict: Any, asked: Property) -> list[tuple[Tensor, Array]]:
    return [
        (t, (verdict.witness if t.role == "input" else verdict.outputs)[t.first : t.first + t.size])
        for d in asked.networks
        for t in d.tensors
    ]


def serialise(verdict: Any, asked: Property, folder: Path) -> None:
    """One ONNX `TensorProto` per variable, `NAME.pb`; inputs and outputs `X`, `Y` where the property is 1.0."""
    from onnx import numpy_helper

    if asked.networks:
        pairs = [(t.name, t.kind, v.reshape(t.shape)) for t, v in _tensors(verdict, asked)]
    else:
        pairs = [("X", "real", verdict.witness), ("Y", "real", verdict.outputs)]
    for name, kind, values in pairs:
        array = np.asarray(values, np.float64 if kind in ("real", "float64") else np.float32)
        write_bytes(folder / f"{name}.pb", numpy_helper.from_array(array, name).SerializeToString())
