"""Energies and forces of structures from a file, as a table."""

from collections.abc import Iterable
from pathlib import Path

from relukit._errors import UnreadableFile
from relukit.gallery.interatomic._frames import structures
from relukit.gallery.interatomic.study import formula, restore

Row = tuple[int, int, str, float, float, float, float]


def use(out: Path, *files: Path, potential: str = "", network: int = 0) -> list[Row]:
    """Rows (frame, atom, element, energy of the frame in eV, force x, y, z in eV/angstrom) of files that ASE reads.

    `potential` is the formula of a trained one (`C2H6O`, `Si`); by default that of the first structure.
    """
    if not files:
        raise UnreadableFile("expected a file of structures that ASE reads (.xyz, .cif, ...)")
    rows: list[Row] = []
    for file in files:
        if not Path(file).exists():
            raise UnreadableFile(f"structure file {file} does not exist")
        for k, atoms in enumerate(structures(Path(file))):
            name = potential or formula(atoms.numbers, bool(atoms.pbc.all()))
            model = restore(out, name)[int(network)]
            energy, forces = model(atoms.numbers, atoms.positions, atoms.cell.array if atoms.pbc.all() else None)
            rows += [
                (k, i, str(atoms.symbols[i]), energy, float(f[0]), float(f[1]), float(f[2]))
                for i, f in enumerate(forces)
            ]
    return rows


def to_csv(rows: Iterable[Row]) -> str:
    """The rows with a header line."""
    lines = ["frame,atom,element,energy_ev,force_x,force_y,force_z"]
    lines += [",".join(f"{v:.9g}" if isinstance(v, float) else str(v) for v in row) for row in rows]
    return "\n".join(lines) + "\n"
