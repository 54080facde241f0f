"""The command line: one module per command, each holding one typed function `command`.

A module here imports nothing heavy at its top, so that `relukit --help` needs neither torch nor numba.
"""

import importlib
import sys

import typer

from relukit.cli._frame import run_app, version_callback

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
    "supports",
    "optimize",
    "build",
    "compress",
    "speed",
    "gallery",
    "explore",
    "doctor",
)

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=version_callback, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train ReLU networks, keep them alive, open them up exactly, prove what they do, and use them."""


for _name in COMMANDS:
    _module = importlib.import_module(f"relukit.cli.{_name}")
    if hasattr(_module, "app"):  # a group of commands (gallery run, gallery score)
        app.add_typer(_module.app, name=_name.strip("_"))
    else:
        settings = getattr(_module, "CONTEXT", None)
        app.command(_name.strip("_"), context_settings=settings)(_module.command)


def main() -> None:
    """Entry point: runs a command and turns errors into one sentence and an exit code."""
    sys.exit(run_app(app))
