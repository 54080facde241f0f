"""Which layers of a torch module are watched, and what stands between them."""

import math
from dataclasses import dataclass
from typing import Any

RELU_LIKE = {"ReLU", "ReLU6", "ReLUSquared", "CReLU", "Hardtanh", "Threshold", "Hardsigmoid"}
LEAKY = {"LeakyReLU", "PReLU", "RReLU", "ELU", "CELU", "SELU", "GELU", "SiLU", "Mish", "Softplus", "Hardswish"}
SATURATING = {"Sigmoid", "Tanh", "Hardsigmoid", "Hardtanh", "Softsign", "LogSigmoid"}
_GRADIENT_NAMES = {
    "Relu": "ReLU", "LeakyRelu": "LeakyReLU", "Prelu": "PReLU", "PreluKernel": "PReLU", "Elu": "ELU", "Gelu": "GELU",
    "Silu": "SiLU", "Mish": "Mish", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Hardtanh": "Hardtanh", "Softplus": "Softplus",
    "Softmax": "Softmax", "LogSoftmax": "LogSoftmax", "Hardsigmoid": "Hardsigmoid", "Hardswish": "Hardswish",
    "ClampMin": "ReLU", "Clamp": "Hardtanh", "Celu": "CELU", "Threshold": "ReLU", "Maximum": "ReLU",
}  # fmt: skip
_KERAS_KINDS = {
    "ReLU": "ReLU", "LeakyReLU": "LeakyReLU", "PReLU": "PReLU", "ELU": "ELU", "relu": "ReLU", "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU", "elu": "ELU", "selu": "SELU", "celu": "CELU", "gelu": "GELU", "silu": "SiLU", "swish": "SiLU",
    "mish": "Mish", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "hard_sigmoid": "Hardsigmoid",
    "hard_tanh": "Hardtanh",
}  # fmt: skip
_WEIGHTS = ("AddmmBackward", "MmBackward", "ConvolutionBackward", "BmmBackward", "LinearBackward", "AddbmmBackward")
_NODES = 400  # of the graph behind the loss that are looked at, once


@dataclass(eq=False)
class Layer:
    """A module with units: its name, its weight and bias, and the activation that follows it (by module order).

    `units_last` says that the weight's last axis counts its units, as in Keras; `norm` marks normalization, whose units are those of the layer before; `slope` is a leaky activation's on the left.
    """

    name: str
    module: Any
    parameter: Any
    bias: Any
    norm: bool
    activation: str = ""
    slope: float | None = None
    units_last: bool = False
    fan: int | None = None  # what its start is scaled by where that is not the number of inputs
    plain: bool = True  # a layer that an activation follows; recurrent and attention matrices are none

    @property
    def weight(self) -> Any:
        """Units first: Keras keeps them last, so there it is a view with its gradient's view."""
        if not self.units_last:
            return self.parameter
        view = self.parameter.data.movedim(-1, 0)
        if self.parameter.grad is not None:
            view.grad = self.parameter.grad.movedim(-1, 0)
        return view

    @property
    def units(self) -> int:
        return self.bias.numel() if self.bias is not None else self.weight.shape[0]

    @property
    def fan_in(self) -> int:
        if self.fan is not None:
            return self.fan
        return self.weight[0].numel() if self.weight.ndim > 1 else 1


def layers_of(model: Any) -> list[Layer]:
    """Linear, convolution and normalization layers in module order, each with the activation module that follows."""
    from torch import nn

    found: list[Layer] = []
    if type(model).__module__.partition(".")[0] == "keras" and hasattr(model, "_flatten_layers"):
        return _keras_layers(model)
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)):
            found += _matrices(name, module)
            continue
        if any(module.children()):
            continue
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if kind in RELU_LIKE | LEAKY | SATURATING or isinstance(module, nn.Softmax):
            if found and not found[-1].activation:
                found[-1].activation = kind
                found[-1].slope = _left_slope(module)
                if found[-1].norm and len(found) > 1 and not found[-2].activation:
                    found[-2].activation = kind
            continue
        if not isinstance(weight, nn.Parameter) or isinstance(module, (nn.Embedding, nn.EmbeddingBag, nn.PReLU)):
            continue
        transposed = kind.startswith("ConvTranspose")
        if transposed and bias is None:
            continue
        bias = bias if isinstance(bias, nn.Parameter) else None
        found.append(Layer(name or "model", module, weight, bias, weight.ndim < 2))
    return found


def _matrices(name: str, module: Any) -> list[Layer]:
    """Weight matrices of a recurrent cell or of an attention's input, which are no modules of their own."""
    found = []
    for key, weight in module.named_parameters(recurse=False):
        if weight.ndim == 2 and "weight" in key:
            bias = getattr(module, key.replace("weight", "bias"), None)
            fan = getattr(module, "hidden_size", None)  # what torch starts both recurrent matrices by
            found.append(Layer(f"{name}.{key}".lstrip("."), module, weight, bias, False, fan=fan, plain=False))
    return found


def _keras_layers(model: Any) -> list[Layer]:
    """The same for a Keras model that runs on torch: its layers hold torch parameters with the units last."""
    found: list[Layer] = []
    for layer in model._flatten_layers(include_self=False, recursive=True):
        kind = _KERAS_KINDS.get(type(layer).__name__, "")
        kind = kind or _KERAS_KINDS.get(getattr(getattr(layer, "activation", None), "__name__", ""), "")
        kernel, bias = getattr(layer, "kernel", None), getattr(layer, "bias", None)
        scale = getattr(layer, "gamma", None)
        if kernel is None and scale is None:
            if kind and found and not found[-1].activation:
                found[-1].activation = kind
            continue
        # A LoRA or quantized kernel is computed anew at each call: only a stored one has a gradient.
        weight = getattr(kernel if kernel is not None else scale, "value", None)
        if weight is None or not hasattr(weight, "grad"):
            continue
        bias = getattr(bias if bias is not None else getattr(layer, "beta", None), "value", None)
        found.append(Layer(layer.name, layer, weight, bias, weight.ndim < 2, kind, units_last=weight.ndim > 1))
    return found


def _left_slope(module: Any) -> float | None:
    if hasattr(module, "negative_slope"):
        return float(module.negative_slope)
    if type(module).__name__ == "PReLU":
        return float(module.weight.detach().mean())
    return float(module.lower + module.upper) / 2 if type(module).__name__ == "RReLU" else None


def output_chain(loss: Any) -> list[str]:
    """Names of the gradient nodes from the loss back to the last weights, e.g. ['NllLoss', 'LogSoftmax', 'Softmax'].

    Only a chain is followed: where a node has several differentiable inputs, the first one. Numbers that the whole loss is
    multiplied by are left out (see `factor_of`).
    """
    chain: list[str] = []
    node = _factor(getattr(loss, "grad_fn", None))[1]
    while node is not None and len(chain) < 24:
        name = type(node).__name__
        if name.startswith(_WEIGHTS):
            break
        chain.append(name.partition("Backward")[0])
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)
    # Losses that torch or the user writes as a mean of differences go by one name.
    for parts, *names in (
        (("Mean", "Pow", "Sub"), "MseLoss"),
        (("Mean", "Sum", "Pow", "Sub"), "MseLoss"),
        (("Sum", "Pow", "Sub"), "MseLoss"),
        (("Mean", "Abs", "Sub"), "L1Loss"),
        (("Sum", "Abs", "Sub"), "L1Loss"),
        (("NllLoss2D", "View", "LogSoftmax"), "NllLoss", "LogSoftmax"),  # a class for each token or pixel
        (("NllLoss2D", "LogSoftmax"), "NllLoss", "LogSoftmax"),
    ):
        if tuple(chain[: len(parts)]) == parts:
            chain[: len(parts)] = names
    return chain


def factor_of(loss: Any) -> float:
    """The number that the whole loss is multiplied by: 1 or -1, or nan for one that is not told, as in `loss / 4`.

    Torch forgets numbers of the graph once the backward pass is through.
    """
    return _factor(getattr(loss, "grad_fn", None))[0]


def _factor(node: Any) -> tuple[float, Any]:
    """That number, and the gradient node behind it."""
    factor = 1.0
    while node is not None:
        name = type(node).__name__.partition("Backward")[0]
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if name not in ("Neg", "Mul", "Div") or len(parents) != 1:
            break
        factor *= -1.0 if name == "Neg" else math.nan
        node = parents[0]
    return factor, node


def activations_in_graph(loss: Any) -> tuple[dict[str, int], bool]:
    """How often each kind of activation occurs behind the loss, functional ones included, and whether paths join there.

    Sums and concatenations between the layers are skip connections (or a recurrence): such a network is no plain chain.
    """
    seen, queue, counts, joined = set(), [(getattr(loss, "grad_fn", None), False)], {}, False
    while queue and len(seen) < _NODES:
        node, inside = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        full = type(node).__name__
        kind = _GRADIENT_NAMES.get(full.partition("Backward")[0])
        if kind:
            counts[kind] = counts.get(kind, 0) + 1
        joined = joined or (inside and full.startswith(("AddBackward", "CatBackward")))
        inside = inside or full.startswith(_WEIGHTS)
        queue.extend((parent, inside) for parent, _ in node.next_functions)
    return counts, joined
