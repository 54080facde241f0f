"""How results show themselves in a notebook."""

import html
from abc import ABC, abstractmethod
from typing import Any

_MOST = 24  # lines of a table


class Shown(ABC):
    """A result whose rich form in a notebook is its short text over a table of what `to_dict()` holds."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]: ...

    def _repr_html_(self) -> str:
        rows = [(key, _brief(value)) for key, value in self.to_dict().items()]
        told = [(key, text) for key, text in rows if text][:_MOST]
        cells = "".join(
            f'<tr><th style="text-align:left">{html.escape(str(key))}</th><td style="text-align:left">{html.escape(text)}</td></tr>'
            for key, text in told
        )
        return f"<p><code>{html.escape(repr(self))}</code></p><table>{cells}</table>"


def _brief(value: Any) -> str:
    """One line for a value; empty for what has no short form."""
    if value is None or isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value if len(value) <= 120 else value[:117] + "..."
    if hasattr(value, "shape"):
        return _numbers(value.reshape(-1).tolist(), tuple(value.shape))
    if isinstance(value, list | tuple):
        return _numbers(list(value), (len(value),))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:.4g}" for k, v in value.items() if isinstance(v, int | float))[:120]
    return ""


def _numbers(values: list[Any], shape: tuple[int, ...]) -> str:
    if len(values) <= 6 and all(isinstance(v, int | float | str) for v in values):
        return ", ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in values)
    return " x ".join(map(str, shape)) + (" values" if len(shape) < 2 else "")
