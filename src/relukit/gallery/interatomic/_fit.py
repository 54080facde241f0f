"""Fitting a potential: projections, random hinges, and one least-squares problem for energies and forces together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from relukit.gallery.interatomic._descriptors import Moments, Pairs, neighbors
from relukit.gallery.interatomic._frames import Frame
from relukit.gallery.interatomic._model import Atoms, Element, Potential, Recipe, gate, products, scatter

Array = np.ndarray
CHUNK = 10  # frames described at once; every fifth chunk chooses the ridge
ENERGY_WEIGHT = 10.0  # an energy wrong by 1 meV counts as a hundred force components wrong by 1 meV/angstrom
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def design(potential: Potential, atoms: Atoms, *, skip: bool, hidden: bool) -> tuple[Array, Array]:
    """Sums of features per frame (frames, N) and their forces (3 atoms, N); columns: element by element, its features."""
    frames, total = atoms.frame[-1] + 1, len(atoms.numbers)
    energy, force = [], []
    for e, part in potential.elements.items():
        mine, pair = atoms.numbers == e, atoms.numbers[atoms.pairs.center] == e
        z, J = atoms.z[mine], atoms.slopes[pair]
        at = np.cumsum(mine)[atoms.pairs.center[pair]] - 1
        values, slopes = [], []
        if skip:
            values.append(products(part, z))
            f, s = part.first, part.second
            zf, zs = z[at][:, None, f], z[at][:, None, s]
            slopes.append(np.concatenate([J, J[..., f] * zs + J[..., s] * zf], -1))
        if hidden:
            value, on = gate(potential.kind, z @ part.W.astype(z.dtype) + part.b.astype(z.dtype))
            values.append(value)
            slopes.append((J.reshape(-1, J.shape[2]) @ part.W.astype(z.dtype)).reshape(len(J), 3, -1) * on[at][:, None])
        value, slope = np.concatenate(values, 1), np.concatenate(slopes, 2)
        summed = np.zeros((frames, value.shape[1]))
        np.add.at(summed, atoms.frame[mine], value)
        few = Pairs(atoms.pairs.center[pair], atoms.pairs.to[pair], atoms.pairs.vector[pair])
        energy.append(summed)
        force.append((scatter(total, few).astype(z.dtype) @ slope.reshape(len(slope), -1)).reshape(3 * total, -1))
    return np.concatenate(energy, 1), np.concatenate(force, 1)


def projections(recipe: Recipe, frames: Sequence[Frame]) -> Potential:
    """A potential that knows its descriptors and no energies yet; principal components of 200 of the frames."""
    elements = tuple(sorted({int(n) for f in frames for n in f.numbers}))
    moments = Moments(elements, recipe.cutoff, recipe.inner, recipe.two, recipe.three, recipe.degree, recipe.four)
    sample = frames[:: max(1, len(frames) // 200)]
    each = [moments(f.numbers, neighbors(f.positions, recipe.cutoff, f.cell)).values for f in sample]
    numbers, raw = np.concatenate([f.numbers for f in sample]), np.concatenate(each)
    count = min(recipe.components, raw.shape[1])
    first, second = np.triu_indices(min(recipe.products, count))
    parts = {}
    for e in elements:
        x = raw[numbers == e]
        mean, deviation = x.mean(0), x.std(0)
        deviation = np.maximum(deviation, 1e-3 * deviation.max() + 1e-12)
        scaled = (x - mean) / deviation
        size, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        project = axes[:, ::-1][:, :count] / deviation[:, None] / (2 * np.sqrt(max(size[-1], 1e-12)))
        nothing = np.zeros((count, 0))
        skip = np.zeros(count + len(first))
        parts[e] = Element(mean, project, first, second, nothing, np.zeros(0), skip, np.zeros(0))
    return Potential(moments, parts, dict.fromkeys(elements, 0.0))


def describe(potential: Potential, frames: Sequence[Frame], on_chunk: Callable[[], None] | None = None) -> list[Atoms]:
    """The frames in chunks, in float32: done once, used by every seed."""
    chunks = []
    for start in range(0, len(frames), CHUNK):
        few = frames[start : start + CHUNK]
        chunks.append(potential.describe([(f.numbers, f.positions, f.cell) for f in few], np.float32))
        if on_chunk is not None:
            on_chunk()
    return chunks


def draw(potential: Potential, chunks: Sequence[Atoms], recipe: Recipe, seed: int, kind: str) -> Potential:
    """Random first layers: each hinge passes through an atom of the frames."""
    generator = np.random.default_rng(seed)
    z, numbers = np.concatenate([c.z for c in chunks]), np.concatenate([c.numbers for c in chunks])
    parts = {}
    for e, part in potential.elements.items():
        mine = z[numbers == e].astype(float)
        weight = generator.normal(size=(z.shape[1], recipe.hidden))
        weight *= recipe.spread / np.maximum((mine[:2000] @ weight).std(0), 1e-12)
        through = mine[generator.integers(0, len(mine), recipe.hidden)]
        parts[e] = replace(part, W=weight, b=-np.einsum("kd,dk->k", through, weight), out=np.zeros(recipe.hidden))
    return replace(potential, elements=parts, kind=kind)


@dataclass(frozen=True)
class Rows:
    """Rows of the least-squares problem from one chunk: energies first, times their weight, then forces."""

    base: Array  # affine part and one constant per element, float32
    target: Array
    weight: Array  # of each energy

    def hidden(self, potential: Potential, chunk: Atoms) -> Array:
        """The same rows for the hidden units of all elements."""
        A, B = design(potential, chunk, skip=False, hidden=True)
        return np.concatenate([A * self.weight[:, None], B]).astype(np.float32)


@dataclass(frozen=True)
class Problem:
    """All that seeds and activations share: descriptors, and the normal equations of the affine part."""

    potential: Potential
    recipe: Recipe
    chunks: list[Atoms]
    rows: list[Rows]
    gram: tuple[Array, Array]  # base' base of the chunks that fit, and of those that choose the ridge


def prepare(recipe: Recipe, frames: Sequence[Frame], on_chunk: Callable[[], None] | None = None) -> Problem:
    """Everything that needs no random number."""
    potential = projections(recipe, frames)
    chunks = describe(potential, frames, on_chunk)
    elements = list(potential.elements)
    counts = np.array([[(f.numbers == e).sum() for e in elements] for f in frames], float)
    energy = np.array([f.energy for f in frames])
    each = np.linalg.lstsq(counts, energy, rcond=None)[0]
    potential = replace(potential, offset=dict(zip(elements, each.tolist())))
    rest = energy - counts @ each
    rows, gram = [], [0.0, 0.0]
    for k, chunk in enumerate(chunks):
        here = slice(k * CHUNK, (k + 1) * CHUNK)
        weight = ENERGY_WEIGHT * np.sqrt(9 / counts[here].sum(1))  # an extensive energy's error grows with the root
        A, B = design(potential, chunk, skip=True, hidden=False)
        A = np.concatenate([A, counts[here]], 1) * weight[:, None]
        base = np.concatenate([A, np.pad(B, ((0, 0), (0, len(elements))))]).astype(np.float32)
        forces = np.concatenate([f.forces.ravel() for f in frames[here]])
        rows.append(Rows(base, np.concatenate([rest[here] * weight, forces]), weight))
        wide = base.astype(float)  # rounded first: every block of the normal equations is of the same rows
        gram[_held(k)] = gram[_held(k)] + wide.T @ wide
    return Problem(potential, recipe, chunks, rows, (gram[0], np.asarray(gram[1] + 0 * gram[0])))


def _held(chunk: int) -> int:
    return int(chunk % 5 == 4)


def fit(problem: Problem, seed: int = 0, kind: str = "relu", ridge: float | None = None) -> tuple[Potential, float]:
    """The potential with the first layers of `seed`, and the ridge strength (chosen on every fifth chunk if not given).

    `kind` is "relu", "silu" or "linear" (no hidden layer).
    """
    from scipy.linalg import cho_factor, cho_solve

    linear = kind == "linear"
    potential = problem.potential if linear else draw(problem.potential, problem.chunks, problem.recipe, seed, kind)
    hidden = [None if linear else r.hidden(potential, c) for r, c in zip(problem.rows, problem.chunks)]
    base = len(problem.gram[0])
    size = base + (0 if hidden[0] is None else hidden[0].shape[1])
    H, h = np.zeros((2, size, size)), np.zeros((2, size))
    H[0, :base, :base], H[1, :base, :base] = problem.gram
    for k, (rows, more) in enumerate(zip(problem.rows, hidden)):
        which, wide = _held(k), rows.base.astype(float)
        h[which, :base] += rows.target @ wide
        if more is not None:
            more = more.astype(float)
            H[which, :base, base:] += wide.T @ more
            H[which, base:, base:] += more.T @ more
            h[which, base:] += rows.target @ more
    H[:, base:, :base] = H[:, :base, base:].transpose(0, 2, 1)

    def solve(H: Array, h: Array, strength: float) -> Array:
        return cho_solve(cho_factor(H + strength * np.eye(len(H)), overwrite_a=True), h)

    def wrong(answer: Array) -> float:
        total = []
        for k, (rows, more) in enumerate(zip(problem.rows, hidden)):
            if _held(k):
                told = rows.base @ answer[:base].astype(np.float32)
                if more is not None:
                    told = told + more @ answer[base:].astype(np.float32)
                total.append(np.abs(told - rows.target)[len(rows.weight) :].mean())
        return float(np.mean(total)) if total else 0.0

    if ridge is None:
        ridge = min(RIDGES, key=lambda r: wrong(solve(H[0], h[0], r))) if len(problem.rows) > 4 else RIDGES[2]
    return _with_outputs(potential, solve(H[0] + H[1], h[0] + h[1], ridge)), ridge


def _with_outputs(potential: Potential, answer: Array) -> Potential:
    """The solution's columns: affine parts of all elements, one constant per element, hidden outputs of all elements."""
    parts, at = {}, 0
    for e, part in potential.elements.items():
        parts[e] = replace(part, skip=answer[at : at + len(part.skip)])
        at += len(part.skip)
    offset = {e: v + float(answer[at + k]) for k, (e, v) in enumerate(potential.offset.items())}
    at += len(offset)
    for e, part in parts.items():
        parts[e] = replace(part, out=answer[at : at + len(part.out)])
        at += len(part.out)
    return replace(potential, elements=parts, offset=offset)
