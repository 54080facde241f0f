"""Fit each molecule and crystal with ReLU and with SiLU, judge unseen frames, save the potentials."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._numerics import atomic_path, write_json
from relukit.gallery._life import data_folder, t_interval
from relukit.gallery.interatomic import _distances, _fit
from relukit.gallery.interatomic._descriptors import Moments
from relukit.gallery.interatomic._frames import SYMBOLS, Frame, read
from relukit.gallery.interatomic._model import Element, Potential, Recipe, scatter

NAME, FOLDER = "interatomic", "interatomic_potential"
TRAIN = ("rmd17_ethanol_train_01.npz", "rmd17_malonaldehyde_train_01.npz")
CRYSTALS = ("mlearn_Si_training.json.gz", "mlearn_Mo_training.json.gz")
MOLECULE = Recipe()
CRYSTAL = Recipe(cutoff=5.2, inner=2.0, two=12, three=6, four=4, components=160, products=30)
SEEDS = 5


def fetch() -> Path:
    """Folder with the molecules (rMD17) and, where they are, the crystals (mlearn)."""
    return data_folder(FOLDER, *TRAIN)


def formula(numbers: np.ndarray, periodic: bool) -> str:
    """`C2H6O` (carbon, hydrogen, then by letter, as Hill wrote it); of a crystal the elements alone, `Si`."""
    kinds, counts = np.unique(numbers, return_counts=True)
    names = {SYMBOLS[k - 1]: "" if periodic or c == 1 else str(c) for k, c in zip(kinds, counts)}
    first = ("C", "H") if "C" in names else ()
    return "".join(k + names[k] for k in sorted(names, key=lambda k: (k not in first, k)))


def name_of(frames: Sequence[Frame]) -> str:
    """Formula of the first frame."""
    return formula(frames[0].numbers, frames[0].cell is not None)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = SEEDS,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Fit every training file of the folder, ReLU with each seed and SiLU once; `quick`: one seed, molecules only.

    What is reported is the error on a fifth of the file that its fit did not see (the saved potentials see all of it).
    """
    files = [data / f for f in (TRAIN if quick else TRAIN + CRYSTALS) if (data / f).exists()]
    summary: dict[str, Any] = {}
    for k, file in enumerate(files):
        frames = read(file)
        problem = _fit.prepare(_recipe(frames), frames)
        ridge, first = None, []
        for seed in range(1 if quick else seeds):
            potential, ridge = _fit.fit(problem, seed, "relu", ridge)
            first.append(potential)
        smooth, _ = _fit.fit(problem, 0, "silu", ridge)
        save(out / f"{name_of(frames)}.npz", [*first, smooth])
        held = frames[::5]
        fitted, _ = _fit.fit(
            _fit.prepare(_recipe(frames), [f for i, f in enumerate(frames) if i % 5]), 0, "relu", ridge
        )
        summary[name_of(frames)] = {"ridge": ridge, "frames": len(frames), "on_a_held_fifth": errors(fitted, held)}
        if on_progress is not None:
            on_progress(k + 1, len(files))
    write_json(out / "training.json", summary)
    return summary


def _recipe(frames: Sequence[Frame]) -> Recipe:
    return MOLECULE if frames[0].cell is None else CRYSTAL


def errors(potential: Potential, frames: Sequence[Frame], chunks: Any = None) -> dict[str, float]:
    """Mean absolute errors: energy (meV; of crystals per atom, as their sizes differ) and force components (meV/angstrom)."""
    energy, force = [], []
    chunks = chunks or _fit.describe(potential, frames)
    for k, atoms in enumerate(chunks):
        some = frames[k * _fit.CHUNK : (k + 1) * _fit.CHUNK]
        each, pull = potential.evaluate(atoms)
        size = np.array([1 if f.cell is None else len(f.numbers) for f in some])
        energy.append(np.abs(np.bincount(atoms.frame, each) - [f.energy for f in some]) / size)
        force.append(np.abs(scatter(len(atoms.numbers), atoms.pairs) @ pull - np.concatenate([f.forces for f in some])))
    return {
        "energy_mae_mev": 1e3 * float(np.concatenate(energy).mean()),
        "force_mae_mev_per_angstrom": 1e3 * float(np.concatenate(force).mean()),
    }


def score(out: Path, files: Sequence[Path], train: str | None = None, seeds: int = SEEDS) -> dict[str, Any]:
    """Errors on one file of frames, of the study's recipe trained anew on `train`.

    Without `train`, the study's own training file of the same molecule is used, from `RELUKIT_DATA`.
    """
    if not isinstance(seeds, int) or seeds < 1:
        raise InvalidInput(f"--seeds expects a whole number of networks, at least 1, got {seeds!r}")
    if len(files) != 1:
        raise UnreadableFile("expected one file of frames (rMD17 .npz, mlearn .json, or one that ASE reads)")
    frames = read(Path(files[0]))
    source = Path(train) if train is not None else _own_training(frames)
    if not source.exists():
        raise UnreadableFile(f"training file {source} does not exist")
    known = read(source)
    strange = {int(n) for f in frames for n in f.numbers} - {int(n) for f in known for n in f.numbers}
    if strange:
        raise InvalidInput(f"{Path(files[0]).name} has elements {sorted(strange)} that {source.name} lacks")
    problem = _fit.prepare(_recipe(known), known)
    chunks = _fit.describe(problem.potential, frames)
    relu, silu, ridge = [], [], None
    for seed in range(seeds):
        potential, ridge = _fit.fit(problem, seed, "relu", ridge)
        relu.append(errors(potential, frames, chunks))
    for seed in range(seeds):
        silu.append(errors(_fit.fit(problem, seed, "silu", ridge)[0], frames, chunks))
    keys = list(relu[0])
    mean = lambda rows: {k: float(np.mean([r[k] for r in rows])) for k in keys}
    ours, smooth = mean(relu), mean(silu)
    metrics: dict[str, Any] = dict(ours)
    metrics |= {f"{k}_of_seeds": t_interval([r[k] for r in relu]) for k in keys}
    metrics |= {f"{k}_over_silu": ours[k] / smooth[k] for k in keys}
    baselines = {
        "silu": {**smooth, **{f"{k}_of_seeds": t_interval([r[k] for r in silu]) for k in keys}},
        "no_hidden_layer": errors(_fit.fit(problem, 0, "linear")[0], frames, chunks),
        "mean": _mean_errors(known, frames),
    }
    if known[0].cell is None and all(np.array_equal(f.numbers, known[0].numbers) for f in [*known, *frames]):
        baselines["raw_distances_relu"] = _distances.errors(known, frames, "relu")
        baselines["raw_distances_silu"] = _distances.errors(known, frames, "silu")
    return {"study": NAME, "metrics": metrics, "baselines": baselines, "rows": len(frames)}


def _own_training(frames: Sequence[Frame]) -> Path:
    folder = fetch()
    for file in TRAIN + CRYSTALS:
        if (folder / file).exists() and name_of(read(folder / file)) == name_of(frames):
            return folder / file
    raise UnreadableFile(f"no training file for {name_of(frames)} in {folder}; give one with --train FILE")


def _mean_errors(known: Sequence[Frame], frames: Sequence[Frame]) -> dict[str, float]:
    size = lambda f: 1 if f.cell is None else len(f.numbers)
    middle = np.mean([f.energy / size(f) for f in known])
    return {
        "energy_mae_mev": 1e3 * float(np.mean([abs(f.energy / size(f) - middle) for f in frames])),
        "force_mae_mev_per_angstrom": 1e3 * float(np.abs(np.concatenate([f.forces for f in frames])).mean()),
    }


def save(path: Path, potentials: Sequence[Potential]) -> None:
    """All potentials of one molecule in one .npz; they share their descriptors."""
    first = potentials[0]
    m = first.moments
    store: dict[str, Any] = {
        "elements": np.array(m.elements), "lengths": np.array([m.cutoff, m.inner]),
        "counts": np.array([m.two, m.three, m.degree, m.four]), "kinds": np.array([p.kind for p in potentials]),
    }  # fmt: skip
    for e, part in first.elements.items():
        store |= {f"{e}_{k}": getattr(part, k) for k in ("mean", "project", "first", "second")}
        for i, p in enumerate(potentials):
            store |= {f"{e}_{k}_{i}": getattr(p.elements[e], k) for k in ("W", "b", "skip", "out")}
            store[f"{e}_offset_{i}"] = np.array(p.offset[e])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **store)


def restore(out: Path, name: str) -> list[Potential]:
    """The potentials of one molecule by its formula (`C2H6O`): ReLU of each seed, SiLU last."""
    path = Path(out) / f"{name}.npz"
    if not path.exists():
        there = sorted(p.stem for p in Path(out).glob("*.npz"))
        raise UnreadableFile(
            f"no potential '{name}' in {out} (there are: {', '.join(there) or 'none'}); run the study first"
        )
    with np.load(path) as t:
        elements = tuple(int(e) for e in t["elements"])
        moments = Moments(elements, *map(float, t["lengths"]), *map(int, t["counts"]))
        answer = []
        for i, kind in enumerate(t["kinds"]):
            parts = {
                e: Element(
                    *(t[f"{e}_{k}"] for k in ("mean", "project", "first", "second")),
                    *(t[f"{e}_{k}_{i}"] for k in ("W", "b", "skip", "out")),
                )
                for e in elements
            }
            offset = {e: float(t[f"{e}_offset_{i}"]) for e in elements}
            answer.append(Potential(moments, parts, offset, str(kind)))
    return answer
