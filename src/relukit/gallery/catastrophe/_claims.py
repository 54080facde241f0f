"""FEMA's flood claims as arrays: unit of the water depth, inputs, target, and Hazus curves beside them."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit.gallery._tables import read_csv, with_numbers

CLAIMS, STORMS, HAZUS = (
    "nfip_claims_sample_dev.csv.gz",
    "us_hurricanes_named_to_1999.csv",
    "hazus_flBldgStructDmgFn.csv",
)
LARGEST_VALUE = 2e6
# Insured values in the claims of 1990 to 2021 grew by 3.7 % a year; all money is divided by it, so that later years are not new
# ground for the network.
VALUES_GROW = 0.037
DEPTH_BELOW, DEPTH_ABOVE = 5.0, 20.0  # feet around the first floor that the depth input spans
MONOTONE = 2  # the first inputs: depth above -5 feet, ln(value)


def feet(raw: np.ndarray, year: np.ndarray) -> np.ndarray:
    """Depth in feet from a column that mixes whole feet with inches; NaN where it is missing.

    More than ten feet inside a house is rarer than an entry in inches: shares above ten are 1-4 % before 2000 and
    since 2017, and a fifth in between, where medians are thirty times those of the years around them.
    Negative depths (water below the floor) follow the same rule. Years after 2016 are judged by their own shares where 30 readings show them.
    """
    limit = np.where((year >= 2003) & (year <= 2016), 9.0, 14.0)
    for later in np.unique(year[year > 2016]):
        own = year == later
        wet = raw[own & (raw > 0)]
        if len(wet) >= 30 and np.median(wet) > 10:  # a column of inches alone
            limit[own] = 0.0
        elif len(wet) >= 30 and np.mean(wet > 10) > 0.12:  # mixed again
            limit[own] = 9.0
    return np.where(np.abs(raw) > limit, raw / 12.0, raw)


NEEDED = ("yearOfLoss", "dateOfLoss", "waterDepth", "occupancyType", "buildingPropertyValue", "buildingDamageAmount")
_NUMBERS = [c for c in NEEDED if c != "dateOfLoss"]
HELPFUL = (
    "state", "countyCode", "reportedZipCode", "latitude", "longitude", "causeOfDamage", "ratedFloodZone", "floodEvent",
    "basementEnclosureCrawlspaceType", "elevatedBuildingIndicator", "numberOfFloorsInTheInsuredBuilding", "originalConstructionDate",
    "postFIRMConstructionIndicator", "primaryResidenceIndicator", "obstructionType", "locationOfContents",
    "totalBuildingInsuranceCoverage", "totalContentsInsuranceCoverage", "buildingReplacementCost", "contentsPropertyValue",
)  # fmt: skip
TEXT = ("state", "floodEvent", "ratedFloodZone", "causeOfDamage")


def read(path: Path) -> Any:
    """The scored rows of a claims file: single-family, value up to 2 M$, damage and value known.

    Raises:
        UnreadableFile: A column of `NEEDED` is missing or holds text, or no row is left. What is `HELPFUL` may be missing.
    """
    import pandas as pd

    table = with_numbers(read_csv(path, NEEDED, low_memory=False), _NUMBERS, path)
    date = pd.to_datetime(table.dateOfLoss, errors="coerce")
    table = table.assign(dateOfLoss=date, yearOfLoss=table.yearOfLoss.fillna(date.dt.year))[date.notna()]
    table = table.assign(**{c: np.nan for c in HELPFUL if c not in table.columns})
    table = table.astype(dict.fromkeys(TEXT, object))  # a text column that is empty throughout is read as numbers
    value, damage = table.buildingPropertyValue, table.buildingDamageAmount
    keep = table.occupancyType.isin([1, 11]) & (value > 0) & (value <= LARGEST_VALUE) & damage.notna()
    if not keep.any():
        raise UnreadableFile(
            f"{path}: none of {len(table)} rows is a single-family house of known damage worth 1 to {LARGEST_VALUE:,.0f} $"
        )
    return table[keep].reset_index(drop=True)


def target(table: Any) -> np.ndarray:
    return (table.buildingDamageAmount / table.buildingPropertyValue).clip(0, 1).to_numpy(float)


AROUND = ("event", "county", "zip", "date", "value")


def around(table: Any) -> Any:
    """Which event and place a claim belongs to, and what tells it from others. No damage."""
    import pandas as pd

    date = pd.to_datetime(table.dateOfLoss)
    named = table.floodEvent.fillna("").astype(str)
    month = table.state.fillna("").astype(str) + date.dt.strftime("|%Y-%m")
    event = named.where(named == "", named + "|" + table.yearOfLoss.astype(int).astype(str)).where(named != "", month)
    place = lambda name: event + "|" + table[name].astype(str).str.removesuffix(".0")
    columns = (
        event,
        place("countyCode"),
        place("reportedZipCode"),
        date.dt.strftime("%Y-%m-%d"),
        table.buildingPropertyValue,
    )
    return pd.DataFrame(dict(zip(AROUND, columns, strict=True))).reset_index(drop=True)


def crowd(own: Any, others: Any = None) -> np.ndarray:
    """(rows, 3): ln of the number of claims of the event, in the county and in the zip code: large events are severe ones.

    `others` are claims known besides `own`; those that are among `own` again count once.
    """
    import pandas as pd

    count = len(own)
    if others is not None:
        mine = pd.MultiIndex.from_frame(own.astype(str))
        own = pd.concat([own, others[~pd.MultiIndex.from_frame(others.astype(str)).isin(mine)]], ignore_index=True)
    sizes = [np.log(own.groupby(place).event.transform("size")) for place in ("event", "county", "zip")]
    return np.stack([np.asarray(c, float) for c in sizes], 1)[:count]


def inputs(table: Any, others: Any = None) -> np.ndarray:
    """(rows, inputs) float: what loss may only rise with first (`MONOTONE`), then what the network is free to use as it likes.

    Arguments:
        others: Claims around those of `table`, as `around` gives them, so that an event has its size.
    """
    import pandas as pd

    year = table.yearOfLoss.to_numpy(float)
    raw = table.waterDepth.to_numpy(float)
    depth = feet(raw, year)
    clear = np.clip(np.nan_to_num(depth), -DEPTH_BELOW, DEPTH_ABOVE) + DEPTH_BELOW
    growth = VALUES_GROW * (year - 2000)
    value = logarithm(table.buildingPropertyValue.to_numpy(float), year)
    date = pd.to_datetime(table.dateOfLoss)
    built = pd.to_datetime(table.originalConstructionDate, errors="coerce").dt.year.to_numpy(float)
    number = lambda name: pd.to_numeric(table[name], errors="coerce").to_numpy(float)
    log = lambda x: np.where(x > 1, np.log(np.maximum(np.nan_to_num(x), 1)) - growth, 0.0)
    flag = lambda x: np.asarray(x, float)
    coverage, contents = number("totalBuildingInsuranceCoverage"), number("totalContentsInsuranceCoverage")
    zone, cause = (
        table.ratedFloodZone.fillna("").astype(str),
        table.causeOfDamage.fillna("").astype(str).str.removesuffix(".0"),
    )
    basement, place = number("basementEnclosureCrawlspaceType"), number("locationOfContents")
    cost = number("buildingReplacementCost")
    # how much of the house is insured: of its replacement cost, since a share of the value would move with the value
    both = (coverage > 0) & (cost > 0)
    insured = np.where(both, np.log(np.where(both, coverage, 1) / np.where(both, cost, 1)), 0.0).clip(-2, 2)
    near, named = crowd(around(table), others) / 3, table.floodEvent.fillna("").astype(str)
    columns = [
        clear, value, *near.T, named.str.contains("Hurricane"), named.str.contains("Tropical"), named == "",
        np.isnan(raw), np.sin(date.dt.month * np.pi / 6), np.cos(date.dt.month * np.pi / 6),
        np.nan_to_num((built - 1970) / 30).clip(-2, 2), np.isnan(built),
        log(coverage) - 11, ~(coverage > 0), log(contents) / 3, ~(contents > 0), insured, number("obstructionType") == 10,
        log(cost) / 3, cost > 0, log(number("contentsPropertyValue")) / 3, np.isnan(number("contentsPropertyValue")),
        np.nan_to_num((number("latitude") - 33) / 6).clip(-3, 3), np.nan_to_num((number("longitude") + 86) / 12).clip(-3, 3),
        number("numberOfFloorsInTheInsuredBuilding") == 1, number("numberOfFloorsInTheInsuredBuilding") >= 3,
        *[table[c].map(_true) for c in ("elevatedBuildingIndicator", "postFIRMConstructionIndicator", "primaryResidenceIndicator")],
        number("occupancyType") == 11, zone.str.startswith("V"), zone.str.startswith("A"), zone.str.match("[XBC]"),
        *[basement == k for k in (0, 1, 2, 3, 4)], *[place == k for k in (1, 2, 3, 4, 5, 6, 7)],
        *[cause == k for k in ("0", "1", "2", "3", "4", "B", "D")],
    ]  # fmt: skip
    return np.stack([np.nan_to_num(flag(c)) for c in columns], 1)


def logarithm(value: np.ndarray, year: np.ndarray | float) -> np.ndarray:
    """ln of a value above 1,000 in money of the claims of 2000: what a network of today's and former claims compares."""
    return (
        np.log(np.asarray(value, float).clip(1e3)) - np.log(1e3) - VALUES_GROW * (np.asarray(year, float) - 2000) + 1.5
    )


def _true(flag: Any) -> bool:
    return flag is True or str(flag).strip().lower() in ("true", "1", "1.0", "yes")


def hazus_ratio(curves: Any, table: Any) -> np.ndarray:
    """FEMA's depth-damage curves (RES1, A-zone) read at the same depth in feet; missing depth counts as zero."""
    depth = np.nan_to_num(feet(table.waterDepth.to_numpy(float), table.yearOfLoss.to_numpy(float)))
    names = ["m4", "m3", "m2", "m1", *[f"p{k}" for k in range(25)]]
    by_key = {row.Description: row[names].to_numpy(float) / 100 for _, row in curves.iterrows()}
    one = table.numberOfFloorsInTheInsuredBuilding.fillna(1).to_numpy(float) <= 1
    below = np.isin(table.basementEnclosureCrawlspaceType.fillna(0).to_numpy(float), [1, 2])
    pick = lambda *words: next(v for k, v in by_key.items() if all(w in k for w in words))
    kinds = {
        (a, b): pick("one floor" if a else "two floors", "w/ basement" if b else "no basement", "Structure, A-Zone")
        for a in (True, False)
        for b in (True, False)
    }
    grid = np.arange(-4, 25)
    result = np.zeros(len(table))
    for (a, b), curve in kinds.items():
        rows = (one == a) & (below == b)
        result[rows] = np.interp(depth[rows], grid, curve)
    return result
