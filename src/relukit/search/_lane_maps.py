"""Linear maps on `LANES` vectors side by side, in either precision, restricted to the units that matter."""

from typing import Any

import numpy as np

from relukit._types import Array, IntArray
from relukit.network import Affine, Network
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Scale, Sparse

_FEW = 0.6  # share of a dense matrix's rows below which the rows are taken out first


class LaneMap:
    """One map: `apply` adds W x to some outputs, `adjoint` adds W' y of some outputs, `reach` marks the inputs that they read."""

    def __init__(self, source: AbstractLinear) -> None:
        self.source, self.cost = source, 0.0

    def for_dtype(self, dtype: Any) -> tuple:
        """The weights in a precision, kept."""
        cache = self.__dict__.setdefault("_weights", {})
        key = np.dtype(dtype).name
        if key not in cache:
            cache[key] = self._weights_in(np.dtype(dtype))
        return cache[key]

    def _weights_in(self, dtype: np.dtype) -> tuple:
        raise NotImplementedError

    def apply(self, units: IntArray, x: Array, out: Array) -> None:
        raise NotImplementedError

    def adjoint(self, units: IntArray, lam: Array, out: Array) -> None:
        raise NotImplementedError

    def reach(self, units: IntArray, mark: Array) -> None:
        raise NotImplementedError


class _Matrix(LaneMap):
    def __init__(self, source: Dense) -> None:
        super().__init__(source)
        self.W, self.cost = source.W, 0.3 * source.W.size

    def _weights_in(self, dtype: np.dtype) -> tuple:
        return (self.W.astype(dtype),)

    def apply(self, units: IntArray, x: Array, out: Array) -> None:
        (W,) = self.for_dtype(x.dtype)
        if len(units) == len(W):
            out += W @ x
        else:
            out[units] += W[units] @ x

    def adjoint(self, units: IntArray, lam: Array, out: Array) -> None:
        (W,) = self.for_dtype(lam.dtype)
        out += W.T @ lam if len(units) == len(W) else W[units].T @ lam[units]

    def reach(self, units: IntArray, mark: Array) -> None:
        mark[:] |= len(units) > 0


class _Rows(LaneMap):
    """A CSR matrix."""

    def __init__(self, source: AbstractLinear, W: Any) -> None:
        super().__init__(source)
        self.W, self.cost = W, float(W.nnz)

    def _weights_in(self, dtype: np.dtype) -> tuple:
        return self.W.indptr.astype(np.int64), self.W.indices.astype(np.int64), self.W.data.astype(dtype)

    def apply(self, units: IntArray, x: Array, out: Array) -> None:
        from relukit.search._lane_kernel import gather

        gather(units, *self.for_dtype(x.dtype), x, out)

    def adjoint(self, units: IntArray, lam: Array, out: Array) -> None:
        from relukit.search._lane_kernel import scatter

        scatter(units, *self.for_dtype(lam.dtype), lam, out)

    def reach(self, units: IntArray, mark: Array) -> None:
        from relukit.search._lane_kernel import reach

        indptr, indices, _ = self.for_dtype(np.float64)
        reach(units, indptr, indices, mark)


class _Kernel(LaneMap):
    """A convolution."""

    def __init__(self, source: Conv) -> None:
        super().__init__(source)
        C, H, W = source.in_shape
        O, height, width = source.out_shape
        self.cost = float(source.out_size * source.terms)
        self.shape = np.array(
            [
                C, H, W, O // source.groups, height, width, *source.stride, source.padding[0], source.padding[1],
                *source.dilation, C // source.groups, *source.kernel.shape[2:],
            ],
            np.int64,
        )  # fmt: skip

    def _weights_in(self, dtype: np.dtype) -> tuple:
        assert isinstance(self.source, Conv)
        kernel = self.source.kernel
        return (kernel.reshape(len(kernel), -1).astype(dtype), self.shape)

    def sorted(self, units: IntArray) -> IntArray:
        """Units of the output in the order in which they are walked: those at one position together."""
        plane = self.shape[4] * self.shape[5]
        return units[np.argsort(units % plane, kind="stable")]

    def apply(self, units: IntArray, x: Array, out: Array) -> None:
        from relukit.search._lane_kernel import gather_conv

        gather_conv(units, *self.for_dtype(x.dtype), x, out)

    def adjoint(self, units: IntArray, lam: Array, out: Array) -> None:
        from relukit.search._lane_kernel import scatter_conv

        scatter_conv(units, *self.for_dtype(lam.dtype), lam, out)

    def reach(self, units: IntArray, mark: Array) -> None:
        from relukit.search._lane_kernel import reach_conv

        reach_conv(units, *self.for_dtype(np.float64), mark)


def lane_map(source: AbstractLinear) -> LaneMap:
    """The form of a map for lanes."""
    import scipy.sparse as sp

    if isinstance(source, Dense):
        return _Matrix(source)
    if isinstance(source, Conv):
        return _Kernel(source)
    if isinstance(source, Sparse):
        return _Rows(source, sp.csr_matrix(source.W))
    if isinstance(source, Identity):
        return _Rows(source, sp.identity(source.in_size, format="csr"))
    if isinstance(source, Scale):
        return _Rows(source, sp.diags(source.diagonal).tocsr())
    if isinstance(source, Gather):
        rows = np.flatnonzero(source.index >= 0)
        ones = (np.ones(len(rows)), (rows, source.index[rows]))
        return _Rows(source, sp.csr_matrix(ones, shape=(source.out_size, source.in_size)))
    return _Rows(source, sp.csr_matrix(source.matrix()))


class Maps:
    """The maps of all affine nodes of a network, made when they are first used."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._made: dict[int, tuple[LaneMap, ...]] = {}
        self._all: dict[int, IntArray] = {}

    def __getitem__(self, node: int) -> tuple[LaneMap, ...]:
        if node not in self._made:
            op = self.network.nodes[node].op
            assert isinstance(op, Affine)
            self._made[node] = tuple(lane_map(m) for m in op.maps)
        return self._made[node]

    def walked(self, node: int, units: IntArray) -> IntArray:
        """Units of a node in the order that its maps like best."""
        for m in self[node]:
            if isinstance(m, _Kernel):
                return m.sorted(units)
        return units

    def everything(self, node: int) -> IntArray:
        """All units of a node in that order, kept."""
        if node not in self._all:
            self._all[node] = self.walked(node, np.arange(self.network.nodes[node].size))
        return self._all[node]

    @property
    def cost(self) -> float:
        """Multiply-adds of one row through the whole network, those of BLAS counted for less."""
        return sum(m.cost for i, n in enumerate(self.network.nodes) if isinstance(n.op, Affine) for m in self[i])
