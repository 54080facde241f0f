"""Data files and boxes that a user brings along."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnreadableFile
from relukit._types import Array, IntArray
from relukit.network import Network
from relukit.report._csv import read_csv

SIZE_LIMIT = 4 << 30


@dataclass(frozen=True, eq=False)
class Data:
    """Rows of inputs and, where they are known, labels or targets.

    Arguments:
        x: Shape `(rows, inputs)`.
        y: Labels (integers) or targets, one per row, or None.
        source: Where it came from.
        real: False where the rows were sampled from a box for want of data.
    """

    x: Array
    y: Array | IntArray | None
    source: str
    real: bool = True

    @property
    def labels(self) -> IntArray | None:
        """`y` where it holds class numbers."""
        if self.y is None or self.y.ndim != 1 or not np.all(np.isfinite(self.y)) or np.any(self.y != np.round(self.y)):
            return None
        return self.y.astype(np.int64)


def read_data(path: str | Path, network: Network | None = None) -> tuple[Array, Array | IntArray | None]:
    """Arrays `x` and `y` of a `.npz`, `.npy` or `.csv` file; of a table, the columns that the network takes.

    Raises:
        UnreadableFile: Missing, empty, damaged, too large, or of another kind.
        InvalidInput: No array `x`, text where numbers should be, or no row.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableFile(
            f"data file {path} {'is a folder; give the file inside it' if path.is_dir() else 'does not exist'}"
        )
    if path.stat().st_size == 0:
        raise UnreadableFile(f"data file {path} is empty")
    if path.stat().st_size > SIZE_LIMIT:
        raise UnreadableFile(f"data file {path} has {path.stat().st_size / 2**30:.1f} GiB; give a sample of its rows")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                names = {name.lower(): name for name in file.files}
                x = next((file[names[k]] for k in ("x", "images", "data", "inputs") if k in names), None)
                y = next((file[names[k]] for k in ("y", "labels", "target", "targets") if k in names), None)
                found = ", ".join(file.files)
            if x is None:
                raise InvalidInput(f"data file {path} has no array 'x' (found: {found})")
        elif path.suffix == ".npy":
            x, y = np.load(path, allow_pickle=False), None
        elif path.suffix in (".csv", ".txt") or path.name.endswith(".csv.gz"):
            x, y = read_csv(path, network)
        else:
            raise UnreadableFile(
                f"data file {path}: unknown kind '{path.suffix}'; give .npz with x and y, .npy, .csv or .csv.gz"
            )
    except (InvalidInput, UnreadableFile):
        raise
    except Exception as error:  # zipfile.BadZipFile, zlib.error, ValueError, EOFError: a damaged file
        raise UnreadableFile(f"data file {path} is damaged: {error}") from error
    if x.ndim < 2:
        x = x.reshape(1, -1)
    if len(x) == 0:
        raise InvalidInput(f"data file {path} has no row")
    return x, y


def fit_data(network: Network, x: Array, y: Array | None, source: str) -> Data:
    """Check rows against a network and bring them into its shape.

    Images stored as bytes are scaled to [0, 1] when the network's own box or training range cannot be told otherwise.

    Raises:
        ShapeMismatch: The rows have another width than the network's inputs, or `y` another length.
        InvalidInput: Not numeric, NaN or infinite.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise InvalidInput(f"{source}: inputs must be numbers, got dtype {x.dtype}")
    width = int(np.prod(x.shape[1:]))
    if width != network.inputs:
        first, *rest = network.input_shape
        together = rest and width * first == network.inputs
        at_once = f"; its file may take {first} rows at once: export it with one, or with a free first axis" if together else ""
        raise ShapeMismatch(
            f"{source}: rows of {width} values (array of shape {x.shape}); the network takes {network.inputs} inputs "
            f"(shape {network.input_shape}){at_once}"
        )
    if (
        x.ndim == 4
        and x.shape[-1] in (1, 3)
        and len(network.input_shape) == 3
        and network.input_shape[0] == x.shape[-1]
    ):
        x = x.transpose(0, 3, 1, 2)  # channels last to channels first
    scaled = x.astype(np.float64) / 255 if x.dtype == np.uint8 else x.astype(np.float64)
    rows = scaled.reshape(len(x), -1)
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        row, column = (int(v) for v in bad[0])
        count = len(np.unique(bad[:, 0]))
        raise InvalidInput(
            f"{source}: row {row}, column {column} is {rows[row, column]}; {count} row{' holds' if count == 1 else 's hold'} NaN or "
            "infinity (rows and columns are counted from 0). Remove or fill them first."
        )
    if y is not None:
        y = np.asarray(y)
        if len(y) != len(rows):
            raise ShapeMismatch(f"{source}: {len(rows)} rows and {len(y)} labels")
        y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
        if y.dtype.kind not in "fiub":
            y = None
    return Data(rows, y, source)


def read_rows(network: Network, path: str | Path) -> Data:
    """The rows of a file, checked against a network.

    Raises:
        UnreadableFile, InvalidInput, ShapeMismatch: As `read_data` and `fit_data`.
    """
    x, y = read_data(path, network)
    if x.size == network.inputs:  # one input in its own shape
        x = x.reshape(1, -1)
    return fit_data(network, x, y if y is not None and len(y) == len(x) else None, str(path))
