"""One affine layer with its activation, computed four ways; all give the same numbers up to summation order."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from relukit._types import Array, IntArray
from relukit.piecewise import AbstractActivation, PiecewiseLinear

_STEP = 128  # as in `_bytes`, which needs Numba
_ROWS = 512  # rows quantized at once: temporary arrays stay small
_SOME, _MANY = 0.3, 0.5  # shares of zeros from which on skipping and screening were seen to win
_LEAST, _CACHED = (
    1 << 17,
    1 << 21,
)  # weights from which on screening can win, and up to which a compiled sweep did against calls of BLAS
_THREADED = 200_000  # weights from which a second thread pays for its start (about 30 us)
_PICOJOULES_BYTE, _PICOJOULES_PRODUCT = 160.0, 4.6  # DRAM read; float32 multiply and add (Horowitz, ISSCC 2014)


@dataclass(frozen=True)
class Work:
    """What one evaluation read and computed: float32 products, bytes of weights."""

    products: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.products + other.products, self.bytes + other.bytes)

    @property
    def picojoules(self) -> float:
        return _PICOJOULES_BYTE * self.bytes + _PICOJOULES_PRODUCT * self.products


@dataclass(frozen=True, eq=False)
class Screen:
    r"""A weight matrix as int8 rows plus the int8 remainder, with the norm of what each leaves out.

    The input is rounded to whole numbers z times one unit, :math:`x = t z + r`, so that products of bytes are summed exactly. With
    :math:`\|w - s q\| \le e`,

    .. math:: |w \cdot x - s t\, q \cdot z| \le e \|x\| + s \|q\| \|r\|,

    so a row whose sum, with that added, is not positive is off, and its float32 weights need not be read. The remainder,
    quantized again, leaves 1/254 of e and costs one byte more for the rows that stay open.

    Arguments:
        Q, total, scale, slack, reach: Rows q (padded with zeros to a multiple of 128 entries), their sums, factors s, bounds of e and of s ||q||;
            `R`, `fine_...` the same for the remainder.
    """

    Q: Array
    total: IntArray
    scale: Array
    slack: Array
    reach: Array
    R: Array
    fine_total: IntArray
    fine_scale: Array
    fine_slack: Array
    fine_reach: Array

    @staticmethod
    def of(W: Array) -> "Screen":
        parts = [_screen(W[i : i + _ROWS]) for i in range(0, len(W), _ROWS)]
        return Screen(*(np.concatenate(column) for column in zip(*parts)))


def _screen(W: Array) -> tuple[Any, ...]:
    """A `Screen` of some rows."""
    exact = W.astype(np.float64)
    scale = np.maximum(np.abs(exact).max(axis=1, initial=0), 1e-30) / 127
    Q = np.clip(np.rint(exact / scale[:, None]), -127, 127)
    rest = exact - scale[:, None] * Q
    fine_scale = scale / 254
    R = np.clip(np.rint(rest / fine_scale[:, None]), -127, 127)
    left = rest - fine_scale[:, None] * R
    wide = 1 + 1e-6  # far above the rounding of these norms in float64
    norm = lambda A: wide * np.sqrt((A**2).sum(axis=1))
    reach = scale * norm(Q)
    tiny = 1e-15 * norm(exact)  # rounding of the remainders themselves
    pad = lambda A: np.pad(A, ((0, 0), (0, -A.shape[1] % _STEP))).astype(np.int8)
    total = lambda A: A.sum(axis=1).astype(np.int64)
    return pad(Q), total(Q), scale, norm(rest) + tiny, reach, pad(R), total(R), fine_scale, norm(left) + tiny, reach + fine_scale * norm(R)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Layer:
    """`activation(W x + b)` in float32.

    Arguments:
        W, b: Shapes `(out, in)`, `(out,)`, float32, finite.
        activation: None after the last layer.
        sparse_input: Whether the inputs come out of a ReLU.
    """

    W: Array
    b: Array
    activation: AbstractActivation | None
    sparse_input: bool

    @property
    def is_relu(self) -> bool:
        return isinstance(self.activation, PiecewiseLinear) and self.activation.is_relu

    @property
    def engines(self) -> tuple[str, ...]:
        plain = self.activation is None or self.is_relu
        return (
            "dense",
            *(("rows",) if plain else ()),
            *(("skip",) if plain and self.sparse_input else ()),
            *(("screen",) if self.is_relu else ()),
        )

    def worth(self, zeros_in: float, zeros_out: float) -> tuple[str, ...]:
        """The forms that may beat dense at given shares of zeros in what the layer reads and gives: what is measured is compiled first."""
        may = {
            "dense": True,
            "rows": self.W.size < _CACHED and max(zeros_in, zeros_out) < _MANY,
            "skip": zeros_in >= _SOME,
            "screen": zeros_out >= _MANY and self.W.size >= _LEAST,
        }
        return tuple(e for e in self.engines if may[e])

    @cached_property
    def columns(self) -> Array:
        """Columns of W as rows, so that an input that is 0 skips one stretch of memory."""
        return np.ascontiguousarray(self.W.T)

    @cached_property
    def screen(self) -> Screen:
        return Screen.of(self.W)

    def drop(self, engine: str) -> None:
        """Give back the memory of a form that lost."""
        self.__dict__.pop({"skip": "columns", "screen": "screen"}.get(engine, ""), None)

    def run(self, x: Array, engine: str, pool: ThreadPoolExecutor | None = None, active: Any = None) -> Array:
        """Outputs `(batch, out)`; with `active` (indices of units known to be on) only those rows are computed."""
        if engine == "dense" and active is None:
            z = x @ self.W.T
            z += self.b
            if self.is_relu:
                return np.maximum(z, 0, out=z)
            return z if self.activation is None else self.activation.fast(z).astype(np.float32, copy=False)
        return _compiled(self, np.ascontiguousarray(x, np.float32), engine, pool, active)

    def work(self, x: Array, engine: str) -> Work:
        """What one input costs, on average over rows of x."""
        out, size = self.W.shape
        if engine == "skip":
            products = float(np.count_nonzero(x)) / len(x) * out
            return Work(products, 4 * products)
        if engine == "screen":
            seen, full = _screened(self, np.ascontiguousarray(x, np.float32), None)[1]
            seen, full = seen / len(x), full / len(x)
            return Work(size * (out + seen + full), size * (out + seen + 4.0 * full))
        return Work(float(out * size), 4.0 * out * size)


def _compiled(layer: Layer, x: Array, engine: str, pool: ThreadPoolExecutor | None, active: Any) -> Array:
    from relukit.inference import _kernels as k

    if active is not None:
        rows = np.asarray(active, np.int64)
        Y = np.zeros((len(x), len(layer.b)), np.float32)
        _split(pool, len(rows), len(rows) * x.shape[1], lambda a, z: k.known_rows(layer.W, layer.b, rows, x, Y, a, z))
        return Y
    if engine == "screen":
        return _screened(layer, x, pool)[0]
    Y = np.empty((len(x), len(layer.b)), np.float32)
    if engine == "rows":
        sweep = lambda a, z: k.dense_rows(layer.W, layer.b, x, Y, a, z, layer.is_relu)
    else:
        A = layer.columns
        pairs = x[:1, : x.shape[1] // 8 * 8].ravel().view(np.uint64)
        sweep = lambda a, z: k.skipped_columns(A, layer.b, x, pairs, Y, np.empty(x.shape[1], np.int64), a, z, layer.is_relu)  # fmt: skip
    _split(pool, len(layer.b), layer.W.size, sweep)
    return Y


def _screened(layer: Layer, x: Array, pool: ThreadPoolExecutor | None) -> tuple[Array, tuple[int, int]]:
    from relukit.inference._kernels import screened_rows, whole_numbers

    s, out = layer.screen, len(layer.b)
    H = np.empty((len(x), out), np.float32)
    rows, coarse, sums = np.empty(out, np.int64), np.empty(out), np.empty(out, np.int32)
    whole, high, low, units, norms, rests = whole_numbers(x, _STEP)
    sweep = lambda first, last: screened_rows(
        layer.W, layer.b, s.Q, s.total, s.scale, s.slack, s.reach, s.R, s.fine_total, s.fine_scale, s.fine_slack, s.fine_reach,
        x, whole, high, low, units, norms, rests, H, sums, rows, coarse, first, last,
    )  # fmt: skip
    counts = _split(pool, out, layer.W.size, sweep)
    return H, (sum(c[0] for c in counts), sum(c[1] for c in counts))


def _split(pool: ThreadPoolExecutor | None, count: int, size: int, sweep: Any) -> list[Any]:
    """Run a sweep over `count` entries, in as many stretches as the pool has threads where that pays."""
    if pool is None or size < _THREADED:
        return [sweep(0, count)]
    cuts = np.linspace(0, count, pool._max_workers + 1).astype(int).tolist()
    return list(pool.map(sweep, cuts[:-1], cuts[1:]))
