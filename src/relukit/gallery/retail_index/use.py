"""A file of payments to an index on the command line: `relukit gallery use retail-index DAY.parquet --store index.duckdb`."""

from pathlib import Path
from typing import Any

from relukit._errors import InvalidInput, UnreadableFile
from relukit._spread import cluster as executor_at
from relukit.gallery.retail_index import _index, volume
from relukit.gallery.retail_index.store import Store


def use(
    out: Path,
    *files: Path,
    store: str | None = None,
    map: str | None = None,
    prices: str | None = None,
    cluster: str | None = None,
    chart: str | None = None,
) -> Any:
    """Monthly index of the payments in `files` (CSV or Parquet), with its band and spending by consumer category.

    Arguments:
        store: A DuckDB file that keeps what was counted: give a new day's file and each payment counts once.
        map: CSV with `code` and `category`, instead of the default consumer categories.
        prices: CSV with `month` and a price index per consumer category: the index is then one of volume.
        cluster: Address of a Dask scheduler that shares the files out (without `store`).
        chart: Draw the index there (.png, .svg, .pdf).
    """
    if store is not None:
        kept = Store(store, out)
        try:
            kept.add(files)
            daily = kept.daily()
        finally:
            kept.close()
    elif not files:
        raise InvalidInput("expected files of payments, or --store with what was counted before")
    else:
        with executor_at(cluster) as executor:
            daily = volume.aggregate(out, files, executor)
    if not len(daily):
        raise UnreadableFile("no payments in the files, and none counted before")
    table = _index.index_table(daily, _index.read_map(Path(map) if map else None), _prices(prices))
    if chart is not None:
        from relukit.gallery.retail_index.figures import draw_index

        draw_index(table, Path(chart))
    return table


def to_csv(table: Any) -> str:
    return table.round(3).to_csv(index_label="month")


def _prices(path: str | None) -> Any:
    import pandas as pd

    if path is None:
        return None
    table = pd.read_csv(path)
    if "month" not in table:
        raise UnreadableFile(f"{path} has no column 'month'")
    table.index = pd.PeriodIndex(table.pop("month").astype(str), freq="M")
    return table
