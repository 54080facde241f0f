"""A ReLU vulnerability inside CLIMADA: its impact function, expected annual loss, exceedance curve, map.

CLIMADA joins the entries of an impact function by straight lines. A ReLU network of one input is such lines too: read exactly at its own
breakpoints, it and its impact function agree at every intensity, not only at those of a grid.

References:
    CLIMADA v1: a global weather and climate risk assessment platform, Aznar-Siguan and Bresch, 2019.
"""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, MissingExtra
from relukit.gallery.catastrophe.portfolio import wind_ratio

_FASTEST = 120.0  # m/s, above every hurricane measured
_STEP = 1.0  # m/s between the entries of the table that the wind network equals


def wind_network(material: str = "wood") -> Any:
    """A ReLU network that equals the wind curve of `material` at every meter per second, up to 120 m/s, and is straight between."""
    import relukit

    speed = np.arange(0.0, _FASTEST + _STEP / 2, _STEP)
    return relukit.build((speed, wind_ratio(speed, material)), dtype=np.float64).network


def impact_function(
    network: Any, low: float, high: float, *, hazard: str = "TC", number: int = 1, unit: str = "m/s", name: str = "ReLU"
) -> Any:
    """CLIMADA's `ImpactFunc` that equals a network of one input on [low, high].

    Raises:
        InvalidInput: The network has more than one input, or leaves [0, 1], where a share of a value must stay.
        MissingExtra: CLIMADA is not installed.
    """
    import relukit

    if network.inputs != 1:
        raise InvalidInput(f"an impact function takes one intensity; the network takes {network.inputs} inputs")
    cut = relukit.breakpoints(network, np.array([low]), np.array([high]))
    intensity = low + (high - low) * np.unique(np.concatenate([[0.0], np.asarray(cut.t, float), [1.0]]))
    share = network(intensity[:, None])[:, 0]
    if share.min() < -1e-9 or share.max() > 1 + 1e-9:
        raise InvalidInput(
            f"the network's loss runs from {share.min():.3g} to {share.max():.3g}; a share of the value lies in [0, 1]"
        )
    ImpactFunc = _climada("entity").ImpactFunc
    return ImpactFunc(
        haz_type=hazard, id=number, intensity=intensity, mdd=share.clip(0, 1), paa=np.ones_like(share),
        intensity_unit=unit, name=name,
    )  # fmt: skip


def impact(hazard: Any, exposures: Any, function: Any) -> Any:
    """CLIMADA's `Impact` of a hazard on exposures, all of which this function describes."""
    entity, engine = _climada("entity"), _climada("engine")
    mine = exposures.copy(deep=True)
    mine.gdf[f"impf_{function.haz_type}"] = function.id
    return engine.ImpactCalc(mine, entity.ImpactFuncSet([function]), hazard).impact(save_mat=False)


def compare(hazard: Any, exposures: Any, functions: dict[str, Any], path: str | Path | None = None) -> dict[str, Any]:
    """Expected annual loss and exceedance curve of each function on the same hazard and exposures; drawn with a map at `path`.

    Returns:
        By name: `annual` (expected loss per year), `years` and `loss` (return period and loss of the exceedance curve).
    """
    results = {name: impact(hazard, exposures, f) for name, f in functions.items()}
    answer = {}
    for name, found in results.items():
        curve = found.calc_freq_curve()
        answer[name] = {
            "annual": float(found.aai_agg),
            "years": np.asarray(curve.return_per),
            "loss": np.asarray(curve.impact),
        }
    if path is not None:
        _draw(answer, results, exposures, Path(path))
    return answer


def _draw(answer: dict[str, Any], results: dict[str, Any], exposures: Any, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, (name, curve) in enumerate(answer.items()):
        left.plot(
            curve["years"],
            curve["loss"] / 1e9,
            "-" if k == 0 else "--",
            label=f"{name}: {curve['annual'] / 1e9:.2f} a year",
            lw=2,
        )
    left.set(xscale="log", xlabel="return period, years", ylabel="loss, billion")
    left.legend(frameon=False, fontsize=8)
    first = next(iter(results.values()))
    latitude, longitude = np.asarray(exposures.latitude), np.asarray(exposures.longitude)
    dots = right.scatter(
        longitude, latitude, c=np.log10(np.maximum(first.eai_exp, 1.0)), s=14, marker="s", cmap="YlOrRd"
    )
    right.set(
        aspect=1 / np.cos(np.radians(latitude.mean())),
        xlabel="longitude",
        ylabel="latitude",
        title="expected loss a year",
    )
    right.locator_params(axis="x", nbins=4)
    figure.colorbar(dots, ax=right, label="log10 of loss")
    figure.savefig(path, dpi=140)


def demo(path: str | Path | None = None) -> dict[str, Any]:
    """Florida's hurricanes and exposures that come with CLIMADA: the ReLU curve beside CLIMADA's own (Emanuel, United States)."""
    constants, entity = _climada("util.constants"), _climada("entity")
    hazard = _climada("hazard").Hazard.from_hdf5(constants.HAZ_DEMO_H5)
    exposures = entity.Exposures.from_hdf5(constants.EXP_DEMO_H5)
    # its default grid of 5 m/s is straight over the bend and costs 5 % more a year; the same curve on our grid
    theirs = entity.ImpfTropCyclone.from_emanuel_usa(intensity=np.arange(0.0, _FASTEST + _STEP / 2, _STEP))
    ours = {m: impact_function(wind_network(m), 0.0, _FASTEST, name=m) for m in ("wood", "masonry")}
    return compare(
        hazard, exposures, {"ReLU, wood": ours["wood"], "CLIMADA": theirs, "ReLU, masonry": ours["masonry"]}, path
    )


def _climada(part: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"climada.{part}")
    except ImportError as error:
        raise MissingExtra(
            f"CLIMADA is needed for this and did not import ({error}). It needs the system's GDAL: install libgdal-dev, then "
            "`pip install gdal==$(gdal-config --version) climada`"
        ) from None
