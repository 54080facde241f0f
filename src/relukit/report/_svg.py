"""Small drawings as inline SVG and PNG: they follow the page's colors, light or dark, and need nothing from outside."""

import base64
import html
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from relukit._types import Array

# Okabe and Ito's color-blind-safe eight, then two more that stay apart from them (Color Universal Design, 2008).
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#8A8A8A", "#5B3E96", "#A6761D")


def color(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def png(pixels: Array) -> str:
    """A data URI of an image: `(H, W)` gray or `(H, W, 3)`, values in [0, 1]."""
    image = np.clip(np.round(255 * np.asarray(pixels, float)), 0, 255).astype(np.uint8)
    kind = 0 if image.ndim == 2 else 2
    height, width = image.shape[:2]
    raw = b"".join(b"\0" + image[r].tobytes() for r in range(height))
    chunk = lambda tag, body: struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(content).decode()


def image(pixels: Array, alt: str, size: int = 96) -> str:
    return f'<img class="pixels" width="{size}" height="{size}" alt="{html.escape(alt)}" src="{png(pixels)}">'


def difference(values: Array) -> Array:
    """Signed values as colors: blue below, white at 0, orange above, scaled to the largest."""
    scale = np.abs(values).max() or 1.0
    t = np.clip(values / scale, -1, 1)[..., None]
    low, high, middle = np.array([0.0, 0.447, 0.698]), np.array([0.902, 0.45, 0.0]), np.array([0.97, 0.97, 0.97])
    return np.where(t < 0, middle + (low - middle) * -t, middle + (high - middle) * t)


def stacked_bar(parts: Sequence[tuple[float, str, str]], total: float, label: str) -> str:
    """One horizontal bar: `(share, CSS class, title)` parts of a total."""
    x, pieces = 0.0, []
    for value, css, title in parts:
        width = 100 * value / total if total else 0
        if width > 0:
            pieces.append(
                f'<rect class="{css}" x="{x:.3f}" width="{width:.3f}" y="0" height="10"><title>{html.escape(title)}</title></rect>'
            )
        x += width
    return f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{html.escape(label)}">{"".join(pieces)}</svg>'


def ticks(low: float, high: float, most: int = 6) -> Array:
    """Round numbers within `[low, high]`: multiples of 1, 2 or 5 times a power of ten, `most` at most."""
    width = high - low
    if not (np.isfinite(width) and width > 0):
        return np.array([low])
    power = 10.0 ** np.floor(np.log10(width / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if width / (s * power) + 1 <= most)
    return step * np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1)


def _number(value: float) -> str:
    return f"{value + 0.0:.6g}"  # + 0.0: no "-0"


def histogram(values: Array, unit: str, bins: int = 24) -> str:
    """Counts of values as bars with an axis below."""
    values = np.asarray(values, float)
    top = float(values.max()) * 1.02 if len(values) and values.max() > 0 else 1.0
    counts, edges = np.histogram(values, bins=bins, range=(0, top))
    width, height, base = 640, 166, 120
    step = (width - 40) / bins
    place = lambda v: 20 + (width - 40) * v / top
    peak = max(int(counts.max()), 1)
    bars = "".join(
        f'<rect class="ink1" x="{20 + k * step + 1:.1f}" y="{base - 100 * c / peak:.1f}" width="{step - 2:.1f}" height="{100 * c / peak:.1f}">'
        f"<title>{c} between {edges[k]:.4g} and {edges[k + 1]:.4g}</title></rect>"
        for k, c in enumerate(counts)
    )
    marks = "".join(
        f'<text x="{place(v):.1f}" y="{base + 17}" text-anchor="middle">{_number(v)}</text>' for v in ticks(0, top)
    )
    middle = float(np.median(values)) if len(values) else 0.0
    at = place(middle)
    side = f'x="{at + 5:.1f}"' if middle < 0.75 * top else f'x="{at - 5:.1f}" text-anchor="end"'
    mark = f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="2" y2="{base}"/><text {side} y="12">median {middle:.3g}</text>'
    axis = f'<line class="axis" x1="20" x2="{width - 20}" y1="{base}" y2="{base}"/>'
    caption = f'<text x="{width / 2}" y="{base + 38}" text-anchor="middle" class="quiet">{html.escape(unit)}</text>'
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="histogram of {len(values)} values">{bars}{axis}{mark}{marks}{caption}</svg>'


def broken_line(x: Array, y: Array, names: Sequence[str]) -> str:
    """Curves that are straight between their corners, each corner a dot, with both axes.

    Arguments:
        x: Corners in order, shape `(n,)`.
        y: Values of each curve there, shape `(n, curves)`.
        names: A name per curve.
    """
    width, height, left, base = 640, 340, 64, 296
    low, high = float(y.min()), float(y.max())
    pad = 0.05 * (high - low) or max(abs(high), 1.0) * 0.5
    low, high = low - pad, high + pad
    across = lambda v: left + (width - left - 14) * (v - x[0]) / (x[-1] - x[0])
    up = lambda v: base - (base - 12) * (v - low) / (high - low)
    grid = "".join(
        f'<line class="grid" x1="{left}" x2="{width - 14}" y1="{up(v):.1f}" y2="{up(v):.1f}"/>'
        f'<text x="{left - 8}" y="{up(v) + 4:.1f}" text-anchor="end">{_number(v)}</text>'
        for v in ticks(low, high)
    )
    grid += "".join(
        f'<text x="{across(v):.1f}" y="{base + 19}" text-anchor="middle">{_number(v)}</text>'
        for v in ticks(x[0], x[-1], 8)
    )
    curves = []
    for k, name in enumerate(names):
        points = " ".join(f"{across(a):.2f},{up(b):.2f}" for a, b in zip(x, y[:, k]))
        curves.append(
            f'<polyline points="{points}" fill="none" stroke="{color(k)}" stroke-width="2" stroke-linejoin="round"><title>{html.escape(name)}</title></polyline>'
        )
        if len(x) <= 200:
            curves += [
                f'<circle cx="{across(a):.2f}" cy="{up(b):.2f}" r="2.6" fill="{color(k)}"><title>x = {a:.6g}, {html.escape(name)} = {b:.6g}</title></circle>'
                for a, b in zip(x[1:-1], y[1:-1, k])
            ]
    axis = f'<line class="axis" x1="{left}" x2="{width - 14}" y1="{base}" y2="{base}"/>'
    caption = f'<text x="{(width + left) / 2}" y="{base + 38}" text-anchor="middle" class="quiet">input</text>'
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{len(names)} broken lines of {len(x) - 1} pieces">'
        f"{grid}{axis}{''.join(curves)}{caption}</svg>"
    )


def polygons(
    corners: Array,
    offsets: Array,
    indices: Array,
    group: Array,
    names: Sequence[str],
    marks: Sequence[tuple[Array, str]],
    side: int = 640,
) -> str:
    """Convex pieces colored by group, as one path per group, with marked points.

    Arguments:
        corners: Shape `(V, 2)`.
        offsets, indices: Polygon k has corners `indices[offsets[k]:offsets[k + 1]]`.
        group: One number per polygon.
        names: A name per group number.
        marks: Points and their labels.
    """
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = side / max(float((high - low).max()), 1e-300)
    place = lambda p: np.stack([(p[..., 0] - low[0]) * scale, (high[1] - p[..., 1]) * scale], axis=-1)
    points = place(corners)
    width, height = (high - low) * scale
    digits = 1 if len(offsets) > 4000 else 2
    paths = []
    for g in np.unique(group):
        parts = []
        for k in np.flatnonzero(group == g):
            ring = points[indices[offsets[k] : offsets[k + 1]]]
            parts.append("M" + "L".join(f"{x:.{digits}f} {y:.{digits}f}" for x, y in ring) + "Z")
        line = 0.6 if len(offsets) < 3000 else 0.25
        paths.append(
            f'<path d="{"".join(parts)}" fill="{color(int(g))}" stroke-width="{line}"><title>{html.escape(names[int(g)])}</title></path>'
        )
    dots = []
    for point, label in marks:
        x, y = place(np.asarray(point, float))
        dots.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/><text x="{x + 10:.1f}" y="{y + 5:.1f}">{html.escape(label)}</text>'
        )
    pad = 12
    return (
        f'<svg class="plane" viewBox="{-pad} {-pad} {width + 2 * pad:.0f} {height + 2 * pad:.0f}" role="img" '
        f'aria-label="{len(offsets) - 1} linear pieces of a plane">{"".join(paths)}<g class="marks">{"".join(dots)}</g></svg>'
    )
