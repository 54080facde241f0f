"""The dense network as its owner runs it: the torch module, onnxruntime for ONNX files, else BLAS layer by layer."""

from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.inference._layers import Layer
from relukit.network import Network

Run = Callable[[Array], Array]
_SMALL = 1 << 22  # weights: above it what modules cost is not seen any more


def own_module(network: Network) -> Any:
    """The torch module that the network came from, where it computes in float32 on the CPU."""
    module = network.origin.module
    if network.origin.kind != "torch" or module is None or network.head:
        return None
    import torch

    parameter = next(iter(module.parameters()), None)
    here = parameter is not None and parameter.dtype == torch.float32 and parameter.device.type == "cpu"
    return module if here else None


def straight(layers: list[Layer], own: Any) -> Any:
    """Tensor to tensor by torch's own functions, without the modules around them; None where there is no torch module or its activations differ.

    What modules add, about a microsecond each, is a tenth of what a small network takes.
    """
    hidden = layers[:-1]
    if own is None or not layers or not all(layer.is_relu for layer in hidden) or layers[-1].activation is not None:
        return None
    if sum(layer.W.size for layer in layers) > _SMALL:
        return None
    import torch

    pairs = [(torch.from_numpy(layer.W), torch.from_numpy(layer.b)) for layer in layers]
    (V, c), linear, relu_ = pairs.pop(), torch.nn.functional.linear, torch.relu_

    def run(x: Any) -> Any:
        for W, b in pairs:
            x = relu_(linear(x, W, b))
        return linear(x, V, c)

    return run


def dense_run(network: Network, layers: list[Layer], own: Any, threads: int) -> Run:
    """Rows to outputs in float32, dense."""
    if own is not None:
        import torch

        def run(rows: Array) -> Array:
            with torch.no_grad():
                out = own(torch.from_numpy(rows).reshape(len(rows), *network.input_shape))
            return out.reshape(len(rows), -1).numpy()

        return run

    def blas(rows: Array) -> Array:
        for layer in layers:
            rows = layer.run(rows, "dense")
        return rows

    plain = blas if layers else lambda rows: network(rows, np.float32)
    return _session(network, layers, plain, threads) or plain


def _session(network: Network, layers: list[Layer], plain: Run, threads: int) -> Run | None:
    """onnxruntime for the file that the network came from; None where it is another file, in float64, or with a softmax at the end.

    Files with a fixed batch are run so for batches of that size, and row by row where that size is 1 and BLAS has no layers to offer.
    """
    path = network.origin.path
    if network.origin.kind != "onnx" or path is None or path.suffix == ".gz" or network.head:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # an operator that this onnxruntime lacks
        return None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)" or not inputs[0].shape:
        return None
    name, (first, *rest) = inputs[0].name, inputs[0].shape
    direct: Any = getattr(session, "_sess", session)  # below what checks the names anew in each call
    shape = [d if isinstance(d, int) and d > 0 else 1 for d in rest]
    if int(np.prod(shape)) != network.inputs:
        return None
    fixed, names = first if isinstance(first, int) and first > 0 else None, [outputs[0].name]

    def plainly(rows: Array) -> Array:  # nothing has to be reshaped: a microsecond counts
        return direct.run(names, {name: rows}, None)[0]

    def run(rows: Array) -> Array:
        if fixed is not None and len(rows) != fixed:
            if fixed > 1 or layers:
                return plain(rows)
            return np.concatenate([run(row[None]) for row in rows])
        return direct.run(names, {name: rows.reshape(len(rows), *shape)}, None)[0].reshape(len(rows), -1)

    try:
        probe = np.zeros((fixed or 2, network.inputs), np.float32)
        if fixed is None and len(shape) == 1 and plainly(probe).shape == (len(probe), network.outputs):
            return plainly
        return run if run(probe).shape == (len(probe), network.outputs) else None
    except Exception:  # the file does not take batches after all
        return None
