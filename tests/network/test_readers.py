"""Files and objects from outside: they evaluate like their source."""

import numpy as np
import pytest

import relukit
from relukit.network import from_layers
from tests.oracles import plain_forward, vnnlib_box
from tests.strategies import RELU

FAMILIES = [
    "acasxu",
    "mnist_fc",
    "rl_benchmarks",
    "safenlp",
    "cora",
    "collins_rul_cnn",
    "oval21",
    "linearizenn",
    "tllverifybench",
]
LARGE = ("N=M=40", "N=M=48", "N=M=56", "N=M=64")


def pairs(folder, large=False):
    """Each network once, with the first property that names it."""
    found = {}
    for line in (folder / "instances.csv").read_text().splitlines():
        net, spec, *_ = line.split(",")
        path = folder / net if (folder / net).exists() else folder / f"{net}.gz"
        if any(size in net for size in LARGE) == large:
            found.setdefault(path, folder / spec)
    return found


def same_as_onnxruntime(folder, large=False):
    checked = pairs(folder, large)
    assert checked
    for path, spec in checked.items():
        network = relukit.load(path)
        lower, upper = vnnlib_box(spec)
        assert network.inputs == len(lower)
        x = np.random.default_rng(0).uniform(lower, upper, (100, len(lower))).astype(np.float32)
        got, want = network(x), network.replay(x)
        # 1e-5 of the output, or, where sums cancel, a few times what rounding to float32 alone does to this network.
        rounding = np.abs(network(x, np.float32) - got).max()
        allowed = 1e-5 * np.abs(want).max(axis=1, keepdims=True) + 4 * rounding
        assert rounding <= 1e-4 * np.abs(want).max()
        assert np.all(np.abs(got - want) <= allowed), f"{path.name}: {np.max(np.abs(got - want))}"


@pytest.mark.parametrize("family", FAMILIES)
def test_vnncomp_networks_evaluate_like_onnxruntime(data_folder, family):
    same_as_onnxruntime(data_folder / "vnncomp" / family)


@pytest.mark.slow
def test_the_largest_tll_networks_stay_sparse(data_folder):
    same_as_onnxruntime(data_folder / "vnncomp" / "tllverifybench", large=True)


def test_npz_round_trip(tmp_path):
    g = np.random.default_rng(1)
    weights, biases = (
        [g.standard_normal((4, 3)), g.standard_normal((2, 4))],
        [g.standard_normal(4), g.standard_normal(2)],
    )
    network = from_layers(weights, biases, [RELU]).with_(box=relukit.Box(np.zeros(3), np.ones(3)))
    x = g.standard_normal((5, 3))
    np.testing.assert_allclose(network(x), plain_forward(weights, biases, x), rtol=1e-13)
    again = relukit.load(relukit.save(network, tmp_path / "net.npz"))
    np.testing.assert_array_equal(again(x), network(x))
    np.testing.assert_array_equal(again.box.upper, np.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


def test_benchmark_npz_files_read(data_folder):
    for path in sorted((data_folder / "bench").rglob("*.npz")):
        network = relukit.load(path)
        assert np.all(np.isfinite(network(np.zeros((1, network.inputs)))))


def test_nnet(tmp_path):
    text = "// comment\n2,2,1,3,\n2,3,1,\n0,\n-1,-2,\n1,2,\n0.0,0.0,0.0,\n1.0,2.0,1.0,\n1.0,2.0,\n-1.0,0.5,\n0.0,1.0,\n0.1,\n0.2,\n0.3,\n1.0,-1.0,2.0,\n0.5,\n"
    path = tmp_path / "a.nnet"
    path.write_text(text)
    network = relukit.load(path)
    h = np.maximum([1 * 0.3 + 2 * 0.4 + 0.1, -0.3 + 0.2 + 0.2, 0.4 + 0.3], 0)
    np.testing.assert_allclose(network([0.3, 0.4]), [h[0] - h[1] + 2 * h[2] + 0.5])
    np.testing.assert_allclose(network.box.lower, [-1, -1])


def test_sklearn_objects():
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    g = np.random.default_rng(0)
    X, y = g.standard_normal((60, 4)), g.integers(0, 3, 60)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few iterations to converge, on purpose
        classifier = MLPClassifier(hidden_layer_sizes=(5,), max_iter=5, random_state=0).fit(X, y)
        binary = MLPClassifier(hidden_layer_sizes=(5,), max_iter=5, random_state=0).fit(X, y > 0)
        regressor = MLPRegressor(hidden_layer_sizes=(5, 3), activation="tanh", max_iter=5, random_state=0).fit(
            X, X[:, 0]
        )
    network = relukit.load(classifier)
    np.testing.assert_allclose(network.apply_head(network(X)), classifier.predict_proba(X), rtol=1e-12)
    np.testing.assert_array_equal(relukit.load(binary).decide(X), binary.predict(X).astype(int))
    np.testing.assert_allclose(relukit.load(regressor)(X)[:, 0], regressor.predict(X), rtol=1e-12)
    with pytest.raises(relukit.InvalidInput, match="not fitted"):
        relukit.load(MLPClassifier())


def test_keras_models(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is an extra")
    L = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Sequential(
        [
            L.Input((8, 8, 3)),
            L.Conv2D(4, 3, padding="same", strides=2, activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling2D(2),
            L.DepthwiseConv2D(3, padding="same"),
            L.PReLU(),
            L.AveragePooling2D(2, padding="same"),
            L.Flatten(),
            L.Dropout(0.3),
            L.Dense(5, activation="softmax"),
        ]
    )
    inputs = L.Input((6,))
    a = L.Dense(8, activation="gelu")(inputs)
    joined = L.Concatenate()([L.Add()([a, L.Dense(8, activation="elu")(a)]), inputs, L.Maximum()([a, L.Dense(8)(a)])])
    graph = keras.Model(inputs, L.Dense(2)(joined))
    chain = keras.Sequential(
        [L.Input((10,)), L.Dense(16), L.LeakyReLU(negative_slope=0.01), L.Dense(1, activation="sigmoid")]
    )
    for k, model in enumerate((image, graph, chain)):
        network = relukit.load(model)
        x = np.random.default_rng(0).standard_normal((3, network.inputs)).astype(np.float32)
        np.testing.assert_allclose(network.apply_head(network(x)), network.replay(x), rtol=1e-4, atol=1e-6)
        model.save(tmp_path / f"{k}.keras")
        again = relukit.load(tmp_path / f"{k}.keras")
        np.testing.assert_allclose(again(x), network(x), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "shape", "options"),
    [
        ("Conv2DTranspose", (4, 5, 3), {"filters": 2, "kernel_size": 4, "strides": 2, "padding": "same"}),
        ("Conv2DTranspose", (4, 5, 3), {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("Conv2DTranspose", (4, 5, 3), {"filters": 2, "kernel_size": 2, "strides": 3, "padding": "same"}),
        ("Conv2DTranspose", (4, 5, 3), {"filters": 2, "kernel_size": (3, 4), "strides": (2, 1)}),
        ("Conv2DTranspose", (4, 5, 3), {"filters": 2, "kernel_size": 2, "strides": 3}),
        ("Conv2DTranspose", (4, 5, 3), {"filters": 2, "kernel_size": 3, "dilation_rate": 2}),
        ("Conv1DTranspose", (6, 3), {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ("UpSampling2D", (4, 5, 3), {"size": (2, 3)}),
        ("UpSampling2D", (4, 5, 3), {"size": (2, 3), "interpolation": "bilinear"}),
        ("UpSampling1D", (5, 3), {"size": 3}),
    ],
)
def test_keras_layers_that_enlarge(kind, shape, options, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is an extra")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape), getattr(keras.layers, kind)(**options), keras.layers.ReLU()])
    network = relukit.load(model)
    x = np.random.default_rng(0).standard_normal((3, network.inputs)).astype(np.float32)
    np.testing.assert_allclose(network(x), network.replay(x), rtol=1e-4, atol=1e-5)


def test_files_over_the_limit_are_refused_packed_or_unpacked(tmp_path, monkeypatch):
    import gzip

    import relukit.network._load as loading

    monkeypatch.setattr(loading, "SIZE_LIMIT", 10_000)
    (tmp_path / "large.onnx").write_bytes(b"x" * 10_001)
    (tmp_path / "bomb.onnx.gz").write_bytes(gzip.compress(b"x" * 1_000_000))
    with pytest.raises(relukit.UnreadableFile, match="are refused"):
        relukit.load(tmp_path / "large.onnx")
    with pytest.raises(relukit.UnreadableFile, match="unpacks to more than"):
        relukit.load(tmp_path / "bomb.onnx.gz")


def test_a_file_that_onnxruntime_refuses_is_an_error_of_one_sentence(tmp_path):
    """The reader needs less of a file than onnxruntime: here it is of a version that onnxruntime does not know."""
    from onnx import TensorProto, helper

    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info("x", [1, 2])], [info("y", [1, 2])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.ir_version = 999
    (tmp_path / "new.onnx").write_bytes(model.SerializeToString())
    network = relukit.load(tmp_path / "new.onnx")
    with pytest.raises(relukit.UnreadableFile, match="onnxruntime does not run this file"):
        network.replay(np.zeros((1, 2)))


def test_half_precision_is_replayed_and_written_in_half_precision(tmp_path):
    """torch's exporter makes such files of `module.half()`; the original takes half-precision rows only."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    g = np.random.default_rng(0)
    W, b, V = (g.normal(size=shape).astype(np.float16) for shape in ((3, 9), (9,), (9, 2)))
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape)
    steps = [("MatMul", ["x", "W"], ["h"]), ("Add", ["h", "b"], ["z"]), ("Relu", ["z"], ["r"]), ("MatMul", ["r", "V"], ["y"])]  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node(*step) for step in steps], "g", [info("x", ["n", 3])], [info("y", ["n", 2])],
        [numpy_helper.from_array(a, name) for name, a in (("W", W), ("b", b), ("V", V))],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "half.onnx").write_bytes(model.SerializeToString())
    network = relukit.load(tmp_path / "half.onnx")
    rows = g.normal(size=(20, 3)).astype(np.float16)
    want = np.maximum(rows.astype(float) @ W + b, 0) @ V
    assert network.dtype == np.float16 and np.abs(network(rows) - want).max() < 1e-9
    assert np.abs(network.replay(rows) - want).max() < 0.05
    found = relukit.flip(network, rows[0])
    moved = found.witness.astype(np.float16)
    assert (moved == found.witness).all() and network.replay(moved).argmax() != network.replay(rows[0]).argmax()
    relukit.save(network, tmp_path / "again.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "again.onnx"), providers=["CPUExecutionProvider"])
    got = session.run(None, {"input": rows})[0]
    assert got.dtype == np.float16 and np.abs(got - want).max() < 0.05
    assert relukit.load(tmp_path / "again.onnx").dtype == np.float16
