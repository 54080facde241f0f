"""`relukit flip MODEL --at X`."""

from pathlib import Path
from typing import Any

import typer

from relukit.cli._domains import WRITTEN, box_of


def command(
    model: Path = typer.Argument(..., help="A network"),
    at: str = typer.Option(
        ...,
        help="One input: numbers separated by commas, .npy, .npz with x (and y), .csv, or FILE:ROW; with --all many",
    ),
    norm: str = typer.Option("inf", help="The norm: inf, 2 or 1"),
    low: float | None = typer.Option(None, help="Smallest value that every input may take"),
    high: float | None = typer.Option(None, help="Largest value that every input may take"),
    box: str = typer.Option("", help="The inputs that are allowed: " + WRITTEN),
    bounds: Path | None = typer.Option(
        None, help="Smallest and largest value of each input: .npy (2, n) or .npz lo, hi"
    ),
    target: int | None = typer.Option(None, help="Ask for this decision only"),
    frozen: str = typer.Option("", help="Inputs that stay as they are: numbers and ranges, like 0,3,7-9"),
    integer: str = typer.Option("", help="Inputs that take whole numbers only: numbers and ranges"),
    steps: str = typer.Option("", help="Inputs that move in steps, with the step: 4:0.5,7:10"),
    margin: float = typer.Option(0.0, help="By how much the new decision must lead every other output"),
    probability: float | None = typer.Option(None, help="Probability that the new decision must have"),
    row: int = typer.Option(0, help="Which row of the file"),
    every: bool = typer.Option(False, "--all", help="All rows: the curve of certified accuracy"),
    limit: int | None = typer.Option(None, help="With --all: the first so many rows"),
    shard: str = typer.Option(
        "", help="With --all: NUMBER/OF, do every OF-th row only; `relukit merge` joins the parts"
    ),
    cluster: str | None = typer.Option(
        None, help="With --all: address of a Dask scheduler whose workers share the rows"
    ),
    timeout: float = typer.Option(60.0, help="Seconds (for each row)"),
    out: Path | None = typer.Option(
        None,
        "--out",
        "-o",
        help="Write the flipped input as .npy, or the picture as --plot does; with --all the table as .json",
    ),
    plot: Path | None = typer.Option(
        None, help="Draw the flip, with --all the curve of certified accuracy: .png, .svg, .pdf"
    ),
    image: str = typer.Option("", help="A flat input drawn as an image: 8x8 (28x28 and 3x32x32 are known)"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The smallest change of one input that changes the decision."""
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json, say_error
    from relukit.cli._points import shape_of
    from relukit.verification.flip import flip

    if norm not in ("inf", "1", "2"):
        raise InvalidInput(f"norm must be inf, 1 or 2, got '{norm}'")
    network = relukit.load(model)
    data, at, row = _rows(network, at, row)
    options: dict[str, Any] = {
        "target": target, "margin": margin, "probability": probability,
        "frozen": _numbers(frozen, "--frozen"), "integer": _numbers(integer, "--integer"),
        "steps": _steps(steps),
    }  # fmt: skip
    within = _limits(data.x, low, high, bounds, box, network.inputs)
    files, shape = _files(out, plot, ".json" if every else ".npy"), shape_of(image)
    if shape is not None:
        from relukit.geometry._draw_explain import image_shape

        image_shape(network.input_shape, network.inputs, shape)  # refused before the work
    if every:
        _many(network, data, float(norm), within, timeout, limit, shard, cluster, options, files, as_json)
        return
    if shard or cluster or limit is not None:
        raise InvalidInput("--shard, --cluster and --limit are about the rows of --all")
    if not -len(data.x) <= row < len(data.x):
        raise InvalidInput(f"{at} has the rows 0 to {len(data.x) - 1}, {row} is none of them")
    found = _one(
        lambda tell: flip(network, data.x[row], float(norm), within, timeout=timeout, on_progress=tell, **options),
        as_json,
    )
    for path in files:
        if found.witness is None:
            say_error(f"no flip was found, {path} is not written")
        else:
            _write(found, path, shape)
    print_json(found.to_dict()) if as_json else print(found)


def _rows(network: Any, at: str, row: int) -> tuple[Any, str, int]:
    """What --at names, as `explain` takes it: rows, the file or the numbers, and which row is meant."""
    from relukit.cli._points import points
    from relukit.report import read_rows
    from relukit.report._data import Data

    name, _, last = at.rpartition(":")
    if last.isdigit() and not Path(at).exists() and Path(name).is_file():
        return read_rows(network, name), name, int(last)
    if Path(at).exists() or Path(at).suffix in (".npz", ".npy", ".csv", ".txt", ".gz"):
        return read_rows(network, at), at, row
    return Data(points(network, at, "--at"), None, at), at, row


def _files(out: Path | None, plot: Path | None, data: str) -> list[Path]:
    """What is to be written, refused before the work where a name says neither data nor a picture."""
    from relukit._errors import InvalidInput

    pictures = (".png", ".svg", ".pdf")
    if plot is not None and plot.suffix not in pictures:
        raise InvalidInput(f"--plot ends with .png, .svg or .pdf, got '{plot}'")
    if out is not None and out.suffix not in (data, *pictures):
        raise InvalidInput(f"--out ends with {data}, .png, .svg or .pdf, got '{out}'")
    return [path for path in (out, plot) if path is not None]


def _write(found: Any, out: Path, shape: tuple[int, ...] | None) -> None:
    import numpy as np

    from relukit._numerics import atomic_path

    if out.suffix == ".npy":
        with atomic_path(out) as path, open(path, "wb") as file:
            np.save(file, found.witness.reshape(found.input_shape))
    else:
        with atomic_path(out) as path:
            np.ravel(found.plot(shape=shape))[0].figure.savefig(
                path, dpi=160, bbox_inches="tight", format=out.suffix[1:]
            )


def _one(run: Any, as_json: bool) -> Any:
    """One search with its bounds on standard error; interrupted, the bounds so far are printed before it ends."""
    import sys
    import time

    from relukit.cli._frame import print_json

    state, last = [0.0, float("inf")], [time.monotonic()]

    def tell(lower: float, upper: float) -> None:
        state[:] = [max(lower, state[0]), upper]
        if sys.stderr.isatty() and time.monotonic() - last[0] > 0.5:
            last[0] = time.monotonic()
            print(f"\rbetween {state[0]:.6g} and {state[1]:.6g}", end="", file=sys.stderr, flush=True)

    try:
        return run(tell)
    except KeyboardInterrupt:
        print(f"interrupted: the smallest flip lies between {state[0]:.6g} and {state[1]:.6g}", file=sys.stderr)
        if as_json:
            upper = state[1] if state[1] < float("inf") else None
            print_json({"status": "bounded", "lower_bound": state[0], "upper_bound": upper, "reason": "interrupted"})
        raise
    finally:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)


def _many(
    network: Any, data: Any, norm: float, within: Any, timeout: float, limit: int | None, shard: str,
    address: str | None, options: dict[str, Any], files: list[Path], as_json: bool,
) -> None:  # fmt: skip
    """Flip all rows; what was done is written and printed, also where Ctrl-C ends it."""
    from relukit._errors import InvalidInput
    from relukit._spread import Shard, cluster
    from relukit.cli._frame import print_json, progress, say_error
    from relukit.verification._flip_batch import FlipsInterrupted, write_table
    from relukit.verification.flip import flips

    def tell(done: list[int], table: Any) -> None:
        content = table.to_dict() | {"numbers": done}
        for path in files:
            write_table(content, path)
        print_json(content) if as_json else print(table)

    if limit is not None and limit < 1:
        raise InvalidInput(f"--limit must be at least 1, got {limit}")
    numbers = list(range(len(data.x[:limit])))
    numbers = Shard.read(shard).take(numbers) if shard else numbers
    labels = None if data.y is None else data.y[numbers]
    options["starts"] = network.rows(data.x[:limit])[0]  # whichever the shard
    try:
        with progress("flipping", len(numbers)) as step, cluster(address) as executor:
            table = flips(
                network, data.x[numbers], norm, within, labels, timeout,
                on_progress=lambda k, _: step(k, ""), executor=executor, **options,
            )  # fmt: skip
    except FlipsInterrupted as stopped:
        say_error(f"{len(stopped.numbers)} of {len(numbers)} rows were done")
        if stopped.numbers:
            tell([numbers[k] for k in stopped.numbers], stopped.table)
        raise
    tell(numbers, table)


def _numbers(text: str, option: str) -> list[int]:
    """`0,3,7-9` as numbers."""
    from relukit._errors import InvalidInput

    found: list[int] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        first, _, last = part.partition("-")
        if (
            not first.isdigit()
            or (last and not last.isdigit())
            or (part.endswith("-"))
            or int(last or first) < int(first)
        ):
            raise InvalidInput(f"{option} takes numbers and ranges like 0,3,7-9, got '{part}'")
        if int(last or first) > 10_000_000:
            raise InvalidInput(f"{option}: no network has an input {last or first}")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def _steps(text: str) -> dict[int, float]:
    """`4:0.5,7:10` as input and step."""
    from relukit._errors import InvalidInput

    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        place, sign, step = part.partition(":")
        try:
            found[int(place)] = float(step)
        except ValueError as error:
            raise InvalidInput(f"--steps takes inputs and their steps like 4:0.5,7:10, got '{part}'") from error
        if not sign:
            raise InvalidInput(f"--steps takes inputs and their steps like 4:0.5,7:10, got '{part}'")
    return found


def _limits(x: Any, low: float | None, high: float | None, bounds: Path | None, box: str, inputs: int) -> Any:
    """The allowed box, or None where nothing limits it."""
    import numpy as np

    from relukit import Box
    from relukit._errors import InvalidInput, UnreadableFile

    if (low is not None or high is not None) + (bounds is not None) + bool(box) > 1:
        raise InvalidInput("give --box, or --bounds, or --low and --high, not two of them")
    if box:
        return box_of(box, inputs)
    if bounds is not None:
        try:
            content = np.load(bounds, allow_pickle=False)
            lo, hi = (content["lo"], content["hi"]) if hasattr(content, "files") else content
        except (OSError, ValueError, KeyError, IndexError, EOFError) as error:
            raise UnreadableFile(
                f"{bounds}: expected an array of shape (2, {inputs}), or lo and hi: {error}"
            ) from error
        if lo.size != inputs or hi.size != inputs:
            raise InvalidInput(f"{bounds}: expected {inputs} lower and upper bounds, got {lo.size} and {hi.size}")
        return Box(lo.reshape(-1).astype(float), hi.reshape(-1).astype(float))
    if low is None and high is None:
        return None
    reach = 1e3 * (1 + float(np.abs(x).max()))
    return Box(np.full(inputs, -reach if low is None else low), np.full(inputs, reach if high is None else high))
