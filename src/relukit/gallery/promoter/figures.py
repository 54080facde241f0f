"""Logos of the filters that match the boxes, and one promoter's exact attribution beside in-silico mutagenesis."""

from pathlib import Path

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery._life import LETTERS, Array, codes
from relukit.gallery._motifs import consensus, draw_logo, significance
from relukit.gallery.promoter import _model
from relukit.gallery.promoter._motifs import BOXES, filter_matrices
from relukit.gallery.promoter.study import FILE, read, restore


def mutagenesis(modules: list, sequence: str) -> Array:
    """(4, 150): change of the mean logit when each place is set to each letter."""
    changed = [sequence[:i] + b + sequence[i + 1 :] for b in LETTERS for i in range(len(sequence))]
    values = _model.predict(modules, [sequence, *changed])[:, :, 0].mean(0)
    return (values[1:] - values[0]).reshape(4, len(sequence))


def figures(out: Path, data: Path) -> list[Path]:
    """Write `motifs.png` and `attribution.png`."""
    from matplotlib.figure import Figure

    modules, _ = restore(out)
    frame = read(data / FILE)
    strong = frame[frame["expression"] > 1]
    matrices, _ = filter_matrices(modules[0], list(strong["sequence"])[:400])
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(2, 4)
    for row, (name, letters) in zip(axes, BOXES.items()):
        draw_logo(row[0], consensus(letters), f"{name.replace('minus', '-')}: {letters}")
        _, p = significance(matrices, consensus(letters))
        for ax, k in zip(row[1:], np.argsort(p)):
            draw_logo(ax, matrices[k], f"filter {k}, p = {p[k]:.1e}")
    with atomic_path(out / "motifs.png") as path:
        figure.savefig(path, dpi=150, format="png")
    sequence = strong.sort_values("expression")["sequence"].iloc[-1]
    slopes = _model.attributions(modules, [sequence])[0]
    own = slopes[codes([sequence])[0], np.arange(150)]
    figure = Figure(figsize=(11, 4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    import logomaker
    import pandas as pd

    table = np.zeros((150, 4))
    table[np.arange(150), codes([sequence])[0]] = own
    logomaker.Logo(pd.DataFrame(table, columns=list(LETTERS)), ax=top, color_scheme="classic")
    top.set_ylabel("exact slope")
    top.set_title("Strongest promoter: affine map of its piece, and each single substitution", fontsize=10)
    change = mutagenesis(modules, sequence)
    limit = np.abs(change).max()
    bottom.imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    bottom.set_yticks(range(4), list(LETTERS))
    bottom.set_xlabel("place")
    bottom.set_ylabel("substitution")
    with atomic_path(out / "attribution.png") as path:
        figure.savefig(path, dpi=150, format="png")
    return [out / "motifs.png", out / "attribution.png"]
