"""Many payments: Parquet in, daily sums by category out, on two cores or on a cluster.

The first layer is a sum of two table lookups (see `_text`), so a payment costs two gathers and the small layers behind them.
Files are independent: `aggregate` maps them over any executor and adds what comes back, in any order.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery.retail_index import _model, _text
from relukit.gallery.retail_index._memory import Memory

BATCH = 65_536
_UNMET, _NO_DAY = -1, -(2**31)


class Scorer:
    """Categories of payments by tables that grow as new merchants appear.

    Arguments:
        net: What `_model.fit` returned.
        memory: What it was trained beside.
    """

    def __init__(self, net: dict[str, np.ndarray], memory: Memory) -> None:
        self.net, self.memory = net, memory
        self.W = _model.first_layer(net, 2**_text.BITS)
        self._pairs: dict[str, int] = {}
        self._pair_table = np.zeros((0, self.W.shape[1]), np.float32)
        self._directorates: dict[str, int] = {}
        self._context_place = np.zeros(0, np.int32)
        self._context_table = np.zeros((0, self.W.shape[1]), np.float32)

    def probabilities(self, merchant: Any, directorate: Any, amount: np.ndarray, month: np.ndarray) -> np.ndarray:
        """(rows, categories) float32, of pyarrow string arrays and NumPy columns."""
        d, names = _codes(directorate)
        own = np.array([self._directorates.setdefault(_text.plain(n), len(self._directorates)) for n in names])[d]
        hidden = self._pair_table_of(merchant, directorate)
        hidden += self._context(own, _text.size_class(amount), _text.pence_class(amount), month)
        return _model.finish(self.net, hidden)

    def _pair_table_of(self, merchant: Any, directorate: Any) -> np.ndarray:
        import pyarrow.compute as pc

        code, names = _codes(pc.binary_join_element_wise(merchant, directorate, "\t"))
        new = [n for n in names if n not in self._pairs]
        if new:
            split = [n.split("\t", 1) for n in new]
            merchants, directorates = [a.lower() for a, _ in split], [_text.plain(b) for _, b in split]
            rows = _text.name_rows(np.array(merchants, str))
            told = self.memory.inputs(merchants, directorates, rows)
            first = _text.merchant_rows(np.array(merchants, str), np.array(directorates, str), rows) @ self.W
            first += _model.remembered(self.net, told)
            self._pairs.update(zip(new, range(len(self._pairs), len(self._pairs) + len(new)), strict=True))
            self._pair_table = np.concatenate([self._pair_table, first])
        return self._pair_table[np.array([self._pairs[n] for n in names])[code]]

    def _context(self, directorate: np.ndarray, size: np.ndarray, pence: np.ndarray, month: np.ndarray) -> np.ndarray:
        code = ((directorate * _text.SIZES + size) * _text.PENCE + pence) * _text.MONTHS + month - 1
        room = len(self._directorates) * _text.SIZES * _text.PENCE * _text.MONTHS
        if room > len(self._context_place):
            more = np.full(room - len(self._context_place), _UNMET, np.int32)
            self._context_place = np.concatenate([self._context_place, more])
        place = self._context_place[code]
        if (place == _UNMET).any():
            new = np.unique(code[place == _UNMET])
            names = np.array(list(self._directorates), str)
            rest, m = np.divmod(new, _text.MONTHS)
            rest, w = np.divmod(rest, _text.PENCE)
            who, s = np.divmod(rest, _text.SIZES)
            rows = _text.context_rows(names[who], s, w, m + 1)
            self._context_place[new] = len(self._context_table) + np.arange(len(new))
            self._context_table = np.concatenate([self._context_table, rows @ self.W])
            place = self._context_place[code]
        return self._context_table[place]


def _codes(strings: Any) -> tuple[np.ndarray, list[str]]:
    encoded = strings.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def batches(path: Path) -> Iterator[dict[str, Any]]:
    """Columns of a Parquet or CSV file (also .csv.gz), a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        missing = [c for c in _text.COLUMNS if c not in file.schema_arrow.names]
        if missing:
            raise UnreadableFile(f"{path} lacks column {missing[0]}; expected {', '.join(_text.COLUMNS)}")
        source: Iterable[Any] = file.iter_batches(BATCH, columns=list(_text.COLUMNS))
    else:
        table = pa.Table.from_pandas(_text.read(path)[list(_text.COLUMNS)], preserve_index=False)
        source = table.to_batches(BATCH)
    return map(columns, source)


def columns(batch: Any) -> dict[str, Any]:
    """`merchant`, `directorate` (strings), `amount`, `day` (since 1970) of a record batch; rows without amount or date left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = {n: pc.fill_null(pc.cast(batch.column(n), pa.string()), "") for n in ("merchant", "directorate")}
    amount = pc.cast(batch.column("amount"), pa.float64()).to_numpy(zero_copy_only=False)
    date = pc.cast(pc.cast(batch.column("date"), pa.timestamp("s"), safe=False), pa.date32())
    day = pc.fill_null(pc.cast(date, pa.int32()), _NO_DAY).to_numpy(zero_copy_only=False)
    good = np.isfinite(amount) & (day != _NO_DAY)
    if not good.all():
        text = {n: c.filter(pa.array(good)) for n, c in text.items()}
    return {**text, "amount": amount[good], "day": day[good]}


def daily_sums(scorer: Scorer, names: Sequence[str], source: Iterable[dict[str, Any]]) -> Any:
    """`date`, `category`, `spent`, `variance`, `payments` of each day and category (expected values under the probabilities)."""
    import pandas as pd
    from scipy.sparse import csr_matrix

    parts = []
    for b in source:
        amount, day = b["amount"], b["day"]
        if not len(amount):
            continue
        days, row = np.unique(day, return_inverse=True)
        month = days.astype("datetime64[D]").astype("datetime64[M]").astype(int)[row] % 12 + 1
        p = scorer.probabilities(b["merchant"], b["directorate"], amount, month)
        sum_of = lambda v, r=row, n=len(days): csr_matrix((v, (r, np.arange(len(r)))), (n, len(r)))
        squares = sum_of(amount**2)
        # a payment's share a I(category): variance over sorting and over which payments arrive is a^2 p (1 + (1 - p))
        variance = squares @ (2 * p - p * p)
        spent, count = sum_of(amount) @ p, sum_of(np.ones(len(row))) @ p
        parts.append(pd.DataFrame({
            "date": np.repeat(days.astype("datetime64[D]").astype("datetime64[s]"), len(names)),
            "category": np.tile(np.asarray(names, object), len(days)),
            "spent": spent.ravel(), "variance": variance.ravel(), "payments": count.ravel(),
        }))  # fmt: skip
    return merge(parts)


def merge(parts: Sequence[Any]) -> Any:
    """Sums of daily sums; the order of the parts does not matter."""
    import pandas as pd

    if not parts:
        return pd.DataFrame(columns=["date", "category", "spent", "variance", "payments"])
    return pd.concat(parts).groupby(["date", "category"], as_index=False, observed=True).sum()


def score_file(out: str | Path, path: str | Path, network: int = 0) -> Any:
    """Daily sums of one file: what a worker does."""
    net, names = saved(Path(out), network)
    return daily_sums(Scorer(net, saved_memory(Path(out))), names, batches(Path(path)))


def aggregate(out: str | Path, paths: Sequence[str | Path], executor: Executor | None = None) -> Any:
    """Daily sums of many files, each counted once, over an executor (a Dask client gives one by `client.get_executor()`).

    Arguments:
        out: Folder of the trained study, readable by every worker.
    """
    if not paths:
        raise InvalidInput("expected at least one file of payments")
    if len({str(p) for p in paths}) < len(paths):
        raise InvalidInput("a file is listed twice; each must be counted once")
    run = executor.map if executor is not None else map
    return merge(list(run(score_file, [str(out)] * len(paths), [str(p) for p in paths])))


def saved(out: Path, network: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """A trained network and its categories."""
    path = out / f"sort_{network}.npz"
    if not path.exists():
        raise UnreadableFile(f"no trained network at {path}; run `relukit gallery run retail-index` first")
    with np.load(path) as f:
        net = {k: f[k] for k in f.files if k != "names"}
        names = [str(n) for n in f["names"]]
    if int(net.get("features", 0)) != 2**_text.BITS:
        raise UnreadableFile(
            f"{path} was trained by another version, which counted tokens otherwise; run `relukit gallery run retail-index` again"
        )
    return net, names


def saved_memory(out: Path) -> Memory:
    """What the networks were trained beside."""
    path = out / "memory.npz"
    if not path.exists():
        raise UnreadableFile(f"no memory of payments at {path}; run `relukit gallery run retail-index` (again) first")
    return Memory.load(path)


def simulate(path: str | Path, source: Any, rows: int, seed: int, days: int = 30, new: float = 0.02) -> None:
    """A Parquet file of resampled payments: real rows of `source`, dates spread over `days`, a share `new` with a merchant never seen."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    pick = rng.integers(0, len(source), rows)
    merchant = source.merchant.fillna("").astype(str).to_numpy(object)[pick]
    for k in np.flatnonzero(rng.random(rows) < new):
        merchant[k] = f"{merchant[k]} {rng.integers(0, 10**9):x}"
    start = np.datetime64("2017-07-01") + 30 * seed
    pd.DataFrame({
        "date": start + rng.integers(0, days, rows), "amount": source.amount.to_numpy(float)[pick], "merchant": merchant,
        "directorate": source.directorate.fillna("").astype(str).to_numpy(object)[pick],
    }).to_parquet(path, index=False)  # fmt: skip
