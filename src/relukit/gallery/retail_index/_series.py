"""Official retail sales and card spending as monthly changes, whatever the layout of the file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit.gallery._tables import read_csv
from relukit.gallery.retail_index._text import dates

SPENDING = "spend_all"
_LONGEST_GAP = 10  # days between two readings that are joined by a line; weekly readings lie 7 apart


def kind(path: Path) -> str:
    """What a file holds, by its columns: `transactions`, `cards`, `official` or `trades`.

    Raises:
        UnreadableFile: None of these.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            columns = set(pq.read_schema(path).names)
        except (OSError, ValueError) as error:
            raise UnreadableFile(f"{path}: not a Parquet file ({error})") from error
    else:
        columns = set(read_csv(path, nrows=1).columns)
    for name, needed in (
        ("transactions", {"merchant", "amount"}),
        ("cards", {SPENDING}),
        ("official", {"RSAFS"}),
        ("trades", {"kind", "sales_musd_sa"}),
    ):
        if needed <= columns:
            return name
    raise UnreadableFile(
        f"{path} has columns {', '.join(sorted(columns)[:8])}; expected card transactions (merchant, amount, ...), "
        f"card spending ({SPENDING}), retail sales (RSAFS) or sales by kind of business (kind, sales_musd_sa)"
    )


def read_cards(paths: Sequence[Path]) -> Any:
    """100 ln(1 + spending) by day of the reading. Files may overlap; the later one counts.

    A reading is the mean of the seven days that end there: one each day at first, one each week from mid-2022.
    """
    import pandas as pd

    parts = []
    for path in paths:
        table = read_csv(path)
        if "date" in table:
            date = dates(table["date"], day_first=False)
        elif {"year", "month", "day"} <= set(table.columns):
            date = pd.to_datetime(table[["year", "month", "day"]], errors="coerce")
        else:
            raise UnreadableFile(f"{path} has neither a column 'date' nor 'year', 'month', 'day'")
        value = pd.to_numeric(table[SPENDING], errors="coerce")
        value = value.where((value > -1) & date.notna())
        if not value.notna().any():
            raise UnreadableFile(f"{path} has no row with a date and a number in {SPENDING}")
        parts.append(pd.Series(100 * np.log1p(value.to_numpy(float)), index=date).dropna())
    joined = pd.concat(parts)
    return joined[~joined.index.duplicated(keep="last")].sort_index()


def read_official(paths: Sequence[Path]) -> Any:
    """Monthly sales (million dollars, seasonally adjusted), indexed by month."""
    import pandas as pd

    parts = []
    for path in paths:
        if kind(path) == "official":
            table = read_csv(path)
            day = next((c for c in ("observation_date", "DATE", "date") if c in table), None)
            if day is None:
                raise UnreadableFile(f"{path} has no column 'observation_date'")
            value, month = pd.to_numeric(table["RSAFS"], errors="coerce"), dates(table[day], day_first=False)
        else:
            table = read_csv(path, ["date"])
            table = table[table.kind == "Retail and food services sales, total"]
            value, month = (
                pd.to_numeric(table["sales_musd_sa"], errors="coerce"),
                dates(table["date"], day_first=False),
            )
        kept = value.notna() & month.notna()
        if not kept.any():
            raise UnreadableFile(f"{path} has no month with sales")
        parts.append(pd.Series(value[kept].to_numpy(float), index=pd.PeriodIndex(month[kept], freq="M")))
    joined = pd.concat(parts)
    return joined[~joined.index.duplicated(keep="last")].sort_index()


def monthly_mean(readings: Any) -> Any:
    """Mean over the days of each month, readings joined by lines, so that daily and weekly files mean the same.

    A month counts once half of its days are covered.
    """
    import pandas as pd

    if len(readings) == 0:
        return pd.Series(dtype=float, index=pd.PeriodIndex([], freq="M"))
    days = readings.resample("D").mean()
    known = days.notna()
    gap = (~known).groupby(known.cumsum()).transform("sum")
    line = days.interpolate("time", limit_area="inside").where(known | (gap < _LONGEST_GAP))
    grouped = line.dropna().groupby(line.dropna().index.to_period("M"))
    mean, count = grouped.mean(), grouped.size()
    return mean[count >= 0.5 * mean.index.days_in_month]


def change(series: Any) -> Any:
    """Difference to the month before, where both are there."""
    import pandas as pd

    if len(series) == 0:
        return series
    whole = series.reindex(pd.period_range(series.index.min(), series.index.max(), freq="M"))
    return whole.diff().dropna()
