r"""Smooth descriptors of atoms, invariant under rotation and exchange of equal atoms, with their derivatives.

Around atom i, for each element e and radial function R_n, the moments of the neighbors are

    A[e, n, m] = sum over neighbors j of element e of  R_n(r_ij) u_x^a u_y^b u_z^c,     m = (a, b, c),  u = r_ij / |r_ij|.

Full contractions of these tensors are invariant (moment tensor potentials: Shapeev, Multiscale Model. Simul. 2016; atom
centered symmetry functions: Behler, J. Chem. Phys. 2011, are the same sums in another basis):

- two-body: A[e, n, 0];
- three-body: sum over m of degree l of  l!/(a! b! c!) A[e, n, m] A[e', n', m], which is the sum over pairs of neighbors of
  R_n(r_ij) R_n'(r_ik) cos(angle)^l;
- four-body: v(e, n)' Q(e', n') v(e'', n'') with v the moments of degree 1 and Q those of degree 2, of the first radial functions.

Every one is a polynomial in A, so derivatives are those of A, pair by pair, and exact.
"""

from dataclasses import dataclass
from math import factorial

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Directed pairs of atoms closer than the cutoff: `to` lies at `vector` from `center` (angstrom)."""

    center: Array
    to: Array
    vector: Array


@dataclass(frozen=True)
class Described:
    """Descriptors (atoms, d), and of each pair the derivative (pairs, 3, d) of its center's with respect to its vector."""

    values: Array
    pairs: Pairs
    slopes: Array


def neighbors(positions: Array, cutoff: float, cell: Array | None = None) -> Pairs:
    """All directed pairs within the cutoff; with a `cell` (rows are its vectors), periodic in all three directions."""
    shifts = np.zeros((1, 3))
    if cell is not None:
        heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        inside = np.linalg.solve(cell.T, positions.T).T
        spread = np.ptp(inside, axis=0)  # atoms need not be wrapped
        reach = np.ceil(cutoff / heights + spread).astype(int)
        grid = np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij")
        shifts = np.stack([g.ravel() for g in grid], 1) @ cell
    near = (np.abs(shifts)[:, None] <= np.ptp(positions, axis=0) + cutoff).all((1, 2))
    vectors = positions[None, None] + shifts[near][:, None, None] - positions[None, :, None]
    squared = (vectors**2).sum(-1)
    where, i, j = np.nonzero((squared < cutoff**2) & (squared > 1e-8))
    order = np.argsort(i, kind="stable")
    return Pairs(i[order], j[order], vectors[where, i, j][order])


def monomials(degree: int) -> tuple[Array, Array]:
    """Exponents (count, 3) of degree `degree` and their multinomial weights."""
    rows = [(a, b, degree - a - b) for a in range(degree, -1, -1) for b in range(degree - a, -1, -1)]
    weight = [factorial(degree) / (factorial(a) * factorial(b) * factorial(c)) for a, b, c in rows]
    return np.array(rows), np.array(weight)


@dataclass(frozen=True)
class Moments:
    """Which descriptors: elements (atomic numbers), cutoff (angstrom), radial functions and degrees.

    Radial functions are Gaussians in the logarithm of the distance, evenly placed from `inner` to the cutoff, times
    (1 - (r / cutoff)^2)^3, which ends with two continuous derivatives.
    """

    elements: tuple[int, ...]
    cutoff: float
    inner: float = 0.9
    two: int = 16
    three: int = 5
    degree: int = 4
    four: int = 2

    def radial(self, r: Array, count: int) -> tuple[Array, Array]:
        """R_n(r) and its derivative, both (pairs, count)."""
        middle = np.linspace(np.log(self.inner), np.log(self.cutoff), count + 1)[:-1]
        width = (middle[1] - middle[0]) * 0.8 if count > 1 else 1.0
        z = (np.log(r)[:, None] - middle) / width
        bell, end = np.exp(-0.5 * z**2), np.maximum(1 - (r / self.cutoff) ** 2, 0.0)[:, None]
        return bell * end**3, bell * (-z / (width * r[:, None]) * end**3 - 6 * r[:, None] / self.cutoff**2 * end**2)

    def __call__(self, numbers: Array, pairs: Pairs) -> Described:
        """Descriptors of all atoms; `numbers` are atomic numbers, one per atom.

        Several molecules may be given at once, as one list of atoms whose pairs stay within each molecule.
        """
        from relukit._errors import InvalidInput

        known = np.array(self.elements)
        if not np.isin(numbers, known).all():
            strange = sorted(set(np.asarray(numbers).tolist()) - set(self.elements))
            raise InvalidInput(f"elements {strange} are not among those of this potential: {list(self.elements)}")
        kind = np.searchsorted(known, numbers)[pairs.to]
        parts = [self._two(len(numbers), kind, pairs), *self._more(len(numbers), kind, pairs)]
        return Described(np.concatenate([v for v, _ in parts], 1), pairs, np.concatenate([s for _, s in parts], 2))

    def _two(self, atoms: int, kind: Array, pairs: Pairs) -> tuple[Array, Array]:
        r = np.linalg.norm(pairs.vector, axis=1)
        value, slope = self.radial(r, self.two)
        E, P = len(self.elements), len(r)
        sums, each = np.zeros((atoms, E, self.two)), np.zeros((P, 3, E, self.two))
        np.add.at(sums, (pairs.center, kind), value)
        each[np.arange(P), :, kind] = (pairs.vector / r[:, None])[:, :, None] * slope[:, None]
        return sums.reshape(atoms, -1), each.reshape(P, 3, -1)

    def _tensors(self, degree: int, count: int, pairs: Pairs) -> tuple[Array, Array]:
        """Of each pair R_n(r) u^m (pairs, n, m) and its derivative (pairs, 3, n, m)."""
        r = np.linalg.norm(pairs.vector, axis=1)
        u = pairs.vector / r[:, None]
        R, dR = self.radial(r, count)
        powers = monomials(degree)[0]
        M = (u[:, None, :] ** powers).prod(2)
        lowered = np.zeros((len(r), 3, len(powers)))  # derivatives of u^m by u
        for k in range(3):
            less = powers.copy()
            less[:, k] = np.maximum(less[:, k] - 1, 0)
            lowered[:, k] = powers[:, k] * (u[:, None, :] ** less).prod(2)
        along = (u[:, :, None] * lowered).sum(1)
        turn = (lowered - u[:, :, None] * along[:, None]) / r[:, None, None]
        slopes = u[:, :, None, None] * dR[:, None, :, None] * M[:, None, None] + R[:, None, :, None] * turn[:, :, None]
        return R[:, :, None] * M[:, None], slopes

    def _more(self, atoms: int, kind: Array, pairs: Pairs) -> list[tuple[Array, Array]]:
        E, P, N = len(self.elements), len(kind), self.three
        C = E * N
        channel = kind[:, None] * N + np.arange(N)  # of each pair and radial function
        first, second = np.triu_indices(C)
        parts = []
        kept: dict[int, tuple[Array, Array]] = {}
        for degree in range(self.degree + 1):
            weight = monomials(degree)[1]
            each, slopes = self._tensors(degree, N, pairs)
            A = np.zeros((atoms, C, len(weight)))
            np.add.at(A, (pairs.center[:, None], channel), each)
            value = np.einsum("acm,adm,m->acd", A, A, weight, optimize=True)[:, first, second]
            half = np.zeros((P, 3, C, C))
            product = np.matmul(slopes.reshape(P, 3 * N, -1), (A * weight)[pairs.center].transpose(0, 2, 1)).reshape(
                P, 3, N, C
            )
            half[np.arange(P)[:, None], :, channel] = product.transpose(0, 2, 1, 3)
            parts.append((value, half[:, :, first, second] + half[:, :, second, first]))
            if degree in (1, 2):
                kept[degree] = (A, slopes)
        if self.four and self.degree >= 2:
            parts.append(self._four(kind, pairs, kept))
        return parts

    def _four(self, kind: Array, pairs: Pairs, kept: dict[int, tuple[Array, Array]]) -> tuple[Array, Array]:
        E, P, n = len(self.elements), len(kind), min(self.four, self.three)
        C = E * n
        pick = (np.arange(E)[:, None] * self.three + np.arange(n)).ravel()
        channel = kind[:, None] * n + np.arange(n)
        square = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])  # where xx, xy, xz, yy, yz, zz lie in a matrix
        v, Q = kept[1][0][:, pick], kept[2][0][:, pick][:, :, square]
        dv, dQ = kept[1][1][:, :, :n], kept[2][1][:, :, :n][..., square]
        first, second = np.triu_indices(C)
        Qv = np.einsum("aqij,acj->aqci", Q, v, optimize=True)
        value = np.einsum("aqci,adi->aqcd", Qv, v, optimize=True)[:, :, first, second]
        at = np.arange(P)[:, None]
        by_v = np.zeros((P, 3, C, C, C))  # derivative of the vector, channel d moves
        by_v[at, :, :, :, channel] = np.einsum("pkni,pqci->pnkqc", dv, Qv[pairs.center], optimize=True)
        by_Q = np.zeros((P, 3, C, C, C))
        vv = v[pairs.center]
        by_Q[at, :, channel] = np.einsum("pknij,pci,pdj->pnkcd", dQ, vv, vv, optimize=True)
        total = by_v[..., first, second] + by_v[..., second, first] + by_Q[..., first, second]
        return value.reshape(len(value), -1), total.reshape(P, 3, -1)
