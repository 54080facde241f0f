"""Checks the proof of a compression from three files: the proof, the original network, the smaller one.

Stands by itself: NumPy, the ONNX format, and the checker of unit claims. Also runs alone:
`python -m relukit.compression._check PROOF ORIGINAL SMALL`.

Both networks are read as gates h = max(0, C x + W h + b), in the order of their layers. In the original, a unit that a claim shows to be never on in the
box is 0, and one that is never off is its own sum; every other unit must be one that a gate of the smaller network stands for, a
positive multiple of one, or one that nothing reads. What is left are matrices of equal shape. Their differences, times the largest values in the box,
bound how far each gate and then each output can be apart; that bound must not exceed the claimed one.

Rounding: sums of n products in float64 are off by at most g |a|.|b|, g = n u / (1 - n u); it is carried beside every matrix.
"""

import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from relukit.verification.checker import Rejected, check_claims, demand, read_network

U = 2.0**-53


def g(n: int) -> float:
    """Relative error of a sum of n products, with room for the rounding of the bound itself."""
    return 1.05 * (n + 4) * U / (1 - (n + 4) * U)


@dataclass
class Form:
    """A vector as `A (x, 1, h)`, exact up to `off` entrywise (times the sizes of x, 1 and h)."""

    A: np.ndarray
    off: np.ndarray

    def times(self, W: np.ndarray, b: np.ndarray) -> "Form":
        A = W @ self.A
        off = np.abs(W) @ self.off + g(W.shape[1]) * (np.abs(W) @ np.abs(self.A))
        A[:, self.one] += b
        off[:, self.one] += 2 * U * np.abs(A[:, self.one])
        return Form(A, off)

    one = 0  # column of the constant


class Reader:
    """The smaller network's gates and outputs over x, 1 and earlier gates."""

    def __init__(self, path: str, x: Form, gates: int) -> None:
        self.inputs, self.width = x.A.shape[0], x.A.shape[1]
        self.gates: list[tuple[np.ndarray, np.ndarray]] = []
        self.count, self.most = 0, gates
        self.output = self._npz(path, x) if path.endswith(".npz") else self._onnx(path, x)

    def relu(self, z: Form) -> Form:
        size = len(z.A)
        demand(self.count + size <= self.most, "the smaller network has more gates than the proof names")
        self.gates += [(z.A[i], z.off[i]) for i in range(size)]
        A = np.zeros((size, self.width))
        A[np.arange(size), 1 + self.inputs + self.count + np.arange(size)] = 1
        self.count += size
        return Form(A, np.zeros_like(A))

    def _npz(self, path: str, x: Form) -> Form:
        for W, b, relu in read_network(path):
            x = x.times(W, b)
            x = self.relu(x) if relu else x
        return x

    def _onnx(self, path: str, x: Form) -> Form:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(path).graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        values: dict[str, Form] = {next(i.name for i in graph.input if i.name not in constants): x}
        for node in graph.node:
            names, kind = list(node.input), node.op_type
            fixed = [np.asarray(constants[n]) for n in names if n in constants]
            forms = [values[n] for n in names if n in values]
            at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            demand(len(fixed) + len(forms) == len(names), f"the operator {kind} reads a value that is not there")
            if kind in ("Flatten", "Reshape", "Identity"):
                out = forms[0]
            elif kind == "Gemm":
                demand(
                    at.get("alpha", 1.0) == 1 and at.get("beta", 1.0) == 1 and not at.get("transA", 0), "a scaled Gemm"
                )
                W = fixed[0].astype(float)
                W = W if at.get("transB", 0) else W.T
                bias = fixed[1].astype(float).ravel() if len(fixed) > 1 else np.zeros(len(W))
                out = forms[0].times(W, np.broadcast_to(bias, (len(W),)))
            elif kind == "Gather":
                index = fixed[0].ravel()
                out = Form(forms[0].A[index], forms[0].off[index])
            elif kind == "Add" and len(forms) == 2:
                out = Form(
                    forms[0].A + forms[1].A, forms[0].off + forms[1].off + 2 * U * np.abs(forms[0].A + forms[1].A)
                )
            elif kind == "Add":
                A = forms[0].A.copy()
                A[:, 0] += fixed[0].astype(float).ravel()
                out = Form(A, forms[0].off + 2 * U * np.abs(A) * (np.arange(self.width) == 0))
            elif kind == "Relu":
                out = self.relu(forms[0])
            else:
                raise Rejected(f"the checker does not read the operator {kind}")
            values[node.output[0]] = out
        return values[graph.output[0].name]


def never(W: np.ndarray, b: np.ndarray, lower: np.ndarray, upper: np.ndarray, units: np.ndarray, sign: float) -> None:
    """Units of the first layer: `sign * z >= 0` on the box, in rational arithmetic."""
    for j in units:
        total = sum((Fraction(sign * w) * Fraction(l if sign * w > 0 else u) for w, l, u in zip(W[j].tolist(), lower.tolist(), upper.tolist()) if w), Fraction(sign * float(b[j])))  # fmt: skip
        demand(total >= 0, f"unit {j} of the first layer changes its phase in the box")


def stable(proof: str, original: str, layers: list, arrays: Any) -> list[tuple[set[int], set[int]]]:
    """Units never on and never off, layer by layer, as far as claims show it."""
    lower, upper = arrays["lower"], arrays["upper"]
    found: list[tuple[set[int], set[int]]] = [(set(), set()) for _ in layers]
    relus = [k for k, layer in enumerate(layers) if layer[2]]
    for which, sign in ((0, -1.0), (1, 1.0)):
        units = arrays["first_off" if which == 0 else "first_on"].astype(np.int64)
        if len(units):
            demand(relus[0] == 0, "the network does not start with a layer of ReLUs")
            never(*layers[0][:2], lower, upper, units, sign)
            found[0][which].update(units.tolist())
    for claim in check_claims(proof, original):
        demand((claim.lower <= lower).all() and (claim.upper >= upper).all(), "a claim is about another box")
        demand(
            claim.layer < len(relus) and len(claim.d) == 1 and not claim.D.any() and claim.d[0] <= 0,
            "a claim is not about a unit",
        )
        j = int(np.argmax(np.abs(claim.C[0])))
        demand(np.count_nonzero(claim.C[0]) == 1 and abs(claim.C[0, j]) == 1, "a claim is not about one unit")
        found[relus[claim.layer]][0 if claim.C[0, j] < 0 else 1].add(j)
    return found


def nobody_reads(layers: list, phases: list[tuple[set[int], set[int]]]) -> list[np.ndarray]:
    """Units of each layer whose weights into the next one all go to units that are off or unread themselves."""
    found = [np.zeros(len(layers[-1][1]), bool)]
    for at in reversed(range(len(layers) - 1)):
        reads = ~found[0]
        reads[sorted(phases[at + 1][0])] = False
        found.insert(0, ~np.any(layers[at + 1][0][reads], axis=0))
    return found


def check(proof: str, original: str, small: str) -> dict[str, Any]:
    """Raise `Rejected` unless the proof shows both networks equal on its box up to its bound; returns what was shown."""
    layers = read_network(original)
    try:
        with open(proof, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
        lower, upper, kept, claimed = (
            arrays["lower"],
            arrays["upper"],
            arrays["kept"].astype(np.int64),
            float(arrays["error_bound"]),
        )
    except Exception as error:
        raise Rejected(f"the proof is damaged: {error}") from error
    n = layers[0][0].shape[1]
    demand(
        lower.shape == upper.shape == (n,)
        and np.isfinite(lower).all()
        and np.isfinite(upper).all()
        and (lower <= upper).all(),
        "the proof's box does not fit the network",
    )
    phases, K = stable(proof, original, layers, arrays), len(kept)
    number = {(k, j): i for i, (k, j) in enumerate(kept.tolist())}
    demand(len(number) == K, "two gates stand for one unit")
    merged = {
        (int(k), int(j)): (int(i), float(c))
        for (k, j, i), c in zip(arrays["merged"].astype(np.int64).tolist(), arrays["factors"].tolist())
    }
    reach = np.r_[1.0, np.maximum(np.abs(lower), np.abs(upper)), np.zeros(K)]
    A = np.zeros((n, 1 + n + K))
    A[:, 1 : 1 + n] = np.diag(lower < upper).astype(float)
    A[:, 0] = np.where(lower < upper, 0, lower)  # an input that does not move is a number
    form, gates, apart = Form(A, np.zeros_like(A)), [], []
    reader = Reader(small, form, K)
    unread = nobody_reads(layers, phases)
    demand(reader.count == K, f"the smaller network has {reader.count} gates, the proof names {K}")
    last_gate = -1
    gap = np.zeros(1 + n + K)  # how far each gate of the two networks can be apart
    for at, (W, b, relu) in enumerate(layers):
        z = form.times(W, b)
        if not relu:
            form = z
            continue
        out = Form(np.zeros_like(z.A), np.zeros_like(z.off))
        off, on = phases[at]
        for j in range(len(W)):
            if (at, j) in number:
                i = number[at, j]
                demand(i == last_gate + 1, "gates are not in the order of the units")
                last_gate = i
                rows = reader.gates[i]
                both = z.off[j] + rows[1] + np.abs(z.A[j] - rows[0]) * (1 + 4 * U) + U * np.abs(z.A[j])
                demand(
                    not np.any(both[1 + n + i :]) and not np.any(rows[0][1 + n + i :]),
                    "a gate reads itself or a later one",
                )
                gap[1 + n + i] = 1.01 * (both @ reach + np.abs(rows[0]) @ gap + z.off[j] @ gap)
                reach[1 + n + i] = 1.01 * (np.abs(z.A[j]) + z.off[j]) @ reach  # a bound of the original's gate
                tight = _interval(z.A[j], z.off[j], lower, upper, reach, n)
                reach[1 + n + i] = min(reach[1 + n + i], max(tight, 0.0))
                out.A[j, 1 + n + i] = 1.0
                gates.append(z.A[j])
                apart.append(z.off[j])
            elif j in off or unread[at][j]:
                pass
            elif not np.any(z.A[j, 1:]):
                out.A[j, 0], out.off[j] = max(z.A[j, 0], 0.0), z.off[j]
            elif (at, j) in merged:
                i, c = merged[at, j]
                demand(c > 0 and 0 <= i <= last_gate, "a unit is merged into a gate that does not come before it")
                out.A[j, 1 + n + i] = c
                off_by = (np.abs(z.A[j] - c * gates[i]) + 2 * U * np.abs(z.A[j]) + z.off[j] + c * apart[i]) @ reach
                out.off[j, 0] = 1.01 * off_by
            else:
                demand(j in on, f"unit {j} of layer {at} is gone without a reason")
                out.A[j], out.off[j] = z.A[j], z.off[j]
        form = out
    demand(last_gate == K - 1, "the proof names a unit that does not exist")
    demand(len(form.A) == len(reader.output.A), "the outputs differ in number")
    both = form.off + reader.output.off + np.abs(form.A - reader.output.A) * (1 + 4 * U) + U * np.abs(form.A)
    bound = float((1.01 * (both @ reach + np.abs(reader.output.A) @ gap + form.off @ gap)).max())
    demand(bound <= claimed, f"the networks may be {bound:.3g} apart, the proof claims {claimed:.3g}")
    return {"error_bound": bound, "gates": K, "stable_units": sum(len(a) + len(b) for a, b in phases)}


def _interval(
    row: np.ndarray, off: np.ndarray, lower: np.ndarray, upper: np.ndarray, reach: np.ndarray, n: int
) -> float:
    """An upper bound of `row (x, 1, h)` with h between 0 and its reach."""
    x, h = row[1 : 1 + n], row[1 + n :]
    sides = row[0] + np.where(x > 0, x * upper, x * lower).sum() + np.maximum(h, 0) @ reach[1 + n :]
    return float(sides + 1.01 * (off @ reach + g(len(row)) * (np.abs(row) @ reach)))


if __name__ == "__main__":
    try:
        print("accepted:", check(*sys.argv[1:4]))
    except Exception as refusal:
        sys.exit(f"rejected: {refusal}")
