"""`relukit check`: follow a certificate with an independent checker."""

from pathlib import Path

import typer


def command(
    certificate: Path = typer.Argument(..., help="Certificate written by relukit verify --certificate"),
    network: Path = typer.Option(..., help="The network's file (.onnx, .onnx.gz, .npz)"),
    prop: Path = typer.Option(..., "--property", help="The property's file (.vnnlib, .vnnlib.gz)"),
    exact: bool = typer.Option(False, "--exact", help="Rational arithmetic: nothing is rounded; slow"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check a proof from the weights and the property alone; exits with 0 where it is accepted, 10 where it is not."""
    import time

    from relukit._errors import UnreadableFile
    from relukit.cli._frame import FINDING, print_json
    from relukit.verification import checker

    for path in (certificate, network, prop):
        if not path.is_file():
            raise UnreadableFile(f"{path} does not exist")
    started = time.process_time()
    reason, leaves = "", 0
    try:
        leaves = checker.check(str(certificate), str(network), str(prop), exact)
    except checker.Rejected as error:
        reason = str(error)
    except (OSError, EOFError, KeyError, IndexError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = f"a file is damaged or of a form that the checker does not read: {type(error).__name__} {error}"
    spent = time.process_time() - started
    status = "rejected" if reason else "accepted"
    if as_json:
        print_json(
            {"status": status, "leaves": leaves, "reason": reason, "exact": exact, "cpu_seconds": round(spent, 4)}
        )
    else:
        print(f"rejected: {reason}" if reason else f"accepted: {leaves} leaves, {spent:.2f} CPU-s")
    if reason:
        raise typer.Exit(FINDING)
