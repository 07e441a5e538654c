"""What an experiment needs before it begins and leaves behind: libraries, rows as JSONL and CSV, pictures, tables."""

import csv
import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CharrnnError, UsageError
from ..run import written
from . import PRINTED

KINDS = ("jsonl", "csv", "png", "svg")

OutOption = Annotated[
    Path | None, typer.Option(help="A folder for the rows (JSONL, CSV) and pictures (PNG, SVG).", show_default=False)
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier one left in --out.")]


def has_statistics(command: str) -> None:
    """CharrnnError now, not after hours of work, where the library for intervals is missing."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise CharrnnError(f"{command}: needs scipy; install it with: pip install scipy") from None


def has_pictures(what: str) -> None:
    """The same for the library that draws."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CharrnnError(f"{what}: needs matplotlib for pictures; install it with: pip install matplotlib") from None


def may_leave(out: Path | None, name: str, overwrite: bool) -> None:
    """Raises what keeps `leave` from its work, before anything is computed."""
    if out is None:
        if overwrite:
            raise UsageError("--overwrite: has no effect without --out")
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; take another name")
    there = [f"{name}.{kind}" for kind in KINDS if (out / f"{name}.{kind}").exists()]
    if there and not overwrite:
        raise UsageError(f"--out {out}: holds {there[0]} already; replace it (--overwrite) or take another name")
    has_pictures("--out")
    with written(out):
        out.mkdir(parents=True, exist_ok=True)


def leave(out: Path | None, name: str, rows: list[dict], draw) -> None:
    """Writes NAME.jsonl and NAME.csv with a line for each row, and what draw(path) makes of them as PNG and SVG."""
    if out is None:
        return
    with written(out / f"{name}.jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")
    write_csv(out / f"{name}.csv", rows)
    for kind in ("png", "svg"):
        draw(out / f"{name}.{kind}")


def write_csv(path: Path, rows: list[dict]) -> None:
    """Rows as CSV, with a column for every name that one of them has."""
    with written(path), open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def print_table(title: str, names: list[str], cells: list[list[str]]) -> None:
    """A table on standard output; the first column is named by the title."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PRINTED
    table = Table(title, box=None, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, justify="right")
    for row in cells:
        table.add_row(*row)
    console.print(table)


def print_sketch(series, x_title: str, y_title: str, log: str) -> None:
    """A small chart on standard output."""
    from shutil import get_terminal_size

    from ..report.sketch import sketch

    print(sketch(series, x_title, y_title, min(get_terminal_size().columns, 100), log))


def number(value: float | None, form: str) -> str:
    """A number of a table, - where there is none."""
    return "-" if value is None else format(value, form)
