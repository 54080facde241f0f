"""Networks from arrays: `.npz` files and plain dictionaries `W0, b0, W1, ...`."""

import re
from collections.abc import Iterable, Mapping
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

    Other names are read where they are as clear: `weight0, bias0, ...`, `w1, b1, ...`, `fc1.weight, fc1.bias, ...`, `0.weight, 0.bias, ...`,
    `layers.0.kernel, ...`; layers in the order of the numbers in their names, or else of the file.

    Raises:
        InvalidInput: A layer is missing, not dense or not finite.
        ShapeMismatch: Layers do not fit together.
    """
    found = named_layers(arrays)
    layers = [(np.asarray(arrays[w]), None if b is None else np.asarray(arrays[b]).ravel()) for w, b in found]
    layers = _upright(found, layers)
    used = {name for pair in found for name in pair}
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
    extras = {k: np.asarray(v) for k, v in arrays.items() if k in _KNOWN[2:] or (k not in used and k not in _KNOWN)}
    return network.with_(
        box=box if box is None or box.size == network.inputs else None, extras=extras | _plane_box(box, network)
    )


_WEIGHT = re.compile(r"(?<![A-Za-z])(weights?|kernels?|coefs?_?|W|w)(?![A-Za-z])")
_BIAS = re.compile(r"(?<![A-Za-z])(bias(?:es)?|intercepts?_?|B|b)(?![A-Za-z])")
_EXPECTED = "expected W0, b0, W1, b1, ... (or weight0, bias0; fc1.weight, fc1.bias; 0.weight, 0.bias), weights of shape (out, in)"


def named_layers(names: Iterable[str]) -> list[tuple[str, str | None]]:
    """The names of each layer's weights and bias, in order.

    Raises:
        InvalidInput: There are no weights, or a bias is without weights, or weights `W0, W1, ...` are without a bias.
    """
    names = [name for name in names if name not in _KNOWN]
    said = f"{_EXPECTED}; found {sorted(names)[:8]}"
    plain = "W0" in names
    kinds = [_parts(name) for name in names if not plain or re.fullmatch(r"[Wb]\d+", name)]
    weights, biases = (
        {stem: name for is_bias, stem, name in filter(None, kinds) if is_bias == kind} for kind in (False, True)
    )
    if not weights:
        raise InvalidInput(f"no array 'W0', and no others that name the layers of a network: {said}")
    for stem, name in biases.items():
        if stem not in weights:
            raise InvalidInput(f"array '{name}' is a bias without its weights: {said}")
    numbers = [[int(n) for n in re.findall(r"\d+", stem)] for stem in weights]
    if all(numbers) and len({tuple(n) for n in numbers}) == len(numbers):
        weights = dict(item for _, item in sorted(zip(numbers, weights.items())))
    if plain:
        for k, (stem, name) in enumerate(weights.items()):
            if name != f"W{k}" or stem not in biases:
                raise InvalidInput(f"array '{'W' if name != f'W{k}' else 'b'}{k}' is missing: {said}")
    return [(name, biases.get(stem)) for stem, name in weights.items()]


def _parts(name: str) -> tuple[bool, str, str] | None:
    """Whether the name is a bias's, the name without its last word for weights or bias, and itself; None for other names."""
    hits = [(hit.start(), kind, hit) for kind, word in enumerate((_WEIGHT, _BIAS)) for hit in word.finditer(name)]
    if not hits:
        return None
    _, kind, hit = max(hits, key=lambda h: h[0])
    return kind == 1, name[: hit.start()] + "*" + name[hit.end() :], name


def _upright(
    found: list[tuple[str, str | None]], layers: list[tuple[Array, Array | None]]
) -> list[tuple[Array, Array]]:
    """Weights of shape (out, in), turned where they all come as (in, out) and cannot be meant otherwise; zeros where there is no bias."""
    for (name, _), (W, _) in zip(found, layers):
        if W.ndim != 2:
            raise InvalidInput(
                f"array '{name}' has shape {W.shape}: a dense layer's weights have two axes (out, in). {_EXPECTED}"
            )

    def fits(turned: bool) -> bool:
        shapes = [W.shape[::-1] if turned else W.shape for W, _ in layers]
        chained = all(a[0] == b[1] for a, b in zip(shapes, shapes[1:]))
        return chained and all(b is None or len(b) == s[0] for s, (_, b) in zip(shapes, layers))

    kernels = all(re.search(r"kernel", name) for name, _ in found)  # Keras: y = x W + b
    if fits(True) and (kernels or not fits(False)):
        layers = [(W.T, b) for W, b in layers]
    return [(W, np.zeros(len(W)) if b is None else b) for W, b in layers]


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
