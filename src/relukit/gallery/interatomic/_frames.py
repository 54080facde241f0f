"""Reading atoms with energies and forces, in eV and angstrom."""

import gzip
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile

Array = np.ndarray
KCAL_PER_MOL = 0.0433641153  # eV: 4184 J / (Avogadro's number x elementary charge)
SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au"
).split()
NUMBER = {symbol: k + 1 for k, symbol in enumerate(SYMBOLS)}


@dataclass(frozen=True)
class Frame:
    """Atomic numbers (n,), positions (n, 3) in angstrom, cell (3, 3) or None; energy in eV, forces (n, 3) in eV/angstrom."""

    numbers: Array
    positions: Array
    cell: Array | None
    energy: float
    forces: Array


def read(path: Path) -> list[Frame]:
    """Frames of an rMD17 file (.npz, kcal/mol), an mlearn file (.json, .json.gz, eV), or whatever ASE reads (.xyz, ...).

    Raises:
        UnreadableFile: The file lacks what a frame needs; the message says what was found.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            frames = _rmd17(path)
        elif path.name.endswith((".json", ".json.gz")):
            frames = _mlearn(path)
        else:
            frames = _ase(path)
    except (KeyError, TypeError, IndexError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableFile(
            f"{path.name}: expected frames of an rMD17 .npz (nuclear_charges, coords, energies, forces) or of an mlearn "
            f".json (structure, outputs), or a trajectory that ASE reads with energies and forces; {error}"
        ) from error
    if not frames:
        raise UnreadableFile(f"{path.name} has no frames")
    for k, frame in enumerate(frames):
        n = len(frame.numbers)
        if frame.positions.shape != (n, 3) or frame.forces.shape != (n, 3):
            raise UnreadableFile(
                f"{path.name}, frame {k}: {n} atoms, but positions {frame.positions.shape}, forces {frame.forces.shape}"
            )
        if not (np.isfinite(frame.positions).all() and np.isfinite(frame.forces).all() and np.isfinite(frame.energy)):
            raise UnreadableFile(f"{path.name}, frame {k} has values that are not finite")
    return frames


def _rmd17(path: Path) -> list[Frame]:
    if not zipfile.is_zipfile(path):  # `np.load` would take it for a single array, or a pickle
        raise ValueError("it is no .npz at all")
    with np.load(path) as table:
        known = (("nuclear_charges", "coords", "energies", "forces"), ("z", "R", "E", "F"))  # rMD17, the older MD17
        names = next((n for n in known if all(k in table for k in n)), None)
        if names is None:
            raise ValueError(f"it has {', '.join(table.files) or 'nothing'}")
        z, x, energy, forces = (np.asarray(table[k]) for k in names)
    z, energy = z.astype(int).ravel(), energy.astype(float).ravel() * KCAL_PER_MOL
    forces = forces.astype(float) * KCAL_PER_MOL
    return [Frame(z, p, None, float(e), f) for p, e, f in zip(x.astype(float), energy, forces, strict=True)]


def _mlearn(path: Path) -> list[Frame]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        rows = json.load(file)
    return [_structure(row["structure"], row["outputs"]) for row in rows]


def _structure(structure: dict[str, Any], outputs: dict[str, Any]) -> Frame:
    sites = structure["sites"]
    z = np.array([NUMBER[site["species"][0]["element"]] for site in sites])
    x = np.array([site["xyz"] for site in sites], float)
    return Frame(
        z,
        x,
        np.array(structure["lattice"]["matrix"], float),
        float(outputs["energy"]),
        np.array(outputs["forces"], float),
    )


def structures(path: Path) -> Sequence[Any]:
    """ASE's atoms of a file.

    Raises:
        UnreadableFile: ASE does not know the kind of file, or cannot read it.
    """
    from ase.io import read

    try:
        return list(read(path, ":"))
    except Exception as error:  # ASE's readers raise of everything: of its own, KeyError, AssertionError, StopIteration
        raise UnreadableFile(f"{path.name} is no file of structures that ASE reads: {error!r}") from error


def _ase(path: Path) -> list[Frame]:
    frames = structures(path)
    return [
        Frame(
            a.numbers, a.positions, a.cell.array if a.pbc.all() else None, a.get_potential_energy(), a.get_forces()
        )
        for a in frames
    ]  # fmt: skip
