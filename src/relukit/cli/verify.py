"""`relukit verify`: one property, or a list of them."""

from pathlib import Path
from typing import Any

import typer


def command(
    arguments: list[str] = typer.Argument(
        None, help="NETWORK PROPERTY [TIMEOUT] [RESULTFILE], or PROPERTY with --network"
    ),
    network: str = typer.Option("", help="Network of the property: NAME=FILE.onnx or FILE.onnx"),
    instances: Path | None = typer.Option(None, help="CSV of network,property,timeout: verify them all"),
    out: Path = typer.Option(Path("results"), help="Folder of results.jsonl, with --instances"),
    timeout: float | None = typer.Option(None, help="Seconds per property (default 60, or the file's)"),
    check: bool = typer.Option(False, "--check", help="Exit with 10 for a counterexample, 11 for undecided"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Prove a VNN-LIB property, or find a counterexample."""
    from relukit._errors import InvalidInput
    from relukit.cli._frame import FINDING, UNDECIDED, print_json

    arguments = arguments or []
    if instances is not None:
        _all(instances, out, timeout, as_json)
        return
    if network and len(arguments) == 1:
        model, question, rest = network.split("=", 1)[-1], arguments[0], []
    elif not network and len(arguments) >= 2:
        model, question, rest = arguments[0], arguments[1], arguments[2:]
    else:
        raise InvalidInput(
            "give NETWORK and PROPERTY, or PROPERTY with --network NAME=FILE.onnx, or --instances FILE.csv"
        )
    try:
        limit = timeout if timeout is not None else float(rest[0]) if rest else 60.0
    except ValueError as error:
        raise InvalidInput(f"the timeout must be a number of seconds, got '{rest[0]}'") from error
    from relukit.verification import verify

    verdict = verify(Path(model), Path(question), limit)
    text = _competition(verdict, old=len(rest) > 1)
    if len(rest) > 1:
        from relukit._numerics import write_bytes

        write_bytes(rest[1], text.encode())
    if as_json:
        print_json(verdict.to_dict())
    else:
        print(text, end="")
    if check:
        raise typer.Exit({"sat": FINDING, "unknown": UNDECIDED}.get(verdict.status, 0))


def _competition(verdict: Any, old: bool) -> str:
    """The first word, then the witness as an assignment."""
    word = verdict.status
    if word == "unknown" and verdict.timed_out:
        word = "timeout" if old else "timed-out"
    if word != "sat":
        return word + "\n"
    pairs = [f"(X_{i} {v:.17g})" for i, v in enumerate(verdict.witness)] + [
        f"(Y_{i} {v:.9g})" for i, v in enumerate(verdict.outputs)
    ]
    return "sat\n(" + "\n".join(pairs) + ")\n"


def _all(path: Path, out: Path, timeout: float | None, as_json: bool) -> None:
    from relukit.cli._frame import print_json, progress
    from relukit.verification.instances import read_instances, run_instances

    with progress("verifying", len(read_instances(path))) as step:
        counts = run_instances(
            path, out, timeout, lambda done, total, so_far: step(done, ", ".join(f"{v} {k}" for k, v in so_far.items()))
        )
    if as_json:
        print_json({"counts": counts, "results": str(out / "results.jsonl")})
    else:
        print(", ".join(f"{v} {k}" for k, v in sorted(counts.items())) + f"; {out / 'results.jsonl'}")
