"""`relukit health MODEL`."""

from pathlib import Path

import typer

from relukit.cli._domains import WRITTEN, box_of


def command(
    model: Path = typer.Argument(..., help="A network"),
    data: Path = typer.Option(..., help="Rows: .npz with x (and y), .npy or .csv"),
    box: str = typer.Option("", help="Prove units dead on this box: " + WRITTEN),
    fix: Path | None = typer.Option(
        None, help="Revive dead units (of convolutions: dead channels) and write the network here (.onnx or .npz)"
    ),
    plot: Path | None = typer.Option(None, help="Draw the activity of every unit here (.png, .svg, .pdf)"),
    check: bool = typer.Option(
        False, "--check", help="Exit with 10 where something is wrong or a unit is dead on the data"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Silent, dead, provably dead and always-on units, layer by layer."""
    import relukit
    from relukit._errors import InvalidInput, UnsupportedOperation
    from relukit.report import read_data, read_rows

    try:
        network = relukit.load(model)
    except UnsupportedOperation:
        if model.suffix != ".pt2" or box or fix is not None:
            raise
        from relukit.monitoring._module import exported_health

        _show(exported_health(model, read_data(data)[0]), {}, plot, check, as_json)
        return
    rows = read_rows(network, data)
    domain = network.box
    if box:
        domain = box_of(box, network.inputs)
    found = relukit.health(network, rows.x, domain, rows.labels)
    if not found.layers:
        raise InvalidInput(
            f"{model.name} has no activation: it is one affine map, so there are no units to watch. `relukit explain` shows the map."
        )
    answer: dict = {}
    if fix is not None:
        dead = sum(layer.dead for layer in found.layers)
        revived, count = relukit.revive(network, rows.x)
        after = relukit.health(revived, rows.x, domain, rows.labels)
        relukit.save(revived, fix)
        difference = float(abs(revived(rows.x) - network(rows.x)).max())
        answer["fix"] = {
            "revived": count, "dead_before": dead, "dead_after": sum(layer.dead for layer in after.layers),
            "max_output_difference": difference, "written": str(fix),
        }  # fmt: skip
    _show(found, answer.get("fix", {}), plot, check, as_json)


def _show(found, fixed: dict, plot: Path | None, check: bool, as_json: bool) -> None:
    from relukit.cli._frame import FINDING, print_json

    answer = found.to_dict() | ({"fix": fixed} if fixed else {})
    if plot is not None:
        found.plot(plot)
        answer["plot"] = str(plot)
    if as_json:
        print_json(answer)
    else:
        wide = max([16, *(len(layer.name) for layer in found.layers)])
        print(
            f"{'layer':{wide}} {'units':>6} {'silent':>7} {'dead':>6} {'proven':>7} {'always on':>10} {'zeros':>7} {'gradient':>9}"
        )
        for layer in found.layers:
            proven = "-" if layer.proven_dead is None else layer.proven_dead
            grad = "-" if layer.grad_norm is None else f"{layer.grad_norm:.3g}"
            print(
                f"{layer.name:{wide}} {layer.units:6} {layer.silent:7} {layer.dead:6} {proven:>7} {layer.always_on:10} {100 * layer.zero_share:6.1f}% {grad:>9}"
            )
        for finding in found.findings:
            print(finding)
        if fixed:
            print(
                "revived {revived} units ({dead_before} dead before, {dead_after} after; outputs differ by at most {max_output_difference:.2g}); written to {written}".format(
                    **fixed
                )
            )
    if check and (found.findings or any(layer.dead for layer in found.layers)):
        raise typer.Exit(FINDING)
