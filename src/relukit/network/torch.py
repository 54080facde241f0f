"""torch modules and checkpoints to networks, and back."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from relukit._errors import InvalidInput, UnreadableFile, UnsupportedOperation
from relukit._types import Array, Shape
from relukit.activations import catalogue
from relukit.network._network import Network
from relukit.network._nodes import Origin
from relukit.network.affine import Scale, dense_or_sparse
from relukit.network.rewrite import Builder
from relukit.network.torch_module import to_module as to_module

_MODES = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU)


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().to("cpu", torch.float64).numpy()


_ACTIVATIONS: dict[type, Any] = {
    nn.ReLU: lambda m: catalogue.relu(),
    nn.LeakyReLU: lambda m: catalogue.leaky_relu(m.negative_slope),
    nn.PReLU: lambda m: catalogue.prelu(array(m.weight)),
    nn.ELU: lambda m: catalogue.elu(m.alpha),
    nn.GELU: lambda m: catalogue.gelu(m.approximate),
    nn.Sigmoid: lambda m: catalogue.sigmoid(),
    nn.Tanh: lambda m: catalogue.tanh(),
    nn.SiLU: lambda m: catalogue.silu(),
    nn.Softplus: lambda m: catalogue.softplus(m.beta),
    nn.ReLU6: lambda m: catalogue.relu6(),
    nn.Hardtanh: lambda m: catalogue.hardtanh(m.min_val, m.max_val),
    nn.Hardsigmoid: lambda m: catalogue.hardsigmoid(),
    nn.Hardswish: lambda m: catalogue.hardswish(),
}
_NOTHING = (nn.Identity, nn.Dropout, nn.AlphaDropout, nn.Flatten)


def from_module(module: nn.Module, input_shape: Shape | None = None) -> Network:
    """A network from a torch module in evaluation mode.

    Arguments:
        module: A Sequential of known layers converts directly; anything else goes through `torch.export`.
        input_shape: Shape of one input; found from a first Linear layer where it is not given.

    Raises:
        InvalidInput: Dropout or normalization is in training mode, or the input shape cannot be found.
        UnsupportedOperation: An operation that is neither affine nor one-dimensional, with its module's path.
    """
    for name, part in module.named_modules():
        if isinstance(part, _MODES) and part.training:
            raise InvalidInput(
                f"module '{name}' ({type(part).__name__}) is in training mode, where it is random or depends on the batch. Call model.eval() first."
            )
    parameter = next(module.parameters(), None)
    dtype = _precision(None if parameter is None else parameter.dtype)
    shape = tuple(input_shape) if input_shape is not None else _first_width(module)
    if not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
        raise InvalidInput(f"input_shape holds the sizes of one input, such as (3, 32, 32), got {shape}")
    layers = _flat_layers(module)
    if layers is not None and len(shape) == 1:
        network = _from_layers(layers, shape, dtype)
    else:
        from relukit.network.torch_export import from_exported

        network = from_exported(_export(module, shape, parameter), dtype)
    return network.with_(origin=Origin("torch", None, _Run(module, shape), module))


def _precision(kind: torch.dtype | None) -> np.dtype:
    """NumPy's name of a torch precision; bfloat16, which NumPy lacks, is read as float32."""
    return np.dtype({torch.float64: np.float64, torch.float16: np.float16}.get(kind, np.float32))


def _first_width(module: nn.Module) -> Shape:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            return (part.in_features,)
        if isinstance(part, nn.modules.conv._ConvNd | nn.Embedding | nn.MultiheadAttention):
            break
    raise InvalidInput(
        "the module does not say how large its input is: pass input_shape, for instance relukit.load(model, input_shape=(3, 32, 32))"
    )


class _Run:
    """Runs the original module on flat rows."""

    def __init__(self, module: nn.Module, shape: Shape) -> None:
        self.module, self.shape = module, shape

    def __call__(self, rows: Array) -> Array:
        parameter = next(self.module.parameters(), torch.zeros(()))
        x = torch.as_tensor(rows.reshape(len(rows), *self.shape), dtype=parameter.dtype, device=parameter.device)
        with torch.no_grad():
            y = self.module(x).detach().to("cpu")
            return (y.float() if y.dtype == torch.bfloat16 else y).numpy().reshape(len(rows), -1)


def _flat_layers(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The leaves of nested Sequentials, or None where something else is inside."""
    known = (nn.Linear, nn.BatchNorm1d, nn.Softmax, nn.LogSoftmax, *_NOTHING, *_ACTIVATIONS)
    if isinstance(module, known):
        return [("0", module)]
    if type(module) is not nn.Sequential:
        return None
    found: list[tuple[str, nn.Module]] = []
    for name, child in zip(module._modules, module):  # named_children() leaves out a layer that comes a second time
        inner = _flat_layers(child)
        if inner is None:
            return None
        found += [(f"{name}.{n}" if type(child) is nn.Sequential else name, leaf) for n, leaf in inner]
    return found


def _from_layers(layers: list[tuple[str, nn.Module]], shape: Shape, dtype: np.dtype) -> Network:
    builder, last, head = Builder(shape), 0, ""
    heads = {nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax", nn.Sigmoid: "sigmoid"}
    for k, (name, layer) in enumerate(layers):
        kind = type(layer)
        if k == len(layers) - 1 and kind in heads:
            head = heads[kind]
            builder.notes.append(
                f"the last {kind.__name__} is set aside: it is monotone, so decisions are those of its inputs"
            )
        elif isinstance(layer, nn.Linear):
            bias = 0.0 if layer.bias is None else array(layer.bias)
            last = builder.affine(last, dense_or_sparse(array(layer.weight)), bias, name=name, source=kind.__name__)
        elif isinstance(layer, nn.BatchNorm1d):
            if layer.running_mean is None:
                raise InvalidInput(
                    f"module '{name}' (BatchNorm1d) keeps no running statistics: it depends on the batch and is no function of one input"
                )
            factor = 1 / np.sqrt(array(layer.running_var) + layer.eps)
            factor = factor * (1 if layer.weight is None else array(layer.weight))
            shift = (0 if layer.bias is None else array(layer.bias)) - array(layer.running_mean) * factor
            last = builder.affine(last, Scale(factor), shift, name=name, source=kind.__name__)
        elif isinstance(layer, nn.Softmax | nn.LogSoftmax):
            raise UnsupportedOperation(
                f"{kind.__name__} at module '{name}' stands inside the network; only a last one can be set aside"
            )
        elif kind in _ACTIVATIONS:
            last = builder.activation(last, _ACTIVATIONS[kind](layer), name, kind.__name__)
    return builder.build(last, dtype=dtype, head=head)


def _export(module: nn.Module, shape: Shape, parameter: torch.Tensor | None) -> Any:
    example = torch.zeros((1, *shape), dtype=torch.float32 if parameter is None else parameter.dtype)
    if parameter is not None:
        example = example.to(parameter.device)
    modes = {
        part: part.training for part in module.modules()
    }  # a frozen normalization in a module that trains stays frozen
    try:
        module.eval()
        return torch.export.export(module, (example,), strict=False)
    except Exception as error:  # whatever the user's forward raises
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        several = "missing a required argument" in first or "missing 1 required positional" in first
        cure = (
            ". A module of several inputs: torch.onnx.export writes it, and relukit joins an ONNX file's inputs into one vector"
            if several
            else ""
        )
        raise UnsupportedOperation(
            f"torch.export could not trace {type(module).__name__} with an input of shape {(1, *shape)}: {first}{cure}"
        ) from error
    finally:
        for part, training in modes.items():
            part.training = training


def read_checkpoint(path: Path) -> Network:
    """Read `.pt2` (an exported program), `.pt`, `.pth` or `.safetensors` (a state_dict of dense layers).

    A state_dict holds weights and no architecture: dense layers are chained in their order with ReLU between them, and
    a note says so. Pickled modules are refused.

    Raises:
        UnreadableFile: A pickled object, a damaged file, or a state_dict that is no chain of dense layers.
    """
    if path.suffix == ".pt2":
        return _read_exported(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle.UnpicklingError, zip and safetensors errors have no common base
        text = str(error)
        if "weights_only" in text or "Unsupported" in text or "WeightsUnpickler" in text:
            raise UnreadableFile(
                f"{path} holds pickled Python objects, which could run any code; relukit reads weights only. Save the module with "
                "torch.export.save(torch.export.export(model, (example,)), 'model.pt2') or its state_dict, or pass the module itself."
            ) from error
        raise UnreadableFile(
            f"{path} is no readable checkpoint (damaged or truncated): {text.splitlines()[0] if text else type(error).__name__}"
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise UnreadableFile(f"{path} holds no state_dict (a dictionary of tensors)")
    return _from_state_dict(content, path)


def _read_exported(path: Path) -> Network:
    from relukit.network.torch_export import from_exported

    _check_archive(path)
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise UnreadableFile(
            f"{path} is no readable exported program: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    values = [v for v in program.graph.nodes if v.op == "placeholder" and v.name in program.graph_signature.user_inputs]
    shape = tuple(values[0].meta["val"].shape)[1:]
    return from_exported(program, np.dtype(np.float32)).with_(
        origin=Origin("torch", path, _Run(program.module(), shape))
    )


def _check_archive(path: Path) -> None:
    """Refuse what `torch.export.load` would unpickle or evaluate: pickled tensors, custom objects, symbolic shapes."""
    import io
    import json
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            texts = {n: archive.read(n).decode("utf-8", "replace") for n in names if n.endswith(".json")}
            samples = [archive.read(n) for n in names if "sample_inputs/" in n]
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise UnreadableFile(f"{path} is no readable .pt2 archive: {error}") from error
    if len(set(names)) < len(names):
        raise UnreadableFile(f"{path} holds two entries of one name; refused")
    if not any(n.endswith("archive_format") for n in names):
        raise UnreadableFile(
            f"{path} has no archive_format entry: written by torch before 2.8, or no exported program. Export it anew."
        )
    configs = [json.loads(t).get("config", {}) for n, t in texts.items() if n.endswith("_config.json")]
    unsafe = [
        k
        for c in configs
        for k, v in c.items()
        if v.get("use_pickle") or not str(v.get("path_name", "")).startswith(("weight_", "tensor_"))
    ]
    if unsafe:
        raise UnreadableFile(
            f"{path} holds pickled objects ('{unsafe[0]}'), which could run any code; refused. Export the module without them."
        )
    try:  # torch falls back to full unpickling for these
        for sample in samples:
            torch.load(io.BytesIO(sample), weights_only=True)
    except Exception as error:
        raise UnreadableFile(
            f"{path} holds sample inputs that are not plain tensors, which torch would unpickle; refused"
        ) from error
    if any('"expr_str"' in t for t in texts.values()):
        raise UnreadableFile(
            f"{path} holds symbolic (dynamic) shapes, which torch reads by evaluating text; refused. Export with fixed sizes and batch 1."
        )


def _from_state_dict(state: dict[str, torch.Tensor], path: Path) -> Network:
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in state.items():
        prefix, _, leaf = key.rpartition(".")
        groups.setdefault(prefix, {})[leaf] = tensor
    builder: Builder | None = None
    last, pending = 0, False
    for name, group in groups.items():
        weight = group.get("weight")
        if weight is not None and weight.ndim == 2:
            builder = builder or Builder((weight.shape[1],))
            if builder.nodes[last].size != weight.shape[1]:
                raise UnreadableFile(
                    f"{path}: layer '{name}' takes {weight.shape[1]} values where {builder.nodes[last].size} arrive: no chain of dense layers. Pass the module itself or a .pt2 file."
                )
            if pending:
                last = builder.activation(last, catalogue.relu(), f"{name}.relu", "assumed")
            bias = array(group["bias"]) if "bias" in group else 0.0
            last, pending = (
                builder.affine(last, dense_or_sparse(array(weight)), bias, name=name or "layer", source="state_dict"),
                True,
            )
        elif weight is not None and "running_mean" in group and builder is not None:
            factor = array(weight) / np.sqrt(array(group["running_var"]) + 1e-5)
            last = builder.affine(
                last,
                Scale(factor),
                array(group["bias"]) - array(group["running_mean"]) * factor,
                name=name,
                source="BatchNorm",
            )
        elif weight is not None and weight.ndim == 1 and set(group) == {"weight"} and builder is not None:
            last, pending = builder.activation(last, catalogue.prelu(array(weight)), name, "PReLU"), False
        else:
            shapes = {k: tuple(v.shape) for k, v in group.items()}
            raise UnreadableFile(
                f"{path}: '{name}' {shapes} is no dense layer, and a state_dict does not tell how it is used. "
                "Save the whole graph with torch.export.save(..., 'model.pt2') or as ONNX, or pass the module itself."
            )
    if builder is None:
        raise UnreadableFile(f"{path} holds no dense layer")
    first = next(iter(state.values()))
    builder.notes.append(
        "the file holds weights without an architecture: ReLU is assumed between dense layers, in the order of the file"
    )
    return builder.build(last, dtype=_precision(first.dtype), origin=Origin("torch", path))
