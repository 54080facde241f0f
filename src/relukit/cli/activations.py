"""`relukit activations [NAME...]`."""

from pathlib import Path

import typer


def command(
    names: list[str] | None = typer.Argument(None, help="Names of the catalogue; all by default"),
    plot: Path | None = typer.Option(None, help="Draw value and derivative into this .png, .svg or .pdf"),
    compare: bool = typer.Option(False, "--compare", help="Train with each of them and set the figures side by side"),
    data: Path | None = typer.Option(
        None,
        help="For --compare: .npz with x and y; by default scikit-learn's digits, and the borrowing-limit policy of RELUKIT_DATA",
    ),
    seeds: int = typer.Option(3, min=2, help="For --compare"),
    epochs: int = typer.Option(15, min=1, help="For --compare"),
    measured: bool | None = typer.Option(
        None, "--measured/--no-measured", help="Add what the installed torch and Keras compute; by default with --json"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The catalogue: formulas, derivatives, kinks, gains, and where float32 gradients die."""
    from relukit.activations import CATALOGUE, row
    from relukit.activations.measured import keras_facts, torch_facts
    from relukit.cli._frame import print_json

    if compare:
        _compare(names, data, seeds, epochs, plot, as_json)
        return
    rows = [row(name) for name in names] if names else list(CATALOGUE.values())
    measured = as_json if measured is None else measured
    found = [r.facts() | _measured(torch_facts(r), keras_facts(r)) if measured else r.facts() for r in rows]
    if plot is not None:
        from relukit.activations.picture import draw

        draw(rows, plot)
    if as_json:
        print_json({"activations": found})
        return
    print(f"{'name':13} {'formula':48} {'slopes':>16} {'kinks':>7} {'gain':>6} {'float32 gradient 0':>20}")
    for facts in found:
        if not facts["entrywise"]:
            print(f"{facts['name']:13} {facts['formula']:48} a module: relukit.nn.{facts['torch']}")
            continue
        low, high = facts["derivative_range"]
        left, right = facts["float32_zero_gradient"]
        ends = [("x <= ", left), ("x >= ", right)]
        where = ", ".join(f"{sign}{t:.4g}" for sign, t in ends if t is not None)
        kinks = ",".join(f"{t:g}" for t in facts["kinks"]) or "-"
        print(
            f"{facts['name']:13} {facts['formula'][:48]:48} {f'{float(low):.4g} .. {float(high):.4g}':>16} {kinks:>7} {facts['gain']:6.3f} {where or '-':>20}"
        )
        if measured and facts["torch_measured"]:
            print(_measured_line(facts))
    if names:
        for facts in found:
            print(f"\n{facts['name']}: + {facts['pros']}\n{' ' * len(facts['name'])}  - {facts['cons']}")


def _measured(torch: dict, keras: dict) -> dict:
    return {"torch_measured": torch, "keras_measured": keras}


def _measured_line(facts: dict) -> str:
    torch, keras = facts["torch_measured"], facts["keras_measured"]
    parts = [f"derivative at 0: torch {torch['derivative_at_0']:.4g}"]
    if keras:
        parts.append(f"Keras {keras['derivative_at_0']:.4g}")
    left, right = torch["float32_zero_gradient"]
    ends = [f"{sign}{t:.4g}" for sign, t in (("x <= ", left), ("x >= ", right)) if t is not None]
    if ends:
        parts.append(f"torch's gradient is 0 for {', '.join(ends)}")
    if torch["largest_relative_error"] > 1e-5:
        parts.append(f"torch's value is {100 * torch['largest_relative_error']:.2g} % off at {torch['at']:.3g}")
    parts += [f"{way} {slope:g}" for way, slope in torch.get("zero_conventions", {}).items()]
    return " " * 14 + "; ".join(parts)


def _compare(
    names: list[str] | None, data: Path | None, seeds: int, epochs: int, plot: Path | None, as_json: bool
) -> None:
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json, progress
    from relukit.training.compare import NAMES, compare, default_data, draw

    if data is None:
        sets = default_data()
    else:
        from relukit.report import read_data

        x, y = read_data(data)
        if y is None:
            raise InvalidInput(f"{data} holds no targets: give an .npz with arrays x and y")
        sets = {data.stem: (x, y)}
    found = {}
    with progress("training") as advance:
        for name, (x, y) in sets.items():
            found[name] = compare(
                x.reshape(len(x), -1), y, names or NAMES, seeds=seeds, epochs=epochs,
                on_progress=lambda done, total, name=name: advance(done, f"{name}: run {done} of {total}"),
            )  # fmt: skip
    if plot is not None:
        draw(found, plot)
    if as_json:
        parts = {name: one.to_dict() for name, one in found.items()}
        rows = [{"data": name} | row for name, part in parts.items() for row in part.pop("rows")]
        print_json({"data": parts, "rows": rows} | (next(iter(parts.values())) if len(parts) == 1 else {}))
        return
    for name, one in found.items():
        print(f"{name}: {one.count} rows, {one.task}; widths that reach {0.95 * one.level:.3f}")
        _table(one.rows)


def _width(r: dict) -> str:
    """The median over seeds, and where it lies with 95 %."""
    low, high = (">32" if w is None else str(w) for w in r["smallest_width_interval"])
    middle = ">32" if r["smallest_width"] is None else str(r["smallest_width"])
    return middle if low == high == middle else f"{middle} ({low}-{high})"


def _table(rows: tuple) -> None:
    print(
        f"{'activation':11} {'layers':>6} {'score':>16} {'gap':>8} {'steps':>6} {'width':>11} {'zeros':>6} {'dead':>6} {'mean':>7} {'reach':>9} {'ms':>6} {'KiB':>7}"
    )
    for r in rows:
        score = f"{r['score']['mean']:.4f}+-{r['score']['half_width']:.4f}"
        level = "-" if r["steps_to_level"] is None else f"{r['steps_to_level']:.0f}"
        width = "-" if r["smallest_width_interval"] is None else _width(r)
        print(
            f"{r['activation']:11} {r['hidden_layers']:6} {score:>16} {r['gap']['mean']:8.4f} {level:>6} {width:>11} {r['zero_share']['mean']:6.2f} "
            f"{r['dead_share']['mean']:6.2f} {r['mean_activation']['mean']:7.3f} {r['gradient_reach']['mean']:9.2g} {r['milliseconds_per_step']['mean']:6.2f} {r['bytes_kept'] / 1024:7.0f}"
        )
