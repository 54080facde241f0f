"""`relukit activations [NAME...]`."""

from pathlib import Path

import typer


def command(
    names: list[str] | None = typer.Argument(None, help="Names of the catalogue; all by default"),
    plot: Path | None = typer.Option(None, help="Draw value and derivative into this .png, .svg or .pdf"),
    measured: bool = typer.Option(False, "--measured", help="Add what the installed torch computes"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The catalogue: formulas, derivatives, kinks, gains, and where float32 gradients die."""
    from relukit.activations import CATALOGUE, row
    from relukit.activations.facts import torch_facts
    from relukit.cli._frame import print_json

    rows = [row(name) for name in names] if names else list(CATALOGUE.values())
    found = [r.facts() | ({"torch_measured": torch_facts(r)} if measured else {}) for r in rows]
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
    if names:
        for facts in found:
            print(f"\n{facts['name']}: + {facts['pros']}\n{' ' * len(facts['name'])}  - {facts['cons']}")
