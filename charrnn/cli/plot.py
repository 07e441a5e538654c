"""`charrnn plot`: learning curves and comparisons as pictures, in a file or in the terminal."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CheckpointError, UsageError, nearest
from . import app, pipeable

OF = ("curves", "parameters", "data")
AXES = ("steps", "characters", "seconds")


@app.command(rich_help_panel="Experiments")
@pipeable
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or of a comparison.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A picture, .png or .svg; in text on the terminal without it.")
    ] = None,
    of: Annotated[
        str, typer.Option(help="curves of learning; of a comparison also bits against parameters, or against data.")
    ] = "curves",
    x: Annotated[str, typer.Option(help="What curves are drawn against: steps, characters or seconds.")] = "steps",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture that is there.")] = False,
):
    """Draw runs, those that differ only in their seed as a band; prints the picture's path.

    [bold]charrnn plot checkpoints/compare-corpus-1 -o curves.svg[/]
    """
    for option, value, allowed in (("--of", of, OF), ("--x", x, AXES)):
        if value not in allowed:
            raise UsageError(f"{option} {value}: must be {', '.join(allowed)}{nearest(value, allowed)}")
    if out and out.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--out {out}: must end in .png or .svg")
    if out and out.exists() and not overwrite:
        raise UsageError(f"--out {out}: already exists; replace it (--overwrite) or take another name")
    if of == "curves":
        _curves(runs, x, out)
    else:
        _summary(runs, of, out)
    if out:
        print(out)


def _curves(folders, axis, out):
    """The learning curves of runs."""
    from ..report.runs import AXES, curves

    named = {}
    for folder in folders:
        named |= _members(folder) if (folder / "plan.json").exists() else {folder: None}
    drawn = curves(named, axis)
    if out:
        from ..report.picture import draw_curves

        return draw_curves(drawn, axis, out)
    series = [(c.label, c.validation.x.tolist(), c.validation.mean.tolist()) for c in drawn]
    _show(series, AXES[axis], "validation, bits per character")


def _members(folder):
    """The runs of a comparison that are far enough to be drawn, and the lines of its table that they belong to."""
    from ..compare.plan import Plan
    from ..compare.work import jobs, read_rows

    found = {}
    for job in jobs(Plan.load(folder), read_rows(folder)):
        run = folder / "runs" / job.name
        if job.purpose == "result" and (run / "best.pt").exists():
            found[run] = job.entry.label
    if not found:
        raise CheckpointError(f"{folder}: none of its runs has come far enough to be drawn")
    return found


def _summary(folders, of, out):
    """Bits against parameters, or against the size of the text, of one comparison."""
    from ..compare.data import worth
    from ..compare.outcome import summary
    from ..compare.plan import Plan
    from ..compare.work import read_rows

    if len(folders) > 1:
        raise UsageError(f"--of {of}: takes one comparison, not {len(folders)} folders")
    plan = Plan.load(folders[0])
    rows = read_rows(folders[0])
    points = [line for line in summary(plan, rows) if line["bits"] is not None]
    if of == "data" and not plan.asked["sizes"]:
        raise UsageError(f"--of data: {folders[0]} has one size of text; compare with --sizes 62k,250k,1M")
    if not points:
        raise CheckpointError(f"{folders[0]}: none of its runs is done")
    sizes = {}
    for point in points:
        sizes.setdefault(point["label"].rsplit(", ", 1)[0], []).append(point)
    if out and of == "data":
        from ..report.picture import draw_data

        draw_data(sizes, worth(plan, rows), out)
    elif out:
        from ..report.picture import draw_parameters

        draw_parameters(points, out)
    elif of == "data":
        series = [(name, [p["size"] for p in own], [p["bits"] for p in own]) for name, own in sizes.items()]
        _show(series, "training characters", "bits per character")
    else:
        series = [(p["label"], [p["parameters"]], [p["bits"]]) for p in points]
        _show(series, "parameters", "bits per character")


def _show(series, x_title, y_title):
    from shutil import get_terminal_size

    from ..report.sketch import sketch

    print(sketch(series, x_title, y_title, min(get_terminal_size().columns, 100)), file=sys.stdout)
