"""What the page tells of a network that somebody brings: its listing, health, a plane through three rows, the smallest flip."""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, RelukitError, UnsupportedOperation
from relukit._types import Array
from relukit.explorer._plane import arrays_of
from relukit.explorer._state import items, number
from relukit.geometry import regions
from relukit.network import Network, load
from relukit.report import three_rows

_FILE_KINDS = (".onnx", ".npz", ".nnet")
_MOST_PIECES = 200_000
_SMOOTH = "A smooth activation has no exact pieces: the picture shows sampled values."
Reply = tuple[dict[str, Any], dict[str, Array]]


def dropped(asked: dict[str, Any], folder: Path) -> Network:
    """A file from the page, read from a private folder under a name of ours; its own name only tells the kind."""
    name, content = asked.get("name"), asked.get("content")
    if not isinstance(name, str) or not isinstance(content, str):
        raise InvalidInput("a dropped file comes with its name and its content")
    kind = next((k for k in _FILE_KINDS if name.lower().endswith(k)), None)
    if kind is None:
        raise InvalidInput("the page reads .onnx, .npz and .nnet files; use the command line for others")
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("the file's content is not base64") from error
    path = folder / f"dropped{kind}"
    path.write_bytes(raw)
    try:
        return load(path)
    except RelukitError as error:
        raise InvalidInput(str(error).replace(str(path), "the file").replace(str(folder), "")) from error


def rows_of(raw: Any, inputs: int) -> Array:
    table = [
        [number(v, "an entry", -1e9, 1e9) for v in items(row, "a row", inputs)] for row in items(raw, "rows", 5000)
    ]
    if len(table) < 3 or any(len(row) != inputs for row in table):
        raise InvalidInput(f"rows: at least three, each with {inputs} numbers")
    return np.array(table)


def open_network(network: Network, rows: Array | None) -> Reply:
    """All that the page shows of one network; what does not apply is said in a sentence instead.

    Arguments:
        rows: Inputs, shape `(rows, inputs)`, at least three; sampled from the network's box (or [-1, 1]) where there are none.
    """
    from relukit.monitoring import health
    from relukit.verification import flip

    given = rows is not None
    rows = np.asarray(_sampled(network) if rows is None else rows, float)
    header: dict[str, Any] = {
        "listing": str(network),
        "inputs": network.inputs,
        "outputs": network.outputs,
        "given": given,
    }
    header["health"] = health(network, rows).to_dict()
    arrays: dict[str, Array] = {}
    try:
        told, arrays = _picture(network, rows)
        header |= told
    except RelukitError as error:
        header["no_plane"] = str(error)
    try:
        header["flip"] = flip(network, rows[0], timeout=5).to_dict() | {"row": 0}
    except RelukitError as error:
        header["no_flip"] = str(error)
    return header, arrays


def _sampled(network: Network, count: int = 256) -> Array:
    low, high = (-1.0, 1.0) if network.box is None else (network.box.lower, network.box.upper)
    return np.random.default_rng(0).uniform(low, high, (count, network.inputs))


def _picture(network: Network, rows: Array) -> Reply:
    """The pieces of the whole box of a two-input network that has one, else of a plane through three rows, of different decisions if there are such."""
    if network.inputs == 1:
        raise UnsupportedOperation("a network of one input has no plane: relukit open draws its curve and breakpoints")
    whole = network.inputs == 2 and network.box is not None
    chosen = [] if whole else three_rows(network, rows)
    dots = {} if whole else {"data": np.array([[0, 0], [1, 0], [0, 1]], "<f4")}
    if not network.is_piecewise_linear:
        told, grid = _sampled_picture(network, rows[chosen] if chosen else rows, whole, dots)
        return told | {"rows": [k + 1 for k in chosen]}, grid
    found = regions(network, None, None if whole else tuple(rows[chosen]), limit=_MOST_PIECES)
    told = {
        "rows": [k + 1 for k in chosen],
        "count": len(found),
        "area": found.area,
        "area_error": found.area_error,
        "complete": found.complete,
    }
    return told, arrays_of(found) | dots


def _sampled_picture(network: Network, rows: Array, whole: bool, dots: dict[str, Array], size: int = 65) -> Reply:
    """Values on a grid: there are no pieces to show."""
    low, high = np.full(2, -0.25), np.full(2, 1.25)
    origin, axes = rows[0], rows[1:3] - rows[0]
    if whole and network.box is not None:
        low, high, origin, axes = network.box.lower, network.box.upper, np.zeros(2), np.eye(2)
    s, t = (np.linspace(a, b, size) for a, b in zip(low, high, strict=True))
    values = network(origin + np.stack(np.meshgrid(s, t), axis=-1).reshape(-1, 2) @ axes)
    color = values[:, 0] if values.shape[1] == 1 else values.argmax(axis=1)
    return {"sentence": _SMOOTH, "window": [low.tolist(), high.tolist()]}, {"grid": color.astype("<f4")} | dots
