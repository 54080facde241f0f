"""From monthly spending by category to an index: consumer categories, chain links, seasonal adjustment, bands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile

BASE, _SEASONS = 100.0, 35
_FEW = 0.25  # a month with less than this share of the usual number of payments is taken as not delivered
# Accounting categories of the card file, and ranges of merchant category codes (ISO 18245), to what consumers buy.
DEFAULT_MAP: dict[str, str] = {
    "Purchases Food": "groceries", "Catering Provisions": "groceries", "Hospitality": "restaurants",
    "Vehicle Fuel": "fuel", "Vehicle OthrunCosts": "transport", "Vehicle Excise Lics": "transport",
    "Travel Bus/Rail": "travel", "Travel Foreign": "travel", "Conference Fees Subs UK": "education",
    "Training Other": "education", "Books": "books and media", "Stationery": "household goods",
    "Equip Operational": "household goods", "Equip Other": "household goods", "Other Fix&Fittings": "household goods",
    "Computing Other": "electronics", "Phon NonCentrx Lines": "communication", "Postage": "communication",
    "Clothing&Uniforms": "clothing", "Personal Needs": "personal care", "Visits Expenditure": "entertainment",
    "Bldg RM Departmental": "building materials", "Mat'l Raw/Drct": "building materials",
    "742": "entertainment", "3000-3350": "travel", "3351-3500": "travel", "3501-3999": "travel", "4111-4131": "travel",
    "4411-4722": "travel", "4784": "transport", "4812-4816": "communication", "5039-5261": "building materials", "5300-5331": "general merchandise",
    "5411-5499": "groceries", "5511-5533": "transport", "5541-5542": "fuel", "5611-5699": "clothing", "5712-5722": "household goods",
    "5732-5735": "electronics", "5811-5814": "restaurants", "5912": "personal care", "5942": "books and media", "5943": "household goods",
    "7011": "travel", "7230-7298": "personal care", "7512-7549": "transport", "7832-7999": "entertainment", "8211-8299": "education",
}  # fmt: skip
REST = "other"


def read_map(path: Path | None) -> dict[str, str]:
    """Code (or range of codes, `5411-5499`) to consumer category: the default, or a CSV with `code` and `category`.

    Raises:
        UnreadableFile: The file lacks one of the two columns, or gives one code twice.
    """
    if path is None:
        return DEFAULT_MAP
    import pandas as pd

    table = pd.read_csv(path, dtype=str).rename(columns=str.strip)
    if not {"code", "category"} <= set(table.columns):
        raise UnreadableFile(f"{path} has columns {', '.join(table.columns)}; expected 'code' and 'category'")
    table = table.dropna(subset=["code", "category"])
    twice = table.code[table.code.duplicated()]
    if len(twice):
        raise UnreadableFile(f"{path} gives code '{twice.iloc[0]}' twice; each code belongs to one category")
    return dict(zip(table.code.str.strip(), table.category.str.strip(), strict=True))


def consumer_category(code: str, chosen: Mapping[str, str]) -> str:
    """The consumer category of an accounting category or merchant code; `other` where the map has none."""
    code = code.strip()
    if code in chosen:
        return chosen[code]
    if code.isdigit():
        for key, value in chosen.items():
            low, dash, high = key.partition("-")
            if dash and low.isdigit() and high.isdigit() and int(low) <= int(code) <= int(high):
                return value
    return REST


def chain_index(values: Any, prices: Any = None) -> Any:
    r"""Volume index at the prices of the year before, years linked at their overlap.

    Within year y, :math:`Q_t = \sum_c V_{ct}\,\bar p_{c,y-1} / p_{ct}` is spending at last year's prices; its ratio to last year's
    mean spending continues that year's mean index. Without prices this is an index of spending. The first year is linked to itself.
    The mean of the first year is 100. A month without data is a row of NaN, and has no index.

    Arguments:
        values: Spending, a table (months, categories) indexed by consecutive monthly periods.
        prices: Price index of each category in the same months, or None.

    References:
        Handbook on quarterly national accounts, Eurostat, 2013, chapter 6 (annual overlap).
    """
    import pandas as pd

    whole = pd.period_range(values.index.min(), values.index.max(), freq="M")
    if len(whole) != len(values):
        raise InvalidInput(
            f"spending lacks month {whole.difference(values.index)[0]}; give it as a row of NaN if unknown"
        )
    values = values.clip(lower=0)
    p = (
        pd.DataFrame(1.0, values.index, values.columns)
        if prices is None
        else prices.reindex(values.index)[values.columns]
    )
    if p.isna().any().any() or (p <= 0).any().any():
        raise InvalidInput("expected a positive price index for every month and category")
    result, mean_index = pd.Series(0.0, values.index), BASE
    years = sorted(set(values.index.year))
    for y in years:
        now = values.index.year == y
        back = values.index.year == (y - 1 if y > years[0] else y)
        at_old_prices = (values[now] * p[back].mean() / p[now]).sum(axis=1, skipna=False)
        # last year's spending, at last year's mean prices, so that a link compares volumes alone
        old = (values[back] * p[back].mean() / p[back]).sum(axis=1, skipna=False).mean()
        if not old > 0:
            raise InvalidInput(f"no spending in the year before {y}: nothing to link to")
        result[now] = mean_index * at_old_prices / old
        if not result[now].isna().all():
            mean_index = float(result[now].mean())
    return result


def seasonally_adjusted(index: Any) -> Any:
    """Without the part that returns each year: working days by regression, then robust STL of the logarithm.

    Months without a value are bridged by a line for the decomposition and stay without one. Shorter series than two years come back
    as they are.

    References:
        STL, Cleveland et al., 1990.
    """
    import pandas as pd
    from statsmodels.tsa.seasonal import STL

    known = (index > 0).to_numpy()
    if len(index) < 25 or known.sum() < 20:
        return index.copy()
    y = pd.Series(np.log(index.where(index > 0).to_numpy(float))).interpolate(limit_direction="both").to_numpy()
    # a long window over the same month of each year: few years are no ground for a season that changes
    split = lambda v: STL(v, period=12, seasonal=_SEASONS, robust=len(index) >= 72).fit()
    x = working_days(index.index)
    x = np.where(known, x - x[known].mean(), 0.0)
    irregular = split(y).resid
    slope = float(x @ irregular / (x @ x))
    error = float(np.sqrt(np.mean((irregular - slope * x)[known] ** 2) / (x @ x)))
    if abs(slope) > 2 * error:  # as X-13 does: a calendar effect stays only where it is significant
        y = y - slope * x
    return pd.Series(np.where(known, np.exp(y - split(y).seasonal), np.nan), index.index)


def working_days(months: Any) -> np.ndarray:
    """Weekdays less 2.5 times weekend days, the contrast that seasonal adjustment uses for trading days."""
    start = months.to_timestamp().to_numpy("datetime64[D]")
    end = (months + 1).to_timestamp().to_numpy("datetime64[D]")
    weekdays = np.busday_count(start, end)
    return weekdays - 2.5 * ((end - start).astype(int) - weekdays)


def covered(months: Any, first: Any, last: Any) -> np.ndarray:
    """Share of each month's weekdays between the first and the last day seen; a month still running is scaled up by it."""
    start = months.to_timestamp().to_numpy("datetime64[D]")
    end = (months + 1).to_timestamp().to_numpy("datetime64[D]")
    low, high = np.datetime64(first, "D"), np.datetime64(last, "D") + 1
    inside = np.busday_count(np.maximum(start, low), np.maximum(np.minimum(end, high), np.maximum(start, low)))
    return np.maximum(inside, 1) / np.busday_count(start, end)


def index_table(daily: Any, chosen: Mapping[str, str], prices: Any = None, draws: int = 200, seed: int = 0) -> Any:
    """Index, adjusted index and its 90 % band by month, with spending by consumer category.

    The band holds what sorting leaves open (variance of the categories' probabilities) and what another draw of as many payments would
    change (variance of a sum of independent payments); both grow as squares of amounts.

    The first and the last month may be running still: their spending is scaled to whole months (`covered`), and their band with it. A month with far fewer payments than usual was not delivered: it has no index.

    Arguments:
        daily: `date`, `category`, `spent`, `variance`, `payments`: sums by day.
        chosen: Map to consumer categories.
        prices: Price index by month and consumer category.
    """
    import pandas as pd

    table = daily.assign(
        month=pd.PeriodIndex(pd.to_datetime(daily.date), freq="M"),
        group=[consumer_category(c, chosen) for c in daily.category],
    )
    wide = lambda column: table.pivot_table(
        index="month", columns="group", values=column, aggfunc="sum", fill_value=0.0
    )
    spent, variance = wide("spent"), wide("variance")
    months = pd.period_range(spent.index.min(), spent.index.max(), freq="M")
    share = covered(months, table.date.min(), table.date.max())
    spent = spent.reindex(months, fill_value=0.0).div(share, axis=0)
    variance = variance.reindex(months, fill_value=0.0).div(share**2, axis=0)
    payments = table.groupby("month").payments.sum().reindex(months, fill_value=0.0) / share
    absent = (payments < _FEW * payments.median()).to_numpy()
    spent[absent] = np.nan
    if absent.all():
        raise InvalidInput("no month with payments")
    months = months[(~absent).argmax() :]
    spent, variance, share, payments = spent.loc[months], variance.loc[months], share[-len(months) :], payments[months]
    plain = chain_index(spent, prices)
    adjusted = seasonally_adjusted(plain)
    rng = np.random.default_rng(seed)
    error = np.sqrt(variance.to_numpy())
    again = []
    for _ in range(draws):
        noisy = spent + error * rng.standard_normal(error.shape)
        again.append(seasonally_adjusted(chain_index(noisy, prices)).to_numpy())
    low, high = np.full((2, len(months)), np.nan)
    known = adjusted.notna().to_numpy()
    low[known], high[known] = np.nanquantile(np.array(again)[:, known], [0.05, 0.95], axis=0)
    result = pd.DataFrame({"index": plain, "adjusted": adjusted, "low": low, "high": high}, index=months)
    result["covered"] = share
    result["payments"] = payments * share
    return result.join(spent.add_prefix("spent "))
