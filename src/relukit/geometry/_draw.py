"""Pictures of pieces, by Matplotlib: polygons colored by decision, slope or depth of the unit; graphs; walls in 3-D."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit.geometry._decision import boundary, decided_parts

# Okabe and Ito's eight colors, and four of Tol's that stay apart from them: told apart with any color vision
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#332288",
    "#882255",
    "#999933",
    "#44AA99",
    "#777777",
)
COLORS = ("decision", "slope", "depth")


def axes(ax: Any = None, **projection: Any) -> Any:
    """The given axes, or new ones that no window belongs to."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(8, 8), layout="constrained").add_subplot(**projection)


def draw_regions(found: Any, ax: Any, color: str) -> Any:
    """Polygons with their borders; see `Regions.plot`."""
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if color not in COLORS:
        raise InvalidInput(f"color is one of {', '.join(COLORS)}, got '{color}'")
    ax = axes(ax)
    handles: list[Any] = []
    steep = None
    thin = float(np.clip(30 / np.sqrt(max(len(found), 1)), 0.2, 0.8))  # points: seen, and narrower than a piece
    once = (found.neighbors < 0) | (found.neighbors > found.owner)
    lines, layer = _borders(found, once)
    if color == "slope":
        A = found.maps[0]
        steep = np.linalg.norm(A - A.mean(axis=1, keepdims=True) if A.shape[1] > 1 else A, axis=(1, 2))
        rings = PolyCollection([found.polygon(k) for k in range(len(found))], array=steep, cmap="cividis", lw=0)
        ax.add_collection(rings)
        ax.figure.colorbar(
            rings,
            ax=ax,
            label="size of the slope (differences of outputs)" if A.shape[1] > 1 else "size of the slope",
            shrink=0.75,
        )
    elif color == "decision":
        parts, decisions = decided_parts(found)
        for k in np.unique(decisions):
            rings = [ring for ring, d in zip(parts, decisions) if d == k]
            _outlines(ax, rings, facecolor=PALETTE[k % len(PALETTE)], alpha=0.45, lw=0, antialiased=False)
        single = found.maps[1].shape[1] == 1
        name = lambda k: ("output > 0" if k else "output <= 0") if single else f"decision {k}"
        handles += [Patch(color=PALETTE[k % len(PALETTE)], alpha=0.45, label=name(k)) for k in np.unique(decisions)]
    if color == "depth":
        for l in np.unique(layer[layer >= 0]):
            paint = PALETTE[l % len(PALETTE)]
            _strokes(ax, lines[layer == l], color=paint, lw=1.5 * thin)
            handles.append(Line2D([], [], color=paint, label=f"units of layer {l + 1}"))
    else:
        inner = layer >= 0
        if steep is None:
            _strokes(ax, lines[inner], color="#222222", lw=thin, alpha=0.8)
        else:  # light lines on dark pieces, dark ones on light pieces
            share = (steep - steep.min()) / ((steep.max() - steep.min()) or 1.0)
            sides = found.owner[once], np.where(found.neighbors[once] < 0, found.owner[once], found.neighbors[once])
            dark = (share[sides[0]] + share[sides[1]])[inner] < 1.0
            _strokes(ax, lines[inner][dark], color="#ffffff", lw=thin, alpha=0.6)
            _strokes(ax, lines[inner][~dark], color="#222222", lw=thin, alpha=0.8)
        handles.append(Line2D([], [], color="#222222", lw=max(thin, 0.5), label=f"{len(found):,} pieces"))
        segments = boundary(found)
        if len(segments):
            if steep is not None:
                ax.add_collection(LineCollection(segments, colors="#ffffff", linewidths=3.5))
            ax.add_collection(LineCollection(segments, colors="#000000", linewidths=2.0))
            handles.append(Line2D([], [], color="#000000", lw=2.0, label="decision boundary"))
    low, high = found.vertices.min(axis=0), found.vertices.max(axis=0)
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ratio = (high[0] - low[0]) / (high[1] - low[1])
    ax.set_aspect("equal" if 0.2 < ratio < 5 else "auto")
    ax.set_xlabel(_direction(found.plane.u, "s"))
    ax.set_ylabel(_direction(found.plane.v, "t"))
    _corners(found, ax, low, high)
    if not found.complete:
        ax.set_title(f"stopped after {len(found):,} pieces")
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=4, frameon=False, fontsize=9)
    return ax


def _direction(step: Any, letter: str) -> str:
    """The name of a coordinate of a plane: an input where only this one moves, by one."""
    moved = np.flatnonzero(step)
    return (
        f"input {moved[0]}"
        if len(moved) == 1 and step[moved[0]] == 1.0
        else f"{letter} (direction {'st'.index(letter) + 1})"
    )


def _corners(found: Any, ax: Any, low: Any, high: Any) -> None:
    """Name the three points of a plane through A, B, C, which have the coordinates (0, 0), (1, 0), (0, 1)."""
    if any(np.count_nonzero(step) == 1 for step in (found.plane.u, found.plane.v)):
        return
    for name, at in zip("ABC", ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))):
        if np.all(low <= at) and np.all(at <= high):
            ax.plot(*at, "o", ms=5, mfc="#ffffff", mec="#000000")
            box = {"boxstyle": "round,pad=0.15", "fc": "#ffffff", "ec": "none", "alpha": 0.8}
            ax.annotate(name, at, (5, 5), textcoords="offset points", fontsize=9, bbox=box)


_MANY = 2000  # outlines in one path: a picture of 50,000 pieces has some 50 elements then, not 200,000


def _strokes(ax: Any, segments: Any, **style: Any) -> None:
    """Segments, shape `(count, 2, 2)`, as few paths."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    for k in range(0, len(segments), _MANY):
        ends = segments[k : k + _MANY].reshape(-1, 2)
        codes = np.tile([Path.MOVETO, Path.LINETO], len(ends) // 2)
        ax.add_artist(PathPatch(Path(ends, codes), fill=False, **style))


def _outlines(ax: Any, rings: Any, **style: Any) -> None:
    """Filled convex rings that do not overlap, as few paths."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    for k in range(0, len(rings), _MANY):
        part = rings[k : k + _MANY]
        points = np.concatenate([np.r_[ring, ring[:1]] for ring in part])
        codes = np.full(len(points), Path.LINETO)
        ends = np.cumsum([len(ring) + 1 for ring in part])
        codes[np.r_[0, ends[:-1]]], codes[ends - 1] = Path.MOVETO, Path.CLOSEPOLY
        ax.add_artist(PathPatch(Path(points, codes), **style))


def _borders(found: Any, once: Any) -> tuple[Any, Any]:
    """Edges chosen by `once`, shape `(E, 2, 2)`, and the layer of the unit whose line each is; -1 for the domain's sides."""
    ends = np.stack([found.indices, found.indices[found.following]], axis=1)[once]
    gate = found.lines[once]
    layer = np.full(len(gate), -1)
    inner = gate < found.gates
    if found.gates:
        nodes = np.unique(found.owners[:, 0])
        layer[inner] = np.searchsorted(nodes, found.owners[gate[inner], 0])
    return found.vertices[ends], layer


def draw_cells(found: Any, ax: Any, output: int) -> Any:
    """The graph of an output of one input with its breakpoints, or the walls in three inputs."""
    if found.dimension == 1:
        return _graph(found, axes(ax), output)
    if found.dimension != 3:
        raise UnsupportedOperation(
            f"cells in {found.dimension} inputs are not drawn: take a plane (relukit regions --plane, or --slice)"
        )
    return _walls(found, axes(ax, projection="3d"))


def _graph(found: Any, ax: Any, output: int) -> Any:
    A, c = found.maps
    if not 0 <= output < c.shape[1]:
        raise InvalidInput(f"output is 0 to {c.shape[1] - 1}, got {output}")
    ends = found.vertices[found.indices.reshape(-1, 2), 0]
    order = np.argsort(ends.min(axis=1))
    ends = np.sort(ends, axis=1)[order]
    y = A[order, output, :] * ends + c[order, output][:, None]
    ax.plot(
        np.append(ends[:, 0], ends[-1, 1]),
        np.append(y[:, 0], y[-1, 1]),
        color=PALETTE[0],
        lw=1.5,
        label=f"output {output}",
    )
    ax.plot(ends[1:, 0], y[1:, 0], "|", color=PALETTE[5], ms=7, mew=0.8, label=f"{len(found) - 1:,} breakpoints")
    ax.set_xlabel("input 0")
    ax.set_ylabel(f"output {output}")
    ax.legend(frameon=False)
    return ax


def _walls(found: Any, ax: Any) -> Any:
    from matplotlib.patches import Patch
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    rings, gates = facet_rings(found)
    inner = gates < found.gates
    if not inner.any():
        raise InvalidInput("no unit switches in this box: there is no wall to draw")
    nodes = np.unique(found.owners[:, 0])
    layer = np.searchsorted(nodes, found.owners[gates[inner], 0])
    kept = [ring for ring, keep in zip(rings, inner) if keep]
    most = max(map(len, kept))
    # Last corners are repeated: Matplotlib fills rings of unequal length with whatever memory holds, and scales axes by it.
    shown = [found.vertices[np.append(ring, np.repeat(ring[-1:], most - len(ring)))] for ring in kept]
    paint = [PALETTE[l % len(PALETTE)] for l in layer]
    edge = float(np.clip(20 / np.sqrt(len(shown)), 0.05, 0.5))
    ax.add_collection3d(Poly3DCollection(shown, facecolors=paint, edgecolors="#22222288", linewidths=edge, alpha=0.25))
    low, high = found.lower, found.upper
    ax.set(
        xlim=(low[0], high[0]),
        ylim=(low[1], high[1]),
        zlim=(low[2], high[2]),
        xlabel="input 0",
        ylabel="input 1",
        zlabel="input 2",
    )
    ax.set_box_aspect((1, 1, 1), zoom=0.78)  # room for the axes' names
    ax.legend(
        handles=[
            Patch(color=PALETTE[l % len(PALETTE)], alpha=0.5, label=f"walls of layer {l + 1}") for l in np.unique(layer)
        ],
        frameon=False,
    )
    return ax


def facet_rings(found: Any) -> tuple[list[Any], Any]:
    """Facets of three-dimensional cells once each, as vertex numbers in order around, and their gates."""
    rings, gates = [], []
    for k in range(len(found)):
        start = found.facet_offsets[k]
        for f, members in enumerate(found.facet_vertices(k)):
            across = found.neighbors[start + f]
            if 0 <= across < k:
                continue
            points = found.vertices[members]
            from_middle = points - points.mean(axis=0)
            u, _, _ = np.linalg.svd(from_middle.T @ from_middle)
            angle = np.arctan2(from_middle @ u[:, 1], from_middle @ u[:, 0])
            rings.append(members[np.argsort(angle)])
            gates.append(found.facets[start + f])
    return rings, np.array(gates)
