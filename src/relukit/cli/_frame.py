"""What all commands share: exit codes, errors as one sentence, JSON on stdout, progress on stderr."""

import json
import sys
from typing import Any

import click
import typer

from relukit._errors import RelukitError
from relukit._version import __version__

DONE, INTERNAL, USAGE, FINDING, UNDECIDED, INTERRUPTED = 0, 1, 2, 10, 11, 130


def version_callback(value: bool) -> None:
    if value:
        print(f"relukit {__version__}")
        raise typer.Exit(DONE)


def run_app(app: typer.Typer) -> int:
    """Run the command line and return its exit code; no traceback reaches a user for a known error."""
    try:
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except RelukitError as error:
        say_error(str(error))
        return USAGE
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        say_error("interrupted; nothing half-written was left behind")
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return USAGE
    except BrokenPipeError:
        return DONE


def say_error(message: str) -> None:
    """One line on stderr."""
    print(f"relukit: {message}", file=sys.stderr)


def print_json(value: Any) -> None:
    """The answer as JSON on stdout."""
    from relukit._numerics._files import plain

    print(json.dumps(value, indent=1, default=plain))


def progress(description: str, total: int | None = None):
    """A rich progress bar on stderr as a context manager; it yields an `advance(done, text)` function."""
    from relukit.cli._progress import Progress

    return Progress(description, total)
