"""One number for a portfolio and an event: wind and water, building and place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery._study import output_folder
from relukit.gallery.catastrophe import _claims, _model
from relukit.gallery.catastrophe.study import restore

# Speed (m/s) at which half of a building is lost, by material; the curve is that of Emanuel (2011), with no damage
# below 25.7 m/s. 74.7 m/s is his value for the United States; the others scale it by how light or heavy the frame is.
HALF_LOSS = {"wood": 74.7, "manufactured": 60.0, "masonry": 84.7, "concrete": 100.0, "steel": 100.0}
_FREE_OF_DAMAGE = 25.7


def wind_ratio(speed: np.ndarray, material: str = "wood") -> np.ndarray:
    """Share of the value lost to wind at `speed` (m/s).

    References:
        Global warming effects on U.S. hurricane damage, Emanuel, 2011.
    """
    if material not in HALF_LOSS:
        raise InvalidInput(f"material '{material}' is not known; expected one of {', '.join(HALF_LOSS)}")
    v = np.maximum(np.asarray(speed, float) - _FREE_OF_DAMAGE, 0) / (HALF_LOSS[material] - _FREE_OF_DAMAGE)
    return v**3 / (1 + v**3)


def _per_building(name: str, given: Any, count: int) -> np.ndarray:
    values = np.asarray(given, float)
    if values.shape not in ((), (1,), (count,)):
        raise InvalidInput(
            f"event '{name}' has shape {values.shape}; expected one number, or one for each of {count} buildings"
        )
    return np.broadcast_to(values, (count,))


def _folder(out: str | Path | None) -> Path:
    """Of the trained study.

    Raises:
        UnreadableFile: None was trained there.
    """
    within = output_folder("catastrophe", out)
    found = [f for f in (within, Path(out or within)) if (f / "settings.npz").exists()]
    if not found:
        where = "" if out is None else f" --out {out}"
        raise UnreadableFile(f"nothing trained at {within}; run `relukit gallery run catastrophe{where}` first")
    return found[0]


def expected_loss(
    portfolio: Sequence[Mapping[str, Any]], event: Mapping[str, Any], out: str | Path | None = None
) -> dict[str, Any]:
    """Expected loss of every building and of all, in the currency of the values; nothing beyond a building's value.

    Arguments:
        portfolio: Rows with `value`; optionally `latitude`, `longitude`, `floors`, `built` (year), `material`,
            `coverage`, `state`, `county`, `zip`.
        event: `depth` (feet above the first floor) and `wind` (m/s), each a number or one per building; `month`, `name`, and `claims`, the
            number of claims of the event in a sample of one in 87.
        out: Folder of the trained study, or what `relukit gallery run` was given as `--out`; the user's cache by default.

    Returns:
        `total`, and `water`, `wind`, `loss` per building: water's share first, wind on what it leaves.
    """
    import pandas as pd

    count = len(portfolio)
    if count == 0 or any(float(b.get("value", 0)) <= 0 for b in portfolio):
        raise InvalidInput("expected a portfolio of buildings with a positive 'value' each")
    folder = _folder(out)
    spread = lambda key, default: _per_building(key, event.get(key, default), count)
    get = lambda key, default: [b.get(key, default) for b in portfolio]
    value = np.array(get("value", 0), float)
    depth, wind = spread("depth", np.nan), np.nan_to_num(spread("wind", 0.0))
    table = pd.DataFrame({
        "yearOfLoss": 2021, "dateOfLoss": f"2021-{int(event.get('month', 9)):02d}-01", "waterDepth": 0.0,
        "state": get("state", ""), "latitude": get("latitude", np.nan), "longitude": get("longitude", np.nan),
        "buildingPropertyValue": value, "buildingReplacementCost": value,
        "totalBuildingInsuranceCoverage": [b.get("coverage", min(250_000, b["value"])) for b in portfolio],
        "numberOfFloorsInTheInsuredBuilding": get("floors", 1), "occupancyType": 1,
        "originalConstructionDate": [f"{int(b.get('built', 1975))}-07-01" for b in portfolio],
        "elevatedBuildingIndicator": get("elevated", False), "primaryResidenceIndicator": True,
        "postFIRMConstructionIndicator": [int(b.get("built", 1970)) > 1974 for b in portfolio],
        "ratedFloodZone": get("zone", "AE"), "floodEvent": str(event.get("name", "Hurricane")), "countyCode": get("county", ""), "reportedZipCode": get("zip", ""), "causeOfDamage": "1",
        "basementEnclosureCrawlspaceType": 0.0, "locationOfContents": 3.0, "obstructionType": 10.0,
        "totalContentsInsuranceCoverage": 0.0, "contentsPropertyValue": 0.0, "elevationDifference": np.nan,
        "floodWaterDuration": 0.0,
    })  # fmt: skip
    x = _claims.inputs(table)
    # the unit is known here: feet, set past the rule that guesses it
    x[:, 0] = np.clip(np.nan_to_num(depth), -_claims.DEPTH_BELOW, _claims.DEPTH_ABOVE) + _claims.DEPTH_BELOW
    # how large the event is; without a number, as large as that of the typical claim
    claims, typical = event.get("claims"), np.load(folder / "settings.npz")["typical"]
    x[:, 2:5] = typical[2:5] if claims is None else np.log(np.maximum(float(claims) / np.array([1, 10, 50]), 1)) / 3
    water = np.mean([_model.ratio(n, x)[:, 0] for n in restore(folder)], 0) * ~np.isnan(depth)
    blown = np.array([wind_ratio(s, str(b.get("material", "wood"))) for s, b in zip(wind, portfolio, strict=True)])
    loss = value * (water + (1 - water) * blown)
    return {"total": float(loss.sum()), "loss": loss, "water": value * water, "wind": value * (1 - water) * blown}
