"""For some rows: the smallest perturbation that changes the decision, drawn; and the distances of more of them."""

import time

import numpy as np

from relukit._clock import Clock
from relukit._errors import UnsupportedOperation
from relukit._types import Array
from relukit.report._page import Section, escape
from relukit.report._sections import Context
from relukit.report._svg import difference, histogram, image
from relukit.sets import Box

_SHOWN = 6
_COUNTED = 40
_TRIES = 3
_UNITS = 5_000  # above this many units the search rarely ends while a reader waits


def flips_section(c: Context) -> Section:
    n = c.require()
    n.require_piecewise_linear("the smallest flip")
    data = c.rows()
    if n.outputs == 1 and n.head != "sigmoid":
        raise UnsupportedOperation(
            "one output without a sigmoid is a regression: there is no decision to flip. relukit optimize finds its extremes."
        )
    if n.units > _UNITS:
        raise UnsupportedOperation(
            f"{n.units:,} units are more than the {_UNITS:,} for which the report searches flips; use relukit flip with a time limit"
        )
    from relukit.verification import flip

    within = _within(c, data.x)
    chosen = _choose(c)
    found, clock, started = [], Clock(), time.perf_counter()
    for k, row in enumerate(chosen):
        left = c.time_limit - (time.perf_counter() - started - clock.loading)
        if left <= 0 and k >= 1:
            break
        x = data.x[row]
        for _ in range(_TRIES):  # what compiling took, once on a machine, is not taken from the search
            loaded = clock.loading
            flipped = flip(
                n,
                x,
                norm=np.inf,
                within=within,
                timeout=max(min(left / 2, 10.0), 1.0),
                seed=c.seed,
                starts=data.x[:500],
            )
            if flipped.status == "proven" or clock.loading - loaded < 1:
                break
        found.append((row, x, flipped))
    entries = [f.to_dict() | {"row": int(row)} for row, _, f in found]
    shown = "".join(_drawn(c, x, f.to_dict(), f.witness) for _, x, f in found[:_SHOWN])
    distances = np.array([e["distance"] for e in entries if e["distance"] is not None])
    proven = sum(e["status"] == "proven" for e in entries)
    words = (
        f"<p>The smallest change of any size up to <i>d</i> in every input that turns one decision into another (l-infinity distance). "
        f"{proven} of {len(entries)} are proven: no smaller one exists. Every flipped input was replayed in the original model.</p>"
    )
    chart = (
        f"<h3>Distances of {len(distances)} rows</h3>{histogram(distances, 'distance (l-infinity)')}"
        if len(distances) >= 8
        else ""
    )
    facts = [("median distance to a flip", f"{np.median(distances):.3g}")] if len(distances) else []
    return Section(
        "flips", "The smallest push that changes a decision", words + shown + chart, facts=facts, data=entries
    )


def _within(c: Context, x: Array) -> Box | None:
    """Images stay within the range of their pixels; a given box holds for everything else."""
    if c.image_shape is not None:
        low, high = float(x.min()), float(x.max())
        return Box(np.full(x.shape[1], low), np.full(x.shape[1], high))
    return c.box if c.box_source != "the range of the data" else None


def _choose(c: Context) -> list[int]:
    """Rows to flip: right ones first where labels are known, one per decision before any second one."""
    n, data = c.network, c.data
    assert n is not None and data is not None
    decisions = n.decide(data.x[:2000])
    labels = None if data.labels is None else data.labels[:2000]
    right = np.ones(len(decisions), bool) if labels is None else decisions == labels
    candidates = np.flatnonzero(right)
    if not len(candidates):
        candidates = np.arange(len(decisions))
    generator = np.random.default_rng(c.seed)
    generator.shuffle(candidates)
    order, seen = [], {}
    for i in candidates:
        seen[decisions[i]] = seen.get(decisions[i], 0) + 1
        order.append((seen[decisions[i]], int(i)))
    return [i for _, i in sorted(order, key=lambda pair: pair[0])][:_COUNTED]


def _drawn(c: Context, x: Array, entry: dict, witness: Array | None) -> str:
    lower, upper = entry["lower"], entry["upper"]
    if entry["status"] == "proven":
        tag, words = '<span class="tag ok">proven</span>', f"<b>{entry['distance']:.4g}</b>: nothing smaller flips it"
    elif entry["distance"] is None:
        tag, words = '<span class="tag warn">none found</span>', f"no flip found; none closer than <b>{lower:.4g}</b>"
    else:
        tag, words = '<span class="tag warn">bounded</span>', f"between <b>{lower:.4g}</b> and <b>{upper:.4g}</b>"
    head = (
        f"decision {entry['from']}: {words}"
        if entry["distance"] is None
        else f"decision {entry['from']} → <b>{entry['to']}</b> at distance {words}"
    )
    text = f'<div class="words">{head} {tag}</div>'
    shape = c.image_shape
    if shape is None or witness is None:
        moved = "" if witness is None else _moved(x, witness)
        return f'<div class="flip" style="grid-template-columns:1fr">{text}{moved}</div>'
    low, high = float(c.data.x.min()), float(c.data.x.max())
    see = lambda v: np.squeeze(((v.reshape(shape) - low) / max(high - low, 1e-12)).transpose(1, 2, 0))
    delta = (witness - x).reshape(shape).mean(axis=0)
    figures = [
        (image(see(x), f"input decided {entry['from']}"), f"input: {entry['from']}"),
        (image(see(witness), f"flipped input decided {entry['to']}"), f"flipped: {entry['to']}"),
        (image(difference(delta), "difference of the two"), "difference"),
    ]
    pictures = "".join(
        f"<figure>{picture}<figcaption>{escape(words)}</figcaption></figure>" for picture, words in figures
    )
    return f'<div class="flip">{pictures}{text}</div>'


def _moved(x: Array, witness: Array) -> str:
    """The inputs that move most."""
    order = np.argsort(-np.abs(witness - x))[:8]
    parts = ", ".join(f"x[{i}] {x[i]:.4g} → {witness[i]:.4g}" for i in order if witness[i] != x[i])
    return f'<p class="quiet">{escape(parts)}</p>'
