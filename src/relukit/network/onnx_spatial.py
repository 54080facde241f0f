"""ONNX operators on images and signals: convolution and its transpose, pooling, resizing."""

import numpy as np

from relukit._types import AnyArray, Shape
from relukit.network.affine import Conv
from relukit.network.onnx_graph import Operator, Reading, constant, reindex, value_of
from relukit.network.rewrite import size_of


def _spatial(
    o: Operator, shape: Shape, kernel: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Stride, dilation and padding `(before..., after...)` of a window operator."""
    n = len(kernel)
    stride = tuple(o.attribute("strides", [1] * n))
    dilation = tuple(o.attribute("dilations", [1] * n))
    auto = o.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return stride, dilation, tuple(o.attribute("pads", [0] * 2 * n))
    if auto == "VALID":
        return stride, dilation, (0,) * 2 * n
    total = [
        max((-(-s // t) - 1) * t + d * (k - 1) + 1 - s, 0) for s, t, d, k in zip(shape[2:], stride, dilation, kernel)
    ]
    low = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
    return stride, dilation, (*low, *(t - b for t, b in zip(total, low)))


def _plane(o: Operator, r: Reading, x: int) -> tuple[int, bool]:
    """The value with two spatial axes: 1-D data get a height of 1."""
    shape = r.builder.shape(x)
    if len(shape) == 4:
        return x, False
    if len(shape) == 3:
        return r.builder.reshape(x, (*shape[:2], 1, shape[2])), True
    raise o.refuse(f"works on 1-D and 2-D images, got a value of shape {shape}")


def _flat_back(r: Reading, index: int, line: bool) -> int:
    shape = r.builder.shape(index)
    return r.builder.reshape(index, (*shape[:-2], shape[-1])) if line else index


def _two(values: tuple[int, ...], line: bool, fill: int) -> tuple[int, ...]:
    """Window numbers of one axis as those of two (padding has two per axis)."""
    if not line:
        return values
    return (fill, *values) if len(values) == 1 else (fill, values[0], fill, values[1])


def convolve(o: Operator, r: Reading) -> int:
    W = constant(o, r, 1)
    x, line = _plane(o, r, value_of(o, r))
    if W.ndim not in (3, 4):
        raise o.refuse(f"a kernel of shape {W.shape} is not 1-D or 2-D")
    stride, dilation, pads = _spatial(o, r.shape(o.inputs[0]), W.shape[2:])
    kernel = W[:, :, None] if line else W
    conv = Conv(
        kernel,
        r.builder.shape(x)[1:],
        _two(stride, line, 1),
        _two(pads, line, 0),
        _two(dilation, line, 1),
        o.attribute("group", 1),
    )
    return _flat_back(
        r, r.builder.convolve(x, conv, constant(o, r, 2, 0.0), (1, *conv.out_shape), o.name, o.source), line
    )


def average_pool(o: Operator, r: Reading, everything: bool = False) -> int:
    x, line = _plane(o, r, value_of(o, r))
    shape = r.builder.shape(x)
    C = shape[1]
    if everything:
        conv = Conv(np.full((C, 1, *shape[2:]), 1 / size_of(shape[2:])), shape[1:], groups=C)
        return _flat_back(r, r.builder.convolve(x, conv, 0.0, (1, *conv.out_shape), o.name, o.source), line)
    sides = tuple(o.attribute("kernel_shape"))
    stride, dilation, pads = _spatial(o, r.shape(o.inputs[0]), sides)
    whole, ceil = bool(o.attribute("count_include_pad", 0)), bool(o.attribute("ceil_mode", 0))
    pooled = r.builder.average_pool(
        x, _two(sides, line, 1), _two(stride, line, 1), _two(pads, line, 0), _two(dilation, line, 1), ceil, whole, o.name, o.source
    )  # fmt: skip
    return _flat_back(r, pooled, line)


def max_pool(o: Operator, r: Reading, everything: bool = False) -> int:
    x, line = _plane(o, r, value_of(o, r))
    if len([n for n in o.outputs if n]) > 1:
        raise o.refuse("also returns indices, which are not continuous")
    if everything:
        sides, stride, dilation, pads = r.builder.shape(x)[2:], (1, 1), (1, 1), (0, 0, 0, 0)
    else:
        sides = tuple(o.attribute("kernel_shape"))
        stride, dilation, pads = _spatial(o, r.shape(o.inputs[0]), sides)
        stride, dilation, pads, sides = (
            _two(stride, line, 1),
            _two(dilation, line, 1),
            _two(pads, line, 0),
            _two(sides, line, 1),
        )
    pooled = r.builder.max_pool(x, sides, stride, pads, dilation, bool(o.attribute("ceil_mode", 0)), o.name, o.source)
    return _flat_back(r, pooled, line)


def convolve_transposed(o: Operator, r: Reading) -> int:
    W = constant(o, r, 1)
    x, line = _plane(o, r, value_of(o, r))
    if W.ndim not in (3, 4):
        raise o.refuse(f"a kernel of shape {W.shape} is not 1-D or 2-D")
    kernel = W[:, :, None] if line else W
    stride = _two(tuple(o.attribute("strides", [1] * (W.ndim - 2))), line, 1)
    dilation = _two(tuple(o.attribute("dilations", [1] * (W.ndim - 2))), line, 1)
    extra = _two(tuple(o.attribute("output_padding", [0] * (W.ndim - 2))), line, 0)
    pads = _two(tuple(o.attribute("pads", [0] * 2 * (W.ndim - 2))), line, 0)
    auto, wanted = o.attribute("auto_pad", "NOTSET"), o.attribute("output_shape")
    if wanted is not None or auto in ("SAME_UPPER", "SAME_LOWER"):
        sides = r.builder.shape(x)[2:]
        if wanted is None:
            wanted = [n * s for n, s in zip(sides, stride)]
        else:
            wanted = _two(tuple(wanted[-(W.ndim - 2) :]), line, 1)
        total = [
            max(s * (n - 1) + e + d * (k - 1) + 1 - w, 0)
            for s, n, e, d, k, w in zip(stride, sides, extra, dilation, kernel.shape[2:], wanted)
        ]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = (*less, *more) if auto == "SAME_UPPER" else (*more, *less)
    out = r.builder.convolve_transposed(
        x, kernel, stride, pads, extra, dilation, o.attribute("group", 1), constant(o, r, 2, 0.0), o.name, o.source
    )
    return _flat_back(r, out, line)


def resize(o: Operator, r: Reading) -> int:
    """Resize and Upsample, axis by axis: what the reference implementation does to each unit vector is the matrix."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    x = value_of(o, r)
    if o.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise o.refuse("crops by a region of interest; cut with Slice and resize afterwards")
    place = 1 if o.kind == "Upsample" or r.opset < 11 else 2
    scales = o.attribute("scales") if r.opset < 9 and o.kind == "Upsample" else constant(o, r, place)
    sizes = constant(o, r, 3) if place == 2 else None
    rank = len(r.builder.shape(x))
    axes = [int(a) % rank for a in o.attribute("axes", range(rank))]
    if (sizes is None or not np.size(sizes)) and (scales is None or len(scales) != len(axes)):
        raise o.refuse("names neither a scale nor a size for each axis")
    if o.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise o.refuse("keep_aspect_ratio_policy is not supported; give the sizes themselves")
    kept = {
        k: o.attribute(k)
        for k in (
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "mode",
            "nearest_mode",
            "antialias",
        )
        if k in o.attributes
    }
    if place == 1:  # before opset 11 there was one rule
        kept |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if kept.get("mode", "nearest") == "bilinear":
        kept["mode"] = "linear"
    by_size = sizes is not None and np.size(sizes) > 0
    wanted = np.asarray(sizes if by_size else scales).tolist()
    for k, axis in enumerate(axes):
        length = r.builder.shape(x)[axis]
        factor = wanted[k] / length if by_size else wanted[k]
        if factor == 1:
            continue
        target = np.asarray([length, wanted[k]], np.int64) if by_size else np.asarray([1.0, factor], np.float32)
        node = helper.make_node("Resize", ["x", "", "", "t"] if by_size else ["x", "", "t"], ["y"], **kept)
        graph = helper.make_graph(
            [node], "axis",
            [helper.make_tensor_value_info("x", TensorProto.DOUBLE, None), helper.make_tensor_value_info("t", TensorProto.INT64 if by_size else TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
        )  # fmt: skip
        run = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", max(r.opset, 13))]))
        matrix = np.asarray(run.run(None, {"x": np.eye(length), "t": target})[0]).T
        x = r.builder.along(x, axis, matrix, o.name, o.source)
    return x


def depth_to_space(o: Operator, r: Reading) -> int:
    side = o.attribute("blocksize")

    def change(a: AnyArray) -> AnyArray:
        n, c, h, w = a.shape
        if o.attribute("mode", "DCR") == "DCR":
            return (
                a.reshape(n, side, side, c // side**2, h, w)
                .transpose(0, 3, 4, 1, 5, 2)
                .reshape(n, -1, h * side, w * side)
            )
        return (
            a.reshape(n, c // side**2, side, side, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, h * side, w * side)
        )

    return reindex(o, r, change)


def space_to_depth(o: Operator, r: Reading) -> int:
    side = o.attribute("blocksize")

    def change(a: AnyArray) -> AnyArray:
        n, c, h, w = a.shape
        return (
            a.reshape(n, c, h // side, side, w // side, side)
            .transpose(0, 3, 5, 1, 2, 4)
            .reshape(n, -1, h // side, w // side)
        )

    return reindex(o, r, change)
