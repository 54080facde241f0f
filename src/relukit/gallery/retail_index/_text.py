"""Transactions as hashed tokens, in two parts, so that the first layer is a sum of two table lookups.

A row's first layer is linear in its tokens. Merchant with directorate, and the context (directorate, size of the amount, its pence,
month), each take few distinct values among many payments: the layer is computed once per value and then looked up.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit.gallery._tables import read_csv

BITS, TOP, OTHER = 18, 25, "Other"  # at 17 bits a third of the tokens shared their place with others
SIZES, PENCE, MONTHS = 100, 6, 12  # classes of amount (thirds of a doubling), of pence, of month
COLUMNS = ("date", "amount", "merchant", "directorate")
_CONTEXT = 1.5  # weight beside the parts of the merchant, each of length 1


def read(path: Path, *more: str) -> Any:
    """A table with date, amount, merchant, directorate, and category and `more` where they are there; no accounting codes.

    Raises:
        UnreadableFile: A column is missing.
    """
    import pandas as pd

    wanted = [*COLUMNS, "category", *more]
    if path.suffix == ".parquet":
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise UnreadableFile(f"{path}: not a Parquet file ({error})") from error
    else:
        table = read_csv(path, usecols=lambda c: c in wanted)
    missing = [c for c in COLUMNS if c not in table]
    if missing:
        raise UnreadableFile(f"{path} lacks column {missing[0]}; expected {', '.join(COLUMNS)}")
    table = table[[c for c in wanted if c in table]]
    table = table.assign(date=dates(table.date), amount=amounts(table.amount))
    keep = table.amount.notna() & table.date.notna() & np.isfinite(table.amount.to_numpy(float))
    if "category" in table:
        keep &= table.category.notna()
    return table[keep].reset_index(drop=True)


def dates(column: Any, day_first: bool = True) -> Any:
    """Dates without time zone, NaT where none stands. Text is read as ISO, or with day or month first: as most of it are dates.

    Arguments:
        day_first: What 03/07/2017 means where all of it could be either: the third of July (councils) or the seventh of March (US series).
    """
    import pandas as pd

    read = lambda **how: pd.to_datetime(column, errors="coerce", utc=True, **how).dt.tz_localize(None)
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        return read()
    best = read(format="ISO8601")
    slashed = [{"format": f, "exact": False} for f in ("%d/%m/%Y", "%m/%d/%Y")]
    for how in (*slashed[:: 1 if day_first else -1], {"format": "mixed"}):
        if best.isna().sum() > column.isna().sum():
            other = read(**how)
            best = other if other.notna().sum() > best.notna().sum() else best
    return best


def amounts(column: Any) -> Any:
    """Numbers, NaN where none stands; thousands may be set apart by commas."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float)
    return pd.to_numeric(column.astype(str).str.replace(",", ""), errors="coerce")


def merchant_rows(merchants: np.ndarray, directorates: np.ndarray, own: Any = None) -> Any:
    """Sparse rows (pairs, 2**BITS): those of the name (`name_rows`, or `own` if at hand), and its words with the directorate."""
    both = [" ".join(f"{d}_{m}" for m in _marks(name)) for name, d in zip(merchants, directorates, strict=True)]
    own = name_rows(merchants) if own is None else own
    return own + _hashing(token_pattern=r"\S+").transform(both)


def name_rows(merchants: np.ndarray) -> Any:
    """Sparse rows (merchants, 2**BITS): n-grams of the name and its words."""
    grams = _hashing(analyzer="char_wb", ngram_range=(2, 5)).transform(merchants)
    return grams + _hashing(token_pattern=r"\S+").transform([" ".join(_marks(name)) for name in merchants])


def _marks(name: str) -> list[str]:
    whole = re.sub(r"[^a-z#]", "", re.sub(r"\d+", "#", name))
    return [f"n{whole}", f"f{whole[:6]}", f"g{whole[:10]}", *(f"t{w}" for w in name.split() if len(w) > 1)]


def context_rows(directorates: np.ndarray, size: np.ndarray, pence: np.ndarray, month: np.ndarray) -> Any:
    """Sparse rows (contexts, 2**BITS)."""
    lines = [
        f"d_{d} a_{s // 3} b_{s} w_{w} m_{m} da_{d}_{s // 3} dw_{d}_{w} aw_{s // 3}_{w} dm_{d}_{m}"
        for d, s, w, m in zip(directorates, size, pence, month, strict=True)
    ]
    return _CONTEXT * _hashing(token_pattern=r"\S+").transform(lines)


def size_class(amount: np.ndarray) -> np.ndarray:
    """0 for refunds, else 1 + thirds of doublings of the amount."""
    thirds = np.round(3 * np.log2(1 + np.maximum(amount, 0.0))).astype(np.int64)
    return np.where(amount < 0, 0, np.minimum(1 + thirds, SIZES - 1))


def pence_class(amount: np.ndarray) -> np.ndarray:
    c = hundredths(amount) % 100
    return np.select([c == 0, c == 99, c % 50 == 0, c % 10 == 0, c % 5 == 0], [0, 1, 2, 3, 4], 5)


def hundredths(amount: np.ndarray) -> np.ndarray:
    return np.round(np.abs(np.clip(amount, -1e15, 1e15)) * 100).astype(np.int64)


def plain(directorate: str) -> str:
    return re.sub(r"\W", "", directorate).lower()


def tokens(table: Any) -> Any:
    """Sparse rows (transactions, 2**BITS): the two parts of each, added."""
    merchant = table.merchant.fillna("").astype(str).str.lower().to_numpy(str)
    directorate = np.array([plain(d) for d in table.directorate.fillna("").astype(str)], str)
    amount = table.amount.to_numpy(float)
    parts = []
    for columns, build in (
        ((merchant, directorate), merchant_rows),
        ((directorate, size_class(amount), pence_class(amount), table.date.dt.month.to_numpy()), context_rows),
    ):
        key, place = np.unique(np.rec.fromarrays(columns), return_inverse=True)
        parts.append(build(*(key[n] for n in key.dtype.names or ()))[place])
    return (parts[0] + parts[1]).tocsr()


def categories(table: Any) -> list[str]:
    """The most frequent categories, and Other last."""
    return [*table.category.value_counts().index[:TOP], OTHER]


def labels(table: Any, names: list[str]) -> np.ndarray:
    place = {n: k for k, n in enumerate(names)}
    return table.category.map(lambda c: place.get(c, len(names) - 1)).to_numpy(int)


def _hashing(**options: Any) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=2**BITS, alternate_sign=False, norm="l2", dtype=np.float32, lowercase=False, **options
    )
