"""`watch` inside other people's training loops: Lightning, Keras 3 on torch, skorch.

Each function makes a callback of the framework's own class (imported only then); its attribute `watch` is the `Watch`,
whose `findings` and `fix()` are as in a plain loop; the callback has both as well.
"""

import math
from typing import Any

from relukit._errors import InvalidInput, MissingExtra
from relukit.monitoring._finding import Finding
from relukit.monitoring.watch import Watch


class _Told:
    """What a callback tells by itself: nothing before training has begun."""

    watch: Watch | None = None

    @property
    def findings(self) -> list[Finding]:
        return self.watch.findings if self.watch is not None else []

    def fix(self) -> dict[str, Any]:
        return self.watch.fix() if self.watch is not None else {"applied": [], "by_user": [], "finding": None}


def lightning_callback(**options: Any) -> Any:
    """A Lightning callback that watches the module it trains.

    Arguments:
        options: For `Watch`, such as `budget`.

    Raises:
        MissingExtra: Lightning is not installed.

    Example:
        >>> health = lightning_callback()
        >>> Trainer(callbacks=[health]).fit(module, loader)
        >>> health.findings
    """
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback  # type: ignore[no-redef]
        except ImportError as error:
            raise MissingExtra("the Lightning callback needs Lightning: pip install lightning") from error

    class LightningWatch(_Told, Callback):
        loss: Any = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.watch = Watch(pl_module, trainer.optimizers[0] if trainer.optimizers else None, **options).__enter__()

        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
            self.loss = loss

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            if self.watch is not None and self.loss is not None:
                self.watch.step(self.loss)
                self.loss = None

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            _leave(self.watch)

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            _leave(self.watch)

    return LightningWatch()


def skorch_callback(**options: Any) -> Any:
    """A skorch callback that watches the module it trains.

    Arguments:
        options: For `Watch`, such as `budget`.

    Raises:
        MissingExtra: skorch is not installed.

    Example:
        >>> health = skorch_callback()
        >>> NeuralNetClassifier(Module, callbacks=[("health", health)]).fit(X, y)
        >>> health.findings
    """
    try:
        from skorch.callbacks import Callback
    except ImportError as error:
        raise MissingExtra("the skorch callback needs skorch: pip install skorch") from error

    class SkorchWatch(_Told, Callback):
        pending = False

        def on_train_begin(self, net: Any, **_: Any) -> None:
            self.watch = Watch(net.module_, net.optimizer_, **options).__enter__()

        def on_grad_computed(self, net: Any, named_parameters: Any, training: bool = False, **_: Any) -> None:
            # The loss is handed over after the optimizer's step only; the gradients are still there then.
            self.pending = training

        def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
            if self.watch is not None and training and self.pending:
                self.watch.step(net.history[-1, "batches", -1, "train_loss"])
                self.pending = False

        def on_train_end(self, net: Any, **_: Any) -> None:
            _leave(self.watch)

    return SkorchWatch()


def keras_callback(**options: Any) -> Any:
    """A Keras 3 callback that watches the model it trains; Keras must run on torch, whose gradients it reads.

    Arguments:
        options: For `Watch`, such as `budget`.

    Raises:
        MissingExtra: Keras is not installed.
        InvalidInput: Keras runs on another backend than torch.

    Example:
        >>> health = keras_callback()
        >>> model.fit(x, y, callbacks=[health])
        >>> health.findings
    """
    try:
        import keras
    except ImportError as error:
        raise MissingExtra("the Keras callback needs Keras: pip install relukit[keras]") from error
    if keras.backend.backend() != "torch":
        raise InvalidInput(
            f"the Keras callback reads torch gradients, but Keras runs on {keras.backend.backend()}; "
            "set KERAS_BACKEND=torch before Keras is imported"
        )

    class KerasWatch(_Told, keras.callbacks.Callback):
        total = 0.0

        def on_train_begin(self, logs: Any = None) -> None:
            self.watch = Watch(self.model, _rates(self.model.optimizer), **options).__enter__()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.total = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            # Keras reports the mean over the epoch so far; the gradients stay until the next batch clears them.
            mean = float((logs or {}).get("loss", math.nan))
            loss, self.total = mean * (batch + 1) - self.total, mean * (batch + 1)
            if self.watch is not None:
                self.watch.step(loss)

        def on_train_end(self, logs: Any = None) -> None:
            _leave(self.watch)

    return KerasWatch()


def _leave(watch: Watch | None) -> None:
    if watch is not None:
        watch.__exit__(None, None, None)


class _Rate(dict):
    """A parameter group whose "lr" is the Keras optimizer's learning rate."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(params=[], momentum=float(getattr(optimizer, "momentum", 0.0) or 0.0))
        self.optimizer = optimizer

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key == "lr" else super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        return float(self.optimizer.learning_rate) if key == "lr" else super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "lr":
            self.optimizer.learning_rate = value
        else:
            super().__setitem__(key, value)


def _rates(optimizer: Any) -> Any:
    """The face of a torch optimizer over a Keras one, as far as watching and its cures need it."""
    if optimizer is None:
        return None
    face = type(type(optimizer).__name__, (), {})()
    face.param_groups, face.state = [_Rate(optimizer)], {}
    return face
