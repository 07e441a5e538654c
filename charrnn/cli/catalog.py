"""`charrnn cells` and `charrnn corpora`: what there is to choose from."""

import inspect
import json
import sys
import textwrap
from itertools import chain, count
from pathlib import Path
from typing import Annotated

import typer

from ..config import quantity
from ..errors import DataError, UsageError
from ..run import written
from ..tasks import named
from . import WHOLE, app, cache, pipeable

LINES = 256  # of a synthetic text that are drawn together
WIDTH = 256  # at which sizes are compared
COLUMNS = (
    "products 3 in 2: three products with the past, in two stages; size: parameters of a layer with "
    f"{WIDTH} inputs and units; ratio: to lstm; scan: all steps of a text can be computed at once; "
    "counts: the state that can grow without bound, and so count (a prediction)"
)


@app.command(rich_help_panel="What there is")
@pipeable
def cells(
    name: Annotated[
        str | None, typer.Argument(help="One cell, with its equations; PATH.py:CLASS is your own.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
):
    """List the cells, or show one: paper, state, gates, parameters, equations as they stand in the code."""
    from ..cells import admit, classes, make

    chosen = [make(admit(name, "CELL"), option="CELL")] if name else [make(each) for each in classes()]
    facts = [_facts(cell) for cell in chosen]
    if as_json:
        return print(json.dumps(facts[0] if name else facts, ensure_ascii=False))
    if name:
        return _print_cell(facts[0])
    from rich.console import Console
    from rich.table import Table

    table = Table("cell", "state", "products", "size", "ratio", "scan", "counts", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[3:5]:
        column.justify = "right"
    for fact in facts:
        table.add_row(
            fact["name"], " ".join(fact["state"]), _products(fact), f"{fact['parameters_at_256']:,}",
            f"{fact['ratio']:.2f}", "yes" if fact["parallel"] else "no", fact["counter"] or "no",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"\n{COLUMNS}", highlight=False)


def _products(fact):
    stages = fact["recurrent_products"]
    return f"{sum(map(len, stages))} in {len(stages)}" if stages else "none"


def _facts(cell):
    from math import prod

    import numpy as np  # noqa: F401  (masks are counted with it)

    from ..cells.base import Cell
    from ..cells.trace import formula, parameters, trace
    from ..model import mask_count

    t = trace(cell)
    size = sum(mask_count(cell, k, WIDTH, prod(shape)) for k, shape in parameters(cell, WIDTH, WIDTH).items())
    own = [f for f in ("gates", "state", "up", "carried", "unbiased") if getattr(cell, f) and f in vars(type(cell))]
    source = "".join(
        textwrap.dedent(inspect.getsource(vars(type(cell))[part])) + "\n"
        for part in ("step", "shapes", "masks", "constants", "initial", "at")
        if part in vars(type(cell)) and part in vars(Cell)
    )
    more = "W.raw" in parameters(cell, 2, 3)
    return {
        "name": cell.name, "about": _about(type(cell)), "paper": cell.paper,
        "state": cell.states, "gates": cell.gates.split(), "quantities": list(t.named),
        "recurrent_products": t.stages, "parallel": t.linear is not None, "counter": cell.counter,
        "settings": cell.settings(), "start": dict(cell.init),
        "formula": formula(cell), "projected": more, "parameters_at_256": size, "ratio": size / 525_312,
        "declares": {f: getattr(cell, f) for f in own}, "equations": source.rstrip() + "\n",
    }  # fmt: skip


def _about(kind):
    """What a cell is for; nothing where it does not say so, and dataclass put its signature there."""
    about = inspect.getdoc(kind)
    return "" if about.startswith(f"{kind.__name__}(") else about


def _print_cell(fact):
    print(f"{fact['name']}{': ' * bool(fact['about'])}{fact['about']}\n")
    if fact["paper"]:
        print(f"paper       {fact['paper']}")
    print(f"state       {' '.join(fact['state'])}")
    print(f"gates       {' '.join(fact['gates']) or 'none made ahead of time'}")
    print(f"products    {' then '.join(' '.join(stage) for stage in fact['recurrent_products']) or 'none'}")
    print(f"scan        {'yes: all steps of a text at once' if fact['parallel'] else 'no: one step after the other'}")
    print(f"counts      {'in ' + fact['counter'] if fact['counter'] else 'no'} (a prediction)")
    if fact["settings"]:
        print(f"settings    {', '.join(f'{k}={v}' for k, v in fact['settings'].items())}  (--cell-opt name=value)")
    if fact["start"]:
        print(f"starts at   {', '.join(f'{k} = {v}' for k, v in fact['start'].items())}")
    more = "nm more where m is not n; " if fact["projected"] else ""
    size = f"{more}{fact['parameters_at_256']:,} at m = n = {WIDTH}, {fact['ratio']:.2f} of lstm"
    print(f"parameters  {fact['formula']}; {size}\n")
    print(fact["equations"], end="")


corpora = typer.Typer(invoke_without_command=True, rich_markup_mode="rich")
app.add_typer(corpora, name="corpora", rich_help_panel="What there is")


@corpora.callback()
@pipeable
def listing(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
):
    """List corpora known by name: size, symbols, where they lie, split, what others reached on them; or make one."""
    if ctx.invoked_subcommand:
        if as_json:
            raise UsageError(f"--json: is for the list; leave it out before {ctx.invoked_subcommand}")
        return
    from ..corpus import Reading, Survey
    from ..corpus.known import KNOWN

    rows = []
    for known in KNOWN.values():
        path = Path("data") / f"{known.name}.txt"
        size = symbols = None
        where = "on first use" if known.make or known.url else "your own file"
        if path.exists():
            where = str(path)
            try:
                survey = Survey([path], Reading(), [])
                size, symbols = survey.length, len(survey.counts)
            except DataError as error:
                where = str(error)
        rows.append(
            {
                "name": known.name, "about": known.about, "characters": size, "symbols": symbols, "where": where,
                "split": known.split, "published": list(known.published),
            }
        )  # fmt: skip
    if as_json:
        return print(json.dumps(rows, ensure_ascii=False))
    for row in rows:
        size = f"{row['characters']:,} characters, {row['symbols']} symbols, " if row["characters"] else ""
        print(f"{row['name']}: {row['about']}.")
        print(f"    {size}{row['where']}, split {row['split']}")
        for line in row["published"]:
            print(f"    {line}")
    print(f"\nEncoded corpora are kept in {cache()}; any file of it can be deleted.")
    print("Others are made: charrnn corpora make --help")


@corpora.command()
@pipeable
def make(
    task: Annotated[str, typer.Argument(help="recall, copy, order, count, brackets or pairs.", show_default=False)],
    gap: Annotated[
        int | None, typer.Option(help="How far back what matters lies, or how long a line is.", **WHOLE)
    ] = None,
    size: Annotated[str, typer.Option(help="Characters at most: 62k, 1MB.")] = "1MB",
    seed: Annotated[int, typer.Option(help="Seed of the lines.", **WHOLE)] = 1,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file; - for standard output.", show_default=False)
    ] = Path("-"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
):
    """Make a synthetic text, line by line, in which what matters lies a known way back; prints its path.

    [bold]charrnn corpora make recall --gap 64 -o recall.txt[/]
    """
    kind, characters = named(task), quantity(size.removesuffix("B"), "--size")
    gap = kind.usual if gap is None else gap
    kind.check(gap)
    if seed < 0:
        raise UsageError(f"--seed {seed}: must be at least 0")
    if overwrite and str(out) == "-":
        raise UsageError("--overwrite: has no effect on standard output")
    if out.exists() and not overwrite:
        raise UsageError(f"--out {out}: already exists; replace it (--overwrite) or take another name")
    lines = _made(task, gap, characters, seed)
    if not (first := next(lines, "")):
        raise UsageError(f"--size {size}: is less than one line of {task} with --gap {gap}")
    if str(out) == "-":
        return sys.stdout.writelines(chain([first], lines))
    with written(out), open(out, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(chain([first], lines))
    print(out)


def _made(task, gap, characters, seed):
    """Whole lines of a task, as many as make no more than so many characters."""
    from ..stream import draws
    from ..tasks.lines import make

    drawn = make(task, gap)
    for number in count():
        for line in drawn.text(draws(seed, f"corpus {task}", number), LINES):
            characters -= len(line)
            if characters < 0:
                return
            yield line
