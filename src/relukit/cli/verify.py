"""`relukit verify`: one property, or a list of them."""

import sys
import time
from pathlib import Path
from typing import Any

import typer


def command(
    arguments: list[str] = typer.Argument(
        None, help="NETWORK PROPERTY [TIMEOUT] [RESULTFILE] (VNN-LIB 1.0 form), or PROPERTY with --network (2.0 form)"
    ),
    network: list[str] = typer.Option(
        [], help="Network of the property: NAME=FILE.onnx or FILE.onnx; once per declared network"
    ),
    instances: Path | None = typer.Option(
        None, help="CSV of network,property,timeout, paths relative to it: verify them all, or go on"
    ),
    out: Path = typer.Option(Path("results"), help="Folder of results.jsonl, with --instances"),
    shard: str = typer.Option(
        "", help="With --instances: NUMBER/OF, do every OF-th only; `relukit merge` joins the parts"
    ),
    cluster: str | None = typer.Option(
        None, help="With --instances: address of a Dask scheduler whose workers share them"
    ),
    timeout: float | None = typer.Option(None, help="Seconds per property (default 60, or the file's)"),
    memory: float | None = typer.Option(None, help="Most memory of the process in GB; beyond it the answer is unknown"),
    certificate: Path | None = typer.Option(
        None, help="Write a proof for `relukit check` here where the answer is unsat"
    ),
    execution: str = typer.Option(
        "", help="real, or float32/float64: prove that execution as well; by default what the property declares"
    ),
    device: str = typer.Option(
        "", help="cuda, or another torch device: propose many bounds at once there; the CPU certifies them"
    ),
    serialise_assignments: Path | None = typer.Option(
        None, help="Write the witness as one .pb tensor per variable into this folder"
    ),
    check: bool = typer.Option(
        False, "--check", help="Exit with 10 for a counterexample (in the list), 11 for undecided"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Prove a VNN-LIB property, or find a counterexample.

    The first line is sat (a counterexample exists), unsat (proven), unknown or timed-out; a witness follows.
    """
    began = time.perf_counter()
    from relukit._errors import InvalidInput
    from relukit.cli._frame import FINDING, UNDECIDED, print_json, say_error

    arguments = arguments or []
    if execution not in ("", "real", "float32", "float64"):
        raise InvalidInput(f"--execution is real, float32 or float64, got '{execution}'")
    if timeout is not None and not timeout >= 0:
        raise InvalidInput(f"the timeout must be a number of seconds, at least 0, got {timeout}")
    if instances is not None:
        if arguments or network:
            raise InvalidInput("--instances FILE.csv names networks and properties itself; leave out the others")
        if certificate is not None or serialise_assignments is not None:
            raise InvalidInput(
                "--certificate and --serialise-assignments are about one property, not about --instances"
            )
        counts = _all(instances, out, timeout, memory, as_json, device, shard, cluster, execution)
        if check:
            left = sum(counts.values()) - counts.get("unsat", 0)
            raise typer.Exit(FINDING if counts.get("sat") else UNDECIDED if left else 0)
        return
    if shard or cluster:
        raise InvalidInput("--shard and --cluster share out a list of properties: give it with --instances FILE.csv")
    models, question, rest = _files(arguments, network)
    try:
        limit = timeout if timeout is not None else float(rest[0]) if rest else 60.0
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise InvalidInput(f"the timeout must be a number of seconds, at least 0, got '{rest[0]}'")
    from relukit.search import HINT, is_compiled
    from relukit.verification import Undecided, Verified, verify, vnnlib
    from relukit.verification._limits import Interrupted, TimeIsUp, deadline
    from relukit.verification._property import Contradiction
    from relukit.verification._report import assignment, one_word, serialise

    if memory is not None:
        _limit_memory(memory)
    asked = None
    try:
        proof = max(3 * limit, 30.0) if certificate is not None else 0.0  # seconds that its derivation may take
        left = max(limit - (time.perf_counter() - began), 0.5 * limit)  # loading code takes time, too
        with deadline(left + proof + 0.5):
            asked = vnnlib.read(question)
            proven = certificate is not None
            verdict = verify(models, asked, timeout=left, certificate=proven, execution=execution, device=device)
    except Contradiction as error:  # the file contradicts itself: nothing can violate the property
        verdict = Verified(0, "contradiction", 0.0, None, str(error))
    except TimeIsUp:
        advice = "give it more time" if is_compiled() else HINT
        verdict = Undecided("time is up while reading or bounding the network", advice, 0, "none", limit)
    except MemoryError:
        verdict = Undecided(f"memory is used up ({memory} GB, --memory)", "allow more memory", 0, "none", 0.0)
    except Interrupted as stopped:
        print_json(stopped.verdict.to_dict()) if as_json else print("unknown")
        print(stopped.verdict.reason.partition("\n")[2], file=sys.stderr)
        raise
    old = len(rest) > 1
    text = one_word(verdict, old) + "\n"
    if verdict.status == "sat" and serialise_assignments is not None:
        serialise(verdict, asked, serialise_assignments)
    elif verdict.status == "sat":
        text += assignment(verdict, asked)
    if old:
        from relukit._numerics import write_bytes

        write_bytes(rest[1], text.encode())
    if as_json:
        print_json(verdict.to_dict())
    else:
        print(text, end="")
    if certificate is not None and verdict.status == "unsat":
        if verdict.certificate is not None:
            verdict.certificate.save(certificate)
        else:
            say_error(verdict.note or "no certificate could be made")
    elif getattr(verdict, "note", "") or verdict.status == "unknown":
        say_error(getattr(verdict, "note", "") or verdict.reason)
    if check:
        raise typer.Exit({"sat": FINDING, "unknown": UNDECIDED}.get(verdict.status, 0))


def _files(arguments: list[str], network: list[str]) -> tuple[Any, Path, list[str]]:
    """Networks (one, or a dictionary by name), the property, and what follows."""
    from relukit._errors import InvalidInput

    if network and len(arguments) == 1:
        named: dict[str, Path] = {}
        for item in network:
            name, sign, path = item.partition("=")
            name, path = (name, path) if sign else ("", name)
            if name in named:
                raise InvalidInput(f"--network {name} is given twice")
            named[name] = Path(path)
        return (next(iter(named.values())) if list(named) == [""] else named), Path(arguments[0]), []
    if not network and len(arguments) >= 2:
        if len(arguments) > 4:
            raise InvalidInput(f"at most NETWORK PROPERTY TIMEOUT RESULTFILE, got {len(arguments)} arguments")
        if ".vnnlib" in Path(arguments[0]).suffixes:
            raise InvalidInput(f"the network comes first, then the property: got '{arguments[0]}' as the network")
        return Path(arguments[0]), Path(arguments[1]), arguments[2:]
    raise InvalidInput("give NETWORK and PROPERTY, or PROPERTY with --network NAME=FILE.onnx, or --instances FILE.csv")


def _limit_memory(gigabytes: float) -> None:
    """Cap the address space that the process may add to what it holds now; where the system cannot, say so."""
    from relukit._errors import InvalidInput
    from relukit.cli._frame import say_error

    if not gigabytes > 0:
        raise InvalidInput(f"--memory must be above 0 GB, got {gigabytes}")
    try:
        import resource

        # Code counts as memory, too: what a proof may load is loaded before the limit is set.
        import highspy
        import numba
        import onnxruntime
        import scipy.optimize

        del highspy, numba, onnxruntime, scipy

        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = held + int(gigabytes * 2**30)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    except (ImportError, OSError, ValueError):
        say_error("this system sets no memory limit; --memory is ignored")


def _all(
    path: Path, out: Path, timeout: float | None, memory: float | None, as_json: bool, device: str, part: str,
    address: str | None, execution: str,
) -> dict[str, int]:  # fmt: skip
    """Verify a list; what it counts by status is printed and returned."""
    import time

    from relukit._errors import InvalidInput
    from relukit._spread import Shard, cluster
    from relukit.cli._frame import print_json, progress, say_error
    from relukit.search import HINT, is_compiled
    from relukit.verification.instances import read_instances, results_name, run_instances

    if memory is not None:
        _limit_memory(memory)
    started, before, last = time.perf_counter(), [-1], ["nothing"]
    shard = Shard.read(part) if part else None
    listed = read_instances(path)
    if not listed:
        raise InvalidInput(f"instances {path} holds no line network,property,timeout")
    asked = len(listed if shard is None else shard.take(listed))
    if not is_compiled():
        say_error(HINT)
    words = lambda counts: ", ".join(f"{v} {k}" for k, v in sorted(counts.items()))

    try:
        with progress("verifying", asked) as step, cluster(address) as executor:

            def tell(done: int, total: int, so_far: dict[str, int]) -> None:
                before[0] = done - 1 if before[0] < 0 else before[0]
                rate = (done - before[0]) / max(time.perf_counter() - started, 1e-9)
                last[0] = f"{done} of {total}: {words(so_far)}"
                step(done, f"{words(so_far)}, {rate:.2g}/s")

            counts = run_instances(path, out, timeout, tell, device, shard, executor, execution)
    except KeyboardInterrupt:
        say_error(f"answered {last[0]}; the same command goes on from there")
        raise
    results = out / results_name(shard)
    if as_json:
        print_json({"counts": counts, "results": str(results)})
    else:
        print(f"{words(counts) or 'no instances'}; {results}")
    if counts.get("error"):
        say_error(f"{results} tells what was refused and why; the same command asks these again")
    return counts
