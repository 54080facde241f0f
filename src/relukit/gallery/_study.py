"""The one table of studies, and the face that each of them has.

A study is a package `relukit.gallery.<name>` with these functions, all on relukit's public API:

- `fetch() -> Path`: the folder with its data (`RELUKIT_DATA`, else the user's cache).
- `train(data, out, *, seeds=5, quick=False, on_progress=None) -> dict`: trains, saves under `out`, returns what it saw.
- `score(out, files, **options) -> dict` with `study`, `metrics`, `baselines`, `rows`: applies the trained study to any
  files of the same format and reruns every baseline on them.
- `figures(out, data) -> list[Path]`: draws its pictures under `out`.
- `use(out, ...)`, where there is a command that a practitioner would run.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from relukit._errors import InvalidInput, UnreadableFile


@dataclass(frozen=True)
class Study:
    """A row: name on the command line, what it asks, and the folder of its data."""

    name: str
    question: str
    folder: str

    @property
    def package(self) -> str:
        return f"relukit.gallery.{self.name.replace('-', '_')}"

    @property
    def is_there(self) -> bool:
        return importlib.util.find_spec(self.package) is not None and hasattr(self.load(), "score")

    def load(self) -> ModuleType:
        return importlib.import_module(self.package)


STUDIES: dict[str, Study] = {
    s.name: s
    for s in [
        Study("robot-arm", "ReLU against sigmoid in a controller: natural frequency and damping", ""),
        Study("line-follower", "from camera pixels to steering, with a certificate for the sign", ""),
        Study("car-racing", "a lap of gymnasium's CarRacing from pixels, by imitation", ""),
        Study("car", "speed and steering to turning radius: a formula and a ReLU residual", "vehicle_dynamics"),
        Study("maintenance", "machines that will fail, told before they do", "predictive_maintenance"),
        Study("promoter", "promoter activity from 150 bases", "dna_promoter"),
        Study("tf-binding", "where nine transcription factors bind", "dna_tfbinding"),
        Study("crispr", "which guides cut", "crispr"),
        Study("protein-network", "which proteins drive a disease", "ppi_network"),
        Study("enzyme", "known kinetics and a small network for the rest", "hybrid_ode"),
        Study("retail-index", "card transactions to categories to an index", "transactions"),
        Study("catastrophe", "expected loss of floods and hurricanes", "catastrophe"),
        Study("borrowing-limit", "a household at its borrowing limit: the kink", "consumption_savings"),
        Study("interatomic", "energy and forces of atoms", "interatomic_potential"),
        Study("images", "digits, cats and dogs, and the smallest push that flips them", "images"),
    ]
}


def study(name: str) -> Study:
    """The study of that name.

    Raises:
        InvalidInput: There is none; the message lists those there are.
    """
    found = STUDIES.get(name.lower().replace("_", "-"))
    if found is None:
        raise InvalidInput(f"no study '{name}'; the gallery has {', '.join(STUDIES)}")
    if not found.is_there:
        raise InvalidInput(f"the study '{name}' is not part of this version")
    return found


def output_folder(name: str, out: str | Path | None = None) -> Path:
    """Where a study keeps what it trained: its own folder in `out` (studies may share one), or in the user's cache."""
    import os

    if out is not None:
        return Path(out) if Path(out).name == name else Path(out) / name
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "relukit" / "gallery" / name


def trained(name: str, out: str | Path | None = None) -> Path:
    """That folder, if the study was run.

    Raises:
        UnreadableFile: It was not.
    """
    folder = output_folder(name, out)
    if not (folder / "done.json").exists():
        raise UnreadableFile(f"nothing trained at {folder}; run `relukit gallery run {name}` first (or give --out)")
    return folder
