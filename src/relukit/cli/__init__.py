"""The command line: one module per command, each holding one typed function `command`.

A module here imports nothing heavy at its top, so that `relukit --help` needs neither torch nor numba.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from relukit.cli._frame import run_app, version_callback
from relukit.cli._start import quick_call, tell_compiling

if TYPE_CHECKING:
    import typer

# module in this package -> line of help is the function's docstring
COMMANDS = (
    "open",
    "summary",
    "activations",
    "train",
    "health",
    "regions",
    "explain",
    "flip",
    "verify",
    "check",
    "merge",
    "supports",
    "optimize",
    "build",
    "compress",
    "speed",
    "gallery",
    "explore",
    "doctor",
)


def _whole() -> "typer.Typer":
    """All commands as one Typer application."""
    import typer

    app = typer.Typer(
        no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="rich"
    )

    @app.callback()
    def _root(
        version: bool = typer.Option(
            False, "--version", callback=version_callback, is_eager=True, help="Print the version."
        ),
    ) -> None:
        """Train ReLU networks, keep them alive, open them up exactly, prove what they do, and use them."""

    for name in COMMANDS:
        module = importlib.import_module(f"relukit.cli.{name}")
        if hasattr(module, "app"):  # a group of commands (gallery run, gallery score)
            app.add_typer(module.app, name=name.strip("_"))
        else:
            app.command(name.strip("_"), context_settings=getattr(module, "CONTEXT", None))(module.command)
    return app


def __getattr__(name: str) -> Any:
    """`app`, made when it is first asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = _whole()
    return globals()["app"]


def main() -> None:
    """Entry point: runs a command and turns errors into one sentence and an exit code."""
    if sys.stderr.isatty() and sys.argv[1:2] != ["doctor"]:
        tell_compiling()
    quick = quick_call(sys.argv[1:], COMMANDS)
    sys.exit(run_app(_whole() if quick is None else quick))
