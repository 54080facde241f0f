"""`relukit check`: follow a certificate with an independent checker."""

from pathlib import Path

import typer

_DAMAGE = (OSError, EOFError, KeyError, IndexError, ValueError, TypeError, OverflowError, RecursionError)


def command(
    certificate: Path = typer.Argument(..., help="Certificate written by relukit verify --certificate"),
    network: Path = typer.Option(..., help="The network's file (.onnx, .onnx.gz, .npz)"),
    prop: Path = typer.Option(..., "--property", help="The property's file (.vnnlib, .vnnlib.gz)"),
    exact: bool = typer.Option(False, "--exact", help="Rational arithmetic: nothing is rounded; slow"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check a proof from the weights and the property alone; exits with 0 where it is accepted, 10 where it is not."""
    import time
    import zipfile

    from relukit._errors import UnreadableFile
    from relukit.cli._frame import FINDING, print_json
    from relukit.verification import checker

    for path in (certificate, network, prop):
        if not path.is_file():
            raise UnreadableFile(f"{path} does not exist")
    started = time.process_time()
    reason, leaves = "", 0
    try:
        if not zipfile.is_zipfile(certificate):
            raise checker.Rejected(f"{certificate} is no certificate of `relukit verify --certificate`, or a part")
        leaves = checker.check(str(certificate), str(network), str(prop), exact)
    except checker.Rejected as error:
        reason = str(error)
    except _DAMAGE as error:
        _require_readable(network, prop)
        reason = f"the certificate is damaged: {type(error).__name__} {error}"
    spent = time.process_time() - started
    status = "rejected" if reason else "accepted"
    if as_json:
        print_json(
            {"status": status, "leaves": leaves, "reason": reason, "exact": exact, "cpu_seconds": round(spent, 4)}
        )
    else:
        words = f"accepted: {leaves} {'leaf' if leaves == 1 else 'leaves'}, {spent:.2f} CPU-s"
        print(f"rejected: {reason}" if reason else words)
    if reason:
        raise typer.Exit(FINDING)


def _require_readable(network: Path, prop: Path) -> None:
    """Say which of the two files is at fault, if one is.

    Raises:
        UnreadableFile: The checker can read one of them not at all.
    """
    from relukit._errors import UnreadableFile
    from relukit.verification import checker

    path, kind = network, "network"
    try:
        net = checker.Bounder(checker.read_network(str(network)))
        path, kind = prop, "property"
        checker.read_property(str(prop), net.inputs, net.outputs)
    except checker.Rejected:
        pass
    except _DAMAGE as error:
        message = f"{path} is damaged, or no {kind} that the checker reads ({type(error).__name__}: {error})"
        raise UnreadableFile(message) from error
