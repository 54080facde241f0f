"""Charts to be read: the index with its band and what it is made of, and the nowcast beside the official figure."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit.gallery.retail_index import _index, _nowcast, _sales, _series, volume

_COLORS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#9c6b4e"]
_FEW = 3  # months that are drawn as points and bars: lines and areas between them say nothing


def _months(axes: Any, months: Any, most: int) -> None:
    """At most `most` ticks, each at a month that is there; a year is written where it begins, and at the first tick."""
    step = next((k for k in (1, 2, 3, 4, 6, 12) if len(months) <= k * most), 12 * -(-len(months) // (12 * most)))
    # steps count from January, so that each year has its ticks at the same months
    shown = [m for m in months if (12 * m.year + m.month - 1) % step == 0]
    years = [None, *(m.year for m in shown)]
    text = [m.strftime("%b\n%Y") if m.year != before else m.strftime("%b") for m, before in zip(shown, years)]
    axes.set_xticks([m.to_timestamp() for m in shown], text)


def draw_index(table: Any, path: Path, title: str = "Card spending by month, seasonally adjusted") -> Path:
    """Index and band above, spending by consumer category below."""
    from matplotlib.figure import Figure

    x = table.index.to_timestamp()
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    few = len(table) <= _FEW
    if few:
        above.vlines(x, table.low, table.high, color=_COLORS[0], alpha=0.3, lw=8, label="90 % band")
    else:
        above.fill_between(x, table.low, table.high, color=_COLORS[0], alpha=0.2, lw=0, label="90 % band")
    above.plot(x, table["index"], color="0.65", lw=1, marker="." if few else None, label="before adjustment")
    above.plot(x, table.adjusted, color=_COLORS[0], lw=2, marker="o" if few else None, label="adjusted")
    running = table.covered < 1
    if running.any():
        above.plot(x[running], table.adjusted[running], "o", mfc="white", color=_COLORS[0], label="month not complete")
    above.set(ylabel=f"mean of {table.index[0].year} = 100")
    above.set_title(title, loc="left", fontsize=11)
    above.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    spent = table[[c for c in table if c.startswith("spent ")]].rename(columns=lambda c: c.removeprefix("spent "))
    largest = spent.sum().sort_values(ascending=False).index[: len(_COLORS)]
    parts = {name: spent[name] for name in largest} | {
        "all else": spent.drop(columns=largest).clip(lower=0).sum(axis=1)
    }
    if len(spent.columns) == len(largest):
        del parts["all else"]
    bottom = np.zeros(len(table))
    for color, (name, money) in zip([*_COLORS[: len(largest)], "0.8"], parts.items(), strict=False):
        height = money.clip(lower=0).to_numpy() / 1e3
        if few:
            below.bar(x, height, 18, bottom, color=color, label=name)
        else:
            below.fill_between(x, bottom, bottom + height, color=color, lw=0, label=name)
        bottom = bottom + height
    below.set(ylabel="thousand a month")
    below.legend(frameon=False, fontsize=8, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.92")
        axes.set_axisbelow(True)
    _months(below, table.index, 16)
    figure.savefig(path, dpi=140)
    return path


def draw_nowcast(table: Any, official: Any, gain: Any, path: Path) -> Path:
    """Official change and nowcast by month; the bend of the network beside it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    x = table.index.to_timestamp()
    left.fill_between(x, table.low, table.high, color=_COLORS[0], alpha=0.2, lw=0, label="90 % band")
    left.plot(x, table.nowcast, color=_COLORS[0], lw=2, label="nowcast from cards")
    left.plot(x, official.reindex(table.index), "ko", ms=4, label="official, known a month later")
    left.axhline(0, color="0.8", lw=0.8)
    left.set(ylabel="change on the month before, %")
    left.legend(frameon=False, fontsize=8)
    _months(left, table.index, 12)
    moves, answer = gain
    right.plot(moves, moves, color="0.8", lw=1, label="believed wholly")
    right.plot(moves, answer, color=_COLORS[2], lw=2, label="the network")
    right.set(xlabel="card spending moves by, %", ylabel="sales are said to move by, %")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=140)
    return path


def figures(out: Path, data: Path) -> list[Path]:
    """`index.png` of the payments, `nowcast.png` of the months with cards (those that the networks' settings come from)."""
    from relukit.gallery.retail_index.study import CARDS

    daily = volume.aggregate(out, [data / CARDS])
    index = _index.index_table(daily, _index.read_map(None))
    readings, levels, reader, networks, scale = _sales.history(out)
    card, change = _series.change(_series.monthly_mean(readings)), _sales.percent(levels)
    months = [m for m in card.index if m in change.index][8:]
    table = _nowcast.walk(networks, reader, card, change, months, scale)
    moves = np.linspace(-8, 8, 321)
    probe = np.stack([moves, np.zeros_like(moves), np.full_like(moves, 2)], 1)
    answer = np.mean([n(probe)[:, 1] for n in networks], 0)
    return [
        draw_index(index, out / "index.png", "Birmingham's purchase cards by month, seasonally adjusted"),
        draw_nowcast(table, change, (moves, answer), out / "nowcast.png"),
    ]
