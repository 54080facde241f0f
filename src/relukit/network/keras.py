"""Keras 3 models on any backend, by their layers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, MissingExtra, UnreadableFile, UnsupportedOperation
from relukit._types import Array, Shape
from relukit.activations import catalogue
from relukit.network._network import Network
from relukit.network._nodes import Origin
from relukit.network.keras_spatial import SPATIAL, weights
from relukit.network.rewrite import Builder
from relukit.piecewise import AbstractActivation

_HEADS = {"softmax": "softmax", "sigmoid": "sigmoid", "log_softmax": "log_softmax"}


def read_keras(path: Path) -> Network:
    """Read a `.keras` or `.h5` file in Keras's safe mode (no Python code from the file).

    Raises:
        MissingExtra: Keras is not installed.
        UnreadableFile: Damaged, or it holds a Lambda layer.
    """
    if "KERAS_BACKEND" not in os.environ:
        os.environ["KERAS_BACKEND"] = "torch"  # a plain dependency; the user's own choice wins
    try:
        import keras
    except ImportError as error:
        raise MissingExtra("reading Keras models needs Keras 3: pip install 'relukit[keras]'") from error
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises ValueError, OSError, zipfile and h5py errors alike
        lines = str(error).strip().splitlines()
        raise UnreadableFile(
            f"{path} is no readable Keras model: {lines[0] if lines else type(error).__name__}"
        ) from error
    network = from_keras(model)
    return network.with_(origin=Origin("keras", path, network.origin.run, model))


def from_keras(model: Any) -> Network:
    """A network from a built Keras 3 Sequential or functional model.

    Raises:
        InvalidInput: The model is not built, subclassed, or has several inputs.
        UnsupportedOperation: A layer that is neither affine nor one-dimensional.
    """
    if not getattr(model, "built", False):
        raise InvalidInput(f"Keras model '{model.name}' is not built: give it an Input or call model.build(...) first")
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise InvalidInput(
            f"Keras model '{model.name}' is subclassed and hides its layers; rewrite it as a functional model or pass its ONNX export"
        )
    if len(graph.inputs) != 1:
        raise InvalidInput(f"Keras model '{model.name}' has {len(graph.inputs)} inputs; relukit reads models with one")
    reading = _Reading(_fixed(graph.inputs[0].shape, "the input"))
    reading.values[id(graph.inputs[0])] = 0
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.input_tensors and not node.is_input:
                reading.apply(node)
    out = [reading.values[id(t)] for t in graph.outputs]
    if len(out) > 1:
        raise InvalidInput(f"Keras model '{model.name}' has {len(out)} outputs; build a model with the one to study")
    dtype = np.dtype(np.float64 if model.dtype == "float64" else np.float32)
    from relukit.network.onnx import _without_batch

    network = _without_batch(
        reading.builder.build(out[0], dtype=dtype, head=reading.head if out[0] == reading.head_at else "")
    )
    return network.with_(origin=Origin("keras", None, _Run(model, network.input_shape), model))


class _Run:
    def __init__(self, model: Any, shape: Shape) -> None:
        self.model, self.shape = model, shape

    def __call__(self, rows: Array) -> Array:
        import keras

        out = self.model(rows.reshape(len(rows), *self.shape), training=False)
        return np.asarray(keras.ops.convert_to_numpy(out)).reshape(len(rows), -1)


def _fixed(shape: Any, what: str) -> Shape:
    sizes = [1, *shape[1:]]
    if any(s is None for s in sizes):
        raise UnsupportedOperation(f"{what} has the dynamic shape {tuple(shape)}: only the batch may be open")
    return tuple(int(s) for s in sizes)


def activation(function: Any) -> AbstractActivation | None:
    """The activation of a Keras function; None for a head (softmax)."""
    name = getattr(function, "__name__", str(function))
    renamed = {
        "linear": "identity",
        "hard_sigmoid": "hardsigmoid",
        "hard_tanh": "hardtanh",
        "hard_silu": "hardswish",
        "swish": "silu",
        "hard_swish": "hardswish",
    }
    name = renamed.get(name, name)
    if name == "leaky_relu":
        return catalogue.leaky_relu(0.2)  # Keras's own default
    if name == "gelu":
        return catalogue.gelu("none")
    return catalogue.get(name) if name in catalogue.CATALOGUE else None


class _Reading:
    def __init__(self, shape: Shape) -> None:
        self.builder = Builder(shape)
        self.values: dict[int, int] = {}
        self.head, self.head_at = "", -1

    def apply(self, node: Any) -> None:
        layer = node.operation
        inputs = [self.values[id(t)] for t in node.input_tensors]
        kind = type(layer).__name__
        row = LAYERS.get(kind)
        if row is None:
            raise UnsupportedOperation(
                f"Keras layer '{layer.name}' ({kind}) is neither affine nor an activation that relukit knows"
            )
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            raise UnsupportedOperation(f"Keras layer '{layer.name}' works channels_first; relukit reads channels_last")
        self.values[id(node.output_tensors[0])] = self.finish(layer, row(layer, self.builder, inputs))

    def finish(self, layer: Any, x: int) -> int:
        """The layer's own activation; a softmax or sigmoid is set aside until something reads it."""
        function = getattr(layer, "activation", None)
        name = getattr(function, "__name__", "")
        if type(layer).__name__ == "Softmax":
            name = "softmax"
        if name in ("softmax", "log_softmax") or (name == "sigmoid" and not layer_outbound(layer)):
            if layer_outbound(layer):
                raise UnsupportedOperation(
                    f"Keras layer '{layer.name}': {name} stands inside the network; only a last one can be set aside"
                )
            self.head, self.head_at = _HEADS[name], x
            self.builder.notes.append(
                f"the last {name} is set aside: it is monotone, so decisions are those of its inputs"
            )
            return x
        if function is None or name == "linear":
            return x
        op = activation(function)
        if op is None:
            raise UnsupportedOperation(f"Keras layer '{layer.name}': activation '{name}' is not in relukit's catalogue")
        return self.builder.activation(x, op, f"{layer.name}.{name}", type(layer).__name__)


def layer_outbound(layer: Any) -> bool:
    return bool(getattr(layer, "_outbound_nodes", []))


# -- layers: each takes (layer, builder, input nodes) and returns a node ----------------------------------------------------


def _dense(layer: Any, b: Builder, x: list[int]) -> int:
    return b.matmul(x[0], weights(layer.kernel), weights(layer.bias) if layer.use_bias else None, layer.name, "Dense")


def _batch_norm(layer: Any, b: Builder, x: list[int]) -> int:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    rank = len(b.shape(x[0]))
    if axis % rank != rank - 1:
        raise UnsupportedOperation(f"Keras layer '{layer.name}' normalizes axis {axis}; only the last is supported")
    factor = (
        1 / np.sqrt(weights(layer.moving_variance) + layer.epsilon) * (weights(layer.gamma) if layer.scale else 1.0)
    )
    shift = (weights(layer.beta) if layer.center else 0.0) - weights(layer.moving_mean) * factor
    return b.scale(x[0], factor, shift, layer.name, "BatchNormalization")


def _relu(layer: Any, b: Builder, x: list[int]) -> int:
    slope, level = float(layer.negative_slope or 0), float(layer.threshold or 0)
    if level:
        raise UnsupportedOperation(
            f"Keras layer '{layer.name}': a threshold above 0 makes ReLU jump; no continuous function"
        )
    op = catalogue.leaky_relu(slope) if slope else catalogue.relu()
    if layer.max_value is not None:
        from relukit.piecewise import PiecewiseLinear

        top = float(layer.max_value)
        op = (
            catalogue.clip(0.0, top, "relu6" if top == 6 else "clip")
            if not slope
            else PiecewiseLinear([0.0, top], [slope, 1.0, 0.0], 0.0, "relu")
        )
    return b.activation(x[0], op, layer.name, "ReLU")


def _prelu(layer: Any, b: Builder, x: list[int]) -> int:
    slope = np.broadcast_to(weights(layer.alpha), b.shape(x[0])[1:]).ravel()
    return b.activation(x[0], catalogue.prelu(slope), layer.name, "PReLU")


def _moved(layer: Any, b: Builder, x: list[int]) -> int:
    """Reshape, Flatten, Permute, padding and cropping, on the entries' numbers."""
    shape, kind = b.shape(x[0]), type(layer).__name__
    numbers = np.arange(b.nodes[x[0]].size).reshape(shape)
    if kind == "Flatten":
        numbers = numbers.reshape(1, -1)
    elif kind == "Reshape":
        numbers = numbers.reshape(1, *layer.target_shape)
    elif kind == "Permute":
        numbers = numbers.transpose(0, *layer.dims)
    elif kind == "RepeatVector":
        numbers = np.repeat(numbers[:, None], layer.n, axis=1)
    elif kind.startswith("ZeroPadding"):
        sides = layer.padding if isinstance(layer.padding[0], tuple | list) else [layer.padding]
        numbers = np.pad(numbers, ((0, 0), *[tuple(s) for s in sides], (0, 0)), constant_values=-1)
    elif kind.startswith("Cropping"):
        sides = layer.cropping if isinstance(layer.cropping[0], tuple | list) else [layer.cropping]
        numbers = numbers[(slice(None), *[slice(lo, n - hi) for (lo, hi), n in zip(sides, shape[1:])])]
    return b.gather(x[0], numbers, numbers.shape, layer.name, kind)


def _merge(layer: Any, b: Builder, x: list[int]) -> int:
    kind = type(layer).__name__
    if kind == "Concatenate":
        return b.concatenate(x, layer.axis % len(b.shape(x[0])), layer.name, kind)
    if kind in ("Maximum", "Minimum"):
        sign = 1.0 if kind == "Maximum" else -1.0
        total = b.scale(x[0], sign)
        for other in x[1:]:
            total = b.maximum(total, b.scale(other, sign), layer.name, kind)
        return b.scale(total, sign)
    total = b.add(x, [1.0, -1.0] if kind == "Subtract" else None, layer.name, kind)
    return b.scale(total, 1 / len(x)) if kind == "Average" else total


def _normalize(layer: Any, b: Builder, x: list[int]) -> int:
    if type(layer).__name__ == "Rescaling":
        return b.scale(x[0], np.asarray(layer.scale), np.asarray(layer.offset), layer.name, "Rescaling")
    mean, spread = weights(layer.mean), np.maximum(np.sqrt(weights(layer.variance)), 1e-7)
    return b.scale(x[0], 1 / spread, -mean / spread, layer.name, "Normalization")


def _plain(layer: Any, b: Builder, x: list[int]) -> int:
    return x[0]


def _one(make: Callable[[Any], AbstractActivation]) -> Callable[[Any, Builder, list[int]], int]:
    return lambda layer, b, x: b.activation(x[0], make(layer), layer.name, type(layer).__name__)


LAYERS: dict[str, Callable[[Any, Builder, list[int]], int]] = SPATIAL | {
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "ReLU": _relu,
    "PReLU": _prelu,
    "LeakyReLU": _one(lambda l: catalogue.leaky_relu(float(l.negative_slope))),
    "ELU": _one(lambda l: catalogue.elu(float(l.alpha))),
    "Activation": _plain,
    "Softmax": _plain,
    "Dropout": _plain,
    "SpatialDropout1D": _plain,
    "SpatialDropout2D": _plain,
    "GaussianNoise": _plain,
    "GaussianDropout": _plain,
    "AlphaDropout": _plain,
    "ActivityRegularization": _plain,
    "Identity": _plain,
    "Flatten": _moved,
    "Reshape": _moved,
    "Permute": _moved,
    "RepeatVector": _moved,
    "ZeroPadding1D": _moved,
    "ZeroPadding2D": _moved,
    "Cropping1D": _moved,
    "Cropping2D": _moved,
    "Add": _merge,
    "Subtract": _merge,
    "Average": _merge,
    "Concatenate": _merge,
    "Maximum": _merge,
    "Minimum": _merge,
    "Rescaling": _normalize,
    "Normalization": _normalize,
}
