"""Each factor's JASPAR matrix above the filter that matches it best."""

from pathlib import Path

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery._motifs import both_strands, draw_logo, likeness, significance
from relukit.gallery.tf_binding._data import factor_of, read
from relukit.gallery.tf_binding.study import filter_motifs, restore


def figures(out: Path, data: Path) -> list[Path]:
    """Write `motifs.png`."""
    from matplotlib.figure import Figure

    modules, matrices = restore(out)
    files = {factor_of(f): f for f in sorted(data.glob("*_AC.seq.gz"))}
    names = [f for f in modules if f in matrices]
    figure = Figure(figsize=(15, 6), layout="constrained")
    axes = figure.subplots(4, 5)
    for ax in axes.flat:
        ax.axis("off")
    for k, factor in enumerate(names):
        top, bottom = axes[2 * (k // 5), k % 5], axes[2 * (k // 5) + 1, k % 5]
        motifs = filter_motifs(modules[factor][0], read(files[factor])[0][:600])
        _, p = significance(motifs, matrices[factor])
        best = int(np.argmin(p))
        strand = max(both_strands(motifs[best]), key=lambda m: likeness(m, matrices[factor]))
        for ax, matrix, title in (
            (top, matrices[factor], f"{factor}, JASPAR"),
            (bottom, strand, f"filter {best}, p = {p[best]:.0e}"),
        ):
            ax.axis("on")
            draw_logo(ax, matrix, title)
    with atomic_path(out / "motifs.png") as path:
        figure.savefig(path, dpi=120, format="png")
    return [out / "motifs.png"]
