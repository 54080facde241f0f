"""Logos of the readers that match the boxes, and one promoter's exact attribution beside in-silico mutagenesis."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery._life import LETTERS, Array, codes
from relukit.gallery._motifs import consensus, draw_logo, significance
from relukit.gallery.promoter import _model
from relukit.gallery.promoter._motifs import BOXES, reader_matrices
from relukit.gallery.promoter.study import FILE, read, restore


def mutagenesis(modules: list, sequence: str) -> Array:
    """(4, 150): change of the mean logit when each place is set to each letter."""
    changed = [sequence[:i] + b + sequence[i + 1 :] for b in LETTERS for i in range(len(sequence))]
    values = _model.predict(modules, [sequence, *changed])[:, :, 0].mean(0)
    return (values[1:] - values[0]).reshape(4, len(sequence))


def figures(out: Path, data: Path) -> list[Path]:
    """Write `motifs.png` and `attribution.png`."""
    modules, loaded = restore(out)
    frame = read(data / FILE)
    strong = list(frame[frame["expression"] > 1].sort_values("expression")["sequence"])
    draw_motifs({"from boxes": modules[0], "from words": loaded["found"]}, strong[-400:], out / "motifs.png")
    draw_attribution(modules, strong[-1], out / "attribution.png")
    return [out / "motifs.png", out / "attribution.png"]


def draw_motifs(modules: dict[str, Any], strong: list[str], target: Path) -> None:
    """For each box: itself, and of each network the reader that matches it best among those that fire."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(2, 1 + len(modules), width_ratios=[1, *[2.4] * len(modules)])
    readers = {start: reader_matrices(module, strong) for start, module in modules.items()}
    for row, (box, letters) in zip(axes, BOXES.items()):
        draw_logo(row[0], consensus(letters), f"{box.replace('minus', '-')}: {letters}")
        for ax, (start, named) in zip(row[1:], readers.items()):
            if not named:
                ax.set_axis_off()
                continue
            _, p = significance([m for _, _, m in named], consensus(letters))
            side, k, matrix = named[int(np.argmin(p))]
            draw_logo(ax, matrix, f"{start}: kind {k}, {side.replace('minus', '-')} side, p = {p.min():.1e}")
            ax.set_ylabel("bits")
    with atomic_path(target) as path:
        figure.savefig(path, dpi=150, format="png")


def draw_attribution(modules: list, sequence: str, target: Path) -> None:
    """The slopes of the sequence's own letters above the effect of each single substitution."""
    import logomaker
    import pandas as pd
    from matplotlib.figure import Figure

    slopes = _model.attributions(modules, [sequence])[0]
    places, numbers = np.arange(_model.LENGTH), codes([sequence])[0]
    table = np.zeros((_model.LENGTH, 4))
    table[places, numbers] = slopes[numbers, places]
    figure = Figure(figsize=(11, 4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    logomaker.Logo(pd.DataFrame(table, columns=list(LETTERS)), ax=top, color_scheme="classic")
    top.set_ylabel("exact slope")
    top.set_title("Strongest promoter: affine map of its piece, and each single substitution", fontsize=10)
    change = mutagenesis(modules, sequence)
    limit = np.abs(change).max()
    image = bottom.imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=bottom, label="change of the logit")
    bottom.set_yticks(range(4), list(LETTERS))
    bottom.set_xlabel("place (transcription starts at 120)")
    bottom.set_ylabel("substitution")
    with atomic_path(target) as path:
        figure.savefig(path, dpi=150, format="png")
