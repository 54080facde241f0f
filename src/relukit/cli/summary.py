"""`relukit summary FILE`."""

from pathlib import Path
from typing import Any

import typer

from relukit.cli._domains import WRITTEN, box_of


def command(
    file: Path = typer.Argument(..., help="A network: .onnx, .onnx.gz, .npz, .pt, .pt2, .safetensors, .keras, .nnet"),
    box: str = typer.Option("", help="Count the units that are stable on this box: " + WRITTEN),
    merge: Path | None = typer.Option(None, help="Write the equal network with affine stretches merged: .onnx or .npz"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print what a network is, layer by layer."""
    import relukit
    from relukit.cli._frame import print_json
    from relukit.network.summary import merge as merged
    from relukit.network.summary import summary

    network = relukit.load(file)
    content = summary(network)
    domain = network.box
    if box:
        domain = box_of(box, network.inputs)
    if domain is not None:
        content["stable"] = _stable(network, domain)
    if merge is not None:
        content["merged"] = str(relukit.save(merged(network), merge))
    if as_json:
        print_json(content)
        return
    print(network)
    print(
        f"\n{content['inputs']} inputs, {content['outputs']} outputs, {content['units']} units, {content['parameters']} parameters"
    )
    for note in network.notes:
        print(f"note: {note}")
    for run in content["affine_stretches"]:
        print(
            f"{' -> '.join(run)}: no activation between them, so together they are one affine map (--merge FILE writes it)"
        )
    for layer in content.get("stable", []):
        print(
            f"{layer['name']}: {layer['always_on']} always on, {layer['dead']} dead, {layer['undecided']} undecided on the box"
        )
    if merge is not None:
        print(f"merged network written to {content['merged']}")


def _stable(network: Any, domain: Any) -> list[dict[str, Any]]:
    from relukit.bounds import linear

    bounds = linear(network, domain)
    return [
        {
            "name": network.nodes[i].name,
            "units": network.nodes[i].size,
            "dead": int(bounds.off(i).sum()),
            "always_on": int(bounds.always_on(i).sum()),
            "undecided": int(bounds.undecided(i).sum()),
        }
        for i in network.activations
    ]
