"""`relukit compress MODEL`."""

from pathlib import Path

import typer


def command(
    model: Path = typer.Argument(..., help="A network"),
    box: str = typer.Option(
        "",
        help="The domain: VNN-LIB file (linear conditions on the inputs count), .npz with lo and hi, LO:HI for all inputs, or LO:HI,LO:HI,... (default: the file's lo and hi)",
    ),
    data: Path | None = typer.Option(
        None, help="Rows: the domain is their range; with --margin, all inputs that near to a row"
    ),
    margin: float | None = typer.Option(None, help="With --data: how far from a row, entry by entry"),
    tolerance: float = typer.Option(0.0, help="Outputs may differ by this much, proven"),
    timeout: float = typer.Option(10.0, help="Seconds for branch and bound over all units"),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the smaller network: .onnx or .npz"),
    proof: Path | None = typer.Option(None, help="With -o: write a proof that an independent checker has accepted"),
    check: Path | None = typer.Option(
        None, help="Check a proof of MODEL and the smaller network given with -o; nothing is compressed"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """A smaller network that equals this one on a domain, with the difference bounded."""
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._domains import domain_of
    from relukit.cli._frame import print_json

    if check is not None:
        _check(check, model, out, as_json)
        return
    if proof is not None and out is None:
        raise InvalidInput("a proof is about two files: give -o FILE for the smaller network, too")
    if proof is not None and model.suffix not in (".npz", ".onnx"):
        raise InvalidInput(f"a proof is about files that its checker reads, .npz and .onnx; {model} is neither: save the network as one of them with relukit.save(relukit.load('{model}'), 'model.onnx') and compress that")  # fmt: skip
    if out is not None and out.suffix not in (".onnx", ".npz"):
        raise InvalidInput(f"{out}: a network is written as .onnx or .npz")
    if not 0 <= timeout < float("inf"):
        raise InvalidInput(f"--timeout is a number of seconds, 0 or more, got {timeout}")
    if margin is not None and data is None:
        raise InvalidInput("--margin is a distance from rows of data: give --data ROWS")
    network = relukit.load(model)
    domain, rows = network.box, None
    if box and data is not None:
        raise InvalidInput("--box and --data both name a domain: give one of them")
    if box:
        domain = domain_of(box, network.inputs)
    elif data is not None:
        from relukit.report import read_rows

        x = read_rows(network, data).x
        if margin is None:
            domain = relukit.Box(x.min(axis=0), x.max(axis=0))
        else:
            rows = x
    if domain is None and rows is None:
        raise InvalidInput(
            "compress needs a domain, since the file holds no lo and hi: give --box=LO:HI for all inputs, --box FILE.vnnlib, or --data ROWS.npz"
        )
    if domain is not None and domain.size != network.inputs:
        raise InvalidInput(f"the domain in {box} has {domain.size} inputs, {model} takes {network.inputs}")
    within, bound = tolerance, None
    while True:
        found = relukit.compress(
            network, domain, timeout=timeout, data=rows, margin=margin or 0.0, tolerance=within, proof=proof is not None
        )
        if out is not None:
            relukit.save(found.network, out)
            if proof is not None:
                bound = found.save_proof(proof, model, out)
        if bound is None or not found.given_up or bound <= tolerance:
            break
        within *= (
            0.9 * tolerance / bound if within > 1e-3 * tolerance else 0.0
        )  # the checker sees more than was given up
    content = found.to_dict()
    if out is not None:
        content["file"] = str(out)
        if proof is not None:
            content["proof"], content["error_bound_file"] = str(proof), bound
    if found.form == "unchanged" and not tolerance and rows is None:
        content["bounded_loss"] = _bounded_loss(network, domain)
    if as_json:
        print_json(content)
        return
    print(found)
    for row in content.get("bounded_loss", []):
        print(f"within {row['tolerance']:.3g} of the outputs: {row['parameters_after']} parameters (--tolerance {row['tolerance']:.3g})")  # fmt: skip
    if out is not None:
        print(
            f"{'the network, unchanged,' if found.form == 'unchanged' else 'the smaller network'} is written to {out}"
        )
    if proof is not None:
        print(
            f"proof written to {proof}; the two files differ by at most {content['error_bound_file']:.1e} on the domain"
        )


def _bounded_loss(network, domain) -> list[dict[str, float]]:
    """What giving up 1 and 10 percent of the outputs' size would buy; nothing for networks where that is slow to say."""
    import numpy as np

    import relukit

    if network.units > 400:
        return []
    size = float(np.abs(network(domain.sample(200, 0))).max())
    found = []
    for share in (0.01, 0.1):
        small = relukit.compress(network, domain, timeout=0.0, tolerance=share * size)
        if small.form != "unchanged":
            found.append({"tolerance": share * size, "parameters_after": small.parameters_after, "given_up": small.given_up})  # fmt: skip
    return found


def _check(proof: Path, original: Path, small: Path | None, as_json: bool) -> None:
    import time

    from relukit._errors import InvalidInput, UnreadableFile
    from relukit.cli._frame import FINDING, print_json
    from relukit.compression import _check as checker
    from relukit.verification.checker import Rejected

    if small is None:
        raise InvalidInput("a proof is about two files: give the smaller network with -o FILE")
    for path in (proof, original, small):
        if not path.is_file():
            raise UnreadableFile(f"{path} does not exist")
    started, reason, shown = time.process_time(), "", {}
    try:
        shown = checker.check(str(proof), str(original), str(small))
    except Rejected as error:
        reason = str(error)
    except Exception as error:
        reason = f"a file is damaged or of a form that the checker does not read: {type(error).__name__} {error}"
    spent = round(time.process_time() - started, 4)
    if as_json:
        print_json({"status": "rejected" if reason else "accepted", "reason": reason, **shown, "cpu_seconds": spent})
    else:
        print(f"rejected: {reason}" if reason else f"accepted: outputs within {shown['error_bound']:.2e} on its domain, {spent} CPU-s")  # fmt: skip
    if reason:
        raise typer.Exit(FINDING)
