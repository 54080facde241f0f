"""Which torch device proposes, and how much it may hold."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from relukit._errors import InvalidInput


@dataclass(frozen=True)
class Device:
    """Where parameters are proposed.

    Arguments:
        place: The torch device.
        dtype: Of the proposals.
        batch: Leaves that are split at once.
        memory: Bytes that one batch of rows may take, and closed leaves before they are certified.
        store: Bytes of open leaves from which on their number is to shrink.
    """

    place: torch.device
    dtype: torch.dtype = torch.float32
    batch: int = 4096
    memory: float = 8e9
    store: float = 8e9

    @cached_property
    def workers(self) -> int:
        """Threads that certify."""
        return max(torch.get_num_threads(), 1)

    def threads_apart(self) -> Any:
        """A context in which NumPy's products take one thread each: those that certify share the cores."""
        from threadpoolctl import threadpool_limits

        return threadpool_limits(limits=1, user_api="blas")


def device_named(name: str) -> Device:
    """The device of a torch name (`cuda`, `cuda:1`, `cpu`), with batches that fit it.

    Raises:
        InvalidInput: torch cannot use it here.
    """
    place = device_of(name)
    if place.type != "cuda":
        return Device(place, batch=256, memory=5e8, store=2e9)
    free, _ = torch.cuda.mem_get_info(place)
    return Device(place, batch=4096, memory=min(free / 8, 8e9), store=free / 5)


def device_of(name: Any) -> torch.device:
    """The torch device of that name.

    Raises:
        InvalidInput: torch knows no such device, or cannot use it here.
    """
    try:
        device = torch.device(name)
        float(torch.zeros(1, device=device))  # one without values (meta) is none to compute on
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        why = "this torch is built for the CPU" if torch.version.cuda is None else "torch finds no usable GPU"
        raise InvalidInput(
            f"device {name!r} cannot be used: {why if 'cuda' in str(name) else str(error).splitlines()[0]}. "
            "`relukit doctor` shows what torch sees; leave the device out to work on the CPU."
        ) from error
    return device


class exact_products:
    """Products in the full precision of their type: TF32 would propose leaves that do not hold."""

    def __enter__(self) -> None:
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        self.before = cudnn.allow_tf32, matmul.allow_tf32
        cudnn.allow_tf32 = matmul.allow_tf32 = False

    def __exit__(self, *why: Any) -> None:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = self.before
