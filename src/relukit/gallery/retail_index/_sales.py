"""The nowcast of official retail sales: trained, saved, scored beside its baselines on the same months."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import t_interval
from relukit.gallery.retail_index import _nowcast, _series

_FIRST = 8  # months of cards before the first nowcast of the walk that sets the band


def percent(levels: Any) -> Any:
    """Monthly change of a level, percent."""
    return 100 * _series.change(levels) / levels.shift(1, freq="M").reindex(_series.change(levels).index)


def train(
    cards: Sequence[Path], official: Sequence[Path], out: Path, seeds: int, quick: bool, on_step: Callable[[], None]
) -> dict[str, Any]:
    """Networks from the official history and the measured noise of cards, saved with all that `score` continues from."""
    readings, levels = _series.read_cards(cards), _series.read_official(official)
    card, change = _series.change(_series.monthly_mean(readings)), percent(levels)
    reader = _nowcast.measure(card, change)
    chains = []
    for seed in range(seeds):
        chains.append(_nowcast.fit(reader, change, seed, 3 if quick else 12))
        np.savez(out / f"nowcast_{seed}.npz", **chains[-1])
        on_step()
    months = list(card.index.intersection(change.index)[_FIRST:])
    walked = _nowcast.walk([_load(c) for c in chains], reader, card, change, months)
    np.savez(
        out / "series.npz",
        day=readings.index.to_numpy("datetime64[D]").astype(int), reading=readings.to_numpy(),
        month=np.array([m.ordinal for m in levels.index]), level=levels.to_numpy(),
    )  # fmt: skip
    write_json(
        out / "nowcast.json",
        {"reader": asdict(reader), "seeds": seeds, "scale": _scale(walked, change[months])},
    )
    return {"months_with_cards": len(card), "reader": asdict(reader), "later_half": _backtest(card, change, quick)}


def _scale(walked: Any, truth: Any) -> float:
    """Of the band, for the months to come: what would have held 90 % of the quiet months walked.

    A crisis widens the band for its own time, at the walk; carried on, its width would take a year and a half to wear off.
    """
    miss = truth - walked.nowcast
    side = np.where(miss > 0, walked.high - walked.nowcast, walked.nowcast - walked.low) / walked.scale
    ratio = (miss.abs() / side)[truth.abs() < _nowcast.QUIET]
    return float(np.clip(ratio.quantile(_nowcast.BAND), 0.5, 4.0)) if len(ratio) >= _FIRST else 1.0


def _backtest(card: Any, change: Any, quick: bool) -> dict[str, Any] | None:
    """The last nine months by a network and card noise that saw only the months before: the only test that this history allows."""
    months = list(card.index.intersection(change.index))
    if len(months) < 18:
        return None
    test = months[-9:]
    reader = _nowcast.measure(card[card.index < test[0]], change[change.index < test[0]])
    chain = _nowcast.fit(reader, change[change.index < test[0]], 0, 3 if quick else 12)
    walked, truth = _nowcast.walk([_load(chain)], reader, card, change, test), change[test].to_numpy()
    return {
        **_nowcast.metrics(walked.nowcast.to_numpy(), truth),
        "coverage": float(((walked.low <= truth) & (truth <= walked.high)).mean()),
        "zero_change": _nowcast.metrics(np.zeros(len(truth)), truth),
        "cards_and_last_change": _nowcast.metrics(_nowcast.regression(card, change, test), truth),
        "months": [str(test[0]), str(test[-1])],
    }


def _load(chain: Any) -> Any:
    import relukit

    return relukit.load(chain)


def history(out: Path) -> tuple[Any, Any, _nowcast.Cards, list[Any], float]:
    """What training saved: card readings, official levels, the reader, networks, the band's scale."""
    import json

    import pandas as pd

    path = out / "nowcast.json"
    if not path.exists():
        raise UnreadableFile(f"no trained nowcast at {path}; run `relukit gallery run retail-index` first")
    about, kept = json.loads(path.read_text(encoding="utf-8")), np.load(out / "series.npz")
    readings = pd.Series(kept["reading"], index=pd.DatetimeIndex(kept["day"].astype("datetime64[D]")))
    levels = pd.Series(kept["level"], index=pd.PeriodIndex.from_ordinals(kept["month"], freq="M"))
    networks = [_load(out / f"nowcast_{k}.npz") for k in range(about["seeds"])]
    return readings, levels, _nowcast.Cards(**about["reader"]), networks, about["scale"]


def joined(old: Any, new: Any) -> Any:
    """Old values, and new ones where they are there."""
    import pandas as pd

    both = pd.concat([old, new])
    return both[~both.index.duplicated(keep="last")].sort_index()


def walked(out: Path, cards: Sequence[Path], official: Sequence[Path]) -> tuple[Any, Any, Any, Any]:
    """Nowcasts of the months that the files bring, each from what was known then: (table, card change, official change, networks)."""
    if not cards or not official:
        lacking = "card spending (spend_all)" if not cards else "the official series (RSAFS)"
        raise UnreadableFile(f"the nowcast needs both series together in --data; {lacking} is not among the files")
    readings, levels, reader, networks, scale = history(out)
    new_cards, new_levels = _series.read_cards(cards), _series.read_official(official)
    card = _series.change(_series.monthly_mean(joined(readings, new_cards)))
    change = percent(joined(levels, new_levels))
    brought = set(_series.monthly_mean(new_cards).index) & set(new_levels.index)
    months = [m for m in sorted(brought) if m in card.index and m in change.index]
    if not months:
        raise UnreadableFile("the files share no month in which card spending and official sales both changed")
    earlier = [m for m in card.index if m in change.index and m < months[0]]
    if len(earlier) < _FIRST:
        scale = 1.0
    return _nowcast.walk(networks, reader, card, change, months, scale), card, change, (networks, reader, scale)


def score(out: Path, cards: Sequence[Path], official: Sequence[Path]) -> dict[str, Any]:
    """`rmse`, `sign_right`, `coverage` of the months the files bring, and baselines refitted on the same months."""
    table, card, change, (networks, reader, scale) = walked(out, cards, official)
    months = list(table.index)
    truth = change[months].to_numpy()
    metrics: dict[str, Any] = _nowcast.metrics(table.nowcast.to_numpy(), truth)
    metrics["coverage"] = float(((table.low <= truth) & (truth <= table.high)).mean())
    metrics["band_width"] = float((table.high - table.low).mean())
    singles = [_nowcast.walk([n], reader, card, change, months, scale).nowcast.to_numpy() for n in networks]
    metrics["rmse_of_seeds"] = t_interval([_nowcast.metrics(s, truth)["rmse"] for s in singles])
    quiet = change[change.abs() < _nowcast.QUIET]
    before = quiet[quiet.index < months[0]]
    pairs = np.array([[before[m - 1], before[m]] for m in before.index if m - 1 in before.index])
    slope, level = np.polyfit(pairs[:, 0], pairs[:, 1], 1) if len(pairs) > 2 else (0.0, 0.0)
    last = np.array([change.get(m - 1, 0.0) for m in months])
    return {
        "metrics": metrics,
        "baselines": {
            "zero_change": _nowcast.metrics(np.zeros(len(truth)), truth),
            "last_change": _nowcast.metrics(level + slope * last, truth),
            "cards_and_last_change": _nowcast.metrics(_nowcast.regression(card, change, months), truth),
        },
        "rows": len(months),
    }
