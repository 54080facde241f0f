"""Functions in files: tables, grids, max-min forms and triangulations, read and written."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnreadableFile
from relukit._numerics import atomic_path, write_bytes, write_json
from relukit._types import Array
from relukit.construction._maxima import Difference, MaxMin
from relukit.construction._meshes import Grid, Triangulation
from relukit.construction._read import LIMIT, read_columns
from relukit.construction._table import Table

_KEYS = "x, y; axes, values; points, simplices, values; A, b, groups; or first and second"


def read_function(path: str | Path, sort: bool = False, triangulate: bool = False) -> Any:
    """The function in a file.

    Columns of numbers (.csv, .tsv, .txt, .npy) are a table or a grid (see `of_rows`); .json and .npz hold what `to_dict()` of a
    `Table`, `Grid`, `Triangulation`, `MaxMin` or `Difference` holds; .obj and .ply (ASCII) are surfaces whose third coordinate is the value.

    Raises:
        UnreadableFile: The file is missing, too large, or no such file.
        InvalidInput, ShapeMismatch: What it holds is no function.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".json", ".npz", ".obj", ".ply"):
        return of_rows(read_columns(path), sort, triangulate)
    try:
        if path.stat().st_size > LIMIT:
            raise UnreadableFile(f"{path} has {path.stat().st_size >> 20} MiB; functions are read up to {LIMIT >> 20} MiB")  # fmt: skip
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as file:
                content: Any = {k: file[k] for k in file.files}
                content |= {"axes": [content[f"axis{k}"] for k in range(3) if f"axis{k}" in content]} if "axis0" in content else {}  # fmt: skip
        elif kind == ".json":
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        else:
            content = _surface(path.read_text(encoding="utf-8-sig").splitlines(), kind == ".ply")
    except (OSError, ValueError, EOFError, IndexError, KeyError) as error:
        if isinstance(error, UnreadableFile):
            raise
        raise UnreadableFile(f"{path} is no readable function: {error}") from error
    return of_content(content, str(path), sort)


def of_content(content: Any, where: str, sort: bool = False) -> Any:
    """A function from a dictionary such as `to_dict()` makes."""
    if not isinstance(content, dict):
        raise InvalidInput(f"{where} holds no function: expected the keys {_KEYS}")
    has = lambda *keys: all(k in content for k in keys)
    if has("x", "y"):
        return (Table.sorted if sort else Table)(content["x"], content["y"])
    if has("axes", "values"):
        return Grid(tuple(content["axes"]), content["values"])
    if has("points", "simplices", "values"):
        return Triangulation(content["points"], content["simplices"], content["values"])
    if has("A", "b", "groups"):
        return MaxMin(content["A"], content["b"], content["groups"])
    if has("first", "second"):
        first, second = (of_content(content[k], where) for k in ("first", "second"))
        if isinstance(first, MaxMin) and isinstance(second, MaxMin):
            return Difference(first, second)
        raise InvalidInput(f"{where}: a difference takes two max-min forms (A, b, groups)")
    raise InvalidInput(f"{where} holds {', '.join(list(content)[:6]) or 'nothing'}: expected the keys {_KEYS}")


def _surface(lines: list[str], ply: bool) -> dict[str, Any]:
    """Corners (x, y, value) and faces of a mesh; faces with more than three corners are cut from their first one."""
    corners, faces = _ply(lines) if ply else _obj(lines)
    points = np.array(corners).reshape(-1, 3)
    simplices = [[f[0], f[k], f[k + 1]] for f in faces for k in range(1, len(f) - 1)]
    return {"points": points[:, :2], "values": points[:, 2], "simplices": np.array(simplices, int).reshape(-1, 3)}


def _obj(lines: list[str]) -> tuple[list[list[float]], list[list[int]]]:
    """Corners are counted from 1, or backwards from -1, the last one so far."""
    corners: list[list[float]] = []
    faces = []
    for words in (line.split() for line in lines):
        if words[:1] == ["v"]:
            corners.append([float(v) for v in words[1:4]])
        elif words[:1] == ["f"]:
            numbers = [int(v.split("/")[0]) for v in words[1:]]
            faces.append([n - 1 if n > 0 else len(corners) + n for n in numbers])
    return corners, faces


def _ply(lines: list[str]) -> tuple[list[list[float]], list[list[int]]]:
    """By the elements and properties that the header names, in any order."""
    end = [line.strip() for line in lines].index("end_header")
    head = [line.split() for line in lines[:end]]
    if head[0] != ["ply"] or ["format", "ascii", "1.0"] not in head:
        raise ValueError("only PLY files in ASCII are read")
    elements: list[tuple[str, int, list[tuple[str, bool]]]] = []  # name, rows, properties with whether each is a list
    for words in head:
        if words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            elements[-1][2].append((words[-1], words[1] == "list"))
    rest = [line.split() for line in lines[end + 1 :] if line.strip()]
    found: dict[str, list[dict[str, list[float]]]] = {}
    for name, count, properties in elements:
        found[name], rest = [_properties(row, properties) for row in rest[:count]], rest[count:]
        if len(found[name]) < count:
            raise ValueError(f"{len(found[name])} rows of {name}, the header says {count}")
    corners = [[row[k][0] for k in "xyz"] for row in found["vertex"]]
    faces = [row["vertex_indices"] if "vertex_indices" in row else row["vertex_index"] for row in found["face"]]
    return corners, [[int(v) for v in face] for face in faces]


def _properties(row: list[str], properties: list[tuple[str, bool]]) -> dict[str, list[float]]:
    """The values of one row by the names of its properties."""
    found, at = {}, 0
    for name, is_list in properties:
        many = int(row[at]) if is_list else 1
        at += is_list
        found[name] = [float(v) for v in row[at : at + many]]
        at += many
    return found


def of_rows(rows: Array, sort: bool = False, triangulate: bool = False) -> Any:
    """A table of rows x, y; of rows with two or three inputs and the value a grid, or Delaunay's triangulation of the points.

    Raises:
        ShapeMismatch: Not 2 to 4 columns.
        InvalidInput: A number is not finite; a point is repeated; the points fill no grid and are not to be triangulated.
    """
    if rows.ndim != 2 or not 2 <= rows.shape[1] <= 4:
        raise ShapeMismatch(f"rows need 2 to 4 columns (1 to 3 inputs, then the value), got shape {rows.shape}")
    if rows.shape[1] == 2:
        return Table.sorted(rows[:, 0], rows[:, 1]) if sort else Table(rows[:, 0], rows[:, 1])
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        raise InvalidInput(f"row {bad[0][0]}, column {bad[0][1]} is {rows[tuple(bad[0])]}: all numbers must be finite")
    axes, places = zip(*(np.unique(column, return_inverse=True) for column in rows[:, :-1].T))
    shape = tuple(len(a) for a in axes)
    cell = np.ravel_multi_index(places, shape)
    _, first = np.unique(cell, return_index=True)
    if len(first) != len(rows):
        twice = int(np.setdiff1d(np.arange(len(rows)), first)[0])
        raise InvalidInput(f"point {rows[twice, :-1].tolist()} is repeated. Give each point once.")
    if triangulate:
        return _delaunay(rows)
    if len(rows) != np.prod(shape):
        raise InvalidInput(
            f"{len(rows)} rows fill no grid of {' x '.join(map(str, shape))} points. Give each point of a regular grid once, "
            "or have Delaunay's triangulation of the points made (triangulate=True, --triangulate), or give your own as a Triangulation."
        )
    values = np.empty(shape)
    values.reshape(-1)[cell] = rows[:, -1]
    return Grid(axes, values)


def _delaunay(rows: Array) -> Triangulation:
    from scipy.spatial import Delaunay, QhullError

    points = rows[:, :-1]
    try:
        found = Delaunay(points)
    except QhullError as error:
        raise InvalidInput(f"{len(points)} points in {points.shape[1]} inputs span no volume: there is nothing to triangulate") from error  # fmt: skip
    if len(found.coplanar):
        raise InvalidInput(f"point {points[found.coplanar[0, 0]].tolist()} is too near another one for a triangulation. Remove it.")  # fmt: skip
    return Triangulation(points, found.simplices, rows[:, -1])


def write_function(function: Any, path: str | Path, more: dict[str, Any] | None = None) -> Path:
    """Write a function as `read_function` reads it: .json and .npz (any), .csv (tables, grids).

    Arguments:
        more: Further entries of a JSON file.

    Raises:
        InvalidInput: Another kind of file, or columns cannot hold the function.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".json":
        return write_json(path, function.to_dict() | (more or {}))
    if kind == ".npz" and not isinstance(function, MaxMin | Difference):
        arrays = function.to_dict()
        arrays |= {f"axis{k}": a for k, a in enumerate(arrays.pop("axes", []))}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{k: np.asarray(v) for k, v in arrays.items()})
        return path
    if kind == ".csv" and isinstance(function, Table | Grid):
        if isinstance(function, Grid):
            columns = [*(a.ravel() for a in np.meshgrid(*function.axes, indexing="ij")), function.values.ravel()]
        else:
            columns = [function.x, function.y]
        lines = [",".join(["x", "y", "z", "value"][: len(columns) - 1] + ["value"])]
        lines += [",".join(repr(float(v)) for v in row) for row in zip(*columns)]
        return write_bytes(path, ("\n".join(lines) + "\n").encode())
    raise InvalidInput(f"{path.name}: {type(function).__name__} is written as .json{'' if isinstance(function, MaxMin | Difference) else ', .npz'}{', .csv' if isinstance(function, Table | Grid) else ''}")  # fmt: skip
