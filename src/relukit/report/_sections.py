"""The parts of the report: each takes a `Context` and returns a `Section`, or raises with the reason why it does not apply."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relukit._errors import UnsupportedOperation
from relukit.network import Affine, Network
from relukit.report._data import Data
from relukit.report._page import Section, escape, legend, table
from relukit.report._svg import stacked_bar
from relukit.sets import Box

_BOUND_UNITS = 30_000  # above this many units linear bounds over a box take longer than a reader waits
_HEALTH_NUMBERS = 200_000_000  # rows are cut so that all values together stay below this (1.6 GB in float64)


@dataclass
class Context:
    """What every section may use."""

    network: Network | None
    module: Any
    refusal: str
    name: str
    saved: bool = True  # whether `name` is a file
    seed: int = 0
    time_limit: float = 60.0
    box: Box | None = None
    box_source: str = ""
    data: Data | None = None
    raw_rows: Any = None
    out: Path | None = None
    rows_file: str = "ROWS.npz"  # what the commands of the page call the data
    smaller: Any = None

    def require(self) -> Network:
        """The network, or the reason why there is none: one for all parts, so that it is told once."""
        if self.network is None:
            other = (
                ". As a torch module, relukit.open(module, rows) still tells which units are dead"
                if self.module is None
                else ""
            )
            raise UnsupportedOperation(
                f"these need a network of affine maps and one-dimensional activations. {self.refusal.removesuffix('.')}{other}"
            )
        return self.network

    def rows(self) -> Data:
        """The rows, or one reason for all parts that need inputs."""
        if self.data is None:
            raise UnsupportedOperation(
                "these need inputs: give rows with --data FILE (.npz with x and y, .npy or .csv; data= in Python) or a box with "
                "--box LO:HI or --box FILE.vnnlib (box=)"
            )
        return self.data

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) where inputs look like an image."""
        if self.network is None:
            return None
        shape = self.network.input_shape
        if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) >= 4:
            return shape[0], shape[1], shape[2]
        side = round(self.network.inputs**0.5)
        return (
            (1, side, side)
            if side * side == self.network.inputs and side >= 8 and (self.data is None or self.data.real)
            else None
        )


def network_section(c: Context) -> Section:
    n = c.require()
    rows = []
    for node in n.nodes:
        if isinstance(node.op, Affine):
            what, count = (
                " + ".join(m.describe() for m in node.op.maps),
                f"{node.op.parameters:,}" if node.op.parameters else "",
            )
        else:
            what, count = repr(node.op) if node.is_activation else "input", ""
        rows.append([escape(node.name), escape(what), "x".join(map(str, node.shape)) or "1", count])
    listing = table(["node", "what it does", "shape", "parameters"], rows, "listing")
    if len(rows) > 16:
        listing = f"<details><summary>all {len(rows)} nodes</summary>{listing}</details>"
    notes = "".join(f"<p class='quiet'>{escape(note)}.</p>" for note in n.notes)
    head = (
        f"<p>A last {n.head} is set aside: exact methods work on the values before it, and decisions are the same.</p>"
        if n.head
        else ""
    )
    facts = [("parameters", f"{n.parameters:,}"), ("hidden units", f"{n.units:,}")]
    kinds = [repr(n.nodes[i].op) for i in n.activations]
    data = {
        "inputs": n.inputs,
        "input_shape": list(n.input_shape),
        "outputs": n.outputs,
        "units": n.units,
        "parameters": n.parameters,
        "activations": sorted(set(kinds)),
        "piecewise_linear": n.is_piecewise_linear,
        "head": n.head,
        "notes": list(n.notes),
        "origin": n.origin.kind,
        "nodes": [{"name": node.name, "shape": list(node.shape), "source": node.source} for node in n.nodes],
    }
    return Section("network", "What it is", head + listing + notes, facts=facts, data=data)


def _health(c: Context) -> tuple[Any, int, str]:
    """What `health` finds, on how many rows, and a sentence on what that means here."""
    from relukit.monitoring import health

    if c.network is None:
        if c.module is None:
            c.require()
        if c.raw_rows is None:
            raise UnsupportedOperation("health of a module that is no network needs rows: give them with --data FILE")
        note = " These are the outputs of its leaf modules; dead means the same value for every row."
        return health(c.module, c.raw_rows), len(c.raw_rows), note
    c.network.require_finite()
    data = c.rows()
    keep = min(len(data.x), max(2, _HEALTH_NUMBERS // max(sum(n.size for n in c.network.nodes), 1)))
    small = c.network.units <= _BOUND_UNITS
    targets = None if data.labels is None else data.labels[:keep]
    found = health(c.network, data.x[:keep], box=c.box if small else None, targets=targets)
    note = (
        "" if data.real else " The rows are sampled from the box: what is dead on them says little about real inputs."
    )
    note += "" if small else f" Proofs on a box are left out above {_BOUND_UNITS:,} units."
    return found, keep, note


def _layers(layers: list[dict[str, Any]]) -> str:
    """The table of all layers."""
    head = [
        "layer",
        "units",
        "always on, sometimes, dead",
        "always on",
        "dead on the data",
        "provably dead",
        "zeros",
        "gradient norm",
    ]
    body = []
    for layer in layers:
        n, off, on = layer["units"], layer["dead"], layer["always_on"]
        bar = stacked_bar(
            [
                (on, "c-on", f"{on} always on"),
                (n - on - off, "c-mid", f"{n - on - off} sometimes on"),
                (off, "c-dead", f"{off} dead"),
            ],
            n,
            f"{layer['name']}: {on} of {n} always on, {off} dead",
        )
        shown = "–" if layer.get("proven_dead") is None else str(layer["proven_dead"])
        grad = layer.get("grad_norm")
        body.append(
            [
                escape(layer["name"]),
                f"{n:,}",
                bar,
                str(on),
                str(off),
                shown,
                f"{100 * layer['zero_share']:.0f} %",
                "–" if grad is None else f"{grad:.3g}",
            ]
        )
    return table(head, body)


def health_section(c: Context) -> Section:
    found, rows_used, note = _health(c)
    content = found.to_dict()
    layers = content["layers"]
    total = sum(layer["units"] for layer in layers) or 1
    dead, proven = sum(layer["dead"] for layer in layers), sum(layer.get("proven_dead") or 0 for layer in layers)
    zero = sum(layer["zero_share"] * layer["units"] for layer in layers) / total
    saved = _saved(c.network, layers)
    saving = (
        f" Skipping the zeros would spare {100 * saved:.0f} % of the multiplications after the first layer."
        if saved is not None
        else ""
    )
    where = (
        f" Proofs hold on {c.box_source}." if c.box is not None and c.network is not None and proven is not None else ""
    )
    words = f"<p>Over {rows_used:,} rows, {dead} of {total:,} units never fire, {proven} of them provably; {100 * zero:.0f} % of all hidden values are zero.{saving}{where}{note}</p>"
    colors = legend(
        [("var(--on)", "on for every row"), ("var(--mid)", "on for some rows"), ("var(--warn)", "off for every row")]
    )
    content |= {"rows": rows_used, "zero_share": zero, "multiplications_spared": saved, "box": c.box_source or None}
    facts = [("dead units", f"{dead} of {total:,}"), ("zeros among hidden values", f"{100 * zero:.0f} %")]
    return Section("health", "Which units live", words + colors + _layers(layers), facts=facts, data=content)


def _saved(network: Network | None, layers: list[dict[str, Any]]) -> float | None:
    """Share of the multiplications reading hidden values that meet a zero."""
    if network is None or len(layers) != len(network.activations):
        return None
    total = spared = 0.0
    for layer, i in zip(layers, network.activations):
        for j in network.consumers[i]:
            op = network.nodes[j].op
            if isinstance(op, Affine):
                cost = sum(
                    m.terms * m.out_size
                    for m, source in zip(op.maps, network.nodes[j].inputs)
                    if source == i and m.parameters
                )
                total, spared = total + cost, spared + cost * layer["zero_share"]
    return spared / total if total else None


def compress_section(c: Context) -> Section:
    from relukit.compression import compress

    n = c.require()
    n.require_piecewise_linear("exact compression")
    if c.box is None:
        c.rows()
    if n.units > _BOUND_UNITS:
        raise UnsupportedOperation(
            f"{n.units:,} units are more than the {_BOUND_UNITS:,} that the report bounds on a box; use relukit compress"
        )
    found = compress(n, c.box, seed=c.seed)
    c.smaller = found
    before, after = found.parameters_before, found.parameters_after
    share = f"{100 * after / before:.0f} %"
    if found.form == "unchanged":
        words = f"<p>On {escape(c.box_source)}: {escape(found.reason)}.</p>"
    else:
        words = (
            f"<p>On {escape(c.box_source)}, {escape(found.reason)} can go: <b>{before:,} → {after:,} parameters ({share})</b>, written in {found.form} form"
            f"{' (undecided gates read the inputs directly)' if found.form == 'skip' else ''}. In real arithmetic the two differ by at most {found.error_bound:.1e} anywhere on it "
            f"(rounding of the folded weights, bounded); in float32 the largest difference seen is {found.max_difference:.1e}.</p>"
        )
        words += stacked_bar(
            [(after, "c-on", f"{after:,} parameters stay"), (before - after, "c-off", "removed")],
            before,
            "share of parameters that stay",
        )
    data = found.to_dict() | {"domain": c.box_source}
    if c.out is not None and found.form != "unchanged":
        from relukit.network import save

        data["file"] = save(found.network, c.out / "smaller.onnx").name
        words += f"<p>It is written beside this page as <code>{data['file']}</code>.</p>"
    return Section(
        "compress",
        "A smaller network that equals it",
        words,
        facts=[("parameters after exact compression", share)],
        data=data,
    )


def next_section(c: Context) -> Section:
    """Commands worth running next, for this network."""
    n, file = c.require(), Path(c.name).name
    lines = []
    if not c.saved:
        file = "model.onnx"
        lines.append(
            (f"relukit.save(relukit.load(model), '{file}')", "in Python, once: the commands below read a file")
        )
    rows = c.rows_file
    if c.data is None:
        lines.append((f"relukit open {file} --data {rows}", "health, pieces and flips need inputs"))
    if n.is_piecewise_linear:
        if n.outputs > 1 or n.head == "sigmoid":
            lines.append(
                (f"relukit flip {file} --at {rows}:0 --norm inf", "the smallest push that changes one decision")
            )
        else:
            lines.append((f'relukit optimize {file} --maximize "y[0]" --box LO:HI', "the exact maximum over a box"))
        if n.inputs > 2:
            what = (f"--plane {rows}", "the linear pieces of the plane through three rows")
        else:
            what = ("--box LO:HI", "the linear pieces of another box")
        lines.append((f"relukit regions {file} {what[0]} --plot pieces.svg", what[1]))
        lines.append((f"relukit explain {file} --at {rows}:0", "the affine map at one input, and how far it holds"))
    lines.append((f"relukit verify {file} PROPERTY.vnnlib", "prove a property or find a counterexample"))
    if c.smaller is not None and c.smaller.form != "unchanged":
        lines.append((f"relukit compress {file} --box LO:HI -o small.onnx", "the smaller network on another domain"))
    lines.append((f"relukit health {file} --data {rows}", "the same, unit by unit"))
    body = "".join(f"<p class='quiet'>{escape(why)}</p><pre>{escape(line)}</pre>" for line, why in lines)
    return Section("next", "What to do next", body)


def _lazy(module: str, function: str) -> Callable[[Context], Section]:
    def run(c: Context) -> Section:
        import importlib

        return getattr(importlib.import_module(f"relukit.report.{module}"), function)(c)

    return run


SECTIONS: dict[str, Callable[[Context], Section]] = {
    "network": network_section,
    "health": health_section,
    "regions": _lazy("_regions", "regions_section"),
    "flips": _lazy("_flips", "flips_section"),
    "compress": compress_section,
    "next": next_section,
}
