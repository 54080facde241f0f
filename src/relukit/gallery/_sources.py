"""Where the studies' data come from: addresses, check sums, licenses, and how the working files are cut from the originals.

A file is fetched by pooch into the user's cache and kept only if the check sum of its text is the one the figures were measured
with. Where the working file is a part of the original (rows are kept back for judging), it is cut here and the part is checked.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import atomic_path

RAW = "https://raw.githubusercontent.com/"
MILL = RAW + "ejhusom/cnc_milling_tool_wear/6ff00d2a745ab1eb9644c294209f231894173687/data/experiment_{:02d}.csv"
RACE = RAW + "linklab-uva/deep-dynamics/88c856539c84fe7004b933d1cf03aad14ab69bd2/deep_dynamics/data/"
HELD = (2, 5, 8)  # tenths of a race log that are kept for judging
# experiment: tool, feed rate, clamp pressure
SETUPS = {
    1: ("unworn", 6, 4.0), 3: ("unworn", 6, 3.0), 4: ("unworn", 6, 2.5), 5: ("unworn", 20, 3.0), 6: ("worn", 6, 4.0),
    7: ("worn", 20, 4.0), 8: ("worn", 20, 4.0), 11: ("unworn", 3, 4.0), 12: ("unworn", 3, 3.0), 13: ("worn", 3, 4.0),
    15: ("worn", 6, 3.0), 16: ("worn", 20, 3.0), 18: ("worn", 3, 2.5),
}  # fmt: skip
LEADS_AWAY = ("ActualPosition", "CommandPosition", "CommandVelocity", "CommandAcceleration", "M1_CURRENT_PROGRAM_NUMBER", "M1_sequence_number")  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A working file of a study.

    Arguments:
        urls: The originals.
        sha256: Of the working file's text, unpacked.
        cut: Makes the table of the working file from the fetched originals; None where it is the original.
    """

    urls: tuple[str, ...]
    sha256: str
    license: str
    cite: str
    cut: Callable[[Sequence[Path]], Any] | None = None


def race(files: Sequence[Path]) -> Any:
    """A log above 3 m/s without the tenths that are kept back."""
    import pandas as pd

    table = pd.read_csv(files[0])
    table = table[table["vx(m/s)"] > 3].reset_index(drop=True)
    table.iloc[:, 1:] = table.iloc[:, 1:].round(8)  # all but the time
    table["segment"] = np.arange(len(table)) * 10 // len(table)
    return table[~table["segment"].isin(HELD)]


def process(files: Sequence[Path]) -> Any:
    """The 7,000 of the 10,000 rows (by UDI) that are not kept back."""
    import pandas as pd

    marks = resources.files("relukit.gallery.maintenance").joinpath("ai4i_rows.txt").read_text().split()
    kept = np.unpackbits(np.frombuffer(bytes.fromhex("".join(marks)), np.uint8)).astype(bool)
    table = pd.read_csv(files[0], encoding="utf-8-sig")
    return table[kept[table["UDI"].to_numpy() - 1]]


def mill(files: Sequence[Path]) -> Any:
    """Thirteen experiments under each other; positions, commands and program counters give the job away and go."""
    import pandas as pd

    parts = []
    for file, (number, (tool, feed, pressure)) in zip(files, SETUPS.items()):
        part = pd.read_csv(file)
        part = part[[c for c in part.columns if not c.endswith(LEADS_AWAY)]]
        parts.append(part.assign(tool_condition=tool, experiment=number, feedrate=feed, clamp_pressure=pressure))
    return pd.concat(parts, ignore_index=True)


SOURCES: dict[str, dict[str, Source]] = {
    "vehicle_dynamics": {
        "LVMS_23_01_04_B_dev.csv.gz": Source(
            (RACE + "LVMS_23_01_04_B.csv",), "1d5c85657fb53aff38bd5099a0f574873277a3df6a4460f7e07587c6ff648aec", "GPL-3.0", "Chrosniak, Ning, Behl, 2024, IEEE RA-L", race
        ),
        "Putnam_park2023_run4_2_dev.csv.gz": Source(
            (RACE + "Putnam_park2023_run4_2.csv",), "505a60a82e9a7cdf0b229cba63df10bae7395ffab17068685ef6ce97eda2be12", "GPL-3.0", "Chrosniak, Ning, Behl, 2024, IEEE RA-L", race
        ),
    },
    "predictive_maintenance": {
        "cmapss_train_FD001.txt.gz": Source(
            (RAW + "alireza-javanmardi/conformal-RUL-intervals/37e450ac8b656229d44aed3ac39dcf85ea11b86c/data/CMAPSS/train_FD001.txt",),
            "963b5e22825b34d8b21c69e1aeb4af3e647050eb672ee8834ba4b5d91d2de0f8", "public domain (NASA)", "Saxena, Goebel, Simon, Eklund, 2008, PHM",
        ),
        "ai4i2020_dev.csv": Source(
            (RAW + "4n0rm4lp3rs0n/dead-machine/124f3934f6b587e40633d93a1f9c1c06dfea1f5b/ai4i2020.csv",),
            "cefffaa7752b5fdb55019f740bdb61348918f4a0e445d51d4cf2e0f473d606d6", "CC BY 4.0", "Matzka, 2020, AI4I; UCI 601", process,
        ),
        "cnc_mill_dev.csv.gz": Source(
            tuple(MILL.format(k) for k in SETUPS), "096d76944993e28b8676bacca462c786d356f64c8eed79dd7d467ed7b8327393", "CC0", "University of Michigan SMART lab, Kaggle tool-wear-detection-in-cnc-mill", mill,
        ),
    },
}  # fmt: skip


def cache() -> Path:
    """Where fetched data lie."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "relukit" / "data"


def fetch(folder: str, names: Sequence[str]) -> Path:
    """The folder in the cache with those files, fetched where they are not there yet.

    Raises:
        UnreadableFile: A file is not in the registry, cannot be fetched, or differs from the one the figures were measured with.
    """
    known, target = SOURCES.get(folder, {}), cache() / folder
    missing = [n for n in names if not (target / n).exists()]
    unknown = [n for n in missing if n not in known]
    if unknown:
        raise UnreadableFile(
            f"the study's data are looked for in $RELUKIT_DATA/{folder}, and RELUKIT_DATA is not set. "
            f"Put {', '.join(unknown)} there (the study's page names the sources) and set it."
        )
    for name in missing:
        _fetch(name, known[name], target, f"or put {name} into a folder {folder} and set RELUKIT_DATA to the folder above it")  # fmt: skip
    return target


def _fetch(name: str, source: Source, target: Path, advice: str) -> None:
    import pooch

    originals = []
    for url in source.urls:
        known = None if source.cut else f"sha256:{source.sha256}"
        try:
            originals.append(Path(pooch.retrieve(url, known_hash=known, path=target / "originals", fname=url.split("/")[-1])))  # fmt: skip
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:160]
            raise UnreadableFile(f"{url} cannot be fetched ({reason}); try again, {advice}") from None
    try:
        text = source.cut(originals).to_csv(index=False).encode() if source.cut else originals[0].read_bytes()
    except (KeyError, ValueError, IndexError) as error:
        raise UnreadableFile(f"{source.urls[0]} is not the table that was expected ({error!r}); {advice}") from None
    found = hashlib.sha256(text).hexdigest()
    if found != source.sha256:
        raise UnreadableFile(
            f"what {source.urls[0]} gives has the check sum {found[:16]}, {source.sha256[:16]} is expected: it is not the data "
            f"that the study was measured with; {advice}"
        )
    with atomic_path(target / name) as path:
        Path(path).write_bytes(text)
