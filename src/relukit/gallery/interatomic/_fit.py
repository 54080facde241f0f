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
class Problem:
    """The affine part of the least-squares problem, shared by all seeds and activations."""

    potential: Potential
    recipe: Recipe
    chunks: list[Atoms]
    energies: list[Array]  # per chunk, less the energies of free atoms
    forces: list[Array]
    offset: dict[int, float]
    skip: list[tuple[Array, Array]]  # design of each chunk


def prepare(recipe: Recipe, frames: Sequence[Frame], on_chunk: Callable[[], None] | None = None) -> Problem:
    """Everything that needs no random number."""
    potential = projections(recipe, frames)
    chunks = describe(potential, frames, on_chunk)
    elements = list(potential.elements)
    counts = np.array([[(f.numbers == e).sum() for e in elements] for f in frames], float)
    energy = np.array([f.energy for f in frames])
    each = np.linalg.lstsq(counts, energy, rcond=None)[0]
    rest = energy - counts @ each
    pieces = range(0, len(frames), CHUNK)
    skip = [design(potential, c, skip=True, hidden=False) for c in chunks]
    return Problem(
        potential, recipe, chunks, [rest[s : s + CHUNK] for s in pieces],
        [np.concatenate([f.forces.ravel() for f in frames[s : s + CHUNK]]) for s in pieces],
        dict(zip(elements, each.tolist())), skip,
    )  # fmt: skip


def fit(problem: Problem, seed: int = 0, kind: str = "relu", ridge: float | None = None) -> tuple[Potential, float]:
    """The potential with the first layers of `seed`, and the ridge strength (chosen on every fifth chunk if not given).

    `kind` is "relu", "silu" or "linear" (no hidden layer).
    """
    from scipy.linalg import cho_factor, cho_solve

    potential = (
        problem.potential if kind == "linear" else draw(problem.potential, problem.chunks, problem.recipe, seed, kind)
    )
    elements = list(potential.elements)
    grams: list[tuple[Array, Array]] = []
    held: list[tuple[Array, Array, Array]] = []
    for k, chunk in enumerate(problem.chunks):
        A, B = problem.skip[k]
        if kind != "linear":
            more = design(potential, chunk, skip=False, hidden=True)
            A, B = np.concatenate([A, more[0]], 1), np.concatenate([B, more[1]], 1)
        frames = chunk.frame[-1] + 1
        counts = np.array(
            [[((chunk.numbers == e) & (chunk.frame == f)).sum() for e in elements] for f in range(frames)]
        )
        rows = np.zeros((frames + len(B), A.shape[1] + len(elements)))
        weight = ENERGY_WEIGHT / np.sqrt(
            counts.sum(1) / 9
        )  # of 9 atoms: an extensive energy's error grows with the root
        rows[:frames] = np.concatenate([A, counts], 1) * weight[:, None]
        rows[frames:, : A.shape[1]] = B
        target = np.concatenate([problem.energies[k] * weight, problem.forces[k]])
        which = int(k % 5 == 4)
        if which:
            held.append((rows.astype(np.float32), target, np.arange(len(rows)) >= frames))
        if len(grams) <= which:
            grams.extend([(np.zeros((rows.shape[1],) * 2), np.zeros(rows.shape[1]))] * (which + 1 - len(grams)))
        H, h = grams[which]
        grams[which] = (H + rows.T @ rows, h + rows.T @ target)
    solve = lambda H, h, r: cho_solve(cho_factor(H + r * np.eye(len(H)), overwrite_a=True), h)
    if ridge is None:
        wrong = lambda c: float(np.mean([np.abs(R[f] @ c - t[f]).mean() for R, t, f in held])) if held else 0.0
        ridge = min(RIDGES, key=lambda r: wrong(solve(*grams[0], r).astype(np.float32)))
    answer = solve(sum(H for H, _ in grams), sum(h for _, h in grams), ridge)
    return _with_outputs(potential, problem.offset, answer), ridge


def _with_outputs(potential: Potential, offset: dict[int, float], answer: Array) -> Potential:
    """The solution's columns: skips of all elements, hidden outputs of all elements, one constant per element."""
    parts, at = {}, 0
    for e, part in potential.elements.items():
        parts[e] = replace(part, skip=answer[at : at + len(part.skip)])
        at += len(part.skip)
    for e, part in parts.items():
        parts[e] = replace(part, out=answer[at : at + len(part.out)])
        at += len(part.out)
    added = dict(zip(potential.elements, answer[at:].tolist()))
    return replace(potential, elements=parts, offset={e: offset[e] + added[e] for e in offset})
