"""`open`: run all that applies to one network and write one report."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnsupportedOperation, UnwritablePath
from relukit._numerics import write_bytes, write_json
from relukit._version import __version__
from relukit.network import Network, load
from relukit.report._data import Data, fit_data, read_data
from relukit.report._page import Section, page
from relukit.report._sections import SECTIONS, Context
from relukit.sets import Box

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Report:
    """What `open` found.

    Arguments:
        content: The content of `report.json`.
        html: The page.
        path: Where `index.html` was written, or None.
    """

    content: dict[str, Any]
    html: str
    path: Path | None

    def to_dict(self) -> dict[str, Any]:
        return self.content

    def _repr_html_(self) -> str:
        import html

        return f'<iframe style="width:100%;height:720px;border:0" srcdoc="{html.escape(self.html)}"></iframe>'

    def __repr__(self) -> str:
        done = ", ".join(
            k for k in self.content if k not in ("schema_version", "relukit_version", "source", "skipped", "seconds")
        )
        return (
            f"Report({done}; {len(self.content['skipped'])} parts do not apply{f'; {self.path}' if self.path else ''})"
        )


def open(
    source: Any,
    data: Any = None,
    box: Box | str | Path | Callable[[int], Box] | None = None,
    out: str | Path | None = "report",
    input_shape: tuple[int, ...] | None = None,
    seed: int = 0,
    time_limit: float = 60.0,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Everything relukit can say about one network, as `index.html` and `report.json`.

    Arguments:
        source: Whatever `relukit.load` reads. A torch module that is no piecewise-linear network still gets its health.
        data: Rows: a path (`.npz` with `x` and optional `y`, `.npy`, `.csv`), an array, or a pair `(x, y)`.
        box: The inputs that count: a `Box`, or a VNN-LIB file whose box is taken, or a function from the number of inputs to a box.
            Without it the file's own box, else the range of the data.
        out: Folder for the two files, or None to write nothing.
        input_shape: Shape of one input, where a torch module does not tell it.
        seed: For everything that samples.
        time_limit: Seconds that the flips may take together; what compiling takes, once on a machine, is not counted.
        on_progress: Called with `(done, total, what)`.

    Returns:
        A `Report`; what does not apply to the network is listed in it with the reason.

    Raises:
        UnreadableFile, InvalidInput, ShapeMismatch: Bad input, with what to do next.
    """
    if seed < 0:
        raise InvalidInput(f"seed is a whole number, 0 or more, got {seed}")
    if not time_limit >= 0:
        raise InvalidInput(f"the time limit is a number of seconds, 0 or more, got {time_limit}")
    tell = on_progress or (lambda done, total, what: None)
    tell(0, len(SECTIONS) + 1, "reading")
    network, module, refusal = _read(source, input_shape)
    arrays = _arrays(data, network)
    context = _context(source, network, module, refusal, data, arrays, box, out, seed, time_limit)
    if out is not None:  # after bad input was refused, before anything is computed
        _make(Path(out))
    sections, seconds = [], {}
    for k, (name, make) in enumerate(SECTIONS.items()):
        tell(k + 1, len(SECTIONS) + 1, name)
        started = time.process_time()
        sections.append(_run(name, make, context))
        seconds[name] = round(time.process_time() - started, 3)
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "relukit_version": __version__, "source": context.name}
    content |= {s.name: s.data for s in sections if s.applies and s.data is not None}
    content["skipped"] = [{"section": s.name, "reason": s.reason} for s in sections if not s.applies]
    content["seconds"] = seconds
    text = page(
        f"{Path(context.name).name}, opened",
        _lead(context),
        sections,
        f"relukit {__version__}. All numbers are in report.json.",
    )
    path = None
    if out is not None:
        folder = Path(out)
        path = write_bytes(folder / "index.html", text.encode())
        write_json(folder / "report.json", content)
    return Report(content, text, path)


def _context(
    source: Any, network: Network | None, module: Any, refusal: str, data: Any, arrays: tuple[Any, Any] | None,
    box: Box | str | Path | Callable[[int], Box] | None, out: str | Path | None, seed: int, time_limit: float,
) -> Context:  # fmt: skip
    """What all sections share: the network, its rows, and the inputs that count."""
    context = Context(
        network,
        module,
        refusal,
        _name(source),
        isinstance(source, str | Path),
        seed=seed,
        time_limit=time_limit,
        out=None if out is None else Path(out),
    )
    if isinstance(data, str | Path):
        context.rows_file = Path(data).name
    if network is not None:
        context.box = _box(network, box)
        context.data = _rows(network, arrays, context.box, seed, str(data) if isinstance(data, str | Path) else "data")
        if context.box is None and context.data is not None:
            context.box, context.box_source = (
                Box(context.data.x.min(axis=0), context.data.x.max(axis=0)),
                "the range of the data",
            )
        elif context.box is not None:
            context.box_source = "the given box" if box is not None else "the network's own box"
    elif arrays is not None:
        context.raw_rows = arrays[0]
    return context


def _make(folder: Path) -> None:
    """The folder of the report, before anything is computed for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritablePath(
            f"cannot write to the folder {folder}: {error.strerror}. Choose another place with -o."
        ) from error


def _run(name: str, make: Callable[[Context], Section], context: Context) -> Section:
    """One section; what relukit cannot do for this network becomes a sentence, a defect of relukit stays an error."""
    try:
        return make(context)
    except (UnsupportedOperation, InvalidInput, MemoryError) as error:
        return Section(name, name.capitalize(), reason=str(error) or "not enough memory for this network")


def _read(source: Any, input_shape: tuple[int, ...] | None) -> tuple[Network | None, Any, str]:
    """The network, or the module and the reason why it is no network."""
    try:
        return load(source, input_shape), None, ""
    except UnsupportedOperation as error:
        kinds = {c.__module__.split(".")[0] for c in type(source).__mro__}
        module = source if "torch" in kinds else None
        return None, module, str(error)


def _name(source: Any) -> str:
    if isinstance(source, str | Path):
        return str(source)
    return type(source).__name__


def _arrays(data: Any, network: Network | None) -> tuple[Any, Any] | None:
    if data is None:
        return None
    if isinstance(data, str | Path):
        return read_data(data, network)
    if isinstance(data, tuple) and len(data) == 2:
        return _array(data[0]), None if data[1] is None else _array(data[1])
    x = _array(data)
    if network is not None and x.shape in ((network.inputs,), network.input_shape):  # one input in its own shape
        x = x.reshape(1, -1)
    return x, None


def _array(values: Any) -> Any:
    """NumPy's view of lists, tables and tensors, on whatever device and with or without a gradient."""
    return np.asarray(values.detach().to("cpu") if hasattr(values, "detach") else values)


def _rows(network: Network, arrays: tuple[Any, Any] | None, box: Box | None, seed: int, source: str) -> Data | None:
    if arrays is not None:
        return fit_data(network, arrays[0], arrays[1], source)
    if box is None:
        return None
    return Data(box.sample(500, seed).astype(np.float64), None, "500 points sampled from the box", real=False)


def _box(network: Network, box: Box | str | Path | Callable[[int], Box] | None) -> Box | None:
    if box is None:
        return network.box
    if isinstance(box, Box):
        found = box
    elif callable(box):
        found = box(network.inputs)
    else:
        from relukit.verification import vnnlib

        found = vnnlib.read_box(box)
    if found.size != network.inputs:
        raise ShapeMismatch(f"the box has {found.size} inputs, the network takes {network.inputs}")
    return found


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _lead(context: Context) -> str:
    if context.network is None:
        return "This model is no network of affine maps and one-dimensional activations, so exact methods do not apply to it; what does is below."
    n = context.network
    kinds = sorted({n.nodes[i].op.name for i in n.activations})
    what = f"{n.inputs} input{_s(n.inputs)}, {n.outputs} output{_s(n.outputs)}, {n.units:,} hidden unit{_s(n.units)} ({', '.join(kinds) or 'no activation'}), {n.parameters:,} parameters."
    rows = (
        ""
        if context.data is None
        else f" Looked at with {len(context.data.x):,} rows{'' if context.data.real else ' sampled from its box'}."
    )
    return what + rows
