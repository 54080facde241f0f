"""Starting weights that carry signals through any depth."""

import math
from typing import Any

from relukit._errors import InvalidInput
from relukit.monitoring._layers import LEAKY, RELU_LIKE, layers_of

_FREE = 4  # layers at the front that start random: they make the features that the deeper layers pass on


def deep_(model: Any, learning_rate: float | None = None, seed: int | None = None) -> list[dict[str, Any]]:
    r"""Prepares a plain network (no skips, no normalization) of any depth, in place.

    The first four hidden layers start random (He; biases of the first spread over the data), all later ones as a map that passes on
    what comes in: the identity for ReLU, since relu(relu(x)) = relu(x); for leaky slopes a, pairs (x, -x) kept apart,
    :math:`\frac{1}{1 + a} \begin{pmatrix} I & -I \\ -I & I \end{pmatrix}`; an orthogonal matrix for the rest. So the
    gradient reaches the first layer undiminished whatever the depth. All weights train. What L layers of Adam do to
    the output adds up, so the layers that pass on get a learning rate divided by L.

    Arguments:
        model: A torch module whose linear layers follow each other in module order.
        learning_rate: Of the random layers, for Adam; 5e-3 by default.
        seed: Of the random weights; torch's global generator is used where it is None.

    Returns:
        Parameter groups for `torch.optim.Adam`, with their learning rates.

    Raises:
        InvalidInput: The model has no two linear layers.

    Example:
        >>> optimizer = torch.optim.Adam(relukit.init.deep_(model))

    References:
        The Shattered Gradients Problem, Balduzzi et al., 2017 (pairs that start linear). Identity Matters in Deep
        Learning, Hardt and Ma, 2017. A Simple Way to Initialize Recurrent Networks of Rectified Linear Units, Le et
        al., 2015 (identity weights before ReLU).
    """
    import torch

    rate = 5e-3 if learning_rate is None else learning_rate
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    linear = [layer for layer in layers_of(model) if layer.plain and not layer.norm and layer.weight.ndim == 2]
    if len(linear) < 2:
        raise InvalidInput(f"deep_ needs at least two linear layers, found {len(linear)}")
    passing: list[Any] = []
    with torch.no_grad():
        for k, layer in enumerate(linear):
            last = k == len(linear) - 1
            shape = layer.weight.shape
            if last:
                fresh = torch.randn(shape, generator=generator) / math.sqrt(shape[1])
            elif k < _FREE:
                fresh = torch.randn(shape, generator=generator) * (_gain(layer, linear) / math.sqrt(shape[1]))
            else:
                fresh = _pass_on(shape, layer, linear, generator)
                passing += [p for p in (layer.weight, layer.bias) if p is not None]
            layer.weight.copy_(fresh.to(layer.weight))
            if layer.bias is not None:
                layer.bias.zero_()
                if k == 0:
                    layer.bias.copy_(torch.rand(len(layer.bias), generator=generator).to(layer.bias) - 0.5)
    chosen = {id(p) for p in passing}
    free = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": free, "lr": rate}]
    return [*groups, {"params": passing, "lr": 2 * rate / len(linear)}] if passing else groups


def _kind(layer: Any, linear: list[Any]) -> str:
    return layer.activation or next((other.activation for other in linear if other.activation), "ReLU")


def _slope(layer: Any, linear: list[Any]) -> float:
    """The slope on the left of what follows: only known for leaky ReLU, by its usual default."""
    return 0.01 if _kind(layer, linear) == "LeakyReLU" and layer.slope is None else (layer.slope or 0.0)


def _gain(layer: Any, linear: list[Any]) -> float:
    kind = _kind(layer, linear)
    if kind in RELU_LIKE:
        return math.sqrt(2)
    if kind in LEAKY - {"SELU"}:
        return math.sqrt(2 / (1 + _slope(layer, linear) ** 2))
    return 1.0  # for tanh too: orthogonal maps at gain 1 keep gradients at any depth, at 5/3 it saturates (Pennington et al., 2017)


def _pass_on(shape: Any, layer: Any, linear: list[Any], generator: Any) -> Any:
    import torch

    kind = _kind(layer, linear)
    rows, columns = shape
    if kind in RELU_LIKE:
        return torch.eye(rows, columns)
    if kind in ("LeakyReLU", "PReLU", "RReLU"):
        half = min(rows, columns) // 2
        out = torch.zeros(rows, columns)
        same = torch.eye(half) / (1 + _slope(layer, linear))
        out[:half, :half], out[:half, half : 2 * half] = same, -same
        out[half : 2 * half, :half], out[half : 2 * half, half : 2 * half] = -same, same
        return out
    return _gain(layer, linear) * orthogonal(shape, generator)


def orthogonal(shape: Any, generator: Any = None) -> Any:
    """A random matrix with orthonormal rows or columns."""
    import torch

    rows, columns = shape
    q, r = torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), generator=generator))
    q = q * torch.sign(torch.diagonal(r))
    return q if rows >= columns else q.T
