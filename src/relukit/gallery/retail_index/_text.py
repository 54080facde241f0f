"""Transactions as hashed tokens: character n-grams of the merchant, the directorate, the month, the size of the amount."""

from pathlib import Path
from typing import Any

import numpy as np

BITS, TOP, OTHER = 17, 25, "Other"


def read(path: Path) -> Any:
    """A table with date, amount, merchant, directorate and category; the accounting codes are dropped here."""
    import pandas as pd

    table = pd.read_csv(path, usecols=["date", "amount", "merchant", "directorate", "category"], parse_dates=["date"])
    return table[table.amount.notna() & table.category.notna()].reset_index(drop=True)


def tokens(table: Any) -> Any:
    """Sparse rows (transactions, 2**BITS), each of length 1."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    merchant = table.merchant.fillna("").astype(str)
    grams = HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), n_features=2**BITS, alternate_sign=False, norm="l2", dtype=np.float32
    ).transform(merchant)
    amount = table.amount.to_numpy(float)
    size = np.where(amount < 0, -1, np.log2(1 + np.abs(amount)).round()).astype(int)
    whole = (np.abs(amount) * 100).round().astype(np.int64) % 100 == 0
    words = [
        f"d{d} a{s} w{int(w)} m{m} {' '.join('t' + t for t in str(name).split())}".lower()
        for d, s, w, m, name in zip(
            table.directorate.fillna("").str.replace(r"\W", "", regex=True), size, whole, table.date.dt.month, merchant
        )
    ]
    rest = HashingVectorizer(
        token_pattern=r"\S+", n_features=2**BITS, alternate_sign=False, norm="l2", dtype=np.float32
    ).transform(words)
    return hstack([grams, rest], format="csr")


def categories(table: Any) -> list[str]:
    """The most frequent categories, and Other last."""
    return [*table.category.value_counts().index[:TOP], OTHER]


def labels(table: Any, names: list[str]) -> np.ndarray:
    place = {n: k for k, n in enumerate(names)}
    return table.category.map(lambda c: place.get(c, len(names) - 1)).to_numpy(int)
