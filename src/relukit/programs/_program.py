"""A solver-neutral mixed-integer program, and a network on a box as its rows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnboundedSet, UnwritablePath
from relukit._numerics import atomic_path
from relukit._types import Array
from relukit.bounds import CompactNetwork, compact, linear
from relukit.network import Network
from relukit.programs._partition import partition
from relukit.sets import Box

FORMULATIONS = ("big-m", "sos1", "partition")


@dataclass(eq=False)
class Program:
    """Minimize `cost . v + offset` over `lower <= v <= upper`, `row_lower <= A v <= row_upper`, some v whole, some pairs SOS1.

    Arguments:
        names: Of the columns; `row_names` of the rows.
        A: Sparse, shape `(rows, columns)`.
        integer: Which columns take whole numbers.
        sos1: Pairs of columns of which at most one is not 0.
        maximize: Whether `cost` is to be maximized instead.
    """

    names: list[str]
    lower: Array
    upper: Array
    integer: np.ndarray
    A: Any
    row_lower: Array
    row_upper: Array
    row_names: list[str]
    cost: Array
    offset: float = 0.0
    maximize: bool = False
    sos1: list[tuple[int, int]] = field(default_factory=list)

    def column(self, name: str) -> int:
        return self.names.index(name)

    def coefficient_range(self) -> tuple[float, float]:
        """Smallest and largest size of the entries of A that are not 0."""
        data = np.abs(self.A.data[self.A.data != 0])
        return (float(data.min()), float(data.max())) if len(data) else (0.0, 0.0)

    def solve(
        self, timeout: float = 60.0, solver: str = "highs", start: Array | None = None
    ) -> tuple[str, Array | None, float]:
        """Status, point and bound as a solver says them: to be replayed and cross-checked, never trusted alone.

        Arguments:
            timeout: Seconds.
            solver: `highs`, or `scip` (extra `scip`).
            start: Values of the first columns of a point that is known, shape `(k,)`.

        Raises:
            InvalidInput: An unknown solver, or SOS1 pairs, which HiGHS does not know.
            MissingExtra: The solver is not installed.
        """
        from relukit.programs._solvers import solve

        return solve(self, solver, timeout, start)

    def write(self, path: str | Path) -> Path:
        """Writes `.mps` or `.lp` (SOS1 pairs included), with all digits of the numbers.

        Raises:
            InvalidInput: Another ending.
            UnwritablePath: The file cannot be written.
        """
        path = Path(path)
        if path.suffix not in (".mps", ".lp"):
            raise InvalidInput(f"programs are written as .mps or .lp, got '{path.name}'")
        text = self._mps() if path.suffix == ".mps" else self._lp()
        try:
            with atomic_path(path) as temporary:
                Path(temporary).write_text(text)
        except OSError as error:
            raise UnwritablePath(f"cannot write {path}: {error.strerror}") from error
        return path

    def _mps(self) -> str:
        """Free MPS. A row with two different finite sides goes out as a range."""
        A = self.A.tocsc()
        lines = ["NAME relukit", "OBJSENSE", "    MAX" if self.maximize else "    MIN", "ROWS", " N cost"]
        kinds = [_kind(l, u) for l, u in zip(self.row_lower, self.row_upper)]
        lines += [f" {kind} {name}" for kind, name in zip(kinds, self.row_names)]
        lines.append("COLUMNS")
        inside = False
        for j, name in enumerate(self.names):
            if bool(self.integer[j]) != inside:
                inside = not inside
                lines.append(f"    MARKER 'MARKER' '{'INTORG' if inside else 'INTEND'}'")
            if self.cost[j] != 0:
                lines.append(f"    {name} cost {float(self.cost[j])!r}")
            for at in range(A.indptr[j], A.indptr[j + 1]):
                lines.append(f"    {name} {self.row_names[A.indices[at]]} {float(A.data[at])!r}")
            if self.cost[j] == 0 and A.indptr[j] == A.indptr[j + 1]:
                lines.append(f"    {name} cost 0.0")
        if inside:
            lines.append("    MARKER 'MARKER' 'INTEND'")
        lines.append("RHS")
        if self.offset:
            lines.append(f"    RHS cost {-float(self.offset)!r}")
        for kind, name, l, u in zip(kinds, self.row_names, self.row_lower, self.row_upper):
            if kind != "N":
                lines.append(f"    RHS {name} {float(u if kind in 'LE' else l)!r}")
        spans = [
            (n, l, u)
            for k, n, l, u in zip(kinds, self.row_names, self.row_lower, self.row_upper)
            if k == "L" and np.isfinite(l)
        ]
        if spans:
            lines += ["RANGES", *(f"    RNG {n} {float(u - l)!r}" for n, l, u in spans)]
        lines.append("BOUNDS")
        for name, l, u in zip(self.names, self.lower, self.upper):
            lines.append(f" MI BND {name}" if np.isneginf(l) else f" LO BND {name} {float(l)!r}")
            lines.append(f" PL BND {name}" if np.isposinf(u) else f" UP BND {name} {float(u)!r}")
        if self.sos1:
            lines.append("SOS")
            for k, (a, b) in enumerate(self.sos1):
                lines += [f" S1 set{k}", f"    {self.names[a]} 1", f"    {self.names[b]} 2"]
        return "\n".join([*lines, "ENDATA", ""])

    def _lp(self) -> str:
        A = self.A.tocsr()

        def terms(indices: Any, values: Any) -> str:
            return " ".join(
                f"{'-' if v < 0 else '+'} {abs(float(v))!r} {self.names[j]}" for j, v in zip(indices, values)
            )

        used = np.flatnonzero(self.cost)
        constant = f" {'-' if self.offset < 0 else '+'} {abs(float(self.offset))!r}" if self.offset else ""
        goal = terms(used, self.cost[used]) or f"0 {self.names[0]}"
        lines = ["Maximize" if self.maximize else "Minimize", f" cost: {goal}{constant}", "Subject To"]
        for i, name in enumerate(self.row_names):
            row = terms(A.indices[A.indptr[i] : A.indptr[i + 1]], A.data[A.indptr[i] : A.indptr[i + 1]])
            l, u = float(self.row_lower[i]), float(self.row_upper[i])
            if l == u:
                lines.append(f" {name}: {row} = {u!r}")
                continue
            if np.isfinite(u):
                lines.append(f" {name}: {row} <= {u!r}")
            if np.isfinite(l):
                lines.append(f" {name}{'_low' if np.isfinite(u) else ''}: {row} >= {l!r}")
        lines.append("Bounds")
        side = lambda v: "-inf" if np.isneginf(v) else "+inf" if np.isposinf(v) else repr(float(v))
        lines += [f" {side(l)} <= {name} <= {side(u)}" for name, l, u in zip(self.names, self.lower, self.upper)]
        if np.any(self.integer):
            lines += ["General", *(f" {self.names[j]}" for j in np.flatnonzero(self.integer))]
        if self.sos1:
            lines += [
                "SOS",
                *(f" set{k}: S1:: {self.names[a]}:1 {self.names[b]}:2" for k, (a, b) in enumerate(self.sos1)),
            ]
        return "\n".join([*lines, "End", ""])

    def __repr__(self) -> str:
        return f"Program({len(self.names)} columns, {int(np.sum(self.integer))} whole, {self.A.shape[0]} rows, {len(self.sos1)} SOS1)"


def _kind(low: float, high: float) -> str:
    if low == high:
        return "E"
    return "L" if np.isfinite(high) else "G" if np.isfinite(low) else "N"


@dataclass(frozen=True, eq=False)
class Encoding:
    """A network on a box as a program, and what it is made of.

    Columns are, in this order: inputs `x0..`, outputs `y0..`, gates `h0..`, parts of their sums `a0..` (partition), and for each
    gate its phase `d0..` (big-M, partition) or its other side `s0..` (SOS1).
    """

    program: Program
    small: CompactNetwork
    formulation: str
    units: int

    def report(self) -> dict[str, Any]:
        """Sizes that decide how hard and how sound the model is: M values, stable units, coefficient range, advice."""
        low, high = self.program.coefficient_range()
        gates = self.small.gates
        worst = float(np.max([-self.small.lower, self.small.upper], initial=0.0)) if gates else 0.0
        advice = []
        if high > 0 and high / low > 1e9:
            advice.append(
                f"coefficients span {low:.1e} to {high:.1e}: solvers may call wrong answers optimal; drop entries below 1e-9 of their "
                "row, scale inputs to [-1, 1], and replay every solution with check()"
            )
        if worst > 1e4:
            advice.append(
                f"M values up to {worst:.1e} with a solver's integrality tolerance of 1e-6 leak {worst * 1e-6:.1e} through a closed gate: narrow the box"
            )
        return {
            "formulation": self.formulation, "units": self.units, "unstable_units": gates, "stable_units": self.units - gates,
            "largest_M": worst, "smallest_coefficient": low, "largest_coefficient": high,
            "columns": len(self.program.names), "rows": int(self.program.A.shape[0]), "advice": advice,
        }  # fmt: skip


def encode(
    network: Network,
    box: Box,
    formulation: str = "big-m",
    input_scaler: tuple[Array, Array] | None = None,
    output_scaler: tuple[Array, Array] | None = None,
) -> Encoding:
    r"""A network on a box as a mixed-integer program without a goal.

    Only gates that are undecided on the box remain (linear bounds). Big-M: :math:`h \ge z`, :math:`h \le z - l (1 - d)`,
    :math:`h \le u d`. SOS1: :math:`h - s = z` with h, s at least 0 and at most one of them not 0; no M at all. Partition: big-M
    and the rows of `_partition`, a tighter relaxation with more columns.

    Arguments:
        network: Piecewise linear.
        box: Of the inputs as the user has them.
        formulation: `big-m`, `sos1` or `partition`.
        input_scaler: `(mean, scale)`: the network takes `(x - mean) / scale`, which is folded in.
        output_scaler: `(mean, scale)`: the model's outputs are `mean + scale * y`.

    Raises:
        InvalidInput: Unknown formulation, or a scaler that does not fit.
        UnboundedSet: The box is not bounded.
        UnsupportedOperation: A smooth activation.

    References:
        Evaluating Robustness of Neural Networks with Mixed Integer Programming, Tjeng et al., 2019 (big-M).
        Partition-Based Formulations for Mixed-Integer Optimization of Trained ReLU Neural Networks, Tsay et al., 2021.
    """
    import scipy.sparse as sp

    network.require_piecewise_linear("a mixed-integer program")
    if formulation not in FORMULATIONS:
        raise InvalidInput(f"formulation must be one of {', '.join(FORMULATIONS)}, got '{formulation}'")
    if not np.all(np.isfinite(box.lower) & np.isfinite(box.upper)):
        raise UnboundedSet("the inputs need finite bounds: the model's M values come from them")
    mean, scale = _scaler(input_scaler, network.inputs, "input_scaler")
    out_mean, out_scale = _scaler(output_scaler, network.outputs, "output_scaler")
    inner = Box(*(np.sort(np.stack([(box.lower - mean) / scale, (box.upper - mean) / scale]), axis=0)))
    bounds = linear(network, inner)
    small = compact(network, inner, bounds)
    n, m, K = network.inputs, network.outputs, small.gates
    C, X = small.C / scale, small.X / scale * out_scale[:, None]
    b = small.b - C @ mean
    H, c = small.H * out_scale[:, None], small.c * out_scale + out_mean - X @ mean
    low, high = bounds.output
    ends = np.sort(np.stack([low * out_scale + out_mean, high * out_scale + out_mean]), axis=0)
    W = sp.csr_matrix(small.W)
    eye, none = sp.identity(K), lambda r, k: sp.csr_matrix((r, k))
    outputs = sp.hstack([-sp.csr_matrix(X), sp.identity(m), -sp.csr_matrix(H), none(m, K)])
    upper = np.maximum(small.upper, 0.0)
    if formulation != "sos1":
        rows = [
            outputs,
            sp.hstack([-sp.csr_matrix(C), none(K, m), eye - W, none(K, K)]),  # h - z >= 0
            sp.hstack([-sp.csr_matrix(C), none(K, m), eye - W, -sp.diags(small.lower)]),  # h - z - l d <= -l
            sp.hstack([none(K, n + m), eye, -sp.diags(upper)]),  # h - u d <= 0
        ]
        sides = [
            (c, c),
            (b, np.full(K, np.inf)),
            (np.full(K, -np.inf), b - small.lower),
            (np.full(K, -np.inf), np.zeros(K)),
        ]
        labels = [("out", m), ("above", K), ("on", K), ("off", K)]
        last_lower, last_upper, last = np.zeros(K), np.ones(K), "d"
    else:
        rows = [outputs, sp.hstack([-sp.csr_matrix(C), none(K, m), eye - W, -eye])]  # h - s - z = 0
        sides = [(c, c), (b, b)]
        labels = [("out", m), ("gate", K)]
        last_lower, last_upper, last = np.zeros(K), np.maximum(-small.lower, 0.0), "s"
    A = sp.vstack(rows).tocsr()
    row_lower, row_upper = np.concatenate([side[0] for side in sides]), np.concatenate([side[1] for side in sides])
    row_names = [f"{label}{k}" for label, count in labels for k in range(count)]
    part_lower = part_upper = np.zeros(0)
    if formulation == "partition":
        more = partition(C, small.W, b, box.lower, box.upper, upper)
        part_lower, part_upper = more.lower, more.upper
        at, P = n + m + K, len(more.lower)
        A = sp.hstack([A[:, :at], sp.csr_matrix((A.shape[0], P)), A[:, at:]])
        none_y = sp.csr_matrix((more.rows.shape[0], m))
        A = sp.vstack([A, sp.hstack([more.rows[:, :n], none_y, more.rows[:, n:]])]).tocsr()
        row_lower, row_upper = np.r_[row_lower, more.row_lower], np.r_[row_upper, more.row_upper]
        row_names += more.labels
    P = len(part_lower)
    groups = (("x", n), ("y", m), ("h", K), ("a", P), (last, K))
    program = Program(
        [f"{letter}{k}" for letter, count in groups for k in range(count)],
        np.concatenate([box.lower, ends[0], np.zeros(K), part_lower, last_lower]),
        np.concatenate([box.upper, ends[1], upper, part_upper, last_upper]),
        np.r_[np.zeros(n + m + K + P, bool), np.full(K, formulation != "sos1")],
        A, row_lower, row_upper, row_names, np.zeros(n + m + 2 * K + P),
        sos1=[(n + m + k, n + m + K + k) for k in range(K)] if formulation == "sos1" else [],
    )  # fmt: skip
    program.A.eliminate_zeros()
    return Encoding(program, small, formulation, network.units)


def _scaler(given: tuple[Array, Array] | None, size: int, name: str) -> tuple[Array, Array]:
    if given is None:
        return np.zeros(size), np.ones(size)
    mean, scale = (np.broadcast_to(np.asarray(v, float), (size,)) for v in given)
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(scale)) and np.all(scale != 0)):
        raise InvalidInput(f"{name} needs finite numbers and scales that are not 0")
    return mean, scale
