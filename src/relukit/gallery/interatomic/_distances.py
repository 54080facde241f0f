"""The article's network: raw distances between atoms go in, one hidden layer, the same least squares.

Its derivatives are piecewise constant in the distances themselves; exchange of equal atoms is not built in.
"""

from collections.abc import Sequence

import numpy as np

from relukit.gallery.interatomic._fit import ENERGY_WEIGHT
from relukit.gallery.interatomic._frames import Frame
from relukit.gallery.interatomic._model import gate

Array = np.ndarray
HIDDEN, RIDGE = 1500, 1e-3


def distances(frames: Sequence[Frame]) -> tuple[Array, Array]:
    """All distances of each frame (frames, pairs), and their derivatives (frames, 3 atoms, pairs)."""
    x = np.stack([f.positions for f in frames])
    i, j = np.triu_indices(x.shape[1], 1)
    gap = x[:, i] - x[:, j]
    r = np.linalg.norm(gap, axis=2)
    u = gap / r[..., None]
    slopes = np.zeros((len(x), x.shape[1], 3, len(i)))
    k = np.arange(len(i))
    slopes[:, i, :, k] = u.transpose(1, 0, 2)
    slopes[:, j, :, k] = -u.transpose(1, 0, 2)
    return r, slopes.reshape(len(x), -1, len(i))


def errors(known: Sequence[Frame], frames: Sequence[Frame], kind: str, seed: int = 0) -> dict[str, float]:
    """Errors on `frames` of a network on raw distances fitted to `known`, in meV and meV/angstrom."""
    r, _ = distances(known)
    mean, scale = r.mean(0), r.std(0) + 1e-12
    generator = np.random.default_rng(seed)
    W = generator.normal(size=(r.shape[1], HIDDEN)) / np.sqrt(r.shape[1])
    b = -np.einsum("kd,dk->k", ((r - mean) / scale)[generator.integers(0, len(r), HIDDEN)], W)
    middle = np.mean([f.energy for f in known])

    def rows(some: Sequence[Frame]) -> tuple[Array, Array]:
        r, slopes = distances(some)
        z = (r - mean) / scale
        value, on = gate(kind, z @ W + b)
        energy = np.concatenate([z, value, np.ones((len(z), 1))], 1)
        J = slopes / scale
        force = -np.concatenate([J, (J @ W) * on[:, None], np.zeros((*J.shape[:2], 1))], 2)
        return energy, force.reshape(-1, energy.shape[1])

    size = r.shape[1] + HIDDEN + 1
    H, h = np.zeros((size, size)), np.zeros(size)
    for start in range(0, len(known), 50):
        some = known[start : start + 50]
        A, B = rows(some)
        A, targets = A * ENERGY_WEIGHT, np.array([f.energy - middle for f in some]) * ENERGY_WEIGHT
        forces = np.concatenate([f.forces.ravel() for f in some])
        H, h = H + A.T @ A + B.T @ B, h + A.T @ targets + B.T @ forces
    answer = np.linalg.solve(H + RIDGE * np.eye(len(h)), h)
    wrong = [[], []]
    for start in range(0, len(frames), 50):
        some = frames[start : start + 50]
        A, B = rows(some)
        wrong[0].append(np.abs(A @ answer + middle - [f.energy for f in some]))
        wrong[1].append(np.abs(B @ answer - np.concatenate([f.forces.ravel() for f in some])))
    return {
        "energy_mae_mev": 1e3 * float(np.concatenate(wrong[0]).mean()),
        "force_mae_mev_per_angstrom": 1e3 * float(np.concatenate(wrong[1]).mean()),
    }
