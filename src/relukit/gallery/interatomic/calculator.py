"""The potential as an ASE calculator: energies in eV, forces in eV/angstrom, stress in eV/angstrom^3."""

from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from relukit._errors import InvalidInput
from relukit.gallery.interatomic._model import Potential


class ReLUCalculator(Calculator):
    """Any ASE `Atoms` of the potential's elements, in vacuum or periodic in all three directions.

    Example:
        >>> atoms.calc = ReLUCalculator(restore(out, "ethanol"))  # doctest: +SKIP
        >>> atoms.get_potential_energy(), atoms.get_forces()  # doctest: +SKIP
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, potential: Potential, **options: Any) -> None:
        super().__init__(**options)
        self.potential = potential

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Fill `results`."""
        super().calculate(atoms, properties, system_changes)
        held: Any = self.atoms
        periodic = np.asarray(held.pbc)
        if periodic.any() and not periodic.all():
            raise InvalidInput(f"expected atoms periodic in all directions or in none, got pbc={periodic.tolist()}")
        cell = held.cell.array if periodic.all() else None
        energy, forces, virial = self.potential.full(held.numbers, held.positions, cell)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if cell is not None:
            s = (virial + virial.T) / (2 * abs(np.linalg.det(cell)))
            self.results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])


def drift(
    potential: Potential, numbers: Any, positions: Any, *, kelvin: float, steps: int, step_fs: float, seed: int = 0
) -> Any:
    """Total energy (eV) along `steps` of velocity Verlet from random velocities (NVE), as an array (steps + 1,)."""
    from ase import Atoms, units
    from ase.md.verlet import VelocityVerlet

    atoms = Atoms(numbers, positions=positions, calculator=ReLUCalculator(potential))
    mass = atoms.get_masses()[:, None]
    momenta = np.random.default_rng(seed).normal(size=(len(atoms), 3)) * np.sqrt(mass * units.kB * kelvin)
    atoms.set_momenta(momenta - mass * momenta.sum(0) / mass.sum())  # the molecule stays where it is
    totals = [atoms.get_total_energy()]
    motion = VelocityVerlet(atoms, timestep=step_fs * units.fs)
    for _ in range(steps):
        motion.run(1)
        totals.append(atoms.get_total_energy())
    return np.array(totals)
