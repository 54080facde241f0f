"""`load` anything that is a network; `save` a network in the format its file name asks for."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relukit._errors import InvalidInput, UnreadableFile
from relukit.network._network import Network

SIZE_LIMIT = 2 << 30  # bytes of one file, packed or unpacked: larger ones are refused before they fill the memory


def _onnx(path: Path) -> Network:
    from relukit.network.onnx import read_onnx

    return read_onnx(path)


def _npz(path: Path) -> Network:
    from relukit.network.arrays import read_npz

    return read_npz(path)


def _nnet(path: Path) -> Network:
    from relukit.network.nnet import read_nnet

    return read_nnet(path)


def _torch(path: Path) -> Network:
    from relukit.network.torch import read_checkpoint

    return read_checkpoint(path)


def _keras(path: Path) -> Network:
    from relukit.network.keras import read_keras

    return read_keras(path)


# Files that people give in place of a network, and what to do with them.
_OTHERS = {
    (".csv", ".tsv", ".txt", ".parquet"): "A table is no network: relukit train makes one from it, and --data takes it as rows.",
    (".joblib", ".pkl", ".pickle"): "A pickle can run any code, so it is not opened: load it yourself where you trust it, and give "
    "the model to relukit.load or relukit.open in Python.",
    (".pb", ".tflite", ".savedmodel"): "Convert it to ONNX first: python -m tf2onnx.convert.",
}  # fmt: skip
_POINTER = b"version https://git-lfs.github.com/spec/"

READERS: dict[str, Callable[[Path], Network]] = {
    ".onnx": _onnx,
    ".npz": _npz,
    ".nnet": _nnet,
    ".pt": _torch,
    ".pth": _torch,
    ".pt2": _torch,
    ".safetensors": _torch,
    ".keras": _keras,
    ".h5": _keras,
}


def load(source: Any, input_shape: tuple[int, ...] | None = None) -> Network:
    """Read a network.

    Arguments:
        source: A path (`.onnx`, `.onnx.gz`, `.npz`, `.nnet`, `.pt`, `.pth`, `.pt2`, `.safetensors`, `.keras`), a torch
            module, a Keras 3 model, a scikit-learn MLP, a dictionary of arrays `W0, b0, ...`, or a `Network`.
        input_shape: Shape of one input, for torch modules that do not tell it (convolutions first).

    Raises:
        UnreadableFile: The file is missing, empty, damaged, too large, or of an unknown kind.
        UnsupportedOperation: It holds an operation that is neither affine nor one-dimensional; the message names the node.
    """
    if isinstance(source, Network):
        return source
    if isinstance(source, str | Path):
        return _load_file(Path(source))
    if isinstance(source, dict):
        from relukit.network.arrays import from_arrays

        return from_arrays(source)
    kinds = {c.__module__.split(".")[0] for c in type(source).__mro__}
    if "torch" in kinds and hasattr(source, "state_dict") and "keras" not in kinds:
        from relukit.network.torch import from_module

        return from_module(source, input_shape)
    if "keras" in kinds:
        from relukit.network.keras import from_keras

        return from_keras(source)
    if "sklearn" in kinds or hasattr(source, "coefs_"):
        from relukit.network.sklearn import from_sklearn

        return from_sklearn(source)
    raise InvalidInput(
        f"cannot read a network from a {type(source).__name__}: give a path, a torch module, a Keras model, a scikit-learn MLP or arrays W0, b0, ..."
    )


def _load_file(path: Path) -> Network:
    suffix = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    if not path.exists():
        raise UnreadableFile(f"{path} does not exist")
    if path.is_dir():
        raise UnreadableFile(f"{path} is a folder; give the file inside it")
    reader = READERS.get(suffix.lower())
    if reader is None:
        hint = next((f" {words}" for kinds, words in _OTHERS.items() if suffix.lower() in kinds), "")
        raise UnreadableFile(
            f"{path}: unknown kind of file '{path.suffix}'. Known are {', '.join(READERS)} (and .onnx.gz).{hint}"
        )
    size = path.stat().st_size
    if size == 0:
        raise UnreadableFile(f"{path} is empty")
    if size < 1024 and path.read_bytes().startswith(_POINTER):
        raise UnreadableFile(f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository")
    if size > SIZE_LIMIT:
        raise UnreadableFile(
            f"{path} has {size / 2**30:.1f} GiB; files above {SIZE_LIMIT >> 30} GiB are refused. Split it, or set SIZE_LIMIT in relukit/network/_load.py if you trust it."
        )
    try:
        return reader(path)
    except PermissionError as error:
        raise UnreadableFile(f"{path} may not be read: {error.strerror}") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked where its name ends in .gz, within the size limit."""
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            content = file.read(SIZE_LIMIT + 1)
    except (OSError, EOFError) as error:
        raise UnreadableFile(f"{path} is a damaged .gz file: {error}") from error
    if len(content) > SIZE_LIMIT:
        raise UnreadableFile(f"{path} unpacks to more than {SIZE_LIMIT >> 30} GiB and is refused")
    return content


def save(network: Network, path: str | Path) -> Path:
    """Write a network as `.onnx` (checked in onnxruntime) or `.npz`; complete or not at all.

    Arguments:
        network: What `relukit.load` gives, or a method made.
        path: The file; `.npz` holds weights `W0, b0, ...` of chains of dense layers, shapes `(out, in)` and `(out,)`.

    Returns:
        The path.

    Raises:
        InvalidInput: Another ending, or a network that the format cannot hold.
        UnwritablePath: The folder cannot be made, is read-only, or the disk is full.
    """
    path = Path(path)
    if path.suffix == ".npz":
        from relukit.network.arrays import write_npz

        return write_npz(network, path)
    if path.suffix == ".onnx":
        from relukit.network.onnx_write import write_onnx

        return write_onnx(network, path)
    raise InvalidInput(f"{path}: a network is written as .onnx or .npz")
