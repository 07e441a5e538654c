"""`charrnn train`: a new run, a resumed one, or one that starts from another's weights."""

import functools
import inspect
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated

import typer

from ..config import PLANNED, Config, flag, over, read_toml, to_toml
from ..errors import UsageError
from . import NUMBER, WHOLE, app, pipeable


def options(*but: str, plans: bool = False):
    """Gives a command one option for each field of Config `but` these; what was typed arrives as the dict `typed`. A
    command that `plans` chooses for itself what was not."""
    chosen = [f for f in fields(Config) if f.name not in but]

    def decorate(command):
        @functools.wraps(command)
        def run(**given):
            typed = {f.name: given.pop(f.name) for f in chosen}
            return command(**given, typed={name: value for name, value in typed.items() if value not in (None, [])})

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "typed"]
        made = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(f, plans))
            for f in chosen
        ]
        run.__signature__ = inspect.Signature(own + made)
        return run

    return decorate


def _annotation(f, plans):
    """A field as an option that is None unless typed; its default stands in the help."""
    name, default = flag(f.name), None if f.default is MISSING else f.default
    if f.type is bool:
        both = default or f.name in PLANNED
        name, default = f"{name}/--no-{f.name}" if both else name, "on" if default else None
    if plans and f.name in PLANNED:
        default = "planned"
    told = f"{f.metadata['help']} \\[default: {default}]" if default is not None else f.metadata["help"]
    kind = WHOLE if f.type in (int, int | None) else NUMBER if f.type in (float, float | None) else {}
    return Annotated[f.type | None, typer.Option(name, help=told, rich_help_panel=f.metadata["group"], **kind)]


OUTPUT = "Input and output"


@app.command(rich_help_panel="Models")
@options(plans=True)
@pipeable
def train(
    corpus: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, - for standard input, or pydocs, pycode, tinyshakespeare. With --resume: the run.",
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; checkpoints/CORPUS-CELL-N as a rule.", rich_help_panel=OUTPUT)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run named (the latest if none is), exactly.", rich_help_panel=OUTPUT
        ),
    ] = False,
    init_from: Annotated[
        Path | None, typer.Option(help="Start from the weights of this checkpoint.", rich_help_panel=OUTPUT)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that is in --out.", rich_help_panel=OUTPUT)
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Settings from a TOML file; what is typed wins.", rich_help_panel=OUTPUT)
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as TOML and stop.", rich_help_panel=OUTPUT)
    ] = False,
    show_samples: Annotated[
        bool, typer.Option("--show-samples", help="Show the samples drawn on the way.", rich_help_panel=OUTPUT)
    ] = False,
    json_out: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end, not a path.", rich_help_panel=OUTPUT)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Warnings and errors only on stderr.", rich_help_panel=OUTPUT)
    ] = False,
    typed: dict,
):
    """Train a model on a text; prints the path of the best checkpoint.

    [bold]charrnn train corpus.txt --cell gru --time 5m[/]

    Ctrl-C saves and says how to go on.
    """
    if config:
        typed = over(read_toml(config), typed)
    if print_config:
        return typer.echo(to_toml(Config(**typed), [name for name in PLANNED if name not in typed]), nl=False)
    if resume:
        _check_resumed(corpus, bool(init_from or overwrite or out))
    else:
        _check_new(corpus, Config(**typed), out, overwrite)
    from ..progress import Reporter
    from . import session

    asked = session.resume_session(corpus, typed) if resume else session.new_session(corpus, typed, init_from)
    session.run(asked, out, overwrite, Reporter(quiet, show_samples), json_out)


def _check_resumed(named, begins):
    if begins:
        raise UsageError("--resume: goes on with a run as it is; --init-from, --overwrite and --out begin another")
    if named and len(named) > 1:
        raise UsageError(f"--resume {' '.join(named)}: takes one run")


def _check_new(corpus, settings, out, overwrite):
    """What can be known to be wrong before anything heavy is imported."""
    if not corpus:
        raise UsageError("CORPUS: name a text, for instance: charrnn train pydocs --time 2m")
    from ..cells import admit, make

    make(admit(settings.cell), settings.cell_settings()).check(settings.hidden)
    from ..run import refuse

    refuse(out, overwrite)
