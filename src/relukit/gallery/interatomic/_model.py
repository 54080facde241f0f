r"""A potential: per element, one wide ReLU layer and an affine map on smooth descriptors, fitted to energies and forces.

    E = offset + sum over atoms i of  c_e . phi_i + a_e . s(W_e phi_i + b_e),      F = -dE/dx,      e the element of i

phi holds the leading principal components z of the raw descriptors (`_descriptors`) and the products of the first of
them, which are of higher body order. s is ReLU, or SiLU in the network it is compared with; W and b are drawn so that each
hinge passes through an atom of the training file. What is left to find enters linearly, so energies and forces together
are one least-squares problem with a unique answer (no learning rate, no schedule): ridge strength is chosen on a fifth of
the training frames, and the answer is then refitted on all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.gallery.interatomic._descriptors import Described, Moments, Pairs, neighbors

Array = np.ndarray


@dataclass(frozen=True)
class Recipe:
    """What is fixed before any data are seen. Lengths in angstrom."""

    cutoff: float = 6.0
    inner: float = 0.9
    two: int = 16
    three: int = 5
    degree: int = 4
    four: int = 2
    components: int = 250
    products: int = 40
    hidden: int = 300
    spread: float = 0.5  # standard deviation of a hidden unit's preactivation around its hinge


@dataclass(frozen=True)
class Element:
    """Projection of one element's raw descriptors, and its network: phi -> c . phi + a . s(W phi + b)."""

    mean: Array  # (raw,)
    project: Array  # (raw, components)
    first: Array  # of each product of components
    second: Array
    W: Array  # (components, hidden): it reads the components, not the products
    b: Array
    skip: Array  # (components + products,)
    out: Array  # (hidden,)


@dataclass(frozen=True)
class Atoms:
    """Frames side by side, described: components z of each atom, their slopes per pair, which frame an atom is of."""

    numbers: Array
    frame: Array
    pairs: Pairs
    z: Array
    slopes: Array


def gate(kind: str, x: Array) -> tuple[Array, Array]:
    """The activation and its derivative (at 0 that of ReLU is 0)."""
    if kind == "relu":
        on = (x > 0).astype(x.dtype)
        return x * on, on
    s = 1 / (1 + np.exp(-3 * x))  # silu(3 x) / 3, a rounded ReLU of the same slope
    return x * s, s + 3 * x * s * (1 - s)


@dataclass(frozen=True)
class Potential:
    """Energy (eV) and forces (eV/angstrom) of any atoms of its elements."""

    moments: Moments
    elements: dict[int, Element]
    offset: dict[int, float]  # energy of an atom of each element
    kind: str = "relu"

    def describe(self, frames: Sequence[tuple[Array, Array, Array | None]], dtype: type = np.float64) -> Atoms:
        """Each frame is (numbers, positions, cell or None)."""
        found = [neighbors(x, self.moments.cutoff, cell) for _, x, cell in frames]
        start = np.cumsum([0, *[len(n) for n, _, _ in frames]])
        pairs = Pairs(
            np.concatenate([p.center + s for p, s in zip(found, start)]),
            np.concatenate([p.to + s for p, s in zip(found, start)]),
            np.concatenate([p.vector for p in found]),
        )
        numbers = np.concatenate([n for n, _, _ in frames])
        raw: Described = self.moments(numbers, pairs)
        width = next(iter(self.elements.values())).project.shape[1]
        z, slopes = np.zeros((len(numbers), width), dtype), np.zeros((len(pairs.to), 3, width), dtype)
        for e, part in self.elements.items():
            mine, pair = numbers == e, numbers[pairs.center] == e
            z[mine] = (raw.values[mine] - part.mean) @ part.project
            slopes[pair] = (raw.slopes[pair].reshape(-1, len(part.mean)) @ part.project).reshape(-1, 3, width)
        frame = np.repeat(np.arange(len(frames)), np.diff(start))
        return Atoms(numbers, frame, pairs, z, slopes)

    def __call__(self, numbers: Array, positions: Array, cell: Array | None = None) -> tuple[float, Array]:
        """Energy and forces (n, 3)."""
        energy, forces, _ = self.full(numbers, positions, cell)
        return energy, forces

    def full(self, numbers: Array, positions: Array, cell: Array | None = None) -> tuple[float, Array, Array]:
        """Energy, forces, and the virial, sum over pairs of vector x dE/dvector (3, 3), which is volume x stress."""
        atoms = self.describe([(numbers, positions, cell)])
        energy, pull = self.evaluate(atoms)
        forces = scatter(len(numbers), atoms.pairs) @ pull
        return float(energy.sum()), forces, atoms.pairs.vector.T @ pull

    def evaluate(self, atoms: Atoms, gates: dict[int, Array] | None = None) -> tuple[Array, Array]:
        """Energy of each atom, and dE/dvector of each pair (pairs, 3).

        `gates` replaces the states of ReLUs by given ones, per element (atoms of it, hidden): the one-sided limits at a jump.
        """
        energy = np.array([self.offset[int(n)] for n in atoms.numbers])
        pull = np.zeros((len(atoms.pairs.to), 3))
        for e, part in self.elements.items():
            mine = atoms.numbers == e
            z = atoms.z[mine]
            before = z @ part.W + part.b
            value, slope = gate(self.kind, before)
            if gates is not None:
                slope, value = gates[e], before * gates[e]
            energy[mine] += products(part, z) @ part.skip + value @ part.out
            g = np.zeros((len(atoms.numbers), z.shape[1]))
            count = z.shape[1]
            by_z = (slope * part.out) @ part.W.T + part.skip[:count]
            rest = part.skip[count:]
            np.add.at(by_z, (slice(None), part.first), rest * z[:, part.second])
            np.add.at(by_z, (slice(None), part.second), rest * z[:, part.first])
            g[mine] = by_z
            pair = mine[atoms.pairs.center]
            pull[pair] = np.einsum("pkd,pd->pk", atoms.slopes[pair], g[atoms.pairs.center[pair]])
        return energy, pull

    def module(self, element: int) -> Any:
        """The network of one element as a torch module on phi (components and their products), for `relukit.load`."""
        import torch

        part = self.elements[element]

        class Atomic(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                total, (count, hidden) = len(part.skip), part.W.shape
                self.inner, self.outer = torch.nn.Linear(total, hidden), torch.nn.Linear(hidden, 1)
                self.skip = torch.nn.Linear(total, 1, bias=False)
                self.double()
                with torch.no_grad():
                    self.inner.weight.zero_()
                    self.inner.weight[:, :count] = torch.from_numpy(part.W.T.copy())
                    self.inner.bias.copy_(torch.from_numpy(part.b))
                    self.outer.weight[0] = torch.from_numpy(part.out)
                    self.outer.bias.zero_()
                    self.skip.weight[0] = torch.from_numpy(part.skip)

            def forward(self, phi: Any) -> Any:
                return self.outer(torch.relu(self.inner(phi))) + self.skip(phi)

        if self.kind != "relu":
            raise InvalidInput("only the ReLU potential is piecewise linear in its descriptors")
        return Atomic().eval()


def products(part: Element, z: Array) -> Array:
    """phi: the components (..., d) and the products of the leading ones."""
    return np.concatenate([z, z[..., part.first] * z[..., part.second]], -1)


def scatter(atoms: int, pairs: Pairs) -> Any:
    """The sparse matrix (atoms, pairs) that turns dE/dvector into forces: vector = x[to] - x[center], F = -dE/dx."""
    from scipy.sparse import csr_array

    P = len(pairs.to)
    rows, ones = np.concatenate([pairs.center, pairs.to]), np.ones(P)
    return csr_array((np.concatenate([ones, -ones]), (rows, np.tile(np.arange(P), 2))), shape=(atoms, P))
