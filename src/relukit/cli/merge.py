"""`relukit merge PART...`: what runs with --shard wrote, as one run would have written it."""

from pathlib import Path

import typer


def command(
    parts: list[Path] = typer.Argument(..., help="Folders of verify --instances, or files of flip --all -o PART.json"),
    out: Path = typer.Option(
        Path("results"), "--out", "-o", help="Folder of results.jsonl; for flips a .json, or a .png of the curve"
    ),
    check: bool = typer.Option(False, "--check", help="Exit with 11 where a shard is missing"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Put together what runs with --shard wrote; the same for any sharding."""
    from relukit.cli._frame import UNDECIDED, print_json, say_error
    from relukit.verification._flip_batch import write_table
    from relukit.verification._merge import merge

    merged = merge(parts, out)
    if merged.content is not None:
        write_table(merged.content, out)
    written = out / "results.jsonl" if merged.content is None else out
    if as_json:
        print_json({"entries": merged.entries, "missing": list(merged.missing), "out": str(written)})
    else:
        print(f"{merged.entries} {'instances' if merged.content is None else 'rows'}; {written}")
    if merged.missing:
        say_error(f"missing shards: {', '.join(merged.missing)}")
        if check:
            raise typer.Exit(UNDECIDED)
