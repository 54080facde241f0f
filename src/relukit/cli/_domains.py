"""Domains on the command line, written alike for all commands."""

from pathlib import Path
from typing import Any

from relukit._errors import InvalidInput, UnreadableFile

WRITTEN = "LO:HI for all inputs, LO:HI,LO:HI,..., all lower ends and then all upper ends, a VNN-LIB file, or an .npz with lo and hi"


def box_of(text: str, size: int) -> Any:
    """A box of `size` inputs as `--box` names it (`WRITTEN`).

    Raises:
        InvalidInput: Neither ends nor a file, or of another number of inputs.
        UnreadableFile: The file holds no box.
    """
    import relukit

    path = Path(text)
    if path.suffix == ".npz" and path.is_file():
        found = _of_arrays(path)
    elif path.is_file() or path.name.endswith((".vnnlib", ".vnnlib.gz")):
        from relukit.verification import vnnlib

        found = vnnlib.read_box(path)
    else:
        lower, upper = _ends(text, size)
        found = relukit.Box(lower, upper)
    if found.size != size:
        raise InvalidInput(f"--box {text} has {found.size} inputs where {size} are needed")
    return found


def domain_of(text: str, size: int) -> Any:
    """As `box_of`; a VNN-LIB file with a single case may cut the box by linear conditions on inputs."""
    import relukit

    path = Path(text)
    if path.suffix == ".npz" or not path.is_file():
        return box_of(text, size)
    from relukit.verification import vnnlib
    from relukit.verification._property import Contradiction

    try:
        found = vnnlib.read(path)
    except Contradiction as error:
        raise InvalidInput(f"the domain in {path} is empty: its conditions contradict each other") from error
    if len(found.cases) > 1 or found.tie is not None or not len(found.cases[0].a):
        return box_of(text, size)
    case = found.cases[0]
    return relukit.Polytope(case.A, case.a, case.box)


def _of_arrays(path: Path) -> Any:
    import numpy as np

    import relukit

    try:
        with np.load(path, allow_pickle=False) as file:
            return relukit.Box(file["lo"], file["hi"])
    except (KeyError, ValueError, OSError) as error:
        raise UnreadableFile(f"{path} holds no box: an .npz given as --box needs arrays lo and hi ({error})") from error


def _ends(text: str, size: int) -> tuple[list[float], list[float]]:
    """Lower and upper ends of `size` inputs, from ranges or from a plain list of numbers."""
    try:
        if ":" in text:
            pairs = [(float(low), float(high)) for low, _, high in (part.partition(":") for part in text.split(","))]
        else:
            ends = [float(v) for v in text.split(",")]
            half = len(ends) // 2
            pairs = list(zip(ends[:half], ends[half:]))
            if len(ends) % 2:
                pairs = []
    except ValueError as error:
        raise InvalidInput(f"--box takes {WRITTEN}; '{text}' is none of these") from error
    pairs = pairs * size if len(pairs) == 1 else pairs
    if len(pairs) != size:
        both = " (x_low,y_low,x_high,y_high)" if size == 2 else ""
        raise InvalidInput(
            f"--box takes {size} ranges LO:HI, or {2 * size} numbers, all lower ends and then all upper ends{both}, or one range "
            f"for all; got '{text}'"
        )
    return [low for low, _ in pairs], [high for _, high in pairs]
