"""The lines of `_dual` on a torch device: many rows at once, over a compact network or node by node through a graph.

Everything here proposes. What a proof rests on is `Dual.certify`, in double precision with error terms on the CPU.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from relukit._types import Array, IntArray
from relukit.network import Affine
from relukit.search._torch_maps import DeviceMap


class Lines:
    """How each row goes on from h to z: of free gates by a line below or above, of held gates with their multiplier."""

    def __init__(self, P: Tensor, S: Tensor, slope: Tensor, top: Tensor) -> None:
        self.P, self.slope, self.top = P, slope, top
        self.free = S == 0
        self.sign = S.to(P.dtype)
        self.on, self.loose = (S > 0).to(P.dtype), self.free.to(P.dtype)

    def below(self, v: Tensor, k: Any) -> tuple[Tensor, Tensor]:
        """Coefficients on z from those on h, and what the lines above add to the constant."""
        P = self.P[:, k]
        line = v * torch.where(v >= 0, P, self.slope[k])
        m = torch.where(self.free[:, k], line, self.on[:, k] * v - self.sign[:, k] * P)
        return m, (v.clamp(max=0) * self.loose[:, k]) @ self.top[k]

    def along(self, z: Tensor, v: Tensor, k: Any) -> Tensor:
        """h from z along the same lines."""
        line = torch.where(v >= 0, self.P[:, k] * z, self.slope[k] * z + self.top[k])
        return torch.where(self.free[:, k], line, self.on[:, k] * z)

    def derivative(self, z: Tensor, v: Tensor) -> Tensor:
        """Of the bound by the parameters."""
        return torch.where(self.free, v.clamp(min=0) * z, -self.sign * z)


class CompactForm:
    """A `Dual`'s matrices on a device.

    Arguments:
        dual: Over a compact network.
    """

    def __init__(self, dual: Any, device: torch.device, dtype: torch.dtype) -> None:
        put = lambda a: torch.as_tensor(np.ascontiguousarray(a), dtype=dtype, device=device)
        self.C, self.W, self.b, self.blocks = put(dual.C), put(dual.W), put(dual.b), dual.blocks
        self.put, self.K = put, dual.K
        self.low, self.high, self.steps = put(dual.low), put(dual.high), slice(None)
        self.floats = 12 * dual.K + 4 * dual.n  # per row while it is worked on

    def rows(self, rows: Any) -> tuple[Tensor, Tensor, Tensor]:
        return self.put(rows.X), self.put(rows.H), self.put(rows.c)

    def seed(self, rows: Any, weights: Tensor | None, which: Tensor | None) -> Any:
        """What the batch starts from: some of the rows, or sums of all."""
        if weights is not None:
            return tuple(weights @ a for a in rows)
        return tuple(a[which] for a in rows)

    def backward(self, seed: Any, lines: Lines) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients on h, the constant, and coefficients on the steps from the center."""
        X, H, c = seed
        columns = lines.P.shape[1]
        A, value, M = H[:, :columns].clone(), c.clone(), torch.empty_like(lines.P)
        for first, last in reversed([p for p in self.blocks if p[1] <= columns]):
            k = slice(first, last)
            M[:, k], paid = lines.below(A[:, k], k)
            value += paid
            if first:
                A[:, :first].addmm_(M[:, k], self.W[k, :first])
        value = value + M @ self.b[:columns]
        return A, value, torch.addmm(X, M, self.C[:columns])

    def forward(self, rows: Any, D: Tensor, lines: Lines, v: Tensor) -> tuple[Tensor, Tensor]:
        """z of all gates at D, and the values of all rows."""
        columns = lines.P.shape[1]
        Z, h = torch.addmm(self.b[:columns], D, self.C[:columns].T), torch.empty_like(lines.P)
        for first, last in (p for p in self.blocks if p[1] <= columns):
            k = slice(first, last)
            h[:, k] = lines.along(Z[:, k], v[:, k], k)
            if last < columns:
                Z[:, last:].addmm_(h[:, k], self.W[last:columns, k].T)
        return Z, D @ rows[0].T + h @ rows[1][:, :columns].T + rows[2]

    def outputs(self, rows: Any, D: Tensor) -> Tensor:
        """Values of all rows at steps D of the network itself."""
        Z = torch.addmm(self.b, D, self.C.T)
        h = torch.zeros_like(Z)
        for first, last in self.blocks:
            h[:, first:last] = Z[:, first:last].clamp(min=0)
            if last < self.K:
                Z = torch.cat([Z[:, :last], torch.addmm(Z[:, last:], h[:, first:last], self.W[last:, first:last].T)], 1)
        return D @ rows[0].T + h @ rows[1].T + rows[2]


class GraphForm:
    """A `GraphDual`'s network on a device; rows are values of one node.

    Arguments:
        dual: Over a graph.
    """

    def __init__(self, dual: Any, device: torch.device, dtype: torch.dtype) -> None:
        put = lambda a: torch.as_tensor(np.array(a), dtype=dtype, device=device)
        graph, self.put, self.device, self.K = dual.graph, put, device, dual.K
        self.network, box = graph.network, graph.input_set.box()
        low, high = np.zeros(box.size), np.zeros(box.size)
        low[dual.moving], high[dual.moving] = dual.low, dual.high
        self.low, self.high, self.center = put(low), put(high), put(dual.center)
        self.steps = torch.as_tensor(dual.moving, device=device)
        kept = graph.maps.__dict__.setdefault("_on_device", {})  # the same for all bounds
        self.maps, self.bias = kept.setdefault((str(device), str(dtype)), ({}, {}))
        self.always: dict[int, Tensor] = {}
        self.gates: dict[int, tuple[Tensor, Any]] = {}  # units of a node that are gates, and their numbers
        for i, running in dual.running.items():
            self.always[i] = put(running & (dual.gate[i] == -1))
        for first, last in dual.blocks:
            i, free = int(graph.units[first, 0]), np.flatnonzero(dual.phase[first:last] == 0)
            units = torch.as_tensor(graph.units[first:last, 1][free], device=device)
            numbers = torch.as_tensor(first + free, device=device)
            self.gates[i] = units, slice(first, last) if len(free) == last - first else numbers
        self.floats = 12 * dual.K + 4 * sum(n.size for n in self.network.nodes)

    def _affine(self, i: int) -> tuple[list[DeviceMap], Tensor]:
        op = self.network.nodes[i].op
        assert isinstance(op, Affine)
        if i not in self.maps:
            self.maps[i] = [DeviceMap(m, self.put, self.device) for m in op.maps]
            self.bias[i] = self.put(op.bias)
        return self.maps[i], self.bias[i]

    def rows(self, rows: Any) -> tuple[int, Tensor, Tensor]:
        units: IntArray = rows.units
        return rows.node, torch.as_tensor(units, device=self.device), self.put(rows.signs)

    def seed(self, rows: Any, weights: Tensor | None, which: Tensor | None) -> tuple[int, Tensor]:
        node, units, signs = rows
        if weights is not None:
            top = weights.new_zeros(len(weights), self.network.nodes[node].size)
            return node, top.index_add_(1, units, weights * signs)
        top = torch.zeros(len(which), self.network.nodes[node].size, dtype=signs.dtype, device=self.device)
        return node, top.scatter_(1, units[which][:, None], signs[which][:, None])

    def backward(self, seed: tuple[int, Tensor], lines: Lines) -> tuple[Tensor, Tensor, Tensor]:
        node, top = seed
        nodes = self.network.nodes
        V, value, coefficients = torch.zeros_like(lines.P), top.new_zeros(len(top)), {node: top}
        for i in range(node, 0, -1):
            lam = coefficients.pop(i, None)
            if lam is None:
                continue
            if isinstance(nodes[i].op, Affine):
                maps, bias = self._affine(i)
                value = value + lam @ bias
                parts = [(j, m.adjoint(lam)) for m, j in zip(maps, nodes[i].inputs)]
            else:
                below = lam * self.always[i]
                if i in self.gates:
                    units, k = self.gates[i]
                    V[:, k] = lam[:, units]
                    m, paid = lines.below(V[:, k], k)
                    below[:, units] = m
                    value = value + paid
                parts = [(nodes[i].inputs[0], below)]
            for j, part in parts:
                coefficients[j] = coefficients[j] + part if j in coefficients else part
        X = coefficients.get(0)
        X = top.new_zeros(len(top), len(self.center)) if X is None else X
        return V, value + X @ self.center, X

    def forward(self, rows: Any, D: Tensor, lines: Lines, v: Tensor) -> tuple[Tensor, Tensor]:
        node, units, signs = rows
        nodes, values, Z = self.network.nodes, {0: self.center + D}, torch.zeros_like(lines.P)
        for i in range(1, node + 1):
            if isinstance(nodes[i].op, Affine):
                values[i] = self._applied(i, values)
                continue
            z = values[nodes[i].inputs[0]]
            h = z * self.always[i]
            if i in self.gates:
                at, k = self.gates[i]
                Z[:, k] = z[:, at]
                h[:, at] = lines.along(Z[:, k], v[:, k], k)
            values[i] = h
        return Z, values[node][:, units] * signs

    def _applied(self, i: int, values: dict[int, Tensor]) -> Tensor:
        maps, bias = self._affine(i)
        return sum((m.apply(values[j]) for m, j in zip(maps, self.network.nodes[i].inputs)), bias)

    def outputs(self, rows: Any, D: Tensor) -> Tensor:
        node, units, signs = rows
        values = {0: self.center + D}
        for i in range(1, node + 1):
            n = self.network.nodes[i]
            values[i] = self._applied(i, values) if isinstance(n.op, Affine) else values[n.inputs[0]].clamp(min=0)
        return values[node][:, units] * signs


def least(X: Tensor, low: Tensor, high: Tensor, norm: float, radius: float) -> Tensor:
    """Steps of a box, cut with a ball of that norm, where `X d` is least."""
    far = torch.where(X >= 0, low, high)
    if norm == np.inf:
        return far
    if norm == 1:
        order = X.abs().argsort(dim=1, descending=True)
        room = far.abs().gather(1, order)
        step = torch.minimum(room, (radius - (room.cumsum(1) - room)).clamp(min=0))
        return torch.zeros_like(X).scatter_(1, order, step) * torch.where(X >= 0, -1, 1)
    hi = X.norm(dim=1, keepdim=True) / (2 * radius)
    lo = torch.zeros_like(hi)
    for _ in range(30):
        mid = 0.5 * (lo + hi)
        outside = torch.minimum(torch.maximum(-X / (2 * mid), low), high).norm(dim=1, keepdim=True) > radius
        lo, hi = torch.where(outside, mid, lo), torch.where(outside, hi, mid)
    inside = far.norm(dim=1, keepdim=True) <= radius
    return torch.where(inside, far, torch.minimum(torch.maximum(-X / (2 * hi.clamp(min=1e-30)), low), high))


def minimizers(D: Tensor, form: CompactForm | GraphForm) -> Array:
    """Steps of the inputs that move."""
    return D[:, form.steps].cpu().numpy()
