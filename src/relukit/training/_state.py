"""State of a training between epochs, and the checkpoint that holds it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile, UnwritablePath
from relukit._numerics import atomic_path


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many torch threads inside the block; None leaves them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class State:
    """Module, optimizer, schedule and random generator, with the history and the best weights so far."""

    def __init__(self, module: Any, optimizer: Any, schedule: Any, generator: Any) -> None:
        self.module, self.optimizer, self.schedule, self.generator = module, optimizer, schedule, generator
        self.history: list[dict[str, float]] = []
        self.best, self.since = -np.inf, 0
        self.kept: dict[str, Any] | None = None

    def record(self, row: dict[str, float], quality: float) -> None:
        """Adds an epoch; the weights are kept where its quality is the best."""
        self.history.append(row)
        if quality > self.best:
            self.best, self.since = quality, 0
            self.kept = {name: value.clone() for name, value in self.module.state_dict().items()}
        else:
            self.since += 1


class Checkpoint:
    """A file that holds a training's whole state; it fits one recipe and one data set.

    Arguments:
        path: Written atomically after every epoch, as torch tensors (`weights_only`: no pickled objects are read).
        recipe: Settings of the run.
        inputs: All rows as the module gets them; `goals` its targets. Their hash guards against other data.
    """

    def __init__(self, path: str | Path, recipe: tuple, inputs: Any, goals: Any) -> None:
        self.path = Path(path)
        digest = hashlib.sha256(repr(recipe).encode())
        digest.update(np.ascontiguousarray(inputs.numpy()).tobytes())
        digest.update(np.ascontiguousarray(goals.numpy()).tobytes())
        self.key = digest.hexdigest()

    def restore(self, state: State) -> None:
        """Continues from the file, if there is one.

        Raises:
            InvalidInput: It belongs to another model, other settings or other data.
            UnreadableFile: It is damaged.
        """
        import torch

        if not self.path.exists():
            return
        try:
            held = torch.load(self.path, map_location="cpu", weights_only=True)
            key = held["key"]
        except Exception as error:
            raise UnreadableFile(
                f"checkpoint {self.path} is damaged ({type(error).__name__}); delete it to start anew"
            ) from error
        if key != self.key:
            raise InvalidInput(
                f"checkpoint {self.path} belongs to another model, other settings or other data; delete it or give another path"
            )
        state.module.load_state_dict(held["module"])
        state.optimizer.load_state_dict(held["optimizer"])
        state.schedule.load_state_dict(held["schedule"])
        state.generator.set_state(held["generator"])
        state.history, state.best, state.since, state.kept = held["history"], held["best"], held["since"], held["kept"]

    def write(self, state: State) -> None:
        import torch

        held = {
            "key": self.key, "module": state.module.state_dict(), "optimizer": state.optimizer.state_dict(),
            "schedule": {k: v for k, v in state.schedule.state_dict().items() if not callable(v)},
            "generator": state.generator.get_state(), "history": state.history, "best": float(state.best),
            "since": state.since, "kept": state.kept,
        }  # fmt: skip
        try:
            with atomic_path(self.path) as temporary:
                torch.save(held, temporary)
        except OSError as error:
            raise UnwritablePath(f"cannot write checkpoint {self.path}: {error.strerror}") from error


class Activity:
    """Mean l1 norm of all hidden activations of the last forward pass, by hooks: what `sparsity` weighs."""

    def __init__(self, module: Any) -> None:
        self._seen: list[Any] = []
        hidden = [m for m in module if not hasattr(m, "weight") or m.weight.ndim < 2]
        hidden = [m for m in hidden if type(m).__name__ not in ("Flatten", "Unflatten")]
        self._hooks = [m.register_forward_hook(lambda _, __, out: self._seen.append(out.abs().mean())) for m in hidden]

    def take(self) -> Any:
        total, self._seen = sum(self._seen), []
        return total

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
