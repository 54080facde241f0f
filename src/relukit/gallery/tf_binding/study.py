"""Where nine transcription factors bind: one recipe, their motifs recovered, and the fewest bases that undo a site."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import Array, data_folder, load_states, one_hot, save_states, t_interval
from relukit.gallery._motifs import q_values, significance, site_matrix
from relukit.gallery.tf_binding import _model
from relukit.gallery.tf_binding._data import (
    MATRICES,
    factor_of,
    matrix_scores,
    read,
    read_matrices,
    shuffled,
    with_negatives,
)

NAME, PEAKS, EPOCHS, HELD = "tf-binding", 4000, 6, 0.15
STRONGEST, SEED = 500, 1  # first rows, the odd ones of the thousand strongest peaks; seed of the shuffles in `score`


def fetch() -> Path:
    """Folder with the peaks and the JASPAR matrices."""
    return data_folder("dna_tfbinding", MATRICES)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train `seeds` networks for each factor on peaks against their dinucleotide shuffles; 15 % of the peaks are held."""
    files = {factor_of(f): f for f in sorted(data.glob("*_AC.seq.gz"))}
    matrices = read_matrices(data / MATRICES)
    states: list[dict[str, Any]] = []
    labels: list[str] = []
    summary: dict[str, Any] = {}
    for done, (factor, path) in enumerate(files.items(), 1):
        sequences, bound = read(path)
        peaks = sequences[bound == 1]
        order = np.random.default_rng(0).permutation(len(peaks))[: 400 if quick else None]
        held = peaks[order[: int(HELD * len(order))]]
        rest = peaks[np.sort(order[int(HELD * len(order)) :])[:PEAKS]]  # files list the strongest peaks first
        modules = [_model.fit(rest, seed, 2 if quick else EPOCHS) for seed in range(seeds)]
        states += [m.state_dict() for m in modules]
        labels += [factor] * len(modules)
        summary[factor] = _held_out(modules, held, matrices.get(factor))
        strong = peaks[[i for i in order[: len(held)] if i < STRONGEST]]
        if len(strong):
            summary[factor] |= _strong(modules, strong, matrices.get(factor))
        if on_progress is not None:
            on_progress(done, len(files))
    save_states(out / "model.pt", states, labels=labels, matrices={k: m.tolist() for k, m in matrices.items()})
    q = q_values(np.array([s.get("motif_p", 1.0) for s in summary.values()]))
    for s, value in zip(summary.values(), q):
        s["motif_q"] = float(value)
    answer: dict[str, Any] = {
        "factors": summary,
        "mean_auroc": float(np.mean([s["auroc"] for s in summary.values()])),
        "motifs_recovered": int((q < 0.05).sum()),
    }
    measured = [s for s in summary.values() if "auroc_strong" in s]
    if measured:
        answer["mean_auroc_strong"] = float(np.mean([s["auroc_strong"] for s in measured]))
        by_seed = np.mean([s["single_auroc_strong"]["values"] for s in measured], axis=0)
        answer["mean_auroc_strong_by_seed"] = t_interval(by_seed)
    write_json(out / "training.json", answer)
    return answer


def _held_out(modules: list[Any], held: Array, matrix: Array | None) -> dict[str, Any]:
    """Measured on held peaks and their shuffles, the motif, and four sites with their smallest substitution."""
    x, y = np.concatenate([held, shuffled(held, 99)]), np.repeat([1, 0], len(held))
    logits = _model.predict(modules, x).mean(0)
    answer: dict[str, Any] = _metrics(logits, y)
    if matrix is not None:
        answer["jaspar"] = _metrics(matrix_scores(x, matrix), y)
        motifs = filter_motifs(modules[0], held)
        like, p = significance(motifs, matrix)
        answer |= {"filter": int(np.argmin(p)), "likeness": float(like[np.argmin(p)])}
        answer["motif_p"] = float(min(1.0, p.min() * len(p)))  # Bonferroni over the filters, then q over the factors
    flips = [
        _model.smallest_substitution(modules, s, 2)
        for s in held[np.argsort(-logits[: len(held)])[len(held) // 4 :][:4]]
    ]
    answer["smallest_substitutions"] = [f["changes"] if f["changes"] else f">{f['more_than']}" for f in flips]
    return answer


def _strong(modules: list[Any], held: Array, matrix: Array | None) -> dict[str, Any]:
    """AUROC on held peaks of the thousand strongest, five shuffles to each: networks, each alone, matrix."""
    x = np.concatenate([held, *[shuffled(held, seed) for seed in range(100, 105)]])
    y = np.repeat([1, 0, 0, 0, 0, 0], len(held))
    logits = _model.predict(modules, x)
    answer: dict[str, Any] = {
        "auroc_strong": _metrics(logits.mean(0), y)["auroc"],
        "single_auroc_strong": t_interval([_metrics(e, y)["auroc"] for e in logits]),
        "strong_peaks": len(held),
    }
    if matrix is not None:
        answer["jaspar_strong"] = _metrics(matrix_scores(x, matrix), y)["auroc"]
    return answer


def filter_motifs(module: Any, sequences: Array) -> list[Array]:
    """Frequencies of the windows that each filter fires on, on the strand where it fires."""
    import torch

    both = np.concatenate([sequences, 3 - sequences[:, ::-1]])
    with torch.no_grad():
        response = module.filters(torch.from_numpy(one_hot(both))).numpy()
    half = _model.WIDTH // 2
    return [
        site_matrix(both, r[:, half : r.shape[1] - half], _model.WIDTH, 0.6)[0] for r in response.transpose(1, 0, 2)
    ]


def _metrics(scores: Array, bound: Array) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {"auprc": float(average_precision_score(bound, scores)), "auroc": float(roc_auc_score(bound, scores))}


def restore(out: Path) -> tuple[dict[str, list[Any]], dict[str, Array]]:
    """Networks by factor, and the matrices."""
    loaded = load_states(out / "model.pt", NAME)
    modules: dict[str, list[Any]] = {}
    for label, state in zip(loaded["labels"], loaded["states"]):
        module = _model.build(explicit=True)
        module.load_state_dict(state)
        modules.setdefault(label, []).append(module.eval())
    return modules, {k: np.array(m) for k, m in loaded["matrices"].items()}


def score(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """AUPRC and AUROC, the mean over factors and each.

    Negatives are the file's own (Bound 0). A file of peaks alone gets one dinucleotide shuffle of each peak, always with
    seed 1, so that two calls agree; `negatives` says which it was. Files of one factor are scored together.
    """
    modules, matrices = restore(out)
    ours: dict[str, Any] = {}
    jaspar: dict[str, Any] = {}
    rows = 0
    by_factor: dict[str, list[tuple[Array, Array]]] = {}
    for path in map(Path, files):
        factor = factor_of(path)
        if factor not in modules:
            raise UnreadableFile(
                f"{path}: the study knows {', '.join(modules)}, not '{factor}' (name before the first _)"
            )
        by_factor.setdefault(factor, []).append(read(path))
    if not by_factor:
        raise InvalidInput("no files to score: give --data FACTOR_....seq.gz with columns seq and Bound")
    negatives: dict[str, str] = {}
    for factor, parts in by_factor.items():
        sequences, bound = (np.concatenate(p) for p in zip(*parts))
        x, y = with_negatives(sequences, bound, SEED)
        negatives[factor] = "of the file" if x is sequences else f"one dinucleotide shuffle of each peak, seed {SEED}"
        each = _model.predict(modules[factor], x)
        ours[factor] = {
            **_metrics(each.mean(0), y),
            "single_network_auroc": t_interval([_metrics(e, y)["auroc"] for e in each]),
        }
        if factor in matrices:
            jaspar[factor] = _metrics(matrix_scores(x, matrices[factor]), y)
        rows += len(y)
    mean = lambda table: (
        {k: float(np.mean([v[k] for v in table.values()])) for k in ("auprc", "auroc")} if table else {}
    )
    return {
        "study": NAME, "metrics": {**mean(ours), "by_factor": ours},
        "baselines": {"jaspar_matrix": {**mean(jaspar), "by_factor": jaspar}}, "rows": rows,
        "negatives": negatives,
    }  # fmt: skip
