"""A progress bar on stderr that is silent where stderr is no terminal."""

import sys
from types import TracebackType


class Progress:
    """`with Progress("cells", 100) as step: step(10)`: `step(done, text="")` sets what is done so far."""

    def __init__(self, description: str, total: int | None = None) -> None:
        self.description, self.total = description, total
        self._bar = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total)
        return self

    def __call__(self, done: float, text: str = "") -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text or self.description)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
