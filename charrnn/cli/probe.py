"""`charrnn probe`: experiments on what models remember."""

import typer

from . import app

probes = typer.Typer(
    help="Ask what models remember: of small tasks, one ability at a time.",
    rich_markup_mode="rich",
    no_args_is_help=True,
)
app.add_typer(probes, name="probe", rich_help_panel="Experiments")
