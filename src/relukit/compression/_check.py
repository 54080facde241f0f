"""Checks the proof of a compression from three files: the proof, the original network, the smaller one.

Stands by itself: NumPy, SciPy's sparse matrices, the ONNX format, and the checker of unit claims. Also runs alone:
`python -m relukit.compression._check PROOF ORIGINAL SMALL`.

Both networks are read as ReLUs h = max(0, z) over inputs x and other ReLUs; other kinks and maxima are sums of them (`_check_kinks`). The proof names the units of the original that stay variables
(`gates`: first those that the ReLUs of the smaller network stand for, in its order, then those that cancel), the units that are multiples of them
(`merged`), and those that count as a line of their sum (`lines`). Every other unit counts as 0 or as its sum, whichever its bounds allow with less
error, and a ReLU of the smaller network that stands for no unit (-1) likewise. What that leaves out is computed here from bounds made anew over
the proof's domain, never taken from the proof. Then both networks are matrices over (1, x, gates), and their differences, times the
largest values, bound how far each gate and then each output can be apart; that bound must not exceed the claimed one.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from relukit.compression._check_bounds import Bounder, U, g
from relukit.compression._check_network import Node, read
from relukit.verification import checker as claims
from relukit.verification.checker import Rejected, demand

_ALL = 4_000  # ReLUs up to which all open ones are bounded by substitution; beyond, only those that have to be shown


@dataclass
class Form:
    """A node's value as `A (1, x, gates)`, off by at most `error` over the domain."""

    A: Any
    error: np.ndarray


def domain_of(arrays: dict[str, np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes `(count, n)` and rows `A x <= a` that hold in all of them."""
    lower, upper = np.atleast_2d(arrays["lower"]).astype(float), np.atleast_2d(arrays["upper"]).astype(float)
    A, a = arrays["rows"].astype(float).reshape(-1, n), arrays["sides"].astype(float).ravel()
    fits = lower.shape == upper.shape and lower.shape[1] == n and len(lower) and len(A) == len(a)
    demand(bool(fits) and all(np.isfinite(v).all() for v in (lower, upper, A, a)) and (lower <= upper).all(), "the proof's domain does not fit the network")  # fmt: skip
    return lower, upper, A, a


def network_of(path: str) -> list[Node]:
    """The nodes of a file; whatever it holds that cannot be read is a refusal."""
    try:
        return read(path)
    except Rejected:
        raise
    except Exception as error:
        raise Rejected(f"{path} is damaged, or of a form that the checker does not read: {type(error).__name__} {error}") from error  # fmt: skip


def ball_of(arrays: dict[str, np.ndarray], n: int) -> tuple[np.ndarray, float, int] | None:
    """Center, radius and norm (1 or 2) of a ball that cuts the boxes; None without one."""
    if "center" not in arrays:
        return None
    center, radius, norm = arrays["center"].astype(float).ravel(), float(arrays["radius"]), int(arrays["norm"])
    demand(len(center) == n and bool(np.isfinite(center).all()) and np.isfinite(radius) and radius >= 0 and norm in (1, 2), "the proof's ball does not fit the network")  # fmt: skip
    return center, radius, norm


def bounds_of(nodes: list[Node], arrays: dict[str, np.ndarray], wanted: dict[int, np.ndarray] | None, claims: dict[int, Any]) -> list[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Bounds over the whole domain of what each ReLU node reads, in the order of the ReLU nodes.

    Arguments:
        wanted: For each ReLU node's source, units that have to be bounded well; None for all.
        claims: For a ReLU node's source, ends that trees have shown.
    """
    lower, upper, A, a = domain_of(arrays, nodes[0].size)
    bounder = Bounder(nodes, A, a, ball_of(arrays, nodes[0].size))
    units = sum(nodes[i].size for i in bounder.relus)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for low, high in zip(lower, upper):
        L, H = bounder.over(low, high, claims, {} if wanted is None or units <= _ALL else wanted)
        at = [nodes[i].sources[0] for i in bounder.relus]
        new = [(L[s], H[s]) for s in at]
        found = [(np.minimum(p[0], q[0]), np.maximum(p[1], q[1])) for p, q in zip(found, new)] if found else new
    return found


def layers_of(nodes: list[Node]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A chain as the layers `(W, b, which units are ReLUs)` that the checker of unit claims reads."""
    demand(all(node.sources == [i - 1] for i, node in enumerate(nodes) if i), "claims are about chains of layers only")
    layers: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for i, node in enumerate(nodes[1:], start=1):
        if node.is_relu:
            demand(bool(layers) and not nodes[i - 1].is_relu, "claims are about ReLUs that read affine nodes")
            layers[-1] = (*layers[-1][:2], np.ones(node.size, bool))
            continue
        demand(node.size * nodes[i - 1].size < 5e7, "a layer is too large for claims")
        M = node.maps[0]
        layers.append((M.toarray() if sparse.issparse(M) else M, node.bias, np.zeros(node.size, bool)))
    return layers


def shown_by_trees(proof: str, nodes: list[Node], arrays: dict[str, np.ndarray]) -> dict[int, Any]:
    """Ends that the proof's trees show: for the node that a ReLU reads, lower ends 0 and upper ends 0 of single units."""
    if int(arrays["claims"]) == 0:
        return {}
    net = claims.Bounder(layers_of(nodes))
    relus = [i for i, node in enumerate(nodes) if node.is_relu]
    lower, upper = np.atleast_2d(arrays["lower"]).min(axis=0), np.atleast_2d(arrays["upper"]).max(axis=0)
    found: dict[int, Any] = {}
    for claim in claims.read_claims(proof, net):
        claims.check_claim(net, claim)
        demand((claim.lower <= lower).all() and (claim.upper >= upper).all(), "a claim is about another box")
        single = claim.layer < len(relus) and len(claim.d) == 1 and not claim.D.any() and claim.d[0] <= 0
        demand(single and np.count_nonzero(claim.C[0]) == 1, "a claim is not about a unit")
        demand(claim.C.shape[1] == nodes[relus[claim.layer]].size, "a claim is about a layer of another width")
        source, j = nodes[relus[claim.layer]].sources[0], int(np.argmax(np.abs(claim.C[0])))
        L, H = found.setdefault(source, (np.full(nodes[source].size, -np.inf), np.full(nodes[source].size, np.inf)))
        side, value = (H, 0.0) if claim.C[0, j] < 0 else (L, 0.0)
        side[j] = value
    return found


class Reader:
    """One network's nodes as forms over (1, x, gates)."""

    def __init__(self, nodes: list[Node], lower: np.ndarray, upper: np.ndarray, gates: int) -> None:
        self.nodes, n = nodes, len(lower)
        self.width = 1 + n + gates
        self.reach = np.r_[1.0, np.maximum(np.abs(lower), np.abs(upper)), np.zeros(gates)]
        fixed = lower == upper  # an input that does not move is a number
        A = sparse.lil_matrix((n, self.width))
        A[np.flatnonzero(~fixed), 1 + np.flatnonzero(~fixed)] = 1.0
        A[np.flatnonzero(fixed), 0] = lower[fixed]
        self.forms: dict[int, Form] = {0: Form(A.tocsr(), np.zeros(n))}

    def affine(self, i: int) -> Form:
        node = self.nodes[i]
        A = sparse.csr_matrix((node.size, self.width))
        error, size = np.zeros(node.size), np.abs(node.bias)
        for s, M in zip(node.sources, node.maps):
            form = self.forms[s]
            A = A + sparse.csr_matrix(M) @ form.A
            error = error + abs(M) @ form.error
            size = size + abs(M) @ (abs(form.A) @ self.reach)
        bias = sparse.csr_matrix((node.bias, (np.arange(node.size), np.zeros(node.size, int))), (node.size, self.width))
        return Form(sparse.csr_matrix(A + bias), 1.01 * (error + g(node.terms) * size))

    def lines(self, z: Form, slope: np.ndarray, offset: np.ndarray, L: np.ndarray, H: np.ndarray) -> Form:
        """Units counted as `slope z + offset`: what a ReLU is off that at most between L and H."""
        gap = lambda v: np.abs(np.maximum(v, 0) - slope * v - offset)
        off = np.maximum(gap(L), np.maximum(gap(H), np.where((L < 0) & (H > 0), np.abs(offset), 0)))
        plain = ((slope == 0) | (slope == 1)) & (offset == 0)
        size = np.abs(slope) * (abs(z.A) @ self.reach) + np.abs(offset) + np.maximum(np.abs(L), np.abs(H))
        start = sparse.csr_matrix((offset, (np.arange(len(offset)), np.zeros(len(offset), int))), z.A.shape)
        return Form(sparse.csr_matrix(sparse.diags(slope) @ z.A + start), 1.01 * (np.abs(slope) * z.error + off + np.where(plain, 0, 8 * U * size)))  # fmt: skip


def sharper(reader: Reader, z: Form, L: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds with what the form itself shows: sums whose parts cancel are numbers."""
    center = np.asarray(z.A[:, [0]].todense()).ravel()
    size = abs(z.A) @ reader.reach
    rest = 1.01 * (np.maximum(size - np.abs(center), 0) + z.error + g(reader.width) * size)
    return np.maximum(L, center - rest), np.minimum(H, center + rest)


def check(proof: str, original: str, small: str) -> dict[str, Any]:
    """Raise `Rejected` unless the proof shows both networks equal on its domain up to its bound; returns what was shown."""
    try:
        with open(proof, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
        real, claimed = int(arrays["real_gates"]), float(arrays["error_bound"])
        _ = [arrays[k] for k in ("lower", "upper", "rows", "sides", "claims")]
        gates = arrays["gates"].astype(np.int64).reshape(-1, 2).tolist()
        merged = dict(zip(map(tuple, arrays["merged"].astype(np.int64).reshape(-1, 3)[:, :2].tolist()), zip(arrays["merged"].astype(np.int64).reshape(-1, 3)[:, 2].tolist(), arrays["factors"].tolist(), strict=True)))  # fmt: skip
        lines = dict(zip(map(tuple, arrays["lines"].astype(np.int64).reshape(-1, 2).tolist()), arrays["line_values"].reshape(-1, 2).tolist(), strict=True))  # fmt: skip
    except Exception as error:
        raise Rejected(f"the proof is damaged: {error}") from error
    nodes = network_of(original)
    lower, upper, *_ = domain_of(arrays, nodes[0].size)
    relus = [i for i, node in enumerate(nodes) if node.is_relu]
    number = {(k, j): i for i, (k, j) in enumerate(gates) if k >= 0}
    demand(0 <= real <= len(gates), "the proof names fewer gates than it counts")
    demand(len(number) == sum(k >= 0 for k, _ in gates), "two gates stand for one unit")
    named = [*number, *merged, *lines]
    demand(all(0 <= k < len(relus) and 0 <= j < nodes[relus[k]].size for k, j in named), "the proof names a unit that does not exist")  # fmt: skip
    demand(all(np.isfinite(c) and c > 0 for _, c in merged.values()) and all(np.isfinite(v).all() for v in lines.values()), "a factor or a line is no number, or a factor not positive")  # fmt: skip
    wanted = {nodes[i].sources[0]: np.array([(k, j) not in number for j in range(nodes[i].size)], bool) for k, i in enumerate(relus)}  # fmt: skip
    ends = bounds_of(nodes, arrays, wanted, shown_by_trees(proof, nodes, arrays))

    reader = Reader(nodes, lower.min(axis=0), upper.max(axis=0), len(gates))
    first = 1 + nodes[0].size
    rows: dict[int, tuple[Any, float]] = {}  # what each gate of the original reads, and its error
    stable = 0
    for i, node in enumerate(nodes[1:], start=1):
        if not node.is_relu:
            reader.forms[i] = reader.affine(i)
            continue
        k = relus.index(i)
        z = reader.forms[node.sources[0]]
        L, H = sharper(reader, z, *ends[k])
        stable += int(np.sum((L >= 0) | (H <= 0)))
        slope, offset = (H > -L) * 1.0, np.zeros(node.size)
        special = [j for j in range(node.size) if (k, j) in number or (k, j) in merged]
        for j in range(node.size):
            if (k, j) in lines:
                slope[j], offset[j] = lines[k, j]
        slope[special], offset[special] = 0.0, 0.0
        out = reader.lines(z, slope, offset, L, H)
        out.error[special] = 0
        columns, factors = [], []
        for j in special:
            if (k, j) in number:
                column = number[k, j]
                reader.reach[first + column] = max(H[j], 0.0)
                rows[column] = z.A[[j]], float(z.error[j])
                columns.append(first + column)
                factors.append(1.0)
        for j in special:
            if (k, j) in merged and (k, j) not in number:
                column, c = merged[k, j]
                demand(column in rows, "a unit is merged into a gate that does not come before it")
                row, error = rows[column]
                off = abs(z.A[[j]] - c * row) @ reader.reach + 4 * U * (abs(z.A[[j]]) @ reader.reach)
                out.error[j] = 1.01 * (off.item() + z.error[j] + c * error)
        order = [j for j in special if (k, j) in number] + [j for j in special if (k, j) not in number]
        for j in order[len(columns) :]:
            columns.append(first + merged[k, j][0])
            factors.append(merged[k, j][1])
        out.A = sparse.csr_matrix(out.A + sparse.csr_matrix((factors, (order, columns)), out.A.shape))
        reader.forms[i] = out
    demand(len(rows) == len(number), "the proof names a gate that is no ReLU")
    bound = _apart(reader, rows, small, gates[:real], arrays, first)
    demand(
        np.isfinite(bound) and bound <= claimed,
        f"the networks may be {bound:.3g} apart, the proof claims {claimed:.3g}",
    )
    return {"error_bound": bound, "gates": real, "stable_units": stable}


def _apart(theirs: Reader, rows: dict[int, tuple[Any, float]], small: str, gates: list, arrays: Any, first: int) -> float:  # fmt: skip
    """How far the outputs of the smaller network can be from the original's over the domain."""
    nodes = network_of(small)
    demand(nodes[0].size == theirs.nodes[0].size, "the networks differ in their inputs")
    relus = [i for i, node in enumerate(nodes) if node.is_relu]
    count = sum(nodes[i].size for i in relus)
    demand(count == len(gates), f"the smaller network has {count} gates, the proof names {len(gates)}")
    ends = bounds_of(nodes, arrays, None, {}) if any(k < 0 for k, _ in gates) else []
    lower, upper, *_ = domain_of(arrays, nodes[0].size)
    ours = Reader(nodes, lower.min(axis=0), upper.max(axis=0), theirs.width - first)
    gap, at = np.zeros(theirs.width), 0  # how far each gate of the two networks can be apart
    for i, node in enumerate(nodes[1:], start=1):
        if not node.is_relu:
            ours.forms[i] = ours.affine(i)
            continue
        z = ours.forms[node.sources[0]]
        stands = np.array([k >= 0 for k, _ in gates[at : at + node.size]], bool)
        if stands.all():
            out = Form(sparse.csr_matrix(z.A.shape), np.zeros(node.size))
        else:
            L, H = sharper(ours, z, *ends[relus.index(i)])
            slope = np.where(stands, 0.0, H > -L)
            out = ours.lines(z, slope, np.zeros(node.size), L, H)
            out.error[stands] = 0
        kept = np.flatnonzero(stands)
        columns = first + at + kept
        if len(kept):
            A = sparse.vstack([rows[at + j][0] for j in kept], format="csr")
            error = np.array([rows[at + j][1] for j in kept])
            gap[columns] = _difference(A, error, z.A[kept], z.error[kept], theirs.reach, gap)
            ours.reach[columns] = theirs.reach[columns] + gap[columns]
        out.A = sparse.csr_matrix(out.A + sparse.csr_matrix((np.ones(len(kept)), (kept, columns)), out.A.shape))
        ours.forms[i], at = out, at + node.size
    one, two = theirs.forms[len(theirs.nodes) - 1], ours.forms[len(nodes) - 1]
    demand(one.A.shape == two.A.shape, "the outputs differ in number")
    demand(theirs.nodes[-1].head == nodes[-1].head, f"one network ends in '{theirs.nodes[-1].head}', the other in '{nodes[-1].head}'")  # fmt: skip
    return float(_difference(one.A, one.error, two.A, two.error, theirs.reach, gap).max())


def _difference(A: Any, error: np.ndarray, B: Any, other: np.ndarray, reach: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """A bound of `|A v - B w|` for v within reach and w within `gap` of v, errors included."""
    apart = abs(A - B) @ reach + 4 * U * (abs(A) @ reach + abs(B) @ reach) + abs(B) @ gap
    return 1.01 * (apart + error + other)


if __name__ == "__main__":
    try:
        print("accepted:", check(*sys.argv[1:4]))
    except Exception as refusal:
        sys.exit(f"rejected: {refusal}")
