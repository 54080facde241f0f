"""Which 150 bases of E. coli start transcription, and how strongly."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import Array, bootstrap_difference, data_folder, load_states, save_states, t_interval
from relukit.gallery.promoter import _baselines, _model
from relukit.gallery.promoter._motifs import read_out

NAME, FILE, EPOCHS, BLOCK = "promoter", "ecoli_tss_train.csv.gz", 10, 50_000


def fetch() -> Path:
    """Folder with the library of transcription start sites."""
    return data_folder("dna_promoter", FILE)


def read(path: Path) -> Any:
    """The table, with `sequence` and `expression`."""
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path}: not a CSV table ({error})") from error
    if not {"sequence", "expression"} <= set(frame.columns):
        raise UnreadableFile(f"{path}: columns sequence and expression are needed, it has {list(frame.columns)[:12]}")
    return frame.dropna(subset=["sequence", "expression"])


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train the networks and the k-mer boosting on all blocks; a fifth of the genome's blocks is held once to measure."""
    frame = read(data / FILE)
    epochs = 1 if quick else EPOCHS
    if quick:
        frame = frame.iloc[::8]
    sequences, expression = list(frame["sequence"]), frame["expression"].to_numpy(float)
    held = (frame["start"].to_numpy() // BLOCK).astype(int) % 5 == 0
    rest, there = np.flatnonzero(~held), np.flatnonzero(held)
    pick = lambda rows: [sequences[i] for i in rows]
    network = _model.fit(pick(rest), expression[rest], 0, epochs)
    boosting = _baselines.fit(pick(rest), expression[rest])
    logits = _model.predict([network], pick(there))[0]
    trees = _baselines.predict(boosting, pick(there))
    blocks = {
        "network": _metrics(logits[:, 0], logits[:, 1], expression[there]),
        "boosting": _metrics(trees, trees, expression[there]),
        "together": _metrics(_together(logits[:, 0], trees), _together(logits[:, 1], trees), expression[there]),
        "rows": len(there),
    }
    if on_progress is not None:
        on_progress(1, seeds + 1)
    modules = []
    for seed in range(seeds):
        modules.append(_model.fit(sequences, expression, seed, epochs))
        if on_progress is not None:
            on_progress(seed + 2, seeds + 1)
    level = _model.level(expression)
    save_states(
        out / "model.pt", [m.state_dict() for m in modules],
        mean=float(level.mean()), deviation=float(level.std()),
        boxes=[_baselines.hexamer_matrix(list(frame[c][expression > _model.ACTIVE])).tolist() for c in ("minus35", "minus10")],
    )  # fmt: skip
    _baselines.save(out, _baselines.fit(sequences, expression))
    motifs = read_out(modules, [s for s, e in zip(sequences, expression) if e > 1][:400])
    summary = {"held_blocks": blocks, "motifs": motifs, "seeds": seeds, "rows": len(sequences)}
    write_json(out / "training.json", summary)
    return summary


def _together(network: Array, trees: Array) -> Array:
    """Mean of both logits, each standardized."""
    return (network - network.mean()) / network.std() + (trees - trees.mean()) / trees.std()


def _metrics(logit: Array, level: Array, expression: Array) -> dict[str, float]:
    from scipy.stats import spearmanr
    from sklearn.metrics import average_precision_score, roc_auc_score

    active = expression > _model.ACTIVE
    return {
        "auprc": float(average_precision_score(active, logit)),
        "auroc": float(roc_auc_score(active, logit)),
        "spearman": float(spearmanr(level, expression)[0]),
    }


def restore(out: Path) -> tuple[list[Any], dict[str, Any]]:
    loaded = load_states(out / "model.pt", NAME)
    modules = []
    for state in loaded["states"]:
        module = _model.build()
        module.load_state_dict(state)
        modules.append(module.eval())
    return modules, loaded


def score(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """AUPRC and AUROC of "active" (activity above 0.2456), Spearman and r2 of the level, on tables of the same layout.

    The score is the mean of the networks' and the k-mer boosting's standardized logits; the networks alone are given
    beside it.
    """
    from sklearn.metrics import average_precision_score

    frames = [read(Path(f)) for f in files]
    sequences = [s for f in frames for s in f["sequence"]]
    expression = np.concatenate([f["expression"].to_numpy(float) for f in frames])
    modules, loaded = restore(out)
    each = _model.predict(modules, sequences)
    network, trees = each.mean(0), _baselines.predict(out, sequences)
    together = _together(network[:, 0], trees)
    boxes = _baselines.matrices(sequences, np.array(loaded["boxes"]))["matrices"]
    active, goal = expression > _model.ACTIVE, _model.level(expression)
    level = network[:, 1] * loaded["deviation"] + loaded["mean"]
    raw = np.maximum(np.exp(level) - _model.FLOOR, 0)
    r2 = lambda guess, truth: float(1 - ((guess - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    metrics = {**_metrics(together, network[:, 1], expression), "r2": r2(raw, expression), "r2_log": r2(level, goal)}
    metrics["network_alone"] = _metrics(network[:, 0], network[:, 1], expression)
    metrics["single_network_auprc"] = t_interval([average_precision_score(active, e[:, 0]) for e in each])
    baselines = {"matrices": _metrics(boxes, boxes, expression), "kmer_boosting": _metrics(trees, trees, expression)}
    precision = lambda s, rows: float(average_precision_score(active[rows], s[rows]))
    gap = bootstrap_difference(lambda rows: (precision(together, rows), precision(trees, rows)), len(active), 200)
    return {
        "study": NAME,
        "metrics": metrics,
        "baselines": baselines,
        "paired_bootstrap": {"kmer_boosting": gap},
        "rows": len(active),
    }
