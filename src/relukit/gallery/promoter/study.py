"""Which 150 bases of E. coli start transcription, and how strongly."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import Array, bootstrap_difference, codes, data_folder, load_states, save_states, t_interval
from relukit.gallery.promoter import _baselines, _model
from relukit.gallery.promoter._motifs import read_out
from relukit.gallery.promoter._start import enriched_pair

NAME, FILE, EPOCHS, BLOCK = "promoter", "ecoli_tss_train.csv.gz", 12, 50_000


def fetch() -> Path:
    """Folder with the library of transcription start sites."""
    return data_folder("dna_promoter", FILE)


def read(path: Path) -> Any:
    """The table, with `sequence` and `expression`; rows that lack one are left out."""
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableFile(f"{path}: not a CSV table ({error})") from error
    if not {"sequence", "expression"} <= set(frame.columns):
        raise UnreadableFile(f"{path}: columns sequence and expression are needed, it has {list(frame.columns)[:12]}")
    frame = frame.dropna(subset=["sequence", "expression"])
    try:
        return frame.assign(expression=frame["expression"].astype(float), sequence=frame["sequence"].astype(str))
    except ValueError as error:
        raise UnreadableFile(f"{path}: the column expression must hold numbers ({error})") from error


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train networks and the k-mer boosting on four fifths of the genome's blocks to measure, then on all of them."""
    frame = read(data / FILE)
    epochs = EPOCHS
    if quick:
        frame, epochs = frame.iloc[::4], 10
    measured_seeds = min(seeds, 3)  # enough for an interval; each costs as much as one that is kept
    done, total = 0, measured_seeds + seeds + 1

    def network(sequences: list[str], expression: Array, seed: int, **more: Any) -> Any:
        nonlocal done
        module = _model.fit(sequences, expression, seed, epochs, **more)
        done += 1
        if on_progress is not None:
            on_progress(done, total)
        return module

    sequences, expression = list(frame["sequence"]), frame["expression"].to_numpy(float)
    held = (frame["start"].to_numpy() // BLOCK).astype(int) % 5 == 0
    pick = lambda chosen: ([s for s, c in zip(sequences, chosen) if c], expression[chosen])
    rest, there = pick(~held), pick(held)
    measured = [network(*rest, seed) for seed in range(measured_seeds)]
    start, words = enriched_pair(codes(rest[0], _model.LENGTH), rest[1] > _model.ACTIVE)
    found = network(*rest, 0, start=start, scatter=1.0)
    blocks = _measure(measured, found, _baselines.fit(*rest), _boxes(frame[~held]), *there)
    modules = [network(sequences, expression, seed) for seed in range(seeds)]
    level = _model.level(expression)
    save_states(
        out / "model.pt", [m.state_dict() for m in modules], found=found.state_dict(),
        mean=float(level.mean()), deviation=float(level.std()), boxes=_boxes(frame).tolist(),
    )  # fmt: skip
    _baselines.save(out, _baselines.fit(sequences, expression))
    motifs = read_out(modules, found, [s for s, e in zip(sequences, expression) if e > 1][:400])
    motifs["words"] = words
    summary = {"held_blocks": blocks, "motifs": motifs, "seeds": seeds, "rows": len(sequences)}
    write_json(out / "training.json", summary)
    return summary


def _boxes(frame: Any) -> Array:
    """Log-odds (2, 4, 6) of the hexamers that the table names in active rows."""
    active = frame[frame["expression"] > _model.ACTIVE]
    return np.array([_baselines.hexamer_matrix(list(active[c].dropna())) for c in ("minus35", "minus10")])


def _measure(
    modules: list[Any], found: Any, trees: Any, boxes: Array, sequences: list[str], expression: Array
) -> dict[str, Any]:
    """Networks and baselines on rows that none of them saw."""
    logits = _model.predict(modules, sequences)
    mean, other = logits.mean(0), _model.predict([found], sequences)[0]
    boosting, matrices = _baselines.predict(trees, sequences), _baselines.matrices(sequences, boxes)["matrices"]
    single = [_metrics(e[:, 0], e[:, 1], expression)["auprc"] for e in logits]
    return {
        "networks": _metrics(mean[:, 0], mean[:, 1], expression),
        "single_network_auprc": t_interval(single),
        "network_from_words": _metrics(other[:, 0], other[:, 1], expression),
        "kmer_boosting": _metrics(boosting, boosting, expression),
        "matrices": _metrics(matrices, matrices, expression),
        "rows": len(sequences),
    }


def _metrics(logit: Array, level: Array, expression: Array) -> dict[str, float]:
    from scipy.stats import spearmanr
    from sklearn.metrics import average_precision_score, roc_auc_score

    active = expression > _model.ACTIVE
    if active.all() or not active.any():
        raise InvalidInput(
            f"{int(active.sum())} of {len(active)} rows are active (expression above {_model.ACTIVE}); AUPRC and AUROC need "
            "active and inactive rows"
        )
    return {
        "auprc": float(average_precision_score(active, logit)),
        "auroc": float(roc_auc_score(active, logit)),
        "spearman": float(spearmanr(level, expression)[0]),
    }


def restore(out: Path) -> tuple[list[Any], dict[str, Any]]:
    """The networks, and what was saved beside them; `found` is the network that started without the boxes."""
    loaded = load_states(out / "model.pt", NAME)

    def network(state: dict[str, Any]) -> Any:
        module = _model.build(explicit=True)
        module.load_state_dict(state)
        return module.eval()

    return [network(state) for state in loaded["states"]], {**loaded, "found": network(loaded["found"])}


def score(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """AUPRC and AUROC of "active" (activity above 0.2456), Spearman and r2 of the level, on tables of the same layout.

    The score is the mean of the networks' logits. Only `sequence` is read, and `expression` to compare with.
    """
    from sklearn.metrics import average_precision_score

    frames = [read(Path(f)) for f in files]
    if not sum(map(len, frames)):
        raise InvalidInput("no rows to score: give --data FILE with columns sequence and expression")
    sequences = [s for f in frames for s in f["sequence"]]
    expression = np.concatenate([f["expression"].to_numpy(float) for f in frames])
    modules, loaded = restore(out)
    each = _model.predict(modules, sequences)
    network, trees = each.mean(0), _baselines.predict(out, sequences)
    boxes = _baselines.matrices(sequences, np.array(loaded["boxes"]))["matrices"]
    active, goal = expression > _model.ACTIVE, _model.level(expression)
    level = network[:, 1] * loaded["deviation"] + loaded["mean"]
    raw = np.maximum(np.exp(level) - _model.FLOOR, 0)
    r2 = lambda guess, truth: float(1 - ((guess - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    metrics = {
        **_metrics(network[:, 0], network[:, 1], expression),
        "r2": r2(raw, expression),
        "r2_log": r2(level, goal),
    }
    metrics["single_network_auprc"] = t_interval([average_precision_score(active, e[:, 0]) for e in each])
    baselines = {"matrices": _metrics(boxes, boxes, expression), "kmer_boosting": _metrics(trees, trees, expression)}
    precision = lambda s, rows: float(average_precision_score(active[rows], s[rows]))
    gap = bootstrap_difference(lambda rows: (precision(network[:, 0], rows), precision(trees, rows)), len(active), 200)
    return {
        "study": NAME,
        "metrics": metrics,
        "baselines": baselines,
        "paired_bootstrap": {"kmer_boosting": gap},
        "rows": len(active),
    }
