"""ATen operators on images and signals: convolution and its transpose, pooling, resizing."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from relukit.network.affine import Conv
from relukit.network.rewrite import Builder
from relukit.network.torch_call import Call, constant, index_of

UPSAMPLINGS = (
    "upsample_nearest1d upsample_nearest2d _upsample_nearest_exact1d _upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d "
    "upsample_bicubic2d"
).split()


def _pair(value: Any, line: bool, fill: int) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    if line:
        return fill, int(values[0])
    return (int(values[0]), int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def _image(call: Call, b: Builder, rank: int) -> tuple[int, bool]:
    """The value as `(1, C, H, W)`; 1-D signals get height 1."""
    x = index_of(call)
    shape = b.shape(x)
    if rank == 1 and len(shape) == 3:
        return b.reshape(x, (*shape[:2], 1, shape[2])), True
    if rank == 2 and len(shape) == 4:
        return x, False
    raise call.refuse(f"works on batches of 1-D signals and 2-D images, got a value of shape {shape}")


def _back(b: Builder, x: int, line: bool) -> int:
    shape = b.shape(x)
    return b.reshape(x, (*shape[:2], shape[3])) if line else x


def convolve(call: Call, b: Builder, rank: int) -> int:
    W, bias = constant(call.args[1]), call.argument(2, "bias")
    x, line = _image(call, b, rank)
    stride = _pair(call.argument(3, "stride", 1), line, 1)
    dilation = _pair(call.argument(5, "dilation", 1), line, 1)
    padding, kernel = call.argument(4, "padding", 0), W[:, :, None] if line else W
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel.shape[2:])]
        pads = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        p = (0, 0) if padding == "valid" else _pair(padding, line, 0)
        pads = (*p, *p)
    conv = Conv(kernel, b.shape(x)[1:], stride, pads, dilation, int(call.argument(6, "groups", 1)))
    return _back(
        b,
        b.convolve(x, conv, 0.0 if bias is None else constant(bias), (1, *conv.out_shape), call.path, call.source),
        line,
    )


def convolve_transposed(call: Call, b: Builder, rank: int) -> int:
    """(x, W, bias, stride, padding, output_padding, groups, dilation)."""
    W, bias = constant(call.args[1]), call.argument(2, "bias")
    x, line = _image(call, b, rank)
    p = _pair(call.argument(4, "padding", 0), line, 0)
    out = b.convolve_transposed(
        x, W[:, :, None] if line else W, _pair(call.argument(3, "stride", 1), line, 1), (*p, *p), _pair(call.argument(5, "output_padding", 0), line, 0),
        _pair(call.argument(7, "dilation", 1), line, 1), int(call.argument(6, "groups", 1)), 0.0 if bias is None else constant(bias), call.path, call.source,
    )  # fmt: skip
    return _back(b, out, line)


def upsample(call: Call, b: Builder) -> int:
    """Nearest, linear and cubic resizing, axis by axis: what torch does to the unit vectors of one axis is its matrix."""
    x = index_of(call)
    shape, out = b.shape(x), tuple(call.node.meta["val"].shape)
    mode = next(m for m in ("nearest_exact", "nearest", "linear", "cubic") if m in call.kind)
    corners = {} if "nearest" in mode else {"align_corners": bool(call.argument(2, "align_corners", False))}
    given = call.argument(4 if corners else 2, "scale_factors")
    if not isinstance(given, list | tuple):
        given = [None] * (len(shape) - 2)
    for axis, factor in zip(range(2, len(shape)), given):
        units = torch.eye(shape[axis], dtype=torch.float64)[:, None]
        torch_mode = mode.replace("_", "-")
        if mode == "cubic":  # torch has it for images only: a row of four equal columns stays one
            units, torch_mode = units[..., None].expand(-1, -1, -1, 4), "bicubic"
        size = (out[axis], 4) if mode == "cubic" else (out[axis],)
        how = {"size": size} if factor is None else {"scale_factor": (factor, 1.0) if mode == "cubic" else factor}
        moved = torch.nn.functional.interpolate(units, mode=torch_mode, **how, **corners)
        matrix = (moved[..., 0] if mode == "cubic" else moved)[:, 0].numpy().T
        x = b.along(x, axis, matrix, call.path, call.source)
    return x


def convolve_any(call: Call, b: Builder) -> int:
    """The general form: (x, W, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    if call.args[6]:
        call.args = [*call.args[:5], call.args[7], call.args[8], call.args[5]]
        return convolve_transposed(call, b, len(call.args[1].shape) - 2)
    call.args = [*call.args[:6], call.args[8]]
    return convolve(call, b, len(call.args[1].shape) - 2)


def max_pool(call: Call, b: Builder, rank: int) -> int:
    x, line = _image(call, b, rank)
    sides = _pair(call.args[1], line, 1)
    stride = _pair(call.argument(2, "stride") or call.args[1], line, 1)
    p = _pair(call.argument(3, "padding", 0), line, 0)
    dilation = _pair(call.argument(4, "dilation", 1), line, 1)
    pooled = b.max_pool(
        x, sides, stride, (*p, *p), dilation, bool(call.argument(5, "ceil_mode", False)), call.path, call.source
    )
    return _back(b, pooled, line)


def average_pool(call: Call, b: Builder, rank: int) -> int:
    x, line = _image(call, b, rank)
    sides = _pair(call.args[1], line, 1)
    stride = _pair(call.argument(2, "stride") or call.args[1], line, 1)
    p = _pair(call.argument(3, "padding", 0), line, 0)
    ceil, whole = bool(call.argument(4, "ceil_mode", False)), bool(call.argument(5, "count_include_pad", True))
    if call.argument(6, "divisor_override") is not None:
        raise call.refuse("divisor_override is not supported; scale the result instead")
    pooled = b.average_pool(x, sides, stride, (*p, *p), (1, 1), ceil, whole, call.path, call.source)
    return _back(b, pooled, line)


def _parts(length: int, count: int) -> list[tuple[int, int]]:
    """The ranges that adaptive pooling makes of an axis; they overlap where the count does not divide it."""
    return [(k * length // count, -(-(k + 1) * length // count)) for k in range(count)]


def _adaptive_out(call: Call, line: bool, sides: tuple[int, ...]) -> tuple[int, int]:
    given = [call.args[1]] if isinstance(call.args[1], int) else list(call.args[1])
    high, wide = [1, *given[:1]] if line else given * (2 // len(given))
    return sides[0] if high is None else int(high), sides[1] if wide is None else int(wide)


def adaptive_average(call: Call, b: Builder, rank: int) -> int:
    x, line = _image(call, b, rank)
    H, W = b.shape(x)[2:]
    out = _adaptive_out(call, line, (H, W))
    if H % out[0] == 0 and W % out[1] == 0:
        sides = (H // out[0], W // out[1])
        return _back(b, b.average_pool(x, sides, sides, (0, 0, 0, 0), name=call.path, source=call.source), line)
    for axis, (length, count) in enumerate(zip((H, W), out), 2):
        shares = np.zeros((count, length))
        for row, (start, end) in zip(shares, _parts(length, count)):
            row[start:end] = 1 / (end - start)
        x = b.along(x, axis, shares, call.path, call.source)
    return _back(b, x, line)


def adaptive_max(call: Call, b: Builder, rank: int) -> int:
    x, line = _image(call, b, rank)
    _, C, H, W = b.shape(x)
    out = _adaptive_out(call, line, (H, W))
    numbers = np.arange(C * H * W).reshape(C, H, W)
    windows = [
        numbers[:, top:bottom, left:right].reshape(C, -1)
        for top, bottom in _parts(H, out[0])
        for left, right in _parts(W, out[1])
    ]
    most = max(w.shape[1] for w in windows)
    padded = [np.pad(w, ((0, 0), (0, most - w.shape[1])), constant_values=-1) for w in windows]
    groups = np.stack(padded, 1).reshape(-1, most)
    return _back(b, b.maximum_over(x, groups, (1, C, *out), call.path, call.source), line)


ROWS: dict[str, Callable[[Call, Builder], int]] = {
    "conv1d": partial(convolve, rank=1),
    "conv2d": partial(convolve, rank=2),
    "convolution": convolve_any,
    "conv_transpose1d": partial(convolve_transposed, rank=1),
    "conv_transpose2d": partial(convolve_transposed, rank=2),
    "max_pool1d": partial(max_pool, rank=1),
    "max_pool2d": partial(max_pool, rank=2),
    "avg_pool1d": partial(average_pool, rank=1),
    "avg_pool2d": partial(average_pool, rank=2),
    "adaptive_avg_pool1d": partial(adaptive_average, rank=1),
    "adaptive_avg_pool2d": partial(adaptive_average, rank=2),
    "adaptive_max_pool1d": partial(adaptive_max, rank=1),
    "adaptive_max_pool2d": partial(adaptive_max, rank=2),
    **dict.fromkeys(UPSAMPLINGS, upsample),
}
