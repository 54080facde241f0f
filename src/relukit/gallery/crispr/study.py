"""Which guides cut: train on two laboratories' screens, judged on genes that nobody trained on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, RelukitError
from relukit._numerics import write_json
from relukit.gallery._life import Array, bootstrap_difference, data_folder, load_states, t_interval
from relukit.gallery.crispr import _baselines, _model
from relukit.gallery.crispr._screens import FIRST, SECOND, Screen, both, joined, rank_correlation, read

NAME, FOLDS, EPOCHS = "crispr", 5, 14
LEVEL = 0.8  # of the interval printed for a guide


def fetch() -> Path:
    """Folder with the development screens (Doench 2014/2016, Aguirre 2016)."""
    return data_folder(NAME, FIRST, SECOND)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train `seeds` networks on everything and one per fold of genes; save them with their baselines.

    The fold networks give what a guide of an unseen gene would have been told: an honest figure, and the residuals
    that make the interval. All networks together score new guides.
    """
    screens = [read(data / FIRST), read(data / SECOND)]
    epochs = 2 if quick else EPOCHS
    everything = [np.arange(len(s.sequences)) for s in screens]
    folds = _folds(screens[0].genes)
    total, modules = seeds + FOLDS, []
    for seed in range(seeds):
        modules.append(_model.fit(screens, everything, seed, epochs))
        if on_progress is not None:
            on_progress(seed + 1, total)
    unseen = np.zeros(len(folds))
    for fold in range(FOLDS):
        held = np.flatnonzero(folds == fold)
        # a 30-mer of a held gene that the second screen holds as well must not be learned there
        second = [i for i, s in enumerate(screens[1].sequences) if s not in {screens[0].sequences[j] for j in held}]
        module = _model.fit(screens, [np.flatnonzero(folds != fold), np.array(second)], seeds + fold, epochs)
        unseen[held] = _model.predict([module], [screens[0].sequences[i] for i in held])[0, :, 0]
        modules.append(module)
        if on_progress is not None:
            on_progress(seeds + fold + 1, total)
    residual = np.quantile(screens[0].activity - unseen, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    summary = {
        "seeds": seeds,
        "genes_held_in_turn": rank_correlation(unseen, screens[0]),
        "guides": [len(s.sequences) for s in screens],
    }
    _model.save(out / "model.pt", modules, seeds=seeds, low=float(residual[0]), high=float(residual[1]))
    _baselines.save(out, _baselines.fit(screens))
    write_json(out / "training.json", summary)
    return summary


def _folds(genes: Array) -> Array:
    """Whole genes into folds of about equal size: the largest first, always into the emptiest fold."""
    names, counts = np.unique(genes, return_counts=True)
    sizes, fold = np.zeros(FOLDS), np.zeros(len(genes), int)
    for k in np.argsort(-counts, kind="stable"):
        smallest = int(np.argmin(sizes))
        fold[genes == names[k]] = smallest
        sizes[smallest] += counts[k]
    return fold


def score(out: Path, files: Sequence[Path], train: str | None = None, seeds: int = 5) -> dict[str, Any]:
    """Metrics of the trained study and of every baseline on the given screens (one layout per call).

    The score averages the networks and the boosting that saw the same rows; `network_alone` is given beside it.

    Arguments:
        train: A screen to train the recipe on anew, and on nothing else: then another laboratory's screen is judged by what
            this one tells. Guides of the files that it holds as well are left out, and counted.
        seeds: Networks to train then.
    """
    if not files:
        raise InvalidInput("give a screen to score: --data SCREEN.csv")
    screen = joined([read(Path(f)) for f in files], [Path(f).name for f in files])
    if train is not None:
        source = read(Path(train))
        known = set(source.sequences)
        unseen = np.array([s not in known for s in screen.sequences])
        if not unseen.any():
            raise InvalidInput(f"each guide of the files is in {train} as well; nothing is left to judge")
        return {**_trained_on(source, screen.rows(unseen), seeds), "rows_left_out_as_trained_on": int((~unseen).sum())}
    loaded = load_states(out / "model.pt", NAME)
    each = _model.predict(_model.restore(loaded["states"]), screen.sequences)[:, :, screen.kind]
    trees = _baselines.predict(out, screen.sequences)
    answer = _judged(each, trees["lightgbm_both"], trees, screen, loaded["seeds"])
    return {**answer, "rows_seen_in_training": _seen(screen.sequences)}


def _trained_on(source: Screen, screen: Screen, seeds: int) -> dict[str, Any]:
    """The recipe from one screen alone, judged on another; baselines from the same rows."""
    everything = [np.arange(len(source.sequences))]
    modules = [_model.fit([source], everything, seed, EPOCHS) for seed in range(int(seeds))]
    each = _model.predict(modules, screen.sequences)[:, :, source.kind]
    trees = _baselines.alone(source, screen.sequences)
    return _judged(each, trees["lightgbm"], trees, screen, len(each))


def _judged(each: Array, beside: Array, baselines: dict[str, Array], screen: Screen, single: int) -> dict[str, Any]:
    """The report: the mean of the networks `each` with the boosting `beside` it, and baselines on the same rows."""
    network = each.mean(0)
    ours = _standard(network) + _standard(beside)
    figures, gaps = {}, {}
    for name, values in baselines.items():
        figures[name] = both(values, screen)
        gaps[name] = bootstrap_difference(
            lambda rows, other=values: (
                rank_correlation(ours, screen, rows),
                rank_correlation(other, screen, rows),
            ),
            len(ours),
            repeats=300,
        )
    return {
        "study": NAME,
        "metrics": {
            **both(ours, screen),
            "network_alone": both(network, screen),
            "spearman_single_network": t_interval([rank_correlation(values, screen) for values in each[:single]]),
        },
        "baselines": figures,
        "paired_bootstrap": gaps,
        "rows": len(ours),
    }


def _standard(values: Array) -> Array:
    return (values - values.mean()) / max(float(values.std()), 1e-12)


def _seen(sequences: list[str]) -> int | None:
    """How many of the guides the study was trained on, where its data are at hand; such rows flatter the figure."""
    try:
        folder = fetch()
    except (RelukitError, OSError):
        return None
    known = {s for name in (FIRST, SECOND) for s in read(folder / name).sequences}
    return sum(s in known for s in sequences)
