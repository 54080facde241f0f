"""Networks from arrays: `.npz` files and plain dictionaries `W0, b0, W1, ...`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnreadableFile
from relukit._numerics import atomic_path
from relukit._types import Array
from relukit.network._network import Network, Origin
from relukit.network.affine import dense_or_sparse
from relukit.network.rewrite import RELU, Builder
from relukit.piecewise import AbstractActivation
from relukit.sets import Box

_KNOWN = ("lo", "hi", "x0", "B")


def from_arrays(arrays: Mapping[str, Any], origin: Origin | None = None) -> Network:
    """A ReLU network from `W0, b0, W1, b1, ...` with y = W x + b; `lo`, `hi` give the default box, `x0`, `B` a plane.

    Raises:
        InvalidInput: A layer is missing or not finite.
        ShapeMismatch: Layers do not fit together.
    """
    layers = []
    while f"W{len(layers)}" in arrays:
        k = len(layers)
        if f"b{k}" not in arrays:
            raise InvalidInput(f"array 'b{k}' is missing: a network needs W0, b0, W1, b1, ...")
        layers.append((np.asarray(arrays[f"W{k}"]), np.asarray(arrays[f"b{k}"]).ravel()))
    if not layers:
        raise InvalidInput(f"no array 'W0': a network needs W0, b0, W1, b1, ...; found {sorted(arrays)[:8]}")
    dtype = np.result_type(*[W.dtype for W, _ in layers])
    if dtype.kind in "iu":  # quantized weights; float64 holds them
        dtype = np.dtype(np.float64)
    if dtype.kind != "f":
        raise InvalidInput(f"weights must be floating point, got {dtype}")
    network = from_layers(
        [W for W, _ in layers],
        [b for _, b in layers],
        [RELU] * (len(layers) - 1),
        dtype=dtype,
        origin=origin or Origin("npz"),
    )
    box = _box(arrays["lo"], arrays["hi"], network.inputs) if "lo" in arrays and "hi" in arrays else None
    extras = {
        k: np.asarray(v)
        for k, v in arrays.items()
        if k in _KNOWN[2:] or (not (k[:1] in "Wb" and k[1:].isdigit()) and k not in _KNOWN)
    }
    return network.with_(
        box=box if box is None or box.size == network.inputs else None, extras=extras | _plane_box(box, network)
    )


def _box(lower: Any, upper: Any, inputs: int) -> Box:
    """The file's box; a single number stands for all inputs, a matrix of one row for a vector."""
    ends = [np.asarray(v, float).ravel() for v in (lower, upper)]
    return Box(*(np.full(inputs, v[0]) if v.size == 1 else v for v in ends))


def _plane_box(box: Box | None, network: Network) -> dict[str, Array]:
    """A box that belongs to plane coordinates rather than to the inputs stays among the extras."""
    return {} if box is None or box.size == network.inputs else {"lo": box.lower, "hi": box.upper}


def from_layers(
    weights: list[Array],
    biases: list[Array],
    activations: list[AbstractActivation],
    dtype: Any = np.float64,
    origin: Origin | None = None,
) -> Network:
    """A network of dense layers y = W x + b with `activations[k]` after layer k (none after the last)."""
    builder = Builder((np.shape(weights[0])[1],))
    last = 0
    for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
        W, b = np.asarray(W), np.asarray(b)
        if W.ndim != 2 or W.shape[1] != builder.nodes[last].size or b.shape != W.shape[:1]:
            raise ShapeMismatch(
                f"layer {k}: W {W.shape} and b {b.shape} do not follow a value of {builder.nodes[last].size} entries"
            )
        if not (np.all(np.isfinite(W)) and np.all(np.isfinite(b))):
            raise InvalidInput(f"layer {k} holds NaN or infinity; train it anew or repair the file")
        last = builder.affine(last, dense_or_sparse(W), b, name=f"layer{k}")
        if k < len(activations):
            last = builder.activation(last, activations[k], f"{activations[k].name}{k}")
    return builder.build(last, dtype=np.dtype(dtype), origin=origin or Origin())


def read_npz(path: Path) -> Network:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UnreadableFile(f"{path} is no readable .npz file: {error}") from error
    except Exception as error:  # zipfile.BadZipFile, zlib.error: a damaged archive
        raise UnreadableFile(f"{path} is a damaged .npz archive: {error}") from error
    return from_arrays(arrays, Origin("npz", path))


def write_npz(network: Network, path: str | Path) -> Path:
    """Write a ReLU chain of dense layers as `W0, b0, ...` (with `lo`, `hi` where it has a box).

    Raises:
        InvalidInput: The network is no such chain; write ONNX instead.
    """
    chain = network.dense_chain()
    if chain is None or not chain.is_relu:
        raise InvalidInput(".npz holds chains of dense layers with ReLU only; write this network as .onnx")
    arrays = {f"W{k}": W for k, W in enumerate(chain.weights)} | {f"b{k}": b for k, b in enumerate(chain.biases)}
    if network.box is not None:
        arrays |= {"lo": network.box.lower, "hi": network.box.upper}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    return Path(path)
