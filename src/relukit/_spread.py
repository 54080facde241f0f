"""Work shared out: among the workers of an executor, or among runs that know nothing of each other."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from relukit._errors import InvalidInput, MissingExtra

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of several runs that share a job: it does every `of`-th item, beginning with the `number`-th.

    Arguments:
        number: From 1 to `of`.
        of: How many runs there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InvalidInput(f"a shard is written NUMBER/OF, from 1/OF to OF/OF, got {self.number}/{self.of}")

    @staticmethod
    def read(text: str) -> "Shard":
        """`3/8` as a shard."""
        number, sign, of = text.partition("/")
        if not (sign and number.strip().isdecimal() and of.strip().isdecimal()):
            raise InvalidInput(f"a shard is written NUMBER/OF, like 3/8, got '{text}'")
        return Shard(int(number), int(of))

    def take(self, items: Sequence[T]) -> list[T]:
        return list(items[self.number - 1 :: self.of])

    @property
    def name(self) -> str:
        return f"{self.number}-of-{self.of}"


def answers(
    work: Callable[..., T], asked: Sequence[tuple[Any, ...]], executor: Executor | None
) -> Iterator[tuple[int, T]]:
    """`(k, work(*asked[k]))` for all k as they are done; one after the other without an executor.

    What is not begun is called off when the iteration ends early.
    """
    if executor is None:
        for k, arguments in enumerate(asked):
            yield k, work(*arguments)
        return
    running = {executor.submit(work, *arguments): k for k, arguments in enumerate(asked)}
    try:
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        for future in running:
            future.cancel()


@contextmanager
def cluster(address: str | None) -> Iterator[Executor | None]:
    """The executor of a Dask scheduler at an address like `tcp://host:8786`; None without an address.

    Raises:
        MissingExtra: Dask is not installed.
        InvalidInput: No scheduler answers there.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtra("a Dask cluster needs Dask: pip install 'relukit[cluster]'") from error
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise InvalidInput(f"no Dask scheduler answers at '{address}' (like tcp://host:8786): {error}") from error
    with client:
        yield client.get_executor()
