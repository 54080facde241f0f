"""Linear maps between flat vectors: dense, sparse, convolution, selection, scaling. Adding a kind means adding a class here.

Every map works on the last axis, so any batch shape may lead. `terms` and `adjoint_terms` are the most products that
one output of `apply` and `adjoint` sums: rounding errors are bounded by them.
"""

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from relukit._types import Array, IntArray, Shape

_SPARSE_BELOW = (
    0.2  # density under which a large matrix is kept sparse: CSR products cost about 5 times a dense multiply-add
)
_SPARSE_FROM = 20_000  # entries; smaller matrices are dense at any density


class AbstractLinear(abc.ABC):
    """One linear map.

    Arguments:
        parameters: Stored numbers (0 for selections).
    """

    in_size: int
    out_size: int
    terms: int
    adjoint_terms: int
    parameters: int

    @abc.abstractmethod
    def apply(self, x: Array) -> Array:
        """`W x` for x of shape `(..., in_size)`."""

    @abc.abstractmethod
    def adjoint(self, y: Array) -> Array:
        """`W' y` for y of shape `(..., out_size)`."""

    @abc.abstractmethod
    def absolute(self) -> "AbstractLinear":
        """The map with the absolute values of all entries."""

    def matrix(self) -> Array:
        """The dense matrix, shape `(out_size, in_size)`."""
        return self.adjoint(np.eye(self.out_size))

    def describe(self) -> str:
        return type(self).__name__


@dataclass(frozen=True, eq=False)
class Identity(AbstractLinear):
    """x itself."""

    in_size: int

    @property
    def out_size(self) -> int:
        return self.in_size

    terms = adjoint_terms = 1
    parameters = 0

    def apply(self, x: Array) -> Array:
        return x

    def adjoint(self, y: Array) -> Array:
        return y

    def absolute(self) -> "Identity":
        return self


@dataclass(frozen=True, eq=False)
class Dense(AbstractLinear):
    """A matrix W of shape `(out, in)`."""

    W: Array

    def __post_init__(self) -> None:
        W = np.ascontiguousarray(self.W, dtype=np.float64)
        W.setflags(write=False)
        object.__setattr__(self, "W", W)

    @property
    def in_size(self) -> int:
        return self.W.shape[1]

    @property
    def out_size(self) -> int:
        return self.W.shape[0]

    @property
    def terms(self) -> int:
        return self.in_size

    @property
    def adjoint_terms(self) -> int:
        return self.out_size

    @property
    def parameters(self) -> int:
        return self.W.size

    def apply(self, x: Array) -> Array:
        return x @ self._in(x.dtype).T

    def adjoint(self, y: Array) -> Array:
        return y @ self._in(y.dtype)

    def _in(self, dtype: np.dtype) -> Array:
        return self.W if dtype != np.float32 else self._single

    @cached_property
    def _single(self) -> Array:
        return self.W.astype(np.float32)

    def absolute(self) -> "Dense":
        return self._absolute

    @cached_property
    def _absolute(self) -> "Dense":
        return Dense(np.abs(self.W))

    def matrix(self) -> Array:
        return self.W

    def describe(self) -> str:
        return f"Dense {self.in_size} -> {self.out_size}"


@dataclass(frozen=True, eq=False)
class Sparse(AbstractLinear):
    """A SciPy CSR matrix of shape `(out, in)`."""

    W: Any

    @property
    def in_size(self) -> int:
        return self.W.shape[1]

    @property
    def out_size(self) -> int:
        return self.W.shape[0]

    @cached_property
    def terms(self) -> int:
        return int(np.diff(self.W.indptr).max(initial=0))

    @cached_property
    def adjoint_terms(self) -> int:
        return int(np.bincount(self.W.indices, minlength=1).max())

    @property
    def parameters(self) -> int:
        return int(self.W.nnz)

    def apply(self, x: Array) -> Array:
        return (
            (self.W @ x.reshape(-1, self.in_size).T).T.reshape(*x.shape[:-1], self.out_size).astype(x.dtype, copy=False)
        )

    def adjoint(self, y: Array) -> Array:
        return (
            (self._transposed @ y.reshape(-1, self.out_size).T)
            .T.reshape(*y.shape[:-1], self.in_size)
            .astype(y.dtype, copy=False)
        )

    @cached_property
    def _transposed(self) -> Any:
        return self.W.T.tocsr()

    def absolute(self) -> "Sparse":
        return self._absolute

    @cached_property
    def _absolute(self) -> "Sparse":
        return Sparse(abs(self.W))

    def matrix(self) -> Array:
        return self.W.toarray()

    def describe(self) -> str:
        return f"Sparse {self.in_size} -> {self.out_size} ({self.W.nnz} entries)"


def dense_or_sparse(W: Array) -> AbstractLinear:
    """The cheaper form of a matrix; a permutation or selection of inputs becomes a `Gather`."""
    W = np.asarray(W)
    if W.size >= _SPARSE_FROM:
        filled = np.count_nonzero(W)
        if filled < _SPARSE_BELOW * W.size:
            import scipy.sparse

            return Sparse(scipy.sparse.csr_matrix(W.astype(np.float64) if filled > W.size // 20 else _thin(W)))
    return Dense(W)


def _thin(W: Array) -> Any:
    """CSR from a mostly-zero matrix without a float64 copy of it."""
    import scipy.sparse

    row, column = np.nonzero(W)
    return scipy.sparse.csr_matrix((W[row, column].astype(np.float64), (row, column)), shape=W.shape)


@dataclass(frozen=True, eq=False)
class Scale(AbstractLinear):
    """A diagonal."""

    diagonal: Array

    @property
    def in_size(self) -> int:
        return len(self.diagonal)

    @property
    def out_size(self) -> int:
        return len(self.diagonal)

    terms = adjoint_terms = 1

    @property
    def parameters(self) -> int:
        return int(np.count_nonzero(np.abs(self.diagonal) != 1))  # signs are no parameters

    def apply(self, x: Array) -> Array:
        return x * self.diagonal.astype(x.dtype, copy=False)

    def adjoint(self, y: Array) -> Array:
        return y * self.diagonal.astype(y.dtype, copy=False)

    def absolute(self) -> "Scale":
        return Scale(np.abs(self.diagonal))

    def matrix(self) -> Array:
        return np.diag(self.diagonal)


@dataclass(frozen=True, eq=False)
class Gather(AbstractLinear):
    """Output i is input `index[i]`, or 0 where `index[i]` is -1: reshape, transpose, slice, pad, concatenate, repeat."""

    index: IntArray
    in_size: int

    @property
    def out_size(self) -> int:
        return len(self.index)

    terms = 1
    parameters = 0

    @cached_property
    def adjoint_terms(self) -> int:
        used = self.index[self.index >= 0]
        return int(np.bincount(used, minlength=1).max()) if len(used) else 1

    @cached_property
    def _padded(self) -> bool:
        return bool(np.any(self.index < 0))

    def apply(self, x: Array) -> Array:
        taken = x[..., self.index]
        if self._padded:
            taken[..., self.index < 0] = 0
        return taken

    def adjoint(self, y: Array) -> Array:
        out = np.zeros((*y.shape[:-1], self.in_size), y.dtype)
        keep = self.index >= 0
        if self.adjoint_terms <= 1:
            out[..., self.index[keep]] = y[..., keep]
        else:
            np.add.at(out.reshape(-1, self.in_size).T, self.index[keep], y.reshape(-1, self.out_size)[:, keep].T)
        return out

    def absolute(self) -> "Gather":
        return self

    def describe(self) -> str:
        return f"Select {self.in_size} -> {self.out_size}"


@dataclass(frozen=True, eq=False)
class Conv(AbstractLinear):
    """A 2-D convolution as deep learning means it (correlation), grouped; 1-D has height 1; average pooling is depthwise.

    Arguments:
        kernel: Shape `(O, I / groups, kh, kw)`.
        in_shape: `(I, H, W)`.
        stride, dilation: Per axis.
        padding: Zeros before and after: `(top, left, bottom, right)`.
    """

    kernel: Array
    in_shape: Shape
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        kernel = np.ascontiguousarray(self.kernel, dtype=np.float64)
        kernel.setflags(write=False)
        object.__setattr__(self, "kernel", kernel)

    @cached_property
    def out_shape(self) -> Shape:
        _, H, W = self.in_shape
        kh, kw = self.kernel.shape[2:]
        top, left, bottom, right = self.padding
        height = (H + top + bottom - self.dilation[0] * (kh - 1) - 1) // self.stride[0] + 1
        width = (W + left + right - self.dilation[1] * (kw - 1) - 1) // self.stride[1] + 1
        return (self.kernel.shape[0], height, width)

    @property
    def in_size(self) -> int:
        return int(np.prod(self.in_shape))

    @property
    def out_size(self) -> int:
        return int(np.prod(self.out_shape))

    @property
    def terms(self) -> int:
        return int(np.prod(self.kernel.shape[1:]))

    @property
    def adjoint_terms(self) -> int:
        return int(self.kernel.shape[0] // self.groups * np.prod(self.kernel.shape[2:]))

    @property
    def parameters(self) -> int:
        return self.kernel.size

    def _taps(self):
        """Each kernel offset with the window of the padded input that it reads."""
        _, height, width = self.out_shape
        for i in range(self.kernel.shape[2]):
            for j in range(self.kernel.shape[3]):
                y, x = i * self.dilation[0], j * self.dilation[1]
                rows = slice(y, y + self.stride[0] * (height - 1) + 1, self.stride[0])
                columns = slice(x, x + self.stride[1] * (width - 1) + 1, self.stride[1])
                yield i, j, rows, columns

    def _grouped(self, dtype: np.dtype) -> Array:
        O, I = self.kernel.shape[:2]
        return self.kernel.reshape(self.groups, O // self.groups, I, *self.kernel.shape[2:]).astype(dtype, copy=False)

    def apply(self, x: Array) -> Array:
        lead, g = x.shape[:-1], self.groups
        C, H, W = self.in_shape
        top, left, bottom, right = self.padding
        image = np.pad(x.reshape(-1, C, H, W), ((0, 0), (0, 0), (top, bottom), (left, right)))
        O, height, width = self.out_shape
        kernel = self._grouped(x.dtype)
        out = np.zeros((len(image), g, O // g, height * width), x.dtype)
        for i, j, rows, columns in self._taps():
            window = image[:, :, rows, columns].reshape(len(image), g, C // g, height * width)
            out += kernel[..., i, j] @ window
        return out.reshape(*lead, self.out_size)

    def adjoint(self, y: Array) -> Array:
        lead, g = y.shape[:-1], self.groups
        C, H, W = self.in_shape
        top, left, bottom, right = self.padding
        O, height, width = self.out_shape
        grad = y.reshape(-1, g, O // g, height * width)
        image = np.zeros((len(grad), C, H + top + bottom, W + left + right), y.dtype)
        kernel = self._grouped(y.dtype)
        for i, j, rows, columns in self._taps():
            part = kernel[..., i, j].swapaxes(-1, -2) @ grad
            image[:, :, rows, columns] += part.reshape(len(grad), C, height, width)
        return image[:, :, top : top + H, left : left + W].reshape(*lead, self.in_size)

    def absolute(self) -> "Conv":
        return self._absolute

    @cached_property
    def _absolute(self) -> "Conv":
        return Conv(np.abs(self.kernel), self.in_shape, self.stride, self.padding, self.dilation, self.groups)

    def describe(self) -> str:
        kind = "Depthwise" if self.groups == self.in_shape[0] > 1 else "Conv"
        shape = lambda s: "x".join(map(str, s))
        return f"{kind} {self.kernel.shape[2]}x{self.kernel.shape[3]}/{self.stride[0]} {shape(self.in_shape)} -> {shape(self.out_shape)}"
