"""What the networks read at each position, and how predicted activity meets the measured one."""

from pathlib import Path

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery._life import LETTERS, Array, load_states
from relukit.gallery.crispr import _model
from relukit.gallery.crispr._screens import FIRST, read


def position_effects(modules: list, sequences: list[str]) -> Array:
    """Mean change (4, 30) of the predicted rank when one base of a guide is set to each letter."""
    own = _model.predict(modules, sequences)[:, :, 0].mean(0)
    effect = np.zeros((4, 30))
    for position in range(30):
        if position in (25, 26):  # the PAM's GG stays, without it there is no cut
            continue
        for b, letter in enumerate(LETTERS):
            changed = [s[:position] + letter + s[position + 1 :] for s in sequences]
            effect[b, position] = (_model.predict(modules, changed)[:, :, 0].mean(0) - own).mean()
    return effect


def figures(out: Path, data: Path) -> list[Path]:
    """Write `positions.png`: the mean effect of each base at each place of the 30-mer."""
    from matplotlib.figure import Figure

    loaded = load_states(out / "model.pt", "crispr")
    modules = _model.restore(loaded["states"][: loaded["seeds"]])
    sequences = read(data / FIRST).sequences
    chosen = [sequences[i] for i in np.random.default_rng(0).choice(len(sequences), 200, replace=False)]
    effect = position_effects(modules, chosen)
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axes = figure.subplots()
    limit = np.abs(effect).max()
    picture = axes.imshow(effect, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_yticks(range(4), list(LETTERS))
    places = [f"{i - 4}" for i in range(4)] + [str(i + 1) for i in range(20)] + ["N", "G", "G", "+1", "+2", "+3"]
    axes.set_xticks(range(30), places, fontsize=7)
    axes.axvline(3.5, color="k", lw=0.8)
    axes.axvline(23.5, color="k", lw=0.8)
    axes.set_xlabel("place in the guide (PAM: NGG)")
    axes.set_title("Mean change of the predicted rank when this base is put in", fontsize=10)
    figure.colorbar(picture, ax=axes)
    with atomic_path(out / "positions.png") as path:
        figure.savefig(path, dpi=150, format="png")
    return [out / "positions.png"]
