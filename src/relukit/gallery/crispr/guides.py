"""Guides in a sequence: every NGG site on both strands, scored and ranked."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit.gallery._life import LETTERS, codes, load_states, reverse_complement
from relukit.gallery.crispr import _model

COLUMNS = ("rank", "record", "start", "end", "strand", "guide", "pam", "context", "score", "low", "high")


@dataclass(frozen=True)
class Guide:
    """One site. `start` and `end` are 0-based, end-exclusive places of the 20 bases on the given strand's record."""

    record: str
    start: int
    end: int
    strand: str
    guide: str
    pam: str
    context: str
    score: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")


def read_fasta(path: str | Path) -> dict[str, str]:
    """Records by name.

    Raises:
        UnreadableFile: The file is missing, holds no record, or letters that are no DNA.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path}: not a readable FASTA file ({error})") from error
    records: dict[str, list[str]] = {}
    name = None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith(">"):
            name = line[1:].split()[0] if line[1:].split() else f"record{len(records) + 1}"
            if name in records:
                raise UnreadableFile(f"{path}, line {number}: record '{name}' occurs twice; give each its own name")
            records[name] = []
        elif line:
            if name is None:
                raise UnreadableFile(f"{path}, line {number}: a FASTA file starts with '>name', found '{line[:30]}'")
            if set(line.upper()) - set("ACGTUNRYSWKMBDHV"):
                raise UnreadableFile(f"{path}, line {number}: letters that are no DNA in '{line[:30]}'")
            records[name].append(line.upper().replace("U", "T"))
    if not records:
        raise UnreadableFile(f"{path}: no FASTA record ('>name' and a line of bases) in it")
    return {k: "".join(v) for k, v in records.items()}


def sites(record: str, sequence: str) -> list[Guide]:
    """All 30-mers (4 + 20 + NGG + 3) without unknown bases, on both strands."""
    found = []
    if len(sequence) < 30:
        return found
    forward = codes([sequence])[0]
    for strand, numbers in (("+", forward), ("-", reverse_complement(forward[None])[0])):
        letters = "".join(LETTERS[c] if c >= 0 else "N" for c in numbers)
        windows = np.lib.stride_tricks.sliding_window_view(numbers, 30)
        for i in np.flatnonzero((windows >= 0).all(1) & (windows[:, 25] == 2) & (windows[:, 26] == 2)):
            first = int(i) + 4 if strand == "+" else len(sequence) - int(i) - 24
            context = letters[i : i + 30]
            found.append(Guide(record, first, first + 20, strand, context[4:24], context[24:27], context))
    return found


def use(out: Path, sequence: str | Path) -> list[Guide]:
    """Rank the guides of a FASTA file by predicted activity (0 to 1), each with an 80 % interval.

    The interval is where the measured rank of a guide of an unseen gene fell in 80 of 100 cases of the development
    screens, for a single network; it is wide, because a guide's sequence says only part of its activity.

    Raises:
        InvalidInput: No site with an NGG PAM and its 30 bases of context is in the file.
    """
    loaded = load_states(out / "model.pt", "crispr")
    guides = [g for name, letters in read_fasta(sequence).items() for g in sites(name, letters)]
    if not guides:
        raise InvalidInput(
            f"{sequence}: no NGG site with 4 bases before the guide and 3 after the PAM; give more sequence"
        )
    values = _model.predict(_model.restore(loaded["states"]), [g.context for g in guides])[:, :, 0].mean(0)
    clip = lambda v: float(np.clip(v, 0, 1))
    scored = [
        Guide(
            g.record,
            g.start,
            g.end,
            g.strand,
            g.guide,
            g.pam,
            g.context,
            clip(v),
            clip(v + loaded["low"]),
            clip(v + loaded["high"]),
        )
        for g, v in zip(guides, values)
    ]
    return sorted(scored, key=lambda g: (-g.score, g.record, g.start))


def to_csv(guides: list[Guide]) -> str:
    """The table with a header, scores with four digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for k, g in enumerate(guides, 1):
        numbers = [f"{v:.4f}" for v in (g.score, g.low, g.high)]
        writer.writerow([k, g.record, g.start, g.end, g.strand, g.guide, g.pam, g.context, *numbers])
    return text.getvalue()
