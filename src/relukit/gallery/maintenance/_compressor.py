"""MetroPT-3: the air compressor of a metro train, motor current and oil temperature among its signals, four reported failures.

A ReLU autoencoder learns the first weeks, when nothing was reported. Windows of ten minutes that it cannot rebuild score
high; a warning comes where the score, smoothed over three hours, stays above what healthy weeks (the first, and the two
before the present one) have shown. Nothing is fitted to a failure.

Data: Veloso, Gama, Ribeiro, Pereira, 2022, UCI 791, CC BY 4.0 (218 MB; it is downloaded on demand and not shipped).
"""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery._life import seeded, train_module
from relukit.gallery.maintenance import _files

Array = np.ndarray
URL = "https://archive.ics.uci.edu/static/public/791/metropt+3+dataset.zip"
ANALOG = ["TP2", "TP3", "H1", "DV_pressure", "Reservoirs", "Oil_temperature", "Motor_current"]
DIGITAL = ["COMP", "DV_eletric", "Towers", "MPG", "LPS", "Pressure_switch", "Oil_level", "Caudal_impulses"]
# Air leaks as the operator reported them (Davari et al., 2021, table 2): start and end.
FAILURES = (
    ("2020-04-18 00:00", "2020-04-18 23:59"), ("2020-05-29 23:30", "2020-05-30 06:00"),
    ("2020-06-05 10:00", "2020-06-07 14:30"), ("2020-07-15 14:30", "2020-07-15 19:00"),
)  # fmt: skip
WINDOW, SMOOTH, LEARN, MEMORY = 10, 18, 21, 14  # minutes; windows; days; days
AHEAD, MARGIN, PERSIST, JOIN = 48, 1.3, 6, 24  # hours a warning may come before its failure; share; windows; hours


def download(folder: Path) -> Path:
    """The CSV, fetched from UCI into a folder (its checksum is not known to us and printed by pooch)."""
    import pooch

    got = pooch.retrieve(URL, known_hash=None, fname="metropt3.zip", path=folder, processor=pooch.Unzip())
    found = [Path(g) for g in got if g.lower().endswith(".csv")]
    if not found:
        raise UnreadableFile(f"{URL} holds no CSV; put 'MetroPT3(AirCompressor).csv' into {folder} by hand")
    return found[0]


def read(path: Path) -> Any:
    """Rows by time, numbers checked."""
    import pandas as pd

    table = _files.frame(path, [*ANALOG, *DIGITAL], ["timestamp"])[["timestamp", *ANALOG, *DIGITAL]]
    times = pd.to_datetime(table.pop("timestamp"), errors="coerce")
    if times.isna().any():
        raise UnreadableFile(f"{path}: row {int(np.argmax(times.isna())) + 2} has a timestamp that is no date")
    try:
        table = table.astype(float)
    except ValueError as error:
        raise UnreadableFile(f"{path}: {error}") from None
    table.index = pd.DatetimeIndex(times)
    return table.sort_index()


def windows(table: Any) -> Any:
    """Ten-minute features: means and spreads of the analog signals, shares and switchings of the digital ones."""
    import pandas as pd

    groups = table.groupby(table.index.floor(f"{WINDOW}min"))
    size = groups.size()
    mean = groups[ANALOG].mean().add_prefix("mean of ")
    spread = groups[ANALOG].std(ddof=0).add_prefix("spread of ")
    share = groups[DIGITAL].mean().add_prefix("share of ")
    switched = table[DIGITAL].diff().abs().groupby(table.index.floor(f"{WINDOW}min")).mean().add_prefix("switching of ")
    return pd.concat([mean, spread, share, switched], axis=1)[size >= 5].fillna(0.0)


def fit(X: Array, seed: int = 0, epochs: int = 40) -> Any:
    """An autoencoder n-24-6-24-n with ReLUs on standardized features, as `Network`."""
    import torch
    from torch import nn

    import relukit

    n = X.shape[1]
    with seeded(seed):
        module = nn.Sequential(
            nn.Linear(n, 24), nn.ReLU(), nn.Linear(24, 6), nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, n)
        )
        A = torch.tensor(X, dtype=torch.float32)
        loss = lambda r: nn.functional.smooth_l1_loss(module(A[r]), A[r])
        train_module(module, loss, len(A), epochs=epochs, learning_rate=5e-3, weight_decay=1e-3, batch=64, seed=seed)
    return relukit.load(module, input_shape=(n,))


def scores(features: Any) -> tuple[Array, Array, Array]:
    """Smoothed misfit of each window, its limit there, and the misfit by feature (windows, features)."""
    days = np.asarray((features.index - features.index[0]).total_seconds()) / 86_400
    first = days < LEARN
    if first.sum() < 200 or days[-1] < LEARN + 1:
        raise InvalidInput(
            f"the rows span {days[-1]:.1f} days; {LEARN} days to learn from and more to watch are needed"
        )
    raw = features.to_numpy(float)
    center, spread = np.median(raw[first], 0), raw[first].std(0) + 1e-3 * (np.abs(raw[first]).max(0) + 1e-9)
    X = np.clip((raw - center) / spread, -8, 8)
    misfit = np.abs(X - fit(X[first])(X))
    smooth = _ewma(np.sort(misfit, axis=1)[:, -8:].mean(1), 2 / (SMOOTH + 1))
    limit, healthy = np.full(len(X), np.inf), []
    base = MARGIN * float(smooth[first].max())
    above = np.zeros(len(X), bool)
    for k in np.flatnonzero(~first):
        recent = smooth[max(0, k - MEMORY * 144 - 144) : max(1, k - 144)]  # a day old at least
        healthy = recent[~above[max(0, k - MEMORY * 144 - 144) : max(1, k - 144)]]
        limit[k] = max(base, MARGIN * float(np.quantile(healthy, 0.99))) if len(healthy) > 200 else base
        above[k] = smooth[k] > limit[k]
    return smooth, limit, misfit


def _ewma(x: Array, rate: float) -> Array:
    from scipy.signal import lfilter

    return lfilter([rate], [1, rate - 1], x, zi=[(1 - rate) * x[0]])[0]


def alarms(times: Any, smooth: Array, limit: Array) -> list[int]:
    """Windows at which a warning starts: an hour above the limit; warnings within a day of the last one are the same one."""
    above, out, last = smooth > limit, [], None
    for k in range(PERSIST - 1, len(smooth)):
        if above[k - PERSIST + 1 : k + 1].all():
            if last is None or (times[k] - times[last]).total_seconds() > JOIN * 3600:
                out.append(k)
            last = k
    return out


def score(path: Path, failures: tuple[tuple[str, str], ...] = FAILURES) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Failures warned two hours ahead, false alarms a month and lead times; beside it a plain limit on oil temperature."""
    features = windows(read(path))
    smooth, limit, misfit = scores(features)
    oil = features["mean of Oil_temperature"].to_numpy()
    first = np.isfinite(limit)
    plain = _ewma(oil, 2 / (SMOOTH + 1))
    rule = np.where(first, plain[~first].max() + 2.0, np.inf)
    ours, told = _judged(features.index, alarms(features.index, smooth, limit), failures, first)
    for row in told:
        row["reason"] = [str(features.columns[j]) for j in np.argsort(-misfit[row.pop("window")])[:3]]
    base, _ = _judged(features.index, alarms(features.index, plain, rule), failures, first)
    return ours | {"warnings": told}, {"oil_temperature_limit": base}, len(features)


def _judged(
    times: Any, starts: list[int], failures: Any, watched: Array
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import pandas as pd

    begun = times[watched][0]
    spans = [(pd.Timestamp(a), pd.Timestamp(b)) for a, b in failures]
    spans = [s for s in spans if begun <= s[0] <= times[-1]]
    leads, false, told = [0.0] * len(spans), 0, []
    for k in starts:
        hit = [i for i, (a, b) in enumerate(spans) if a - pd.Timedelta(hours=AHEAD) <= times[k] <= b]
        for i in hit:
            leads[i] = max(leads[i], (spans[i][0] - times[k]).total_seconds() / 3600)
        false += not hit
        told.append({"time": str(times[k]), "window": k, "before_failure": hit[0] + 1 if hit else None})
    months = max((times[-1] - begun).total_seconds() / 86_400 / 30.4, 1e-9)
    return {
        "failures": len(spans), "failures_warned_2h_ahead": int(sum(h >= 2 for h in leads)), "lead_hours": leads,
        "false_alarms_per_month": false / months, "months_watched": months,
    }, told  # fmt: skip
