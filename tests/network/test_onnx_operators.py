"""Every ONNX operator of the table against onnxruntime, one small graph each."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from relukit import UnreadableFile, UnsupportedOperation, load
from relukit.network.onnx import OPERATORS, from_onnx
from relukit.network.onnx_write import to_onnx

G = np.random.default_rng(0)
W34, W43 = G.standard_normal((3, 4)), G.standard_normal((4, 3))
VEC = (1, 4)
IMG = (1, 2, 5, 6)


def r(*shape):
    return G.standard_normal(shape)


def i(*values):
    return np.array(values, np.int64)


# operator, shape of x, constant inputs after x, attributes, opset
CASES = [
    ("MatMul", VEC, [W43], {}, 13),
    ("MatMul", (1, 3, 4), [W43], {}, 13),
    ("MatMul", (4,), [W43], {}, 13),
    ("Gemm", VEC, [W34, r(3)], {"transB": 1}, 13),
    ("Gemm", VEC, [W43, r(1, 3)], {"alpha": 0.5, "beta": 2.0}, 13),
    ("Add", VEC, [r(4)], {}, 13),
    ("Add", VEC, [r(3, 4)], {}, 13),
    ("Sub", VEC, [r(1, 4)], {}, 13),
    ("Mul", IMG, [r(2, 1, 1)], {}, 13),
    ("Div", VEC, [r(4)], {}, 13),
    ("Neg", VEC, [], {}, 13),
    ("Sum", VEC, [r(4), r(4)], {}, 13),
    ("Conv", IMG, [r(3, 2, 3, 2), r(3)], {"strides": [2, 1], "pads": [1, 0, 2, 1]}, 13),
    ("Conv", IMG, [r(4, 1, 2, 2)], {"group": 2, "dilations": [2, 1]}, 13),
    ("Conv", IMG, [r(3, 2, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, 13),
    ("Conv", (1, 2, 7), [r(3, 2, 3), r(3)], {"pads": [1, 1], "strides": [2]}, 13),
    ("BatchNormalization", IMG, [r(2), r(2), r(2), abs(r(2))], {}, 14),
    ("BatchNormalization", VEC, [r(4), r(4), r(4), abs(r(4))], {}, 14),
    ("AveragePool", IMG, [], {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [1, 1, 0, 1]}, 13),
    ("AveragePool", IMG, [], {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}, 13),
    ("GlobalAveragePool", IMG, [], {}, 13),
    ("GlobalMaxPool", IMG, [], {}, 13),
    ("MaxPool", IMG, [], {"kernel_shape": [2, 2], "strides": [2, 2]}, 13),
    ("MaxPool", IMG, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, 13),
    ("MaxPool", IMG, [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, 13),
    ("MaxPool", (1, 2, 7), [], {"kernel_shape": [3], "strides": [2]}, 13),
    ("ReduceMean", IMG, [], {"axes": [2, 3], "keepdims": 0}, 13),
    ("ReduceSum", IMG, [i(1)], {"keepdims": 1}, 13),
    ("ReduceL1", IMG, [], {"axes": [1, -1]}, 13),
    ("ReduceMean", VEC, [], {}, 13),
    ("Flatten", IMG, [], {"axis": 2}, 13),
    ("Reshape", IMG, [i(0, -1, 3)], {}, 13),
    ("Transpose", IMG, [], {"perm": [0, 3, 1, 2]}, 13),
    ("Squeeze", (1, 4, 1), [i(2)], {}, 13),
    ("Unsqueeze", VEC, [i(1, 3)], {}, 13),
    ("Slice", IMG, [i(1, 4), i(5, 0), i(2, 3), i(2, -1)], {}, 13),
    ("Gather", IMG, [i(1, 0, 1)], {"axis": 3}, 13),
    ("Gather", VEC, [np.array(2)], {"axis": 1}, 13),
    ("AveragePool", IMG, [], {"kernel_shape": [2, 4], "strides": [2, 3], "ceil_mode": 1, "pads": [0, 1, 0, 1]}, 19),
    (
        "AveragePool",
        IMG,
        [],
        {"kernel_shape": [2, 4], "strides": [2, 3], "ceil_mode": 1, "pads": [0, 1, 0, 1], "count_include_pad": 1},
        19,
    ),
    ("GatherND", IMG, [np.array([[0, 1, 2], [0, 0, 1]])], {}, 13),
    ("GatherElements", IMG, [np.arange(60).reshape(1, 2, 5, 6) % 5], {"axis": 2}, 13),
    ("Tile", VEC, [i(1, 3)], {}, 13),
    ("ReduceMax", IMG, [], {"axes": [2, 3]}, 13),
    ("ReduceMin", IMG, [], {"axes": [1], "keepdims": 0}, 13),
    (
        "ConvTranspose",
        IMG,
        [r(2, 3, 3, 2), r(3)],
        {"strides": [2, 1], "pads": [1, 0, 1, 1], "output_padding": [1, 0]},
        13,
    ),
    ("ConvTranspose", IMG, [r(2, 1, 2, 2)], {"strides": [3, 2], "auto_pad": "SAME_UPPER", "group": 2}, 13),
    ("ConvTranspose", IMG, [r(2, 1, 3, 3)], {"strides": [2, 2], "output_shape": [8, 9]}, 13),
    ("Resize", IMG, [np.zeros(0), np.array([1.0, 1.0, 2.0, 1.5])], {"mode": "nearest"}, 13),
    (
        "Resize",
        IMG,
        [np.zeros(0), np.zeros(0), i(1, 2, 7, 5)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        13,
    ),
    (
        "Resize",
        IMG,
        [np.zeros(0), np.array([1.0, 1.0, 2.0, 2.0])],
        {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
        13,
    ),
    ("Upsample", IMG, [np.array([1.0, 1.0, 2.0, 3.0])], {"mode": "nearest"}, 9),
    ("DepthToSpace", (1, 8, 2, 3), [], {"blocksize": 2}, 13),
    ("DepthToSpace", (1, 8, 2, 3), [], {"blocksize": 2, "mode": "CRD"}, 13),
    ("SpaceToDepth", (1, 2, 4, 6), [], {"blocksize": 2}, 13),
    ("Selu", VEC, [], {}, 13),
    ("Celu", VEC, [], {"alpha": 0.7}, 13),
    ("Mish", VEC, [], {}, 18),
    ("Pad", IMG, [i(0, 0, 1, 2, 0, 0, 0, 1), np.array(0.5)], {}, 13),
    ("Pad", IMG, [i(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "reflect"}, 13),
    ("Expand", VEC, [i(3, 4)], {}, 13),
    ("Identity", VEC, [], {}, 13),
    ("Dropout", VEC, [], {}, 13),
    ("Relu", VEC, [], {}, 13),
    ("LeakyRelu", VEC, [], {"alpha": 0.2}, 13),
    ("PRelu", IMG, [r(2, 1, 1)], {}, 13),
    ("PRelu", VEC, [np.array([0.3])], {}, 13),
    ("Clip", VEC, [np.array(-0.2), np.array(0.7)], {}, 13),
    ("Abs", VEC, [], {}, 13),
    ("Max", VEC, [np.array(0.3)], {}, 13),
    ("Max", VEC, [r(4)], {}, 13),
    ("Min", VEC, [np.array(0.3)], {}, 13),
    ("Min", VEC, [r(4)], {}, 13),
    ("HardSigmoid", VEC, [], {"alpha": 0.3, "beta": 0.4}, 13),
    ("HardSwish", VEC, [], {}, 14),
    ("Sigmoid", VEC, [], {}, 13),
    ("Tanh", VEC, [], {}, 13),
    ("Elu", VEC, [], {"alpha": 0.7}, 13),
    ("Gelu", VEC, [], {}, 20),
    ("Gelu", VEC, [], {"approximate": "tanh"}, 20),
    ("Softplus", VEC, [], {}, 13),
    ("Mul", VEC, ["x"], {}, 13),
    ("Mul", (1, 3, 4), ["x"], {}, 13),
    ("Div", VEC, ["positive"], {}, 13),
    ("MatMul", (1, 3, 4), ["turned"], {}, 13),
    ("Einsum", (1, 3, 4), [W43], {"equation": "bij,jk->bik"}, 13),
    ("Einsum", (1, 3, 4), [r(3, 4, 2, 5)], {"equation": "b i j, i j k l -> l b k"}, 13),
    ("Einsum", (1, 3, 4), [r(3, 4)], {"equation": "bij,ij"}, 13),
    ("Einsum", (1, 3, 4), [r(3, 2)], {"equation": "bij,ik->kij"}, 13),
    ("Einsum", (1, 3, 4), [], {"equation": "bij->jb"}, 13),
    ("Einsum", (1, 3, 4), ["turned"], {"equation": "bij,bjk->kbi"}, 13),
    ("MatMul", (2, 3, 4), ["turned"], {}, 13),
    ("Pow", VEC, [np.array(2.0)], {}, 13),
    ("Pow", VEC, [np.array(3.0)], {}, 13),
    ("Pow", VEC, [np.array(-2.0)], {}, 13),
    ("Sqrt", VEC, "positive", {}, 13),
    ("Exp", VEC, [], {}, 13),
    ("Log", VEC, "positive", {}, 13),
    ("Erf", VEC, [], {}, 13),
    ("Sin", VEC, [], {}, 13),
    ("Cos", VEC, [], {}, 13),
    ("Reciprocal", VEC, "positive", {}, 13),
    ("Sign", VEC, [], {}, 13),
    ("Softsign", VEC, [], {}, 13),
    ("Softmax", (1, 3, 4), [], {"axis": 1}, 13),
    ("Softmax", (1, 3, 4), [], {"axis": 2}, 11),
    ("LogSoftmax", (1, 3, 4), [], {}, 13),
    ("LayerNormalization", (1, 3, 4), [r(4), r(4)], {"epsilon": 1e-3}, 17),
    ("InstanceNormalization", IMG, [r(2), r(2)], {"epsilon": 1e-3}, 13),
    ("ReduceSumSquare", IMG, [], {"axes": [1, 2]}, 13),
    ("ReduceL2", IMG, [], {"axes": [-1], "keepdims": 0}, 13),
]


def model(nodes, shape, constants, outputs=("y",), opset=13, double=False):
    kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
    weights = [
        numpy_helper.from_array(c if c.dtype == np.int64 else np.asarray(c, np.float32), n)
        for n, c in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(o, kind, None) for o in outputs],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def check(proto, shape, tolerance=2e-5):
    network = from_onnx(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    again = onnxruntime.InferenceSession(to_onnx(network).SerializeToString(), providers=["CPUExecutionProvider"])
    for seed in range(4):
        x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        want = np.concatenate([o.ravel() for o in session.run(None, {"x": x})])
        got = network.apply_head(network(x.ravel().astype(np.float64)))
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
        written = again.run(None, {"input": x.reshape(1, *network.input_shape)})[0].ravel()
        np.testing.assert_allclose(written, want, rtol=tolerance, atol=tolerance)
    return network


@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{k}" for k, c in enumerate(CASES)])
def test_operator_matches_onnxruntime(case):
    kind, shape, constants, attributes, opset = case
    # What is no constant is made of the input: "x" itself, its transpose, or a value that is never near 0.
    made, constants = (constants, []) if isinstance(constants, str) else ("x2", constants)
    others = [c if isinstance(c, str) else f"c{k}" for k, c in enumerate(constants)]
    names = {f"c{k}": c for k, c in enumerate(constants) if not isinstance(c, str)} | {"half": np.array(0.5)}
    # A scale before and after keeps the tested operator away from the rewriting of inputs and outputs.
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["x2"]),
        helper.make_node("Abs", ["x2"], ["size"]),
        helper.make_node("Add", ["size", "half"], ["positive"]),
        helper.make_node("Transpose", ["x2"], ["turned"], perm=[*range(len(shape) - 2), len(shape) - 1, len(shape) - 2])
        if len(shape) == 3
        else helper.make_node("Identity", ["x2"], ["turned"]),
        helper.make_node(kind, [made, *others], ["y2"], name="tested", **attributes),
        helper.make_node("Mul", ["y2", "two"], ["y"]),
    ]
    check(model(nodes, shape, names | {"two": np.array(1.25)}, opset=opset), shape)


def test_every_operator_has_a_case_or_a_test_of_its_own():
    compared = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or", "Where"}
    own = {"Concat", "Split", "Cast", "Shape"} | compared
    assert set(OPERATORS) == {c[0] for c in CASES} | own


def test_concat_split_and_residual():
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1),
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("Concat", ["b", "ra", "block"], ["joined"], axis=1),
        helper.make_node("Gemm", ["joined", "W"], ["h"]),
        helper.make_node("Max", ["h", "x"], ["m"]),
        helper.make_node("Add", ["m", "h"], ["y"]),
    ]
    check(model(nodes, VEC, {"sizes": i(1, 3), "block": r(1, 2), "W": r(6, 4)}), VEC)


def test_shape_arithmetic_folds():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    check(model(nodes, IMG, {"zero": i(0), "rest": i(-1)}), IMG)


@pytest.mark.parametrize("head", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_a_last_head_is_set_aside(head):
    nodes = [helper.make_node("Gemm", ["x", "W"], ["h"]), helper.make_node(head, ["h"], ["y"])]
    network = check(model(nodes, VEC, {"W": W43}), VEC)
    assert network.head == {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}[head]
    assert "set aside" in network.notes[0]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Floor", ["x"], ["y"], name="jump")], "Floor at node 'jump'"),
        ([helper.make_node("Pow", ["x", "x"], ["y"], name="powers")], "'powers': input 1"),
        (
            [helper.make_node("Where", ["x", "x", "x"], ["y"], name="choice")],
            "'choice': reads 'x', which is no comparison",
        ),
        ([helper.make_node("Acosh", ["x"], ["y"], name="wave")], "Acosh at node 'wave'"),
    ],
)
def test_what_cannot_be_read_names_the_node(nodes, words):
    with pytest.raises(UnsupportedOperation, match=words):
        from_onnx(model(nodes, VEC, {}))


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.UINT8])
def test_a_cast_that_jumps_is_refused(kind):
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=kind),
        helper.make_node("Cast", ["whole"], ["y"], to=TensorProto.FLOAT),
    ]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])
    with pytest.raises(UnsupportedOperation, match=TensorProto.DataType.Name(kind)):
        from_onnx(helper.make_model(helper.make_graph(nodes, "g", [value("x")], [value("y")])))


def test_dynamic_shapes_are_refused_with_the_input():
    proto = model([helper.make_node("Relu", ["x"], ["y"])], ["batch", "length"], {})
    with pytest.raises(UnsupportedOperation, match="input 'x' has the dynamic shape"):
        from_onnx(proto)


def test_an_unknown_operator_of_constants_is_an_unreadable_file(tmp_path):
    """What computes constants is run by onnx, whose own errors are no answer to a user."""
    nodes = [helper.make_node("Comstant", ["c"], ["d"], name="odd"), helper.make_node("Add", ["x", "d"], ["y"])]
    (tmp_path / "odd.onnx").write_bytes(model(nodes, VEC, {"c": r(4)}).SerializeToString())
    with pytest.raises(UnreadableFile, match="Comstant"):
        load(tmp_path / "odd.onnx")


def test_comparisons_and_choices():
    """Conditions by every comparison, joined and denied, choosing between values; near each limit as well as far from it."""
    compared = ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
    nodes = [helper.make_node(kind, ["x", f"limit{k}"], [f"c{k}"], name=kind) for k, kind in enumerate(compared)]
    nodes += [
        helper.make_node("Equal", ["x", "x2"], ["same"]),
        helper.make_node("Mul", ["x", "x"], ["x2"]),
        helper.make_node("And", ["c0", "c2"], ["both"]),
        helper.make_node("Or", ["c1", "c3"], ["either"]),
        helper.make_node("Not", ["both"], ["denied"]),
        helper.make_node("Where", ["denied", "x", "x2"], ["a"]),
        helper.make_node("Where", ["either", "a", "limit0"], ["b"]),
        helper.make_node("Cast", ["same"], ["s"], to=TensorProto.FLOAT),
        helper.make_node("Where", ["mask", "b", "x2"], ["d"]),
        helper.make_node("Add", ["d", "s"], ["y"]),
    ]
    nodes = [nodes[5], *nodes[:5], *nodes[6:]]
    limits = {f"limit{k}": np.full(4, v) for k, v in enumerate((0.25, 0.5, 0.75, -0.5))}
    proto = model(nodes, VEC, limits)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([True, True, False, True]), "mask"))
    network = check(proto, VEC)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for value in (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0):  # at the limits themselves
        (want,) = session.run(None, {"x": np.full((1, 4), value, np.float32)})
        np.testing.assert_array_equal(network(np.full(4, value)), want[0])
