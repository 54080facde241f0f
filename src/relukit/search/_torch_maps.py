"""Linear maps of a network on rows of a torch device, and their adjoints."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from relukit._errors import UnsupportedOperation
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Scale, Sparse


class DeviceMap:
    """A linear map on rows `(B, in)` of a device."""

    def __init__(self, m: AbstractLinear, put: Any, device: torch.device) -> None:
        self.m, self.weight = m, None
        if isinstance(m, Dense):
            self.weight = put(m.W)
        elif isinstance(m, Conv):
            self.weight = put(m.kernel)
            self._window(m)
        elif isinstance(m, Scale):
            self.weight = put(m.diagonal)
        elif isinstance(m, Gather):
            self.index = torch.as_tensor(np.where(m.index < 0, m.in_size, m.index), device=device)
        elif isinstance(m, Sparse):
            self.weight, self.turned = (self._sparse(W.tocoo(), put, device) for W in (m.W, m.W.T))
        elif not isinstance(m, Identity):
            raise UnsupportedOperation(f"{type(m).__name__} has no form on a device; leave the device out")

    def _sparse(self, W: Any, put: Any, device: torch.device) -> Tensor:
        place = torch.as_tensor(np.stack([W.row, W.col]).astype(np.int64), device=device)
        return torch.sparse_coo_tensor(place, put(W.data), W.shape, check_invariants=False).coalesce()

    def _window(self, m: Conv) -> None:
        """Even padding is left to torch where its adjoint gives the input's size; else images are padded and cut here."""
        top, left, bottom, right = m.padding
        rest = self._rest(m, (top, left), m.in_shape[1:])
        room = [max(pair) for pair in zip(m.stride, m.dilation)]
        self.even = top == bottom and left == right and all(0 <= r < most for r, most in zip(rest, room))
        self.pad = (top, left) if self.even else (0, 0)
        whole = (m.in_shape[1] + top + bottom, m.in_shape[2] + left + right)
        self.rest = rest if self.even else self._rest(m, (0, 0), whole)

    def _rest(self, m: Conv, pad: tuple[int, int], size: tuple[int, ...]) -> tuple[int, int]:
        """Lines of the input that the adjoint, its padding cut off, leaves out."""
        each = zip(size, m.out_shape[1:], m.stride, pad, m.dilation, m.kernel.shape[2:])
        down, right = (n - ((o - 1) * s - 2 * p + d * (k - 1) + 1) for n, o, s, p, d, k in each)
        return down, right

    def apply(self, x: Tensor) -> Tensor:
        m = self.m
        if isinstance(m, Dense):
            return x @ self.weight.T
        if isinstance(m, Conv):
            image = x.reshape(len(x), *m.in_shape)
            if not self.even:
                top, left, bottom, right = m.padding
                image = F.pad(image, (left, right, top, bottom))
            return F.conv2d(image, self.weight, None, m.stride, self.pad, m.dilation, m.groups).flatten(1)
        if isinstance(m, Scale):
            return x * self.weight
        if isinstance(m, Gather):
            return F.pad(x, (0, 1))[:, self.index]
        return torch.sparse.mm(self.weight, x.T).T if isinstance(m, Sparse) else x

    def adjoint(self, y: Tensor) -> Tensor:
        m = self.m
        if isinstance(m, Dense):
            return y @ self.weight
        if isinstance(m, Conv):
            image, more = y.reshape(len(y), *m.out_shape), self.rest if self.even else 0
            image = F.conv_transpose2d(image, self.weight, None, m.stride, self.pad, more, m.groups, m.dilation)
            if not self.even:
                top, left = m.padding[:2]
                image = F.pad(image, (0, self.rest[1], 0, self.rest[0]))
                image = image[:, :, top : top + m.in_shape[1], left : left + m.in_shape[2]]
            return image.flatten(1)
        if isinstance(m, Scale):
            return y * self.weight
        if isinstance(m, Gather):
            return y.new_zeros(len(y), m.in_size + 1).index_add_(1, self.index, y)[:, :-1]
        return torch.sparse.mm(self.turned, y.T).T if isinstance(m, Sparse) else y
