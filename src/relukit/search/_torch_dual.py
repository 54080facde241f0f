"""`Dual` and `GraphDual` whose parameters are found on a torch device and certified by threads on the CPU."""

import copy
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relukit._types import Array, BoolArray, IntArray
from relukit.bounds import CompactNetwork
from relukit.search._dual import Bounded, Dual
from relukit.search._graph import Graph
from relukit.search._graph_dual import GraphDual
from relukit.search._lane_kernel import LANES
from relukit.search._torch_device import Device, exact_products
from relukit.search._torch_form import CompactForm, GraphForm, Lines, least, minimizers

_FLOATS = 120_000_000  # of a batch of leaves
PART = 256  # rows that one thread certifies at a time


@dataclass
class Proposed:
    """What a device proposes for a batch: parameters, weights of rows, the bound it sees, coefficients on h, minimizers."""

    P: Tensor
    weights: Tensor | None
    value: Tensor
    coefficients: Tensor
    D: Tensor


class _OnDevice:
    """What both kinds of network share."""

    device: Device

    @property
    def lanes(self) -> int:
        """Points of an attack."""
        return min(max(self.device.batch, LANES), 512)

    @property
    def pool(self) -> ThreadPoolExecutor:
        return _pool(self.device.workers)

    @property
    def form(self) -> Any:
        """The device's copy, made anew when bounds change."""
        made = self.__dict__.get("_form")
        if made is None:
            kind = GraphForm if isinstance(self, GraphDual) else CompactForm
            made = self.__dict__["_form"] = kind(self, self.device.place, self.device.dtype)
            put = made.put
            self.lines = put(self.slope), put(self.top)
        return made

    def _prepare(self) -> None:
        super()._prepare()  # type: ignore[misc]
        self.__dict__["_form"], self._own = None, threading.local()

    @property
    def width(self) -> int:
        """Leaves of one tree that are split at once: more where a row is small, as short work waits for its launch."""
        batch = self.device.batch
        return batch if self.device.place.type == "cpu" else int(np.clip(_FLOATS // self.form.floats, batch, 4 * batch))

    # -- proposing -------------------------------------------------------------------------------------------------

    def ascend(
        self, rows: Any, which: Tensor | None, P: Tensor, S: Tensor, steps: int, weights: Tensor | None = None,
        rate: float = 0.25, rate_fixed: float = 0.15, decay: float = 0.97,
    ) -> Proposed:  # fmt: skip
        """`Dual.improve` on the device, in parts that fit; `rows` in the device's form."""
        most = max(int(self.device.memory / (P.element_size() * self.form.floats)), 1)
        if len(P) > most:
            parts = [slice(k, k + most) for k in range(0, len(P), most)]
            cut = lambda a, k: None if a is None else a[k]
            found = [
                self._ascend(rows, cut(which, k), P[k], S[k], steps, cut(weights, k), rate, rate_fixed, decay)
                for k in parts
            ]
            join = lambda name: torch.cat([getattr(f, name) for f in found])
            w = None if weights is None else join("weights")
            return Proposed(join("P"), w, join("value"), join("coefficients"), join("D"))
        return self._ascend(rows, which, P, S, steps, weights, rate, rate_fixed, decay)

    def _ascend(
        self, rows: Any, which: Tensor | None, P: Tensor, S: Tensor, steps: int, weights: Tensor | None, rate: float,
        rate_fixed: float, decay: float,
    ) -> Proposed:  # fmt: skip
        form, (slope, top) = self.form, self.lines
        columns = P.shape[1]
        lines = Lines(P.clone(), S, slope[:columns], top[:columns])
        P, best_P, best_w = lines.P, lines.P, weights
        best: Tensor | None = None
        M1, M2 = (torch.zeros_like(P) for _ in range(2)) if steps else (P, P)
        most = torch.where(lines.free, 1.0, np.inf).to(P.dtype)
        seed = form.seed(rows, weights, which)
        for k in range(steps):
            v, value, D = self._at(seed, lines)
            if best is None:
                best, best_P = value, P.clone()
            else:
                better = value > best
                best, best_P = torch.maximum(value, best), torch.where(better[:, None], P, best_P)
                best_w = None if weights is None else torch.where(better[:, None], weights, best_w)
            Z, at = form.forward(rows, D, lines, v)
            g = lines.derivative(Z, v)
            M1.lerp_(g, 0.1)
            M2.mul_(0.999).addcmul_(g, g, value=0.001)
            move = (M1 / (1 - 0.9 ** (k + 1))) / ((M2 / (1 - 0.999 ** (k + 1))).sqrt_() + 1e-12)
            fixed = rate_fixed * v.abs().amax(dim=1, keepdim=True) if columns else v
            P += decay**k * torch.where(lines.free, rate, fixed) * move
            torch.minimum(P.clamp_(min=0), most, out=P)
            if weights is not None and weights.shape[1] > 1:
                weights = _moved(weights, at, 2 * rate * decay**k)
                seed = form.seed(rows, weights, which)
        v, value, D = self._at(seed, lines)
        if best is not None:  # the last iterate, unless an earlier one was better
            better = (value > best)[:, None]
            lines.P = torch.where(better, P, best_P)
            weights = None if weights is None else torch.where(better, weights, best_w)
            v, value, D = self._at(form.seed(rows, weights, which), lines)
        return Proposed(lines.P, weights, value, v, D)

    def _at(self, seed: Any, lines: Lines) -> tuple[Tensor, Tensor, Tensor]:
        v, value, X = self.form.backward(seed, lines)
        D = least(X, self.form.low, self.form.high, self.norm, self.radius)  # type: ignore[attr-defined]
        return v, value + (X * D).sum(1), D

    def improve(
        self, rows: Any, P: Array, S: np.ndarray, steps: int, rate: float = 0.25, rate_fixed: float = 0.15,
        decay: float = 0.97, weights: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
        """As `Dual.improve`."""
        form = self.form
        put = lambda a: None if a is None else form.put(a)
        which = torch.arange(len(P), device=self.device.place)
        S_there = torch.as_tensor(S, device=self.device.place)
        with exact_products():
            found = self.ascend(form.rows(rows), which, put(P), S_there, steps, put(weights), rate, rate_fixed, decay)
        back = lambda a: a.cpu().numpy().astype(np.float32)
        w = None if found.weights is None else found.weights.cpu().numpy().astype(np.float64)
        return back(found.P), back(found.value), minimizers(found.D, form), w

    # -- certifying ------------------------------------------------------------------------------------------------

    def certify(self, rows: Any, P: Array | None, S: np.ndarray | None) -> Bounded:
        """As `Dual.certify`, its rows shared out among threads."""
        parent = super().certify  # type: ignore[misc]
        if P is None or S is None or len(rows) <= 2 * LANES or self.device.workers < 2:
            return parent(rows, P, S)
        order = self._order(rows) if isinstance(self, GraphDual) else np.arange(len(rows))
        parts = [order[k : k + PART] for k in range(0, len(order), PART)]
        found = list(self.pool.map(lambda k: self.certify_part(rows[k], P[k], S[k]), parts))
        bound, x = np.empty(len(rows)), np.empty((len(rows), len(self.center)))  # type: ignore[attr-defined]
        coefficients = np.empty((len(rows), P.shape[1]))
        for k, part in zip(parts, found):
            bound[k], x[k], coefficients[k] = part.bound, part.x, part.coefficients
        return Bounded(bound, coefficients, x, P)

    def certify_part(self, rows: Any, P: Array, S: np.ndarray) -> Bounded:
        """In one thread, with scratch space of its own."""
        if not isinstance(self, GraphDual):
            return Dual.certify(self, rows, P, S)  # type: ignore[arg-type]
        mine = getattr(self._own, "dual", None)
        if mine is None:
            mine = self._own.dual = copy.copy(self)
            mine._buffers = {}
        return GraphDual.certify(mine, rows, P, S)

    def later(self, rows: Any, P: Array, S: np.ndarray) -> Future:
        """Certify a part in the background."""
        return self.pool.submit(self.certify_part, rows, P, S)

    # -- points ----------------------------------------------------------------------------------------------------

    def descend(self, member: BoolArray, D: Array, case: IntArray, steps: int, stop: float) -> tuple[Array, Array]:
        """`descend_rows` on the device, its slopes by automatic differentiation."""
        form = self.form
        rows = form.rows(self.output_rows())  # type: ignore[attr-defined]
        mine = torch.as_tensor(member[case], device=self.device.place)
        at = torch.zeros(len(D), len(form.low), dtype=self.device.dtype, device=self.device.place)
        at[:, form.steps] = form.put(D)
        best, value, speed = at.clone(), torch.full_like(at[:, 0], np.inf), torch.zeros_like(at)
        width = form.high - form.low
        with exact_products():
            for k in range(steps + 1):
                at = at.detach().requires_grad_(True)
                worst = form.outputs(rows, at).masked_fill(~mine, -np.inf).amax(1)
                grad = torch.autograd.grad(worst.sum(), at)[0]
                better = worst < value
                best, value = torch.where(better[:, None], at.detach(), best), torch.minimum(worst.detach(), value)
                if k == steps or time.perf_counter() > stop:
                    break
                speed = 0.75 * speed + grad / grad.abs().sum(1, keepdim=True).clamp(min=1e-30)
                at = self._projected(at.detach() - 0.25 * 0.92**k * width * speed.sign())
        return minimizers(best, form).astype(np.float32), value.cpu().numpy()

    def _projected(self, D: Tensor) -> Tensor:
        D = torch.minimum(torch.maximum(D, self.form.low), self.form.high)
        if self.norm == np.inf:  # type: ignore[attr-defined]
            return D
        D_cpu = self.project(minimizers(D, self.form))  # type: ignore[attr-defined]
        D = D.clone()
        D[:, self.form.steps] = self.form.put(D_cpu)
        return D


class DeviceDual(_OnDevice, Dual):
    """A `Dual` with a device."""

    def __init__(self, small: CompactNetwork, device: Device) -> None:
        self.device = device
        super().__init__(small)


class DeviceGraphDual(_OnDevice, GraphDual):
    """A `GraphDual` with a device."""

    def __init__(self, graph: Graph, device: Device) -> None:
        self.device = device
        super().__init__(graph)


def _moved(weights: Tensor, at: Tensor, rate: float) -> Tensor:
    """Weights of rows: those of rows that are high at the minimizer grow."""
    spread = (at - at.mean(1, keepdim=True)).abs().amax(1, keepdim=True).clamp(min=1e-30)
    weights = weights * (rate * (at - at.amax(1, keepdim=True)) / spread).exp()
    return (weights / weights.sum(1, keepdim=True)).clamp(min=1e-9)


@lru_cache(maxsize=2)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers)
