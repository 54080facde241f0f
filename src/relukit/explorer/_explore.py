"""`relukit.explore`."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.explorer._answers import Engine
from relukit.explorer._server import Server
from relukit.network import Network, load


@dataclass(frozen=True, eq=False)
class Page:
    """A page that is being served; shown inline in notebooks."""

    server: Server

    @property
    def url(self) -> str:
        """Address with its token: whoever has it can use the page."""
        return self.server.url

    def close(self) -> None:
        self.server.close()

    def _repr_html_(self) -> str:
        source = escape(self.url, quote=True)
        return f'<iframe src="{source}" width="100%" height="720" style="border:0" title="relukit explore"></iframe>'

    def __repr__(self) -> str:
        return f"Page(http://{self.server.host}:{self.server.port}/)"


def explore(model: Any = None, rows: Array | None = None, host: str = "127.0.0.1", port: int = 0) -> Page:
    """Serve the local page and return at once; in a notebook the result shows it inline.

    Arguments:
        model: Whatever `relukit.load` reads; the page then opens on it. None: the page trains its own.
        rows: Inputs of the model, shape `(rows, inputs)`, at least three; sampled from its box where they are missing.
        host: Loopback by default; with another address, others who reach it and know the token can use the page.
        port: 0 takes a free one.

    Returns:
        A `Page`: `url`, `close()`.

    Example:
        >>> page = relukit.explore()
        >>> page.close()
    """
    network = None if model is None else model if isinstance(model, Network) else load(model)
    rows = None if rows is None else np.asarray(rows, float).reshape(len(rows), -1)
    return Page(Server(Engine(network, rows), host, port, framed=True).start())
