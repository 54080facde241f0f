"""Keras 3 layers over places: convolutions, pooling, upsampling. Values are kept channels last, as Keras has them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array, Shape
from relukit.network.affine import Conv
from relukit.network.rewrite import Builder


def weights(variable: Any) -> Array:
    """A Keras variable as float64, whatever the backend."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def _channels_first(b: Builder, x: int) -> tuple[int, bool]:
    """A value (1, H, W, C) or (1, L, C) as (1, C, H, W); says whether it was 1-D."""
    shape = b.shape(x)
    line = len(shape) == 3
    numbers = np.arange(b.nodes[x].size).reshape((1, 1, *shape[1:]) if line else shape).transpose(0, 3, 1, 2)
    return b.gather(x, numbers, numbers.shape), line


def _channels_last(b: Builder, x: int, line: bool) -> int:
    numbers = np.arange(b.nodes[x].size).reshape(b.shape(x)).transpose(0, 2, 3, 1)
    return b.gather(x, numbers, numbers.shape[:1] + numbers.shape[2:] if line else numbers.shape)


def _pads(
    layer: Any, shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    if layer.padding == "valid":
        return 0, 0, 0, 0
    if layer.padding != "same":
        raise UnsupportedOperation(f"Keras layer '{layer.name}': padding '{layer.padding}' is not supported")
    total = [
        max((-(-s // t) - 1) * t + d * (k - 1) + 1 - s, 0) for s, t, d, k in zip(shape[2:], stride, dilation, kernel)
    ]
    return total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2


def _two(value: Any, line: bool) -> tuple[int, int]:
    value = (value,) if isinstance(value, int) else tuple(value)
    return (1, value[0]) if line else (value[0], value[-1])


def _conv(layer: Any, b: Builder, x: list[int]) -> int:
    image, line = _channels_first(b, x[0])
    kernel = weights(layer.kernel)
    kernel = kernel[None] if line else kernel
    if "Depthwise" in type(layer).__name__:
        H, W, C, m = kernel.shape
        kernel, groups = kernel.transpose(2, 3, 0, 1).reshape(C * m, 1, H, W), C
    else:
        kernel, groups = kernel.transpose(3, 2, 0, 1), layer.groups
    stride, dilation = _two(layer.strides, line), _two(layer.dilation_rate, line)
    pads = _pads(layer, b.shape(image), kernel.shape[2:], stride, dilation)
    conv = Conv(kernel, b.shape(image)[1:], stride, pads, dilation, groups)
    bias = weights(layer.bias) if layer.use_bias else 0.0
    return _channels_last(
        b, b.convolve(image, conv, bias, (1, *conv.out_shape), layer.name, type(layer).__name__), line
    )


def _conv_transposed(layer: Any, b: Builder, x: list[int]) -> int:
    """`same` gives as many times more places as the stride; `valid` all that the kernel reaches."""
    image, line = _channels_first(b, x[0])
    kernel = weights(layer.kernel)
    kernel = (kernel[None] if line else kernel).transpose(3, 2, 0, 1)
    stride, dilation = _two(layer.strides, line), _two(layer.dilation_rate, line)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[2:])]
    if layer.output_padding is not None:
        raise UnsupportedOperation(f"Keras layer '{layer.name}': output_padding is not supported; use padding='same'")
    less = [max(k - s, 0) if layer.padding == "same" else 0 for k, s in zip(reach, stride)]
    more = [max(s - k, 0) for k, s in zip(reach, stride)]
    pads = (less[0] // 2, less[1] // 2, less[0] - less[0] // 2, less[1] - less[1] // 2)
    bias = weights(layer.bias) if layer.use_bias else 0.0
    kind = type(layer).__name__
    done = b.convolve_transposed(image, kernel, stride, pads, (more[0], more[1]), dilation, 1, bias, layer.name, kind)
    return _channels_last(b, done, line)


def _upsample(layer: Any, b: Builder, x: list[int]) -> int:
    how = getattr(layer, "interpolation", "nearest")
    if how not in ("nearest", "bilinear"):
        raise UnsupportedOperation(
            f"Keras layer '{layer.name}': interpolation '{how}' is not known; nearest and bilinear are"
        )
    value = x[0]
    for axis, times in enumerate(np.ravel(layer.size), start=1):
        n = b.shape(value)[axis]
        place = (np.arange(n * int(times)) + 0.5) / int(times) - 0.5
        place = np.clip(np.rint(place) if how == "nearest" else place, 0, n - 1)
        matrix = np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(n)))  # hats around the old places
        value = b.along(value, axis, matrix, layer.name, type(layer).__name__)
    return value


def _max_pool(layer: Any, b: Builder, x: list[int]) -> int:
    image, line = _channels_first(b, x[0])
    sides, stride = _two(layer.pool_size, line), _two(layer.strides or layer.pool_size, line)
    pads = _pads(layer, b.shape(image), sides, stride, (1, 1))
    return _channels_last(
        b, b.max_pool(image, sides, stride, pads, (1, 1), False, layer.name, type(layer).__name__), line
    )


def _average_pool(layer: Any, b: Builder, x: list[int]) -> int:
    image, line = _channels_first(b, x[0])
    sides, stride = _two(layer.pool_size, line), _two(layer.strides or layer.pool_size, line)
    pads = _pads(layer, b.shape(image), sides, stride, (1, 1))
    pooled = b.average_pool(image, sides, stride, pads, name=layer.name, source=type(layer).__name__)
    return _channels_last(b, pooled, line)


def _global_pool(layer: Any, b: Builder, x: list[int]) -> int:
    image, _ = _channels_first(b, x[0])
    _, C, H, W = b.shape(image)
    if "Max" in type(layer).__name__:
        pooled = b.max_pool(image, (H, W), (1, 1), (0, 0, 0, 0), (1, 1), False, layer.name, type(layer).__name__)
    else:
        conv = Conv(np.full((C, 1, H, W), 1 / (H * W)), (C, H, W), groups=C)
        pooled = b.convolve(image, conv, 0.0, (1, C, 1, 1), layer.name, type(layer).__name__)
    return b.reshape(pooled, (1, C))


SPATIAL: dict[str, Callable[[Any, Builder, list[int]], int]] = {
    "Conv1D": _conv,
    "Conv2D": _conv,
    "DepthwiseConv1D": _conv,
    "DepthwiseConv2D": _conv,
    "Conv1DTranspose": _conv_transposed,
    "Conv2DTranspose": _conv_transposed,
    "MaxPooling1D": _max_pool,
    "MaxPooling2D": _max_pool,
    "AveragePooling1D": _average_pool,
    "AveragePooling2D": _average_pool,
    "GlobalAveragePooling1D": _global_pool,
    "GlobalAveragePooling2D": _global_pool,
    "GlobalMaxPooling1D": _global_pool,
    "GlobalMaxPooling2D": _global_pool,
    "UpSampling1D": _upsample,
    "UpSampling2D": _upsample,
}
