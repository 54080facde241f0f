"""A network as a torch module."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from relukit._errors import UnsupportedOperation
from relukit.network._network import Network
from relukit.network._nodes import Affine
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Scale, Sparse
from relukit.network.curves import Jump
from relukit.piecewise import AbstractActivation, PiecewiseLinear

_SMOOTH: dict[str, Any] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "selu": F.selu,
    "square": torch.square,
    "exp": torch.exp,
    "log": torch.log,
    "erf": torch.erf,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "sign": torch.sign,
}


def to_module(network: Network, device: Any = "cpu", dtype: Any = None) -> nn.Module:
    """A module with the network's outputs (head not applied) on flat or shaped inputs; dense ReLU chains become `nn.Sequential`."""
    dtype = _torch_dtype(network.dtype if dtype is None else dtype)
    chain = network.dense_chain()
    if chain is not None and chain.is_relu and len(network.input_shape) == 1:
        layers: list[nn.Module] = []
        for k, (W, b) in enumerate(zip(chain.weights, chain.biases)):
            layer = nn.Linear(W.shape[1], W.shape[0], dtype=dtype)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(W.copy()))
                layer.bias.copy_(torch.from_numpy(np.array(b)))
            layers += [layer, nn.ReLU()] if k < len(chain.activations) else [layer]
        return nn.Sequential(*layers).to(device).eval()
    return NetworkModule(network, dtype).to(device).eval()


def _torch_dtype(dtype: Any) -> torch.dtype:
    return (
        dtype
        if isinstance(dtype, torch.dtype)
        else {4: torch.float32, 8: torch.float64, 2: torch.float16}[np.dtype(dtype).itemsize]
    )


class NetworkModule(nn.Module):
    """Any network, node by node."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        steps: list[nn.Module] = []
        for node in network.nodes[1:]:
            steps.append(
                _AffineModule(node.op, dtype) if isinstance(node.op, Affine) else _ActivationModule(node.op, dtype)
            )
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> Tensor:
        values = [x.reshape(len(x), -1)]
        for node, step in zip(self.network.nodes[1:], self.steps):
            values.append(step(*(values[j] for j in node.inputs)))
        return values[-1]


class _AffineModule(nn.Module):
    def __init__(self, op: Affine, dtype: torch.dtype) -> None:
        super().__init__()
        self.maps = nn.ModuleList(_LinearModule(m, dtype) for m in op.maps)
        self.bias = nn.Parameter(torch.tensor(np.array(op.bias), dtype=dtype))

    def forward(self, *values: Tensor) -> Tensor:
        return sum((m(v) for m, v in zip(self.maps, values)), self.bias)


class _LinearModule(nn.Module):
    def __init__(self, m: AbstractLinear, dtype: torch.dtype) -> None:
        super().__init__()
        self.kind = m
        if isinstance(m, Dense):
            self.weight = nn.Parameter(torch.tensor(np.array(m.W), dtype=dtype))
        elif isinstance(m, Conv):
            self.weight = nn.Parameter(torch.tensor(np.array(m.kernel), dtype=dtype))
        elif isinstance(m, Scale):
            self.weight = nn.Parameter(torch.tensor(np.array(m.diagonal), dtype=dtype))
        elif isinstance(m, Sparse):
            W = m.W.tocoo()
            sparse = torch.sparse_coo_tensor(
                np.stack([W.row, W.col]), W.data, W.shape, dtype=dtype, check_invariants=False
            )
            self.register_buffer("weight", sparse.coalesce())
        elif isinstance(m, Gather):
            self.register_buffer("index", torch.from_numpy(np.where(m.index < 0, m.in_size, m.index)))
        elif not isinstance(m, Identity):
            raise UnsupportedOperation(f"{type(m).__name__} has no torch form")

    def forward(self, x: Tensor) -> Tensor:
        m = self.kind
        if isinstance(m, Dense):
            return F.linear(x, self.weight)
        if isinstance(m, Conv):
            top, left, bottom, right = m.padding
            image = F.pad(x.reshape(len(x), *m.in_shape), (left, right, top, bottom))
            return F.conv2d(image, self.weight, None, m.stride, 0, m.dilation, m.groups).flatten(1)
        if isinstance(m, Scale):
            return x * self.weight
        if isinstance(m, Sparse):
            return torch.sparse.mm(self.weight, x.T).T
        if isinstance(m, Gather):
            return F.pad(x, (0, 1))[:, self.index]
        return x


class _ActivationModule(nn.Module):
    def __init__(self, op: AbstractActivation, dtype: torch.dtype) -> None:
        super().__init__()
        self.op = op
        if isinstance(op, PiecewiseLinear) and not op.is_relu:
            for key, value in zip(("slope", "offset", "weights", "knots"), op.hinges()):
                self.register_buffer(key, torch.tensor(np.array(value), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        if isinstance(op, PiecewiseLinear):
            if op.is_relu:
                return torch.relu(x)
            total = self.slope * x + self.offset
            for weight, knot in zip(self.weights, self.knots):
                total = total + weight * torch.relu(x - knot)
            return total
        if op.name in _SMOOTH:
            return _SMOOTH[op.name](x)
        parameters = getattr(op, "parameters", {})
        if op.name in ("elu", "celu", "gelu", "softplus"):
            return getattr(F, op.name)(x, **parameters)
        if op.name == "power":
            return x ** parameters["n"]
        if isinstance(op, Jump):
            return torch.heaviside(x, torch.tensor(op.middle, dtype=x.dtype, device=x.device))
        raise UnsupportedOperation(f"{op.name} has no torch form")
