"""`charrnn probe`: experiments on what models remember."""

import typer

from . import app

probes = typer.Typer(no_args_is_help=True)
app.add_typer(probes, name="probe", rich_help_panel="Experiments")
