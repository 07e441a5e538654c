"""The command line: one Typer app; a command is imported when it is typed, and what it needs when it runs."""

import contextlib
import functools
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..errors import CharrnnError, Interrupted, UsageError
from ..threads import processors

PRINTED = 200  # columns of a table where standard output is no terminal
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

app = typer.Typer(
    help="Train, sample and score character-level recurrent language models.",
    epilog="Exit status: 0 done, 1 failed, 2 usage, 3 diverged, 4 bad data, 5 bad or incompatible checkpoint, "
    "130 or 143 interrupted after saving.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool):
    if asked:
        typer.echo(f"charrnn {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _start(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
):
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def cache() -> Path:
    """Where encoded corpora are kept: $CHARRNN_CACHE, else the user's cache folder."""
    if named := os.environ.get("CHARRNN_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "charrnn"


def at_once(jobs: int) -> int:
    """How many processes `--jobs` asks for; of 0, one for each processor."""
    if jobs < 0:
        raise UsageError(f"--jobs {jobs}: must be at least 0 (one for each processor)")
    return jobs or processors()


def text_of(argument: str) -> str:
    """A text typed as an argument, UTF-8 whatever the locale took it for."""
    return os.fsencode(argument).decode("utf-8", "replace") if any(map(_escaped, argument)) else argument


def _escaped(character):
    return "\ud800" <= character <= "\udfff"


def _raise_interrupted(number, frame):
    raise Interrupted("interrupted; there was nothing to save", number)


def pipeable(command):
    """A command whose reader may go (`| head`): nothing more is written then, and nothing complains."""

    @functools.wraps(command)
    def run(*arguments, **named):
        try:
            command(*arguments, **named)
            sys.stdout.flush()
        except BrokenPipeError:
            _silence()
        except OSError as error:
            if error.filename:  # another file, not our own output
                raise
            _silence()
            raise CharrnnError(f"standard output: cannot be written ({error.strerror})") from None

    return run


def _silence():
    """Sends what is still to be written to stdout nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def whole(text: str) -> int:
    """A whole number as typed."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an integer") from None


def number(text: str) -> float:
    """A number as typed."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number") from None


WHOLE = {"parser": whole, "metavar": "<int>"}
NUMBER = {"parser": number, "metavar": "<float>"}
Others = Annotated[  # the option --ensemble of a command that reads with several models as one
    list[Path] | None,
    typer.Option(help="Average the logits with this checkpoint's; may be repeated.", show_default=False),
]
ROOMS = {  # where each command is, in the order of help
    "train": "learn", "plan": "planning", "sample": "generate", "eval": "score", "inspect": "describe",
    "gates": "gates", "compare": "compare", "probe": "probe tasks context gradient", "claims": "claims",
    "plot": "plot", "bench": "bench", "cells": "catalog", "corpora": "catalog",
}  # fmt: skip


def load(name: str = "") -> None:
    """Adds a command to the app; where there is none of that name all of them, which help and suggestions need."""
    rooms = [ROOMS[name]] if name in ROOMS else ROOMS.values()
    for room in " ".join(rooms).split():
        importlib.import_module(f".{room}", __name__)


def main() -> None:
    """Runs the command line; a person's mistake becomes one line on stderr and its exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # threads that wait soon let others have their core
    for number in STOPS:
        signal.signal(number, _raise_interrupted)
    try:
        load(*sys.argv[1:2])
        app(prog_name="charrnn")
    except CharrnnError as error:
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stdout.flush()
            print(error if isinstance(error, Interrupted) else f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except MemoryError as error:
        print(f"error: there is not enough memory for this ({error})", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        sys.exit(_status(end))
    except Exception as error:
        from ..cells.own import fault

        if not (told := fault(error)):
            raise
        print(f"error: {told}", file=sys.stderr)
        sys.exit(told.status)


def _status(end):
    """The exit status as it was meant: rich and typer make 1 of a reader that has gone."""
    gone = end.__context__
    if not isinstance(gone, BrokenPipeError):
        return end.code
    return getattr(gone.__context__, "exit_code", 0)  # of the usage error that nobody could be told
