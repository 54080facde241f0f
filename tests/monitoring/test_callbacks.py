"""Watching inside Lightning, Keras and skorch: a sick run is named, training goes on as without the callback."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from relukit._errors import InvalidInput

os.environ.setdefault("KERAS_BACKEND", "torch")

X = np.random.default_rng(0).normal(size=(256, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(np.int64)


def dead(seed: int = 0) -> nn.Sequential:
    """All hidden units far below 0."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    with torch.no_grad():
        net[0].bias.fill_(-20.0)
    return net


def test_lightning_names_the_dead_layer():
    pytest.importorskip("lightning.pytorch")
    import warnings

    import lightning.pytorch as lightning

    from relukit.monitoring.callbacks import lightning_callback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = dead()

        def training_step(self, batch, _):
            x, y = batch
            return nn.functional.cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05)

    health = lightning_callback()
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[health],
        )  # fmt: skip
        trainer.fit(Module(), torch.utils.data.DataLoader(data, 32))
    worst = health.findings[0]
    assert (worst.symptom, worst.cause, worst.severity) == ("dying_relu", "negative_bias", "error")
    assert health.watch.record.step == 64


def test_skorch_names_the_dead_layer():
    pytest.importorskip("skorch")
    import warnings

    from relukit.monitoring.callbacks import skorch_callback

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skorch import NeuralNetClassifier

        health = skorch_callback()
        net = NeuralNetClassifier(
            dead(), criterion=nn.CrossEntropyLoss, max_epochs=8, batch_size=32, lr=0.05, verbose=0, train_split=None,
            callbacks=[("health", health)],
        )  # fmt: skip
        net.fit(X, Y)
    worst = health.findings[0]
    assert (worst.symptom, worst.cause) == ("dying_relu", "negative_bias")


def keras_model(bias: float):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip(f"Keras runs on {keras.backend.backend()} here")
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(16, activation="relu", bias_initializer=keras.initializers.Constant(bias)),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss)
    return model


def test_keras_names_the_dead_layer_and_changes_nothing():
    from relukit.monitoring.callbacks import keras_callback

    histories = []
    for watched in (False, True):
        model = keras_model(-20.0)
        health = keras_callback()
        run = model.fit(X, Y, batch_size=32, epochs=8, verbose=0, shuffle=False, callbacks=[health] if watched else [])
        histories.append(run.history["loss"])
    assert histories[0] == histories[1]
    worst = health.findings[0]
    assert (worst.symptom, worst.cause) == ("dying_relu", "negative_bias")
    assert health.watch.layers[0].weight.shape == (16, 6)
    assert health.watch.record.losses[-1] == pytest.approx(histories[1][-1], rel=0.2)
    health.fix()
    assert model.fit(X, Y, batch_size=32, epochs=20, verbose=0).history["loss"][-1] < 0.9 * histories[1][-1]


def test_keras_on_another_backend_is_refused(monkeypatch):
    keras = pytest.importorskip("keras")
    from relukit.monitoring.callbacks import keras_callback

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InvalidInput, match="runs on jax"):
        keras_callback()


def test_nothing_is_told_before_training():
    pytest.importorskip("skorch")
    from relukit.monitoring.callbacks import skorch_callback

    health = skorch_callback()
    assert health.findings == [] and health.fix()["applied"] == []
